"""Spans on their way to the collector: a queue with an end, and a batch that is tried again a few times.

What does not fit, and what the collector does not take, is dropped and counted: traces are samples, and nothing waits for them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from smppd.spans.lives import Span

WAITING_MOST: Final = 4096
"""Spans that wait at most,"""
BATCH: Final = 512
"""and that go in one request."""
PAUSE: Final = 5.0
"""Seconds until a batch is tried again,"""
TRIES: Final = 12
"""and how often before it is dropped: about a minute, longer where the collector lets us wait."""


class Outbox:
    """``send(spans)`` gives an empty text where the collector took them, else why not, in a sentence without content. `put`,
    `report` and `end` are for one thread, `run` for another."""

    def __init__(self, send: Callable[[list[Span]], str]) -> None:
        self._send = send
        self._lock = threading.Condition()
        self._waiting: deque[Span] = deque()
        self._batch: list[Span] = []
        self._tried = 0
        self._over = False
        self.sent = self.failures = 0
        self.overflowed = self.refused = 0
        """Spans that did not fit, and that the collector did not take."""
        self.reason = ""
        """Why nothing goes out, empty while it does."""

    def put(self, spans: list[Span]) -> None:
        """Takes spans. Does not wait."""
        with self._lock:
            fits = spans[: max(0, WAITING_MOST - len(self._waiting))]
            self._waiting.extend(fits)
            self.overflowed += len(spans) - len(fits)
            self._lock.notify()

    def turn(self) -> bool:
        """Sends one batch, the one of before if that was not taken. False where there is nothing to do, or waiting comes
        first."""
        with self._lock:
            while self._waiting and len(self._batch) < BATCH:
                self._batch.append(self._waiting.popleft())
        if not self._batch:
            return False
        reason = self._send(self._batch)
        with self._lock:
            self.reason = reason
            if not reason:
                self.sent += len(self._batch)
            else:
                self.failures += 1
                self._tried += 1
                if self._tried < TRIES:
                    return False
                self.refused += len(self._batch)
            self._batch = []
            self._tried = 0
        return not reason

    def run(self) -> None:
        """Sends until `end`; then what waits, as long as the collector takes it."""
        while True:
            if self.turn():
                continue
            with self._lock:
                if self._over:
                    return
                if self.reason:
                    self._lock.wait_for(lambda: self._over, PAUSE)
                elif not self._waiting:
                    self._lock.wait()

    def end(self) -> None:
        """Nothing more comes."""
        with self._lock:
            self._over = True
            self._lock.notify()
