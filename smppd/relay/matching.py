"""What a receipt says of itself: the id it names, and whether its addresses are those of a message."""

from __future__ import annotations

from smppd.protocol.receipt import Receipt, parse
from smppd.protocol.wire import Sm, Tag


def read(sm: Sm) -> tuple[bytes, Receipt | None]:
    """The id a receipt names, by TLV before text, and its text's fields; empty where it names none."""
    given = sm.tlv(Tag.RECEIPTED_MESSAGE_ID)
    receipt = parse(sm.short_message or sm.body)
    named = given.rstrip(b"\0") if given else b""
    return named or (receipt.id if receipt is not None else b""), receipt


def agree(receipt: Sm, message: Sm) -> bool:
    """Whether the addresses of a receipt are those of a message, swapped as they should be or not as with some carriers;
    the last nine digits, because prefixes are written in many ways."""
    one, other = _tail(receipt.source_digits), _tail(receipt.destination_digits)
    source, destination = _tail(message.source_digits), _tail(message.destination_digits)
    return (one, other) in ((destination, source), (source, destination))


def _tail(digits: bytes) -> bytes:
    return digits.lstrip(b"+0")[-9:].lower()
