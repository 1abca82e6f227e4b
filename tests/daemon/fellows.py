"""Nodes in memory, for tests of what a daemon makes of them: what one publishes all hear at once, and a test says who lives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from smppd.daemon.nodes import Membership
from smppd.metrics import Metrics
from smppd.net.bound import BoundAccounts
from smppd.relay.gauges import Load
from smppd.store.nodes import Convert, Hears, Life, NodeView


class Table:
    """What all nodes see."""

    def __init__(self) -> None:
        self.nodes: dict[int, NodeView] = {}
        self.hears: dict[int, Hears] = {}

    def looks(self) -> None:
        """Each node looks, and sees that all leases of those that live were renewed."""
        for hears in list(self.hears.values()):
            hears.nodes_changed([self.nodes[number] for number in sorted(self.nodes)])

    def becomes(self, number: int, life: Life, *, heir: int | None = None, silent: float = 0.0) -> None:
        """A node stands like this from now on, as the others see it."""
        self.nodes[number] = self.nodes[number]._replace(life=life, heir=heir, silent=silent)
        self.looks()


class FakeNodes:
    """`store.nodes.Nodes` of one of them."""

    def __init__(self, table: Table, number: int) -> None:
        self.number = number
        self.published: list[Mapping[str, Any]] = []
        self.table = table
        self.left = self.stopped = False
        self.error: Exception | None = None

    def start(self, hears: Hears, convert: Convert) -> None:
        self.table.hears[self.number] = hears
        self.table.nodes[self.number] = NodeView(self.number, f"host{self.number}", 7, Life.LIVE, 0.0, None, {})

    def publish(self, facts: Mapping[str, Any]) -> None:
        self.published.append(facts)
        self.table.nodes[self.number] = self.table.nodes[self.number]._replace(facts=facts)
        self.table.looks()

    def tell(self, topic: str, detail: str = "") -> None:
        assert len(detail) <= 4000
        for number, hears in self.table.hears.items():
            if number != self.number:
                hears.changed(topic, detail)

    def leave(self) -> bool:
        if self.error is not None:
            raise self.error
        self.left = True
        return len(self.table.hears) > 1

    def stop(self) -> None:
        self.stopped = True


class FakeShares:
    """What the relay is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def rows_unheld(self, kind: int, owner: str, ids: Sequence[int]) -> None:
        self.told.append(("unheld", kind, owner, tuple(ids)))

    def set_elsewhere(self, receivers: Collection[str]) -> None:
        self.told.append(("elsewhere", *sorted(receivers)))

    def set_alone(self, alone: bool) -> None:
        self.told.append(("alone", alone))

    def set_shares(self, accounts: Mapping[str, float], upstreams: Mapping[str, float]) -> None:
        self.told.append(("shares", dict(accounts), dict(upstreams)))

    def hears(self) -> list[tuple[Any, ...]]:
        """What is new."""
        told, self.told = self.told, []
        return told


class Node:
    """One daemon's part in it, on a clock that the test moves."""

    def __init__(self, table: Table, number: int, clock: Any) -> None:
        self.clock = clock
        self.nodes = FakeNodes(table, number)
        self.relay = FakeShares()
        self.metrics = Metrics()
        self.state = "ready"
        self.links: dict[str, int] = {}
        self.load = Load(0, 0, 0)
        self.ended: list[str] = []
        self.bound = BoundAccounts()
        self.evicted: list[tuple[str, int]] = []
        self.membership = Membership(
            self.nodes,
            self.relay,
            self.metrics,
            state=lambda: self.state,
            load=lambda: self.load,
            links=lambda: self.links,
            fenced=self.ended.append,
            now=clock.seconds,
            later=clock.callLater,
            wall=lambda: 1000.0,
        )
        self.membership.start(no_rows)
        self.membership.serve(self.bound, lambda account, places: self.evicted.append((account, places)))

    def value(self, name: str, **labels: str) -> float | None:
        """Of a series."""
        value: float | None = self.metrics.registry.get_sample_value(f"smppd_{name}", labels)
        return value


def no_rows(_blocks: Any) -> Iterator[Any]:
    """Makes no rows of a journal."""
    return iter(())


def without_nodes() -> Membership:
    """Where the store is one node's alone."""
    return Membership(
        None,
        FakeShares(),
        Metrics(),
        state=str,
        load=lambda: Load(0, 0, 0),
        links=dict,
        fenced=lambda _reason: None,
        now=lambda: 0.0,
        later=lambda _seconds, _function: None,
    )
