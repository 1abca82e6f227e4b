"""The files of a directory, read and copied by another process: closing a database's file here would drop SQLite's locks on it
(sqlite.org/howtocorrupt.html, section 2.2)."""

from __future__ import annotations

import subprocess
from pathlib import Path


def copied(directory: Path, to: Path) -> None:
    """The files as a kill would leave them now."""
    subprocess.run(["cp", "-r", str(directory), str(to)], check=True)


def files(directory: Path) -> bytes:
    """Everything that is on the disk."""
    paths = sorted(str(path) for path in directory.iterdir() if path.is_file() and path.suffix != ".db-shm")
    return subprocess.run(["cat", *paths], check=True, stdout=subprocess.PIPE).stdout if paths else b""
