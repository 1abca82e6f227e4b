"""The PDUs of the conversation itself, read and written; smpp.pdu reads what we write and writes what we read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smpp.pdu import operations as library
from smpp.pdu import pdu_types
from smpp.pdu.pdu_encoding import PDUEncoder

from smppd.protocol.operations import (
    MAX_FANOUT,
    Bind,
    bind_response,
    multi_response,
    query_response,
    read_bind,
    read_cancel,
    read_multi,
    read_query,
    read_replace,
    write_bind,
)
from smppd.protocol.wire import BodyError, Command, Sm, Status, Tag, address_field, pdu, tlv

SOURCE = address_field(1, 1, b"447700900123")
DESTINATION = address_field(1, 1, b"447700900456")
INTERNATIONAL = {"source_addr_ton": pdu_types.AddrTon.INTERNATIONAL, "source_addr_npi": pdu_types.AddrNpi.ISDN}
READERS: list[Callable[[bytes], object]] = [read_bind, read_query, read_cancel, read_replace, read_multi]


def encode(thing: Any) -> bytes:
    return bytes(PDUEncoder().encode(thing))


def decode(raw: bytes) -> Any:
    return PDUEncoder().decode(BytesIO(raw))


def status_of(reader: Callable[[bytes], object], raw: bytes) -> int:
    with pytest.raises(BodyError) as error:
        reader(raw)
    return error.value.status


@settings(deadline=None, max_examples=200)
@given(reader=st.sampled_from(READERS), body=st.binary(max_size=150), head=st.booleans())
def test_no_bytes_raise_anything_but_a_body_error(reader: Callable[[bytes], object], body: bytes, head: bool) -> None:
    try:
        reader(pdu(3, 0, 1, body) if head else body)
    except BodyError as error:
        assert error.status in set(Status)


# -- bind ----------------------------------------------------------------------------------------------------------------

BIND = Bind(Command.BIND_TRANSCEIVER, 7, b"acme", b"secret08", b"VMA", 0x34, 1, 1, b"44")


@pytest.mark.parametrize("command", sorted((Command.BIND_RECEIVER, Command.BIND_TRANSMITTER, Command.BIND_TRANSCEIVER)))
def test_a_bind_there_and_back(command: int) -> None:
    bind = BIND._replace(command=command)
    assert read_bind(write_bind(bind)) == bind


def test_a_bind_by_the_library() -> None:
    ours = decode(write_bind(BIND))
    assert (ours.id.name, ours.params["system_id"], ours.params["password"]) == (
        "bind_transceiver",
        b"acme",
        b"secret08",
    )
    assert (ours.params["interface_version"], ours.params["address_range"]) == (0x34, b"44")
    theirs = encode(
        library.BindTransmitter(seqNum=3, system_id=b"acme", password=b"pw", system_type=b"x", interface_version=0x34)
    )
    assert read_bind(theirs) == Bind(Command.BIND_TRANSMITTER, 3, b"acme", b"pw", b"x", 0x34, 0, 0, b"")


def test_a_bind_prints_no_password() -> None:
    assert repr(BIND) == "Bind(bind_transceiver, b'acme', version=0x34)"
    assert "secret" not in f"{BIND} {BIND!r} {[BIND]}" and "0x00000abc" in repr(BIND._replace(command=0xABC))


def test_longer_names_than_the_letter_says_are_read() -> None:
    long = BIND._replace(system_id=b"n" * 64, password=b"p" * 64)
    assert read_bind(write_bind(long)) == long
    assert status_of(read_bind, write_bind(BIND._replace(system_id=b"n" * 65))) == Status.RBINDFAIL
    assert status_of(read_bind, write_bind(BIND._replace(password=b"p" * 65))) == Status.RBINDFAIL


def test_a_bind_that_ends_early() -> None:
    raw = write_bind(BIND)
    needed = 16 + len(BIND.system_id + BIND.password + BIND.system_type) + 3
    for length in range(16, needed):
        assert status_of(read_bind, raw[:length]) == Status.RINVMSGLEN
    assert status_of(read_bind, raw[:15]) == Status.RINVCMDLEN
    # From here on all that names the customer is there; what is missing is 0, or empty.
    for length in range(needed, len(raw)):
        read = read_bind(raw[:length])
        assert read[:5] == BIND[:5]
        assert read.version == (BIND.version if length > needed else 0)
        assert BIND.address_range.startswith(read.address_range)
    assert status_of(read_bind, raw[: needed + 3] + b"1" * 65) == Status.RBINDFAIL


@pytest.mark.parametrize(("version", "told"), [(0x00, False), (0x33, False), (0x34, True), (0x50, True)])
def test_our_version_is_told_to_who_knows_the_field(version: int, told: bool) -> None:
    raw = bind_response(BIND._replace(version=version), 0, b"smppd", 0x34)
    assert raw[16:] == b"smppd\0" + (tlv(Tag.SC_INTERFACE_VERSION, b"\x34") if told else b"")
    read = decode(raw)
    assert (read.id.name, read.seqNum, read.params["system_id"]) == ("bind_transceiver_resp", 7, b"smppd")


def test_a_refused_bind_has_no_body() -> None:
    raw = bind_response(BIND, Status.RBINDFAIL, b"smppd", 0x34)
    assert raw == pdu(Command.BIND_TRANSCEIVER_RESP, Status.RBINDFAIL, 7)
    assert decode(raw).status.name == "ESME_RBINDFAIL"


# -- query, cancel, replace ----------------------------------------------------------------------------------------------


def test_a_query() -> None:
    raw = encode(library.QuerySM(seqNum=4, message_id=b"0123", source_addr=b"447700900123", **INTERNATIONAL))
    query = read_query(raw)
    assert query == (4, b"0123", (1, 1, b"447700900123"))
    assert repr(query) == "Query(sequence=4)"
    answer = decode(query_response(4, b"0123", b"261122004500000+", 2, 0))
    assert (answer.params["message_id"], answer.params["message_state"].name) == (b"0123", "DELIVERED")
    assert answer.params["final_date"].replace(tzinfo=None) == datetime(2026, 11, 22, 0, 45)  # noqa: DTZ001


def test_a_cancel() -> None:
    raw = encode(
        library.CancelSM(
            seqNum=4, service_type=b"CMT", source_addr=b"447700900123", destination_addr=b"EXAMPLE", **INTERNATIONAL
        )
    )
    cancel = read_cancel(raw)
    assert cancel == (4, b"CMT", b"", (1, 1, b"447700900123"), (0, 0, b"EXAMPLE"))
    assert repr(cancel) == "Cancel(sequence=4)"


def test_a_replace() -> None:
    # smpp.pdu has no codec for replace_sm and submit_multi.
    schedule, validity = b"261231235959000+", b"000003000000000R"
    body = b"0123\0" + SOURCE + schedule + b"\0" + validity + b"\0" + b"\x01\x00\x04text"
    replace = read_replace(pdu(Command.REPLACE_SM, 0, 4, body))
    assert replace == (4, b"0123", (1, 1, b"447700900123"), schedule, validity, 1, b"text")
    assert repr(replace) == "Replace(sequence=4)"
    assert status_of(read_replace, pdu(7, 0, 1, body[:-1])) == Status.RINVMSGLEN


@pytest.mark.parametrize(
    ("schedule", "validity", "status"),
    [(b"123", b"", Status.RINVSCHED), (b"", b"0" * 15, Status.RINVEXPIRY), (b"", b"0" * 17, Status.RINVEXPIRY)],
)
def test_a_replace_with_a_wrong_time(schedule: bytes, validity: bytes, status: int) -> None:
    body = b"0123\0" + SOURCE + schedule + b"\0" + validity + b"\0" + b"\1\0\4text" + bytes(20)
    assert status_of(read_replace, pdu(7, 0, 1, body)) == status


def test_addresses_of_20_characters_and_no_more() -> None:
    assert read_query(pdu(3, 0, 1, b"1\0" + address_field(1, 1, b"1" * 20))).source == (1, 1, b"1" * 20)
    assert status_of(read_query, pdu(3, 0, 1, b"1\0" + address_field(1, 1, b"1" * 21))) == Status.RINVSRCADR


# -- submit_multi --------------------------------------------------------------------------------------------------------


def multi(destinations: list[bytes], text: bytes = b"text", tail: bytes = b"", count: int | None = None) -> bytes:
    number = bytes((len(destinations) if count is None else count,))
    flags = b"\x43\x11\x02" + b"261231235959000+\0" + b"000003000000000R\0" + bytes((1, 0, 8, 9, len(text)))
    return pdu(0x21, 0, 5, b"CMT\0" + SOURCE + number + b"".join(destinations) + flags + text + tail)


ONE = b"\1" + DESTINATION


def test_a_submit_multi_is_one_submit_sm_a_destination() -> None:
    second = address_field(1, 1, b"12125550100")
    tail = tlv(0x1400, b"1101") + tlv(0x0204, b"\0\1")
    read = read_multi(multi([ONE, b"\1" + second], tail=tail))
    assert (read.sequence, len(read.frames), repr(read)) == (5, 2, "Multi(sequence=5, destinations=2)")
    for frame, destination in zip(read.frames, (DESTINATION, second), strict=True):
        sm = Sm(frame)
        assert (sm.command, sm.sequence, sm.service_type, sm.source_field) == (4, 5, b"CMT", SOURCE)
        assert (sm.destination_field, sm.short_message) == (destination, b"text")
        # All that stood between the destinations and the text, sm_default_msg_id too, and the TLVs as they came.
        assert frame[sm.at_flags : sm.at_sm] == multi([])[16 + 4 + len(SOURCE) + 1 : -4]
        assert frame[sm.at_tlvs :] == tail


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (multi([]), Status.RINVNUMDESTS),
        (multi([ONE], count=255), Status.RINVNUMDESTS),
        (multi([b"\2friends\0"]), Status.RINVDESTFLAG),
        (multi([b"\0" + DESTINATION]), Status.RINVDESTFLAG),
        (multi([b"\1" + address_field(1, 1, b"1" * 21)]), Status.RINVDSTADR),
        (multi([ONE])[:-1], Status.RINVMSGLEN),
        (multi([ONE], tail=b"\x14\x00\x00\x09"), Status.RINVPARLEN),
        (multi([ONE] * 20, tail=tlv(Tag.MESSAGE_PAYLOAD, bytes(60_000))), Status.RINVNUMDESTS),
    ],
)
def test_a_wrong_submit_multi_has_its_status(raw: bytes, status: int) -> None:
    assert status_of(read_multi, raw) == status


def test_254_long_messages_are_taken_and_memory_is_bounded() -> None:
    assert len(read_multi(multi([ONE] * 254, text=b"x" * 255)).frames) == 254
    most = read_multi(multi([ONE] * 17, text=b"", tail=tlv(Tag.MESSAGE_PAYLOAD, bytes(60_000)))).frames
    assert sum(map(len, most)) < MAX_FANOUT + 17 * 100


def test_the_answer_to_a_submit_multi_names_who_was_refused() -> None:
    raw = multi_response(5, b"0123", [(DESTINATION, Status.RINVDSTADR)])
    assert raw == pdu(0x80000021, 0, 5, b"0123\0\1" + DESTINATION + b"\0\0\0\x0b")
    assert multi_response(5, b"0123", [])[16:] == b"0123\0\0"
    full = multi_response(5, b"0123", [(DESTINATION, 8)] * 300)
    assert (full[21], len(full)) == (255, 22 + 255 * (len(DESTINATION) + 4))
