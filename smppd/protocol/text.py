"""Text and its octets: what data_coding says (SMPP 3.4 section 5.2.19, 3GPP TS 23.038 section 4), both ways.

`decode` never fails, so policy sees something of whatever came; `encode` and `convert` never guess, they raise
TextError. The 7-bit tables are in `gsm`, headers and parts of long messages in `longmessage`.
"""

from __future__ import annotations

import codecs
from enum import Enum
from typing import Final, NamedTuple
from unicodedata import combining, normalize

from smppd.protocol import gsm
from smppd.protocol.gsm import TextError as TextError

REPLACEMENT: Final = gsm.REPLACEMENT


class Alphabet(Enum):
    """How octets stand for characters. The first six may be what data_coding 0 means on a link."""

    GSM = "gsm"  # TS 23.038 7-bit, one septet to an octet
    GSM_PACKED = "gsm-packed"  # the same, eight septets in seven octets
    ASCII = "ascii"
    LATIN1 = "latin-1"
    UCS2 = "ucs-2"  # big-endian; pairs of surrogates are read, as phones do
    UTF8 = "utf-8"
    CYRILLIC = "iso-8859-5"
    HEBREW = "iso-8859-8"
    JIS = "shift-jis"
    ISO2022JP = "iso-2022-jp"
    EUCJP = "euc-jp"
    KOREAN = "euc-kr"
    BINARY = "binary"


_GSM: Final = Alphabet.GSM
_PACKED: Final = Alphabet.GSM_PACKED
_BINARY: Final = Alphabet.BINARY
_UCS2: Final = Alphabet.UCS2

_CODECS: Final = {
    Alphabet.ASCII: "ascii",
    Alphabet.LATIN1: "latin-1",
    Alphabet.UCS2: "utf-16-be",
    Alphabet.UTF8: "utf-8",
    Alphabet.CYRILLIC: "iso8859-5",
    Alphabet.HEBREW: "iso8859-8",
    Alphabet.JIS: "shift_jis",
    Alphabet.ISO2022JP: "iso2022_jp",
    Alphabet.EUCJP: "euc_jp",
    Alphabet.KOREAN: "cp949",
    # One character an octet, so that rules and people see the letters in it: phones show many such messages as text.
    Alphabet.BINARY: "latin-1",
}

# SMPP 3.4 section 5.2.19; None is the link's default alphabet. 9 is "pictogram encoding", in practice Shift-JIS.
_SMPP: Final[dict[int, Alphabet | None]] = {
    0x00: None,
    0x01: Alphabet.ASCII,
    0x02: _BINARY,
    0x03: Alphabet.LATIN1,
    0x04: _BINARY,
    0x05: Alphabet.JIS,
    0x06: Alphabet.CYRILLIC,
    0x07: Alphabet.HEBREW,
    0x08: _UCS2,
    0x09: Alphabet.JIS,
    0x0A: Alphabet.ISO2022JP,
    0x0D: Alphabet.EUCJP,
    0x0E: Alphabet.KOREAN,
}


def _meaning(data_coding: int) -> Alphabet | None:
    """One octet's alphabet; None for the link's default, which reserved values are too (TS 23.038 section 4)."""
    if data_coding < 0x10:
        return _SMPP.get(data_coding)
    group, alphabet = data_coding >> 4, data_coding >> 2 & 3
    if group < 0x8:  # general data coding, and automatic deletion: bit 5 compressed, bits 3 and 2 the alphabet
        if data_coding & 0x20:
            return _BINARY
        return (None, _BINARY, _UCS2, None)[alphabet]
    if group == 0xE:  # message waiting, store, UCS-2; 0xC and 0xD are in the default alphabet
        return _UCS2
    if group == 0xF:  # with a class: bit 2 is 8-bit data
        return _BINARY if data_coding & 4 else None
    return None


_MEANINGS: Final = tuple(map(_meaning, range(256)))


class Fit(NamedTuple):
    """What a text costs: `characters` are septets (GSM) or 16-bit units (UCS2), `parts` messages of 140 octets."""

    alphabet: Alphabet
    characters: int
    parts: int


# Septets and 16-bit units in one message, and in a part of several with the six-octet concatenation header.
GSM_SINGLE, GSM_PART, UCS2_SINGLE, UCS2_PART = 160, 153, 70, 67


def is_text(data_coding: int) -> bool:
    """Whether the octets are meant as text: neither 8-bit data nor compressed."""
    return _MEANINGS[data_coding & 0xFF] is not _BINARY


def means_default(data_coding: int) -> bool:
    """Whether the octet says "the default alphabet of the link": 0, classes in that alphabet, reserved values."""
    return _MEANINGS[data_coding & 0xFF] is None


def as_ucs2(data_coding: int) -> int:
    """The octet that says the same of a message, class and waiting indication, and UCS-2 instead of the default
    alphabet (TS 23.038 section 4)."""
    group = data_coding >> 4
    if 0x1 <= group <= 0x7:  # general data coding, automatic deletion: bits 3 and 2 are the alphabet
        return (data_coding & 0xF3) | 0x08
    if group in (0xC, 0xD):
        return 0xE0 | (data_coding & 0x0F)
    if group == 0xF:
        return 0x18 | (data_coding & 0x03)
    return 0x08


def decode(
    data: bytes,
    data_coding: int,
    default: Alphabet = Alphabet.GSM,
    *,
    national: tuple[int, int] = (0, 0),
    header: int = 0,
) -> str:
    """The text of `data` (short_message or message_payload without its user data header). Never raises.

    `national` is (single shift, locking shift) of the header's elements 0x24 and 0x25; `header` its length in octets,
    which matters where septets are packed. What cannot be decoded becomes U+FFFD.
    """
    alphabet = _MEANINGS[data_coding & 0xFF] or default
    if alphabet is _GSM:
        # The common case in one call: no national table, no escape.
        if national == (0, 0) and gsm.ESCAPE not in data:
            return codecs.charmap_decode(data, "replace", gsm.DECODING_DEFAULT)[0]
        return gsm.decode(data, *national)
    if alphabet is _UCS2:
        return data.decode("utf-16-be", "replace")
    if alphabet is _PACKED:
        return gsm.decode(gsm.unpack(data, header), *national)
    if alphabet is Alphabet.JIS and gsm.ESCAPE in data:
        alphabet = Alphabet.ISO2022JP  # data_coding 5 comes in either form, and Shift-JIS has no escapes
    return data.decode(_CODECS[alphabet], "replace")


def encode(
    text: str,
    data_coding: int,
    default: Alphabet = Alphabet.GSM,
    *,
    national: tuple[int, int] = (0, 0),
    header: int = 0,
) -> bytes:
    """The octets of `text`; parameters as for `decode`. Raises TextError (without content) if one has none."""
    alphabet = _MEANINGS[data_coding & 0xFF] or default
    if alphabet is _GSM:
        return gsm.encode(text, *national)
    if alphabet is _PACKED:
        return gsm.pack(gsm.encode(text, *national), header)
    try:
        return text.encode(_CODECS[alphabet])
    except UnicodeEncodeError:
        pass
    # Raised here, not above, so that the codec's error, which holds the text, is not its context.
    raise TextError(f"the text has a character that {alphabet.value} lacks")


def convert(
    data: bytes,
    data_coding: int,
    from_default: Alphabet,
    to_default: Alphabet,
    *,
    national: tuple[int, int] = (0, 0),
    header: int = 0,
) -> bytes:
    """`data` as the other link writes it: changed only if data_coding means the link's default and the two differ.

    `data` is without its user data header, of `header` octets. Raises TextError when a character exists on one side
    only; nothing is replaced silently, the caller chooses another data_coding, `nearest`, or refuses.
    """
    if from_default is to_default or _MEANINGS[data_coding & 0xFF] is not None:
        return data
    if (
        national == (0, 0)
        and from_default in ASCII_LIKE
        and to_default in ASCII_LIKE
        and not data.translate(None, gsm.COMMON)
    ):
        return data
    if from_default is _PACKED and to_default is _GSM:
        return gsm.unpack(data, header)  # the same septets, whatever table they are read with
    if from_default is _GSM and to_default is _PACKED and data.isascii():
        return gsm.pack(data, header)
    text = decode(data, data_coding, from_default, national=national, header=header)
    if REPLACEMENT in text:
        raise TextError(f"the octets are no {from_default.value}")
    return encode(text, data_coding, to_default, national=national, header=header)


def has(alphabet: Alphabet, character: str, national: tuple[int, int] = (0, 0)) -> bool:
    """Whether a default alphabet of links (GSM, packed or not, ASCII, Latin-1) has the character."""
    if alphabet is _GSM or alphabet is _PACKED:
        return character in gsm.encoding(*national)
    return character < ("\x80" if alphabet is Alphabet.ASCII else "\u0100")


def nearest(
    text: str, alphabet: Alphabet, national: tuple[int, int] = (0, 0), *, short: bool = False, lossy: bool = False
) -> str | None:
    """`text` with the nearest characters that a default alphabet of links has: letters without their marks, ``EUR``.

    None if a character has none; with `lossy` a question mark stands for those. `short`: no character becomes several,
    and what a 7-bit alphabet writes with an escape becomes something that takes one septet, where there is one.
    """
    made: list[str] = []
    seven = alphabet is _GSM or alphabet is _PACKED
    for character in text:
        if has(alphabet, character, national):
            if short and seven and len(gsm.encoding(*national)[character]) > 1:
                character = _ONE_SEPTET.get(character, character)
            made.append(character)
            continue
        near = _near(character, alphabet, national)
        if near is None:
            if not lossy:
                return None
            near = "?"
        made.append(near[:1] if short else near)
    return "".join(made)


def _near(character: str, alphabet: Alphabet, national: tuple[int, int]) -> str | None:
    """What stands for a character that an alphabet lacks; None if nothing does."""
    if "\x80" <= character <= "\x9f":  # no Latin-1 writes these: they are of the code page that is taken for it
        character = bytes((ord(character),)).decode("cp1252", "replace")
        if has(alphabet, character, national):
            return character
    bare = "".join(c for c in normalize("NFKD", character) if not combining(c))
    for near in (_NEAREST.get(character), bare, _NEAREST.get(bare)):
        if near and all(has(alphabet, one, national) for one in near):
            return near
    return " " if character < " " else None


# What Unicode does not take apart: a character and what stands for it, one after the other.
_SPELLED: Final = (
    "Θ TH Ψ PS θ th ψ ps € EUR £ GBP ¥ YEN ¢ c ¤ * § S Æ AE æ ae Ø O ø o ß ss Ð D ð d Þ Th þ th ı i Œ OE œ oe ƒ f Ł L ł l "
    "∞ oo ¡ ! ¿ ? × x ÷ / \xad - ¬ - ¯ - ¨ \" ´ ' ¸ , · . ° o ¦ ! ¶ P © (c) ® (r) ± +- « \" » \" ‹ ' › ' • * † + ‡ + "
    "‘ ' ’ ' ‚ ' “ \" ” \" „ \" – - — - ‰ o/oo ` ' ¼ 1/4 ½ 1/2 ¾ 3/4 ˆ ' ^ ' ~ - \\ / | ! { ( } ) [ ( ] ) "
    "@ (at) $ USD _ - # No"
).split(" ")
_NEAREST: Final = (
    dict(zip("ΑΒΓΔΕΖΗΙΚΛΜΝΞΟΠΡΣΤΥΦΧΩ", "ABGDEZHIKLMNXOPRSTYFXO", strict=True))
    | dict(zip("αβγδεζηικλμνξοπρστυφχωςµμ", "abgdezhiklmnxoprstyfxosum", strict=True))
    | dict(zip(_SPELLED[::2], _SPELLED[1::2], strict=True))
    | {"\f": "\n"}
)
_ONE_SEPTET: Final = {character: _NEAREST[character] for character in "{}[]~^\\|\f"} | {"€": "E"}


# Alphabets that write the characters of gsm.COMMON with the same octets.
ASCII_LIKE: Final = (_GSM, Alphabet.ASCII, Alphabet.LATIN1, Alphabet.UTF8)


def septets(text: str) -> list[int] | None:
    """Septets of each character (1 or 2) in the default tables, or None if one has none."""
    sizes = list(map(_SEPTETS.get, text))
    return None if None in sizes else sizes  # type: ignore[return-value]


_SEPTETS: Final = {character: len(codes) for character, codes in gsm.encoding().items()}


def cut(sizes: list[int], single: int, part: int) -> list[int]:
    """How many characters go into each part, when each takes so many units and none is divided.

    `single` units fit when everything goes into one part, `part` in each of several. Nothing is one empty part.
    """
    if sum(sizes) <= single:
        return [len(sizes)]
    counts: list[int] = []
    room = 0
    for size in sizes:
        if size > room:
            counts.append(0)
            room = part
        counts[-1] += 1
        room -= size
    return counts


def fits(text: str) -> Fit:
    """Alphabet, size and number of parts of `text`: GSM if its default tables have every character, else UCS2."""
    if len(text) <= GSM_SINGLE and text.isascii() and not text.encode("ascii").translate(None, gsm.COMMON):
        return Fit(_GSM, len(text), 1)
    sizes = septets(text)
    if sizes is not None:
        return Fit(_GSM, sum(sizes), len(cut(sizes, GSM_SINGLE, GSM_PART)))
    sizes = units(text)
    return Fit(_UCS2, sum(sizes), len(cut(sizes, UCS2_SINGLE, UCS2_PART)))


def units(text: str) -> list[int]:
    """16-bit units of each character in UCS2: 2 above U+FFFF."""
    return [1 + (character > "\uffff") for character in text]
