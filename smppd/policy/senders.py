"""How a sender stands: whether the account may use it, whose name it is or looks like, and whether the country takes its form.

A name comes as octets, and peers do not agree in which alphabet: Latin-1, UTF-8, or the GSM alphabet one septet to an
octet. Each reading that is possible counts: a name is another's if one reading of it is, and the account's own if one is.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Final

from smppd.config import AuthorisedSender, Settings
from smppd.config import Senders as SenderSettings
from smppd.numbering import normalise, normalise_prefix
from smppd.policy.countries import country_of
from smppd.policy.skeleton import skeleton
from smppd.protocol import gsm

SHORT_DIGITS: Final = 6
"""A sender of at most so many digits is a short code."""
ALPHANUMERIC_TON: Final = 5

UNAUTHORISED: Final = 1
EXPIRED: Final = 2
GENERIC: Final = 4
PROTECTED: Final = 8
LOOKALIKE: Final = 16
WRONG_FORM: Final = 32
STANDINGS: Final = {
    "unauthorised": UNAUTHORISED,
    "expired": EXPIRED,
    "generic": GENERIC,
    "protected": PROTECTED,
    "lookalike": LOOKALIKE,
    "wrong_form": WRONG_FORM,
}
"""`sender_is` -> its bit in what `SenderBook.standing` gives."""

REMEMBERED: Final = 8192
"""Senders whose standing is kept."""

_DAY: Final = 86400.0
_EPOCH: Final = 719163  # date(1970, 1, 1).toordinal()
_NEVER: Final = 1 << 30
_NO_ACCOUNT: Final = frozenset({""})
# Digits that are read as letters in names: Santand3r, N3TFLIX, Vodaf0ne (0 and 1 are in the skeleton).
_AS_LETTERS: Final = str.maketrans("34578", "eastb")


def sender_kind(ton: int, digits: bytes) -> str:
    """``alphanumeric``, ``numeric`` (a phone number) or ``short`` (a short code of at most six digits)."""
    bare = digits[1:] if digits.startswith(b"+") else digits
    if ton == ALPHANUMERIC_TON or not bare.isdigit():
        return "alphanumeric"
    return "short" if len(bare) <= SHORT_DIGITS else "numeric"


def plain_name(text: str) -> str:
    """A name in the form in which equal ones are equal: case and runs of spaces do not count."""
    return " ".join(text.casefold().split())


def shape(name: str) -> str:
    """What a name looks like; empty for one without a letter."""
    return skeleton(name).translate(_AS_LETTERS) if any(map(str.isalpha, name)) else ""


def readings(octets: bytes) -> list[str]:
    """What an alphanumeric address may say, most usual first."""
    found = [octets.decode("latin-1")]
    if octets.isascii():
        septets = gsm.decode(octets)
        if septets != found[0]:
            found.append(septets)
    else:
        try:
            found.insert(0, octets.decode("utf-8"))
        except UnicodeDecodeError:
            pass
    return found


class _Entry:
    """An entry of `senders.authorised`: where it counts (empty: everywhere) and its last day."""

    __slots__ = ("countries", "ends")

    def __init__(self, countries: frozenset[str], ends: int) -> None:
        self.countries = countries
        self.ends = ends

    def counts_in(self, country: str) -> bool:
        return not self.countries or country in self.countries


class _Own:
    """The senders of one account."""

    __slots__ = ("_made", "by_prefix", "names", "numbers", "owner")

    def __init__(self, account: str) -> None:
        self.owner = frozenset((account,))
        self._made: dict[tuple[tuple[str, ...], int], _Entry] = {}
        self.names: dict[str, list[_Entry]] = {}
        self.numbers: dict[bytes, list[_Entry]] = {}
        self.by_prefix: dict[bytes, list[_Entry]] = {}

    def entry(self, countries: tuple[str, ...], ends: int) -> _Entry:
        """An entry; one for all senders that count alike."""
        made = self._made.get((countries, ends))
        if made is None:
            made = self._made[countries, ends] = _Entry(frozenset(countries), ends)
        return made

    def entries(self, names: list[str], number: bytes) -> list[_Entry]:
        """Those of a sender: by one of its readings, or by its number (empty for a name)."""
        found: list[_Entry] = []
        for name in names:
            found += self.names.get(name, ())
        if number:
            found += self.numbers.get(number, ())
            if self.by_prefix:
                for end in range(1, len(number) + 1):
                    found += self.by_prefix.get(number[:end], ())
        return found


class SenderBook:
    """All that one configuration says of senders. ``wall``: epoch seconds; entries end by it."""

    __slots__ = (
        "_day",
        "_forms",
        "_generic",
        "_kinds",
        "_known",
        "_longest",
        "_own",
        "_protected",
        "_protected_starts",
        "_shapes",
        "_starts",
        "_wall",
    )

    def __init__(
        self,
        senders: SenderSettings,
        region: Callable[[str], str | None] = lambda _account: None,
        wall: Callable[[], float] = time,
    ) -> None:
        """region(account): the country of its national numbers."""
        self._wall = wall
        self._day = 0
        self._known: dict[tuple[str, str, int, bytes], int] = {}
        self._forms = senders.taken_forms()
        self._kinds = senders.kinds_registered()
        self._generic = frozenset(made for name in senders.generic_names() for made in _shapes(name))
        self._protected: set[str] = set()
        self._protected_starts: tuple[str, ...] = ()
        # What looks like a name -> the accounts whose it is; _NO_ACCOUNT: none of them. Beginnings of names beside.
        self._shapes: dict[str, frozenset[str]] = {}
        self._starts: set[str] = set()
        self._longest = 0
        self._own: dict[str, _Own] = {}
        for name in senders.protected:
            self._protect(name)
        for entry in senders.authorised:
            self._authorise(entry, region(entry.account))

    def _protect(self, name: str) -> None:
        bare = name[:-1] if name.endswith("*") and len(name) > 1 else name
        if bare is name:
            self._protected.add(plain_name(bare))
        else:
            self._protected_starts += (plain_name(bare),)
        for made in _shapes(bare):
            if bare is name:
                self._owned(made, _NO_ACCOUNT)
            else:
                self._starts.add(made)
                self._longest = max(self._longest, len(made))

    def _owned(self, made: str, owner: frozenset[str]) -> None:
        before = self._shapes.get(made)
        self._shapes[made] = owner if before is None else before | owner

    def _authorise(self, entry: AuthorisedSender, region: str | None) -> None:
        own = self._own.get(entry.account)
        if own is None:
            own = self._own[entry.account] = _Own(entry.account)
        ends = entry.expires.toordinal() if entry.expires is not None else _NEVER
        made = own.entry(entry.country, ends)
        octets = entry.sender.encode("utf-8", "replace")
        star = octets[-1:] == b"*"
        digits = octets[:-1] if star else octets
        bare = digits.translate(None, b" -().")
        if bare.removeprefix(b"+").isdigit():
            if star:
                own.by_prefix.setdefault(normalise_prefix(bare, region), []).append(made)
            else:
                own.numbers.setdefault(normalise(bare, 0, 0, region), []).append(made)
            return
        own.names.setdefault(plain_name(entry.sender), []).append(made)
        for drawn in _shapes(entry.sender):
            self._owned(drawn, own.owner)

    def standing(self, account: str, ton: int, digits: bytes, country: str, region: str | None = None) -> int:
        """How the sender of a message stands (``STANDINGS``). ``country``: of its destination, empty where nobody knows;
        ``region``: of the account's national numbers."""
        day = int(self._wall() / _DAY)
        if day != self._day or len(self._known) >= REMEMBERED:
            self._known.clear()
            self._day = day
        key = (account, country, ton, digits)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._judge(account, ton, digits, country, region)
        return known

    def is_authorised(self, account: str, ton: int, digits: bytes, country: str, region: str | None = None) -> bool:
        """Whether the account has an entry for this sender that counts there today."""
        own = self._own.get(account)
        if own is None:
            return False
        names, number = _forms_of(ton, digits, region)
        return self._counts(own.entries(names, number), country)

    def _counts(self, entries: list[_Entry], country: str) -> bool:
        today = int(self._wall() / _DAY) + _EPOCH
        return any(one.ends >= today and one.counts_in(country) for one in entries)

    def _judge(self, account: str, ton: int, digits: bytes, country: str, region: str | None) -> int:
        found = 0
        kind = sender_kind(ton, digits)
        names, number = _forms_of(ton, digits, region)
        own = self._own.get(account)
        entries = own.entries(names, number) if own is not None else []
        authorised = self._counts(entries, country)
        if not authorised:
            needs = self._kinds.get(country)
            if needs is None or kind in needs:
                found |= UNAUTHORISED
            if any(one.counts_in(country) for one in entries):
                found |= EXPIRED
        forms = self._forms.get(country)
        if forms is not None and not _takes(forms, kind, number, country):
            found |= WRONG_FORM
        if kind == "alphanumeric":
            drawn = {made for made in map(shape, readings(digits)) if made}
            if not self._generic.isdisjoint(drawn):
                found |= GENERIC
            if not entries:  # its own name, though it may have ended
                found |= self._likeness(account, names, drawn)
        return found

    def _likeness(self, account: str, names: list[str], drawn: set[str]) -> int:
        found = 0
        for name in names:
            if name in self._protected or name.startswith(self._protected_starts):
                found |= PROTECTED | LOOKALIKE
        for made in drawn:
            owners = self._shapes.get(made)
            if owners is not None and account not in owners:
                found |= LOOKALIKE
            for end in range(2, min(len(made), self._longest) + 1):
                if made[:end] in self._starts:
                    found |= LOOKALIKE
        return found


def _shapes(name: str) -> set[str]:
    """What a name looks like in each case that it may be written in: letters of other scripts look otherwise as capitals."""
    forms = (name,) if name.isascii() else (name, name.lower(), name.upper(), name.title())
    return {made for made in map(shape, forms) if len(made) > 1}


def _forms_of(ton: int, digits: bytes, region: str | None) -> tuple[list[str], bytes]:
    """(readings in their plain form, number in its normal form): one of them is empty."""
    number = normalise(digits, ton if ton != ALPHANUMERIC_TON else 0, 0, region)
    if number.isdigit():
        return [], number
    return list(map(plain_name, readings(digits))), b""


def _takes(forms: frozenset[str], kind: str, number: bytes, country: str) -> bool:
    if kind in forms:
        return True
    return kind == "numeric" and "national" in forms and country_of(number) == country


def sender_book(settings: Settings, wall: Callable[[], float] = time) -> SenderBook:
    """The book of a configuration."""
    regions = {one.system_id: one.region or settings.region for one in settings.accounts}
    return SenderBook(settings.senders, regions.get, wall)


def shown(standing: int) -> str:
    """A standing in the words of `sender_is`."""
    return ", ".join(name for name, bit in STANDINGS.items() if standing & bit)
