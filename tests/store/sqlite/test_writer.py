"""The embedded store: what is committed is found after a restart, sealed; what is not stored is said; one daemon a store."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from smppd.ids import id_time
from smppd.message import State
from smppd.records.verify import verify_log
from smppd.store.api import Availability, ColdRow, Kind, StoreError
from smppd.store.lock import Lock
from smppd.store.sqlite.files import connect
from smppd.store.sqlite.keys import PendingKeys
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.keys import KeyRing, VaultError, segment_scope
from tests.store.builder import Builder, Statements, files


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path)
    yield builder
    builder.close()


def reopened(builder: Builder) -> SqliteStore:
    builder.close()
    store = SqliteStore(
        builder.directory, notify=lambda call: call(), later=lambda _seconds, call: call(), soon=lambda call: call()
    )
    store.use(KeyRing(builder.kek, store.keys))
    return store


def rows(builder: Builder, ask: str, *words: object) -> list[ColdRow]:
    got: list[list[ColdRow]] = []
    getattr(builder.store, ask)(*words, got.append)
    while not got:
        builder._calls.get(timeout=10)()
    return got[0]


def cold(number: int, key: bytes = b"", kind: Kind = Kind.QUEUE, expires: int = 1000) -> ColdRow:
    return ColdRow(kind, "acme", key, number, expires, b"row %d" % number)


def test_the_spool_is_replayed_in_order_and_sealed_on_disk(log: Builder) -> None:
    for n in range(70):
        log.store.batch.accepts.append(b"accept of a secret %d;" % n)
        log.store.batch.marks.append(b"mark %d;" % n)
        log.commit()
    assert b"accept of" not in files(log.directory)
    store = reopened(log)
    entries = [entry for _, entry in store.replay()]
    assert entries == [b"accept of a secret %d;mark %d;" % (n, n) for n in range(70)]
    store.close()


def test_a_dropped_segment_takes_its_entries_along(log: Builder) -> None:
    log.store.batch.accepts.append(b"first")
    log.commit()
    second = log.store.rotate()
    log.store.batch.accepts.append(b"second")
    log.store.batch.segments.append(second - 1)
    log.commit()
    log.ring.drop_segment(second - 1)
    log.store.batch.marks.append(b"third")
    log.commit()
    store = reopened(log)
    assert list(store.replay()) == [(second, b"second"), (second, b"third")]
    with pytest.raises(VaultError, match="no key"):
        KeyRing(log.kek, store.keys).segment(second - 1)
    store.close()


def test_cold_rows_come_back_clear_in_pages(log: Builder) -> None:
    batch = log.store.batch
    batch.put += [cold(n) for n in range(1, 6)] + [cold(9, b"up-9", Kind.WAITING, expires=5)]
    batch.moves += [cold(10, b"up-10", Kind.WAITING)]
    log.commit()
    assert b"row 3" not in files(log.directory)
    assert [row.id for row in rows(log, "page", Kind.QUEUE, "acme", 2, 2)] == [3, 4]
    assert [row.data for row in rows(log, "find", Kind.WAITING, "acme", [b"up-9", b"none"])] == [b"row 9"]
    assert [row.id for row in rows(log, "expired", Kind.WAITING, 100, 9)] == [9]
    log.store.batch.drop.append((Kind.QUEUE, "acme", b"", 3))
    log.store.batch.put.append(cold(4)._replace(data=b"newer"))
    log.commit()
    assert [row.data for row in rows(log, "page", Kind.QUEUE, "acme", 2, 9)] == [b"newer", b"row 5"]
    assert "row" not in repr(cold(1))
    store = reopened(log)
    assert store.counts() == {(Kind.QUEUE, "acme"): 4, (Kind.WAITING, "acme"): 2}
    store.close()


def test_a_row_moved_to_another_owner_does_not_open(log: Builder) -> None:
    damaged: list[tuple[Kind, int]] = []
    log.store.on_damage = lambda kind, _owner, identity, _reason: damaged.append((kind, identity))
    log.store.batch.put.append(cold(1))
    log.commit()
    db = sqlite3.connect(log.directory / "data.db", isolation_level=None)
    db.execute("UPDATE cold SET owner = 'beta'")
    db.close()
    assert rows(log, "page", Kind.QUEUE, "beta", 0, 9) == []
    assert damaged == [(Kind.QUEUE, 1)]
    log.record()
    log.commit()  # all else goes on


def test_keys_are_stored_before_what_they_sealed(log: Builder) -> None:
    log.record()
    log.commit()
    db = sqlite3.connect(f"file:{log.directory / 'keys.db'}?mode=ro", uri=True)
    assert db.execute("SELECT count(*) FROM keys WHERE CAST(scope AS TEXT) LIKE 'period/acme/%'").fetchone()[0] == 2
    assert db.execute("SELECT length(data) FROM secrets").fetchall() == [(64,)]
    db.close()


def test_the_chain_goes_on_after_a_restart(log: Builder) -> None:
    first = log.fill(3, 2)
    log.close()
    again = Builder(log.directory, log.kek)
    assert again.store.highest_id() >= max(first)
    again.now = log.now + 1
    again.fill(2, 2)
    with again.reader() as reader:
        verdict = verify_log(reader.records, id_time)
        assert verdict.ok and verdict.rows == 5
    again.close()


def test_a_full_disk_stores_nothing_and_goes_on_later(log: Builder) -> None:
    log.fill(1, 1)
    room = log.fill_disk()
    lost = log.record(b"x" * 200)
    log.store.batch.marks.append(b"mark")
    assert "No space" in log.refused() and log.store.availability is Availability.FULL
    assert log.store.batch.marks == [b"mark"] and not log.store.batch.accepts
    room()
    log._calls.get(timeout=10)()
    log.files_it()
    assert log.store.takes and not log.sink.wrong
    with log.reader() as reader:
        assert reader.record(lost) is None and verify_log(reader.records, id_time).ok
    log.record()
    log.commit()
    with log.reader() as reader:
        assert verify_log(reader.records, id_time).ok


def test_a_commit_is_one_write_and_many_are_filed_in_one_transaction(tmp_path: Path, statements: Statements) -> None:
    log = Builder(tmp_path)
    log.fill(1, 1)  # brings the period's keys
    store = log.store
    writes: list[int] = []
    write = store._files_of_journal.write

    def counted(segment: int, pieces: Sequence[bytes]) -> int:
        writes.append(write(segment, pieces))
        return writes[-1]

    store._files_of_journal.write = counted
    hold = threading.Event()

    def holds() -> None:
        hold.wait(10)

    store._writer.filer.give(holds)
    statements.clear()
    for _ in range(5):
        log.event(log.record(), State.SUBMITTED)
        store.batch.accepts.append(b"accept")
        log.commit(files=False)
    assert statements == {"data": [], "keys": []} and len(writes) == 5
    store.batch.then.append(lambda: None)
    log.commit(files=False)
    assert len(writes) == 5, "nothing to write"
    hold.set()
    log.files_it()
    assert {name: said.count("COMMIT") for name, said in statements.items()} == {"data": 1, "keys": 1}
    again = reopened(log)
    assert [entry for _, entry in again.replay()] == [b"accept"] * 5
    again.close()


def test_a_key_that_somebody_else_stored_first_is_not_dropped(tmp_path: Path) -> None:
    log = Builder(tmp_path)
    log.fill(1, 1)
    segment = log.ring.new_segment()
    scope = segment_scope(segment)
    other = connect(tmp_path / "keys.db", "keys")
    theirs = log.kek.wrap(scope, bytes(32))
    other.execute("INSERT INTO keys VALUES (?, ?)", (scope, theirs))
    lost = log.record()
    log.store.kick()
    log._calls.get(timeout=10)()
    assert "another process made the key segment/" in log.sink.wrong.pop()
    log.store.batch.marks.append(b"mark")
    log.store.kick()
    assert log.store.busy and log.store.commits == 1, "nothing is stored after that"
    log.close()
    assert other.execute("SELECT wrapped FROM keys WHERE scope = ?", (scope,)).fetchone() == (theirs,)
    other.close()
    with log.reader() as reader:
        assert reader.record(lost) is None and verify_log(reader.records, id_time).ok
    store = reopened(log)
    assert store.keys.get(scope) == theirs and list(store.replay()) == []
    store.close()


def test_a_block_that_a_full_disk_refused_is_not_counted(tmp_path: Path) -> None:
    log = Builder(tmp_path, sealed=True)
    log.fill(1, 1)
    room = log.fill_disk()
    log.record(b"x" * 200)
    assert log.refused() and log.store.seals is not None and log.store.seals.rows == 1
    room()
    log.fill(1, 999)
    assert points(log) == [(1, 0), (2, 2)]
    log.close()


def test_one_daemon_a_store(log: Builder, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="another smppd"):
        Lock(tmp_path)


def test_files_are_private_and_versions_are_checked(tmp_path: Path) -> None:
    db = connect(tmp_path / "store" / "data.db", "data")
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "store/data.db").stat().st_mode & 0o777 == 0o600
    assert db.execute("PRAGMA synchronous").fetchone()[0] == 2
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="newer smppd"):
        connect(tmp_path / "store" / "data.db", "data")
    (tmp_path / "rubbish.db").write_bytes(b"rubbish" * 999)
    with pytest.raises(StoreError, match="not a database"):
        connect(tmp_path / "rubbish.db", "data")


def test_pending_keys_mirror_the_file(log: Builder) -> None:
    keys = PendingKeys(log.store._files)
    assert len(list(keys.scan(b"install/"))) == 4
    assert keys.put_new(b"a", b"1") == b"1" and keys.put_new(b"a", b"2") == b"1" and keys.get(b"a") == b"1"
    keys.delete(b"a")
    keys.delete(b"never there")
    assert keys.get(b"a") is None
    assert keys.take() == ([(b"a", b"1")], [b"a"]) and keys.take() == ([], [])
    with pytest.raises(StoreError):
        keys.replace_all([])


def points(builder: Builder) -> list[tuple[int, int]]:
    """(number, rows covered) of the seals."""
    db = connect(builder.directory / "data.db", "data", read_only=True)
    signed = [bytes(row[0]) for row in db.execute("SELECT signed FROM seals ORDER BY number")]
    db.close()
    return [(one.number, one.rows) for one in map(builder.keys.read, signed)]


def test_the_writer_makes_seals_and_goes_on_counting_after_a_restart(tmp_path: Path) -> None:
    log = Builder(tmp_path, sealed=True)
    log.fill(1, 999)
    assert points(log) == [(1, 0)]
    log.fill(2, 1)
    assert points(log) == [(1, 0), (2, 2)]
    log.close()
    assert points(log) == [(1, 0), (2, 2), (3, 3)]
    again = Builder(tmp_path, sealed=True)
    assert again.store.taken_up == (True, 0, []) and again.store.seals is not None and again.store.seals.rows == 3
    again.close()
    assert [number for number, _ in points(log)] == [1, 2, 3, 4, 5]


def test_the_writer_waits_for_another_s_lock(log: Builder) -> None:
    other = connect(log.directory / "data.db", "data")
    other.execute("BEGIN IMMEDIATE")
    log.record()

    def let_go() -> None:
        other.execute("ROLLBACK")

    timer = threading.Timer(0.1, lambda: log._calls.put(let_go))
    timer.start()
    log.commit()
    timer.join()
    other.close()
    assert log.sink.done and not log.sink.wrong


def test_only_some_segments_are_looked_at_with_each_new_one(log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smppd.store.tidy._SHREDDED", 2)
    made = [log.store.rotate() for _ in range(6)]
    log.store.batch.marks.append(b"mark")
    log.commit()
    for _ in range(8):
        log.store.rotate()
        log.store.batch.marks.append(b"mark")
        log.commit()
    left = log.ring.segments()
    assert not set(made[:-1]) & set(left), "each has had its turn"
