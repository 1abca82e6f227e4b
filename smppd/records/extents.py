"""Extents: which ids and which times of acceptance stretches of the log hold, as they were written.

Ids rise whatever the clock does, and a record's own time follows the clock, whatever the ids do: after a clock was set back
the two are days apart. So what is to be found or purged for a time is looked for where it was written, never where a clock
that behaved would have put it. Extents of indexed rows are in a table (the indexer writes them with each run); those of the
rows behind that are measured when they are asked for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from smppd.pacing import breathe
from smppd.vault.keys import VaultError
from smppd.vault.seal import iter_times

RECORDS: Final = 1000
"""Records after which an extent ends."""
SPAN_MS: Final = 3_600_000
"""Milliseconds that the times in an extent may be apart, unless those of one row are."""
_PAGE: Final = 64
_ROWS_A_STATEMENT: Final = 500
_COLUMNS: Final = "first, last, low, high, earliest, latest, lead"


class Extent(NamedTuple):
    """A stretch of the log: rows ``first`` to ``last``. ``low``, ``high``: record ids in it, 0 where it has none; ``earliest``,
    ``latest``: epoch ms of acceptance; ``lead``: milliseconds that an id in it is ahead of its record's time at most."""

    first: int
    last: int
    low: int
    high: int
    earliest: int
    latest: int
    lead: int

    def touches(self, start: float, end: float) -> bool:
        """Whether a record in it may have been accepted at ``start <= t < end`` (epoch seconds)."""
        return self.low > 0 and self.earliest < end * 1000 and self.latest >= start * 1000


class Measure:
    """Makes extents of rows that are given in rising order."""

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
            self._open = before._replace(last=seq)
        elif not before.low:
            self._open, self._count = row._replace(first=before.first), count
        else:
            joined = Extent(
                before.first,
                seq,
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
        """A row that cannot be read: what is wrong with it is for whoever needs its records to say."""
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


def has_table(db: sqlite3.Connection) -> bool:
    """Whether the store has extents at all: data.db may be of an earlier version where it is only read."""
    return db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'extents'").fetchone() is not None


def written(db: sqlite3.Connection, upto: int | None = None) -> list[Extent]:
    """The extents in the table, oldest first. ``upto``: of rows up to this one."""
    if not has_table(db):
        return []
    bound = "" if upto is None else f" WHERE first <= {upto:d}"
    return [Extent(*row) for row in db.execute(f"SELECT {_COLUMNS} FROM extents{bound} ORDER BY first").fetchall()]


def write(db: sqlite3.Connection, extents: Iterable[Extent]) -> None:
    """Adds extents to the table, in the caller's transaction."""
    listed = list(extents)
    for at in range(0, len(listed), _ROWS_A_STATEMENT):
        some = listed[at : at + _ROWS_A_STATEMENT]
        marks = ",".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(some))
        db.execute(f"INSERT OR REPLACE INTO extents VALUES {marks}", [value for one in some for value in one])


def measured(
    db: sqlite3.Connection, id_time: Callable[[int], float], after: int, until: int | None = None
) -> Iterator[Extent]:
    """The extents of rows above ``after`` (up to ``until``), read from the log."""
    measure = Measure(id_time)
    bound = "" if until is None else f" AND seq <= {until:d}"
    while True:
        page = db.execute(
            f"SELECT seq, CAST(records AS BLOB) FROM log WHERE seq > ?{bound} ORDER BY seq LIMIT {_PAGE}", (after,)
        ).fetchall()
        if not page:
            break
        for seq, records in page:
            _add(measure, seq, records)
        after = page[-1][0]
    yield from measure.take()


def _add(measure: Measure, seq: int, records: bytes) -> None:
    breathe()
    try:
        measure.add(seq, records)
    except VaultError:
        measure.pass_over(seq)


def cover(db: sqlite3.Connection, id_time: Callable[[int], float], indexed: int) -> bool:
    """Adds the extents of some rows that an earlier version indexed without them, newest first; False when none are left.
    Raises sqlite3.Error."""
    first = db.execute("SELECT min(first) FROM extents").fetchone()[0]
    below = indexed + 1 if first is None else first
    rows = db.execute(
        f"SELECT seq, CAST(records AS BLOB) FROM log WHERE seq < ? ORDER BY seq DESC LIMIT {_PAGE}", (below,)
    ).fetchall()
    measure = Measure(id_time)
    for seq, records in reversed(rows):
        _add(measure, seq, records)
    made = measure.take()
    if made:
        # A row that was trimmed meanwhile makes an extent of nothing, which the next purge takes away.
        write(db, made)
    return bool(made)


class Extents:
    """All extents of a log, for whoever asks again and again: only what is new is measured."""

    def __init__(self, db: sqlite3.Connection, id_time: Callable[[int], float]) -> None:
        """db: a connection to data.db."""
        self._db = db
        self._id_time = id_time
        self._old: list[Extent] | None = None
        self._tail: list[Extent] = []

    def all(self) -> list[Extent]:
        """Every row of the log is in one of them, oldest first."""
        listed = written(self._db)
        upto = listed[-1].last if listed else 0
        self._tail = [one for one in self._tail if one.last > upto]
        seen = max(upto, self._tail[-1].last if self._tail else 0)
        self._tail += measured(self._db, self._id_time, seen)
        old: list[Extent] = []
        if listed:
            if self._old is None:
                self._old = list(measured(self._db, self._id_time, 0, listed[0].first - 1))
            old = [one for one in self._old if one.last < listed[0].first]
        return old + listed + self._tail
