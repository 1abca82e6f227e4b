"""Segments: they die oldest first, none with something alive in it, and what lives too long is asked to move."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.store.segments import ENTRIES, Segments
from tests.store.memory import MemoryStore
from tests.store.tenant import Lodger


def begun(most: int = 2, seconds: float = 120.0) -> tuple[Segments, Lodger, MemoryStore, list[bool]]:
    store, lodger = MemoryStore(), Lodger()
    destroyed: list[bool] = []

    def destroy(then: object) -> None:
        destroyed.append(store.room)
        then(store.room)  # type: ignore[operator]

    segments = Segments(store, lodger, store.rotate, destroy, 0.0)
    segments.most, segments.seconds = most, seconds
    segments.opened(store.rotate())
    return segments, lodger, store, destroyed


def test_a_segment_ends_with_time_or_with_many_entries_and_never_for_nothing() -> None:
    segments, lodger, store, _ = begun()
    segments.tick(1000.0)
    assert store.segment == 1, "nothing is in it"
    lodger.adds(1)
    segments.tick(1001.0)
    assert (store.segment, lodger.places()) == (2, [1, 2])
    lodger.adds(*range(100, 100 + ENTRIES))
    segments.tick(1001.5)
    assert store.segment == 3


def test_segments_die_oldest_first_only_and_the_current_one_never() -> None:
    segments, lodger, store, _ = begun(most=9)
    for now, number in enumerate((1, 2, 3)):
        lodger.adds(number)
        segments.tick(200.0 * (now + 1))
    lodger.ends(2, 3)
    segments.tick(601.0)
    assert store.batch.segments == [], "marks in them may speak of what lives in the first"
    lodger.ends(1)
    segments.tick(602.0)
    assert store.batch.segments == [1, 2, 3] and lodger.places() == [4]
    segments.tick(603.0)
    assert store.batch.segments == [1, 2, 3]


def test_what_lives_too_long_moves_and_on_a_full_disk_it_does_not() -> None:
    segments, lodger, store, _ = begun(most=2)
    lodger.adds(1)
    for now in (200.0, 400.0):
        lodger.adds(int(now))
        store.room = False
        store.watch()
        segments.tick(now)
        assert lodger.places() == ([1] if now == 200.0 else [1, 2])
        store.room = True
        store.watch()
        segments.tick(now)
    assert lodger.rows == [1, 200] and store.batch.segments == []
    segments.tick(401.0)
    assert store.batch.segments == [1]


def test_tidying_has_all_that_lives_written_anew_once_it_is_durable() -> None:
    segments, lodger, store, destroyed = begun(most=9)
    lodger.adds(1, 2, 3)
    lodger.young = {3}
    told: list[bool] = []
    segments.tidy(1.0, told.append)
    segments.tidy(1.0, told.append)
    segments.tick(1.1)
    assert lodger.live[1] == [3] and not store.batch.then, "3 is not durable yet"
    lodger.young = set()
    segments.tick(1.2)
    assert not lodger.rows and store.batch.segments == [1, 2]
    (then,) = store.batch.then
    then()
    assert destroyed == [True] and told == [True, True]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from(["begin", "add", "remove", "tick"]), max_size=60),
    st.randoms(use_true_random=False),
)
def test_no_segment_with_something_alive_dies_and_none_is_kept_for_nothing(steps: list[str], random: object) -> None:
    segments, lodger, store, _ = begun(most=99, seconds=10.0)
    now = 0.0
    alive: list[int] = []
    for number, step in enumerate(steps, 1):
        now += 1.0
        if step == "begin":
            now += 11.0
            segments.tick(now)
        elif step == "add":
            alive.append(number)
            lodger.adds(number)
        elif step == "remove" and alive:
            gone = random.choice(alive)  # type: ignore[attr-defined]
            alive.remove(gone)
            lodger.ends(gone)
        elif step == "tick":
            segments.tick(now)
            died = store.batch.segments
            homes = {place for place, some in lodger.live.items() if some}
            assert not homes & set(died)
            assert died == list(range(1, len(died) + 1))
            assert len(died) == min([*homes, store.segment]) - 1
    assert sorted(one for some in lodger.live.values() for one in some) == sorted(alive)
