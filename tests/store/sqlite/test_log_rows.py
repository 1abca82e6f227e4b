"""Whoever reads a store hears of the store's errors and no others; what is missing, cut off or in use is one of these."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from smppd.store.api import StoreBusy, StoreError
from smppd.store.holds import Mark
from smppd.store.log import Extent, LogRow, Segment
from smppd.store.sqlite import copies
from smppd.store.sqlite.damaged import DamagedItems
from smppd.store.sqlite.held_rows import SqliteHeldRows
from smppd.store.sqlite.keys import KeyStore, ReadOnlyKeys
from smppd.store.sqlite.log_rows import SqliteIndex, SqlitePurge, SqliteRecords
from smppd.store.sqlite.seals import witness
from smppd.store.sqlite.states import SqliteStates
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.keys import KeyRing
from tests.store.builder import Builder

ROW = LogRow(1, 1, b"", b"", b"", None, None, None)
SEGMENT = Segment("number", 1, 1, 0, 1, b"")
PIECES: dict[str, Callable[[Path], Any]] = {
    "records": SqliteRecords,
    "index": SqliteIndex,
    "purge": SqlitePurge,
    "held": SqliteHeldRows.at,
    "states": SqliteStates,
    "keys": KeyStore,
    "read only keys": ReadOnlyKeys,
}
CALLS: list[tuple[str, Callable[..., object]]] = [
    ("records", lambda one: one.bounds()),
    ("records", lambda one: one.packed(0, 9, 9)),
    ("records", lambda one: one.extents()),
    ("records", lambda one: one.indexed()),
    ("records", lambda one: one.near(7)),
    ("records", lambda one: one.row(7)),
    ("records", lambda one: one.link_before(7)),
    ("records", lambda one: one.rows(0, 9)),
    ("records", lambda one: one.secrets(ROW)),
    ("records", lambda one: one.events(7)),
    ("records", lambda one: one.told(0, 9)),
    ("records", lambda one: one.number_segments(0, 0, 9)),
    ("records", lambda one: one.event_segments(0, 7, 0)),
    ("records", lambda one: one.outline()),
    ("records", lambda one: one.anchor()),
    ("records", lambda one: one.seals(0, 9, 9)),
    ("index", lambda one: one.unindexed({}, 9)),
    ("index", lambda one: one.measured_from()),
    ("index", lambda one: one.before(9, 9)),
    ("index", lambda one: one.add({}, {0: 1}, [SEGMENT], [])),
    ("index", lambda one: one.cover([Extent(1, 1, 1, 1, 1, 1, 0)])),
    ("index", lambda one: one.small("number", 2)),
    ("index", lambda one: one.merge([1], SEGMENT)),
    ("purge", lambda one: one.scopes()),
    ("purge", lambda one: one.has_key(b"x")),
    ("purge", lambda one: one.destroy_keys([b"x"])),
    ("purge", lambda one: one.remembered("x", 0)),
    ("purge", lambda one: one.remember({"x": 0})),
    ("purge", lambda one: one.stretch(0, 9, 9, 9)),
    ("purge", lambda one: one.kept_secrets([ROW], 0, 9)),
    ("purge", lambda one: one.replace_secrets([(1, b"", b"")])),
    ("purge", lambda one: one.shorten([(ROW, b"", b"", None)], {})),
    ("purge", lambda one: one.front(9)),
    ("purge", lambda one: one.trim((1, b""), 1, 1, 9)),
    ("purge", lambda one: one.destroy_keys([b"x"], [])),
    ("held", lambda one: one.wrapped(b"x")),
    ("held", lambda one: one.put_key(b"x", b"x")),
    ("held", lambda one: one.destroy_key(b"x")),
    ("held", lambda one: one.mark(1, Mark.ROWS)),
    ("held", lambda one: one.add(b"x", 1, [], Mark.ROWS, b"")),
    ("held", lambda one: one.within(0, 9)),
    ("held", lambda one: one.of(7)),
    ("held", lambda one: one.find(1, [b"x"])),
    ("held", lambda one: one.page(1, 0, 9)),
    ("held", lambda one: one.count(1)),
    ("held", lambda one: one.holds()),
    ("held", lambda one: one.remove(1, [7])),
    ("held", lambda one: one.forget(1)),
    ("states", lambda one: one.known()),
    ("states", lambda one: one.audit_head()),
    ("states", lambda one: one.newest_seal()),
    ("states", lambda one: one.first_seal()),
    ("states", lambda one: one.seal(1)),
    ("states", lambda one: one.trimmed()),
    ("states", lambda one: one.last_row()),
    ("states", lambda one: one.first_row()),
    ("states", lambda one: one.link(1)),
    ("keys", lambda one: one.get(b"x")),
    ("keys", lambda one: one.put_new(b"x", b"y")),
    ("keys", lambda one: list(one.scan(b""))),
    ("keys", lambda one: one.replace_all([(b"x", b"y")])),
    ("keys", lambda one: one.delete(b"x")),
    ("read only keys", lambda one: one.get(b"x")),
    ("read only keys", lambda one: list(one.scan(b""))),
    ("read only keys", lambda one: one.secrets(7)),
]
TABLES = {
    "data.db": ("log", "purged", "meta", "seals", "checkpoints", "extents", "number_index", "event_index", "damaged"),
    "keys.db": ("keys", "secrets", "state", "held"),
}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path, sealed=True)
    builder.fill(3, 2)
    yield builder
    builder.close()


def emptied(directory: Path) -> None:
    """Files whose tables are gone."""
    for file, tables in TABLES.items():
        with closing(sqlite3.connect(directory / file, isolation_level=None)) as db:
            for table in tables:
                db.execute(f"DROP TABLE {table}")


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_what_sqlite_says_is_an_error_of_the_store(log: Builder, number: int) -> None:
    name, call = CALLS[number]
    log.close()
    with closing(PIECES[name](log.directory)) as piece:
        emptied(log.directory)
        with pytest.raises(StoreError, match="no such table"):
            call(piece)


def test_so_it_is_for_copies_items_and_witnesses(log: Builder, tmp_path: Path) -> None:
    log.close()
    data, keys = log.directory / "data.db", log.directory / "keys.db"
    with closing(DamagedItems(log.directory, read_only=False)) as items:
        with closing(sqlite3.connect(data, isolation_level=None)) as db:
            db.execute("ALTER TABLE damaged RENAME COLUMN number TO other")
        for look in (items.items, lambda: items.remove([1])):
            with pytest.raises(StoreError, match="no such column"):
                look()
    emptied(log.directory)
    calls: list[Callable[[], object]] = [
        lambda: copies.segment_keys(log.directory),
        lambda: copies.copy_keys(log.directory, tmp_path / "copy", {}, lambda _done: None),
        lambda: copies.contents(data),
        lambda: copies.trail_head(data),
        lambda: copies.mark(data, 1, 1),
        lambda: copies.acquaint(keys, b"x"),
        lambda: witness(log.directory, log.keys, 1, bytes(32)),
    ]
    for call in calls:
        with pytest.raises(StoreError):
            call()
    data.write_bytes(b"no database" * 1000)
    for one in (copies.intact, copies.schema, copies.settle):
        with pytest.raises(StoreError, match="not a database"):
            one(data)


def test_so_it_is_when_the_daemon_starts(log: Builder) -> None:
    log.close()

    def opened() -> SqliteStore:
        return SqliteStore(log.directory, notify=lambda _c: None, later=lambda _s, _c: None, soon=lambda _c: None)

    store = opened()
    store.use(KeyRing(log.kek, store.keys))
    with closing(sqlite3.connect(log.directory / "data.db", isolation_level=None)) as db:
        for table in ("log", "spool", "cold", "meta"):
            db.execute(f"DROP TABLE {table}")
    for call in (lambda: list(store.replay()), store.counts, store.highest_id, lambda: store.meta("x", 0)):
        with pytest.raises(StoreError, match="no such table"):
            call()
    store.close()
    with pytest.raises(StoreError, match="no such table"):
        opened()


def test_a_store_that_somebody_writes_to_is_busy(log: Builder) -> None:
    log.close()
    with (
        closing(SqliteIndex(log.directory)) as index,
        closing(sqlite3.connect(log.directory / "data.db", isolation_level=None)) as other,
    ):
        index.data.run("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            index.add({}, {0: 1}, [SEGMENT], [])
        other.execute("ROLLBACK")
        index.add({}, {0: 1}, [SEGMENT], [])
        assert index.indexed() == 1


def test_nothing_is_opened_where_there_is_no_store(tmp_path: Path) -> None:
    for piece in (SqliteRecords, SqlitePurge):
        with pytest.raises(StoreError, match="no store here"):
            piece(tmp_path)
    with pytest.raises(StoreError, match="no store here"):
        DamagedItems(tmp_path, read_only=True)
    with closing(SqliteStates(tmp_path)) as states:
        assert not states.sealed() and states.newest_seal() is None and states.last_row() is None
        with pytest.raises(StoreError, match="no store here"):
            states.known()
    assert list(tmp_path.iterdir()) == []
