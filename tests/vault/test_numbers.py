"""Numbers are found however they were sent and typed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.numbering import normalise
from smppd.vault.keys import Part
from smppd.vault.numbers import blind, search_forms
from tests.vault.rows import NOON, MemoryRows, ring


@pytest.mark.parametrize(
    ("address", "ton", "region", "expected"),
    [
        (b"447700900123", 1, None, b"447700900123"),
        (b"+447700900123", 1, None, b"447700900123"),
        (b"00447700900123", 0, None, b"447700900123"),
        (b"+44 7700 900-123", 1, None, b"447700900123"),
        (b"07700900123", 2, None, b"07700900123"),
        (b"2079460123", 2, "GB", b"442079460123"),
        (b"02079460123", 2, "GB", b"442079460123"),
        (b"07700900123", 2, "GB", b"447700900123"),  # not given out, and possible
        (b"07700900123", 0, "GB", b"447700900123"),
        (b"7700900123", 0, "GB", b"447700900123"),
        (b"447700900123", 0, "GB", b"447700900123"),
        (b"447700900123", 0, "US", b"447700900123"),
        (b"011447700900123", 0, "US", b"447700900123"),
        (b"2125550100", 0, "US", b"12125550100"),
        (b"5550100", 0, "US", b"5550100"),
        (b"0612345678", 0, "IT", b"390612345678"),
        (b"1234567", 0, "GB", b"1234567"),
        (b"+44 (0)7700 900123", 0, None, b"447700900123"),
        (b"02079460123", 1, "GB", b"02079460123"),  # TON says international: not ours to guess
        (b"12345", 3, "GB", b"12345"),
        (b"00123", 3, None, b"00123"),
        (b"Acme Bank", 5, None, b"acme bank"),
        (b"12345", 5, None, b"12345"),
        (b"\xc4cme", 5, None, "äcme".encode()),
        (b"", 0, None, b""),
        (b"+", 0, None, b"+"),
    ],
)
def test_normal_form(address: bytes, ton: int, region: str | None, expected: bytes) -> None:
    assert normalise(address, ton, 1, region) == expected


@pytest.mark.parametrize(
    ("typed", "region", "exact"),
    [
        ("+44 7700 900123", None, b"447700900123"),
        ("+44 (0)7700 900123", None, b"447700900123"),
        ("07700 900123", "GB", b"447700900123"),
        ("7700 900123", "GB", b"447700900123"),
        ("0044 7700 900123", None, b"447700900123"),
        ("447700900123", None, b"447700900123"),
        (" +1 (212) 555-0100 ", None, b"12125550100"),
        ("212.555.0100", "US", b"12125550100"),
        ("12345", "GB", b"12345"),
        ("12345", None, b"12345"),
        ("ACME bank", None, b"acme bank"),
        ("ÄCME", None, "äcme".encode()),
        ("Żółw", None, "żółw".encode()),
        ("+999123", None, b"999123"),
        ("", None, b""),
        ("\u202a+44\u00a07700\u2011900123\u202c", None, b"447700900123"),
        ("+44 7700\u2009900\u2013123", None, b"447700900123"),
        ("tel:+44-7700-900123", None, b"447700900123"),
        ("\uff0b\uff14\uff14 7700 900123", None, b"447700900123"),
        ("\u0660\u0667\u0667\u0660\u0660 900123", "GB", b"447700900123"),
        ("tel: support", None, b"tel: support"),
        ("\u202aACME\u202c", None, "\u202aacme\u202c".encode()),
    ],
)
def test_typed_number_has_its_exact_form(typed: str, region: str | None, exact: bytes) -> None:
    assert search_forms(typed, region).exact == (exact,)


def test_national_digits_are_searched_but_marked_ambiguous() -> None:
    forms = search_forms("+44 7700 900123")
    assert forms.ambiguous == (b"07700900123", b"7700900123", b"011447700900123")
    assert "7700" not in repr(forms)
    assert search_forms("07700 900123").exact == (b"07700900123",)
    assert search_forms("011 44 7700 900123") == ((b"011447700900123",), (b"447700900123",))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 999), st.sampled_from(["", "+", "00"]))
def test_what_is_sealed_is_found(last: int, prefix: str) -> None:
    sent = normalise(f"{prefix}447700900{last:03}".encode(), 1, 1)
    assert search_forms(f"07700 900{last:03}", "GB").exact == (sent,)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=21), st.integers(0, 7), st.sampled_from([None, "GB", "US"]))
def test_any_address_has_one_normal_form(address: bytes, ton: int, region: str | None) -> None:
    form = normalise(address, ton, 1, region)
    assert normalise(address, ton, 0, region) == form
    if ton != 2:
        forms = search_forms(address.decode("latin-1"))
        assert form in forms.exact + forms.ambiguous


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=25), st.sampled_from([None, "GB", "XX"]))
def test_anything_can_be_typed(typed: str, region: str | None) -> None:
    assert len(search_forms(typed, region).exact) == 1


def test_blind_index_depends_on_number_account_and_period() -> None:
    keys = ring(MemoryRows())
    made = [
        keys.period(account, Part.NUMBERS, when, 86400 * 30)
        for account in ("acme", "beta")
        for when in (NOON, NOON * 2)
    ]
    found = {blind(key, number) for key in made for number in (b"447700900123", b"447700900124")}
    assert len(found) == 8
    assert {len(index) for index in found} == {16}
