"""Token buckets: bursts are never refused, nor is a caller paced at the rate; debt is bounded by patience."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.relay.state.bucket import Bucket


@settings(deadline=None, max_examples=60)
@given(
    rate=st.one_of(st.integers(1, 5000).map(float), st.floats(0.01, 5000)),
    start=st.floats(0, 1e7),
    burst=st.sampled_from([1, 2, 400]),
)
def test_a_caller_paced_at_the_rate_is_never_refused(rate: float, start: float, burst: int) -> None:
    bucket = Bucket(rate, burst, start)
    for n in range(500):
        assert bucket.take(start + n / rate) == 0.0, n


@pytest.mark.parametrize("burst", [1, 10, 400])
def test_a_burst_is_never_refused_and_comes_back_at_the_rate(burst: int) -> None:
    bucket = Bucket(200.0, burst, 5.0)
    for round_ in range(3):
        now = 5.0 + round_ * burst / 200
        assert [bucket.take(now) for _ in range(burst)] == [0.0] * burst
        assert bucket.take(now) == -1.0


def test_no_more_than_the_burst_is_saved_up() -> None:
    bucket = Bucket(10.0, 5, 0.0)
    assert [bucket.take(1000.0) for _ in range(6)] == [0.0] * 5 + [-1.0]


@settings(deadline=None, max_examples=60)
@given(gaps=st.lists(st.floats(0, 0.05), min_size=1, max_size=300), patience=st.sampled_from([0.0, 0.1]))
def test_never_more_than_the_rate_over_any_time(gaps: list[float], patience: float) -> None:
    bucket = Bucket(100.0, 20, 0.0)
    now, taken = 0.0, 0
    for gap in gaps:
        now += gap
        taken += bucket.take(now, patience) >= 0
        assert taken <= 20 + 100 * (now + patience) + 0.01


def test_patience_goes_into_debt_and_pays_it_back() -> None:
    bucket = Bucket(10.0, 1, 0.0)
    assert [round(bucket.take(0.0, 0.5), 9) for _ in range(7)] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, -1.0]
    assert bucket.take(0.5) == -1.0
    assert bucket.take(0.6) == 0.0
    assert bucket.take(0.6) == -1.0


def test_a_refusal_takes_nothing() -> None:
    bucket = Bucket(10.0, 1, 0.0)
    bucket.take(0.0)
    assert [bucket.take(0.05) for _ in range(10)] == [-1.0] * 10
    assert bucket.take(0.1) == 0.0


@settings(deadline=None, max_examples=100)
@given(rate=st.floats(0.1, 10_000), now=st.floats(0, 1e6))
def test_who_waits_as_told_is_not_refused(rate: float, now: float) -> None:
    bucket = Bucket(rate, 1, now)
    assert bucket.ready_in(now) == 0.0
    bucket.take(now)
    wait = bucket.ready_in(now)
    assert 0 < wait <= 1 / rate
    assert bucket.take(now + wait) == 0.0


@pytest.mark.parametrize("early", [0.05, 0.09, 0.0998])
def test_who_comes_early_is_refused(early: float) -> None:
    bucket = Bucket(10.0, 1, 0.0)
    bucket.take(0.0)
    assert (bucket.take(early), bucket.ready_in(early) > 0) == (-1.0, True)


def test_no_rate_is_no_limit() -> None:
    bucket = Bucket(None, 1, 0.0)
    assert {bucket.take(0.0) for _ in range(1000)} == {0.0}
    assert bucket.ready_in(0.0) == 0.0


def test_a_clock_that_stands_or_steps_back_gives_nothing_away() -> None:
    bucket = Bucket(10.0, 1, 100.0)
    bucket.take(100.0)
    assert (bucket.take(99.0), bucket.ready_in(99.0)) == (-1.0, 0.1)
    assert bucket.take(100.1) == 0.0


def test_a_change_keeps_what_was_saved_up_within_the_new_burst() -> None:
    bucket = Bucket(10.0, 10, 0.0)
    for _ in range(10):
        bucket.take(0.0)
    bucket.change(100.0, 3, 0.5)  # five tokens had come back
    assert [bucket.take(0.5) for _ in range(4)] == [0.0] * 3 + [-1.0]
    bucket.change(None, 1, 0.5)
    assert bucket.take(0.5) == 0.0
    bucket.change(1.0, 1, 10.0)
    assert bucket.take(11.0) == 0.0
