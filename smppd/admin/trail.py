"""The daemon's own entries of the audit trail, written off the reactor thread."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from smppd.metrics import Metrics
from smppd.vault.audit import AuditTrail

log = logging.getLogger("smppd.audit")
QUEUE: Final = 10_000
"""Entries that may wait for the disk; more are dropped, logged and counted."""


class Audit:
    """Appends to the audit trail in a thread of its own; a failure is logged and counted, never lost silently."""

    def __init__(self, trail: AuditTrail, metrics: Metrics) -> None:
        self._trail = trail
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._room = threading.BoundedSemaphore(QUEUE)

    def __call__(self, event: str, what: dict[str, str], result: str = "done") -> None:
        """One entry of the daemon's own doing."""
        if not self._room.acquire(blocking=False):
            self._metrics.errors.labels("audit").inc()
            log.error("the audit trail cannot keep up, an entry was dropped")
            return
        self._pool.submit(self._append, event, dict(what), result)

    def _append(self, event: str, what: dict[str, str], result: str) -> None:
        try:
            self._trail.append(event, "smppd", what, result)
        except Exception:  # the thread's edge
            self._metrics.errors.labels("audit").inc()
            log.exception("the audit trail could not be written")
        finally:
            self._room.release()

    def close(self) -> None:
        """Waits for what is under way."""
        self._pool.shutdown(wait=True)
        self._trail.close()
