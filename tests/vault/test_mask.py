"""What people see of numbers without a reason."""

from __future__ import annotations

import pytest

from smppd.vault.mask import mask_number, mask_text


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
