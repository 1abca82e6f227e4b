"""Tracing (OpenTelemetry) as the daemon sees it: a process of its own (`spans.child`), which is started again when it ends.

The daemon writes nothing for it, hears how much it sent, and is ready whatever becomes of it.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from smppd.metrics import Metrics
from smppd.spans.job import Job

log = logging.getLogger("smppd.tracing")
PAUSE: Final = (1.0, 60.0)
"""The first and the longest pause before a process that ended is started again."""
PATIENCE: Final = 3.0
"""Seconds that the daemon's end waits for the process's."""
_COMMAND: Final = (sys.executable, "-m", "smppd.spans.child")
_ROOT: Final = Path(__file__).resolve().parents[2]


class _Process(threading.Thread):
    """Runs one job until it is ended, a process after another."""

    def __init__(self, job: Job, metrics: Metrics, command: Sequence[str], previous: threading.Thread | None) -> None:
        """previous: the thread of the settings before, which ends first."""
        super().__init__(name="spans", daemon=True)
        self._job = job
        self._metrics = metrics
        self._command = command
        self._previous = previous
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._counted: dict[str, int] = {}
        self._reason = ""

    def end(self) -> None:
        """The process sends what it has, and ends. Does not wait."""
        self._ended.set()
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()

    def kill(self) -> None:
        """Ends it at once."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def run(self) -> None:
        """See the class."""
        if self._previous is not None:
            self._previous.join()
        pause = PAUSE[0]
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                status = self._once()
            except Exception:  # the thread's edge
                self._metrics.errors.labels("tracing").inc()
                log.exception("error in tracing")
                status = -1
            self._metrics.tracing_open.set(0)
            if self._ended.is_set():
                break
            pause = PAUSE[0] if time.monotonic() - began > PAUSE[1] else pause
            fields = {"status": status, "reason": self._reason, "again_in": pause}
            log.error("the process that sends traces ended, it is started again", extra={"fields": fields})
            self._metrics.tracing_failures.inc()
            self._ended.wait(pause)
            pause = min(2 * pause, PAUSE[1])

    def _once(self) -> int:
        # What is configured counts, and nothing of the environment.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
            env=environment,
        )
        assert process.stdin is not None and process.stdout is not None
        with self._lock:
            self._process = process
            self._counted = {}
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(self._job.as_json().encode() + b"\n")
                process.stdin.flush()
            if self._ended.is_set():
                self.end()
            for number, line in enumerate(process.stdout):
                said = json.loads(line)
                if not number and not said.get("ended"):
                    log.info("tracing begins", extra={"fields": {"sample": self._job.sample}})
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

    def _take(self, said: dict[str, Any]) -> None:
        """A report of the process."""
        metrics = self._metrics
        if said.get("bug"):
            metrics.errors.labels("tracing").inc()
        reason, before = str(said.get("reason", "")), self._reason
        self._reason = reason
        if said.get("ended"):
            return
        if reason and not before:
            log.warning("traces do not go out", extra={"fields": {"reason": reason}})
        elif before and not reason:
            log.info("traces go out again")
        metrics.tracing_open.set(int(said.get("open", 0)))
        self._count("sent", said.get("sent", 0), metrics.tracing_spans)
        self._count("failures", said.get("failures", 0), metrics.tracing_failures)
        for why, number in dict(said.get("dropped", {})).items():
            self._count(f"dropped {why}", number, metrics.tracing_dropped.labels(why))

    def _count(self, name: str, now: Any, counter: Any) -> None:
        counter.inc(max(0, int(now) - self._counted.get(name, 0)))
        self._counted[name] = int(now)


class Spans:
    """Tracing of one run of the daemon."""

    def __init__(self, metrics: Metrics, command: Sequence[str] = _COMMAND) -> None:
        """Nothing runs before `use`."""
        self._metrics = metrics
        self._command = command
        self._job: Job | None = None
        self._process: _Process | None = None

    def use(self, job: Job | None) -> None:
        """Takes what is to be done, at the start and in a reload; None for nothing. Does not wait, and raises nothing: a thread
        of its own begins, and tries again."""
        if job == self._job:
            return
        previous, self._process = self._process, None
        if previous is not None:
            previous.end()
        self._job = job
        if job is not None:
            self._process = _Process(job, self._metrics, self._command, previous)
            self._process.start()

    def end(self) -> None:
        """What there is is sent. Does not wait; `stop` does."""
        if self._process is not None:
            self._process.end()

    def stop(self) -> None:
        """Ends tracing, within PATIENCE. What is not sent by then is not sent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.end()
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join(1.0)
