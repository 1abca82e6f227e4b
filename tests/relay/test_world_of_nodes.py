"""Nodes on one store, customers and carriers at any of them, kills and take-overs by chance: every count is what it would be if
made anew, nothing is at two nodes, what was acknowledged has an end and its receipt, once, and what may go twice is flagged."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings as runs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smppd.protocol.receipt import parse
from smppd.protocol.wire import Status
from smppd.store.api import Kind
from tests.relay.cluster import Cluster
from tests.relay.fakes import FakeCustomer, FakeLink, settings
from tests.relay.test_limits import ZETA

NODES = st.integers(0, 2)
NAMES = st.sampled_from(["acme", "zeta"])
WAYS = st.sampled_from(["a", "b"])


class Fleet(RuleBasedStateMachine):
    """Three nodes. A customer or carrier may be bound at any of them, and carriers bring receipts to any."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(settings(more=[ZETA], hot=6), nodes=3)
        self.binds: dict[tuple[int, str], FakeCustomer] = {}
        self.links: dict[tuple[int, str], FakeLink] = {}
        self.waits: set[int] = set()  # dead, and nobody has taken over
        self.number = 0
        self.told: dict[bytes, bytes] = {}  # our id of each text that was acknowledged
        self.reported: list[tuple[str, bytes]] = []  # what carriers have to report, and whose it is
        self.every: list[FakeLink] = []
        self.later: Counter[int] = Counter()  # how often a carrier did not take a message
        self.killed = False
        self.got: Counter[bytes] = Counter()
        self.texts: dict[int, bytes] = {}

    # -- customers -----------------------------------------------------------------------------------------------------

    def customer(self, node: int, name: str) -> FakeCustomer | None:
        if node in self.cluster.down:
            return None
        if (node, name) not in self.binds:
            self.binds[node, name] = self.cluster.worlds[node].customer(name)
            self.cluster.knows()
        return self.binds[node, name]

    @rule(node=NODES, name=NAMES, count=st.integers(1, 4))
    def submits(self, node: int, name: str, count: int) -> None:
        customer = self.customer(node, name)
        if customer is None:
            return
        texts = [b"%06d" % (self.number + n) for n in range(count)]
        self.number += count
        for text, sequence in zip(texts, customer.submits(*texts), strict=True):
            self.texts[id(customer) << 32 | sequence] = text
        self.hears(customer)

    def hears(self, customer: FakeCustomer) -> None:
        for sequence, status, body in customer.answered():
            if not status:
                self.told[self.texts[id(customer) << 32 | sequence]] = body

    @rule(node=NODES, name=NAMES)
    def leaves(self, node: int, name: str) -> None:
        if (node, name) in self.binds:
            self.binds.pop((node, name)).leaves()
            self.cluster.knows()

    @rule(node=NODES, name=NAMES, most=st.integers(1, 9), status=st.sampled_from([0, 0, Status.RX_T_APPN]))
    def takes_mail(self, node: int, name: str, most: int, status: int) -> None:
        customer = self.binds.get((node, name))
        if customer is not None:
            self.takes(customer, most, status)

    def takes(self, customer: FakeCustomer, most: int = 1000, status: int = 0) -> None:
        self.hears(customer)
        for sm in customer.takes(status, most):
            receipt = parse(sm.short_message)
            assert receipt is not None
            if not status:
                self.got[receipt.id] += 1

    # -- carriers ------------------------------------------------------------------------------------------------------

    @rule(node=NODES, name=WAYS, window=st.sampled_from([1, 3, 10]))
    def binds_to_carrier(self, node: int, name: str, window: int) -> None:
        if node not in self.cluster.down and (node, name) not in self.links:
            self.links[node, name] = self.cluster.worlds[node].carrier(name, window)
            self.every.append(self.links[node, name])

    @rule(node=NODES, name=WAYS)
    def is_cut(self, node: int, name: str) -> None:
        link = self.links.pop((node, name), None)
        if link is not None:
            link.cut()

    @rule(node=NODES, name=WAYS, count=st.integers(1, 10), status=st.sampled_from([0, 0, 0, Status.RTHROTTLED]))
    def answers(self, node: int, name: str, count: int, status: int) -> None:
        link = self.links.get((node, name))
        for _ in range(count):
            if link is None or not link.waiting:
                return
            self.number += 1
            if status:
                sequence = link.waiting[0].sequence
                self.later[next(identity for identity, _, number in link.attempts if number == sequence)] += 1
            upstream_id = b"id%06d" % self.number
            link.answers(*([upstream_id] if not status else []), status=status)
            if not status:
                self.reported.append((name, upstream_id))

    @rule(node=NODES, which=st.integers(0, 5))
    @precondition(lambda self: self.reported)
    def reports(self, node: int, which: int) -> None:
        """The carrier's receipts come over any of its binds."""
        name, upstream_id = self.reported[which % len(self.reported)]
        link = self.links.get((node, name))
        if link is not None:
            self.reported.remove((name, upstream_id))
            link.reports(upstream_id)
            self.cluster.commits()

    # -- nodes ---------------------------------------------------------------------------------------------------------

    @rule(node=NODES)
    def is_killed(self, node: int) -> None:
        if len(self.cluster.down) == 2 or node in self.cluster.down:
            return
        for gone, _name in [place for place in self.binds if place[0] == node]:
            self.hears(self.binds[gone, _name])
        self.binds = {place: one for place, one in self.binds.items() if place[0] != node}
        self.links = {place: one for place, one in self.links.items() if place[0] != node}
        self.killed = True
        self.cluster.dies(node)
        self.waits.add(node)

    @rule(again=st.booleans())
    @precondition(lambda self: self.waits)
    def is_taken_over(self, again: bool) -> None:
        node = self.waits.pop()
        heir = next(number for number in range(3) if number not in self.cluster.down)
        self.cluster.takes_over(node, heir)
        if again:
            self.cluster.starts(node)

    @rule(node=NODES)
    def starts_again(self, node: int) -> None:
        if node in self.cluster.down:
            self.waits.discard(node)
            self.cluster.starts(node)

    @rule(deaf=st.booleans())
    def hears_nothing(self, deaf: bool) -> None:
        self.cluster.deaf = deaf

    @rule(node=NODES)
    def one_commits_by_itself(self, node: int) -> None:
        if node not in self.cluster.down:
            self.cluster.worlds[node].commits()

    @rule(node=NODES)
    def has_no_space(self, node: int) -> None:
        if node not in self.cluster.down:
            self.cluster.worlds[node].fills()
            self.cluster.worlds[node].frees()
            self.cluster.passes(2)

    @rule()
    def commits(self) -> None:
        self.cluster.commits()
        for bind in self.binds.values():
            self.hears(bind)

    @rule(seconds=st.sampled_from([0.1, 1.0, 35.0, 70.0, 300.0]))
    def passes(self, seconds: float) -> None:
        self.cluster.passes(seconds, step=min(seconds, 20.0))

    @invariant()
    def all_is_counted(self) -> None:
        self.cluster.check()

    def teardown(self) -> None:
        cluster = self.cluster
        cluster.deaf = False
        cluster.commits()
        for bind in self.binds.values():
            self.hears(bind)
        while self.waits:
            self.is_taken_over(False)
        if 0 in cluster.down:
            cluster.starts(0)
        for node, name in list(self.binds):
            if node:
                self.takes(self.binds[node, name])
                self.binds.pop((node, name)).leaves()
        for node, name in list(self.links):
            self.is_cut(node, name)
        cluster.passes(200, step=20)
        cluster.knows()
        # What another node holds nobody touches: each sends its own. Receipts come to node 0.
        up = [number for number in range(3) if number not in cluster.down]
        links = {(number, name): cluster.worlds[number].carrier(name) for number in up for name in ("a", "b")}
        customers = [self.customer(0, name) for name in ("acme", "zeta")]
        for _ in range(40):
            cluster.passes(20, step=20)
            for (_, name), link in links.items():
                while link.waiting:
                    self.number += 1
                    link.answers(b"last%06d" % self.number)
                    self.reported.append((name, b"last%06d" % self.number))
            cluster.commits()
            for name, upstream_id in self.reported:
                links[0, name].reports(upstream_id)
            self.reported = []
            cluster.commits()
            for customer in customers:
                assert customer is not None
                self.takes(customer)
        cluster.check()
        self.every += links.values()
        first = Counter(identity for link in self.every for identity, flagged, _ in link.attempts if not flagged)
        assert all(times - self.later[identity] <= 1 for identity, times in first.items()), "twice, and not flagged"
        assert self.killed or not self.got or max(self.got.values()) == 1, "a receipt came twice"
        assert not cluster.free(Kind.INHERITED) and not cluster.free(Kind.QUEUE), "all that was left is somebody's"
        missing = {name for name in self.told.values() if not self.got[name]}
        assert not missing, "what was acknowledged has its receipt"


TestFleet: Any = Fleet.TestCase
TestFleet.settings = runs(deadline=None, max_examples=25, stateful_step_count=30)
