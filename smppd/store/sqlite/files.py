"""The two SQLite files of a store: opening, schema versions, durability settings, the lock that keeps a second daemon out.

keys.db holds wrapped keys and record secrets, data.db everything they open. Both run in WAL with synchronous=FULL: a commit
that returned is on stable storage (sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path

from smppd.store.api import StoreError

__all__ = [
    "LOCK_FILE",
    "SCHEMA_VERSION",
    "KeyStore",
    "Lock",
    "PendingKeys",
    "StoreError",
    "connect",
    "keys_lost",
    "put_keys",
    "secrets_column",
    "writing",
]

log = logging.getLogger("smppd.store")
SCHEMA_VERSION = 3
"""Of both files; a store of an earlier one is brought up by the daemon's first start, a later one is not opened."""
LOCK_FILE = "lock"
"""In the directory of the store; whoever holds it is its daemon."""


def connect(path: Path, kind: str, *, read_only: bool = False) -> sqlite3.Connection:
    """Opens ``data`` or ``keys`` (``kind``), creating it where missing. Raises ``StoreError``."""
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
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
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
            _sync_directory(path.parent)
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


def secrets_column(db: sqlite3.Connection) -> str:
    """SQL for the row of `secrets` that a row of `log` names, or NULL: data.db may be of version 1 where it is only read."""
    return "secrets" if int(db.execute("PRAGMA user_version").fetchone()[0]) > 1 else "NULL"


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Lock:
    """An advisory lock on the store's directory: one daemon a store. Released when the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(directory / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise StoreError(f"{directory}: another smppd is using this store") from error

    def release(self) -> None:
        """Lets the store go."""
        os.close(self._file)


class KeyStore:
    """The rows of keys.db, each call durable when it returns (``vault.keys.KeyRows``). For commands and for start-up."""

    def __init__(self, directory: Path) -> None:
        self._db = connect(directory / "keys.db", "keys")

    def get(self, scope: bytes) -> bytes | None:
        """The wrapped key of a scope."""
        row = self._db.execute("SELECT wrapped FROM keys WHERE scope = ?", (scope,)).fetchone()
        return None if row is None else bytes(row[0])

    def put_new(self, scope: bytes, wrapped: bytes) -> bytes:
        """Stores a key unless the scope has one; returns the one that is there now."""
        return _put_new(self._db, scope, wrapped)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (scope, wrapped) whose scope begins with ``prefix``, in order."""
        rows = self._db.execute(
            "SELECT scope, wrapped FROM keys WHERE scope >= ? AND scope < ? ORDER BY scope", (prefix, prefix + b"\xff")
        ).fetchall()
        for scope, wrapped in rows:
            yield bytes(scope), bytes(wrapped)

    def replace_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Replaces the wrapped keys of existing scopes, all or none."""
        with writing(self._db):
            self._db.executemany("UPDATE keys SET wrapped = ?2 WHERE scope = ?1", list(pairs))

    def delete(self, scope: bytes) -> None:
        """Destroys a key: its bytes are gone from the file and from the write-ahead log when this returns."""
        self._db.execute("DELETE FROM keys WHERE scope = ?", (scope,))
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def secrets(self, seq: int) -> bytes | None:
        """The record secrets of one log row."""
        row = self._db.execute("SELECT data FROM secrets WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Closes the file."""
        self._db.close()


def _put_new(db: sqlite3.Connection, scope: bytes, wrapped: bytes) -> bytes:
    row = db.execute(
        "INSERT INTO keys VALUES (?, ?) ON CONFLICT (scope) DO UPDATE SET wrapped = wrapped RETURNING wrapped",
        (scope, wrapped),
    ).fetchone()
    return bytes(row[0])


def put_keys(db: sqlite3.Connection, pairs: Iterable[tuple[bytes, bytes]]) -> None:
    """Stores new keys, in the caller's transaction. Raises ``StoreError`` where a scope has another key by now: what was sealed
    under ours would never open, so it must not be stored, and whoever comes next finds the other one."""
    for scope, wrapped in pairs:
        if _put_new(db, scope, wrapped) != wrapped:
            raise StoreError(f"keys.db: another process made the key {scope.decode('ascii', 'replace')} meanwhile")


class PendingKeys:
    """``vault.keys.KeyRows`` for the running daemon: what is new goes with the next batch, whose keys commit before its
    data, so nothing sealed under a key is stored before the key is. Everything is mirrored in memory; a key that somebody else
    stored since the start shows when ours is to be stored (``put_keys``)."""

    def __init__(self, files: KeyStore) -> None:
        self._rows = dict(files.scan(b""))
        self._lock = threading.Lock()
        self._new: list[tuple[bytes, bytes]] = []
        self._gone: list[bytes] = []

    def get(self, scope: bytes) -> bytes | None:
        """The wrapped key of a scope."""
        return self._rows.get(scope)

    def put_new(self, scope: bytes, wrapped: bytes) -> bytes:
        """Keeps a key unless the scope has one; it is durable before anything that is handed to the store after it."""
        with self._lock:
            known = self._rows.setdefault(scope, wrapped)
            if known is wrapped:
                self._new.append((scope, wrapped))
            return known

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (scope, wrapped) whose scope begins with ``prefix``."""
        return iter(sorted(pair for pair in list(self._rows.items()) if pair[0].startswith(prefix)))

    def replace_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Not while the daemon runs: ``smppd keys rotate`` works on the file."""
        raise StoreError("keys are re-wrapped by `smppd keys rotate`, not by the daemon")

    def delete(self, scope: bytes) -> None:
        """Destroys a key with the next batch."""
        with self._lock:
            if self._rows.pop(scope, None) is not None:
                self._gone.append(scope)

    @property
    def going(self) -> bool:
        """Whether there are keys to destroy."""
        return bool(self._gone)

    def take(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """What the next batch has to add and to destroy."""
        with self._lock:
            new, self._new = self._new, []
            gone, self._gone = self._gone, []
            return new, gone

    def again(self, new: list[tuple[bytes, bytes]], gone: list[bytes]) -> None:
        """These could not be added and destroyed: with the next batch."""
        with self._lock:
            self._new[:0] = new
            self._gone[:0] = gone
