"""Messages for peers of SMPP 3.3, which knows no TLVs and no data_sm: what those say is put where such a peer can read it.

The text of message_payload goes into short_message, the place of a SAR part into a user data header, what a receipt has in
TLVs only into its text. Everything else keeps its octets.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from zlib import crc32

from smppd.protocol.receipt import ID_LIMIT, SHORT_MESSAGE_LIMIT, MessageState, completed, parse, splice
from smppd.protocol.times import TIME_TO_LIVE, to_live, write_relative
from smppd.protocol.wire import Command, Sm, Tag, pdu

VERSION: Final = 0x34
"""The first interface_version that has TLVs."""
_RECEIPT_BITS: Final = 0x24  # receipt, intermediate notification: SMPP 3.4 section 5.2.12
_UDHI: Final = 0x40
_OCTETS: Final = 140  # of user data in one short message, 3GPP TS 23.040 section 9.2.3.24
_PLACE: Final = 5  # octets of the element that says a part's place, 3GPP TS 23.040 section 9.2.3.24.1
_PARTS: Final = 255
_ADDRESS: Final = 20
_ESCAPE: Final = 0x1B


class Pieces(NamedTuple):
    """What a message is for a 3.3 peer: one deliver_sm, or the parts of a long text. ``cut``: more than 255 would be needed."""

    frames: list[bytes]
    cut: bool = False


def submitted(frame: bytes) -> bytes | None:
    """A submit_sm or data_sm as a submit_sm of 3.3; None where its text does not fit into short_message. The frame itself
    where it is one already."""
    sm = Sm(frame)
    if sm.at_sm >= 0 and sm.at_tlvs == len(frame):
        return frame
    esm_class, text = _text(sm)
    if len(text) > 255 or (len(text) > SHORT_MESSAGE_LIMIT and not sm.short_message):
        return None
    return _plain(sm, Command.SUBMIT_SM, esm_class, text)


def delivered(frame: bytes, accepted: float, done: float) -> Pieces:
    """A deliver_sm or data_sm as deliver_sm of 3.3.

    A receipt whose text is longer than short_message may be is cut, from behind ``text:`` where there is one; one that says
    its id or its state in TLVs only gets them into its text, and dates that it lacks are ``accepted`` and ``done`` (epoch
    seconds). Another long text becomes the parts of a concatenated message.
    """
    sm = Sm(frame)
    if sm.at_sm >= 0 and sm.at_tlvs == len(frame):
        return Pieces([frame])
    esm_class, text = _text(sm)
    if not text or esm_class & _RECEIPT_BITS:
        text = _told(sm, text, accepted, done)
    if len(text) <= max(SHORT_MESSAGE_LIMIT, len(sm.short_message)):
        return Pieces([_plain(sm, Command.DELIVER_SM, esm_class, text)])
    if esm_class & _RECEIPT_BITS:
        return Pieces([_plain(sm, Command.DELIVER_SM, esm_class, _shortened(text))])
    parts = _cut(text, esm_class, sm.data_coding)
    frames = [_plain(sm, Command.DELIVER_SM, esm_class | _UDHI, part) for part in parts[:_PARTS]]
    return Pieces(frames, len(parts) > _PARTS)


def _text(sm: Sm) -> tuple[int, bytes]:
    """esm_class and user data; the place that SAR TLVs give a part is in its header where there is room for it."""
    text, esm_class = sm.body, sm.esm_class
    reference, total, number = (
        sm.tlv(tag) for tag in (Tag.SAR_MSG_REF_NUM, Tag.SAR_TOTAL_SEGMENTS, Tag.SAR_SEGMENT_SEQNUM)
    )
    if not reference or not total or not number or esm_class & _UDHI or len(text) + 7 > SHORT_MESSAGE_LIMIT:
        return esm_class, text
    place = reference[-2:].rjust(2, b"\0") + total[-1:] + number[-1:]
    return esm_class | _UDHI, b"\6\x08\4" + place + text


def _told(sm: Sm, text: bytes, accepted: float, done: float) -> bytes:
    """The text of a receipt with what it says in TLVs only, as appendix B has it; as it is where that is nothing."""
    named = (sm.tlv(Tag.RECEIPTED_MESSAGE_ID) or b"").partition(b"\0")[0][:ID_LIMIT]
    at = min(text[0] + 1, len(text)) if sm.esm_class & _UDHI and text else 0
    if not named:
        receipt = parse(text, at) if text else None
        named = receipt.id if receipt is not None else b""
        if not named:
            return text
    given = sm.tlv(Tag.MESSAGE_STATE)
    state = MessageState(given[0]) if given and given[0] in _STATES else None
    error = (sm.tlv(Tag.NETWORK_ERROR_CODE) or b"")[1:3]
    return completed(
        text,
        named,
        state,
        submitted=int(accepted),
        done=int(done),
        err=b"%03d" % min(999, int.from_bytes(error, "big")),
        at=at,
        wide=sm.data_coding == _UCS2,
    )


_UCS2: Final = 8
_STATES: Final = frozenset(int(state) for state in MessageState)


def _shortened(text: bytes) -> bytes:
    receipt = parse(text)
    if receipt is not None and receipt.id:
        text = splice(text, receipt.id, SHORT_MESSAGE_LIMIT)
    return text[:SHORT_MESSAGE_LIMIT]


def _plain(sm: Sm, command: int, esm_class: int, text: bytes) -> bytes:
    """A frame with the fields of ``sm`` and no TLVs."""
    raw = sm.raw
    if sm.at_sm >= 0:
        fields = raw[sm.at_flags + 1 : sm.at_sm - 1]
    else:
        # What a data_sm says in other fields than a submit_sm, or in none.
        left = to_live(sm.tlv(TIME_TO_LIVE)) if command == Command.SUBMIT_SM else None
        validity = write_relative(left) if left is not None else b""
        fields = b"\0\0\0" + validity + b"\0" + bytes((sm.registered, 0, sm.data_coding, 0))
    body = b"".join(
        (
            raw[16 : sm.at_source],
            _address(sm.source_field),
            _address(sm.destination_field),
            bytes((esm_class,)),
            fields,
            bytes((len(text),)),
            text,
        )
    )
    return pdu(command, int.from_bytes(raw[8:12], "big"), sm.sequence, body)


def _address(field: bytes) -> bytes:
    """An address field; a data_sm's may be longer than a submit_sm's (SMPP 3.4 section 4.7.1)."""
    return field if len(field) <= _ADDRESS + 3 else field[: _ADDRESS + 2] + b"\0"


def _cut(text: bytes, esm_class: int, coding: int) -> list[bytes]:
    """The parts of a long text, each with a header that says its place. The same text gives the same parts again."""
    elements = b""
    if esm_class & _UDHI:
        elements, text = text[1 : text[0] + 1], text[text[0] + 1 :]
    head = 1 + len(elements) + _PLACE
    room = (_OCTETS - head) * 8 // 7 if coding == 0 else _OCTETS - head
    if room < 4:  # a header that leaves no room is none
        elements, head = b"", 1 + _PLACE
        room = _OCTETS - head
    pieces: list[bytes] = []
    at = 0
    while at < len(text):
        stop = min(at + room, len(text))
        if stop < len(text):
            stop -= _split(text, stop, coding, stop - at)
        pieces.append(text[at:stop])
        at = stop
    reference, total = crc32(text) & 0xFF, min(len(pieces), _PARTS)
    length = bytes((len(elements) + _PLACE,))
    return [
        length + elements + bytes((0, 3, reference, total, min(number, _PARTS))) + piece
        for number, piece in enumerate(pieces, 1)
    ]


def _split(text: bytes, stop: int, coding: int, taken: int) -> int:
    """How many octets before ``stop`` belong to a character that goes on behind it; never all that was ``taken``."""
    back = 0
    if coding == 8:
        back = taken & 1
        if 0xD8 <= text[stop - back - 2] <= 0xDB:
            back += 2
    elif coding == 0 and text[stop - 1] == _ESCAPE:
        back = 1
    return back if back < taken else 0


__all__ = ["VERSION", "Pieces", "delivered", "submitted"]
