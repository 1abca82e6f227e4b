"""Messages longer than one short_message: user data headers, SAR parts, and cutting for sending; joining is in `joiner`.

Concatenation is 3GPP TS 23.040 section 9.2.3.24.1 and .8, SAR is SMPP 3.4 sections 5.3.2.22 to 24.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from smppd.protocol import text as texts
from smppd.protocol.gsm import TextError as TextError
from smppd.protocol.text import Alphabet


class UdhError(ValueError):
    """The octets that should be a user data header are none. The message never holds content."""


@dataclass(frozen=True, slots=True)
class Concat:
    """A part's place: `seq` (1 to `total`) of `total` parts of the message `ref` (16-bit when `wide`)."""

    ref: int
    total: int
    seq: int
    wide: bool


@dataclass(frozen=True, slots=True)
class Udh:
    """A user data header: `length` in octets with its length octet, so the text begins there.

    `national` is (single shift, locking shift) as `text.decode` takes it; `ports` is (destination, originator);
    `twice`: it names two places that are not the same, of which phones take either.
    """

    length: int
    concat: Concat | None
    national: tuple[int, int]
    ports: tuple[int, int] | None
    twice: bool = False


_NO_NATIONAL: Final = (0, 0)


def parse_udh(data: bytes) -> Udh | None:
    """The header at the start of `data`, or None if there is no octet at all. Raises UdhError if it is malformed.

    Elements that are unknown, of the wrong length or (concatenation) impossible are ignored, and of two of a kind the
    last counts, as TS 23.040 9.2.3.24 asks; only lengths that do not add up are an error.
    """
    if data[:3] == b"\x05\x00\x03" and len(data) >= 6 and 0 < data[5] <= data[4]:
        return Udh(6, Concat(data[3], data[4], data[5], False), _NO_NATIONAL, None)  # nearly all of them
    if not data:
        return None
    end = data[0] + 1
    if end > len(data):
        raise UdhError("user data header longer than the data")
    concat: Concat | None = None
    ports: tuple[int, int] | None = None
    twice = False
    single = locking = 0
    at = 1
    while at < end:
        value = data[at + 2 : end] if at + 2 <= end else b""
        if at + 1 >= end or data[at + 1] > len(value):
            raise UdhError("user data header element past the end of the header")
        element, size = data[at], data[at + 1]
        before = concat
        if element == 0x00 and size == 3:
            concat = _place(value[0], value[1], value[2], False) or concat
        elif element == 0x08 and size == 4:
            concat = _place(value[0] << 8 | value[1], value[2], value[3], True) or concat
        elif element == 0x04 and size == 2:
            ports = value[0], value[1]
        elif element == 0x05 and size == 4:
            ports = value[0] << 8 | value[1], value[2] << 8 | value[3]
        elif element == 0x24 and size == 1:
            single = value[0]
        elif element == 0x25 and size == 1:
            locking = value[0]
        if before is not None and concat is not before and not alike(before, concat):
            twice = True
        at += 2 + size
    return Udh(end, concat, (single, locking), ports, twice)


def alike(one: Concat, other: Concat | None) -> bool:
    """Whether two places are the same but for the size of the reference: a gateway may cut 16 bits to 8."""
    return other is not None and (one.total, one.seq, one.ref & 0xFF) == (other.total, other.seq, other.ref & 0xFF)


def _place(ref: int, total: int, seq: int, wide: bool) -> Concat | None:
    return Concat(ref, total, seq, wide) if 0 < seq <= total else None


def sar(ref: int, total: int, seq: int) -> Concat:
    """The place that the TLVs 0x020C, 0x020E and 0x020F name. Raises TextError if it is impossible."""
    _check(total, seq)
    return Concat(ref, total, seq, True)


def _check(total: int, seq: int) -> None:
    if not 1 <= seq <= total <= 255:
        raise TextError("part number out of range")


class Carriage(Enum):
    """How `split` carries a text that is longer than one message."""

    UDH = "udh"  # user data header with an 8-bit reference
    UDH16 = "udh16"  # with a 16-bit reference
    SAR = "sar"  # the caller adds the three TLVs: reference, number of parts, position in the list from 1
    PAYLOAD = "payload"  # one piece, for the message_payload TLV


class Piece(NamedTuple):
    """One message to send. If `udh` is not empty it goes before `body`, and esm_class has 0x40."""

    udh: bytes
    body: bytes
    data_coding: int

    def __repr__(self) -> str:
        return f"Piece(udh={len(self.udh)} octets, body={len(self.body)} octets, data_coding={self.data_coding})"


def split(text: str, *, by: Carriage = Carriage.UDH, ref: int = 0, default: Alphabet = Alphabet.GSM) -> list[Piece]:
    """Cut `text` into messages, in order; one without a header if it fits.

    data_coding is 0 if the link's `default` alphabet has every character, else 8. No character is divided, nor an
    escape from what follows. `ref` is cut to the 8 or 16 bits there are. Raises TextError beyond 255 parts, and for a
    lone surrogate.
    """
    data_coding = 0
    try:
        whole = texts.encode(text, data_coding, default)
    except TextError:
        data_coding = 8
        whole = texts.encode(text, data_coding, default)
    if by is Carriage.PAYLOAD:
        return [Piece(b"", whole, data_coding)]
    sizes = texts.septets(text) if data_coding == 0 else None
    wide = by is Carriage.UDH16  # its header is an octet longer: a septet less, or a 16-bit unit
    if sizes is not None:
        counts = texts.cut(sizes, texts.GSM_SINGLE, texts.GSM_PART - wide)
    else:
        counts = texts.cut(texts.units(text), texts.UCS2_SINGLE, texts.UCS2_PART - wide)
    if len(counts) == 1:
        return [Piece(b"", whole, data_coding)]
    if len(counts) > 255:
        raise TextError("the text needs more than 255 parts")
    pieces: list[Piece] = []
    start = 0
    for seq, count in enumerate(counts, 1):
        udh = b""
        if by is Carriage.UDH:
            udh = bytes((5, 0x00, 3, ref & 0xFF, len(counts), seq))
        elif by is Carriage.UDH16:
            udh = bytes((6, 0x08, 4, ref >> 8 & 0xFF, ref & 0xFF, len(counts), seq))
        body = texts.encode(text[start : start + count], data_coding, default, header=len(udh))
        pieces.append(Piece(udh, body, data_coding))
        start += count
    return pieces
