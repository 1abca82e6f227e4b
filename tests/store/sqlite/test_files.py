"""Opening the store's files: versions that are known, and files that are nobody else's."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path

import pytest

from smppd.store.api import StoreError
from smppd.store.sqlite.files import connect, keys_lost, writing


@pytest.mark.parametrize("kind", ["data", "keys"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_of_a_newer_smppd_is_not_opened(tmp_path: Path, kind: str, read_only: bool) -> None:
    path = tmp_path / f"{kind}.db"
    connect(path, kind).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match=r"written by a newer smppd \(schema 99"):
        connect(path, kind, read_only=read_only)


def test_a_file_that_others_can_read_is_taken_from_them_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.db"
    first = connect(path, "keys")
    for one in tmp_path.iterdir():
        one.chmod(0o644)
    with caplog.at_level(logging.WARNING, "smppd.store"):
        connect(path, "keys").close()
    first.close()
    assert {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {0o600}
    assert [record.getMessage() for record in caplog.records] == ["store file was open to others"] * 3
    caplog.clear()
    connect(path, "keys").close()
    assert not caplog.records


def test_what_ends_a_transaction_is_what_is_raised_and_the_next_one_begins(tmp_path: Path) -> None:
    db = connect(tmp_path / "keys.db", "keys")
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="database or disk is full") as caught, writing(db):
        for number in range(1000):
            db.execute("INSERT INTO keys VALUES (?, ?)", (b"period/%d" % number, bytes(100)))
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_FULL
    with pytest.raises(KeyError), writing(db):
        db.execute("INSERT INTO keys VALUES (x'01', x'02')")
        raise KeyError
    with writing(db):
        db.execute("ROLLBACK")
    with writing(db):
        db.execute("INSERT INTO keys VALUES (x'03', x'04')")
    assert db.execute("SELECT scope FROM keys").fetchall() == [(b"\3",)]
    db.close()


def test_a_store_without_its_keys_is_no_new_one(tmp_path: Path) -> None:
    assert not keys_lost(tmp_path)
    with pytest.raises(StoreError, match="no store here yet"):
        connect(tmp_path / "keys.db", "keys", read_only=True)
    connect(tmp_path / "data.db", "data").close()
    with pytest.raises(StoreError, match=r"keys\.db is missing.*smppd restore"):
        connect(tmp_path / "keys.db", "keys", read_only=True)
    connect(tmp_path / "keys.db", "keys").close()
    assert not keys_lost(tmp_path)


def _held(path: Path) -> sqlite3.Connection:
    other = connect(path, "data")
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_writer_looks_often_while_another_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.db"
    writer = connect(path, "data", writer=True)
    other = _held(path)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            other.execute("ROLLBACK")

    monkeypatch.setattr(time, "sleep", sleep)
    writer.execute("INSERT INTO meta VALUES ('a', 1)")
    assert [round(one * 1e6) for one in slept] == [200, 220, 242]
    other.close()
    writer.close()


def test_a_writer_s_pauses_grow_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.db"
    writer = connect(path, "data", writer=True)
    other = _held(path)
    clock = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        writer.execute("INSERT INTO meta VALUES ('a', 1)")
    assert max(slept) == 0.005
    assert 60 <= sum(slept) < 60.1
    other.close()
    writer.close()


def test_a_writer_waits_for_nobody_within_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.db"
    writer = connect(path, "data", writer=True)
    writer.execute("BEGIN")
    writer.execute("SELECT count(*) FROM meta").fetchall()
    other = connect(path, "data")
    other.execute("INSERT INTO meta VALUES ('b', 1)")
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("it waited"))
    with pytest.raises(sqlite3.OperationalError):  # what it has read is old
        writer.execute("INSERT INTO meta VALUES ('a', 1)")
    writer.close()
    other.close()
