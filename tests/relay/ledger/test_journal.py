"""The form of the spool: entries there and back, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.relay.ledger.journal import Entry, mark, read

ENTRIES = st.lists(st.tuples(st.sampled_from(list(Entry)), st.integers(0, (1 << 64) - 1), st.binary(max_size=300)))


@settings(deadline=None, max_examples=100)
@given(ENTRIES)
def test_entries_there_and_back(entries: list[tuple[Entry, int, bytes]]) -> None:
    assert list(read(b"".join(mark(*entry) for entry in entries))) == entries


def test_an_entry_may_be_as_long_as_the_longest_pdu() -> None:
    assert list(read(mark(Entry.ACCEPT, 1, bytes(70_000)))) == [(Entry.ACCEPT, 1, bytes(70_000))]


@settings(deadline=None, max_examples=100)
@given(data=st.binary(max_size=80))
def test_a_broken_block_raises_a_value_error_and_ends(data: bytes) -> None:
    try:
        entries = list(read(data))
    except ValueError as error:
        assert str(error).startswith("a spool ")
    else:
        assert b"".join(
            mark(Entry(kind), identity, payload) for kind, identity, payload in entries if kind in set(Entry)
        ) in (
            data,
            b"",
        ) or any(kind not in set(Entry) for kind, *_ in entries)


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_block_that_ends_inside_an_entry(cut: int) -> None:
    with pytest.raises(ValueError, match="a spool"):
        list(read(mark(Entry.DONE, 5) + mark(Entry.ACCEPT, 6, b"payload")[:-cut]))


def test_an_entry_shorter_than_its_head_is_no_endless_loop() -> None:
    raw = bytearray(mark(Entry.DONE, 5))
    raw[1:5] = bytes(4)
    with pytest.raises(ValueError, match="no possible length"):
        list(read(bytes(raw)))
