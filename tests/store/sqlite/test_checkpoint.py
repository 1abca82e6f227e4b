"""The write-ahead logs are copied beside the writer, begun anew, and an error in it is not tried again."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smppd.ids import id_time
from smppd.records.verify import verify_log
from smppd.store.api import ColdRow, Kind
from smppd.store.sqlite import checkpoint as module
from smppd.store.sqlite.checkpoint import Checkpointer, checkpoint
from smppd.store.sqlite.files import connect
from tests.store.builder import Builder


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    monkeypatch.setattr(module, "LIMIT", 300_000)
    builder = Builder(tmp_path)
    yield builder
    builder.close()


def written(log: Builder, octets: int) -> None:
    """So many octets go with the next commit into data.db."""
    log.store.batch.put.append(ColdRow(Kind.MAIL, "acme", b"", log.new_id(), 1 << 40, bytes(octets)))


def frames(db: sqlite3.Connection) -> tuple[int, int]:
    """(frames in the log, those of them that are copied)."""
    _busy, there, copied = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return there, copied


def test_a_log_stays_short_however_much_is_written(log: Builder) -> None:
    sizes = []
    for _ in range(120):
        log.record(b"x" * 100)
        written(log, 20_000)
        log.commit()
        sizes.append((log.directory / "data.db-wal").stat().st_size)
    # 120 commits of five pages and more would be five megabytes.
    assert max(sizes) < 2_500_000
    assert log.store._data.execute("PRAGMA wal_autocheckpoint").fetchone()[0] == 0
    with log.reader() as reader:
        assert verify_log(reader.records, id_time).ok


def test_the_writer_copies_the_rest_between_two_commits(tmp_path: Path) -> None:
    writer = connect(tmp_path / "data.db", "data")
    writer.execute("PRAGMA wal_autocheckpoint=0")
    rest = threading.Event()
    made = Checkpointer([(tmp_path / "data.db", "data")], rest.set, lambda error: pytest.fail(str(error)))
    for n in range(50):
        writer.execute("INSERT INTO spool VALUES (?, ?)", (n, bytes(20_000)))
    made.wrote(1)
    assert not rest.wait(0.05), "not yet"
    made.wrote(module.LIMIT)
    assert rest.wait(10)
    writer.execute("INSERT INTO spool VALUES (99, x'00')")
    checkpoint([writer])
    writer.execute("INSERT INTO spool VALUES (100, x'00')")
    assert frames(writer)[0] < 10, "begun anew"
    rest.clear()
    made.wrote(2 * module.LIMIT)
    assert not rest.wait(0.05), "one at a time"
    made.finished()
    made.wrote(module.LIMIT)
    assert rest.wait(10)
    made.stop()
    writer.close()


def test_a_reader_is_in_nobodys_way(log: Builder) -> None:
    reader = sqlite3.connect(log.directory / "data.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM log").fetchone()
    for _ in range(60):
        written(log, 20_000)
        log.commit()
    reader.execute("ROLLBACK")
    reader.close()
    for _ in range(60):
        written(log, 20_000)
        log.commit()
    assert not log.sink.wrong


class Failing:
    """A connection whose checkpoint fails."""

    def __init__(self, code: int) -> None:
        self.code = code

    def execute(self, _sql: str) -> Any:
        error = sqlite3.OperationalError("an error")
        error.sqlite_errorcode = self.code
        raise error


def test_no_space_is_no_error_and_an_io_error_is_one() -> None:
    full: Any = Failing(sqlite3.SQLITE_FULL)
    checkpoint([full])
    broken: Any = Failing(sqlite3.SQLITE_IOERR_FSYNC)
    with pytest.raises(sqlite3.OperationalError):
        checkpoint([broken])


def test_an_error_of_the_thread_ends_everything(log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_databases: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(module, "checkpoint", fails)
    written(log, 400_000)
    log.store.kick()
    while not log.sink.wrong:
        log._calls.get(timeout=10)()
    assert log.sink.wrong == ["OperationalError: disk I/O error"]
