"""Purging: what is over is unreadable and gone from every file, what is not stays, the chain verifies, a kill costs nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.audit.trail import AuditTrail
from smppd.config import Basis, Kept, Retain
from smppd.ids import id_time
from smppd.message import State
from smppd.records.due import SPANS, TURN, add_spans
from smppd.records.indexer import Indexer
from smppd.records.retention import EVERY, Purger, PurgeThread
from smppd.records.search import by_number
from smppd.records.verify import verify_log
from smppd.store.api import StoreError
from smppd.store.sqlite.files import connect
from smppd.store.sqlite.log_rows import SqlitePurge
from smppd.vault.keys import Part, load_install, period_of, period_scope
from smppd.vault.seal import Content
from tests.store.builder import DAY, Builder
from tests.store.houses import House, embedded_only
from tests.vault.rows import NOON

HOUR = 3600.0
NEVER = 10_000 * DAY


@pytest.fixture
def log(house: House) -> Iterator[Builder]:
    builder = Builder(house, sealed=True)
    yield builder
    builder.close()


def retain(body: float = NEVER, numbers: float = NEVER, billing: float = NEVER) -> Retain:
    return Retain(body=body, numbers=numbers, billing=billing)


def purger(builder: Builder, trail: AuditTrail | None = None, **accounts: Retain) -> Purger:
    return Purger(
        builder.place.purge(),
        lambda: accounts or {"acme": retain()},
        id_time,
        trail=trail,
        chain_keys=builder.keys,
        dropped=builder.ring.drop,
    )


def wrapped(builder: Builder, account: str, part: Part, when: float, keep: float) -> bytes:
    found: bytes | None = builder.store.keys.get(period_scope(account, part, period_of(int(when), keep)))
    assert found is not None
    return found


def sound(builder: Builder) -> None:
    with builder.reader() as reader:
        verdict = verify_log(reader.records, id_time, keys=builder.keys)
        assert verdict.ok, verdict.reason


@pytest.mark.parametrize("open_store", [True, False])
def test_nothing_of_a_purged_body_is_left_in_any_file(log: Builder, open_store: bool) -> None:
    old = log.record(b"old text", body=HOUR)
    log.commit()
    log.now += 2 * DAY
    young = log.record(b"young text", body=HOUR)
    log.commit()
    key = wrapped(log, "acme", Part.BODY, NOON, HOUR)
    secrets = log.secrets[old]
    sealed = log.packed[old][-32 - 64 : -32]
    for needle in (key, secrets[32:], sealed):
        assert needle in log.house.octets()
    if not open_store:
        log.close()
    with purger(log, acme=retain(body=HOUR)) as purge:
        done = purge.run(log.now)
    assert (done.keys, done.secrets, done.parts, done.records, done.complete) == (1, 1, 1, 0, True)
    everything = log.house.octets()
    for needle in (key, secrets[32:], sealed):
        assert needle not in everything
    assert secrets[:32] in everything and log.secrets[young] in everything
    sound(log)
    with log.reader() as reader:
        found = reader.record(old)
        assert found is not None and found.record.body is None and found.record.numbers is not None
        found = reader.record(young)
        assert found is not None and found.record.body is not None
    assert log.store.keys.get(period_scope("acme", Part.BODY, period_of(NOON, HOUR))) is None or not open_store


def test_numbers_that_die_first_leave_the_body_readable(log: Builder) -> None:
    old = log.record(b"text", numbers=HOUR, body=30 * DAY)
    log.commit()
    log.now += DAY
    key = wrapped(log, "acme", Part.NUMBERS, NOON, HOUR)
    with purger(log, acme=retain(numbers=HOUR, body=30 * DAY)) as purge:
        assert purge.run(log.now).keys == 1
        everything = log.house.octets()
        assert key not in everything and log.secrets[old][:32] not in everything
        sound(log)
        with log.reader() as reader:
            found = reader.record(old)
            assert found is not None and found.record.numbers is None and found.record.body is not None
            assert list(by_number(reader, [b"447700900123"])) == []
        log.now += 31 * DAY
        done = purge.run(log.now)
        assert (done.keys, done.parts, done.secrets) == (1, 1, 1)
    sound(log)


@pytest.mark.parametrize("content", list(Content))
def test_a_record_ends_as_a_link_of_the_chain(log: Builder, content: Content) -> None:
    trail = AuditTrail(log.directory / "audit.db", load_install(log.kek, log.store.keys).audit)
    with trail, purger(log, trail, acme=retain(DAY, DAY, 3 * DAY), beta=retain(DAY, DAY, 6 * DAY)) as purge:
        mine = log.record(content=content, body=DAY, numbers=DAY)
        other = log.record(account="beta", body=DAY, numbers=DAY)
        log.event(mine, State.SUBMITTED)
        log.commit()
        for day in range(1, 12):
            log.now = NOON + day * DAY
            log.record(body=DAY, numbers=DAY)
            log.commit()
            purge.run(log.now)
            sound(log)
            with log.reader() as reader:
                assert (reader.record(mine) is None) == (day >= 4), day
                assert (reader.record(other) is None) == (day >= 7), day
        with log.reader() as reader:
            verdict = verify_log(reader.records, id_time, keys=log.keys)
            anchors = [entry.what.get("anchor") for entry in trail.entries(events=("purge",))]
            assert verdict.ok and verdict.rows < 12 and verdict.purged
            assert verdict.anchor is not None and verdict.anchor.hex() in anchors
        assert len(list(trail.entries(events=("purge",)))) > 3
        assert set().union(*(entry.what for entry in trail.entries(events=("purge",)))) == {
            "keys", "secrets", "parts", "records", "rows", "damaged", "anchor", "row",
        }  # fmt: skip
        rows = log.house.ask("SELECT count(*) FROM secrets")[0][0]
        assert rows <= 3
    log.close()
    again = Builder(log.house, log.kek, sealed=True)  # the chain goes on after a restart
    again.now = log.now + 10
    again.record()
    again.commit()
    sound(again)
    again.close()


def test_a_purge_can_be_killed_anywhere(log: Builder) -> None:
    for _ in range(30):
        log.now += 60
        for n in range(3):
            log.record(body=HOUR, numbers=HOUR, destination=b"44770090%04d" % n)
        log.commit()
    log.now += 3 * DAY
    log.record()
    log.commit()
    steps = 0
    while True:  # each step in a process of its own
        with purger(log, acme=retain(HOUR, HOUR, DAY)) as purge:
            purge._next = float("-inf") if not steps % 3 else float("inf")
            purge._finished = False
            going = purge.step(log.now)
            sound(log)
        steps += 1
        assert steps < 200
        if not going:
            break
    assert steps > 6
    with log.reader() as reader:
        assert verify_log(reader.records, id_time, keys=log.keys).rows == 1
    everything = log.house.octets()
    for record_id, secrets in list(log.secrets.items())[:-1]:
        assert secrets[:32] not in everything and secrets[32:] not in everything
        assert log.packed[record_id] not in everything


def test_a_dry_run_changes_nothing(log: Builder) -> None:
    log.record(body=HOUR, account="acme")
    log.record(body=HOUR, account="gone")
    log.commit()
    log.now += 2 * DAY
    before = log.house.contents()
    with purger(log, acme=retain(body=HOUR)) as purge:
        plan = purge.plan(log.now)
    assert [(key.account, key.part) for key in plan.due] == [("acme", Part.BODY)]
    assert plan.unknown == ["gone"]
    assert log.house.contents() == before


def test_the_retention_of_a_removed_account_is_remembered(log: Builder) -> None:
    log.record(body=HOUR)
    log.commit()
    with purger(log, acme=retain(body=HOUR)) as purge:
        assert not purge.run(log.now)
    log.now += 2 * DAY
    with purger(log, beta=retain()) as purge:
        done = purge.run(log.now)
        assert done.keys == 1 and not done.unknown


def test_held_keys_stay(log: Builder) -> None:
    log.record(body=HOUR, numbers=HOUR)
    log.commit()
    log.now += 2 * DAY
    rules = {"acme": retain(HOUR, HOUR)}
    with Purger(
        log.place.purge(),
        lambda: rules,
        id_time,
        chain_keys=log.keys,
        held=lambda _a, part, _p: part is Part.BODY,
    ) as purge:
        assert purge.run(log.now).keys == 1


def test_the_daemon_hears_what_a_command_destroyed(log: Builder) -> None:
    log.record(body=HOUR)
    log.commit()
    period = period_of(NOON, HOUR)
    with purger(log) as daemon:
        daemon.run(log.now)
        assert log.ring.existing("acme", Part.BODY, period) is not None
        log.now += DAY
        with Purger(log.place.purge(), lambda: {"acme": retain(body=HOUR)}, id_time, chain_keys=log.keys) as command:
            assert command.run(log.now).keys == 1
        assert daemon.step(log.now + EVERY)
    assert log.ring.existing("acme", Part.BODY, period) is None


def test_a_reader_in_the_way_is_waited_for_and_then_left_for_later(log: Builder) -> None:
    log.record(body=HOUR)
    log.commit()
    log.now += DAY
    with purger(log, acme=retain(body=HOUR)) as purge:
        with log.house.reading():
            assert not purge.run(log.now).complete
        assert not purge.step(log.now) and purge.done.complete


@embedded_only
def test_secrets_whose_row_was_never_written_go_too(log: Builder) -> None:
    log.record(body=HOUR, numbers=HOUR)
    log.commit()
    db = connect(log.directory / "keys.db", "keys")
    stray = b"stray secret...." * 4
    db.execute("INSERT INTO secrets SELECT max(seq) + 5, ? FROM secrets", (stray,))
    db.close()
    log.now += DAY
    log.record()
    log.commit()
    with purger(log, acme=retain(HOUR, HOUR)) as purge:
        purge.run(log.now)
    assert stray not in log.house.octets()


@embedded_only
@pytest.mark.parametrize(
    "moment", ["SELECT (SELECT min(seq)", "SELECT seq, count, records", "SELECT seq, data FROM sec"]
)
def test_records_that_arrive_during_the_sweep_are_left_alone(log: Builder, moment: str) -> None:
    log.record(body=60, numbers=60)
    log.commit()
    log.now += 3720  # its hour is over, and so are the 60 s; the sweep looks at an hour more
    young: list[int] = []

    def arrive(statement: str) -> None:
        if statement.startswith(moment) and not young:
            for _ in range(3):
                young.append(log.record(b"young", body=60, numbers=60))
                log.commit()

    with purger(log, acme=retain(60, 60)) as purge:
        rows = purge.rows
        assert isinstance(rows, SqlitePurge)
        rows.data.connection.set_trace_callback(arrive)
        rows.secrets.connection.set_trace_callback(arrive)
        assert purge.run(log.now).secrets == 2
        rows.data.connection.set_trace_callback(None)
        rows.secrets.connection.set_trace_callback(None)
    assert len(young) == 3
    with log.reader() as reader:
        for identity in young:
            found = reader.record(identity)
            assert found is not None and found.record.pdu() is not None
    sound(log)


def test_the_index_of_dead_periods_goes(log: Builder) -> None:
    for _ in range(10):
        log.now += 1
        log.record(body=HOUR, numbers=HOUR)
        log.commit()
    index = log.place.index()
    indexer = Indexer(index, id_time, run=4)
    while indexer.step():
        pass
    assert log.house.ask("SELECT count(*) FROM number_index")[0][0]
    log.now += DAY
    log.record(body=HOUR, numbers=HOUR)
    log.commit()
    with purger(log, acme=retain(HOUR, HOUR)) as purge:
        purge.run(log.now)
    assert not log.house.ask("SELECT count(*) FROM number_index")[0][0]
    index.close()


def test_a_store_is_needed(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store here"):
        SqlitePurge(tmp_path)


def test_the_thread_purges_and_ends(log: Builder) -> None:
    log.record(body=HOUR)
    log.commit()
    stop, dropped = threading.Event(), threading.Event()
    wrong: list[str] = []

    def make() -> Purger:
        rules = {"acme": retain(body=HOUR)}
        return Purger(log.place.purge(), lambda: rules, id_time, chain_keys=log.keys, dropped=lambda *_: dropped.set())

    thread = PurgeThread(make, stop, lambda: log.now + DAY, wrong.append)
    thread.start()
    assert dropped.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive() and not wrong


# -- a basis -------------------------------------------------------------------------------------------------------


def kept(body: float, content: str = "encrypt", basis: Basis | None = None) -> Kept:
    return Kept.of(retain(body=body, numbers=60 * DAY), content, basis)


CONTRACT = Basis(purpose="contract")


def test_after_an_upgrade_old_bodies_live_on_and_new_ones_for_a_day(log: Builder) -> None:
    """The store of before has keys of days and months. The upgrade comes at noon; from then on no basis is named."""
    before = [log.record(b"of a day", body=30 * DAY), log.record(b"of a month", account="beta", body=90 * DAY)]
    log.commit()
    with purger(log, acme=retain(30 * DAY), beta=retain(90 * DAY)) as purge:
        assert not purge.run(log.now)
    log.now += HOUR
    after = {name: kept(days * DAY) for name, days in (("acme", 30), ("beta", 90))}
    new = [log.record(b"new", account=name, body=one.new_body) for name, one in after.items()]
    log.commit()

    def readable() -> list[bool]:
        with log.reader() as reader:
            found = [reader.record(one) for one in [*before, *new]]
            return [one is not None and one.record.body is not None for one in found]

    with purger(log, None, **after) as purge:
        assert not purge.run(log.now) and readable() == [True] * 4
        log.now += DAY + 2 * HOUR
        assert purge.run(log.now).keys == 2 and readable() == [True, True, False, False]
        log.now = NOON + 29 * DAY
        assert not purge.run(log.now) and readable() == [True, True, False, False]
        log.now = NOON + 32 * DAY
        assert purge.run(log.now).keys == 1 and readable() == [False, True, False, False]
        log.now = NOON + 130 * DAY
        assert purge.run(log.now).keys > 0 and readable() == [False] * 4
    sound(log)


def test_hours_of_an_account_that_kept_for_hours_are_not_cut_short_either(log: Builder) -> None:
    old = log.record(b"old", body=40 * HOUR)
    log.commit()
    with purger(log, acme=retain(40 * HOUR, 60 * DAY)) as purge:
        purge.run(log.now)
    log.now += 2 * HOUR
    with purger(log, acme=kept(40 * HOUR)) as purge:
        purge.run(log.now)
        log.now += HOUR
        new = log.record(b"new", body=kept(40 * HOUR).new_body)
        log.commit()
        log.now += 26 * HOUR
        assert purge.run(log.now).keys == 1
        with log.reader() as reader:
            found = [reader.record(one) for one in (old, new)]
        assert [one is not None and one.record.body is not None for one in found] == [True, False]
        log.now = NOON + 42 * HOUR
        assert purge.run(log.now).keys == 1


def test_a_basis_that_is_named_keeps_what_is_there(log: Builder) -> None:
    log.record(b"text", body=kept(30 * DAY).new_body)
    log.commit()
    with purger(log, acme=kept(30 * DAY)) as purge:
        purge.run(log.now)
    log.now += 12 * HOUR
    with purger(log, acme=kept(30 * DAY, basis=CONTRACT)) as purge:
        log.now += 10 * DAY
        assert not purge.run(log.now)


def test_hiding_texts_does_not_make_those_that_are_there_live_longer(log: Builder) -> None:
    log.record(b"text", body=kept(30 * DAY).new_body)
    log.commit()
    with purger(log, acme=kept(30 * DAY, content="hide")) as purge:
        log.now += DAY + 2 * HOUR
        assert purge.run(log.now).keys == 1


def test_the_limit_of_a_removed_account_is_remembered(log: Builder) -> None:
    log.record(b"text", account="gone", body=DAY)
    log.commit()
    with purger(log, gone=kept(30 * DAY)) as purge:
        purge.run(log.now)
    log.now += DAY + 2 * HOUR
    with purger(log) as purge:
        assert purge.run(log.now).keys == 1


# -- steps and other processes ---------------------------------------------------------------------------------------


def statements(purge: Purger) -> list[str]:
    """The write transactions of data.db from now on."""
    assert isinstance(purge.rows, SqlitePurge)
    begun: list[str] = []
    purge.rows.data.connection.set_trace_callback(lambda said: begun.append(said) if "BEGIN" in said else None)
    return begun


def swept(log: Builder, purge: Purger, last: int) -> None:
    """Puts down that all rows up to one are to be swept."""
    assert add_spans(purge.rows, [[1, last]])


@embedded_only
def test_rows_in_which_nothing_is_over_cost_no_write_each(log: Builder) -> None:
    for _ in range(400):
        last = log.record(b"text")
        log.commit()
    with purger(log) as purge:
        purge.run(log.now)
        swept(log, purge, last)
        begun = statements(purge)
        purge.run(log.now)
        assert purge.rows.remembered(SPANS, []) == [] and len(begun) < 20


def test_what_died_meanwhile_is_swept_although_the_sweep_was_past_it(log: Builder) -> None:
    """The sweep keeps in memory how far it is. Another process destroys a key whose records are behind that, and puts the same
    rows down again."""
    first = log.record(b"old", body=HOUR)
    for _ in range(40):
        log.commit()
        last = log.record(b"text", account="beta")
    log.commit()
    secrets = log.secrets[first]
    with purger(log, acme=retain(), beta=retain()) as one, purger(log, acme=retain(body=HOUR), beta=retain()) as other:
        one.step(log.now)
        swept(log, one, last)
        before = one.rows.remembered(SPANS, [])
        assert one.step(log.now), "past the first rows, and nothing is written"
        assert one.rows.remembered(SPANS, []) == before
        assert other.step(log.now + 2 * DAY), "the key is destroyed"
        while one.step(log.now):
            pass
    assert secrets[32:] not in log.house.octets()
    sound(log)


def test_two_purges_at_once_lose_nothing(log: Builder) -> None:
    ids = []
    for _ in range(60):
        ids.append(log.record(b"old", body=HOUR))
        log.commit()
    log.now += 2 * DAY
    with purger(log, acme=retain(body=HOUR)) as one, purger(log, acme=retain(body=HOUR)) as other:
        more = True
        while more:
            steps = [one.step(log.now), other.step(log.now)]
            more = any(steps)
        assert one.rows.remembered(SPANS, []) == []
    everything = log.house.octets()
    assert not [record for record in ids if log.secrets[record][32:] in everything]
    sound(log)


def test_what_was_put_down_by_another_is_kept(log: Builder) -> None:
    log.record()
    log.commit()
    with purger(log) as purge:
        rows = purge.rows
        assert add_spans(rows, [[10, 20]]) and add_spans(rows, [[15, 30]], {"other": 1})
        assert rows.remembered(SPANS, []) == [[10, 30]] and rows.remembered("other", 0) == 1
        assert not rows.remember({SPANS: []}, {TURN: 1}), "of an earlier turn"
        assert not rows.shorten([], {SPANS: []}, {TURN: 1})
        assert rows.shorten([], {SPANS: []}, {TURN: 2}) and rows.remembered(SPANS, [1]) == []


def test_a_stretch_has_no_more_octets_than_asked_for(log: Builder) -> None:
    ids = []
    for _ in range(6):
        ids.append(log.record(b"x" * 100))
        log.commit()
    with purger(log) as purge:
        rows, more = purge.rows.stretch(1, ids[-1], 10, 1 << 20)
        assert len(rows) == 6 and not more
        size = len(rows[0].records)
        assert [len(purge.rows.stretch(1, ids[-1], 10, size * n)[0]) for n in (0, 1, 2, 3)] == [1, 1, 2, 3]
        assert purge.rows.stretch(1, ids[-1], 10, size)[1] and purge.rows.stretch(1, ids[-1], 6, 1 << 20)[1]
