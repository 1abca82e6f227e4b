"""The events of one record among those of many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smppd.message import State, events_of, pack_event, read_events

_EVENTS = st.lists(
    st.tuples(st.sampled_from([1, 2, 1 << 40, 0x0101010101010101]), st.integers(0, 1 << 40), st.binary(max_size=300))
)


@given(_EVENTS, st.sampled_from([1, 2, 1 << 40, 0x0101010101010101]), st.integers(0, 30))
def test_they_are_those_that_reading_all_gives(events: list[tuple[int, int, bytes]], wanted: int, cut: int) -> None:
    block = b"".join(pack_event(one, at, State.SUBMITTED, detail=detail) for one, at, detail in events)
    block = block[: max(0, len(block) - cut)]
    assert events_of(block, wanted) == [event for event in read_events(block) if event.id == wanted]
