"""Messages for peers of SMPP 3.3: no TLVs, no data_sm, and what they said is still there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol import older
from smppd.protocol.longmessage import parse_udh
from smppd.protocol.receipt import MessageState, parse, write
from smppd.protocol.wire import HEADER, Command, Fields, Sm, Tag, address_field, build_sm, pdu, tlv
from tests.vault.rows import NOON

SOURCE, DESTINATION = address_field(5, 0, b"Acme"), address_field(1, 1, b"447700900123")


def short(command: int, text: bytes, tlvs: bytes = b"", **fields: Any) -> bytes:
    return build_sm(command, 7, SOURCE, DESTINATION, text, Fields(service_type=b"WAP", **fields), tlvs)


def data(tlvs: bytes, *, esm: int = 0, coding: int = 0, source: bytes = SOURCE) -> bytes:
    return pdu(Command.DATA_SM, 0, 7, b"WAP\0" + source + DESTINATION + bytes((esm, 1, coding)) + tlvs)


def payload(text: bytes) -> bytes:
    return tlv(Tag.MESSAGE_PAYLOAD, text)


def test_what_is_of_3_3_already_keeps_every_octet() -> None:
    fields: dict[str, Any] = {"esm_class": 0x40, "priority": 1, "data_coding": 4}
    sent = short(Command.SUBMIT_SM, b"x" * 255, **fields)
    brought = short(Command.DELIVER_SM, b"x" * 255, **fields)
    assert older.submitted(sent) == sent
    assert older.delivered(brought, 0, 0) == ([brought], False)


def test_tlvs_are_left_out_and_every_field_stays() -> None:
    tlvs = tlv(0x1400, b"110100000001") + tlv(0x204, b"\0\1")
    fields: dict[str, Any] = {
        "esm_class": 1,
        "protocol_id": 2,
        "priority": 3,
        "registered": 1,
        "data_coding": 8,
        "default_message": 5,
    }
    for text in (b"hello", b"x" * 255):
        assert older.submitted(short(Command.SUBMIT_SM, text, tlvs, **fields)) == short(
            Command.SUBMIT_SM, text, **fields
        )
        got = older.delivered(short(Command.DELIVER_SM, text, tlvs, **fields), 0, 0)
        assert got == ([short(Command.DELIVER_SM, text, **fields)], False)


@pytest.mark.parametrize(("size", "fits"), [(1, True), (254, True), (255, False), (65_535, False)])
def test_a_payload_is_folded_into_short_message_where_it_fits(size: int, fits: bool) -> None:
    text = b"x" * size
    whole = short(Command.SUBMIT_SM, text) if fits else None
    assert older.submitted(short(Command.SUBMIT_SM, b"", payload(text))) == whole
    if fits:
        assert older.delivered(short(Command.DELIVER_SM, b"", payload(text)), 0, 0).frames == [
            short(Command.DELIVER_SM, text)
        ]


def test_a_data_sm_becomes_the_other_kind() -> None:
    raw = data(tlv(0x17, (90_000).to_bytes(4, "big")) + payload(b"hello"), esm=0x40, coding=8)
    sent = Sm(older.submitted(raw) or b"")
    assert (sent.command, sent.sequence, sent.tlvs) == (Command.SUBMIT_SM, 7, [])
    assert (sent.service_type, sent.source_field, sent.destination_field) == (b"WAP", SOURCE, DESTINATION)
    assert (sent.esm_class, sent.registered, sent.data_coding, sent.short_message) == (0x40, 1, 8, b"hello")
    assert (sent.validity, sent.schedule) == (b"000001010000000R", b"")
    (brought,) = older.delivered(raw, 0, 0).frames
    assert Sm(brought).command == Command.DELIVER_SM and Sm(brought).validity == b""
    long = older.submitted(data(payload(b"x"), source=b"\5\0" + b"A" * 60 + b"\0"))
    assert Sm(long or b"").source_digits == b"A" * 20


def test_the_place_of_a_sar_part_goes_into_a_header() -> None:
    sar = tlv(0x20C, b"\1\x2c") + tlv(0x20E, b"\2") + tlv(0x20F, b"\1")
    for frame in (
        older.submitted(short(Command.SUBMIT_SM, b"part", sar)) or b"",
        *older.delivered(short(Command.DELIVER_SM, b"part", sar), 0, 0).frames,
    ):
        sm = Sm(frame)
        udh = parse_udh(sm.short_message)
        assert udh is not None and udh.concat is not None and sm.esm_class == 0x40
        assert (udh.concat.ref, udh.concat.total, udh.concat.seq) == (300, 2, 1)
        assert sm.short_message[udh.length :] == b"part"


def test_a_receipt_that_says_all_in_tlvs_gets_a_text() -> None:
    tlvs = tlv(0x1E, b"0123456789abcdef\0") + tlv(0x427, b"\5") + tlv(0x423, b"\3\0\x45")
    (frame,) = older.delivered(short(Command.DELIVER_SM, b"", tlvs, esm_class=4), NOON, NOON + 60).frames
    sm = Sm(frame)
    assert sm.short_message == write(
        b"0123456789abcdef", MessageState.UNDELIVERABLE, submitted=NOON, done=NOON + 60, err=b"069"
    )
    assert sm.tlvs == [] and sm.esm_class == 4
    for broken in (b"", b"\x63"):
        odd = tlv(0x1E, b"1\0") + tlv(0x427, broken)
        receipt = parse(Sm(older.delivered(data(odd, esm=4), NOON, NOON).frames[0]).short_message)
        assert receipt is not None and receipt.state is MessageState.UNKNOWN


ID = b"0123456789abcdef"
NAMED, DELIVERED = tlv(0x1E, ID + b"\0"), tlv(0x427, b"\2")
TOLD = write(ID, MessageState.DELIVERED, submitted=NOON, done=NOON + 60)
DATES = b"submit date:2601020304 done date:260102030506"
HEADER_OCTETS = b"\5\0\3\7\1\1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"hello", TOLD + b"hello"),
        (b"Order id:991 is ready", TOLD + b"Order id:991 is ready"),
        (b"your stat:EXPIRED", TOLD + b"your stat:EXPIRED"),
        (b"id:" + ID, TOLD),
        (b"id:%b err:007 text:hi" % ID, TOLD.replace(b"err:000", b"err:007") + b"hi"),
        (
            b"id:%b sub:002 dlvrd:002 %b err:000 text:hi" % (ID, DATES),
            b"id:%b sub:002 dlvrd:002 %b stat:DELIVRD err:000 text:hi" % (ID, DATES),
        ),
        (b"id:%b stat:TRYING" % ID, b"id:%b stat:TRYING" % ID),
        (b"stat:DELIVRD id:%b" % ID, b"stat:DELIVRD id:%b" % ID),
        (b"z" * 254, (TOLD + b"z" * 254)[:254]),
    ],
)
def test_a_receipt_has_its_id_and_its_state_in_the_text(text: bytes, told: bytes) -> None:
    for frame in (
        short(Command.DELIVER_SM, text, NAMED + DELIVERED, esm_class=4),
        short(Command.DELIVER_SM, b"", payload(text) + NAMED + DELIVERED, esm_class=4),
        data(payload(text) + NAMED + DELIVERED, esm=4),
        short(Command.DELIVER_SM, text, DELIVERED + NAMED, esm_class=4),
    ):
        (one,) = older.delivered(frame, NOON, NOON + 60).frames
        assert Sm(one).short_message == told and Sm(one).tlvs == []


def test_the_header_and_the_alphabet_of_a_receipt_stay() -> None:
    behind = short(Command.DELIVER_SM, HEADER_OCTETS + b"hello", NAMED + DELIVERED, esm_class=0x44)
    (one,) = older.delivered(behind, NOON, NOON + 60).frames
    assert Sm(one).short_message == HEADER_OCTETS + TOLD + b"hello" and Sm(one).esm_class == 0x44
    wide = short(Command.DELIVER_SM, "h\xe9".encode("utf-16-be"), NAMED + DELIVERED, esm_class=4, data_coding=8)
    (one,) = older.delivered(wide, NOON, NOON + 60).frames
    assert Sm(one).short_message == (TOLD.decode() + "h\xe9").encode("utf-16-be") and Sm(one).data_coding == 8


def test_an_id_in_the_text_and_a_state_beside_it() -> None:
    for text in (b"id:" + ID, b"id:%b text:" % ID):
        (one,) = older.delivered(short(Command.DELIVER_SM, text, DELIVERED, esm_class=4), NOON, NOON + 60).frames
        assert Sm(one).short_message == TOLD
    for text in (b"hello", b"id:" + ID):
        untold = short(Command.DELIVER_SM, text, tlv(0x1400, b"x"), esm_class=4)
        (one,) = older.delivered(untold, NOON, NOON + 60).frames
        assert Sm(one).short_message == text, "nothing says more"


def test_a_message_from_a_handset_is_no_receipt_whatever_tlvs_it_has() -> None:
    (one,) = older.delivered(short(Command.DELIVER_SM, b"hello", NAMED + DELIVERED), NOON, NOON).frames
    assert Sm(one).short_message == b"hello"


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(st.binary(max_size=255), st.text("id:statex 0123", max_size=60).map(str.encode)),
    st.integers(0, 255),
    st.sampled_from([0, 3, 4, 8]),
    st.booleans(),
    st.binary(min_size=1, max_size=80).filter(lambda name: b"\0" not in name),
)
def test_any_receipt_says_its_id_in_a_text_that_fits(
    text: bytes, state: int, coding: int, header: bool, name: bytes
) -> None:
    esm = 0x44 if header else 4
    tlvs = tlv(0x1E, name + b"\0") + tlv(0x427, bytes((state,)))
    raw = short(Command.DELIVER_SM, text, tlvs, esm_class=esm, data_coding=coding)
    (one,) = older.delivered(raw, NOON, NOON).frames
    short_message = Sm(one).short_message
    assert Sm(one).tlvs == [] and len(short_message) <= max(254, len(text))
    if not header:
        assert b"id:" in short_message.replace(b"\0", b"").lower()


def test_a_long_receipt_is_cut_behind_its_text() -> None:
    text = write(b"0123456789abcdef", MessageState.DELIVERED, submitted=NOON, done=NOON, text=b"") + b"y" * 300
    (frame,) = older.delivered(short(Command.DELIVER_SM, b"", payload(text), esm_class=4), 0, 0).frames
    assert Sm(frame).short_message == text[:254]
    (frame,) = older.delivered(short(Command.DELIVER_SM, b"", payload(b"z" * 300), esm_class=4), 0, 0).frames
    assert Sm(frame).short_message == b"z" * 254


_TEXTS = st.one_of(
    st.binary(min_size=255, max_size=3000).map(lambda text: (0, text)),
    st.binary(min_size=255, max_size=3000).map(lambda text: (4, text)),
    st.text(min_size=130, max_size=1200).map(lambda text: (8, text.encode("utf-16-be", "surrogatepass"))),
)


@settings(deadline=None, max_examples=200)
@given(_TEXTS, st.booleans())
def test_a_long_text_becomes_parts_that_give_it_back(given_text: tuple[int, bytes], header: bool) -> None:
    coding, text = given_text
    port = b"\6\5\4\x0b\x84\x23\xf0" if header else b""
    raw = short(
        Command.DELIVER_SM,
        b"",
        payload(port + text),
        data_coding=coding,
        esm_class=0x40 if header else 0,
        protocol_id=9,
    )
    frames, cut = older.delivered(raw, 0, 0)
    if len(port + text) <= 254:
        assert len(frames) == 1
        return
    joined, references = b"", set()
    for number, frame in enumerate(frames, 1):
        sm = Sm(frame)
        udh = parse_udh(sm.short_message)
        assert udh is not None and udh.concat is not None and sm.esm_class & 0x40
        assert (udh.concat.total, udh.concat.seq) == (len(frames), number)
        assert udh.ports == ((0x0B84, 0x23F0) if header else None)
        references.add(udh.concat.ref)
        piece = sm.short_message[udh.length :]
        assert len(piece) <= ((140 - udh.length) * 8 // 7 if coding == 0 else 140 - udh.length)
        if coding == 8 and number < len(frames):
            assert not len(piece) % 2 and not 0xD8 <= piece[-2] <= 0xDB
        assert (sm.command, sm.tlvs, sm.protocol_id, sm.source_field) == (Command.DELIVER_SM, [], 9, SOURCE)
        joined += piece
    assert joined == text and len(references) == 1 and not cut
    assert older.delivered(raw, 0, 0).frames == frames, "sent again, it must be the same parts"


def test_a_text_of_more_than_255_parts_is_cut_and_says_so() -> None:
    frames, cut = older.delivered(short(Command.DELIVER_SM, b"", payload(b"x" * 65_535)), 0, 0)
    assert cut and len(frames) == 255
    udh = parse_udh(Sm(frames[-1]).short_message)
    assert udh is not None and udh.concat is not None and (udh.concat.total, udh.concat.seq) == (255, 255)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400), st.sampled_from([Command.SUBMIT_SM, Command.DELIVER_SM, Command.DATA_SM]), st.data())
def test_nothing_that_can_be_read_raises(text: bytes, command: int, draw: st.DataObject) -> None:
    pick = draw.draw
    tags = st.sampled_from([0x1E, 0x427, 0x423, 0x20C, 0x20E, 0x20F, 0x17, 0x1400])
    chosen = pick(st.lists(tags, unique=True, max_size=6))
    tlvs = b"".join(tlv(tag, pick(st.binary(max_size=5))) for tag in chosen) + payload(text)
    esm, coding = pick(st.integers(0, 255)), pick(st.integers(0, 255))
    raw = (
        data(tlvs, esm=esm, coding=coding)
        if command == Command.DATA_SM
        else short(command, text[:255] if pick(st.booleans()) else b"", tlvs, esm_class=esm, data_coding=coding)
    )
    frames = [older.submitted(raw) or b"", *older.delivered(raw, NOON, NOON).frames]
    for frame in frames:
        if frame:
            assert HEADER.unpack_from(frame)[0] == len(frame)
            assert Sm(frame).at_tlvs == len(frame)
