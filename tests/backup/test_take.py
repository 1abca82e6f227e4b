"""Backups of a store that is written to: whole or not there, nothing shredded in them."""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.audit.trail import AuditTrail
from smppd.backup import take as module
from smppd.backup.manifest import BackupError, key_copy, prune_keys, read_manifest
from smppd.backup.restore import restore, verify
from smppd.backup.take import take
from smppd.ids import id_time
from smppd.message import State
from smppd.records.lookup import LogReader
from smppd.records.verify import verify_log
from smppd.relay.ledger.journal import Entry, mark
from smppd.store.api import ColdRow, Kind, StoreError
from smppd.store.sqlite import copies
from smppd.store.sqlite.keys import KeyStore, ReadOnlyKeys
from smppd.store.sqlite.log_rows import SqliteRecords
from smppd.vault.kek import VaultError
from smppd.vault.keys import Part, period_of, segment_scope
from tests.backup.backups import ACTOR, House, edit, wait
from tests.store.builder import DAY, files
from tests.vault.rows import NOON, kek


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    one = House(tmp_path)
    yield one
    one.close()


def test_a_backup_is_restored_as_it_was(house: House, tmp_path: Path) -> None:
    ids = house.log.fill(30, 5)
    hot, cold = wait(house)
    manifest = house.take()
    assert (manifest.records, manifest.rows) == (152, 31) and manifest.highest_id == f"{cold:016x}"
    assert manifest.keys_expire == "2026-12-22T12:00:30Z" and manifest.kek_versions == (1,)
    house.log.fill(5, 5)  # after it
    target = tmp_path / "elsewhere"
    blocks: list[bytes] = []
    done = restore(
        house.data(), house.keys(), target, house.kek, id_time, now=house.log.now, actor=ACTOR, block=blocks.append
    )
    assert done.checked.records == 152 and done.checked.unreadable == 0 and done.aside is None
    assert done.checked.cold == {Kind.QUEUE: 1} and blocks == [mark(Entry.ACCEPT, hot, b"payload")]
    assert sorted(path.name for path in target.iterdir()) == ["audit.db", "data.db", "keys.db", "lock"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in target.iterdir())
    with LogReader(SqliteRecords(target), house.kek) as reader:
        assert verify_log(reader.records, id_time, house.install.checkpoint.public_key(), keys=house.log.keys).ok
        for one in (*ids, hot, cold):
            found = reader.record(one)
            assert found is not None and found.record.body is not None and found.record.numbers is not None
    with AuditTrail(target / "audit.db", house.install.audit) as trail:
        assert trail.verify().ok
        (entry,) = trail.entries(events=("restore",))
        assert entry.what["backup"] == manifest.id and entry.who == "alice"


def test_files_are_private_and_only_the_half_that_belongs_there(house: House) -> None:
    wait(house)
    before = os.umask(0)
    try:
        house.take()
    finally:
        os.umask(before)
    assert sorted(path.name for path in house.data().iterdir()) == ["audit.db", "data.db", "manifest.json"]
    assert sorted(path.name for path in house.keys().iterdir()) == ["keys.db", "keys.json"]
    for directory in (house.data(), house.keys()):
        assert directory.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in directory.iterdir())


def test_nothing_shredded_or_deleted_is_in_a_backup(house: House) -> None:
    doomed, kept = house.log.record(body=DAY), house.log.record()
    house.log.store.batch.put.append(ColdRow(Kind.QUEUE, "acme\n", b"", doomed, 2**40, b"x" * 3000))
    house.log.commit()
    db = sqlite3.connect(house.path / "store/data.db")
    row = db.execute("SELECT data FROM cold").fetchone()[0]
    db.close()
    secret = house.log.secrets[doomed]
    house.log.store.batch.drop.append((Kind.QUEUE, "acme\n", b"", doomed))
    house.log.commit()
    db = sqlite3.connect(house.path / "store/keys.db")
    stored = db.execute("SELECT seq, data FROM secrets").fetchone()
    db.execute("UPDATE secrets SET data = ?", (stored[1].replace(secret, bytes(64)),))
    db.commit()
    db.close()
    house.log.ring.drop("acme", Part.BODY, period_of(NOON, DAY))
    house.log.event(kept, State.SUBMITTED)
    house.log.commit()
    house.take()
    everything = files(house.data()) + files(house.keys())
    assert row[20:300] not in everything
    assert secret[:32] not in everything and house.log.secrets[kept] in everything


def test_the_key_of_a_segment_that_ended_meanwhile_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message went from the spool to a cold row after data.db was copied: the copy has it in the spool only."""
    _, cold = wait(house)
    copy = module._snapshot

    def slow(source: Path, *rest: object) -> None:
        copy(source, *rest)  # type: ignore[arg-type]
        if source.name == "data.db":
            db = sqlite3.connect(house.path / "store/keys.db")
            db.execute("DELETE FROM keys WHERE scope = ?", (segment_scope(1),))
            db.commit()
            db.close()

    monkeypatch.setattr(module, "_snapshot", slow)
    house.take()
    blocks: list[bytes] = []
    checked = house.verify(block=blocks.append)
    assert len(blocks) == 1 and checked.cold == {Kind.QUEUE: 1} and cold
    rows = ReadOnlyKeys(house.keys())
    assert rows.get(segment_scope(1)) is not None
    rows.close()


def test_a_segment_that_began_and_ended_meanwhile_means_another_try(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait(house)
    asked: Iterator[dict[bytes, bytes]] = iter([{}, {}])
    real = copies.segment_keys
    monkeypatch.setattr(copies, "segment_keys", lambda store: next(asked, real(store)))
    house.take()
    assert house.verify().records == 2
    monkeypatch.setattr(copies, "segment_keys", lambda _store: {})
    with pytest.raises(BackupError, match="try again"):
        house.take("2")
    assert not house.data("2").exists() and not house.keys("2").exists()


def test_records_committed_while_it_is_taken_do_not_harm(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.log.fill(20, 10)
    copy, pages = module._snapshot, copies._pages

    def busy(source: Path, *rest: object) -> None:
        house.log.fill(3, 10)
        copy(source, *rest)  # type: ignore[arg-type]
        house.log.fill(3, 10)
        house.trail.append("bind", "acme", {}, "done")

    def paged(*arguments: object) -> Iterator[object]:
        for number, page in enumerate(pages(*arguments)):  # type: ignore[arg-type]
            assert number < 100, "the copy runs after what is added"
            house.log.fill(1, 10)
            yield page

    monkeypatch.setattr(module, "_snapshot", busy)
    monkeypatch.setattr(copies, "_pages", paged)
    monkeypatch.setattr(copies, "_ROWS", 7)
    house.take()
    checked = house.verify()
    assert checked.unreadable == 0 and checked.records == 230


def test_commits_go_on_and_the_keys_log_is_truncated_while_data_is_copied(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of data.db, however slow, holds up no commit; and none of keys.db is open for long."""
    house.log.fill(200, 10)
    monkeypatch.setattr(copies, "_STEPS", 20)
    commits = 0

    def progress(what: str, _done: float) -> None:
        nonlocal commits
        if what == "Copying data.db" and commits < 5:
            house.log.fill(1, 5)
            db = sqlite3.connect(house.path / "store/keys.db")
            assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
            db.close()
            commits += 1

    manifest = house.take(progress=progress)
    assert commits == 5
    assert manifest.rows == 200 and house.verify().unreadable == 0


@pytest.mark.parametrize("limit", [20_000, 200_000])
def test_a_disk_that_cannot_take_it_leaves_nothing(house: House, limit: int) -> None:
    house.log.fill(40, 10)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    house.data().mkdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(StoreError, match=r"copy failed|no space|disk"):
            house.take()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(house.data().iterdir()) == [] and not house.keys().exists()
    house.take()
    assert house.verify().records == 400


def test_the_reserve_of_the_store_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.log.fill(5, 5)
    with pytest.raises(BackupError, match=r"no space.*reserve"):
        house.take(reserve=1 << 60)
    # Also when it goes while the copy is written.
    monkeypatch.setattr(copies, "_STEPS", 20)
    monkeypatch.setattr(copies, "_SYNC_EVERY", 1)
    calls = iter([None])

    def room(_directory: Path, _octets: int, _reserve: int) -> None:
        if next(calls, 1) is not None:
            raise BackupError("no space")

    monkeypatch.setattr(module, "free_room", room)
    with pytest.raises(BackupError, match="no space"):
        house.take()
    assert not house.data().exists() and not house.keys().exists()


def test_an_interrupt_leaves_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.log.fill(50, 5)
    monkeypatch.setattr(copies, "_STEPS", 20)

    def progress(what: str, _done: float) -> None:
        if what == "Copying data.db":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        house.take(progress=progress)
    assert not house.data().exists() and not house.keys().exists()


def test_a_killed_backup_is_no_backup(house: House, tmp_path: Path) -> None:
    wait(house)
    house.take()
    (house.data() / "manifest.json").unlink()
    with pytest.raises(BackupError, match="interrupted"):
        house.verify()
    with pytest.raises(BackupError, match="something already"):
        house.take()
    with pytest.raises(BackupError, match=r"there is no manifest\.json"):
        read_manifest(tmp_path)


def test_where_a_backup_does_not_go(house: House, tmp_path: Path) -> None:
    wait(house)
    store = tmp_path / "store"
    both = tmp_path / "both"
    arguments = {"sign": house.install.checkpoint, "now": 0.0, "version": "0"}
    for data, keys in ((store, both), (store / "b", both), (both, store / "b"), (both, both / "k"), (both / "d", both)):
        with pytest.raises(BackupError, match="does not go"):
            take(store, data, keys, **arguments)  # type: ignore[arg-type]
    take(store, both, both, **arguments)  # type: ignore[arg-type]
    place = tmp_path / "tried"
    place.mkdir()
    assert verify(both, both, place, house.kek, id_time).records == 2
    with pytest.raises(BackupError, match="a backup already"):
        take(store, both, both, **arguments)  # type: ignore[arg-type]


def test_old_copies_of_keys_are_deleted(house: House, tmp_path: Path) -> None:
    wait(house)
    above = tmp_path / "keys"
    for name, age in (("old", DAY), ("new", 30 * DAY)):
        take(
            tmp_path / "store", tmp_path / f"b-{name}", above / name,
            sign=house.install.checkpoint, now=NOON, version="0", keys_last=age,
        )  # fmt: skip
    both = read_manifest(tmp_path / "b-old").id
    assert key_copy(above, both) == above / "old/keys.db"
    assert prune_keys(above, NOON + DAY - 1).deleted == []
    pruned = prune_keys(above, NOON + DAY)
    assert pruned.deleted == [above / "old"] and pruned.kept == [above / "new"] and pruned.next == NOON + 30 * DAY
    assert not (above / "old").exists()
    with pytest.raises(BackupError, match="belong to other backups"):
        key_copy(above, both)
    pruned = prune_keys(above / "new", NOON + 31 * DAY)
    assert pruned.deleted == [above / "new"] and list((above / "new").iterdir()) == []


def test_keys_wrapped_anew_while_they_are_copied(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    wait(house)
    pages = copies._pages
    both = kek(1, 2)

    def rotating(db: object, table: str, *rest: object) -> Iterator[object]:
        first = table == "keys"
        for page in pages(db, table, *rest):  # type: ignore[arg-type]
            yield page
            if first:
                first = False
                rows = KeyStore(house.path / "store")
                rows.replace_all((scope, both.rewrap(scope, blob)) for scope, blob in list(rows.scan(b"")))
                rows.close()

    monkeypatch.setattr(copies, "_pages", rotating)
    monkeypatch.setattr(copies, "_ROWS", 2)
    manifest = house.take()
    assert manifest.kek_versions == (1, 2)
    with pytest.raises(BackupError):
        house.verify()
    house.kek = both
    assert house.verify().records == 2


def test_unknown_tables_of_keys_are_not_left_out_silently(house: House) -> None:
    wait(house)
    edit(house.path / "store/keys.db", "CREATE TABLE more (x)")
    with pytest.raises(BackupError, match="does not know how to copy"):
        house.take()
    assert not house.data().exists()


def test_an_empty_log_can_be_backed_up(house: House, tmp_path: Path) -> None:
    manifest = house.take()
    assert (manifest.rows, manifest.records, manifest.chain) == (0, 0, "")
    checked = house.verify()
    assert checked.first is None and checked.records == 0
    with pytest.raises(VaultError):
        house.log.ring.segment(99)


def test_keys_wrapped_anew_after_the_data_was_copied(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool's keys were read before: their newer wrapping stands, so that the old KEK is not needed."""
    wait(house)
    copy, both = module._snapshot, kek(1, 2)

    def rotating(source: Path, *rest: object) -> None:
        copy(source, *rest)  # type: ignore[arg-type]
        rows = KeyStore(house.path / "store")
        rows.replace_all((scope, both.rewrap(scope, blob)) for scope, blob in list(rows.scan(b"")))
        rows.close()

    monkeypatch.setattr(module, "_snapshot", rotating)
    assert house.take().kek_versions == (2,)
