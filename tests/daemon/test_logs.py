"""The log: what a line looks like, and what never gets into one."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from smppd.config import Log
from smppd.daemon import logs

PUBLISHER: Any = globalLogPublisher
SECRET = "hunter2 +447700900123 meet me at eight"


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_from_before(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What Twisted kept of earlier tests' errors, for whoever begins a log first, is written here and not into a test's log."""
    logs.configure(Log(file=tmp_path_factory.mktemp("before") / "log"))
    logs.reset()


class Written:
    """A configured log in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counted: list[str] = []
        self.at = 100.0

    def start(self, form: Literal["json", "console"] = "json", level: Literal["debug", "info"] = "info") -> None:
        logs.configure(Log(file=self.path, format=form, level=level), count=self.counted.append)
        handler = logging.getLogger().handlers[-1]
        assert isinstance(handler, logs.Handler)
        handler._monotonic = lambda: self.at

    @property
    def text(self) -> str:
        return self.path.read_text("ascii")

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    made = Written(tmp_path / "log")
    made.start()
    yield made
    logs.reset()


def fail(secret: str = SECRET) -> None:
    value = secret  # a local, and an argument
    raise ValueError(f"cannot parse {value}")


def test_a_line(written: Written) -> None:
    logging.getLogger("smppd.net").info(
        "bind accepted", extra={"fields": {"account": "acme", "window": 10, "tls": True}}
    )
    (line,) = written.lines
    assert list(line) == ["time", "level", "logger", "event", "account", "window", "tls"]
    assert line.pop("time")[10] == "T" and len(written.lines[0]["time"]) == 24
    assert line == {
        "level": "info",
        "logger": "smppd.net",
        "event": "bind accepted",
        "account": "acme",
        "window": 10,
        "tls": True,
    }


def test_the_time_is_utc_with_milliseconds() -> None:
    record = logging.LogRecord("smppd", logging.INFO, "", 0, "x", (), None)
    record.created = 1767225599.9996
    assert logs.entry(record)["time"] == "2025-12-31T23:59:59.999Z"


def test_below_the_level_nothing_is_written(written: Written) -> None:
    logging.getLogger("smppd").debug("quiet")
    written.start(level="debug")
    logging.getLogger("smppd").debug("louder")
    assert [line["event"] for line in written.lines] == ["louder"]


@pytest.mark.parametrize(
    ("template", "arguments", "event"),
    [
        ("%d of %s", (3, "acme"), "3 of acme"),
        ("%(a)s", ({"a": b"secret octets"},), "<13 octets>"),
        ("%d binds", ("many",), "%d binds"),
        ("%s", (1, 2), "%s"),
        ("100%", (), "100%"),
        (ValueError(SECRET), (), "ValueError"),
        ([SECRET], (), "<list>"),
    ],
)
def test_arguments_are_put_in_and_bad_templates_do_no_harm(template: Any, arguments: Any, event: str) -> None:
    record = logging.LogRecord("smppd", logging.INFO, "", 0, template, arguments, None)
    assert logs.entry(record)["event"] == event


def test_reserved_names_of_fields_are_moved(written: Written) -> None:
    logging.getLogger("smppd").info("x", extra={"fields": {"event": "forged", "level": "none"}})
    (line,) = written.lines
    assert (line["event"], line["event_"], line["level"], line["level_"]) == ("x", "forged", "info", "none")


def test_long_values_and_many_fields_are_cut(written: Written) -> None:
    many = {f"f{number}": number for number in range(100)}
    logging.getLogger("smppd").info("y" * 5000, extra={"fields": {"long": "x" * 5000, "list": list(range(99)), **many}})
    (line,) = written.lines
    assert len(line["event"]) == len(line["long"]) == 300 and line["long"].endswith("…")
    assert len(line["list"]) == 20 and len(line) == 4 + 40


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (1.5, 1.5),
        (1 << 64, "<number>"),
        (SECRET.encode(), f"<{len(SECRET)} octets>"),
        (ValueError(SECRET), "ValueError"),
        (FileNotFoundError(2, "No such file or directory", SECRET), "FileNotFoundError: No such file or directory"),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": "{'c': 1}"}}),
        (Path("var"), "var"),
    ],
)
def test_values(value: object, shown: object) -> None:
    assert logs.plain(value) == shown


def test_a_value_that_cannot_be_shown() -> None:
    class Shy:
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    assert logs.plain(Shy()) == "<Shy>"


@settings(deadline=None, max_examples=150)
@given(st.text(), st.dictionaries(st.text(), st.one_of(st.text(), st.floats(), st.integers(), st.binary()), max_size=4))
def test_nobody_can_forge_a_line(event: str, fields: dict[str, Any]) -> None:
    record = logging.LogRecord("smppd", logging.INFO, "", 0, event, (), None)
    record.fields = fields
    line = logs.entry(record)
    text = logs.as_json(line)
    assert text.isascii() and text.isprintable() and isinstance(json.loads(text), dict)
    assert logs.as_console(line).isprintable()


def test_for_people(written: Written) -> None:
    written.start("console")
    logging.getLogger("smppd.net").warning("link\x1b[2J down", extra={"fields": {"upstream": "carrier-a", "n": 2}})
    try:
        fail()
    except ValueError:
        logging.getLogger("smppd").exception("failed")
    first, *rest = written.text.splitlines()
    assert first[25:] == r"warning link\x1b[2J down upstream=carrier-a n=2 [smppd.net]"
    assert rest[1] == "    ValueError" and rest[-1].startswith("      tests.daemon.test_logs:fail:")
    assert "hunter2" not in written.text


# -- exceptions --------------------------------------------------------------------------------------------------------


def test_an_exception_is_its_type_and_where_it_happened(written: Written) -> None:
    try:
        try:
            fail()
        except ValueError as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError as error:
        logging.getLogger("smppd").exception("it failed: %s", error)
    (line,) = written.lines
    assert line["event"] == "it failed: RuntimeError"
    latest, cause = line["exception"]
    assert latest["type"] == "RuntimeError" and cause["type"] == "ValueError"
    module, function, number = cause["frames"][-1].split(":")
    assert (module, function) == ("tests.daemon.test_logs", "fail") and int(number) > 1
    assert "hunter2" not in written.text and "447700" not in written.text


def test_groups_loops_and_deep_chains_end() -> None:
    first, second = ValueError(SECRET), KeyError(SECRET)
    first.__context__, second.__context__ = second, first
    assert [part["type"] for part in logs.exception(first)] == ["ValueError", "KeyError"]
    group = ExceptionGroup(SECRET, [first, second])
    assert logs.exception(group)[0]["group"] == ["ValueError", "KeyError"]
    assert "hunter2" not in json.dumps(logs.exception(group))


@pytest.mark.parametrize("name", sorted(logs.SPEAKING))
def test_exceptions_that_may_speak_exist_under_their_names(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    kind = getattr(import_module(module), attribute)
    assert issubclass(kind, Exception) and logs._class(Exception.__new__(kind)) == name


def test_who_may_speak_does_and_who_inherits_does_not() -> None:
    from smppd.store.api import StoreError

    class Close(StoreError):
        pass

    assert logs.describe(StoreError("the store is locked")) == "smppd.store.api.StoreError: the store is locked"
    assert SECRET not in logs.describe(Close(SECRET))


# -- others who speak --------------------------------------------------------------------------------------------------


def test_libraries_are_heard_from_warning_on_and_without_their_arguments(written: Written) -> None:
    other = logging.getLogger("somelib")
    other.info("chatter")
    other.warning("bad frame %s", SECRET)
    assert [line["event"] for line in written.lines] == ["bad frame %s"]


def test_twisted_is_heard_when_something_failed(written: Written) -> None:
    log = Logger("twisted.somewhere", observer=PUBLISHER)
    log.info("Starting factory {secret}", secret=SECRET)
    log.warn("odd {secret}", secret=SECRET)
    log.critical("broken {secret}", secret=SECRET)
    assert [(line["level"], line["event"]) for line in written.lines] == [("critical", "broken {secret}")]


def test_failures_in_twisted_are_scrubbed(written: Written) -> None:
    try:
        fail()
    except ValueError:
        failure: Any = Failure()  # type: ignore[no-untyped-call]
    failure.cleanFailure()
    Logger("twisted.loop", observer=PUBLISHER).failure("Unhandled {x}", failure, LogLevel.error, x=SECRET)
    (line,) = written.lines
    assert line["event"] == "Unhandled {x}" and line["exception"][0]["type"] == "ValueError"
    assert line["exception"][0]["frames"][-1].split(":")[1] == "fail"
    assert "hunter2" not in written.text


def test_an_unhandled_deferred_is_heard(written: Written) -> None:
    deferred: Deferred[None] = Deferred()
    deferred.addCallback(lambda _: fail())
    deferred.callback(None)
    del deferred
    gc.collect()
    assert written.lines[-1]["exception"][0]["type"] == "ValueError" and "hunter2" not in written.text
    assert written.counted == ["twisted"] and all(line["event"] for line in written.lines)


def test_what_nobody_caught_is_scrubbed_and_counted(written: Written, capfd: pytest.CaptureFixture[str]) -> None:
    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()
    try:
        fail()
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)

    class Bad:
        def __del__(self) -> None:
            fail()

    bad = Bad()
    del bad
    assert written.counted == ["thread", "uncaught", "unraisable"]
    assert written.lines[0]["thread"] == "worker"
    assert "hunter2" not in written.text
    assert capfd.readouterr().err == ""


def test_everything_is_put_back(tmp_path: Path) -> None:
    before = (sys.excepthook, threading.excepthook, sys.unraisablehook, logging.getLogger().level)
    handlers = list(logging.getLogger().handlers)
    made = Written(tmp_path / "log")
    made.start()
    made.start("console")
    assert len(logging.getLogger().handlers) == len(handlers) + 1
    logs.reset()
    logs.reset()
    assert logging.getLogger().handlers == handlers
    assert before == (sys.excepthook, threading.excepthook, sys.unraisablehook, logging.getLogger().level)
    logs.reopen()
    logs.flush()


# -- floods ------------------------------------------------------------------------------------------------------------


def test_a_flood_is_summed_up(written: Written) -> None:
    log = logging.getLogger("smppd.net")
    for number in range(1020):
        log.warning("closed %d", number)
    log.info("something else")
    assert len(written.lines) == 21
    written.at += 1.0
    log.info("next")
    *_, summary, following = written.lines
    assert (summary["event"], summary["of"], summary["count"]) == ("suppressed 1000", "closed %d", 1000)
    assert summary["level"] == "warning" and summary["logger"] == "smppd.net" and following["event"] == "next"
    log.warning("closed %d", 1)
    assert written.lines[-1]["event"] == "closed 1"


def test_a_log_gone_quiet_is_summed_up_by_flush_or_at_the_end(written: Written) -> None:
    for _ in range(25):
        logging.getLogger("smppd").info("x")
    logs.flush()
    assert len(written.lines) == 20
    written.at += 5
    logs.flush()
    logs.flush()
    assert [line["event"] for line in written.lines[20:]] == ["suppressed 5"]
    for _ in range(25):
        logging.getLogger("smppd").info("y")
    logs.reset()
    assert written.lines[-1]["event"] == "suppressed 5"


def test_the_limiter_knows_a_bounded_number_of_events() -> None:
    limiter = logs.Limiter(burst=2)
    assert all(limiter.admit(("a", str(number)), 20, 0.0) for number in range(1024))
    assert [limiter.admit(("a", f"new {number}"), 30, 0.5) for number in range(4)] == [True, True, False, False]
    assert list(limiter.due(2.0)) == [("", "", 30, 2)]
    assert limiter.admit(("a", "later"), 20, 2.0) and len(limiter._windows) < 5


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_moved_file_is_opened_anew(written: Written, tmp_path: Path) -> None:
    log = logging.getLogger("smppd")
    log.info("one")
    written.path.rename(tmp_path / "log.1")
    log.info("two")
    logs.reopen()
    log.info("three")
    assert [line["event"] for line in written.lines] == ["three"]
    assert len((tmp_path / "log.1").read_text().splitlines()) == 2
    assert written.path.stat().st_mode & 0o007 == 0


def test_a_file_that_cannot_be_opened_anew_stays(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    made = Written(directory / "log")
    made.start()
    directory.rename(tmp_path / "moved")
    try:
        logs.reopen()
    finally:
        logs.reset()
    (line,) = (json.loads(text) for text in (tmp_path / "moved/log").read_text().splitlines())
    assert line["error"] == "FileNotFoundError: No such file or directory"


def test_a_file_that_cannot_be_opened_changes_nothing(written: Written, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        logs.configure(Log(file=tmp_path / "none" / "log"))
    logging.getLogger("smppd").info("still here")
    assert len(written.lines) == 1


def test_a_full_disk_loses_lines_and_says_so(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logging.getLogger("smppd")
    real = os.write

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    def nearly(file: int, data: bytes) -> int:
        return real(file, data[:10])

    steps: list[tuple[Callable[[int, bytes], int], str]] = [
        (full, "a"),
        (full, "b"),
        (real, "c"),
        (nearly, "d"),
        (real, "e"),
    ]
    for write, event in steps:
        monkeypatch.setattr(os, "write", write)
        log.info(event)
    texts = written.text.splitlines()
    assert json.loads(texts[0])["lines_lost"] == 2
    assert json.loads(texts[1][10:])["lines_lost"] == 1


def test_standard_error_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure(Log())
    try:
        logging.getLogger("smppd").info("hello")
    finally:
        logs.reset()
    assert json.loads(capfd.readouterr().err)["event"] == "hello"
