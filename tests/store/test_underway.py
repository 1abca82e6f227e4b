"""The spool of a real store read by somebody else: blocks, rows and damaged items, opened; what does not open is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smppd.store.api import ColdRow, Damaged, Kind, StoreError
from smppd.store.journal.reader import paths
from smppd.store.opening import embedded
from smppd.vault.keys import KeyRing
from tests.store.builder import Builder
from tests.store.houses import House, embedded_only
from tests.store.journals import alter, into_table


@pytest.fixture
def log(house: House) -> Iterator[Builder]:
    builder = Builder(house)
    yield builder
    builder.close()


@pytest.fixture
def source(log: Builder) -> Iterator[Any]:
    keys = log.place.read_only_keys()
    opened = log.place.underway(KeyRing(log.kek, keys))
    yield opened
    opened.close()
    keys.close()


def edit(log: Builder, statement: str) -> None:
    log.house.edit(statement)


def commit(log: Builder, *entries: bytes) -> None:
    log.store.batch.accepts.extend(entries)
    log.commit()


def test_blocks_in_pages_beside_the_writer(log: Builder, source: Any) -> None:
    assert source.blocks(0, 10) == []
    for text in (b"one", b"two", b"three"):
        commit(log, text)
    first = source.blocks(0, 2)
    assert [block.data for block in first] == [b"one", b"two"]
    commit(log, b"four", b"five")
    assert [block.data for block in source.blocks(first[-1].at, 10)] == [b"three", b"fourfive"]
    assert "three" not in repr(source.blocks(first[-1].at, 10))


def at_rest(log: Builder) -> None:
    """The spool as rows, as the embedded store has it when nobody uses it."""
    if log.house.journal == "spool":
        log.close()
        into_table(log.directory)


@embedded_only
def test_table_and_journal_follow_each_other(log: Builder, source: Any) -> None:
    commit(log, b"one")
    commit(log, b"two")
    at_rest(log)
    again = Builder(log.house, log.kek)
    commit(again, b"three")
    assert [block.data for block in source.blocks(0, 10)] == [b"one", b"two", b"three"]
    (one,) = source.blocks(0, 1)
    assert [block.data for block in source.blocks(one.at, 1)] == [b"two"]
    assert [block.data for block in source.blocks(one.at, 2)] == [b"two", b"three"]
    again.close()


@embedded_only
def test_a_block_of_the_journal_that_was_altered_does_not_open(log: Builder, source: Any) -> None:
    commit(log, b"one")
    commit(log, b"two")
    log.close()
    alter(log.directory, 0, lambda block: block._replace(spool=bytes(len(block.spool))))
    assert [block.data for block in source.blocks(0, 10)] == [None, b"two"]


@embedded_only
def test_a_block_whose_file_went_is_passed_over(log: Builder, source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(log, b"one")
    (one,) = source.blocks(0, 10)

    def gone(*_block: object) -> None:
        for path in paths(log.directory):
            path.unlink()

    monkeypatch.setattr(source, "_block", gone)
    assert source.blocks(0, 10) == [(one.at, b"")]


def test_a_block_that_was_altered_does_not_open(log: Builder, source: Any) -> None:
    commit(log, b"one")
    commit(log, b"two")
    at_rest(log)
    table, order = log.house.journal, log.house.order
    edit(log, f"UPDATE {table} SET data = x'00' || data WHERE {order} = (SELECT min({order}) FROM {table})")
    assert [block.data for block in source.blocks(0, 10)] == [None, b"two"]
    if log.house.journal == "spool":
        edit(log, "INSERT INTO spool VALUES (5, 'text')")
        assert source.blocks(0, 1)[0].data is None


def test_a_block_whose_key_went_with_it_is_passed_over(
    log: Builder, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(log, b"one")
    at_rest(log)
    (one,) = source.blocks(0, 10)

    def gone(*_block: object) -> None:
        edit(log, f"DELETE FROM {log.house.journal}")

    monkeypatch.setattr(source, "_block", gone)
    assert source.blocks(0, 10) == [(one.at, b"")]


def test_rows_in_pages(log: Builder, source: Any) -> None:
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
    columns = "kind, owner, key, id, expires, segment, data"
    edit(log, f"INSERT INTO cold ({columns}) VALUES (9, 'x', x'', 1, 1, 1, x'')")
    assert [one.row and one.row.id for one in source.rows(None, 10)] == [5, None, 2, 1]


def test_a_row_that_is_sealed_anew_meanwhile_opens(log: Builder, source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log.store.batch.put.append(ColdRow(Kind.MAIL, "acme", b"", 1, 9, b"m"))
    log.commit()
    row = source._data.all("SELECT kind, owner, key, id, expires, segment, data FROM cold")[0]
    stale = (*row[:5], 999, row[6])
    assert source._row(stale) == ColdRow(Kind.MAIL, "acme", b"", 1, 9, b"m")
    edit(log, "DELETE FROM cold")
    gone = source._row(stale)
    assert gone is not None and gone.data == b""


def test_damaged_items(log: Builder, source: Any) -> None:
    item = Damaged("mail", "acme", 3, "start", "ValueError", 1, 1 << 40, b"content")
    log.store.batch.damaged += [item, item._replace(id=4)]
    log.commit()
    ((one, first), (two, _)) = source.damaged(0, 10)
    assert (one, first) == (1, item) and source.damaged(one, 10)[0][0] == two
    edit(log, "UPDATE damaged SET owner = 'beta' WHERE number = 1")
    assert source.damaged(0, 1) == [(1, None)]


def test_without_a_store_it_says_so(tmp_path: Path, source: Any) -> None:
    with pytest.raises(StoreError, match="no store here"):
        embedded(tmp_path / "none").underway(source._ring)
