"""When refusals end the right to submit, and what is known of it. With customers and receipts: tests/daemon/test_traffic.py."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.config.traffic import SuspendAfter
from smppd.policy.screens import Question
from smppd.protocol.wire import Command, Fields, Sm, Status, address_field, build_sm
from smppd.traffic.suspension import SUSPENDED, Suspension, Suspensions, SuspensionScreen
from tests.relay.fakes import FROM, TO

SM = Sm(build_sm(Command.SUBMIT_SM, 0, FROM, address_field(1, 1, TO), b"hello", Fields(), b""))
QUESTION = Question("acme", None, SM, None, "transactional", 0.0, 0.0, 60.0)


class Desk:
    """An account's screen, and what it made."""

    def __init__(self, hits: int = 3, within: float = 60.0, rules: tuple[str, ...] = ("spam",)) -> None:
        self.made: list[Suspension] = []
        self.all = Suspensions(self.made.append)
        self.screen = self.reloads(hits, within, rules)
        self.record = 0

    def reloads(self, hits: int, within: float, rules: tuple[str, ...]) -> SuspensionScreen:
        settings = SuspendAfter(hits=hits, within=within, rules=rules)
        self.screen = self.all.screen("acme", settings)
        self.all.use([self.screen])
        return self.screen

    def refuses(self, *at: float, rule: str = "spam/prize") -> bool:
        """Messages are refused at these times; whether the account is suspended now."""
        for wall in at:
            self.record += 1
            self.screen.refused(rule, self.record, wall)
        return self.screen.closed is not None


@pytest.mark.parametrize(
    ("times", "suspended"),
    [
        ((0, 1), False),
        ((0, 1, 2), True),
        ((0, 30, 60), True),
        ((0, 30, 61), False),
        ((0, 30, 61, 62), True),
        ((0, 61, 122, 183, 244), False),
        ((100, 101, 40), False),  # the clock was put back by a minute: the later ones are no hits of now
        ((100, 40, 41, 42), True),
    ],
)
def test_so_many_within_a_time(times: tuple[float, ...], suspended: bool) -> None:
    assert Desk().refuses(*times) is suspended


@pytest.mark.parametrize(
    ("rules", "rule", "counts"),
    [
        (("spam",), "spam/prize", True),
        (("spam",), "spam/other", True),
        (("spam",), "spammer/prize", False),
        (("spam/prize",), "spam/prize", True),
        (("spam/prize",), "spam/other", False),
        (("traffic",), "traffic/velocity", True),
        (("traffic/runs", "spam"), "traffic/velocity", False),
        (("spam",), "", False),
        (("spam",), "suspended", False),
    ],
)
def test_only_what_is_named_counts(rules: tuple[str, ...], rule: str, counts: bool) -> None:
    assert Desk(rules=rules).refuses(1, 2, 3, rule=rule) is counts


def test_it_says_why_and_which_records() -> None:
    desk = Desk()
    desk.refuses(10, 11)
    desk.refuses(15, rule="spam/other")
    (made,) = desk.made
    assert made == Suspension(
        "acme",
        15,
        "smppd",
        "3 refusals within 5 s",
        3,
        60.0,
        (("spam/other", 1), ("spam/prize", 2)),
        (1, 2, 3),
    )
    assert Suspension.of_dict(made.as_dict()) == made
    assert desk.screen.explain(QUESTION) == "refused: suspended by smppd (3 refusals within 5 s)"
    assert SUSPENDED.status == Status.RSUBMITFAIL
    desk.refuses(16, 17, 18)
    assert len(desk.made) == 1


def test_the_latest_hundred_records_are_evidence() -> None:
    desk = Desk(hits=1000, within=1e6)
    assert desk.refuses(*range(1000))
    assert desk.made[0].hits == 1000 and desk.made[0].records == tuple(range(901, 1001))


def test_a_lifted_account_begins_without_hits() -> None:
    desk = Desk()
    desk.refuses(1, 2, 3)
    assert desk.all.lift("acme") == desk.made[0] and desk.screen.closed is None
    assert desk.refuses(4, 5) is False and desk.refuses(6) is True
    assert desk.all.lift("nobody") is None


def test_a_reload_keeps_hits_and_suspensions() -> None:
    desk = Desk()
    desk.refuses(1, 2)
    refused = desk.all.screen("acme", None)  # of a reload that is refused: never used
    desk.reloads(3, 60.0, ("spam",))
    assert desk.screen.explain(QUESTION) == "not suspended; 2 of 3 refusals"
    assert desk.refuses(3) is True and refused.closed is None
    assert desk.reloads(100, 60.0, ("spam",)).closed == SUSPENDED
    screen = desk.all.screen("acme", None)
    desk.all.use([screen])
    assert screen.closed == SUSPENDED, "without `suspend_after` too, until it is lifted"
    desk.all.lift("acme")
    assert screen.explain(QUESTION) == "not suspended"


def test_what_the_store_says_counts_but_for_what_is_not_written_yet() -> None:
    desk = Desk()
    desk.refuses(1, 2, 3)
    other = Suspension("beta", 5.0, "anna", "a complaint")
    desk.all.take([other], unwritten=["acme"])
    assert [one.account for one in desk.all.suspended()] == ["acme", "beta"]
    desk.all.take([other])
    assert [one.account for one in desk.all.suspended()] == ["beta"] and desk.screen.closed is None
    desk.all.take([])
    assert desk.all.suspended() == []


@pytest.mark.parametrize(
    "said", [None, [], {}, {"account": "a"}, Suspension("a", 1, "b", "c").as_dict() | {"records": ["x"]}]
)
def test_what_is_no_suspension_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match="no suspension"):
        Suspension.of_dict(said)
