"""smppd with its promise to the disk broken on purpose: the campaign that cuts the power must notice.

`python -m tests.torture.mutated run --config F` with TORTURE_SYNCHRONOUS=NORMAL or OFF in the environment. Nothing in the
product reads that variable.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

from smppd.__main__ import main
from smppd.store.sqlite import files, store

_connect = files.connect


def connect(path: Path, kind: str, *, read_only: bool = False) -> sqlite3.Connection:
    """Like ``files.connect``, but less careful."""
    db = _connect(path, kind, read_only=read_only)
    if not read_only:
        mode = os.environ["TORTURE_SYNCHRONOUS"]
        if mode not in ("NORMAL", "OFF"):
            raise SystemExit("TORTURE_SYNCHRONOUS must be NORMAL or OFF")
        db.execute(f"PRAGMA synchronous={mode}")
    return db


if __name__ == "__main__":
    for module in (files, store):
        module.connect = connect  # type: ignore[attr-defined]
    sys.exit(main())
