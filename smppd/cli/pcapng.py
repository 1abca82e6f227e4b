"""Writes a trace as pcapng (draft-ietf-opsawg-pcapng), for Wireshark and its kin.

A PDU was read from a stream, often from within TLS, so there are no packets to show: each PDU becomes an Ethernet frame with
IP and TCP headers as they might have been, right in addresses, sequence numbers and checksums. Whoever is the SMSC in a
session has port 2775, by which dissectors know SMPP; its true port is in the comment on the session's first packet.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, BinaryIO, Final

from smppd import __version__
from smppd.protocol.capture import Entry, Kind, facts_of

PORT: Final = 2775
SEGMENT: Final = 60_000
"""Octets of a PDU in one packet: a longer one, which IPv4 cannot carry, takes several."""
_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_PACKET: Final = 6
_ETHERNET: Final = 1
_COMMENT: Final = 1
_APPLICATION: Final = 4
_FIN, _SYN, _PSH, _ACK = 1, 2, 8, 16
_SECRET: Final = frozenset((0x1, 0x2, 0x9, 0xB))
_MACS: Final = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))  # locally administered

_Address = IPv4Address | IPv6Address


class _Session:
    """One connection: where the peer (0) and we (1) are, and how far each has sent."""

    def __init__(self, facts: dict[str, Any]) -> None:
        ends = [_address(facts.get("peer")), _address(facts.get("local"))]
        if any(isinstance(one, IPv6Address) for one in ends):
            ends = [_mapped(one) for one in ends]
        self.addresses: list[_Address] = ends
        true = [_port(facts.get("peer_port")), _port(facts.get("local_port"))]
        self.server = 0 if facts.get("side") == "carrier" else 1
        self.ports = list(true)
        self.ports[self.server] = PORT
        self.next = [0, 0]
        self.facts = f"{facts.get('side')}, SMSC's true port {true[self.server]}, {facts.get('tls') or 'no TLS'}"


class PcapngWriter:
    """Writes to a file. ValueError where the entries are none of a trace."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sessions: dict[int, _Session] = {}
        application = _option(_APPLICATION, f"smppd {__version__}") + _option(0, "")
        self._block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + application)
        self._block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, 0))

    def write(self, entries: Iterable[Entry]) -> int:
        """All of some entries, in their order; how many PDUs are among them."""
        pdus = 0
        for entry in entries:
            self._entry(entry)
            pdus += entry.kind in (Kind.RECEIVED, Kind.SENT)
        return pdus

    def _entry(self, entry: Entry) -> None:
        kind, at = entry.kind, entry.at
        if kind is Kind.OPENED:
            session = self._sessions[entry.session] = _Session(facts_of(entry))
            client = 1 - session.server
            self._packet(session, client, at, _SYN, b"", f"session {entry.session}: {session.facts}")
            session.next[client] = 1
            self._packet(session, session.server, at, _SYN | _ACK, b"")
            session.next[session.server] = 1
            self._packet(session, client, at, _ACK, b"")
            return
        found = self._sessions.get(entry.session)
        if found is None:
            raise ValueError("a trace has a PDU of a session that was not opened")
        if kind is Kind.CLOSED:
            self._packet(found, 1, at, _FIN | _ACK, b"", "closed: " + entry.data.decode("utf-8", "replace"))
        elif kind is Kind.BROKEN:
            side = 0 if entry.data == bytes((Kind.RECEIVED,)) else 1
            self._packet(found, side, at, _ACK, b"", "what followed from here was no SMPP, and was not kept")
        else:
            side = 0 if kind is Kind.RECEIVED else 1
            comment = "the password was blanked" if int.from_bytes(entry.data[4:8], "big") in _SECRET else ""
            for start in range(0, len(entry.data), SEGMENT):
                self._packet(found, side, at, _PSH | _ACK, entry.data[start : start + SEGMENT], comment)

    def _packet(self, session: _Session, side: int, at: int, flags: int, data: bytes, comment: str = "") -> None:
        other = 1 - side
        sequence, acknowledged = session.next[side], session.next[other] if flags & _ACK else 0
        session.next[side] = (sequence + len(data)) & 0xFFFFFFFF
        head = struct.pack(
            "!HHIIBBHHH", session.ports[side], session.ports[other], sequence, acknowledged, 5 << 4, flags, 65535, 0, 0
        )
        frame = _frame(session.addresses[side], session.addresses[other], side, head + data)
        options = _option(_COMMENT, comment) + _option(0, "") if comment else b""
        padded = frame + bytes(-len(frame) % 4)
        times = struct.pack("<IIIII", 0, at >> 32 & 0xFFFFFFFF, at & 0xFFFFFFFF, len(frame), len(frame))
        self._block(_PACKET, times + padded + options)

    def _block(self, kind: int, body: bytes) -> None:
        size = len(body) + 12
        self._file.write(struct.pack("<II", kind, size) + body + struct.pack("<I", size))


def _option(code: int, text: str) -> bytes:
    value = text.encode("utf-8", "replace")
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _frame(source: _Address, destination: _Address, side: int, segment: bytes) -> bytes:
    """Ethernet, IPv4 (RFC 791) or IPv6 (RFC 8200), and the TCP segment with its checksum (RFC 9293 section 3.1)."""
    ends = source.packed + destination.packed
    pseudo = ends + (struct.pack("!HH" if len(ends) == 8 else "!II", *_protocol_and(len(segment), len(ends))))
    segment = segment[:16] + _checksum(pseudo + segment) + segment[18:]
    if len(ends) == 8:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, 6, 0)
        packet = head[:10] + _checksum(head + ends) + ends + segment
    else:
        packet = struct.pack("!IHBB", 6 << 28, len(segment), 6, 64) + ends + segment
    return _MACS[1 - side] + _MACS[side] + (b"\x08\x00" if len(ends) == 8 else b"\x86\xdd") + packet


def _protocol_and(length: int, ends: int) -> tuple[int, int]:
    """The end of the pseudo header: protocol and length for IPv4, length and next header for IPv6."""
    return (6, length) if ends == 8 else (length, 6)


def _checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def _address(said: object) -> _Address:
    try:
        return ip_address(str(said).partition("/")[0].partition("%")[0])
    except ValueError:
        return IPv4Address(0)


def _mapped(one: _Address) -> IPv6Address:
    """An IPv4 address as IPv6 writes it (RFC 4291 section 2.5.5.2)."""
    return one if isinstance(one, IPv6Address) else IPv6Address(b"\0" * 10 + b"\xff\xff" + one.packed)


def _port(said: object) -> int:
    return said if isinstance(said, int) and 0 < said < 65536 else 0
