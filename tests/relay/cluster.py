"""Several nodes on one store: worlds that share the rows nobody holds, and are told of them."""

from __future__ import annotations

from functools import partial

from smppd.config import Settings
from smppd.relay.state.model import Message
from smppd.store.api import Kind
from tests.relay.fakes import World, settings
from tests.store.memory import MemoryStore, Rows


class Cluster:
    """``worlds``: the nodes. ``nobodys``: rows that nobody holds. ``deaf``: announcements are lost."""

    def __init__(self, configuration: Settings | None = None, nodes: int = 2) -> None:
        self.nobodys: Rows = {}
        self.deaf = False
        self._told: list[tuple[int, int, str, list[int]]] = []
        self.down: set[int] = set()
        self.worlds = [
            World(
                configuration or settings(), store=MemoryStore(self.nobodys, partial(self._hear, number)), node=number
            )
            for number in range(nodes)
        ]
        for world in self.worlds:
            world.relay.set_alone(nodes == 1)

    def _hear(self, number: int, kind: int, owner: str, ids: list[int]) -> None:
        self._told.append((number, kind, owner, ids))

    def tells(self) -> bool:
        """The others hear what was announced; whether there was anything."""
        told, self._told = self._told, []
        for by, kind, owner, ids in told if not self.deaf else ():
            for number, world in enumerate(self.worlds):
                if number not in (by, *self.down):
                    world.relay.rows_unheld(kind, owner, ids)
        return bool(told)

    def commits(self) -> None:
        """All commit until nothing is left."""
        for _ in range(30):
            for number, world in enumerate(self.worlds):
                if number not in self.down:
                    world.commits()
            if not self.tells():
                return

    def passes(self, seconds: float, step: float = 1.0) -> None:
        """Time passes at all nodes."""
        end = self.worlds[0].now + seconds
        while self.worlds[0].now < end - 1e-9:
            ahead = min(step, end - self.worlds[0].now)
            for number, world in enumerate(self.worlds):
                if number in self.down:
                    world.now += ahead
                    world.wall += ahead
                else:
                    world.passes(ahead, step=ahead)
            self.commits()

    def knows(self) -> None:
        """Each node hears where customers take mail now, and whether others are there."""
        for number, world in enumerate(self.worlds):
            if number in self.down:
                continue
            others = [one for at, one in enumerate(self.worlds) if at not in (number, *self.down)]
            world.relay.set_alone(not others)
            world.relay.set_elsewhere(
                {
                    customer.account.name
                    for other in others
                    for customer in other.customers
                    if not customer.gone and customer.session.can_receive
                }
            )

    def dies(self, number: int) -> None:
        """A node is killed: what was not committed is gone."""
        self.down.add(number)
        self.worlds[number].store.restart()
        self.knows()

    def takes_over(self, number: int, heir: int) -> None:
        """Another node takes over a dead one."""
        dead, store = self.worlds[number], self.worlds[number].store
        store.taken_over(self.worlds[heir].relay.convert(list(store.blocks)))
        dead.wall = self.worlds[heir].wall
        for place in {key[:2] for key in self.nobodys}:
            self._told.append((number, place[0], place[1], []))
        self.commits()

    def starts(self, number: int) -> None:
        """A node that was down starts again."""
        self.down.discard(number)
        self.worlds[number].restarts()
        self.knows()

    def events(self) -> dict[int, list[int]]:
        """The states in the log of each record, over all nodes, in the order of nodes."""
        found: dict[int, list[int]] = {}
        for world in self.worlds:
            for event in world.store.events:
                found.setdefault(event.id, []).append(event.state)
        return found

    def free(self, kind: Kind) -> int:
        """How many rows of a kind nobody holds."""
        return sum(1 for key in self.nobodys if key[0] == kind)

    def check(self) -> None:
        """Every node's counts are what they should be, and nothing is in two places."""
        seen: set[int] = set()
        for number, world in enumerate(self.worlds):
            if number in self.down:
                continue
            world.check()
            mine = {one.id for one in world.relay.context.ledger.living() if isinstance(one, Message)}
            mine |= {row.id for row in world.store.cold.values() if row.kind in (Kind.QUEUE, Kind.WAITING)}
            assert not mine & seen, "at two nodes"
            seen |= mine
