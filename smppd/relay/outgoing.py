"""Frames as the other side's link wants them: alphabets exchanged, a relative validity shortened by the time spent here."""

from __future__ import annotations

from typing import Final

from smppd.protocol import times
from smppd.protocol.text import Alphabet, TextError, convert, decode, encode
from smppd.protocol.wire import Sm, splice
from smppd.relay.model import Message, UpstreamState

_OCTETS: Final = 140  # of user data in one short message, 3GPP TS 23.040 section 9.2.3.24


def outgoing(message: Message, upstream: UpstreamState, wall: float) -> bytes:
    """The frame as this upstream gets it: its bytes, unless alphabets differ or a relative validity has been ticking."""
    frame = message.frame
    if frame[6] == 1:
        return _data(message, wall)
    if message.account.alphabet is upstream.alphabet and frame.find(b"R\0", 30, 120) < 0:
        return frame
    sm = Sm(frame)
    validity: bytes | None = None
    if times.is_relative(sm.validity) and message.expires - wall < (times.read(sm.validity, wall) or 0) - wall - 1:
        validity = times.write_relative(message.expires - wall)
    text, coding = between(sm, message.account.alphabet, upstream.alphabet)
    if validity is None and text is None:
        return frame
    return splice(sm, validity=validity, short_message=text, data_coding=coding)


def _data(message: Message, wall: float) -> bytes:
    """A data_sm, whose validity is a TLV of seconds, and whose text is in none of its fields."""
    sm = Sm(message.frame)
    given, left = times.to_live(sm.tlv(times.TIME_TO_LIVE)), message.expires - wall
    if given is None or left >= given - 1:
        return message.frame
    return splice(sm, replace={times.TIME_TO_LIVE: max(1, int(left)).to_bytes(4, "big")})


def between(sm: Sm, ours: Alphabet, theirs: Alphabet) -> tuple[bytes | None, int | None]:
    """short_message, and data_coding if that changes too, for a link whose data_coding 0 means another alphabet: in that
    alphabet, or in UCS-2 where it lacks a character. None where nothing has to change, or neither is possible."""
    if sm.data_coding != 0 or ours is theirs or not sm.short_message:
        return None, None
    head = sm.short_message[0] + 1 if sm.esm_class & 0x40 else 0
    before, after = sm.short_message[:head], sm.short_message[head:]
    try:
        body = convert(after, 0, ours, theirs)
        return (before + body, None) if head + len(body) <= 254 else (None, None)
    except TextError:
        pass
    try:
        body = encode(decode(after, 0, ours), 8)
    except TextError:
        return None, None
    return (before + body, 8) if head + len(body) <= _OCTETS else (None, None)
