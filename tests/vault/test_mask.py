"""What people see of numbers without a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.vault.mask import _DATE, _RECORD, mask_digits, mask_number, mask_text


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
