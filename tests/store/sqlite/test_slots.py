"""Secrets written ahead: one sync a small batch, one slot a log row, and nothing of it left behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.ids import id_time
from smppd.message import State
from smppd.records.verify import verify_log
from smppd.store.api import Batch
from smppd.store.sqlite.files import connect
from smppd.store.sqlite.slots import IS_SLOT, SLOT_RECORDS, Ahead, Slot
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.keys import KeyRing
from tests.records.test_retention import purger, retain
from tests.store.builder import Builder, Statements, copied
from tests.store.tenant import Nobody

SECRET = 64
DAY = 86_400.0


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path / "store")
    yield builder
    builder.close()


def slots(log: Builder) -> list[int]:
    """Records that each slot on disk has room for."""
    db = connect(log.directory / "keys.db", "keys", read_only=True)
    sizes = [row[0] for row in db.execute(f"SELECT length(data) FROM secrets WHERE {IS_SLOT} ORDER BY seq")]
    db.close()
    return [size // SECRET for size in sizes]


def named(log: Builder) -> list[bool]:
    """Of each log row with records: whether it names a slot."""
    db = sqlite3.connect(log.directory / "data.db")
    rows = [row[0] is not None for row in db.execute("SELECT secrets FROM log WHERE count > 0 ORDER BY seq")]
    db.close()
    return rows


def opens(log: Builder) -> None:
    """Every record there is opens whole."""
    with log.reader() as reader:
        for identity in log.packed:
            found = reader.record(identity)
            assert found is not None and found.record.body is not None and found.record.numbers is not None
        assert verify_log(reader.records, id_time).ok


def test_small_batches_in_a_row_need_no_commit_of_the_keys(statements: Statements, log: Builder) -> None:
    log.fill(4, 1)
    assert named(log) == [False] * 4 and slots(log) == [SLOT_RECORDS] * 16
    statements.clear()
    log.fill(15, 2, every=0.001)
    assert named(log) == [False] * 4 + [True] * 15
    assert statements["keys"] == []
    log.fill(3, 1, every=0.001)
    assert statements["keys"].count("BEGIN") == 1, "sixteen more are made at once"
    assert named(log)[4:] == [True] * 16 + [False] + [True]
    opens(log)


def test_what_was_not_used_of_a_slot_is_cut_off_with_the_next_ones(log: Builder) -> None:
    log.fill(4, 1)
    log.fill(16, 3, every=0.001)
    assert slots(log) == [SLOT_RECORDS] * 16
    log.fill(1, 1, every=0.001)
    assert sorted(slots(log)) == [3] * 16 + [SLOT_RECORDS] * 16
    opens(log)


def test_a_batch_that_outgrows_its_slot_has_a_row_of_its_own_and_the_slots_go(log: Builder) -> None:
    log.fill(4, 1)
    log.fill(1, SLOT_RECORDS + 1, every=0.001)
    assert named(log) == [False] * 5 and slots(log) == []
    log.fill(1, SLOT_RECORDS, every=0.001)
    assert named(log)[-1] is False
    opens(log)
    log.fill(5, SLOT_RECORDS, every=0.001)
    assert named(log)[-1] is True
    opens(log)


def test_no_secret_stands_twice(log: Builder) -> None:
    log.fill(6, 2)
    log.fill(1, SLOT_RECORDS + 5, every=0.001)
    log.fill(6, 1)
    db = connect(log.directory / "keys.db", "keys", read_only=True)
    everything = b"".join(bytes(row[0]) for row in db.execute("SELECT data FROM secrets"))
    db.close()
    for secrets in log.secrets.values():
        assert everything.count(secrets) == 1


def test_a_batch_without_records_gives_its_slot_back(log: Builder) -> None:
    log.fill(5, 1)
    for _ in range(3):
        log.store.batch.marks.append(b"mark")
        log.commit()
    log.fill(15, 1, every=0.001)
    assert named(log) == [False] * 4 + [True] * 16 and len(slots(log)) == 16, "all of them are used, none is made"


def test_an_orderly_end_leaves_no_unused_slot(log: Builder) -> None:
    log.fill(6, 2)
    log.close()
    assert slots(log) == [2, 2]
    opens(log)


def test_after_a_crash_the_unused_ones_are_removed_and_the_used_ones_cut(log: Builder, tmp_path: Path) -> None:
    log.fill(6, 2)
    as_it_was = tmp_path / "crashed"
    copied(log.directory, as_it_was)
    log.close()
    log.directory = as_it_was
    assert slots(log) == [SLOT_RECORDS] * 16
    again = SqliteStore(
        as_it_was, notify=lambda call: call(), later=lambda _seconds, call: call(), soon=lambda call: call()
    )
    again.use(KeyRing(log.kek, again.keys))
    again.open(log.sink, Nobody(), log.new_id)
    again.close()
    assert slots(log) == [2, 2]
    opens(log)


def test_a_slot_whose_batch_a_full_disk_refused_is_not_used_again(log: Builder) -> None:
    log.fill(5, 1)
    room = log.fill_disk()
    lost = log.record(b"x" * 200)
    assert log.refused()
    room()
    secrets = log.secrets.pop(lost)
    del log.packed[lost]
    log.fill(20, 1, every=0.001)
    opens(log)
    db = connect(log.directory / "keys.db", "keys", read_only=True)
    assert not any(secrets in bytes(row[0]) for row in db.execute("SELECT data FROM secrets"))
    db.close()


def test_a_purge_destroys_what_is_in_a_slot_and_leaves_the_ready_ones(log: Builder) -> None:
    log.fill(5, 1)
    short = log.record(account="beta", body=DAY, numbers=DAY)
    long = log.record()
    log.event(short, State.SUBMITTED)
    log.commit()
    assert named(log)[-1] is True
    log.now += 5 * DAY
    gone = log.secrets[short]
    with purger(log, beta=retain(DAY, DAY), acme=retain(30 * DAY, 30 * DAY)) as purge:
        assert purge.run(log.now).secrets == 2
    files = b"".join(path.read_bytes() for path in log.directory.glob("keys.db*"))
    assert gone[:32] not in files and gone[32:] not in files
    log.fill(17, 1)
    assert named(log)[-17:].count(True) >= 14, "those that were ready are used"
    with log.reader() as reader:
        found = reader.record(long)
        assert found is not None and found.record.body is not None
        assert reader.record(short) is None or reader.record(short).record.body is None  # type: ignore[union-attr]


def test_a_store_of_version_1_is_read_as_it_is_and_then_brought_up(log: Builder) -> None:
    log.fill(2, 2)
    log.close()
    db = sqlite3.connect(log.directory / "data.db", isolation_level=None)
    db.execute("ALTER TABLE log DROP COLUMN secrets")
    db.execute("DROP TABLE damaged")
    db.execute("DROP TABLE seals")
    db.execute("ALTER TABLE purged DROP COLUMN mac")
    db.execute("PRAGMA user_version = 1")
    db.close()
    opens(log)
    db = connect(log.directory / "data.db", "data")
    assert db.execute("SELECT secrets FROM log").fetchall() == [(None,), (None,)]
    db.close()
    opens(log)


def test_slots_are_not_printed() -> None:
    ids = iter(range(1, 100))
    ahead = Ahead(lambda: next(ids))
    batch = Batch()
    for _ in range(5):
        plan = ahead.plan(batch)
        batch.secrets = [b"x" * 64]
    ahead.stored(plan)
    ahead.give(fresh := Batch())
    assert repr(fresh.secrets_for_next())[2:12] not in repr(plan.new) + repr(plan) + repr(fresh)
    assert repr(Slot(1, b"secret")) == "<Slot 0000000000000001 ***>"
    assert repr(ahead) == "<Ahead 15 ready>"


def test_a_batch_is_given_the_secrets_of_one_slot_and_no_more() -> None:
    ahead = Ahead(iter(range(1, 100)).__next__)
    batch = Batch()
    for _ in range(5):
        plan = ahead.plan(batch)
        batch.secrets = [b"x" * 64]
    ahead.stored(plan)
    ahead.give(fresh := Batch())
    ahead.give(fresh)
    drawn = []
    while secrets := fresh.secrets_for_next():
        fresh.secrets.append(secrets)
        drawn.append(secrets)
    assert b"".join(drawn) == plan.new[0].secrets and len(drawn) == SLOT_RECORDS == fresh.drawn
    late = Batch()
    late.secrets.append(b"x" * 64)
    ahead.plan(fresh)
    ahead.give(late)
    assert late.secrets_for_next() == b"", "the first of its records has others"


def test_a_disk_that_breaks_does_not_keep_it_from_ending(log: Builder) -> None:
    log.fill(5, 1)
    log.store._secrets.execute("PRAGMA query_only = 1")  # every write is an error
    log.close()
    assert len(slots(log)) == 16, "the next start removes them"
