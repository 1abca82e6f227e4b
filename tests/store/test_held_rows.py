"""Held rows in keys.db: added with how far the hold has come, all or nothing; found, counted, overwritten when removed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.store.api import StoreError
from smppd.store.holds import HeldRow, HeldRows, Mark
from smppd.store.sqlite.database import Database
from smppd.store.sqlite.held_rows import SqliteHeldRows
from tests.store.houses import House, embedded_only

SCOPE = b"hold/000003"


@pytest.fixture
def rows(house: House) -> Iterator[HeldRows]:
    house.place.keys().close()
    one = house.place.held()
    assert (
        one.put_key(SCOPE, b"a wrapped key") == b"a wrapped key" == one.put_key(SCOPE, b"another") == one.wrapped(SCOPE)
    )
    yield one
    one.close()


def row(record: int, hold: int = 3, source: bytes = b"s" * 16, destination: bytes = b"d" * 16) -> HeldRow:
    return HeldRow(record, hold, source, destination, b"sealed %d" % record)


def test_what_is_added_is_found(rows: HeldRows) -> None:
    assert rows.mark(3, Mark.ROWS) == b"" and rows.holds() == [] and rows.count(3) == 0
    assert rows.add(SCOPE, 3, [row(5), row(9, destination=b"x" * 16)], Mark.ROWS, b"far")
    assert rows.add(SCOPE, 3, [row(5)._replace(sealed=b"again"), row(7)], Mark.OTHERS, b"there")
    assert (rows.mark(3, Mark.ROWS), rows.mark(3, Mark.OTHERS)) == (b"far", b"there")
    assert rows.of(5) == [row(5)] and "sealed" not in repr(row(5)) and rows.of(0) == rows.of(-1) == []
    assert rows.within(0, 100) == {5, 7, 9} and rows.within(6, 8) == {7} and rows.within(-9, 0) == set()
    assert rows.find(3, [b"x" * 16]) == [9] and rows.find(3, [b"s" * 16, b"x" * 16]) == [5, 7, 9]
    assert rows.find(3, []) == rows.find(4, [b"s" * 16]) == []
    assert rows.find(3, [b"%016d" % n for n in range(900)] + [b"d" * 16]) == [5, 7]
    assert [one.record for one in rows.page(3, 0, 2)] == [5, 7] and [one.record for one in rows.page(3, 7, 2)] == [9]
    assert rows.count(3) == 3 and rows.holds() == [3]
    rows.put_key(b"hold/000008", b"wrapped")
    rows.add(b"hold/000008", 8, [row(5, 8)], Mark.ROWS, b"")
    assert rows.holds() == [3, 8] and [one.hold for one in rows.of(5)] == [3, 8]


def test_nothing_is_added_to_a_hold_without_a_key(rows: HeldRows) -> None:
    rows.destroy_key(SCOPE)
    assert not rows.add(SCOPE, 3, [row(5)], Mark.ROWS, b"far")
    assert rows.count(3) == 0 and rows.mark(3, Mark.ROWS) == b""


def test_what_is_removed_is_overwritten(rows: HeldRows, house: House) -> None:
    rows.add(SCOPE, 3, [row(one) for one in range(1, 50)], Mark.ROWS, b"far")
    rows.remove(3, list(range(1, 49)))
    assert rows.count(3) == 1 and rows.mark(3, Mark.ROWS) == b"far"
    rows.forget(3)
    assert rows.mark(3, Mark.ROWS) == b"" and rows.count(3) == 1
    rows.destroy_key(SCOPE)
    left = house.settled()
    assert b"sealed 49" in left and b"sealed 48" not in left and b"a wrapped key" not in left


def test_all_or_nothing(rows: HeldRows) -> None:
    with pytest.raises(StoreError):
        rows.add(SCOPE, 3, [row(5), row(6)._replace(sealed=None)], Mark.ROWS, b"far")  # type: ignore[arg-type]
    assert rows.count(3) == 0 and rows.mark(3, Mark.ROWS) == b""


def test_in_a_store_of_an_earlier_version_nothing_is_held(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "keys.db")
    db.execute("CREATE TABLE keys (scope BLOB PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID")
    db.execute("PRAGMA user_version = 3")
    db.close()
    rows = SqliteHeldRows(Database(tmp_path / "keys.db", "keys", read_only=True))
    assert (rows.holds(), rows.page(1, 0, 9), rows.of(1), rows.find(1, [b"x"])) == ([], [], [], [])
    assert (rows.within(0, 9), rows.count(1), rows.mark(1, Mark.ROWS)) == (set(), 0, b"")
    rows.close()


@embedded_only
def test_a_store_is_needed(house: House) -> None:
    with pytest.raises(StoreError, match="no store here"):
        house.place.held()
