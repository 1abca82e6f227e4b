"""query_sm, cancel_sm and replace_sm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smppd.message import State
from smppd.protocol.wire import Command, Status, Tag, pdu, tlv
from tests.relay.accept.test_desk import HOLD, SPAM, part
from tests.relay.fakes import FROM, TO, FakeCustomer, World, settings

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

    world.relay.operations.history = history
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
    assert world.account().queued == 1 and len(world.relay.context.phases.held) == 0
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


def two_parts_waiting(world: World, *texts: bytes) -> tuple[FakeCustomer, list[bytes]]:
    acme = world.customer()
    for seq, text in enumerate(texts, 1):
        acme.sends(part(text, seq))
        world.commits()
    return acme, acme.ids()


def udh(seq: int, total: int = 2, ref: int = 7) -> bytes:
    return bytes((5, 0, 3, ref, total, seq))


@pytest.mark.parametrize("rules", [SPAM, HOLD])
def test_replace_of_a_part_is_judged_with_the_others(rules: dict[str, Any]) -> None:
    world = World(settings(policies=rules, acme={"policies": ["spam"]}))
    acme, (one, two) = two_parts_waiting(world, b"a pri", b"vate word")
    assert asked(acme, replace(two, udh(2) + b"ze"))[0] == Status.RSUBMITFAIL
    assert asked(acme, replace(one, udh(1) + b"my pri"))[0] == 0
    assert asked(acme, replace(two, udh(2) + b"ze"))[0] == Status.RSUBMITFAIL, "with the new text of the first"
    assert asked(acme, replace(one, udh(1) + b"my "))[0] == 0
    assert asked(acme, replace(two, udh(2) + b"ze"))[0] == 0, "the first says something else now"
    a = world.carrier()
    world.commits()
    assert a.texts() == [udh(1) + b"my ", udh(2) + b"ze"]
    world.check()


def test_a_part_that_comes_after_a_replace_is_judged_with_the_new_text() -> None:
    world = World(settings(policies=SPAM, acme={"policies": ["spam"]}))
    acme, (one,) = two_parts_waiting(world, b"fine ")
    assert asked(acme, replace(one, udh(1) + b"a pri"))[0] == 0
    acme.sends(part(b"ze", 2))
    world.commits()
    assert acme.statuses() == [Status.RSUBMITFAIL]


@pytest.mark.parametrize("why", ["time", "restart"])
def test_replace_of_a_part_whose_others_are_not_known_any_more_fails(why: str) -> None:
    world = World(settings(policies=SPAM, acme={"policies": ["spam"]}))
    acme, (_, two) = two_parts_waiting(world, b"a pri", b"vate")
    if why == "time":
        world.passes(302, step=10)
    else:
        world.restarts()
        acme = world.customer()
    assert asked(acme, replace(two, udh(2) + b"ze"))[0] == Status.RREPLACEFAIL
    assert asked(acme, replace(two, udh(2) + b"harmless"))[0] == Status.RREPLACEFAIL
    a = world.carrier()
    world.commits()
    assert a.texts() == [udh(1) + b"a pri", udh(2) + b"vate"]


def test_replace_of_a_part_needs_no_others_where_no_rule_asks_for_the_text() -> None:
    rules = {"spam": [{"name": "r", "when": {"sender": ["EXAMPLE"]}, "do": "refuse"}]}
    world = World(settings(policies=rules, acme={"policies": ["spam"]}))
    acme, (_, two) = two_parts_waiting(world, b"one", b"two")
    world.restarts()
    acme = world.customer()
    assert asked(acme, replace(two, udh(2) + b"three"))[0] == 0


@pytest.mark.parametrize("text", [udh(1) + b"ze", udh(2, 3) + b"ze", udh(2, 2, 8) + b"ze", b"\0ze"])
def test_replace_makes_no_other_part_of_one(text: bytes) -> None:
    world = World(settings(policies=SPAM, acme={"policies": ["spam"]}))
    acme, (_, two) = two_parts_waiting(world, b"a pri", b"vate")
    assert asked(acme, replace(two, text))[0] == Status.RREPLACEFAIL


def test_replace_with_a_message_payload_is_refused() -> None:
    world = World(settings(policies=SPAM, acme={"policies": ["spam"]}))
    acme, one = one_waiting(world)
    frame = replace(one, b"")
    frame = pdu(Command.REPLACE_SM, 0, 0, frame[16:] + tlv(Tag.MESSAGE_PAYLOAD, b"a prize"))
    assert asked(acme, frame)[0] == Status.RREPLACEFAIL


def test_rules_see_the_sender_that_the_customer_gave_in_a_replace_too() -> None:
    rules = [
        {"name": "ours", "do": {"replace_sender": {"address": "Acme"}}},
        {"name": "r", "when": {"sender": ["447700900001"], "keywords": ["prize"]}, "do": "refuse"},
    ]
    world = World(settings(policies={"spam": rules}, acme={"policies": ["spam"]}))
    acme, one = one_waiting(world)
    assert asked(acme, replace(one, b"a prize"))[0] == Status.RSUBMITFAIL


def test_replace_by_a_text_that_no_upstream_has_letters_for_fails() -> None:
    world = World(settings(a={"default_alphabet": "latin1"}, b={"default_alphabet": "latin1"}))
    acme, (one, _) = two_parts_waiting(world, b"one", b"two")
    head = bytes((8, 0, 3, 7, 2, 1, 0x25, 1, 6))
    assert asked(acme, replace(one, head + bytes(range(1, 10)) * 12))[0] == Status.RREPLACEFAIL
    assert asked(acme, replace(one, udh(1) + b"\0\5"))[0] == 0
    a = world.carrier()
    world.commits()
    assert a.texts()[0] == udh(1) + "@é".encode("latin-1")


@pytest.mark.parametrize("form", ["hex8", "decimal10"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_short_id_is_understood(form: str, restarted: bool) -> None:
    world = World(settings(acme={"message_id": form}))
    acme, one = one_waiting(world)
    assert len(one) == {"hex8": 8, "decimal10": 10}[form]
    if restarted:
        world.restarts(settings(acme={"message_id": form}))
        acme = world.customer()
    assert asked(acme, query(one))[0] == 0
    assert asked(acme, cancel(one))[0] == 0
