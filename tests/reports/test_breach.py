"""The breach report: whose data in which time, who looked, and persons counted in bounded memory."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.ids import id_time
from smppd.records.indexer import Indexer
from smppd.reports.breach import ENTRIES, IDS, breach
from smppd.reports.persons import Persons, Sketch
from smppd.store.sqlite.log_rows import SqliteIndex
from smppd.vault.seal import Content, Direction, iter_glances, read_header
from tests.reports.house import DAY, NUMBERS, House

LOOK = ("--reason", "support", "--note", "ticket 17", "--reveal")


def three_days(house: House) -> dict[str, list[int]]:
    """acme: 40 people on the first day, 10 of them on the second; beta: one on the third. Keys of days."""
    made: dict[str, list[int]] = {}
    made["first"] = house.records("acme", NUMBERS)
    house.log.now += DAY
    made["second"] = house.records("acme", NUMBERS[:10] * 2, content=Content.HASH)
    house.log.now += DAY
    made["third"] = house.records("beta", NUMBERS[:1])
    return made


def asked(house: House, since: float, until: float, **more: Any) -> Any:
    source = house.source()
    made = breach(source, since, until, **more)
    source.trail.close()
    return made


@pytest.mark.parametrize("indexed", [False, True])
def test_whose_data_and_which_records(house: House, indexed: bool) -> None:
    start = house.log.now
    made = three_days(house)
    if indexed:
        rows = SqliteIndex(house.log.directory)
        indexer = Indexer(rows, id_time)
        while indexer.step():
            pass
        rows.close()
    found = asked(house, start, start + 3 * DAY)
    acme, beta = found["whose_data"]
    assert (acme["account"], acme["records"], acme["with_texts"]) == ("acme", 60, 40)
    assert (acme["persons_at_least"], acme["persons_at_most"], acme["periods"]) == (40, 50, 2)
    assert (beta["account"], beta["records"], beta["persons_at_most"]) == ("beta", 1, 1)
    assert found["record_ids"]["acme"] == [f"{one:016x}" for one in made["first"] + made["second"]]
    found = asked(house, start + DAY, start + DAY + 1)
    assert [(one["account"], one["records"], one["persons_at_most"]) for one in found["whose_data"]] == [
        ("acme", 20, 10)
    ]
    assert asked(house, start + 1, start + DAY)["whose_data"] == []
    found = asked(house, 0, start + 9 * DAY, accounts=frozenset({"beta"}))
    assert [one["account"] for one in found["whose_data"]] == ["beta"] and list(found["record_ids"]) == ["beta"]


def test_the_sender_of_an_mo_message_is_the_person(house: House) -> None:
    house.records("acme", NUMBERS[:1])
    (packed,) = house.log.packed.values()
    head = read_header(packed)
    (glance,) = iter_glances(packed)
    assert head.direction is Direction.MT and glance.person == head.destination_index
    assert (glance.record_id, glance.accepted_ms, glance.account) == (head.record_id, head.accepted_ms, b"acme")
    assert glance.period == head.numbers_period.code and glance.body
    flags = 11 + 2
    mo = packed[:flags] + bytes([packed[flags] | 1]) + packed[flags + 1 :]
    assert read_header(mo).direction is Direction.MO
    (glance,) = iter_glances(mo)
    assert glance.person == head.source_index


def test_every_id_goes_to_the_file_and_a_few_to_the_page(house: House) -> None:
    house.log.now += 2 * DAY
    for _ in range(4):
        house.records("acme", NUMBERS)
    target = house.directory / "ids"
    made = house.report("breach", "--since", "9d", "--until", "1h", "--ids", str(target))
    assert len(made["record_ids"]["acme"]) == IDS
    lines = target.read_text().splitlines()
    assert len(lines) == 160 and lines[:IDS] == [f"acme {one}" for one in made["record_ids"]["acme"]]
    assert target.stat().st_mode & 0o777 == 0o600


def test_who_looked_at_what_and_what_else_happened(house: House) -> None:
    made = three_days(house)
    record = f"{made['first'][0]:016x}"
    assert house.run("log", "show", record, *LOOK)[0] == 0
    assert house.run("log", "search", "+" + NUMBERS[0], *LOOK)[0] == 0
    with house.trail() as trail:
        house.log.now = time.time()
        trail.append("bind accepted", "acme", {"account": "acme", "peer": "192.0.2.7", "count": "17"}, "accepted")
        trail.append("bind accepted", "beta", {"account": "beta", "count": "2"}, "accepted")
        trail.append("bind refused", "-", {"peer": "192.0.2.9", "reason": "password", "count": "5"}, "refused")
        trail.append("login", "alice", {"operator": "alice"}, "accepted")
        trail.append("login refused", "-", {"name": "0f0f", "count": "3"}, "refused")
        trail.append("key", "root", {"action": "rotate", "version": 2}, "done")
        trail.append("integrity", "smppd", {"faults": 1}, "found")
        trail.append("backup", "root", {"action": "take", "to": "/mnt/x"}, "done")
        trail.append("purge", "smppd", {"keys": 3}, "destroyed")
        trail.append("erasure", "officer", {"erasure": 1, "records": 2}, "done")
    found = house.report("breach", "--since", "1h", "--until", "2999-01-01")
    assert [one["event"] for one in found["looks"]] == ["reveal", "reveal"]
    assert found["looks"][0]["record_ids"] == [record] and "ticket 17" in found["looks"][0]["facts"]
    whose = {(one["account"], one["event"]): one["records"] for one in found["records_looked_at"]}
    assert whose == {("acme", "reveal"): 3, ("beta", "reveal"): 1}
    assert found["binds"] == {
        "accepted": 19,
        "refused": 5,
        "bans": 0,
        "accepted_by_account": {"acme": 17, "beta": 2},
    }
    for kind, events in {
        "logins": ["login", "login refused"],
        "actions_on_keys": ["key", "key"],
        "integrity": ["integrity"],
        "backups_and_restores": ["backup"],
        "purged_and_erased": ["purge", "erasure"],
    }.items():
        assert [one["event"] for one in found[kind]] == events, kind
    assert {"event": "reveal", "entries": 2, "listed": 2} in found["entries_in_that_time"]
    only = house.report("breach", "--since", "1h", "--until", "2999-01-01", "--by", "officer")
    assert [one["event"] for one in only["purged_and_erased"]] == ["erasure"] and only["looks"] == []
    beta = house.report("breach", "--since", "1h", "--until", "2999-01-01", "--account", "beta")
    assert beta["binds"]["accepted"] == 2
    assert all(one["account"] == "beta" for one in beta["records_looked_at"])


def test_many_entries_are_counted_and_some_listed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smppd.reports.breach.ENTRIES", 3)
    with house.trail() as trail:
        for number in range(7):
            trail.append("key", "root", {"n": number}, "done")
    found = asked(house, 0, house.log.now + DAY)
    assert len(found["actions_on_keys"]) == 3 and ENTRIES > 3
    (row,) = [one for one in found["entries_in_that_time"] if one["event"] == "key"]
    assert row["entries"] >= 7 and row["listed"] == 3


def test_before_the_first_start_there_is_nothing_to_tell(house: House) -> None:
    source = house.source()._replace(log=None)
    found = breach(source, 0, 1e10)
    assert found["whose_data"] == [] and found["record_ids"] == {} and found["rows_that_cannot_be_read"] == 0
    json.dumps(found)


def test_times_in_the_wrong_order_are_refused(house: House) -> None:
    status, out, err = house.run("report", "breach", "--since", "1d", "--until", "2d")
    assert (status, out) == (2, "") and "--since is not before --until" in err


# -- persons -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=80), st.integers(0, 40))
@settings(deadline=None, max_examples=100)
def test_counts_are_exact_up_to_the_limit(seen: list[tuple[str, int]], limit: int) -> None:
    persons = Persons(limit)
    indexes = {n: random.Random(n).randbytes(16) for n in range(31)}
    for group, n in seen:
        persons.add(group, indexes[n])
    truth = {group: len({n for name, n in seen if name == group}) for group, _ in seen}
    total = sum(truth.values())
    assert persons.exact == (total <= limit)
    counts = persons.counts()
    assert counts.keys() == truth.keys()
    for name, count in truth.items():
        assert abs(counts[name] - count) <= (0 if persons.exact else 1)


@pytest.mark.parametrize("many", [100, 5_000, 200_000])
def test_the_sketch_is_right_within_five_percent(many: int) -> None:
    draw = random.Random(many)
    sketch = Sketch()
    values = [draw.getrandbits(64) for _ in range(many)]
    for value in values * 2:
        sketch.add(value)
    assert abs(sketch.count() - many) <= 0.05 * many


def test_estimates_say_so(house: House) -> None:
    house.records("acme", NUMBERS)
    found = asked(house, 0, house.log.now + DAY, exact=5)
    assert found["counts_of_persons"].startswith("estimated")
    assert abs(found["whose_data"][0]["persons_at_most"] - 40) <= 2
