"""The thread beside the watcher: what the metrics and the log say, that an error stops nothing, that it ends."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from smppd.config import parse
from smppd.daemon import file_watch
from smppd.daemon.file_watch import FileWatch
from smppd.lists.compiler import compile_list
from smppd.lists.lists import Lists, spec_of
from smppd.lists.watcher import Watcher
from smppd.metrics import Metrics

KEY = b"k" * 32
CONFIG = """
listeners: [{address: "127.0.0.1:2775"}]
store: {path: ., reserve: 0B}
keys: {file: kek}
watch_files: 10ms
lists: {dnd: {file: dnd.txt, kind: numbers}}
"""


def test_metrics_and_log_say_how_lists_stand(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smppd.lists")
    settings = parse(CONFIG.encode(), tmp_path / "smppd.yaml")
    (tmp_path / "dnd.txt").write_bytes(b"447700900001\n447700900002\n")
    lists, metrics = Lists(tmp_path, KEY), Metrics()
    lists.use(settings, lists.of(settings))
    compile_list(spec_of(settings, "dnd"), lists.directory, KEY, 1_800_000_000)
    calls: queue.Queue[Callable[[], None]] = queue.Queue()
    watch = FileWatch(lists, settings, metrics, calls.put, lambda: None)
    watch.settle()
    calls.get(timeout=10)()  # on the reactor: it comes into force
    read = metrics.registry.get_sample_value
    assert b"447700900001" in lists.numbers("dnd")
    assert read("smppd_list_entries", {"list": "dnd"}) == 2
    assert read("smppd_list_compiled_timestamp_seconds", {"list": "dnd"}) == 1_800_000_000
    assert read("smppd_list_absent", {"list": "dnd"}) == read("smppd_list_stale", {"list": "dnd"}) == 0
    without = settings.model_copy(update={"lists": {}})
    lists.use(without, lists.of(without))
    watch.use(without)
    deadline = threading.Event()
    while read("smppd_list_entries", {"list": "dnd"}) is not None and not deadline.wait(0.01):
        pass
    watch.stop()
    assert [record.message for record in caplog.records] == ["a list is in force"]
    assert "447700900001" not in caplog.text


def test_an_error_is_counted_told_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked = threading.Semaphore(0)

    def fails(_self: Watcher, _now: float, _wall: float) -> None:
        looked.release()
        raise RuntimeError("447700900001")

    monkeypatch.setattr(Watcher, "look", fails)
    settings = parse(CONFIG.encode(), tmp_path / "smppd.yaml")
    metrics = Metrics()
    watch = FileWatch(Lists(tmp_path, KEY), settings, metrics, lambda _function: None, lambda: None)
    for _ in range(3):
        assert looked.acquire(timeout=10)
    watch.stop()
    assert (metrics.registry.get_sample_value("smppd_chores_failed_total", {"chore": "file watch"}) or 0) >= 2
    assert [record.message for record in caplog.records] == ["work in the background failed"]
    assert "447700900001" not in caplog.text


@pytest.mark.parametrize("what", ["compiled", "in force", "refused", "failed", "not believed", "missing", "changed"])
def test_everything_that_is_told_has_its_line(what: str) -> None:
    assert what in file_watch._LINES
