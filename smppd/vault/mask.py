"""Masks phone numbers and senders in everything that people see without giving a reason: logs, listings, the audit trail."""

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
