"""Customers and carriers of SMPP 3.3, to whom nothing may be sent that 3.4 added."""

from __future__ import annotations

import pytest

from smppd.message import State
from smppd.protocol.longmessage import parse_udh
from smppd.protocol.receipt import MessageState
from smppd.protocol.wire import Command, Fields, Sm, Status, Tag, address_field, build_sm, pdu, tlv
from tests.relay.fakes import FROM, TO, FakeCustomer, World, receipt, settings
from tests.relay.receipts.test_receipts import submitted

PLAIN = {"interface_version": "3.3"}
NUMBER = b"447700900500"
OWNER = {"numbers": ["447700900500"]}


def plain(customer: FakeCustomer) -> list[Sm]:
    """What came and was acknowledged: deliver_sm of 3.3."""
    found = customer.takes()
    for sm in found:
        assert sm.command == Command.DELIVER_SM and sm.at_tlvs == len(sm.raw) and len(sm.short_message) <= 254
    return found


def mo(text: bytes, tlvs: bytes = b"", *, coding: int = 0, esm: int = 0) -> bytes:
    return build_sm(5, 0, FROM, address_field(1, 1, NUMBER), text, Fields(data_coding=coding, esm_class=esm), tlvs)


def data_sm(tlvs: bytes, *, to: bytes = TO, esm: int = 0, source: bytes = FROM) -> bytes:
    return pdu(Command.DATA_SM, 0, 0, b"\0" + source + address_field(1, 1, to) + bytes((esm, 1, 0)) + tlvs)


def test_receipts_of_our_own_have_no_tlvs_on_a_session_of_3_3() -> None:
    world = World()
    acme, a = world.customer(version=0x33), world.carrier()
    acme.submits(b"hello")
    world.commits()
    (name,) = acme.ids()
    assert len(name) == 8 and int(name, 16)
    a.answers(status=Status.RINVDSTADR)
    world.commits()
    (sm,) = plain(acme)
    assert sm.short_message.startswith(b"id:" + name + b" ") and b"stat:REJECTD" in sm.short_message
    world.check()


@pytest.mark.parametrize("tlv_only", [False, True])
def test_a_carrier_s_receipts_have_none_either(tlv_only: bool) -> None:
    world = World()
    acme, a = world.customer(version=0x33), world.carrier()
    acme.submits(b"1", b"2")
    world.commits()
    a.answers(b"id-1", b"id-2")
    world.commits()
    one, two = acme.ids()
    told = tlv(Tag.RECEIPTED_MESSAGE_ID, b"id-1\0") + tlv(Tag.MESSAGE_STATE, b"\2")
    if tlv_only:
        a.delivers(build_sm(5, 0, address_field(1, 1, TO), FROM, b"", Fields(esm_class=4), told))
        a.delivers(data_sm(told.replace(b"id-1", b"id-2"), esm=4))
    else:
        a.delivers(receipt(b"id-1", tlv_id=b"id-1"))
        text = receipt(b"id-2")[-100:]
        payload = text[text.index(b"id:") :]
        a.delivers(build_sm(5, 0, address_field(1, 1, TO), FROM, b"", Fields(esm_class=4), tlv(0x424, payload)))
    world.commits()
    found = plain(acme)
    assert [sm.short_message.split()[0] for sm in found] == [b"id:" + one, b"id:" + two]
    assert all(b"stat:DELIVRD" in sm.short_message for sm in found)
    assert [sm.destination_field for sm in found] == [FROM] * 2
    world.check()


def test_it_is_the_session_s_version_that_counts() -> None:
    world = World()
    new, a = world.customer(), world.carrier()
    new.submits(b"1", b"2")
    world.commits()
    a.answers(b"id-1", b"id-2")
    world.commits()
    new.ids()
    told = receipt(b"id-1", tlv_id=b"id-1"), receipt(b"id-2", tlv_id=b"id-2")
    a.delivers(told[0])
    world.commits()
    (sm,) = new.takes(status=Status.RX_T_APPN)
    assert sm.tlv(Tag.RECEIPTED_MESSAGE_ID)
    new.leaves()
    old = world.customer(version=0x00)
    a.delivers(told[1])
    world.commits()
    assert len(plain(old)) == 2
    world.check()


@pytest.mark.parametrize("form", ["hex16", "hex8", "decimal10"])
def test_ids_have_eight_characters_whatever_the_account_says(form: str) -> None:
    world = World(settings(acme={"message_id": form}))
    acme = world.customer(version=0x33)
    acme.submits(b"x")
    acme.sends(data_sm(tlv(0x424, b"x")))
    world.commits()
    names = acme.ids()
    assert [len(name) for name in names] == [8, 8]


def test_a_long_mo_message_comes_in_parts_one_after_the_other() -> None:
    world = World(settings(acme=OWNER))
    acme, a = world.customer(version=0x33, window=1), world.carrier()
    text = bytes(range(256)) * 2
    a.delivers(mo(b"", tlv(0x424, text), coding=4), mo(b"after"))
    world.commits()
    parts: list[Sm] = []
    while len(parts) < 4:
        (part,) = plain(acme)
        parts.append(part)
    joined = b""
    for number, part in enumerate(parts, 1):
        udh = parse_udh(part.short_message)
        assert udh is not None and udh.concat is not None
        assert (udh.concat.total, udh.concat.seq) == (4, number)
        joined += part.short_message[udh.length :]
    assert joined == text
    assert [sm.short_message for sm in plain(acme)] == [b"after"]
    world.commits()
    assert not len(acme.account.mailbox)
    world.check()


def test_a_part_that_is_refused_or_lost_comes_again_alone() -> None:
    world = World(settings(acme=OWNER))
    acme, a = world.customer(version=0x33), world.carrier()
    a.delivers(mo(b"", tlv(0x424, b"x" * 300), coding=4))
    world.commits()
    plain(acme)
    (second,) = acme.takes(status=Status.RX_T_APPN)
    world.passes(120)
    (again,) = acme.takes(status=Status.RX_T_APPN)
    assert again.raw[16:] == second.raw[16:]
    acme.leaves()
    other = world.customer(version=0x33)
    (once_more,) = other.takes(status=Status.RX_T_APPN)
    assert once_more.raw[16:] == second.raw[16:]
    other.leaves()
    new = world.customer()
    (whole,) = new.takes()
    assert whole.body == b"x" * 300, "a session of 3.4 takes it in one"
    world.check()


def test_an_mo_message_that_came_as_data_sm_is_a_deliver_sm() -> None:
    world = World(settings(acme=OWNER))
    acme, a = world.customer(version=0x33), world.carrier()
    a.delivers(data_sm(tlv(0x424, b"hi"), to=NUMBER))
    world.commits()
    assert [sm.short_message for sm in plain(acme)] == [b"hi"]


# -- carriers -----------------------------------------------------------------------------------------------------------


def test_a_carrier_of_3_3_gets_submit_sm_without_tlvs() -> None:
    world = World(settings(a=PLAIN))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"tagged", tlvs=tlv(0x1400, b"110100000001"))
    acme.submits(b"", tlvs=tlv(0x424, b"y" * 254))
    acme.sends(data_sm(tlv(0x424, b"data") + tlv(0x17, (7200).to_bytes(4, "big"))))
    world.commits()
    assert [(sm.command, sm.at_tlvs - len(sm.raw)) for sm in a.waiting] == [(Command.SUBMIT_SM, 0)] * 3
    assert a.texts() == [b"tagged", b"y" * 254, b"data"]
    assert a.waiting[2].validity == b"000000020000000R"
    a.answers(b"id-1", b"id-2", b"id-3")
    world.commits()
    ids = acme.ids()
    a.reports(b"id-1", b"id-2", b"id-3")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD") for one in ids]
    world.check()


@pytest.mark.parametrize("acknowledge", ["stored", "upstream"])
def test_what_does_not_fit_there_is_refused_and_said(acknowledge: str, caplog: pytest.LogCaptureFixture) -> None:
    world = World(settings(a=PLAIN, acme={"acknowledge": acknowledge}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"", tlvs=tlv(0x424, b"y" * 255))
    acme.submits(b"next")
    world.commits()
    assert a.texts() == [b"next"]
    a.answers(b"id-1")
    world.commits()
    if acknowledge == "upstream":
        assert acme.statuses() == [Status.RINVMSGLEN, 0]
        assert acme.receipts() == []
    else:
        first, _ = acme.ids()
        (sm,) = acme.takes()
        assert sm.short_message.startswith(b"id:" + first) and b"stat:REJECTD err:001" in sm.short_message
        world.passes(1)
        assert world.states(first) == [State.REJECTED, State.RECEIPT_DONE]
    world.passes(2)
    assert "messages too long for SMPP 3.3" in [record.message for record in caplog.records]
    assert world.total("messages_rejected", upstream="a", status="ESME_RINVMSGLEN") == 1
    world.check()


def test_receipts_and_states_of_a_carrier_of_3_3_are_as_ever() -> None:
    world = World(settings(a=PLAIN))
    acme, a, (one,) = submitted(world, b"0000002A")
    a.reports(b"0000002A", state=MessageState.UNDELIVERABLE)
    world.commits()
    (sm,) = acme.takes()
    assert sm.short_message.startswith(b"id:" + one)
    world.check()
