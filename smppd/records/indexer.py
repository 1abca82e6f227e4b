"""Builds the sorted indexes over the log, beside the hot path: from blind phone numbers to records, and from records to
their events.

The log is cut into runs of about RUN records. A run becomes one segment, cut into BUCKETS by key so that sorting, writing
and reading one stays a small piece of work; FAN segments of a bucket are merged into one of the next level. Whatever is
above the last indexed row is the tail, which a search scans. Nothing here is needed for durability: an index that is lost
is built again.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from operator import itemgetter
from time import thread_time
from typing import Any, Final, NamedTuple

from smppd.message import read_events
from smppd.pacing import breathe, breathing
from smppd.records.extents import ExtentBuilder, cover
from smppd.records.segments import BUCKETS, build_record_segment, build_segment, number_bucket, record_bucket
from smppd.store.api import StoreBusy, StoreError
from smppd.store.log import Extent, IndexRows, Segment
from smppd.vault.keys import VaultError
from smppd.vault.seal import INDEX_BYTES, iter_indexes

RUN: Final = 20_000
"""Records in a segment of level 0."""
FAN: Final = 16
"""Segments of level 0 that become one of level 1: some 30 of these hold ten million records."""

_PAGE_ROWS: Final = 16
_EVENTS_A_RECORD: Final = 8
_HEAD: Final = 8  # magic 4, u32 entries; see records.segments
_PIECE: Final = 4096
_SOME: Final = 256  # entries that are gathered in one breath: half a millisecond
_SECOND: Final = itemgetter(1)
_DUTY: Final = 3.0  # seconds of rest for each second of work, which is the thread's own
_BUSY_DUTY: Final = 50.0  # ... while the store is busy: a search scans what is not indexed yet, so indexing can wait
_REST: Final = 0.005
_IDLE: Final = 3.0
_BUSY: Final = 0.5
_FAILED: Final = 60.0


class _Table(NamedTuple):
    name: str
    entry: int
    magic: bytes


_NUMBERS: Final = _Table("number", INDEX_BYTES + 8, build_segment(())[:4])
_EVENTS: Final = _Table("event", 16, build_record_segment(())[:4])


class Indexer:
    """Indexes one store; each call does a bounded bit of work. It owns what it has collected; the rows belong to the
    caller. ``idle``: whether the last call left nothing to do, but for rows that have come since."""

    def __init__(
        self,
        rows: IndexRows,
        id_time: Callable[[int], float],
        *,
        run: int = RUN,
        fan: int = FAN,
        unreadable: Callable[[str], object] = lambda _reason: None,
    ) -> None:
        """rows: the log, which nobody else uses through this. id_time: epoch seconds at which an id was drawn. run, fan: see
        RUN and FAN. unreadable(reason): told of a row of the log that is malformed, which is passed over: it is in no index,
        and `log verify` names it."""
        self._rows = rows
        self._unreadable = unreadable
        self._id_time = id_time
        self._covered = False
        self.idle = False
        self._run = run
        self._fan = fan
        self._start()

    def _start(self) -> None:
        self._from = self._rows.covered()
        self._at = dict(self._from)
        self._first = self._last = 0
        self._records = 0
        self._measure = ExtentBuilder(self._id_time)
        self._made: list[Extent] = []
        self._told = 0
        self._numbers: list[list[tuple[bytes, int]]] = [[] for _ in range(BUCKETS)]
        self._events: list[list[tuple[int, int]]] = [[] for _ in range(BUCKETS)]

    def step(self) -> bool:
        """Does a little: reads some rows, or writes a full run, or merges one bucket. False when nothing is left to do.

        Raises StoreError; then nothing was changed.
        """
        self.idle = False
        if self._full:
            self._write()
            return True
        read = self._collect()
        if read >= _PAGE_ROWS or self._full:
            return True
        if self._merge(_NUMBERS) or self._merge(_EVENTS) or self._cover():
            return True
        self.idle = True
        return read > 0

    @property
    def _full(self) -> bool:
        """Whether what is collected is a run."""
        return self._records >= self._run or self._told >= self._run * _EVENTS_A_RECORD

    def _cover(self) -> bool:
        """Extents of what an earlier version has indexed."""
        self._covered = self._covered or not cover(self._rows, self._id_time)
        return not self._covered

    def _collect(self) -> int:
        """Reads a page of rows; how many there were."""
        rows = self._rows.unindexed(self._at, _PAGE_ROWS)
        for row in rows:
            seq = row.seq
            breathe()
            try:
                self._add(seq, row.records, row.events)
            except Exception as error:  # noqa: BLE001  whatever is wrong with a row: those behind it are indexed all the same
                self._unreadable(f"{type(error).__name__}: row {seq:016x} of the log cannot be indexed")
            self._records += row.written
            # A row of another node may have a lower id than those before it.
            self._first = min(self._first or seq, seq)
            self._last = max(self._last, seq)
            self._at[self._rows.node(seq)] = seq
            if self._records >= self._run:
                break
        return len(rows)

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

    def _without_erased(self) -> None:
        """Takes out what was erased since the rows were read: it must not come back with the index."""
        low, high = 0, -1
        for numbers in self._numbers:
            breathe()
            if numbers:
                first, last = min(map(_SECOND, numbers)), max(map(_SECOND, numbers))
                low, high = (first, last) if high < 0 else (min(low, first), max(high, last))
        gone = self._rows.erased(low, high)
        if gone:
            self._numbers = [[entry for entry in numbers if entry[1] not in gone] for numbers in self._numbers]

    def _write(self) -> None:
        self._without_erased()
        span = (self._first, self._last)
        segments = [
            Segment(
                _NUMBERS.name, *span, bucket, min(map(_SECOND, numbers)), _segment(_NUMBERS, build_segment, numbers)
            )
            for bucket, numbers in enumerate(self._numbers)
            if numbers
        ] + [
            Segment(_EVENTS.name, *span, bucket, min(events)[0], _segment(_EVENTS, build_record_segment, events))
            for bucket, events in enumerate(self._events)
            if events
        ]
        self._made += self._measure.take()
        self._rows.add(self._from, self._at, segments, self._made)
        self._start()

    def _merge(self, table: _Table) -> bool:
        """Merges the oldest segments of one bucket. Each bucket is merged by itself, and is whole before and after it."""
        small = self._rows.small(table.name, self._fan)
        if not small:
            return False
        segments = [segment for _handle, segment in small]
        merged = Segment(
            table.name,
            min(one.first for one in segments),
            max(one.last for one in segments),
            segments[0].bucket,
            min(one.low for one in segments),
            _merged(table, [one.data for one in segments]),
        )
        # Where they were purged meanwhile nothing is changed, and the next look finds what is left.
        self._rows.merge([handle for handle, _segment in small], merged)
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
        open_rows: Callable[[], IndexRows],
        id_time: Callable[[int], float],
        stop: threading.Event,
        failed: Callable[[str], object],
        *,
        busy: Callable[[], bool] = lambda: False,
        ours: Callable[[], bool] = lambda: True,
        run: int = RUN,
        fan: int = FAN,
    ) -> None:
        """ours(): asked in this thread; nothing is done where another node does it. open_rows: opens the log, in this thread.
        id_time: as for `Indexer`. stop: set it, then join. failed(reason): called in this thread when something is wrong; it
        goes on after a minute. busy(): asked in this thread; then it rests much longer."""
        super().__init__(name="indexer", daemon=True)
        self._open_rows = open_rows
        self._id_time = id_time
        self._stop_event = stop
        self._failed = failed
        self._busy = busy
        self._ours = ours
        self._sizes = (run, fan)

    def run(self) -> None:
        """The thread's loop."""
        with breathing():
            self._loop()

    def _loop(self) -> None:
        indexer: Indexer | None = None
        with ExitStack() as opened:
            while not self._stop_event.is_set():
                began = thread_time()
                try:
                    if not self._ours():
                        indexer = None
                        opened.close()
                        self._stop_event.wait(_IDLE)
                        continue
                    if indexer is None:
                        opened.close()
                        rows = self._open_rows()
                        opened.callback(rows.close)
                        run, fan = self._sizes
                        indexer = Indexer(rows, self._id_time, run=run, fan=fan, unreadable=self._failed)
                    duty = _BUSY_DUTY if self._busy() else _DUTY
                    indexer.step()
                    # A page that was not full was the last. To look again at once would cost a statement a row at low rates.
                    pause = _IDLE if indexer.idle else max(_REST, duty * (thread_time() - began))
                except StoreBusy:
                    pause = _BUSY
                except Exception as error:  # noqa: BLE001  the thread's edge: it begins anew
                    known = isinstance(error, (StoreError, VaultError))
                    # The words of others may quote what was stored.
                    self._failed(f"{type(error).__name__}: {error}" if known else type(error).__name__)
                    pause = _FAILED
                    indexer = None
                    opened.close()
                self._stop_event.wait(pause)
