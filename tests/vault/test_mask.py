"""What people see of numbers without a reason."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.vault.mask import _DATE, _RECORD, OthersMask, mask_digits, mask_number, mask_text
from smppd.vault.numbers import search_forms


@pytest.mark.parametrize("number", [b"+447700900123", "+447700900123"])
def test_number(number: bytes | str) -> None:
    assert mask_number(number) == "+44770***0123"


@pytest.mark.parametrize("sender", ["Acme Bank", "12345", "123", "AC", ""])
def test_senders_keep_two_characters_at_most(sender: str) -> None:
    shown = mask_number(sender)
    assert shown.endswith("***") and sender.startswith(shown[:-3]) and len(shown) <= 5


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("to +447700900123, then", "to +44770***0123, then"),
        ("to +44 7700 900123.", "to +44770***0123."),
        ("port 12345, id 01890a5d447700900123", "port 12345, id 01890a5d447700900123"),
        ("1+1234567 is an odd sum", "1+1234567 is an odd sum"),
        ("+12", "+12"),
    ],
)
def test_numbers_in_text(text: str, masked: str) -> None:
    assert mask_text(text) == masked


KEPT = ["ticket 4711", "order 12/26", "4711, 4712", "on 2026-11-29 done", "record 0ca8a084dd000000 ok", "", "no digits"]


@pytest.mark.parametrize("text", KEPT)
def test_what_can_be_no_phone_number_stays_in_a_note(text: str) -> None:
    assert mask_digits(text) == text


@pytest.mark.parametrize(
    "number",
    [
        "447700900123", "+447700900123", "00447700900123", "07700900123", "5550100", "90012", "07700 900123", "+44 7700 900123",
        "+44 (0)7700 900123", "(07700) 900-123", "44-7700-900123", "0044/7700.900.123", "44_7700_900123",
        "07700,900,123", "44:7700:900123", "44\n7700\n900123", "44 – 7700 – 900123",
        "4 4 7 7 0 0 9 0 0 1 2 3", "4.4.7.7.0.0.9.0.0.1.2.3", "44\u00a07700\u00a0900123", "44\u200b7700\u200b900123",
        "\uff14\uff14\uff17\uff17\uff10\uff10\uff19\uff10\uff10\uff11\uff12\uff13", "٤٤٧٧٠٠٩٠٠١٢٣", "2026-11-2907700900123",
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", ["{}", "asked about {}, twice", "tel:{}", "x{}y", "({})", "{}@example.com", "{} {}"])
def test_no_run_of_digits_that_may_be_a_number_stays_in_a_note(number: str, around: str) -> None:
    shown = mask_digits(around.format(number, number))
    assert "***" in shown and not any(c.isdecimal() for c in shown)


@given(st.text(), st.text("0123456789", min_size=5, max_size=15), st.text())
def test_a_number_is_in_no_note_whatever_stands_around_it(before: str, number: str, after: str) -> None:
    text = f"{before} {number} {after}"
    kept = _RECORD.findall(text) + _DATE.findall(text)
    assert number not in mask_digits(text) or any(number in one for one in kept)


# -- other people's numbers in what one person is given ------------------------------------------------------------------

OWN = search_forms("+44 7700 900123")
OTHERS = OthersMask(OWN.exact, OWN.ambiguous)
OWN_NOTATIONS = [
    "447700900123", "+447700900123", "00447700900123", "011447700900123", "07700900123", "07700 900123", "7700900123",
    "+44 7700 900 123", "+44 (0)7700 900123", "(07700) 900-123", "44-7700-900123", "44.7700.900123", "44/7700/900/123",
    "\uff14\uff14\uff17\uff17\uff10\uff10\uff19\uff10\uff10\uff11\uff12\uff13", "٤٤٧٧٠٠٩٠٠١٢٣",
]  # fmt: skip
OTHER_NOTATIONS = [
    "447700900456", "+447700900456", "00447700900456", "07700900456", "07700 900456", "+44 7700 900 456", "+44 (0)7700 900456",
    "(07700) 900-456", "44-7700-900456", "44_7700_900456", "07700,900,456", "44:7700:900456", "4 4 7 7 0 0 9 0 0 4 5 6",
    "44\n7700\n900456", "44\u200b7700\u200b900456", "44\u00a07700\u00a0900456",
    "+1 202 555 0145", "12025550145", "555 0145", "5550145",
    "\uff14\uff14\uff17\uff17\uff10\uff10\uff19\uff10\uff10\uff14\uff15\uff16", "٤٤٧٧٠٠٩٠٠٤٥٦", "⁴⁴⁷⁷⁰⁰⁹⁰⁰⁴⁵⁶", "④④⑦⑦⓪⓪⑨⓪⓪④⑤⑥",
    "1 7700 900123", "+1 7700 900123", "+49 7700 900123", "00497700900123",
]  # fmt: skip
AROUND = ["{}", "call {} now", "tel:{}", "x{}y", "({})", "{}!", "https://example.com/{}?a", "Ünï {} é", "{}, then"]
# Whole numbers of nobody, and what stands in texts beside them.
_FICTION = st.one_of(
    st.integers(0, 999).filter(lambda n: n != 123).map(lambda n: f"447700900{n:03}"),
    st.tuples(st.integers(201, 989), st.integers(100, 199)).map(lambda p: f"1{p[0]}5550{p[1]}"),
)
_GAP = st.sampled_from(["", " ", "-", ".", " - ", "\u00a0", "/", "\u200b"])


def _projected(text: str) -> str:
    """The digits that are to be seen; a mask parts them."""
    return "".join("*" if c == "*" else str(unicodedata.digit(c)) for c in text if c == "*" or c.isdigit())


@pytest.mark.parametrize("number", OWN_NOTATIONS)
@pytest.mark.parametrize("around", AROUND)
def test_the_persons_own_number_stays_in_every_notation(number: str, around: str) -> None:
    assert OTHERS.hide(around.format(number)) == around.format(number)


@pytest.mark.parametrize("number", OTHER_NOTATIONS)
@pytest.mark.parametrize("around", AROUND)
def test_any_other_number_is_hidden(number: str, around: str) -> None:
    shown = OTHERS.hide(around.format(number))
    assert "***" in shown and _projected(number) not in _projected(shown)
    assert shown.replace("***", "").strip() != around.format(number).strip()


@pytest.mark.parametrize("own", OWN_NOTATIONS)
@pytest.mark.parametrize("between", [" ", ", ", " / ", " or ", "\n", "; "])
def test_of_two_numbers_the_other_is_hidden_and_the_own_one_stays(own: str, between: str) -> None:
    for other in ("+447700900456", "+1 202 555 0145", "07700 900456"):
        for text in (f"{own}{between}{other}", f"{other}{between}{own}"):
            shown = OTHERS.hide(text)
            assert _projected(other) not in _projected(shown), text
    # A plus begins a number, so there is no doubt where the own one ends.
    assert OTHERS.hide(f"{own}{between}+447700900456") == f"{own}{between}+44770***0456"


@pytest.mark.parametrize(
    "text",
    [
        "your code is 471147", "EUR 1234.50", "on 2026-11-29 at 10:30", "2026-11-29 10:30:15", "29.11.2026 9:05", "11/29/2026",
        "gate 12, seat 14C", "dial 12345", "", "no digits", "at 10:30 on 12 May", "v1.2.3",
    ],
)  # fmt: skip
def test_what_can_be_no_phone_number_stays_in_a_text(text: str) -> None:
    assert OTHERS.hide(text) == text


def test_a_number_cut_off_at_the_end_of_a_part_is_hidden() -> None:
    assert OTHERS.hide("ring 447700", part=True) == "ring ***"
    assert OTHERS.hide("900456 tonight", part=True) == "*** tonight"
    assert OTHERS.hide("in 5 days", part=True) == "in 5 days"
    assert OTHERS.hide("447700900123", part=True) == "447700900123"


def test_a_carriers_name_for_a_message_is_shown_without_the_other_number() -> None:
    names = [b"447700900456", b"AcmeBank", b"12345"]
    assert OTHERS.hide_these("520134834112", names) == "520134834112"
    assert OTHERS.hide_these("x-447700900456-01", names) == "x-***-01"
    assert OTHERS.hide_these("7700900456.17", names) == "***.17"
    assert OTHERS.hide_these("447700900123-3", [b"447700900123"]) == "447700900123-3"


def test_a_short_number_or_a_name_as_the_subject() -> None:
    assert OthersMask((b"12345",)).hide("12345 and 447700900456") == "12345 and 44770***0456"
    assert OthersMask((b"acmebank",)).hide("AcmeBank 447700900456") == "AcmeBank 44770***0456"
    assert "7700" not in repr(OTHERS)


def _notation(number: str, cuts: list[int], gaps: list[str], plus: str) -> str:
    """A number in groups."""
    at, pieces = 0, []
    for cut, gap in zip(cuts, gaps, strict=False):
        pieces.append(number[at : at + cut] + gap)
        at += cut
    return plus + "".join(pieces) + number[at:]


@given(
    st.text(),
    _FICTION,
    st.lists(st.integers(1, 5), max_size=6),
    st.lists(_GAP, min_size=6, max_size=6),
    st.sampled_from(["", "+", "00"]),
    st.text(),
    st.booleans(),
    st.sampled_from(["", " 447700900123 ", "07700 900123 ", "+447700900123"]),
)
def test_another_number_is_in_no_text_whatever_stands_around_it(
    before: str, number: str, cuts: list[int], gaps: list[str], plus: str, after: str, part: bool, own: str
) -> None:
    written = _notation(number, cuts, gaps, plus)
    for text in (f"{before}{own}{written}{after}", f"{before}{written}{own}{after}"):
        shown = OTHERS.hide(text, part=part)
        # Digits of what stands around may be those of the number by chance.
        if number not in _projected(before) and number not in _projected(after):
            assert number not in _projected(shown)
        assert OTHERS.hide(shown, part=part).count("***") >= shown.count("***")


@given(st.text(st.characters(exclude_categories=["Nd", "No", "Nl"])), st.sampled_from(OWN_NOTATIONS))
def test_the_own_number_stays_whatever_stands_around_it(around: str, own: str) -> None:
    text = f"{around} {own} {around}"
    assert OTHERS.hide(text) == text
