"""User data headers, and cutting."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol import longmessage, text
from smppd.protocol.joiner import Joiner
from smppd.protocol.longmessage import Carriage, Concat, Piece, TextError, Udh, UdhError, parse_udh, split
from smppd.protocol.text import Alphabet

# User data headers


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        ("050003 07 02 01", Udh(6, Concat(7, 2, 1, False), (0, 0), None)),
        ("060804 0107 02 02", Udh(7, Concat(0x107, 2, 2, True), (0, 0), None)),
        ("06 0504 0B84 23F0", Udh(7, None, (0, 0), (2948, 9200))),
        ("04 0402 F0F1", Udh(5, None, (0, 0), (240, 241))),
        ("06 240101 250103", Udh(7, None, (1, 3), None)),
        ("0B 0003070201 05040B8423F0", Udh(12, Concat(7, 2, 1, False), (0, 0), (2948, 9200))),
        ("08 7001AA 0003070201", Udh(9, Concat(7, 2, 1, False), (0, 0), None)),  # an unknown element first
        ("0A 0003070201 0003080302", Udh(11, Concat(8, 3, 2, False), (0, 0), None, True)),  # the last of two counts
        ("0B 0003070201 08040107 0201", Udh(12, Concat(0x107, 2, 1, True), (0, 0), None)),  # the same place twice
        ("05 0003 07 00 01", Udh(6, None, (0, 0), None)),  # no part 1 of 0
        ("05 0003 07 02 00", Udh(6, None, (0, 0), None)),
        ("05 0003 07 02 03", Udh(6, None, (0, 0), None)),
        ("04 0002 0701", Udh(5, None, (0, 0), None)),  # of the wrong length
        ("00", Udh(1, None, (0, 0), None)),
    ],
)
def test_parse_udh(octets: str, expected: Udh) -> None:
    assert parse_udh(bytes.fromhex(octets) + b"text") == expected


def test_no_octets_hold_no_header() -> None:
    assert parse_udh(b"") is None


@pytest.mark.parametrize("octets", ["05", "0500030702", "05 0004 07 02 01", "01 00", "02 0001", "06 0003070201 00"])
def test_lengths_that_do_not_add_up_are_an_error(octets: str) -> None:
    with pytest.raises(UdhError):
        parse_udh(bytes.fromhex(octets))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40))
def test_parse_udh_gives_a_header_inside_the_data_or_a_udh_error(octets: bytes) -> None:
    try:
        udh = parse_udh(octets)
    except UdhError:
        return
    if udh is not None:
        assert 1 <= udh.length <= len(octets)
        assert udh.concat is None or 1 <= udh.concat.seq <= udh.concat.total <= 255


def test_sar_is_a_place_like_another() -> None:
    assert longmessage.sar(0x1234, 3, 2) == Concat(0x1234, 3, 2, True)


@pytest.mark.parametrize(("total", "seq"), [(0, 0), (2, 0), (2, 3), (256, 1)])
def test_impossible_places_are_refused(total: int, seq: int) -> None:
    with pytest.raises(TextError):
        longmessage.sar(1, total, seq)


# Cutting


@pytest.mark.parametrize("by", Carriage)
@pytest.mark.parametrize("default", [Alphabet.GSM, Alphabet.GSM_PACKED, Alphabet.LATIN1])
@pytest.mark.parametrize("content", ["", "short", "a€" * 300, "é" * 170, "ж😀" * 100])
def test_pieces_join_to_the_text(by: Carriage, default: Alphabet, content: str) -> None:
    pieces = split(content, by=by, ref=0x1234, default=default)
    joiner = Joiner()
    if len(pieces) == 1:
        assert pieces[0].udh == b""
        assert text.decode(pieces[0].body, pieces[0].data_coding, default) == content
        return
    for seq, piece in enumerate(pieces, 1):
        udh = parse_udh(piece.udh + piece.body) if piece.udh else None
        place = udh.concat if udh is not None else longmessage.sar(0x1234, len(pieces), seq)
        assert place is not None and (place.total, place.seq) == (len(pieces), seq)
        assert place.ref == (0x34 if by is Carriage.UDH else 0x1234)
        body = text.decode(piece.body, piece.data_coding, default, header=len(piece.udh))
        fit = text.fits(body)
        assert fit.parts == 1 and len(piece.udh + piece.body) <= 160
        joined = joiner.add("key", place, body, 0.0)
    assert joined.complete and joined.known == content


def test_the_payload_is_one_piece() -> None:
    assert split("a" * 1000, by=Carriage.PAYLOAD) == [Piece(b"", b"a" * 1000, 0)]
    assert [piece.data_coding for piece in split("ж" * 1000, by=Carriage.PAYLOAD)] == [8]


def test_part_sizes() -> None:
    assert [len(piece.body) for piece in split("a" * 307)] == [153, 153, 1]
    assert [len(piece.body) for piece in split("a" * 305, by=Carriage.UDH16)] == [152, 152, 1]
    assert [len(piece.body) for piece in split("ж" * 135)] == [134, 134, 2]
    assert [len(piece.body) for piece in split("ж" * 133, by=Carriage.UDH16)] == [132, 132, 2]


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(TextError):
        split("a" * (255 * 153 + 1))
    with pytest.raises(TextError):
        split("\ud800")
    assert len(split("a" * (255 * 153))) == 255
