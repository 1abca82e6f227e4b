"""The rows of keys.db as those see them who hold keys (`vault.keys.KeyRows`): commands and the start, which write each at
once, and those who only look. The running daemon has `store.pending_keys` over them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from smppd.store.api import StoreError
from smppd.store.pending_keys import OnlyLookedAt, PendingKeys
from smppd.store.sqlite.database import Database

__all__ = ["KeyStore", "PendingKeys", "ReadOnlyKeys", "put_keys"]

_PUT_NEW: Final = "INSERT INTO keys VALUES (?, ?) ON CONFLICT (scope) DO UPDATE SET wrapped = wrapped RETURNING wrapped"


class KeyStore:
    """The rows of keys.db, each call durable when it returns (``vault.keys.KeyRows``). For commands and for start-up."""

    def __init__(self, directory: Path) -> None:
        self._db = Database(directory / "keys.db", "keys")

    def get(self, scope: bytes) -> bytes | None:
        """The wrapped key of a scope."""
        row = self._db.one("SELECT wrapped FROM keys WHERE scope = ?", (scope,))
        return None if row is None else bytes(row[0])

    def put_new(self, scope: bytes, wrapped: bytes) -> bytes:
        """Stores a key unless the scope has one; returns the one that is there now."""
        row = self._db.one(_PUT_NEW, (scope, wrapped))
        assert row is not None, "RETURNING gives the row that is there"
        return bytes(row[0])

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (scope, wrapped) whose scope begins with ``prefix``, in order."""
        rows = self._db.all(
            "SELECT scope, wrapped FROM keys WHERE scope >= ? AND scope < ? ORDER BY scope", (prefix, prefix + b"\xff")
        )
        for scope, wrapped in rows:
            yield bytes(scope), bytes(wrapped)

    def replace_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Replaces the wrapped keys of existing scopes, all or none."""
        with self._db.writing():
            self._db.run_each("UPDATE keys SET wrapped = ?2 WHERE scope = ?1", list(pairs))

    def delete(self, scope: bytes) -> None:
        """Destroys a key: its bytes are gone from the file and from the write-ahead log when this returns."""
        self._db.run("DELETE FROM keys WHERE scope = ?", (scope,))
        self._db.all("PRAGMA wal_checkpoint(TRUNCATE)")

    def secrets(self, seq: int) -> bytes | None:
        """The record secrets of one log row."""
        row = self._db.one("SELECT data FROM secrets WHERE seq = ?", (seq,))
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Closes the file."""
        self._db.close()


def put_keys(db: sqlite3.Connection, pairs: Iterable[tuple[bytes, bytes]]) -> None:
    """Stores new keys, in the caller's transaction. Raises ``StoreError`` where a scope has another key by now: what was sealed
    under ours would never open, so it must not be stored, and whoever comes next finds the other one."""
    for scope, wrapped in pairs:
        if bytes(db.execute(_PUT_NEW, (scope, wrapped)).fetchone()[0]) != wrapped:
            raise StoreError(f"keys.db: another process made the key {scope.decode('ascii', 'replace')} meanwhile")


class ReadOnlyKeys(OnlyLookedAt):
    """`vault.keys.KeyRows` of a store that is only looked at. Raises StoreError if there is none."""

    def __init__(self, directory: Path) -> None:
        self.database = Database(directory / "keys.db", "keys", read_only=True)

    def get(self, scope: bytes) -> bytes | None:
        """The wrapped key of a scope."""
        row = self.database.one("SELECT wrapped FROM keys WHERE scope = ?", (scope,))
        return None if row is None else bytes(row[0])

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (scope, wrapped) whose scope begins with `prefix`, in order."""
        query = "SELECT scope, wrapped FROM keys WHERE scope >= ? AND scope < ? ORDER BY scope"
        for scope, wrapped in self.database.all(query, (prefix, prefix + b"\xff")):
            yield bytes(scope), bytes(wrapped)

    def secrets(self, seq: int) -> bytes:
        """The record secrets of one log row; empty when they are gone."""
        row = self.database.one("SELECT data FROM secrets WHERE seq = ?", (seq,))
        return b"" if row is None else bytes(row[0])

    def close(self) -> None:
        """Closes the file."""
        self.database.close()
