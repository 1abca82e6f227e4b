"""The event feed as the daemon sees it: a process of its own (`feed.child`), which is started again when it ends.

The daemon writes nothing for it, and waits for it only when it ends itself: the feed reads the committed log.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any, Final

from smppd.audit.trail import AuditTrail
from smppd.config import Feed, FeedFile, Settings, Store
from smppd.daemon.companion import Companion
from smppd.feed.child import Job
from smppd.feed.file import PLACE_FILE, FeedError, Kept, PlaceFile, says
from smppd.feed.lines import Wanted
from smppd.feed.tail import Tail
from smppd.metrics import Metrics
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE
from smppd.store.opening import installed
from smppd.vault.keys import VaultError

log = logging.getLogger("smppd.feed")
PATIENCE: Final = 4.0
"""Seconds that the daemon's end waits for the feed's."""
SILENCE: Final = 30.0
"""Seconds without a report after which the feed counts as behind: the process hangs."""
_COMMAND: Final = (sys.executable, "-m", "smppd.feed.child")


class _Process(Companion):
    """Runs the feed's process, and counts what it tells."""

    label = "feed"
    broken = "error in the feed"
    too_early = "the feed's process ended, it is started again"

    def __init__(
        self,
        job: Job,
        begin: Callable[[], None],
        metrics: Metrics,
        command: Sequence[str],
        previous: _Process | None,
    ) -> None:
        """begin(): called before each process. previous: that of the settings before, which ends first."""
        super().__init__(job.as_json(), metrics, metrics.feed_failures, log, command, previous, PATIENCE)
        self._before = begin
        self._behind = self._slowest = 0.0
        self._heard = time.monotonic()
        """When a process last said how far it is: one that cannot begin never does."""

    def behind(self) -> float:
        """Seconds that the file lacks of what is committed. Any thread."""
        return self._behind + self._silence()

    def slowest(self) -> float:
        """Seconds that the slowest consumer lacks. Any thread."""
        return self._slowest + self._silence()

    def _silence(self) -> float:
        silent = time.monotonic() - self._heard
        return silent if silent > SILENCE else 0.0

    def _begin(self) -> str:
        try:
            self._before()
        except (FeedError, StoreError, VaultError) as error:
            return str(error)
        return ""

    def _take(self, said: dict[str, Any]) -> None:
        reason = str(said.get("reason", ""))
        if reason and not self._reason:
            log.warning("the feed waits, nothing of it is lost", extra={"fields": {"reason": reason}})
        elif self._reason and not reason:
            log.info("the feed goes on")
        self._reason = reason
        if said.get("ended"):
            return
        metrics = self._metrics
        self._heard = time.monotonic()
        self._behind = float(said.get("behind", 0.0))
        self._slowest = float(said.get("slowest", 0.0))
        with self._lock:
            if not self._ended.is_set():  # else the gauge is the next one's
                metrics.feed_consumers.set(int(said.get("consumers", 0)))
        self._count("lines", said.get("lines", 0), metrics.feed_lines.labels("file"))
        self._count("sent", said.get("sent", 0), metrics.feed_lines.labels("socket"))
        self._count("gaps", said.get("gaps", 0), metrics.feed_gaps)
        self._count("failures", said.get("failures", 0), metrics.feed_failures)


class Feeding:
    """The feed of one run of the daemon."""

    def __init__(self, store: Store, node: int, metrics: Metrics, command: Sequence[str] = _COMMAND) -> None:
        """node: this node's number. Nothing runs before `use`."""
        self._store = store
        self._node = node
        self._metrics = metrics
        self._command = command
        self._feed = Feed()
        self._process: _Process | None = None

    def start(self, settings: Settings) -> None:
        """Takes the settings of the start: what is committed from here on is told. Raises StoreError and VaultError."""
        if settings.feed.file is not None:
            try:
                self._begin_place(settings.feed.file)
            except FeedError as error:  # messages do not wait for it; the feed's own thread tries again
                log.warning("the feed waits, nothing of it is lost", extra={"fields": {"reason": str(error)}})
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Takes the settings of a reload. Does not wait, and raises nothing: the feed's own thread begins, and tries again."""
        feed = settings.feed
        masked = feed.numbers == "masked"
        if feed == self._feed and not (masked and self._process is not None):
            return  # with masked numbers the process has the KEK, which a reload may have changed
        previous, self._process = self._process, None
        if previous is not None:
            previous.end()
        self._feed = feed
        self._forget()
        if feed.on:
            job = Job(self._store, self._node, feed, settings.keys if masked else None)
            begin = (lambda: None) if feed.file is None else partial(self._begin_place, feed.file)
            process = self._process = _Process(job, begin, self._metrics, self._command, previous)
            if feed.file is not None:
                self._metrics.feed_behind.labels("file").set_function(process.behind)
            if feed.socket is not None:
                self._metrics.feed_behind.labels("socket").set_function(process.slowest)
            process.start()

    def _begin_place(self, file: FeedFile) -> None:
        """A feed without a place begins with what comes from now on; that is kept before anything comes. Where its file says
        how far it is, it goes on there: somebody took the place away."""
        place = PlaceFile(self._store.directory / PLACE_FILE)
        if place.load() is not None or says(file.path):
            return
        with (
            # What was acknowledged before is none of what comes, though it may not be filed yet.
            closing(installed(self._store, self._node, settle=True).records(self._node)) as records,
            closing(AuditTrail(self._store.directory / AUDIT_FILE, None)) as trail,
        ):
            place.save(Kept(Tail(records, trail, Wanted()).end(), time.time()))

    def _forget(self) -> None:
        """Takes away how far the feed was; counters stay."""
        for target in ("file", "socket"):
            with suppress(KeyError):
                self._metrics.feed_behind.remove(target)
        self._metrics.feed_consumers.set(0)

    def check(self) -> str:
        """For /readyz."""
        process = self._process
        behind = process.behind() if process is not None else 0.0
        return f"degraded: it is {int(behind)} s behind" if behind > self._feed.alarm_after else "ok"

    def stop(self) -> None:
        """The feed tells what is committed, within PATIENCE, and ends. What is left is told after the next start."""
        process, self._process = self._process, None
        if process is None:
            return
        process.end()
        if not process.wait(PATIENCE):
            log.warning("the feed did not end by itself; what it lacks is told after the next start")
