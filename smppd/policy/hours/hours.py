"""Which hours count for a message: by its class, its number's country or a part of it, and the zones the number may be in."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from smppd.config import Settings
from smppd.config.hours import Allowed, QuietHours
from smppd.policy.hours.holidays import day_number
from smppd.policy.hours.pack import Line, Pack, shipped, week_of
from smppd.policy.hours.windows import Gate, Schedule
from smppd.policy.hours.zones import ZoneTable, codes_of, name_of

PROMOTIONAL: Final = "promotional"
"""The class that smppd's own data is about."""
_AREA: Final = 4  # digits of a country code and an area code, +1 212


class _Lined:
    """One schedule by its name, with the gates that were made of it, by the digits at which the zones are looked up."""

    __slots__ = ("gates", "name", "schedule", "shown", "why")

    def __init__(self, name: str, schedule: Schedule, shown: str, why: str) -> None:
        self.name = name
        self.schedule = schedule
        self.shown = shown
        self.why = why
        self.gates: dict[bytes, Gate] = {}


class _Country:
    """What holds in a country for a class. ``areas``: its parts that have other hours, by digits. ``zone``: the one zone of
    all its numbers, empty where each has its own."""

    __slots__ = ("areas", "usual", "zone")

    def __init__(self, usual: _Lined, areas: dict[bytes, _Lined], zone: str) -> None:
        self.usual = usual
        self.areas = areas
        self.zone = zone


class Hours:
    """See the module. ``unknown``: what is done with numbers whose country nobody knows. ``gate`` and ``named`` are asked on a
    message's path; both read nothing from a disk once `prepare` was called."""

    def __init__(self, settings: QuietHours, pack: Pack | None = None) -> None:
        self._settings = settings
        self._pack = pack
        self.unknown: str = settings.unknown
        self._ready = False
        self._rules: dict[str, dict[str, _Country]] = {}
        self._gates: dict[str, Gate] = {}
        self._zones: dict[str, tzinfo] = {}
        self._table = ZoneTable(frozenset(), {}, {})

    @classmethod
    def of(cls, settings: Settings) -> Hours:
        """Those of a configuration. Takes some tens of milliseconds where an account or a rule has a class that is
        restricted, and nothing where none has. Any thread."""
        hours = cls(settings.quiet_hours)
        classes = {one.class_ for one in settings.accounts}
        classes |= {rule.do.class_ for one in settings.policies.values() for rule in one.rules if rule.do.class_}
        if classes & hours.classes():
            hours.prepare()
        return hours

    def classes(self) -> set[str]:
        """The classes that are restricted anywhere."""
        given = self._settings.countries.values()
        return {PROMOTIONAL, *(one for allowed in given for entry in allowed for one in entry.classes)}

    def prepare(self) -> None:
        """Reads the data and the zones. Once; whoever asks first does it, if nobody did."""
        if self._ready:
            return
        pack = self._pack or shipped()
        settings = self._settings
        for country, line in pack.countries.items():
            if line.stands == "practice" and settings.practice == "ignore":
                continue
            areas = {
                digits: lined
                for area in pack.areas.values()
                if area.name.partition("-")[0] == country
                for lined in [_shipped(area)]
                for digits in area.areas
            }
            self._rules.setdefault(PROMOTIONAL, {})[country] = _Country(_shipped(line), areas, "")
        for country, entries in settings.countries.items():
            for rules in self._rules.values():
                rules.pop(country, None)
            for entry in entries:
                for one in entry.classes:
                    self._rules.setdefault(one, {})[country] = _Country(_said(country, entry), {}, entry.zone or "")
        countries = {country for rules in self._rules.values() for country in rules}
        codes = frozenset(code for country in countries for code in codes_of(country))
        said = {digits.encode(): zone for digits, zone in settings.zones.items()}
        self._table = ZoneTable(codes, pack.zones, said)
        names = {name for zones in self._table.sets() for name in zones}
        names |= {one.zone for rules in self._rules.values() for one in rules.values() if one.zone}
        for name in names:
            try:
                self._zones[name] = ZoneInfo(name)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                continue  # a zone newer than the tz database of this machine: its numbers' other zones count
        self._ready = True

    @property
    def ready(self) -> bool:
        """Whether `prepare` was called: by `of`, some message may be restricted."""
        return self._ready

    # -- asking --------------------------------------------------------------------------------------------------------

    def restricts(self, message_class: str) -> bool:
        """Whether messages of this class may have to wait anywhere."""
        if not self._ready:
            self.prepare()
        return message_class in self._rules

    def gate(self, message_class: str, country: str, digits: bytes) -> Gate | None:
        """The gate of a message; None where nothing restricts it. ``country``: of its number (ISO 3166). ``digits``: of the
        number, with the country code."""
        if not self._ready:
            self.prepare()
        rules = self._rules.get(message_class)
        if rules is None:
            return None
        there = rules.get(country)
        if there is None:
            return None
        lined = there.usual
        if there.areas:
            area = there.areas.get(digits[:_AREA])
            if area is not None:
                lined = area
        front = self._table.front(digits)
        gate = lined.gates.get(front)
        if gate is None:
            zones = (there.zone,) if there.zone else self._table.zones_at(front)
            gate = lined.gates[front] = self._made(message_class, country, lined, zones)
        return gate

    def anywhere_in(self, message_class: str, country: str) -> Gate | None:
        """The gate of a number of which nobody knows more than a country: every zone of it counts."""
        codes = codes_of(country)
        return self.gate(message_class, country, codes[0]) if codes else None

    def named(self, key: str) -> Gate | None:
        """The gate by its ``key``, as the hours are now: a configuration may have changed since it was made. None where
        nothing restricts its messages any more."""
        if not self._ready:
            self.prepare()
        gate = self._gates.get(key)
        if gate is not None:
            return gate
        message_class, _, rest = key.partition(".")
        name, _, zone = rest.partition(".")
        country = name.partition("-")[0]
        there = self._rules.get(message_class, {}).get(country)
        if there is None:
            return None
        lined = next((one for one in there.areas.values() if one.name == name), there.usual)
        zones = (there.zone,) if there.zone else self._table.named(zone)
        gate = self._made(message_class, country, lined, zones)
        self._gates[key] = gate
        return gate

    def explain(self, message_class: str, country: str, digits: bytes) -> tuple[str, str, tuple[str, ...]] | None:
        """For people: (hours, why, zones) that count for a message; None where nothing restricts it."""
        if self.gate(message_class, country, digits) is None:
            return None
        there = self._rules[message_class][country]
        lined = there.areas.get(digits[:_AREA], there.usual)
        zones = (there.zone,) if there.zone else self._table.zones_at(self._table.front(digits))
        return f"{lined.name} {lined.shown}", lined.why, zones

    def _made(self, message_class: str, country: str, lined: _Lined, zones: Iterable[str]) -> Gate:
        known = tuple([name for name in zones if name in self._zones])
        if not known:  # the data has changed since: whatever the number's zone was, it is one of the country's
            codes = codes_of(country)
            every = self._table.zones_at(codes[0]) if codes else ()
            known = tuple([name for name in every if name in self._zones])
        key = f"{message_class}.{lined.name}.{name_of(known)}"
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = Gate(key, lined.schedule, tuple([self._zones[name] for name in known]))
        return gate


def _shipped(line: Line) -> _Lined:
    why = line.source + ("" if line.confirmed else "; not confirmed")
    return _Lined(line.name, line.schedule, line.hours, f"{line.stands}: {why}")


def _said(country: str, entry: Allowed) -> _Lined:
    days: dict[str, str] = {str(day): hours for day, hours in entry.days.items()}
    week, holiday = week_of(entry.hours, days)
    yearly: set[tuple[int, int]] = set()
    once: set[int] = set()
    calendars: list[str] = []
    for one in entry.holidays:
        if not one[0].isdigit():
            calendars.append(one)
        elif len(one) == 5:
            yearly.add((int(one[:2]), int(one[3:])))
        else:
            there = date.fromisoformat(one)
            once.add(day_number(there.year, there.month, there.day))
    schedule = Schedule(week, holiday, tuple(calendars), frozenset(yearly), frozenset(once))
    shown = ", ".join([entry.hours, *(f"{day} {hours}" for day, hours in days.items())])
    return _Lined(country, schedule, shown, "the configuration")


def next_allowed(hours: Hours, message_class: str, country: str, digits: bytes, wall: float) -> float:
    """The epoch second from which on a message may leave; 0 where it may now, `windows.NEVER` where it may not within
    `windows.HORIZON`."""
    gate = hours.gate(message_class, country, digits)
    return 0.0 if gate is None else gate.opens(wall)
