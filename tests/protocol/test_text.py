"""data_coding to text and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol import gsm, text
from smppd.protocol.text import Alphabet, Fit, TextError

DEFAULTS = [Alphabet.GSM, Alphabet.GSM_PACKED, Alphabet.ASCII, Alphabet.LATIN1, Alphabet.UCS2, Alphabet.UTF8]


@pytest.mark.parametrize(
    ("data_coding", "octets", "expected"),
    [
        (0x00, b"\x00 \x1be\x02", "@ €$"),
        (0x01, b"@$\xe9", "@$\ufffd"),
        (0x03, b"@\xe9\xa3", "@é£"),
        (0x05, "テスト".encode("shift_jis"), "テスト"),
        (0x05, "テスト".encode("iso2022_jp"), "テスト"),
        (0x06, "Привет".encode("iso8859-5"), "Привет"),
        (0x07, "שלום".encode("iso8859-8"), "שלום"),
        (0x08, "Ωμέγα 😀".encode("utf-16-be"), "Ωμέγα 😀"),
        (0x0A, "テスト".encode("iso2022_jp"), "テスト"),
        (0x0D, "テスト".encode("euc_jp"), "テスト"),
        (0x0E, "시험".encode("euc_kr"), "시험"),
        (0x0F, b"\x00", "@"),  # reserved: the default
        (0x02, b"\x00\xe9", "\x00é"),  # 8-bit data: an octet a character
        (0x04, b"text", "text"),
        (0x10, b"\x00", "@"),  # class 0, default alphabet
        (0x15, b"\xe9", "é"),  # class 1, 8-bit
        (0x18, b"\x04\x1f", "П"),  # class 0, UCS-2
        (0x48, b"\x04\x1f", "П"),  # automatic deletion, UCS-2
        (0xC8, b"\x00", "@"),  # message waiting, discard
        (0xD0, b"\x00", "@"),  # message waiting, store
        (0xE0, b"\x04\x1f", "П"),  # message waiting, store, UCS-2
        (0xF0, b"\x00", "@"),  # class 0
        (0xF5, b"\xe9", "é"),  # class 1, 8-bit
    ],
)
def test_decode_by_data_coding(data_coding: int, octets: bytes, expected: str) -> None:
    assert text.decode(octets, data_coding) == expected


@pytest.mark.parametrize(
    ("default", "octets", "expected"),
    [
        (Alphabet.GSM, b"\x00\xe9", "@\ufffd"),
        (Alphabet.GSM_PACKED, bytes.fromhex("e8329bfd06"), "hello"),
        (Alphabet.LATIN1, b"\x40\xe9", "@é"),
        (Alphabet.ASCII, b"\x40\xe9", "@\ufffd"),
        (Alphabet.UCS2, b"\x00\xe9", "é"),
        (Alphabet.UTF8, "é€".encode(), "é€"),
    ],
)
def test_data_coding_0_is_what_the_link_says(default: Alphabet, octets: bytes, expected: str) -> None:
    assert text.decode(octets, 0, default) == expected
    assert text.decode(octets, 0xF1, default) == expected


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"\xd8\x3d\x00A", "\ufffdA"),
        (b"\xde\x00\x00A", "\ufffdA"),
        (b"\x00A\xd8\x3d", "A\ufffd"),
        (b"\x00A\x00", "A\ufffd"),
    ],
)
def test_half_characters_of_ucs2_are_replaced(octets: bytes, expected: str) -> None:
    assert text.decode(octets, 8) == expected


def test_national_tables_come_from_the_header() -> None:
    assert text.decode(b"\x1b\x53\x0b", 0, national=(gsm.TURKISH, gsm.TURKISH)) == "ŞĞ"
    assert text.encode("ŞĞ", 0, national=(gsm.TURKISH, gsm.TURKISH)) == b"\x1c\x0b"
    assert text.decode(b"\x00\x1f", 8, national=(gsm.TURKISH, gsm.TURKISH)) == "\x1f"


def test_packed_text_after_a_header_begins_at_the_next_septet() -> None:
    body = text.encode("hello", 0, Alphabet.GSM_PACKED, header=6)
    assert text.decode(body, 0, Alphabet.GSM_PACKED, header=6) == "hello"
    assert text.decode(body, 0, Alphabet.GSM_PACKED) != "hello"


@pytest.mark.parametrize(
    ("data_coding", "expected"),
    [(0, True), (1, True), (2, False), (4, False), (8, True), (0x14, False), (0x20, False), (0x18, True)]
    + [(0xC0, True), (0xE0, True), (0xF0, True), (0xF4, False), (0xF7, False), (0x8F, True)],
)
def test_is_text(data_coding: int, expected: bool) -> None:
    assert text.is_text(data_coding) is expected


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 255), st.sampled_from(DEFAULTS), st.integers(0, 20))
def test_decode_never_fails(octets: bytes, data_coding: int, default: Alphabet, header: int) -> None:
    decoded = text.decode(octets, data_coding, default, national=(header, header), header=header)
    decoded.encode("utf-8")  # no lone surrogates


@pytest.mark.parametrize("data_coding", [0x00, 0x01, 0x03, 0x05, 0x06, 0x07, 0x08, 0x0A, 0x0D, 0x0E, 0x04, 0x18, 0xF0])
def test_what_is_encoded_decodes_to_itself(data_coding: int) -> None:
    @settings(deadline=None, max_examples=60)
    @given(st.text(st.characters(codec="utf-8", exclude_characters="\x1b\x0e\x0f¥‾"), max_size=40))
    def holds(content: str) -> None:
        try:
            octets = text.encode(content, data_coding)
        except TextError:
            return
        assert text.decode(octets, data_coding) == content

    holds()


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=40), st.integers(0, 255), st.sampled_from(DEFAULTS))
def test_encode_gives_octets_or_a_text_error_without_content(content: str, data_coding: int, default: Alphabet) -> None:
    try:
        text.encode(content, data_coding, default)
    except TextError as error:
        assert error.__context__ is None, "a codec's error holds the text"
        assert str(error).isascii()


@pytest.mark.parametrize(
    ("octets", "data_coding", "source", "target", "expected"),
    [
        (b"plain text", 0, Alphabet.GSM, Alphabet.LATIN1, b"plain text"),
        (b"\x00\x05", 0, Alphabet.GSM, Alphabet.LATIN1, b"@\xe9"),
        (b"@\xe9$", 0, Alphabet.LATIN1, Alphabet.GSM, b"\x00\x05\x02"),
        (b"\x1b<", 0, Alphabet.GSM, Alphabet.ASCII, b"["),
        (b"\x00", 0, Alphabet.GSM, Alphabet.UCS2, b"\x00@"),
        (b"\x00\x05", 0, Alphabet.GSM, Alphabet.GSM, b"\x00\x05"),
        (b"\x00\x05", 3, Alphabet.GSM, Alphabet.LATIN1, b"\x00\x05"),  # not the default: untouched
        (b"\x00\x05", 4, Alphabet.GSM, Alphabet.LATIN1, b"\x00\x05"),
    ],
)
def test_convert(octets: bytes, data_coding: int, source: Alphabet, target: Alphabet, expected: bytes) -> None:
    assert text.convert(octets, data_coding, source, target) == expected


@pytest.mark.parametrize(
    ("octets", "source", "target"),
    [
        (b"\x1be", Alphabet.GSM, Alphabet.LATIN1),  # the euro sign
        (b"\xff", Alphabet.GSM, Alphabet.LATIN1),  # no GSM at all
        ("✓".encode(), Alphabet.UTF8, Alphabet.GSM),
    ],
)
def test_convert_replaces_nothing(octets: bytes, source: Alphabet, target: Alphabet) -> None:
    with pytest.raises(TextError):
        text.convert(octets, 0, source, target)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", Fit(Alphabet.GSM, 0, 1)),
        ("a" * 160, Fit(Alphabet.GSM, 160, 1)),
        ("a" * 161, Fit(Alphabet.GSM, 161, 2)),
        ("a" * 306, Fit(Alphabet.GSM, 306, 2)),
        ("a" * 307, Fit(Alphabet.GSM, 307, 3)),
        ("€" * 80, Fit(Alphabet.GSM, 160, 1)),
        ("€" * 153, Fit(Alphabet.GSM, 306, 3)),  # no escape at the end of a part: 76 each
        ("ж" * 70, Fit(Alphabet.UCS2, 70, 1)),
        ("ж" * 71, Fit(Alphabet.UCS2, 71, 2)),
        ("ж" * 135, Fit(Alphabet.UCS2, 135, 3)),
        ("😀" * 35, Fit(Alphabet.UCS2, 70, 1)),
        ("😀" * 67, Fit(Alphabet.UCS2, 134, 3)),  # no pair divided: 33 each
    ],
)
def test_fits(content: str, expected: Fit) -> None:
    assert text.fits(content) == expected


@pytest.mark.parametrize("data_coding", [0x00, 0x0B, 0x1C, 0x80, 0xBF, 0xC0, 0xF0])
def test_reserved_codings_are_the_links_default(data_coding: int) -> None:
    assert text.means_default(data_coding)
    assert text.decode(b"\x00", data_coding, Alphabet.GSM) == "@"
    assert text.decode(b"\xe9", data_coding, Alphabet.LATIN1) == "é"
