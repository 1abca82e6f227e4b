"""query_sm, cancel_sm and replace_sm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smppd.message import State
from smppd.protocol.wire import Command, Status, pdu
from tests.relay.fakes import FROM, TO, FakeCustomer, World, settings
from tests.relay.test_submit import HOLD, SPAM, part

NO_ONE = b"\1\1\0"


def query(name: bytes, source: bytes = FROM) -> bytes:
    return pdu(Command.QUERY_SM, 0, 0, name + b"\0" + source)


def cancel(name: bytes, source: bytes = FROM, to: bytes = TO) -> bytes:
    return pdu(Command.CANCEL_SM, 0, 0, b"\0" + name + b"\0" + source + b"\1\1" + to + b"\0")


def replace(name: bytes, text: bytes, source: bytes = FROM, validity: bytes = b"") -> bytes:
    body = name + b"\0" + source + b"\0" + validity + b"\0" + b"\1\0" + bytes((len(text),)) + text
    return pdu(Command.REPLACE_SM, 0, 0, body)


def asked(customer: FakeCustomer, frame: bytes) -> tuple[int, bytes]:
    customer.sends(frame)
    ((_, status, body),) = customer.answered()
    return status, body


def one_waiting(world: World, text: bytes = b"old") -> tuple[FakeCustomer, bytes]:
    acme = world.customer()
    acme.submits(text)
    world.commits()
    return acme, acme.ids()[-1]


def test_query_of_a_living_message() -> None:
    world = World()
    acme, one = one_waiting(world)
    status, body = asked(acme, query(one))
    assert status == 0 and body[-1:] == bytes((State.ENROUTE,))
    a = world.carrier()
    world.commits()
    a.answers(b"x")
    status, body = asked(acme, query(one))
    assert body[-1:] == bytes((State.ACCEPTED,))
    assert asked(acme, query(one, b"\1\x0112125550100\0"))[0] == Status.RINVSRCADR
    assert asked(acme, query(b"nonsense"))[0] == Status.RINVMSGID


def test_query_of_the_past_is_answered_from_the_log() -> None:
    world = World()
    acme, one = one_waiting(world)
    asked_for: list[int] = []

    def history(account: str, identity: int, then: Callable[[Any], None]) -> None:
        asked_for.append(identity)
        then((State.DELIVERED, world.wall, 0) if account == "acme" and identity == 5 else None)

    world.relay.enquiries.history = history
    status, body = asked(acme, query(b"%016x" % 5))
    assert status == 0 and b"\0" + bytes((State.DELIVERED,)) in body
    assert asked(acme, query(b"%016x" % 6))[0] == Status.RINVMSGID
    assert one and asked_for == [5, 6]


def test_nobody_sees_or_cancels_another_account_s_message() -> None:
    zeta = {"system_id": "zeta", "password_hash": settings().accounts[0].password_hash, "networks": "any"}
    world = World(settings(more=[zeta]))
    _, one = one_waiting(world)
    zed = world.customer("zeta")
    assert asked(zed, query(one))[0] == Status.RINVMSGID
    assert asked(zed, cancel(one))[0] == Status.RINVMSGID
    assert asked(zed, replace(one, b"new"))[0] == Status.RINVMSGID


def test_cancel_while_it_is_here() -> None:
    world = World()
    acme, one = one_waiting(world)
    assert asked(acme, cancel(one))[0] == 0
    world.commits()
    assert acme.receipts() == [(one, "DELETED")] and world.account().queued == 0
    world.check()
    a = world.carrier()
    world.commits()
    assert a.sent == []
    world.restarts()
    assert world.account().queued == 0


def test_cancel_when_it_is_too_late() -> None:
    world = World()
    a = world.carrier()
    acme, one = one_waiting(world)
    assert a.waiting and asked(acme, cancel(one))[0] == Status.RCANCELFAIL
    a.answers(b"x")
    assert asked(acme, cancel(one))[0] == Status.RCANCELFAIL


def test_cancel_by_addresses_and_of_a_held_part() -> None:
    world = World(settings(policies=HOLD, acme={"policies": ["spam"]}))
    acme = world.customer()
    acme.submits(b"one", b"two")
    acme.submits(b"three", to=b"447700900555")
    acme.sends(part(b"half", 1, ref=3))
    world.commits()
    ids = acme.ids()
    assert asked(acme, cancel(b""))[0] == 0
    world.commits()
    assert sorted(name for name, _ in acme.receipts()) == sorted(ids[:2] + ids[3:])
    assert world.account().queued == 1 and len(world.relay.dispatch.holding) == 0
    world.check()


def test_cancel_with_a_batch_that_fails() -> None:
    world = World()
    acme, one = one_waiting(world)
    acme.sends(cancel(one))
    world.fills()
    world.frees()
    world.passes(2)
    assert acme.statuses() == [0]
    assert acme.receipts() == [(one, "DELETED")]
    world.check()


def test_replace_while_it_waits() -> None:
    world = World()
    acme, one = one_waiting(world)
    assert asked(acme, replace(one, b"new", source=NO_ONE))[0] == Status.RINVSRCADR
    assert asked(acme, replace(one, b"new"))[0] == 0
    world.commits()
    assert world.store.records == 2, "the new text is a record of its own"
    world.restarts()
    a = world.carrier()
    world.commits()
    assert a.texts() == [b"new"]
    world.check()


def test_replace_of_a_row_that_was_read() -> None:
    world = World(settings(hot=1, a={"window": 1}))
    acme = world.customer()
    acme.submits(b"0", b"1", b"2", b"3", b"4")
    world.commits()
    ids = acme.ids()
    a = world.carrier(window=1)
    world.commits()
    a.answers(b"x")
    world.commits()
    assert asked(acme, replace(ids[4], b"new"))[0] == 0
    world.commits()
    world.check()
    while a.waiting:
        a.answers(b"y%d" % len(a.sent))
        world.commits()
    assert [sm.short_message for sm in a.sent] == [b"0", b"1", b"2", b"3", b"new"]
    assert world.store.cold == {}


def test_replace_passes_policy() -> None:
    world = World(settings(policies=SPAM, acme={"policies": ["spam"]}))
    acme, one = one_waiting(world)
    assert asked(acme, replace(one, b"a prize"))[0] == Status.RSUBMITFAIL
    a = world.carrier()
    world.commits()
    assert a.texts() == [b"old"]
    assert asked(acme, replace(one, b"new"))[0] == Status.RREPLACEFAIL


def test_a_short_id_is_understood() -> None:
    world = World(settings(acme={"message_id": "hex8"}))
    acme, one = one_waiting(world)
    assert len(one) == 8
    assert asked(acme, query(one))[0] == 0
    assert asked(acme, cancel(one))[0] == 0
