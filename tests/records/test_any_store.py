"""The logic of `records` on a log that no SQL is behind: it finds, verifies, indexes and purges the same as on SQLite's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from smppd.config import Retain
from smppd.ids import id_time
from smppd.message import State
from smppd.records.capture import Capture, gather
from smppd.records.holds import Hold, Holds, HoldState
from smppd.records.indexer import Indexer
from smppd.records.keeping import Keeper
from smppd.records.lookup import LogReader
from smppd.records.retention import Purger
from smppd.records.search import accounts, by_number
from smppd.records.verify import LogVerdict, verify_log
from smppd.store.log import IndexRows, PurgeRows
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import KeyRing
from tests.records.memorylog import MemoryDocuments, MemoryLog
from tests.store.builder import DAY, Builder
from tests.store.houses import House

SUBJECT = b"447700900999"
LIFE = Retain(body=DAY, numbers=3 * DAY, billing=6 * DAY)


@pytest.fixture
def log(house: House) -> Iterator[Builder]:
    builder = Builder(house, sealed=True)
    yield builder
    builder.close()


def copied(log: Builder) -> MemoryLog:
    records = log.place.records()
    try:
        return MemoryLog.copied(records, lambda signed: log.keys.read(signed).seq)
    finally:
        records.close()


def days(log: Builder, count: int) -> list[int]:
    """Days of records to one number among others; the ids of its own."""
    mine = []
    for _day in range(count):
        log.now += DAY
        log.fill(4, 6)
        mine.append(log.record(b"to", destination=SUBJECT, body=LIFE.body, numbers=LIFE.numbers))
        log.event(mine[-1], State.SUBMITTED)
        log.commit()
        log.event(mine[-1], State.DELIVERED)
        log.commit()
    return mine


def index(rows: IndexRows) -> None:
    indexer = Indexer(rows, id_time, run=10, fan=3)
    while indexer.step():
        pass


def verified(reader: LogReader, log: Builder) -> LogVerdict:
    return verify_log(reader.records, id_time, keys=log.keys)


@pytest.mark.parametrize("indexed", [False, True])
def test_all_is_found_with_what_happened_to_it(log: Builder, indexed: bool) -> None:
    mine = days(log, 5)
    memory = copied(log)
    if indexed:
        index(memory)
        assert memory.upto and any(merged for merged, _one in memory.segments.values())
    reader = LogReader(memory, log.kek)
    assert [one.record.header.record_id for one in by_number(reader, [SUBJECT])] == mine[::-1]
    assert accounts(memory) == ["acme"]
    for identity in mine:
        found = reader.record(identity)
        assert found is not None and found.record.numbers is not None and found.record.body is not None
        assert [event.state for event in reader.events(identity)] == [State.SUBMITTED, State.DELIVERED]
    assert reader.record(mine[0] + 1) is None


def test_it_is_sound_and_an_edit_shows(log: Builder) -> None:
    days(log, 5)
    memory = copied(log)
    with log.reader() as stored:
        reader = LogReader(memory, log.kek)
        assert verified(reader, log) == verified(stored, log) and verified(reader, log).ok
    seq = sorted(memory.log)[3]
    memory.log[seq] = memory.log[seq]._replace(events=b"")
    verdict = verified(reader, log)
    assert not verdict.ok and verdict.first_bad == seq


def test_a_purge_leaves_the_same(log: Builder) -> None:
    mine = days(log, 12)
    memory = copied(log)
    index(memory)
    rows = log.place.index()
    index(rows)
    rows.close()
    log.now += DAY

    def purged(over: PurgeRows) -> dict[str, int]:
        purger = Purger(over, lambda: {"acme": LIFE}, id_time, chain_keys=log.keys)
        return purger.run(log.now).counts()

    stored = log.place.purge()
    counts = purged(stored)
    assert purged(memory) == counts and all(counts[name] for name in ("keys", "secrets", "parts", "records", "rows"))
    assert memory.wiped and sorted(memory.scopes()) == sorted(stored.scopes())
    assert (memory.extents(), memory.indexed()) == (stored.extents(), stored.indexed())
    stored.close()
    with log.reader() as other:
        reader = LogReader(memory, log.kek)
        left = other.records.rows(0, 10_000)
        assert memory.rows(0, 10_000) == left
        assert [memory.secrets(row) for row in left] == [other.records.secrets(row) for row in left]
        assert verified(reader, log) == verified(other, log) and verified(reader, log).ok
        found = [[one.record.header.record_id for one in by_number(one, [SUBJECT])] for one in (reader, other)]
        assert found[0] == found[1] and 0 < len(found[0]) < len(mine)


def test_a_hold_keeps_the_same(log: Builder) -> None:
    mine = days(log, 3)
    memory, documents = copied(log), MemoryDocuments()
    index(memory)
    held = Holds(documents, memory.held, KeyRing(log.kek, memory.keys), DocumentSealer(log.install))
    hold = Hold(held.number(), (SUBJECT,), "", 0, float("inf"), "Court", "1", log.now + 99 * DAY, "bob", log.now)
    held.add(hold)
    hold = held.activate(hold.number, "carol")
    gather(Capture(held, memory), hold)
    log.now += 30 * DAY
    purger = Purger(memory, lambda: {"acme": LIFE}, id_time, chain_keys=log.keys, keeper=Keeper(held, memory))
    purger.run(log.now)
    assert b"hold/000001" in memory.scopes() and not any(b"period" in one for one in memory.scopes())
    reader = LogReader(memory, log.kek)
    found = list(by_number(reader, [SUBJECT]))
    assert [one.record.header.record_id for one in found] == mine[::-1]
    assert all(one.record.pdu() is not None for one in found) and verified(reader, log).ok
    held.end(hold.number, HoldState.RELEASED, log.now)
    purger.run(log.now)
    assert not memory.held.rows and not memory.held.marks and not list(by_number(reader, [SUBJECT]))
    assert verified(LogReader(memory, log.kek), log).ok
