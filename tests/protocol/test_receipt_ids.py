"""Whose message an id in a receipt means: forms that are tried and learned, and the canonical key beside them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol.receipt_ids import IdForm, IdMatcher, canonical, is_canonical, kept, normalise, readings


@pytest.mark.parametrize(
    ("raw", "form", "expected"),
    [
        (b"00Ab", IdForm.RAW, b"00Ab"),
        (b"0012", IdForm.STRIPPED, b"12"),
        (b"0000", IdForm.STRIPPED, b"0"),
        (b"Ab12", IdForm.LOWER, b"ab12"),
        (b"Ab12", IdForm.UPPER, b"AB12"),
        (b"ff", IdForm.HEX_TO_DECIMAL, b"255"),
        (b"000000FF", IdForm.HEX_TO_DECIMAL, b"255"),
        (b"xyz", IdForm.HEX_TO_DECIMAL, None),
        (b"1_0", IdForm.HEX_TO_DECIMAL, None),
        (b"255", IdForm.DECIMAL_TO_HEX, b"ff"),
        (b"0255", IdForm.DECIMAL_TO_HEX_UPPER, b"FF"),
        (b"ff", IdForm.DECIMAL_TO_HEX, None),
        (b" 1", IdForm.DECIMAL_TO_HEX, None),
        (b"1" * 5000, IdForm.DECIMAL_TO_HEX, None),
        (b"f" * 5000, IdForm.HEX_TO_DECIMAL, None),
        (b"3f2b8c1e-0000-4000-8000-0123456789ab", IdForm.UUID_PLAIN, b"3f2b8c1e0000400080000123456789ab"),
        (b"3f2b8c1e0000400080000123456789ab", IdForm.UUID_DASHED, b"3f2b8c1e-0000-4000-8000-0123456789ab"),
        (b"12", IdForm.UUID_DASHED, None),
        (b"12", IdForm.PADDED, None),
    ],
)
def test_normalise(raw: bytes, form: IdForm, expected: bytes | None) -> None:
    assert normalise(raw, form) == expected


def test_normalise_to_a_width() -> None:
    assert normalise(b"12", IdForm.PADDED, 8) == b"00000012"
    assert normalise(b"255", IdForm.DECIMAL_TO_HEX_UPPER_PADDED, 8) == b"000000FF"
    assert normalise(b"12", IdForm.PADDED, 2) is None


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=70) | st.text("0123456789abcdefABCDEF-", max_size=70).map(str.encode))
def test_forms_of_any_octets(raw: bytes) -> None:
    forms = {form for form in (normalise(raw, one) for one in IdForm if one is not IdForm.ALIKE) if form is not None}
    assert raw in forms
    matcher = IdMatcher()
    for width in (8, 16):
        matcher.answered(b"0" * width)
    keys = [key for _, key in matcher.candidates(raw)]
    assert keys[0] == raw and len(set(keys)) == len(keys) and forms <= set(keys)


@pytest.mark.parametrize(
    ("answer", "in_receipt"),
    [
        (b"00abcdef", b"abcdef"),
        (b"abcdef", b"00ABCDEF"[2:]),
        (b"ABCDEF", b"abcdef"),
        (b"0000001234", b"1234"),
        (b"1234", b"0000001234"),
        (b"4d2", b"1234"),
        (b"4D2F", b"19759"),
        (b"000004d2", b"1234"),
        (b"000004DF", b"1247"),
        (b"1234", b"4d2"),
        (b"0000001234", b"4D2"),
        (b"3f2b8c1e-0000-4000-8000-0123456789ab", b"3f2b8c1e0000400080000123456789ab"),
        (b"3f2b8c1e0000400080000123456789ab", b"3f2b8c1e-0000-4000-8000-0123456789ab"),
    ],
)
def test_a_receipt_finds_its_message(answer: bytes, in_receipt: bytes) -> None:
    matcher = IdMatcher()
    matcher.answered(answer)
    assert matcher.find(in_receipt, {answer: "message", b"another": "wrong"}) == "message"
    assert sum(matcher.hits.values()) == 1 and matcher.hits[IdForm.RAW] == 0
    assert matcher.find(in_receipt, {}) is None
    assert sum(matcher.hits.values()) == 1


def first(matcher: IdMatcher) -> IdForm:
    return next(matcher.candidates(b"1"))[0]


def test_the_raw_id_wins_where_both_readings_hit() -> None:
    matcher = IdMatcher()
    assert matcher.find(b"1234", {b"1234": "raw", b"4d2": "hexadecimal"}) == "raw"
    assert first(matcher) is IdForm.RAW


def test_a_habit_that_is_certain_goes_first() -> None:
    """Hexadecimal in the answer, decimal in the receipt; an id of digits only would mislead."""
    matcher = IdMatcher(settle_after=16)
    for number in range(0xA000, 0xA010):
        assert first(matcher) is IdForm.RAW
        assert matcher.find(b"%d" % number, {b"%x" % number: number}) == number
    assert first(matcher) is IdForm.DECIMAL_TO_HEX
    assert matcher.find(b"1234", {b"1234": "another message", b"4d2": "the message"}) == "the message"
    assert matcher.find(b"abcd", {b"abcd": "raw"}) == "raw", "the others are still tried"


def test_a_habit_is_given_up_when_the_raw_id_proves_right() -> None:
    matcher = IdMatcher(settle_after=4)
    for _ in range(4):
        matcher.learn(IdForm.DECIMAL_TO_HEX)
    assert first(matcher) is IdForm.DECIMAL_TO_HEX
    for _ in range(2):
        matcher.find(b"abc", {b"abc": 1})
    assert first(matcher) is IdForm.RAW
    assert matcher.hits[IdForm.RAW] == 2


def test_few_accidents_settle_nothing() -> None:
    matcher = IdMatcher(settle_after=16)
    for _ in range(1000):
        matcher.find(b"7f", {b"7f": 1})
    for _ in range(100):
        matcher.learn(IdForm.DECIMAL_TO_HEX)
    assert first(matcher) is IdForm.RAW


def test_widths_are_bounded() -> None:
    matcher = IdMatcher()
    for width in range(1, 65):
        matcher.answered(b"0" * width)
    assert len(list(matcher.candidates(b"1"))) < 20


# The canonical key


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b"SAR-447700900123-1eedf843-2-1", b"sar4477009001231eedf84321"),
        (b"3F2B8C1E-0000-4000-8000-0123456789AB", b"3f2b8c1e0000400080000123456789ab"),
        (b"0000001234", b"1234"),
        (b"{00Ab}", b"ab"),
        (b"000", b"0"),
        (b"0x1A2B3C4D", b"1a2b3c4d"),
        (b"0X00ab", b"ab"),
        (b"0xyz", b"xyz"),
        (b"0x", b"x"),
        (b"---", b"-"),
        (b"", b""),
        (b"L" * 300, b"l" * 64),
        (b"\xff7", b"\xff7"),
    ],
)
def test_the_canonical_key(raw: bytes, key: bytes) -> None:
    assert is_canonical(raw) == (raw == key and raw.isalnum() and raw[:1] not in (b"0", b"x"))
    assert canonical(raw) == key and canonical(key) == (key if key.isalnum() or not key.isascii() else canonical(raw))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 4))
def test_case_dashes_and_zeros_do_not_change_it(raw: bytes, zeros: int) -> None:
    key = canonical(raw)
    assert bool(key) == bool(raw) and len(key) <= 64
    assert not is_canonical(raw) or key == raw
    if key.isalnum():
        assert canonical(key) == canonical(b"0" * zeros + key.upper()[: 64 - zeros]) or len(key) + zeros > 64
        assert key in readings(raw)


@pytest.mark.parametrize(
    ("named", "given_"),
    [
        (b"11259375", b"00-ABCDEF"),
        (b"00ab-cdef", b"0011259375"),
        (b"ABC-1", b"abc1"),
        (b"0x1A2B3C4D", b"1a2b3c4d"),
        (b"1a2b3c4d", b"0x1A2B3C4D"),
        (b"439041101", b"0x1A2B3C4D"),
        (b"0x1A2B3C4D", b"439041101"),
        (b"L" * 65, b"L" * 300),
    ],
)
def test_readings_lead_to_what_the_answer_gave(named: bytes, given_: bytes) -> None:
    assert canonical(given_) in readings(named)
    matcher = IdMatcher()
    assert matcher.form(named, given_) is IdForm.ALIKE and matcher.form(given_, given_) is IdForm.RAW
    assert matcher.form(b"something else", given_) is None


def test_a_matcher_that_is_told_a_form_takes_no_other() -> None:
    assert IdMatcher(only=(IdForm.DECIMAL_TO_HEX,)).form(b"31", b"1f") is IdForm.DECIMAL_TO_HEX
    for named, given_ in ((b"31", b"31"), (b"1F", b"1f"), (b"31", b"1-F")):
        assert IdMatcher(only=(IdForm.DECIMAL_TO_HEX,)).form(named, given_) is None
    alike = IdMatcher(only=(IdForm.RAW, IdForm.ALIKE))
    assert alike.form(b"31", b"1-F") is IdForm.ALIKE and alike.sure(IdForm.ALIKE) and alike.settled is IdForm.RAW
    assert IdMatcher(only=(IdForm.ALIKE,)).settled is IdForm.ALIKE


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400))
def test_what_is_kept_of_an_id_is_short_and_one_to_one(raw: bytes) -> None:
    short = kept(raw)
    assert len(short) <= 128 and kept(raw) == short and kept(short) == short
    assert (short == raw) == (len(raw) <= 128)
    if len(raw) > 64:
        assert canonical(short) == canonical(raw), "a receipt that cuts it off still leads to it"
        assert kept(raw + b"x") != short
