"""What an entry of a list's file becomes: the normal form that is hashed, the same as that of what is looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smppd.numbering import normalise
from smppd.policy.listed import domain_form, sender_form

LONGEST_NUMBER: Final = 15
"""Digits, ITU-T E.164 section 6.2.1."""
SHORTEST_NUMBER: Final = 3
LONGEST_SENDER: Final = 20
"""Octets of source_addr without its end, SMPP 3.4 section 5.2.8."""

Form = Callable[[bytes], bytes | None]
"""The normal form of an entry, None for what is none."""
WHAT: Final = {"numbers": "a phone number", "domains": "a domain name", "senders": "a sender"}


def form_of(kind: str, region: str | None) -> Form:
    """How entries of this kind of list are brought into their form. ``region``: the country of national numbers."""
    if kind == "numbers":
        return lambda entry: _number(entry, region)
    return _domain if kind == "domains" else lambda entry: _sender(entry, region)


def _number(entry: bytes, region: str | None) -> bytes | None:
    form = normalise(entry, 0, 0, region)
    # No country code begins with 0: a national number whose country nobody said would be on the list for nothing.
    if not form.isdigit() or form[:1] == b"0":
        return None
    return form if SHORTEST_NUMBER <= len(form) <= LONGEST_NUMBER else None


def _domain(entry: bytes) -> bytes | None:
    try:
        return domain_form(entry.decode("utf-8"))
    except UnicodeDecodeError:
        return None


def _sender(entry: bytes, region: str | None) -> bytes | None:
    try:
        text = entry.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not text.isprintable() or len(text) > LONGEST_SENDER:
        return None
    return sender_form(entry, 0, region)
