"""Other people's numbers in carriers' ids are hidden, and counters stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.records.carrier_ids import HIDDEN, without_numbers

OWN = ["447700900123", "07700900123", "7700900123"]
# The fictional numbers of most countries are in no numbering plan. +1 NXX 555 0100-0199 are, and so is this range of Ofcom's
# for drama, 020 7946 0000-0999, of which phonenumbers takes all.
LONDON = "442079460123"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x-12125550123-1", "x-***-1"),
        ("SAR12125550123", "SAR***"),
        ("+12125550123", HIDDEN),
        ("0012125550123", HIDDEN),
        (LONDON, HIDDEN),
        ("02079460123", HIDDEN),
        (f"{LONDON}.3", "***.3"),
        ("12125550123-442079460123", "***-***"),
    ],
)
def test_a_third_persons_number_is_hidden(name: str, shown: str) -> None:
    assert without_numbers(name, OWN, ["447700900123", "447700900456"]) == shown


@pytest.mark.parametrize(
    "name",
    [
        "", "4711", "up-77", "520134834112", "0000000017", "12125550123", "00000000000000000017", "20261130-000123",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "0ca8a084dd000000", "447700900123", "x-447700900123-01", "447700900123001",
        "id:07700900123", "99999999999999999999", "4471147", "msg_1700000000",
    ],
)  # fmt: skip
def test_counters_and_the_persons_own_number_stay(name: str) -> None:
    assert without_numbers(name, OWN, ["447700900123", "acmebank", ""]) == name


def test_the_countries_of_the_record_count_for_an_id_of_digits_alone() -> None:
    assert without_numbers("12125550123", OWN, ["12125550199"]) == HIDDEN
    assert without_numbers("02079460123", ["12125550199"], ["12125550199"]) == "02079460123"


@given(st.text(max_size=40))
def test_nothing_but_runs_of_digits_is_touched(name: str) -> None:
    shown = without_numbers(name, OWN, ["447700900123"])
    assert "".join(c for c in shown if c not in "*+0123456789") == "".join(c for c in name if c not in "*+0123456789")
