"""Just enough SMPP for the peers of the campaigns, independent of smppd's own: frames, a submit_sm, a receipt (SMPP 3.4
sections 3.2, 4.4, 4.6 and appendix B). Example numbers only."""

from __future__ import annotations

import asyncio
import struct
from typing import Any, Final

BIND_TRANSCEIVER: Final = 0x09
SUBMIT: Final = 0x04
DELIVER: Final = 0x05
UNBIND: Final = 0x06
ENQUIRE: Final = 0x15
NACK: Final = 0x80000000
RESPONSE: Final = 0x80000000
_HEADER: Final = struct.Struct(">IIII")
_TOKEN: Final = b"token "
_DIGITS: Final = 10


def frame(command: int, status: int, sequence: int, body: bytes = b"") -> bytes:
    """A PDU."""
    return _HEADER.pack(16 + len(body), command, status, sequence) + body


def bind(command: int, system_id: str, password: str) -> bytes:
    """A bind request, sequence number 1."""
    return frame(command, 0, 1, b"%b\0%b\0\0\x34\0\0\0" % (system_id.encode(), password.encode()))


def submit_body(token: int, registered: int = 1, validity: bytes = b"") -> bytes:
    """The body of a submit_sm whose text carries ``token``; a million pairs of example numbers take turns."""
    source = b"\1\x01447700900%03d\0" % (token // 1000 % 1000)
    destination = b"\1\x01447700900%03d\0" % (token % 1000)
    text = _TOKEN + b"%0*d" % (_DIGITS, token)
    return (
        b"\0" + source + destination + b"\0\0\0\0" + validity + b"\0" + bytes((registered, 0, 0, 0, len(text))) + text
    )


def token_of(body: bytes) -> int:
    """The token of a submit_sm body; -1 when it was harmed."""
    at = body.find(_TOKEN) + len(_TOKEN)
    digits = body[at : at + _DIGITS]
    return int(digits) if at >= len(_TOKEN) and len(digits) == _DIGITS and digits.isdigit() else -1


def receipt_body(submitted: bytes, message_id: bytes, state: bytes = b"DELIVRD", tlv_id: bytes | None = None) -> bytes:
    """A deliver_sm receipt for a submit_sm body, addresses swapped. ``tlv_id`` where it is not the text's id."""
    first = submitted.index(b"\0", 3) + 1
    second = submitted.index(b"\0", first + 2) + 1
    text = b"id:%b sub:001 dlvrd:001 submit date:2601010000 done date:2601010001 stat:%b err:000 text:" % (
        message_id,
        state,
    )
    named = message_id if tlv_id is None else tlv_id
    codes = {b"DELIVRD": 2, b"EXPIRED": 3, b"UNDELIV": 5}
    tlvs = struct.pack(">HH", 0x1E, len(named) + 1) + named + b"\0" + struct.pack(">HHB", 0x427, 1, codes[state])
    fixed = b"\4\0\0\0\0\0\0\0\0" + bytes((len(text),))
    return b"\0" + submitted[first:second] + submitted[1:first] + fixed + text + tlvs


def receipt_of(body: bytes) -> tuple[bytes, bytes]:
    """(id, state) of a receipt's text; empty where it is none."""
    _, found, rest = body.partition(b"id:")
    _, _, stat = rest.partition(b"stat:")
    return (rest.split(b" ", 1)[0], stat[:7]) if found else (b"", b"")


class Peer(asyncio.Protocol):
    """One connection: cuts frames, writes the answers of one chunk together."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.rest = b""
        self.out: list[bytes] = []
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        at, end = 0, len(data)
        while end - at >= 16 and not self.gone:
            length, command, status, sequence = _HEADER.unpack_from(data, at)
            if at + length > end:
                break
            self.handle(command, status, sequence, data[at + 16 : at + length])
            at += length
        self.rest = data[at:]
        self.flush()

    def handle(self, command: int, status: int, sequence: int, body: bytes) -> None:
        """One PDU."""

    def say(self, command: int, status: int, sequence: int, body: bytes = b"") -> None:
        """A PDU, with the next flush."""
        self.out.append(frame(command, status, sequence, body))

    def flush(self) -> None:
        """Sends what was gathered."""
        if self.out and not self.gone and not self.transport.is_closing():
            self.transport.write(b"".join(self.out))
        self.out.clear()

    def cut(self) -> None:
        """Drops the connection at once, with what was not sent."""
        if not self.gone:
            self.gone = True
            self.transport.abort()
