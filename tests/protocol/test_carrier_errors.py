"""Carriers' codes by their table."""

from __future__ import annotations

from typing import get_args

import pytest

from smppd.config.peers import ErrorTable
from smppd.protocol.carrier_errors import TABLES, carrier_error


@pytest.mark.parametrize(
    ("table", "code", "name"),
    [
        ("dlt", 600, "ENTITY_NOT_FOUND"),
        ("dlt", 614, "PE_TM_HASH_NOT_RECEIVED"),
        ("dlt_other", 614, "CLI_MISMATCH_WITH_TEMPLATE"),
        ("dlt_other", 620, "HEADER_NOT_FOUND"),
        ("dlt", 606, ""),
        ("dlt", 0x45, ""),
        (None, 600, ""),
    ],
)
def test_codes(table: str | None, code: int, name: str) -> None:
    assert carrier_error(table, code) == name


def test_what_the_configuration_takes_is_there() -> None:
    assert set(get_args(ErrorTable)) == set(TABLES)
