"""Clocks that jump: what was accepted under any of them is found, purged on time, and never twice the same id."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from smppd.config import Retain
from smppd.ids import id_time
from smppd.records.extents import ExtentBuilder, Extents
from smppd.records.indexer import Indexer
from smppd.records.retention import Purger
from smppd.records.search import by_number
from smppd.vault.keys import Part, period_of, period_scope
from smppd.vault.seal import Content
from tests.store.builder import DAY, Builder, files
from tests.store.houses import House

HOUR = 3600.0
NUMBER = b"447700900123"


def purge(log: Builder, **retain: float) -> None:
    values = {"body": 30 * DAY, "numbers": 30 * DAY, "billing": 400 * DAY, **retain}
    with Purger(log.place.purge(), lambda: {"acme": Retain(**values)}, id_time, dropped=log.ring.drop) as purger:
        purger.run(log.now)


def index(log: Builder, run: int = 4) -> None:
    rows = log.place.index()
    indexer = Indexer(rows, id_time, run=run, fan=2)
    while indexer.step():
        pass
    rows.close()


def found(log: Builder, number: bytes = NUMBER, since: float = 0.0, until: float = float("inf")) -> list[int]:
    with log.reader() as reader:
        return [one.record.header.record_id for one in by_number(reader, [number], since=since, until=until)]


def readable(log: Builder, identity: int) -> tuple[bool, bool]:
    """Whether numbers and body can be read."""
    with log.reader() as reader:
        one = reader.record(identity)
        return (False, False) if one is None else (one.record.numbers is not None, one.record.body is not None)


@pytest.fixture
def log(house: House) -> Iterator[Builder]:
    builder = Builder(house)
    yield builder
    builder.close()


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("jumps", [(-3 * DAY,), (5 * HOUR, -5 * HOUR), (-3 * DAY, 3 * DAY), (DAY, -2 * DAY, 7 * DAY)])
def test_all_that_was_accepted_is_found_now_and_later(log: Builder, jumps: tuple[float, ...], indexed: bool) -> None:
    every = [log.record(body=HOUR, numbers=40 * DAY)]
    log.commit()
    for jump in jumps:
        log.now += jump
        for _ in range(6):
            log.now += 60
            every.append(log.record(body=HOUR, numbers=40 * DAY))
            log.commit()
        if indexed:
            index(log)
        assert found(log) == every[::-1]
    log.now += 20 * DAY
    assert found(log) == every[::-1]
    for identity in every:
        with log.reader() as reader:
            assert reader.record(identity) is not None


def test_a_time_that_is_asked_for_is_the_time_that_is_shown(log: Builder) -> None:
    early = log.record()
    log.commit()
    before = log.now
    log.now -= 3 * DAY
    back = log.record()
    log.commit()
    index(log, run=1)
    assert found(log, until=before - DAY) == [back]
    assert found(log, since=before - HOUR) == [early]


def test_a_clock_set_back_and_corrected_does_not_shorten_a_life(log: Builder) -> None:
    log.record(body=HOUR, numbers=3 * HOUR)
    log.commit()
    log.now -= 3 * DAY
    identity = log.record(body=HOUR, numbers=3 * HOUR)
    log.commit()
    log.now += 3 * DAY + 600
    purge(log, body=HOUR, numbers=3 * HOUR)
    assert readable(log, identity) == (True, True) and identity in found(log)
    log.now += 2 * HOUR
    purge(log, body=HOUR, numbers=3 * HOUR)
    assert readable(log, identity) == (True, False)
    log.now += 2 * HOUR
    purge(log, body=HOUR, numbers=3 * HOUR)
    assert readable(log, identity) == (False, False)
    assert log.secrets[identity][:32] not in log.house.octets()


def test_a_clock_that_stays_behind_purges_by_itself(log: Builder) -> None:
    log.record(body=HOUR, numbers=3 * HOUR)
    log.commit()
    log.now -= 3 * DAY
    identity = log.record(body=HOUR, numbers=3 * HOUR)
    log.commit()
    log.now += 5 * HOUR
    purge(log, body=HOUR, numbers=3 * HOUR)
    assert readable(log, identity) == (False, False)
    assert log.secrets[identity][32:] not in log.house.octets()


def test_a_clock_that_was_ahead_costs_its_error_and_says_so(log: Builder) -> None:
    log.now += 5 * HOUR
    ahead = log.record(body=HOUR, numbers=3 * HOUR)
    log.commit()
    log.now -= 5 * HOUR
    right = log.record(body=HOUR, numbers=3 * HOUR)
    log.commit()
    with Purger(log.place.purge(), lambda: {"acme": Retain(body=HOUR, numbers=3 * HOUR)}, id_time) as purger:
        assert purger.plan(log.now).future == 2
    log.now += 2 * HOUR + 1
    purge(log, body=HOUR, numbers=3 * HOUR)
    assert readable(log, right) == (True, False) and readable(log, ahead) == (True, True)
    log.now += 5 * HOUR
    purge(log, body=HOUR, numbers=3 * HOUR)
    assert readable(log, ahead) == (True, False)
    log.now += 2 * HOUR
    purge(log, body=HOUR, numbers=3 * HOUR)
    assert readable(log, ahead) == (False, False)
    for identity in (ahead, right):
        for half in (slice(32), slice(32, 64)):
            assert log.secrets[identity][half] not in log.house.octets()


def test_a_purger_in_the_daemon_looks_when_the_clock_was_set_back(log: Builder) -> None:
    identity = log.record(body=HOUR, numbers=HOUR)
    log.commit()
    with Purger(log.place.purge(), lambda: {"acme": Retain(body=HOUR, numbers=HOUR)}, id_time) as purger:
        purger.run(log.now)
        log.now -= 30 * DAY
        old = log.record(body=HOUR, numbers=HOUR)
        log.commit()
        log.now += 3 * HOUR
        while purger.step(log.now):
            pass
    assert readable(log, old) == (False, False) and readable(log, identity) == (True, True)


def test_records_of_a_store_without_extents_are_found_and_purged(log: Builder) -> None:
    every = []
    for hour in range(12):
        log.now += HOUR if hour != 6 else -2 * DAY
        every.append(log.record(body=HOUR, numbers=40 * DAY))
        log.commit()
    index(log)
    rows = log.place.index()
    assert rows.extents()
    log.house.edit("DELETE FROM extents")  # as an earlier version left it
    assert found(log) == every[::-1]
    indexer = Indexer(rows, id_time, run=4, fan=2)
    while indexer.step():
        assert found(log) == every[::-1]
    listed = rows.extents()
    first = log.house.ask("SELECT min(seq) FROM log")[0][0]
    assert listed[0].first == first and listed[-1].last == rows.indexed()
    log.house.edit("DELETE FROM extents")
    rows.close()
    log.now += 10 * DAY
    purge(log, body=HOUR, numbers=40 * DAY)
    for identity in every:
        assert readable(log, identity) == (True, False)
        assert log.secrets[identity][32:] not in log.house.octets()


def test_every_row_is_in_one_extent(log: Builder) -> None:
    for turn in range(30):
        log.now += (-DAY, 10.0, 3 * HOUR)[turn % 3]
        if turn % 4:
            log.record()
        else:
            log.event(7, 22)  # type: ignore[arg-type]
        log.commit()
    index(log, run=6)
    rows = log.place.index()
    every = [row[0] for row in log.house.ask("SELECT seq FROM log ORDER BY seq")]
    listed = Extents(rows, id_time).all()
    assert [seq for seq in every for one in listed if one.first <= seq <= one.last] == every
    assert all(a.last < b.first for a, b in itertools.pairwise(listed))
    assert all(one.latest - one.earliest <= HOUR * 1000 for one in listed)
    rows.close()
    assert ExtentBuilder(id_time).take() == []


class _Kept(NamedTuple):
    identity: int
    accepted: float
    content: Content


_LIVES = ((HOUR, 3 * HOUR), (3 * DAY, HOUR), (HOUR, 40 * DAY), (12 * HOUR, 3 * DAY))


class Clocks(RuleBasedStateMachine):
    """Accepts, jumps, waits, indexes, purges and restarts in any order; knows what must be there and what must not."""

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.log = Builder(Path(self.place.name))
        self.kept: list[_Kept] = []
        self.life = _LIVES[0]
        self.chosen = False
        self.purged_at: list[float] = []

    def teardown(self) -> None:
        self.log.close()
        self.place.cleanup()

    @precondition(lambda self: not self.chosen)
    @rule(life=st.sampled_from(_LIVES))
    def choose(self, life: tuple[float, float]) -> None:
        self.life, self.chosen = life, True

    @precondition(lambda self: self.chosen)
    @rule(count=st.integers(1, 5), every=st.sampled_from([0.0, 1.0, 1800.0]), content=st.sampled_from(list(Content)))
    def accept(self, count: int, every: float, content: Content) -> None:
        for _ in range(count):
            self.log.now += every
            identity = self.log.record(body=self.life[0], numbers=self.life[1], content=content)
            assert not self.kept or identity > self.kept[-1].identity
            self.kept.append(_Kept(identity, self.log.now, content))
            self.log.commit()

    @rule(by=st.sampled_from([-3 * DAY, -5 * HOUR, -1.0, 1.0, 5 * HOUR, 3 * DAY]) | st.floats(-1e6, 1e6))
    def jump(self, by: float) -> None:
        self.log.now += by

    @rule(run=st.integers(1, 8))
    def index(self, run: int) -> None:
        index(self.log, run)

    @rule()
    def restart(self) -> None:
        self.log.close()
        last, now = self.log._id, self.log.now
        secrets, packed = self.log.secrets, self.log.packed
        self.log = Builder(Path(self.place.name), self.log.kek)
        self.log._id, self.log.now = max(last, self.log.store.highest_id()), now
        self.log.secrets, self.log.packed = secrets, packed

    @precondition(lambda self: self.kept)
    @rule()
    def purge(self) -> None:
        before = {one.identity: readable(self.log, one.identity) for one in self.kept}
        purge(self.log, body=self.life[0], numbers=self.life[1])
        now = self.log.now
        most = max(max(0.0, id_time(one.identity) - one.accepted) for one in self.kept)
        for one in self.kept:
            drawn = id_time(one.identity)
            since = drawn if one.accepted < drawn <= now else one.accepted
            numbers, body = readable(self.log, one.identity)
            for had, has, retain in zip(before[one.identity], (numbers, body), self.life[::-1], strict=True):
                end = period_of(int(one.accepted), retain).end
                if had and now < since + retain:
                    assert has, "purged early"
                if now >= end + retain + most + 1:
                    assert not has, "not purged"
                    half = slice(32) if retain is self.life[1] else slice(32, 64)
                    if half.stop == 64 and one.content is Content.HIDE:
                        continue  # opens nothing, and goes with the other half
                    assert self.log.secrets[one.identity][half] not in self.files()

    def files(self) -> bytes:
        return files(Path(self.place.name))

    @invariant()
    def all_is_found(self) -> None:
        keys = self.log.store.keys
        expected = []
        for one in self.kept:
            scope = period_scope("acme", Part.NUMBERS, period_of(int(one.accepted), self.life[1]))
            if keys.get(scope) is not None and readable(self.log, one.identity)[0]:
                expected.append(one.identity)
        assert found(self.log) == expected[::-1]


Clocks.TestCase.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
test_clocks_that_jump = Clocks.TestCase
