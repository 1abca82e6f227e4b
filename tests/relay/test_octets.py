"""What peers can pile up is bounded in octets, not in things alone."""

from __future__ import annotations

from typing import Any

from smppd.protocol.wire import Command, Fields, Status, address_field, build_sm, pdu
from smppd.relay.state.living import WEIGHT
from tests.relay.fakes import FROM, TO, World, settings
from tests.relay.send.test_dispatch import numbered

OTHER = b"447700900555"

LARGE = 60_000


def large(number: int, to: bytes = TO) -> list[bytes]:
    tag = (0x0424).to_bytes(2, "big") + LARGE.to_bytes(2, "big")
    head = build_sm(Command.SUBMIT_SM, 0, FROM, address_field(1, 1, to), b"", Fields(registered=1))
    body = head[16:] + tag + bytes(LARGE)
    return [pdu(Command.SUBMIT_SM, 0, 0, body)] * number


def test_memory_of_large_messages_is_bounded_in_octets_and_all_go_out_in_order() -> None:
    limit = 4 << 20
    world = World(settings(store={"path": "var", "hot_octets": limit}))
    acme = world.customer()
    for _ in range(40):
        acme.sends(*large(10))
        world.commits()
        assert world.relay.context.ledger.octets <= limit + 20 * (LARGE + WEIGHT)
    world.check()
    assert len(world.store.cold) > 300
    ids = acme.ids()
    a = world.carrier(window=10)
    names: list[bytes] = []
    for _ in range(200):
        world.passes(0.1, step=0.1)
        assert world.relay.context.ledger.octets <= limit + (2 << 20) + 40 * (LARGE + WEIGHT)
        if a.waiting:
            names.append(b"id-%03d" % len(names))
            a.answers(names[-1])
        else:
            world.passes(1.0)
    while a.waiting:
        names.append(b"id-%03d" % len(names))
        a.answers(names[-1])
        world.passes(1.0)
    assert len(a.sent) == 400 and world.account().queued == 0
    world.passes(3)
    world.check()
    assert world.relay.context.ledger.octets <= limit, "those that wait for their receipts are rows now"
    a.reports(names[0], names[-1])
    world.commits()
    assert sorted(acme.receipts()) == [(ids[0], "DELIVRD"), (ids[-1], "DELIVRD")]
    world.check()


def test_what_moves_out_of_an_old_segment_in_one_tick_is_bounded_in_octets() -> None:
    world = World(settings(a={"window": 1000}), segments=1, seconds=1.0)
    acme = world.customer()
    for _ in range(20):
        acme.sends(*large(10))
        world.commits()
    moved: list[int] = []
    for _ in range(40):
        world.passes(0.1, step=0.1, commit=False)
        moved.append(sum(len(mark) for mark in world.store.batch.marks))
        world.commits()
    assert 0 < max(moved) <= (9 << 20)
    world.check()


def test_mail_of_one_account_is_bounded_in_octets() -> None:
    world = World(settings(acme={"numbers": [OTHER.decode()]}))
    world.relay.mailroom.octets = 1 << 20
    a = world.carrier()
    for n in range(100):
        a.delivers(pdu(Command.DELIVER_SM, 0, 0, large(1, OTHER)[0][16:] + b"\x14\x00\0\1" + bytes((n,))))
        world.commits()
    assert set(a.acknowledged()) == {0}
    box = world.account().mailbox
    assert len(box) == 100 and box.octets <= (1 << 20) + LARGE + WEIGHT
    world.check()
    acme = world.customer()
    got: list[int] = []
    while len(got) < 100:
        world.commits()
        assert box.octets <= (2 << 20) + 2 * (LARGE + WEIGHT)
        came = acme.takes()
        assert came
        got += [sm.raw[-1] for sm in came]
    assert got == list(range(100)) and box.octets == 0
    world.commits()
    world.check()


def test_what_is_not_committed_is_bounded_and_its_customer_not_read() -> None:
    world = World()
    world.relay.desk.brake.octets = 10 * LARGE
    acme = world.customer()
    acme.sends(*large(9))
    assert acme.session.window == 1000
    acme.sends(*large(2))
    assert acme.session.window == 0
    acme.sends(*large(3))
    session: Any = acme.session
    assert session.blocked and session.unanswered == 11
    world.commits_once()
    world.turns()
    assert session.window == 1000 and session.unanswered == 3 and not session.blocked
    world.commits()
    assert len(acme.ids()) == 14
    world.check()


def test_the_brake_is_let_go_when_a_batch_fails() -> None:
    world = World()
    world.relay.desk.brake.messages = 5
    acme = world.customer()
    acme.submits(*numbered(6))
    assert acme.session.window == 0
    world.fills()
    world.turns()
    assert acme.session.window == 1000 and acme.statuses() == [Status.RMSGQFUL] * 6
    world.frees()
    world.passes(2)
    acme.submits(b"again")
    world.commits()
    assert len(acme.ids()) == 1


def test_what_is_remembered_for_resends_keeps_no_message() -> None:
    world = World(settings(acme={"deduplicate": "60s"}))
    world.relay.desk.duplicates.kept = 5
    acme, a = world.customer(), world.carrier()
    acme.submits(*numbered(8))
    world.commits()
    ids = acme.ids()
    a.answers(*[b"i%d" % n for n in range(8)])
    assert len(world.relay.desk.duplicates) == 5
    assert not any(hasattr(known, "frame") for known in world.relay.desk.duplicates._known.values())
    acme.submits(b"7", b"0")
    world.commits()
    again, new = acme.ids()
    assert again == ids[7] and new != ids[0]
