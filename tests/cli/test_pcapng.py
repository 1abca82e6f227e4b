"""What is written as pcapng is read back by a reader of the test's own: blocks, headers, checksums, order and octets."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.cli.pcapng import PORT, SEGMENT, PcapngWriter
from smppd.protocol.capture import Entry, Kind, opened

AT = 1_795_348_800_123_456


class Packet(NamedTuple):
    at: int
    source: str
    destination: str
    ports: tuple[int, int]
    sequence: int
    acknowledged: int
    flags: int
    data: bytes
    comment: str


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert size % 4 == 0 and struct.unpack_from("<I", data, at + size - 4) == (size,)
        yield kind, data[at + 8 : at + size - 4]
        at += size
    assert at == len(data)


def summed(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    return total % 0xFFFF


def packet(body: bytes) -> Packet:
    interface, high, low, size, original = struct.unpack_from("<IIIII", body)
    assert interface == 0 and size == original
    frame, rest = body[20 : 20 + size], body[20 + size + -size % 4 :]
    comment = ""
    if rest:
        code, length = struct.unpack_from("<HH", rest)
        assert code == 1 and rest[4 + length + -length % 4 :] == bytes(4)
        comment = rest[4 : 4 + length].decode()
    kind, ip = frame[12:14], frame[14:]
    if kind == b"\x08\x00":
        assert ip[0] == 0x45 and summed(ip[:20]) == 0 and struct.unpack_from("!H", ip, 2) == (len(ip),) and ip[9] == 6
        ends, segment = ip[12:20], ip[20:]
        pseudo = ends + struct.pack("!HH", 6, len(segment))
    else:
        assert (
            kind == b"\x86\xdd" and ip[0] == 0x60 and ip[6] == 6 and struct.unpack_from("!H", ip, 4) == (len(ip) - 40,)
        )
        ends, segment = ip[8:40], ip[40:]
        pseudo = ends + struct.pack("!II", len(segment), 6)
    assert summed(pseudo + segment) == 0
    half = len(ends) // 2
    source, destination, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", segment)
    assert offset == 0x50
    return Packet(
        high << 32 | low,
        str(ip_address(ends[:half])),
        str(ip_address(ends[half:])),
        (source, destination),
        sequence,
        acknowledged,
        flags,
        segment[20:],
        comment,
    )


def packets(entries: list[Entry]) -> list[Packet]:
    file = io.BytesIO()
    assert PcapngWriter(file).write(entries) == sum(one.kind in (2, 3) for one in entries)
    section, interface, *rest = blocks(file.getvalue())
    assert section[0] == 0x0A0D0D0A and section[1][:12] == struct.pack("<IHHi", 0x1A2B3C4D, 1, 0, -1)
    assert interface == (1, struct.pack("<HHI", 1, 0, 0))
    assert {kind for kind, _ in rest} <= {6}
    return [packet(body) for _, body in rest]


def session(number: int = 1, **facts: Any) -> Entry:
    said: dict[str, Any] = {
        "side": "customer",
        "peer": "192.0.2.7",
        "peer_port": 40001,
        "local": "192.0.2.1",
        "local_port": 3550,
        "tls": "",
    }
    return Entry(Kind.OPENED, number, AT, opened(said | facts))


PDUS = st.lists(
    st.tuples(st.sampled_from((Kind.RECEIVED, Kind.SENT)), st.binary(min_size=16, max_size=90)), max_size=12
)


@given(PDUS)
def test_both_directions_are_the_streams_that_they_were(pdus: list[tuple[Kind, bytes]]) -> None:
    found = packets([session(), *(Entry(kind, 1, AT + at, data) for at, (kind, data) in enumerate(pdus))])
    assert [one.flags for one in found[:3]] == [2, 18, 16]
    for kind, source, ports in ((Kind.RECEIVED, "192.0.2.7", (40001, PORT)), (Kind.SENT, "192.0.2.1", (PORT, 40001))):
        mine = [one for one in found[3:] if one.source == source]
        assert [one.data for one in mine] == [data for each, data in pdus if each is kind]
        expected = 1
        for one in mine:
            assert one.ports == ports and one.sequence == expected and one.flags == 24
            expected += len(one.data)
    assert [one.at for one in found[3:]] == [AT + at for at in range(len(pdus))]


def test_a_carrier_is_the_server_and_ipv6_takes_ipv4_along() -> None:
    found = packets(
        [
            session(side="carrier", peer="2001:db8::7", peer_port=2799, local_port=50001),
            Entry(Kind.SENT, 1, AT, bytes(16)),
        ]
    )
    assert "true port 2799" in found[0].comment
    assert (found[3].source, found[3].destination, found[3].ports) == (
        "::ffff:c000:201",
        "2001:db8::7",
        (50001, PORT),
    ) or (
        found[3].source,
        found[3].ports,
    ) == ("::ffff:192.0.2.1", (50001, PORT))


def test_a_long_pdu_takes_several_packets() -> None:
    data = bytes(range(256)) * 600
    found = packets([session(), Entry(Kind.RECEIVED, 1, AT, data)])[3:]
    assert b"".join(one.data for one in found) == data and max(len(one.data) for one in found) == SEGMENT


def test_what_is_not_in_the_octets_is_in_the_comments() -> None:
    bind = struct.pack(">IIII", 16, 9, 0, 1)
    entries = [
        session(tls="TLSv1.3"),
        Entry(Kind.RECEIVED, 1, AT, bind),
        Entry(Kind.BROKEN, 1, AT, bytes((Kind.RECEIVED,))),
        Entry(Kind.CLOSED, 1, AT, b"closed by peer"),
    ]
    found = packets(entries)
    assert found[0].comment == "session 1: customer, SMSC's true port 3550, TLSv1.3"
    assert [one.comment for one in found[3:]] == [
        "the password was blanked",
        "what followed from here was no SMPP, and was not kept",
        "closed: closed by peer",
    ]
    assert (found[4].source, found[5].flags) == ("192.0.2.7", 17)


def test_hostile_facts_harm_nothing_and_a_pdu_of_no_session_is_told() -> None:
    found = packets([session(peer="fe80::1%eth0", peer_port="x", local=None, local_port=70000)])
    assert found[0].source == "fe80::1" and found[0].ports == (0, PORT)
    with pytest.raises(ValueError, match="not opened"):
        packets([Entry(Kind.SENT, 1, AT, bytes(16))])
