"""The 7-bit tables and septet packing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol import gsm
from smppd.protocol.gsm import TextError

LANGUAGES = range(14)

# Characters that each locking table of TS 23.038 Annex A.3 has, and each single shift table of A.2.
LOCKING_SIZES = [127, 127, 127, 127, 114, 120, 127, 120, 120, 116, 110, 102, 120, 127]
SINGLE_SIZES = [10, 17, 19, 37, 82, 70, 88, 73, 82, 75, 76, 77, 77, 90]


def table(locking: int) -> str:
    """The locking table, code by code, U+FFFD where it has nothing."""
    return gsm.decode(bytes(code for code in range(128) if code != gsm.ESCAPE), 0, locking)


@pytest.mark.parametrize("language", LANGUAGES)
def test_tables_have_the_size_the_standard_gives_them(language: int) -> None:
    characters = table(language).replace(gsm.REPLACEMENT, "")
    assert len(characters) == LOCKING_SIZES[language]
    assert len(set(characters)) == len(characters), "no character twice"
    # An escape before a code without an extension shows the main table, so what differs from it is in the table.
    # Others repeat the main table: Portuguese seven Greek letters, the Indic ones A to Z and "@£$¥".
    held = [
        code
        for code in range(128)
        if code != gsm.ESCAPE and gsm.decode(bytes((gsm.ESCAPE, code)), language) != gsm.decode(bytes((code,)))
    ]
    repeated = 30 if language >= gsm.BENGALI else 7 if language == gsm.PORTUGUESE else 0
    assert len(held) + repeated == SINGLE_SIZES[language]


@pytest.mark.parametrize(
    ("language", "name"),
    [
        (gsm.BENGALI, "BENGALI"),
        (gsm.GUJARATI, "GUJARATI"),
        (gsm.HINDI, "DEVANAGARI"),
        (gsm.KANNADA, "KANNADA"),
        (gsm.MALAYALAM, "MALAYALAM"),
        (gsm.ORIYA, "ORIYA"),
        (gsm.PUNJABI, "GURMUKHI"),
        (gsm.TAMIL, "TAMIL"),
        (gsm.TELUGU, "TELUGU"),
        (gsm.URDU, "ARABIC"),
    ],
)
def test_every_letter_of_a_script_table_is_assigned_and_of_that_script(language: int, name: str) -> None:
    letters = [character for character in table(language) if ord(character) > 0x7F and character != gsm.REPLACEMENT]
    assert letters
    assert all(unicodedata.name(letter).startswith(name) for letter in letters)


@pytest.mark.parametrize(
    ("octets", "single", "locking", "text"),
    [
        (b"\x00\x10\x7f\x24", 0, 0, "@Δà¤"),
        (b"\x1b\x65 \x1b\x3c\x1b\x3e\x1b\x28\x1b\x29\x1b\x14\x1b\x2f\x1b\x3d\x1b\x40\x1b\x0a", 0, 0, "€ []{}^\\~|\f"),
        (b"\x04\x07\x0b\x0c\x1c\x1d\x40\x60", 0, gsm.TURKISH, "€ıĞğŞşİç"),
        (b"\x1b\x47\x1b\x49\x1b\x53\x1b\x63\x1b\x67\x1b\x69\x1b\x73", gsm.TURKISH, 0, "ĞİŞçğış"),
        (b"\x1b\x41\x1b\x49\x1b\x4f\x1b\x55\x1b\x61\x1b\x69\x1b\x6f\x1b\x75\x1b\x09", gsm.SPANISH, 0, "ÁÍÓÚáíóúç"),
        (b"a", 0, gsm.SPANISH, "a"),  # Spanish has no locking table
        (b"\x04\x06\x07\x08\x12\x15\x18\x5b\x5c\x7b\x7c\x7d", 0, gsm.PORTUGUESE, "êúíóª∞€ÃÕãõ`"),
        (b"\x1b\x05\x1b\x61\x1b\x7b\x1b\x7f", gsm.PORTUGUESE, 0, "êÂãâ"),
        (b"\x00\x25\x50\x5f\x60\x7f", 0, gsm.HINDI, "ँढा्ॐॿ"),
        (b"\x28\x29\x2c\x2e\x3f", 0, gsm.HINDI, ")(,.?"),
        (b"\x1b\x19\x1b\x1c\x1b\x30\x1b\x3a\x1b\x41", gsm.HINDI, 0, "।०" + "\u095b\u0971" + "A"),
        (b"\x1b\x1c\x1b\x27\x1b\x34\x1b\x65", gsm.BENGALI, 0, "২\u09e2\u09fa€"),
        (b"\x24\x3d\x7f", 0, gsm.KANNADA, "\u0ca1\u0caa\u0ce3"),
        (b"\x00\x02\x0f\x5f\x60", 0, gsm.URDU, "\u0627\u0628\u067c\u0657\u0654"),
        (b"\x1b\x3f\x1b\x1c", gsm.URDU, 0, "\u06d4\u06f0"),
        (b"\x1b\x65", gsm.TELUGU, 0, "e"),
    ],
)
def test_decode_reads_the_tables(octets: bytes, single: int, locking: int, text: str) -> None:
    assert gsm.decode(octets, single, locking) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"a\x1bab", "aab"),  # no such extension: the main table's character
        (b"a\x1b\x1bb", "a b"),  # a further extension table: a space
        (b"a\x1b", "a\ufffd"),
        (b"a\x80\xff\x1b\xff", "a\ufffd\ufffd\ufffd"),
    ],
)
def test_decode_shows_what_a_phone_shows_of_odd_octets(octets: bytes, text: str) -> None:
    assert gsm.decode(octets) == text


def test_languages_the_standard_does_not_know_read_as_the_default() -> None:
    assert gsm.decode(b"\x04\x1b\x65", 14, 255) == "è€"
    assert gsm.encode("è€", 14, 255) == b"\x04\x1b\x65"


def test_encode_refuses_without_saying_what() -> None:
    with pytest.raises(TextError) as caught:
        gsm.encode("secret ✓")
    assert "secret" not in str(caught.value) and "✓" not in repr(caught.value)
    assert caught.value.__context__ is None
    with pytest.raises(TextError):
        gsm.encode("\x1b")


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(LANGUAGES), st.sampled_from(LANGUAGES))
def test_what_is_encoded_decodes_to_itself(data: st.DataObject, single: int, locking: int) -> None:
    text = data.draw(st.text(st.sampled_from(sorted(gsm.encoding(single, locking))), max_size=200))
    octets = gsm.encode(text, single, locking)
    assert max(octets, default=0) < 128
    assert gsm.decode(octets, single, locking) == text


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 300))
def test_decode_never_fails(octets: bytes, single: int, locking: int) -> None:
    assert len(gsm.decode(octets, single, locking)) <= len(octets)


def test_packing_as_in_the_standard() -> None:
    assert gsm.pack(b"hellohello") == bytes.fromhex("e8329bfd4697d9ec37")
    assert gsm.unpack(bytes.fromhex("e8329bfd4697d9ec37")) == b"hellohello"


def test_seven_spare_bits_are_filled_with_cr_and_dropped_again() -> None:
    assert gsm.pack(b"1234567")[-1] >> 1 == 0x0D
    assert gsm.unpack(gsm.pack(b"1234567")) == b"1234567"
    assert gsm.unpack(bytes.fromhex("31d98c56b3dd00")) == b"1234567", "others fill with zeros"


@pytest.mark.parametrize(("header", "skip"), [(0, 0), (6, 1), (7, 0), (4, 3), (12, 2)])
def test_packed_septets_begin_on_a_septet_boundary_after_the_header(header: int, skip: int) -> None:
    packed = gsm.pack(b"A", header)
    assert int.from_bytes(packed, "little") >> skip & 0x7F == ord("A")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60).map(lambda octets: bytes(octet & 0x7F for octet in octets)), st.integers(0, 20))
def test_packing_loses_nothing(septets: bytes, header: int) -> None:
    assert gsm.unpack(gsm.pack(septets, header), header) in (septets, septets + b"\r")


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60), st.integers(0, 20))
def test_unpack_takes_any_octets(octets: bytes, header: int) -> None:
    assert len(gsm.unpack(octets, header)) <= len(octets) * 8 // 7


def test_a_full_short_message_has_no_room_for_another_fill() -> None:
    for header, most in ((0, 160), (6, 153), (7, 152)):
        assert header + len(gsm.pack(bytes(most), header)) == gsm.FULL
        assert header + len(gsm.pack(bytes((0x41,)) * (most - 1) + b"\r", header)) == gsm.FULL
    assert gsm.unpack(gsm.pack(bytes(8))) == bytes(8) + b"\r", "elsewhere a last @ is told from a fill"
