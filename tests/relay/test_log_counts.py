"""What the log says of messages and receipts: numbers, once a second at most, never which."""

from __future__ import annotations

import pytest

from smppd.relay import log_counts
from smppd.relay.log_counts import LogCounts
from tests.relay.fakes import World, settings
from tests.relay.send.test_dispatch import numbered
from tests.relay.send.test_rerouting import ONLY_A, reloads, without_a

Said = tuple[str, dict[str, str | int]]


def said(caplog: pytest.LogCaptureFixture) -> list[Said]:
    """Events and fields since last asked."""
    lines = [(record.message, record.__dict__["fields"]) for record in caplog.records]
    caplog.clear()
    return lines


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "smppd.relay")


def test_one_line_for_each_kind_and_whom_it_is_about(caplog: pytest.LogCaptureFixture) -> None:
    counts = LogCounts()
    counts.write()
    for name in ("a", "b", "a"):
        counts.count(log_counts.RESENT, name)
    counts.count(log_counts.MAIL_LIMIT, "acme", 5)
    counts.write()
    assert said(caplog) == [
        ("no answer, messages sent again", {"upstream": "a", "messages": 2}),
        ("no answer, messages sent again", {"upstream": "b", "messages": 1}),
        ("mail expired", {"account": "acme", "mails": 5, "reason": "limit"}),
    ]
    counts.write()
    assert said(caplog) == []


@pytest.mark.parametrize("word", ["resend", "hold"])
def test_unknown_ones_are_told_and_what_becomes_of_them(word: str, caplog: pytest.LogCaptureFixture) -> None:
    world = World(settings(acme={"on_unknown": word}))
    acme, a = world.customer(), world.carrier()
    acme.submits(*numbered(30))
    world.commits()
    a.cut()
    world.passes(2)
    assert said(caplog) == [("no answer, messages are unknown", {"upstream": "a", "messages": 30})]
    world.passes(62)
    became = "sent again" if word == "resend" else "held as unknown"
    assert said(caplog) == [(f"no answer, messages {became}", {"upstream": "a", "messages": 30})]


def test_what_a_restart_finds_unknown_is_told(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    acme, _ = world.customer(), world.carrier()
    acme.submits(*numbered(3))
    world.commits()
    world.restarts()
    world.passes(2)
    assert said(caplog) == [("no answer, messages are unknown", {"upstream": "a", "messages": 3})]


@pytest.mark.parametrize("hot", [100_000, 1])
def test_expired_messages(hot: int, caplog: pytest.LogCaptureFixture) -> None:
    world = World(settings(hot=hot))
    acme = world.customer()
    acme.submits(*numbered(3), validity=b"000000000000500R")
    world.commits()
    world.passes(10)
    lines = said(caplog)
    assert {event for event, _ in lines} == {"messages expired"}
    assert sum(int(fields["messages"]) for _, fields in lines) == 3


def test_what_expires_after_an_attempt_is_told_as_well(caplog: pytest.LogCaptureFixture) -> None:
    world = World(settings(routes=ONLY_A))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", validity=b"000000000200000R")
    world.commits()
    a.cut()
    world.passes(130)
    assert [event for event, _ in said(caplog)] == [
        "no answer, messages are unknown",
        "no answer, messages sent again",
        "messages expired",
    ]
    assert [stat for _, stat in acme.receipts()] == ["UNKNOWN"]


def test_parked_receipts_and_those_given_up(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    a = world.carrier()
    a.reports(b"x", b"y")
    world.commits()
    world.passes(2)
    assert said(caplog) == [("early receipts parked", {"upstream": "a", "receipts": 2})]
    world.passes(73 * 3600, step=3600)
    assert said(caplog) == [("parked receipts given up", {"upstream": "a", "receipts": 2, "reason": "age"})]


@pytest.mark.parametrize(("more", "reason"), [({"keep": "1h"}, "age"), ({"limit": 1}, "limit")])
def test_mail_that_nobody_took(more: dict[str, str | int], reason: str, caplog: pytest.LogCaptureFixture) -> None:
    world = World(settings(acme={"receipts": more}))
    acme, a = world.customer(), world.carrier()
    acme.submits(*numbered(3))
    world.commits()
    a.answers(b"0", b"1", b"2")
    world.commits()
    acme.leaves()
    a.reports(b"0", b"1", b"2")
    world.commits()
    world.passes(3700, step=10)
    lost = 3 if reason == "age" else 2
    lines = [fields for event, fields in said(caplog) if event == "mail expired" and fields["reason"] == reason]
    assert sum(int(fields["mails"]) for fields in lines) == lost


def test_messages_that_nobody_reported_on(caplog: pytest.LogCaptureFixture) -> None:
    world = World(settings(acme={"expire_after": "1h"}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    a.answers(b"0")
    world.commits()
    world.passes(74 * 3600, step=300)
    assert ("no receipt, messages ended as unknown", {"upstream": "a", "messages": 1}) in said(caplog)


def test_messages_that_take_another_upstream(caplog: pytest.LogCaptureFixture) -> None:
    world = World(settings(routes=ONLY_A))
    acme = world.customer()
    acme.submits(*numbered(4))
    world.commits()
    reloads(world, without_a(world))
    world.passes(3)
    assert said(caplog) == [("messages take another upstream", {"account": "acme", "messages": 4})]


def test_no_line_has_a_number_or_a_text(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"secret")
    world.commits()
    a.reports(b"early", to=b"447700900555")
    a.cut()
    world.passes(70)
    lines = str(said(caplog))
    assert lines.count("{") == 3 and "secret" not in lines and "447700" not in lines and "early'" not in lines


def test_the_pause_of_an_upstream_is_a_gauge() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    world.carrier("b")
    acme.submits(b"0", b"1")
    world.commits()

    def paused(name: str) -> float | None:
        world.relay.set_gauges()
        return world.metrics.registry.get_sample_value("smppd_upstream_paused", {"upstream": name})

    assert paused("a") == 0
    a.answers(status=0x58)
    assert paused("a") == 1 and paused("b") == 0
