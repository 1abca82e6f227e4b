"""The journal: entries there and back, who lives where, and segments that die oldest first."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.relay.ledger.journal import WEIGHT, Entry, Journal, Living, mark, read


def filled(*segments: list[int]) -> tuple[Journal, dict[int, Living]]:
    """A journal with these ids in segments 1, 2, ..."""
    journal = Journal()
    things = {}
    for segment, identities in enumerate(segments, 1):
        journal.begin(segment)
        for identity in identities:
            things[identity] = Living(identity, bytes(identity))
            journal.add(things[identity])
    return journal, things


# -- entries -------------------------------------------------------------------------------------------------------------

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


# -- segments ------------------------------------------------------------------------------------------------------------


def test_segments_die_oldest_first_only() -> None:
    journal, things = filled([1, 2], [3], [4], [])
    journal.remove(things[3])
    journal.remove(things[4])
    assert journal.dead() == []  # their marks may speak of what lives in the first
    journal.remove(things[1])
    assert journal.dead() == []
    journal.remove(things[2])
    assert journal.dead() == [1, 2, 3]
    assert (list(journal.live), journal.count()) == ([4], 0)


def test_the_current_segment_never_dies() -> None:
    journal, things = filled([1])
    journal.remove(things[1])
    assert journal.dead() == []
    journal.begin(2)
    assert journal.dead() == [1]
    assert journal.dead() == []
    assert Journal().dead() == []


def test_what_is_alive_holds_back_all_younger_segments() -> None:
    journal, things = filled([], [1], [], [])
    assert journal.dead() == [1]
    assert journal.dead() == []
    journal.remove(things[1])
    assert journal.dead() == [2, 3]


def test_things_know_their_home_and_are_found_wherever_they_live() -> None:
    journal, things = filled([1, 2], [3])
    assert [things[n].home for n in (1, 2, 3)] == [1, 1, 2]
    assert journal.get(1) is things[1] and journal.get(3) is things[3]
    assert (journal.get(4), journal.count(), journal.entries) == (None, 3, 1)


def test_a_thing_spilled_into_the_current_segment_frees_its_old_one() -> None:
    journal, things = filled([1], [2])
    journal.remove(things[1])
    journal.add(things[1])
    assert (things[1].home, journal.get(1), journal.count()) == (2, things[1], 2)
    assert journal.dead() == [1]
    journal.begin(3)
    journal.remove(things[1])
    journal.remove(things[2])
    assert journal.dead() == [2]


def test_removing_what_is_cold_or_gone_is_nothing() -> None:
    journal, things = filled([1])
    journal.remove(Living(9, b""))
    journal.remove(things[1])
    journal.remove(things[1])
    journal.begin(2)
    assert journal.dead() == [1]
    journal.remove(things[1])
    assert journal.count() == 0


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from(["begin", "add", "remove", "spill", "dead"]), max_size=60),
    st.randoms(use_true_random=False),
)
def test_no_segment_with_something_alive_dies_and_none_is_kept_for_nothing(steps: list[str], random: object) -> None:
    journal = Journal()
    journal.begin(1)
    alive: dict[int, Living] = {}
    begun, died = [1], []
    for number, step in enumerate(steps, 1):
        if step == "begin":
            begun.append(begun[-1] + 1)
            journal.begin(begun[-1])
        elif step == "add":
            alive[number] = Living(number, b"")
            journal.add(alive[number])
        elif step == "remove" and alive:
            journal.remove(alive.pop(random.choice(sorted(alive))))  # type: ignore[attr-defined]
        elif step == "spill" and alive:
            oldest = min(alive.values(), key=lambda thing: thing.home)
            journal.remove(oldest)
            journal.add(oldest)
        elif step == "dead":
            died += journal.dead()
            homes = {thing.home for thing in alive.values()}
            assert not homes & set(died)
            assert died == begun[: len(died)]
            assert len(died) == begun.index(min([*homes, begun[-1]]))
    assert journal.count() == len(alive)
    assert all(journal.get(identity) is thing for identity, thing in alive.items())


def test_what_lives_is_weighed_once_however_often_it_is_written() -> None:
    journal, things = filled([1, 20], [300])
    assert journal.octets == 3 * WEIGHT + 321
    read_back = Living(5, bytes(50))
    journal.weigh(read_back)
    journal.weigh(read_back)
    assert journal.octets == 4 * WEIGHT + 371
    things[20].frame = bytes(7)  # changed by a rule or by replace_sm: taken off with what it was counted with
    journal.remove(things[20])
    journal.add(things[300])
    journal.remove(read_back)
    journal.remove(read_back)
    assert journal.octets == 2 * WEIGHT + 301
    for thing in (things[1], things[300]):
        journal.remove(thing)
    assert journal.octets == 0
