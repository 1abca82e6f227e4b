"""Tracing (OpenTelemetry) as the daemon sees it: a process of its own (`spans.child`), which is started again when it ends.

The daemon writes nothing for it, hears how much it sent, and is ready whatever becomes of it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from smppd.daemon.companion import Companion
from smppd.metrics import Metrics
from smppd.spans.job import Job

log = logging.getLogger("smppd.tracing")
PATIENCE: Final = 3.0
"""Seconds that the daemon's end waits for the process's."""
_COMMAND: Final = (sys.executable, "-m", "smppd.spans.child")


class _Process(Companion):
    """Runs the process that sends traces, and counts what it tells."""

    label = "tracing"
    broken = "error in tracing"
    too_early = "the process that sends traces ended, it is started again"

    def __init__(self, job: Job, metrics: Metrics, command: Sequence[str], previous: _Process | None) -> None:
        """previous: that of the settings before, which ends first."""
        super().__init__(job.as_json(), metrics, metrics.tracing_failures, log, command, previous, PATIENCE)
        self._sample = job.sample
        self._begun = False
        # What is configured counts, and nothing of the environment.
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}

    def _begin(self) -> str:
        self._begun = False
        return ""

    def _take(self, said: dict[str, Any]) -> None:
        metrics = self._metrics
        reason, before = str(said.get("reason", "")), self._reason
        self._reason = reason
        if said.get("ended"):
            return
        if not self._begun:
            self._begun = True
            log.info("tracing begins", extra={"fields": {"sample": self._sample}})
        if reason and not before:
            log.warning("traces do not go out", extra={"fields": {"reason": reason}})
        elif before and not reason:
            log.info("traces go out again")
        metrics.tracing_open.set(int(said.get("open", 0)))
        self._count("sent", said.get("sent", 0), metrics.tracing_spans)
        self._count("failures", said.get("failures", 0), metrics.tracing_failures)
        for why, number in dict(said.get("dropped", {})).items():
            self._count(f"dropped {why}", number, metrics.tracing_dropped.labels(why))

    def _gone(self) -> None:
        self._metrics.tracing_open.set(0)


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
        process.wait(PATIENCE)
