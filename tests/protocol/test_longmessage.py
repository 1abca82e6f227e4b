"""User data headers, joining in bounded memory, and cutting."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol import longmessage, text
from smppd.protocol.longmessage import Carriage, Concat, Joiner, Piece, TextError, Udh, UdhError, parse_udh, split
from smppd.protocol.text import Alphabet


def part(seq: int, total: int = 3) -> Concat:
    return Concat(7, total, seq, False)


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
        ("0A 0003070201 0003080302", Udh(11, Concat(8, 3, 2, False), (0, 0), None)),  # the last of two counts
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
    with pytest.raises(TextError):
        Joiner().add("key", Concat(1, total, seq, False), "text", 0.0)


# Joining


def test_parts_in_any_order_become_the_whole_text() -> None:
    for order in itertools.permutations((1, 2, 3)):
        joiner = Joiner()
        joined = [joiner.add("key", part(seq), "abc"[seq - 1], 0.0) for seq in order]
        assert [each.complete for each in joined] == [False, False, True]
        assert joined[-1].known == "abc" and joined[-1].runs == ("abc",)
        assert len(joiner) == 0 and joiner.bytes == 0


def test_a_missing_part_breaks_the_run() -> None:
    joiner = Joiner()
    joiner.add("key", part(1, 4), "a", 0.0)
    joined = joiner.add("key", part(3, 4), "c", 0.0)
    assert (joined.known, joined.runs) == ("a\ufffdc", ("a", "c"))
    assert joiner.add("key", part(4, 4), "d", 0.0).runs == ("a", "cd")


def test_the_same_part_again_changes_nothing() -> None:
    joiner = Joiner()
    first = joiner.add("key", part(1), "a", 0.0)
    size = joiner.bytes
    assert joiner.add("key", part(1), "a", 1.0) == first
    assert joiner.bytes == size


def test_keys_are_apart() -> None:
    joiner = Joiner()
    joiner.add("one", part(1, 2), "a", 0.0)
    assert joiner.add("two", part(2, 2), "b", 0.0).runs == ("b",)


def test_later_and_repeated_parts_of_a_refused_message_are_refused() -> None:
    joiner = Joiner(ttl=300)
    joiner.add("key", part(1), "a", 0.0)
    joiner.refuse("key")
    for seq in (2, 3, 1):
        joined = joiner.add("key", part(seq), "b", 10.0)
        assert joined.refused and not joined.complete and joined.runs == ()
    assert not joiner.add("other", part(1), "a", 10.0).refused
    assert not joiner.add("key", part(1), "a", 300.0).refused, "after its time it is forgotten"


def test_a_message_can_be_refused_by_the_part_that_completes_it() -> None:
    joiner = Joiner()
    joiner.add("key", part(1, 2), "a", 0.0)
    assert joiner.add("key", part(2, 2), "b", 0.0).complete
    joiner.refuse("key")
    assert joiner.add("key", part(1, 2), "a", 1.0).refused


def test_a_reference_in_use_anew_begins_anew_but_mixed_readings_are_tried_too() -> None:
    joiner = Joiner()
    joiner.add("key", part(1, 2), "for", 0.0)
    joined = joiner.add("key", part(1, 2), "new", 1.0)
    assert joined.known == "new" and set(joined.runs) == {"new", "for"}
    joined = joiner.add("key", part(2, 2), "bidden", 2.0)
    assert joined.complete and joined.known == "newbidden"
    assert "forbidden" in joined.runs
    assert joiner.bytes == 0


def test_another_total_is_another_message() -> None:
    joiner = Joiner()
    joiner.add("key", part(2, 2), "b", 0.0)
    joined = joiner.add("key", part(1, 1), "a", 0.0)
    assert joined.complete and joined.known == "a"


def test_parts_are_forgotten_after_their_time() -> None:
    joiner = Joiner(ttl=300)
    joiner.add("key", part(1, 2), "a", 0.0)
    joiner.add("other", part(1, 2), "a", 200.0)
    joiner.expire(299.0)
    assert len(joiner) == 2
    joiner.expire(300.0)
    assert len(joiner) == 1 and joiner.forgotten == 1
    assert joiner.add("key", part(2, 2), "b", 300.0).runs == ("b",)


def test_at_the_limit_the_longest_untouched_goes() -> None:
    joiner = Joiner(max_messages=2)
    joiner.add("one", part(1), "a", 0.0)
    joiner.add("two", part(1), "a", 1.0)
    joiner.add("one", part(2), "b", 2.0)
    joiner.add("three", part(1), "a", 3.0)
    assert joiner.forgotten == 1
    assert joiner.add("one", part(3), "c", 4.0).complete
    assert joiner.add("two", part(2), "b", 5.0).runs == ("b",)


def test_unfinished_messages_do_not_push_refusals_out() -> None:
    joiner = Joiner(max_messages=3)
    joiner.refuse("bad", 0.0)
    for number in range(20):
        joiner.add(number, part(1), "a", 1.0)
    assert joiner.add("bad", part(1), "a", 2.0).refused


def test_refusals_have_a_limit_too() -> None:
    joiner = Joiner(max_messages=3)
    for number in range(5):
        joiner.refuse(number, float(number))
    assert joiner.refused == 3
    assert not joiner.add(1, part(1), "a", 5.0).refused and joiner.add(2, part(1), "a", 5.0).refused


def test_one_message_has_a_limit() -> None:
    joiner = Joiner(max_message_bytes=4096)
    joiner.add("key", part(1, 255), "a" * 2000, 0.0)
    with pytest.raises(TextError) as caught:
        joiner.add("key", part(2, 255), "a" * 2000, 0.0)
    assert "aaa" not in str(caught.value)
    assert len(joiner) == 0 and joiner.bytes == 0


def test_a_long_message_as_large_as_they_come_is_joined() -> None:
    joiner = Joiner()
    for seq in range(1, 256):
        joined = joiner.add("key", Concat(1, 255, seq, True), "ж" * 127, 0.0)
    assert joined.complete and len(joined.known) == 255 * 127


def test_nothing_prints_the_text() -> None:
    joiner = Joiner()
    joined = joiner.add("key", part(1), "confidential", 0.0)
    shown = f"{joined!r} {joined} {joiner!r} {vars(joiner)!r} {split('confidential')!r}"
    assert "confidential" not in shown


adds = st.lists(
    st.tuples(
        st.integers(0, 5),  # the key
        st.integers(1, 4).flatmap(lambda total: st.tuples(st.just(total), st.integers(1, total))),
        st.text(max_size=30),
        st.floats(0, 100),  # time that passes
        st.booleans(),  # refuse it
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=200)
@given(adds, st.integers(1, 4), st.integers(0, 6000))
def test_memory_stays_within_its_bounds(
    events: list[tuple[int, tuple[int, int], str, float, bool]], max_messages: int, max_bytes: int
) -> None:
    joiner = Joiner(max_messages=max_messages, max_bytes=max_bytes, ttl=150)
    now = 0.0
    for key, (total, seq), content, passes, refuse in events:
        now += passes
        joined = joiner.add(key, Concat(1, total, seq, False), content, now)
        assert joined.refused or any(content in run for run in joined.runs)
        if refuse:
            joiner.refuse(key)
            assert max_bytes < 400 or joiner.add(key, Concat(1, total, seq, False), content, now).refused
        assert len(joiner) <= max_messages and joiner.refused <= max_messages
        assert 0 <= joiner.bytes <= max_bytes
    joiner.expire(now + 151)
    assert (len(joiner), joiner.refused, joiner.bytes) == (0, 0, 0)


def test_the_account_of_memory_is_no_less_than_the_memory() -> None:
    joiner = Joiner()
    tracemalloc.start()
    try:
        for number in range(500):
            for seq in (1, 2):
                joiner.add(("account", "+447700900000", f"+44770090{number:04}", number), part(seq), "ж" * 67, 0.0)
        for number in range(500):
            joiner.refuse(("refused", "+447700900000", f"+44770090{number:04}", number), 0.0)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used <= joiner.bytes <= 3 * used


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
