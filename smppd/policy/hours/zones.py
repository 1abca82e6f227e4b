"""The zones of the tz database that a number may be in, by the digits it begins with: what phonenumbers knows, what smppd's
own data adds to it, and what the operator says. A message waits until all of them allow it."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE as _CODES
from phonenumbers.tzdata import TIMEZONE_DATA as _DATA

from smppd.policy.hours.pack import EVERY, ZoneLine

SEVERAL: Final = "~"
"""Begins the name of a set of zones that is more than one."""

Zones = tuple[str, ...]
"""Names of zones, in order."""
_MEMO: Final = 8192


def code_of(digits: bytes) -> bytes:
    """The country code at the beginning of international digits, empty where there is none."""
    for size in (1, 2, 3):
        front = digits[:size]
        if front.isdigit() and front[:1] != b"0" and int(front) in _CODES:
            return front
    return b""


def codes_of(country: str) -> tuple[bytes, ...]:
    """The country codes of a country."""
    return tuple([str(code).encode() for code, regions in _CODES.items() if country in regions])


def name_of(zones: Zones) -> str:
    """What a set of zones is called in the name of a lane: the zone, or a hash where there are several."""
    if len(zones) == 1:
        return zones[0]
    return SEVERAL + blake2b("\n".join(zones).encode(), digest_size=4).hexdigest()


class ZoneTable:
    """See the module. Holds the numbers of some country codes only. ``own``: smppd's data. ``said``: zones by digits, from
    the configuration; nothing else counts for numbers that begin so."""

    def __init__(self, codes: frozenset[bytes], own: Mapping[bytes, ZoneLine], said: Mapping[bytes, str]) -> None:
        table: dict[bytes, Zones] = {}
        if codes:
            for text, names in _DATA.items():
                digits = text.encode()
                if code_of(digits) in codes:
                    table[digits] = tuple(sorted(names))
        every = {code: table.get(code, ()) for code in codes}
        for digits, line in sorted(own.items()):
            code = code_of(digits)
            if code not in codes:
                continue
            named = {one for name in line.zones for one in (every[code] if name == EVERY else (name,))}
            below = [one for one in table if one.startswith(digits)]
            if line.only:
                for one in below:
                    del table[one]
                table[digits] = tuple(sorted(named))
                continue
            table.setdefault(digits, _longest(table, digits))
            for one in {digits, *below}:
                table[one] = tuple(sorted({*table[one], *named}))
        # What a zone is added to below a country code may be anywhere in the country for those whose place nobody knows.
        for code in codes:
            found = {name for digits, zones in table.items() if digits.startswith(code) for name in zones}
            if code not in table or set(table[code]) - found or len(found) > len(table[code]):
                table[code] = tuple(sorted(found))
        for digits, zone in sorted(said.items()):
            if code_of(digits) in codes:
                for one in [one for one in table if one.startswith(digits)]:
                    del table[one]
                table[digits] = (zone,)
        self._table = table
        self._lengths = tuple(sorted({len(one) for one in table}, reverse=True))
        self._longest = self._lengths[0] if self._lengths else 0
        self._fronts: dict[bytes, bytes] = {}  # by as many digits as can decide
        self._named = {name_of(zones): zones for zones in table.values()}

    def front(self, digits: bytes) -> bytes:
        """The digits at the beginning of an international number that decide about its zones; empty where none do."""
        key = digits[: self._longest]
        front = self._fronts.get(key)
        if front is None:
            if len(self._fronts) >= _MEMO:
                self._fronts.clear()
            front = self._fronts[key] = self._front(digits)
        return front

    def _front(self, digits: bytes) -> bytes:
        table = self._table
        for length in self._lengths:
            front = digits[:length]
            if front in table:
                return front
        return b""

    def zones_at(self, front: bytes) -> Zones:
        """The zones by what `front` found; none where nobody knows."""
        return self._table.get(front, ())

    def zones_of(self, digits: bytes) -> Zones:
        """The zones of an international number, none where nobody knows."""
        return self.zones_at(self.front(digits))

    def named(self, name: str) -> Zones:
        """The zones by `name_of`; none where there is no such set (any more)."""
        zones = self._named.get(name)
        if zones is not None:
            return zones
        return () if name.startswith(SEVERAL) or not name else (name,)

    def sets(self) -> list[Zones]:
        """All sets of zones that a number may be in."""
        return list(self._named.values())


def _longest(table: Mapping[bytes, Zones], digits: bytes) -> Zones:
    for length in range(len(digits) - 1, 0, -1):
        zones = table.get(digits[:length])
        if zones is not None:
            return zones
    return ()
