"""Connections whose errors are the store's: which one for which of SQLite's, and what is left of a transaction that failed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smppd.store.api import StoreBusy, StoreError, StoreFull
from smppd.store.sqlite.database import Database, spoken

PUT = "INSERT INTO keys VALUES (?, ?)"


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Database]:
    one = Database(tmp_path / "keys.db", "keys")
    yield one
    one.close()


def test_rows_and_counts(keys: Database) -> None:
    assert keys.one("SELECT * FROM keys") is None and keys.all("SELECT * FROM keys") == []
    keys.run_each(PUT, [(b"a", b"1"), (b"b", b"2")])
    assert keys.run("DELETE FROM keys WHERE scope = ?", (b"a",)) == 1
    assert keys.all("SELECT * FROM keys") == [(b"b", b"2")] and keys.one("SELECT * FROM keys") == (b"b", b"2")
    assert keys.version() > 0


def test_an_error_names_the_file_and_none_of_the_values(keys: Database) -> None:
    for call in (keys.all, keys.one, keys.run):
        with pytest.raises(StoreError, match=r"keys\.db: no such table: nowhere") as caught:
            call("SELECT * FROM nowhere WHERE x = ?", (b"a secret",))
        assert type(caught.value) is StoreError and "secret" not in str(caught.value)
    with pytest.raises(StoreError, match=r"keys\.db: "):
        keys.run_each("INSERT INTO nowhere VALUES (?)", [(1,)])


def test_who_is_in_the_way_may_be_gone_a_moment_later(keys: Database) -> None:
    other = sqlite3.connect(keys.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    keys.run("PRAGMA busy_timeout = 0")
    with pytest.raises(StoreBusy, match="locked"), keys.writing():
        pass
    other.execute("ROLLBACK")
    other.close()
    with keys.writing():
        keys.run(PUT, (b"a", b"1"))


def test_a_full_disk_leaves_nothing_of_a_transaction_and_the_next_one_begins(keys: Database) -> None:
    row = keys.one("PRAGMA page_count")
    assert row is not None
    keys.run(f"PRAGMA max_page_count = {row[0]}")
    with pytest.raises(StoreFull, match="full"), keys.writing():
        keys.run_each(PUT, [(b"period/%d" % number, bytes(100)) for number in range(1000)])
    with pytest.raises(KeyError), keys.writing():
        keys.run(PUT, (b"a", b"1"))
        raise KeyError
    with keys.writing():
        keys.run(PUT, (b"b", b"2"))
        keys.roll_back()
    with keys.writing():
        keys.run(PUT, (b"c", b"3"))
    assert keys.all("SELECT scope FROM keys") == [(b"c",)]


def test_a_snapshot_does_not_see_what_comes_meanwhile(keys: Database) -> None:
    other = Database(keys.path, "keys")
    with keys.snapshot():
        assert keys.all("SELECT scope FROM keys") == []
        other.run(PUT, (b"a", b"1"))
        assert keys.all("SELECT scope FROM keys") == []
        assert not other.truncate(10), "somebody is reading"
    assert keys.all("SELECT scope FROM keys") == [(b"a",)]
    assert other.truncate()
    other.close()


def test_a_method_speaks_of_the_store(tmp_path: Path) -> None:
    class Something:
        _directory = tmp_path

        @spoken
        def ask(self, query: str) -> None:
            with closing(sqlite3.connect(":memory:")) as db:
                db.execute(query)

    with pytest.raises(StoreError, match=f"{tmp_path}: no such table"):
        Something().ask("SELECT 1 FROM nowhere")
