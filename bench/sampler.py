"""Runs `python -m MODULE ARGUMENTS` and notes every millisecond of CPU which line its main thread is in: a profile by lines
that hardly changes what it measures (cProfile doubles the cost of a call).

    python bench/sampler.py RESULT.json MODULE ARGUMENTS...

The module is that of the working directory. SIGUSR2 begins anew, so that start-up and warm-up stay out; the result is written
at the end of the process. Each sample weighs what the main thread's own clock says it has used since the sample before, so
other threads' time is in none of them, and the sum is the thread's CPU. Imports nothing of ours.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

INTERVAL = 0.001
DEPTH = 60

Place = tuple[str, str, int]
"""File, function, line."""


class Sampler:
    """`take` is a signal handler."""

    def __init__(self) -> None:
        self.begin()

    def begin(self, *_signal: Any) -> None:
        """Forgets what was seen."""
        self.stacks: dict[tuple[Place, ...], float] = {}
        self._last = self._began = time.thread_time()
        self._all = time.process_time()

    def take(self, _signal: int, frame: FrameType | None) -> None:
        """One sample: where the main thread is, innermost first."""
        now = time.thread_time()
        used, self._last = now - self._last, now
        stack: list[Place] = []
        while frame is not None and len(stack) < DEPTH:
            code = frame.f_code
            stack.append((code.co_filename, code.co_name, frame.f_lineno))
            frame = frame.f_back
        key = tuple(stack)
        self.stacks[key] = self.stacks.get(key, 0.0) + used

    def result(self) -> dict[str, Any]:
        """CPU seconds: `main` thread, `others`, and each stack."""
        main = time.thread_time() - self._began
        others = time.process_time() - self._all - main
        return {"main": main, "others": others, "stacks": [[list(key), used] for key, used in self.stacks.items()]}


def main() -> None:
    """See the module."""
    path, module, *arguments = sys.argv[1:]
    sampler = Sampler()

    def write() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        with open(path, "w") as file:
            json.dump(sampler.result(), file)

    assert threading.current_thread() is threading.main_thread()
    signal.signal(signal.SIGUSR2, sampler.begin)
    signal.signal(signal.SIGPROF, sampler.take)
    signal.siginterrupt(signal.SIGPROF, False)
    atexit.register(write)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    sys.path[0] = os.getcwd()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
