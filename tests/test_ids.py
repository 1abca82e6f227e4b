"""Message ids under every clock, short ids over restarts, and the form that customers see."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.ids import EPOCH_MS, Counter, Ids, id_time, parse_shown, shown

NOW = 1_795_306_500.25
DAY = 86_400.0


class Clock:
    """Epoch seconds, as the test sets them."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_ids_are_ordered_by_time_and_tell_it() -> None:
    clock = Clock()
    ids = Ids(clock)
    first = ids()
    clock.now += 0.001
    second = ids()
    assert first < second < 1 << 63
    assert id_time(first) == NOW
    assert abs(id_time(second) - NOW - 0.001) < 1e-6


def test_a_hundred_thousand_in_one_millisecond() -> None:
    clock = Clock()
    ids = Ids(clock)
    drawn = [ids() for _ in range(100_000)]
    assert all(a < b for a, b in pairwise(drawn))
    # What did not fit borrows from the next millisecond, which then goes on behind it.
    assert id_time(drawn[-1]) - NOW < 0.0021
    clock.now += 0.001
    assert ids() > drawn[-1]


def test_a_clock_that_jumps_back_a_day() -> None:
    clock = Clock()
    ids = Ids(clock)
    before = ids()
    clock.now -= DAY
    after = [ids() for _ in range(70_000)]
    assert before < after[0]
    assert len(set(after)) == 70_000 and after == sorted(after)
    clock.now += DAY + 1
    assert ids() > after[-1]


@pytest.mark.parametrize("drift", [-DAY, -0.001, 0.0, DAY])
def test_a_restart_repeats_nothing(drift: float) -> None:
    clock = Clock()
    ids = Ids(clock, node=63)
    last = max(ids() for _ in range(10))
    clock.now += drift
    again = Ids(clock, node=63, after=last)
    drawn = [again() for _ in range(70_000)]
    assert drawn[0] > last
    assert drawn == sorted(set(drawn))


def test_nodes_never_meet() -> None:
    clock = Clock()
    drawn = {ids() for node in range(64) for ids in [Ids(clock, node)] for _ in range(100)}
    assert len(drawn) == 6400


@pytest.mark.parametrize("node", [-1, 64])
def test_a_node_that_does_not_fit(node: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.63"):
        Ids(Clock(), node)


def test_a_machine_that_wakes_in_1970() -> None:
    clock = Clock(5.0)
    ids = Ids(clock)
    drawn = [ids() for _ in range(70_000)]
    assert drawn[0] > 0 and drawn == sorted(set(drawn))
    assert id_time(drawn[0]) == EPOCH_MS / 1000


# -- the form ------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, (1 << 63) - 1))
def test_the_form_there_and_back(identity: int) -> None:
    text = shown(identity)
    assert len(text) == 16
    assert parse_shown(text) == parse_shown(text.upper()) == identity


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0123456789abcde",
        b"0123456789abcdef0",
        b"0123456789abcdeg",
        b"0x00000000000001",
        b"-000000000000001",
        b"+000000000000001",
        b"0000_0000_0000_1",
        b" 00000000000001 ",
        b"000000000000001\n",
        b"\xff" * 16,
    ],
)
def test_anything_else_is_no_id(text: bytes) -> None:
    assert parse_shown(text) is None


# -- short ids -----------------------------------------------------------------------------------------------------------


class Reserved:
    """``store.api.Store.reserve`` for one counter."""

    def __init__(self, start: int = 0) -> None:
        self.upto = [start] if start else []

    def __call__(self, count: int) -> int:
        first = self.upto[-1] if self.upto else 0
        self.upto.append(first + count)
        return first


def test_two_who_ask_the_same_store_are_given_different_numbers() -> None:
    reserved = Reserved()
    one, other = Counter(reserved, 1000, block=10), Counter(reserved, 1000, block=10)
    drawn = [counter() for _ in range(25) for counter in (one, other)]
    assert len(set(drawn)) == 50


def test_short_ids_count_and_reserve_ahead() -> None:
    reserved = Reserved()
    counter = Counter(reserved, 1000, block=10)
    assert [counter() for _ in range(25)] == list(range(1, 26))
    assert reserved.upto == [10, 20, 30]


def test_a_restart_skips_at_most_a_block() -> None:
    reserved = Reserved()
    before = Counter(reserved, 1000, block=10)
    drawn = [before() for _ in range(13)]
    after = Counter(reserved, 1000, block=10)
    assert after() == 21
    assert 21 - drawn[-1] <= 10


def test_short_ids_stay_within_their_limit() -> None:
    counter = Counter(Reserved(95), 99, block=10)
    assert [counter() for _ in range(6)] == [96, 97, 98, 99, 1, 2]
