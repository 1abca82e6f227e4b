"""The trail names people by hashes that die with their month, and who looked at whom can be told as long as they live."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.audit.trail import AuditTrail
from smppd.events import AuditEvent
from smppd.records import looks
from smppd.records.looks import LookKey, Shown, due, facts_of, key_of, keys_left, looks_at, month_of
from smppd.records.retention import Purger
from smppd.store.installation import StoredKeys
from smppd.vault.keys import create_install
from tests.store.builder import Builder
from tests.store.houses import House
from tests.vault.rows import kek

NOVEMBER = float(calendar.timegm((2026, 11, 30, 23, 59, 59)))
ANNA, BEN = b"447700900123", b"447700900456"


@pytest.fixture
def rows(house: House) -> Iterator[StoredKeys]:
    store = house.place.keys()
    create_install(kek(), store)
    yield store
    store.close()


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[AuditTrail]:
    with AuditTrail(tmp_path / "audit.db", bytes(range(32))) as one:
        yield one


def test_a_month_has_one_key(rows: StoredKeys) -> None:
    first = key_of(kek(), rows, NOVEMBER)
    assert first.month == "2026-11" and key_of(kek(), rows, NOVEMBER - 86400).hash(ANNA) == first.hash(ANNA)
    second = key_of(kek(), rows, NOVEMBER + 2)
    assert second.month == "2026-12" and second.hash(ANNA) != first.hash(ANNA)
    assert sorted(keys_left(kek(), rows)) == ["2026-11", "2026-12"]
    assert keys_left(kek(), rows)["2026-11"].hash(ANNA) == first.hash(ANNA) != first.hash(BEN)
    assert "***" in repr(first)


def test_a_key_is_due_thirteen_months_after_its_month() -> None:
    end = month_of(NOVEMBER).end
    scopes = [
        b"looks/2026-11",
        b"install/audit",
        b"period/a/body/2026-11",
        b"looks/",
        b"looks/\xff",
    ]
    assert due(scopes, end + looks.KEPT - 1) == []
    assert b"looks/2026-11" in due(scopes, end + looks.KEPT)
    assert not {b"install/audit", b"period/a/body/2026-11"} & set(due(scopes, end + 100 * looks.KEPT))
    assert looks.KEPT >= 395 * 86400


def test_looks_are_found_by_number_with_their_records(rows: StoredKeys, trail: AuditTrail) -> None:
    key = key_of(kek(), rows, NOVEMBER)
    shown = [Shown(1, (ANNA, BEN)), Shown(2, (BEN,)), Shown(3), Shown(4, (ANNA,))]
    for facts in facts_of(shown, key, True):
        trail.append(AuditEvent.REVEAL, "x", {"reason": "law", "note": "", **facts}, "revealed")
    trail.append(
        AuditEvent.SEARCH, "y", {"number": f"{key.hash(ANNA)} {key.hash(b'x')}", "looks": key.month}, "0 found"
    )
    trail.append(AuditEvent.PURGE, "z", {"number": key.hash(ANNA), "looks": key.month}, "no look")
    keys = keys_left(kek(), rows)
    found = list(looks_at(trail, [ANNA], keys))
    assert [(look.entry.who, look.searched, look.ids) for look in found] == [
        ("x", False, ("0000000000000001", "0000000000000004")),
        ("y", True, ()),
    ]
    assert [look.ids for look in looks_at(trail, [BEN], keys)] == [("0000000000000001", "0000000000000002")]
    assert not list(looks_at(trail, [b"447700900999"], keys)) and not list(looks_at(trail, [], keys))


def test_when_the_key_is_gone_nobody_can_tell(rows: StoredKeys, trail: AuditTrail) -> None:
    key = key_of(kek(), rows, NOVEMBER)
    for facts in facts_of([Shown(1, (ANNA,))], key, True):
        trail.append(AuditEvent.REVEAL, "x", facts, "revealed")
    rows.delete(looks.scope_of(key.month))
    key_of(kek(), rows, NOVEMBER + 40 * 86400)
    assert not list(looks_at(trail, [ANNA], keys_left(kek(), rows)))
    assert not list(looks_at(trail, [ANNA], {}, [key.hash(ANNA)])), "an older hash is looked for in older entries only"


def test_entries_of_before_there_were_months_are_found(trail: AuditTrail) -> None:
    trail.append(AuditEvent.SEARCH, "x", {"number": "ab" * 16}, "1 found")
    assert [look.searched for look in looks_at(trail, [ANNA], {}, ["ab" * 16])] == [True]
    assert not list(looks_at(trail, [ANNA], {}, ["cd" * 16]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 4000), st.booleans())
def test_however_many_were_shown_all_are_named_and_fit(count: int, subjects: bool) -> None:
    key = LookKey("2026-11", bytes(32))
    shown = [Shown(number, (b"%d" % number, ANNA)) for number in range(count)]
    portions = list(facts_of(shown, key, subjects))
    assert portions and all(len(one) <= 55 for one in portions)
    assert all(len(str(value)) < 4096 for one in portions for value in one.values())
    ids = " ".join(str(v) for one in portions for name, v in one.items() if name.startswith("ids")).split()
    assert ids == [f"{number:016x}" for number in range(count)]
    hashes = " ".join(str(v) for one in portions for name, v in one.items() if name.startswith("subjects")).split()
    assert len(hashes) == (count if subjects else 0)
    assert all(one["looks"] == "2026-11" for one in portions)
    assert not any("looks" in one for one in facts_of(shown[:3], None, True))


def test_the_purge_destroys_the_key_and_its_octets(house: House) -> None:
    log = Builder(house)
    store = house.place.keys()
    now = log.now
    key_of(log.kek, store, now)
    wrapped = store.get(looks.scope_of(month_of(now).label))
    store.close()
    assert wrapped is not None and wrapped in house.octets()
    with (
        AuditTrail(house.directory / "audit.db", log.install.audit) as trail,
        Purger(house.place.purge(), dict, lambda _id: 0.0, trail=trail) as purger,
    ):
        purger.run(month_of(now).end + looks.KEPT - 60)
        assert wrapped in house.octets()
        purger.run(month_of(now).end + looks.KEPT)
        assert wrapped not in house.octets()
        told = [entry.what["looks"] for entry in trail.entries(events=("purge",)) if "looks" in entry.what]
    assert told == [f"looks/{month_of(now).label}"]
    log.close()
