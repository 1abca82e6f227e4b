"""The sealed log in SQLite files: `store.log` for those who read it, index it and purge it, each on connections of their own.

They work beside the running daemon, in short statements: a long one would keep the write-ahead log from being truncated.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeVar

from smppd.store.api import StoreBusy, StoreError, StoreFull
from smppd.store.lock import in_use
from smppd.store.log import LAST_ID, Extent, Front, LogRow, Outline, Segment
from smppd.store.log_parts import EventSegments, as_seen, fitting
from smppd.store.sqlite.damaged import overdue
from smppd.store.sqlite.database import Database, spoken
from smppd.store.sqlite.held_rows import SqliteHeldRows
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.store.sqlite.slots import IS_SLOT

ANCHOR: Final = "anchor"
"""Name in `meta` of the chain before the first row that is left, once the oldest rows were deleted."""
ANCHOR_ROW: Final = "anchor row"
"""Name in `meta` of the last row that was deleted with them."""
INDEXED: Final = "indexed"
"""Name in `meta` of the last log row that the indexes cover."""
INDEX_CHANGES: Final = "index changes"
"""Name in `meta` of how often an erasure has changed a segment of the numbers' index in its place."""

_TABLES: Final = {"number": "number_index", "event": "event_index"}
_EXTENT: Final = "first, last, low, high, earliest, latest, lead"
_EXTENTS_A_STATEMENT: Final = 500
_PAGE: Final = 500
_T = TypeVar("_T")
_TRIES: Final = 20
_PATIENCE_MS: Final = 250
_PAUSE: Final = 0.01
_SCRUB_PAGES: Final = 64
_SCRUB: Final = "scrubbed"
"""A table that is there only while free pages are overwritten: it takes them all, filled with zeros, and gives them back."""


def whole_pages(pages: int, size: int) -> int:
    """The length of a blob, the only column of its row, that fills so many overflow pages of `size` octets to their end: the
    rest of a page that is not filled keeps what stood there. Of the record so much stays in the leaf that this comes out, if
    it can (sqlite.org/fileformat2.html, 1.6)."""
    least = (size - 12) * 32 // 255 - 23
    record = least + pages * (size - 4)
    for header in (3, 4, 5, 6):  # its own length, and the type of a blob as a varint
        blob = record - header
        if 1 + (2 * blob + 12).bit_length() // 7 + bool((2 * blob + 12).bit_length() % 7) == header:
            return blob
    raise AssertionError("a record of this size has a header of 3 to 6 octets")


class _SqliteLog:
    """`store.log.Log` over data.db."""

    def __init__(self, data: Database) -> None:
        self.data = data
        self._directory = data.path.parent
        version = data.version()
        # data.db may be of an earlier version where it is only read.
        self._named = "log.secrets" if version > 1 else "NULL"
        self._mac = "CAST(mac AS BLOB)" if version > 2 else "NULL"
        self._sealed = version > 2
        self._measured = data.one("SELECT 1 FROM sqlite_schema WHERE name = 'extents'") is not None

    def bounds(self) -> tuple[int, int] | None:
        """See `store.log.Log`."""
        # Each by itself: only then SQLite goes to the end of the table instead of through it.
        query = "SELECT (SELECT min(seq) FROM log), (SELECT max(seq) FROM log)"
        lowest, highest = self.data.one(query) or (None, None)
        return None if lowest is None or highest is None else (lowest, highest)

    def packed(self, after: int, until: int, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Log`."""
        return self._pages("records", after, until, limit)

    def _pages(self, column: str, after: int, until: int, limit: int) -> list[tuple[int, bytes]]:
        return self.data.all(
            # Cast, because who edits the file may change types too.
            f"SELECT seq, CAST({column} AS BLOB) FROM log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            (after, until, limit),
        )

    def before(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Log`."""
        query = "SELECT seq, CAST(records AS BLOB) FROM log WHERE seq < ? ORDER BY seq DESC LIMIT ?"
        return [(row[0], row[1]) for row in reversed(self.data.all(query, (seq, limit)))]

    def extents(self, upto: int = LAST_ID) -> list[Extent]:
        """See `store.log.Log`."""
        if not self._measured:
            return []
        rows = self.data.all(f"SELECT {_EXTENT} FROM extents WHERE first <= ? ORDER BY first", (upto,))
        return [Extent(*row) for row in rows]

    def indexed(self) -> int:
        """See `store.log.Log`."""
        row = self.data.one("SELECT value FROM meta WHERE name = ?", (INDEXED,))
        return 0 if row is None else int(row[0])

    several = False

    def node(self, _seq: int) -> int:
        """See `store.log.Log`: there is one log."""
        return 0

    def covered(self) -> dict[int, int]:
        """See `store.log.Log`."""
        return {0: self.indexed()}

    def packed_beyond(self, front: Front, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Log`."""
        return self._pages("records", front.get(0, 0), LAST_ID, limit)

    def close(self) -> None:
        """Closes the file."""
        self.data.close()


class SqliteRecords(_SqliteLog):
    """`store.log.Records` of a store's directory. For one thread. Raises StoreError when there is no store."""

    def __init__(self, directory: Path) -> None:
        with ExitStack() as undo:
            self.keys = ReadOnlyKeys(directory)
            undo.callback(self.keys.close)
            self.held = SqliteHeldRows(self.keys.database)
            super().__init__(Database(directory / "data.db", "data", read_only=True))
            undo.pop_all()
        self._events = EventSegments()

    def close(self) -> None:
        """Closes the files."""
        self.data.close()
        self.keys.close()

    def of(self, _node: int) -> SqliteRecords:
        """See `store.log.Records`: there is one log."""
        return self

    def near(self, record_id: int) -> list[int]:
        """See `store.log.Records`."""
        if not 0 < record_id <= LAST_ID:
            return []
        before = self.data.one("SELECT max(seq) FROM log WHERE seq <= ?", (record_id,)) or (None,)
        after = self.data.one("SELECT min(seq) FROM log WHERE seq > ?", (record_id,)) or (None,)
        return [seq for seq in (before[0], after[0]) if seq is not None]

    def row(self, seq: int) -> LogRow | None:
        """See `store.log.Records`."""
        found = self.data.one(f"{self._select()} WHERE seq = ?", (seq,))
        return None if found is None else LogRow(*found)

    def link_before(self, seq: int) -> bytes | None:
        """See `store.log.Records`."""
        row = self.data.one("SELECT CAST(chain AS BLOB) FROM log WHERE seq < ? ORDER BY seq DESC LIMIT 1", (seq,))
        return self.anchor()[0] if row is None else row[0] or b""

    def rows(self, after: int, limit: int) -> list[LogRow]:
        """See `store.log.Records`."""
        found = self.data.all(f"{self._select()} WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
        return [LogRow(*row) for row in found]

    def _select(self) -> str:
        return (
            "SELECT seq, CAST(count AS INTEGER), CAST(records AS BLOB), CAST(events AS BLOB), CAST(chain AS BLOB),"
            f" CAST(digests AS BLOB), {self._mac}, {self._named} FROM log LEFT JOIN purged USING (seq)"
        )

    def secrets(self, row: LogRow) -> bytes:
        """See `store.log.Records`."""
        return self.keys.secrets(row.secrets or row.seq)

    def events(self, seq: int) -> bytes:
        """See `store.log.Records`."""
        row = self.data.one("SELECT CAST(events AS BLOB) FROM log WHERE seq = ?", (seq,))
        return b"" if row is None else row[0]

    def told(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Records`."""
        return self._pages("events", after, LAST_ID, limit)

    def told_beyond(self, front: Front, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Records`."""
        return self.told(front.get(0, 0), limit)

    def number_segments(self, bucket: int, first: int, last: int) -> list[bytes]:
        """See `store.log.Records`."""
        query = "SELECT data FROM number_index WHERE bucket = ? AND last >= ? AND first <= ?"
        return [row[0] for row in self.data.all(query, (bucket, first, last))]

    def number_ends(self) -> list[int]:
        """See `store.log.Records`. Buckets are merged one by one, at about the same time: the one of most pieces stands for
        all."""
        query = (
            "SELECT last FROM number_index WHERE bucket ="
            " (SELECT bucket FROM number_index GROUP BY bucket ORDER BY count(*) DESC LIMIT 1) ORDER BY last"
        )
        return [row[0] for row in self.data.all(query)]

    def event_segments(self, bucket: int, record_id: int, first: int) -> list[bytes]:
        """See `store.log.Records`. What was read stays in memory, up to `log_parts.EVENT_OCTETS`."""
        query = "SELECT rowid, first, last, length(data) FROM event_index WHERE bucket = ? AND last >= ? AND low <= ?"
        with self.data.snapshot():
            return self._events.all(self.data.all(query, (bucket, first, record_id)), self._event_segment)

    def _event_segment(self, handle: int) -> bytes:
        data: bytes = self.data.all("SELECT data FROM event_index WHERE rowid = ?", (handle,))[0][0]
        return data

    def outline(self) -> Outline:
        """See `store.log.Records`."""
        with self.data.snapshot():
            anchor, row = self.anchor()
            lowest, highest = self.bounds() or (None, None)
            signed = self.data.all("SELECT CAST(signed AS BLOB) FROM checkpoints ORDER BY seq")
            newest = self.data.one("SELECT max(number) FROM seals") if self._sealed else None
        return Outline(anchor, row, lowest, highest, [one[0] for one in signed], None if newest is None else newest[0])

    def anchor(self) -> tuple[bytes | None, int | None]:
        """See `store.log.Records`."""
        link = self.data.one("SELECT CAST(value AS BLOB) FROM meta WHERE name = ?", (ANCHOR,))
        row = self.data.one("SELECT CAST(value AS INTEGER) FROM meta WHERE name = ?", (ANCHOR_ROW,))
        return (None if link is None else link[0] or b""), (None if row is None else row[0])

    def seals(self, after: int, until: int, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Records`."""
        return self.data.all(
            "SELECT number, CAST(signed AS BLOB) FROM seals WHERE number > ? AND number <= ? ORDER BY number LIMIT ?",
            (after, until, limit),
        )

    def chain_of(self, seq: int) -> int:
        """See `store.log.Records`."""
        return 0

    def first_seal(self, chain: int) -> bytes | None:
        """See `store.log.Records`."""
        return next((signed for _number, signed in self.seals(0, LAST_ID, 1)), None)


class SqliteIndex(_SqliteLog):
    """`store.log.IndexRows` of a store's directory. For one thread. Raises StoreError."""

    def __init__(self, directory: Path) -> None:
        super().__init__(Database(directory / "data.db", "data"))
        # An index entry that a power cut takes is built again, so the write lock need not wait for the disk.
        self.data.run("PRAGMA synchronous = NORMAL")
        # Merged segments leave no blind values of numbers in free pages, which a purge or an erasure would not find there.
        self.data.run("PRAGMA secure_delete = ON")
        self._changes = 0
        self._known = 0
        self._span = (0, -1)

    def unindexed(self, front: Front, limit: int) -> list[LogRow]:
        """See `store.log.IndexRows`."""
        rows = self.data.all(
            "SELECT seq, count, records, events FROM log WHERE seq > ? ORDER BY seq LIMIT ?", (front.get(0, 0), limit)
        )
        return [LogRow(seq, written, packed, told, b"", None, None, None) for seq, written, packed, told in rows]

    def measured_from(self) -> int | None:
        """See `store.log.IndexRows`."""
        row = self.data.one("SELECT min(first) FROM extents")
        return None if row is None else row[0]

    def add(self, before: Front, after: Front, segments: Sequence[Segment], extents: Sequence[Extent]) -> None:
        """See `store.log.IndexRows`."""
        with self.data.writing():
            if self.indexed() != before.get(0, 0):
                raise StoreError("the indexes are being built by another process")
            if self._erased_in(*self._span) != self._known:
                raise StoreBusy("records were erased while their index was being built")
            for name, table in _TABLES.items():
                rows = [one for one in segments if one.table == name]
                if rows:
                    # One statement, not one a row: each hands over the interpreter lock, and the write lock is held.
                    values = ",".join(["(?, ?, ?, 0, ?, ?)"] * len(rows))
                    self.data.run(
                        f"INSERT INTO {table} (first, last, bucket, level, low, data) VALUES {values}",
                        [value for row in rows for value in row[1:]],
                    )
            self._write(extents)
            self.data.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (INDEXED, after[0]))

    def cover(self, extents: Sequence[Extent]) -> None:
        """See `store.log.IndexRows`."""
        with self.data.writing():
            self._write(extents)

    def _write(self, extents: Sequence[Extent]) -> None:
        for at in range(0, len(extents), _EXTENTS_A_STATEMENT):
            some = extents[at : at + _EXTENTS_A_STATEMENT]
            marks = ",".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(some))
            self.data.run(f"INSERT OR REPLACE INTO extents VALUES {marks}", [value for one in some for value in one])

    def small(self, table: str, count: int) -> list[tuple[int, Segment]]:
        """See `store.log.IndexRows`."""
        name = _TABLES[table]
        full = self.data.one(
            f"SELECT bucket FROM {name} WHERE level = 0 GROUP BY bucket HAVING count(*) >= ? LIMIT 1", (count,)
        )
        if full is None:
            return []
        self._changes = self._changed()
        rows = self.data.all(
            f"SELECT rowid, first, last, bucket, low, data FROM {name} WHERE bucket = ? AND level = 0"
            " ORDER BY last LIMIT ?",
            (full[0], count),
        )
        return [(row[0], Segment(table, *row[1:])) for row in rows]

    def merge(self, handles: Sequence[int], merged: Segment) -> bool:
        """See `store.log.IndexRows`."""
        name = _TABLES[merged.table]
        marks = ",".join("?" * len(handles))
        with self.data.writing():
            same = self._changed() == self._changes
            if not same or self.data.run(f"DELETE FROM {name} WHERE rowid IN ({marks})", handles) != len(handles):
                self.data.roll_back()
                return False
            self.data.run(
                f"INSERT INTO {name} (first, last, bucket, level, low, data) VALUES (?, ?, ?, 1, ?, ?)", merged[1:]
            )
        return True

    def erased(self, low: int, high: int) -> frozenset[int]:
        """See `store.log.IndexRows`."""
        self._span = (low, high)
        rows = self.data.all(
            "SELECT record FROM erased WHERE record >= ? AND record <= ? AND parts & 1 = 0", self._span
        )
        self._known = len(rows)
        return frozenset(row[0] for row in rows)

    def _erased_in(self, low: int, high: int) -> int:
        row = self.data.one(
            "SELECT count(*) FROM erased WHERE record >= ? AND record <= ? AND parts & 1 = 0", (low, high)
        )
        return 0 if row is None else int(row[0])

    def _changed(self) -> int:
        row = self.data.one("SELECT value FROM meta WHERE name = ?", (INDEX_CHANGES,))
        return 0 if row is None else int(row[0])


def _pages(changes: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """As many as one statement takes. One statement for many rows, since a thread of the daemon waits for the interpreter
    after each, and the writer waits for it."""
    for at in range(0, len(changes), _PAGE):
        yield changes[at : at + _PAGE]


def _places(values: int, rows: Sequence[object]) -> str:
    """Placeholders of rows with so many values."""
    return ",".join([f"({','.join('?' * values)})"] * len(rows))


class SqlitePurge(_SqliteLog):
    """`store.log.PurgeRows` of a store's directory. For one thread. Raises StoreError when there is no store."""

    def __init__(self, directory: Path) -> None:
        for name in ("keys.db", "data.db"):
            if not (directory / name).exists():
                raise StoreError(f"{directory / name}: there is no store here yet")
        with ExitStack() as undo:
            self.secrets = Database(directory / "keys.db", "keys")
            undo.callback(self.secrets.close)
            super().__init__(Database(directory / "data.db", "data"))
            # What a purge takes out is overwritten in the page it stood in and in every page that it frees.
            self.data.run("PRAGMA secure_delete = ON")
            self._stained = True
            self.secrets.gives_way = self.data.gives_way = in_use(directory)
            undo.pop_all()

    def close(self) -> None:
        """Closes the files."""
        self.data.close()
        self.secrets.close()

    @property
    def locked(self) -> float:
        """See `store.log.PurgeRows`."""
        return max(self.data.locked, self.secrets.locked)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def scopes(self) -> list[bytes]:
        """See `store.log.PurgeRows`."""
        return [bytes(row[0]) for row in self.secrets.all("SELECT scope FROM keys")]

    def has_key(self, scope: bytes) -> bool:
        """See `store.log.PurgeRows`."""
        return self.secrets.one("SELECT 1 FROM keys WHERE scope = ?", (scope,)) is not None

    def destroy_keys(self, scopes: Sequence[bytes], holds: Collection[bytes] | None = None) -> bool:
        """See `store.log.PurgeRows`."""
        self._stained = True
        with self.secrets.writing():
            if holds is not None:
                there = self.secrets.all(
                    "SELECT scope FROM keys WHERE scope >= x'686f6c642f' AND scope < x'686f6c6430'"
                )
                if {bytes(row[0]) for row in there} != set(holds):
                    self.secrets.roll_back()
                    return False
            self.secrets.run_each("DELETE FROM keys WHERE scope = ?", [(scope,) for scope in scopes])
        return True

    # -- what is remembered --------------------------------------------------------------------------------------------

    def remembered(self, name: str, default: Any) -> Any:
        """See `store.log.PurgeRows`."""
        row = self.data.one("SELECT value FROM meta WHERE name = ?", (name,))
        return default if row is None else json.loads(row[0])

    def remember(self, values: Mapping[str, object], seen: Mapping[str, object] | None = None) -> bool:
        """See `store.log.PurgeRows`."""
        with self.data.writing():
            if not as_seen(self.remembered, seen):
                self.data.roll_back()
                return False
            self._remember(values)
        return True

    def _remember(self, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            self.data.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def remove_overdue(self, now: float, kept: Callable[[str], float | None]) -> int:
        """See `store.log.PurgeRows`."""
        with self.data.writing():
            return self._overdue(now, kept)

    @spoken
    def _overdue(self, now: float, kept: Callable[[str], float | None]) -> int:
        return overdue(self.data.connection, now, kept)

    def remove_ended(self, now: float) -> int:
        """See `store.log.PurgeRows`."""
        with self.data.writing():
            return self.data.run("DELETE FROM documents WHERE until <= ?", (int(now),))

    # -- rows ----------------------------------------------------------------------------------------------------------

    def stretch(self, first: int, last: int, limit: int, octets: int) -> tuple[list[LogRow], bool]:
        """See `store.log.PurgeRows`."""
        stretch = (
            " WHERE seq >= coalesce((SELECT max(seq) FROM log WHERE seq <= ?1), ?1) AND seq <= ?2 ORDER BY seq LIMIT ?3"
        )
        asked = (first, last, limit)
        # The length of a value stands in front of it: what is too much is not read.
        sizes = [row[0] for row in self.data.all(f"SELECT length(records) FROM log{stretch}", asked)]
        number = fitting(sizes, octets)
        rows = self.data.all(
            f"SELECT seq, count, records, digests, secrets FROM log LEFT JOIN purged USING (seq){stretch}",
            (first, last, number),
        )
        found = [LogRow(seq, count, packed, b"", b"", gone, None, named) for seq, count, packed, gone, named in rows]
        return found, number < len(sizes) or len(sizes) == limit

    def kept_secrets(self, rows: Sequence[LogRow], first: int, last: int) -> list[tuple[int, bytes]]:
        """See `store.log.PurgeRows`. A slot is the log row's that names it (`store.sqlite.slots`)."""
        named = [row.secrets or row.seq for row in rows]
        return self.secrets.all(
            f"SELECT seq, data FROM secrets WHERE seq IN ({','.join('?' * len(named))})"
            f" OR seq >= ? AND seq <= ? AND NOT {IS_SLOT} ORDER BY seq",
            (*named, first, last),
        )

    def replace_secrets(self, changes: Sequence[tuple[int, bytes, bytes]]) -> bool:
        """See `store.log.PurgeRows`."""
        with self.secrets.writing():
            for some in _pages(changes):
                # Written over first, so that not even a freed page holds them whatever `secure_delete` does.
                statement = (
                    f"UPDATE secrets SET data = column3 FROM (VALUES {_places(3, some)})"
                    " WHERE seq = column1 AND data = column2"
                )
                if self.secrets.run(statement, [value for change in some for value in change]) != len(some):
                    self.secrets.roll_back()  # a slot was cut meanwhile
                    return False
                empty = [seq for seq, _, after in some if not any(after)]
                self.secrets.run(f"DELETE FROM secrets WHERE seq IN ({','.join('?' * len(empty))})", empty)
        return True

    def shorten(
        self,
        changes: Sequence[tuple[LogRow, bytes, bytes, bytes | None]],
        values: Mapping[str, object],
        seen: Mapping[str, object] | None = None,
    ) -> bool:
        """See `store.log.PurgeRows`."""
        with self.data.writing():
            if not as_seen(self.remembered, seen):
                self.data.roll_back()
                return False
            for some in _pages(changes):
                statement = (
                    f"UPDATE log SET records = column3 FROM (VALUES {_places(3, some)})"
                    " WHERE seq = column1 AND records = column2"
                )
                asked = [value for row, left, _, _ in some for value in (row.seq, row.records, left)]
                if self.data.run(statement, asked) != len(some):  # erased from meanwhile, by another process
                    self.data.roll_back()
                    return False
                rows = [row.seq for row, *_ in some]
                self.data.run(f"DELETE FROM purged WHERE seq IN ({','.join('?' * len(rows))})", rows)
                gone = [(row.seq, digests, mac) for row, _, digests, mac in some if digests]
                if gone:
                    self.data.run(
                        f"INSERT INTO purged (seq, digests, mac) VALUES {_places(3, gone)}",
                        [value for one in gone for value in one],
                    )
            self._remember(values)
        return True

    def front(self, limit: int) -> list[tuple[int, bytes, int]]:
        """See `store.log.PurgeRows`."""
        query = "SELECT seq, chain, length(records) FROM log ORDER BY seq LIMIT ?"
        return self.data.all(query, (limit,))

    def trim(self, front: tuple[int, bytes] | None, oldest: int, stale: int, limit: int) -> int:
        """See `store.log.PurgeRows`. Of the seals that cover deleted rows only the last one stays: without it nobody could tell
        that none behind it is gone."""
        segments = 0
        with self.data.writing():
            if front is not None:
                last, link = front
                self.data.run("DELETE FROM log WHERE seq <= ?", (last,))
                self.data.run("DELETE FROM purged WHERE seq <= ?", (last,))
                self.data.run("INSERT OR REPLACE INTO meta VALUES (?, ?), (?, ?)", (ANCHOR, link, ANCHOR_ROW, last))
                self.data.run(
                    "DELETE FROM seals WHERE number < (SELECT max(number) FROM seals WHERE seq <= ?)", (last,)
                )
            self.data.run("DELETE FROM extents WHERE last < ?", (oldest,))
            for table, bound in (("number_index", stale), ("event_index", oldest)):
                segments += self.data.run(
                    f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE last < ? LIMIT ?)",
                    (bound, limit),
                )
        return segments

    def wipe(self) -> bool:
        """See `store.log.PurgeRows`: overwrites the free pages and empties both write-ahead logs."""
        wait = threading.Event()
        if self._stained:
            try:
                self._scrub(wait)
            except StoreFull:
                return False  # its own leavings are taken away by the next call
            self._stained = False
        for database in (self.secrets, self.data):
            for _ in range(_TRIES):
                # A short patience each time: a checkpoint that waits for a reader keeps the daemon's writer waiting.
                if database.truncate(_PATIENCE_MS // _TRIES):
                    break
                wait.wait(_PAUSE)
            else:
                return False
        return True

    def _scrub(self, wait: threading.Event) -> None:
        """Overwrites the pages of data.db that nothing uses. The daemon's writer frees those of its spool as they are, since it
        has no time; their keys are destroyed, and whoever kept an older copy of the keys would open them. In short
        transactions, so that the writer waits for none of them."""
        data = self.data
        try:
            self._give_back(wait)  # of a call that was killed
            size = int((data.one("PRAGMA page_size") or (8192,))[0])
            left = int((data.one("PRAGMA freelist_count") or (0,))[0])
            # What is freed meanwhile goes in front of what was free, and is overwritten too: so many rounds, twice over.
            for _ in range(2 * (left // _SCRUB_PAGES + 1)):
                with data.writing():
                    free = int((data.one("PRAGMA freelist_count") or (0,))[0])
                    if free:
                        # Another process that overwrites too may have given it back.
                        data.run(f"CREATE TABLE IF NOT EXISTS {_SCRUB} (zeros BLOB NOT NULL)")
                        zeros = whole_pages(min(free, _SCRUB_PAGES), size)
                        data.run(f"INSERT INTO {_SCRUB} VALUES (zeroblob(?))", (zeros,))
                if not free:
                    break
                wait.wait(_PAUSE / 10)
            self._give_back(wait)
        finally:
            data.run("PRAGMA secure_delete = ON")

    def _give_back(self, wait: threading.Event) -> None:
        if not self._scrubbing():
            return
        self.data.run("PRAGMA secure_delete = OFF")  # what it gives back is nothing but zeros
        left = 1
        while left:
            with self.data.writing():
                if not self._scrubbing():
                    return  # another process gave it back meanwhile
                left = self.data.run(f"DELETE FROM {_SCRUB} WHERE rowid IN (SELECT rowid FROM {_SCRUB} LIMIT 4)")
            wait.wait(_PAUSE / 10)
        self.data.run(f"DROP TABLE IF EXISTS {_SCRUB}")

    def _scrubbing(self) -> bool:
        return self.data.one("SELECT 1 FROM sqlite_schema WHERE name = ?", (_SCRUB,)) is not None
