"""Public holidays, where the law of quiet hours names them, as days since 1970-01-01. Worked out, so that no list runs out.

France: Code du travail art. L3133-1 (eleven days), L3134-13 (Alsace and Moselle: two more), and the day of the abolition of
slavery overseas, décret 83-1003 of 23 November 1983. Easter by the Gregorian rule.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Final

_EPOCH: Final = date(1970, 1, 1).toordinal()
_FIXED: Final = ((1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25))
_AFTER_EASTER: Final = (1, 39, 50)  # Easter Monday, Ascension, Whit Monday
_OVERSEAS: Final = {"FR-GP": (5, 27), "FR-MQ": (5, 22), "FR-GF": (6, 10), "FR-RE": (12, 20), "FR-YT": (4, 27)}


def day_number(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01. ValueError where there is no such day."""
    return date(year, month, day).toordinal() - _EPOCH


def easter(year: int) -> int:
    """Easter Sunday of a Gregorian year, in days since 1970-01-01 (by the rule of Meeus, *Astronomical Algorithms*, 8)."""
    a = year % 19
    b, c = divmod(year, 100)
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    weekday = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * weekday) // 451
    month, day = divmod(h + weekday - 7 * m + 114, 31)
    return day_number(year, month, day + 1)


@lru_cache(256)
def holidays(calendar: str, year: int) -> frozenset[int]:
    """The public holidays of a year. ``calendar``: one of `config.hours.CALENDARS`. KeyError for others."""
    sunday = easter(year)
    days = {day_number(year, month, day) for month, day in _FIXED}
    days |= {sunday + after for after in _AFTER_EASTER}
    if calendar == "FR-ALSACE":
        days |= {sunday - 2, day_number(year, 12, 26)}
    elif calendar != "FR":
        month, day = _OVERSEAS[calendar]
        days.add(day_number(year, month, day))
    return frozenset(days)
