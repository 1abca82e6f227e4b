"""The words file: how it is read, and that it holds what it says."""

from __future__ import annotations

import pytest

from smppd.policy.families.index import FamilyIndex
from smppd.policy.families.signs import SignIndex, parse_words, phrase_pattern, read_data
from smppd.policy.keywords import words
from tests.policy.families.corpus import LANGUAGES


def test_every_sign_has_words_in_every_language() -> None:
    for sign, languages in parse_words(read_data("words.txt")).items():
        assert set(languages) == set(LANGUAGES), sign


@pytest.mark.parametrize(
    ("text", "line"),
    [("en: a", 1), ("[a]\nen a", 2), ("[a]\nenglish: a", 2), ("[a]\n\nen: a,, b", 3), ("[a]\nen:", 2)],
)
def test_a_broken_file_is_named_with_its_line(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=f"line {line}: "):
        parse_words(text)


@pytest.mark.parametrize(
    ("phrase", "pattern"),
    [
        ("Ändern", "andern"),
        ("verif*", "verif[^ |]*"),
        ("*konto", "[^ |]*konto"),
        ("within <n> hours", "within [0-9]+ hours"),
        ("<n>h", "[0-9]+h"),
        ("don't", r"don\ t"),
        ("your * code", "your [^ |]+ code"),
    ],
)
def test_phrases(phrase: str, pattern: str) -> None:
    assert phrase_pattern(phrase) == pattern


def test_words_near_each_other() -> None:
    listed = parse_words(read_data("words.txt"))
    index = SignIndex(listed)

    def has(sign: str, text: str) -> bool:
        joined = b" " + b" ".join(words(text, text.encode())) + b" "
        return index.search(joined) & index.bit(sign) != 0

    assert has("asks", "confirm your account") and has("asks", "account must we confirm")
    assert not has("asks", "confirm the time of our meeting in the hall about the account")
    assert has("asks", "确认您的账户") and not has("asks", "confirm")
    assert has("digits", "code 482913") and has("digits", "482 913") and not has("digits", "020 7946 0123")


def test_the_data_of_premium_numbers_and_shorteners_is_whole() -> None:
    for name in ("premium.txt", "shorteners.txt"):
        lines = [line for line in read_data(name).splitlines() if line and not line.startswith("#")]
        assert lines and all("2026-11-30" in line for line in lines), name
    assert FamilyIndex()
