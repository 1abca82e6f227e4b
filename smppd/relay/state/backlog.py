"""The rows of one owner that wait on disk: counted, and read back in pages, oldest first.

All rows of an owner are younger than what is in memory of it. The number of rows is a hint: the store is asked only where
the number is not 0, and its answer counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from smppd.relay.state.living import WEIGHT
from smppd.store.api import ColdRow, Kind, Spool

PAGE: Final = 500
"""Rows of a page at the most."""
FIRST_ROWS: Final = 16
"""Rows that are read at once while nobody knows how large they are."""
# A page of rows should take so many octets of memory.
_PAGE_OCTETS: Final = 1 << 20

Rows: TypeAlias = Callable[[list[ColdRow]], None]
Edge: TypeAlias = Callable[[Rows], Rows]
"""Wraps the function that takes the rows of a query, so that an error in it stops nothing else (`Context.guarded_rows`)."""


def rows_for(rows: list[ColdRow], most: int) -> int:
    """How many rows of the size of these make a page, 1 to ``most``."""
    octets = sum(len(row.data) for row in rows) // len(rows) + WEIGHT
    return max(1, min(most, _PAGE_OCTETS // octets))


class Backlog:
    """The rows of one kind and owner. ``upto``: rows up to this id have been read into memory, or have ended.

    Rows come with rising ids, but for those that an act brings from elsewhere (`came_between`): a page that was asked for
    before such a row was durable does not have it, and would lead past it. Such a page ends before the first of these rows.
    """

    __slots__ = ("_before", "_between", "_count", "_fresh", "_paging", "_rows", "_unstored", "kind", "owner", "upto")

    def __init__(self, kind: Kind, owner: str) -> None:
        self.kind = kind
        self.owner = owner
        self.upto = 0
        self._count = 0
        self._unstored = 0
        self._between = 0
        self._before = 0  # the first id that a page under way may not lead past, 0 for none
        self._rows = FIRST_ROWS
        self._paging = False
        self._fresh = 0  # rows that a page under way may not have, since they were not durable when it was asked for

    def __len__(self) -> int:
        return self._count

    @property
    def unstored(self) -> int:
        """How many of the rows are in a batch that is not durable yet."""
        return self._unstored

    @property
    def page_rows(self) -> int:
        """How many rows a page has, after the size of the last ones."""
        return self._rows

    def count_found(self, number: int) -> None:
        """So many rows were found at the start."""
        self._count += number

    def push(self) -> None:
        """A row more: it is in a batch."""
        self._count += 1
        self._unstored += 1
        self._fresh += 1

    def push_committed(self) -> None:
        """A row's batch is durable."""
        self._unstored -= 1

    def came_between(self, identity: int) -> None:
        """The row that was pushed last has an id that is not the highest of all. Its batch is kept until it is durable."""
        self._between += 1
        self._before = min(self._before or identity, identity)

    def between_committed(self) -> bool:
        """The batch of such a row is durable. Whether there is no other one that is not."""
        self._unstored -= 1
        self._between -= 1
        if not self._between and not self._paging:
            self._before = 0
        return not self._between

    def push_refused(self) -> None:
        """A row's batch was refused."""
        self._count -= 1
        self._unstored -= 1
        self._fresh -= 1

    def miss(self, number: int) -> None:
        """So many rows are not there that were counted."""
        self._count -= number

    def take(self) -> None:
        """A row less: it was read into memory, or has ended."""
        self._count -= 1

    def page(
        self, store: Spool, limit: int, edge: Edge, then: Rows, missing: Callable[[int], None] | None = None
    ) -> None:
        """Reads up to ``limit`` of the oldest rows that were not read yet, and no more than make a page; nothing while another
        page is being read. ``then`` gets them, at least one; they are still counted. ``missing(number)``: there are none, and
        so many were counted."""
        if self._paging:
            return
        self._paging = True
        self._fresh = self._unstored

        def arrived(rows: list[ColdRow]) -> None:
            self._paging = False
            if self._before:
                whole, rows = rows, [row for row in rows if row.id < self._before]
                if not self._between:
                    self._before = 0
                    if whole and not rows:
                        self.page(store, limit, edge, then, missing)
                        return
            if missing is not None and not rows and not self._before and self._count > self._fresh:
                missing(self._count - self._fresh)
            if rows:
                self.upto = rows[-1].id
                self._rows = rows_for(rows, PAGE)
                then(rows)

        store.page(self.kind, self.owner, self.upto, min(limit, self._rows), edge(arrived))

    def peek(self, store: Spool, after: int, limit: int, edge: Edge, then: Rows) -> None:
        """Looks at up to ``limit`` rows that were not read, with ids above ``after``; they stay where they are."""
        store.page(self.kind, self.owner, max(after, self.upto), limit, edge(then))


class Expiry:
    """Ends rows of one kind whose time is over, some hundreds at a time. Where more are to end, the next ones follow as soon
    as these are durable."""

    def __init__(self, kind: Kind, most: int) -> None:
        self.kind = kind
        self._most = most
        self._looking = False

    def look(self, store: Spool, wall: int, edge: Edge, end: Callable[[list[ColdRow]], bool]) -> None:
        """Call about once a second. ``end(rows)`` ends them, and tells whether any is gone with the current batch. ``wall``:
        epoch seconds."""
        if self._looking:
            return
        self._looking = True

        def arrived(rows: list[ColdRow]) -> None:
            self._looking = False
            if rows and end(rows) and len(rows) == self._most:
                store.batch.then.append(lambda: self.look(store, wall, edge, end))
                store.kick()

        store.expired(self.kind, wall, self._most, edge(arrived))
