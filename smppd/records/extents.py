"""Extents: which record ids and which times of acceptance a stretch of the log holds.

Ids always rise, and a record's time follows the clock: after a clock was set back the two may be days apart. So records of a
time are looked for where an extent says that they were written, and not where a right clock would have put them. Extents of
indexed rows are in a table, which the indexer writes with each run. Extents of newer rows are measured when they are asked
for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from smppd.pacing import breathe
from smppd.store.log import LAST_ID, Extent, IndexRows, Log
from smppd.vault.keys import VaultError
from smppd.vault.seal import iter_times

RECORDS: Final = 1000
"""Records after which an extent ends."""
SPAN_MS: Final = 3_600_000
"""Milliseconds that the times in an extent may be apart, unless those of one row are."""
_PAGE: Final = 64


class ExtentBuilder:
    """Makes extents of rows, which are given by their ids; where nodes share a log one may come late."""

    def __init__(self, id_time: Callable[[int], float]) -> None:
        """id_time: epoch seconds at which an id was drawn."""
        self._id_time = id_time
        self._done: list[Extent] = []
        self._open: Extent | None = None
        self._count = 0

    def add(self, seq: int, records: bytes) -> None:
        """One log row. Raises SealError for records that cannot be read; then nothing is added."""
        low = high = earliest = latest = lead = count = 0
        for identity, accepted in iter_times(records):
            if not count:
                low = high = identity
                earliest = latest = accepted
            low, high = min(low, identity), max(high, identity)
            earliest, latest = min(earliest, accepted), max(latest, accepted)
            lead = max(lead, round(self._id_time(identity) * 1000) - accepted)
            count += 1
        before = self._open
        row = Extent(seq, seq, low, high, earliest, latest, lead)
        if before is None or self._count + count > RECORDS:
            self._begin(row, count)
        elif not count:
            self._open = before._replace(first=min(before.first, seq), last=max(before.last, seq))
        elif not before.low:
            self._open = row._replace(first=min(before.first, seq), last=max(before.last, seq))
            self._count = count
        else:
            joined = Extent(
                min(before.first, seq),
                max(before.last, seq),
                min(before.low, low),
                max(before.high, high),
                min(before.earliest, earliest),
                max(before.latest, latest),
                max(before.lead, lead),
            )
            if joined.latest - joined.earliest > SPAN_MS:
                self._begin(row, count)
            else:
                self._open = joined
                self._count += count

    def pass_over(self, seq: int) -> None:
        """Passes over a row that cannot be read. Whoever needs its records reports what is wrong with it."""
        self.add(seq, b"")

    def _begin(self, row: Extent, count: int) -> None:
        if self._open is not None:
            self._done.append(self._open)
        self._open, self._count = row, count

    def take(self) -> list[Extent]:
        """All that were made; begins anew."""
        made = [*self._done, self._open] if self._open is not None else []
        self._done, self._open, self._count = [], None, 0
        return made


def measured(log: Log, id_time: Callable[[int], float], after: int, until: int = LAST_ID) -> Iterator[Extent]:
    """The extents of rows above ``after`` (up to ``until``), read from the log."""
    measure = ExtentBuilder(id_time)
    while page := log.packed(after, until, _PAGE):
        for seq, records in page:
            _add(measure, seq, records)
        after = page[-1][0]
    yield from measure.take()


def beyond(log: Log, id_time: Callable[[int], float]) -> list[Extent]:
    """The extents of rows that the indexes do not cover."""
    measure = ExtentBuilder(id_time)
    front = log.covered()
    while page := log.packed_beyond(front, _PAGE):
        for seq, records in page:
            _add(measure, seq, records)
            front[log.node(seq)] = seq
    return measure.take()


def _add(measure: ExtentBuilder, seq: int, records: bytes) -> None:
    breathe()
    try:
        measure.add(seq, records)
    except VaultError:
        measure.pass_over(seq)


def cover(log: IndexRows, id_time: Callable[[int], float]) -> bool:
    """Adds the extents of some rows that an earlier version indexed without them, newest first; False when none are left.
    Raises StoreError."""
    first = log.measured_from()
    below = log.indexed() + 1 if first is None else first
    measure = ExtentBuilder(id_time)
    for seq, records in log.before(below, _PAGE):
        _add(measure, seq, records)
    made = measure.take()
    if made:
        # A row that was trimmed meanwhile makes an extent of nothing, which the next purge takes away.
        log.cover(made)
    return bool(made)


class Extents:
    """All extents of a log, for callers that ask again and again: only new rows are measured."""

    def __init__(self, log: Log, id_time: Callable[[int], float]) -> None:
        self._log = log
        self._id_time = id_time
        self._old: list[Extent] | None = None
        self._tail: list[Extent] = []

    def all(self) -> list[Extent]:
        """Every row of the log is in one of them, oldest first by their first rows."""
        listed = self._log.extents()
        if self._log.several:
            return sorted([*listed, *beyond(self._log, self._id_time)])
        upto = listed[-1].last if listed else 0
        self._tail = [one for one in self._tail if one.last > upto]
        seen = max(upto, self._tail[-1].last if self._tail else 0)
        self._tail += measured(self._log, self._id_time, seen)
        old: list[Extent] = []
        if listed:
            if self._old is None:
                self._old = list(measured(self._log, self._id_time, 0, listed[0].first - 1))
            old = [one for one in self._old if one.last < listed[0].first]
        return old + listed + self._tail
