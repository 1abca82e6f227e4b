"""A process of its own beside the daemon (see `child`), which is started again when it ends, and a thread that hears it."""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from prometheus_client import Counter

from smppd.metrics import Metrics

PAUSE: Final = (1.0, 60.0)
"""The first and the longest pause before a process that ended is started again."""
_ROOT: Final = Path(__file__).resolve().parents[2]


class Companion(threading.Thread):
    """Runs one job until it is ended, a process after another. What the process tells is for the classes that inherit."""

    label = ""
    """Of `smppd_internal_errors_total`, and the thread's name."""
    broken = ""
    """What the log says of an error of ours in the thread,"""
    too_early = ""
    """and of a process that ended before it should."""
    environment: Mapping[str, str] | None = None
    """Of the process; None for the daemon's."""

    def __init__(
        self,
        job: str,
        metrics: Metrics,
        failures: Counter,
        log: logging.Logger,
        command: Sequence[str],
        previous: Companion | None,
        patience: float,
    ) -> None:
        """job: one line, without its end. failures: counts the processes that ended too early. previous: that of the settings
        before, which ends first; patience: seconds that it has for this."""
        super().__init__(name=self.label, daemon=True)
        self._job = job.encode()
        self._metrics = metrics
        self._failures = failures
        self._log = log
        self._command = command
        self._previous = previous
        self._patience = patience
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._counted: dict[str, int] = {}
        self._reason = ""

    # -- for who owns it ---------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """The process finishes what there is by now, and ends. Does not wait."""
        with self._lock:
            self._ended.set()
            if self._process is not None and self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()

    def wait(self, patience: float) -> bool:
        """After `end`: waits until it is over, and ends it at once after so many seconds. Whether it ended by itself."""
        self.join(patience)
        if not self.is_alive():
            return True
        with self._lock:
            if self._process is not None:
                self._process.kill()
        self.join(1.0)
        return False

    # -- for the classes that inherit --------------------------------------------------------------------------------------

    def _begin(self) -> str:
        """Called before each process: why it cannot be started now, empty where it can."""
        return ""

    @abstractmethod
    def _take(self, said: dict[str, Any]) -> None:
        """A report of the process, which keeps its `reason`."""

    def _gone(self) -> None:
        """Called after each process."""

    def _count(self, name: str, now: Any, counter: Counter) -> None:
        """Counts what is new of a number that each process counts from 0."""
        counter.inc(max(0, int(now) - self._counted.get(name, 0)))
        self._counted[name] = int(now)

    # -- the thread --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """See the class."""
        if self._previous is not None:
            self._previous.wait(self._patience)
            self._previous = None
        pause = PAUSE[0]
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                status = self._once()
            except Exception:  # noqa: BLE001  the thread's edge
                self._metrics.errors.labels(self.label).inc()
                self._log.exception(self.broken)
                status = -1
            self._gone()
            if self._ended.is_set():
                break
            pause = PAUSE[0] if time.monotonic() - began > PAUSE[1] else pause
            fields = {"status": status, "reason": self._reason, "again_in": pause}
            self._log.error(self.too_early, extra={"fields": fields})
            self._failures.inc()
            self._ended.wait(pause)
            pause = min(2 * pause, PAUSE[1])

    def _once(self) -> int:
        reason = self._begin()
        if reason:
            self._reason = reason
            return 1
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
            env=self.environment,
        )
        assert process.stdin is not None and process.stdout is not None
        with self._lock:
            self._process = process
            self._counted = {}
        try:
            with suppress(BrokenPipeError, ValueError):  # the latter where `end` closed it just now
                process.stdin.write(self._job + b"\n")
                process.stdin.flush()
            if self._ended.is_set():
                self.end()
            for line in process.stdout:
                said = json.loads(line)
                if said.get("bug"):
                    self._metrics.errors.labels(self.label).inc()
                self._take(said)
            return process.wait()
        finally:
            with self._lock:
                self._process = None
            if process.poll() is None:
                process.kill()
                process.wait()
            with suppress(OSError):
                process.stdin.close()
            process.stdout.close()
