"""Exchanges the text of a message between links whose default alphabets differ. It becomes the same text, the nearest one,
or none.

The text of a message is its short_message, its message_payload, or both, in submit_sm, deliver_sm and data_sm alike. These
ways are tried in this order, since each keeps more of the text than the next:

1. the other link's own alphabet under the same data_coding;
2. UCS-2, where one short message of 140 octets has room for it;
3. UCS-2, or the longer text of 1, in message_payload: not for a part of a long message, which has to fit one short message
   whatever carries it, and not where the link has no such TLV;
4. the nearest letters that the alphabet has (``EUR`` for a euro sign), which is counted.

A user data header is kept octet by octet. Only where national letters go to a link that is not 7-bit, in a part too full for
UCS-2, its language elements are left out: they would be applied to letters that are plain already.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from smppd.policy.content import place_of
from smppd.protocol import gsm
from smppd.protocol.longmessage import UdhError, parse_udh
from smppd.protocol.text import (
    ASCII_LIKE,
    REPLACEMENT,
    Alphabet,
    TextError,
    as_ucs2,
    convert,
    decode,
    encode,
    means_default,
    nearest,
    septets,
)
from smppd.protocol.wire import UDHI, Sm, Tag, splice, tlv

OCTETS: Final = 140
"""User data of one short message, 3GPP TS 23.040 section 9.2.3.24."""
SHORT: Final = 254
"""Most octets of a short_message."""
PAYLOAD: Final = 65_535
"""Most octets of a TLV."""
# What a carrier puts in front of a segment that came with SAR TLVs (TS 23.040 section 9.2.3.24.1).
_SAR_HEADER: Final = 6
SEVEN: Final = (Alphabet.GSM, Alphabet.GSM_PACKED)
_UCS2: Final = 8
_NO_NATIONAL: Final = (0, 0)


class Exchanged(NamedTuple):
    """A frame as the other link writes it. ``nearest``: some letters are only the nearest that it has."""

    frame: bytes
    nearest: bool

    def __repr__(self) -> str:
        return f"Exchanged(<{len(self.frame)} octets>, nearest={self.nearest})"


class _Body:
    """One text of a message. ``space``: octets of one short message that are left beside the header, for a part of a long
    message; 0 for a whole one. ``units``: septets or characters that the part takes as it came."""

    __slots__ = ("data", "header", "national", "space", "text", "units")

    def __init__(self, carried: bytes, header: int, national: tuple[int, int], space: int, ours: Alphabet) -> None:
        self.header = carried[:header]
        self.data = data = carried[header:]
        self.national = national
        self.space = space
        self.text = decode(data, 0, ours, national=national, header=header)
        self.units = len(gsm.unpack(data, header)) if ours is Alphabet.GSM_PACKED else len(data)


def exchange_alphabets(
    sm: Sm, ours: Alphabet, theirs: Alphabet, *, payloads: bool, lossy: bool = False
) -> Exchanged | None:
    """The frame of ``sm``, whose default alphabet is ``ours``, for a link where it is ``theirs``.

    None where no form of the text keeps what it says. ``payloads``: whether the link knows message_payload. ``lossy``:
    a question mark is better than no message. Raises ``wire.BodyError`` on broken TLVs.
    """
    if ours is theirs or not means_default(sm.data_coding):
        return Exchanged(sm.raw, False)
    short = sm.short_message
    payload = (sm.tlv(Tag.MESSAGE_PAYLOAD) or b"") if sm.at_tlvs != len(sm.raw) else b""
    if not payload and not sm.esm_class & UDHI and ours in ASCII_LIKE and theirs in ASCII_LIKE:
        if not short.translate(None, gsm.COMMON):
            return Exchanged(sm.raw, False)  # nearly all of them
    if not short and not payload:
        return Exchanged(sm.raw, False)  # a canned message of the carrier's, or nothing at all
    try:
        bodies = _bodies(sm, short, payload, ours)
    except UdhError:
        return None  # nobody knows where its text begins
    # With sm_default_msg_id an empty short_message would stand for the carrier's canned message.
    movable = payloads and not payload and sm.at_sm >= 0 and not sm.raw[sm.at_sm - 2] and not bodies[0].space
    coding = as_ucs2(sm.data_coding)
    marked = False
    while True:
        frame = _placed(sm, _in_theirs(bodies, ours, theirs, marked), None, SHORT, movable)
        if frame is None:
            frame = _placed(sm, _in_ucs2(bodies), coding, OCTETS, movable)
        if frame is not None:
            return Exchanged(frame, marked)
        if marked or not lossy or all(REPLACEMENT not in body.text for body in bodies):
            break
        marked = True  # octets that are no text come as question marks
        for body in bodies:
            body.text = body.text.replace(REPLACEMENT, "?")
    for cut in (False, True):
        near = _nearest(bodies, theirs, cut, lossy)
        if near is None:
            continue
        frame = _placed(sm, [carried for carried, _ in near], None, SHORT, movable)
        if frame is not None:
            return Exchanged(frame, marked or any(changed for _, changed in near))
    return None


def _bodies(sm: Sm, short: bytes, payload: bytes, ours: Alphabet) -> list[_Body]:
    """The texts of a message: short_message, message_payload or both; the header is in the first. Raises ``UdhError``."""
    header, national = 0, _NO_NATIONAL
    if sm.esm_class & UDHI:
        udh = parse_udh(short or payload)
        if udh is not None:
            header, national = udh.length, udh.national
    space = 0
    if place_of(sm) is not None:
        # A carrier puts a header of its own in front of a segment that came with SAR TLVs (TS 23.040 9.2.3.24.1).
        space = OCTETS - (header or _SAR_HEADER)
    bodies = [_Body(short or payload, header, national, space, ours)]
    if short and payload:
        bodies.append(_Body(payload, 0, _NO_NATIONAL, space, ours))
    return bodies


def _placed(sm: Sm, carried: list[bytes] | None, coding: int | None, most: int, movable: bool) -> bytes | None:
    """The frame with its texts exchanged, the first in message_payload where short_message has no room; None without room."""
    if carried is None or any(len(one) > PAYLOAD for one in carried):
        return None
    if not sm.short_message:
        return splice(sm, data_coding=coding, replace={int(Tag.MESSAGE_PAYLOAD): carried[0]})
    first = carried[0]
    if len(first) > most:
        if not movable:
            return None
        frame = splice(sm, data_coding=coding, short_message=b"") + tlv(Tag.MESSAGE_PAYLOAD, first)
        return len(frame).to_bytes(4, "big") + frame[4:]
    replace = {int(Tag.MESSAGE_PAYLOAD): carried[1]} if len(carried) > 1 else None
    return splice(sm, data_coding=coding, short_message=first, replace=replace)


def _in_theirs(bodies: list[_Body], ours: Alphabet, theirs: Alphabet, marked: bool) -> list[bytes] | None:
    """The texts in the other link's alphabet; None where it lacks a character, or a part has no room for them."""
    made = []
    for body in bodies:
        # National letters towards a link that is not 7-bit go as UCS-2, with which the header's language says nothing.
        foreign = body.national != _NO_NATIONAL and ours in SEVEN and theirs not in SEVEN
        if foreign or (REPLACEMENT in body.text and not (ours in SEVEN and theirs in SEVEN)):
            return None
        header = len(body.header)
        try:
            if marked:
                data = encode(body.text, 0, theirs, national=body.national, header=header)
            else:
                data = convert(body.data, 0, ours, theirs, national=body.national, header=header)
        except TextError:
            return None
        if not _has_room(body, body.text, data, theirs):
            return None
        made.append(body.header + data)
    return made


def _in_ucs2(bodies: list[_Body]) -> list[bytes] | None:
    """The texts in UCS-2; None where octets are no text, or a part has no room for them."""
    made = []
    for body in bodies:
        if REPLACEMENT in body.text:
            return None
        try:
            data = encode(body.text, _UCS2)
        except TextError:
            return None
        if body.space and len(data) > body.space:
            return None
        made.append(body.header + data)
    return made


def _nearest(bodies: list[_Body], theirs: Alphabet, short: bool, lossy: bool) -> list[tuple[bytes, bool]] | None:
    """The texts with the nearest letters that the other link's alphabet has, and whether that changed them. None where it
    has none, or a part has no room for them."""
    made = []
    for body in bodies:
        header, national = body.header, body.national
        if national != _NO_NATIONAL and theirs not in SEVEN:
            header, national = _without_language(header), _NO_NATIONAL
        text = nearest(body.text, theirs, national, short=short, lossy=lossy)
        if text is None:
            return None
        data = encode(text, 0, theirs, national=national, header=len(header))
        if not _has_room(body, text, data, theirs):
            return None
        made.append((header + data, text != body.text))
    return made


def _has_room(body: _Body, text: str, data: bytes, theirs: Alphabet) -> bool:
    """Whether one short message holds a part in this form. What was too long as it came may stay as long."""
    if not body.space:
        return True
    if theirs is Alphabet.GSM_PACKED:
        fitted = body.units <= body.space * 8 // 7
        return len(data) <= (body.space if fitted else (7 * body.units + 13) // 8)
    if theirs is Alphabet.GSM:
        units = len(data)
    else:
        # The carrier will write it in septets where it can.
        sizes = septets(text)
        units = len(text) if sizes is None else sum(sizes)
    return units <= max(body.space * 8 // 7, body.units)


def _without_language(header: bytes) -> bytes:
    """A user data header without its national language elements (TS 23.040 section 9.2.3.24.15 and .16)."""
    kept = b""
    at = 1
    while at + 1 < len(header):
        stop = at + 2 + header[at + 1]
        if header[at] not in (0x24, 0x25):
            kept += header[at:stop]
        at = stop
    return bytes((len(kept),)) + kept
