"""What a text looks like: two texts that a person takes for each other on a phone have the same skeleton.

After Unicode's UTS 39 (https://www.unicode.org/reports/tr39/, section 4), with Unicode's own data (`confusables.json`,
packed by `tools/confusables.py`), and folded further, as names of senders are forged further: case, accents and unseen
characters go, 0 is o, 1, I and | are l, rn is m, vv is w, @ is a, $ is s, and what stands between letters is left out. So
skeletons are only for comparing with each other: `Mill` and `MlII` have the same, and nobody is to be shown one.

A letter counts as what it looks like itself, and else as what its other case looks like. So the capital and the small form
of a letter that is not Latin may differ (small Greek nu is a v, its capital an N).
"""

from __future__ import annotations

import json
import re
import unicodedata
from importlib import resources
from typing import Final

from smppd.policy.keywords import is_unseen

_MEMO: Final = 8192

_GAP: Final = 32
# ASCII is most of what comes: an octet -> the octet it looks like, a space for all that is no letter or digit.
_LOOKS: Final = {"0": "o", "1": "l", "i": "l", "|": "l", "@": "a", "$": "s"}
_ASCII: Final = bytes(
    ord(_LOOKS.get(chr(code).lower(), chr(code).lower())) if chr(code).isalnum() or chr(code) in _LOOKS else _GAP
    for code in range(128)
) + bytes([_GAP] * 128)
# Letters that Unicode has no look-alike for, and which are a letter of ours in another dress.
_DRESSED: Final = re.compile(
    r"(?:(?:LATIN|OUTLINED LATIN) (?:CAPITAL|SMALL) LETTER|LATIN LETTER SMALL CAPITAL|SYMBOL LETTER) ([A-Z])(?: WITH .*)?$"
)


def _likes() -> dict[str, str]:
    """Character -> its prototype, as Unicode publishes it."""
    file = resources.files("smppd.policy") / "confusables.json"
    likes: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["likes"]
    made: dict[str, str] = {}
    for prototype, codes in likes.items():
        text = "".join(chr(int(code, 16)) for code in prototype.split())
        for code in codes.split():
            made[chr(int(code, 16))] = text
    return made


_LIKES: Final = _likes()


def _prototype(character: str) -> str:
    """What a character is drawn like, with the marks on it apart."""
    drawn = ""
    for part in unicodedata.normalize("NFD", character):
        if not is_unseen(ord(part)):
            drawn += part if part.isascii() else unicodedata.normalize("NFD", _LIKES.get(part, part))
    return drawn


def _bare(drawn: str) -> str:
    """Its letters and digits without case and accents, a space for each of what is neither."""
    bare = ""
    for part in drawn.casefold():
        if part.isascii():
            bare += chr(_ASCII[ord(part)])
            continue
        kind = unicodedata.combining(part)
        # As in keywords: accents of Latin, Greek, Cyrillic, Hebrew and Arabic go, Indic vowel signs stay.
        # Strokes through a letter (class 1) go too.
        if kind == 1 or kind >= 200 or 10 <= kind <= 35 or is_unseen(ord(part)):
            continue
        bare += part if part.isalnum() or unicodedata.category(part)[0] == "M" else " "
    return bare


def _look(character: str) -> str:
    """The letters of ours that a character looks like, else its prototype in small letters."""
    bare = _bare(_prototype(character))
    if bare.isascii() and (bare.strip() or not bare) and not (bare.isdigit() and character.isalpha()):
        return bare
    # Case is ignored: small Cyrillic ve looks like none, its capital like B; small be like 6, its capital like b.
    forms = [character.upper(), character.lower()]
    compatible = unicodedata.normalize("NFKD", character)
    if compatible != unicodedata.normalize("NFD", character):
        forms.append(compatible)
    for form in forms:
        plain = "".join(_bare(_prototype(part)) for part in form)
        if plain.isascii() and plain.strip():
            return plain
    dressed = _DRESSED.search(unicodedata.name(character, ""))
    if dressed is not None:
        return _bare(dressed[1])
    return "".join(_bare(_prototype(part)) for part in character.lower())


class _Looks(dict[int, str]):
    """Code point -> what it looks like; filled as characters are met, and afresh when there are many."""

    def __missing__(self, code: int) -> str:
        look = _look(chr(code))
        if len(self) >= _MEMO:
            self.clear()  # or rare characters, come once, would keep usual ones out for good
        self[code] = look
        return look


_SEEN: Final = _Looks()


def skeleton_words(text: str) -> str:
    """The skeleton with one space wherever something other than letters and digits stands between them."""
    if text.isascii():
        raw = b" ".join(text.encode("ascii").translate(_ASCII).split())
        return raw.replace(b"rn", b"m").replace(b"vv", b"w").decode("ascii")
    return " ".join(text.translate(_SEEN).split()).replace("rn", "m").replace("vv", "w")


def skeleton(text: str) -> str:
    """What ``text`` looks like, in one run of letters and digits; empty for a text that has none."""
    if text.isascii():
        raw = b"".join(text.encode("ascii").translate(_ASCII).split())
        return raw.replace(b"rn", b"m").replace(b"vv", b"w").decode("ascii")
    return "".join(text.translate(_SEEN).split()).replace("rn", "m").replace("vv", "w")
