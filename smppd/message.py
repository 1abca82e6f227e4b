"""The words every room shares: addresses, what policy decided, and the states a message passes through.

Types that hold a number or a text print it masked, so that a stray repr in a log or a traceback gives nothing away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple


def masked(digits: bytes | str) -> str:
    """A number or sender with its middle hidden, for people: ``+44770***0123``; ``AC***`` for names and short codes."""
    text = digits.decode("latin-1") if isinstance(digits, bytes) else digits
    plus = "+" if text.startswith("+") else ""
    bare = text[len(plus) :]
    if bare.isascii() and bare.isdigit() and len(bare) >= 10:
        return f"{plus}{bare[: min(5, len(bare) - 7)]}***{bare[-4:]}"
    shown = bare[:2] if len(bare) > 4 else ""
    return "".join(c if " " <= c <= "~" else "?" for c in shown) + "***"


class Address(NamedTuple):
    """An address as on the wire: type of number, numbering plan (SMPP 3.4 5.2.5, 5.2.6), digits without NUL."""

    ton: int
    npi: int
    digits: bytes

    def __repr__(self) -> str:
        return f"Address(ton={self.ton}, npi={self.npi}, {masked(self.digits)})"


class Refusal(NamedTuple):
    """Why a message is refused: the SMPP status for the customer, a short reason in words, the rule or limit that said so."""

    status: int
    reason: str
    rule: str = ""


class Hit(NamedTuple):
    """One rule that matched; ``shadow`` ones were counted and did nothing."""

    policy: str
    rule: str
    shadow: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What policy decided on one message. No verdict at all (``None``) means: pass it on, every byte as it came.

    ``expire_after``: seconds after which it is not worth delivering any more. ``on_unknown``: ``resend`` or ``hold``, where
    the account's does not count. ``hide``: recorded without its text; ``may_hide``: so it would be if more of its text, which
    is not known yet, said so. ``message_class``: what kind of message a rule says it is (`config.rules.CLASSES`), empty where
    none does. ``restore``: who replies to ``source`` is to reach the sender that the message had.
    """

    refusal: Refusal | None = None
    source: Address | None = None
    drop_tlvs: frozenset[int] = frozenset()
    tags: frozenset[str] = frozenset()
    route: str | None = None
    hits: tuple[Hit, ...] = field(default=())
    hold: bool = False
    expire_after: float | None = None
    on_unknown: str | None = None
    hide: bool = False
    may_hide: bool = False
    message_class: str = ""
    restore: bool = False
    set_tlvs: tuple[tuple[int, bytes], ...] = ()

    def with_tlvs(self, set_tlvs: tuple[tuple[int, bytes], ...], message_class: str) -> Verdict:
        """The same with these TLVs set and this class."""
        return replace(self, set_tlvs=set_tlvs, message_class=message_class)


class State(IntEnum):
    """States of a message in our record. 1 to 9 are SMPP's own message_state values (SMPP 3.4 5.2.28), the others are ours."""

    SCHEDULED = 0
    ENROUTE = 1
    DELIVERED = 2
    EXPIRED = 3
    DELETED = 4
    UNDELIVERABLE = 5
    ACCEPTED = 6
    UNKNOWN = 7
    REJECTED = 8
    SKIPPED = 9
    STORED = 20
    REFUSED = 21
    SUBMITTED = 22
    UNANSWERED = 23
    RESENT = 24
    OPTED_OUT = 25
    RECEIPT_DONE = 26
    RECEIPT_EXPIRED = 27
    OPTED_IN = 28
    # No version wrote 29. It is free.


FINAL_STATES: Final = frozenset(
    {State.DELIVERED, State.EXPIRED, State.DELETED, State.UNDELIVERABLE, State.UNKNOWN, State.REJECTED, State.SKIPPED}
)

BESIDE: Final = frozenset({State.RECEIPT_DONE, State.RECEIPT_EXPIRED, State.OPTED_OUT, State.OPTED_IN})
"""What happens to a message's receipt, or because of what it says: the message itself stays in the state that it is in."""

_EVENT: Final = Struct(">QQBBIB")


class Event(NamedTuple):
    """Something that happened to a message after it was recorded. No number and no text: it is stored in the clear.

    ``id``: record; ``time``: epoch milliseconds; ``error``: SMPP status or network code, 0 for none; ``duplicate``: it may
    have reached the SMSC before; ``upstream``, ``upstream_id``: where it went and what it is called there.
    """

    id: int
    time: int
    state: int
    duplicate: bool = False
    error: int = 0
    upstream: str = ""
    upstream_id: bytes = b""


def pack_event(
    identity: int, time: int, state: int, *, duplicate: bool = False, error: int = 0, detail: bytes = b""
) -> bytes:
    """An ``Event`` as bytes. ``detail``: upstream name, NUL, upstream id; at most 255 octets are kept."""
    if len(detail) > 255:
        detail = detail[:255]
    return _EVENT.pack(identity, time, state, duplicate, error & 0xFFFFFFFF, len(detail)) + detail


def read_events(block: bytes) -> Iterator[Event]:
    """The events packed one after another in ``block``; stops at the first incomplete one."""
    at, end = 0, len(block)
    while at + _EVENT.size <= end:
        identity, time, state, duplicate, error, length = _EVENT.unpack_from(block, at)
        at += _EVENT.size
        upstream, _, upstream_id = bytes(block[at : at + length]).partition(b"\0")
        at += length
        yield Event(identity, time, state, bool(duplicate), error, upstream.decode("utf-8", "replace"), upstream_id)


def events_of(block: bytes, identity: int) -> list[Event]:
    """Those of one record among the events packed in ``block``: as ``read_events``, without reading the others."""
    needle = identity.to_bytes(8, "big")
    found: list[Event] = []
    if needle not in block:
        return found
    at, end, size = 0, len(block), _EVENT.size
    while at + size <= end:
        after = at + size + block[at + size - 1]
        if block[at : at + 8] == needle:
            found.extend(read_events(block[at:after]))
        at = after
    return found
