"""Answers to customers that are not given at once: a submit_multi's, and those that wait for their time."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Final

from smppd.relay.context import Context
from smppd.relay.guard import TIMER
from smppd.relay.state.model import Customer

_IDLE: Final = float("inf")
# Answers that wait for their time (`limits.throttle_wait`): beyond, they are given at once. Windows bound them before.
DELAYED: Final = 100_000
# Answers that are given in one turn of the reactor.
TURN: Final = 500


class Fanout:
    """The one answer to a submit_multi, given when all its messages have theirs, not before ``answer_at``."""

    __slots__ = ("answer_at", "failed", "left", "shown", "total")

    def __init__(self, left: int, shown: bytes) -> None:
        self.left = self.total = left
        self.answer_at = 0.0
        self.shown = shown
        self.failed: list[tuple[bytes, int]] = []


class Delayed:
    """Answers that wait for their time; each holds a place in its session's window meanwhile."""

    def __init__(self, context: Context) -> None:
        self.most = DELAYED
        self._context = context
        self._heap: list[tuple[float, int, Customer, bytes, int]] = []
        self._tie = count()
        self._timer = _IDLE

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, due: float, customer: Customer, response: bytes, places: int = 1) -> None:
        """Gives an answer at ``due`` (monotonic seconds); it holds ``places`` of the session's window."""
        if len(self._heap) >= self.most:
            self._context.answer(customer, response, places)
            return
        heapq.heappush(self._heap, (due, next(self._tie), customer, response, places))
        self._release_at(due)

    def _release_at(self, due: float) -> None:
        if due < self._timer:  # nothing wakes us before
            self._timer = due
            self._context.later(max(0.001, due - self._context.now()), self._release)

    def _release(self) -> None:
        self._timer = _IDLE
        now = self._context.now()
        heap = self._heap
        left = TURN
        while heap and heap[0][0] <= now + 0.002 and left > 0:
            left -= 1
            _, _, customer, response, places = heapq.heappop(heap)
            try:
                self._context.answer(customer, response, places)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(TIMER, error)
        if heap:
            self._release_at(heap[0][0])
        self._context.flush()
