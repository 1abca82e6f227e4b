"""Frames, fields by offset, TLVs and splicing: bytes in, the same bytes out; and smpp.pdu as a second opinion."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smpp.pdu import constants, operations, pdu_types
from smpp.pdu.pdu_encoding import PDUEncoder

from smppd.protocol.wire import (
    MAX_TLVS,
    BodyError,
    Command,
    Fields,
    FrameError,
    Sm,
    Splitter,
    Status,
    Tag,
    address_field,
    build_sm,
    command_name,
    id_response,
    pdu,
    read_tlvs,
    refusal,
    splice,
    status_name,
    status_value,
    tlv,
    with_sequence,
)

SOURCE = address_field(1, 1, b"447700900123")
DESTINATION = address_field(1, 1, b"447700900456")
OTHER = address_field(5, 0, b"EXAMPLE")
VALIDITY = b"000003000000000R"
SCHEDULE = b"261231235959000+"

octet = st.integers(0, 255)
digits = st.binary(max_size=20).map(lambda data: data.replace(b"\0", b"1"))
addresses = st.builds(address_field, octet, octet, digits)
tlvs = st.lists(
    st.tuples(st.integers(0x1400, 0x3FFF), st.binary(max_size=40)), max_size=8
)  # vendor tags, which may repeat
fields = st.builds(
    Fields,
    service_type=st.sampled_from([b"", b"CMT", b"VMN", b"12345"]),
    esm_class=octet,
    protocol_id=octet,
    priority=octet,
    schedule=st.sampled_from([b"", SCHEDULE]),
    validity=st.sampled_from([b"", VALIDITY]),
    registered=octet,
    replace_if_present=st.sampled_from([0, 1]),
    data_coding=octet,
    default_message=octet,
)
frames = st.builds(
    lambda command, sequence, source, destination, text, fields, tlvs: build_sm(
        command, sequence, source, destination, text, fields, b"".join(tlv(*one) for one in tlvs)
    ),
    st.sampled_from([Command.SUBMIT_SM, Command.DELIVER_SM]),
    st.integers(1, 0x7FFFFFFF),
    addresses,
    addresses,
    st.binary(max_size=255),
    fields,
    tlvs,
)


def data_sm(tail: bytes = b"", digits: bytes = b"447700900456", sequence: int = 7) -> bytes:
    body = b"CMT\0" + SOURCE + address_field(1, 1, digits) + bytes((0x40, 1, 8)) + tail
    return pdu(Command.DATA_SM, 0, sequence, body)


# -- the stream ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(
    bodies=st.lists(st.binary(max_size=60), max_size=12),
    cuts=st.lists(st.integers(0, 1000), max_size=12),
    tail=st.integers(0, 15),
    most=st.sampled_from([1, 2, 1 << 30]),
)
def test_any_split_of_any_stream_gives_the_same_frames(
    bodies: list[bytes], cuts: list[int], tail: int, most: int
) -> None:
    wanted = [pdu(4, 0, n, body) for n, body in enumerate(bodies)]
    stream = b"".join(wanted) + pdu(4, 0, 99)[:tail]
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    splitter = Splitter(100)
    found: list[bytes] = []
    for start, stop in pairwise(edges):
        found += splitter.feed(stream[start:stop], most)
    while more := splitter.feed(b"", most):
        assert len(more) <= most
        found += more
    assert (found, splitter.pending, splitter.fault) == (wanted, tail, None)


@settings(deadline=None, max_examples=100)
@given(chunks=st.lists(st.binary(max_size=50), max_size=10))
def test_no_stream_raises_and_nothing_is_kept_beyond_a_frame(chunks: list[bytes]) -> None:
    splitter = Splitter(64)
    for chunk in chunks:
        splitter.feed(chunk)
        assert splitter.pending < 64
        assert splitter.fault is None or splitter.pending == 0


@pytest.mark.parametrize("length", [0, 4, 15, 513, 70_000, 0x47455420, 0xFFFFFFFF])
def test_a_length_is_judged_from_its_four_octets(length: int) -> None:
    splitter = Splitter(512)
    good = pdu(0x15, 0, 1)
    assert splitter.feed(good + length.to_bytes(4)[:3]) == [good]
    assert (splitter.pending, splitter.fault) == (3, None)
    assert splitter.feed(length.to_bytes(4)[3:]) == []
    assert isinstance(splitter.fault, FrameError)
    assert str(splitter.fault) == f"command_length {length} is outside 16..512"
    assert (splitter.feed(good), splitter.pending) == ([], 0)


@pytest.mark.parametrize("length", [16, 17, 512])
def test_the_ends_of_the_limit_are_inside(length: int) -> None:
    frame = pdu(4, 0, 1, bytes(length - 16))
    assert Splitter(512).feed(frame) == [frame]


def test_the_limit_may_change_between_frames() -> None:
    splitter = Splitter(512)
    small, large = pdu(9, 0, 1), pdu(4, 0, 2, bytes(5000))
    assert splitter.feed(small + large, 1) == [small]
    splitter.limit = 65536
    assert splitter.feed(b"", 1) == [large]


# -- names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", Command)
def test_commands_are_those_of_the_library(command: Command) -> None:
    assert constants.command_id_name_map[command.name.lower()] == command
    assert command_name(command) == command.name.lower()


@pytest.mark.parametrize("status", Status)
def test_statuses_are_those_of_the_library(status: Status) -> None:
    assert constants.command_status_name_map[f"ESME_{status.name}"] == status
    assert status_name(status) == f"ESME_{status.name}"
    assert status_value(f"ESME_{status.name}") == status


@pytest.mark.parametrize("tag", Tag)
def test_tags_are_those_of_the_library(tag: Tag) -> None:
    assert constants.tag_name_map[tag.name.lower()] == tag


def test_all_commands_of_the_library_are_ours() -> None:
    assert {int(command) for command in Command} == set(constants.command_id_value_map)


def test_names_of_what_has_none() -> None:
    assert (command_name(0xABC), status_name(0x400)) == ("0x00000abc", "0x00000400")
    assert (status_value("ESME_RNOSUCH"), status_value("RESERVEDSTATUS")) == (None, None)


# -- reading -------------------------------------------------------------------------------------------------------------


def test_every_field_of_a_submit_sm() -> None:
    given_fields = Fields(b"CMT", 0x43, 17, 3, SCHEDULE, VALIDITY, 0x11, 1, 8, 9)
    sm = Sm(build_sm(4, 77, SOURCE, OTHER, b"text", given_fields, tlv(0x1400, b"1") + tlv(0x1400, b"2")))
    assert (sm.command, sm.sequence, sm.service_type) == (4, 77, b"CMT")
    assert (sm.source_ton, sm.source_npi, sm.source_digits, sm.source_field) == (1, 1, b"447700900123", SOURCE)
    assert (sm.destination_ton, sm.destination_npi, sm.destination_digits) == (5, 0, b"EXAMPLE")
    assert sm.destination_field == OTHER
    assert (sm.esm_class, sm.protocol_id, sm.priority, sm.schedule, sm.validity) == (0x43, 17, 3, SCHEDULE, VALIDITY)
    assert (sm.registered, sm.replace_if_present, sm.data_coding) == (0x11, True, 8)
    assert (sm.short_message, sm.body, sm.tlvs) == (b"text", b"text", [(0x1400, b"1"), (0x1400, b"2")])
    assert (sm.tlv(0x1400), sm.tlv(0x1401)) == (b"1", None)
    assert repr(sm) == f"<submit_sm of {len(sm.raw)} octets>"


def test_every_field_of_a_data_sm() -> None:
    sm = Sm(data_sm(tlv(Tag.MESSAGE_PAYLOAD, b"text") + tlv(0x1401, b"")))
    assert (sm.command, sm.service_type, sm.esm_class, sm.registered, sm.data_coding) == (0x103, b"CMT", 0x40, 1, 8)
    assert (sm.protocol_id, sm.priority, sm.schedule, sm.validity, sm.replace_if_present) == (0, 0, b"", b"", False)
    assert (sm.short_message, sm.body, sm.tlvs) == (b"", b"text", [(0x424, b"text"), (0x1401, b"")])
    assert Sm(data_sm()).body == b""


def test_addresses_of_a_data_sm_may_have_64_characters() -> None:
    assert Sm(data_sm(digits=b"x" * 64)).destination_digits == b"x" * 64
    with pytest.raises(BodyError) as error:
        Sm(data_sm(digits=b"x" * 65))
    assert error.value.status == Status.RINVDSTADR


def test_short_message_stands_before_message_payload() -> None:
    payload = tlv(Tag.MESSAGE_PAYLOAD, b"payload")
    assert Sm(build_sm(4, 1, SOURCE, DESTINATION, b"short", tlvs=payload)).body == b"short"
    assert Sm(build_sm(4, 1, SOURCE, DESTINATION, b"", tlvs=payload)).body == b"payload"


LONG = address_field(1, 1, b"1" * 21)


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (build_sm(4, 1, SOURCE, DESTINATION, b"", Fields(b"123456")), Status.RINVSERTYP),
        (build_sm(4, 1, LONG, DESTINATION, b""), Status.RINVSRCADR),
        (build_sm(4, 1, SOURCE, LONG, b"x" * 9), Status.RINVDSTADR),
        (build_sm(4, 1, SOURCE, DESTINATION, b"", Fields(schedule=b"26123123595900+")), Status.RINVSCHED),
        (build_sm(4, 1, SOURCE, DESTINATION, b"", Fields(schedule=SCHEDULE + b"0")), Status.RINVSCHED),
        (build_sm(4, 1, SOURCE, DESTINATION, b"", Fields(validity=b"1")), Status.RINVEXPIRY),
        (build_sm(4, 1, SOURCE, DESTINATION, b"", Fields(validity=VALIDITY + b"0")), Status.RINVEXPIRY),
        (build_sm(4, 1, SOURCE, DESTINATION, b"hello")[:-1], Status.RINVMSGLEN),
        (pdu(4, 0, 1), Status.RINVMSGLEN),
        (b"", Status.RINVMSGLEN),
    ],
)
def test_a_wrong_body_has_its_status(frame: bytes, status: int) -> None:
    with pytest.raises(BodyError) as error:
        Sm(frame)
    assert error.value.status == status
    assert "4477" not in str(error.value)


@pytest.mark.parametrize(
    "frame", [build_sm(4, 1, SOURCE, DESTINATION, b"hi", Fields(b"CMT", 0, 0, 0, SCHEDULE, VALIDITY))]
)
def test_a_frame_that_ends_early_is_too_short_wherever_it_ends(frame: bytes) -> None:
    for length in range(len(frame)):
        with pytest.raises(BodyError) as error:
            Sm(frame[:length])
        assert error.value.status == Status.RINVMSGLEN, length


@settings(deadline=None, max_examples=200)
@given(command=st.sampled_from([4, 5, 0x103]), body=st.binary(max_size=120), head=st.booleans())
def test_no_bytes_raise_anything_but_a_body_error(command: int, body: bytes, head: bool) -> None:
    raw = pdu(command, 0, 1, body) if head else body
    try:
        sm = Sm(raw)
        assert sm.body is not None and sm.tlvs is not None
        assert not head or splice(sm) == raw
    except BodyError as error:
        assert error.status


@settings(deadline=None, max_examples=100)
@given(frame=frames, at=st.integers(16, 400), value=octet)
def test_a_frame_with_one_wrong_octet_is_read_or_refused(frame: bytes, at: int, value: int) -> None:
    at = 16 + at % (len(frame) - 16)
    raw = frame[:at] + bytes((value,)) + frame[at + 1 :]
    try:
        sm = Sm(raw)
    except BodyError:
        return
    # Whatever the octets mean, what is read is what stands there.
    assert splice(sm) == raw
    assert sm.service_type + b"\0" + sm.source_field + sm.destination_field == raw[16 : sm.at_flags]


# -- TLVs ----------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0x1400, 0xFFFF), st.binary(max_size=30)), max_size=MAX_TLVS))
def test_tlvs_keep_their_order_and_may_repeat_where_nobody_forbids_it(pairs: list[tuple[int, bytes]]) -> None:
    assert read_tlvs(b"".join(tlv(*pair) for pair in pairs), 0) == pairs


@pytest.mark.parametrize("tag", [0x0302, 0x0303, 0x0381])
def test_callback_numbers_may_repeat(tag: int) -> None:
    assert len(read_tlvs(tlv(tag, b"1") * 3, 0)) == 3


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x14", Status.RINVOPTPARSTREAM),
        (b"\x14\x00\x00", Status.RINVOPTPARSTREAM),
        (b"\x14\x00\x00\x02x", Status.RINVPARLEN),
        (tlv(0x1400, b"ok") + b"\xff\xff\xff\xff", Status.RINVPARLEN),
        (tlv(Tag.MESSAGE_PAYLOAD, b"a") * 2, Status.ROPTPARNOTALLWD),
        (tlv(0x1400, b"") * (MAX_TLVS + 1), Status.RINVOPTPARSTREAM),
    ],
)
def test_a_broken_tlv_stream_has_its_status_and_passes_if_nobody_looks(data: bytes, status: int) -> None:
    frame = build_sm(4, 1, SOURCE, DESTINATION, b"text", tlvs=data)
    sm = Sm(frame)
    for _ in range(2):
        with pytest.raises(BodyError) as error:
            _ = sm.tlvs
        assert error.value.status == status
    assert splice(sm, source=SOURCE) == frame


def test_so_many_tlvs_are_not_too_many() -> None:
    assert len(read_tlvs(tlv(0x1400, b"") * MAX_TLVS, 0)) == MAX_TLVS


# -- splicing ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(frame=frames, sequence=st.integers(0, 0xFFFFFFFF))
def test_another_sequence_number_and_nothing_else(frame: bytes, sequence: int) -> None:
    raw = with_sequence(frame, sequence)
    assert raw[:12] + raw[16:] == frame[:12] + frame[16:]
    assert Sm(raw).sequence == sequence


CHANGES: dict[str, Any] = {
    "source": OTHER,
    "destination": OTHER,
    "validity": b"000001020304000R",
    "schedule": b"270101000000000+",
    "registered": 0x5A,
    "data_coding": 0xF7,
    "short_message": b"another text",
}


def parts(sm: Sm) -> dict[str, Any]:
    """Every octet of a frame behind its length, by name."""
    raw = sm.raw
    return {
        "head": raw[4:16],
        "service_type": sm.service_type,
        "source": sm.source_field,
        "destination": sm.destination_field,
        "flags": raw[sm.at_flags : sm.at_schedule],
        "schedule": sm.schedule,
        "validity": sm.validity,
        "registered": sm.registered,
        "replace": raw[sm.at_sm - 4],
        "data_coding": sm.data_coding,
        "default": raw[sm.at_sm - 2],
        "length": raw[sm.at_sm - 1],
        "short_message": sm.short_message,
        "tlvs": raw[sm.at_tlvs :],
    }


@settings(deadline=None, max_examples=150)
@given(frame=frames, name=st.sampled_from(sorted(CHANGES)))
def test_one_field_changes_and_every_other_octet_stays(frame: bytes, name: str) -> None:
    sm = Sm(frame)
    assert splice(sm) == frame
    changed = splice(sm, **{name: CHANGES[name]})
    wanted = parts(sm) | {name: CHANGES[name]}
    wanted["length"] = len(wanted["short_message"])
    assert parts(Sm(changed)) == wanted
    assert int.from_bytes(changed[:4]) == len(changed)
    back = {name: parts(sm)[name]}
    assert splice(Sm(changed), **back) == frame


@settings(deadline=None, max_examples=100)
@given(pairs=tlvs, drop=st.integers(0x1400, 0x1402))
def test_tlvs_go_and_change_in_place(pairs: list[tuple[int, bytes]], drop: int) -> None:
    pairs = [(0x1400 + tag % 4, value) for tag, value in pairs]
    sm = Sm(build_sm(4, 1, SOURCE, DESTINATION, b"x", tlvs=b"".join(tlv(*pair) for pair in pairs)))
    left = Sm(splice(sm, drop=frozenset({drop}), replace={0x1403: b"new", 0x3FFF: b"absent"}))
    assert left.tlvs == [(tag, b"new" if tag == 0x1403 else value) for tag, value in pairs if tag != drop]
    assert left.raw[16 : left.at_tlvs] == sm.raw[16 : sm.at_tlvs]


@settings(deadline=None, max_examples=100)
@given(pairs=tlvs, put=st.dictionaries(st.integers(0x1400, 0x1405), st.binary(max_size=10), min_size=1))
def test_tlvs_are_put_in_their_place_or_behind(pairs: list[tuple[int, bytes]], put: dict[int, bytes]) -> None:
    pairs = [(0x1400 + tag % 4, value) for tag, value in pairs]
    sm = Sm(build_sm(4, 1, SOURCE, DESTINATION, b"x", tlvs=b"".join(tlv(*pair) for pair in pairs)))
    wanted: list[tuple[int, bytes]] = []
    for tag, value in pairs:
        if tag not in put:
            wanted.append((tag, value))
        elif (tag, put[tag]) not in wanted:
            wanted.append((tag, put[tag]))
    wanted += [(tag, value) for tag, value in put.items() if (tag, value) not in wanted]
    changed = Sm(splice(sm, put=put))
    assert changed.tlvs == wanted
    assert changed.raw[16 : changed.at_tlvs] == sm.raw[16 : sm.at_tlvs]


def test_a_data_sm_is_spliced_where_it_has_the_field() -> None:
    tail = tlv(Tag.MESSAGE_PAYLOAD, b"text") + tlv(0x1400, b"1")
    raw = data_sm(tail)
    assert splice(Sm(raw), validity=VALIDITY, schedule=SCHEDULE, short_message=b"none") == raw
    changed = Sm(splice(Sm(raw), source=OTHER, registered=2, data_coding=4, replace={0x424: b"longer text"}))
    assert (changed.source_field, changed.esm_class, changed.registered, changed.data_coding) == (OTHER, 0x40, 2, 4)
    assert changed.tlvs == [(0x424, b"longer text"), (0x1400, b"1")]


def test_a_text_of_255_octets_and_no_more() -> None:
    sm = Sm(build_sm(4, 1, SOURCE, DESTINATION, b"x" * 255))
    assert len(Sm(splice(sm, short_message=b"y" * 255)).short_message) == 255
    with pytest.raises(BodyError) as error:
        splice(sm, short_message=b"y" * 256)
    assert error.value.status == Status.RINVMSGLEN
    with pytest.raises(ValueError, match="range"):
        build_sm(4, 1, SOURCE, DESTINATION, b"x" * 256)


def test_a_spliced_error_keeps_its_status() -> None:
    frame = bytearray(build_sm(4, 1, SOURCE, DESTINATION, b"x"))
    frame[11] = 0x58
    assert splice(Sm(bytes(frame))) == bytes(frame)


# -- a second opinion ----------------------------------------------------------------------------------------------------


def library(raw: bytes) -> Any:
    return PDUEncoder().decode(BytesIO(raw))


def test_what_we_build_the_library_reads() -> None:
    raw = build_sm(4, 5, SOURCE, OTHER, b"text", Fields(b"CMT", 0, 0, 1, b"", VALIDITY, 1, 0, 3))
    read = library(raw)
    assert (read.id.name, read.seqNum) == ("submit_sm", 5)
    assert (read.params["source_addr"], read.params["destination_addr"]) == (b"447700900123", b"EXAMPLE")
    assert (read.params["dest_addr_ton"].name, read.params["short_message"]) == ("ALPHANUMERIC", b"text")
    assert read.params["service_type"] == b"CMT"
    assert PDUEncoder().encode(read) == raw


def test_what_the_library_writes_we_read() -> None:
    for kind, command in ((operations.SubmitSM, 4), (operations.DeliverSM, 5)):
        raw = PDUEncoder().encode(
            kind(
                seqNum=9,
                service_type=b"VMN",
                source_addr_ton=pdu_types.AddrTon.INTERNATIONAL,
                source_addr_npi=pdu_types.AddrNpi.ISDN,
                source_addr=b"447700900123",
                destination_addr=b"12125550100",
                short_message=b"text",
                sar_total_segments=2,
                user_message_reference=4711,
            )
        )
        sm = Sm(raw)
        assert (sm.command, sm.sequence, sm.service_type, sm.short_message) == (command, 9, b"VMN", b"text")
        assert (sm.source_field, sm.destination_digits) == (SOURCE, b"12125550100")
        assert sorted(sm.tlvs) == [(0x0204, (4711).to_bytes(2)), (0x020E, b"\x02")]
        assert splice(sm) == raw
    sm = Sm(PDUEncoder().encode(operations.DataSM(seqNum=3, source_addr=b"1", message_payload=b"text")))
    assert (sm.command, sm.source_digits, sm.body) == (0x103, b"1", b"text")


def test_responses_are_read_by_the_library() -> None:
    read = library(id_response(Command.SUBMIT_SM, 8, b"0123456789abcdef"))
    assert (read.id.name, read.seqNum, read.params["message_id"]) == ("submit_sm_resp", 8, b"0123456789abcdef")
    refused = library(refusal(Command.SUBMIT_SM, Status.RTHROTTLED, 8))
    assert (refused.status.name, refused.seqNum) == ("ESME_RTHROTTLED", 8)
    assert library(id_response(Command.DELIVER_SM, 8, b"")).id.name == "deliver_sm_resp"


def test_a_refusal_may_carry_its_reason() -> None:
    raw = refusal(Command.DATA_SM, Status.RSUBMITFAIL, 3, "refused " * 100)
    assert raw[4:17] == bytes.fromhex("80000103 00000045 00000003 00")
    [(tag, value)] = read_tlvs(raw, 17)
    assert (tag, len(value), value[-1]) == (Tag.ADDITIONAL_STATUS_INFO_TEXT, 256, 0)
