"""A session is good at its place, for its time, and for its operator as he was."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from smppd.operators.desk import Desk
from smppd.operators.people import Operator, People
from smppd.operators.sessions import LONGEST, begin, current, end
from tests.operators.conftest import NOW, Made

Add = Callable[..., Made]


@pytest.fixture
def anna(add: Add) -> Operator:
    return add("anna")[0]


@pytest.fixture
def token(desk: Desk, anna: Operator) -> str:
    return begin(desk, anna, "here", NOW, 900, os.urandom)[0]


def test_a_session_stands(desk: Desk, anna: Operator, token: str) -> None:
    session = current(desk, token, "here", "", NOW + 899)
    assert session is not None and session.operator == anna and session.until == NOW + 900
    assert token not in repr(list(desk.all("session"))) and len(token) == 64


def test_it_ends_by_itself(desk: Desk, token: str) -> None:
    assert current(desk, token, "here", "", NOW + 900) is None
    assert desk.expire(NOW + 902) == 1


def test_it_is_of_no_other_place_nor_token(desk: Desk, token: str) -> None:
    assert current(desk, token, "there", "", NOW) is None
    assert current(desk, "0" * 64, "here", "", NOW) is None
    assert current(desk, "", "here", "", NOW) is None


def test_a_clock_that_goes_back_does_not_make_it_longer(desk: Desk, token: str) -> None:
    assert current(desk, token, "here", "", NOW - 60) is None
    assert current(desk, token, "here", "", NOW - 1) is not None


def test_no_session_is_longer_than_an_hour(desk: Desk, anna: Operator) -> None:
    assert begin(desk, anna, "here", NOW, 10 * LONGEST, os.urandom)[1] == NOW + 3600


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one._replace(disabled=True),
        lambda one: one._replace(phc="another"),
        lambda one: one,
    ],
)
def test_it_ends_with_any_change_of_the_operator(
    desk: Desk, token: str, change: Callable[[Operator], Operator]
) -> None:
    People(desk).change("anna", change, NOW, "")
    assert current(desk, token, "here", "", NOW) is None


def test_a_code_that_was_used_is_no_change(desk: Desk, token: str) -> None:
    found = People(desk).load("anna")
    assert found is not None and People(desk).store(found[0]._replace(step=99), found[1])
    assert current(desk, token, "here", "", NOW) is not None


def test_it_ends_with_the_operator_and_by_hand(desk: Desk, token: str) -> None:
    assert end(desk, token) and not end(desk, token)
    assert current(desk, token, "here", "", NOW) is None


def test_it_is_of_the_operators_networks(desk: Desk, add: Add) -> None:
    ben, _ = add("ben", networks=("192.0.2.0/24",))
    token, _ = begin(desk, ben, "here", NOW, 900, os.urandom)
    assert current(desk, token, "here", "192.0.2.1", NOW) is not None
    assert current(desk, token, "here", "", NOW) is not None
    assert current(desk, token, "here", "198.51.100.1", NOW) is None
