"""The feed as the daemon sees it: its process's reports, its death, settings that change, the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smppd.audit.trail import AuditTrail
from smppd.config import Settings, Store
from smppd.daemon import companion, feeding
from smppd.daemon.feeding import Feeding
from smppd.feed.file import PLACE_FILE, PlaceFile
from smppd.feed.lines import Cursor, mark_line
from smppd.metrics import Metrics
from smppd.records.places import Place
from tests.e2e.harness import wait_for
from tests.store.builder import Builder

REPORT = (
    '{"lines": 3, "sent": 2, "gaps": 1, "failures": 0, "reason": "", "behind": 7.0, "slowest": 0.5, "consumers": 1}'
)
WORKS = f"import sys; sys.stdin.readline(); print('''{REPORT}''', flush=True); sys.stdin.read()"
DIES = 'import sys; sys.stdin.readline(); print(\'{"reason": "no KEK", "ended": true}\', flush=True); sys.exit(1)'
HANGS = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.stdin.readline(); signal.pause()"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path / "store")
    builder.record(b"before")
    builder.commit()
    AuditTrail(tmp_path / "store" / "audit.db", builder.install.audit).close()
    yield builder
    builder.close()


@pytest.fixture
def made(store: Builder, metrics: Metrics) -> Iterator[Callable[[str], Feeding]]:
    every: list[Feeding] = []

    def make(program: str) -> Feeding:
        every.append(Feeding(Store(path=store.directory), 0, metrics, [sys.executable, "-c", program]))
        return every[-1]

    yield make
    for one in every:
        one.stop()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def settings(store: Builder, **feed: Any) -> Settings:
    return Settings.model_validate(
        {
            "listeners": [{"address": "127.0.0.1:2775"}],
            "store": {"path": store.directory},
            "keys": {"file": store.directory / "kek"},
            "feed": {"file": {"path": store.directory / "feed.jsonl"}, **feed},
        }
    )


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"smppd_{name}", labels)


def test_it_begins_with_what_comes_and_its_reports_are_counted(
    store: Builder, made: Callable[[str], Feeding], metrics: Metrics
) -> None:
    feed = made(WORKS)
    feed.start(settings(store, alarm_after=5.0))
    kept = PlaceFile(store.directory / PLACE_FILE).load()
    assert kept is not None and kept.cursor > Cursor(), "what was before is not told"
    wait_for("a report", lambda: sample(metrics, "feed_behind_seconds", target="file") == 7.0)
    wait_for("all of it", lambda: sample(metrics, "feed_gaps_total") == 1)
    assert sample(metrics, "feed_lines_total", target="file") == 3
    assert sample(metrics, "feed_behind_seconds", target="socket") is None, "there is none"
    assert feed.check() == "degraded: it is 7 s behind"
    before = kept
    feed.use(settings(store, alarm_after=9.0))
    assert feed.check() == "ok"
    feed.use(
        settings(store).model_copy(
            update={"feed": Settings.model_fields["feed"].get_default(call_default_factory=True)}
        )
    )
    assert sample(metrics, "feed_behind_seconds", target="file") is None
    assert PlaceFile(store.directory / PLACE_FILE).load() == before, "who takes it up again misses nothing"


def test_a_process_that_ends_is_started_again(
    store: Builder, made: Callable[[str], Feeding], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companion, "PAUSE", (0.01, 0.05))
    feed = made(DIES)
    feed.start(settings(store))
    wait_for("three deaths", lambda: (sample(metrics, "feed_failures_total") or 0) >= 3)
    assert sample(metrics, "internal_errors_total", where="feed") is None


def test_one_that_hangs_is_killed_at_the_end(
    store: Builder, made: Callable[[str], Feeding], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "PATIENCE", 0.3)
    monkeypatch.setattr(feeding, "SILENCE", 0.0)
    feed = made(HANGS)
    feed.start(settings(store, alarm_after=0.001))
    wait_for("the alarm", lambda: feed.check() != "ok")
    feed.stop()
    assert feed.check() == "ok"


def test_a_place_that_is_none_stops_the_feed_and_not_the_daemon(
    store: Builder, made: Callable[[str], Feeding], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companion, "PAUSE", (0.01, 0.05))
    monkeypatch.setattr(feeding, "SILENCE", 0.0)
    place = store.directory / PLACE_FILE
    place.write_text("{}")
    feed = made(WORKS)
    feed.start(settings(store, alarm_after=0.05))
    wait_for("the alarm", lambda: feed.check() != "ok")
    assert place.read_text() == "{}", "it is left as it is"
    place.unlink()
    wait_for("the feed", lambda: sample(metrics, "feed_lines_total", target="file") == 3)


def test_without_a_place_the_file_says_where_it_goes_on(store: Builder, made: Callable[[str], Feeding]) -> None:
    (store.directory / "feed.jsonl").write_bytes(mark_line(Cursor(Place(5, 1)), 1000).data)
    made(WORKS).start(settings(store))
    assert PlaceFile(store.directory / PLACE_FILE).load() is None, "what came since is not passed over"


def test_one_that_cannot_begin_is_behind(
    store: Builder, made: Callable[[str], Feeding], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companion, "PAUSE", (0.01, 0.05))
    monkeypatch.setattr(feeding, "SILENCE", 0.2)
    feed = made(DIES)
    feed.start(settings(store, alarm_after=0.3))
    wait_for("the alarm", lambda: feed.check() != "ok")
    assert (sample(metrics, "feed_behind_seconds", target="file") or 0) > 0.3, "the alert hears of it"


def test_the_last_report_of_a_feed_that_is_off_sets_nothing(
    store: Builder, made: Callable[[str], Feeding], metrics: Metrics
) -> None:
    feed = made(WORKS + f"; print('''{REPORT}''', flush=True)")
    feed.start(settings(store))
    wait_for("a report", lambda: sample(metrics, "feed_consumers") == 1)
    process = feed._process
    assert process is not None
    off = Settings.model_fields["feed"].get_default(call_default_factory=True)
    feed.use(settings(store).model_copy(update={"feed": off}))
    assert process.wait(10)
    assert sample(metrics, "feed_behind_seconds", target="file") is None
    assert sample(metrics, "feed_consumers") == 0


def test_a_reload_ends_one_that_hangs(
    store: Builder, made: Callable[[str], Feeding], metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "PATIENCE", 0.3)
    feed = made(HANGS)
    feed.start(settings(store))
    feed._command = [sys.executable, "-c", WORKS]
    feed.use(settings(store, alarm_after=9.0))
    wait_for("the next one", lambda: sample(metrics, "feed_lines_total", target="file") == 3)
