"""Numbers of payment cards in a text: by length, issuer's range and check digit, whatever stands between their digits."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MOST_GROUPS: Final = 64
"""Groups of digits of one run that are looked at; a run with more is no number that anybody wrote."""
LEAST: Final = 12
MOST: Final = 19

# Digits with at most two signs between them, no part of a word or of a longer number.
_LETTER: Final = r"A-Za-z0-9\u00c0-\u058f"
_RUN: Final = re.compile(
    rf"(?<![{_LETTER}])(?<![A-Za-z0-9][./=:])"
    r"[0-9](?:[ \t\n\u00a0._*\-\u2010-\u2015]{0,2}[0-9]){11,79}"
    rf"(?![{_LETTER}])"
)
_GROUP: Final = re.compile("[0-9]+")


class Range(NamedTuple):
    """Numbers of an issuer begin between ``low`` and ``high`` (as many digits as these have) and have ``lengths`` digits."""

    low: str
    high: str
    lengths: frozenset[int]


def _range(low: str, high: str, *lengths: int) -> Range:
    return Range(low, high, frozenset(lengths))


# Source: ISO/IEC 7812 leaves the ranges to a register that is not public. These are the schemes' as their own developers' pages
# publish them. [K] 2026-11-30: general knowledge, not read at the source.
RANGES: Final = (
    _range("4", "4", 13, 16, 19),  # Visa
    _range("51", "55", 16),  # Mastercard
    _range("2221", "2720", 16),  # Mastercard
    _range("34", "34", 15),  # American Express
    _range("37", "37", 15),  # American Express
    _range("6011", "6011", 16, 19),  # Discover
    _range("644", "649", 16, 19),  # Discover
    _range("65", "65", 16, 19),  # Discover, RuPay
    _range("62", "62", 16, 17, 18, 19),  # UnionPay
    _range("3528", "3589", 16, 19),  # JCB
    _range("300", "305", 14, 16),  # Diners Club
    _range("36", "36", 14),  # Diners Club
    _range("38", "39", 14, 16),  # Diners Club
    _range("5018", "5018", 12, 13, 14, 15, 16, 17, 18, 19),  # Maestro
    _range("5020", "5020", 12, 13, 14, 15, 16, 17, 18, 19),
    _range("5038", "5038", 12, 13, 14, 15, 16, 17, 18, 19),
    _range("6304", "6304", 12, 13, 14, 15, 16, 17, 18, 19),
    _range("6759", "6759", 12, 13, 14, 15, 16, 17, 18, 19),
    _range("6761", "6763", 12, 13, 14, 15, 16, 17, 18, 19),
    _range("2200", "2204", 16, 17, 18, 19),  # Mir
    _range("9792", "9792", 16),  # Troy
    _range("508", "508", 16),  # RuPay
    _range("60", "60", 16),  # RuPay
    _range("81", "82", 16),  # RuPay
)
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """Whether the check digit is right (ISO/IEC 7812-1, annex B)."""
    total = 0
    double = False
    for digit in reversed(digits):
        value = ord(digit) - 48
        total += _DOUBLED[value] if double else value
        double = not double
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether digits are the number of a card of a known scheme."""
    length = len(digits)
    if not LEAST <= length <= MOST or digits.count(digits[0]) == length:
        return False
    for low, high, lengths in RANGES:
        if length in lengths and low <= digits[: len(low)] <= high:
            return luhn(digits)
    return False


def find(text: str) -> bool:
    """Whether ``text``, with ASCII digits, has the number of a card."""
    for match in _RUN.finditer(text):
        groups = _GROUP.findall(match[0])
        if is_card("".join(groups)):
            return True
        if len(groups) > 1 and len(groups) <= MOST_GROUPS and _among(groups):
            return True
    return False


def _among(groups: list[str]) -> bool:
    """Whether some of the groups in a row are a card's number: other numbers, such as its date, may stand around it. Only
    groups as people write them, since among odd ones any long row of numbers has a card by chance."""
    for start in range(len(groups)):
        number = ""
        for end in range(start, len(groups)):
            number += groups[end]
            if len(number) > MOST:
                break
            if len(number) >= LEAST and _is_regular(groups[start : end + 1]) and is_card(number):
                return True
    return False


def _is_regular(groups: list[str]) -> bool:
    sizes = [len(group) for group in groups]
    if sizes in ([4, 6, 5], [4, 6, 4]) or len(sizes) == 1:
        return True
    return all(size == sizes[0] for size in sizes[:-1]) and (sizes[-1] <= sizes[0] or sizes[0] > 1)
