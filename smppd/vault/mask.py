"""Masking of phone numbers and senders for everything people see without a reason: logs, listings, the audit trail."""

from __future__ import annotations

import re

_STARS = "***"
# An international number in running text; shorter digit runs are ids, ports and counts.
_NUMBER = re.compile(r"(?<![0-9A-Za-z])\+[0-9][0-9 ().-]{5,18}[0-9]")


def mask_number(number: bytes | str) -> str:
    """`+447700900123` -> `+44770***0123`, `Acme` -> `Ac***`; printable ASCII always.

    Of a phone number at most 5 leading and 4 trailing digits stay and never fewer than 3 are hidden; of shorter numbers
    and of alphanumeric senders at most two characters stay, and of the shortest none.
    """
    text = number.decode("latin-1") if isinstance(number, bytes) else number
    sign, digits = ("+", text[1:]) if text.startswith("+") else ("", text)
    if digits.isascii() and digits.isdigit():
        if len(digits) >= 10:
            head = min(5, len(digits) - 7)
            return f"{sign}{digits[:head]}{_STARS}{digits[-4:]}"
        return f"{sign}{digits[: 2 if len(digits) > 4 else 0]}{_STARS}"
    head_text = text[: 2 if len(text) > 3 else 0]
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in head_text) + _STARS


def mask_text(text: str) -> str:
    """Free text with every international number (`+` and 7 to 20 digits, spaced or not) masked."""
    return _NUMBER.sub(lambda match: mask_number(re.sub(r"[^0-9+]", "", match.group())), text)
