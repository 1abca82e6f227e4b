"""SMPP's time format: absolute with quarters of an hour, relative, leap days, and what is no time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol import times
from smppd.protocol.wire import BodyError, Status

NOW = 1_795_306_500.25


def epoch(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("value", "when"),
    [
        (b"261122004500000+", epoch(2026, 11, 22, 0, 45)),
        (b"261122004500700+", epoch(2026, 11, 22, 0, 45) + 0.7),
        (b"261122004500004+", epoch(2026, 11, 21, 23, 45)),  # an hour ahead of UTC
        (b"261122004500004-", epoch(2026, 11, 22, 1, 45)),
        (b"261122004500023+", epoch(2026, 11, 21, 19, 0)),  # Nepal
        (b"261122004500048-", epoch(2026, 11, 22, 12, 45)),
        (b"280229120000000+", epoch(2028, 2, 29, 12)),
        (b"000229000000000+", epoch(2000, 2, 29)),
        (b"991231235959000+", epoch(2099, 12, 31, 23, 59, 59)),
    ],
)
def test_absolute(value: bytes, when: float) -> None:
    assert times.read(value, NOW) == when
    assert not times.is_relative(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"000000000000000R", 0),
        (b"000000000001000R", 1),
        (b"000003000000000R", 3 * 86400),
        (b"020610233429000R", ((2 * 365 + 6 * 30 + 10) * 24 + 23) * 3600 + 34 * 60 + 29),
        (b"999999999999000R", ((99 * 365 + 99 * 30 + 99) * 24 + 99) * 3600 + 99 * 60 + 99),
    ],
)
def test_relative(value: bytes, seconds: int) -> None:
    assert times.read(value, NOW) == NOW + seconds
    assert times.is_relative(value)


def test_empty_is_no_time() -> None:
    assert times.read(b"", NOW) is None


@pytest.mark.parametrize(
    "value",
    [
        b"260229000000000+",  # no leap year
        b"260230000000000+",
        b"260431000000000+",
        b"260001000000000+",
        b"261301000000000+",
        b"260100000000000+",
        b"260132000000000+",
        b"260101240000000+",
        b"260101006000000+",
        b"260101000060000+",
        b"260101000000049+",
        b"260101000000000",
        b"260101000000000Z",
        b"26010100000000 +",
        b"26-1-1000000000+",
        b"2601010000000000+",
        b"260101000000000+\n",
        b"\xd9\xa2\xd9\xa6010100000000+",
        b"R",
    ],
)
def test_no_such_time(value: bytes) -> None:
    for status in (Status.RINVEXPIRY, Status.RINVSCHED):
        with pytest.raises(BodyError) as error:
            times.read(value, NOW, status)
        assert error.value.status == status


@settings(deadline=None, max_examples=200)
@given(value=st.one_of(st.binary(max_size=18), st.from_regex(rb"[0-9]{15}[-+R]", fullmatch=True)))
def test_no_bytes_raise_anything_but_a_body_error(value: bytes) -> None:
    try:
        times.read(value, NOW)
    except BodyError as error:
        assert error.status == Status.RINVEXPIRY


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 62 * 86400))
def test_relative_there_and_back(seconds: int) -> None:
    value = times.write_relative(seconds)
    assert len(value) == 16
    assert times.read(value, 0.0) == seconds


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        (-5.0, b"000000000001000R"),
        (0.9, b"000000000001000R"),
        (90061.9, b"000001010101000R"),
        (1e12, b"000202000000000R"),
    ],
)
def test_relative_at_its_ends(seconds: float, value: bytes) -> None:
    assert times.write_relative(seconds) == value


@settings(deadline=None, max_examples=200)
@given(st.integers(int(epoch(2000, 1, 1)), int(epoch(2100, 1, 1)) - 1))
def test_absolute_there_and_back(when: int) -> None:
    assert times.read(times.write_absolute(when), NOW) == when
