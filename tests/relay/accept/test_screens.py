"""What is asked about a message after the rules: a refusal is recorded and answered with the commit, as one of the rules is."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.config.traffic import Traffic
from smppd.message import Hit, Refusal, State
from smppd.policy.screens import Question
from smppd.protocol.wire import Status
from smppd.traffic.account import AccountTraffic
from smppd.traffic.screen import TrafficScreen
from smppd.traffic.sketches import Cells
from tests.relay.accept.test_desk import SPAM, part
from tests.relay.fakes import World, settings
from tests.vault.rows import NOON

NO = Refusal(Status.RINVDSTADR, "not today", "asked")


class Asked:
    """Refuses what has `no` in its body, counts what it is asked."""

    name = "asked"

    def __init__(self) -> None:
        self.questions: list[Question] = []

    def look(self, question: Question) -> Refusal | None:
        self.questions.append(question)
        question.hits.append(Hit("asked", "seen", shadow=True))
        return NO if b"no" in question.sm.body else None

    def explain(self, question: Question) -> str:
        return "asked"


def test_a_screen_refuses_with_the_commit_and_leaves_a_record() -> None:
    asked = Asked()
    world = World(screens={"acme": (asked,)})
    acme, a = world.customer(), world.carrier()
    acme.submits(b"yes", b"no", b"yes")
    assert acme.answered() == []
    world.commits()
    assert acme.statuses() == [0, Status.RINVDSTADR, 0]
    assert a.texts() == [b"yes", b"yes"]
    assert len(asked.questions) == 3
    assert [event.state for event in world.store.events].count(State.REFUSED) == 1
    assert world.total("messages_refused", account="acme", reason="asked") == 1
    assert world.total("rule_hits", policy="asked", rule="seen", mode="shadow") == 3
    world.check()


def test_the_question_knows_the_number_and_the_kind() -> None:
    asked = Asked()
    policies = {"p": [{"name": "code", "when": {"text": "code"}, "do": {"class": "one_time_code"}}]}
    world = World(
        settings(policies=policies, acme={"policies": ["p"], "class": "promotional"}), screens={"acme": (asked,)}
    )
    world.customer().submits(b"code 1", b"news")
    assert [one.message_class for one in asked.questions] == ["one_time_code", "promotional"]
    one = asked.questions[0]
    assert one.country == "GB" and one.destination.startswith(b"44") and one.account == "acme"
    assert one.wall == world.wall and one.expires > one.wall
    assert "44" not in repr(one)


def test_what_the_rules_refuse_is_asked_nobody_else() -> None:
    asked = Asked()
    world = World(settings(policies=SPAM, acme={"policies": ["spam"]}), screens={"acme": (asked,)})
    acme = world.customer()
    acme.submits(b"a prize")
    world.commits()
    assert acme.statuses() == [Status.RSUBMITFAIL] and asked.questions == []


def test_a_part_that_a_screen_refuses_is_forgotten_by_the_rules() -> None:
    """Sent again, it takes its place: the rules must not think that they have it."""
    asked = Asked()
    world = World(settings(policies=SPAM, acme={"policies": ["spam"]}), screens={"acme": (asked,)})
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"no pri", 1), part(b"ze today", 2))
    world.commits()
    assert acme.statuses() == [Status.RINVDSTADR, 0]
    acme.sends(part(b"a pri", 1))
    world.commits()
    assert acme.statuses() == [Status.RSUBMITFAIL], "joined with the second part it says prize"
    assert len(a.texts()) == 1


def test_a_held_message_waits_for_the_part_that_a_screen_refused() -> None:
    asked = Asked()
    policies = {"p": {"hold_parts": True, "rules": [{"name": "spam", "when": {"keywords": ["prize"]}, "do": "refuse"}]}}
    world = World(settings(policies=policies, acme={"policies": ["p"]}), screens={"acme": (asked,)})
    acme, a = world.customer(), world.carrier()
    acme.sends(part(b"hel", 1))
    world.commits()
    acme.sends(part(b"no", 2))
    world.commits()
    assert acme.statuses() == [0, Status.RINVDSTADR] and a.texts() == []
    acme.sends(part(b"lo", 2))
    world.commits()
    assert acme.statuses() == [0] and [sm.body[6:] for sm in a.sent] == [b"hel", b"lo"]
    world.check()


@pytest.mark.parametrize(
    ("sections", "behind", "taken"),
    [
        ({}, (), 2),
        ({}, (Asked(),), 1),
        ({"acme": {"acknowledge": "upstream"}}, (), 0),
        ({"routes": [{"destination": ["+1"], "upstreams": ["a"]}]}, (), 0),
    ],
    ids=["both are taken", "another screen refuses one", "no upstream is there", "no route leads"],
)
def test_what_is_refused_after_it_was_counted_is_counted_no_more(
    sections: dict[str, Any], behind: tuple[Asked, ...], taken: int
) -> None:
    traffic = AccountTraffic("acme", Cells(b"k" * 16))
    counts = TrafficScreen(traffic, Traffic.model_validate({"caps": {"GB": "100/d"}}), None, lambda: NOON)
    world = World(settings(**sections), screens={"acme": (counts, *behind)})
    acme = world.customer()
    acme.submits(b"yes", b"no")
    world.commits()
    assert [status == 0 for status in acme.statuses()].count(True) == taken
    assert traffic.caps.used("GB") == taken
