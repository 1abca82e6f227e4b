"""A carrier's receipt as it is passed on: under the customer's id, between the addresses that the customer used."""

from __future__ import annotations

from typing import Final

from smppd.protocol.receipt import MessageState, Receipt, write
from smppd.protocol.receipt import splice as splice_text
from smppd.protocol.wire import HEADER, Sm, Tag, splice, tlv
from smppd.relay.ids import id_time
from smppd.relay.model import Message

_ID: Final = int(Tag.RECEIPTED_MESSAGE_ID)


def rewritten(message: Message, sm: Sm, receipt: Receipt | None, state: MessageState | None, wall: float) -> bytes:
    """The carrier's receipt as our customer knows the message: our id in text and TLV, its own addresses, swapped."""
    if receipt is not None and sm.short_message and message.reversed:
        return _usual(message, sm, receipt, state, wall)
    own = Sm(message.frame)
    replace: dict[int, bytes] = {}
    if sm.at_tlvs != len(sm.raw):
        replace[Tag.RECEIPTED_MESSAGE_ID] = message.shown + b"\0"
    if receipt is not None:
        payload = sm.tlv(Tag.MESSAGE_PAYLOAD)
        if payload:
            replace[Tag.MESSAGE_PAYLOAD] = splice_text(payload, message.shown, 65535)
    source = message.reply_to if message.reply_to is not None else own.source_field
    return splice(sm, source=own.destination_field, destination=source, replace=replace or None)


def _usual(message: Message, sm: Sm, receipt: Receipt, state: MessageState | None, wall: float) -> bytes:
    """The usual case of ``rewritten``: a receipt whose text is its short_message."""
    raw, text, shown = sm.raw, sm.short_message, message.shown
    new = splice_text(text, shown)
    if new == text and receipt.id != shown:
        # Its id could not be exchanged in place: what it says is said anew rather than leaking the carrier's id.
        new = write(
            shown,
            state if state is not None else MessageState.UNKNOWN,
            submitted=int(id_time(message.id)),
            done=int(wall),
            err=receipt.err or b"000",
        )
    parts = [
        raw[16 : sm.at_source],
        message.reversed,
        raw[sm.at_flags : sm.at_sm - 1],
        bytes((len(new),)),
        new,
    ]
    if sm.at_tlvs != len(raw):
        for tag, value in sm.tlvs:
            parts.append(tlv(tag, shown + b"\0" if tag == _ID else value))
    body = b"".join(parts)
    return HEADER.pack(16 + len(body), sm.command, 0, 0) + body
