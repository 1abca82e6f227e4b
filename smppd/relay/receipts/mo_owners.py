"""Finds the account that gets a message from a handset (MO): by the exact number, by the longest prefix, or by keyword on a
shared number."""

from __future__ import annotations

from smppd.config import Settings
from smppd.numbering import normalise, normalise_prefix
from smppd.protocol.longmessage import UdhError, parse_udh
from smppd.protocol.text import Alphabet, decode, is_text
from smppd.protocol.wire import UDHI, Sm


class MoOwners:
    """The numbers and keywords of all accounts of one configuration. Immutable."""

    def __init__(self, settings: Settings) -> None:
        self._exact: dict[bytes, list[tuple[str, frozenset[str]]]] = {}
        self._prefixes: dict[bytes, list[tuple[str, frozenset[str]]]] = {}
        for account in settings.accounts:
            owner = (account.system_id, frozenset(word.casefold() for word in account.keywords))
            region = account.region or settings.region
            for number in account.numbers:
                digits = number.lstrip("+").encode()
                bare = digits.rstrip(b"*")
                if bare is digits:
                    table, normal = self._exact, normalise(digits, 0, 0, region)
                else:
                    table, normal = self._prefixes, normalise_prefix(bare, region)
                # As it stands too: a carrier without a region may deliver it in its national form.
                for form in {bare, normal}:
                    owners = table.setdefault(form, [])
                    if owner not in owners:
                        owners.append(owner)
        self._lengths = sorted({len(prefix) for prefix in self._prefixes}, reverse=True)

    def owner_of(
        self, destination: bytes, sm: Sm, region: str | None = None, alphabet: Alphabet = Alphabet.GSM
    ) -> str | None:
        """The system_id of the account that gets a message to ``destination`` (digits as on the wire), which came from a
        carrier whose national numbers are those of ``region``, and whose data_coding 0 is ``alphabet``."""
        digits = normalise(destination, sm.destination_ton, 0, region)
        found = self._owners(digits)
        if found is None and digits != destination:
            found = self._owners(destination.lstrip(b"+"))
        if found is None:
            return None
        if len(found) > 1 or found[0][1]:
            word = _first_word(sm, alphabet)
            for name, keywords in found:
                if word in keywords:
                    return name
            found = [one for one in found if not one[1]]
        return found[0][0] if found else None

    def sharing(self, destination: bytes, sm: Sm, region: str | None = None) -> tuple[str, ...]:
        """Every account that has this number, whatever their keywords are; see `owner_of`."""
        digits = normalise(destination, sm.destination_ton, 0, region)
        found = self._owners(digits)
        if found is None and digits != destination:
            found = self._owners(destination.lstrip(b"+"))
        return tuple(name for name, _keywords in found or ())

    def _owners(self, digits: bytes) -> list[tuple[str, frozenset[str]]] | None:
        found = self._exact.get(digits)
        if found is not None:
            return found
        for length in self._lengths:
            if len(digits) >= length and digits[:length] in self._prefixes:
                return self._prefixes[digits[:length]]
        return None


def _first_word(sm: Sm, alphabet: Alphabet) -> str:
    if not is_text(sm.data_coding):
        return ""
    body = sm.body
    length, national = 0, (0, 0)
    if sm.esm_class & UDHI:
        try:
            udh = parse_udh(body)
        except UdhError:
            udh = None
        if udh is not None:
            length, national = udh.length, udh.national
    words = decode(body[length:], sm.data_coding, alphabet, national=national, header=length).split(None, 1)
    return words[0].casefold() if words else ""
