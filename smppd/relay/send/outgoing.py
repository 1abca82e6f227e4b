"""Makes the frame that goes to a carrier: exchanges alphabets, and shortens a relative validity by the time that the message
spent here."""

from __future__ import annotations

from typing import Final

from smppd.protocol import times
from smppd.protocol.older import submitted
from smppd.protocol.text import Alphabet, means_default
from smppd.protocol.wire import DATA_SM, BodyError, Sm, request_command, splice
from smppd.relay import log_counts
from smppd.relay.alphabets import exchange_alphabets
from smppd.relay.context import Context
from smppd.relay.state.model import Lane, Message, UpstreamState

# Where the end of a relative validity_period stands in a submit_sm: behind the header and the fields before it, which take 28
# octets at least (SMPP 3.4 section 4.4.1), and before the 105th octet with all of them as long as they may be. Somewhat wider,
# for senders who do not count so well.
_VALIDITY_FROM: Final = 30
_VALIDITY_UPTO: Final = 120


def outgoing_frame(context: Context, message: Message, upstream: UpstreamState, wall: float) -> bytes | None:
    """The frame as this upstream gets it. Its octets are unchanged, unless alphabets differ or it has a relative validity.

    None where its text has no form in the upstream's alphabet: the message has to end as REJECTED. For an upstream of SMPP
    3.3 the frame is a submit_sm without TLVs; it is empty where the text has no room in that.
    """
    frame = _said(context, message, upstream, wall)
    if not frame or not upstream.plain:
        return frame
    plain = submitted(frame)
    if plain is None:
        context.log_counts.count(log_counts.UNFIT, upstream.name)
    return plain or b""


def _said(context: Context, message: Message, upstream: UpstreamState, wall: float) -> bytes | None:
    frame = message.frame
    if request_command(frame) == DATA_SM:
        frame = _data(message, wall)
    elif _may_be_relative(frame):
        frame = _shortened(message, wall)
    if message.account.alphabet is upstream.alphabet:
        return frame
    return _exchanged(context, message, frame, upstream)


def _may_be_relative(frame: bytes) -> bool:
    """Whether a submit_sm may have a relative validity_period, which ends in R and NUL (SMPP 3.4 section 7.1.1.2). One search
    of the octets where that end stands, which spares nearly every message the look at its fields. It may find these octets
    in something else: `_shortened` looks at the field itself."""
    return frame.find(b"R\0", _VALIDITY_FROM, _VALIDITY_UPTO) >= 0


def _exchanged(context: Context, message: Message, frame: bytes, upstream: UpstreamState) -> bytes | None:
    account = message.account
    try:
        made = exchange_alphabets(Sm(frame), account.alphabet, upstream.alphabet, payloads=knows_payload(upstream))
    except BodyError:
        made = None  # its TLVs are broken, and may hold the text
    if made is None:
        context.metrics.text_refused.labels(account.name, "MT").inc()
        context.log_counts.count(log_counts.UNSAYABLE, account.name)
        return None
    if made.nearest:
        context.metrics.text_nearest.labels(account.name, "MT").inc()
        context.log_counts.count(log_counts.NEAREST, account.name)
    return made.frame


def sayable(sm: Sm, ours: Alphabet, lane: Lane) -> bool:
    """Whether the text has a form in the alphabet of some upstream of the lane. Raises ``wire.BodyError`` on broken TLVs."""
    if not means_default(sm.data_coding):
        return True
    for upstream in lane.upstreams:
        theirs = upstream.alphabet
        if theirs is ours or exchange_alphabets(sm, ours, theirs, payloads=knows_payload(upstream)) is not None:
            return True
    return not lane.upstreams


def knows_payload(upstream: UpstreamState) -> bool:
    """Whether the upstream's links have message_payload: TLVs came with SMPP 3.4."""
    return upstream.settings.interface_version != "3.3"


def _shortened(message: Message, wall: float) -> bytes:
    """The frame with its relative validity less the time spent here."""
    sm = Sm(message.frame)
    if not times.is_relative(sm.validity):
        return message.frame
    left = message.expires - wall
    if left >= (times.read(sm.validity, wall) or 0) - wall - 1:
        return message.frame
    return splice(sm, validity=times.write_relative(left))


def _data(message: Message, wall: float) -> bytes:
    """A data_sm, whose validity is a TLV of seconds."""
    sm = Sm(message.frame)
    given, left = times.to_live(sm.tlv(times.TIME_TO_LIVE)), message.expires - wall
    if given is None or left >= given - 1:
        return message.frame
    return splice(sm, replace={times.TIME_TO_LIVE: max(1, int(left)).to_bytes(4, "big")})
