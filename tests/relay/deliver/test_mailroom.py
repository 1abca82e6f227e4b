"""Mail for customers: offline, paging, windows, redelivery with back-off, refusals, limits, expiry."""

from __future__ import annotations

import pytest

from smppd.message import State
from smppd.protocol.wire import Command, Status
from tests.relay.fakes import FakeLink, World, settings


def delivered(world: World, count: int, start: int = 0) -> tuple[FakeLink, list[bytes]]:
    """Receipts of messages whose customer has gone."""
    names = [b"id-%d" % n for n in range(start, start + count)]
    acme, a = world.customer(), world.carrier()
    ids = []
    for at in range(0, count, 500):
        acme.submits(*[b"x"] * len(names[at : at + 500]))
        world.commits()
        ids += acme.ids()
        a.answers(*names[at : at + 500])
        world.commits()
    acme.leaves()
    for at in range(0, count, 500):
        a.reports(*names[at : at + 500])
        world.commits()
    return a, ids


def test_mail_waits_for_a_bind_that_can_receive() -> None:
    world = World()
    _, (one,) = delivered(world, 1)
    transmitter = world.customer(command=Command.BIND_TRANSMITTER)
    world.passes(5)
    assert transmitter.heard == []
    receiver = world.customer(command=Command.BIND_RECEIVER)
    assert receiver.receipts() == [(one, "DELIVRD")]
    world.commits()
    assert world.states(one)[-1] == State.RECEIPT_DONE and len(world.account().mailbox) == 0
    world.check()


def test_mail_survives_restarts_until_it_is_taken() -> None:
    world = World()
    _, (one,) = delivered(world, 1)
    for _ in range(3):
        world.restarts()
        acme = world.customer()
        assert len(acme.heard) == 1
        acme.leaves()
        world.commits()
    world.restarts()
    acme = world.customer()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.commits()
    world.restarts()
    acme = world.customer()
    assert acme.heard == [] and world.living == 0


def test_five_thousand_are_paged() -> None:
    world = World()
    _, ids = delivered(world, 5000)
    world.check()
    box = world.account().mailbox
    assert len(box) == 5000 and box.cold == 3000
    world.restarts()
    box = world.account().mailbox
    acme = world.customer(window=100)
    got: list[bytes] = []
    while len(got) < 5000:
        world.commits()
        page = [name for name, _ in acme.receipts()]
        assert 0 < len(page) <= 100
        assert len(box.hot) <= 2500
        got += page
    assert got == ids
    world.commits()
    world.check()
    assert world.store.cold == {} and len(box) == 0


def test_spilled_mail_is_delivered_once_in_all_orders_of_disk_and_memory() -> None:
    world = World()
    _, ids = delivered(world, 2500)
    world.spills()
    assert world.relay.context.ledger.count() == 0
    world.check()
    world.restarts()
    world.check()
    a = world.carrier()
    acme = world.customer(window=10)
    acme.submits(b"x")
    world.commits()
    (last,) = acme.ids()
    acme.leaves()
    a.answers(b"last")
    a.reports(b"last")
    world.commits()
    world.spills()
    world.check()
    acme = world.customer(window=500)
    got: list[bytes] = []
    for _ in range(20):
        world.commits()
        got += [name for name, _ in acme.receipts()]
    assert sorted(got) == sorted([*ids, last])
    world.commits()
    world.check()
    assert world.store.cold == {}


def test_the_window() -> None:
    world = World()
    delivered(world, 25)
    acme = world.customer(window=10)
    assert len(acme.heard) == 10
    acme.takes(most=4)
    assert len(acme.heard) == 10 and world.account().mailbox.sent == 10
    world.check()


def test_two_sessions_share_the_mail_and_one_takes_over_from_the_other() -> None:
    world = World()
    _, ids = delivered(world, 10)
    one = world.customer(window=5)
    two = world.customer(window=5)
    assert len(one.heard) == len(two.heard) == 5
    one.leaves()
    got = two.receipts() + two.receipts()
    assert sorted(name for name, _ in got) == sorted(ids)
    world.check()


def test_a_refused_mail_comes_again_with_growing_pauses_and_blocks_nobody() -> None:
    world = World()
    a, ids = delivered(world, 100)
    acme = world.customer(window=100)
    assert len(acme.receipts(status=Status.RX_T_APPN)) == 100
    acme.submits(b"x")
    world.commits()
    (late,) = acme.ids()
    a.answers(b"late")
    a.reports(b"late")
    world.commits()
    assert acme.receipts() == [(late, "DELIVRD")], "what was put off blocks nothing"
    world.check()
    world.passes(29)
    assert acme.heard == []
    world.passes(2)
    assert len(acme.receipts(status=Status.RMSGQFUL)) == 100
    world.passes(58)
    assert acme.heard == []
    world.passes(4)
    assert [name for name, _ in acme.receipts()] == ids
    world.check()


def test_refusals_do_not_read_the_whole_disk_into_memory() -> None:
    world = World()
    delivered(world, 5000)
    acme = world.customer(window=50)
    for _ in range(200):
        acme.takes(status=Status.RX_T_APPN)
        world.commits()
    box = world.account().mailbox
    assert len(box.later) <= 1050 and len(box) == 5000
    world.check()


def test_a_mail_that_is_refused_for_good_ends_visibly() -> None:
    world = World()
    _, (one,) = delivered(world, 1)
    acme = world.customer()
    acme.receipts(status=Status.RX_P_APPN)
    world.commits()
    assert world.states(one)[-1] == State.RECEIPT_EXPIRED
    world.passes(100)
    assert acme.heard == [] and len(world.account().mailbox) == 0


def test_a_silent_customer_gets_it_again_and_a_late_answer_counts() -> None:
    world = World()
    _, ids = delivered(world, 2)
    acme = world.customer()
    frames = list(acme.heard)
    world.passes(31)
    acme.silent()
    world.check()
    assert world.account().mailbox.sent == 0 and len(world.account().mailbox.later) == 2
    acme.heard = frames[:1]
    acme.takes()
    world.check()
    world.passes(32)
    assert [name for name, _ in acme.receipts()] == ids[1:]
    world.commits()
    assert len(world.account().mailbox) == 0


def test_a_new_bind_gets_at_once_what_was_put_off() -> None:
    world = World()
    _, (one,) = delivered(world, 1)
    acme = world.customer()
    acme.receipts(status=Status.RX_T_APPN)
    acme.leaves()
    assert world.customer().receipts() == [(one, "DELIVRD")]


def test_mail_expires_in_memory_put_off_and_on_disk() -> None:
    world = World(settings(acme={"receipts": {"keep": "10m", "window": 10}}))
    _, ids = delivered(world, 2200)
    acme = world.customer(window=5)
    acme.takes(status=Status.RX_T_APPN)
    acme.leaves()
    world.commits()
    world.passes(610, step=10)
    world.commits()
    world.passes(30, step=1)
    world.check()
    assert len(world.account().mailbox) == 0 and world.store.cold == {}
    assert all(world.states(one)[-1] == State.RECEIPT_EXPIRED for one in ids[::100])
    done = [e for e in world.store.events if e.state == State.RECEIPT_EXPIRED]
    assert len(done) == len(ids), "each once"


def test_the_limit_holds_for_a_customer_who_stays_away() -> None:
    world = World(settings(acme={"receipts": {"limit": 300, "window": 1000}}))
    a, _ = delivered(world, 2900)
    world.passes(3)
    world.check()
    assert len(world.account().mailbox) == 300
    acme = world.customer(window=1000)
    world.commits()
    assert len(acme.receipts()) == 300
    assert world.total("receipts_expired", account="acme") == 2600 and a.acknowledged()


def test_what_the_customer_took_costs_no_commit_of_its_own_while_messages_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(segments=1000, seconds=1e6)
    asked: list[float] = []
    monkeypatch.setattr(world.store, "kick", lambda: asked.append(world.now))
    acme, a = world.customer(), world.carrier()
    world.passes(1)
    for n in range(5):
        acme.submits(b"x")
        world.commits()
        a.answers(b"id-%d" % n)
        a.reports(b"id-%d" % n)
        world.commits()
        asked.clear()
        assert len(acme.receipts()) == 1
        world.passes(0.08, 0.02, commit=False)
        assert not asked, "the next message's commit has it"
    world.passes(0.5, 0.1, commit=False)
    assert asked, "but it is not left for longer"
    world.commits()
    assert len(world.account().mailbox) == 0 and world.living == 0
    world.check()
