"""What the screen says of a message, to the relay and to people."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.config import Account
from smppd.config.hours import QuietHours
from smppd.message import Verdict
from smppd.policy.hours.hours import Hours
from smppd.policy.hours.screen import NOBODY_KNOWS, QUIET, TOO_LATE, HoursScreen
from smppd.policy.screens import Question
from tests.policy.helpers import frame
from tests.policy.hours.test_windows import at
from tests.relay.fakes import HASH

NIGHT = at("2026-06-01 23:00", "America/New_York")
NOON = at("2026-06-01 12:00", "America/New_York")


def screen(
    mode: str = "hold", region: str | None = None, unknown: str = "allow", countries: Any = None, **more: Any
) -> HoursScreen:
    fields: dict[str, Any] = {
        "system_id": "acme",
        "password_hash": HASH,
        "networks": "any",
        "quiet_hours": mode,
        **more,
    }
    said = QuietHours.model_validate({"unknown": unknown, **(countries or {})})
    return HoursScreen(Hours(said), Account.model_validate(fields), region)


def asked(
    to: bytes = b"12125550100",
    wall: float = NIGHT,
    kind: str = "promotional",
    hours: float = 72,
    verdict: Verdict | None = None,
) -> Question:
    return Question("acme", None, frame(b"x", to=to), verdict, kind, wall, 1.0, wall + 3600 * hours)


def test_held() -> None:
    question = asked()
    assert screen().look(question) is None
    assert question.until == at("2026-06-02 08:00", "America/New_York")
    assert question.gate == "promotional.US.America/New_York"
    assert [(hit.policy, hit.rule, hit.shadow) for hit in question.hits] == [("hours", "held", False)]


def test_by_day_it_goes_by_its_gate_and_nothing_is_counted() -> None:
    question = asked(wall=NOON)
    assert screen().look(question) is None
    assert (question.until, question.gate, question.hits) == (0, "promotional.US.America/New_York", [])


@pytest.mark.parametrize(
    ("mode", "question", "refusal"),
    [
        ("refuse", asked(), QUIET),
        ("refuse", asked(wall=NOON), None),
        ("hold", asked(hours=8.9), TOO_LATE),
        ("hold", asked(hours=9.1), None),
        ("hold", asked(verdict=Verdict(expire_after=3600.0)), TOO_LATE),
        ("shadow", asked(hours=1), None),
        ("off", asked(), None),
        ("refuse", asked(kind="one_time_code"), None),
    ],
)
def test_refusals(mode: str, question: Question, refusal: object) -> None:
    assert screen(mode).look(question) is refusal


def test_a_code_that_is_dead_in_the_morning_is_refused_at_once() -> None:
    there = {"countries": {"US": {"classes": "one_time_code", "hours": "08:00-21:00"}}}
    assert screen(countries=there).look(asked(kind="one_time_code")) is TOO_LATE
    patient = screen(countries=there, one_time_codes={"expire_after": "10h"})
    assert patient.look(asked(kind="one_time_code")) is None


def test_shadow_counts_and_off_does_not() -> None:
    for mode, hits in (("shadow", [("quiet", True)]), ("off", [])):
        question = asked()
        screen(mode).look(question)
        assert [(hit.rule, hit.shadow) for hit in question.hits] == hits
        assert question.until == 0 and question.gate == ""


@pytest.mark.parametrize(
    ("unknown", "region", "refusal", "gate"),
    [
        ("allow", "FR", None, ""),
        ("hold", "FR", None, "promotional.FR.Europe/Paris"),
        ("hold", "SE", None, ""),
        ("hold", None, NOBODY_KNOWS, ""),
        ("refuse", "FR", NOBODY_KNOWS, ""),
    ],
)
def test_a_number_that_nobody_knows(unknown: str, region: str | None, refusal: object, gate: str) -> None:
    question = asked(to=b"36184")
    assert screen(unknown=unknown, region=region).look(question) is refusal
    assert question.gate == gate
    assert screen("shadow", unknown=unknown, region=region).look(asked(to=b"36184")) is None
    other = asked(to=b"36184", kind="service")
    assert screen(unknown=unknown, region=region).look(other) is None


@pytest.mark.parametrize(
    ("mode", "question", "says"),
    [
        ("hold", asked(), "hours: held until 2026-06-02T12:00Z, by US 08:00-21:00 in America/New_York (law: TCPA"),
        ("hold", asked(wall=NOON), "hours: may leave now, by US 08:00-21:00"),
        ("hold", asked(hours=2), "hours: refused, since its validity ends before 2026-06-02T12:00Z"),
        ("refuse", asked(), "hours: refused until 2026-06-02T12:00Z"),
        ("shadow", asked(), "hours: would wait until 2026-06-02T12:00Z"),
        ("hold", asked(to=b"13055550100"), "by US-FL 08:00-20:00 in America/New_York"),
        ("hold", asked(to=b"33155501000"), "by FR 08:00-22:00, sunday none, holiday none in Europe/Paris"),
        ("hold", asked(to=b"18005550100"), "zones (law"),
        ("hold", asked(to=b"46701740605"), "hours: nothing restricts this number"),
        ("off", asked(), "hours: nothing restricts promotional messages of this account"),
        ("hold", asked(kind="one_time_code"), "hours: nothing restricts one time code messages"),
    ],
)
def test_what_it_tells_people(mode: str, question: Question, says: str) -> None:
    told = screen(mode).explain(question)
    assert says in told and not told.endswith(".") and "5550100" not in told
    assert question.hits == [] and question.until == 0 and question.gate == ""


def test_it_tells_why_an_unknown_number_is_refused() -> None:
    assert "refused" in screen(unknown="refuse").explain(asked(to=b"36184"))
