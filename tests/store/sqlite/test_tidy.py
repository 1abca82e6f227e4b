"""What is over opens with no key there is, in the store and in its backups; what waits is there as it was."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smppd.daemon.tidying import tidy
from smppd.relay.ledger.journal import HEAD, Entry, LivingEntries, fingerprint, mark, read
from smppd.store.api import ColdRow, Kind, StoreError
from smppd.store.opening import embedded
from smppd.store.sqlite.files import connect
from smppd.store.sqlite.keys import put_keys
from smppd.store.sqlite.store import SqliteStore
from smppd.store.sqlite.tidy import Requests, ask
from smppd.store.tidy import ASKED, DONE, Compacted, TidyThread
from smppd.vault.keys import KeyRing
from tests.backup.backups import House
from tests.cli.killed import EVERY
from tests.store.builder import Builder
from tests.store.everykey import disguises, opened, raw, seen, wrapped_keys
from tests.store.journals import alter, into_table, rows_of

BODY, NUMBER, WAITS = b"canary-3f6b secret", b"447700900987", b"canary-77aa waits"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path / "store")
    yield builder
    builder.close()


def cold(kind: Kind, identity: int, data: bytes) -> ColdRow:
    return ColdRow(kind, "acme", b"k%d" % identity if kind is Kind.WAITING else b"", identity, 2**31, data)


def passes_through(log: Builder) -> None:
    """Every kind of thing that is kept on its way, all of it over, over some segments; beside each other what waits."""
    batch = log.store.batch
    secret = BODY + b" " + NUMBER
    for turn, (opens, closes) in enumerate(
        ((Entry.ACCEPT, Entry.DONE), (Entry.MAIL, Entry.MAIL_DONE), (Entry.PARK, Entry.PARK_DONE))
    ):
        batch = log.store.batch
        batch.accepts.append(mark(opens, 10 + turn, secret))
        batch.put.append(cold((Kind.QUEUE, Kind.MAIL, Kind.WAITING)[turn], 20 + turn, secret))
        log.commit()
        log.store.rotate()
        batch = log.store.batch
        batch.marks.append(mark(Entry.SUBMITTED, 10 + turn, b"sim\0" + NUMBER))
        batch.marks.append(mark(closes, 10 + turn))
        row = cold((Kind.QUEUE, Kind.MAIL, Kind.WAITING)[turn], 20 + turn, b"")
        batch.drop.append((row.kind, row.owner, row.key, row.id))
        log.commit()


def waits(log: Builder) -> list[bytes]:
    """One thing in the journal with two marks, one as a row; the journal's entries."""
    batch = log.store.batch
    entries = [mark(Entry.ACCEPT, 30, WAITS), mark(Entry.RELEASED, 30), mark(Entry.SUBMITTED, 30, b"sim\0id")]
    batch.accepts.append(entries[0])
    batch.put.append(cold(Kind.MAIL, 31, WAITS))
    log.commit()
    log.store.rotate()
    log.store.batch.marks += entries[1:]
    log.commit()
    return entries


def replayed(log: Builder) -> tuple[list[bytes], list[ColdRow]]:
    """What another start finds."""
    store = SqliteStore(log.directory, notify=lambda _c: None, later=lambda _s, _c: None, soon=lambda _c: None)
    try:
        store.use(KeyRing(log.kek, store.keys))
        entries = [mark(Entry(k), i, p) for _, block in store.replay() for k, i, p in read(block)]
        return entries, store._cold.page(Kind.MAIL, "acme", 0, 10)
    finally:
        store.close()


def test_the_search_sees_every_disguise() -> None:
    for word in (BODY, NUMBER):
        for form in disguises(word):
            assert seen([word], b"\1" + form + b"\2")
    assert not seen([BODY], b"nothing of the sort")


@pytest.mark.parametrize("at", ["the end", "the start", "a purge"])
@pytest.mark.parametrize("waiting", [False, True])
def test_what_is_over_opens_with_no_key(log: Builder, at: str, waiting: bool) -> None:
    entries = waits(log) if waiting else []
    passes_through(log)
    before = {scope: key for scope, key in wrapped_keys(log.directory).items() if scope.startswith(b"segment/")}
    everything = b"".join(opened(log.directory, log.directory, log.kek))
    assert seen([BODY, NUMBER], everything), "the search can find it"
    log.closed = True
    log.store.close(LivingEntries() if at == "the end" else None)
    if at == "the start":
        store = SqliteStore(log.directory, notify=lambda _c: None, later=lambda _s, _c: None, soon=lambda _c: None)
        store.use(KeyRing(log.kek, store.keys))
        done = store.compact(LivingEntries())
        assert done.complete and done.entries == 9
        store.close()
    if at == "a purge":
        assert tidy(embedded(log.directory), log.kek) == ""
    assert not list(log.directory.glob("*-wal"))
    octets = raw(log.directory)
    everything = b"".join(opened(log.directory, log.directory, log.kek))
    assert not seen([BODY, NUMBER], everything)
    for scope, key in before.items():
        assert key not in octets, f"{scope!r} is destroyed, in free pages too"
    left = [scope for scope in wrapped_keys(log.directory) if scope.startswith(b"segment/")]
    assert len(left) == (2 if waiting else 0)
    found, rows = replayed(log)
    assert found == entries
    assert [row.data for row in rows] == ([WAITS] if waiting else [])


def test_a_backup_of_a_store_at_rest_holds_nothing_that_is_over(tmp_path: Path) -> None:
    house = House(tmp_path)
    waits(house.log)
    passes_through(house.log)
    house.log.close()
    assert tidy(embedded(house.log.directory), house.kek) == ""
    house.take()
    everything = b"".join(opened(house.data(), house.keys(), house.kek))
    assert seen([BODY, NUMBER, WAITS], everything) == [WAITS]
    assert not seen([BODY, NUMBER], raw(house.data(), house.keys()))
    house.trail.close()


def test_it_is_done_once(log: Builder) -> None:
    waits(log)
    log.close()
    tidy(embedded(log.directory), log.kek)
    before = [scope for scope in wrapped_keys(log.directory) if scope.startswith(b"segment/")]
    entries = replayed(log)
    tidy(embedded(log.directory), log.kek)
    after = [scope for scope in wrapped_keys(log.directory) if scope.startswith(b"segment/")]
    assert len(before) == len(after) and replayed(log) == entries


@pytest.mark.parametrize("older", [False, True])
def test_a_block_that_does_not_open_stops_nothing_and_is_kept(log: Builder, older: bool) -> None:
    entries = waits(log)
    passes_through(log)
    log.close()
    first = rows_of(log.directory)[0][0]
    if older:
        into_table(log.directory)
        db = connect(log.directory / "data.db", "data")
        db.execute("UPDATE spool SET data = zeroblob(length(data)) WHERE seq = ?", (first,))
        db.close()
    else:
        alter(log.directory, 0, lambda block: block._replace(spool=bytes(len(block.spool))))
    assert "1 spool blocks do not open" in tidy(embedded(log.directory), log.kek)
    assert not seen([BODY, NUMBER], b"".join(opened(log.directory, log.directory, log.kek)))
    db = connect(log.directory / "data.db", "data")
    assert db.execute("SELECT count(*) FROM spool WHERE seq = ?", (first,)).fetchone()[0]
    db.close()
    # Its marks were about what that block opened, for all one knows.
    kept = b"".join(opened(log.directory, log.directory, log.kek))
    assert all(entry in kept for entry in entries[1:])


class _Stop(Exception):
    pass


def test_a_kill_between_any_two_statements_loses_nothing_that_waits(tmp_path: Path) -> None:
    for moment in range(0, 60, 1 if EVERY else 7):
        log = Builder(tmp_path / str(moment))
        entries = waits(log)
        passes_through(log)
        log.close()
        store = SqliteStore(log.directory, notify=lambda _c: None, later=lambda _s, _c: None, soon=lambda _c: None)
        store.use(KeyRing(log.kek, store.keys))
        left = moment

        def count() -> int:
            nonlocal left
            left -= 1
            return left < 0

        # The process ends in the middle of whatever statement that is.
        for db in (store._data, store._secrets):
            db.set_progress_handler(count, 1)
        try:
            store.compact(LivingEntries())
            done = True
        except StoreError:
            done = False
        for db in (store._data, store._secrets):
            db.set_progress_handler(None, 0)
            if db.in_transaction:
                db.execute("ROLLBACK")
        store.close()
        found, rows = replayed(log)
        assert [one for one in found if one in entries] == entries and [row.data for row in rows] == [WAITS]
        assert tidy(embedded(log.directory), log.kek) == ""
        assert replayed(log)[0] == entries
        assert not seen([BODY, NUMBER], b"".join(opened(log.directory, log.directory, log.kek))), done


def until(log: Builder, done: Callable[[], bool]) -> None:
    while not done():
        log._calls.get(timeout=10)()


def ticked(log: Builder) -> bool:
    log.store.tick(0.0)
    return True


def test_a_running_store_tidies_beside_its_messages(log: Builder) -> None:
    entries = waits(log)
    passes_through(log)
    before = {key for scope, key in wrapped_keys(log.directory).items() if scope.startswith(b"segment/")}
    # The relay writes what lives into a new segment and drops the others.
    log.store.rotate()
    log.store.batch.marks += entries
    log.store.batch.segments += [one for one in range(1, log.store._sealer.segment) if one != log.store._tidier.cold]
    log.commit()
    told: list[bool] = []
    log.store.tidy(told.append)
    until(log, lambda: ticked(log) and bool(told))
    assert told == [True]
    assert seen([BODY, NUMBER, WAITS], b"".join(opened(log.directory, log.directory, log.kek))) == [WAITS]
    octets = raw(log.directory)
    assert not [key for key in before if key in octets]
    log.store.tidy(told.append)  # nothing was dropped since: nothing is sealed anew
    cold_segment = log.store._tidier.cold
    until(log, lambda: ticked(log) and len(told) == 2)
    assert log.store._tidier.cold == cold_segment
    log.close()
    assert replayed(log)[0] == entries


def full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_keys_that_could_not_be_destroyed_are_destroyed_the_next_time(
    log: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes_through(log)
    log.close()
    store = SqliteStore(log.directory, notify=lambda _c: None, later=lambda _s, _c: None, soon=lambda _c: None)
    store.use(KeyRing(log.kek, store.keys))

    def no_space(db: sqlite3.Connection, pairs: list[tuple[bytes, bytes]]) -> None:
        if not pairs:  # keys are only destroyed
            raise full()
        put_keys(db, pairs)

    monkeypatch.setattr("smppd.store.sqlite.tidy.put_keys", no_space)
    assert not store.compact(LivingEntries()).complete
    assert [scope for scope in wrapped_keys(log.directory) if scope.startswith(b"segment/")]
    monkeypatch.undo()
    assert store.compact(LivingEntries()).complete
    store.close()
    assert not [scope for scope in wrapped_keys(log.directory) if scope.startswith(b"segment/")]


def test_a_disk_that_is_full_while_a_running_store_tidies_ends_nothing(
    log: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes_through(log)

    def no_space(_db: sqlite3.Connection) -> bool:
        raise full()

    told: list[bool] = []
    monkeypatch.setattr("smppd.store.sqlite.tidy.truncate", no_space)
    log.store.tidy(told.append)
    until(log, lambda: ticked(log) and bool(told))
    assert told == [False] and log.store.alive
    monkeypatch.undo()
    log.store.tidy(told.append)
    until(log, lambda: ticked(log) and len(told) == 2)
    assert told == [False, True]
    log.record()
    log.commit()


def test_who_looks_for_requests_before_there_is_a_file_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smppd.store.tidy._LOOK", 0.001)
    stop, wrong, asked = threading.Event(), threading.Event(), threading.Event()
    told: list[str] = []

    def failed(reason: str) -> None:
        told.append(reason)
        wrong.set()

    place = tmp_path / "later"
    thread = TidyThread(lambda: Requests(place), stop, lambda _token: asked.set(), failed)
    thread.start()
    assert wrong.wait(20) and "there is no store here yet" in told[0]
    builder = Builder(place)
    assert not ask(place, 0.0)
    assert asked.wait(20)
    stop.set()
    thread.join(20)
    builder.close()


def test_nobody_answers(log: Builder) -> None:
    log.record()
    log.commit()
    assert not ask(log.directory, 0.2)
    assert "did not tidy" in tidy(embedded(log.directory), log.kek, 0.1)
    db = connect(log.directory / "data.db", "data")
    names = {row[0] for row in db.execute("SELECT name FROM meta").fetchall()}
    db.close()
    assert ASKED in names and DONE not in names


_IDS = st.integers(1, 4)
_ENTRY = st.tuples(st.sampled_from(list(Entry)), _IDS, st.binary(max_size=4))


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(blocks=st.lists(st.lists(_ENTRY, max_size=6), max_size=8))
def test_what_is_kept_replays_to_the_same(blocks: list[list[tuple[Entry, int, bytes]]]) -> None:
    packed = [b"".join(mark(kind, identity, payload) for kind, identity, payload in block) for block in blocks]

    def state(some: list[bytes]) -> dict[int, list[tuple[int, bytes]]]:
        things: dict[int, list[tuple[int, bytes]]] = {}
        for block in some:
            for kind, identity, payload in read(block):
                if kind in (Entry.ACCEPT, Entry.MAIL, Entry.PARK):
                    things[identity] = [(kind, payload)]
                elif kind in (Entry.DONE, Entry.MAIL_DONE, Entry.PARK_DONE):
                    things.pop(identity, None)
                elif kind != Entry.ASIDE and identity in things:
                    things[identity].append((kind, payload))
        return things

    aside = sum(kind == Entry.ASIDE for block in blocks for kind, _, _ in block)

    living = LivingEntries()
    for block in packed:
        living.look(block)
    kept = [living.keep(block) for block in packed]
    assert state(kept) == state(packed)
    count = sum(len(list(read(block))) for block in kept)
    assert count == sum(map(len, state(packed).values())) + aside == sum(map(len, blocks)) - living.dead


def kept_of(*entries: bytes) -> list[bytes]:
    """What is kept of entries, one a block; a payload of "bad" cannot be read."""
    living = LivingEntries(lambda _kind, _identity, payload: payload != b"bad")
    for block in entries:
        living.look(block)
    return [block for block in map(living.keep, entries) if block]


def test_what_cannot_be_read_is_kept_until_it_is_set_aside() -> None:
    strange = HEAD.pack(99, HEAD.size + 3, 7) + b"abc"
    bad, on_it = mark(Entry.ACCEPT, 1, b"bad"), mark(Entry.RELEASED, 1)
    assert kept_of(strange, bad, on_it) == [strange, bad, on_it]
    aside = [mark(Entry.ASIDE, fingerprint(one)) for one in (strange, bad)]
    assert kept_of(strange, bad, on_it, *aside) == aside, "it is among the damaged, and what it was is remembered"


def test_what_cannot_be_read_does_not_take_the_place_of_what_can() -> None:
    good, bad, newer = mark(Entry.ACCEPT, 1, b"good"), mark(Entry.ACCEPT, 1, b"bad"), mark(Entry.ACCEPT, 1, b"newer")
    aside = mark(Entry.ASIDE, fingerprint(bad))
    assert kept_of(good, bad) == [good, bad]
    # It says that the message may have been sent since, as often as it is read.
    assert kept_of(good, bad, aside) == [good, bad, aside]
    assert kept_of(good, bad, newer) == [newer]
    assert kept_of(good, bad, mark(Entry.DONE, 1)) == []


def test_nothing_to_do_is_said(log: Builder) -> None:
    log.closed = True
    log.store.close(LivingEntries())
    store = SqliteStore(log.directory, notify=lambda _c: None, later=lambda _s, _c: None, soon=lambda _c: None)
    store.use(KeyRing(log.kek, store.keys))
    assert store.compact(LivingEntries()) == Compacted()
    store.close()


def test_an_end_waits_five_seconds_for_another_s_lock_and_not_a_minute(
    log: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = waits(log)
    passes_through(log)
    log.closed = True
    other = connect(log.directory / "data.db", "data")
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    log.store._writer.stop()
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    log.store.close(LivingEntries())
    monkeypatch.undo()
    assert 5 <= clock[0] < 10
    other.close()
    found, _ = replayed(log)
    assert [one for one in found if one in entries] == entries


def test_nothing_is_tidied_beside_a_writer_that_goes_on(log: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = log.store._writer
    hold = threading.Event()
    tidied: list[object] = []

    def wait() -> None:
        hold.wait(10)

    writer.give(wait)
    monkeypatch.setattr(writer.filer._thread, "join", lambda _seconds: None)
    monkeypatch.setattr(log.store, "compact", tidied.append)
    log.closed = True
    log.store.close(LivingEntries())
    assert not tidied
    hold.set()
    monkeypatch.undo()
    writer.filer._thread.join(10)
    assert not writer.alive
