"""Many RE2 patterns searched in one pass over a text, without ever missing one because an automaton ran out of memory.

RE2 alone reads what an operator wrote: its time is linear in the text, whatever the pattern (google/re2, doc/syntax).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import re2

MAX_PATTERN_MEMORY: Final = 1 << 20
"""Bytes one compiled pattern may take: some 10,000 instructions."""
MAX_SET_MEMORY: Final = 64 << 20
"""Bytes a set and the automaton it grows while searching may take; the automaton starts afresh when they are used up."""

MAX_PROGRAM: Final = 5_000_000
"""Instructions of all patterns of a set together: some 10 s to load, and up to 256 MiB while hostile texts are searched. A
usual pattern has 30 to 1,000; one with a wide class of letters that is repeated forty times has 50,000."""

# Matches every text. RE2 reports a search that ran out of memory as "nothing matched"; then this one is missing too.
_SENTINEL: Final = rb"\z"
_NOTHING: Final[list[int]] = []


class PatternFault(ValueError):
    """A pattern RE2 does not take. ``index`` is its place in what was given; the text says why, without the pattern."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(why)
        self.index = index


def _options(memory: int) -> Any:
    options = re2.Options()
    options.max_mem = memory
    options.log_errors = False
    options.never_capture = True
    return options


def compile_pattern(pattern: str, index: int = 0) -> Any:
    """One pattern as an RE2 object. Raises ``PatternFault``."""
    try:
        return re2.compile(pattern, _options(MAX_PATTERN_MEMORY))
    except re2.error as error:
        why = error.args[0] if error.args else "not understood"
        text = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        raise PatternFault(index, f"not an RE2 pattern: {text}") from None
    except UnicodeEncodeError:
        raise PatternFault(index, "not an RE2 pattern: has half a surrogate pair") from None


def _matcher(automaton: Any) -> Callable[[bytes], list[int]]:
    """The search of a compiled RE2 set, which gives None where nothing, not even the sentinel, was found."""
    match = automaton.Match

    def search(text: bytes) -> list[int]:
        return match(text) or []

    return search


class PatternSet:
    """A fixed sequence of RE2 patterns. ``search`` tells which of them occur somewhere in a text."""

    __slots__ = ("_only", "_pieces", "_single", "size")

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises ``PatternFault`` for the first bad pattern, or the first that makes all of them together too large."""
        self.size = len(patterns)
        self._single: list[Any] = []
        program = 0
        for index, pattern in enumerate(patterns):
            compiled = compile_pattern(pattern, index)
            program += compiled.programsize
            if program > MAX_PROGRAM:
                why = "too large together with the patterns before it: repeat narrower classes, or less often"
                raise PatternFault(index, why)
            self._single.append(compiled)
        self._pieces: list[tuple[Callable[[bytes], list[int]], int, int]] = []
        if patterns:
            self._build([pattern.encode() for pattern in patterns], 0)
        self._only = self._pieces[0][0] if len(self._pieces) == 1 else None

    def _build(self, patterns: list[bytes], offset: int) -> None:
        """One RE2 set of all patterns; halves of them where together they are too large for it."""
        automaton = re2.Set.SearchSet(_options(MAX_SET_MEMORY))
        try:
            for pattern in patterns:
                automaton.Add(pattern)
            automaton.Add(_SENTINEL)
            automaton.Compile()
        except re2.error:
            if len(patterns) == 1:
                raise PatternFault(offset, "not an RE2 pattern: too large") from None
            half = len(patterns) // 2
            self._build(patterns[:half], offset)
            self._build(patterns[half:], offset + half)
            return
        self._pieces.append((_matcher(automaton), offset, len(patterns)))

    def search(self, text: bytes) -> list[int]:
        """Indexes of the patterns that occur in ``text`` (UTF-8), in no order."""
        if self._only is not None:
            hits = self._only(text)
            if len(hits) == 1 and hits[0] == self.size:
                return _NOTHING
        found: list[int] = []
        for match, offset, count in self._pieces:
            hits = match(text)
            if count not in hits:
                found += self._one_by_one(text, offset, count)
            else:
                found += [offset + hit for hit in hits if hit != count]
        return found

    def _one_by_one(self, text: bytes, offset: int, count: int) -> list[int]:
        # A pattern object falls back from its automaton to a slower search by itself. It wants str, as the pattern is.
        decoded = text.decode("utf-8", "replace")
        return [index for index in range(offset, offset + count) if self._single[index].search(decoded) is not None]


def quote(text: str) -> str:
    """A pattern that matches ``text`` literally."""
    return str(re2.escape(text))
