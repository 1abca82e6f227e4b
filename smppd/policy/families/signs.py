"""Which of the shipped words occur in a text: one search for all signs of all languages, a second for words near each other.

The words stand in `data/words.txt`. They are searched in folded words with one space between them (`disguises.read_words`),
by RE2, whose time is linear in the text.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import Final

from smppd.policy.keywords import words
from smppd.policy.patterns import PatternSet, quote

UNSPACED: Final = frozenset({"zh"})
"""Languages that put no spaces between words."""
_GAP: Final = 4  # words between two that are near each other
_GAP_UNSPACED: Final = 14  # characters

# What the second search finds: words of two signs near each other, in either order.
PAIRS: Final = {
    "asks": ("ask", "secret"),
    "endangers": ("thing", "stopped"),
    "wants sent": ("send", "handed"),
    "is amiss": ("parcel", "amiss"),
}
# Four to eight digits by themselves, or in twos or threes, as codes are written; no part of a longer number with gaps.
_DIGITS: Final = (
    r"(?:[^0-9 |] |[^\x00-\x7f]|^ |\| )(?:[0-9]{4,8}|[0-9]{3} [0-9]{3}|[0-9]{2} [0-9]{2} [0-9]{2}|[a-z]{1,2} [0-9]{4,8})"
    r"(?: [^0-9]| [0-9]{1,2}(?:[^0-9 ]| [^0-9])| $|[^ -~])"
)
Words = dict[str, dict[str, list[str]]]
"""Sign -> language -> phrases."""


def read_data(name: str) -> str:
    """The text of a data file of ours. For when a configuration is loaded, never for a message."""
    return (resources.files("smppd.policy") / "families" / "data" / name).read_text(encoding="utf-8")


def parse_words(text: str) -> Words:
    """The words file. Raises ``ValueError`` with the number of a line that is not understood."""
    found: Words = {}
    sign: dict[str, list[str]] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        heading = re.fullmatch(r"\[([a-z ]+)\]", line)
        if heading is not None:
            sign = found.setdefault(heading[1], {})
        elif line:
            language, colon, rest = line.partition(":")
            if sign is None or not colon or not re.fullmatch("[a-z]{2}", language):
                raise ValueError(f"line {number}: must be [sign], or a language and its phrases")
            phrases = [phrase.strip() for phrase in rest.split(",")]
            if not all(phrases):
                raise ValueError(f"line {number}: an empty phrase")
            sign.setdefault(language, []).extend(phrases)
    return found


def _word(word: str) -> str:
    """One word of a phrase as a pattern, without what stands around it."""
    if word == "<n>":
        return "[0-9]+"
    if word == "*":
        return "[^ |]+"
    before = "[^ |]*" if word.startswith("*") else ""
    after = "[^ |]*" if word.endswith("*") else ""
    pieces = [
        "[0-9]+" if piece == "<n>" else quote(" ".join(found.decode() for found in words(piece, piece.encode())))
        for piece in re.split("(<n>)", word.strip("*"))
        if piece
    ]
    if not any(pieces):
        raise ValueError("a phrase without letters")
    return before + "".join(pieces) + after


def phrase_pattern(phrase: str) -> str:
    """A phrase as an RE2 pattern that is to be put between spaces."""
    return " ".join(_word(word) for word in phrase.split())


def _either(phrases: list[str]) -> str:
    return "(?:" + "|".join(phrase_pattern(phrase) for phrase in dict.fromkeys(phrases)) + ")"


def _either_unspaced(phrases: list[str]) -> str:
    return "(?:" + "|".join(phrase_pattern(phrase).replace("[0-9]+", "[0-9]+ ?") for phrase in phrases) + ")"


def sign_pattern(languages: dict[str, list[str]]) -> str:
    """A pattern that finds a sign in any language."""
    spaced = [phrase for language, phrases in languages.items() if language not in UNSPACED for phrase in phrases]
    unspaced = [phrase for language, phrases in languages.items() if language in UNSPACED for phrase in phrases]
    patterns = [f" {_either(spaced)} "] if spaced else []
    if unspaced:
        patterns.append(_either_unspaced(unspaced))
    return "|".join(patterns)


def pair_pattern(first: dict[str, list[str]], second: dict[str, list[str]], language: str) -> str:
    """A pattern that finds words of two signs near each other."""
    if language in UNSPACED:
        one, other = _either_unspaced(first[language]), _either_unspaced(second[language])
        gap = f"[^|]{{0,{_GAP_UNSPACED}}}"
        return f"{one}{gap}{other}|{other}{gap}{one}"
    one, other = _either(first[language]), _either(second[language])
    gap = rf"(?: [^ |]+){{0,{_GAP}}} "
    return f" {one}{gap}{other} | {other}{gap}{one} "


class SignIndex:
    """The signs, each a bit by its name (``bit``)."""

    __slots__ = ("_bits", "_names", "_pair_bits", "_pairs", "_parents", "_search")

    def __init__(self, listed: Words) -> None:
        self._names = [*listed, "digits", *PAIRS]
        self._bits = {name: 1 << at for at, name in enumerate(self._names)}
        self._search = PatternSet([*[sign_pattern(languages) for languages in listed.values()], _DIGITS])
        patterns: list[str] = []
        self._pair_bits: list[int] = []
        self._parents: list[int] = []
        for name, (first, second) in PAIRS.items():
            self._parents.append(self._bits[first] | self._bits[second])
            for language in listed[first]:
                patterns.append(pair_pattern(listed[first], listed[second], language))
                self._pair_bits.append(self._bits[name])
        self._pairs = PatternSet(patterns)

    def bit(self, name: str) -> int:
        """The bit of a sign or a pair. Raises KeyError."""
        return self._bits[name]

    def search(self, joined: bytes) -> int:
        """The bits of all that is in folded words with one space between, before and behind them."""
        found = 0
        for index in self._search.search(joined):
            found |= 1 << index
        if found:
            for parents in self._parents:
                if found & parents == parents:
                    for index in self._pairs.search(joined):
                        found |= self._pair_bits[index]
                    break
        return found
