"""One normal form of phone numbers, for all that compare them: routes, owners of numbers, rules, the log's blind index.

What goes over the wire is never changed by it. The hot path is a test of an octet or two; phonenumbers (about 28 us a
number) is asked only where a region is configured, and remembered.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import phonenumbers
from phonenumbers import PhoneMetadata, ValidationResult

UNKNOWN: Final = 0
NATIONAL: Final = 2  # types of number, SMPP 3.4 section 5.2.5
SEPARATORS: Final = b" -.()/\t"
MIN_INTERNATIONAL: Final = 7
"""Digits left after a ``00`` prefix for it to be one."""
SHORT_DIGITS: Final = 6
"""A number of at most so many digits is a short code, which no region makes longer."""
_CACHED: Final = 8192
_DECIDE: Final = 8  # digits that decide, see `policy.countries`
_REST: Final = b"23456789012345678901"
_LOCAL: Final = 8  # shorter numbers are national ones only where they are given out

REGIONS: Final = frozenset(phonenumbers.SUPPORTED_REGIONS)
"""ISO 3166 alpha-2 codes that may be a region."""


def normalise(address: bytes, ton: int = 0, npi: int = 0, region: str | None = None) -> bytes:
    """E.164 digits without ``+``, or a folded alphanumeric sender.

    Digits are taken as they came, with ``+`` or ``00`` stripped. With a `region` (ISO 3166, ``GB``) a national number (TON 2,
    or TON 0 where it is none of another country) and one behind that country's own prefix of international calls (``011``)
    are made international. Short codes, and what no number of that region looks like, keep their digits. NPI does not
    matter: carriers fill it in at will. The form depends on content, not on TON 5, so a search need not know the TON.
    """
    if address.isdigit():
        if region is not None and ton in (UNKNOWN, NATIONAL):
            return _local(address, ton, region)
        if address[:2] == b"00" and len(address) >= 2 + MIN_INTERNATIONAL:
            return address[2:]
        return address
    return _normalise_other(address, ton, region)


def _normalise_other(address: bytes, ton: int, region: str | None) -> bytes:
    digits = address.replace(b"(0)", b"").translate(None, SEPARATORS)
    if digits[:1] == b"+" and digits[1:].isdigit():
        return normalise(digits[1:], 1)
    if digits.isdigit():
        return normalise(digits, ton, 0, region)
    if address.isascii():
        return address.strip().lower()
    return address.strip().decode("latin-1").casefold().encode("utf-8")


def _local(digits: bytes, ton: int, region: str) -> bytes:
    if len(digits) <= SHORT_DIGITS:
        return digits
    if digits[:2] == b"00":
        return normalise(digits)
    left_out, front = _form(digits[:_DECIDE], len(digits), ton, region)
    return front + digits[left_out:]


@lru_cache(_CACHED)
def _form(head: bytes, length: int, ton: int, region: str) -> tuple[int, bytes]:
    """How many digits are left out of a number that begins like this, and what comes in front of the rest. The beginning
    and the length decide, so that whole numbers need not be remembered: they seldom come again."""
    text = (head + _REST)[:length].decode("ascii")
    here = parse(text, region)
    if here is None:
        return 0, b""
    if ton == UNKNOWN and text[0] != "0":
        # SMPP's usual form is the international one: a national number has to be the better reading.
        there = parse("+" + text, None)
        if there is not None and phonenumbers.is_valid_number(there):
            return 0, b""
        if not phonenumbers.is_valid_number(here) and (there is not None or length < _LOCAL):
            return 0, b""
    form = e164(here).decode("ascii")
    for left_out in range(len(head)):
        if form.endswith(text[left_out:]):
            return left_out, form[: len(form) - (length - left_out)].encode("ascii")
    return 0, b""


def parse(text: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    """The number if its length is possible in its country. Ranges not given out are possible: they are relayed too."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    # Not `is_possible_number`, which is also true of local numbers: a short code must not grow a country code.
    possible = phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
    return number if possible else None


def e164(number: phonenumbers.PhoneNumber) -> bytes:
    """Its international digits."""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:].encode("ascii")


def normalise_prefix(digits: bytes, region: str | None = None) -> bytes:
    """The normal form of the digits that numbers begin with, as a configuration has them: ``+44``, ``0044``, and with
    region GB ``07`` are ``44``, ``44`` and ``447``."""
    digits = digits.translate(None, SEPARATORS)
    if digits[:1] == b"+":
        digits = digits[1:]
        return digits[2:] if digits[:2] == b"00" else digits
    if digits[:2] == b"00":
        return digits[2:] or digits
    if region is None or not digits.isdigit():
        return digits
    home = PhoneMetadata.metadata_for_region(region, None)
    abroad = (home.international_prefix or "").encode() if home is not None else b""
    if abroad.isdigit() and digits.startswith(abroad) and len(digits) > len(abroad):
        return digits[len(abroad) :]
    if home is not None and digits[:1] == b"0":
        code = str(home.country_code).encode()
        # Where a zero is no trunk prefix it is part of the number, as in Italy.
        return code + (digits[1:] if home.national_prefix == "0" else digits)
    return digits


def regions_of(prefix: str) -> tuple[str, ...]:
    """The countries whose numbers begin with the country code at the start of international digits."""
    for size in (1, 2, 3):
        if len(prefix) >= size and prefix[:size].isdigit():
            found = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(prefix[:size]))
            if found is not None and prefix[0] != "0":
                return tuple(one for one in found if one != "001")
    return ()
