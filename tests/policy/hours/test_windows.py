"""When a schedule is open, against a reference that looks at the clock on the wall minute by minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.config.hours import DAY, Spans, read_hours
from smppd.policy.hours.holidays import day_number
from smppd.policy.hours.windows import HORIZON, NEVER, Gate, Schedule, open_stretches

MINUTE = 60
# Zones with changes of an hour and of half an hour, in both hemispheres, at odd minutes, at midnight, and without any.
ZONES = (
    "America/New_York",
    "America/St_Johns",
    "America/Adak",
    "Australia/Lord_Howe",
    "Australia/Eucla",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Africa/Cairo",
    "America/Asuncion",
    "Europe/Paris",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "UTC",
)


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def told(second: float, zone: str = "UTC") -> str:
    return datetime.fromtimestamp(second, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


def daily(hours: str, **days: str) -> Schedule:
    names = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    return Schedule(tuple(read_hours(days.get(name, hours)) for name in names))


def gate(schedule: Schedule, *zones: str) -> Gate:
    return Gate("", schedule, tuple(ZoneInfo(zone) for zone in zones))


def is_open(week: tuple[Spans, ...], holidays: set[date], holiday: Spans, zones: list[ZoneInfo], second: int) -> bool:
    """The reference: the clocks as `datetime` shows them."""
    for zone in zones:
        there = datetime.fromtimestamp(second, UTC).astimezone(zone)
        spans = holiday if there.date() in holidays else week[there.weekday()]
        minute = there.hour * 60 + there.minute
        if not any(first <= minute < last for first, last in spans):
            return False
    return True


span = st.tuples(st.integers(0, DAY - 1), st.integers(1, DAY)).filter(lambda one: one[0] != one[1])
hours = st.one_of(
    st.sampled_from(["all", "none", "08:00-21:00", "22:00-06:00", "00:00-00:01", "23:59-24:00", "02:00-03:00"]),
    st.lists(span, min_size=1, max_size=2).map(
        lambda some: ", ".join(f"{a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02}" for a, b in some)
    ),
)
# A time within two days of a change of the clocks somewhere, or anywhere in ten years.
moments = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                "2026-03-08",
                "2026-11-01",
                "2026-03-29",
                "2026-10-25",
                "2026-04-05",
                "2026-10-04",
                "2026-04-24",
                "2026-12-31",
            ]
        ),
        st.integers(-2 * 86400, 2 * 86400),
    ).map(lambda one: at(one[0]) + one[1]),
    st.floats(at("2024-01-01"), at("2034-01-01"), allow_nan=False),
)


@given(
    week=st.lists(hours, min_size=1, max_size=3),
    zones=st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True),
    wall=moments,
    days=st.sets(st.integers(-1, 5), max_size=2),
    holiday=hours,
)
@settings(max_examples=60, deadline=None)
def test_as_the_reference_says(week: list[str], zones: list[str], wall: float, days: set[int], holiday: str) -> None:
    spans = tuple(read_hours(week[index % len(week)]) for index in range(7))
    today = datetime.fromtimestamp(wall, UTC).date()
    feasts = {today + timedelta(ahead) for ahead in days}
    once = frozenset(day_number(one.year, one.month, one.day) for one in feasts)
    made = Gate("", Schedule(spans, read_hours(holiday), once=once), tuple(map(ZoneInfo, zones)))
    there = list(map(ZoneInfo, zones))
    found = made.opens(wall)
    second = int(wall // MINUTE) * MINUTE
    if is_open(spans, feasts, read_hours(holiday), there, int(wall)):
        assert found == 0
        return
    expected = NEVER
    for step in range(1, HORIZON // MINUTE):
        if is_open(spans, feasts, read_hours(holiday), there, second + step * MINUTE):
            expected = second + step * MINUTE
            break
    if expected < wall + HORIZON - MINUTE:
        assert found == expected
    else:
        assert found == NEVER


@given(
    zone=st.sampled_from(ZONES), wall=moments, text=hours, jumps=st.lists(st.integers(-400_000, 400_000), max_size=8)
)
@settings(max_examples=60, deadline=None)
def test_what_it_remembers_is_what_it_would_find_anew(zone: str, wall: float, text: str, jumps: list[int]) -> None:
    """However the clock is set: forward, back, and to the second of an edge."""
    schedule = daily(text)
    kept = gate(schedule, zone)
    for jump in [0, *jumps]:
        wall += jump
        fresh = gate(schedule, zone)
        assert kept.opens(wall) == fresh.opens(wall)
        assert kept.open_since(wall) <= wall
        edge = kept.opens(wall)
        if edge not in (0.0, NEVER):
            assert kept.opens(edge) == 0 and kept.opens(edge - 1) == edge


# Opens when? (hours, zone, asked at by that zone's clock, opens by that zone's clock; "" for now)
TABLE = [
    ("08:00-21:00", "America/New_York", "2026-11-30 07:59", "2026-11-30 08:00"),
    ("08:00-21:00", "America/New_York", "2026-11-30 08:00", ""),
    ("08:00-21:00", "America/New_York", "2026-11-30 20:59", ""),
    ("08:00-21:00", "America/New_York", "2026-11-30 21:00", "2026-12-01 08:00"),
    ("08:00-21:00", "America/New_York", "2026-12-31 23:59", "2027-01-01 08:00"),
    # The night that is an hour shorter, and the one that is an hour longer.
    ("08:00-21:00", "America/New_York", "2026-03-07 22:00", "2026-03-08 08:00"),
    ("08:00-21:00", "America/New_York", "2026-10-31 22:00", "2026-11-01 08:00"),
    ("08:00-22:00", "Europe/Paris", "2027-03-27 23:00", "2027-03-28 08:00"),
    # 02:30 is never shown: from the first second after it on.
    ("02:30-04:00", "America/New_York", "2026-03-08 01:59", "2026-03-08 03:00"),
    ("02:15-02:45", "America/New_York", "2026-03-08 01:59", "2026-03-09 02:15"),
    # Over midnight, and its two ends.
    ("20:00-02:00", "Asia/Kolkata", "2026-06-01 01:59", ""),
    ("20:00-02:00", "Asia/Kolkata", "2026-06-01 02:00", "2026-06-01 20:00"),
    ("20:00-02:00", "Asia/Kolkata", "2026-06-01 23:59", ""),
    ("00:00-24:00", "Asia/Kolkata", "2026-06-01 00:00", ""),
    # The clocks are set at midnight, so that the day begins at 01:00.
    ("00:00-06:00", "Africa/Cairo", "2026-04-23 23:59", "2026-04-24 01:00"),
    # Half an hour of summer time.
    ("08:00-20:00", "Australia/Lord_Howe", "2026-10-04 01:59", "2026-10-04 08:00"),
]


@pytest.mark.parametrize(("text", "zone", "asked", "opens"), TABLE)
def test_edges(text: str, zone: str, asked: str, opens: str) -> None:
    found = gate(daily(text), zone).opens(at(asked, zone))
    assert (told(found, zone) if found else "") == opens


def test_an_hour_that_is_shown_twice_is_asked_about_twice() -> None:
    """In New York 01:30 comes at 05:30 and at 06:30 UTC: between them the clock shows 01:00 again."""
    one = gate(daily("01:30-03:00"), "America/New_York")
    assert [one.opens(at(f"2026-11-01 {hour}")) == 0 for hour in ("05:29", "05:30", "05:59")] == [False, True, True]
    assert one.opens(at("2026-11-01 06:00")) == at("2026-11-01 06:30")
    assert one.opens(at("2026-11-01 07:59")) == 0 and one.opens(at("2026-11-01 08:00")) > 0


def test_all_zones_must_allow() -> None:
    both = gate(daily("08:00-21:00"), "America/New_York", "America/Los_Angeles")
    assert told(both.opens(at("2026-11-30 08:00", "America/New_York")), "America/Los_Angeles") == "2026-11-30 08:00"
    assert both.opens(at("2026-11-30 17:59", "America/Los_Angeles")) == 0
    assert told(both.opens(at("2026-11-30 18:00", "America/Los_Angeles")), "America/Los_Angeles") == "2026-12-01 08:00"


def test_what_is_never_open() -> None:
    """Shut for good, and shut since the zones have no hour in common. It is looked at again, but not each time."""
    shut = gate(daily("none"), "UTC")
    apart = gate(daily("09:00-17:00"), "UTC", "Pacific/Tarawa")
    for one in (shut, apart):
        assert one.opens(at("2026-06-01")) == NEVER and one.opens(at("2026-06-01") + 60) == NEVER
        assert one.looks == 1
        assert one.open_since(at("2026-06-01")) == at("2026-06-01")


def test_a_day_costs_two_looks() -> None:
    one = gate(daily("08:00-21:00"), "Europe/Paris")
    for minute in range(1440):
        one.opens(at("2026-06-01") + 60 * minute)
    assert one.looks == 3


def test_since_when_it_is_open() -> None:
    one = gate(daily("08:00-21:00"), "Europe/Paris")
    assert one.open_since(at("2026-06-01 20:59", "Europe/Paris")) == at("2026-06-01 08:00", "Europe/Paris")
    assert one.open_since(at("2026-06-01 22:00", "Europe/Paris")) == at("2026-06-01 22:00", "Europe/Paris")


def test_stretches_of_two_zones_over_a_change() -> None:
    """Europe changes three weeks after America: the common hours move by an hour twice."""
    zones = [ZoneInfo("America/New_York"), ZoneInfo("Europe/Paris")]
    found = open_stretches(daily("08:00-21:00"), zones, int(at("2026-03-07")), int(at("2026-03-30")))
    assert {(last - first) // 3600 for first, last in found} == {7, 8}


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("08:00-21:00", ((480, 1260),)),
        ("8:00 - 12:00, 14:00-20:00", ((480, 720), (840, 1200))),
        ("22:00-02:00", ((0, 120), (1320, 1440))),
        ("22:00-00:00", ((1320, 1440),)),
        ("08:00-12:00,12:00-13:00", ((480, 780),)),
        ("10:00-14:00, 08:00-11:00", ((480, 840),)),
        ("all", ((0, 1440),)),
        ("NONE", ()),
    ],
)
def test_hours_as_written(text: str, spans: Spans) -> None:
    assert read_hours(text) == spans


@pytest.mark.parametrize("text", ["", "8-21", "08:00", "24:00-08:00", "08:60-09:00", "08:00-24:01", "08:00-08:00", "x"])
def test_hours_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        read_hours(text)
