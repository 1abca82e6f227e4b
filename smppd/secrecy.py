"""Keeps texts, numbers, passwords and keys, which are in the process's memory, out of core files.

Two locks, since each alone has a hole: a limit of 0 is not looked at where the kernel pipes cores to a program, and a process
that may not be dumped (prctl(2), PR_SET_DUMPABLE) becomes dumpable again by exec.
"""

from __future__ import annotations

import ctypes
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def forbid_cores() -> bool:
    """Whether this process leaves no core file from now on, whatever signal ends it. A sandbox may forbid to set the limit
    (and has set it itself); then the other lock counts."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        pass
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
