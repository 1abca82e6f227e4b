"""Delivery receipts: read and written as SMPP 3.4 Appendix B has them, and as carriers really send them.

A receipt that passes through is spliced, not rewritten: only the message id changes. Which message an id means is
found in the second half: carriers give it hexadecimal in the answer and decimal in the receipt, without its leading
zeros, in the other case or without its dashes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

T = TypeVar("T")

# sm_length is one octet and 255 is reserved (SMPP 3.4 section 5.2.21): a short_message holds this much.
SHORT_MESSAGE_LIMIT: Final = 254
# message_id with its NUL is 65 octets (SMPP 3.4 section 5.2.23); some carriers use all 65.
ID_LIMIT: Final = 65


class MessageState(IntEnum):
    """SMPP 3.4 section 5.2.28, with the two states that SMPP 5.0 section 4.7.15 adds."""

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

    @property
    def word(self) -> bytes:
        """The seven letters after ``stat:`` (SMPP 3.4 Appendix B, table B-2)."""
        return _WORDS[self]

    @property
    def is_final(self) -> bool:
        """Whether no other state can follow.

        ACCEPTED is final in SMPP 5.0, but carriers send it before DELIVERED, and UNKNOWN may be a passing trouble:
        taking either for the end would lose the receipt that matters.
        """
        return self in _FINAL

    @classmethod
    def from_word(cls, word: bytes) -> MessageState | None:
        """The state that a ``stat`` means, in any case, spelt out, as a digit or by a carrier's own word; or None."""
        return _STATES.get(word.strip().upper())


_WORDS: Final = (
    b"SCHEDLD",
    b"ENROUTE",
    b"DELIVRD",
    b"EXPIRED",
    b"DELETED",
    b"UNDELIV",
    b"ACCEPTD",
    b"UNKNOWN",
    b"REJECTD",
    b"SKIPPED",
)
_FINAL: Final = frozenset(
    (
        MessageState.DELIVERED,
        MessageState.EXPIRED,
        MessageState.DELETED,
        MessageState.UNDELIVERABLE,
        MessageState.REJECTED,
        MessageState.SKIPPED,
    )
)
_STATES: Final[dict[bytes, MessageState]] = {
    **{word: MessageState(value) for value, word in enumerate(_WORDS)},
    **{state.name.encode(): state for state in MessageState},
    **{b"%d" % state: state for state in MessageState},
    b"DELIVERD": MessageState.DELIVERED,
    b"DELIVRED": MessageState.DELIVERED,
    b"UNDELIVERED": MessageState.UNDELIVERABLE,
    b"UNDELIVRD": MessageState.UNDELIVERABLE,
    b"FAILED": MessageState.UNDELIVERABLE,
    b"CANCELED": MessageState.DELETED,
    b"CANCELLED": MessageState.DELETED,
    b"BUFFERED": MessageState.ENROUTE,
    b"BUFFRED": MessageState.ENROUTE,
    b"ACKED": MessageState.ACCEPTED,
}


class Receipt(NamedTuple):
    """The fields of a receipt as they came; one that is missing is empty.

    `stat` is in capitals and `state` what it means, if anything. `text`, the beginning of the message, is content,
    and where a message only looks like a receipt the other fields are too: none is printed. (A tuple, because building
    one takes a third of a frozen dataclass's time.)
    """

    id: bytes
    sub: bytes
    dlvrd: bytes
    submit_date: bytes
    done_date: bytes
    stat: bytes
    err: bytes
    text: bytes
    state: MessageState | None

    def __repr__(self) -> str:
        return f"Receipt(state={self.state!r}, id=<{len(self.id)} octets>, text=<{len(self.text)} octets>)"


# Plain classes and counts keep it fast; what it does not match is read by `_scan`.
_CANONICAL: Final = re.compile(
    rb"id:([\w-]{1,65}) sub:(\d{3}) dlvrd:(\d{3}) submit date:(\d{10,12}) done date:(\d{10,12}) stat:([A-Z]{7})"
    rb" err:(\w{1,3}) [Tt]ext:(.*)",
    re.DOTALL,
)

# The name of a field in any spelling, at the start or after a separator.
_NAME: Final = re.compile(
    rb"(?:(?<=[\s,;|])|\A)(?:(?P<id>(?:(?:message|msg)[ _-]?)?id)|(?P<sub>sub)|(?P<dlvrd>dlvrd)"
    rb"|(?P<submit_date>submit[ _-]{0,3}date)|(?P<done_date>done[ _-]{0,3}date)|(?P<stat>stat(?:us)?)"
    rb"|(?P<err>err(?:or)?)|(?P<text>text)) ?:",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(rb"\s*([^\s,;|\0]*)")
_DATE: Final = re.compile(rb"\s*(\d[\d:/.T -]*\d|)")


def parse(text: bytes) -> Receipt | None:
    """Read a receipt's short_message or message_payload, in any order, case and spelling of its fields.

    None when it has neither id nor stat. Never raises. Receipts in UCS-2 are read too. An id longer than 65 octets
    counts as missing.
    """
    match = _CANONICAL.fullmatch(text)
    if match is not None:
        message_id, sub, dlvrd, submitted, done, stat, err, content = match.groups()
        return Receipt(message_id, sub, dlvrd, submitted, done, stat, err, content, _STATES.get(stat))
    if text[:1] == b"\0":
        text = text.replace(b"\0", b"")  # UCS-2
    spans = _scan(text)
    found = {name: text[start:end] for name, (start, end) in spans.items()}
    message_id = found.get("id", b"")
    stat = found.get("stat", b"").upper()
    if len(message_id) > ID_LIMIT:
        message_id = b""
    if not message_id and not stat:
        return None
    return Receipt(
        message_id,
        found.get("sub", b""),
        found.get("dlvrd", b""),
        found.get("submit_date", b""),
        found.get("done_date", b""),
        stat,
        found.get("err", b""),
        found.get("text", b""),
        MessageState.from_word(stat),
    )


def _scan(data: bytes) -> dict[str, tuple[int, int]]:
    """Where the value of each field lies.

    The first field of a name counts. ``text`` is what a customer wrote and may look like fields, so it reaches to the
    end unless a field follows that had not come before it.
    """
    spans: dict[str, tuple[int, int]] = {}
    names = [(match.lastgroup or "", match.start(), match.end()) for match in _NAME.finditer(data)]
    text_start = -1
    for place, (name, start, end) in enumerate(names):
        if name in spans or (name == "text" and text_start >= 0):
            continue
        if name == "text":
            text_start = end
            continue
        following = names[place + 1][1] if place + 1 < len(names) else len(data)
        pattern = _DATE if name.endswith("date") else _TOKEN
        value = pattern.match(data, end, following)
        if value is None:
            continue
        if text_start >= 0 and "text" not in spans:
            spans["text"] = text_start, max(start - 1, text_start)
        spans[name] = value.span(1)
    if text_start >= 0 and "text" not in spans:
        spans["text"] = text_start, len(data)
    return spans


def splice(text: bytes, new_id: bytes, limit: int = SHORT_MESSAGE_LIMIT) -> bytes:
    """The receipt `text` under `new_id`, everything else as it was, octet for octet.

    If that is longer than `limit` octets (pass the payload's where it is a message_payload), the end of its ``text:``
    is cut off. Where even that is not enough, the receipt is written anew from its known fields. A text without an id
    comes back as it is, and so does UCS-2 with characters beyond Latin-1.
    """
    if text[:1] == b"\0" and not len(text) % 2 and not any(text[::2]):
        narrow = splice(text[1::2], new_id, limit // 2)
        return narrow.decode("latin-1").encode("utf-16-be")
    match = _CANONICAL_ID.match(text)
    start, end = match.span(1) if match is not None else _scan(text).get("id", (-1, -1))
    if start < 0:
        return text
    spliced = b"%b%b%b" % (text[:start], new_id, text[end:])
    excess = len(spliced) - limit
    if excess <= 0:
        return spliced
    spans = _scan(spliced)
    first, last = spans.get("text", (0, 0))
    if last - first >= excess:
        return spliced[: last - excess] + spliced[last:]
    fields = {name: spliced[start:end] for name, (start, end) in spans.items()}
    return _canonical(
        new_id,
        fields.get("sub", b"")[:3],
        fields.get("dlvrd", b"")[:3],
        fields.get("submit_date", b"")[:12],
        fields.get("done_date", b"")[:12],
        fields.get("stat", b"")[:16],
        fields.get("err", b"")[:8],
        b"",
    )


_CANONICAL_ID: Final = re.compile(rb"id:([\w-]+) ")


def write(
    id: bytes,
    state: MessageState,
    *,
    submitted: int,
    done: int,
    err: bytes = b"000",
    text: bytes = b"",
    sub: int = 1,
    dlvrd: int | None = None,
) -> bytes:
    """The receipt of SMPP 3.4 Appendix B, with `text` cut so that it stays within 254 octets.

    `submitted` and `done` are seconds since 1970, UTC, and are written as YYMMDDhhmm in UTC. `dlvrd` is `sub` when the
    message was delivered and 0 when not, unless given.
    """
    if dlvrd is None:
        dlvrd = sub if state is MessageState.DELIVERED else 0
    written = _canonical(
        id, b"%03d" % sub, b"%03d" % dlvrd, _minute(submitted // 60), _minute(done // 60), _WORDS[state], err, text
    )
    excess = len(written) - SHORT_MESSAGE_LIMIT
    return written if excess <= 0 else written[: -min(excess, len(text)) or None]


def _canonical(
    id: bytes, sub: bytes, dlvrd: bytes, submitted: bytes, done: bytes, stat: bytes, err: bytes, text: bytes
) -> bytes:
    return b"id:%b sub:%b dlvrd:%b submit date:%b done date:%b stat:%b err:%b text:%b" % (
        id,
        sub,
        dlvrd,
        submitted,
        done,
        stat,
        err,
        text,
    )


@lru_cache(maxsize=64)
def _minute(minutes: int) -> bytes:
    """YYMMDDhhmm of minutes since 1970; receipts of the same minutes come in crowds."""
    return datetime.fromtimestamp(60 * minutes, UTC).strftime("%y%m%d%H%M").encode()


_DATE_FORMS: Final = {
    10: ("%y%m%d%H%M",),
    12: ("%y%m%d%H%M%S", "%Y%m%d%H%M"),
    14: ("%Y%m%d%H%M%S",),
}


def seconds(date: bytes) -> int | None:
    """A receipt's date in seconds since 1970, read as UTC since none says its zone; None if it is no date.

    YYMMDDhhmm and YYMMDDhhmmss, the same with a four-digit year, and separators between the digits are understood.
    """
    digits = bytes(octet for octet in date if 0x30 <= octet <= 0x39).decode("ascii")
    for form in _DATE_FORMS.get(len(digits), ()):
        try:
            return int(datetime.strptime(digits, form).replace(tzinfo=UTC).timestamp())
        except ValueError:
            continue
    return None


_HEX: Final = re.compile(rb"[0-9A-Fa-f]{1,32}")
_UUID: Final = re.compile(rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_DECIMAL_LIMIT: Final = 39  # digits of a 128-bit number
_WIDTHS_LIMIT: Final = 4  # different lengths of padded ids that one upstream is expected to use


class IdForm(StrEnum):
    """How the id in a receipt must be rewritten to be the id that submit_sm_resp gave, in the order they are tried."""

    RAW = "raw"
    STRIPPED = "stripped"  # the answer has no leading zeros
    PADDED = "padded"  # the answer has leading zeros
    LOWER = "lower"
    UPPER = "upper"
    DECIMAL_TO_HEX = "decimal-to-hex"  # the answer is hexadecimal, the receipt decimal
    DECIMAL_TO_HEX_UPPER = "decimal-to-hex-upper"
    DECIMAL_TO_HEX_PADDED = "decimal-to-hex-padded"
    DECIMAL_TO_HEX_UPPER_PADDED = "decimal-to-hex-upper-padded"
    HEX_TO_DECIMAL = "hex-to-decimal"  # the answer is decimal, the receipt hexadecimal
    HEX_TO_DECIMAL_PADDED = "hex-to-decimal-padded"
    UUID_PLAIN = "uuid-plain"  # the answer has no dashes
    UUID_DASHED = "uuid-dashed"


def _hex(raw: bytes) -> bytes | None:
    if not raw.isdigit() or len(raw) > _DECIMAL_LIMIT:
        return None
    return b"%x" % int(raw)


def _upper_hex(raw: bytes) -> bytes | None:
    found = _hex(raw)
    return None if found is None else found.upper()


def _decimal(raw: bytes) -> bytes | None:
    return b"%d" % int(raw, 16) if _HEX.fullmatch(raw) else None


def _plain(raw: bytes) -> bytes | None:
    return raw.replace(b"-", b"") if _UUID.fullmatch(raw) else None


def _dashed(raw: bytes) -> bytes | None:
    if len(raw) != 32 or not _HEX.fullmatch(raw):
        return None
    return b"-".join((raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:]))


def _same(raw: bytes) -> bytes | None:
    return raw


# Each form's rewriting, and whether zeros are put before its result up to a width that the upstream's answers have.
_REWRITE: Final[dict[str, tuple[Callable[[bytes], bytes | None], bool]]] = {
    "raw": (_same, False),
    "stripped": (lambda raw: raw.lstrip(b"0") or raw[-1:], False),
    "padded": (_same, True),
    "lower": (bytes.lower, False),
    "upper": (bytes.upper, False),
    "decimal-to-hex": (_hex, False),
    "decimal-to-hex-upper": (_upper_hex, False),
    "decimal-to-hex-padded": (_hex, True),
    "decimal-to-hex-upper-padded": (_upper_hex, True),
    "hex-to-decimal": (_decimal, False),
    "hex-to-decimal-padded": (_decimal, True),
    "uuid-plain": (_plain, False),
    "uuid-dashed": (_dashed, False),
}
_FORMS: Final = tuple(IdForm)
_WAYS: Final = {form: (form, *_REWRITE[form.value]) for form in _FORMS}


def normalise(raw: bytes, form: IdForm, width: int = 0) -> bytes | None:
    """`raw` in `form`, or None where the form does not apply to it. The padded forms need the `width` to reach."""
    rewrite, padded = _REWRITE[form.value]
    found = rewrite(raw)
    if found is None or not padded:
        return found
    return found.rjust(width, b"0") if len(found) < width else None


def id_forms(raw: bytes) -> tuple[bytes, ...]:
    """All forms of `raw` that need no width, itself first and none twice."""
    forms = (normalise(raw, form) for form in _FORMS)
    return tuple(dict.fromkeys(key for key in forms if key is not None))


class IdMatcher:
    """One upstream's ids: which forms a receipt's id may have had in submit_sm_resp, the likeliest first.

    The relay keeps its messages under the ids exactly as the answers gave them (case and zeros can be all that tells
    two apart), shows each to `answered`, and looks a receipt's id up with `find`, or by `candidates` and `learn`.

    The id as it came is tried first, because an id of digits only may be decimal or hexadecimal and a rewritten one
    could hit another message. Only when another form has hit at least `settle_after` times and four times as often as
    the raw one does it go first: then it is the raw reading that would go wrong.
    """

    def __init__(self, settle_after: int = 16, only: tuple[IdForm, ...] = ()) -> None:
        """only: nothing is learned; ids are tried in these forms and no other."""
        self._settle_after = settle_after
        self._only = only
        self._hits = dict.fromkeys(_FORMS, 0)
        self._use(only or _FORMS)
        self._widths: dict[int, None] = {}  # of answers with leading zeros

    @property
    def hits(self) -> Mapping[IdForm, int]:
        """How often each form led to a message: for metrics."""
        return self._hits

    @property
    def settled(self) -> IdForm:
        """The form that is tried first."""
        return self._order[0]

    def answered(self, message_id: bytes) -> None:
        """Note the id of a submit_sm_resp. Its length tells how far leading zeros have to go."""
        if message_id[:1] == b"0" and len(message_id) not in self._widths:
            if len(self._widths) >= _WIDTHS_LIMIT:
                del self._widths[next(iter(self._widths))]
            self._widths[len(message_id)] = None

    def candidates(self, raw: bytes) -> Iterator[tuple[IdForm, bytes]]:
        """The forms and keys to look up for a receipt's id `raw`, in order, no key twice."""
        tried: set[bytes] = set()
        for form, rewrite, padded in self._ways:
            key = rewrite(raw)
            if key is None:
                continue
            keys = [key.rjust(width, b"0") for width in self._widths if len(key) < width] if padded else [key]
            for key in keys:
                if key not in tried:
                    tried.add(key)
                    yield form, key

    def learn(self, form: IdForm) -> None:
        """Note that a candidate of `form` was the right one."""
        self._hits[form] += 1
        if form is not self._order[0]:
            self._settle()

    def find(self, raw: bytes, messages: Mapping[bytes, T]) -> T | None:
        """What `messages` holds for a receipt's id `raw` in any of its forms, which is learned; None if nothing."""
        if self._order is _FORMS and (found := messages.get(raw)) is not None:
            self._hits[IdForm.RAW] += 1
            return found
        for form, key in self.candidates(raw):
            found = messages.get(key)
            if found is not None:
                self.learn(form)
                return found
        return None

    def _settle(self) -> None:
        if self._only:
            return
        hits = self._hits
        best = max(_FORMS, key=hits.__getitem__)
        if best is IdForm.RAW or hits[best] < max(self._settle_after, 4 * hits[IdForm.RAW]):
            self._use(_FORMS)
        else:
            self._use((best, *(form for form in _FORMS if form is not best)))

    def _use(self, order: tuple[IdForm, ...]) -> None:
        self._order = order
        self._ways = [_WAYS[form] for form in order]
