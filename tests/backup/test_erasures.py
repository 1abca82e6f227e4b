"""An older backup, restored anywhere, stays erased: by the journal beside it, by that of the store it replaces, by a shipped
trail."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from smppd.audit.trail import AuditTrail
from smppd.backup.erasures import open_eraser, read_erasures, remember_backup, spread
from smppd.backup.manifest import BackupError, read_manifest
from smppd.backup.restore import Restored, restore
from smppd.ids import id_time
from smppd.records.erasure_journal import CONSENT, NAME, REPLIES, read_journal
from smppd.records.lookup import LogReader
from smppd.records.search import by_number
from smppd.records.verify import verify_log
from smppd.store.api import ColdRow, Kind
from smppd.store.consents import FOREVER, ConsentRow
from smppd.store.opening import embedded
from smppd.store.sqlite.consent_rows import SqliteConsents
from smppd.store.sqlite.erasure_rows import SqliteErasures
from smppd.store.sqlite.log_rows import SqliteRecords
from tests.backup.backups import ACTOR, House
from tests.store.builder import files

PERSON = b"447700900123"
OTHER = b"447700900456"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    one = House(tmp_path)
    yield one
    one.close()


def fill(house: House) -> list[int]:
    mine = []
    for _ in range(3):
        mine.append(house.log.record(destination=PERSON))
        house.log.record(destination=OTHER)
        house.log.commit()
    return mine


def erase(house: House, records: list[int], others: Sequence[str] = ()) -> int:
    eraser, rows = open_eraser(embedded(house.path / "store"), house.kek, house.install, house.trail)
    with eraser, eraser.journal.alone(wait=True):
        number = eraser.begin(house.log.now, ACTOR, {"reason": "law", "note": ""})
        eraser.list_records(number, dict.fromkeys(records, "acme"))
        eraser.list_others(number, others)
        eraser.declare(number)
        eraser.finish_listing(number, {"way": {}})
        eraser.run(house.log.now)
        spread(rows, house.path / "store")
    return number


def remember(house: House, name: str = "1") -> None:
    rows = SqliteErasures(house.path / "store")
    remember_backup(rows, read_manifest(house.data(name)), house.data(name), house.keys(name))
    rows.close()


def put_back(
    house: House, to: Path, *, name: str = "1", force: bool = False, erasures: tuple[Path, ...] = ()
) -> Restored:
    now = house.log.now + 60
    return restore(
        house.data(name), house.keys(name), to, house.kek, id_time, now=now, actor=ACTOR, force=force, erasures=erasures
    )


def found(house: House, directory: Path, number: bytes) -> int:
    with LogReader(SqliteRecords(directory), house.kek) as reader:
        ids = frozenset(
            record
            for line in read_journal(directory / NAME, house.install.checkpoint.public_key())
            for record in line.ids
        )
        verdict = verify_log(reader.records, id_time, keys=house.log.keys, erased=ids)
        assert verdict.ok, verdict.faults
        return len(list(by_number(reader, [number])))


def shipped(house: House, path: Path) -> Path:
    with path.open("w") as file:
        for entry in house.trail.entries():
            file.write(entry.as_json() + "\n")
    return path


@pytest.mark.parametrize("way", ["beside", "replaced", "trail", "journal"])
def test_what_was_erased_since_a_backup_stays_erased(house: House, tmp_path: Path, way: str) -> None:
    mine = fill(house)
    house.take()
    if way == "beside":
        remember(house)
    secrets = [house.log.secrets[record] for record in mine]
    erase(house, mine)
    given: tuple[Path, ...] = ()
    to = tmp_path / "elsewhere"
    if way == "trail":
        given = (shipped(house, tmp_path / "trail.jsonl"),)
    elif way == "journal":
        given = (house.path / "store" / NAME,)
    elif way == "replaced":
        to = house.path / "store"
        house.close()
    done = put_back(house, to, force=way == "replaced", erasures=given)
    assert (done.erasures.erasures, done.erasures.records) == (1, 3) and done.known_until
    assert found(house, to, PERSON) == 0 and found(house, to, OTHER) == 3
    everything = files(to)
    assert not [one for one in secrets if one[:32] in everything or one[32:] in everything]
    with AuditTrail(to / "audit.db", house.install.audit) as trail:
        assert trail.verify().ok
        assert [entry.result for entry in trail.entries(events=("erasure",))] == ["done again at a restore"]


@pytest.mark.parametrize("way", ["beside", "trail"])
def test_consents_and_senders_that_were_erased_since_a_backup_stay_erased(
    house: House, tmp_path: Path, way: str
) -> None:
    # No record speaks of them, so they are named by keyed hashes: 1 is the person's, 2 somebody else's.
    rows = [
        ConsentRow(bytes([n]) * 16, "acme", bytes([n + 8]) * 16, b"s" * 16, 0, FOREVER, b"sealed%d" % n) for n in (1, 2)
    ]
    with closing(SqliteConsents(house.path / "store")) as consents:
        consents.add(rows)
    house.log.store.batch.put += [ColdRow(Kind.REPLY, "acme", bytes([n]) * 16, 7, 2**40, b"sender") for n in (1, 2)]
    house.log.commit()
    house.take()
    if way == "beside":
        remember(house)
    hashes = [one + (b"\1" * 16).hex() for one in (CONSENT, REPLIES)]
    erase(house, [], hashes)
    erase(house, fill(house)[:1])  # the copy's own journal is made anew of both
    to = tmp_path / "elsewhere"
    given = (shipped(house, tmp_path / "trail.jsonl"),) if way == "trail" else ()
    done = put_back(house, to, erasures=given)
    assert done.erasures.others == 2
    with closing(SqliteConsents(to)) as consents:
        assert [one.digest for one in consents.named([row.digest for row in rows])] == [rows[1].digest]
    db = sqlite3.connect(to / "data.db")
    assert db.execute("SELECT key FROM cold WHERE kind = ?", (int(Kind.REPLY),)).fetchall() == [(b"\2" * 16,)]
    db.close()
    assert b"sealed1" not in files(to)
    lines = read_journal(to / NAME, house.install.checkpoint.public_key())
    assert [other for line in lines for other in line.others] == hashes


def test_without_a_journal_it_says_that_nothing_is_known(house: House, tmp_path: Path) -> None:
    mine = fill(house)
    house.take()
    erase(house, mine)
    done = put_back(house, tmp_path / "elsewhere")
    assert done.known_until == "" and done.erasures.erasures == 0
    assert found(house, tmp_path / "elsewhere", PERSON) == 3


def test_a_backup_taken_after_an_erasure_brings_its_journal(house: House, tmp_path: Path) -> None:
    erase(house, fill(house)[:2])
    house.take()
    assert house.verify().unreadable == 0
    done = put_back(house, tmp_path / "elsewhere")
    assert done.erasures.erasures == 1 and done.erasures.records == 0
    assert found(house, tmp_path / "elsewhere", PERSON) == 1


def test_a_backup_whose_journal_was_taken_away_is_refused_and_another_copy_helps(house: House, tmp_path: Path) -> None:
    erase(house, fill(house)[:2])
    house.take()
    (house.data() / NAME).unlink()
    with pytest.raises(BackupError, match="--erasures"):
        put_back(house, tmp_path / "elsewhere")
    put_back(house, tmp_path / "elsewhere", erasures=(shipped(house, tmp_path / "trail.jsonl"),))
    assert found(house, tmp_path / "elsewhere", PERSON) == 1


@pytest.mark.parametrize("kind", ["journal", "trail"])
def test_an_altered_copy_is_refused(house: House, tmp_path: Path, kind: str) -> None:
    mine = fill(house)
    house.take()
    erase(house, mine)
    path = house.path / "store" / NAME if kind == "journal" else shipped(house, tmp_path / "trail.jsonl")
    altered = tmp_path / "altered"
    altered.write_text(path.read_text().replace(f"{mine[0]:016x}", f"{mine[0] + 1:016x}"))
    with pytest.raises(BackupError, match="altered"):
        put_back(house, tmp_path / "elsewhere", erasures=(altered,))
    assert not (tmp_path / "elsewhere/data.db").exists()


@pytest.mark.parametrize("text", ["", "{}", "nothing", '{"event": 1}', "[]\n"])
def test_what_is_no_journal_is_a_sentence(house: House, tmp_path: Path, text: str) -> None:
    path = tmp_path / "given"
    path.write_text(text)
    with pytest.raises(BackupError):
        read_erasures(path, house.install)


def test_a_foreign_journal_is_refused(house: House, tmp_path: Path) -> None:
    mine = fill(house)
    house.take()
    other = House(tmp_path / "other")
    try:
        erase(other, mine)
        with pytest.raises(BackupError, match="another installation"):
            put_back(house, tmp_path / "elsewhere", erasures=(tmp_path / "other/store" / NAME,))
    finally:
        other.close()


def test_the_newest_journal_is_put_beside_every_backup_that_can_be_reached(house: House, tmp_path: Path) -> None:
    mine = fill(house)
    for name in ("1", "2"):
        house.take(name)
        remember(house, name)
    (house.data("2") / "manifest.json").rename(tmp_path / "manifest.json")  # its medium is not there
    erase(house, mine)
    assert (house.data("1") / NAME).read_bytes() == (house.path / "store" / NAME).read_bytes()
    assert not (house.data("2") / NAME).exists()
    rows = SqliteErasures(house.path / "store")
    try:
        assert spread(rows, house.path / "store") == ([str(house.data("1"))], [str(house.data("2"))])
    finally:
        rows.close()


def test_the_certificate_names_the_day_of_the_last_copy(house: House) -> None:
    mine = fill(house)
    manifest = house.take(keys_last=86400.0)
    number = erase(house, mine[:1])
    path = house.path / "store/certificates"
    first = json.loads((path / f"erasure-{number}.json").read_text())["backups_unreadable_by"]
    remember(house)
    number = erase(house, mine[1:2])
    second = json.loads((path / f"erasure-{number}.json").read_text())["backups_unreadable_by"]
    assert second == manifest.keys_expire and first > second
