"""The country of a destination."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.policy.countries import ALL, country_of


@pytest.mark.parametrize(
    ("digits", "country"),
    [
        (b"447700900123", "GB"),
        (b"447781100123", "GG"),
        (b"447797700123", "JE"),
        (b"447624300123", "IM"),
        (b"12125550100", "US"),
        (b"14165550100", "CA"),
        (b"12425550100", "BS"),
        (b"18765550100", "JM"),
        (b"33612345678", "FR"),
        (b"77012345678", "KZ"),
        (b"79161234567", "RU"),
        (b"390612345678", "IT"),
        (b"390669812345", "VA"),
        (b"5511912345678", "BR"),
        (b"5999123456", "CW"),
        (b"80012345678", None),
        (b"07700900123", None),
        (b"44770", None),
        (b"", None),
        (b"ACME", None),
        ("٤٤٧٧٠٠٩٠٠١٢٣".encode(), None),
        (b"999999999999", None),
    ],
)
def test_country(digits: bytes, country: str | None) -> None:
    assert country_of(digits) == country


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=21) | st.text("0123456789", max_size=21).map(str.encode))
def test_anything(digits: bytes) -> None:
    country = country_of(digits)
    assert country is None or country in ALL
    assert country_of(digits) == country
