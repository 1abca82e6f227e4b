"""What the running daemon does beside its data path, each in a thread of its own: indexing the log, purging what its
retention is over for, asking for the spool to be tidied, and looking finished messages up for query_sm."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from smppd.audit.trail import AuditTrail
from smppd.config import Retain
from smppd.ids import id_time
from smppd.message import FINAL_STATES, Event, State
from smppd.metrics import Metrics
from smppd.records.indexer import IndexerThread
from smppd.records.lookup import LogReader
from smppd.records.retention import Purger, PurgeThread
from smppd.store.sqlite.log_rows import SqliteIndex, SqlitePurge, SqliteRecords
from smppd.store.sqlite.tidy import TidyThread
from smppd.vault.chain import ChainKeys
from smppd.vault.keys import InstallSecrets, Kek, KeyRing

log = logging.getLogger("smppd.background")
_QUIET: Final = 60.0
LOOKUPS: Final = 1000
"""Questions that may wait; more are answered as unknown."""

Answer = tuple[State, float, int] | None


class Background:
    """See the module. ``notify(function)`` runs a function on the reactor thread; ``busy()``: has the store much to do?
    ``tidy(token)`` is called there when the spool is to be tidied, with what `smppd.store.sqlite.tidy` is asked for, or 0."""

    def __init__(
        self,
        directory: Path,
        kek: Kek,
        ring: KeyRing,
        install: InstallSecrets,
        retains: Callable[[], Mapping[str, Retain]],
        metrics: Metrics,
        notify: Callable[[Callable[[], None]], object],
        busy: Callable[[], bool],
        tidy: Callable[[int], None],
    ) -> None:
        self._directory = directory
        self._kek = kek
        self._metrics = metrics
        self._notify = notify
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._room = threading.BoundedSemaphore(LOOKUPS)
        self._reader: LogReader | None = None
        self._quiet: dict[str, float] = {}  # until when nothing more is said of a thread
        self._trail: AuditTrail | None = None
        """The purge's own. While one is open SQLite keeps the write-ahead log, and audit.db copied alone would lack its end."""

        def purger() -> Purger:
            trail = self._trail = AuditTrail(directory / "audit.db", install.audit)
            keys = ChainKeys(install.audit, install.checkpoint)
            return Purger(SqlitePurge(directory), retains, id_time, trail=trail, chain_keys=keys, dropped=ring.drop)

        self._threads: list[threading.Thread] = [
            IndexerThread(
                lambda: SqliteIndex(directory),
                id_time,
                self._stop,
                lambda reason: self._failed("indexer", reason),
                busy=busy,
            ),
            TidyThread(
                directory,
                self._stop,
                lambda token: notify(lambda: tidy(token)),
                lambda reason: self._failed("tidy", reason),
            ),
            PurgeThread(purger, self._stop, time.time, lambda reason: self._failed("purge", reason)),
        ]
        for thread in self._threads:
            thread.start()

    def _failed(self, what: str, reason: str) -> None:
        """One of the threads failed at something, and goes on: counted by its name, and said once a minute."""
        self._metrics.chores_failed.labels(what).inc()
        now = time.monotonic()
        if now >= self._quiet.get(what, 0.0):
            self._quiet[what] = now + _QUIET
            log.error("work in the background failed", extra={"fields": {"what": what, "reason": reason}})

    def history(self, account: str, identity: int, then: Callable[[Answer], None]) -> None:
        """What became of a message of this account: see ``relay.operations.History``."""
        if not self._room.acquire(blocking=False):
            then(None)
            return

        def look() -> None:
            answer: Answer = None
            try:
                answer = self._look(account, identity)
            except Exception:  # the thread's edge
                self._metrics.errors.labels("history").inc()
                log.exception("a message could not be looked up")
            finally:
                self._room.release()
            self._notify(lambda: then(answer))

        self._pool.submit(look)

    def _look(self, account: str, identity: int) -> Answer:
        if self._reader is None:
            self._reader = LogReader(SqliteRecords(self._directory), self._kek)
        found = self._reader.record(identity)
        if found is None or found.record.header.account != account:
            return None
        told: Event | None = None
        for event in self._reader.events(identity):
            # What happened to its receipt is not what happened to the message.
            if event.state in FINAL_STATES or event.state in (State.REFUSED, State.SUBMITTED):
                told = event
        if told is None:
            return State.STORED, 0.0, 0
        return State(told.state), told.time / 1000, told.error

    def stop(self) -> None:
        """Ends all threads; each within a step of its work."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for thread in self._threads:
            thread.join(10.0)
        if self._trail is not None:
            self._trail.close()
        if self._reader is not None:
            self._reader.close()
