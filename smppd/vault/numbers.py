"""Finds records by phone number though numbers are not kept: normal form and blind index.

Sealing and searching must agree on the normal form, so both use `numbering.normalise`; a search adds the other forms in
which a number may have been sent, or have been indexed before an account had a region (`search_forms`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import phonenumbers

from smppd.numbering import MIN_INTERNATIONAL, SEPARATORS, e164, normalise, parse
from smppd.vault.keys import PeriodKey

_NORTH_AMERICA = b"011"
"""Its prefix of international calls."""
_KEYS: dict[str, Callable[[str], str]] = {
    "Nd": lambda c: str(unicodedata.digit(c)),
    "Pd": lambda _: "-",
    "Zs": lambda _: " ",
}
"""Category of a character -> the key for it."""


class SearchForms(NamedTuple):
    """Normal forms under which a typed number may be found. exact: this subject and no other. ambiguous: national
    digits, which in another country are someone else's number; show them, but ask before erasing by them."""

    exact: tuple[bytes, ...]
    ambiguous: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"<SearchForms {len(self.exact)} exact, {len(self.ambiguous)} ambiguous ***>"


def search_forms(typed: str, region: str | None = None) -> SearchForms:
    """The forms to search for what an officer typed: `+44 7700 900123`, `07700 900123` with region `GB`, a short code
    or an alphanumeric sender. An invalid number is searched by its digits."""
    pasted = _pasted(typed)
    forms = _forms(pasted, region)
    if pasted == typed:
        return forms
    asis = _forms(typed, region)  # it may be a sender's name
    others = dict.fromkeys(forms.ambiguous + asis.exact + asis.ambiguous)
    return SearchForms(forms.exact, tuple(form for form in others if form not in forms.exact))


def _forms(typed: str, region: str | None) -> SearchForms:
    latin = typed.strip(" \t\n\r\v\f")  # what bytes.strip takes, no more: `normalise` must agree
    try:
        plain = normalise(latin.encode("latin-1"))
    except UnicodeEncodeError:
        return SearchForms((latin.casefold().encode("utf-8"),), ())
    if not plain.isdigit():
        return SearchForms((plain,), ())
    international = latin.startswith("+") or (latin.startswith("00") and len(plain) >= MIN_INTERNATIONAL)
    number = parse("+" + plain.decode("ascii"), None) if international else None
    if number is None and region is not None and not international:
        number = parse(plain.decode("ascii"), region)
    if number is None and not international:
        number = parse("+" + plain.decode("ascii"), None)  # `447700900123`, as SMPP carries it
    if number is None:
        abroad = parse("+" + plain[3:].decode("ascii"), None) if plain.startswith(_NORTH_AMERICA) else None
        return SearchForms((plain,), () if abroad is None else (e164(abroad),))
    exact = e164(number)
    significant = phonenumbers.national_significant_number(number)
    national = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    trunk = "".join(c for c in national if "0" <= c <= "9")
    # dict.fromkeys: in order, each once
    # Behind North America's prefix of international calls a number is indexed as it came, where no region says so.
    forms = (trunk.encode("ascii"), significant.encode("ascii"), _NORTH_AMERICA + exact)
    others = dict.fromkeys(form for form in forms if form != exact)
    if plain != exact:
        others.setdefault(plain)
    return SearchForms((exact,), tuple(others))


def _pasted(typed: str) -> str:
    """A number that was pasted from a document, an address book or a link, in plain characters: without other scripts'
    digits, typographic dashes and blanks, invisible marks of direction, and `tel:` (RFC 3966). Text that is no number then
    is left as it was."""
    seen = "".join(c for c in unicodedata.normalize("NFKC", typed) if unicodedata.category(c) != "Cf").strip()
    if seen[:4].lower() == "tel:":
        seen = seen[4:]
    plain = "".join(_KEYS.get(unicodedata.category(c), str)(c) for c in seen)
    bare = plain.encode("ascii", "replace").translate(None, SEPARATORS)
    return plain if bare.removeprefix(b"+").isdigit() else typed


def blind(key: PeriodKey, number: bytes) -> bytes:
    """The blind index (INDEX_BYTES) of a normalised number in the numbers period of `key`."""
    state = key.index.copy()
    state.update(number)
    return state.digest()
