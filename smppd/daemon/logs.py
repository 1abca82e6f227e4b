"""The daemon's log: one line an event, as JSON or for people, and nothing in it that does not belong there.

Rooms log with the standard library and give facts as fields:

    logger.info("bind accepted", extra={"fields": {"account": name, "peer": address}})

What is written is safe by construction: control characters are escaped (a peer cannot forge lines), values are cut,
exceptions are their type and where they happened, without their message (it may quote what failed to parse), without
source lines and locals. Messages of other people's libraries are written as the template they gave, without arguments.
Twisted's log and exceptions that nobody caught come here too and are treated the same. Whoever repeats himself is
written `BURST` times a second and then summed up.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

from twisted.logger import globalLogBeginner, globalLogPublisher

from smppd.config import Log

MAX_VALUE: Final = 300
"""Characters of one value; more are cut and an ellipsis says so."""
BURST: Final = 20
"""Lines a second of one (logger, event)."""
_MAX_FIELDS: Final = 40
_MAX_ITEMS: Final = 20
_MAX_FRAMES: Final = 30
_MAX_CHAIN: Final = 5
_MAX_KEYS: Final = 1024
_RESERVED: Final = frozenset({"time", "level", "logger", "event", "exception"})
_OURS: Final = "smppd"

SPEAKING: Final = frozenset(
    {
        "smppd.config.loader.ConfigError",
        "smppd.config.loader.ConfigFileError",
        "smppd.config.secrets.SecretError",
        "smppd.net.tls.TlsError",
        "smppd.store.api.StoreBusy",
        "smppd.store.api.StoreError",
        "smppd.store.api.StoreFull",
        "smppd.vault.kek.VaultError",
        # SQLite speaks of tables, columns and the disk; our statements hold no values.
        "sqlite3.DatabaseError",
        "sqlite3.IntegrityError",
        "sqlite3.OperationalError",
    }
)
"""Exceptions whose own words are written: exactly these classes, none that inherit from them."""


# -- what is safe to write ---------------------------------------------------------------------------------------------


def plain(value: object, depth: int = 2) -> Any:
    """A value as JSON can say it: text cut, octets never, exceptions by `describe`, everything else as its str()."""
    if value is None or isinstance(value, (bool, int)):
        # Beyond 64 bits readers of JSON disagree, and str() of a very long one is slow or refused.
        return value if value is None or abs(value) < 1 << 64 else "<number>"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _cut(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} octets>"
    if isinstance(value, BaseException):
        return describe(value)
    if depth and isinstance(value, Mapping):
        return {_cut(str(key)): plain(item, depth - 1) for key, item in list(value.items())[:_MAX_ITEMS]}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth - 1) for item in list(value)[:_MAX_ITEMS]]
    try:
        return _cut(str(value))
    except Exception:  # noqa: BLE001  a log line must not fail for what it is about
        return f"<{type(value).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def describe(error: BaseException) -> str:
    """An exception in a few words: its class, and its message where the class is known to hold no content."""
    name = _class(error)
    if isinstance(error, OSError) and error.strerror:
        # Not the file names: str(error) would repeat them.
        return _cut(f"{name}: {error.strerror}")
    return _cut(f"{name}: {error}") if name in SPEAKING else name


def _class(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def frames(trace: TracebackType | None) -> list[str]:
    """Where it happened, outermost first, as module:function:line; the innermost `_MAX_FRAMES`."""
    found: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        found.append(f"{trace.tb_frame.f_globals.get('__name__', '?')}:{code.co_qualname}:{trace.tb_lineno}")
        trace = trace.tb_next
    return found[-_MAX_FRAMES:]


def exception(error: BaseException, where: list[str] | None = None) -> list[dict[str, Any]]:
    """An exception and what led to it, latest first, each `{"type": ..., "frames": [...]}` and no more than `describe` says.

    `where` replaces the frames of `error` when its traceback is gone.
    """
    chain: list[dict[str, Any]] = []
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen and len(chain) < _MAX_CHAIN:
        seen.add(id(current))
        chain.append({"type": describe(current), "frames": frames(current.__traceback__)})
        if isinstance(current, BaseExceptionGroup):
            chain[-1]["group"] = [describe(inner) for inner in current.exceptions[:_MAX_ITEMS]]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    if where is not None and not chain[0]["frames"]:
        chain[0]["frames"] = where[-_MAX_FRAMES:]
    return chain


# -- lines -------------------------------------------------------------------------------------------------------------


def _ours(name: str) -> bool:
    return name == _OURS or name.startswith(_OURS + ".")


def _event(record: logging.LogRecord) -> str:
    template = record.msg if isinstance(record.msg, str) else _describe_other(record.msg)
    if not record.args or not _ours(record.name):
        return _cut(template)
    arguments: Any = record.args
    try:
        if isinstance(arguments, Mapping):
            return _cut(template % {key: _argument(item) for key, item in arguments.items()})
        return _cut(template % tuple(_argument(item) for item in arguments))
    except (TypeError, ValueError, KeyError):
        return _cut(template)


def _argument(value: object) -> object:
    """An argument of a template; numbers stay numbers for `%d`."""
    return value if isinstance(value, (int, float)) else plain(value, 0)


def _describe_other(value: object) -> str:
    # What was given as the event and is no text: its str() is nobody's promise.
    return describe(value) if isinstance(value, BaseException) else f"<{type(value).__name__}>"


def entry(record: logging.LogRecord) -> dict[str, Any]:
    """A record as the fields of its line, in their order."""
    at = datetime.fromtimestamp(record.created, UTC)
    line: dict[str, Any] = {
        "time": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
        "level": record.levelname.lower(),
        "logger": _cut(record.name),
        "event": _event(record),
    }
    fields = getattr(record, "fields", None)
    if isinstance(fields, Mapping):
        for key, value in list(fields.items())[:_MAX_FIELDS]:
            name = _cut(str(key))
            line[f"{name}_" if name in _RESERVED else name] = plain(value)
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        line["exception"] = exception(error, getattr(record, "where", None))
    return line


def as_json(line: Mapping[str, Any]) -> str:
    """One JSON object in ASCII: every control character, line separator and letter beyond is an escape."""
    return json.dumps(line, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def as_console(line: Mapping[str, Any]) -> str:
    """For people: time, level, event, then key=value; an exception's frames stand on indented lines of their own."""
    head = f"{line['time']} {line['level']:<7} {_visible(line['event'])}"
    facts = "".join(
        f" {_visible(key)}={_visible(value if isinstance(value, str) else as_json({'': value})[4:-1])}"
        for key, value in line.items()
        if key not in _RESERVED
    )
    text = f"{head}{facts} [{_visible(line['logger'])}]"
    for number, part in enumerate(line.get("exception", ())):
        text += f"\n    {'caused by ' if number else ''}{_visible(part['type'])}"
        text += "".join(f"\n      {_visible(frame)}" for frame in [*part["frames"], *part.get("group", ())])
    return text


def _visible(text: str) -> str:
    """Text without anything that moves a cursor, ends a line or turns its direction."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# -- how often ---------------------------------------------------------------------------------------------------------


class Limiter:
    """Counts lines per (logger, event) and second. Knows `_MAX_KEYS` of them; what comes beyond shares one count."""

    def __init__(self, burst: int = BURST) -> None:
        self._burst = burst
        # key -> [monotonic seconds at which its second began, lines, level]
        self._windows: dict[tuple[str, str], list[float]] = {}
        self._over: set[tuple[str, str]] = set()

    def admit(self, key: tuple[str, str], level: int, now: float) -> bool:
        """Whether a line may be written at `now`, in monotonic seconds."""
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= _MAX_KEYS:
                self._windows = {k: w for k, w in self._windows.items() if now - w[0] < 1.0 or k in self._over}
                if len(self._windows) >= _MAX_KEYS and key != ("", ""):
                    return self.admit(("", ""), level, now)
            window = self._windows[key] = [now, 0.0, level]
        elif now - window[0] >= 1.0 and key not in self._over:
            window[0], window[1] = now, 0.0
        window[1] += 1
        window[2] = max(window[2], level)
        if window[1] <= self._burst:
            return True
        self._over.add(key)
        return False

    def due(self, now: float, *, every: bool = False) -> Iterator[tuple[str, str, int, int]]:
        """(logger, event, level, lines held back) of each second that is over, or of every one; each is told once."""
        for key in [k for k in self._over if every or now - self._windows[k][0] >= 1.0]:
            self._over.discard(key)
            _, lines, level = self._windows.pop(key)
            yield *key, int(level), int(lines) - self._burst


# -- writing -----------------------------------------------------------------------------------------------------------


class Handler(logging.Handler):
    """Writes records to a file, or to standard error, one write a line. Never raises: a full disk loses log lines, and
    a later line says how many."""

    def __init__(self, settings: Log, monotonic: Callable[[], float] = time.monotonic) -> None:
        """OSError when the file cannot be opened."""
        super().__init__()
        self._path = settings.file
        self._form = as_json if settings.format == "json" else as_console
        self._monotonic = monotonic
        self._limiter = Limiter()
        self._lost = 0
        self._file = self._open()

    def _open(self) -> int:
        # A descriptor of our own also for standard error: sys.stderr may be replaced, buffered or closed.
        if self._path is None:
            return os.dup(2)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def reopen(self) -> None:
        """Goes on in a new file of the same name, after the old one was moved away. OSError leaves things as they are."""
        with self._locked():
            fresh = self._open()
            old, self._file = self._file, fresh
            os.close(old)

    def emit(self, record: logging.LogRecord) -> None:
        """Called under the handler's lock."""
        if record.levelno < logging.WARNING and not _ours(record.name):
            return
        try:
            now = self._monotonic()
            self._summaries(now)
            template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            if self._limiter.admit((record.name, template), record.levelno, now):
                self._write(entry(record))
        except Exception:  # noqa: BLE001  the standard way out prints the record with its arguments
            self._lost += 1

    def flush(self) -> None:
        """Writes the summaries of seconds that are over; the daemon calls it now and then, for a log gone quiet."""
        with self._locked():
            self._summaries(self._monotonic())

    def close(self) -> None:
        """Writes what is owed and closes the file."""
        with self._locked():
            if self._file >= 0:
                self._summaries(self._monotonic(), every=True)
                os.close(self._file)
                self._file = -1
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """The base class would print a traceback with the record's arguments."""
        self._lost += 1

    def _locked(self) -> threading.RLock:
        assert self.lock is not None
        return self.lock

    def _summaries(self, now: float, *, every: bool = False) -> None:
        for name, event, level, count in self._limiter.due(now, every=every):
            record = logging.LogRecord(name or _OURS, level, "", 0, f"suppressed {count}", (), None)
            record.fields = {"of": event or "various", "count": count}
            self._write(entry(record))

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._lost:
            line = {**line, "lines_lost": self._lost}
        data = (self._form(line) + "\n").encode("ascii", "backslashreplace")
        try:
            written = os.write(self._file, data)
        except OSError:
            self._lost += 1
            return
        # A short write means a full disk: the next line says so and begins anew.
        self._lost = 0 if written == len(data) else 1


# -- what else would speak ---------------------------------------------------------------------------------------------


def _twisted(event: Mapping[str, Any]) -> None:
    """A log observer: Twisted's failures and critical events; nothing else it says is of use to an operator."""
    failure = event.get("log_failure")
    level = getattr(event.get("log_level"), "name", "")
    if failure is None and level != "critical":
        return
    name = str(event.get("log_namespace") or "twisted")
    log = logging.getLogger(name if name.startswith("twisted") or _ours(name) else f"twisted.{name}")
    text = event.get("log_format")
    text = text if isinstance(text, str) and text else "failure"
    record = log.makeRecord(log.name, logging.CRITICAL, "", 0, text, (), None)
    error = getattr(failure, "value", None)
    if isinstance(error, BaseException):
        record.exc_info = (type(error), error, error.__traceback__)
        # Twisted takes the traceback away when a failure was passed on; its own list of frames stays.
        record.where = [
            f"{os.path.basename(str(frame[1])).removesuffix('.py')}:{frame[0]}:{frame[2]}"
            for frame in getattr(failure, "frames", ())
        ]
        # An unhandled Deferred is two events, a heading and the failure.
        _installed.counted("twisted")
    log.handle(record)


_OBSERVER: Final[Any] = _twisted
"""Without a type: what Twisted wants is an interface that only its own declarations give."""


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _installed.counted("uncaught")
    logging.getLogger(_OURS).critical("uncaught exception", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        _installed.counted("thread")
        where = {"thread": args.thread.name if args.thread else "?"}
        information = (type(args.exc_value), args.exc_value, args.exc_traceback)
        logging.getLogger(_OURS).critical(
            "uncaught exception in a thread", exc_info=information, extra={"fields": where}
        )


def _unraisable(args: Any) -> None:
    if args.exc_value is not None:
        _installed.counted("unraisable")
        information = (type(args.exc_value), args.exc_value, args.exc_traceback)
        logging.getLogger(_OURS).error("exception that could not be raised", exc_info=information)


class _Installed:
    """What `configure` put in place: logging is of the process, and so is this."""

    def __init__(self) -> None:
        self.handler: Handler | None = None
        self.count: Callable[[str], None] | None = None
        self.hooks: tuple[Any, Any, Any] | None = None
        self.level = logging.WARNING
        self.configured = "info"
        self.override: str | None = None
        self.begun = False  # Twisted's log can be begun once in a process

    def counted(self, where: str) -> None:
        if self.count is not None:
            self.count(where)


_installed: Final = _Installed()


def configure(settings: Log, *, count: Callable[[str], None] | None = None) -> None:
    """Sends all logs of the process to where `settings` say; may be called again with other settings.

    `count(where)` is told of each error that nobody caught: `twisted`, `uncaught`, `thread` or `unraisable`. OSError when
    the file cannot be opened; the log then stays as it was.
    """
    handler = Handler(settings)
    first = _installed.handler is None
    root = logging.getLogger()
    if first:
        _installed.level = root.level
        _installed.hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    else:
        _remove()
    _installed.handler, _installed.count = handler, count
    root.addHandler(handler)
    _installed.configured = settings.level
    root.setLevel((_installed.override or settings.level).upper())
    if first:
        sys.excepthook, threading.excepthook, sys.unraisablehook = _uncaught, _uncaught_in_thread, _unraisable
        if _installed.begun:
            globalLogPublisher.addObserver(_OBSERVER)
        else:
            # Until this call Twisted prints critical events, messages included, to standard error.
            _installed.begun = True
            globalLogBeginner.beginLoggingTo([_OBSERVER], redirectStandardIO=False)


def try_file(settings: Log) -> None:
    """Raises OSError where `configure` would for want of its file, as far as that can be known beforehand. Makes no file."""
    path = settings.file
    if path is None:
        return
    try:
        # Without O_NONBLOCK a pipe would wait here for its reader.
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK))
    except FileNotFoundError:
        if not os.access(path.parent, os.F_OK):
            raise
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from None


def override_level(level: str | None) -> None:
    """Another level than the configured one, which a reload leaves alone; None: as configured."""
    _installed.override = level
    if _installed.handler is not None:
        logging.getLogger().setLevel((level or _installed.configured).upper())


def reopen() -> None:
    """Opens the log's file anew (log rotation). When that fails lines still go to the old one, the first says so."""
    if _installed.handler is not None:
        try:
            _installed.handler.reopen()
        except OSError as error:
            logging.getLogger(__name__).error("the log file cannot be opened anew", extra={"fields": {"error": error}})


def flush() -> None:
    """Writes what is owed of `suppressed N` lines; for a timer of a few seconds."""
    if _installed.handler is not None:
        _installed.handler.flush()


def reset() -> None:
    """Undoes `configure`: the end of the daemon, and of a test."""
    if _installed.handler is None:
        return
    globalLogPublisher.removeObserver(_OBSERVER)
    assert _installed.hooks is not None
    sys.excepthook, threading.excepthook, sys.unraisablehook = _installed.hooks
    logging.getLogger().setLevel(_installed.level)
    _remove()
    _installed.handler = _installed.count = _installed.hooks = _installed.override = None


def _remove() -> None:
    assert _installed.handler is not None
    logging.getLogger().removeHandler(_installed.handler)
    _installed.handler.close()
