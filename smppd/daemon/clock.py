"""Says when the wall clock is wrong: behind the newest message id, or set while the daemon runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from smppd.metrics import Metrics

log = logging.getLogger("smppd.clock")
BEHIND: Final = 1.0
"""Seconds behind the newest id from which on it is said; also what the clock may be set by without a word."""


class ClockWatch:
    """``look`` is called at the start and once a second. ``behind``: seconds behind the newest id at the latest look, 0 up to
    ``BEHIND``.

    Nothing is refused for it: ids go on from the newest one. But dates in receipts, validity periods given as dates, and the
    retention of what is accepted meanwhile follow the clock (docs/data-protection.md says how).
    """

    def __init__(
        self, metrics: Metrics, behind: Callable[[], float], wall: Callable[[], float], now: Callable[[], float]
    ) -> None:
        """behind(): seconds (`ids.Ids.behind`). wall: epoch seconds. now: monotonic seconds."""
        self._metrics = metrics
        self._behind = behind
        self._wall = wall
        self._now = now
        self._offset: float | None = None
        self.behind = 0.0

    def look(self) -> None:
        """Compares the clocks, and logs what has changed."""
        wall = self._wall()
        offset = wall - self._now()
        if self._offset is not None and abs(offset - self._offset) > BEHIND:
            log.warning("the clock was set", extra={"fields": {"by": round(offset - self._offset, 1)}})
        self._offset = offset
        was, behind = self.behind > 0, self._behind()
        if behind > BEHIND and not was:
            newest = datetime.fromtimestamp(wall + behind, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            fields = {"seconds": round(behind, 1), "newest": newest}
            log.warning("the clock is behind the newest message id", extra={"fields": fields})
        elif was and behind <= BEHIND:
            log.info("the clock has caught up with the newest message id")
        self.behind = behind if behind > BEHIND else 0.0
        self._metrics.clock_behind.set(self.behind)

    @property
    def check(self) -> str:
        """For /readyz."""
        if not self.behind:
            return "ok"
        return f"degraded: the clock is {int(self.behind)} s behind the newest message id"
