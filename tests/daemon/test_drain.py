"""The end of the daemon, step by step, by a clock that stands still."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from smppd.daemon.drain import Drain


class Parts:
    """Everything that a drain speaks to, noting what it hears. ``customers``, ``waiting``, ``connected`` and ``busy`` are what
    it is told when it asks."""

    def __init__(self, customers: int = 1, waiting: int = 2, *, connected: bool = True) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self.customers, self.waiting, self.connected, self.busy = customers, waiting, connected, False
        part: Any = self
        carriers: Any = Carriers(self)
        self.drain = Drain(self.clock, part, part, part, part, carriers, 20.0, lambda: self.said.append("done"))
        self.drain.begin()

    @property
    def links(self) -> set[int]:
        return set(range(self.customers))

    def stop(self) -> None:
        self.said.append("the door is closed")

    def stop_accepting(self) -> None:
        self.said.append("accepts nothing")

    def stop_sending(self) -> None:
        self.said.append("sends nothing")

    def unbind_all(self, *, at_once: bool = False) -> None:
        self.said.append("customers unbound at once" if at_once else "customers unbound")

    def hears(self) -> list[str]:
        heard, self.said = self.said, []
        return heard

    def passes(self, seconds: float) -> list[str]:
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)
        return self.hears()


class Carriers:
    """The carriers' side of it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def waiting(self) -> int:
        return self._parts.waiting

    def connected(self) -> bool:
        return self._parts.connected

    def stop(self, *, at_once: bool) -> None:
        assert at_once
        self._parts.said.append("carriers unbound at once")


def test_customers_first_then_what_was_sent_then_the_carriers() -> None:
    parts = Parts()
    assert parts.hears() == ["the door is closed", "accepts nothing", "customers unbound"]
    assert parts.passes(5) == []
    parts.customers = 0
    assert parts.passes(0.1) == ["sends nothing", "customers unbound at once"]
    assert parts.passes(5) == [], "two submits have no answer"
    parts.waiting, parts.busy = 0, True
    assert parts.passes(1) == [], "and what they said is not stored"
    parts.busy = False
    assert parts.passes(0.1) == ["carriers unbound at once"]
    parts.connected = False
    assert parts.passes(0.1) == ["done"]
    assert parts.passes(60) == [] and not parts.clock.getDelayedCalls()


def test_who_does_not_go_costs_its_time_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    parts = Parts()
    parts.hears()
    assert parts.passes(14.9) == []
    assert parts.passes(0.2) == ["sends nothing", "customers unbound at once"], "customers have three quarters of it"
    assert parts.passes(4.8) == []
    assert parts.passes(0.2) == ["carriers unbound at once"]
    assert "drain time is over" in caplog.text
    assert parts.passes(0.8) == []
    assert parts.passes(0.3) == ["done"]


def test_with_nobody_there_it_is_over_at_once() -> None:
    parts = Parts(0, 0, connected=False)
    assert parts.hears()[-2:] == ["carriers unbound at once", "done"] and not parts.clock.getDelayedCalls()


def test_one_that_is_stopped_says_nothing_more() -> None:
    parts = Parts()
    parts.hears()
    parts.drain.stop()
    assert parts.passes(60) == [] and not parts.clock.getDelayedCalls()
