"""What takes long is done beside the reactor, in a thread that gives way."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable
from typing import Any

import pytest

from smppd.admin.aside import GIVE_WAY, Aside


def heard(work: Callable[[], Any]) -> tuple[Any, Any]:
    """What the reactor thread is told in the end."""
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    got: list[tuple[Any, Any]] = []
    Aside(calls.put).run("work", work, lambda result, error: got.append((result, error)))
    calls.get(timeout=10)()
    return got[0]


def test_a_result_and_an_error_are_handed_back() -> None:
    assert heard(lambda: 7) == (7, None)
    result, error = heard(lambda: int("no"))
    assert result is None and isinstance(error, ValueError)


def test_it_gives_way_often_and_only_while_it_runs() -> None:
    usual = sys.getswitchinterval()
    assert heard(sys.getswitchinterval)[0] == pytest.approx(GIVE_WAY)
    assert sys.getswitchinterval() == pytest.approx(usual)
    heard(lambda: int("no"))
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_two_at_once_leave_the_usual_interval_behind() -> None:
    usual = sys.getswitchinterval()
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    hold: queue.SimpleQueue[None] = queue.SimpleQueue()
    aside = Aside(calls.put)
    aside.run("held", lambda: hold.get(timeout=10), lambda _result, _error: None)
    aside.run("short", lambda: None, lambda _result, _error: None)
    calls.get(timeout=10)
    assert sys.getswitchinterval() == pytest.approx(GIVE_WAY), "one still runs"
    hold.put(None)
    calls.get(timeout=10)
    assert sys.getswitchinterval() == pytest.approx(usual)
