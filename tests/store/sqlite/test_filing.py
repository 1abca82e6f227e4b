"""What blocks have for keys.db and data.db: packed, filed, and filed again."""

from __future__ import annotations

import os
import queue
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.ids import id_time
from smppd.message import State
from smppd.records.verify import verify_log
from smppd.store.api import Availability, ColdRow, Damaged, Doubt, Kind, OptOut
from smppd.store.journal.reader import paths
from smppd.store.sqlite import filer as module
from smppd.store.sqlite.filing import Filing, SealRow, filed, unpack
from smppd.store.sqlite.settling import file_rest, settled
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.keys import KeyRing
from tests.store.builder import Builder, copied
from tests.store.journals import alter, cores_of, rows_of

_INT = st.integers(0, (1 << 63) - 1)
_TEXT = st.text(max_size=20)
_OCTETS = st.binary(max_size=60)
FILINGS = st.builds(
    Filing,
    seq=_INT,
    count=st.integers(0, 1000),
    records=_OCTETS,
    events=_OCTETS,
    secrets=_OCTETS,
    link=st.sampled_from([b"", bytes(range(32))]),
    seal=st.none() | st.builds(SealRow, _INT, _INT, _OCTETS, _OCTETS),
    cold=st.lists(
        st.builds(ColdRow, st.sampled_from([int(k) for k in Kind]), _TEXT, _OCTETS, _INT, _INT, _OCTETS, st.just(False))
    ),
    drop=st.lists(st.tuples(st.integers(1, 6), _TEXT, _OCTETS, _INT)).map(tuple),
    damaged=st.lists(st.builds(Damaged, _TEXT, _TEXT, _INT, _TEXT, _TEXT, _INT, _INT, _OCTETS)),
    meta=st.lists(st.tuples(_TEXT, _INT)).map(tuple),
    opt_outs=st.lists(st.builds(OptOut, _OCTETS, _TEXT, _TEXT, _INT, _TEXT, st.booleans())),
    doubts=st.lists(st.builds(Doubt, _INT, _OCTETS, _TEXT, _TEXT, _INT)),
    decided=st.lists(_INT).map(tuple),
    segments=st.lists(st.integers(1, 1 << 30)).map(tuple),
)


@given(FILINGS)
def test_what_was_packed_is_unpacked(one: Filing) -> None:
    again = unpack(one.pack())
    if not one.seldom:
        one.cold = one.drop = one.damaged = one.meta = one.opt_outs = one.doubts = one.decided = one.segments = ()
    one.cold = list(one.cold)
    assert again == one
    assert again.octets == len(one.pack())


@given(st.binary(max_size=200))
def test_any_octets_are_told(data: bytes) -> None:
    try:
        unpack(data)
    except ValueError:
        return


@given(FILINGS, st.data())
def test_a_core_cut_short_is_told(one: Filing, data: st.DataObject) -> None:
    packed = one.pack()
    end = data.draw(st.integers(0, len(packed) - 1))
    try:
        unpack(packed[:end])
    except ValueError:
        return
    assert one.seldom, "only what comes last may be missing altogether"


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path / "store", sealed=True)
    yield builder
    builder.close()


def held(log: Builder) -> threading.Event:
    """Nothing is filed until this is set."""
    hold, begun = threading.Event(), threading.Event()

    def holds() -> None:
        begun.set()
        hold.wait(20)

    log.store._writer.give(holds)
    assert begun.wait(10)
    return hold


def until(done: Callable[[], bool]) -> None:
    for _ in range(2000):
        if done():
            return
        time.sleep(0.005)
    raise AssertionError("it does not happen")


def hears(log: Builder) -> None:
    """Until the commit under way has ended."""
    until(lambda: not log._calls.empty())
    while not log._calls.empty():
        log._calls.get()()


def refusals(log: Builder) -> list[str]:
    return list(log.sink.wrong)


def state(log: Builder) -> tuple[Availability, bool]:
    return log.store.availability, log.store.takes


def value(directory: Path, file: str, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{directory / file}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


def everything(log: Builder) -> list[int]:
    """One of all that there is, in several commits; the ids of the records."""
    ids = []
    batch = log.store.batch
    for number in range(5):
        batch = log.store.batch
        ids.append(log.record(destination=b"44770090%04d" % number))
        log.event(ids[-1], State.SUBMITTED)
        batch.accepts.append(b"accept %d;" % number)
        batch.put.append(ColdRow(Kind.QUEUE, "acme", b"", 100 + number, 1 << 40, b"row"))
        batch.meta.append(("number", number))
        log.commit(files=False)
    batch = log.store.batch
    batch.drop.append((Kind.QUEUE, "acme", b"", 101))
    batch.damaged.append(Damaged("frame", "acme", 1, "receipt", "ValueError", 1, 1 << 40, b"damaged"))
    batch.opt_outs.append(OptOut(b"k" * 16, "acme", "*", 1, "STOP"))
    batch.doubts.append(Doubt(7, b"k" * 16, "acme", "*", 1))
    log.commit(files=False)
    return ids


def check(directory: Path, log: Builder, ids: list[int], secrets: int = 5) -> None:
    assert value(directory, "data.db", "SELECT count(*) FROM log WHERE count = 1") == [(5,)]
    assert value(directory, "keys.db", "SELECT count(*) FROM secrets") == [(secrets,)]
    assert value(directory, "data.db", "SELECT id FROM cold ORDER BY id") == [(100,), (102,), (103,), (104,)]
    assert value(directory, "data.db", "SELECT value FROM meta WHERE name = 'number'") == [(4,)]
    for table in ("damaged", "opt_outs", "doubts"):
        assert value(directory, "data.db", f"SELECT count(*) FROM {table}") == [(1,)]
    assert [data for _, data in rows_of(directory)] != []


def test_what_a_kill_left_unfiled_is_filed_by_the_next_start(log: Builder, tmp_path: Path) -> None:
    hold = held(log)
    ids = everything(log)
    copied(log.directory, tmp_path / "killed")
    hold.set()
    assert value(tmp_path / "killed", "data.db", "SELECT count(*) FROM log") == [(0,)]
    again = Builder(tmp_path / "killed", log.kek, sealed=True)
    check(again.directory, again, ids)
    assert not again.store.taken_up.faults
    again.now = log.now + 1
    again.fill(1, 1)
    with again.reader() as reader:
        assert verify_log(reader.records, id_time, None, lambda _done: None, again.keys).ok
        assert all(reader.record(one) for one in ids)
    again.close()


def test_a_command_files_what_a_kill_left(log: Builder, tmp_path: Path) -> None:
    hold = held(log)
    ids = everything(log)
    copied(log.directory, tmp_path / "killed")
    hold.set()
    killed = tmp_path / "killed"
    assert not settled(killed)
    file_rest(killed, log.kek)
    assert settled(killed)
    check(killed, log, ids)
    file_rest(killed, log.kek)
    check(killed, log, ids)


@pytest.mark.parametrize("step", range(14))
def test_a_kill_between_the_two_files_or_within_one_is_made_good(log: Builder, tmp_path: Path, step: int) -> None:
    hold = held(log)
    ids = everything(log)
    killed = tmp_path / "killed"
    copied(log.directory, killed)
    hold.set()
    code = (
        "import os, sqlite3, sys\n"
        "from pathlib import Path\n"
        "from smppd.store.sqlite import settling, filing\n"
        "from tests.vault.rows import kek\n"
        "left = [int(sys.argv[2])]\n"
        "def connect(path, kind, **words):\n"
        "    db = opened(path, kind, **words)\n"
        "    def traced(statement):\n"
        "        left[0] -= 1\n"
        "        if left[0] < 0: os._exit(9)\n"
        "    if kind in ('data', 'keys') and not words: db.set_trace_callback(traced)\n"
        "    return db\n"
        "opened, settling.connect = settling.connect, connect\n"
        "settling.file_rest(Path(sys.argv[1]), kek())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(killed), str(3 + 2 * step)], check=False, timeout=60)
    assert done.returncode == (9 if step < 12 else done.returncode)
    file_rest(killed, log.kek)
    check(killed, log, ids)


def test_settled_waits_for_the_daemon(log: Builder) -> None:
    assert settled(log.directory)
    hold = held(log)
    log.record()
    log.commit(files=False)
    assert not settled(log.directory, 0.05)
    hold.set()
    assert settled(log.directory)


def test_without_space_in_data_db_nothing_new_is_taken_and_nothing_is_lost(
    log: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)
    log.fill(1, 1)
    pages = log.store._data.execute("PRAGMA page_count").fetchone()[0]
    log.store._data.execute(f"PRAGMA max_page_count = {pages}")
    one = log.record()
    log.store.batch.put.append(ColdRow(Kind.MAIL, "acme", b"", 5, 1 << 40, bytes(100_000)))
    log.commit(files=False)
    until(lambda: log.store._writer.filer.full)
    log.store.watch()
    assert state(log) == (Availability.FULL, False)
    two = log.record()
    log.commit(files=False)  # the journal has space, and it is durable
    log.store._data.execute("PRAGMA max_page_count = 100000")
    log.files_it()
    log.store.watch()
    assert state(log) == (Availability.OK, True)
    with log.reader() as reader:
        assert reader.record(one) and reader.record(two)
    assert value(log.directory, "keys.db", "SELECT count(*) FROM secrets") == [(3,)]


def test_too_much_to_file_makes_commits_wait_and_without_space_refuses_them(
    log: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 10_000)
    hold = held(log)
    log.record(b"x" * 100)
    log.store.batch.put.append(ColdRow(Kind.MAIL, "acme", b"", 5, 1 << 40, os.urandom(20_000)))
    log.commit(files=False)
    log.record()
    log.store.kick()
    with pytest.raises(queue.Empty):  # it waits
        log._calls.get(timeout=0.1)
    hold.set()
    hears(log)
    assert refusals(log) == []
    hold = held(log)
    log.store.batch.put.append(ColdRow(Kind.MAIL, "acme", b"", 6, 1 << 40, os.urandom(20_000)))
    log.commit(files=False)
    log.store._writer.filer.full = True
    log.record()
    log.store.kick()
    hears(log)
    assert refusals(log) == ["what is to be filed finds no space"]
    log.sink.wrong.clear()
    hold.set()
    log.files_it()


def test_each_file_says_how_far_it_is(log: Builder) -> None:
    log.fill(3, 1)
    last = cores_of(log.directory)[-1].sequence
    assert filed(log.store._data, log.store._secrets) == (last, last)
    log.store.batch.marks.append(b"mark")
    log.commit()
    assert filed(log.store._data, log.store._secrets) == (last + 1, last)


def test_a_dropped_segment_goes_when_all_of_it_is_filed(log: Builder) -> None:
    log.fill(1, 1)
    hold = held(log)
    log.store.batch.accepts.append(b"first")
    log.commit(files=False)
    old = log.store._sealer.segment
    log.store.rotate()
    log.store.batch.segments.append(old)
    log.store.batch.marks.append(b"mark")
    log.commit(files=False)
    assert log.store._files_of_journal.has(old)
    hold.set()
    log.files_it()
    assert not log.store._files_of_journal.has(old)
    assert {one.segment for one in cores_of(log.directory)} == {log.store._sealer.segment}


def test_an_answer_has_what_was_committed_before_it_was_asked_for_and_is_told_in_its_turn(log: Builder) -> None:
    def row(number: int) -> ColdRow:
        return ColdRow(Kind.QUEUE, "acme", b"", number, 1 << 40, b"row")

    def told(what: str) -> None:
        heard.append(what)

    heard: list[str] = []
    hold = held(log)
    for number in (1, 2, 3):
        log.store.batch.put.append(row(number))
        log.store.batch.then.append(lambda number=number: told(f"committed {number}"))
        log.store.kick()
        if number == 1:
            until(lambda: not log._calls.empty())
        while not log._calls.empty():
            log._calls.get()()
        if number < 3:
            log.store.page(Kind.QUEUE, "acme", 0, 9, lambda rows: told(f"page of {[one.id for one in rows]}"))
    # The second commit is durable by now, and the answer that was asked for before it has yet to come.
    assert heard == ["committed 1"]
    hold.set()
    until(lambda: bool(log._calls.get(timeout=10)()) or len(heard) == 5)
    assert heard == ["committed 1", "page of [1]", "committed 2", "page of [1, 2]", "committed 3"]


def test_an_end_that_raises_keeps_none_of_the_others(log: Builder) -> None:
    heard: list[int] = []

    def fails(_rows: object) -> None:
        raise ValueError("an error of whoever asked")

    hold = held(log)
    log.store.page(Kind.QUEUE, "acme", 0, 9, fails)
    log.store.page(Kind.QUEUE, "acme", 0, 9, lambda rows: heard.append(len(rows)))
    hold.set()
    with pytest.raises(ValueError, match="an error"):
        until(lambda: bool(log._calls.get(timeout=10)()))
    until(lambda: bool(log._calls.get(timeout=10)()) or heard == [0])


def killed_with(log: Builder, tmp_path: Path) -> Path:
    """A store as a kill left it: three commits, of which only the first one is filed."""
    log.store.batch.accepts.append(b"accept 0;")
    log.record()
    log.commit()
    hold = held(log)
    for number in (1, 2):
        log.store.batch.accepts.append(b"accept %d;" % number)
        log.record()
        log.commit(files=False)
    copied(log.directory, tmp_path / "killed")
    hold.set()
    return tmp_path / "killed"


def started(directory: Path, log: Builder) -> tuple[list[str], list[bytes]]:
    """What a start tells, and what it reads back."""
    told: list[str] = []
    store = SqliteStore(directory, notify=lambda _c: None, later=lambda _s, _c: None, soon=lambda _c: None)
    store.on_start_damage = lambda _what, _identity, reason: told.append(reason)
    try:
        store.use(KeyRing(log.kek, store.keys))
        return told, [block for _, block in store.replay()]
    finally:
        store.close()


def test_a_core_that_does_not_open_costs_nothing_of_what_lives(log: Builder, tmp_path: Path) -> None:
    killed = killed_with(log, tmp_path)
    alter(killed, 1, lambda block: block._replace(core=bytes(len(block.core))))
    lived = [b"accept 0;", b"accept 1;", b"accept 2;"]
    assert started(killed, log) == (["its core does not open"], lived)
    assert started(killed, log) == ([], lived), "it is told once"
    assert value(killed, "data.db", "SELECT kind, reason FROM damaged") == [("block", "Unopened")]
    assert value(killed, "data.db", "SELECT count(*) FROM log") == [(2,)]


def test_a_command_tells_of_a_core_that_does_not_open(
    log: Builder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed = killed_with(log, tmp_path)
    alter(killed, 2, lambda block: block._replace(core=bytes(len(block.core))))
    file_rest(killed, log.kek)
    assert [one.levelname for one in caplog.records] == ["ERROR"]
    assert value(killed, "data.db", "SELECT reason FROM damaged") == [("Unopened",)]
    assert started(killed, log)[0] == []


@pytest.mark.parametrize("every", [False, True])
def test_a_file_that_was_removed_is_told(log: Builder, tmp_path: Path, every: bool) -> None:
    log.store.batch.accepts.append(b"accept 0;")
    log.commit()
    log.store.rotate()
    for number in (1, 2):
        log.store.batch.accepts.append(b"accept %d;" % number)
        log.commit()
    copied(log.directory, tmp_path / "killed")
    written = [path for path in paths(tmp_path / "killed") if any(path.read_bytes())]
    assert len(written) == 2
    for path in written if every else written[1:]:
        path.unlink()
    told, lived = started(tmp_path / "killed", log)
    assert told == [f"{3 if every else 2} blocks are missing"]
    assert lived == ([] if every else [b"accept 0;"])


def test_names_of_any_length_are_filed(log: Builder, tmp_path: Path) -> None:
    hold = held(log)
    row = ColdRow(Kind.QUEUE, "a" * 100_000, b"k" * 70_000, 5, 1 << 40, b"row")
    log.store.batch.put.append(row)
    log.commit(files=False)
    copied(log.directory, tmp_path / "killed")
    hold.set()
    file_rest(tmp_path / "killed", log.kek)
    assert value(tmp_path / "killed", "data.db", "SELECT length(owner), length(key) FROM cold") == [(100_000, 70_000)]
