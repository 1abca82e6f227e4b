"""The spool as a journal: what is on its way, as entries in blocks, one block a commit, many commits a segment.

An entry that opens something (a message, mail, a parked receipt) lives in its segment until a later mark closes it. Marks
may stand in later segments than what they speak of, so segments are dropped oldest first only. What lives too long is
spilled: rewritten as cold rows (or into the current segment), so the journal, its replay and memory stay bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import Any, Final

HEAD: Final = Struct(">BIQ")
_SIZE: Final = HEAD.size
WEIGHT: Final = 1100
"""Octets that a thing takes beside its frame, as measured (`bench.limits`): its object, its numbers, its places in indexes."""


class Entry(IntEnum):
    """Kinds of entries. ACCEPT, MAIL and PARK open something, the others are marks on it."""

    ACCEPT = 1
    RELEASED = 2
    RETURNED = 3
    SUBMITTED = 4
    RESENT = 5
    DONE = 6
    MAIL = 7
    MAIL_DONE = 8
    PARK = 9
    PARK_DONE = 10


def mark(kind: Entry, identity: int, payload: bytes = b"") -> bytes:
    """One entry."""
    return HEAD.pack(kind, _SIZE + len(payload), identity) + payload


def read(block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(kind, id, payload) of the entries in a block. Raises ValueError on a broken one: a block opens whole or not at all."""
    at, end = 0, len(block)
    while at < end:
        if at + _SIZE > end:
            raise ValueError("a spool block ends inside an entry")
        kind, length, identity = HEAD.unpack_from(block, at)
        if length < _SIZE or at + length > end:
            raise ValueError("a spool entry has no possible length")
        yield kind, identity, block[at + _SIZE : at + length]
        at += length


class Living:
    """What a journal keeps: a message, mail or a parked receipt. ``home``: its segment, 0 when it lives as a cold row.
    ``weight``: the octets of memory it is counted with, 0 while it is not counted."""

    __slots__ = ("frame", "home", "id", "weight")

    def __init__(self, identity: int, frame: bytes) -> None:
        self.id = identity
        self.frame = frame
        self.home = 0
        self.weight = 0


class Journal:
    """Which things live in which segment, and ``octets``: what they and those read back from rows take in memory."""

    def __init__(self) -> None:
        self.live: OrderedDict[int, dict[int, Any]] = OrderedDict()
        self.octets = 0
        self.current = 0
        self.entries = 0

    def begin(self, segment: int) -> None:
        """From now on things live in ``segment``."""
        self.live[segment] = {}
        self.current = segment
        self.entries = 0

    def add(self, thing: Living) -> None:
        """``thing`` was written into the current segment."""
        self.place(thing, self.current)
        self.entries += 1

    def place(self, thing: Living, segment: int) -> None:
        """``thing`` lives in a segment."""
        thing.home = segment
        self.live[segment][thing.id] = thing
        self.weigh(thing)

    def weigh(self, thing: Living) -> None:
        """Counts the memory of ``thing``, in the journal or read back from a row; ``remove`` ends that."""
        weight = WEIGHT + len(thing.frame)
        self.octets += weight - thing.weight
        thing.weight = weight

    def remove(self, thing: Living) -> None:
        """``thing`` is closed (or lives elsewhere now)."""
        things = self.live.get(thing.home)
        if things is not None:
            things.pop(thing.id, None)
        self.octets -= thing.weight
        thing.weight = 0

    def get(self, identity: int) -> Any | None:
        """The living thing with this id, wherever it lives."""
        for things in reversed(self.live.values()):
            thing = things.get(identity)
            if thing is not None:
                return thing
        return None

    def dead(self) -> list[int]:
        """Oldest segments with nothing alive in them, no longer kept here; their rows and keys may go."""
        gone = []
        while self.live:
            segment, things = next(iter(self.live.items()))
            if things or segment == self.current:
                break
            del self.live[segment]
            gone.append(segment)
        return gone

    def count(self) -> int:
        """How many things live in the journal."""
        return sum(len(things) for things in self.live.values())
