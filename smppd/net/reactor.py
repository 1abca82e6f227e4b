"""Twisted's epoll reactor with less around each event, and with an end of each turn.

At some hundreds of messages a second nearly every event is a turn of its own, and what Twisted does around an event is most of
what it costs. Two things are left out here: the logging context of `log.callWithLogger`, which nothing of ours reads (ADR 8),
and a timer, with its heap and its clock, for what is to be done at the end of the turn.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

log = logging.getLogger("smppd.reactor")


class TurnReactor(EPollReactor):
    """See the module. All else is Twisted's."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []
        super().__init__()  # type: ignore[no-untyped-call]

    seconds = staticmethod(time.monotonic)
    """Twisted's reactors ask time.time(): a jump of the wall clock would fire, or put off, every deadline."""

    def soon(self, function: Callable[[], None]) -> None:
        """Runs a function on this thread once all that is ready now was handled, before the reactor waits. An error in it is
        logged, and is no reason to leave out the next one."""
        self._soon.append(function)

    def runUntilCurrent(self) -> None:
        super().runUntilCurrent()
        if self._soon:
            # What these ask for in their turn comes after the sockets were looked at again: nobody starves.
            functions, self._soon = self._soon, []
            for function in functions:
                try:
                    function()
                except Exception:
                    log.exception("error at the end of a turn")

    def timeout(self) -> float | None:
        return 0.0 if self._soon else super().timeout()

    def doPoll(self, timeout: float | None) -> None:
        selectables = self._selectables
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        for fd, event in events:
            selectable = selectables.get(fd)
            if selectable is not None:  # else an event before this one closed it
                self._doReadOrWrite(selectable, fd, event)  # type: ignore[no-untyped-call]

    doIteration = doPoll


def install() -> Any:
    """Makes it the process's reactor; to be called before anything imports Twisted's."""
    reactor = TurnReactor()
    installReactor(reactor)  # type: ignore[no-untyped-call]
    return reactor
