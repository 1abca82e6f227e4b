"""Caps a day: over restarts, kills, a slow disk, and clocks that jump."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.traffic.caps import DAY, Caps

NOON = 20_000 * DAY + DAY / 2


def begun(wall: float = NOON) -> Caps:
    caps = Caps()
    caps.begin_day(wall)
    return caps


def restarted(said: dict[str, Any], wall: float = NOON) -> Caps:
    caps = Caps()
    caps.load(said)
    caps.begin_day(wall)
    return caps


def test_a_day_s_messages_are_counted_by_country() -> None:
    caps = begun()
    for _ in range(3):
        caps.count("GB", 10)
    caps.count("FR", 10)
    assert (caps.used("GB"), caps.used("FR"), caps.used("DE")) == (3, 1, 0)
    assert not caps.begin_day(NOON + 11 * 3600) and caps.used("GB") == 3
    assert caps.begin_day(NOON + 13 * 3600) and caps.used("GB") == 0


def test_an_orderly_end_keeps_the_exact_count() -> None:
    caps = begun()
    for _ in range(777):
        caps.count("GB", 10_000)
    assert restarted(caps.to_write(exactly=True)).used("GB") == 777


@pytest.mark.parametrize("cap", [1, 3, 10, 1000, 100_000])
def test_a_kill_loses_nothing_while_the_disk_keeps_up(cap: int) -> None:
    """Whenever it comes, counting goes on at or above where it was, and no more than a portion above."""
    caps, disk = begun(), begun().to_write()
    for number in range(1, min(cap, 1500) + 1):
        caps.count("GB", cap)
        if caps.due:
            disk = caps.to_write()
            caps.was_written(disk)
        again = restarted(disk).used("GB")
        assert number <= again <= number + max(1, cap // 200)


def test_a_slow_disk_costs_what_was_counted_meanwhile_less_half_a_portion() -> None:
    caps = begun()
    caps.count("GB", 10_000)
    disk = caps.to_write()
    caps.was_written(disk)
    for _ in range(24):
        caps.count("GB", 10_000)
    assert not caps.due
    for _ in range(100):
        caps.count("GB", 10_000)
    assert caps.to_write()["used"]["GB"] == 175
    assert caps.used("GB") - restarted(disk).used("GB") == 125 - 51


def test_a_clock_that_is_put_back_forgets_nothing() -> None:
    caps = begun()
    caps.count("GB", 10)
    assert not caps.begin_day(NOON - 2 * DAY) and caps.used("GB") == 1
    assert caps.begin_day(NOON) and caps.used("GB") == 0


def test_yesterday_s_count_is_not_today_s() -> None:
    caps = begun()
    caps.count("GB", 10)
    caps.lifted.add("GB")
    said = caps.to_write()
    tomorrow = restarted(said, NOON + DAY)
    assert tomorrow.used("GB") == 0 and not tomorrow.lifted
    assert restarted(said).lifted == {"GB"}


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {},
        {"day": "x", "used": {}, "lifted": []},
        {"day": 1, "used": [], "lifted": []},
        {"day": 1, "used": {"GB": -1}, "lifted": []},
        {"day": 1, "used": {"GB": None}, "lifted": []},
    ],
)
def test_what_is_no_count_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match="counts of caps"):
        Caps().load(said)


def test_more_countries_than_there_are_take_no_room() -> None:
    caps = begun()
    for number in range(1000):
        caps.count(str(number), 10)
    assert len(caps.to_write()["used"]) == 300
