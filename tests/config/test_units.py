"""Durations, rates and sizes: what is read, what is refused, and that what is written reads back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.config import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("72h", 259_200), ("30d", 2_592_000), ("1w", 604_800), ("1.5h", 5400)]
    + [("0", 0), ("0s", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "rate"), [("100/s", 100), ("3000/m", 50), ("3600/h", 1), ("0.5/s", 0.5)])
def test_rates(text: str, rate: float) -> None:
    assert units.parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("text", "octets"), [("7B", 7), ("10kB", 10_000), ("64KiB", 65_536), ("16MiB", 1 << 24), ("1.5KiB", 1536), ("0", 0)]
)
def test_sizes(text: str, octets: int) -> None:
    assert units.parse_size(text) == octets


@pytest.mark.parametrize("text", ["", "30", "s", "-5s", "30 s x", "1e3s", "30S", "30s30s", "٣s", "9" * 20 + "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        units.parse_duration(text)


@pytest.mark.parametrize("text", ["", "100", "0/s", "100/d", "/s", "-1/s", "100/ s"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="must be a rate"):
        units.parse_rate(text)


@pytest.mark.parametrize("text", ["", "64", "64K", "64kib", "-1B", "KiB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        units.parse_size(text)


@settings(deadline=None)
@given(st.integers(0, 10**12))
def test_duration_round_trip(millis: int) -> None:
    assert round(units.parse_duration(units.format_duration(millis / 1000)) * 1000) == millis


@settings(deadline=None)
@given(st.integers(0, 10**12 - 1))
def test_size_round_trip(octets: int) -> None:
    assert units.parse_size(units.format_size(octets)) == octets


@settings(deadline=None)
@given(st.integers(1, 10**6), st.sampled_from(["s", "m", "h"]))
def test_rate_round_trip(count: int, unit: str) -> None:
    rate = units.parse_rate(f"{count}/{unit}")
    assert units.parse_rate(units.format_rate(rate)) == pytest.approx(rate)
