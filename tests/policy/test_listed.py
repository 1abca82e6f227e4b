"""Conditions that ask big lists: what is asked when, and what happens while a list is absent."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.message import Verdict
from smppd.policy.explain import explain
from smppd.policy.listed import MOST_LABELS, domain_form, domain_forms, sender_form
from smppd.policy.pipeline import Standing
from tests.policy.helpers import FakeList, frame, parts, pipeline, run, text

ABSENT = {"dnd": FakeList("dnd", absent=True), "phishing": FakeList("phishing", absent=True)}
OPEN = {name: FakeList(name, absent=True, refuses=False) for name in ABSENT}
NOT_READY = "refused list-absent"
LINK, PLAIN = text("see http://evil.example/x"), text("hello")


@pytest.mark.parametrize(
    ("rule", "refusing", "passing"),
    [
        ({"when": {"destination_in": "dnd"}}, [NOT_READY, NOT_READY], ["-", "-"]),
        # A list is asked only where all else holds.
        ({"when": {"destination_in": "dnd", "sender": "Other"}}, ["-", "-"], ["-", "-"]),
        ({"when": {"domain_in": "phishing"}}, [NOT_READY, "-"], ["-", "-"]),
        ({"when": {"domain_in": "phishing", "destination": "33"}}, ["-", "-"], ["-", "-"]),
        # An exception that nobody can decide holds: the rule does not apply.
        ({"unless": {"destination_in": "dnd"}}, [NOT_READY, NOT_READY], ["-", "-"]),
        ({"when": {"links": True}, "unless": {"domain_in": "phishing"}}, [NOT_READY, "-"], ["-", "-"]),
        # What only counts refuses nothing.
        ({"mode": "shadow", "when": {"destination_in": "dnd"}}, ["-", "-"], ["-", "-"]),
        ({"mode": "shadow", "unless": {"domain_in": "phishing"}}, ["-", "r0*"], ["-", "r0*"]),
    ],
)
def test_while_a_list_is_absent(rule: dict[str, Any], refusing: list[str], passing: list[str]) -> None:
    assert run(pipeline(rule, lists=ABSENT), LINK, PLAIN) == refusing
    assert run(pipeline(rule, lists=OPEN), LINK, PLAIN) == passing
    assert run(pipeline(rule, lists={}), LINK, PLAIN) == passing, "who has no lists at all refuses nothing"


def test_another_list_that_decides_makes_up_for_an_absent_one() -> None:
    lists = {**ABSENT, "other": FakeList("other", b"447700900123")}
    rule = {"when": {"destination_in": ["dnd", "other"]}}
    assert run(pipeline(rule, lists=lists), frame(), frame(to=b"447700900999")) == ["refused r0", NOT_READY]


def test_the_refusal_is_an_error_of_ours_that_names_the_list() -> None:
    verdict = pipeline({"when": {"destination_in": "dnd"}}, lists=ABSENT).decide(PLAIN, 0.0)
    assert isinstance(verdict, Verdict) and verdict.refusal is not None
    assert (verdict.refusal.status, verdict.refusal.reason) == (8, "list dnd is not ready")


def test_a_list_that_comes_and_changes_is_asked_as_it_is_then() -> None:
    dnd, brands = FakeList("dnd", absent=True), FakeList("brands")
    rules = [{"when": {"destination_in": "dnd"}}, {"when": {"sender_in": "brands"}}]
    pipe = pipeline(*rules, lists={"dnd": dnd, "brands": brands})
    assert run(pipe, PLAIN) == [NOT_READY]
    dnd.absent = False
    assert run(pipe, PLAIN) == ["-"]
    dnd.entries.add(b"447700900123")
    assert run(pipe, PLAIN) == ["refused r0"]
    dnd.entries.clear()
    brands.entries.add(b"acme")
    assert run(pipe, PLAIN) == ["refused r1"], "what was remembered of the sender does not hide it"


def test_a_part_refused_for_an_absent_list_may_come_again() -> None:
    phishing = FakeList("phishing", b"evil.example", absent=True)
    pipe = pipeline({"when": {"domain_in": "phishing"}}, lists={"phishing": phishing})
    bad = parts("see http://evil.example/" + "x" * 160)
    good = parts("see http://good.example/" + "x" * 160)
    assert run(pipe, bad[0]) == [NOT_READY]
    phishing.absent = False
    assert run(pipe, *good) == ["-", "-"], "neither the refusal nor the text of what was not taken is remembered"
    assert run(pipe, *bad) == ["refused r0", "refused r0"]


def test_national_numbers_are_asked_in_their_normal_form() -> None:
    rules = [{"when": {"destination_in": "dnd"}}]
    pipe = pipeline(*rules, region="GB")
    assert run(pipe, frame(to=b"07700900123", to_ton=2), frame(to=b"07700900124", to_ton=2)) == ["refused r0", "-"]
    assert run(pipeline(*rules), frame(to=b"07700900123", to_ton=2)) == ["-"]


def test_explain_names_the_condition() -> None:
    pipe = pipeline({"when": {"destination_in": "dnd", "domain_in": "phishing"}})
    for sm, standing, why in (
        (LINK, Standing.MATCHED, "destination_in, domain_in"),
        (PLAIN, Standing.NOT_MATCHED, "not domain_in"),
        (text("evil.example", to=b"447700900999"), Standing.NOT_MATCHED, "not destination_in"),
    ):
        (step,) = explain(pipe, sm, 0.0).steps
        assert (step.standing, step.why) == (standing, why)
    told = explain(pipeline({"when": {"destination_in": "dnd"}}, lists=ABSENT), PLAIN, 0.0)
    assert told.steps == [] and told.verdict is not None and told.verdict.refusal is not None
    early = explain(pipeline({"do": "refuse"}, {"when": {"domain_in": "phishing"}}, lists=ABSENT), LINK, 0.0)
    assert early.verdict is not None and early.verdict.refusal is not None and early.verdict.refusal.rule == "p/r0"


def test_forms_of_a_host() -> None:
    assert domain_forms("a.b.evil.example") == [b"a.b.evil.example", b"b.evil.example", b"evil.example"]
    assert domain_forms("example") == []
    deep = domain_forms("x." * 100 + "evil.example")
    assert len(deep) == MOST_LABELS - 1 and deep[-1] == b"evil.example", "a long host costs no more"
    assert domain_form("x." * (MOST_LABELS - 2) + "evil.example") is not None
    assert domain_form("x." * (MOST_LABELS - 1) + "evil.example") is None


@pytest.mark.parametrize(
    ("came", "form"),
    [
        (b"ACME", b"acme"),
        (b" Acme  Bank ", b"acme bank"),
        (b"+447700900001", b"447700900001"),
        (b"60777", b"60777"),
        ("CRÉDIT".encode("latin-1"), "crédit".encode()),
        ("CRÉDIT".encode(), "crédit".encode()),
        (b"", b""),
        (b"24/7", b"247"),
    ],
)
def test_forms_of_senders(came: bytes, form: bytes) -> None:
    assert sender_form(came) == form
