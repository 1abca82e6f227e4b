"""The two SQLite files of a store: opening, schema versions, durability settings.

keys.db holds wrapped keys and record secrets, data.db everything they open. Both run in WAL with synchronous=FULL: a commit
that returned is on stable storage (sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

from smppd.durable import sync_directory
from smppd.store.api import StoreError
from smppd.store.lock import Lock as Lock

log = logging.getLogger("smppd.store")
SCHEMA_VERSION = 7
"""Of both files; a store of an earlier one is brought up by the daemon's first start, a later one is not opened."""
_PATIENCE = 60.0
_BRIEF = 5.0
_LOOK_AGAIN = 0.0002
_LOOK_SELDOM = 0.005
"""Seconds: how long the writer waits for another's lock, how long for what can be done later (`briefly`), and its first and
longest pause between two looks."""
SHREDDING = "shredding"
"""In the directory of a store that is being disposed of, until that is done (`smppd keys shred`)."""


class WriterConnection(sqlite3.Connection):
    """Waits for another's lock with short looks, for a minute at most. SQLite's own waiting (busy_timeout) sleeps for 1, 2, 5,
    10 ms and more: a lock that another process holds for half a millisecond would cost a commit twice as much, one of four
    milliseconds eight."""

    patience = _PATIENCE

    def execute(self, statement: str, values: Any = (), /) -> sqlite3.Cursor:
        """As the base class. sqlite3.OperationalError with SQLITE_BUSY after a minute."""
        try:
            return super().execute(statement, values)
        except sqlite3.OperationalError as error:
            # Within a transaction the lock is ours, or what was read is old: waiting would not help.
            if self.in_transaction or not is_busy(error):
                raise
        pause = _LOOK_AGAIN
        until = time.monotonic() + self.patience
        while True:
            time.sleep(pause)
            pause = min(pause * 1.1, _LOOK_SELDOM)
            try:
                return super().execute(statement, values)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= until:
                    raise


@contextmanager
def briefly(*databases: sqlite3.Connection) -> Iterator[None]:
    """In here these wait for another's lock for five seconds only: for what can be done later, where a start or end waits."""
    writers = [db for db in databases if isinstance(db, WriterConnection)]
    for db in writers:
        db.patience = _BRIEF
    try:
        yield
    finally:
        for db in writers:
            db.patience = _PATIENCE


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another holds the lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def truncate(db: sqlite3.Connection) -> bool:
    """Empties a file's write-ahead log, so that nothing destroyed lingers in it; False where somebody was reading all the
    time, for a tenth of a second. sqlite3.Error."""
    before = db.execute("PRAGMA busy_timeout").fetchone()[0]
    db.execute("PRAGMA busy_timeout=100")
    try:
        return not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        db.execute(f"PRAGMA busy_timeout={before}")


def connect(path: Path, kind: str, *, read_only: bool = False, writer: bool = False) -> sqlite3.Connection:
    """Opens ``data`` or ``keys`` (``kind``), creating it where missing. ``writer``: for commits that somebody waits for, a
    `WriterConnection`. Raises ``StoreError``."""
    try:
        if read_only:
            if not path.exists():
                raise StoreError(keys_lost(path.parent) or f"{path}: there is no store here yet")
            db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA busy_timeout=5000")
            _known(path, db)
            return db
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = not path.exists()
        if not new:
            _close_to_others(path)
        if new:
            # Never open and close a file that SQLite may have open in this process: its POSIX locks would go with it.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        made = WriterConnection if writer else sqlite3.Connection
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=made)
        db.execute("PRAGMA busy_timeout=5000")
        if new:
            db.execute("PRAGMA page_size=8192")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        # Shredded key material must not linger in free pages; in data.db what is deleted is unreadable without its key.
        db.execute(f"PRAGMA secure_delete={'ON' if kind == 'keys' else 'FAST'}")
        version = _known(path, db)
        for step in range(version + 1, SCHEMA_VERSION + 1):
            script = (resources.files("smppd.store.sqlite") / "schema" / f"{kind}-{step:04d}.sql").read_text()
            db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version={step}; COMMIT;")
        if new:
            sync_directory(path.parent)
        if writer:
            db.execute("PRAGMA busy_timeout=0")
        return db
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: {error}") from error


@contextmanager
def writing(db: sqlite3.Connection) -> Iterator[None]:
    """A write transaction: all or, when anything is raised, nothing. May be rolled back inside, as SQLite itself does for want
    of space: rolling back once more would hide why."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        if db.in_transaction:
            db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def keys_lost(directory: Path) -> str:
    """A sentence that says what to do where keys.db is missing from a store that has records; empty where it is not."""
    if (directory / "keys.db").exists() or not (directory / "data.db").exists():
        return ""
    return (
        f"{directory}: keys.db is missing, and nothing in data.db opens without it: put it back, or restore both from a backup"
        " (`smppd restore`)"
    )


def _known(path: Path, db: sqlite3.Connection) -> int:
    """The file's schema version. ``StoreError`` when it is of a newer smppd: its rows may mean something else."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        db.close()
        raise StoreError(f"{path}: written by a newer smppd (schema {version}, this one knows {SCHEMA_VERSION})")
    return version


def _close_to_others(path: Path) -> None:
    """A file of the store that others can read or write, after a careless copy perhaps, is taken from them, and it is said."""
    for one in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        try:
            mode = stat.S_IMODE(one.stat().st_mode)
        except FileNotFoundError:
            continue
        if mode & 0o077:
            one.chmod(0o600)
            log.warning("store file was open to others", extra={"fields": {"file": str(one), "mode": f"{mode:04o}"}})
