"""Masking of phone numbers and senders for everything people see without a reason: logs, listings, the audit trail."""

from __future__ import annotations

import re

from smppd.message import masked

# An international number in running text; digit runs without a plus are ids, ports and counts.
_NUMBER = re.compile(r"(?<![0-9A-Za-z])\+[0-9][0-9 ().-]{5,18}[0-9]")


def mask_number(number: bytes | str) -> str:
    """`+447700900123` -> `+44770***0123`; alphanumeric senders and short codes keep two characters at most."""
    return masked(number)


def mask_text(text: str) -> str:
    """Free text with every international number (`+` and 7 to 20 digits, spaced or not) masked."""
    return _NUMBER.sub(lambda match: mask_number(re.sub(r"[^0-9+]", "", match.group())), text)
