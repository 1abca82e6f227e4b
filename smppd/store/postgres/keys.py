"""The wrapped keys as the daemon of one node has them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from smppd.store.pending_keys import PendingKeys
from smppd.store.postgres.connection import Connection
from smppd.vault.kek import VaultError, blob_info
from smppd.vault.keys import segment_scope

NODES: Final = 64
_SEGMENT: Final = b"segment/"
_STORED: Final = "SELECT scope, wrapped FROM keys WHERE scope = ANY ($1::bytea[])"


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
    it, modulo 64, so none is made by two. Of the other keys the one that was stored first counts, for all (`adopt`).

    Rows of other nodes are sealed under keys of theirs, which are looked up when such a row is claimed (`fetch`) and forgotten
    when they are destroyed (`strangers`)."""

    def __init__(self, db: Connection, node: int) -> None:
        super().__init__(_Rows(db))
        self._node = node
        self.forgotten: Callable[[int], object] = lambda _segment: None
        """Told of a segment whose key is not what it was; by who has keys of segments in memory. Any thread."""
        self._early = {scope for scope in self._rows if scope.startswith(_SEGMENT)}
        self._destroyed: set[bytes] = set()  # and perhaps stored still: the batch that takes them away may be under way

    def put_new(self, scope: bytes, wrapped: bytes) -> bytes:
        """See ``PendingKeys``. Of a segment that is another node's the answer is no key: the next number is to be tried."""
        if scope.startswith(_SEGMENT) and _number(scope) % NODES != self._node:
            return b""
        return super().put_new(scope, wrapped)

    def delete(self, scope: bytes) -> None:
        """See ``PendingKeys``."""
        with self._lock:
            if self._rows.pop(scope, None) is not None:
                self._gone.append(scope)
                if scope.startswith(_SEGMENT):
                    self._destroyed.add(scope)

    def fetch(self, db: Connection, segments: Iterable[int]) -> None:
        """Has the keys of these segments, whoever made them, as far as they are stored. Those of other nodes are looked up
        each time: a number whose key was destroyed may have another one since. On the thread of the connection. Raises
        StoreError."""
        wanted = {segment_scope(segment): segment for segment in set(segments)}
        asked = [scope for scope, segment in wanted.items() if segment % NODES != self._node or scope not in self._rows]
        if not asked:
            return
        stored = db.all(_STORED, (asked,))
        other = []
        with self._lock:
            for scope, wrapped in stored:
                if scope not in self._destroyed and not _same(self._rows.get(scope), wrapped):
                    self._rows[scope] = wrapped
                    other.append(wanted[scope])
        for segment in other:
            self.forgotten(segment)

    def knows(self, db: Connection, segments: Collection[int]) -> list[int]:
        """Which of these, which are stored, are not to be destroyed with a later batch; their keys are there then. Raises
        StoreError."""
        self.fetch(db, segments)
        return [segment for segment in segments if segment_scope(segment) in self._rows]

    def strangers(self, db: Connection) -> None:
        """Forgets the keys of segments that others destroyed: of nodes beside this one, or of an earlier run of it that another
        took over. On the writer's thread. Raises StoreError."""
        with self._lock:
            self._early &= self._rows.keys()
            known = [
                scope
                for scope in self._rows
                if scope.startswith(_SEGMENT) and (scope in self._early or _number(scope) % NODES != self._node)
            ]
            looked = [*known, *self._destroyed]
        if not looked:
            return
        stored = {row[0] for row in db.all(_STORED, (looked,))}
        with self._lock:
            self._destroyed.intersection_update(stored.union(self._destroyed.difference(looked)))
            gone = [scope for scope in known if scope not in stored and self._rows.pop(scope, None) is not None]
        for scope in gone:
            self.forgotten(_number(scope))

    def apart(self, scope: bytes) -> bytes | None:
        """A key that was made just now: it is not to be stored with the next batch, but by who asks. None where a batch has it
        already."""
        with self._lock:
            for at, (one, wrapped) in enumerate(self._new):
                if one == scope:
                    del self._new[at]
                    return wrapped
        return None

    def adopt(self, winners: Mapping[bytes, bytes]) -> None:
        """These count, and not what was made here."""
        with self._lock:
            self._rows |= winners
            self._new = [(scope, wrapped) for scope, wrapped in self._new if scope not in winners]


def _same(known: bytes | None, stored: bytes) -> bool:
    """Whether it is the same key. It may be wrapped anew, by a version of the KEK that this process does not have yet: then it
    is told by when it was made."""
    if known is None or known == stored:
        return known is not None
    try:
        ours, theirs = blob_info(known), blob_info(stored)
    except VaultError:
        return False
    if ours.kek_version == theirs.kek_version:
        return ours.commitment == theirs.commitment
    return ours.created == theirs.created


def _number(scope: bytes) -> int:
    """Of a segment, by the scope of its key."""
    return int(scope.removeprefix(_SEGMENT))
