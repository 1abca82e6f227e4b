"""The spool as a journal: what is on its way, as entries in blocks, one block a commit, many commits a segment.

An entry that opens something (a message, mail, a parked receipt) lives in its segment until a later mark closes it. Marks
may stand in later segments than what they speak of, so segments are dropped oldest first only. What lives too long is
spilled: rewritten as cold rows (or into the current segment), so the journal, its replay and memory stay bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import IntEnum
from hashlib import blake2b
from struct import Struct
from typing import Any, Final

HEAD: Final = Struct(">BIQ")
_SIZE: Final = HEAD.size
WEIGHT: Final = 1100
"""Octets that a thing takes beside its frame, as measured (`bench.limits`): its object, its numbers, its places in indexes."""


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


KNOWN: Final = frozenset(map(int, Entry))
OPENS: Final = frozenset((int(Entry.ACCEPT), int(Entry.MAIL), int(Entry.PARK)))
_CLOSES: Final = frozenset((Entry.DONE, Entry.MAIL_DONE, Entry.PARK_DONE))


class LivingEntries:
    """Which entries of a journal still count (``store.sqlite.tidy.Entries``): what opened something that is not closed, and the
    marks on it since. All blocks are looked at in order, then each is given to ``keep`` in the same order.

    What cannot be read is for `relay.recovery` to set aside, so it is kept, and does not take the place of an older entry of
    the same thing that can; once an ASIDE mark says that it is among the damaged, it goes. ``readable(kind, id, payload)``
    tells of an entry that opens something.
    """

    def __init__(self, readable: Callable[[int, int, bytes], bool] = lambda _kind, _identity, _payload: True) -> None:
        self._readable = readable
        self._aside: set[int] = set()
        self._strange = 0
        self._open: dict[int, list[int]] = {}  # id -> number of the entry that opened it, how many count
        self._known: set[int] = set()
        self._looked = 0
        self._kept = 0
        self._unsure = False

    def look(self, block: bytes) -> None:
        """One block. Raises ValueError for one that is broken; then nothing of it was looked at."""
        for kind, identity, payload in list(read(block)):
            self._looked += 1
            if kind in OPENS:
                opened = self._open.get(identity)
                if opened is None or self._readable(kind, identity, payload):
                    self._open[identity] = [self._looked, 1]
                else:
                    opened[1] += 1
                self._known.add(identity)
            elif kind in _CLOSES:
                self._open.pop(identity, None)
            elif kind == Entry.ASIDE:
                self._aside.add(identity)
                self._strange += 1
            elif kind not in KNOWN:
                self._strange += 1
            elif identity in self._open:
                self._open[identity][1] += 1

    def doubt(self) -> None:
        """Some blocks could not be looked at: marks on what is not known may be about what they opened, and are kept."""
        self._unsure = True

    @property
    def dead(self) -> int:
        """How many entries count no more."""
        return self._looked - self._strange - sum(entries for _, entries in self._open.values())

    def keep(self, block: bytes) -> bytes:
        """The entries of a block that count."""
        kept = []
        for kind, identity, payload in read(block):
            self._kept += 1
            entry = HEAD.pack(kind, _SIZE + len(payload), identity) + payload
            opened = self._open.get(identity)
            if kind == Entry.ASIDE:
                counts = True
            elif kind not in KNOWN:
                counts = fingerprint(entry) not in self._aside
            elif opened is None:
                counts = self._unsure and kind not in OPENS and identity not in self._known
            else:
                counts = self._kept >= opened[0]
                if counts and kind in OPENS and self._kept == opened[0] and self._aside:
                    # Nothing else opens it: what is set aside is not met again, nor are its marks.
                    counts = fingerprint(entry) not in self._aside
                    if not counts:
                        del self._open[identity]
            if counts:
                kept.append(entry)
        return b"".join(kept)


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
