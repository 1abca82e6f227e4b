"""How values look: durations, counts, times, and texts of others."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.console.pages.policy import outline
from smppd.console.paging import slice_of
from smppd.console.render import age, clock, count, octets, plain, rate, share


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (86400, "1 d"),
        (273600, "3 d 4 h"),
        (-5, "0 s"),
    ],
)
def test_ages(seconds: float | None, shown: str) -> None:
    assert age(seconds) == shown


def test_figures() -> None:
    assert [rate(one) for one in (None, 0, 0.04, 12.34, 100.4, 24400)] == ["–", "0", "0.0", "12.3", "100", "24,400"]
    assert (count(None), count(1234567), share(0.125), share(None)) == ("–", "1,234,567", "12%", "–")
    assert [octets(one) for one in (None, 5, 1536, 5 << 30)] == ["–", "5 B", "1.5 KiB", "5.0 GiB"]
    assert clock(1_796_000_000) == "2026-11-30 00:53:20Z" or clock(1_796_000_000).endswith("Z")
    assert clock(None) == clock(1e30) == "–"


@given(st.text(max_size=300))
def test_a_text_of_others_has_no_character_that_moves_or_hides(text: str) -> None:
    shown = plain(text)
    assert not any(unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") for sign in shown)
    assert text.isprintable() is False or len(text) > 200 or shown == text


def test_a_part_of_a_list() -> None:
    items = list(range(250))
    middle = slice_of(items, {"page": "2", "name": "a&b"})
    assert (middle.items[0], middle.first, middle.last, middle.total) == (100, 101, 200, 250)
    assert middle.before == "?page=1&name=a%26b" and middle.after == "?page=3&name=a%26b"
    for page in ("0", "-1", "x", "", "9" * 20, "٣"):
        assert slice_of(items, {"page": page}).first == 1
    assert slice_of(items, {"page": "99"}).first == 201
    assert slice_of([], {}).last == 0


def test_the_configuration_as_lines() -> None:
    lines = outline({"listeners": [{"address": "x", "tls": None}], "hosts": ["a", "b"], "on": True, "lists": {}})
    assert lines == [
        (0, "listeners", ""),
        (1, "-", ""),
        (2, "address", "x"),
        (2, "tls", "none"),
        (0, "hosts", "a, b"),
        (0, "on", "yes"),
        (0, "lists", "none"),
    ]
