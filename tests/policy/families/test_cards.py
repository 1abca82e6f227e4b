"""Numbers of payment cards: test numbers that the schemes publish, and what is near one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.policy.families.cards import find, is_card, luhn


@pytest.mark.parametrize(
    ("digits", "card"),
    [
        ("4111111111111111", True),
        ("4222222222222", True),
        ("5555555555554444", True),
        ("2223003122003222", True),
        ("378282246310005", True),
        ("6011111111111117", True),
        ("3530111333300000", True),
        ("30569309025904", True),
        ("6212345678901232", True),
        ("9792030394440796", True),
        ("2200000000000004", True),
        ("4111111111111112", False),
        ("411111111111111", False),
        ("1111111111111117", False),
        ("0000000000000000", False),
        ("411111111111", False),
    ],
)
def test_is_card(digits: str, card: bool) -> None:
    assert is_card(digits) is card


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("4111 1111 1111 1111", True),
        ("4111-1111-1111-1111.", True),
        ("(4111 1111 1111 1111)", True),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", True),
        ("41 11 11 11 11 11 11 11", True),
        ("411 11111 1111 1111", True),
        ("3782 822463 10005 12 27", True),
        ("12 4111 1111 1111 1111 12 27 123", True),
        ("x4111111111111111", False),
        ("4111111111111111x", False),
        ("https://example.com/4111111111111111", False),
        ("4111 1111 / 1111 1111", False),
        ("4111111111111111111111", False),
        ("12 411 11111 1111 1111", False),  # odd groups beside others are a row of numbers
        ("1 " * 79, False),
    ],
)
def test_find(text: str, found: bool) -> None:
    assert find(text) is found


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet="0123456789 -.x", max_size=200))
def test_any_digits(text: str) -> None:
    find(text)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**14))
def test_every_check_digit_has_one_right_value(number: int) -> None:
    assert sum(luhn(f"{number}{check}") for check in range(10)) == 1
