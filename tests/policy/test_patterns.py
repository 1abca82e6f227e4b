"""Sets of RE2 patterns: what is found, what is refused, and that memory running out hides nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.policy import patterns
from smppd.policy.patterns import PatternFault, PatternSet, quote


def test_search() -> None:
    found = PatternSet(["foo", r"(?i)b[aä]r$", "^x", r"\d{3}"])
    assert sorted(found.search("a foo BÄR".encode())) == [0, 1]
    assert found.search(b"nothing") == []
    assert found.search(b"") == []
    assert sorted(found.search(b"x123")) == [2, 3]
    assert PatternSet([]).search(b"anything") == []
    assert PatternSet([""]).search(b"") == [0]


@pytest.mark.parametrize(
    "bad", ["(", r"(?=a)", r"\1", "(?<!a)b", "a{2000}", r"\pL{900}", "[", "\ud800"], ids=lambda bad: ascii(bad)
)
def test_bad_patterns_are_named_by_their_place(bad: str) -> None:
    with pytest.raises(PatternFault, match="not an RE2 pattern") as caught:
        PatternSet(["fine", bad])
    assert caught.value.index == 1


@pytest.mark.interpreted("changes a constant that the compiler wrote into the code")
def test_a_set_too_large_for_one_automaton_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MAX_SET_MEMORY", 200_000)
    many = PatternSet([f"word{i}.{{40}}[xyz]end" for i in range(100)])
    assert len(many._pieces) > 1
    for i in (0, 49, 50, 99):
        assert many.search(b"a word%d%sxend" % (i, b"." * 40)) == [i]


def test_an_automaton_out_of_memory_is_not_taken_for_no_match() -> None:
    found = PatternSet(["foo", "bar"])
    found._pieces = [(lambda text: [], 0, 2)]  # what RE2 says then
    found._only = found._pieces[0][0]
    assert found.search(b"a bar") == [1]
    assert found.search(b"neither") == []


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(min_size=1), max_size=8), st.text(), st.text())
def test_literals(words: list[str], before: str, after: str) -> None:
    found = PatternSet([quote(word) for word in words])
    for index, word in enumerate(words):
        assert index in found.search((before + word + after).encode())
    found_in = set(found.search(before.encode()))
    assert found_in == {index for index, word in enumerate(words) if word in before}


def test_time_does_not_explode() -> None:
    # A backtracking engine would not return from this.
    assert PatternSet([r"(a+)+$", r"(a|a)*b"]).search(b"a" * 20_000 + b"!") == []


@pytest.mark.interpreted("changes a constant that the compiler wrote into the code")
def test_patterns_that_are_too_large_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 such took minutes to load, and might have taken gigabytes under hostile texts."""
    monkeypatch.setattr(patterns, "MAX_PROGRAM", 100_000)
    wide = [rf"[\pL ]{{0,40}}n{n}" for n in range(4)]
    PatternSet(wide[:2])
    with pytest.raises(PatternFault, match="together") as caught:
        PatternSet(wide)
    assert caught.value.index == 2
