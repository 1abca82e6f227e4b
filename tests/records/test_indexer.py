"""Index segments: complete at every moment, merged, found again after a kill, built beside a writing store."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from smppd import pacing
from smppd.ids import id_time
from smppd.message import State
from smppd.records import indexer
from smppd.records.indexer import Indexer, IndexerThread
from smppd.records.search import by_number
from smppd.records.segments import BUCKETS, build_segment, number_bucket, record_bucket
from smppd.store.api import StoreError
from smppd.store.log import IndexRows
from smppd.store.sqlite.log_rows import SqliteIndex
from tests.store.builder import Builder
from tests.store.houses import House, embedded_only

Opened = tuple[Builder, IndexRows]


@pytest.fixture
def log(house: House) -> Iterator[Opened]:
    builder = Builder(house)
    rows = house.place.index()
    yield builder, rows
    rows.close()
    builder.close()


def found(builder: Builder, numbers: int) -> list[int]:
    with builder.reader() as reader:
        return [
            f.record.header.record_id
            for n in range(numbers)
            for f in by_number(reader, [b"4477009%05d" % n])
        ]  # fmt: skip


def drain(indexer: Indexer) -> int:
    steps = 0
    while indexer.step():
        steps += 1
        assert steps < 10_000
    return steps


def test_buckets_are_in_range() -> None:
    assert {number_bucket(bytes((n,)) * 16) for n in range(256)} == set(range(BUCKETS))
    spread = [record_bucket(n << 22) for n in range(10_000)]
    assert max(map(spread.count, range(BUCKETS))) < 2 * 10_000 / BUCKETS


def test_only_full_runs_are_indexed(log: Opened) -> None:
    builder, index = log
    builder.fill(3, 9)
    indexer = Indexer(index, id_time, run=10)
    drain(indexer)
    rows = [row[0] for row in builder.house.ask("SELECT seq FROM log ORDER BY seq")]
    assert index.indexed() == rows[1]
    builder.fill(1, 9)
    drain(indexer)
    assert index.indexed() > rows[2]
    assert sorted(found(builder, 27)) == sorted(builder.packed)


def test_everything_is_found_at_every_step(log: Opened) -> None:
    builder, index = log
    ids = set(builder.fill(12, 5))
    indexer = Indexer(index, id_time, run=10, fan=2)
    going = True
    while going:
        with builder.reader() as reader:
            numbers = [b"4477009%05d" % n for n in range(60)]
            assert {f.record.header.record_id for f in by_number(reader, numbers)} == ids
            assert all(reader.events(identity) for identity in list(ids)[::7])
        going = indexer.step()
    assert builder.house.ask("SELECT count(*) FROM number_index WHERE level = 1")[0][0] > 0


def test_a_page_that_was_not_full_was_the_last_though_more_rows_come(log: Opened) -> None:
    builder, index = log
    work = Indexer(index, id_time, run=1000, fan=2)
    builder.fill(17, 1)
    assert (work.step(), work.idle) == (True, False), "a full page: there may be more"
    assert work.step() and work.idle
    builder.fill(1, 1)
    assert work.step() and work.idle, "whoever looks at once finds a row a statement"
    assert not work.step() and work.idle


def test_rows_that_keep_coming_put_off_no_run_and_no_merge(log: Opened) -> None:
    builder, index = log
    work = Indexer(index, id_time, run=10, fan=2)
    for _ in range(8):
        builder.fill(3, 5)
        while True:
            work.step()
            if work.idle:
                break
    query = "SELECT count(*) FROM number_index WHERE level = 1"
    assert index.indexed() and builder.house.ask(query)[0][0] > 0
    assert sorted(found(builder, 15)) == sorted(builder.packed)


def test_small_segments_are_merged(log: Opened) -> None:
    builder, index = log
    builder.fill(64, 5)
    drain(Indexer(index, id_time, run=10, fan=4))
    for table in ("number_index", "event_index"):
        query = (
            f"SELECT level, max(n) FROM (SELECT level, bucket, count(*) AS n FROM {table} GROUP BY level, bucket) AS each"
            " GROUP BY level"
        )
        levels: dict[int, int] = dict(builder.house.ask(query))
        assert levels[0] < 4 and levels[1] >= 1
    assert len(found(builder, 320)) == 320


def test_a_killed_indexer_goes_on_where_it_was(log: Opened) -> None:
    builder, index = log
    builder.fill(10, 5)
    for _ in range(4):
        Indexer(index, id_time, run=10, fan=2).step()  # collected, never written
    assert index.indexed() == 0
    half = Indexer(index, id_time, run=10, fan=2)
    for _ in range(5):
        half.step()
    drain(Indexer(index, id_time, run=10, fan=2))
    assert sorted(found(builder, 50)) == sorted(builder.packed)


def test_two_indexers_do_not_write_twice(log: Opened) -> None:
    builder, index = log
    builder.fill(4, 5)
    one, two = Indexer(index, id_time, run=10), Indexer(index, id_time, run=10)
    one.step(), two.step()
    one.step()
    with pytest.raises(StoreError, match="another process"):
        two.step()
    assert sorted(found(builder, 20)) == sorted(builder.packed)


def test_rows_of_events_alone_are_indexed(log: Opened) -> None:
    builder, index = log
    (record,) = builder.fill(1, 1)
    for _ in range(30):
        builder.event(record, State.ACCEPTED)
        builder.commit()
    drain(Indexer(index, id_time, run=2))
    assert builder.house.ask("SELECT count(*) FROM event_index")[0][0]
    with builder.reader() as reader:
        assert len(reader.events(record)) == 31


def test_the_thread_indexes_and_ends(log: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    builder, index = log
    rests: list[float] = []
    monkeypatch.setattr(pacing, "WORK", 0.0)
    monkeypatch.setattr(pacing, "time", SimpleNamespace(perf_counter=time.perf_counter, sleep=rests.append))
    builder.fill(4, 5)
    stop = threading.Event()
    wrong: list[str] = []
    thread = IndexerThread(lambda: builder.place.index(), id_time, stop, wrong.append, run=10)
    thread.start()
    waited = threading.Event()
    for _ in range(500):
        if index.indexed() or waited.wait(0.01):
            break
    stop.set()
    thread.join(10)
    assert not thread.is_alive() and index.indexed() and not wrong
    assert rests


def test_the_thread_tells_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "data.db").write_bytes(b"no database" * 1000)
    stop = threading.Event()
    wrong: list[str] = []

    def failed(reason: str) -> None:
        wrong.append(reason)
        stop.set()

    thread = IndexerThread(lambda: SqliteIndex(tmp_path), id_time, stop, failed)
    thread.start()
    thread.join(10)
    assert not thread.is_alive() and "not a database" in wrong[0]


@embedded_only
def test_it_rests_between_rows_and_buckets_and_never_with_the_write_lock(
    log: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder, index = log
    builder.fill(4, 5)
    rests: list[float] = []
    with closing(sqlite3.connect(builder.directory / "data.db", timeout=0, isolation_level=None)) as other:

        def rest(seconds: float) -> None:
            other.execute("BEGIN IMMEDIATE")  # an error: the store's writer would have to wait
            other.execute("ROLLBACK")
            rests.append(seconds)

        monkeypatch.setattr(pacing, "WORK", 0.0)
        monkeypatch.setattr(pacing, "time", SimpleNamespace(perf_counter=time.perf_counter, sleep=rest))
        with pacing.breathing():
            drain(Indexer(index, id_time, run=10, fan=2))
    assert len(rests) > 20, "a row each, a bucket each, a piece of a merge each"
    assert sorted(found(builder, 20)) == sorted(builder.packed)


def test_it_rests_within_a_row_of_many_records_and_between_the_pieces_of_a_large_segment(
    log: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder, db = log
    builder.fill(1, 600)
    breaths: list[str] = []
    monkeypatch.setattr(indexer, "breathe", lambda: breaths.append("breath"))
    monkeypatch.setattr(indexer, "_SOME", 50)
    monkeypatch.setattr(indexer, "_PIECE", 50)
    real = build_segment

    def build(entries: list[tuple[bytes, int]]) -> bytes:
        breaths.append("sorted")
        assert len(entries) <= 50
        return real(entries)

    monkeypatch.setattr(indexer, "build_segment", build)
    work = Indexer(db, id_time, run=100, fan=2)
    assert work.step() and len(breaths) >= 600 * 2 // 50, "the row was read"
    breaths.clear()
    # All in one bucket, as with the records of one sender.
    work._numbers = [list(chain.from_iterable(work._numbers))] + [[] for _ in range(BUCKETS - 1)]
    assert work.step()
    assert breaths.count("sorted") >= 600 * 2 // 50
    assert not any(one == two == "sorted" for one, two in pairwise(breaths))
