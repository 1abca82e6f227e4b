"""Counts in little memory: in which direction they may be wrong, and by how much."""

from __future__ import annotations

import random
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.traffic.sketches import (
    CELLS,
    HOURS,
    WIDTH,
    Cells,
    Distinct,
    Frequent,
    PrefixCounts,
    Runs,
    from_octet,
    to_octet,
)

KEY = bytes(range(16))
PREFIXES = st.lists(st.integers(10**6, 10**9 - 1).map(lambda one: b"%d" % one), max_size=200)
few = settings(max_examples=40, deadline=None)


def places(cells: Cells, prefix: bytes) -> tuple[int, int]:
    both = cells.of(prefix)
    return both & 0xFFF, both >> 12


@few
@given(PREFIXES, st.binary(min_size=16, max_size=16))
def test_a_prefix_is_never_counted_too_low(prefixes: list[bytes], key: bytes) -> None:
    cells, counts = Cells(key), PrefixCounts()
    for prefix in prefixes:
        counts.add(*places(cells, prefix))
    for prefix, count in Counter(prefixes).items():
        first, second = places(cells, prefix)
        assert 0 <= first < WIDTH <= second < CELLS
        assert min(counts.in_minute(first), counts.in_minute(second)) >= count
    assert counts.minute == len(prefixes)
    counts.end_minute(1)
    for prefix, count in Counter(prefixes).items():
        cell = places(cells, prefix)[0]
        assert counts.in_hour(cell) >= count and counts.in_day(cell) >= 0.99 * count <= counts.in_week(cell) * 1.01


def test_counts_are_hardly_too_high() -> None:
    """10,000 messages to 5,000 prefixes: none gets more than chance gives two cells."""
    rnd, cells, counts = random.Random(1), Cells(KEY), PrefixCounts()
    sent = Counter(b"44%06d" % rnd.randrange(5000) for _ in range(10_000))
    for prefix, count in sent.items():
        for _ in range(count):
            counts.add(*places(cells, prefix))
    over = sorted(min(map(counts.in_minute, places(cells, one))) - count for one, count in sent.items())
    assert over[len(over) // 2] <= 5 and over[-1] <= 16


def test_another_key_puts_prefixes_elsewhere() -> None:
    same = sum(Cells(KEY).of(b"%d" % one) == Cells(KEY[::-1]).of(b"%d" % one) for one in range(10**6, 10**6 + 500))
    assert same <= 1


@few
@given(st.floats(0, 300_000))
def test_an_octet_is_within_three_percent(value: float) -> None:
    assert abs(from_octet(to_octet(value)) - value) <= 0.026 * (value + 1)


def test_windows_end() -> None:
    counts = PrefixCounts()
    for _ in range(60):
        counts.add(1, WIDTH)
    counts.end_minute(1)
    counts.set_left(0.5, 1.0, 0)
    assert counts.in_minute(1) == 30 and counts.minute == 30 and counts.in_hour(1) == 60
    counts.end_minute(1)
    assert counts.in_minute(1) == 0
    counts.end_hour(1)
    counts.set_left(1.0, 0.25, 1)
    assert counts.in_hour(1) == 15
    counts.end_hour(3)
    assert counts.in_hour(1) == 0
    assert 59 < counts.in_day(1) <= 60
    counts.end_minute(24 * 60)
    assert counts.in_day(1) == pytest.approx(60 / 2.718, rel=0.01)
    assert counts.in_week(1) == pytest.approx(60 * 2.718 ** (-1 / 7), rel=0.01)


def test_the_usual_of_an_hour_is_that_of_past_days() -> None:
    counts = PrefixCounts()
    for _day in range(5):
        for hour in range(HOURS):
            counts.set_left(0.0, 0.0, hour)
            for _ in range(40 if hour == 9 else 4):
                counts.add(1, WIDTH)
            counts.end_minute(60)
            counts.end_hour(1)
    counts.set_left(0.0, 0.0, 9)
    assert counts.usual(1) == pytest.approx(40, rel=0.06)
    counts.set_left(0.0, 0.0, 14)
    assert counts.usual(1) == pytest.approx(4, rel=0.06)
    counts.set_left(0.0, 0.0, 8)
    assert counts.usual(1) == pytest.approx(40, rel=0.06), "a morning rises within an hour"


def test_what_all_rise_by_is_expected() -> None:
    """Ten times the traffic over all prefixes is no news to any; one alone that rises is."""
    counts = PrefixCounts()
    for _ in range(100):
        for cell in range(10):
            counts.add(cell, WIDTH + cell)
    counts.end_minute(1)
    counts.end_minute(1)
    for _ in range(50):
        for cell in range(10):
            counts.add(cell, WIDTH + cell)
    assert counts.expected_in_minute(3) == pytest.approx(50, rel=0.01)
    assert counts.expected_in_minute(20) == 0


def test_weights_are_brought_back_before_they_are_too_large() -> None:
    counts = PrefixCounts()
    for _ in range(400):
        counts.add(1, WIDTH)
        counts.end_minute(6 * 60)
    assert counts.in_day(1) == pytest.approx(1 / (2.71828**0.25 - 1), rel=0.01)
    assert counts.in_week(1) == pytest.approx(28 - 0.5, rel=0.02)


@few
@given(PREFIXES, st.integers(0, 3))
def test_what_is_dumped_is_read_back(prefixes: list[bytes], hours: int) -> None:
    cells, counts = Cells(KEY), PrefixCounts()
    for prefix in prefixes:
        counts.add(*places(cells, prefix))
    counts.end_minute(1)
    counts.end_minute(1)
    for _ in range(hours):
        counts.end_hour(1)
    again = PrefixCounts()
    again.load(counts.dump())
    again.set_left(1.0, 1.0, hours)
    for prefix in prefixes:
        cell = places(cells, prefix)[0]
        assert again.in_hour(cell) == counts.in_hour(cell) and again.in_day(cell) == counts.in_day(cell)
        assert again.usual(cell) == counts.usual(cell) and again.share(cell) == counts.share(cell)


@few
@given(st.binary(max_size=300))
def test_what_is_no_dump_is_refused(octets: bytes) -> None:
    whole = PrefixCounts().dump()
    for said in (octets, whole[:-1], octets.ljust(len(whole), b"\xff")[: len(whole)], b"\7" + whole[1:]):
        with pytest.raises(ValueError, match="counts of prefixes"):
            PrefixCounts().load(said)


def test_a_sketch_of_prefixes_takes_what_is_stated() -> None:
    counts = PrefixCounts()
    rnd = random.Random(2)
    for _ in range(20_000):
        counts.add(rnd.randrange(WIDTH), WIDTH + rnd.randrange(WIDTH))
    arrays = [counts._minute, counts._last_minute, counts._hour, counts._last_hour, counts._day, counts._week]
    assert sum(map(sys.getsizeof, arrays)) + sys.getsizeof(counts._usual) < 200 << 10
    assert len(counts._touched) <= CELLS


# -- runs ----------------------------------------------------------------------------------------------------------------


def number(at: int) -> bytes:
    return b"447700%06d" % at


@pytest.mark.parametrize(
    ("order", "lengths"),
    [
        ([900000, 900001, 900002, 900003], [1, 2, 3, 4]),
        ([900009, 900010, 900011], [1, 2, 3]),
        ([900110, 900109, 900108], [1, 2, 3]),
        ([900001, 900003, 900002], [1, 1, 3]),
        ([900001, 900001, 900001], [1, 0, 0]),
        ([900001, 900101, 900201], [1, 1, 1]),
    ],
)
def test_runs(order: list[int], lengths: list[int]) -> None:
    runs = Runs()
    assert [runs.add(number(one)) for one in order] == lengths


def test_a_run_is_seen_within_much_else() -> None:
    rnd, runs = random.Random(3), Runs()
    longest = 0
    for step in range(20):
        for _ in range(40):
            assert runs.add(b"44%010d" % rnd.randrange(10**10)) == 1
        longest = max(longest, runs.add(number(900100 + step)))
    assert longest >= 8, "the table forgets one in fifty meanwhile"


@few
@given(
    st.lists(st.binary(min_size=1, max_size=20).map(lambda one: bytes(48 + octet % 10 for octet in one)), max_size=50)
)
def test_any_digits_are_taken(digits: list[bytes]) -> None:
    runs = Runs()
    assert all(0 <= runs.add(one) <= 511 for one in digits)


# -- how many different ones ---------------------------------------------------------------------------------------------


@few
@given(st.sets(st.integers(0, (1 << 62) - 1), max_size=Distinct.KEPT - 1), st.integers(1, 3))
def test_few_different_ones_are_counted_exactly(keys: set[int], times: int) -> None:
    distinct = Distinct()
    for key in list(keys) * times:
        distinct.add(key)
    assert distinct.count() == len(keys)


@pytest.mark.parametrize("size", [200, 5_000, 50_000])
def test_many_different_ones_are_counted_within_the_bound(size: int) -> None:
    """Three standard errors of k = 64: 38 %."""
    rnd, distinct = random.Random(size), Distinct()
    keys = [rnd.getrandbits(62) for _ in range(size)]
    for key in keys + keys[:100]:
        distinct.add(key)
    assert size / 1.4 < distinct.count() < size * 1.4


@few
@given(st.lists(st.integers(0, (1 << 62) - 1), max_size=100))
def test_what_came_often_is_never_counted_too_low(keys: list[int]) -> None:
    frequent = Frequent()
    told = [frequent.add(key) for key in keys]
    seen: Counter[int] = Counter()
    for key, count in zip(keys, told, strict=True):
        seen[key] += 1
        assert count >= seen[key]
    frequent.clear()
    assert frequent.add(1) == 1


def test_a_count_ends_at_its_most() -> None:
    frequent = Frequent()
    for _ in range(70_000):
        count = frequent.add(9)
    assert count == 65_535


def test_a_jump_of_thousands_of_years_leaves_nothing_and_breaks_nothing() -> None:
    counts = PrefixCounts()
    counts.add(5, 7)
    counts.end_minute(10**9)
    assert counts.in_day(5) == pytest.approx(0.0) and counts.day == pytest.approx(0.0)
    counts.add(5, 7)
    counts.end_minute(1)
    assert counts.in_day(5) == pytest.approx(1.0, abs=0.01) == counts.day
