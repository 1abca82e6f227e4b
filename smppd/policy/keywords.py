"""Words and phrases looked for in a text: whole words, whatever their case and accents, in one pass for all lists."""

from __future__ import annotations

import unicodedata
from typing import Final

from smppd.policy.patterns import PatternSet, quote

_MEMO: Final = 8192

# Unseen characters that are not of category Cf (Unicode's Default_Ignorable_Code_Point).
_UNSEEN: Final = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0}) | frozenset(
    [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]
)
# Scripts written without spaces, or with endings glued on: a keyword of theirs is found anywhere, not as a whole word.
_UNSPACED: Final = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x11FF),
    (0x1780, 0x17FF),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3040, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),
    (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)

# The stroke that makes an Arabic word longer, and says nothing.
_TATWEEL: Final = "\u0640"
# Letters that decompose into nothing and are one letter to those who read them: the dotless i, and the Persian forms of kaf
# and yeh, which look in a word as the Arabic ones do.
_SAME: Final = {"\u0131": "i", "\u06a9": "\u0643", "\u06cc": "\u064a", "\u0649": "\u064a"}

_ASCII: Final = bytes(
    byte + 32 if 65 <= byte <= 90 else byte if 48 <= byte <= 57 or 97 <= byte <= 122 else 32 for byte in range(128)
) + bytes([32] * 128)


def is_unseen(code: int) -> bool:
    """Whether a character shows nothing: zero-width spaces and joiners, soft hyphens, variation selectors."""
    return code in _UNSEEN or unicodedata.category(chr(code)) == "Cf"


class _Folds(dict[int, str]):
    """Code point -> what it folds to; filled as characters are met, and afresh when there are many."""

    def __missing__(self, code: int) -> str:
        folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold())
        to = "".join(map(_folded, folded))
        if len(self) >= _MEMO:
            self.clear()  # or rare characters, come once, would keep usual ones out for good
        self[code] = to
        return to


def _folded(character: str) -> str:
    """A decomposed character: itself, a space, or nothing."""
    if is_dropped(character):
        return ""
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    return _SAME.get(character, character) if character.isalnum() or is_mark(character) else " "


def is_dropped(character: str) -> bool:
    """Whether a decomposed character is left out before texts are compared: what shows nothing, accents, and what is drawn
    through or around a letter."""
    kind = unicodedata.combining(character)
    # Accents of Latin, Greek, Cyrillic (classes 200 and up), strokes through a letter (1), and Hebrew and Arabic points (10
    # to 35) go. Indic and Thai vowel signs and viramas stay: without them it is another word.
    if kind >= 200 or kind == 1 or 10 <= kind <= 35 or is_unseen(ord(character)):
        return True
    return character == _TATWEEL or unicodedata.category(character) == "Me"


def is_mark(character: str) -> bool:
    """Whether a character is written with the one before it."""
    return unicodedata.category(character)[0] == "M"


_FOLDS: Final = _Folds()


def words(text: str, raw: bytes) -> list[bytes]:
    """The folded words of ``text`` in order, as UTF-8; ``raw`` is the same text in UTF-8.

    Folding: compatibility forms (NFKD), case folded, accents and unseen characters dropped, all but letters, digits and
    vowel signs taken as gaps.
    """
    if len(raw) == len(text):
        return raw.translate(_ASCII).split()
    folded = text.translate(_FOLDS)
    if not folded.isascii():
        folded = unicodedata.normalize("NFD", folded)  # signs above and below one letter in one order
    return folded.encode("utf-8", "replace").split()


def fold(keyword: str) -> tuple[bytes, ...]:
    """The folded words of one keyword or phrase; empty when nothing of it could be looked for.

    Signs alone (``$$$``), or a single letter when its signs are gone (``c++``), are no keyword: they would be found
    everywhere. A text pattern can find them.
    """
    found = tuple(words(keyword, keyword.encode("utf-8", "replace")))
    letters = sum(len(word.decode()) for word in found)
    if letters < 2 and letters < len(keyword.strip()):
        return ()
    return found


def is_unspaced(text: str) -> bool:
    """Whether any letter is of a script written without spaces between words."""
    return not text.isascii() and any(low <= ord(letter) <= high for letter in text for low, high in _UNSPACED)


class KeywordIndex:
    """All keywords of a pipeline with the conditions (a bit mask) each satisfies."""

    __slots__ = ("_anywhere", "_anywhere_masks", "_first", "_substrings", "_vocabulary")

    def __init__(self) -> None:
        self._first: dict[bytes, list[tuple[tuple[bytes, ...], int]]] = {}
        self._vocabulary: frozenset[bytes] = frozenset()
        self._substrings: dict[bytes, int] = {}
        self._anywhere: PatternSet | None = None
        self._anywhere_masks: list[int] = []

    def add(self, keyword: str, mask: int) -> bool:
        """Adds a keyword; to be called before ``freeze``. False when it has nothing to look for."""
        folded = fold(keyword)
        if not folded:
            return False
        if is_unspaced(b"".join(folded).decode()):
            key = b" ".join(folded)
            self._substrings[key] = self._substrings.get(key, 0) | mask
            return True
        phrases = self._first.setdefault(folded[0], [])
        for at, (rest, old) in enumerate(phrases):
            if rest == folded[1:]:
                phrases[at] = (rest, old | mask)
                return True
        phrases.append((folded[1:], mask))
        return True

    def freeze(self) -> None:
        """Ends the adding."""
        self._vocabulary = frozenset(self._first)
        if self._substrings:
            self._anywhere = PatternSet([quote(key.decode()) for key in self._substrings])
            self._anywhere_masks = list(self._substrings.values())

    def search(self, text: str, raw: bytes) -> int:
        """The mask of all keywords found in ``text`` (``raw``: the same in UTF-8)."""
        return self.search_words(words(text, raw), len(raw) == len(text))

    def search_words(self, found: list[bytes], ascii: bool) -> int:
        """``search`` for folded words; ``ascii``: all of them are."""
        mask = 0
        if not self._vocabulary.isdisjoint(found):
            get = self._first.get
            for at, word in enumerate(found):
                for rest, bits in get(word, ()):
                    if not rest or tuple(found[at + 1 : at + 1 + len(rest)]) == rest:
                        mask |= bits
        if self._anywhere is not None and not ascii:
            for index in self._anywhere.search(b" ".join(found)):
                mask |= self._anywhere_masks[index]
        return mask
