"""Peers do what they like, in any order: every count and every index is what it would be if made anew, nothing is lost, and
what one account sends to one number leaves in the order it came."""

from __future__ import annotations

from typing import Any

from hypothesis import settings as runs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smppd.protocol.wire import Status
from tests.relay.accept.test_desk import multi, part
from tests.relay.fakes import FakeCustomer, FakeLink, World, settings
from tests.relay.test_limits import ZETA
from tests.relay.test_operations import cancel, replace

NUMBERS = [b"447700900123", b"447700900124", b"447700900125"]
NAMES = st.sampled_from(["acme", "zeta"])
WAYS = st.sampled_from(["a", "b"])


class Peers(RuleBasedStateMachine):
    """Two customers, two carriers, a store that sometimes has no space, and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(settings(more=[ZETA], hot=6, acme={"expire_after": "1h"}))
        self.links: dict[str, FakeLink] = {}
        self.binds: dict[str, FakeCustomer] = {}
        self.number = 0
        self.ids: list[bytes] = []

    def customer(self, name: str) -> FakeCustomer:
        if name not in self.binds:
            self.binds[name] = self.world.customer(name)
        return self.binds[name]

    @rule(name=NAMES, count=st.integers(1, 5), to=st.sampled_from(NUMBERS))
    def submits(self, name: str, count: int, to: bytes) -> None:
        self.customer(name).submits(*[b"%06d" % (self.number + n) for n in range(count)], to=to)
        self.number += count

    @rule(name=NAMES, ref=st.integers(1, 2), first=st.integers(1, 5))
    def sends_parts(self, name: str, ref: int, first: int) -> None:
        self.customer(name).sends(*[part(b"part", n, total=9, ref=ref) for n in range(first, first + 4)])

    @rule(name=NAMES)
    def sends_to_many(self, name: str) -> None:
        self.customer(name).sends(multi(*NUMBERS))

    @rule(name=NAMES, to=st.sampled_from(NUMBERS))
    def cancels(self, name: str, to: bytes) -> None:
        self.customer(name).sends(cancel(b"", to=to))

    @rule(data=st.data(), by=st.sampled_from([cancel, lambda one: replace(one, b"new")]))
    @precondition(lambda self: self.ids)
    def enquires(self, data: st.DataObject, by: Any) -> None:
        self.customer("acme").sends(by(data.draw(st.sampled_from(self.ids[-20:]))))

    @rule(name=NAMES)
    def leaves(self, name: str) -> None:
        if name in self.binds:
            self.binds.pop(name).leaves()

    @rule(name=NAMES, status=st.sampled_from([0, 0, Status.RX_T_APPN]), most=st.integers(1, 9))
    def takes_mail(self, name: str, status: int, most: int) -> None:
        self.customer(name).takes(status, most)

    @rule(name=WAYS, window=st.sampled_from([1, 3, 10]))
    def binds_to_carrier(self, name: str, window: int) -> None:
        if name not in self.links:
            self.links[name] = self.world.carrier(name, window)

    @rule(name=WAYS)
    def is_cut(self, name: str) -> None:
        if name in self.links:
            self.links.pop(name).cut()

    @rule(name=WAYS, count=st.integers(1, 10), status=st.sampled_from([0, 0, 0, Status.RTHROTTLED, Status.RINVDSTADR]))
    def answers(self, name: str, count: int, status: int) -> None:
        link = self.links.get(name)
        for _ in range(count):
            if link is None or not link.waiting:
                return
            self.number += 1
            link.answers(*([b"id%06d" % self.number] if not status else []), status=status)

    @rule(name=WAYS)
    def reports(self, name: str) -> None:
        if name in self.links:
            names = list(self.world.upstream(name).ids)[:2]
            self.links[name].reports(*names)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 70.0, 400.0]))
    def passes(self, seconds: float) -> None:
        self.world.passes(seconds, step=min(seconds, 20.0))

    @rule()
    def an_hour_passes(self) -> None:
        self.world.passes(3700, step=1200)

    @rule()
    def commits(self) -> None:
        self.world.commits()
        for bind in self.binds.values():
            self.ids += [body for _, status, body in bind.answered() if not status and len(body) == 16]

    @rule()
    def has_no_space(self) -> None:
        self.world.fills()
        self.world.frees()
        self.world.passes(2)

    @rule()
    def restarts(self) -> None:
        self.world.commits()
        self.world.restarts()
        self.links, self.binds = {}, {}

    @invariant()
    def all_is_counted(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        world = self.world
        for name in list(self.links):
            self.is_cut(name)
        world.passes(200, step=20)
        a, acme, zeta = world.carrier("a"), world.customer(), world.customer("zeta")
        for _ in range(60):
            world.passes(20, step=20)
            while a.waiting:
                self.number += 1
                a.answers(b"last%06d" % self.number)
            acme.takes()
            zeta.takes()
        world.check()
        assert [one.queued for one in world.relay.context.accounts.values()] == [0, 0], "all have a fate"
        assert world.upstream("a").reserved == world.upstream("b").reserved == 0


TestPeers: Any = Peers.TestCase
TestPeers.settings = runs(deadline=None, max_examples=25, stateful_step_count=30)
