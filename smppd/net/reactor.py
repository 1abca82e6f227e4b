"""Twisted's epoll reactor with less around each event, and with an end of each turn.

At some hundreds of messages a second nearly every event is a turn of its own, and what Twisted does around an event is most of
what it costs. So a turn here asks for timers and calls of other threads only where there are some, an event that is nothing but
readable takes no way around, and what is left out altogether is the logging context of `log.callWithLogger`, which nothing of
ours reads (ADR 8), and a timer, with its heap and its clock, for what is to be done at the end of the turn.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import time
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import installReactor
from zope.interface import implementer

log = logging.getLogger("smppd.reactor")
_READABLE: Final = select.EPOLLIN
_LONGEST: Final = 2147483.0  # seconds: epoll_wait takes milliseconds as a C int
_NEVER: Final = float("inf")


class Alarm:
    """A function that runs once at a time, unless it is called off before. See `TurnReactor.later`."""

    __slots__ = ("_among", "at", "function")

    def __init__(self, among: list[Alarm], at: float, function: Callable[[], None]) -> None:
        """among: those that stand."""
        self._among = among
        self.at = at
        self.function = function
        among.append(self)

    def cancel(self) -> None:
        """Calls it off; nothing where it has run."""
        if self in self._among:
            self._among.remove(self)


@implementer(IReadDescriptor)
class _Waker:
    """What wakes the reactor from another thread, or from a signal's handler: an eventfd."""

    disconnected = 0

    def __init__(self) -> None:
        self._handle = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """For the reactor."""
        return self._handle

    def logPrefix(self) -> str:
        """For the reactor."""
        return "waker"

    def doRead(self) -> None:
        """What it was woken for is done in this turn, or wakes it again."""
        try:
            os.eventfd_read(self._handle)
        except BlockingIOError:
            pass

    def wakeUp(self) -> None:
        """Any thread."""
        if self._handle >= 0:
            os.eventfd_write(self._handle, 1)

    def connectionLost(self, _reason: Any) -> None:
        """The reactor lets it go."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


class TurnReactor(EPollReactor):
    """See the module. All else is Twisted's."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []
        self._alarms: list[Alarm] = []
        super().__init__()  # type: ignore[no-untyped-call]

    seconds = staticmethod(time.monotonic)
    """Twisted's reactors ask time.time(): a jump of the wall clock would fire, or put off, every deadline."""

    def _wakerFactory(self) -> Any:
        return _Waker()

    def soon(self, function: Callable[[], None]) -> None:
        """Runs a function on this thread once all that is ready now was handled, before the reactor waits. An error in it is
        logged, and is no reason to leave out the next one."""
        self._soon.append(function)

    def later(self, seconds: float, function: Callable[[], None]) -> Alarm:
        """Runs a function on this thread after a time, at the end of a turn. For the few that are set and called off again and
        again: one of Twisted's stays in its heap and wakes the reactor, called off or not. An error in it is logged."""
        return Alarm(self._alarms, time.monotonic() + seconds, function)

    def callFromThread(self, f: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self.threadCallQueue.append((f, args, kwargs))
        self.wakeUp()

    def mainLoop(self) -> None:
        while self._started:
            try:
                while self._started:
                    self.runUntilCurrent()
                    # What ends it may have been called just now.
                    self.doPoll(self.timeout() if self.running else 0.0)
            except Exception:
                log.exception("error in a turn")

    def runUntilCurrent(self) -> None:
        if self.threadCallQueue:
            self._do_what_threads_ask()
        timed = self._pendingTimedCalls
        if self._newTimedCalls or self._justStopped or (timed and timed[0].time <= time.monotonic()):
            super().runUntilCurrent()
        if self._alarms:
            self._ring()
        if self._soon:
            # What these ask for in their turn comes after the sockets were looked at again: nobody starves.
            functions, self._soon = self._soon, []
            for function in functions:
                try:
                    function()
                except Exception:
                    log.exception("error at the end of a turn")

    def _do_what_threads_ask(self) -> None:
        calls = self.threadCallQueue[:]
        # Others add at its end meanwhile, and wake the reactor behind that.
        del self.threadCallQueue[: len(calls)]
        for function, args, kwargs in calls:
            try:
                function(*args, **kwargs)
            except Exception:
                log.exception("error in what another thread asked for")

    def _ring(self) -> None:
        now = time.monotonic()
        for alarm in [one for one in self._alarms if one.at <= now]:
            if alarm in self._alarms:  # else one before it called it off
                self._alarms.remove(alarm)
                self._soon.append(alarm.function)

    def timeout(self) -> float | None:
        if self._soon:
            return 0.0
        if self._newTimedCalls:
            self._insertNewDelayedCalls()
        timed = self._pendingTimedCalls
        at = timed[0].time if timed else _NEVER
        for alarm in self._alarms:
            at = min(at, alarm.at)
        if at == _NEVER:
            return None
        return max(0.0, min(_LONGEST, at - time.monotonic()))

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
            if selectable is None:
                continue  # an event before this one closed it
            if event != _READABLE:
                self._doReadOrWrite(selectable, fd, event)  # type: ignore[no-untyped-call]
                continue
            try:
                why = selectable.doRead()
            except Exception as error:
                log.exception("error while reading")
                why = error
            if why:
                self._disconnectSelectable(selectable, why, True)  # type: ignore[no-untyped-call]

    doIteration = doPoll


def install() -> Any:
    """Makes it the process's reactor; to be called before anything imports Twisted's."""
    reactor = TurnReactor()
    installReactor(reactor)  # type: ignore[no-untyped-call]
    return reactor
