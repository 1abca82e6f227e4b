"""smppd's own data on quiet hours: `pack.toml`, read once. Not on a message's path."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from smppd.config.hours import DAYS, Spans, read_hours
from smppd.policy.hours.windows import Schedule

EVERY: Final = "*"


class Line(NamedTuple):
    """The hours of one country, or of a part of it. ``areas``: digits that its numbers begin with, none for a whole country.
    ``stands``: law, practice or open (see the file). ``source``, ``date``: where it was found, and when. ``confirmed``: False
    for what was found in no source."""

    name: str
    hours: str
    schedule: Schedule
    areas: tuple[bytes, ...]
    stands: str
    source: str
    date: str
    confirmed: bool


class ZoneLine(NamedTuple):
    """Zones of numbers that begin with some digits. ``only``: instead of the zones that phonenumbers names, else beside
    them."""

    zones: tuple[str, ...]
    only: bool
    source: str
    date: str
    confirmed: bool


class Pack(NamedTuple):
    """``countries``: by ISO 3166; ``areas``: by ISO 3166-2, in the country before the dash; ``zones``: by digits."""

    countries: dict[str, Line]
    areas: dict[str, Line]
    zones: dict[bytes, ZoneLine]


def week_of(hours: str, days: dict[str, str]) -> tuple[tuple[Spans, ...], Spans | None]:
    """The hours of the seven days from Monday on, and of a holiday; None: as on any day. ValueError."""
    usual = read_hours(hours)
    week = tuple([read_hours(days[day]) if day in days else usual for day in DAYS[:7]])
    return week, read_hours(days["holiday"]) if "holiday" in days else None


@lru_cache(1)
def shipped() -> Pack:
    """What comes with smppd."""
    text = (files("smppd.policy.hours") / "pack.toml").read_text(encoding="utf-8")
    plain = tomllib.loads(text)
    zones = {}
    for digits, item in plain["zones"].items():
        only = "only" in item
        names = tuple(item["only" if only else "add"])
        zones[digits.encode()] = ZoneLine(
            names, only, item["source"], str(item["date"]), bool(item.get("confirmed", True))
        )
    return Pack(
        {name: _line(name, item) for name, item in plain["countries"].items()},
        {name: _line(name, item) for name, item in plain["areas"].items()},
        zones,
    )


def _line(name: str, item: dict[str, Any]) -> Line:
    week, holiday = week_of(item["hours"], item.get("days", {}))
    calendars = (str(item["calendar"]),) if "calendar" in item else ()
    shown = [str(item["hours"])] + [f"{day} {hours}" for day, hours in item.get("days", {}).items()]
    # All areas are of the North American plan so far: an area code stands behind the 1.
    areas = tuple([b"1" + code.encode() for code in str(item.get("areas", "")).split()])
    return Line(
        name,
        ", ".join(shown),
        Schedule(week, holiday, calendars),
        areas,
        str(item.get("stands", "law")),
        str(item["source"]),
        str(item["date"]),
        bool(item.get("confirmed", True)),
    )
