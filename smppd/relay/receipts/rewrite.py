"""Rewrites a carrier's receipt for the customer: with the customer's id of the message, and the addresses that the customer
used."""

from __future__ import annotations

from typing import Final

from smppd.protocol.receipt import SHORT_MESSAGE_LIMIT, splice
from smppd.protocol.wire import HEADER, BodyError, Command, Fields, Sm, Tag, build_sm, tlv
from smppd.relay.receipts.matching import INTERMEDIATE, MESSAGE_TYPE, RECEIPT, Reading, read_receipt, text_start
from smppd.relay.state.model import Message

_ID: Final = int(Tag.RECEIPTED_MESSAGE_ID)
_PAYLOAD: Final = int(Tag.MESSAGE_PAYLOAD)
_TLV_LIMIT: Final = 0xFFFF
NOBODY: Final = b"\0\0\0"
"""An address field with nothing in it (SMPP 3.4 section 4.4.1: TON, NPI, address)."""
_KEPT_TLVS: Final = (_ID, int(Tag.MESSAGE_STATE), int(Tag.NETWORK_ERROR_CODE))
_UNMISTAKABLE: Final = 6  # an id of at least so many octets stands in a TLV of the carrier's own on purpose


def rewritten_receipt(message: Message, sm: Sm, reading: Reading) -> bytes:
    """The carrier's receipt for our customer: with our id in text and TLVs, and with the message's own addresses, swapped.

    A receipt whose esm_class does not say so gets that mark. Where neither its text nor its TLVs name an id, ours is put in
    front of the text, or into a TLV where the text is not that of a receipt: the customer has to know which message it is
    about.
    """
    fields = message.reversed
    if not fields:
        own = Sm(message.frame)
        source = message.reply_to if message.reply_to is not None else own.source_field
        fields = own.destination_field + source
    receipt, raw = reading.receipt, sm.raw
    if receipt is None or not receipt.plain or not sm.short_message or not sm.esm_class & (RECEIPT | INTERMEDIATE):
        return _told(sm, reading, message.shown, fields, message.upstream_id)
    # The usual case: the specification's text, and its id where that has it.
    new = b"id:" + message.shown + sm.short_message[3 + len(receipt.id) :]
    if len(new) > SHORT_MESSAGE_LIMIT:
        return _told(sm, reading, message.shown, fields, message.upstream_id)
    parts = [raw[16 : sm.at_source], fields, raw[sm.at_flags : sm.at_sm - 1], bytes((len(new),)), new]
    if sm.at_tlvs != len(raw):
        ids, given = reading.ids, message.upstream_id
        parts.append(_tlvs(sm, message.shown, ids if ids[0] == given else (given, *ids)))
    body = b"".join(parts)
    return HEADER.pack(16 + len(body), sm.command, 0, 0) + body


def check_rewritable(sm: Sm, reading: Reading) -> None:
    """Rewrites a receipt and throws the result away: an error that its content causes happens here, before the receipt is
    stored."""
    _told(sm, reading, b"0" * 16, b"\1\1" + b"0" * 20 + b"\0\1\1" + b"0" * 20 + b"\0", b"")


def bare_receipt(sm: Sm, source: bytes, destination: bytes) -> bytes:
    """A receipt with these address fields, and without what it says of the text: the frame of a deliver_sm."""
    text, tlvs = b"", b""
    try:
        told = read_receipt(sm).receipt
        tlvs = b"".join(tlv(tag, value) for tag, value in sm.tlvs if tag in _KEPT_TLVS)
    except BodyError:
        told = None
    if told is not None:
        said = (told.id, told.sub, told.dlvrd, told.submit_date, told.done_date, told.stat, told.err)
        text = b"id:%b sub:%b dlvrd:%b submit date:%b done date:%b stat:%b err:%b text:" % said
    fields = Fields(esm_class=sm.esm_class & (RECEIPT | INTERMEDIATE))
    return build_sm(Command.DELIVER_SM, 0, source, destination, text[:SHORT_MESSAGE_LIMIT], fields, tlvs)


def _told(sm: Sm, reading: Reading, shown: bytes, fields: bytes, given: bytes) -> bytes:
    """Rewrites any receipt: also one without the usual text, in a payload, in UCS-2, with several ids or with none."""
    raw, esm = sm.raw, sm.esm_class
    if not esm & (RECEIPT | INTERMEDIATE):
        esm = esm & ~MESSAGE_TYPE | RECEIPT
    old = tuple(one for one in (given, *reading.ids) if one)
    receipt = reading.receipt
    named = sm.at_tlvs != len(raw) and sm.tlv(_ID) is not None
    parts = [raw[16 : sm.at_source], fields, bytes((esm,))]
    if sm.at_sm >= 0:
        text = sm.short_message
        if text:
            new = splice(text, shown, at=text_start(sm, text), old=old, add=True)
            named = named or new != text or (receipt is not None and receipt.id == shown)
            text = new
        parts += [raw[sm.at_flags + 1 : sm.at_sm - 1], bytes((len(text),)), text]
    else:
        parts.append(raw[sm.at_flags + 1 : sm.at_tlvs])
    if sm.at_tlvs != len(raw):
        parts.append(_tlvs(sm, shown, old))
        named = named or (sm.tlv(_PAYLOAD) is not None and receipt is not None and bool(receipt.id or receipt.stat))
    if not named:
        parts.append(tlv(_ID, shown + b"\0"))
    body = b"".join(parts)
    return HEADER.pack(16 + len(body), sm.command, 0, 0) + body


def _tlvs(sm: Sm, shown: bytes, old: tuple[bytes, ...]) -> bytes:
    """The TLVs, with our id for the carrier's."""
    parts = []
    for tag, value in sm.tlvs:
        if tag == _ID:
            value = shown + b"\0"
        elif tag == _PAYLOAD:
            at = 0 if sm.short_message else text_start(sm, value)
            value = splice(value, shown, _TLV_LIMIT, at=at, old=old, add=True)
        elif len(value) >= _UNMISTAKABLE and value.rstrip(b"\0") in old:
            value = shown + value[len(value.rstrip(b"\0")) :]
        parts.append(tlv(tag, value))
    return b"".join(parts)
