"""Held parts: nothing leaves without a verdict on the whole, whatever an account does; bounds are by account, and visible."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.protocol.wire import Command, Fields, Status, Tag, address_field, build_sm, pdu, tlv
from smppd.relay.accept import parts as held
from tests.relay.accept.test_desk import part
from tests.relay.fakes import FROM, TO, FakeCustomer, World
from tests.relay.fakes import settings as configuration

RULES = [{"name": "spam", "when": {"keywords": ["prize"]}, "do": {"refuse": {"status": "ESME_RX_P_APPN"}}}]
OTHER = {"system_id": "other", "networks": "any", "window": 1000, "throughput": None, "policies": ["p"]}


def world(*, hold: bool, **more: Any) -> World:
    config = configuration(
        policies={"p": {"hold_parts": hold, "rules": RULES}},
        acme={"policies": ["p"]},
        **more,
    )
    return World(config)


def two_accounts(hold: bool = True) -> World:
    hashed = configuration().accounts[0].password_hash
    return world(hold=hold, more=[{**OTHER, "password_hash": hashed}])


def sent(a: Any) -> list[bytes]:
    return [sm.body[6:] for sm in a.sent]


# -- bounds ----------------------------------------------------------------------------------------------------------------


def headed(header: bytes, words: bytes, tlvs: bytes = b"", source: bytes = FROM, to: bytes = b"\1\1" + TO) -> bytes:
    """A submit_sm with a user data header."""
    fields = Fields(esm_class=0x40, registered=1)
    return build_sm(Command.SUBMIT_SM, 0, source, to + b"\0", header + words, fields, tlvs)


def flood(here: World, customer: FakeCustomer, number: int) -> None:
    """First parts of so many long messages."""
    for first in range(0, number, 500):
        frames = []
        for n in range(first, min(first + 500, number)):
            frames.append(headed(bytes((5, 0, 3, n % 250, 2, 1)), b"x", to=b"\1\0014477009%05d" % (n // 250)))
        customer.sends(*frames)
        here.commits()


def test_ten_thousand_unfinished_parts_of_one_account_free_nobodys() -> None:
    here = two_accounts()
    acme, other, a = here.customer(), here.customer("other"), here.carrier()
    other.sends(part(b"your pri", 1))
    acme.sends(part(b"a pri", 1))
    here.commits()
    (theirs,), (mine,) = other.ids(), acme.ids()
    flood(here, acme, 10_200)
    statuses = acme.statuses()
    assert len(statuses) == 10_200
    assert statuses.count(Status.RMSGQFUL) >= 200 and set(statuses) == {0, Status.RMSGQFUL}, "turned away, visibly"
    assert a.sent == []
    here.passes(2)
    assert a.sent == [] and acme.receipts() == other.receipts() == []
    other.sends(part(b"ze", 2))
    acme.sends(part(b"ze", 2))
    here.commits()
    assert other.statuses() == acme.statuses() == [Status.RX_P_APPN]
    assert other.receipts() == [(theirs, "REJECTD")] and acme.receipts() == [(mine, "REJECTD")]
    assert a.sent == []
    here.check()


@pytest.mark.interpreted("changes a constant that the compiler wrote into the code")
def test_octets_of_an_account_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "HELD_OCTETS", 1000)
    here = two_accounts()
    acme, other = here.customer(), here.customer("other")
    for ref in range(5):
        acme.sends(part(b"x" * 150, 1, ref=ref))
    other.sends(part(b"x" * 150, 1))
    here.commits()
    assert sorted(acme.statuses()) == [0, 0, 0, 0, Status.RMSGQFUL] and other.statuses() == [0]
    assert here.total("messages_refused", account="acme", reason="held parts full") == 1
    assert here.relay.context.phases.held.octets <= 2000
    here.check()


@pytest.mark.interpreted("changes a constant that the compiler wrote into the code")
def test_octets_of_all_are_bounded_at_the_cost_of_who_has_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "HELD_TOTAL", 1000)
    here = two_accounts()
    acme, other, a = here.customer(), here.customer("other"), here.carrier()
    for ref in range(4):
        acme.sends(part(b"x" * 150, 1, ref=ref))
    here.commits()
    first, *_ = acme.ids()
    acme.sends(part(b"x" * 150, 1, ref=9))
    other.sends(part(b"y" * 150, 1))
    here.commits()
    assert acme.statuses() == [Status.RMSGQFUL] and other.statuses() == [0]
    assert acme.receipts() == [(first, "REJECTD")] and a.sent == []
    assert here.total("messages_refused", account="acme", reason="incomplete") == 1
    here.check()


def test_counts_come_back_to_nothing() -> None:
    here = two_accounts()
    acme, a = here.customer(), here.carrier()
    acme.sends(part(b"good ", 1))
    here.commits()
    assert here.relay.context.phases.held.octets > 0
    acme.sends(part(b"news", 2))
    here.commits()
    assert sent(a) == [b"good ", b"news"]
    assert len(here.relay.context.phases.held) == here.relay.context.phases.held.octets == 0
    here.restarts()
    assert len(here.relay.context.phases.held) == 0


# -- doors -----------------------------------------------------------------------------------------------------------------


def wide(words: bytes, seq: int, ref: int = 7, total: int = 2) -> bytes:
    return headed(bytes((6, 8, 4, ref >> 8, ref & 255, total, seq)), words)


def sar(words: bytes, seq: int, ref: int = 7, payload: bool = False, command: int = Command.SUBMIT_SM) -> bytes:
    tlvs = tlv(0x020C, ref.to_bytes(2, "big")) + tlv(0x020E, b"\2") + tlv(0x020F, bytes((seq,)))
    to = address_field(1, 1, TO)
    if command == Command.DATA_SM:
        return pdu(command, 0, 0, b"\0" + FROM + to + b"\0\1\0" + tlvs + tlv(Tag.MESSAGE_PAYLOAD, words))
    if payload:
        tlvs, words = tlvs + tlv(Tag.MESSAGE_PAYLOAD, words), b""
    return build_sm(command, 0, FROM, to, words, Fields(registered=1), tlvs)


def other_form(words: bytes, seq: int, source: bytes = b"\0\00100447700900001\0") -> bytes:
    return headed(bytes((5, 0, 3, 7, 2, seq)), words, source=source, to=b"\0\1+" + TO)


DOORS = {
    "the plain way": [part(b"a pri", 1), part(b"ze", 2)],
    "backwards": [part(b"ze", 2), part(b"a pri", 1)],
    "SAR": [sar(b"a pri", 1), sar(b"ze", 2)],
    "SAR in a payload": [sar(b"a pri", 1, payload=True), sar(b"ze", 2)],
    "SAR in a data_sm": [sar(b"a pri", 1), sar(b"ze", 2, command=Command.DATA_SM)],
    "a header, then SAR": [part(b"a pri", 1), sar(b"ze", 2)],
    "another size of the reference": [part(b"a pri", 1), wide(b"ze", 2)],
    "a reference that a gateway cuts": [wide(b"a pri", 1, 0x107), part(b"ze", 2)],
    "another total": [part(b"a pri", 1), part(b"ze !", 2, 3)],
    "another notation": [part(b"a pri", 1), other_form(b"ze", 2)],
    "a part sent twice, the first counts": [part(b"ze", 2), part(b"news", 2), part(b"a pri", 1)],
    "a part sent twice, the last counts": [part(b"news", 2), part(b"ze", 2), part(b"a pri", 1)],
    "a part sent thrice": [part(b"one", 2), part(b"ze", 2), part(b"two", 2), part(b"a pri", 1)],
    "once more after the whole": [part(b"a pri", 1), part(b"vate", 2), part(b"ze", 2)],
    "twice the whole, mixed": [part(b"a pri", 1), part(b"vate", 2), part(b"fine", 1), part(b"ze", 2)],
}


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("door", DOORS)
def test_no_way_of_sending_parts_gets_past(door: str, hold: bool) -> None:
    here = world(hold=hold)
    acme, a = here.customer(), here.carrier()
    for frame in DOORS[door]:
        acme.sends(frame)
        here.commits()
    assert acme.statuses()[-1] == Status.RX_P_APPN, "the part that would complete it"
    here.passes(310)
    texts = [sm.body for sm in a.sent]
    assert not (any(b"a pri" in text for text in texts) and any(b"ze" in text for text in texts))
    here.check()


def test_a_header_and_tlvs_that_disagree_are_refused() -> None:
    here = world(hold=False)
    acme = here.customer()
    second = tlv(0x020C, b"\0\7") + tlv(0x020E, b"\2") + tlv(0x020F, b"\2")
    both = headed(bytes((5, 0, 3, 7, 2, 1)), b"ze", second)
    agree = headed(bytes((5, 0, 3, 7, 2, 2)), b"ok", second)
    twice = bytes((10, 0, 3, 7, 2, 1, 0, 3, 7, 2, 2)) + b"ze"
    acme.sends(both, agree)
    acme.submits(twice, esm_class=0x40)
    here.commits()
    assert acme.statuses() == [Status.RSUBMITFAIL, 0, Status.RSUBMITFAIL]


def test_senders_that_a_rule_makes_one_are_one() -> None:
    rules = [{"name": "ours", "do": {"replace_sender": {"address": "Acme"}}}, *RULES]
    here = World(configuration(policies={"p": rules}, acme={"policies": ["p"]}))
    acme = here.customer()
    acme.sends(part(b"a pri", 1))
    acme.sends(other_form(b"ze", 2, source=b"\5\0Other\0"))
    here.commits()
    assert acme.statuses() == [0, Status.RX_P_APPN]


def test_a_part_of_which_rules_ask_nothing_may_stand_beside_one_of_which_they_do() -> None:
    rules = [{**RULES[0], "when": {"keywords": ["prize"], "data_coding": [0x11]}}]
    here = World(configuration(policies={"p": rules}, acme={"policies": ["p"]}))
    acme = here.customer()
    acme.sends(part(b"a pri", 1))
    acme.submits(bytes((5, 0, 3, 7, 2, 2)) + b"ze", esm_class=0x40, data_coding=0x11)
    here.commits()
    assert acme.statuses() == [0, Status.RX_P_APPN]


def test_submit_multi_is_judged_for_each_destination() -> None:
    here = world(hold=False)
    acme = here.customer()
    acme.sends(part(b"a pri", 1))
    to = address_field(1, 1, TO)
    text = bytes((5, 0, 3, 7, 2, 2)) + b"ze"
    body = b"\0" + FROM + b"\1\1" + to + b"\x40\0\0\0\0\1\0\0\0" + bytes((len(text),)) + text
    acme.sends(pdu(Command.SUBMIT_MULTI, 0, 0, body))
    here.commits()
    assert acme.statuses() == [0, Status.RX_P_APPN]


def test_what_was_turned_away_for_another_reason_was_not_there() -> None:
    here = World(
        configuration(policies={"p": {"hold_parts": True, "rules": RULES}}, acme={"policies": ["p"], "queue": 1})
    )
    acme, a = here.customer(), here.carrier()
    acme.submits(b"waits")
    acme.sends(part(b"good ", 1))
    here.commits()
    a.answers(b"x")
    here.commits()
    acme.sends(part(b"news", 2))
    here.commits()
    assert acme.statuses() == [Status.RMSGQFUL, 0, 0]
    assert len(here.relay.context.phases.held) == 1, "its first part was never taken, so it is not whole"
    here.check()


def test_a_reload_forgets_no_part() -> None:
    here = world(hold=True)
    acme, a = here.customer(), here.carrier()
    acme.sends(part(b"a pri", 1))
    here.commits()
    before = here.account().pipeline
    here.reloads(here.settings)
    assert here.account().pipeline not in (None, before)
    acme.sends(part(b"ze", 2))
    here.commits()
    assert acme.statuses() == [0, Status.RX_P_APPN] and a.sent == []


def test_a_whole_message_leaves_before_what_came_after_it_in_one_batch() -> None:
    here = world(hold=True)
    acme = here.customer()
    acme.sends(part(b"one", 1), part(b"two", 2), build_sm(Command.SUBMIT_SM, 0, FROM, b"\1\1" + TO + b"\0", b"after"))
    a = here.carrier()
    here.commits()
    assert [sm.short_message[-5:] for sm in a.sent] == [b"\7\2\1one"[-5:], b"\7\2\2two"[-5:], b"after"]
    here.check()
