"""Message ids: time-ordered, unique across restarts and nodes, and the forms in which customers see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# 41 bits of milliseconds since EPOCH_MS (until 2089), 6 of node, 16 of sequence: 63 bits, a positive SQLite integer.
EPOCH_MS: Final = 1_577_836_800_000
_NODE_SHIFT: Final = 16
_TIME_SHIFT: Final = 22
_SEQUENCE: Final = (1 << _NODE_SHIFT) - 1
_HEX: Final = b"0123456789abcdefABCDEF"


class Ids:
    """Draws ids. ``wall`` gives epoch seconds; a clock that stands still or jumps back only uses up sequence numbers.

    ``after``: the highest id ever stored, so that no id is repeated after a restart under an earlier clock.
    ``node``: 0 to 63, ValueError otherwise; it would run into the time.
    """

    __slots__ = ("_last", "_node", "_time", "_wall")

    def __init__(self, wall: Callable[[], float], node: int = 0, after: int = 0) -> None:
        if not 0 <= node < 1 << _TIME_SHIFT - _NODE_SHIFT:
            raise ValueError("node is outside 0..63")
        self._wall = wall
        self._node = node << _NODE_SHIFT
        self._time = after >> _TIME_SHIFT
        self._last = _SEQUENCE if after else 0

    def __call__(self) -> int:
        """The next id, larger than all before it."""
        time = int(self._wall() * 1000) - EPOCH_MS
        if time > self._time:
            self._time = time
            self._last = 0
        elif self._last == _SEQUENCE:
            self._time += 1
            self._last = 0
        else:
            self._last += 1
        return self._time << _TIME_SHIFT | self._node | self._last

    def behind(self) -> float:
        """Seconds by which the clock is behind the newest id: it was set back, or was ahead before. Until it has caught up, ids
        go on from where they are."""
        return max(0.0, (self._time + EPOCH_MS) / 1000 - self._wall())

    def skip(self, identity: int) -> None:
        """Never gives ``identity``, or one below it, again: it was found in the store."""
        if identity >> _TIME_SHIFT >= self._time:
            self._time = identity >> _TIME_SHIFT
            self._last = _SEQUENCE


def id_time(identity: int) -> float:
    """Epoch seconds at which an id was drawn, to the millisecond."""
    return ((identity >> _TIME_SHIFT) + EPOCH_MS) / 1000


def id_at(seconds: float) -> int:
    """The highest id that can be drawn at a time (epoch seconds)."""
    return ((int(seconds * 1000) - EPOCH_MS + 1) << _TIME_SHIFT) - 1


class Counter:
    """Short ids for customers that take no long ones: a number that survives restarts.

    ``reserve(count)`` gives the first of as many numbers that nobody else is given (``store.api.Store.reserve``); a block is
    reserved at a time, so a crash skips at most one block. Wraps within ``limit``.
    """

    __slots__ = ("_block", "_limit", "_next", "_reserve", "_reserved")

    def __init__(self, reserve: Callable[[int], int], limit: int, block: int = 10_000) -> None:
        self._next = self._reserved = 0
        self._limit = limit
        self._reserve = reserve
        self._block = block

    def __call__(self) -> int:
        """The next number, 1..limit."""
        if self._next >= self._reserved:
            self._next = self._reserve(self._block)
            self._reserved = self._next + self._block
        self._next += 1
        return (self._next - 1) % self._limit + 1


def shown(identity: int) -> bytes:
    """The default form in which a customer sees an id: 16 hex characters."""
    return b"%016x" % identity


def parse_shown(text: bytes) -> int | None:
    """The id behind the default form in either case, None for anything else: int() alone takes signs, ``0x`` and ``_``."""
    return int(text, 16) if len(text) == 16 and not text.translate(None, _HEX) else None
