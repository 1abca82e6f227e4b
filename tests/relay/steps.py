"""How much work an act is, counted and not timed: operations of the interpreter in the relay, and C-level look-ups not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import smppd.relay

_RELAY: Final = str(Path(smppd.relay.__file__).parent)


def operations(act: Callable[[], object]) -> int:
    """Operations that modules of the relay run for ``act``; 0 where they are compiled."""
    count = 0

    def step(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if event == "opcode":
            count += 1
        return step

    def call(frame: FrameType, _event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_RELAY):
            return None
        frame.f_trace_opcodes = True
        return step

    before = sys.gettrace()
    sys.settrace(call)
    try:
        act()
    finally:
        sys.settrace(before)
    return count
