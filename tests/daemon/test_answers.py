"""Long answers: whole JSON in one line, made piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from smppd.daemon.answers import ITEMS, PIECE_SECONDS, Lazy, Listing

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def whole(listing: Listing) -> Any:
    """What stands in the answer, which is one line."""
    line = b"".join(listing.pieces())
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    return json.loads(line)


@given(st.lists(_VALUES, max_size=8) | st.dictionaries(st.text(max_size=4), _VALUES, max_size=5))
def test_what_is_written_is_what_was_given(body: Any) -> None:
    assert whole(Listing("x", body, {"at": 1.5})) == {"v": 1, "at": 1.5, "x": body}
    lazy = Lazy(body, body.__getitem__) if isinstance(body, dict) else iter(body)
    assert whole(Listing("x", lazy)) == {"v": 1, "x": body}


def test_what_is_made_as_it_is_written_may_stand_anywhere() -> None:
    body = {"a": iter([1, {"b": [2]}]), "c": Lazy("de", lambda name: iter([name])), "f": {"g": iter(())}, "h": (1, 2)}
    assert whole(Listing("x", body))["x"] == {
        "a": [1, {"b": [2]}],
        "c": {"d": ["d"], "e": ["e"]},
        "f": {"g": []},
        "h": [1, 2],
    }


def test_a_piece_ends_when_its_time_is_over() -> None:
    now, made = 0.0, 0

    def each() -> Iterator[int]:
        nonlocal now, made
        for number in range(40):
            now += PIECE_SECONDS / 4
            made += 1
            yield number

    counts = []
    before = 0
    for _piece in Listing("x", each()).pieces(lambda: now):
        counts.append(made - before)
        before = made
    assert max(counts) == 4 and sum(counts) == 40


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    closed = []

    def each() -> Iterator[int]:
        try:
            yield from range(10 * ITEMS)
        finally:
            closed.append(True)

    pieces = Listing("x", each()).pieces()
    next(pieces)
    pieces.close()
    assert closed == [True]
