"""The leases of nodes: how they are stored, and how one node judges by them who is dead.

A lease is a counter that its node raises while it lives. Nobody compares clocks: dead is whose counter was not seen to rise
for `nodes.DEAD` seconds of the onlooker's own, who could raise his own all that time. After a time in which he could not,
because the database was away or because he slept himself, what he has seen says nothing of the others, and silence starts anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from smppd.store.nodes import BEAT, DEAD, Life, NodeView
from smppd.store.postgres.connection import Connection

LATE: Final = 2.5 * BEAT
"""Seconds without a sign of life from which on a node is late; and for which an onlooker may himself have been away."""
LIVE: Final = "live"
DOWN: Final = "down"
_LIVES: Final = {LIVE: Life.LIVE, DOWN: Life.DOWN, "left": Life.LEFT, "taken": Life.TAKEN}
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

_ALL: Final = (
    "SELECT leases.node, nodes.name, leases.epoch, beat, life, heir, version FROM leases JOIN nodes USING (node)"
    " ORDER BY leases.node"
)
_RENEW: Final = "UPDATE leases SET beat = beat + 1, life = 'live' WHERE node = $1 AND epoch = $2"
_SAY: Final = "UPDATE leases SET facts = $3, version = version + 1 WHERE node = $1 AND epoch = $2"
_END: Final = "UPDATE leases SET life = 'down' WHERE node = $1 AND epoch = $2 AND life = 'live'"


class Lease(NamedTuple):
    """One as it is stored (`schema/0003-nodes.sql`), with the node's name."""

    node: int
    name: str
    epoch: int
    beat: int
    life: str
    heir: int | None
    version: int


def all_leases(db: Connection) -> list[Lease]:
    """All of them, in order of nodes. Raises StoreError."""
    return [Lease(*row) for row in db.all(_ALL)]


def renew(db: Connection, node: int, epoch: int) -> bool:
    """Raises the counter of a node; False where its epoch is over. Raises StoreError."""
    return db.run(_RENEW, (node, epoch)) == 1


def say(db: Connection, node: int, epoch: int, facts: bytes) -> bool:
    """What a node says of itself; False where its epoch is over. Raises StoreError."""
    return db.run(_SAY, (node, epoch, facts)) == 1


def end(db: Connection, node: int, epoch: int) -> None:
    """The node beats no more. Raises StoreError."""
    db.run(_END, (node, epoch))


class Facts:
    """What the nodes said of themselves, read once for each time that they said something."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int, Mapping[str, Any]]] = {}

    def read(self, db: Connection, leases: Iterable[Lease]) -> None:
        """Reads what is new. Raises StoreError."""
        wanted = {lease.node: lease for lease in leases}
        self._known = {node: known for node, known in self._known.items() if node in wanted}
        news = [node for node, one in wanted.items() if self._known.get(node, ())[:2] != (one.epoch, one.version)]
        if news:
            asked = "SELECT node, epoch, version, facts FROM leases WHERE node = ANY ($1::int[])"
            for node, epoch, version, facts in db.all(asked, (news,)):
                self._known[node] = (epoch, version, _parsed(facts))

    def of(self, node: int) -> Mapping[str, Any]:
        """What one said, as of the last look."""
        known = self._known.get(node)
        return NOTHING if known is None else known[2]


def _parsed(facts: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(facts)
    except ValueError:
        return NOTHING
    return MappingProxyType(found) if isinstance(found, dict) else NOTHING


class Watch:
    """What one node has seen of the others' counters. ``leases``: as of the last look. Times are monotonic seconds."""

    def __init__(self, node: int) -> None:
        self._node = node
        self._seen: dict[int, tuple[tuple[int, int, str], float]] = {}  # node -> (what, since when)
        self._beat: float | None = None
        self.leases: Sequence[Lease] = ()

    def forget(self) -> None:
        """The others could not be seen for a while: their silence starts anew."""
        self._seen.clear()

    def beaten(self, now: float) -> None:
        """This node has raised its own counter."""
        if self._beat is not None and now - self._beat > LATE:
            self.forget()
        self._beat = now

    def look(self, leases: Sequence[Lease], now: float) -> None:
        """How all leases are."""
        self.leases = leases
        seen = {}
        for lease in leases:
            what = (lease.epoch, lease.beat, lease.life)
            known = self._seen.get(lease.node)
            seen[lease.node] = known if known is not None and known[0] == what else (what, now)
        self._seen = seen

    def silent(self, node: int, now: float) -> float:
        """Seconds since a node's counter was first seen as it is; 0 for this one, and for one that was not seen."""
        known = self._seen.get(node)
        return 0.0 if known is None or node == self._node else now - known[1]

    def dead(self, now: float) -> list[Lease]:
        """Of whom others may take what they hold. One that never began to beat (`DOWN`) may be at its start still."""
        return [
            lease
            for lease in self.leases
            if lease.life in (LIVE, DOWN) and lease.node != self._node and self.silent(lease.node, now) >= DEAD
        ]

    def alive(self, now: float) -> list[Lease]:
        """The others who live, in order."""
        return [
            lease
            for lease in self.leases
            if lease.life == LIVE and lease.node != self._node and self.silent(lease.node, now) < LATE
        ]

    def views(self, facts: Facts, now: float) -> list[NodeView]:
        """How all nodes stand, this one too."""
        return [self._view(lease, facts, now) for lease in self.leases]

    def _view(self, lease: Lease, facts: Facts, now: float) -> NodeView:
        silent = self.silent(lease.node, now)
        life = _LIVES.get(lease.life, Life.DOWN)
        if life is Life.LIVE and silent >= LATE:
            life = Life.LATE
        return NodeView(lease.node, lease.name, lease.epoch, life, silent, lease.heir, facts.of(lease.node))
