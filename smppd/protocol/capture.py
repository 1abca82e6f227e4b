"""What a trace keeps of a peer: its PDUs as they were on the wire, one entry each, passwords blanked.

    entry: kind u8 | session u32 | microseconds since 1970 u64 | octets u32 | so many octets

A session is one connection, numbered from 1 in its trace. Entries stand in the order in which they came about.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import IntEnum
from struct import Struct
from typing import Any, Final, NamedTuple

from smppd.protocol.framing import Splitter

ENTRY: Final = Struct("!BIQI")
LONGEST: Final = 1 << 20
"""Octets of an entry: no PDU is longer, whatever the configuration allows."""
_BODY: Final = 16
_SECRET: Final = frozenset(
    command.to_bytes(4, "big")
    for command in (
        0x00000001,
        0x00000002,
        0x00000009,
        0x0000000B,
    )  # bind_receiver, _transmitter, _transceiver, outbind
)
_BLANK: Final = b"*"


class Kind(IntEnum):
    """What an entry is. OPENED: the facts of a connection (`opened`); it may have stood before. RECEIVED, SENT: a PDU from the
    peer, to the peer. CLOSED: why the connection ended, as text. BROKEN: RECEIVED or SENT in one octet: in this direction there
    is no SMPP any more, and nothing further is kept of it."""

    OPENED = 1
    RECEIVED = 2
    SENT = 3
    CLOSED = 4
    BROKEN = 5


class Entry(NamedTuple):
    """An entry. at: microseconds since 1970. session: number of the connection in its trace."""

    kind: Kind
    session: int
    at: int
    data: bytes

    def __repr__(self) -> str:
        return f"<Entry {self.kind.name} session={self.session} {len(self.data)} octets ***>"


def pack(kind: Kind, session: int, at: int, data: bytes) -> bytes:
    """An entry as octets."""
    return ENTRY.pack(kind, session, at, len(data)) + data


def opened(facts: Mapping[str, str | int]) -> bytes:
    """The octets of an entry OPENED. facts: `side` (`customer`, `carrier`), `peer` and `local` (addresses), `peer_port`,
    `local_port`, `tls` (version, or empty)."""
    return json.dumps(dict(facts), separators=(",", ":")).encode()


def unpack(chunks: Iterator[bytes]) -> Iterator[Entry]:
    """The entries of a stream, in pieces of any size. ValueError where it is no such stream; an entry that is cut off at the
    end is left out."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        at = 0
        while len(data) - at >= ENTRY.size:
            kind, session, when, size = ENTRY.unpack_from(data, at)
            if size > LONGEST:
                raise ValueError("an entry is longer than any can be")
            stop = at + ENTRY.size + size
            if stop > len(data):
                break
            yield Entry(Kind(kind), session, when, data[at + ENTRY.size : stop])
            at = stop
        rest = data[at:]


def facts_of(entry: Entry) -> dict[str, Any]:
    """The facts of an entry OPENED. ValueError where it has none."""
    facts = json.loads(entry.data)
    if not isinstance(facts, dict):
        raise ValueError("an entry has no facts")
    return facts


class PduCutter:
    """Cuts one direction of a connection into PDUs, passwords blanked."""

    __slots__ = ("_splitter",)

    def __init__(self) -> None:
        self._splitter = Splitter(LONGEST)

    def is_broken(self) -> bool:
        """Whether the stream is no SMPP: nothing more comes out of it."""
        return self._splitter.fault is not None

    def feed(self, data: bytes) -> list[bytes]:
        """The PDUs that these octets complete."""
        return [blanked(one) if one[4:8] in _SECRET else one for one in self._splitter.feed(data)]


def blanked(pdu: bytes) -> bytes:
    """A bind or an outbind (SMPP 3.4 sections 4.1.1, 4.1.7) with an asterisk for each octet of its password. Its length stays,
    so that the PDU is otherwise as it was. Where the field before it has no end, everything behind the header is blanked."""
    end = pdu.find(b"\0", _BODY)
    start = _BODY if end < 0 else end + 1
    stop = pdu.find(b"\0", start)
    if stop < 0 or end < 0:
        stop = len(pdu)
    return pdu[:start] + _BLANK * (stop - start) + pdu[stop:]
