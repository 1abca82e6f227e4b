"""Tracing (OpenTelemetry) as the daemon sees it: its process's reports, its death, settings that change, the end."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smppd.config import Store
from smppd.daemon import companion
from smppd.daemon import spans as module
from smppd.daemon.spans import Spans
from smppd.metrics import Metrics
from smppd.spans.job import Job
from tests.e2e.harness import wait_for

READS = "import json, os, sys, time; job = json.loads(sys.stdin.readline()); "
SAYS = """
def say(reason, sent, collector=0):
    print(json.dumps({"sent": sent, "failures": 1, "open": 3, "reason": reason,
                      "dropped": {"open": 1, "queue": 2, "collector": collector}}), flush=True)
"""
WORKS = READS + SAYS + "say('', 0); say('away', 5); say('away', 5); say('', 9, 4); sys.stdin.read()"
DIES = READS + 'print(\'{"reason": "no store", "ended": true}\', flush=True); sys.exit(1)'
HANGS = READS + "import signal; print('{}', flush=True); signal.pause()"
TELLS = (
    READS
    + "open(job['ca'], 'a').write(str('OTEL_X' in os.environ) + job['url']); print('{}', flush=True); sys.stdin.read()"
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def made(metrics: Metrics) -> Iterator[Callable[[str], Spans]]:
    every: list[Spans] = []

    def make(program: str) -> Spans:
        every.append(Spans(metrics, [sys.executable, "-c", program]))
        return every[-1]

    yield make
    for one in every:
        one.stop()


def job(path: Path, url: str = "http://127.0.0.1:1/") -> Job:
    return Job(Store(path=path), url, (), str(path / "told"), 0.5, (), 0)


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"smppd_{name}", labels)


def test_reports_are_counted_and_the_log_says_it_once(
    tmp_path: Path, made: Callable[[str], Spans], metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smppd.tracing")
    spans = made(WORKS)
    spans.use(job(tmp_path))
    wait_for("the reports", lambda: sample(metrics, "tracing_dropped_total", why="collector") == 4)
    assert sample(metrics, "tracing_spans_total") == 9 and sample(metrics, "tracing_open") == 3
    assert sample(metrics, "tracing_failures_total") == 1
    assert sample(metrics, "tracing_dropped_total", why="queue") == 2
    assert [one.message for one in caplog.records] == ["tracing begins", "traces do not go out", "traces go out again"]
    spans.stop()
    assert sample(metrics, "tracing_open") == 0


def test_a_process_that_ends_is_started_again(
    tmp_path: Path, made: Callable[[str], Spans], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companion, "PAUSE", (0.01, 0.05))
    made(DIES).use(job(tmp_path))
    wait_for("three deaths", lambda: (sample(metrics, "tracing_failures_total") or 0) >= 3)
    assert sample(metrics, "internal_errors_total", where="tracing") is None


def test_one_that_hangs_is_killed_at_the_end(
    tmp_path: Path, made: Callable[[str], Spans], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smppd.tracing")
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    spans = made(HANGS)
    spans.use(job(tmp_path))
    wait_for("its begin", lambda: "tracing begins" in caplog.text)
    spans.stop()
    assert spans._process is None and "started again" not in caplog.text


def test_a_reload_begins_anew_where_something_changed(
    tmp_path: Path, made: Callable[[str], Spans], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_X", "1")
    told = tmp_path / "told"
    spans = made(TELLS)
    spans.use(None)
    spans.use(job(tmp_path))
    wait_for("the first", lambda: told.exists() and told.read_text() == "Falsehttp://127.0.0.1:1/")
    spans.use(job(tmp_path))
    spans.use(job(tmp_path, "http://127.0.0.1:2/"))
    wait_for("the second", lambda: told.read_text() == "Falsehttp://127.0.0.1:1/Falsehttp://127.0.0.1:2/")
    spans.use(None)
    spans.stop()


def test_a_reload_ends_one_that_hangs(
    tmp_path: Path, made: Callable[[str], Spans], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    spans = made(HANGS)
    spans.use(job(tmp_path))
    spans._command = [sys.executable, "-c", WORKS]
    spans.use(job(tmp_path, "http://127.0.0.1:2/"))
    wait_for("the next one", lambda: sample(metrics, "tracing_spans_total") == 9)


def test_one_that_is_ended_before_it_has_its_job_just_ends(
    tmp_path: Path, made: Callable[[str], Spans], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = made("import sys; sys.stdin.readline()")
    begin = subprocess.Popen

    def popen(*args: Any, **kwargs: Any) -> Any:
        process = begin(*args, **kwargs)
        assert process.stdin is not None
        spans.end()
        process.stdin.close()
        return process

    monkeypatch.setattr(subprocess, "Popen", popen)
    spans.use(job(tmp_path))
    assert spans._process is not None
    spans._process.join(10)
    assert not spans._process.is_alive() and sample(metrics, "internal_errors_total", where="tracing") is None
