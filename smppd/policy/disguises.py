"""Undoes what is done to words so that people read them and machines do not: once for a text, for all that look for words.

Case, accents, full-width and other compatibility forms, unseen and bidirectional characters are undone by folding
(`keywords.words`), for every text. Here is the rest, for those texts only that show signs of it:

- letters of other scripts that look like ours among ours, or a whole word of them (``раураl``), and the other way round;
- letters set apart (``p a y``, ``f.r.e.e``), and signs put between them (``pass*word``);
- digits and signs for letters (``l0g1n``, ``p@ssword``). 1 may be i or l, so both are tried.

What is undone stands behind the words as they came, with ``BREAK`` before it: nothing that was found in the text before is lost
by it, and no phrase reaches over the break.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Final

from smppd.policy.keywords import is_dropped, words
from smppd.policy.patterns import PatternSet
from smppd.policy.skeleton import skeleton

BREAK: Final = b"|"
"""Stands between the words as they came and the same undone; no word is like it."""
_MEMO: Final = 8192
_LONGEST: Final = 20_000
"""Characters of a text that are looked through for disguises; only joined messages of some 130 parts are longer."""

# -- the cheap test ------------------------------------------------------------------------------------------------


def _kinds() -> bytes:
    """Octet of folded UTF-8 -> a letter, a digit that may stand for one, another digit, or anything else."""
    kinds = bytearray(b"." * 256)
    for code in (*range(97, 123), *range(0xD0, 0xD4)):
        kinds[code] = 97  # Latin letters, and the first octets of Cyrillic ones
    for code in range(0x80, 0xC0):
        kinds[code] = 99  # the later octets of a letter
    for code in range(48, 58):
        kinds[code] = 57
    for code in b"013457":
        kinds[code] = 48
    kinds[32] = 32
    return bytes(kinds)


_KINDS: Final = _kinds()
_MARKS: Final = "\u0300-\u036f\u0483-\u0489\u064b-\u065f\u0900-\u0903\u093a-\u094f"
_BETWEEN: Final = "*_~^|\u00b7\u2022\u2219\u22c5\u2600-\u27bf\u2b50\U0001f300-\U0001faff"
_FOREIGN: Final = r"\x{250}-\x{58f}\x{10a0}-\x{10ff}\x{13a0}-\x{13ff}\x{2c00}-\x{2d2f}\x{a640}-\x{a7ff}"
_ALONE: Final = r"[\pL\pN]\pM*[^\pL\pN\pM]{1,3}"
# Of texts that are no ASCII, folded and as they came: letters of two scripts side by side, signs between letters, letters set
# apart, whole words of letters that look like Latin ones, letters in other dress.
_UNUSUAL: Final = PatternSet(
    [
        "|".join(
            (
                rf"[A-Za-z][{_FOREIGN}]",
                rf"[{_FOREIGN}][A-Za-z]",
                r"[^\s][*_~^|\x{b7}\x{2022}\x{2219}\x{22c5}\x{2600}-\x{27bf}\x{2b50}\x{1f300}-\x{1faff}]+[^\s]",
                rf"(?:^|[^\pL\pN\pM]){_ALONE}{_ALONE}[\pL\pN]\pM*(?:[^\pL\pN\pM]|$)",
                r"(?:^|[^\pL\pN])[\x{3400}-\x{9fff}][^\pL\pN]{1,2}[\x{3400}-\x{9fff}](?:[^\pL\pN]|$)",
                r"(?:^|[^\pL])(?:[\x{370}-\x{3ff}]|[\x{430}\x{435}\x{43e}\x{440}\x{441}\x{443}\x{445}\x{456}\x{458}\x{455}"
                r"\x{4bb}\x{4cf}\x{501}\x{51b}\x{51d}]{3,}|[\x{410}\x{412}\x{415}\x{41a}\x{41c}-\x{41e}\x{420}-\x{423}\x{425}"
                r"\x{405}\x{406}\x{408}\x{4c0}]{3,})(?:[^\pL]|$)",
                r"[\x{180}-\x{2af}\x{1d00}-\x{1d7f}\x{1f150}-\x{1f189}\x{1e00}-\x{1e7f}\x{1d400}-\x{1d7ff}]",
                r"[@$]",
            )
        )
    ]
)
_SIGN_IN_WORD: Final = re.compile(rb"[A-Za-z][@$*_~^|]|[@$][A-Za-z]")
_NO_SIGNS: Final = bytes(code for code in range(256) if code not in b"@$*_|~^")


def _is_disguised(raw: bytes, joined: bytes, kinds: bytes, ascii: bool) -> bool:
    """Whether a text has signs of a disguise. ``joined``: its folded words with a blank around each; ``kinds``: of these
    octets. Cheap, and says yes too often rather than once too seldom."""
    # `find`, since `in` first takes what is looked for as a number, and raises and drops an error (CPython 3.11 to 3.13).
    find = kinds.find
    if find(b" a a a ") >= 0 or find(b" a 0 a ") >= 0:
        return True
    if find(b"a0") >= 0 and (find(b"a0a") >= 0 or find(b"a00a") >= 0 or find(b"aaa0 ") >= 0 or find(b"aa00 ") >= 0):
        return True
    if find(b" 0aaa") >= 0 or find(b"c0a") >= 0:
        return True
    if not ascii:
        return len(_UNUSUAL.search(joined + raw)) > 0
    return len(raw.translate(None, _NO_SIGNS)) > 0 and _SIGN_IN_WORD.search(raw) is not None


# -- undoing -------------------------------------------------------------------------------------------------------


class _Shown(dict[int, str]):
    """Code point -> what it shows: compatibility forms, without accents and what is unseen, its case kept."""

    def __missing__(self, code: int) -> str:
        shown = ""
        if 0x1F150 <= code <= 0x1F169 or 0x1F170 <= code <= 0x1F189:  # white letters in black circles and squares
            shown = chr(ord("A") + (code - 0x1F150) % 32)
        else:
            for part in unicodedata.normalize("NFKD", chr(code)):
                if not is_dropped(part):
                    shown += str(unicodedata.decimal(part)) if part.isdecimal() else part
        if len(self) >= _MEMO:
            self.clear()  # or rare characters, come once, would keep usual ones out for good
        self[code] = shown
        return shown


class _Latin(dict[int, str]):
    """Code point -> the small Latin letter that it looks like, else itself in small letters."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        looks = character.casefold()
        if code > 127 and character.isalpha() and not 0x2E80 <= code <= 0xD7FF:
            plain = _EYES.get(code) or skeleton(character)
            if plain.isascii() and plain.isalpha():
                looks = plain
        if len(self) >= _MEMO:
            self.clear()  # or rare characters, come once, would keep usual ones out for good
        self[code] = looks
        return looks


# A skeleton makes one letter of i and l. These look like an i.
_EYES: Final = dict.fromkeys(
    (0x0131, 0x0269, 0x026A, 0x03B9, 0x0399, 0x0406, 0x0456, 0x0407, 0x0457, 0x13A5, 0xA647), "i"
)
_SHOWN: Final = _Shown()
_LATIN: Final = _Latin()
# Small Latin letters, and digits, for the Cyrillic letters that they look like.
_CYRILLIC: Final = str.maketrans("abcehkmoptxyiu3046", "авсенкмортхуии" + "зочб")
_CYRILLIC_LETTER: Final = re.compile("[\u0400-\u052f]")
_LATIN_LETTER: Final = re.compile("[a-z]")
_TOKEN: Final = re.compile(r"[^\s.,:;/()\[\]{}<>\"']+")
_LETTER: Final = rf"[^\W_][{_MARKS}]*"
_GAP: Final = r"(?:[^\w@$'\u2019]|_){1,3}"
_APART: Final = re.compile(
    rf"(?<![^\W_])(?<![@$])(?:{_LETTER}{_GAP}|[@$]{_GAP}){{2,}}(?:{_LETTER}|[@$])(?![^\W_]|[@$])"
)
_GAPS: Final = re.compile(r"(?:[^\w@$'\u2019]|_)+")
_STUCK: Final = re.compile(rf"(?<=[^\W\d_])[{_BETWEEN}]+(?=[^\W\d_])")
_HAN_APART: Final = re.compile(r"(?<=[\u3400-\u9fff])[^\w|]{1,2}(?=[\u3400-\u9fff])")
_WORD: Final = re.compile(
    r"[^\W_](?:[^\W_]|[@$!|](?=[^\W_])|[$@])*|[@$](?=[^\W_])(?:[^\W_]|[@$!|](?=[^\W_])|[$@])*"
    r"|(?<![^\s'\u2019])@(?![^\s'\u2019])"
)
# Those of these words in small ASCII letters that have a digit or a sign which may stand for a letter. A text that is no more
# than ASCII is usual and has signs of a disguise as soon as a code or an order's number is in it, so it has a way of its own.
_SIGNED_WORD: Final = re.compile(
    r"(?<![a-z0-9])(?:[a-z2689]++(?:[013457@$]|[!|](?=[a-z0-9]))|[013457]|[@$](?=[a-z0-9]))"
    r"(?:[a-z0-9]|[@$!|](?=[a-z0-9])|[$@])*|(?<![^\s'])@(?![^\s'])"
)
# Two single letters or digits beside each other: without them nothing is apart.
_ALONE_ONES: Final = re.compile(r"(?<![a-z0-9])[a-z0-9@$][^a-z0-9@$']{1,3}[a-z0-9@$][^a-z0-9@$']")
_STICKS: Final = re.compile(r"[*_~^|]")
_LEET: Final = {"0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s"}
_ONE_IS_L: Final = str.maketrans({**_LEET, "1": "l", "!": "l", "|": "l"})
_ONE_IS_I: Final = str.maketrans({**_LEET, "1": "i", "!": "i", "|": "i"})
_SIGNED: Final = re.compile("[013457@$!|]")
_LATIN_WORD: Final = re.compile("[a-z]")


def _by_script(match: re.Match[str], cyrillic: bool) -> str:
    """A word of letters of two scripts, or wholly of letters that look like Latin ones, in one script."""
    token = match[0]
    small = token.casefold()
    if token.isascii():
        other = small.translate(_CYRILLIC) if cyrillic else small
        return other if cyrillic and _LATIN_LETTER.search(other) is None and not small.isdecimal() else small
    latin = token.translate(_LATIN)
    if latin == small and _CYRILLIC_LETTER.search(small) is None:
        return small
    if _LATIN_LETTER.search(small) is None:
        # Of one script, and one that is not ours: what can wholly be read as Latin is.
        return latin if latin.isascii() and not cyrillic else small
    if _CYRILLIC_LETTER.search(small) is None:
        return latin
    other = small.translate(_CYRILLIC)
    if latin.isascii() and not (cyrillic and _LATIN_LETTER.search(other) is None):
        return latin
    return other


def _together(match: re.Match[str]) -> str:
    """Letters set apart, together again; a gap unlike most of the others was one between words."""
    run = match[0]
    if sum(character.isalpha() for character in run) < 2:
        return run
    gaps = _GAPS.findall(run)
    usual, times = Counter(gaps).most_common(1)[0]
    if times * 2 > len(gaps):
        return _GAPS.sub(lambda gap: "" if gap[0] == usual else " ", run)
    # No gap is usual: then signs hold letters together where there are any, else the narrowest gaps do.
    signed = any(not any(map(str.isspace, gap)) for gap in gaps)
    least = min(map(len, gaps))
    return _GAPS.sub(lambda gap: " " if (any(map(str.isspace, gap[0])) if signed else len(gap[0]) > least) else "", run)


def _letters(match: re.Match[str], one_is_l: bool) -> str:
    """A word whose digits and signs stand for letters."""
    word = match[0]
    if _SIGNED.search(word) is None:
        return word
    if _CYRILLIC_LETTER.search(word) is not None:
        return word.replace("@", "a").translate(_CYRILLIC)
    if _LATIN_WORD.search(word) is None:
        return "a" if word == "@" else word
    return word.translate(_ONE_IS_L if one_is_l else _ONE_IS_I)


def _joined(text: str, cyrillic: bool) -> str:
    """A text with its letters in one script and together, and its digits and signs as they are."""
    if text.isascii():
        plain = text.lower()
        if _ALONE_ONES.search(plain) is not None:
            plain = _APART.sub(_together, plain)
        return _STUCK.sub("", plain) if _STICKS.search(plain) is not None else plain
    plain = text.translate(_SHOWN)
    cyrillic = cyrillic and _CYRILLIC_LETTER.search(plain) is not None
    plain = _TOKEN.sub(lambda match: _by_script(match, cyrillic), plain)
    plain = _APART.sub(_together, plain)
    plain = _STUCK.sub("", plain)
    if not plain.isascii():
        plain = _HAN_APART.sub("", plain)
    return plain


def _spelled(plain: str, one_is_l: bool) -> str:
    """What `_joined` gave with letters for the digits and signs that stand for some."""
    pattern = _SIGNED_WORD if plain.isascii() else _WORD
    return pattern.sub(lambda match: _letters(match, one_is_l), plain)


def _undo_once(text: str, one_is_l: bool, cyrillic: bool) -> str:
    return _spelled(_joined(text, cyrillic), one_is_l)


def undo(text: str, one_is_l: bool = True, cyrillic: bool = False) -> str:
    """``text`` with its words undisguised and in small letters. Of what can be read in two ways, ``one_is_l`` says whether 1
    is an l or an i, ``cyrillic`` whether letters that both scripts have are Cyrillic. Undoing twice is undoing once."""
    text = text[:_LONGEST]
    for _ in range(_ROUNDS):
        plain = _undo_once(text, one_is_l, cyrillic)
        if plain == text:
            break
        text = plain
    return text


_ROUNDS: Final = 8


def _as_l(match: re.Match[str]) -> str:
    return _letters(match, True)


def _as_i(match: re.Match[str]) -> str:
    return _letters(match, False)


def _readings(plain: str, twice: bool) -> tuple[str, str]:
    """Both ways to read an ASCII text that `_joined` gave, the second only where ``twice``, else empty. Most words are letters
    alone, and are not looked at more closely."""
    first = plain.split()
    second = first[:] if twice else []
    for at, word in enumerate(first):
        if not word.isalpha():
            first[at] = _SIGNED_WORD.sub(_as_l, word)
            if twice and first[at] != word:
                second[at] = _SIGNED_WORD.sub(_as_i, word)
    return " ".join(first), " ".join(second)


_SIGNS: Final = b"@$!|*_~^"
_NOT_SIGNS: Final = bytes(code for code in range(256) if code not in _SIGNS)
# A letter or a digit alone, beside another: as `_kinds` tells them.
_ONES: Final = tuple(bytes((32, one, 32, other, 32)) for one in b"a09" for other in b"a09" if one == 97 or other == 97)
_OCTETS_L: Final = bytes.maketrans(b"013457", b"oleast")
_OCTETS_I: Final = bytes.maketrans(b"013457", b"oieast")


def _digits_undone(found: list[bytes], ones: bytes) -> list[bytes]:
    """The folded words of an ASCII text with letters for the digits in words that have both. ``ones``: a table, by what 1 is
    read as. For texts whose words have no signs in them and stand apart nowhere: what `_readings` gives then."""
    read = found[:]
    for at, word in enumerate(found):
        if not word.isalpha() and not word.isdigit():
            read[at] = word.translate(ones)
    return read


def _append_reading(readings: list[list[bytes]], found: list[bytes], reading: list[bytes]) -> None:
    if reading != found and reading not in readings:
        readings.append(reading)


def _add_reading(readings: list[list[bytes]], found: list[bytes], plain: str) -> None:
    _append_reading(readings, found, words(plain, plain.encode("utf-8", "replace")))


def _whole(found: list[bytes], readings: list[list[bytes]]) -> list[bytes]:
    whole = found[:]
    for reading in readings:
        whole.append(BREAK)
        whole += reading
    return whole


def read_words(text: str, raw: bytes) -> list[bytes]:
    """The folded words of ``text`` (``raw``: the same in UTF-8), and behind a ``BREAK`` each the readings of it that are other
    words when disguises are undone."""
    found = words(text, raw)
    ascii = len(raw) == len(text)
    joined = b" " + b" ".join(found) + b" "
    kinds = joined.translate(_KINDS)
    if not _is_disguised(raw, joined, kinds, ascii):
        return found
    readings: list[list[bytes]] = []
    if ascii and len(raw) <= _LONGEST and not raw.translate(None, _NOT_SIGNS):
        if not any(apart in kinds for apart in _ONES):
            # No more than digits in words, as in most texts with a code or an order's number.
            _append_reading(readings, found, _digits_undone(found, _OCTETS_L))
            if b"1" in raw:
                _append_reading(readings, found, _digits_undone(found, _OCTETS_I))
            return _whole(found, readings)
    text = text[:_LONGEST]
    plain = _joined(text, False)
    twice = "1" in text or "!" in text or "|" in text
    if plain.isascii():
        first, second = _readings(plain, twice)
        _add_reading(readings, found, first)
        if second:
            _add_reading(readings, found, second)
    else:
        _add_reading(readings, found, _spelled(plain, True))
        if twice:
            _add_reading(readings, found, _spelled(plain, False))
    if not text.isascii() and _CYRILLIC_LETTER.search(text) is not None:
        _add_reading(readings, found, _undo_once(text, False, True))
    return _whole(found, readings)
