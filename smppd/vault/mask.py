"""Masks phone numbers and senders in everything that people see without giving a reason: logs, listings, the audit trail."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from smppd.message import masked

# An international number in running text; digit runs without a plus are ids, ports and counts.
_NUMBER = re.compile(r"(?<![0-9A-Za-z])\+[0-9][0-9 ().-]{5,18}[0-9]")


def mask_number(number: bytes | str) -> str:
    """`+447700900123` -> `+44770***0123`; alphanumeric senders and short codes keep two characters at most."""
    return masked(number)


def mask_text(text: str) -> str:
    """Free text with every international number (`+` and 7 to 20 digits, spaced or not) masked."""
    return _NUMBER.sub(lambda match: mask_number(re.sub(r"[^0-9+]", "", match.group())), text)


DIGITS = 5
"""So many digits in free text may be a phone number."""

# Digits of any script, with what people put between the groups of a number: at most three characters that are neither
# letters nor digits, or one that ends a clause where no space follows it.
_RUN = re.compile(r"\+?\d(?:(?:[^\w,;:!?]{0,3}_?|[,;:])\d)*")
_RECORD = re.compile(r"(?<![0-9A-Za-z])(?=[0-9a-f]*[a-f])[0-9a-f]{16}(?![0-9A-Za-z])")
_DATE = re.compile(r"(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])")


def mask_digits(text: str) -> str:
    """Free text that is kept for ever, a note or a reason: every run of DIGITS or more digits becomes `***`, in whatever
    script and however it is grouped, since it may be a phone number. Record ids as smppd shows them and dates
    (`2026-11-29`) stay."""
    kept = [match.span() for match in _RECORD.finditer(text)]

    def hide(match: re.Match[str]) -> str:
        run = match.group()
        if sum(c.isdecimal() for c in run) < DIGITS or _DATE.fullmatch(run):
            return run
        return run if any(start <= match.start() and match.end() <= end for start, end in kept) else "***"

    return _RUN.sub(hide, text)


# -- other people's numbers ----------------------------------------------------------------------------------------------

PHONE_DIGITS = 7
"""A run of so many digits may be a whole phone number. Shorter ones are short codes, one-time codes, prices."""

# As `_RUN`, but in a text of plain digits, and a plus begins a number.
_LIKE = re.compile(r"\+?[0-9](?:(?:[^\w,;:!?+]{0,3}_?|[,;:])[0-9])*")
_GROUP = re.compile(r"[0-9]+")
_TIMES = r"(?:[T ]{1,2}(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?)?"
_DATE_TIME = re.compile(
    r"(?:(?:19|20)[0-9]{2}([-/.])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12][0-9]|3[01])"
    r"|(?:0?[1-9]|[12][0-9]|3[01])([-/.])(?:0?[1-9]|[12][0-9]|3[01])\2(?:19|20)[0-9]{2})" + _TIMES
)


class OthersMask:
    """Hides in texts that one person is given what may be another's phone number. The person's own number stays, in every
    notation; so do runs of less than PHONE_DIGITS digits, and dates."""

    __slots__ = ("_abroad", "_home")

    def __init__(self, own: Iterable[bytes], national: Iterable[bytes] = ()) -> None:
        """own: the person's numbers in their normal forms (`numbers.search_forms`, exact): international digits, or a short
        number as it is. national: the forms in which the country itself writes them."""
        every = [form.decode("ascii") for form in own if form.isdigit()]
        home = [form.decode("ascii") for form in national if form.isdigit()]
        trunk = [one for one in home if one.startswith("0")]
        abroad = dict.fromkeys(every)
        for one in every:
            abroad.update(dict.fromkeys(("00" + one, "011" + one)))
            # `+44 (0)7700 900123`
            abroad.update(dict.fromkeys(one.removesuffix(two[1:]) + two for two in trunk if one.endswith(two[1:])))
        self._abroad = frozenset(abroad)
        self._home = frozenset(home) | self._abroad

    def __repr__(self) -> str:
        return "<OthersMask ***>"

    def hide(self, text: str, *, part: bool = False) -> str:
        """The text with all other numbers masked. part: it is a piece of a longer text, so that a number may be cut off at
        either end: there any run of digits is hidden."""
        # The same text with the digits of all scripts as plain ones: each character stays where it is.
        plain = "".join(_digit(c) for c in text)
        pieces: list[str] = []
        at = 0
        for match in _LIKE.finditer(plain):
            start, end = match.span()
            edge = part and (not _seen(plain[:start]) or not _seen(plain[end:]))
            for first, last, shown in self._hidden(match.group(), edge):
                pieces += (text[at : start + first], shown)
                at = start + last
        return "".join(pieces) + text[at:]

    def _hidden(self, run: str, edge: bool) -> Iterator[tuple[int, int, str]]:
        """(start, end, what is shown instead) of the pieces of a run that are hidden. run: in plain digits."""
        digits = "".join(_GROUP.findall(run))
        if digits in (self._abroad if run[0] == "+" else self._home):
            return
        if not edge:
            if len(digits) < PHONE_DIGITS or _DATE_TIME.fullmatch(run):
                return
            cut = self._own_within(run)
            if cut is not None:
                (before, after) = cut
                if before:
                    yield from self._hidden(run[:before], False)
                if after < len(run):
                    for start, end, shown in self._hidden(run[after:], False):
                        yield after + start, after + end, shown
                return
        yield (
            0,
            len(run),
            mask_number(("+" if run[0] == "+" else "") + digits) if len(digits) >= PHONE_DIGITS else "***",
        )

    def _own_within(self, run: str) -> tuple[int, int] | None:
        """(end of what is before, start of what is behind) the person's own number in a run of several groups, None where it is
        not in there. It stands at the beginning in any form, or at the end in an international one: then it is no piece of a
        longer number."""
        groups = [match.span() for match in _GROUP.finditer(run)]
        forms = self._abroad if run[0] == "+" else self._home
        digits = ""
        for number, (start, end) in enumerate(groups[:-1]):
            digits += run[start:end]
            if digits in forms:
                return 0, groups[number + 1][0]
        digits = ""
        for number in range(len(groups) - 1, 0, -1):
            digits = run[slice(*groups[number])] + digits
            if len(digits) > PHONE_DIGITS and digits in self._abroad and run[0] != "+":
                return groups[number - 1][1], len(run)
        return None

    def hide_these(self, text: str, numbers: Iterable[bytes]) -> str:
        """A name that a carrier gave, with these numbers in it masked: in their normal form, and without their country code as
        far as PHONE_DIGITS are left."""
        for number in numbers:
            digits = number.decode("latin-1")
            if not digits.isdigit() or len(digits) < PHONE_DIGITS or digits in self._home:
                continue
            for size in range(len(digits), PHONE_DIGITS - 1, -1):
                text = text.replace(digits[-size:], "***")
        return text


def _digit(character: str) -> str:
    value = None if "0" <= character <= "9" else unicodedata.digit(character, None)
    return character if value is None else str(value)


def _seen(text: str) -> bool:
    """Whether something stands there that is no mere blank or mark."""
    return any(c.isalnum() for c in text)
