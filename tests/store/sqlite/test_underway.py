"""The spool of a real store read by somebody else: blocks, rows and damaged items, opened; what does not open is said."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.store.api import ColdRow, Damaged, Kind, StoreError
from smppd.store.journal.reader import paths
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.store.sqlite.underway import SqliteUnderway
from smppd.vault.keys import KeyRing
from tests.store.builder import Builder
from tests.store.journals import alter, into_table


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path)
    yield builder
    builder.close()


@pytest.fixture
def source(log: Builder) -> Iterator[SqliteUnderway]:
    keys = ReadOnlyKeys(log.directory)
    opened = SqliteUnderway(log.directory, KeyRing(log.kek, keys))
    yield opened
    opened.close()
    keys.close()


def edit(log: Builder, statement: str) -> None:
    db = sqlite3.connect(log.directory / "data.db", isolation_level=None)
    db.execute(statement)
    db.close()


def commit(log: Builder, *entries: bytes) -> None:
    log.store.batch.accepts.extend(entries)
    log.commit()


def test_blocks_in_pages_beside_the_writer(log: Builder, source: SqliteUnderway) -> None:
    assert source.blocks(0, 10) == []
    for text in (b"one", b"two", b"three"):
        commit(log, text)
    first = source.blocks(0, 2)
    assert [block.data for block in first] == [b"one", b"two"]
    commit(log, b"four", b"five")
    assert [block.data for block in source.blocks(first[-1].at, 10)] == [b"three", b"fourfive"]
    assert "three" not in repr(source.blocks(first[-1].at, 10))


def test_table_and_journal_follow_each_other(log: Builder, source: SqliteUnderway) -> None:
    commit(log, b"one")
    commit(log, b"two")
    log.close()
    into_table(log.directory)
    again = Builder(log.directory, log.kek)
    commit(again, b"three")
    assert [block.data for block in source.blocks(0, 10)] == [b"one", b"two", b"three"]
    (one,) = source.blocks(0, 1)
    assert [block.data for block in source.blocks(one.at, 1)] == [b"two"]
    assert [block.data for block in source.blocks(one.at, 2)] == [b"two", b"three"]
    again.close()


def test_a_block_of_the_journal_that_was_altered_does_not_open(log: Builder, source: SqliteUnderway) -> None:
    commit(log, b"one")
    commit(log, b"two")
    log.close()
    alter(log.directory, 0, lambda block: block._replace(spool=bytes(len(block.spool))))
    assert [block.data for block in source.blocks(0, 10)] == [None, b"two"]


def test_a_block_whose_file_went_is_passed_over(
    log: Builder, source: SqliteUnderway, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(log, b"one")
    (one,) = source.blocks(0, 10)

    def gone(self: SqliteUnderway, seq: int, data: bytes) -> None:
        for path in paths(log.directory):
            path.unlink()

    monkeypatch.setattr(SqliteUnderway, "_block", gone)
    assert source.blocks(0, 10) == [(one.at, b"")]


def test_a_block_that_was_altered_does_not_open(log: Builder, source: SqliteUnderway) -> None:
    commit(log, b"one")
    commit(log, b"two")
    log.close()
    into_table(log.directory)
    (one, _) = source.blocks(0, 10)
    edit(log, f"UPDATE spool SET data = x'00' || data WHERE seq = {one.at}")
    assert [block.data for block in source.blocks(0, 10)] == [None, b"two"]
    edit(log, "INSERT INTO spool VALUES (5, 'text')")
    assert source.blocks(0, 1)[0].data is None


def test_a_block_whose_key_went_with_it_is_passed_over(
    log: Builder, source: SqliteUnderway, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(log, b"one")
    log.close()
    into_table(log.directory)
    (one,) = source.blocks(0, 10)

    def gone(self: SqliteUnderway, seq: int, data: bytes) -> None:
        edit(log, f"DELETE FROM spool WHERE seq = {seq}")

    monkeypatch.setattr(SqliteUnderway, "_block", gone)
    assert source.blocks(0, 10) == [(one.at, b"")]


def test_rows_in_pages(log: Builder, source: SqliteUnderway) -> None:
    rows = [ColdRow(Kind.QUEUE, "acme\nx", b"", n, 9, b"q%d" % n) for n in (5, 6)]
    rows += [ColdRow(Kind.WAITING, "carrier-a", b"up", 2, 9, b"w"), ColdRow(Kind.MAIL, "acme", b"", 1, 9, b"m")]
    log.store.batch.put.extend(rows)
    log.commit()
    listed, at = [], None
    while page := source.rows(at, 3):
        listed += [one.row for one in page]
        at = page[-1].at
    assert listed == rows
    edit(log, "UPDATE cold SET id = 7 WHERE id = 6")
    edit(log, "INSERT INTO cold VALUES (9, 'x', x'', 1, 1, 1, x'')")
    assert [one.row and one.row.id for one in source.rows(None, 10)] == [5, None, 2, 1]


def test_a_row_that_is_sealed_anew_meanwhile_opens(
    log: Builder, source: SqliteUnderway, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.store.batch.put.append(ColdRow(Kind.MAIL, "acme", b"", 1, 9, b"m"))
    log.commit()
    row = source._data.all("SELECT kind, owner, key, id, expires, segment, data FROM cold")[0]
    stale = (*row[:5], 999, row[6])
    assert source._row(stale) == ColdRow(Kind.MAIL, "acme", b"", 1, 9, b"m")
    edit(log, "DELETE FROM cold")
    gone = source._row(stale)
    assert gone is not None and gone.data == b""


def test_damaged_items(log: Builder, source: SqliteUnderway) -> None:
    item = Damaged("mail", "acme", 3, "start", "ValueError", 1, 1 << 40, b"content")
    log.store.batch.damaged += [item, item._replace(id=4)]
    log.commit()
    ((one, first), (two, _)) = source.damaged(0, 10)
    assert (one, first) == (1, item) and source.damaged(one, 10)[0][0] == two
    edit(log, "UPDATE damaged SET owner = 'beta' WHERE number = 1")
    assert source.damaged(0, 1) == [(1, None)]


def test_without_a_store_it_says_so(tmp_path: Path, source: SqliteUnderway) -> None:
    with pytest.raises(StoreError, match="no store here"):
        SqliteUnderway(tmp_path / "none", source._ring)
