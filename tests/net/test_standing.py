"""Which sessions stand by other settings of their account, and which are too many."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.net.standing import Shown, asks_the_same, surplus, unfit
from tests.net.links import account

SHOWN = Shown("192.0.2.7", None, "transceiver", "3.4")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"networks": ["192.0.2.0/24"]}, None),
        ({"networks": ["198.51.100.0/24"]}, "its address is in none of the account's networks"),
        ({"suspended": True}, "the account is suspended"),
        ({"client_certificate": {"name": "acme"}}, "it did not show the account's client certificate"),
        ({"binds": ["transmitter", "receiver"]}, "the account may not bind as transceiver"),
        ({"interface_versions": ["5.0"]}, "the account may not speak SMPP 3.4"),
        ({"max_binds": 1, "window": 1, "throughput": 1.0}, None),
    ],
)
def test_what_a_session_must_still_be(changes: dict[str, Any], why: str | None) -> None:
    settings = account("acme", **changes)
    assert unfit(SHOWN, settings) == why
    if why is not None:
        assert not asks_the_same(account("acme"), settings)


def test_an_account_that_is_gone_has_no_sessions() -> None:
    assert unfit(SHOWN, None) == "the account is removed"


def test_the_newest_are_too_many_or_the_oldest_where_new_ones_take_their_place() -> None:
    sessions = [1, 2, 3, 4]
    assert surplus(sessions, account("acme", max_binds=4)) == ()
    assert surplus(sessions, account("acme", max_binds=3)) == [4]
    assert surplus(sessions, account("acme", max_binds=2)) == [3, 4]
    assert surplus(sessions, account("acme", max_binds=3, when_full="evict_oldest")) == [1]
