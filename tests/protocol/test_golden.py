"""Frames kept as files pass through byte for byte: vendor TLVs, reserved values, the largest bodies."""

from __future__ import annotations

from pathlib import Path

import pytest

from smppd.protocol.session import Role, Session, SessionState, Timers
from smppd.protocol.wire import BodyError, Command, Sm, Splitter, Status, Tag, pdu, splice, with_sequence

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.hex"))
FRAMES = {file.stem: bytes.fromhex(file.read_text("ascii")) for file in FILES}


def test_the_page_names_every_frame() -> None:
    page = (GOLDEN / "README.md").read_text("utf-8")
    assert len(FILES) >= 16
    assert [name for name in FRAMES if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", FRAMES)
def test_it_passes_byte_for_byte(name: str) -> None:
    raw = FRAMES[name]
    for size in (1 if len(raw) < 1000 else 977, len(raw)):
        splitter = Splitter(65536)
        frames = [frame for at in range(0, len(raw), size) for frame in splitter.feed(raw[at : at + size])]
        assert frames == [raw]
    assert splice(Sm(raw)) == raw
    assert splice(Sm(raw), source=Sm(raw).source_field, registered=Sm(raw).registered) == raw
    other = with_sequence(raw, 0x7FFFFFFF)
    assert other != raw
    assert with_sequence(other, 0x01020304) == raw


@pytest.mark.parametrize("name", [name for name in FRAMES if not name.startswith("tlv_")])
def test_it_passes_when_its_tlvs_are_read(name: str) -> None:
    raw = FRAMES[name]
    assert splice(Sm(raw), drop=frozenset({0xFFFF}), replace={0xFFFE: b""}) == raw


@pytest.mark.parametrize("name", FRAMES)
def test_it_leaves_for_the_carrier_under_another_number_only(name: str) -> None:
    session = Session(Role.ESME, Timers(), 0.0)
    session.bind(pdu(Command.BIND_TRANSCEIVER, 0, 0), None, 0.0)
    session.receive(pdu(Command.BIND_TRANSCEIVER_RESP, 0, 1, b"\0"), 0.0)
    session.bound_as(Command.BIND_TRANSCEIVER)
    assert session.state is SessionState.BOUND_TRX
    session.take()
    sequence = session.request(FRAMES[name], None, 0.0)
    assert session.take() == with_sequence(FRAMES[name], sequence)


def test_what_is_in_them_is_found() -> None:
    vendor = Sm(FRAMES["vendor_tlvs"])
    assert [tag for tag, _ in vendor.tlvs] == [0x1400, 0x1401, 0x1402, 0x1400, 0x3FFF]
    assert vendor.tlv(0x1400) == b"1101234567890123456\0"
    assert len(Sm(FRAMES["message_payload_60000"]).body) == 60_000
    assert len(Sm(FRAMES["body_254"]).body) == 254
    reserved = Sm(FRAMES["reserved_ton_npi"])
    assert (reserved.source_ton, reserved.source_npi, reserved.destination_ton, reserved.destination_npi) == (
        7,
        15,
        255,
        12,
    )
    assert Sm(FRAMES["receipt"]).tlv(Tag.RECEIPTED_MESSAGE_ID) == b"0123456789abcdef\0"
    assert [tag for tag, _ in Sm(FRAMES["data_sm"]).tlvs] == [0x424, 0x1402, 0x381, 0x381]


@pytest.mark.parametrize(
    ("name", "status"), [("tlv_cut_short", Status.RINVPARLEN), ("tlv_twice", Status.ROPTPARNOTALLWD)]
)
def test_wrong_ones_are_refused_by_who_reads_them(name: str, status: int) -> None:
    with pytest.raises(BodyError) as error:
        splice(Sm(FRAMES[name]), drop=frozenset({0xFFFF}))
    assert error.value.status == status
