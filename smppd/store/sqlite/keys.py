"""The rows of keys.db as those see them who hold keys (`vault.keys.KeyRows`): commands and the start, which write each at
once; the running daemon, whose new keys go with the next batch; and those who only look.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from smppd.store.api import StoreError
from smppd.store.sqlite.database import Database

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

    def renew(self, rewrap: Callable[[bytes, bytes], bytes], stored: Mapping[bytes, bytes]) -> None:
        """The keys were wrapped anew. rewrap(scope, wrapped): for those that are not stored yet. stored: what the file has.
        What is being stored at this moment stays as it is: it is in the file right after."""
        with self._lock:
            self._new = [(scope, rewrap(scope, wrapped)) for scope, wrapped in self._new]
            self._rows |= {scope: wrapped for scope, wrapped in stored.items() if scope in self._rows} | dict(self._new)

    def again(self, new: list[tuple[bytes, bytes]], gone: list[bytes]) -> None:
        """These could not be added and destroyed: with the next batch."""
        with self._lock:
            self._new[:0] = new
            self._gone[:0] = gone


class ReadOnlyKeys:
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

    def put_new(self, scope: bytes, wrapped: bytes) -> bytes:
        """Never."""
        raise StoreError("the key store was opened for reading only")

    def replace_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Never."""
        raise StoreError("the key store was opened for reading only")

    def delete(self, scope: bytes) -> None:
        """Never."""
        raise StoreError("the key store was opened for reading only")

    def close(self) -> None:
        """Closes the file."""
        self.database.close()
