"""Which message an id in a receipt means: carriers give it hexadecimal in the answer and decimal in the receipt, without its
leading zeros, in the other case or without its dashes, or several of these at once.

Two ways lead from one to the other. A *form* rewrites the receipt's id into what the answer gave, and how often each one hit
is learned. The *canonical key* is what an id is without case, dashes and leading zeros: two ids that share one, in either
base, may be the same, and are believed to be when addresses agree as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from hashlib import blake2b
from typing import Final, TypeVar

T = TypeVar("T")

# message_id with its NUL is 65 octets (SMPP 3.4 section 5.2.23). Longer ones are kept exactly up to this many octets.
KEPT_LIMIT: Final = 128
_PREFIX: Final = 64
_MARKS: Final = b"0x"  # that are left out at the start
_OTHER: Final = bytes(octet for octet in range(128) if not chr(octet).isalnum())


def kept(raw: bytes) -> bytes:
    """The id as it is kept: itself, or for one over 128 octets its beginning and a hash of the whole, so that it is found
    again by whoever names it in full, and nothing that stores it has to hold more."""
    if len(raw) <= KEPT_LIMIT:
        return raw
    return raw[:_PREFIX] + b"~" + blake2b(raw, digest_size=16).hexdigest().encode()


def canonical(raw: bytes) -> bytes:
    """What an id is without case, dashes and other marks, leading zeros and the ``0x`` of a hexadecimal number. Of a long one
    the first 64 octets count, which is what a carrier's receipt may cut it to. Never empty unless `raw` is."""
    key = raw[:_PREFIX].lower().translate(None, _OTHER).lstrip(b"0")
    if key[:1] == b"x" and _HEX.fullmatch(key, 1):
        key = key[1:].lstrip(b"0")
    return key or raw[:1]


def is_canonical(raw: bytes) -> bool:
    """Whether an id is its own canonical key, as most are: told faster than by making it."""
    return (raw.isdigit() or (raw.isalnum() and raw.islower())) and raw[0] not in _MARKS and len(raw) <= _PREFIX


def readings(raw: bytes) -> tuple[bytes, ...]:
    """The canonical keys that an id in a receipt may stand for: its own, and the same number in the other base."""
    key = canonical(raw)
    found = [key]
    if key.isdigit() and len(key) <= _DECIMAL_LIMIT:
        found.append(b"%x" % int(key))
    if _HEX.fullmatch(key):
        found.append(b"%d" % int(key, 16))
    return tuple(found)


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
    ALIKE = "alike"  # none of these alone: the canonical keys are the same


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
_FORMS: Final = tuple(form for form in IdForm if form is not IdForm.ALIKE)
_WAYS: Final[dict[IdForm, tuple[IdForm, Callable[[bytes], bytes | None], bool]]] = {
    form: (form, *_REWRITE[form.value]) for form in _FORMS
}


def normalise(raw: bytes, form: IdForm, width: int = 0) -> bytes | None:
    """`raw` in `form`, or None where the form does not apply to it. The padded forms need the `width` to reach."""
    if form is IdForm.ALIKE:
        return None
    rewrite, padded = _REWRITE[form.value]
    found = rewrite(raw)
    if found is None or not padded:
        return found
    return found.rjust(width, b"0") if len(found) < width else None


class IdMatcher:
    """One upstream's ids: which forms a receipt's id may have had in submit_sm_resp, the likeliest first.

    The relay keeps its messages under the ids exactly as the answers gave them (case and zeros can be all that tells
    two apart), shows each to `answered`, looks a receipt's id up with `find`, or by `candidates` and, of the messages found,
    `form`, and tells `learn` which one it was.

    The id as it came is tried first, because an id of digits only may be decimal or hexadecimal and a rewritten one
    could hit another message. Only when another form has hit at least `settle_after` times and four times as often as
    the raw one does it go first: then it is the raw reading that would go wrong.
    """

    def __init__(self, settle_after: int = 16, only: tuple[IdForm, ...] = ()) -> None:
        """only: nothing is learned; ids are tried in these forms and no other."""
        self._settle_after = settle_after
        self._only = only
        self._hits = dict.fromkeys(IdForm, 0)
        self._use(tuple(form for form in only if form is not IdForm.ALIKE) or (() if only else _FORMS))
        self._widths: dict[int, None] = {}  # of answers with leading zeros
        self.alike = not only or IdForm.ALIKE in only
        """Whether canonical keys count."""
        self.plain = not only or IdForm.RAW in only
        """Whether an id that is the answer's, octet for octet, counts."""

    @property
    def hits(self) -> Mapping[IdForm, int]:
        """How often each form led to a message: for metrics."""
        return self._hits

    def sure(self, form: IdForm) -> bool:
        """Whether a form is this upstream's: set by the operator, or settled by many hits. Any other is a guess."""
        return form in self._only or (form is self.settled and form is not IdForm.RAW)

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

    def form(self, raw: bytes, given: bytes) -> IdForm | None:
        """How a receipt's id `raw` leads to the id `given` in an answer; None if it does not."""
        if raw == given and self.plain:
            return IdForm.RAW
        for form, rewrite, padded in self._ways:
            key = rewrite(raw)
            if key is not None and (key.rjust(len(given), b"0") if padded else key) == given:
                return form
        return IdForm.ALIKE if self.alike and canonical(given) in readings(raw) else None

    def learn(self, form: IdForm) -> None:
        """Note that a candidate of `form` was the right one."""
        self._hits[form] += 1
        if form is not self.settled:
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
        self.settled = order[0] if order else IdForm.ALIKE
        """The form that is tried first."""
