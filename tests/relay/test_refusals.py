"""A refusal is no dearer than the service, and one chunk no more than a turn's work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smppd import native
from smppd.protocol.wire import Command, Status, pdu
from tests.relay.accept.test_desk import SPAM, multi
from tests.relay.fakes import FakeCustomer, World, settings
from tests.relay.send.test_dispatch import numbered
from tests.relay.steps import operations
from tests.relay.test_limits import ZETA
from tests.relay.test_octets import large


def test_a_chunk_goes_in_turns_and_in_its_order() -> None:
    world = World()
    world.relay.desk.turn = 10
    acme, a = world.customer(), world.carrier()
    world.turns = lambda: None  # type: ignore[method-assign]
    acme.submits(*numbered(25))
    assert len(world.store.batch.accepted) == 10
    acme.submits(*numbered(5, 25))
    del world.turns
    world.commits()
    assert a.texts() == numbered(30)
    assert acme.session.unanswered == 0


def test_the_sessions_of_an_account_share_its_turn_and_another_account_has_its_own() -> None:
    world = World(settings(more=[ZETA]))
    world.relay.desk.turn = 100
    sessions, zeta, a = [world.customer() for _ in range(8)], world.customer("zeta"), world.carrier(window=1000)
    taken = world.store.batch.accepted
    turns, world.turns = world.turns, lambda: None  # type: ignore[method-assign]
    for number, session in enumerate(sessions):
        session.submits(*numbered(60, 100 * number))
    assert len(taken) == 60, "the others of this account have the next turns"
    zeta.submits(b"from another account")
    assert len(taken) == 61
    sessions[0].submits(b"once more")
    world.turns = turns  # type: ignore[method-assign]
    world.commits()
    texts = a.texts()
    assert sorted(texts) == sorted(
        [*(t for n in range(8) for t in numbered(60, 100 * n)), b"from another account", b"once more"]
    )
    assert texts.index(b"once more") > texts.index(numbered(1, 59)[0])
    assert [session.session.unanswered for session in (*sessions, zeta)] == [0] * 9
    assert world.relay.desk._behind == {} and world.relay.desk._lines == {}


def test_who_is_gone_is_not_served_what_waited_for_a_turn() -> None:
    world = World()
    world.relay.desk.turn = 10
    acme = world.customer()
    turns, world.turns = world.turns, lambda: None  # type: ignore[method-assign]
    acme.submits(*numbered(25))
    acme.leaves()
    turns()
    assert len(world.store.batch.accepted) == 10 and world.relay.desk._behind == {}


def test_a_multi_counts_as_its_destinations_for_the_rate() -> None:
    world = World(settings(acme={"throughput": "10/s", "burst": 20}, limits={"throttle_wait": "500ms"}))
    acme = world.customer()
    numbers = [b"4477009001%02d" % n for n in range(20)]
    acme.sends(multi(*numbers))
    world.commits()
    assert acme.statuses() == [0]
    records = world.store.records
    acme.sends(multi(*numbers))
    assert acme.statuses() == [] and not world.store.batch.accepted, "nothing was made of it"
    world.passes(0.6, step=0.1)
    assert acme.statuses() == [Status.RTHROTTLED] and world.store.records == records
    assert world.total("messages_refused", account="acme", reason="throttled") == 1
    world.passes(2.0)
    acme.sends(multi(*numbers))
    world.commits()
    assert acme.statuses() == [0] and world.store.records == records + 20


def test_a_multi_of_more_than_a_burst_is_served_and_owed() -> None:
    world = World(settings(acme={"throughput": "10/s", "burst": 5}, limits={"throttle_wait": "500ms"}))
    acme = world.customer()
    acme.sends(multi(*[b"4477009001%02d" % n for n in range(25)]))
    world.commits()
    assert acme.statuses() == [], "its answer waits, no longer than others do"
    world.passes(0.6, step=0.1)
    assert acme.statuses() == [0]
    acme.submits(b"next")
    world.passes(0.6, step=0.1)
    assert acme.statuses() == [Status.RTHROTTLED], "twenty are owed"
    world.passes(2.0)
    acme.submits(b"next")
    world.commits()
    assert len(acme.ids()) == 1


def test_a_multi_takes_as_many_places_of_the_window_until_it_is_answered() -> None:
    world = World()
    acme = world.customer()
    acme.session.window = 10
    acme.sends(multi(*[b"4477009001%02d" % n for n in range(12)]))
    assert acme.session.unanswered == 12
    acme.submits(b"behind")
    assert acme.session.blocked
    world.commits()
    assert acme.statuses() == [0, 0] and acme.session.unanswered == 0


def test_a_multi_over_the_queue_is_refused_whole_before_a_message_is_made() -> None:
    world = World(settings(acme={"queue": 10}))
    acme = world.customer()
    numbers = [b"4477009001%02d" % n for n in range(8)]
    acme.sends(multi(*numbers))
    world.commits()
    acme.sends(multi(*numbers))
    assert acme.statuses() == [0, Status.RMSGQFUL] and world.account().queued == 8
    assert not world.store.batch.records


NUMBERS = [b"447700900%03d" % n for n in range(254)]
REFUSED: dict[str, tuple[dict[str, Any], Callable[[], bytes], int]] = {
    "over the rate": ({"acme": {"throughput": "1/s", "burst": 1}}, lambda: multi(*NUMBERS), Status.RTHROTTLED),
    "a full queue": ({"acme": {"queue": 1}}, lambda: multi(*NUMBERS), Status.RMSGQFUL),
    "a full queue, one message": ({"acme": {"queue": 1}}, lambda: large(1)[0], Status.RMSGQFUL),
    "no route": ({"routes": [{"destination": ["+1"], "upstreams": ["a"]}]}, lambda: large(1)[0], Status.RINVDSTADR),
    "a bad body": ({}, lambda: pdu(Command.SUBMIT_SM, 0, 0, b"\0" * 3), Status.RINVMSGLEN),
    "no destinations": ({}, multi, Status.RINVNUMDESTS),
    "many TLVs": ({}, lambda: large(1)[0] + b"\x14\0\0\0" * 1000, Status.RINVOPTPARSTREAM),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_is_cheaper_than_the_service(what: str) -> None:
    def sends(frame: bytes, **sections: Any) -> tuple[int, World, FakeCustomer]:
        world = World(settings(limits={"throttle_wait": "1ms"}, **sections))
        acme = world.customer()
        acme.submits(b"first", to=b"15550100")
        world.commits()
        acme.answered()
        whole = len(frame).to_bytes(4, "big") + frame[4:]
        return operations(lambda: (acme.sends(whole), world.commits())), world, acme

    sections, frame, status = REFUSED[what]
    dear, _, served = sends(multi(*NUMBERS) if frame()[7] == 0x21 else large(1)[0])
    assert served.statuses() == [0]
    cheap, world, acme = sends(frame(), **sections)
    world.passes(0.1, step=0.01)
    (answer,) = acme.statuses()
    assert answer == status
    assert cheap <= dear
    if frame()[7] == 0x21:
        assert cheap * 20 <= dear or native.compiled


def test_what_policy_refuses_costs_no_more_than_what_it_lets_pass() -> None:
    def sends(text: bytes) -> int:
        world = World(settings(policies=SPAM, acme={"policies": ["spam"]}))
        acme, _ = world.customer(), world.carrier()
        acme.submits(b"first")
        world.commits()
        return operations(lambda: (acme.submits(text), world.commits()))

    assert sends(b"a prize") <= sends(b"a price")


def test_delayed_answers_are_bounded() -> None:
    world = World(settings(acme={"throughput": "1/s", "burst": 1}, limits={"throttle_wait": "500ms"}))
    world.relay.customer_answers.delayed.most = 3
    acme = world.customer()
    acme.submits(*numbered(6))
    world.commits()
    assert acme.statuses().count(Status.RTHROTTLED) == 2 and len(world.relay.customer_answers.delayed) == 3
    world.passes(1.0, step=0.1)
    assert len(world.relay.customer_answers.delayed) == 0 and acme.session.unanswered == 0
