"""Joining: every text that a phone may show is read, in bounded memory, and nothing young is forgotten for want of room."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol.joiner import READINGS, Budget, Joiner, JoinerFull
from smppd.protocol.longmessage import Concat, TextError


def part(seq: int, total: int = 3, ref: int = 7, wide: bool = False) -> Concat:
    return Concat(ref, total, seq, wide)


def readings(joiner: Joiner, *parts: tuple[Concat, str], now: float = 0.0) -> set[str]:
    """All runs that are read when the last of these parts comes."""
    for concat, text in parts:
        joined = joiner.add("key", concat, text, now)
    return {run for runs, _ in [(joined.runs, joined.complete), *joined.others] for run in runs}


@pytest.mark.parametrize(("total", "seq"), [(0, 0), (2, 0), (2, 3), (256, 1)])
def test_impossible_places_are_refused(total: int, seq: int) -> None:
    with pytest.raises(TextError):
        Joiner().add("key", Concat(1, total, seq, False), "text", 0.0)


def test_parts_in_any_order_become_the_whole_text() -> None:
    for order in itertools.permutations((1, 2, 3)):
        joiner = Joiner()
        joined = [joiner.add("key", part(seq), "abc"[seq - 1], 0.0) for seq in order]
        assert [each.complete for each in joined] == [False, False, True]
        assert joined[-1].known == "abc" and joined[-1].runs == ("abc",) and not joined[-1].others
        assert len(joiner) == 0 and joiner.bytes == joiner.done_bytes > 0
        joiner.expire(300.0)
        assert joiner.bytes == joiner.done_bytes == 0


def test_a_missing_part_breaks_the_run() -> None:
    joiner = Joiner()
    joiner.add("key", part(1, 4), "a", 0.0)
    joined = joiner.add("key", part(3, 4), "c", 0.0)
    assert (joined.known, joined.runs) == ("a\ufffdc", ("a", "c"))
    assert joiner.add("key", part(4, 4), "d", 0.0).runs == ("a", "cd")


def test_the_same_part_again_changes_nothing() -> None:
    joiner = Joiner()
    first = joiner.add("key", part(1), "a", 0.0)
    size = joiner.bytes
    assert joiner.add("key", part(1), "a", 1.0) == first
    assert joiner.bytes == size
    joiner.add("key", part(2), "b", 1.0)
    whole = joiner.add("key", part(3), "c", 1.0)
    size = joiner.bytes
    assert joiner.add("key", part(2), "b", 2.0) == whole and joiner.bytes == size, "nor when it is whole"


def test_keys_are_apart() -> None:
    joiner = Joiner()
    joiner.add("one", part(1, 2), "a", 0.0)
    assert joiner.add("two", part(2, 2), "b", 0.0).runs == ("b",)


def test_a_part_sent_with_another_text_is_read_with_both() -> None:
    joiner = Joiner()
    assert readings(joiner, (part(2, 2), "one"), (part(2, 2), "two"), (part(2, 2), "three"), (part(1, 2), "a ")) == {
        "a one",
        "a two",
        "a three",
    }


def test_a_part_sent_once_more_after_the_whole_is_read_in_it() -> None:
    joiner = Joiner()
    whole = [(part(1), "a"), (part(2), "b"), (part(3), "c")]
    assert "aBc" in readings(joiner, *whole, (part(2), "B"))
    joiner = Joiner()
    joiner_readings = readings(joiner, *whole, (part(2), "B"), (part(1), "A"))
    assert {"ABc", "Abc", "AB"} <= joiner_readings


def test_other_totals_and_sizes_of_the_reference_are_read_together() -> None:
    joiner = Joiner()
    assert "ab" in readings(joiner, (part(1, 2), "a"), (part(2, 3), "b"))
    joiner = Joiner()
    assert "ab" in readings(joiner, (part(1, 2), "a"), (part(2, 2, 0x107, wide=True), "b"))


def test_which_reading_is_whole() -> None:
    joiner = Joiner()
    for concat, text in [(part(1, 2), "a"), (part(2, 2), "b")]:
        joiner.add("key", concat, text, 0.0)
    joined = joiner.add("key", part(2, 2), "B", 0.0)
    assert not joined.complete and (("aB",), True) in joined.others


def test_too_many_texts_of_a_part_end_the_message() -> None:
    joiner = Joiner()
    for number in range(READINGS):
        joiner.add("key", part(1, 2), f"text {number}", 0.0)
    joiner.add("key", part(2, 2), "x", 0.0)
    joiner = Joiner()
    for number in range(READINGS + 1):
        joiner.add("key", part(1, 3), f"text {number}", 0.0)
    for _ in range(2):
        with pytest.raises(TextError):
            joiner.add("key", part(2, 3), "x", 0.0)
    with pytest.raises(TextError):
        joiner.add("key", part(1, 2), "another total", 0.0)


def test_later_and_repeated_parts_of_a_refused_message_are_refused() -> None:
    joiner = Joiner()
    joiner.add("key", part(1), "a", 0.0)
    joiner.add("key", part(2), "bad", 0.0)
    joiner.refuse()
    for seq in (2, 3, 1):
        joined = joiner.add("key", part(seq), "b", 10.0)
        assert joined.refused and not joined.complete and joined.runs == ()
    assert not joiner.add("other", part(1), "a", 10.0).refused
    again = joiner.add("key", part(2), "b", 300.0)
    assert not again.refused and again.runs == ("ab",), (
        "after its time: with what was passed on, not with what was refused"
    )


def test_a_message_can_be_refused_by_the_part_that_completes_it() -> None:
    joiner = Joiner()
    joiner.add("key", part(1, 2), "a", 0.0)
    assert joiner.add("key", part(2, 2), "b", 0.0).complete
    joiner.refuse()
    assert joiner.add("key", part(1, 2), "a", 1.0).refused
    assert joiner.add("key", part(2, 2), "c", 301.0).runs == ("ac",)


def test_what_was_not_taken_is_as_if_it_had_not_come() -> None:
    joiner = Joiner()
    joiner.add("key", part(1, 2), "a", 0.0)
    size = joiner.bytes
    for text in ("b", "c"):
        joiner.add("key", part(2, 2), text, 0.0)
        joiner.undo()
        assert joiner.bytes == size and len(joiner) == 1
    joiner.add("key", part(1, 2), "x", 0.0)
    joiner.undo()
    joined = joiner.add("key", part(2, 2), "d", 0.0)
    assert joined.runs == ("ad",) and not joined.others


def test_a_text_exchanged_while_it_waits_takes_the_place_of_the_old_one() -> None:
    joiner = Joiner()
    joiner.add("key", part(1, 2), "a", 0.0)
    joined = joiner.replace("key", part(1, 2), "a", "A", 0.0)
    assert joined is not None and joined.runs == ("A",)
    joined = joiner.add("key", part(2, 2), "b", 0.0)
    assert joined.runs == ("Ab",) and not joined.others
    joined = joiner.replace("key", part(2, 2), "b", "B", 1.0)
    assert joined is not None and joined.complete and joined.runs == ("AB",)
    joiner.undo()
    joined = joiner.replace("key", part(1, 2), "A", "a", 1.0)
    assert joined is not None and joined.runs == ("ab",)
    assert joiner.replace("key", part(1, 2), "unknown", "a", 1.0) is None
    joiner.expire(301.0)
    assert joiner.replace("key", part(1, 2), "a", "A", 301.0) is None and joiner.bytes == 0


def test_held_parts_that_are_refused_leave_nothing() -> None:
    joiner = Joiner()
    joiner.add("key", part(1), "a", 0.0)
    joiner.add("key", part(2), "b", 0.0)
    joiner.forget("key", part(2))
    assert (len(joiner), joiner.bytes) == (0, 0)


def test_parts_are_forgotten_after_their_time() -> None:
    joiner = Joiner(ttl=300)
    joiner.add("key", part(1, 2), "a", 0.0)
    joiner.add("other", part(1, 2), "a", 200.0)
    joiner.expire(299.0)
    assert len(joiner) == 2
    joiner.expire(300.0)
    assert len(joiner) == 1 and joiner.forgotten == 1
    assert joiner.add("key", part(2, 2), "b", 300.0).runs == ("b",)


def test_at_the_limit_the_new_one_is_turned_away_and_none_is_forgotten() -> None:
    joiner = Joiner(max_messages=2)
    joiner.add("one", part(1), "a", 0.0)
    joiner.add("two", part(1), "a", 1.0)
    joiner.add("one", part(2), "b", 2.0)
    for now in (3.0, 4.0):
        with pytest.raises(JoinerFull):
            joiner.add("three", part(1), "a", now)
    assert joiner.add("two", part(2), "b", 5.0).runs == ("ab",)
    assert joiner.add("one", part(3), "c", 300.0).complete, "a known message goes on"
    joiner.add("three", part(1), "a", 300.0)
    joiner.add("four", part(1), "a", 305.0)
    assert len(joiner) == 2 and joiner.forgotten == 1, "what is old enough makes room"


def test_octets_are_a_limit_of_the_account_and_of_all() -> None:
    joiner = Joiner(max_bytes=8000)
    joiner.add("one", part(1), "a" * 1000, 0.0)
    with pytest.raises(JoinerFull):
        for seq in range(2, 40):
            joiner.add("one", part(seq, 255), "a" * 1000, 0.0)
    assert joiner.bytes <= 8000
    budget = Budget(most=20_000, fair=5_000)
    greedy, modest = Joiner(budget=budget), Joiner(budget=budget)
    with pytest.raises(JoinerFull):
        for number in range(100):
            greedy.add(number, part(1), "a", 0.0)
    assert budget.used == greedy.bytes <= 20_000
    modest.add("key", part(1), "a", 0.0)
    assert modest.add("key", part(2), "b", 0.0).runs == ("ab",), "another account's part is joined all the same"
    greedy.clear()
    modest.clear()
    assert budget.used == 0


def test_finished_ones_never_cost_an_unfinished_one_its_place() -> None:
    joiner = Joiner(max_bytes=10_000, done_bytes=6_000)
    for number in range(100):
        for seq in (1, 2):
            joiner.add(number, part(seq, 2), "a", 0.0)
        assert joiner.done_bytes <= 6_000 and joiner.bytes <= 10_000
    joiner.add("key", part(1), "a" * 3000, 0.0)
    assert len(joiner) == 1 and joiner.forgotten == 0


def test_refusals_have_a_limit() -> None:
    joiner = Joiner(max_messages=3)
    for number in range(5):
        joiner.add(number, part(1), "a", float(number))
        joiner.refuse()
    assert joiner.refused == 3
    assert not joiner.add(1, part(1), "a", 5.0).refused and joiner.add(2, part(1), "a", 5.0).refused


def test_one_message_has_a_limit() -> None:
    joiner = Joiner(max_message_bytes=4096)
    joiner.add("key", part(1, 255), "a" * 2000, 0.0)
    with pytest.raises(TextError) as caught:
        joiner.add("key", part(2, 255), "a" * 2000, 0.0)
    assert "aaa" not in str(caught.value)
    with pytest.raises(TextError):
        joiner.add("key", part(3, 255), "b", 0.0)
    assert joiner.bytes < 2000, "its texts are gone, and nothing more is taken"


def test_a_long_message_as_large_as_they_come_is_joined() -> None:
    joiner = Joiner()
    for seq in range(1, 256):
        joined = joiner.add("key", Concat(1, 255, seq, True), "ж" * 127, 0.0)
    assert joined.complete and len(joined.known) == 255 * 127


def test_nothing_prints_the_text() -> None:
    joiner = Joiner()
    joined = joiner.add("key", part(1), "confidential", 0.0)
    shown = f"{joined!r} {joined} {joiner!r} {joiner._messages!r} {joiner._done!r}"
    assert "confidential" not in shown


adds = st.lists(
    st.tuples(
        st.integers(0, 3),  # the key
        st.integers(1, 4).flatmap(lambda total: st.tuples(st.just(total), st.integers(1, total))),
        st.text(alphabet="ab", max_size=3),
        st.floats(0, 100),  # time that passes
        st.sampled_from(["", "", "", "refuse", "undo", "replace", "forget"]),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=300)
@given(adds, st.integers(1, 4), st.integers(0, 9000))
def test_memory_stays_within_its_bounds(
    events: list[tuple[int, tuple[int, int], str, float, str]], max_messages: int, max_bytes: int
) -> None:
    joiner = Joiner(max_messages=max_messages, max_bytes=max_bytes, done_bytes=max_bytes, ttl=150, keep=120)
    now = 0.0
    for key, (total, seq), content, passes, then in events:
        now += passes
        concat = Concat(1, total, seq, False)
        try:
            joined = joiner.add(key, concat, content, now)
        except (JoinerFull, TextError):
            continue
        every = [run for runs, _ in [(joined.runs, False), *joined.others] for run in runs]
        assert joined.refused or any(content in run for run in every)
        if then == "refuse":
            joiner.refuse(now)
            # Where a refusal had no room to be remembered, the texts that were passed on still are.
            assert (key, (1, total, False)) not in joiner._refused or joiner.add(key, concat, content, now).refused
        elif then == "undo":
            joiner.undo()
        elif then == "replace":
            joiner.replace(key, concat, content, content + "c", now)
        elif then == "forget":
            joiner.forget(key, concat)
        assert len(joiner) <= max_messages and joiner.refused <= max_messages
        assert 0 <= joiner.done_bytes <= joiner.bytes
        # A refusal, or a text that grew by an exchange, is kept a moment longer than there is room.
        assert joiner.bytes <= max_bytes + 600
    joiner.expire(now + 151)
    assert (len(joiner), joiner.refused, joiner.bytes, joiner.done_bytes) == (0, 0, 0, 0)


def test_the_account_of_memory_is_no_less_than_the_memory() -> None:
    joiner = Joiner(done_bytes=1 << 30)
    tracemalloc.start()
    try:
        for number in range(1500):
            for seq in (1, 2):
                total = 2 if number % 3 == 0 else 3
                joiner.add(
                    ("account", "+447700900000", f"+44770090{number:04}", number), part(seq, total), "ж" * 67, 0.0
                )
            if number % 3 == 1:
                joiner.refuse(0.0)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used <= joiner.bytes <= 3 * used
