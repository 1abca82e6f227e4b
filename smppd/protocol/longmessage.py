"""Messages longer than one short_message: user data headers, SAR parts, joining for policy, and cutting for sending.

Concatenation is 3GPP TS 23.040 section 9.2.3.24.1 and .8, SAR is SMPP 3.4 sections 5.3.2.22 to 24.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
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

    `national` is (single shift, locking shift) as `text.decode` takes it; `ports` is (destination, originator).
    """

    length: int
    concat: Concat | None
    national: tuple[int, int]
    ports: tuple[int, int] | None


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
    single = locking = 0
    at = 1
    while at < end:
        value = data[at + 2 : end] if at + 2 <= end else b""
        if at + 1 >= end or data[at + 1] > len(value):
            raise UdhError("user data header element past the end of the header")
        element, size = data[at], data[at + 1]
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
        at += 2 + size
    return Udh(end, concat, (single, locking), ports)


def _place(ref: int, total: int, seq: int, wide: bool) -> Concat | None:
    return Concat(ref, total, seq, wide) if 0 < seq <= total else None


def sar(ref: int, total: int, seq: int) -> Concat:
    """The place that the TLVs 0x020C, 0x020E and 0x020F name. Raises TextError if it is impossible."""
    _check(total, seq)
    return Concat(ref, total, seq, True)


def _check(total: int, seq: int) -> None:
    if not 1 <= seq <= total <= 255:
        raise TextError("part number out of range")


@dataclass(frozen=True, slots=True, repr=False)
class Joined:
    """What is known of a long message after a part came.

    `runs` are the texts of neighbouring parts, in order: a rule that may span parts is tried on each. `known` is all
    of it, with U+FFFD where parts are missing. `complete` when no part is; `refused` when `Joiner.refuse` was told so
    earlier (then nothing is kept and both texts are empty).
    """

    known: str
    complete: bool
    refused: bool
    runs: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Joined(<{len(self.known)} characters>, complete={self.complete}, refused={self.refused})"


# Memory beside the characters themselves, measured on CPython 3.11 and rounded up: a message's record with its
# dictionary and key, a part's slot, a refused key.
_MESSAGE_COST: Final = 1024
_PART_COST: Final = 128
_REFUSED_COST: Final = 384

_REFUSED: Final = Joined("", False, True, ())


@dataclass(slots=True, repr=False)
class _Parts:
    total: int
    touched: float
    cost: int = _MESSAGE_COST
    latest: dict[int, str] = field(default_factory=dict)
    # Texts that a part of the same number replaced, or that were here before it did: the first one seen wins.
    earlier: dict[int, str] = field(default_factory=dict)


class Joiner:
    """Joins the parts of long messages for policy, in bounded memory; it never holds a part back.

    At `max_messages` or `max_bytes` the message that was touched longest ago is forgotten, then the oldest refused
    key; both are also forgotten `ttl` seconds after the last part, or the refusal. `max_message_bytes` is the limit of
    one message. The time is always the caller's `now` in seconds, of any clock that does not run backwards.
    """

    def __init__(
        self,
        *,
        max_messages: int = 10_000,
        max_bytes: int = 16 * 1024 * 1024,
        max_message_bytes: int = 512 * 1024,
        ttl: float = 300.0,
    ) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._max_message_bytes = max_message_bytes
        self._ttl = ttl
        self._now = 0.0
        self._messages: OrderedDict[Hashable, _Parts] = OrderedDict()  # the longest untouched first
        self._refused: OrderedDict[Hashable, float] = OrderedDict()  # key -> when; the oldest first
        self.bytes = 0
        self.forgotten = 0  # incomplete messages dropped, by a limit or by time

    def __len__(self) -> int:
        """Messages that wait for parts; `refused` keys are counted apart."""
        return len(self._messages)

    @property
    def refused(self) -> int:
        """Keys that are remembered as refused."""
        return len(self._refused)

    def add(self, key: Hashable, concat: Concat, text: str, now: float) -> Joined:
        """Add a part and say what is known now. `key` names the message: account, source, destination, reference.

        The same part again changes nothing. Another text under a number that is known, or another total, means the
        reference is in use anew: a new message begins, but `runs` also tries the parts seen before it, because some
        phones would show those. A message that is complete is forgotten at once.
        Raises TextError when the part number is out of range or the message grows past its limit.
        """
        _check(concat.total, concat.seq)
        self.expire(now)
        if key in self._refused:
            return _REFUSED
        parts = self._messages.get(key)
        if parts is None:
            parts = self._messages[key] = _Parts(concat.total, self._now)
            self.bytes += _MESSAGE_COST
        else:
            parts.touched = self._now
            self._messages.move_to_end(key)
        known = parts.latest.get(concat.seq)
        if parts.total != concat.total or (known is not None and known != text):
            self.bytes -= self._begin_anew(parts, concat.total)
            known = None
        if known is None:
            cost = _PART_COST + sys.getsizeof(text)
            if parts.cost + cost > self._max_message_bytes:
                self._drop(key)
                raise TextError("long message too large to join")
            parts.latest[concat.seq] = text
            parts.cost += cost
            self.bytes += cost
        runs = tuple(_runs(parts.latest))
        complete = len(parts.latest) == parts.total
        joined = texts.REPLACEMENT.join(runs)
        if parts.earlier:
            runs += tuple(run for run in _runs(parts.latest | parts.earlier) if run not in runs)
        if complete:
            self._drop(key)
        else:
            self._shrink()
        return Joined(joined, complete, False, runs)

    def refuse(self, key: Hashable, now: float | None = None) -> None:
        """Remember that this message was refused: `add` says so of all its parts for `ttl` seconds from `now`.

        `now` may be left out right after an `add`. The texts of the message are forgotten.
        """
        self._now = self._now if now is None else max(self._now, now)
        self._drop(key)
        if self._refused.pop(key, None) is None:
            self.bytes += _REFUSED_COST
        self._refused[key] = self._now
        self._shrink()

    def expire(self, now: float) -> None:
        """Forget what is older than `ttl`. `add` does it too; call it now and then where no parts come."""
        self._now = max(self._now, now)
        limit = self._now - self._ttl
        while self._messages and next(iter(self._messages.values())).touched <= limit:
            self._forget_oldest()
        while self._refused and next(iter(self._refused.values())) <= limit:
            self._forget_refusal()

    @staticmethod
    def _begin_anew(parts: _Parts, total: int) -> int:
        """Make the latest texts the earlier ones; returns the cost of those that were there already and go."""
        freed = 0
        for seq, text in parts.latest.items():
            if parts.earlier.setdefault(seq, text) is not text:
                freed += _PART_COST + sys.getsizeof(text)
        parts.latest = {}
        parts.total = total
        parts.cost -= freed
        return freed

    def _drop(self, key: Hashable) -> None:
        parts = self._messages.pop(key, None)
        if parts is not None:
            self.bytes -= parts.cost

    def _forget_oldest(self) -> None:
        _, parts = self._messages.popitem(last=False)
        self.bytes -= parts.cost
        self.forgotten += 1

    def _forget_refusal(self) -> None:
        self._refused.popitem(last=False)
        self.bytes -= _REFUSED_COST

    def _shrink(self) -> None:
        while len(self._messages) > self._max_messages or (self._messages and self.bytes > self._max_bytes):
            self._forget_oldest()
        while len(self._refused) > self._max_messages or (self._refused and self.bytes > self._max_bytes):
            self._forget_refusal()


def _runs(parts: dict[int, str]) -> Iterator[str]:
    """The texts of neighbouring parts, joined, in order."""
    run: list[str] = []
    before = 0
    for seq in sorted(parts):
        if run and seq != before + 1:
            yield "".join(run)
            run = []
        run.append(parts[seq])
        before = seq
    if run:
        yield "".join(run)


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
