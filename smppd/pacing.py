"""Long work beside the reactor takes a breath between its steps, so that messages have the interpreter meanwhile.

The reactor gives the interpreter's lock away with each call of the kernel, dozens of times a turn, and waits for a busy thread
each time. One that works half a millisecond and rests three times as long is met by few of these calls.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Final

WORK: Final = 0.0005
REST: Final = 0.0015
"""Seconds of each, in turn."""

_thread = threading.local()


@contextlib.contextmanager
def breathing() -> Iterator[None]:
    """Within it, this thread's calls of `breathe` rest. One within another is the same."""
    within = hasattr(_thread, "since")
    _thread.since = time.perf_counter()
    try:
        yield
    finally:
        if not within:
            del _thread.since


def breathe() -> None:
    """Between two steps of long work: rests where the thread is to and has worked for `WORK` since it last did. Else, as at the
    start or in a command, it costs next to nothing."""
    since = getattr(_thread, "since", None)
    if since is not None and time.perf_counter() - since >= WORK:
        time.sleep(REST)
        _thread.since = time.perf_counter()
