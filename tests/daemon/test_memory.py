"""What was free is the system's again: seen from outside, as resident memory."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from smppd.daemon import memory

_COUNT = 40_000
_OCTETS = 700  # more than the interpreter's own allocator takes


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has malloc_trim")
def test_what_a_backlog_took_is_given_back_although_something_lies_at_the_end() -> None:
    memory.give_back()  # what earlier tests left free would be used first, and nothing would be seen
    before = _resident()
    backlog = [bytes(_OCTETS) for _ in range(_COUNT)]
    full = _resident()
    assert full - before > _COUNT * _OCTETS // 2
    kept = backlog[:: _COUNT // 50] + backlog[-1:]
    backlog.clear()
    assert _resident() - before > _COUNT * _OCTETS // 2, "the C library gives it back by itself: memory.py is needless"
    assert memory.give_back()
    assert _resident() - before < _COUNT * _OCTETS // 4
    assert len(kept) == 51


def test_a_c_library_without_the_call_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_trim", None)
    assert not memory.give_back()
