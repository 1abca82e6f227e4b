"""Backups of a store with holds: what was held is held in the restored one, whenever the copy was made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.backup.restore import restore
from smppd.ids import id_time
from smppd.records.holds import HoldState
from tests.backup.backups import ACTOR, House
from tests.records.holding import NEIGHBOUR, SUBJECT, demand, holds, kept, purge
from tests.store.builder import DAY, Builder


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    one = House(tmp_path)
    yield one
    one.close()


def message(log: Builder, to: bytes) -> int:
    identity = log.record(destination=to, body=DAY, numbers=DAY)
    log.commit()
    return identity


def opens(log: Builder, identity: int) -> bool:
    with log.reader() as reader:
        found = reader.record(identity)
        return found is not None and found.record.pdu() is not None


def restored(house: House, path: Path) -> Builder:
    done = restore(house.data(), house.keys(), path, house.kek, id_time, now=house.log.now, actor=ACTOR)
    assert done.checked.unreadable == 0
    again = Builder(path, house.kek, sealed=True)
    again.now = house.log.now
    return again


def test_a_restored_store_keeps_what_was_held(house: House, tmp_path: Path) -> None:
    log = house.log
    mine, other = message(log, SUBJECT), message(log, NEIGHBOUR)
    number = demand(log, SUBJECT)
    log.now += 10 * DAY
    message(log, NEIGHBOUR)
    purge(log)
    assert opens(log, mine) and not opens(log, other)
    house.take()
    again = restored(house, tmp_path / "elsewhere")
    again.now += 20 * DAY
    purge(again)
    assert opens(again, mine) and kept(again, number) == 1
    all_holds = holds(again)
    all_holds.end(number, HoldState.RELEASED, again.now)
    all_holds.close()
    purge(again)
    assert not opens(again, mine)
    again.close()


def test_a_hold_whose_key_is_not_in_the_copy_begins_anew(house: House, tmp_path: Path) -> None:
    """keys.db was copied first, and the hold was added before data.db was."""
    log = house.log
    mine = message(log, SUBJECT)
    number = demand(log, SUBJECT)
    house.take()
    path = tmp_path / "elsewhere"
    again = restored(house, path)
    again.close()
    db = sqlite3.connect(path / "keys.db")
    db.execute("DELETE FROM keys WHERE CAST(scope AS TEXT) LIKE 'hold/%'")
    db.commit()
    db.close()
    again = Builder(path, house.kek, sealed=True)
    again.now = log.now + 10 * DAY
    again.record()
    again.commit()
    purge(again)
    assert opens(again, mine) and kept(again, number) == 1
    again.close()
