"""A carrier reports UNKNOWN: the sender is told, and a later word is passed on as well, if there is one."""

from __future__ import annotations

import pytest

from smppd.message import State
from smppd.protocol.receipt import MessageState
from tests.relay.fakes import FakeCustomer, FakeLink, World, receipt, settings
from tests.relay.receipts.test_receipts import submitted
from tests.relay.test_operations import asked, query

UNKNOWN = MessageState.UNKNOWN


def unknown(world: World, registered: int = 1) -> tuple[FakeCustomer, FakeLink, bytes]:
    """A message that the carrier has taken and reported UNKNOWN."""
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", registered=registered)
    world.commits()
    a.answers(b"id-1")
    world.commits()
    a.reports(b"id-1", state=UNKNOWN)
    world.commits()
    assert a.acknowledged() == [0]
    return acme, a, acme.ids()[0]


@pytest.mark.parametrize("between", ["", "restart", "spill", "spill and restart"])
def test_unknown_and_then_delivered_are_both_passed_on(between: str) -> None:
    world = World()
    acme, a, one = unknown(world)
    assert acme.receipts() == [(one, "UNKNOWN")]
    if "spill" in between:
        world.spills()
        assert len(world.store.cold) == 1
    if "restart" in between:
        world.commits()
        world.restarts()
        acme, a = world.customer(), world.carrier()
    world.check()
    a.reports(b"id-1")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")] and a.acknowledged() == [0]
    world.commits()
    assert [s for s in world.states(one) if s <= State.SKIPPED] == [State.UNKNOWN, State.DELIVERED]
    world.spills()
    world.check()
    assert not world.store.cold and not world.upstream().ids and world.upstream().cold_waiting == 0
    world.restarts()
    assert world.living == 0


@pytest.mark.parametrize("restart", [False, True])
def test_the_report_of_a_row_stays_with_the_row(restart: bool) -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"id-1")
    world.spills()
    assert len(world.store.cold) == 1
    a.reports(b"id-1", state=UNKNOWN)
    world.commits()
    assert acme.receipts() == [(one, "UNKNOWN")] and len(world.store.cold) == 1
    world.check()
    if restart:
        world.commits()
        world.restarts()
        acme, a = world.customer(), world.carrier()
    a.delivers(receipt(b"id-1", UNKNOWN, tlv_id=b"id-1"))
    world.commits()
    assert acme.receipts() == [], "it knows"
    a.reports(b"id-1")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.commits()
    assert not world.store.cold
    world.check()


@pytest.mark.parametrize("restart", [False, True])
def test_where_unknown_is_the_last_word_it_ends_without_another(restart: bool) -> None:
    world = World(settings(acme={"expire_after": "1h"}))
    acme, _, one = unknown(world)
    assert acme.receipts() == [(one, "UNKNOWN")]
    if restart:
        world.commits()
        world.restarts()
        acme = world.customer()
    world.passes(70 * 3600, step=300)
    assert len(world.store.cold) == 1, "a late word would still be passed on"
    world.passes(4 * 3600, step=300)
    assert acme.receipts() == [] and not world.store.cold and world.upstream().cold_waiting == 0
    assert world.states(one).count(State.UNKNOWN) == 1
    world.check()


def test_it_is_asked_for_and_told_once() -> None:
    world = World()
    acme, a, one = unknown(world)
    a.reports(b"id-1", state=UNKNOWN)
    a.delivers(receipt(b"id-1", UNKNOWN, tlv_id=b"id-1"))
    world.commits()
    assert acme.receipts() == [(one, "UNKNOWN")]
    status, body = asked(acme, query(one))
    assert status == 0 and body[-1:] == bytes((State.UNKNOWN,))


@pytest.mark.parametrize(("registered", "told"), [(1, ["UNKNOWN", "DELIVRD"]), (2, ["UNKNOWN"]), (3, ["DELIVRD"])])
def test_each_is_passed_on_as_the_sender_asked(registered: int, told: list[str]) -> None:
    world = World()
    acme, a, _ = unknown(world, registered)
    a.reports(b"id-1")
    world.commits()
    assert [stat for _, stat in acme.receipts()] == told
    world.check()


def test_both_before_the_carrier_s_answer() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    a.reports(b"id-1", state=UNKNOWN)
    a.reports(b"id-1")
    world.commits()
    assert len(world.upstream().parked) == 2
    a.answers(b"id-1")
    world.commits()
    assert [stat for _, stat in acme.receipts()] == ["UNKNOWN", "DELIVRD"]
    world.check()
