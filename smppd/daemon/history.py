"""Looks finished messages up in the log for query_sm, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from smppd.message import FINAL_STATES, Event, State
from smppd.metrics import Metrics
from smppd.records.lookup import LogReader
from smppd.store.installation import Installation
from smppd.vault.keys import Kek

log = logging.getLogger("smppd.background")
LOOKUPS: Final = 1000
"""Questions that may wait; more are answered as unknown."""

Answer = tuple[State, float, int] | None


class History:
    """See the module. ``notify(function)`` runs a function on the reactor thread. Nothing is opened before somebody asks."""

    def __init__(
        self, store: Installation, kek: Kek, metrics: Metrics, notify: Callable[[Callable[[], None]], object]
    ) -> None:
        self._store = store
        self._kek = kek
        self._metrics = metrics
        self._notify = notify
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._room = threading.BoundedSemaphore(LOOKUPS)
        self._reader: LogReader | None = None

    def ask(self, account: str, identity: int, then: Callable[[Answer], None]) -> None:
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
            self._reader = LogReader(self._store.records(), self._kek)
        found = self._reader.record(identity)
        if found is None or found.record.header.account != account:
            return None
        told: Event | None = None
        for event in self._reader.events(identity):
            # What happened to its receipt is not what happened to the message.
            if event.state in FINAL_STATES or event.state in (State.REFUSED, State.SUBMITTED, State.SCHEDULED):
                told = event
        if told is None:
            return State.STORED, 0.0, 0
        return State(told.state), told.time / 1000, told.error

    def stop(self) -> None:
        """Ends the thread after the question that it works on. Questions that wait have no answer."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._reader is not None:
            self._reader.close()
