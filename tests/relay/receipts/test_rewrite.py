"""A carrier's receipt as the customer gets it: our id wherever the carrier's stood, and nothing else of it changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from smppd.protocol.receipt import parse
from smppd.protocol.wire import BodyError, Command, Fields, Sm, Tag, address_field, build_sm, pdu, tlv
from smppd.relay.receipts.matching import read_receipt
from smppd.relay.receipts.rewrite import check_rewritable, rewritten_receipt
from tests.relay.fakes import FROM, TO, World
from tests.relay.receipts.test_matching import brought, pair
from tests.relay.receipts.test_receipts import submitted


def passed(given: bytes, frame: bytes) -> tuple[bytes, Sm]:
    """(our id, the receipt as it came) of a message taken as ``given``."""
    world = World()
    acme, a, (one,) = submitted(world, given)
    a.delivers(frame)
    world.commits()
    (sm,) = [Sm(frame) for frame in acme.heard if not frame[4] & 0x80]
    assert sm.source_digits == TO and sm.destination_digits == FROM[2:-1]
    return one, sm


@pytest.mark.parametrize(
    "text",
    [
        b"sub:001 dlvrd:001 stat:DELIVRD err:000 text:Order id:991 is ready",
        b"sub:001 dlvrd:001 stat:DELIVRD err:000 text:Order id:991",  # cut off after twenty characters
        b"sub:001 dlvrd:001 stat:DELIVRD err:000 Text:id:991",
        b"sub:001 dlvrd:001 stat:DELIVRD err:000 text:id:991 sub:7",
        b'"stat":"DELIVRD","text":"Order id:991 is ready"',
        b"sub:001 stat:DELIVRD text:\nid:991\nis yours",
    ],
)
def test_what_the_customer_wrote_is_neither_exchanged_nor_matched(text: bytes) -> None:
    world = World()
    acme, a, (one, other) = submitted(world, b"71000008", b"991")
    a.delivers(brought(text, tlvs=pair(b"71000008")))
    world.commits()
    (sm,) = acme.takes()
    assert sm.short_message == b"id:" + one + b" " + text
    assert sm.tlv(Tag.RECEIPTED_MESSAGE_ID) == one + b"\0"
    assert world.states(other)[1:] == [] and len(world.upstream().ids) == 1
    a.delivers(brought(text))  # without the TLV it names nobody
    world.commits()
    assert acme.takes() == [] and world.total("receipts", upstream="a", outcome="unreadable") == 1


def test_the_rest_of_a_receipt_behind_its_text_is_read() -> None:
    one, sm = passed(b"77", brought(b"text:Order id:991 is ready id:77 sub:001 stat:DELIVRD err:000"))
    assert sm.short_message == b"text:Order id:991 is ready id:" + one + b" sub:001 stat:DELIVRD err:000"


def test_a_text_that_is_no_receipt_is_left_as_it_is() -> None:
    for text in (b"Order id:991 is ready", b"delivered", b""):
        one, sm = passed(b"71000008", brought(text, tlvs=pair(b"71000008")))
        assert sm.short_message == text
        assert sm.tlv(Tag.RECEIPTED_MESSAGE_ID) == one + b"\0"


def test_the_id_for_a_text_without_one_shortens_what_the_customer_wrote() -> None:
    text = b"stat:DELIVRD err:000 text:" + b"x" * 228
    one, sm = passed(b"71000008", brought(text, tlvs=pair(b"71000008")))
    assert len(sm.short_message) == 254 and sm.short_message.startswith(
        b"id:" + one + b" stat:DELIVRD err:000 text:xxx"
    )


def test_an_id_named_several_times_is_exchanged_everywhere() -> None:
    tlvs = pair(b"1054BC64") + tlv(0x1501, b"1054BC64\0") + tlv(0x1502, b"1054BC64") + tlv(0x1503, b"1054BC64 not")
    text = b"1054BC64: id:1054BC64 message_id:1054BC64 stat:DELIVRD ref:1054BC64 text:1054BC64 of mine"
    one, sm = passed(b"1054BC64", brought(text, tlvs=tlvs))
    assert sm.short_message == text.replace(b"1054BC64", one).replace(b"text:" + one, b"text:1054BC64")
    assert [value for _, value in sm.tlvs] == [one + b"\0", b"\2", one + b"\0", one, b"1054BC64 not"]


def test_the_answer_s_id_is_exchanged_too_where_the_receipt_has_it_in_another_form() -> None:
    text = b"id:274484324 sub:001 dlvrd:001 submit date:2611222313 done date:2611222313 stat:DELIVRD err:000 text:"
    one, sm = passed(b"105C4C64", brought(text, tlvs=tlv(0x1501, b"105C4C64") + tlv(0x1502, b"274484324\0")))
    assert sm.short_message == text.replace(b"274484324", one)
    assert [value for _, value in sm.tlvs] == [one, one + b"\0"]


def test_a_short_id_is_exchanged_where_it_is_one_and_nowhere_else() -> None:
    one, sm = passed(b"1", brought(b"id:1 sub:1 dlvrd:1 stat:DELIVRD err:1", tlvs=tlv(0x1501, b"1")))
    assert sm.short_message == b"id:" + one + b" sub:1 dlvrd:1 stat:DELIVRD err:1" and sm.tlv(0x1501) == b"1"


def test_ucs2_keeps_every_other_octet() -> None:
    text = b"\xfe\xff" + "id:7 stat:DELIVRD text:Привет 😀".encode("utf-16-be")
    one, sm = passed(b"7", brought(text, coding=8))
    assert sm.short_message == b"\xfe\xff" + f"id:{one.decode()} stat:DELIVRD text:Привет 😀".encode("utf-16-be")
    assert sm.data_coding == 8
    long = "id:7 stat:DELIVRD text:" + "😀" * 52
    one, sm = passed(b"7", brought(long.encode("utf-16-le"), coding=8))
    cut = sm.short_message.decode("utf-16-le")
    assert 252 <= len(sm.short_message) <= 254 and cut.startswith(f"id:{one.decode()} stat") and cut.endswith("😀")


def test_a_payload_beside_a_text_is_exchanged_too() -> None:
    both = tlv(Tag.MESSAGE_PAYLOAD, b"id:7654321 stat:DELIVRD text:" + b"y" * 400)
    one, sm = passed(b"7654321", brought(b"id:7654321 stat:DELIVRD", tlvs=both))
    assert sm.short_message == b"id:" + one + b" stat:DELIVRD"
    assert sm.tlv(Tag.MESSAGE_PAYLOAD) == b"id:" + one + b" stat:DELIVRD text:" + b"y" * 400
    one, sm = passed(b"7654321", brought(b"?", tlvs=both))
    assert (sm.tlv(Tag.MESSAGE_PAYLOAD) or b"").startswith(b"id:" + one)


def test_whoever_is_told_of_a_message_is_told_which() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    a.cut()
    a = world.carrier()
    a.delivers(brought(b"?", tlvs=tlv(Tag.MESSAGE_STATE, b"\2")))
    world.commits()
    (sm,) = acme.takes()
    assert sm.short_message == b"?" and sm.tlv(Tag.RECEIPTED_MESSAGE_ID) == one + b"\0"


def test_a_payload_that_fills_its_tlv() -> None:
    text = b"id:7 stat:DELIVRD text:" + b"x" * (65535 - 23)
    body = b"\0" + address_field(1, 1, TO) + FROM + b"\4\0\0" + tlv(Tag.MESSAGE_PAYLOAD, text)
    sm = Sm(pdu(Command.DATA_SM, 0, 0, body))
    message = next(iter(next(iter(WORLD.account().lanes.values())).hot))
    payload = Sm(rewritten_receipt(message, sm, read_receipt(sm))).tlv(Tag.MESSAGE_PAYLOAD) or b""
    assert len(payload) == 65535 and payload.startswith(b"id:" + message.shown + b" stat:DELIVRD text:xxx")


@hypothesis_settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.sampled_from(
            [b"id:", b"stat:", b"text:", b"err:", b"id=", b"9" * 200, b"AB12CD34", b"DELIVRD", b" ", b"\0", b"^"]
        )
        | st.binary(max_size=4),
        max_size=40,
    ).map(b"".join),
    st.binary(max_size=80) | st.just(b"AB12CD34"),
    st.sampled_from((0x04, 0x44, 0x20, 0x00, 0x08)),
    st.sampled_from((0, 8, 4, 0x18, 0xFF)),
    st.booleans(),
)
def test_no_content_makes_it_fail(text: bytes, name: bytes, esm: int, coding: int, payload: bool) -> None:
    tlvs = tlv(Tag.RECEIPTED_MESSAGE_ID, name) + (tlv(Tag.MESSAGE_PAYLOAD, text) if payload else b"")
    fields = Fields(esm_class=esm, data_coding=coding)
    short = b"" if payload else text[:254]
    sm = Sm(build_sm(Command.DELIVER_SM, 0, address_field(1, 1, TO), FROM, short, fields, tlvs))
    reading = read_receipt(sm)
    check_rewritable(sm, reading)
    acme = WORLD.account()
    message = next(iter(next(iter(acme.lanes.values())).hot))
    message.upstream_id = name[:64]
    told = Sm(rewritten_receipt(message, sm, reading))
    assert len(told.short_message) <= 254 and told.tlv(Tag.RECEIPTED_MESSAGE_ID) == message.shown + b"\0"
    try:
        assert len(told.tlvs) == len(sm.tlvs)
    except BodyError:
        raise AssertionError("its TLVs are broken") from None
    assert parse(told.short_message) is None or told.short_message


WORLD = World()
WORLD.customer().submits(b"x")
