"""The spool as a journal: what is on its way, as entries in blocks, one block a commit, many commits a segment.

An entry that opens something (a message, mail, a parked receipt) lives in its segment until a later mark closes it. Marks
may stand in later segments than what they speak of, so segments are dropped oldest first only. What lives too long is
spilled: rewritten as cold rows (or into the current segment), so the journal, its replay and memory stay bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from enum import IntEnum
from hashlib import blake2b
from struct import Struct
from typing import Any, Final

HEAD: Final = Struct(">BIQ")
_SIZE: Final = HEAD.size


class Entry(IntEnum):
    """Kinds of entries. ACCEPT, MAIL and PARK open something, the others are marks on it. ASIDE speaks of an entry, or what is
    left of a block, that could not be read and is kept among the damaged: its id is `fingerprint` of that."""

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
    ASIDE = 11


class Broken(ValueError):
    """A block is not what it should be from some place on; ``rest`` is all from there."""

    def __init__(self, reason: str, rest: bytes) -> None:
        super().__init__(reason)
        self.rest = rest


def mark(kind: Entry, identity: int, payload: bytes = b"") -> bytes:
    """One entry."""
    return HEAD.pack(kind, _SIZE + len(payload), identity) + payload


def fingerprint(data: bytes) -> int:
    """What an ASIDE mark calls something that has no id, or none to be trusted."""
    return int.from_bytes(blake2b(data, digest_size=8, person=b"smppd aside").digest(), "big")


def read(block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(kind, id, payload) of the entries in a block. Raises ``Broken`` where it is no entry, with what is left of the block."""
    at, end = 0, len(block)
    while at < end:
        if at + _SIZE > end:
            raise Broken("a spool block ends inside an entry", block[at:])
        kind, length, identity = HEAD.unpack_from(block, at)
        if length < _SIZE or at + length > end:
            raise Broken("a spool entry has no possible length", block[at:])
        yield kind, identity, block[at + _SIZE : at + length]
        at += length


class Journal:
    """Which things live in which segment. A thing is anything with ``id`` and ``home`` (its segment, 0 when cold)."""

    def __init__(self) -> None:
        self.live: OrderedDict[int, dict[int, Any]] = OrderedDict()
        self.current = 0
        self.entries = 0

    def begin(self, segment: int) -> None:
        """From now on things live in ``segment``."""
        self.live[segment] = {}
        self.current = segment
        self.entries = 0

    def add(self, thing: Any) -> None:
        """``thing`` was written into the current segment."""
        thing.home = self.current
        self.live[self.current][thing.id] = thing
        self.entries += 1

    def remove(self, thing: Any) -> None:
        """``thing`` is closed (or lives elsewhere now)."""
        things = self.live.get(thing.home)
        if things is not None:
            things.pop(thing.id, None)

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
