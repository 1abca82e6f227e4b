"""What `smppd check --plan` says of a plan, and what it says where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smppd.cli import reload_plan as module
from smppd.cli.commands import CommandError
from smppd.cli.reload_plan import SHOWN, lines, plan_of, show
from smppd.control.wire import ControlError
from tests.relay.fakes import settings

EMPTY: dict[str, Any] = {
    "path": "/etc/smppd/smppd.yaml",
    "in_force": "a" * 64,
    "hash": "b" * 64,
    "rules": 0,
    **{name: [] for name in ("faults", "changes", "restart", "sessions", "links", "stranded", "unrouted", "lists")},
}


def session(**changes: str) -> dict[str, str]:
    return {
        "id": "c17",
        "account": "acme",
        "address": "192.0.2.7",
        "mode": "receiver",
        "tls": "TLSv1.3",
        "why": "so",
        **changes,
    }


def test_nothing_changes() -> None:
    same = {**EMPTY, "hash": EMPTY["in_force"]}
    assert list(lines(same)) == [
        "A reload would change nothing: configuration aaaaaaaaaaaa is in force.",
        "It would end no session.",
    ]
    (first, _) = lines(EMPTY)
    assert first == "No setting is different between configuration aaaaaaaaaaaa and configuration bbbbbbbbbbbb."


def test_all_that_there_can_be() -> None:
    link = {"upstream": "a", "links": 2, "again": 2, "waiting": 3, "why": "address changed"}
    waits = {"account": "acme", "upstreams": ["x", "y"], "waiting": 7, "tried": 5, "routed": 2}
    plan = {
        **EMPTY,
        "changes": ["drain 5s -> 6s"],
        "sessions": [session(), session(tls="", mode="transceiver")],
        "links": [link, {**link, "again": 0, "waiting": 0, "why": "removed"}, {**link, "links": 0, "waiting": 0}],
        "stranded": [waits, {**waits, "tried": 0}],
        "unrouted": ["acme"],
        "lists": ["ported"],
    }
    assert list(lines(plan)) == [
        "A reload would change, from configuration aaaaaaaaaaaa to configuration bbbbbbbbbbbb:",
        "  drain 5s -> 6s",
        "It would end 2 sessions, when what they sent is answered:",
        "  c17 of acme from 192.0.2.7, receiver, TLSv1.3: so",
        "  c17 of acme from 192.0.2.7, transceiver: so",
        "Links to carriers:",
        "  a: 2 end and 2 are bound anew (address changed); 3 answers are waited for first",
        "  a: 2 end (removed)",
        "  a: 2 are bound (address changed)",
        "Messages that wait for carriers which leave:",
        "  acme: 7 for x, y; of the oldest 5, 2 have another route, and 3 would wait without one",
        "  acme: 7 for x, y, all on disk: they take the route that they have then, or wait",
        "Accounts that have a route now and would have none, so that their messages are refused (ESME_RINVDSTADR):",
        "  acme",
        "Lists that would be compiled: ported",
    ]


def test_a_refusal_says_what_else_would_be_used_by_a_restart() -> None:
    plan = {**EMPTY, "faults": ["node changed"], "restart": ["node changed"], "changes": ["drain", "node changed"]}
    assert list(lines(plan)) == [
        "A reload would be refused, and nothing would change:",
        "  node changed",
        "What else is different, and would be used by a restart:",
        "  drain",
    ]


def test_long_lists_are_cut_and_no_character_moves_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show({**EMPTY, "sessions": [session(why="\x1b[2Jso")] * (SHOWN + 5)})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == SHOWN + 3 and said[-1] == "  and 5 more; --json has all"
    assert not any("\x1b" in line for line in said)


def asked(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
    """What the daemon answers, one after another."""
    left = list(answers)

    def answer(_directory: Path, _request: object) -> dict[str, Any]:
        given = left.pop(0)
        if isinstance(given, Exception):
            raise given
        assert isinstance(given, dict)
        return given

    monkeypatch.setattr(module, "ask", answer)
    monkeypatch.setattr(module, "_EVERY", 0.0)


def test_it_waits_until_the_plan_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked(monkeypatch, {"job": 1}, {"over": False}, {"over": True, "plan": dict(EMPTY)}, {"sessions": [session()]})
    plan = plan_of(settings(), Path("/etc/smppd/smppd.yaml"))
    assert plan["sessions"] == [session()]


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([ControlError("no smppd runs on the store var")], "no smppd runs"),
        ([{"job": 1}, {"over": True}], "does not speak like smppd"),
        ([{"job": 1}, {"over": True, "plan": 7}], "does not speak like smppd"),
        ([{"job": 1}, {"over": True, "plan": dict(EMPTY)}, {}], "does not speak like smppd"),
        ([{"job": 1}, {"over": True, "plan": {**EMPTY, "path": "/x"}}, {"sessions": []}], "the daemon reads /x"),
    ],
)
def test_where_there_is_none_it_ends_with_2(monkeypatch: pytest.MonkeyPatch, answers: list[Any], says: str) -> None:
    asked(monkeypatch, *answers)
    with pytest.raises(CommandError, match=says) as caught:
        plan_of(settings(), Path("/etc/smppd/smppd.yaml"))
    assert caught.value.status == 2


def test_a_daemon_that_never_has_one_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WITHIN", -1.0)
    asked(monkeypatch, {"job": 1}, {"over": False})
    with pytest.raises(CommandError, match="has no plan"):
        plan_of(settings(), Path("/etc/smppd/smppd.yaml"))
