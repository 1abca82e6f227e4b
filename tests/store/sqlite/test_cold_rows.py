"""Cold rows that do not open: they are told once and stop nothing but themselves."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from smppd.store.api import ColdRow, Kind
from smppd.store.sqlite.cold_rows import ColdRows
from smppd.store.sqlite.damaged import DamagedRows, items
from smppd.store.sqlite.files import connect
from smppd.store.sqlite.keys import KeyStore
from smppd.vault.blocks import SegmentSealer
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing, create_install

NEVER = 1 << 40


class Table:
    def __init__(self, directory: Path) -> None:
        kek = Kek([(1, "2026-11-25T00:00:00Z", bytes(range(32)))])
        keys = KeyStore(directory)
        create_install(kek, keys)
        self.ring = KeyRing(kek, keys)
        self.segment = SegmentSealer(self.ring).segment
        self.db: sqlite3.Connection = connect(directory / "data.db", "data")
        self.told: list[tuple[Kind, int]] = []
        self.aside = DamagedRows(self.db, self.ring, lambda _owner: 3600.0)
        self.rows = ColdRows(
            self.db, self.ring, self.aside, lambda kind, _owner, identity, _reason: self.told.append((kind, identity))
        )

    def put(self, *numbers: int, expires: int = NEVER) -> None:
        self.rows.put([ColdRow(Kind.QUEUE, "acme", b"", n, expires, b"row %d" % n) for n in numbers], self.segment)

    def damage(self, number: int) -> None:
        (data,) = self.db.execute("SELECT data FROM cold WHERE id = ?", (number,)).fetchone()
        changed = bytes(data[:-1]) + bytes((data[-1] ^ 1,))
        self.db.execute("UPDATE cold SET data = ? WHERE id = ?", (changed, number))

    def page(self, after: int = 0, limit: int = 10) -> list[int]:
        return [row.id for row in self.rows.page(Kind.QUEUE, "acme", after, limit)]

    def ids(self) -> list[int]:
        return [row[0] for row in self.db.execute("SELECT id FROM cold ORDER BY id")]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def test_an_altered_row_is_passed_over_and_told_once(table: Table) -> None:
    table.put(1, 2, 3)
    table.damage(2)
    assert table.page() == [1, 3]
    assert table.page() == [1, 3]
    assert table.told == [(Kind.QUEUE, 2)]
    assert table.ids() == [1, 3]
    (item,) = items(table.db)
    assert (item.kind, item.owner, item.id, item.reason) == ("cold message", "acme", 2, "InvalidTag")
    assert table.aside.count == 1, "it may still be looked at"


def test_a_row_in_another_place_does_not_open(table: Table) -> None:
    table.put(1, 2)
    table.db.execute("UPDATE cold SET id = 7 WHERE id = 2")
    assert table.page() == [1] and table.told == [(Kind.QUEUE, 7)]


def test_a_row_whose_key_is_gone_is_passed_over(table: Table) -> None:
    table.put(1)
    other = SegmentSealer(table.ring).segment
    table.rows.put([ColdRow(Kind.QUEUE, "acme", b"", 2, NEVER, b"row")], other)
    table.ring.drop_segment(table.segment)
    assert table.page() == [2] and table.told == [(Kind.QUEUE, 1)]


def test_what_stands_behind_a_page_of_damage_is_found(table: Table) -> None:
    table.put(*range(1, 8))
    for number in range(1, 6):
        table.damage(number)
    assert table.page(limit=2) == [6]
    assert table.page(after=6, limit=2) == [7]
    table.damage(6)
    table.damage(7)
    assert table.page(limit=2) == []
    assert len(table.told) == 7


def test_under_its_keys_a_damaged_row_is_not_found(table: Table) -> None:
    rows = [ColdRow(Kind.WAITING, "sim", b"a", 1, NEVER, b"x"), ColdRow(Kind.WAITING, "sim", b"b", 2, NEVER, b"y")]
    table.rows.put(rows, table.segment)
    table.damage(1)
    assert table.rows.find(Kind.WAITING, "sim", [b"a", b"b"]) == rows[1:]


def test_of_many_rows_under_one_key_some_hundreds_are_read(table: Table) -> None:
    table.rows.put(
        [ColdRow(Kind.WAITING, "sim", b"0", number, NEVER, b"x") for number in range(1, 1000)], table.segment
    )
    found = table.rows.find(Kind.WAITING, "sim", [b"0", b"1"])
    assert len(found) == 256 and len({row.id for row in found}) == 256


def test_a_damaged_row_ends_when_it_expires(table: Table) -> None:
    table.put(1, 2, expires=100)
    table.put(3)
    table.damage(1)
    table.damage(3)
    assert [row.id for row in table.rows.expired(Kind.QUEUE, 101, 10)] == [2]
    assert table.ids() == [2, 3] and table.told == [(Kind.QUEUE, 1)]
    assert not table.db.in_transaction


@pytest.mark.parametrize("count", [0, 1, 7, 8, 63, 64, 65, 200])
def test_any_number_of_rows_is_written_replaced_and_dropped(table: Table, count: int) -> None:
    table.put(*range(1, count + 1))
    table.put(*range(1, count + 1))
    assert table.page(limit=1000) == list(range(1, count + 1))
    other = ColdRow(Kind.WAITING, "sim", b"key", 1, NEVER, b"x")
    table.rows.put([other], table.segment)
    table.rows.drop([(Kind.QUEUE, "acme", b"", number) for number in range(1, count + 1)])
    assert table.page() == [] and table.rows.find(Kind.WAITING, "sim", [b"key"]) == [other]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_walk_meets_every_row_of_its_kind_once_whatever_its_owner_and_key(table: Table, limit: int) -> None:
    kept = [
        ColdRow(Kind.WAITING, owner, key, n, NEVER, b"x")
        for owner in ("a", "b")
        for key in (b"", b"k", b"\0z")
        for n in (1, 2)
    ]
    table.rows.put(kept, table.segment)
    table.put(7)  # of another kind
    table.rows.put([ColdRow(Kind.WAITING, "a", b"k", 3, NEVER, b"damaged")], table.segment)
    table.damage(3)
    met: list[tuple[str, bytes, int]] = []
    after: tuple[str, bytes, int] | None = ("", b"", 0)
    for _ in range(100):
        assert after is not None
        rows, after = table.rows.walk(Kind.WAITING, after, limit)
        met += [(row.owner, row.key, row.id) for row in rows]
        if after is None:
            break
    assert after is None and met == sorted((row.owner, row.key, row.id) for row in kept)
