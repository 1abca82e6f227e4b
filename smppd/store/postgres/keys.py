"""The wrapped keys as the daemon of one node has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from smppd.store.pending_keys import PendingKeys
from smppd.store.postgres.connection import Connection

NODES: Final = 64
_SEGMENT: Final = b"segment/"


class _Rows:
    """``store.pending_keys.StoredRows``. Raises StoreError."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``StoredRows``."""
        rows = self._db.all(
            "SELECT scope, wrapped FROM keys WHERE scope >= $1 AND scope < $2 ORDER BY scope",
            (prefix, prefix + b"\xff"),
        )
        yield from ((row[0], row[1]) for row in rows)


class NodeKeys(PendingKeys):
    """``PendingKeys`` where other nodes make keys too. Of segments each node has numbers of its own: those that end with
    it, modulo 64, so none is made by two. Of the other keys the one that was stored first counts, for all (`adopt`)."""

    def __init__(self, db: Connection, node: int) -> None:
        super().__init__(_Rows(db))
        self._node = node

    def put_new(self, scope: bytes, wrapped: bytes) -> bytes:
        """See ``PendingKeys``. Of a segment that is another node's the answer is no key: the next number is to be tried."""
        if scope.startswith(_SEGMENT) and int(scope.removeprefix(_SEGMENT)) % NODES != self._node:
            return b""
        return super().put_new(scope, wrapped)

    def adopt(self, winners: Mapping[bytes, bytes]) -> None:
        """These count, and not what was made here."""
        with self._lock:
            self._rows |= winners
            self._new = [(scope, wrapped) for scope, wrapped in self._new if scope not in winners]
