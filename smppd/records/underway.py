"""Finds what is on its way in a store that a daemon works on meanwhile: in the journal of the spool, as cold rows, set aside.

What lives moves: from the journal into a row, from a row back, into a younger block of the journal. So the journal is read,
then the rows, then the journal once more from where it ended before; what was seen once is told though it may be over by then,
and nothing that is on its way all the time is missed. The journal's entries are joined by its grammar, which the caller brings
along (`relay.ledger.journal`), as he brings what reads their payloads. Only what is asked for stays in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple, Protocol

from smppd.store.underway import Underway

_PAGE: Final = 64


class Grammar(Protocol):
    """The form of the journal, as far as it says what opens a thing and what closes it."""

    @property
    def opens(self) -> Collection[int]:
        """Kinds of entries that open a thing."""

    @property
    def closes(self) -> Collection[int]:
        """Kinds of entries that say that a thing is over."""

    def read(self, block: bytes) -> Iterator[tuple[int, int, bytes]]:
        """(kind, id, payload) of the entries in a block. Raises ValueError where the octets are no entry."""


class Thing(NamedTuple):
    """Something on its way. place: ``spool``, ``row`` or ``damaged``; kind: of the entry that opens it, of the cold row
    (`store.api.Kind`), or that of the damaged item as ``name``; owner: of a row or an item; data: its payload; marks: what the
    journal says of it since, (kind, payload)."""

    place: str
    kind: int
    name: str
    owner: str
    id: int
    data: bytes
    marks: tuple[tuple[int, bytes], ...] = ()

    def __repr__(self) -> str:
        return f"<Thing {self.place} {self.id:016x}>"


class Unread:
    """How many things did not open, or could not be read."""

    def __init__(self) -> None:
        self.blocks = self.entries = self.rows = self.items = 0

    def __bool__(self) -> bool:
        return bool(self.blocks or self.entries or self.rows or self.items)

    def counts(self) -> dict[str, int]:
        """By what they are."""
        return {"blocks": self.blocks, "entries": self.entries, "rows": self.rows, "items": self.items}


class _Journal:
    """The journal, read in one direction. kept: the things that are wanted and not over, as far as it was read."""

    def __init__(
        self, source: Underway, grammar: Grammar, wanted: Callable[[Thing], bool | None], unread: Unread
    ) -> None:
        self._source = source
        self._grammar = grammar
        self._wanted = wanted
        self._unread = unread
        self._at = 0
        self._bad: set[int] = set()
        self.kept: dict[int, Thing] = {}

    def read(self, *, closing: bool) -> None:
        """On to its end. closing: what is over is forgotten; otherwise it stays, since it may have moved."""
        while page := self._source.blocks(self._at, _PAGE):
            for block in page:
                if block.data is None:
                    self._unread.blocks += 1
                else:
                    self._block(block.data, closing)
            self._at = page[-1].at
        self._unread.entries += len(self._bad)
        self._bad.clear()

    def _block(self, data: bytes, closing: bool) -> None:
        try:
            for kind, identity, payload in self._grammar.read(data):
                if kind in self._grammar.opens:
                    self._open(Thing("spool", kind, "", "", identity, payload))
                elif kind in self._grammar.closes:
                    self._bad.discard(identity)
                    if closing:
                        self.kept.pop(identity, None)
                elif identity in self.kept:
                    thing = self.kept[identity]
                    self.kept[identity] = thing._replace(marks=(*thing.marks, (kind, payload)))
        except ValueError:
            self._unread.blocks += 1

    def _open(self, thing: Thing) -> None:
        wanted = self._wanted(thing)
        if wanted:
            self.kept[thing.id] = thing
        elif wanted is None and thing.id not in self.kept:
            self._bad.add(thing.id)
        if wanted is not None:
            self._bad.discard(thing.id)


def find(source: Underway, grammar: Grammar, wanted: Callable[[Thing], bool | None], unread: Unread) -> Iterator[Thing]:
    """The things that are wanted, each once, in no order. wanted(thing): whether it is; None where it cannot be read, which is
    counted in `unread`. Raises StoreError."""
    journal = _Journal(source, grammar, wanted, unread)
    journal.read(closing=True)
    told: set[int] = set()
    at: tuple[int, str, bytes, int] | None = None
    while page := source.rows(at, _PAGE):
        for _place, row in page:
            if row is None:
                unread.rows += 1
            elif row.data and row.id not in told and row.id not in journal.kept:
                thing = Thing("row", row.kind, "", row.owner, row.id, row.data)
                found = wanted(thing)
                if found:
                    told.add(row.id)
                    yield thing
                elif found is None:
                    unread.rows += 1
        at = page[-1].at
    journal.read(closing=False)
    for identity in sorted(journal.kept):
        if identity not in told:
            yield journal.kept[identity]
    number = 0
    while items := source.damaged(number, _PAGE):
        for _, item in items:
            if item is None:
                unread.items += 1
                continue
            thing = Thing("damaged", 0, item.kind, item.owner, item.id, item.data)
            found = wanted(thing)
            if found:
                yield thing
            elif found is None:
                unread.items += 1
        number = items[-1][0]
