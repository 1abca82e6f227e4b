"""Builds the sorted indexes over the log behind the hot path: phone numbers (blind) to records, records to their events.

The log is cut into runs of about RUN records. A run becomes one segment, cut into BUCKETS by key so that sorting, writing
and reading one stays a small piece of work; FAN segments of a bucket are merged into one of the next level. Whatever is
above the last indexed row is the tail, which a search scans. Nothing here is needed for durability: an index that is lost
is built again.
"""

from __future__ import annotations

import heapq
import sqlite3
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter
from pathlib import Path
from time import thread_time
from typing import Any, Final, NamedTuple

from smppd.breath import breathe, breathing
from smppd.message import read_events
from smppd.store import extents
from smppd.store.files import StoreError, connect
from smppd.vault.index import build_record_segment, build_segment
from smppd.vault.keys import VaultError
from smppd.vault.seal import INDEX_BYTES, iter_indexes

RUN: Final = 20_000
"""Records in a segment of level 0."""
FAN: Final = 16
"""Segments of level 0 that become one of level 1: some 30 of these hold ten million records."""
BUCKETS: Final = 64
INDEXED: Final = "indexed"
"""Name in `meta` of the last log row that the indexes cover."""

_PAGE_ROWS: Final = 16
_EVENTS_A_RECORD: Final = 8
_HEAD: Final = 8  # magic 4, u32 entries; see vault.index
_PIECE: Final = 4096
_SOME: Final = 256  # entries that are gathered in one breath: half a millisecond
_SECOND: Final = itemgetter(1)
_DUTY: Final = 3.0  # seconds of rest for each second of work, which is the thread's own
_BUSY_DUTY: Final = 50.0  # ... while the store is busy: a search scans what is not indexed yet, and night will come
_REST: Final = 0.005
_IDLE: Final = 3.0
_BUSY: Final = 0.5
_FAILED: Final = 60.0
_RETRY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def number_bucket(blind: bytes) -> int:
    """The bucket of a blind index: its first bits."""
    return blind[0] * BUCKETS >> 8


def record_bucket(record_id: int) -> int:
    """The bucket of a record id: its bits mixed, since most ids end in zeros."""
    return (record_id * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 58


def indexed_upto(db: sqlite3.Connection) -> int:
    """The last log row that the indexes cover; 0 for none."""
    row = db.execute("SELECT value FROM meta WHERE name = ?", (INDEXED,)).fetchone()
    return 0 if row is None else int(row[0])


class _Table(NamedTuple):
    name: str
    entry: int
    magic: bytes


_NUMBERS: Final = _Table("number_index", INDEX_BYTES + 8, build_segment(())[:4])
_EVENTS: Final = _Table("event_index", 16, build_record_segment(())[:4])


class Indexer:
    """Indexes one store, a bounded bit of work a call. Owns what it has collected; the connection is the caller's."""

    def __init__(
        self,
        db: sqlite3.Connection,
        id_time: Callable[[int], float],
        *,
        run: int = RUN,
        fan: int = FAN,
        unreadable: Callable[[str], object] = lambda _reason: None,
    ) -> None:
        """db: a connection to data.db that nobody else uses. id_time: epoch seconds at which an id was drawn. run, fan: see
        RUN and FAN. unreadable(reason): told of a row of the log that is malformed, which is passed over: it is in no index,
        and `log verify` names it."""
        self._db = db
        self._unreadable = unreadable
        self._id_time = id_time
        self._covered = False
        self._run = run
        self._fan = fan
        self._start()

    def _start(self) -> None:
        self._at = indexed_upto(self._db)
        self._first = 0
        self._records = 0
        self._measure = extents.Measure(self._id_time)
        self._made: list[extents.Extent] = []
        self._told = 0
        self._numbers: list[list[tuple[bytes, int]]] = [[] for _ in range(BUCKETS)]
        self._events: list[list[tuple[int, int]]] = [[] for _ in range(BUCKETS)]

    def step(self) -> bool:
        """Does a little: reads some rows, or writes a full run, or merges one bucket. False when nothing is left to do.

        Raises sqlite3.Error; then nothing was changed.
        """
        if self._records >= self._run or self._told >= self._run * _EVENTS_A_RECORD:
            self._write()
            return True
        return self._collect() or self._merge(_NUMBERS) or self._merge(_EVENTS) or self._cover()

    def _cover(self) -> bool:
        """Extents of what an earlier version has indexed."""
        self._covered = self._covered or not extents.cover(self._db, self._id_time, indexed_upto(self._db))
        return not self._covered

    def _collect(self) -> bool:
        rows = self._db.execute(
            "SELECT seq, count, records, events FROM log WHERE seq > ? ORDER BY seq LIMIT ?", (self._at, _PAGE_ROWS)
        ).fetchall()
        for seq, count, records, events in rows:
            breathe()
            try:
                self._add(seq, records, events)
            except Exception as error:  # noqa: BLE001  whatever is wrong with a row: those behind it are indexed all the same
                self._unreadable(f"{type(error).__name__}: row {seq:016x} of the log cannot be indexed")
            self._records += count
            self._first = self._first or seq
            self._at = seq
            if self._records >= self._run:
                break
        return bool(rows)

    def _add(self, seq: int, records: bytes, events: bytes) -> None:
        numbers = self._numbers
        # A row is a batch of the store: thousands of records, of which each may have thousands of events beside it.
        for number, (blind, record_id) in enumerate(iter_indexes(records)):
            numbers[number_bucket(blind)].append((blind, record_id))
            if not number % _SOME:
                breathe()
        told = self._events
        for number, record_id in enumerate(dict.fromkeys(event.id for event in read_events(events))):
            told[record_bucket(record_id)].append((record_id, seq))
            self._told += 1
            if not number % _SOME:
                breathe()
        self._measure.add(seq, records)

    def _write(self) -> None:
        numbers = [
            (self._first, self._at, bucket, min(map(_SECOND, entries)), _segment(_NUMBERS, build_segment, entries))
            for bucket, entries in enumerate(self._numbers)
            if entries
        ]
        events = [
            (self._first, self._at, bucket, min(entries)[0], _segment(_EVENTS, build_record_segment, entries))
            for bucket, entries in enumerate(self._events)
            if entries
        ]
        self._made += self._measure.take()
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            if indexed_upto(db) >= self._first:
                raise StoreError("the indexes are being built by another process")
            for table, rows in ((_NUMBERS, numbers), (_EVENTS, events)):
                if rows:
                    # One statement, not one a row: each hands over the interpreter lock, and the write lock is held.
                    values = ",".join(["(?, ?, ?, 0, ?, ?)"] * len(rows))
                    db.execute(
                        f"INSERT INTO {table.name} (first, last, bucket, level, low, data) VALUES {values}",
                        [value for row in rows for value in row],
                    )
            extents.write(db, self._made)
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (INDEXED, self._at))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._start()

    def _merge(self, table: _Table) -> bool:
        """Merges the oldest segments of one bucket. Each bucket is merged in a transaction of its own, and is whole before
        and after it."""
        full = self._db.execute(
            f"SELECT bucket FROM {table.name} WHERE level = 0 GROUP BY bucket HAVING count(*) >= ? LIMIT 1",
            (self._fan,),
        ).fetchone()
        if full is None:
            return False
        rows = self._db.execute(
            f"SELECT rowid, first, last, low, data FROM {table.name} WHERE bucket = ? AND level = 0"
            " ORDER BY last LIMIT ?",
            (full[0], self._fan),
        ).fetchall()
        data = _merged(table, [row[4] for row in rows])
        bounds = (min(row[1] for row in rows), max(row[2] for row in rows), full[0], min(row[3] for row in rows), data)
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            marks = ",".join("?" * len(rows))
            gone = db.execute(f"DELETE FROM {table.name} WHERE rowid IN ({marks})", [row[0] for row in rows])
            if gone.rowcount == len(rows):  # else they were purged meanwhile
                db.execute(
                    f"INSERT INTO {table.name} (first, last, bucket, level, low, data) VALUES (?, ?, ?, 1, ?, ?)",
                    bounds,
                )
                db.execute("COMMIT")
            else:
                db.execute("ROLLBACK")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return True


def _segment(table: _Table, build: Callable[[list[Any]], bytes], entries: list[Any]) -> bytes:
    """One segment of all entries. Big ones (all messages of one sender share a blind index) are sorted in pieces, since
    nobody else runs while one is sorted."""
    breathe()
    if len(entries) <= _PIECE:
        return build(entries)
    pieces = []
    for at in range(0, len(entries), _PIECE):
        pieces.append(build(entries[at : at + _PIECE]))
        breathe()
    return _merged(table, pieces)


def _merged(table: _Table, segments: list[bytes]) -> bytes:
    """One segment of all entries, which are in one of them each. A merge, not a sort: it can be interrupted."""
    size = table.entry
    merged = heapq.merge(*(_entries(segment, size) for segment in segments))
    pieces = []
    while piece := b"".join(islice(merged, _PIECE)):
        pieces.append(piece)
        breathe()
    count = sum(map(len, pieces)) // size
    return b"".join((table.magic, count.to_bytes(4, "big"), *pieces))


def _entries(segment: bytes, size: int) -> Iterator[bytes]:
    for at in range(_HEAD, len(segment), size):
        yield segment[at : at + size]


class IndexerThread(threading.Thread):
    """Runs an `Indexer` on a store until told to stop: works a quarter of the time at most, waits when there is nothing
    to do or the store is busy."""

    def __init__(
        self,
        directory: Path,
        id_time: Callable[[int], float],
        stop: threading.Event,
        failed: Callable[[str], object],
        *,
        busy: Callable[[], bool] = lambda: False,
        run: int = RUN,
        fan: int = FAN,
    ) -> None:
        """directory: the store's. id_time: as for `Indexer`. stop: set it, then join. failed(reason): called in this thread
        when something is wrong; it goes on after a minute. busy(): asked in this thread; then it rests much longer."""
        super().__init__(name="indexer", daemon=True)
        self._directory = directory
        self._id_time = id_time
        self._stop_event = stop
        self._failed = failed
        self._busy = busy
        self._sizes = (run, fan)

    def run(self) -> None:
        """The thread's loop."""
        with breathing():
            self._loop()

    def _loop(self) -> None:
        db: sqlite3.Connection | None = None
        indexer: Indexer | None = None
        while not self._stop_event.is_set():
            began = thread_time()
            try:
                if indexer is None:
                    db = connect(self._directory / "data.db", "data")
                    # An index entry that a power cut takes is built again, so the write lock need not wait for the disk.
                    db.execute("PRAGMA synchronous = NORMAL")
                    indexer = Indexer(
                        db, self._id_time, run=self._sizes[0], fan=self._sizes[1], unreadable=self._failed
                    )
                duty = _BUSY_DUTY if self._busy() else _DUTY
                pause = max(_REST, duty * (thread_time() - began)) if indexer.step() else _IDLE
            except Exception as error:  # noqa: BLE001  the thread's edge: it begins anew
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _RETRY:
                    pause = _BUSY
                else:
                    known = isinstance(error, (sqlite3.Error, StoreError, VaultError))
                    # The words of others may quote what was stored.
                    self._failed(f"{type(error).__name__}: {error}" if known else type(error).__name__)
                    pause = _FAILED
                    indexer = None
                    if db is not None:
                        db.close()
                        db = None
            self._stop_event.wait(pause)
        if db is not None:
            db.close()
