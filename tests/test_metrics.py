"""The series that are added to for each message: they say what the library's own would say."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from smppd.metrics import Metrics, Spread, Tally, total, totals

BOUNDS = (0.5, 1.0, 2.5)


@given(st.lists(st.one_of(st.floats(0, 5), st.sampled_from([*BOUNDS, 0.0, math.inf]))))
def test_a_spread_is_what_the_librarys_histogram_is(values: list[float]) -> None:
    said = []
    for kind in (Histogram, Spread):
        registry = CollectorRegistry()
        one = kind("seconds", "How long", ("of",), registry=registry, buckets=BOUNDS).labels("a")
        for value in values:
            one.observe(value)
        said.append([line for line in generate_latest(registry).decode().splitlines() if "_created" not in line])
    assert said[0] == said[1]


def test_a_tally_counts_by_label_and_is_read_as_a_counter() -> None:
    registry = CollectorRegistry()
    tally = Tally("taken", "How many", ("of",), registry=registry)
    one = tally.labels("a")
    one.inc()
    one.inc(3)
    tally.labels("b").inc(2)
    assert total(one) == 4 and totals(tally) == {("a",): 4, ("b",): 2}
    assert b'taken_total{of="a"} 4.0' in generate_latest(registry)


def test_what_is_counted_for_each_message_is_so_in_the_daemon() -> None:
    metrics = Metrics()
    for one in (metrics.accepted, metrics.delivered, metrics.submitted, metrics.receipts):
        assert isinstance(one, Tally)
    for spread in (
        metrics.commit,
        metrics.commit_records,
        metrics.answer,
        metrics.upstream_answer,
        metrics.receipt_age,
    ):
        assert isinstance(spread, Spread)
    metrics.commit.observe(0.003)
    assert b"smppd_commit_seconds_count 1.0" in generate_latest(metrics.registry)
