"""The public holidays of France, against the calendars as printed."""

from __future__ import annotations

from datetime import date

import pytest

from smppd.config.hours import CALENDARS
from smppd.policy.hours.holidays import day_number, easter, holidays

# Easter Monday, Ascension, Whit Monday of each year; the other eight have their date.
MOVABLE = {
    2024: ("04-01", "05-09", "05-20"),
    2025: ("04-21", "05-29", "06-09"),
    2026: ("04-06", "05-14", "05-25"),
    2027: ("03-29", "05-06", "05-17"),
    2028: ("04-17", "05-25", "06-05"),
    2029: ("04-02", "05-10", "05-21"),
    2030: ("04-22", "05-30", "06-10"),
}
FIXED = ("01-01", "05-01", "05-08", "07-14", "08-15", "11-01", "11-11", "12-25")


def numbers(year: int, *days: str) -> set[int]:
    return {day_number(year, int(day[:2]), int(day[3:])) for day in days}


@pytest.mark.parametrize("year", MOVABLE)
def test_france(year: int) -> None:
    assert holidays("FR", year) == numbers(year, *FIXED, *MOVABLE[year])


def test_parts_of_france_have_more() -> None:
    usual = holidays("FR", 2026)
    assert holidays("FR-ALSACE", 2026) - usual == numbers(2026, "04-03", "12-26")
    more = {"FR-GP": "05-27", "FR-MQ": "05-22", "FR-GF": "06-10", "FR-RE": "12-20", "FR-YT": "04-27"}
    assert {name: holidays(name, 2026) - usual for name in more} == {
        name: numbers(2026, day) for name, day in more.items()
    }
    assert set(CALENDARS) == {"FR", "FR-ALSACE", *more}


def test_easter_at_its_ends() -> None:
    """The earliest and the latest of two centuries, and a full cycle of Sundays."""
    assert easter(2008) == day_number(2008, 3, 23) and easter(2038) == day_number(2038, 4, 25)
    assert all(date.fromordinal(easter(year) + 719163).weekday() == 6 for year in range(1900, 2200))


def test_an_unknown_calendar() -> None:
    with pytest.raises(KeyError):
        holidays("XX", 2026)
