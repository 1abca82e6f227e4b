"""Long work on everything that waits, in small steps between the messages: what acts and erasures have in common.

The work is an iterator that yields after each step what it needs next: GO, WAIT, COMMIT.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final

from smppd.relay.context import Context
from smppd.store.api import Store

BUDGET: Final = 0.004
"""Seconds of one turn of the reactor that it takes at most, and one step more."""
PAUSE: Final = 0.002
"""Seconds between two turns."""
ACTS: Final = 200
"""Things that are changed in one batch at most, and one step's more."""
GO, WAIT, COMMIT = 0, 1, 2
"""The next step; the next one when `_go` is called; the next one when all that was done so far is durable."""


class Turns(ABC):
    """One piece of work at a time, on the reactor thread."""

    def __init__(self, context: Context, store: Store) -> None:
        self._context = context
        self._store = store
        self._steps: Iterator[int] | None = None
        self._batch = 0
        """Things that were changed since the last commit: the work counts them."""
        self._began = 0.0
        self.longest = 0.0
        """Seconds of the longest turn so far, for tests."""

    @abstractmethod
    def _over(self) -> None:
        """The work is done."""

    @abstractmethod
    def _broken(self, error: Exception) -> None:
        """A step raised this: the work goes on no further."""

    def _begin(self, steps: Iterator[int]) -> None:
        """Does this next. What was done before is durable then, and in its place."""
        self._steps = steps
        self._when_durable()

    def _when_durable(self) -> None:
        self._batch = 0
        self._store.batch.then.append(self._go)
        self._store.kick()

    def _go(self) -> None:
        context, steps = self._context, self._steps
        self._began = context.now()
        while steps is not None:
            try:
                what = next(steps, None)
            except Exception as error:  # noqa: BLE001  the edge of one piece of work: the next ones still begin
                self._broken(error)
                break
            if what is None:
                self._over()
                break
            if what == WAIT:
                break
            if what == COMMIT or self._batch >= ACTS:
                self._when_durable()
                break
            if self._spent():
                context.later(PAUSE, self._go)
                break
        self.longest = max(self.longest, context.now() - self._began)
        context.flush()

    def _spent(self) -> bool:
        """Whether this turn has done its part: what is in hand then and may change meanwhile is not used any more."""
        return self._batch >= ACTS or self._context.now() - self._began >= BUDGET
