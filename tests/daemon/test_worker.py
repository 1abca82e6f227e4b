"""What takes long is done beside the reactor, in a thread that gives way."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from smppd import pacing
from smppd.config.tree import read_tree
from smppd.daemon.worker import GIVE_WAY, Worker


def heard(work: Callable[[], Any]) -> tuple[Any, Any]:
    """What the reactor thread is told in the end."""
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    got: list[tuple[Any, Any]] = []
    Worker(calls.put).run("work", work, lambda result, error: got.append((result, error)))
    calls.get(timeout=10)()
    return got[0]


def test_a_result_and_an_error_are_handed_back() -> None:
    assert heard(lambda: 7) == (7, None)
    result, error = heard(lambda: int("no"))
    assert result is None and isinstance(error, ValueError)


def test_where_no_thread_can_be_started_that_is_handed_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    result, error = heard(lambda: 7)
    assert result is None and isinstance(error, OSError) and "no further thread" in str(error)


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
    worker = Worker(calls.put)
    worker.run("held", lambda: hold.get(timeout=10), lambda _result, _error: None)
    worker.run("short", lambda: None, lambda _result, _error: None)
    calls.get(timeout=10)
    assert sys.getswitchinterval() == pytest.approx(GIVE_WAY), "one still runs"
    hold.put(None)
    calls.get(timeout=10)
    assert sys.getswitchinterval() == pytest.approx(usual)


def test_it_rests_between_the_steps_of_a_configuration_and_a_command_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    monkeypatch.setattr(pacing, "WORK", 0.0)
    monkeypatch.setattr(pacing, "time", SimpleNamespace(perf_counter=time.perf_counter, sleep=rests.append))
    content = b"accounts:\n- system_id: one\n- system_id: two\n"
    read_tree(content)
    assert rests == []
    assert heard(lambda: read_tree(content).root.plain())[0] == {
        "accounts": [{"system_id": "one"}, {"system_id": "two"}]
    }
    assert rests == [pacing.REST] * 6, "once a value: two mappings, their list, the whole, two texts"
