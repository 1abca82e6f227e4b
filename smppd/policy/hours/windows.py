"""When a schedule is open, in a zone and in several at once: exact, over summer-time changes and midnight.

An instant is open where the clock on the wall shows an open minute of that date. So an hour that a clock shows twice is
asked about twice, and one that it never shows is not missed. Between two changes of a zone's offset local time is plain
arithmetic; the changes themselves are found by halving.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Final

from smppd.config.hours import Spans
from smppd.policy.hours.holidays import holidays

HORIZON: Final = 10 * 86400
"""So many seconds ahead are looked at. No law shuts for so long: what is not open until then counts as never open."""
NEVER: Final = math.inf
_BACK: Final = 2 * 86400  # so far back it is known since when it is open
_AGAIN: Final = 3600.0  # what is never open is looked at again after so many seconds
_SECONDS: Final = 86400
_THURSDAY: Final = 3  # 1970-01-01

Stretch = tuple[int, int]
"""Epoch seconds: the first, and one behind the last."""


class Schedule:
    """Hours of a week, with holidays. ``week``: from Monday on. ``holiday``: the hours of one, None where it is a day as any
    other. ``calendars``: whose holidays. ``yearly``: (month, day) of each year, ``once``: days since 1970."""

    __slots__ = ("_known", "calendars", "holiday", "once", "week", "yearly")

    def __init__(
        self,
        week: tuple[Spans, ...],
        holiday: Spans | None = None,
        calendars: tuple[str, ...] = (),
        yearly: frozenset[tuple[int, int]] = frozenset(),
        once: frozenset[int] = frozenset(),
    ) -> None:
        assert len(week) == 7
        self.week = week
        self.holiday = holiday
        self.calendars = calendars
        self.yearly = yearly
        self.once = once
        self._known: dict[int, Spans] = {}

    def spans(self, day: int) -> Spans:
        """The open minutes of a local date, given as days since 1970-01-01."""
        if self.holiday is None:
            return self.week[(day + _THURSDAY) % 7]
        spans = self._known.get(day)
        if spans is None:
            spans = self.holiday if self._is_holiday(day) else self.week[(day + _THURSDAY) % 7]
            if len(self._known) > 400:
                self._known.clear()
            self._known[day] = spans
        return spans

    def _is_holiday(self, day: int) -> bool:
        if day in self.once:
            return True
        there = datetime.fromordinal(day + 719163)  # 1970-01-01 in the proleptic calendar
        if (there.month, there.day) in self.yearly:
            return True
        return any(day in holidays(calendar, there.year) for calendar in self.calendars)


def offset_at(zone: tzinfo, second: int) -> int:
    """A zone's seconds ahead of UTC at an epoch second."""
    there = datetime.fromtimestamp(second, zone).utcoffset()
    assert there is not None
    return there.days * _SECONDS + there.seconds


def _offsets(zone: tzinfo, first: int, last: int) -> list[tuple[int, int]]:
    """(from which epoch second on, offset) between two seconds. No zone changes twice in a day."""
    found = [(first, offset_at(zone, first))]
    at = first
    while at < last:
        following = min(at + _SECONDS, last)
        now = offset_at(zone, following)
        if now != found[-1][1]:
            low, high = at, following
            while high - low > 1:
                middle = (low + high) // 2
                if offset_at(zone, middle) == now:
                    high = middle
                else:
                    low = middle
            found.append((high, now))
        at = following
    return found


def open_in(schedule: Schedule, zone: tzinfo, first: int, last: int) -> list[Stretch]:
    """The open stretches in one zone between two epoch seconds, in order, none touching the next."""
    found: list[Stretch] = []
    changes = _offsets(zone, first, last)
    for index, (begin, offset) in enumerate(changes):
        end = changes[index + 1][0] if index + 1 < len(changes) else last
        for day in range((begin + offset) // _SECONDS, (end - 1 + offset) // _SECONDS + 1):
            midnight = day * _SECONDS - offset
            for opens, closes in schedule.spans(day):
                low, high = max(begin, midnight + opens * 60), min(end, midnight + closes * 60)
                if low >= high:
                    continue
                if found and found[-1][1] >= low:
                    found[-1] = (found[-1][0], max(high, found[-1][1]))
                else:
                    found.append((low, high))
    return found


def both_open(one: Sequence[Stretch], other: Sequence[Stretch]) -> list[Stretch]:
    """The stretches in which two are open."""
    found: list[Stretch] = []
    i = j = 0
    while i < len(one) and j < len(other):
        low, high = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if low < high:
            found.append((low, high))
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
    return found


def open_stretches(schedule: Schedule, zones: Sequence[tzinfo], first: int, last: int) -> list[Stretch]:
    """The stretches between two epoch seconds that are open in every zone."""
    found: list[Stretch] = [(first, last)]
    for zone in zones:
        found = both_open(found, open_in(schedule, zone, first, last))
        if not found:
            break
    return found


class Gate:
    """A schedule in the zones that a number may be in: open only where it is open in all of them. What was found is
    remembered until the next opening or closing, so that asking is a comparison.

    ``key``: its name, the same after a restart. ``wall``: epoch seconds."""

    __slots__ = ("_answer", "_from", "_since", "_until", "key", "looks", "schedule", "zones")

    def __init__(self, key: str, schedule: Schedule, zones: tuple[tzinfo, ...]) -> None:
        self.key = key
        self.schedule = schedule
        self.zones = zones
        self.looks = 0
        self._from = 0.0
        self._until = 0.0
        self._answer = 0.0
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<Gate {self.key}>"

    def opens(self, wall: float) -> float:
        """0 while it is open; else the epoch second at which it opens next, `NEVER` where that is beyond `HORIZON`."""
        if self._from <= wall < self._until:
            return self._answer
        return self._look(wall)

    def open_since(self, wall: float) -> float:
        """The epoch second since which it is open, some days back at the most; ``wall`` where it is shut."""
        if self.opens(wall):
            return wall
        return self._since

    def _look(self, wall: float) -> float:
        self.looks += 1
        second = math.floor(wall)
        begin = second - _BACK
        shut = float(begin)
        for opens, closes in open_stretches(self.schedule, self.zones, begin, second + HORIZON):
            if closes <= wall:
                shut = float(closes)
            elif opens <= wall:
                self._from, self._until, self._answer, self._since = float(opens), float(closes), 0.0, float(opens)
                return 0.0
            else:
                self._from, self._until, self._answer = shut, float(opens), float(opens)
                return self._answer
        # Shut as far as we see; it may open beyond.
        self._from, self._until, self._answer = float(second), second + _AGAIN, NEVER
        return NEVER
