"""Restarts at every step, and the same by chance: a state machine that knows what was promised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from smppd.message import State
from smppd.protocol.receipt import MessageState
from smppd.protocol.wire import Status
from smppd.relay.ledger.journal import Entry, mark
from smppd.relay.state.model import Message
from smppd.relay.state.phase import Phase
from tests.relay.fakes import FakeCustomer, FakeLink, World, settings

STEPS = (
    "submits",
    "stored",
    "sent",
    "answered",
    "answer stored",
    "reported",
    "report stored",
    "delivered",
    "taken",
    "taken stored",
)


@pytest.mark.parametrize("step", STEPS)
def test_a_restart_at_every_step(step: str) -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"x")
    told: list[bytes] = []
    got: list[tuple[bytes, str]] = []
    a: FakeLink | None = None
    for now in STEPS[1 : STEPS.index(step) + 1]:
        if now == "stored":
            world.commits()
            told = acme.ids()
        elif now == "sent":
            a = world.carrier()
            world.commits()
        elif now == "answered":
            assert a is not None
            a.answers(b"id-1")
        elif now == "reported":
            assert a is not None
            a.reports(b"id-1")
        elif now == "taken":
            got += acme.receipts()
        else:
            world.commits()
    world.restarts()
    world.check()
    if step == "submits":
        assert world.living == 0 and not told, "never acknowledged: the customer sends it again"
        return
    acme, a = world.customer(), world.carrier()
    world.passes(65)
    world.check()
    if step in ("stored", "sent", "answered"):
        assert a.texts() == [b"x"]
        flagged = any(event.duplicate for event in world.store.events)
        assert flagged == (step != "stored"), "what may be twice at the carrier is flagged"
        a.answers(b"id-2")
        a.reports(b"id-2")
    elif step == "answer stored":
        assert a.texts() == []
        a.reports(b"id-1")
    elif step == "reported":
        assert a.texts() == []
        a.reports(b"id-1")  # it had no acknowledgement, and brings it again
    world.commits()
    got += acme.receipts()
    # A receipt that was taken and whose end was not stored comes again; nothing else does.
    assert got == [(told[0], "DELIVRD")] * (2 if step == "taken" else 1)
    world.commits()
    world.restarts()
    assert world.living == 0 and world.store.cold == {}


def test_a_restart_between_spilling_and_settling() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(*[b"x"] * 3)
    world.commits()
    a.answers(b"0", b"1", b"2")
    world.commits()
    ids = acme.ids()
    world.spills()
    assert len(world.store.cold) == 3
    world.restarts()
    world.check()
    assert world.living == 0 and world.upstream().cold_waiting == 3 and not world.upstream().ids
    acme, a = world.customer(), world.carrier()
    a.reports(b"0", b"1", b"2")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD") for one in ids]
    world.passes(100 * 3600, step=3600)
    assert acme.receipts() == []


def spilled_just_now(world: World) -> None:
    """Until rows were written, and not until the segment they came from is gone."""
    while not world.store.cold:
        world.passes(121, step=121)


def test_a_restart_between_spilling_a_message_and_dropping_its_segment() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    a.answers(b"0")
    world.commits()
    spilled_just_now(world)
    world.restarts()
    world.check()
    assert world.living == 0 and world.upstream().cold_waiting == 1


def test_a_restart_between_spilling_mail_and_dropping_its_segment() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    acme.leaves()
    a.answers(b"0")
    a.reports(b"0")
    world.commits()
    spilled_just_now(world)
    world.restarts()
    world.check()
    assert len(world.account().mailbox) == 1
    assert len(world.customer().heard) == 0
    world.commits()
    assert len(world.customers[0].heard) == 1


def test_a_receipt_that_found_no_space_is_durable_afterwards() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    a.answers(b"0")
    world.commits()
    a.reports(b"0")
    world.fills()
    world.frees()
    world.passes(2)
    world.restarts()
    assert world.customer().receipts() == [(one, "DELIVRD")]


def test_an_old_segment_of_which_part_was_spilled_is_read_back_right() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", b"y")
    world.commits()
    ids = acme.ids()
    a.answers(b"0")  # one is submitted and becomes a row, the other stays in the journal
    world.commits()
    for _ in range(7):
        world.passes(121, step=121)
    world.passes(1)
    world.restarts()
    world.check()
    acme, a = world.customer(), world.carrier()
    a.reports(b"0")
    world.passes(62)
    a.answers(b"1")
    a.reports(b"1")
    world.commits()
    assert sorted(acme.receipts()) == sorted((one, "DELIVRD") for one in ids)
    world.check()


def test_unknown_twice_is_not_sent_a_third_time_whatever_is_spilled_between() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    a.cut()
    world.passes(62)
    world.spills()
    world.restarts()
    a = world.carrier()
    world.commits()
    assert a.texts() == [b"x"]
    world.restarts()
    acme, a = world.customer(), world.carrier()
    world.passes(62)
    assert a.sent == [] and acme.receipts() == [(one, "UNKNOWN")]


def test_recovery_sets_a_block_aside_that_is_not_ours() -> None:
    world = World()
    world.store.blocks.append((1, b"\1\0"))
    for _ in range(2):
        world.restarts()
        world.commits()
        (item,) = world.store.aside
        assert (item.kind, item.place, item.reason, item.data) == ("block", "start", "Broken", b"\1\0")


def test_marks_on_nothing_are_ignored() -> None:
    world = World()
    world.store.blocks.append((1, mark(Entry.RELEASED, 5) + mark(Entry.DONE, 6) + mark(Entry.MAIL_DONE, 7)))
    world.restarts()
    assert world.living == 0


class Promises(RuleBasedStateMachine):
    """Whatever happens: an acknowledged message reaches one final state, its receipt arrives once, counts are right."""

    def __init__(self) -> None:
        super().__init__()
        acme = {"receipts": {"window": 3}, "expire_after": "10m", "unknown_after": "20s"}
        both = settings(hot=4, acme=acme)
        self.configurations = {
            names: both.model_copy(
                update={
                    "upstreams": tuple(one for one in both.upstreams if one.name in names),
                    "routes": settings(routes=[{"upstreams": list(names)}]).routes,
                }
            )
            for names in ("ab", "a", "b")
        }
        self.names = "ab"
        self.world = World(both, segments=2, seconds=10.0)
        self.acme: FakeCustomer
        self.links: dict[str, FakeLink | None] = {"a": None, "b": None}
        self.told: dict[bytes, bytes] = {}
        self.sent: dict[int, bytes] = {}
        self.got: dict[bytes, list[str]] = {}
        self.pending: list[tuple[str, bytes, bytes]] = []  # the carrier owes this receipt: (upstream, id, text)
        self.accepted: dict[bytes, list[str]] = {}
        self.number = 0
        self.unsure: set[bytes] = set()  # what the customer may see twice: acknowledged, and not durable at a restart

    @initialize()
    def begin(self) -> None:
        self.acme = self.world.customer(window=3)

    # -- customer ------------------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 4), short=st.booleans())
    def submits(self, count: int, short: bool) -> None:
        texts = [b"%d" % (self.number + n) for n in range(count)]
        self.number += count
        validity = b"000000000030000R" if short else b""
        for number, text in zip(self.acme.submits(*texts, validity=validity), texts, strict=True):
            self.sent[number] = text
        self.hears()

    def hears(self) -> None:
        for number, status, body in self.acme.answered():
            text = self.sent.pop(number)
            assert status in (0, Status.RMSGQFUL)
            if status == 0:
                assert body not in self.told
                self.told[body] = text

    @rule(refuse=st.booleans())
    def takes(self, refuse: bool) -> None:
        self.hears()
        receipts = self.acme.receipts(status=Status.RX_T_APPN if refuse else 0)
        if not refuse:
            for name, stat in receipts:
                self.got.setdefault(name, []).append(stat)

    @rule()
    def tidies(self) -> None:
        self.world.store.tidy(lambda _complete: None)

    @rule()
    def comes_again(self) -> None:
        self.hears()
        self.acme.leaves()
        self.sent.clear()
        self.acme = self.world.customer(window=3)

    # -- carriers ------------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from("ab"))
    def link(self, name: str) -> None:
        link = self.links[name]
        if link is not None:
            link.cut()
            self.links[name] = None
        elif name in self.names:
            self.links[name] = self.world.carrier(name, window=2)

    @rule(names=st.sampled_from(["ab", "a", "b"]))
    def configured(self, names: str) -> None:
        """A reload: links of an upstream that is gone stay until they are cut, as if waiting for answers."""
        self.names = names
        self.world.settings = self.configurations[names]
        self.world.reloads(self.world.settings)

    @rule(name=st.sampled_from("ab"), answer=st.sampled_from(["ok", "ok", "ok", "later", "no", "early"]))
    def answers(self, name: str, answer: str) -> None:
        link = self.links[name]
        if link is None or not link.waiting:
            return
        text = link.waiting[0].short_message
        upstream_id = b"%s-%s-%d" % (name.encode(), text, len(link.sent) + int(self.world.now * 1000))
        if answer == "early":
            link.reports(upstream_id)
            link.answers(upstream_id)
        elif answer == "ok":
            link.answers(upstream_id)
            self.pending.append((name, upstream_id, text))
        else:
            link.answers(status=Status.RTHROTTLED if answer == "later" else Status.RINVDSTADR)

    @rule(twice=st.booleans(), state=st.sampled_from([MessageState.DELIVERED, MessageState.UNDELIVERABLE]))
    def reports(self, twice: bool, state: MessageState) -> None:
        for entry in self.pending:
            link = self.links[entry[0]]
            if link is not None:
                link.acknowledged()
                link.reports(*[entry[1]] * (2 if twice else 1), state=state)
                self.world.commits()
                if all(status == 0 for status in link.acknowledged()):
                    self.pending.remove(entry)
                return

    # -- the store and time ----------------------------------------------------------------------------------------------

    @rule()
    def commits(self) -> None:
        self.world.commits()
        self.hears()

    @rule()
    def hands_over(self) -> None:
        self.world.store.hand_over()

    @rule()
    def queries(self) -> None:
        self.world.store.answer()

    @rule()
    def fails(self) -> None:
        self.world.fills()
        self.world.frees()
        self.hears()

    @rule(seconds=st.sampled_from([1, 3, 25, 130]))
    def passes(self, seconds: int) -> None:
        self.world.passes(seconds, step=min(seconds, 5) if seconds < 100 else 65)
        self.hears()
        self.silent()

    def silent(self) -> None:
        for link in self.links.values():
            if link is not None:
                link.silent()

    @rule()
    def restarts(self) -> None:
        self.hears()
        world = self.world
        if world.store.batch or world.store.under_way:
            self.unsure |= set(self.got)
        world.restarts()
        self.links = {"a": None, "b": None}
        self.sent.clear()
        self.acme = world.customer(window=3)

    # -- promises ------------------------------------------------------------------------------------------------------

    @invariant()
    def counts_are_right(self) -> None:
        self.world.check()

    @invariant()
    def one_receipt_a_message(self) -> None:
        for name, stats in self.got.items():
            assert len(stats) == 1 or name in self.unsure or self.flagged(name), stats

    def flagged(self, name: bytes) -> bool:
        return any(event.duplicate for event in self.world.store.events if event.id == int(name, 16))

    def teardown(self) -> None:
        """All goes well from here on: then everything acknowledged has its end, and its receipt was taken."""
        if not hasattr(self, "acme"):
            return
        world = self.world
        world.frees()
        self.configured("ab")
        self.hears()
        for way in "ab":
            self.links[way] = self.links[way] or world.carrier(way, window=2)
        for _ in range(200):
            world.passes(10, step=5)
            self.hears()
            for way in "ab":
                while (link := self.links[way]) is not None and link.waiting:
                    self.answers(way, "ok")
                    world.commits()
            for _ in range(len(self.pending)):
                self.reports(False, MessageState.DELIVERED)
            self.takes(False)
            if self.told.keys() <= self.got.keys() and not world.account().queued:
                break
        world.commits()
        world.check()
        missing = self.told.keys() - self.got.keys()
        assert not missing, [(self.told[name], world.states(name)) for name in missing]
        self.one_receipt_a_message()
        context = world.relay.context
        left = [thing for thing in context.ledger.living() if isinstance(thing, Message)]
        assert all(thing.phase is Phase.SUBMITTED for thing in left), left
        for name in self.told:
            ends = [
                state
                for state in world.states(name)
                if state in (State.DELIVERED, State.UNDELIVERABLE, State.EXPIRED, State.REJECTED, State.UNKNOWN)
            ]
            assert len(ends) == 1 or self.flagged(name), ends


TestPromises: Any = Promises.TestCase
TestPromises.settings = hypothesis_settings(
    deadline=None,
    max_examples=80,
    stateful_step_count=50,
    suppress_health_check=list(HealthCheck),
)


def test_a_place_with_nothing_but_marks_is_left_after_a_restart() -> None:
    world = World(seconds=10.0)
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    world.passes(15)
    a.answers(b"id-1")
    world.commits()
    accepted, marked = sorted({place for place, _ in world.store.blocks})
    world.restarts()
    world.carrier().reports(b"id-1")
    world.commits()
    world.customer().receipts()
    world.passes(30)
    assert not {accepted, marked} & {place for place, _ in world.store.blocks}
