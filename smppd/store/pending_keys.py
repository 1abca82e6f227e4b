"""The wrapped keys (`vault.keys.KeyRows`) as the running daemon has them: what is new goes with the next batch; and as those
have them who may change none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from smppd.store.api import StoreError


class StoredRows(Protocol):
    """Where the keys are stored."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (scope, wrapped) whose scope begins with ``prefix``."""


class OnlyLookedAt:
    """What changes the keys (`vault.keys.KeyRows`), for those who only look at them: refused."""

    def put_new(self, scope: bytes, wrapped: bytes) -> bytes:
        """Never."""
        raise StoreError("the key store was opened for reading only")

    def replace_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Never."""
        raise StoreError("the key store was opened for reading only")

    def delete(self, scope: bytes) -> None:
        """Never."""
        raise StoreError("the key store was opened for reading only")


class PendingKeys:
    """``vault.keys.KeyRows`` for the running daemon: what is new goes with the next batch, whose keys commit before its
    data, so nothing sealed under a key is stored before the key is. Everything is mirrored in memory; a key that somebody
    else stored since the start shows when ours is to be stored."""

    def __init__(self, files: StoredRows) -> None:
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
        """The keys were wrapped anew. rewrap(scope, wrapped): for those that are not stored yet. stored: what is stored.
        What is being stored at this moment stays as it is: it is there right after."""
        with self._lock:
            self._new = [(scope, rewrap(scope, wrapped)) for scope, wrapped in self._new]
            self._rows |= {scope: wrapped for scope, wrapped in stored.items() if scope in self._rows} | dict(self._new)

    def again(self, new: list[tuple[bytes, bytes]], gone: list[bytes]) -> None:
        """These could not be added and destroyed: with the next batch."""
        with self._lock:
            self._new[:0] = new
            self._gone[:0] = gone
