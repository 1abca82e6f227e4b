"""Runs work that takes long in a thread beside the reactor. The thread gives way often, and rests where the work calls
`breathe`, so that messages are hardly delayed."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from smppd.pacing import breathing

T = TypeVar("T")
GIVE_WAY: Final = 0.0001
"""Seconds after which such a thread gives the interpreter lock to a thread that waits for it. The reactor waits for the lock
after each call of the kernel: with the usual half a millisecond a reload would slow it down to a few calls a millisecond."""


class Worker:
    """``notify(function)`` runs a function on the reactor thread."""

    def __init__(self, notify: Callable[[Callable[[], None]], object]) -> None:
        self._notify = notify
        self._lock = threading.Lock()
        self._running = 0
        self._usual = 0.0

    def run(self, name: str, work: Callable[[], T], then: Callable[[T | None, Exception | None], None]) -> None:
        """Does ``work()`` in a thread of that name; ``then(result, error)`` is called on the reactor thread, one of them None
        (both where the result is). Where the host gives no thread that is an OSError, told in the same way."""

        def thread() -> None:
            result: T | None = None
            error: Exception | None = None
            self._begin()
            try:
                with breathing():
                    result = work()
            except Exception as caught:  # noqa: BLE001  the thread's edge: who waits for it hears of it
                error = caught
            finally:
                self._end()
            self._notify(lambda: then(result, error))

        try:
            threading.Thread(target=thread, name=name, daemon=True).start()
        except RuntimeError:
            # Whoever waits for the end would wait for ever: the next reload, the next act, a place among the logins.
            refused = OSError(errno.EAGAIN, "the host gives no further thread")
            self._notify(lambda: then(None, refused))

    def _begin(self) -> None:
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(min(GIVE_WAY, self._usual))

    def _end(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                sys.setswitchinterval(self._usual)
