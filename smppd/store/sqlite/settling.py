"""For those who read data.db and keys.db from outside of the daemon: has all filed that is durable by now.

The daemon does so within a quarter of a second. Where none runs, what one that was killed has not filed is filed here, by
whoever holds the store's lock and the KEK.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from smppd.store.api import StoreError
from smppd.store.journal.files import JournalFiles
from smppd.store.journal.reader import last_sequence
from smppd.store.lock import in_use
from smppd.store.sqlite.cold_rows import ColdRows
from smppd.store.sqlite.damaged import DamagedRows
from smppd.store.sqlite.database import told
from smppd.store.sqlite.files import connect
from smppd.store.sqlite.filing import FILED
from smppd.store.sqlite.journal import Journal
from smppd.store.sqlite.keys import KeyStore
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing

log = logging.getLogger("smppd.store")
PATIENCE: Final = 5.0
"""Seconds for which the daemon is waited for."""
_LOOK: Final = 0.003
_MONTH: Final = 30 * 86400.0


def settled(directory: Path, patience: float = PATIENCE) -> bool:
    """Whether all that is durable now is filed: waits for the daemon, if one runs. False where none does or it does not get to
    it: then something of the last moments may be missing. StoreError."""
    try:
        upto = last_sequence(directory)
        if not upto:
            return True
        with closing(connect(directory / "data.db", "data", read_only=True)) as db:
            if _filed(db) >= upto:
                return True
            if not in_use(directory):
                return False
            until = time.monotonic() + patience
            while _filed(db) < upto:
                if time.monotonic() > until:
                    return False
                time.sleep(_LOOK)
            return True
    except sqlite3.Error as error:
        raise told(directory, error) from error
    except OSError as error:
        raise StoreError(f"{directory}: {error.strerror or error}") from error


def _filed(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (FILED,)).fetchone()
    return row[0] if row is not None and isinstance(row[0], int) else 0


def _tell(what: str, _identity: int, reason: str) -> None:
    log.error("stored and does not open", extra={"fields": {"kind": what, "reason": reason}})


def file_rest(directory: Path, kek: Kek) -> None:
    """Files what a daemon that was killed has not filed. The caller holds the store's lock (`store.lock.Lock`). Raises
    StoreError and VaultError."""
    if not last_sequence(directory):
        return
    try:
        with (
            closing(KeyStore(directory)) as keys,
            closing(connect(directory / "data.db", "data")) as data,
            closing(connect(directory / "keys.db", "keys")) as secrets,
        ):
            ring = KeyRing(kek, keys)
            aside = DamagedRows(data, ring, lambda _owner: _MONTH)
            rows = ColdRows(data, ring, aside, lambda _kind, _owner, _identity, _reason: None)
            journal = Journal(directory, JournalFiles(directory), data, secrets)
            journal.take_up(ring, rows, aside, ring.new_segment)
            # What does not open is not looked at again once the mark is past it.
            journal.set_aside(aside, _tell)
    except sqlite3.Error as error:
        raise told(directory, error) from error
