"""The seals of the embedded store (`store.seals`): their rows, and what keys.db and data.db know of the audit trail."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from smppd.store import seals as store_seals
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE
from smppd.store.seals import LOG_STATE, LogRow, Made, TakenUp, names_older
from smppd.store.sqlite.database import Database
from smppd.store.sqlite.files import connect
from smppd.vault.chain import GENESIS, ChainKeys
from smppd.vault.seal import DIGEST_BYTES

__all__ = [
    "AUDIT_HEAD",
    "AUDIT_STATE",
    "LOG_STATE",
    "AuditHead",
    "Seals",
    "TakenUp",
    "end_of_log",
    "witness",
    "write_seal",
    "write_state",
]

AUDIT_STATE: Final = "audit"
"""Name in `state` of keys.db, beside `store.seals.LOG_STATE`."""
AUDIT_HEAD: Final = "audit head"
"""Name in `meta` of data.db: an entry that audit.db must hold, as `AUDIT_STATE` in keys.db."""

_PAGE: Final = 500


class AuditHead:
    """The head of the audit trail of a directory, as its file has it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / AUDIT_FILE
        self._trail: sqlite3.Connection | None = None

    def __call__(self) -> tuple[int, bytes] | None:
        """(id, hash) of the last entry, None where the file cannot be read."""
        with suppress(sqlite3.Error, StoreError):
            if self._trail is None:
                self._trail = connect(self._path, "audit", read_only=True)
            row = self._trail.execute("SELECT id, hash FROM head").fetchone()
            if row is not None and len(row[1]) == DIGEST_BYTES:
                return row[0], bytes(row[1])
        return None

    def close(self) -> None:
        """Closes the file."""
        if self._trail is not None:
            self._trail.close()


class _SealRows:
    """``store.seals.SealRows``: seals in data.db, the log's state in keys.db. Raises sqlite3.Error."""

    state_at = "keys.db"
    seals_at = "data.db"

    def __init__(self, directory: Path, data: sqlite3.Connection, secrets: sqlite3.Connection) -> None:
        self._data = data
        self._secrets = secrets
        self.audit_head = AuditHead(directory)

    def state(self) -> bytes | None:
        """See ``SealRows``."""
        row = self._secrets.execute("SELECT value FROM state WHERE name = ?", (LOG_STATE,)).fetchone()
        return None if row is None else bytes(row[0])

    def newest(self) -> tuple[bytes, int] | None:
        """See ``SealRows``."""
        row = self._data.execute(
            "SELECT CAST(signed AS BLOB), number FROM seals ORDER BY number DESC LIMIT 1"
        ).fetchone()
        return None if row is None else (row[0], int(row[1]))

    def chain_of(self, seq: int) -> bytes | None:
        """See ``SealRows``."""
        row = self._data.execute("SELECT chain FROM log WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else row[0]

    def count_after(self, seq: int) -> int:
        """See ``SealRows``."""
        return int(self._data.execute("SELECT count(*) FROM log WHERE seq > ?", (seq,)).fetchone()[0])

    def after(self, seq: int, limit: int) -> Sequence[LogRow]:
        """See ``SealRows``."""
        return self._data.execute(
            "SELECT seq, CAST(records AS BLOB), CAST(events AS BLOB), CAST(chain AS BLOB), secrets FROM log"
            " WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, limit),
        ).fetchall()

    def purged(self, seq: int) -> bool:
        """See ``SealRows``."""
        return self._data.execute("SELECT 1 FROM purged WHERE seq = ?", (seq,)).fetchone() is not None

    def vouch(self, mac: Callable[[int, bytes], bytes]) -> None:
        """See ``SealRows``: once, for what versions 1 and 2 purged."""
        data = self._data
        while True:
            rows = data.execute("SELECT seq, digests FROM purged WHERE mac IS NULL LIMIT ?", (_PAGE,)).fetchall()
            if not rows:
                return
            data.execute("BEGIN IMMEDIATE")
            for seq, digests in rows:
                data.execute("UPDATE purged SET mac = ? WHERE seq = ?", (mac(seq, digests), seq))
            data.execute("COMMIT")

    def write(self, made: Made) -> bool:
        """See ``SealRows``."""
        if not self.write_state(made.state):
            return False
        try:
            write_seal(self._data, made)
        except sqlite3.Error as error:
            if not _passing(error):
                raise
            return False
        return True

    def write_state(self, state: bytes) -> bool:
        """See ``SealRows``."""
        try:
            write_state(self._secrets, LOG_STATE, state)
        except sqlite3.Error as error:
            if not _passing(error):
                raise
            return False
        return True

    def close(self) -> None:
        """See ``SealRows``."""
        self.audit_head.close()


class Seals(store_seals.Seals):
    """The seals of one running store of files."""

    def __init__(
        self,
        keys: ChainKeys,
        directory: Path,
        data: sqlite3.Connection,
        secrets: sqlite3.Connection,
        wall: Callable[[], float],
    ) -> None:
        """directory: the store's; data, secrets: its files as the writer has them. wall: epoch seconds."""
        super().__init__(keys, _SealRows(directory, data, secrets), wall)


def _passing(error: sqlite3.Error) -> bool:
    """Whether it may be over when it is tried again."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def write_state(db: sqlite3.Connection, name: str, value: bytes) -> None:
    """What keys.db knows of another file."""
    db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))


def write_seal(db: sqlite3.Connection, made: Made) -> None:
    """Into data.db, in the caller's transaction."""
    db.execute("INSERT INTO seals VALUES (?, ?, ?)", (made.seal.number, made.seal.seq, made.signed))


def end_of_log(db: sqlite3.Connection) -> tuple[bytes, int]:
    """(chain, id) of the last row of the log; zeros for none. Cast, because who edits the file may change types too: the store
    works on, and `log verify` says what was altered."""
    row = db.execute("SELECT CAST(chain AS BLOB), seq FROM log ORDER BY seq DESC LIMIT 1").fetchone()
    return (row[0] if len(row[0]) == DIGEST_BYTES else GENESIS, row[1]) if row is not None else (GENESIS, 0)


def _has_states(path: Path, kind: str) -> bool:
    """Whether a file is of a version that knows of the others. A command does not bring it up: the daemon that writes it may
    still be the older one."""
    db = Database(path, kind, read_only=True)
    try:
        return db.version() > 2
    finally:
        db.close()


def witness(directory: Path, keys: ChainKeys, number: int, digest: bytes) -> None:
    """Tells keys.db and data.db that the audit trail has this entry, so that a copy of audit.db without it is found out, alone
    or together with one of them. Raises StoreError."""
    value = keys.pack_audit(number, digest)
    for name, kind, read, write in (
        ("keys.db", "keys", "SELECT value FROM state WHERE name = ?", "INSERT OR REPLACE INTO state VALUES (?, ?)"),
        ("data.db", "data", "SELECT value FROM meta WHERE name = ?", "INSERT OR REPLACE INTO meta VALUES (?, ?)"),
    ):
        if not (directory / name).exists() or not _has_states(directory / name, kind):
            continue
        db = Database(directory / name, kind)
        try:
            where = AUDIT_STATE if kind == "keys" else AUDIT_HEAD
            with db.writing():
                row = db.one(read, (where,))
                if names_older(keys, None if row is None else bytes(row[0]), number):
                    db.run(write, (where, value))
        finally:
            db.close()
