"""A node's spool for who takes out what is over (`store.tidy`).

A key that was destroyed is a dead row of the server until VACUUM has been by, which is asked for here; how the octets leave
the server's files is docs/data-protection.md's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import takewhile
from typing import Final

from smppd.store import tidy
from smppd.store.api import StoreError, StoreFull
from smppd.store.postgres.batches import SPOOL
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.keys import NodeKeys
from smppd.store.postgres.rows import After, ColdRows
from smppd.store.postgres.session import Session, nodes_in_use
from smppd.store.postgres.startup import StartUp
from smppd.store.tidy import ASKED, DONE, Entries, Place, Sealed, commit_keys, kept
from smppd.vault.blocks import SegmentSealer
from smppd.vault.keys import KeyRing

_ABOVE: Final = (1 << 31) - 1  # every segment, and more than there are
_PUT_KEYS: Final = "SELECT put_keys($1, $2::bytea[], $3::bytea[], $4::bytea[])"
# Of this node's segments, in order, the next so many: their numbers, and whether nothing is sealed under their keys. Those
# below a number are its own; those that it has from nodes which it took over have other nodes' numbers, and nobody writes
# under them. What was copied out of an embedded store is this node's too, whatever its numbers are (docs/adr/0029).
_SEGMENTS: Final = (
    "SELECT ours.segment, NOT ("
    "EXISTS (SELECT 1 FROM journal WHERE journal.node IN ($1, ours.segment % 64) AND journal.segment = ours.segment)"
    " OR EXISTS (SELECT 1 FROM cold WHERE cold.segment = ours.segment)"
    " OR EXISTS (SELECT 1 FROM damaged WHERE damaged.segment = ours.segment))"
    " FROM (SELECT convert_from(substr(scope, 9), 'UTF8')::int AS segment FROM keys"
    " WHERE node = $1 AND scope >= 'segment/' AND scope < 'segment0') AS ours"
    " WHERE ours.segment > $2 AND (ours.segment < $3 OR ours.segment % 64 <> $1) AND ours.segment <> ALL ($4::int[])"
    " ORDER BY ours.segment LIMIT $5"
)


class NodeSpool:
    """``store.tidy.Spool`` of a node, on its session."""

    until_next: tuple[type[StoreError], ...] = (StoreFull,)  # the writer does it again where another has a lock

    def __init__(self, session: Session, keys: NodeKeys, ring: KeyRing, cold: ColdRows, start_up: StartUp) -> None:
        self._session = session
        self.keys = keys
        self.ring = ring
        self._cold = cold
        self._start_up = start_up

    def store_keys(self, new: list[tuple[bytes, bytes]], gone: list[bytes]) -> None:
        """See ``tidy.Spool``."""
        values = ([scope for scope, _ in new] or None, [wrapped for _, wrapped in new] or None, gone)
        with self._session.writing() as db:
            db.one(_PUT_KEYS, (self._session.node, *values))

    def blocks(self, below: int = _ABOVE) -> Iterator[Sealed]:
        """See ``tidy.Spool``."""
        return takewhile(lambda block: block[0] < below, self._start_up.blocks())

    def open(self, block: Sealed) -> bytes:
        """See ``tidy.Spool``."""
        return self._start_up.open(*block)

    def spread(self) -> bool:
        """See ``tidy.Spool``: it is in one table."""
        return False

    def rewrite(self, entries: Entries, unreadable: frozenset[Place]) -> None:
        """See ``tidy.Spool``."""
        sealer = SegmentSealer(self.ring)
        commit_keys(self)
        node = self._session.node
        with self._session.writing() as db:
            for block in kept(self.blocks(sealer.segment), self.open, entries, unreadable):
                counter, sealed = sealer.seal(SPOOL, block)
                db.run("INSERT INTO journal VALUES ($1, $2, $3, $4)", (node, sealer.segment, counter, sealed))
            db.run(
                "DELETE FROM journal WHERE node = $1 AND segment < $2 AND (segment, counter) NOT IN"
                " (SELECT * FROM unnest($3::int[], $4::bigint[]))",
                (node, sealer.segment, [one for one, _ in unreadable], [counter for _, counter in unreadable]),
            )

    def cold(self) -> int:
        """See ``tidy.Spool``: what is of no kind that is known is set aside first."""
        self._start_up.counts()
        return self._cold.to_seal(_ABOVE)

    def reseal(self, segment: int, after: After | None, limit: int) -> After | None:
        """See ``tidy.Spool``."""
        return self._cold.reseal(segment, after, limit)

    def segments(self, after: int, below: int, used: Sequence[int], most: int) -> list[tuple[int, bool]]:
        """See ``tidy.Spool``."""
        db = self._session.db
        for number in self.keys.strangers(db):
            self.ring.forget_segment(number)
        asked = (self._session.node, after, min(below, _ABOVE), list(used), most)
        found = {int(number): bool(free) for number, free in db.all(_SEGMENTS, asked)}
        # One that is to be destroyed with a later batch is there still.
        return [(number, found[number]) for number in self.keys.knows(db, list(found))]

    def clean(self) -> bool:
        """See ``tidy.Spool``."""
        self._session.db.run("VACUUM keys")
        return True


def ask(server: Server, seconds: float) -> bool:
    """Asks the daemons that use the store to tidy, and waits for them; whether all have. Raises StoreError."""
    with closing(Connection(server)) as db:
        # One whose place is held and that was taken over is frozen: it has nothing any more.
        over = {row[0] for row in db.all("SELECT node FROM leases WHERE life IN ('left', 'taken')")}
        nodes = [node for node in nodes_in_use(db) if node not in over]

        def put(token: int) -> None:
            db.run(
                "INSERT INTO meta SELECT node, $2, $3 FROM unnest($1::int[]) AS node"
                " ON CONFLICT (node, name) DO UPDATE SET value = excluded.value",
                (nodes, ASKED, token),
            )

        return tidy.ask(put, lambda token: all(_meta(db, node, DONE) == token for node in nodes), seconds)


def _meta(db: Connection, node: int, name: str) -> int:
    row = db.one("SELECT value FROM meta WHERE node = $1 AND name = $2", (node, name))
    return 0 if row is None else int(row[0])


class Requests:
    """``store.tidy.Requests`` of a node."""

    def __init__(self, server: Server, node: int) -> None:
        self._db = Connection(server, read_only=True)
        self._node = node

    def number(self, name: str) -> int:
        """See ``tidy.Requests``."""
        return _meta(self._db, self._node, name)

    def close(self) -> None:
        """Closes the connection."""
        self._db.close()
