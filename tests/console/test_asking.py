"""A daemon that hangs holds one thread of those that make pages, and not all of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from smppd.audit.trail import Actor
from smppd.console.asking import KEPT, Daemon
from smppd.console.page import Refusal
from smppd.control.wire import ControlError
from smppd.operators.roles import Authority, Role

ADA = Authority(Actor("console", "here"), "ada", frozenset({Role.OPERATOR}))
SUE = Authority(Actor("console", "here"), "sue", frozenset({Role.SUPPORT}))
_PATIENCE = 20.0


class Hanging:
    """A daemon that answers when it is let go. `count`: how often it was asked."""

    def __init__(self) -> None:
        self.count = 0
        self.now = 1000.0
        self.asked = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error: ControlError | None = ControlError("no answer in time", "")

    def __call__(self, request: Mapping[str, object]) -> dict[str, Any]:
        self.count += 1
        self.asked.release()
        assert self.go.acquire(timeout=_PATIENCE)
        if self.error is not None:
            raise self.error
        return {"v": 1, str(request["do"]).removeprefix("show "): []}


class Looker(threading.Thread):
    """Somebody who asks for a view. `answer`: what he is shown, or the sentence of the refusal."""

    def __init__(self, daemon: Daemon, who: Authority, what: str) -> None:
        super().__init__(daemon=True)
        self._asking, self._what = daemon.on_behalf(who), what
        self.answer: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._asking.show(self._what)
        except Refusal as refusal:
            assert refusal.status == 503
            self.answer = refusal.sentence

    def over(self) -> Any:
        self.join(_PATIENCE)
        assert not self.is_alive()
        return self.answer


def test_who_waits_for_a_daemon_that_hangs_does_not_wait_again() -> None:
    hanging = Hanging()
    daemon = Daemon(hanging, lambda: hanging.now)
    lookers = [Looker(daemon, ADA, "sessions") for _ in range(5)]
    assert hanging.asked.acquire(timeout=_PATIENCE)
    hanging.go.release()
    assert [one.over() for one in lookers] == ["No answer in time."] * 5
    assert hanging.count == 1, "one of them asked, and the others were told what he was"
    for who, what in ((ADA, "accounts"), (SUE, "sessions")):
        assert Looker(daemon, who, what).over() == "No answer in time."
    assert hanging.count == 1


def test_one_at_a_time_tries_whether_it_is_back() -> None:
    hanging = Hanging()
    daemon = Daemon(hanging, lambda: hanging.now)
    hanging.go.release()
    assert Looker(daemon, ADA, "sessions").over() == "No answer in time."
    assert hanging.asked.acquire(timeout=_PATIENCE)
    hanging.now += KEPT
    tries = Looker(daemon, ADA, "sessions")
    assert hanging.asked.acquire(timeout=_PATIENCE)
    hanging.now += 10
    assert Looker(daemon, SUE, "queues").over() == "No answer in time.", "he is told at once"
    hanging.error = None
    hanging.go.release()
    assert tries.over() == []
    hanging.go.release()
    assert Looker(daemon, SUE, "queues").over() == []


@pytest.mark.parametrize("code", ["role", "unknown", "state", "failed"])
def test_a_daemon_that_refuses_is_there(code: str) -> None:
    def ask(request: Mapping[str, object]) -> dict[str, Any]:
        if request["do"] == "show messages":
            raise ControlError("not so", code)
        return {"sessions": []}

    daemon = Daemon(ask, lambda: 0.0)
    with pytest.raises(Refusal, match="Not so"):
        daemon.on_behalf(ADA).show("messages")
    assert daemon.on_behalf(ADA).show("sessions") == []


def test_an_answer_that_is_not_given_again_is_not_kept() -> None:
    now = [0.0]
    daemon = Daemon(lambda _request: {"flow": {}}, lambda: now[0])
    for second in range(20):
        now[0] += 1
        daemon.on_behalf(ADA).show("flow", since=second)
    assert len(daemon._kept) <= KEPT + 1
