"""The processes that the daemon starts to work beside it (`lists.child`, `feed.child`, `spans.child`), seen from inside.

A job comes as one line on standard input, and stands so in no command line and no environment. The process works until that
input ends, which is when its parent does. It says on standard output, one JSON object a line, how far it is.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from smppd.secrecy import forbid_cores

NICER: Final = 10
"""How much it gives way to the daemon, see nice(2)."""


def begin() -> bytes:
    """Makes this a process of the daemon, which leaves no core file; its job, with the end of the line."""
    forbid_cores()  # a job may hold keys
    os.nice(NICER)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is its parent's, which then closes our input
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with open(0, "rb", buffering=0, closefd=False) as unbuffered:  # takes nothing that `select` would wait for
        return unbuffered.readline()


def run(work: Callable[[bytes], None], *troubles: type[Exception]) -> int:
    """Does the job. The exit status: 0 where it was done; 1 after one of the troubles, OSError or an error of ours, and then
    the last line says why."""
    expected: tuple[type[Exception], ...] = (OSError, *troubles)
    job = begin()
    if not job:
        return 0  # the parent ended before it said anything
    try:
        work(job)
    except expected as error:
        say({"reason": str(error), "ended": True})
        return 1
    except Exception as bug:  # noqa: BLE001  the process's edge: a traceback might show what the job or a row holds
        say({"reason": error_of_ours(bug), "bug": True, "ended": True})
        return 1
    return 0


def say(what: dict[str, Any]) -> None:
    """Tells the parent, if it is still there."""
    try:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()
    except OSError:
        pass  # the parent was killed, and the work goes on to its end


def error_of_ours(bug: Exception) -> str:
    """A reason that tells nothing of what was being read."""
    return f"an error of ours: {type(bug).__name__}"
