"""Free pages of data.db are overwritten by a purge, whoever freed them; a kill in between costs nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smppd.store.api import StoreFull
from smppd.store.sqlite.log_rows import SqlitePurge
from tests.store.builder import Builder, files

NEEDLE = b"sealed-octets-of-the-spool-0123456789"
ROWS = 600


@pytest.fixture
def freed(tmp_path: Path) -> Iterator[Path]:
    """A store of which a writer has freed pages as the daemon does: with what stands in them."""
    store = tmp_path / "store"
    builder = Builder(store, sealed=True)
    builder.fill(3, 2)
    builder.close()
    with closing(sqlite3.connect(store / "data.db", isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete = FAST")
        db.executemany(
            "INSERT INTO spool VALUES (?, ?)", [(number, NEEDLE + os.urandom(30_000)) for number in range(1, ROWS)]
        )
        db.execute("DELETE FROM spool")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert db.execute("PRAGMA freelist_count").fetchone()[0] > ROWS
    assert NEEDLE in files(store)
    yield store


def state(store: Path) -> tuple[int, int]:
    """(pages, of them free)."""
    with closing(sqlite3.connect(store / "data.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'scrubbed'").fetchone() == (0,)
        return db.execute("PRAGMA page_count").fetchone()[0], db.execute("PRAGMA freelist_count").fetchone()[0]


def test_nothing_is_left_in_them_and_the_file_keeps_its_size(freed: Path) -> None:
    pages, free = state(freed)
    rows = SqlitePurge(freed)
    assert rows.wipe()
    rows.close()
    assert NEEDLE not in files(freed)
    after, left = state(freed)
    assert after - pages <= 8 and left >= free - 8


@pytest.mark.parametrize("at", [1, 5, 20, 100])
def test_killed_at_any_of_its_steps(freed: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    rows = SqlitePurge(freed)
    steps = 0

    def run(statement: str, *values: object) -> int:
        nonlocal steps
        if "scrubbed" in statement:
            steps += 1
            if steps == at:
                raise Killed
        return original(statement, *values)  # type: ignore[arg-type]

    original = rows.data.run
    monkeypatch.setattr(rows.data, "run", run)
    try:
        rows.wipe()
        assert at >= 100
    except Killed:
        assert at < 100
    rows.close()
    again = SqlitePurge(freed)
    assert again.wipe()
    again.close()
    assert NEEDLE not in files(freed)
    state(freed)


def test_a_full_disk_is_told_and_the_next_one_ends_it(freed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = SqlitePurge(freed)
    original = rows.data.run

    def full(statement: str, *values: object) -> int:
        if statement.startswith("INSERT INTO scrubbed"):
            raise StoreFull("data.db: database or disk is full")
        return original(statement, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(rows.data, "run", full)
    assert not rows.wipe()
    monkeypatch.setattr(rows.data, "run", original)
    assert rows.wipe() and NEEDLE not in files(freed)
    rows.close()
    state(freed)


def test_two_at_once_take_nothing_from_each_other(freed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure and a purge: each may give back what the other has taken, and take away its table."""
    one, other = SqlitePurge(freed), SqlitePurge(freed)
    within = False
    rests = 0

    class Between:
        """Where the one rests the other does all of it, now and then."""

        def wait(self, _seconds: float) -> None:
            nonlocal within, rests
            rests += not within
            if not within and rests in (1, 3, 6, 9):
                within = True
                other._stained = True
                assert other.wipe()
                within = False

    monkeypatch.setattr("smppd.store.sqlite.log_rows.threading.Event", Between)
    assert one.wipe()
    one.close()
    other.close()
    assert NEEDLE not in files(freed)
    state(freed)
