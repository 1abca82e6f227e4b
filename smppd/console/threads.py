"""Threads for what waits: a few work at one time, a bounded number waits, and what comes then is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class Busy(Exception):
    """More is asked at one time than may wait."""


class Workers:
    """A pool of threads of one kind. Used on the reactor thread."""

    def __init__(self, reactor: Any, name: str, threads: int, waiting: int) -> None:
        """threads: how many work at one time. waiting: how many more may wait for one of them."""
        self._reactor = reactor
        self._pool = ThreadPool(0, threads, name)
        self._most = threads + waiting
        self._under_way = 0

    def start(self) -> None:
        """Lets work begin."""
        self._pool.start()

    def stop(self) -> None:
        """Waits for what is under way."""
        self._pool.stop()

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """What `work` gives, which runs in a thread. Fails with Busy where too many wait already."""
        if self._under_way >= self._most:
            return fail(Busy())
        self._under_way += 1
        running: Deferred[T] = deferToThreadPool(self._reactor, self._pool, work)
        return running.addBoth(self._over)

    def _over(self, result: Any) -> Any:
        self._under_way -= 1
        return result
