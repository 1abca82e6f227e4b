"""Erasing: nothing of a person is left in any file with all keys in hand, the rest is as it was, the chain verifies, a kill
costs nothing, what a hold or a floor keeps is erased when that is over."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Collection, Iterator, Sequence

import pytest

from smppd.audit.trail import Actor, AuditTrail
from smppd.config import Retain
from smppd.ids import id_time
from smppd.records.erasure import CERTIFICATES, CLOSING, DONE, STATE, WAY_HELD, Eraser, HoldsRecords
from smppd.records.erasure_journal import NAME, ErasedIds, ErasureJournal, missing_lines, of_trail, read_journal
from smppd.records.indexer import Indexer
from smppd.records.retention import Purger
from smppd.records.search import by_number
from smppd.records.segments import build_segment, find_number, without
from smppd.records.verify import LogVerdict, verify_log
from smppd.store.api import StoreBusy
from smppd.store.sqlite.files import connect
from smppd.vault.keys import KeyRing, Part
from smppd.vault.numbers import blind
from smppd.vault.seal import Content, read_header
from tests.store.builder import DAY, Builder
from tests.store.houses import House, embedded_only
from tests.vault.rows import NOON

PERSON = b"447700900123"
OTHER = b"447700900456"
ACTOR = Actor("officer", "here")


class Holds:
    """Some records are held by hold 7, while it lasts."""

    def __init__(self, records: Collection[int] = (), numbers: Collection[bytes] = ()) -> None:
        self.records = set(records)
        self.numbers = set(numbers)
        self.over = False

    def holding(self, record_id: int, account: str, accepted_ms: int, forms: Collection[bytes]) -> int:
        return 0 if self.over else 7 * (record_id in self.records or bool(self.numbers & set(forms)))

    def in_force(self) -> Collection[int]:
        return () if self.over else (7,)


@pytest.fixture
def log(house: House) -> Iterator[Builder]:
    builder = Builder(house, sealed=True)
    yield builder
    builder.close()


def eraser(builder: Builder, holds: HoldsRecords | None = None, **more: object) -> Eraser:
    trail = AuditTrail(builder.directory / "audit.db", builder.install.audit)
    journal = ErasureJournal(builder.directory / NAME, builder.install.checkpoint)
    rows = builder.place.erasures()
    ring = KeyRing(builder.kek, builder.store.keys)
    return Eraser(
        rows, builder.directory, builder.install, ring, trail=trail, journal=journal, holds=holds, **more  # type: ignore[arg-type]
    )  # fmt: skip


def found(builder: Builder, number: bytes = PERSON) -> dict[int, str]:
    with builder.reader() as reader:
        return {one.record.header.record_id: one.record.header.account for one in by_number(reader, [number])}


def ask(one: Eraser, builder: Builder, records: dict[int, str], *, declare: bool = True) -> int:
    """Puts an erasure down, as the command does."""
    with one.journal.alone(wait=True) as alone:
        assert alone
        number = one.begin(builder.now, ACTOR, {"reason": "law", "note": "ticket 7"})
        one.list_records(number, records)
        if declare:
            one.declare(number)
            one.finish_listing(number, {"way": {}, "accounts": {"acme": len(records)}})
    return number


def verdict(builder: Builder) -> LogVerdict:
    ids = ErasedIds(builder.directory / NAME, builder.install.checkpoint.public_key())
    with builder.reader() as reader:
        return verify_log(reader.records, id_time, keys=builder.keys, erased=ids)


def index(builder: Builder, run: int = 4, fan: int = 3) -> None:
    rows = builder.place.index()
    indexer = Indexer(rows, id_time, run=run, fan=fan)
    while indexer.step():
        pass
    rows.close()


def fill(builder: Builder) -> list[int]:
    """Rows of three records each, one of them to or from the person in two of three; the ids of these."""
    mine = []
    for row in range(12):
        builder.now += DAY / 4
        builder.record(destination=b"4477009007%02d" % row)
        if row % 3 == 0:
            mine.append(builder.record(b"to the person", destination=PERSON))
        elif row % 3 == 1:
            mine.append(builder.record(b"from the person", source=PERSON, destination=b"Acme", account="beta"))
        builder.record(destination=OTHER, content=Content.HASH)
        builder.commit()
    return mine


def needles(builder: Builder, ids: list[int]) -> list[bytes]:
    """What must not be left: secrets, sealed parts, blind indexes under all living keys."""
    listed = []
    for record in ids:
        packed = builder.packed[record]
        listed += [builder.secrets[record][:32], builder.secrets[record][32:], packed[-32 - 64 : -32]]
        head = read_header(packed)
        key = builder.ring.existing(head.account, Part.NUMBERS, head.numbers_period)
        assert key is not None
        listed += [blind(key, PERSON)]
    return listed


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("open_store", [False, True])
def test_nothing_of_a_person_is_left_in_any_file(log: Builder, indexed: bool, open_store: bool) -> None:
    mine = fill(log)
    if indexed:
        index(log)
    gone = needles(log, mine)
    before = log.house.octets()
    assert all(one in before for one in gone)
    others = set(log.packed) - set(mine)
    if not open_store:
        log.close()
    with eraser(log) as one:
        number = ask(one, log, found(log))
        done = one.run(log.now)
    assert (done.records, done.secrets, done.complete) == (len(mine), 2 * len(mine), True)
    everything = log.house.octets()
    assert not [one for one in gone if one in everything]
    assert all(log.packed[record] in everything and log.secrets[record][:32] in everything for record in others)
    assert found(log) == {} and len(found(log, OTHER)) == 12
    assert verdict(log).ok, verdict(log).faults
    with log.reader() as reader:
        plain = verify_log(reader.records, id_time, keys=log.keys)
        assert not plain.ok and "by no purge and no erasure" in plain.reason
        for record in mine:
            kept = reader.record(record)
            assert kept is not None and kept.record.numbers is None and kept.record.body is None
    facts = json.loads((log.directory / CERTIFICATES / f"erasure-{number}.json").read_text())
    assert (facts["records_erased"], facts["records_queued"]) == (len(mine), 0)
    if indexed:
        index(log, run=1)  # what comes later is merged with what was rewritten
        assert len(found(log, OTHER)) == 12


def test_the_certificate_verifies_with_openssl_and_names_nobody(log: Builder) -> None:
    fill(log)
    with eraser(log) as one:
        number = ask(one, log, found(log))
        one.run(log.now)
        line = one.journal.lines()[-1]
    place = log.directory / CERTIFICATES
    name = f"erasure-{number}"
    checked = subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "installation.pem", "-rawin", "-in", f"{name}.json"]
        + ["-sigfile", f"{name}.sig"],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    text = (place / f"{name}.json").read_text()
    assert PERSON.decode() not in text and json.loads(text)["journal_line_sha256"] == line.digest
    assert PERSON not in (log.directory / NAME).read_bytes()


def test_an_erasure_can_be_killed_anywhere(log: Builder) -> None:
    mine = fill(log)
    index(log)
    gone = needles(log, mine)
    with eraser(log) as one:
        ask(one, log, found(log))
    steps = 0
    while True:  # each step in a process of its own, which remembers nothing
        with eraser(log) as one:
            going = one.step(log.now)
        assert verdict(log).ok, verdict(log).faults
        steps += 1
        assert steps < 200
        if not going or (steps > 8 and not found(log)):
            break
    with eraser(log) as one:
        one.run(log.now)
    everything = log.house.octets()
    assert steps > 2 and not [one for one in gone if one in everything]


def test_it_is_not_done_before_what_it_left_is_overwritten(log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever erased may be gone by then: a command that met a reader and ended, or was killed."""
    mine = fill(log)
    gone = needles(log, mine)
    with eraser(log) as one:
        number = ask(one, log, found(log))
        with monkeypatch.context() as reading:
            reading.setattr(one.rows, "wipe", lambda: False)
            assert not one.run(log.now).complete
        certificate = one.certify(number, log.now)
        assert json.loads(certificate.read_text())["overwritten"] is False
    with eraser(log) as other:
        with monkeypatch.context() as reading:
            reading.setattr(other.rows, "wipe", lambda: False)
            assert not other.run(log.now).complete
        assert (other.rows.erasure(number) or {})[STATE] == CLOSING
        assert other.run(log.now).complete and (other.rows.erasure(number) or {})[STATE] == DONE
    assert json.loads(certificate.read_text())["overwritten"] is True
    everything = log.house.octets()
    assert not [one for one in gone if one in everything]


@pytest.mark.parametrize("declared", [False, True])
def test_any_purge_finishes_what_a_command_was_killed_at(log: Builder, declared: bool) -> None:
    mine = fill(log)
    gone = needles(log, mine)
    with eraser(log) as one:
        number = one.begin(log.now, ACTOR, {"reason": "law", "note": ""})
        one.list_records(number, found(log))
        if declared:
            with one.journal.alone(wait=True):
                one.declare(number)
    rules = {"acme": Retain(body=900 * DAY, numbers=900 * DAY, billing=900 * DAY)}
    with Purger(log.place.purge(), lambda: rules, id_time, chain_keys=log.keys, erasing=eraser(log)) as purge:
        assert purge.run(log.now).complete
    everything = log.house.octets()
    assert not [one for one in gone if one in everything]
    assert verdict(log).ok
    facts = json.loads((log.directory / CERTIFICATES / f"erasure-{number}.json").read_text())
    assert "run again" in str(facts["on_its_way"])


def test_nothing_is_destroyed_while_its_journal_is_being_written(log: Builder) -> None:
    fill(log)
    with eraser(log) as one, eraser(log) as other, one.journal.alone(wait=True):
        number = one.begin(log.now, ACTOR, {})
        one.list_records(number, found(log))
        assert not other.step(log.now)
        assert len(found(log)) == 8
        one.declare(number)
        while other.step(log.now):
            pass
        assert not found(log)


def test_the_journal_and_the_trail_say_the_same(log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smppd.records.erasure_journal.IDS", 3)
    mine = fill(log)
    with eraser(log) as one:
        number = ask(one, log, found(log))
        with one.journal.alone(wait=True):
            one.declare(number)  # once more: nothing is written twice
        lines = one.journal.lines()
        entries = list(one._trail.entries(events=("erasure",)))
        assert [of_trail(entry.what) for entry in entries] == lines
        assert sorted(record for line in lines for record in line.ids) == sorted(mine)
        assert [(entry.what["reason"], entry.who) for entry in entries] == [("law", "officer")] * 3
        assert missing_lines(lines, one.rows.erasures()) == []
        assert missing_lines(lines[:-1], one.rows.erasures()) != []


@pytest.mark.parametrize("way", ["altered", "dropped", "swapped", "cut", "foreign", "torn"])
def test_a_journal_that_was_tampered_with_is_refused(log: Builder, way: str) -> None:
    path = log.directory / NAME
    journal = ErasureJournal(path, log.install.checkpoint)
    for record in range(1, 5):
        journal.append(record, [record], "2026-11-30T00:00:00Z")
    lines = path.read_bytes().splitlines(keepends=True)
    if way == "altered":
        lines[1] = lines[1].replace(b'"ids":"0000000000000002"', b'"ids":"0000000000000009"')
    elif way == "dropped":
        del lines[1]
    elif way == "swapped":
        lines[1], lines[2] = lines[2], lines[1]
    elif way == "cut":
        lines[1] = lines[1][:-20] + b"\n"
    elif way == "torn":
        lines[3] = lines[3][:40]
    elif way == "foreign":
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        other = ErasureJournal(log.directory / "other", Ed25519PrivateKey.generate())
        lines = [line.text() for line in other.append(1, [1], "2026-11-30T00:00:00Z")]
    path.write_bytes(b"".join(lines))
    key = log.install.checkpoint.public_key()
    if way == "torn":  # a write that was killed: nothing was done on its word
        assert [line.line for line in read_journal(path, key)] == [1, 2, 3]
        assert [line.line for line in journal.append(9, [9], "x")] == [4]
        assert len(read_journal(path, key)) == 4
        return
    with pytest.raises(Exception, match="erasure journal"):
        read_journal(path, key)


def test_what_a_hold_keeps_is_erased_when_the_hold_is_over(log: Builder) -> None:
    mine = fill(log)
    gone = needles(log, mine)
    holds = Holds(records=mine[:3])
    with eraser(log, holds) as one:
        number = ask(one, log, found(log))
        one.run(log.now)
        assert one.rows.left(number) == (3, 3, 0) and one.rows.holds_of(number) == {7: 3}
        assert set(found(log)) == set(mine[:3])
        certified = json.loads((log.directory / CERTIFICATES / f"erasure-{number}.json").read_text())
        assert (certified["records_queued"], certified["queued_by_hold"]) == (3, {"7": 3})
        assert verdict(log).ok
        one.run(log.now + DAY)
        assert len(found(log)) == 3
        holds.over = True
        one.run(log.now + DAY)
    everything = log.house.octets()
    assert not [one for one in gone if one in everything]
    certified = json.loads((log.directory / CERTIFICATES / f"erasure-{number}.json").read_text())
    assert (certified["records_queued"], certified["records_erased"]) == (0, len(mine))


@pytest.mark.parametrize("records", [0, 2])
def test_what_a_hold_kept_on_its_way_goes_before_it_is_certified(log: Builder, records: int) -> None:
    mine = fill(log)
    holds = Holds(records=mine[:records])
    asked: list[tuple[int, list[int]]] = []

    def way(number: int, of: Sequence[int]) -> bool:
        asked.append((number, list(of)))
        return len(asked) > 1

    place = log.directory / CERTIFICATES / "erasure-1.json"
    with eraser(log, holds, way=way) as one:
        number = ask(one, log, found(log))
        one.finish_listing(number, {WAY_HELD: [7]})
        one.run(log.now)
        assert not asked and (one.rows.erasure(number) or {})[STATE] == CLOSING
        assert json.loads(place.read_text())["on_its_way_kept_by_hold"] == ["7"]
        holds.over = True
        one.run(log.now)
        assert asked == [(number, sorted(mine))] and (one.rows.erasure(number) or {})[STATE] == CLOSING
        one.run(log.now)
        assert len(asked) == 2 and (one.rows.erasure(number) or {})[STATE] == DONE
        one.run(log.now)
        assert len(asked) == 2
    certified = json.loads(place.read_text())
    assert certified["on_its_way_kept_by_hold"] == [] and certified["records_erased"] == len(mine)


def test_a_hold_on_a_number_keeps_its_records(log: Builder) -> None:
    mine = fill(log)
    with eraser(log, Holds(numbers=[PERSON])) as one:
        number = ask(one, log, found(log))
        one.run(log.now)
        assert one.rows.left(number)[:2] == (len(mine), len(mine))
    assert verdict(log).ok


def test_a_floor_keeps_a_part_until_it_is_over(log: Builder) -> None:
    mine = log.record(b"text", destination=PERSON)
    log.commit()

    def floor(account: str, part: Part, accepted: float) -> float:
        return accepted + 10 * DAY if part is Part.NUMBERS else 0.0

    with eraser(log, floor=floor) as one:
        number = ask(one, log, found(log))
        one.run(log.now)
        assert one.rows.left(number) == (1, 0, 1)
        with log.reader() as reader:
            kept = reader.record(mine)
            assert kept is not None and kept.record.body is None and kept.record.numbers is not None
        assert verdict(log).ok
        one.run(log.now + 9 * DAY)
        assert found(log)
        one.run(log.now + 11 * DAY)
        assert not found(log) and one.rows.left(number) == (0, 0, 0)
    assert not [one for one in (log.secrets[mine][:32], log.secrets[mine][32:]) if one in log.house.octets()]


def test_a_body_that_must_be_kept_keeps_its_numbers(log: Builder) -> None:
    mine = log.record(b"text", destination=PERSON)
    log.commit()
    with eraser(log, floor=lambda _a, part, at: at + 10 * DAY if part is Part.BODY else 0.0) as one:
        ask(one, log, found(log))
        one.run(log.now)
        with log.reader() as reader:
            kept = reader.record(mine)
            assert kept is not None and kept.record.body is not None
        one.run(log.now + 11 * DAY)
        assert not found(log)


def test_an_index_that_is_being_built_does_not_bring_back_what_was_erased(log: Builder) -> None:
    mine = fill(log)
    rows = log.place.index()
    indexer = Indexer(rows, id_time, run=1000)
    while indexer._collect():
        pass
    indexer._records = 1000  # all was read, and nothing is written yet
    gone = needles(log, mine)
    with eraser(log) as one:
        ask(one, log, found(log))
        one.run(log.now)
    assert indexer.step()
    rows.close()
    everything = log.house.octets()
    assert not [one for one in gone if one in everything]
    assert len(found(log, OTHER)) == 12


def test_an_index_segment_is_not_added_where_more_was_erased_meanwhile(log: Builder) -> None:
    fill(log)
    rows = log.place.index()
    indexer = Indexer(rows, id_time, run=1000)
    while indexer._collect():
        pass
    indexer._records = 1000
    indexer._without_erased()
    with eraser(log) as one:
        ask(one, log, found(log))
        one.run(log.now)
    indexer._without_erased = lambda: None  # type: ignore[method-assign]
    with pytest.raises(StoreBusy):
        indexer.step()
    rows.close()


def test_a_merge_that_read_before_the_erasure_is_given_up(log: Builder) -> None:
    fill(log)
    index(log, run=2, fan=100)
    rows = log.place.index()
    small = rows.small("number", 3)
    assert small
    with eraser(log) as one:
        ask(one, log, found(log))
        one.run(log.now)
    merged = small[0][1]
    assert not rows.merge([handle for handle, _ in small], merged)
    assert rows.merge([handle for handle, _ in rows.small("number", 3)], merged)
    rows.close()


def test_a_segment_without_some_records() -> None:
    entries = [(b"%016d" % n, n % 7) for n in range(50)]
    segment = build_segment(entries)
    assert without(segment, {99}) is segment
    left = without(segment, {0, 3})
    assert left == build_segment([entry for entry in entries if entry[1] not in (0, 3)])
    assert find_number(left, b"%016d" % 1) == [1] and find_number(left, b"%016d" % 3) == []
    assert without(build_segment([(b"x" * 16, 5)]), {5}) == build_segment([])


def test_erasing_twice_finds_nothing_new(log: Builder) -> None:
    mine = fill(log)
    with eraser(log) as one:
        records = found(log)
        first = ask(one, log, records)
        second = ask(one, log, records)  # asked again before anything was done
        one.run(log.now)
        assert one.rows.left(first)[0] == one.rows.left(second)[0] == 0
        assert len(one.journal.lines()) == 1
        assert NOON and len(mine) == 8


@embedded_only
def test_what_an_earlier_version_left_in_free_pages_is_written_over(log: Builder) -> None:
    fill(log)
    needle = b"a blind index that was merged away"
    old = connect(log.directory / "data.db", "data")
    old.execute("PRAGMA secure_delete = OFF")
    old.execute("CREATE TABLE old (data BLOB)")
    for _ in range(200):
        old.execute("INSERT INTO old VALUES (?)", (needle * 500,))
    old.execute("DROP TABLE old")
    old.close()
    log.close()  # what was freed is in the file itself
    assert needle in log.house.octets()
    with eraser(log) as one:
        ask(one, log, found(log))
        assert one.run(log.now).complete
    assert needle not in log.house.octets()
    db = connect(log.directory / "data.db", "data", read_only=True)
    assert db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'scrubbed'").fetchone() == (0,)
    db.close()
    assert verdict(log).ok


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_the_owner_of_the_store(log: Builder) -> None:
    fill(log)
    os.chown(log.directory, 4242, 4243)
    with eraser(log) as one:
        ask(one, log, found(log))
        one.run(log.now)
    made = [log.directory / NAME, log.directory / CERTIFICATES, *(log.directory / CERTIFICATES).iterdir()]
    assert len(made) == 5 and {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(4242, 4243)}
