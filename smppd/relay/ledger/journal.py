"""The form of the spool: entries in blocks, one block for each commit. An entry opens a thing (a message, mail, a parked
receipt) or is a mark on it. A last mark closes the thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from hashlib import blake2b
from struct import Struct
from typing import Final

HEAD: Final = Struct(">BIQ")
_SIZE: Final = HEAD.size


class Entry(IntEnum):
    """Kinds of entries. ACCEPT, MAIL and PARK open a thing, the others are marks on it. ASIDE is about an entry, or the rest
    of a block, that could not be read and is kept among the damaged items: its id is the `fingerprint` of that."""

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
    """A block cannot be read from some octet on. ``rest``: all octets from there."""

    def __init__(self, reason: str, rest: bytes) -> None:
        super().__init__(reason)
        self.rest = rest


def mark(kind: int, identity: int, payload: bytes = b"") -> bytes:
    """One entry."""
    return HEAD.pack(kind, _SIZE + len(payload), identity) + payload


def fingerprint(data: bytes) -> int:
    """The name that an ASIDE mark has for something that has no id, or no id that can be trusted."""
    return int.from_bytes(blake2b(data, digest_size=8, person=b"smppd aside").digest(), "big")


def read(block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(kind, id, payload) of the entries in a block. Raises ``Broken``, with the rest of the block, where the octets are no
    entry."""
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
    """Which entries of a journal still count (``store.tidy.Entries``): what opened something that is not closed, and the
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
