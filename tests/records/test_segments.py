"""Index segments find all and only what is in them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.records.segments import build_record_segment, build_segment, find_number, find_record
from smppd.vault.seal import SealError
from tests.vault.rows import some

entry = st.tuples(st.integers(0, 5).map(lambda n: some(str(n), 16)), st.integers(0, 2**64 - 1))


@settings(deadline=None, max_examples=100)
@given(st.lists(entry, max_size=40))
def test_segment_finds_all_and_only_its_entries(entries: list[tuple[bytes, int]]) -> None:
    segment = build_segment(iter(entries))
    for key in {key for key, _ in entries} | {bytes(16), b"\xff" * 16}:
        assert find_number(segment, key) == sorted({value for other, value in entries if other == key})


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2**64 - 1)), max_size=40))
def test_record_segment_finds_all_and_only_its_entries(entries: list[tuple[int, int]]) -> None:
    segment = build_record_segment(entries)
    for key in range(10):
        assert find_record(segment, key) == sorted({value for other, value in entries if other == key})


def test_malformed_segments_and_entries_are_refused() -> None:
    good = build_segment([(bytes(16), 1)])
    for bad in (b"", good[:-1], good + b"x", b"XXXX" + good[4:], build_record_segment([(1, 1)])):
        with pytest.raises(SealError):
            find_number(bad, bytes(16))
    with pytest.raises(SealError):
        find_number(good, b"short")
    with pytest.raises(SealError):
        find_record(good, 1)
    with pytest.raises(SealError):
        build_segment([(b"short", 1)])
    with pytest.raises(SealError):
        build_segment([(bytes(16), 1 << 64)])
