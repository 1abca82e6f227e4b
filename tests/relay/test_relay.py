"""Housekeeping: segments, what a broken store means, reloads, the start and the end, and the real store under the relay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from smppd.ids import Ids
from smppd.protocol.receipt_states import MessageState
from smppd.protocol.wire import Status
from smppd.relay.relay import Routing
from smppd.store.api import Availability, Batch, ColdRow, Kind
from smppd.store.sqlite.keys import KeyStore
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.keys import KeyRing, create_install
from tests.relay.fakes import World, settings
from tests.store.tenant import Nobody
from tests.vault.rows import kek


def test_segments_that_nothing_lives_in_are_dropped() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    for n in range(10):
        acme.submits(b"x")
        world.commits()
        a.answers(b"id-%d" % n)
        a.reports(b"id-%d" % n)
        world.commits()
        acme.receipts()
        world.passes(125, step=125)
    world.passes(2)
    assert len({segment for segment, _ in world.store.blocks}) <= 2
    world.passes(1000, step=125)
    assert len(world.relay.context.ledger.places()) == 1, "an idle relay makes no segments"
    world.check()


def test_a_quiet_relay_still_moves_what_waits_for_long() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    a.answers(b"id-1")
    world.commits()
    world.spills()
    assert world.relay.context.ledger.count() == 0 and world.upstream().cold_waiting == 1


def test_an_idle_relay_lets_go_of_what_is_over() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    a.answers(b"id-1")
    a.reports(b"id-1")
    world.commits()
    acme.receipts()
    world.commits()
    assert b"x" in b"".join(block for _, block in world.store.blocks)
    world.passes(125)
    assert world.store.blocks == [], "though nothing came after it"


def test_tidying_leaves_what_lives_and_nothing_else() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"over")
    world.commits()
    a.answers(b"id-0")
    a.reports(b"id-0")
    world.commits()
    acme.receipts()
    acme.submits(b"waits")
    world.commits()
    a.answers(b"id-1")
    world.commits()
    a.reports(b"nobody's")
    acme.submits(b"comes")  # not durable yet: it stays where it is, and is moved when it is
    told: list[bool] = []
    world.store.tidy(told.append)
    world.store.tidy(told.append)
    world.passes(3)
    assert told == [True, True]
    everything = b"".join(block for _, block in world.store.blocks)
    assert b"over" not in everything and b"waits" in everything and b"comes" in everything
    world.check()
    world.restarts()
    world.check()
    acme, a = world.customer(), world.carrier()
    a.reports(b"id-1")
    world.commits()
    assert [stat for _, stat in acme.receipts()] == ["DELIVRD"]


def test_nothing_is_written_anew_while_the_disk_is_full() -> None:
    world = World(segments=2, seconds=10.0)
    acme = world.customer()
    acme.submits(*[b"x"] * 100)
    world.commits()
    world.fills()
    world.passes(3600, step=5)
    written = len(world.store.batch.marks)
    assert written == 0
    world.frees()
    world.passes(60)
    world.carrier()
    world.commits()
    assert len(world.links[0].waiting) == 100
    world.check()


def test_pauses_and_a_full_disk_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "smppd.relay")
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    a.answers(status=Status.RTHROTTLED)
    world.passes(5)
    a.answers(b"id-1")
    world.passes(5)
    world.fills()
    world.passes(5)
    world.frees()
    world.passes(5)
    assert [record.message for record in caplog.records] == [
        "upstream paused",
        "upstream takes messages again",
        "no space, refusing messages",
        "space again, accepting messages",
    ]


def test_a_broken_store_stops_acceptance() -> None:
    world = World()
    acme = world.customer()
    world.relay.store_broken("disk I/O error")
    acme.submits(b"x")
    assert acme.statuses() == [Status.RMSGQFUL] and world.broken == ["disk I/O error"]


def test_a_reload_while_things_wait() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"x")
    world.commits()
    world.reloads(settings(acme={"queue": 1}))
    acme.submits(b"y")
    world.commits()
    assert acme.statuses() == [0, Status.RMSGQFUL]
    world.reloads(world.settings.model_copy(update={"accounts": ()}))
    assert world.account().closed
    a = world.carrier()
    world.commits()
    assert a.texts() == [b"x"]


def test_gauges_follow() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"x", b"y")
    world.passes(2)
    world.relay.set_gauges()
    sample = world.metrics.registry.get_sample_value
    assert sample("smppd_messages_queued", {"account": "acme"}) == 2
    assert sample("smppd_oldest_waiting_seconds", {"account": "acme"}) == pytest.approx(2.0, abs=0.1)


def test_limits_stand_beside_their_use_and_go_with_their_account() -> None:
    world = World(
        settings(acme={"queue": 7, "max_binds": 3, "window": 5, "throughput": "20/s"}, a={"throughput": None})
    )
    acme, _ = world.customer(window=5), world.carrier("a", window=9)
    acme.submits(b"x", b"y")
    world.relay.set_gauges()
    sample = world.metrics.registry.get_sample_value
    limits = {"messages_queued": 7, "sessions": 3, "window": 5, "messages_per_second": 20}
    for name, limit in limits.items():
        assert sample(f"smppd_{name}_limit", {"account": "acme"}) == limit, name
    assert sample("smppd_window_used", {"account": "acme"}) == 2
    assert sample("smppd_upstream_window_limit", {"upstream": "a"}) == 9
    assert sample("smppd_upstream_links_wanted", {"upstream": "a"}) == 1
    assert sample("smppd_upstream_messages_per_second_limit", {"upstream": "a"}) is None, "there is none"
    world.reloads(settings(acme={"throughput": None}))
    world.relay.set_gauges()
    assert sample("smppd_messages_per_second_limit", {"account": "acme"}) is None
    world.reloads(world.settings.model_copy(update={"accounts": ()}))
    acme.leaves()
    world.relay.set_gauges()
    left = [name for name in limits if sample(f"smppd_{name}_limit", {"account": "acme"}) is not None]
    assert left == ["window"] and sample("smppd_window_limit", {"account": "acme"}) == 0


def test_how_messages_ended_is_counted_once_by_what_the_final_receipt_said() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    ended = {"upstream": "a", "state": "delivered"}
    sample = world.metrics.registry.get_sample_value
    assert sample("smppd_messages_ended_total", ended) == 0, "it is there before the first one"
    acme.submits(b"x", b"y", b"z")
    world.commits()
    a.answers(b"1", b"2", b"3")
    world.commits()
    a.reports(b"1", b"2")
    a.reports(b"3", state=MessageState.ACCEPTED)
    a.reports(b"1")
    world.commits()
    for _ in range(2):
        world.relay.set_gauges()
        assert sample("smppd_messages_ended_total", ended) == 2
    a.reports(b"3", state=MessageState.UNDELIVERABLE)
    world.commits()
    world.relay.set_gauges()
    assert sample("smppd_messages_ended_total", {**ended, "state": "undeliverable"}) == 1


def test_an_upstream_that_is_meant_to_be_down_has_no_series_that_says_so() -> None:
    world = World()
    sample = world.metrics.registry.get_sample_value
    link = world.carrier("a")
    world.relay.set_gauges()
    assert sample("smppd_upstream_links", {"upstream": "a"}) == 1
    world.reloads(settings(a={"enabled": False}))
    link.cut()
    world.relay.set_gauges()
    for name in ("smppd_upstream_links", "smppd_upstream_paused", "smppd_upstream_window_used"):
        assert sample(name, {"upstream": "a"}) is None
        assert sample(name, {"upstream": "b"}) == 0
    assert sample("smppd_upstream_links_wanted", {"upstream": "a"}) is None
    world.reloads(settings())
    world.relay.set_gauges()
    assert sample("smppd_upstream_links", {"upstream": "a"}) == 0


# -- the start and the end ---------------------------------------------------------------------------------------------


def test_it_begins_once() -> None:
    world = World()
    with pytest.raises(RuntimeError, match="has begun"):
        world.relay.begin()


def test_ids_go_on_above_what_is_read_back_though_the_clock_was_set_back() -> None:
    world = World()
    world.customer().submits(b"x")
    world.commits()
    (before,) = world.customers[0].ids()
    world.wall -= 3600
    world.ids = Ids(lambda: world.wall)
    world.restarts()
    acme = world.customer()
    acme.submits(b"y")
    world.commits()
    assert acme.ids() > [before]


def test_a_store_that_is_read_only_takes_nothing_and_what_is_in_it_goes_on() -> None:
    world = World()
    world.customer().submits(b"x")
    world.commits()
    store = world.settings.store.model_copy(update={"read_only": True})
    world.restarts(world.settings.model_copy(update={"store": store}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"y")
    world.commits()
    assert acme.statuses() == [Status.RMSGQFUL] and a.texts() == [b"x"]


def test_it_stops_accepting_and_what_it_has_goes_out() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"x")
    world.commits()
    world.relay.stop_accepting()
    acme.submits(b"y")
    a = world.carrier()
    world.commits()
    assert acme.statuses() == [0, Status.RMSGQFUL] and a.texts() == [b"x"]


def test_it_stops_sending_and_accepts_nothing_either() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"x")
    world.commits()
    world.relay.stop_sending()
    acme.submits(b"y")
    a = world.carrier()
    world.passes(5)
    assert acme.statuses() == [0, Status.RMSGQFUL] and a.texts() == []
    world.check()


def test_a_configuration_without_an_accounts_policies_changes_nothing() -> None:
    world = World()
    other = settings(acme={"queue": 1}, a={"enabled": False})
    with pytest.raises(KeyError):
        world.relay.take_configuration(other, Routing.of(other), {})
    assert world.account().settings == world.settings.accounts[0] and not world.upstream().gone


# -- the embedded store under it -------------------------------------------------------------------------------------------


class Sink:
    """Hears how batches ended."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def batch_committed(self, batch: Batch) -> None:
        self.ends.append("committed")
        for function in batch.then:
            function()

    def batch_refused(self, batch: Batch, reason: str) -> None:
        self.ends.append("failed")

    def store_broken(self, reason: str) -> None:
        self.ends.append(f"broken: {reason}")


class Opened:
    """A store whose callbacks run when the test asks, on the test's thread."""

    def __init__(self, directory: Path) -> None:
        files = KeyStore(directory)
        create_install(kek(), files)
        files.close()
        self.calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.store = SqliteStore(
            directory, notify=self.calls.put, later=lambda _seconds, call: self.calls.put(call), soon=self.calls.put
        )
        self.ring = KeyRing(kek(), self.store.keys)
        self.store.use(self.ring)
        self.replayed = list(self.store.replay())
        self.counted = self.store.counts()
        self.sink = Sink()
        numbers = iter(range(self.store.highest_id() + 1, 1 << 40))
        self.store.open(self.sink, Nobody(), lambda: next(numbers))
        self.segment = self.store._sealer.segment

    def commit(self) -> None:
        """Until everything handed over is durable and filed."""
        self.store.kick()
        while self.store.busy:
            self.calls.get(timeout=10)()
        filed: list[bool] = []
        self.store.filed(lambda: filed.append(True))
        while not filed:
            self.calls.get(timeout=10)()

    def rows(self, kind: Kind, owner: str) -> list[ColdRow]:
        got: list[list[ColdRow]] = []
        self.store.page(kind, owner, 0, 100, got.append)
        while not got:
            self.calls.get(timeout=10)()
        return got[0]


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    made: list[Opened] = []

    def make() -> Opened:
        if made:
            made[-1].store.close()
        made.append(Opened(tmp_path))
        return made[-1]

    yield make
    made[-1].store.close()


def row(identity: int) -> ColdRow:
    return ColdRow(Kind.MAIL, "acme", b"", identity, 99, b"mail")


def test_a_row_put_and_dropped_in_one_batch_is_gone(opened: Callable[[], Opened]) -> None:
    one = opened()
    one.store.batch.moves.append(row(1))
    one.store.batch.put.append(row(2))
    one.store.batch.drop.append((Kind.MAIL, "acme", b"", 1))
    one.commit()
    assert [found.id for found in one.rows(Kind.MAIL, "acme")] == [2]
    assert opened().counted == {(Kind.MAIL, "acme"): 1}


def test_keys_of_spent_segments_are_destroyed_and_not_before(opened: Callable[[], Opened]) -> None:
    one = opened()
    first = one.segment
    rows = one.store._tidier.cold
    one.store.batch.marks.append(b"entry")
    one.store.batch.put.append(row(1))
    one.commit()
    second = one.store.rotate()
    one.commit()
    one.store.batch.marks.append(b"entry 2")
    one.commit()
    one.store.batch.segments.append(first)
    one.commit()
    one.store.rotate()
    one.store.batch.marks.append(b"entry 3")
    one.commit()
    assert {rows, second} <= set(one.ring.segments()), "rows have a key of their own, the spool needs the second"
    assert first not in one.ring.segments()
    one.store.batch.drop.append((Kind.MAIL, "acme", b"", 1))
    one.commit()
    two = opened()  # it looks at every start, too
    two.rows(Kind.MAIL, "acme")
    two.store.batch.marks.append(b"entry 4")
    two.commit()
    assert rows not in two.ring.segments() and second in two.ring.segments()
    assert [block for _, block in two.replayed] == [b"entry 2", b"entry 3"]
    three = opened()
    assert rows not in three.ring.segments()
    assert [block for _, block in three.replayed] == [b"entry 2", b"entry 3", b"entry 4"]
    assert all("broken" not in end for end in two.sink.ends + three.sink.ends)


def test_room_for_a_small_batch_is_not_the_reserve(
    opened: Callable[[], Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opened()
    room = [False]
    monkeypatch.setattr(one.store, "look", lambda: Availability.OK if room[0] else Availability.FULL)
    one.store.watch()
    one.store.batch.marks.append(b"x")
    one.commit()
    assert not one.store.takes
    room[0] = True
    one.store.batch.marks.append(b"x")
    one.commit()
    assert one.store.takes
