"""What was agreed to is exactly one act of one person, for an hour."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.operators.approvals import ASKED, DENIED, GRANTED, UNANSWERED, WINDOW, Approvals, Request, may_agree
from smppd.operators.desk import Desk
from smppd.operators.roles import Act
from tests.operators.conftest import NOW

WHAT: Mapping[str, str | int] = {"number": "447700900123", "limit": 50}


@pytest.fixture
def approvals(desk: Desk) -> Approvals:
    return Approvals(desk)


@pytest.fixture
def request_(approvals: Approvals) -> Request:
    return approvals.ask("anna", "reveal", Act.REVEAL, WHAT, NOW, person="root", note="order 12/26", reason="law")


def answer(approvals: Approvals, number: int, granted: bool = True, now: float = NOW) -> Request | None:
    found = approvals.load(number, now)
    assert found is not None
    return approvals.answer(*found, granted, "ben", now)


def test_a_request_waits_for_an_answer(approvals: Approvals, request_: Request) -> None:
    assert (request_.number, request_.state, request_.until) == (1, ASKED, NOW + UNANSWERED)
    assert approvals.all(NOW) == [request_] and approvals.find("anna", "reveal", WHAT, NOW) == request_
    assert "447700900123" not in repr(request_)


@pytest.mark.parametrize(
    ("asker", "kind", "what"),
    [
        ("ben", "reveal", WHAT),
        ("anna", "export", WHAT),
        ("anna", "reveal", {**WHAT, "number": "447700900124"}),
        ("anna", "reveal", {**WHAT, "limit": 51}),
        ("anna", "reveal", {**WHAT, "limit": "50"}),
        ("anna", "reveal", {"number": "447700900123"}),
        ("anna", "reveal", {**WHAT, "more": ""}),
    ],
)
def test_it_is_of_no_other_person_and_no_other_act(
    approvals: Approvals, request_: Request, asker: str, kind: str, what: Mapping[str, str | int]
) -> None:
    answer(approvals, request_.number)
    assert approvals.find(asker, kind, what, NOW) is None


def test_the_order_of_facts_does_not_matter(approvals: Approvals, request_: Request) -> None:
    assert approvals.find("anna", "reveal", dict(reversed(list(WHAT.items()))), NOW) == request_


def test_the_window_ends_by_itself(approvals: Approvals, request_: Request, desk: Desk) -> None:
    granted = answer(approvals, request_.number, now=NOW + 60)
    assert granted is not None and granted.until == NOW + 60 + WINDOW
    for _ in range(3):  # again and again
        found = approvals.find("anna", "reveal", WHAT, NOW + 60 + WINDOW - 1)
        assert found is not None and (found.state, found.by) == (GRANTED, "ben")
    assert approvals.find("anna", "reveal", WHAT, NOW + 60 + WINDOW) is None
    assert desk.expire(NOW + 61 + WINDOW) == 1 and approvals.load(1, NOW) is None


def test_what_nobody_answers_ends_after_three_days(approvals: Approvals, request_: Request) -> None:
    assert approvals.load(request_.number, NOW + UNANSWERED - 1) is not None
    assert approvals.load(request_.number, NOW + UNANSWERED) is None
    assert approvals.all(NOW + UNANSWERED) == []


def test_a_denial_is_found_until_it_was_told(approvals: Approvals, request_: Request) -> None:
    answer(approvals, request_.number, granted=False)
    found = approvals.find("anna", "reveal", WHAT, NOW)
    assert found is not None and found.state == DENIED
    approvals.remove(found.number)
    assert approvals.find("anna", "reveal", WHAT, NOW) is None


def test_of_two_answers_at_once_one_counts(approvals: Approvals, request_: Request) -> None:
    found = approvals.load(request_.number, NOW)
    assert found is not None
    assert approvals.answer(*found, False, "cleo", NOW) is not None
    assert approvals.answer(*found, True, "ben", NOW) is None
    again = approvals.find("anna", "reveal", WHAT, NOW)
    assert again is not None and again.state == DENIED


def test_no_number_is_given_twice(approvals: Approvals, request_: Request) -> None:
    approvals.remove(request_.number)
    assert approvals.ask("anna", "reveal", Act.REVEAL, WHAT, NOW).number == 2


@pytest.mark.parametrize(
    ("asker", "mine", "allowed"),
    [
        (None, None, True),
        (None, {"acme"}, False),
        ({"acme"}, None, True),
        ({"acme"}, {"acme", "other"}, True),
        ({"acme", "other"}, {"acme"}, False),
    ],
)
def test_an_account_owner_agrees_to_what_is_his(
    approvals: Approvals, asker: set[str] | None, mine: set[str] | None, allowed: bool
) -> None:
    request = approvals.ask(
        "anna", "reveal", Act.REVEAL, WHAT, NOW, accounts=None if asker is None else frozenset(asker)
    )
    assert may_agree(request, True, None if mine is None else frozenset(mine)) is allowed
    assert not may_agree(request, False, None)


_FACTS = st.dictionaries(
    st.text(max_size=8), st.one_of(st.integers(-(1 << 60), 1 << 60), st.text(max_size=20)), max_size=4
)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=10), _FACTS, st.text(max_size=10), _FACTS)
def test_different_acts_have_different_digests(
    kind: str, what: dict[str, str | int], other: str, others: dict[str, str | int]
) -> None:
    desk = Desk.__new__(Desk)
    desk._key = b"k" * 32
    same = (kind, what) == (other, others)
    assert (desk.digest(kind, "anna", what) == desk.digest(other, "anna", others)) is same
    assert desk.digest(kind, "anna", what) != desk.digest(kind, "ben", what)
