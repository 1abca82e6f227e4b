"""What is done to a text so that a reader still reads it and a filter does not: each evasion as a function.

They change words only: links and numbers have evasions of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_CYRILLIC: Final = str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ")
_LATIN: Final = str.maketrans("асеорхуАВСЕНКМОРТХ", "aceopxyABCEHKMOPTX")
_LEET: Final = str.maketrans("oOlLeEsSaA", "00113355@@")


def _words(change: Callable[[str], str], least: int = 1) -> Callable[[str], str]:
    """``change`` of every word of ``least`` letters or more that is in no link, mailbox or number."""

    def evade(text: str) -> str:
        tokens = re.split(r"(\s+)", text)
        return "".join(
            token
            if re.search(r"[0-9@]|//|\.\w|\w/", token)
            else re.sub(rf"[^\W\d_]{{{least},}}", lambda match: change(match[0]), token)
            for token in tokens
        )

    return evade


def _spread(by: str) -> Callable[[str], str]:
    return lambda word: by.join(word)


def _bold(word: str) -> str:
    return "".join(
        chr(0x1D41A + ord(letter) - 97)
        if "a" <= letter <= "z"
        else chr(0x1D400 + ord(letter) - 65)
        if "A" <= letter <= "Z"
        else letter
        for letter in word
    )


def _wide(word: str) -> str:
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in word)


def _spaced(text: str) -> str:
    """Every letter by itself, and wider gaps between the words."""
    return _words(_spread(" "), 2)(re.sub(r"(?<=\S) (?=\S)", "   ", text)) if text.isascii() else text


def _look_alike(word: str) -> str:
    changed = word.translate(_CYRILLIC)
    return changed if changed != word else word.translate(_LATIN)


def _leet(word: str) -> str:
    changed = word.translate(_LEET)
    return changed if sum(map(str.isalpha, changed)) > 1 else word


WORDS: Final[dict[str, Callable[[str], str]]] = {
    "capitals": str.upper,
    "zero width": _words(_spread("\u200b")),
    "word joiners": _words(_spread("\u2060")),
    "soft hyphens": _words(_spread("\u00ad")),
    "bidi controls": _words(lambda word: f"\u202a{word[:1]}\u200f{word[1:]}\u202c"),
    "combining marks": _words(lambda word: "".join(letter + "\u0336" for letter in word) if word.isascii() else word),
    "accents": _words(lambda word: "".join(letter + "\u0301" for letter in word) if word.isascii() else word),
    "full width": _words(_wide),
    "mathematical": _words(_bold),
    "look-alikes": _words(_look_alike),
    "leet": _words(_leet),
    "spaced": _spaced,
    "dotted": _words(lambda word: ".".join(word) if word.isascii() else word, 3),
    "stars": _words(lambda word: word[: len(word) // 2] + "*" + word[len(word) // 2 :] if word.isascii() else word, 4),
    "tatweel": _words(lambda word: re.sub("(?<=[\u0628\u062a\u062d\u0633])(?=[\u0621-\u064a])", "\u0640", word)),
}
LINKS: Final[dict[str, Callable[[str], str]]] = {
    "hxxp": lambda text: text.replace("http", "hxxp"),
    "[.]": lambda text: re.sub(r"(?<=\w)\.(?=[a-z])", "[.]", text),
    "(dot)": lambda text: re.sub(r"(?<=\w)\.(?=[a-z])", "(dot)", text),
    "full width": lambda text: re.sub(r"https?://\S+", lambda match: _wide(match[0]), text),
    "zero width": lambda text: re.sub(r"(?<=//)\S+", lambda match: "\u200b".join(match[0]), text),
    "capitals": lambda text: re.sub(r"https?://\S+", lambda match: match[0].upper(), text),
}
DIGITS: Final[dict[str, Callable[[str], str]]] = {
    "full width": lambda text: re.sub("[0-9]+", lambda match: _wide(match[0]), text),
    "zero width": lambda text: re.sub("[0-9]+", lambda match: "\u200b".join(match[0]), text),
    "spaced": lambda text: re.sub(
        "[0-9](?:[ .-]?[0-9]){11,}", lambda match: " ".join(re.findall("[0-9]", match[0])), text
    ),
    "dashes": lambda text: re.sub(
        "[0-9](?:[ .-]?[0-9]){11,}", lambda match: "\u2013".join(re.findall("[0-9]{1,4}", match[0])), text
    ),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "mathematical": lambda text: re.sub("[0-9]", lambda match: chr(0x1D7CE + int(match[0])), text),
}
