"""The 7-bit alphabets of 3GPP TS 23.038: default, extension and the national tables of Annex A, and septet packing.

Text is handled *unpacked* here, one septet to an octet, which is how SMPP carries it; `pack` and `unpack` serve the
links that pack eight septets into seven octets.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Final

ESCAPE: Final = 0x1B
REPLACEMENT: Final = "\ufffd"

# Marks a code that has no character; codecs.charmap_decode knows U+FFFE as "undefined".
_HOLE: Final = "\ufffe"


class TextError(ValueError):
    """A text or a part cannot be represented as asked. The message never holds content."""


def _characters(spans: str) -> str:
    """The characters of code points and spans of them in hexadecimal: ``"0966-096F 0951"``."""
    found: list[str] = []
    for span in spans.split():
        first, _, last = span.partition("-")
        found.extend(map(chr, range(int(first, 16), int(last or first, 16) + 1)))
    return "".join(found)


def _changed(table: str, changes: str) -> str:
    """`table` with ``"04€ 07ı"`` (code in hexadecimal, then its character) applied."""
    characters = list(table)
    for change in changes.split():
        characters[int(change[:2], 16)] = change[2:]
    return "".join(characters)


# TS 23.038 6.2.1, a column of the standard a line.
DEFAULT: Final = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    f"Δ_ΦΓΛΩΠΨΣΘΞ{_HOLE}ÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)

# What all locking tables of Annex A.3.4 to A.3.13 have in common; the codes that are left below 0x60 hold the script.
_FRAME: Final = dict.fromkeys(range(0x61, 0x7B)) | dict.fromkeys(
    (0x0A, 0x0D, ESCAPE, 0x20, 0x21, 0x28, 0x29, 0x2C, 0x2E, *range(0x30, 0x3C), 0x3F)
)
_SCRIPT: Final = tuple(code for code in range(0x60) if code not in _FRAME)
# There the nine Indic scripts follow the common layout of their Unicode blocks: these offsets, one after the other.
_OFFSETS: Final = tuple(offset for offset in range(0x01, 0x4E) if offset not in (0x04, 0x3A, 0x3B))


def _locking(script: str, tail: str) -> str:
    """A table from its 74 script characters and the six at 0x60 and 0x7B to 0x7F."""
    table = list(DEFAULT)
    # These tables write the two parentheses the other way round: 0x28 is ")" and 0x29 "(".
    table[0x28:0x2A] = ")("
    for code, character in zip((*_SCRIPT, 0x60, *range(0x7B, 0x80)), script + _characters(tail), strict=True):
        table[code] = character
    return "".join(table)


def _indic(block: int, missing: str, tail: str) -> str:
    """A locking table from the start of its Unicode block, the offsets it leaves out, and its last six characters."""
    holes = {int(offset, 16) for offset in missing.split()}
    return _locking("".join(_HOLE if offset in holes else chr(block + offset) for offset in _OFFSETS), tail)


# National language identifiers, TS 23.038 6.2.1.2.4. Spanish (2) has a single shift table only.
TURKISH, SPANISH, PORTUGUESE, BENGALI, GUJARATI, HINDI, KANNADA = 1, 2, 3, 4, 5, 6, 7
MALAYALAM, ORIYA, PUNJABI, TAMIL, TELUGU, URDU = 8, 9, 10, 11, 12, 13

_LOCKING: Final[dict[int, str]] = {
    0: DEFAULT,
    TURKISH: _changed(DEFAULT, "04€ 07ı 0BĞ 0Cğ 1CŞ 1Dş 40İ 60ç"),
    PORTUGUESE: _changed(
        DEFAULT,
        "04ê 06ú 07í 08ó 09ç 0BÔ 0Cô 0EÁ 0Fá 12ª 13Ç 14À 15∞ 16^ 17\\ 18€ 19Ó 1A| 1CÂ 1Dâ 1EÊ 24º 40Í "
        "5BÃ 5CÕ 5DÚ 60~ 7Bã 7Cõ 7D`",
    ),
    BENGALI: _indic(0x0980, "0D 0E 11 12 29 31 33 34 35 45 46 49 4A", "09CE 09D7 09DC 09DD 09F0 09F1"),
    GUJARATI: _indic(0x0A80, "0E 12 29 31 34 46 4A", "0AD0 0AE0-0AE3 0AF1"),
    HINDI: _indic(0x0900, "", "0950 0972 097B 097C 097E 097F"),
    # Some releases print U+0CAA at 0x24 as well as at 0x3D: a slip, the layout has U+0CA1 there.
    KANNADA: _indic(0x0C80, "01 0D 11 29 34 45 49", "0CD5 0CD6 0CE0-0CE3"),
    MALAYALAM: _indic(0x0D00, "01 0D 11 29 3C 45 49", "0D57 0D60-0D63 0D79"),
    ORIYA: _indic(0x0B00, "0D 0E 11 12 29 31 34 45 46 49 4A", "0B56 0B57 0B60-0B63"),
    PUNJABI: _indic(0x0A00, "0B 0C 0D 0E 11 12 29 31 34 37 3D 43 44 45 46 49 4A", "0A51 0A70-0A74"),
    TAMIL: _indic(
        0x0B80,
        "01 0B 0C 0D 11 16 17 18 1B 1D 20 21 22 25 26 27 2B 2C 2D 3C 3D 43 44 45 49",
        "0BD0 0BD7 0BF0-0BF2 0BF9",
    ),
    TELUGU: _indic(0x0C00, "0D 11 29 34 3C 45 49", "0C55 0C56 0C60-0C63"),
    URDU: _locking(
        _characters(
            "0627 0622 0628 067B 0680 067E 06A6 062A 06C2 067F 0679 067D 067A 067C 062B 062C 0681 0684 0683 0685 0686 "
            "0687 062D-062F 068C 0688-068A 068F 068D 0630 0631 0691 0693 0699 0632 0696 0698 069A 0633-0639 0641 0642 "
            "06A9-06AB 06AF 06B3 06B1 0644-0646 06BA-06BC 0648 06C4 06D5 06C1 06BE 0621 06CC 06D0 06D2 064D 0650 064F "
            "0657"
        ),
        "0654 0655 0651 0653 0656 0670",
    ),
}

# TS 23.038 6.2.1.1; all national single shift tables hold these too.
_EXTENSION: Final = {
    0x0A: "\f",
    0x14: "^",
    0x28: "{",
    0x29: "}",
    0x2F: "\\",
    0x3C: "[",
    0x3D: "~",
    0x3E: "]",
    0x40: "|",
    0x65: "€",
}
# Annex A.2.4 to A.2.13: signs and capitals that the locking tables have no room for; the script fills what is left.
_SIGNS: Final = dict(zip(range(0x0D), "@£$¥¿\"¤%&'\f*+", strict=True)) | dict(
    zip((0x0E, 0x0F, *range(0x10, 0x19)), "-/<=>¡^¡_#*", strict=True)
)
_CAPITALS: Final = {ord(letter): letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_SHIFTED: Final = (0x19, 0x1A, *range(0x1C, 0x28), *range(0x2A, 0x2F), *range(0x30, 0x3C), 0x3F)


def _single(changes: str) -> dict[int, str]:
    return _EXTENSION | {int(change[:2], 16): change[2:] for change in changes.split()}


def _shifted(spans: str) -> dict[int, str]:
    """A single shift table of the Indic form: `spans` fill the free codes in order; "-" leaves one out."""
    script = "".join(_HOLE if span == "-" else _characters(span) for span in spans.split())
    filled = {code: char for code, char in zip(_SHIFTED, script, strict=False) if char != _HOLE}
    return _EXTENSION | _SIGNS | _CAPITALS | filled


_SINGLE: Final[dict[int, dict[int, str]]] = {
    0: _EXTENSION,
    TURKISH: _single("47Ğ 49İ 53Ş 63ç 67ğ 69ı 73ş"),
    SPANISH: _single("09ç 41Á 49Í 4FÓ 55Ú 61á 69í 6Fó 75ú"),
    PORTUGUESE: _single(
        "05ê 09ç 0BÔ 0Cô 0EÁ 0Fá 12Φ 13Γ 15Ω 16Π 17Ψ 18Σ 19Θ 1FÊ 41À 49Í 4FÓ 55Ú 5BÃ 5CÕ 61Â 69í 6Fó 75ú 7Bã 7Cõ 7Fâ"
    ),
    BENGALI: _shifted("09E6-09EF 09DF-09E3 09F2-09FA"),
    GUJARATI: _shifted("0964 0965 0AE6-0AEF"),
    HINDI: _shifted("0964 0965 0966-096F 0951-0954 0958-0963 0970 0971"),
    KANNADA: _shifted("0964 0965 0CE6-0CEF 0CDE 0CF1 0CF2"),
    MALAYALAM: _shifted("0964 0965 0D66-0D75 0D7A-0D7F"),
    ORIYA: _shifted("0964 0965 0B66-0B6F 0B5C 0B5D 0B5F 0B70 0B71"),
    PUNJABI: _shifted("0964 0965 0A66-0A6F 0A59-0A5C 0A5E 0A75"),
    TAMIL: _shifted("0964 0965 0BE6-0BEF 0BF3-0BF8 0BFA"),
    TELUGU: _shifted("- - 0C66-0C6F 0C58 0C59 0C78-0C7F"),
    URDU: _shifted("0600 0601 06F0-06F9 060C-0614 061B 061F 0640 0652 0658 066B 066C 0672 0673 06CD 06D4"),
}

# 256 characters each, for codecs.charmap_decode: octets above 0x7F are no septets and have no character.
_DECODING: Final = {language: table + _HOLE * 128 for language, table in _LOCKING.items()}
DECODING_DEFAULT: Final = _DECODING[0]

# Octets that mean the same character in GSM 03.38, ASCII, Latin-1 and UTF-8.
COMMON: Final = bytes(code for code in range(128) if DEFAULT[code] == chr(code))

# A.2.12 is the one Indic table without a euro sign.
del _SINGLE[TELUGU][0x65]

_encodings: dict[tuple[int, int], dict[str, str]] = {}


def decode(data: bytes, single: int = 0, locking: int = 0) -> str:
    """The text of unpacked septets, under the national tables `single` and `locking` (0 is the default table).

    Never fails. An octet that is no character becomes U+FFFD; an escape before a code without an extension gives the
    character of the main table, an escape before an escape gives a space (TS 23.038 6.2.1.1), and unknown languages
    read as the default (6.2.1.2.4): that is what a phone shows, so it is what policy must see.
    """
    table = _DECODING.get(locking, DECODING_DEFAULT)
    if ESCAPE not in data:
        return codecs.charmap_decode(data, "replace", table)[0]
    return "".join(_escaped(data, table, _SINGLE.get(single, _EXTENSION)))


def _escaped(data: bytes, table: str, extension: dict[int, str]) -> Iterator[str]:
    start = 0
    while (escape := data.find(b"\x1b", start)) >= 0:
        yield codecs.charmap_decode(data[start:escape], "replace", table)[0]
        if escape + 1 == len(data):
            yield REPLACEMENT
            return
        code = data[escape + 1]
        if code == ESCAPE:
            yield " "
        else:
            yield extension.get(code) or table[code].replace(_HOLE, REPLACEMENT)
        start = escape + 2
    yield codecs.charmap_decode(data[start:], "replace", table)[0]


def encoding(single: int = 0, locking: int = 0) -> dict[str, str]:
    """Character -> its one or two septets, as a str of code points below 128. Made once a pair of tables."""
    single = single if single in _SINGLE else 0
    locking = locking if locking in _LOCKING else 0
    found = _encodings.get((single, locking))
    if found is None:
        found = {}
        for code, character in sorted(_SINGLE[single].items(), reverse=True):  # the lowest code of a twin wins
            found[character] = chr(ESCAPE) + chr(code)
        found.update((char, chr(code)) for code, char in enumerate(_LOCKING[locking]) if char != _HOLE)
        _encodings[single, locking] = found
    return found


def encode(text: str, single: int = 0, locking: int = 0) -> bytes:
    """Unpacked septets of `text`. Raises TextError when a character is in neither table."""
    if not (single or locking) and text.isascii():
        data = text.encode("ascii")
        if not data.translate(None, COMMON):
            return data
    septets = encoding(single, locking)
    if not all(map(septets.__contains__, text)):
        raise TextError("the text has a character that the 7-bit alphabet lacks")
    return "".join(map(septets.__getitem__, text)).encode("ascii")


FULL: Final = 140
"""Octets of user data in one short message, its header among them (TS 23.040 section 9.2.3.16)."""


def pack(septets: bytes, header: int = 0) -> bytes:
    """Eight septets in seven octets (TS 23.038 6.1.2.1.1), after `header` octets of user data header.

    The septets begin on a septet boundary counted from the start of the header. Seven spare bits at the end are
    filled with CR, and a CR is added where a last "@" or CR would read as such a fill (6.1.2.3.1). A short message that is
    full gets none: there is no room for it, and the centre counts as many septets as it holds.
    """
    skip = _fill_bits(header)
    bits = skip + 7 * len(septets)
    spare = -bits % 8
    full = header + bits // 8 == FULL
    if spare == 7 or (spare == 0 and not full and septets[-1:] in (b"\0", b"\r")):
        septets += b"\r"
    packed = b"".join(
        sum((code & 0x7F) << 7 * place for place, code in enumerate(septets[i : i + 8])).to_bytes(7, "little")
        for i in range(0, len(septets), 8)
    )
    size = (skip + 7 * len(septets) + 7) // 8
    return (int.from_bytes(packed, "little") << skip).to_bytes(len(packed) + 1, "little")[:size]


def unpack(data: bytes, header: int = 0) -> bytes:
    """The septets of packed octets that follow `header` octets of user data header; a fill at the end is dropped.

    SMPP gives octets, not septets, so a last septet of zero bits that ends on an octet boundary is taken as fill.
    """
    skip = _fill_bits(header)
    bits = 8 * len(data) - skip
    count = max(bits // 7, 0)
    aligned = (int.from_bytes(data, "little") >> skip).to_bytes(len(data), "little")
    # In groups of seven octets, so that the work grows with the length and not with its square.
    groups = (int.from_bytes(aligned[i : i + 7], "little") for i in range(0, len(aligned), 7))
    septets = bytes(group >> shift & 0x7F for group in groups for shift in range(0, 56, 7))[:count]
    if count and bits % 7 == 0 and septets[-1] in (0x00, 0x0D):
        return septets[:-1]
    return septets


def _fill_bits(header: int) -> int:
    """Bits between a header of so many octets and the next septet boundary."""
    return -8 * header % 7
