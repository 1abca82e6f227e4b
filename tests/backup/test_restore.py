"""Restoring: everything is checked before the first file is moved, and a restore that was killed is no store."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.audit.trail import AuditTrail
from smppd.backup.manifest import BackupError, read_manifest, sha256_of, write_manifest
from smppd.backup.restore import existing, restore, verify
from smppd.ids import id_time
from smppd.records.lookup import LogReader
from smppd.records.verify import verify_log
from smppd.store.api import StoreError
from smppd.store.installation import RESTORED
from smppd.store.lock import Lock
from smppd.store.sqlite.log_rows import SqliteRecords
from tests.backup.backups import ACTOR, House, edit, flip, wait
from tests.store.builder import DAY, Builder, files
from tests.vault.rows import NOON, kek


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    one = House(tmp_path)
    yield one
    one.close()


def test_restored_stores_say_so_and_skip_short_ids(house: House, tmp_path: Path) -> None:
    house.log.store.batch.meta.append(("short_id", 70_000))
    _, cold = wait(house)
    house.take()
    restore(house.data(), house.keys(), tmp_path / "new", house.kek, id_time, now=house.log.now + 60, actor=ACTOR)
    db = sqlite3.connect(tmp_path / "new/data.db")
    meta = dict(db.execute("SELECT name, value FROM meta WHERE name IN (?, 'short_id')", (RESTORED,)))
    db.close()
    assert meta["short_id"] == 70_000 + 60 * 2000
    assert meta[RESTORED] >= cold
    house.log.now += 1
    assert meta[RESTORED] < house.log.new_id()


@pytest.mark.parametrize("name", ["data1/data.db", "data1/audit.db", "keys1/keys.db"])
def test_altered_files_are_seen(house: House, name: str) -> None:
    wait(house)
    house.take()
    flip(house.path / name)
    with pytest.raises(BackupError, match="altered"):
        house.verify()
    with (house.path / name).open("ab") as file:
        file.truncate(4096)
    with pytest.raises(BackupError, match="altered"):
        house.verify()
    (house.path / name).unlink()
    with pytest.raises(BackupError):
        house.verify()


@pytest.mark.parametrize("field", ["taken", "keys_expire", "records", "highest_id", "kek_versions"])
def test_an_altered_manifest_is_seen(house: House, field: str) -> None:
    wait(house)
    house.take()
    path = house.data() / "manifest.json"
    facts = json.loads(path.read_text())
    facts[field] = {"records": 1, "kek_versions": [7]}.get(field, "2026-11-22T12:00:07Z")
    if field == "highest_id":
        facts[field] = "00000000000000ff"
    path.write_text(json.dumps(facts))
    with pytest.raises(BackupError, match="not signed by this installation"):
        house.verify()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "signature": "zz"}', '{"format": 1, "signature": ""}'])
def test_a_malformed_manifest_is_a_sentence(house: House, text: str) -> None:
    wait(house)
    house.take()
    (house.data() / "manifest.json").write_text(text)
    with pytest.raises(BackupError, match="not a manifest"):
        house.verify()


def signed_again(house: House, name: str) -> None:
    """Writes a manifest that fits the files as they are now: what is left to see is what they say."""
    manifest = read_manifest(house.data())
    place = house.keys() if name == "keys.db" else house.data()
    octets, digest = sha256_of(place / name, lambda _what, _done: None)
    changed = tuple(one._replace(octets=octets, sha256=digest) if one.name == name else one for one in manifest.files)
    write_manifest(house.data(), manifest._replace(files=changed), house.install.checkpoint)


@pytest.mark.parametrize(
    ("name", "statement", "match"),
    [
        ("data.db", "UPDATE log SET events = x'00'", "log of the backup is not sound"),
        ("data.db", "DELETE FROM log WHERE seq = (SELECT max(seq) FROM log)", "does not end where"),
        ("audit.db", "UPDATE entries SET who = 'mallory'", "audit trail of the backup is not sound"),
        ("keys.db", "DELETE FROM keys WHERE scope = CAST('segment/000001' AS BLOB)", "has no key any more"),
        ("keys.db", "DELETE FROM keys WHERE scope = CAST('install/audit' AS BLOB)", "lacks install/audit"),
        ("keys.db", "UPDATE keys SET wrapped = (SELECT min(wrapped) FROM keys)", "key .* (open|altered|belong)"),
    ],
)
def test_contents_that_do_not_fit_are_seen(house: House, name: str, statement: str, match: str) -> None:
    house.log.fill(3, 2)
    wait(house)
    house.take()
    edit((house.keys() if name == "keys.db" else house.data()) / name, statement)
    signed_again(house, name)
    with pytest.raises(BackupError, match=match):
        house.verify()


def test_lost_secrets_are_counted(house: House) -> None:
    house.log.fill(3, 4)
    house.take()
    edit(house.keys() / "keys.db", "DELETE FROM secrets WHERE seq = (SELECT max(seq) FROM secrets)")
    signed_again(house, "keys.db")
    assert house.verify().unreadable == 4


def test_another_kek_opens_nothing(house: House, tmp_path: Path) -> None:
    wait(house)
    house.take()
    place = tmp_path / "tried"
    place.mkdir()
    with pytest.raises(BackupError, match="key "):
        verify(house.data(), house.keys(), place, kek(2), id_time)


def test_a_store_in_use_is_not_restored_over(house: House) -> None:
    wait(house)
    house.take()
    store = house.path / "store"
    arguments = (house.data(), house.keys(), store, house.kek, id_time)
    with pytest.raises(StoreError, match="another smppd"):
        restore(*arguments, now=NOON, actor=ACTOR, force=True)
    house.close()
    with pytest.raises(BackupError, match="--force"):
        restore(*arguments, now=NOON, actor=ACTOR)
    before = {path.name: path.stat().st_ino for path in existing(store)}
    done = restore(*arguments, now=NOON, actor=ACTOR, force=True)
    assert done.aside is not None and done.aside.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_ino for path in done.aside.iterdir()} == before
    assert {path.name for path in existing(store)} == {"keys.db", "data.db", "audit.db"}
    Lock(store).release()


@pytest.mark.parametrize("name", ["manifest", "keys", "data"])
def test_a_restore_that_fails_changes_nothing(house: House, name: str) -> None:
    wait(house)
    house.take()
    house.close()
    flip(
        {
            "manifest": house.data() / "manifest.json",
            "keys": house.keys() / "keys.db",
            "data": house.data() / "data.db",
        }[name]
    )
    store = house.path / "store"
    before = files(store)
    with pytest.raises(BackupError):
        restore(house.data(), house.keys(), store, house.kek, id_time, now=NOON, actor=ACTOR, force=True)
    assert files(store) == before and not (store / ".restore").exists()


def test_a_restore_killed_at_any_rename_is_no_store_and_can_be_done_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait(house)
    house.take()
    house.close()
    store = house.path / "store"
    arguments = (house.data(), house.keys(), store, house.kek, id_time)
    rename, at = os.rename, 0
    while True:
        left = at

        def dying(source: Path, target: Path) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            rename(source, target)

        monkeypatch.setattr(os, "rename", dying)
        try:
            restore(*arguments, now=NOON + at, actor=ACTOR, force=True)
        except KeyboardInterrupt:
            # The daemon does not start without keys.db; with it, nothing was moved yet.
            assert at == 0 or not (store / "keys.db").exists()
        else:
            break
        finally:
            monkeypatch.setattr(os, "rename", rename)
        at += 1
        assert at < 20
        restore(*arguments, now=NOON + 100 + at, actor=ACTOR, force=True)
    assert at >= 5
    with LogReader(SqliteRecords(store), house.kek) as reader:
        assert verify_log(reader.records, id_time, keys=house.log.keys).records == 2


def test_a_restored_store_is_written_to_again(house: House) -> None:
    house.log.fill(3, 3)
    wait(house)
    house.take()
    house.close()
    store = house.path / "store"
    restore(house.data(), house.keys(), store, house.kek, id_time, now=NOON, actor=ACTOR, force=True)
    again = Builder(store, house.kek, sealed=True)
    again.now = house.log.now + 100
    again.fill(2, 2)
    assert len(list(again.store.replay())) == 1
    again.close()
    with LogReader(SqliteRecords(store), house.kek) as reader:
        assert verify_log(reader.records, id_time, keys=house.log.keys).records == 15


def test_keys_past_their_date_are_said(house: House, tmp_path: Path) -> None:
    wait(house)
    house.take()
    late = house.log.now + 31 * DAY
    done = restore(house.data(), house.keys(), tmp_path / "new", house.kek, id_time, now=late, actor=ACTOR)
    assert done.expired
    with AuditTrail(tmp_path / "new/audit.db", house.install.audit) as trail:
        (entry,) = trail.entries(events=("restore",))
        assert "past its date" in entry.result
