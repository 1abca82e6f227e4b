"""Reading the sealed log: by id, by number (indexed and not), events, and the chain that shows any edit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.ids import id_time
from smppd.message import State
from smppd.records.indexer import Indexer
from smppd.records.lookup import LogReader
from smppd.records.search import accounts, by_number
from smppd.records.verify import verify_log
from smppd.store.api import StoreError
from smppd.store.log import Front, pack_purged, read_purged
from smppd.store.sqlite.files import connect
from smppd.store.sqlite.log_rows import SqliteRecords
from smppd.vault.chain import Checkpoint
from smppd.vault.keys import load_install, period_from_label
from smppd.vault.seal import Content
from tests.store.builder import DAY, Builder
from tests.store.houses import House, embedded_only
from tests.vault.checkpoints import sign_checkpoint
from tests.vault.rows import NOON, kek

SUBJECT = b"447700900999"


@pytest.fixture
def log(house: House) -> Iterator[Builder]:
    builder = Builder(house)
    yield builder
    builder.close()


def index(builder: Builder, run: int = 10, fan: int = 3) -> None:
    rows = builder.place.index()
    indexer = Indexer(rows, id_time, run=run, fan=fan)
    while indexer.step():
        pass
    rows.close()


def test_places_are_read_back() -> None:
    gone = {7: bytes(32), 1: b"\1" * 32}
    assert read_purged(pack_purged(gone)) == gone


def test_a_record_by_id(log: Builder) -> None:
    first = log.record(b"one")
    log.record(b"two")
    log.commit()
    third = log.record(b"three")
    log.commit()
    with log.reader() as reader:
        for identity, text in ((first, b"one"), (third, b"three")):
            found = reader.record(identity)
            assert found is not None
            pdu = found.record.pdu()
            assert pdu is not None and pdu.endswith(text)
            assert "447700" not in repr(found)
        for nobody in (0, third + 1, first - 5, 1 << 63, 1 << 70):
            assert reader.record(nobody) is None


def test_rows_numbered_after_their_records_are_read_too(log: Builder) -> None:
    identity = log.record()
    log.store.batch.seq = 0  # drawn when it is flushed
    log.commit()
    other = log.record()
    log.commit()
    with log.reader() as reader:
        assert reader.record(identity) is not None
        assert reader.record(other) is not None


@pytest.mark.parametrize("indexed", ["no", "partly", "all"])
def test_all_records_of_a_number_newest_first(log: Builder, indexed: str) -> None:
    mine = []
    for day in range(5):
        log.now = NOON + day * DAY
        log.fill(4, 6)
        mine.append(log.record(b"to", destination=SUBJECT))
        log.commit()
        if day == 2 and indexed == "partly":
            index(log)
        mine.append(log.record(b"from", source=b"+" + SUBJECT))
        mine.append(log.record(b"another account", destination=SUBJECT, account="beta", numbers=90 * DAY))
        log.commit()
    if indexed == "all":
        index(log)
    with log.reader() as reader:
        seen: list[float] = []
        found = [f.record.header.record_id for f in by_number(reader, [SUBJECT], progress=seen.append)]
        assert found == sorted(mine, reverse=True)
        assert seen == sorted(seen) and seen[-1] == 1.0
        assert accounts(reader.records) == ["acme", "beta"]
        beta = list(by_number(reader, [SUBJECT], ["beta"]))
        assert [f.record.header.account for f in beta] == ["beta"] * 5
        some = list(by_number(reader, [SUBJECT], since=NOON + 2 * DAY, until=NOON + 3 * DAY))
        assert [f.record.header.record_id for f in some] == sorted(mine[6:9], reverse=True)
        assert list(by_number(reader, [b"447700900998"])) == []
        assert list(by_number(reader, [SUBJECT], ["nobody"])) == []
        assert list(by_number(reader, [])) == []
        assert len(list(by_number(reader, [SUBJECT, *(b"4477009005%02d" % n for n in range(50))]))) == len(mine)


def test_many_numbers_at_once_scan_the_tail_too(log: Builder) -> None:
    ids = log.fill(3, 20)
    with log.reader() as reader:
        every = [b"4477009%05d" % n for n in range(60)]
        assert [f.record.header.record_id for f in by_number(reader, every)] == ids[::-1]


def test_an_empty_store_has_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here"):
        LogReader(SqliteRecords(tmp_path / "none"), kek())
    connect(tmp_path / "keys.db", "keys").close()
    with pytest.raises(StoreError, match="no store here"):
        LogReader(SqliteRecords(tmp_path), kek())
    connect(tmp_path / "data.db", "data").close()
    with LogReader(SqliteRecords(tmp_path), kek()) as reader:
        assert list(by_number(reader, [SUBJECT])) == [] and reader.record(1) is None and reader.events(1) == []
        assert verify_log(reader.records, id_time).ok


@pytest.mark.parametrize("indexed", [False, True])
def test_events_of_a_record(log: Builder, indexed: bool) -> None:
    record = log.record(destination=SUBJECT)
    log.commit()
    log.fill(5, 4)
    log.event(record, State.SUBMITTED, b"carrier-a\x004711")
    log.commit()
    log.fill(5, 4)
    log.now += DAY
    log.event(record, State.DELIVERED, error=3)
    log.event(record + 1, State.UNKNOWN)
    log.commit()
    log.event(record, State.RECEIPT_DONE)
    log.commit()
    if indexed:
        index(log)
    log.fill(2, 2)
    with log.reader() as reader:
        events = reader.events(record)
        assert [State(event.state).name for event in events] == ["SUBMITTED", "DELIVERED", "RECEIPT_DONE"]
        assert (events[0].upstream, events[0].upstream_id) == ("carrier-a", b"4711")
        assert (events[1].error, events[1].time) == (3, int(log.now * 1000) - 2000)
        assert [event.state for event in reader.events(record, limit=2)] == [State.SUBMITTED, State.DELIVERED]


def test_what_a_carrier_says_after_unknown_is_found(log: Builder) -> None:
    record = log.record(destination=SUBJECT)
    log.commit()
    for state in (State.UNKNOWN, State.RECEIPT_DONE, State.DELIVERED):
        log.event(record, state)
        log.commit()
        log.fill(5, 4)
    with log.reader() as reader:
        assert [event.state for event in reader.events(record)] == [State.UNKNOWN, State.RECEIPT_DONE, State.DELIVERED]


def test_the_reader_works_while_the_store_writes(log: Builder) -> None:
    log.fill(2, 3)
    with log.reader() as reader:
        assert len(list(by_number(reader, [b"447700900000"]))) == 1
        late = log.record(destination=SUBJECT)
        log.commit()
        assert [f.record.header.record_id for f in by_number(reader, [SUBJECT])] == [late]


@pytest.mark.parametrize("content", list(Content))
def test_what_is_kept_of_a_body(log: Builder, content: Content) -> None:
    identity = log.record(b"secret", content=content)
    log.commit()
    with log.reader() as reader:
        found = reader.record(identity)
        assert found is not None and found.record.numbers is not None
        assert (found.record.body is not None) == (content is Content.ENCRYPT)
        assert (found.record.content_hash is not None) == (content is Content.HASH)


# -- the chain ------------------------------------------------------------------------------------------------------


def edit(builder: Builder, statement: str, *values: object) -> None:
    builder.house.edit(statement, *values)


def test_an_untouched_log_verifies(log: Builder) -> None:
    log.fill(200, 2)
    log.event(1, State.DELIVERED)
    log.commit()
    with log.reader() as reader:
        seen: list[float] = []
        verdict = verify_log(reader.records, id_time, progress=seen.append)
    assert verdict.ok and (verdict.rows, verdict.records, verdict.purged) == (201, 400, 0)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log SET chain = zeroblob(32) WHERE seq = ?",
        "UPDATE log SET events = x'00' WHERE seq = ?",
        "UPDATE log SET events = x'' WHERE seq = ?",
        "UPDATE log SET records = substr(records, 1, length(records) / 2) WHERE seq = ?",
        "UPDATE log SET records = CAST(records || records AS BLOB) WHERE seq = ?",
        "UPDATE log SET records = x'' WHERE seq = ?",
        "UPDATE log SET records = x'', events = x'' WHERE seq = ?",
        "UPDATE log SET count = count + 1 WHERE seq = ?",
        "UPDATE log SET count = count - 1 WHERE seq = ?",
        "DELETE FROM log WHERE seq = ?",
        "UPDATE log SET seq = 1 WHERE seq = ?",
        "INSERT INTO purged (seq, digests) SELECT seq, x'00000000' || zeroblob(32) FROM log WHERE seq = ?",
    ],
)
def test_any_edit_shows(log: Builder, statement: str) -> None:
    log.fill(5, 2)
    seq = log.house.ask("SELECT seq FROM log ORDER BY seq LIMIT 1 OFFSET 2")[0][0]
    edit(log, statement, seq)
    with log.reader() as reader:
        verdict = verify_log(reader.records, id_time)
    assert not verdict.ok and verdict.first_bad is not None


def test_an_altered_record_shows_and_is_not_opened(log: Builder) -> None:
    identity = log.record(destination=SUBJECT)
    log.commit()
    packed = log.packed[identity]
    flipped = packed[:-40] + bytes((packed[-40] ^ 1,)) + packed[-39:]
    edit(log, "UPDATE log SET records = ?", flipped)
    with log.reader() as reader:
        assert list(by_number(reader, [SUBJECT])) == [] and reader.damaged == [identity]
        assert "altered" in verify_log(reader.records, id_time).reason


@embedded_only
def test_a_log_cut_off_at_its_front_shows(log: Builder) -> None:
    log.fill(3, 2)
    db = sqlite3.connect(log.directory / "data.db", isolation_level=None)
    seq, link = db.execute("SELECT seq, chain FROM log LIMIT 1").fetchone()
    db.execute("DELETE FROM log WHERE seq = ?", (seq,))
    with log.reader() as reader:
        assert not verify_log(reader.records, id_time).ok
    db.execute("INSERT INTO meta VALUES ('anchor', ?)", (link,))
    with log.reader() as reader:
        assert verify_log(reader.records, id_time).anchor == link  # for the audit trail to confirm
    db.close()


@embedded_only
def test_checkpoints_are_found_in_the_chain(log: Builder) -> None:
    key = load_install(log.kek, log.store.keys).checkpoint
    log.fill(3, 2)
    db = sqlite3.connect(log.directory / "data.db", isolation_level=None)
    (link,) = db.execute("SELECT chain FROM log LIMIT 1 OFFSET 1").fetchone()
    point = Checkpoint(1, 2, int(log.now * 1000), link)
    db.execute("INSERT INTO checkpoints VALUES (1, ?)", (sign_checkpoint(key, point),))
    with log.reader() as reader:
        assert verify_log(reader.records, id_time, key.public_key()).checkpoints == 1
    db.execute("DELETE FROM log WHERE seq > (SELECT seq FROM log LIMIT 1)")  # rolled back
    with log.reader() as reader:
        verdict = verify_log(reader.records, id_time, key.public_key())
        assert not verdict.ok and "signed" in verdict.reason
        assert verify_log(reader.records, id_time).ok  # without the checkpoint nobody can tell
    db.execute("UPDATE checkpoints SET signed = zeroblob(length(signed))")
    with log.reader() as reader:
        assert not verify_log(reader.records, id_time, key.public_key()).ok
    db.close()


def test_labels_of_past_periods(log: Builder) -> None:
    """Keys of three granularities stand beside each other after retention was changed."""
    ids = []
    for retain in (DAY, 10 * DAY, 90 * DAY):
        ids.append(log.record(destination=SUBJECT, numbers=retain, body=retain))
        log.commit()
    assert period_from_label("2026-11").start < NOON
    with log.reader() as reader:
        assert [f.record.header.record_id for f in by_number(reader, [SUBJECT])] == ids[::-1]


def test_each_piece_of_the_index_is_read_once_in_a_search(log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    # In so small a log most buckets are empty: one holds all.
    for module in ("indexer", "search"):
        monkeypatch.setattr(f"smppd.records.{module}.number_bucket", lambda _blind: 0)
    for hour in range(40):
        log.now = NOON + hour * 3600
        log.fill(2, 3)
        log.record(destination=SUBJECT)
        log.commit()
    index(log, run=14, fan=3)
    read: list[bytes] = []
    with log.reader() as reader:
        segments = reader.records.number_segments

        def counted(bucket: int, first: int, last: int) -> list[bytes]:
            found = segments(bucket, first, last)
            read.extend(found)
            return found

        monkeypatch.setattr(reader.records, "number_segments", counted)
        assert len(reader.records.number_ends()) > 4
        assert len(list(by_number(reader, (SUBJECT,)))) == 40
    assert read and len(set(read)) == len(read)


def test_events_behind_the_index_are_read_once_and_new_ones_are_seen(
    log: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(log)
    ids = log.fill(6, 3)
    with log.reader() as reader:
        asked: list[int] = []
        told = reader.records.told_beyond

        def counted(front: Front, limit: int) -> list[tuple[int, bytes]]:
            asked.append(sum(front.values()))
            return told(front, limit)

        monkeypatch.setattr(reader.records, "told_beyond", counted)
        for identity in ids:
            assert [event.state for event in reader.events(identity)] == [State.SUBMITTED]
        assert asked.count(0) == 1 and len(set(asked)) == 2, "all once, then only what came since"
        log.event(ids[0], State.DELIVERED)
        log.commit()
        assert [event.state for event in reader.events(ids[0])] == [State.SUBMITTED, State.DELIVERED]
        index(log, run=5)
        assert [event.state for event in reader.events(ids[0])] == [State.SUBMITTED, State.DELIVERED]
        upto = reader.records.indexed()
        assert reader.events(ids[-1]) and upto and all(seq > upto for seq, _ in reader._tail.blocks)


def test_events_that_do_not_fit_are_read_each_time(log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smppd.records.lookup._TAIL", 100)
    ids = log.fill(6, 3)
    with log.reader() as reader:
        for identity in (*ids, *ids):
            assert [event.state for event in reader.events(identity)] == [State.SUBMITTED]
        assert reader._tail._octets <= 100
