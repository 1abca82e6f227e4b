"""The country a destination number belongs to, from the ITU numbering plan as phonenumbers knows it, remembered by prefix."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE as _CODES
from phonenumbers import PhoneNumber, region_code_for_number

KEY_DIGITS: Final = 8
"""So many leading digits decide: the longest prefixes that split a shared country code (+44, +262, +590) need no more."""
REMEMBERED: Final = 1 << 16

ALL: Final = frozenset(region for regions in _CODES.values() for region in regions if region != "001")
"""ISO 3166 alpha-2 codes of all countries that have numbers."""


def country_of(digits: bytes) -> str | None:
    """ISO 3166 alpha-2 code of an international number (digits, no ``+``); None for national, short and unassigned ones.

    A number of a shared code that belongs to none of its countries counts to the first of them: +44 to GB, +1 to US.
    """
    if len(digits) < 7 or not digits.isdigit():
        return None
    return _country(digits[:KEY_DIGITS], len(digits))


@lru_cache(REMEMBERED)
def _country(prefix: bytes, length: int) -> str | None:
    text = prefix.decode()
    for size in (1, 2, 3):
        code = int(text[:size])
        regions = _CODES.get(code) if text[0] != "0" else None
        if regions is None:
            continue
        if regions[0] == "001":
            return None
        if len(regions) == 1:
            return regions[0]
        return _shared(code, text[size:], length - size) or regions[0]
    return None


def _shared(code: int, national: str, length: int) -> str | None:
    """The country of a number of a shared code. Its last digits are made up, so that the prefix alone decides."""
    if code == 1:
        # The area code decides. 234-5678 is a subscriber number that every area may have; 555-01xx is not.
        national, length = national[:3], 10
    filled = (national + "2345678901234567")[: max(length, len(national))]
    try:
        number = PhoneNumber(
            country_code=code, national_number=int(filled), italian_leading_zero=filled.startswith("0") or None
        )
    except ValueError:
        return None
    return region_code_for_number(number)
