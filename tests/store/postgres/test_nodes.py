"""Nodes on one database, each with its lease: what they see of each other, tell each other and do about who is dead. The clock
is the test's, and so are the turns of the thread."""

from __future__ import annotations

import logging
import queue
import select
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from smppd.store.api import Kind
from smppd.store.nodes import BEAT, DEAD, Life, NodeView
from smppd.store.postgres.announcing import changed
from smppd.store.postgres.connection import Connection
from smppd.store.postgres.installation import PostgresInstallation
from smppd.store.postgres.nodes import AGAIN, FACTS, PAUSE, PostgresNodes
from smppd.store.postgres.session import nodes_in_use
from smppd.store.sqlite.installation import SqliteInstallation
from tests.store.postgres.inheriting import entries, nodes, values
from tests.store.stands import PostgresStand
from tests.store.test_interface import claim, page, row, shared


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Ears:
    """``store.nodes.Hears``: what was heard since the last look at it."""

    def __init__(self) -> None:
        self.nodes: Sequence[NodeView] = ()
        self.heard: list[tuple[Any, ...]] = []

    def nodes_changed(self, nodes: Sequence[NodeView]) -> None:
        self.nodes = nodes

    def rows_unheld(self, kind: int, owner: str, ids: Sequence[int]) -> None:
        self.heard.append(("rows", kind, owner, *ids))

    def changed(self, topic: str, detail: str) -> None:
        self.heard.append(("changed", topic, detail))

    def fenced(self, reason: str) -> None:
        self.heard.append(("fenced", reason))

    def takes(self) -> list[tuple[Any, ...]]:
        heard, self.heard = self.heard, []
        return heard

    @property
    def lives(self) -> list[Life]:
        return [view.life for view in self.nodes]


class Member:
    """One node of them."""

    def __init__(self, stand: PostgresStand, clock: Clock) -> None:
        self.stand = stand
        self.ears = Ears()
        self.clock = clock
        self.begins()

    def begins(self) -> None:
        store = self.stand.store
        self.nodes = PostgresNodes(
            self.stand.server,
            store.node,
            store.epoch,
            store.keys,
            store._ring,
            lambda call: call(),
            lifetime=lambda _owner: 60.0,
            now=self.clock,
            wall=self.clock,
            beside=lambda job: job(),
        )
        self.nodes.begin(self.ears, entries)

    def turns(self) -> None:
        """All that is due."""
        for _ in range(10):
            if self.nodes.turn() > 0:
                return

    def listens(self, count: int = 1) -> list[tuple[Any, ...]]:
        """What is heard, which is waited for: so many things at least."""
        db = self.nodes._db
        assert db is not None
        until = time.monotonic() + 20
        while len(self.ears.heard) < count and time.monotonic() < until:
            select.select([db.fileno()], [], [], 1.0)
            self.turns()
        return self.ears.takes()

    def dies(self) -> None:
        """kill -9: its connections are gone."""
        self.nodes._lost("killed")
        self.nodes._over = True
        self.stand.store._session.leave()
        db = Connection(self.stand.server)
        while self.stand.node in nodes_in_use(db):  # the server notices a moment later
            time.sleep(0.01)
        db.close()


class House:
    def __init__(self, count: int) -> None:
        self.clock = Clock()
        self.stands = nodes(count, after=lambda _stand: None)
        self.all = [Member(stand, self.clock) for stand in self.stands]

    def passes(self, seconds: float, *members: Member) -> None:
        """Time passes, in which these members do what is due, all of them where none is named."""
        until = self.clock.now + seconds
        while True:
            for one in members or self.all:
                one.turns()
            if self.clock.now >= until:
                return
            self.clock.now = min(until, self.clock.now + BEAT / 2)

    def ends(self) -> None:
        for one in reversed(self.all):
            one.nodes.stop()
            one.stand.ends()


@pytest.fixture
def house() -> Iterator[House]:
    made = House(2)
    yield made
    made.ends()


def test_nodes_see_each_other_from_their_first_beat(house: House) -> None:
    one, two = house.all
    one.nodes.turn()
    assert one.ears.lives == [Life.LIVE, Life.DOWN], "the second is at its start"
    house.passes(BEAT)
    for member in house.all:
        assert member.ears.lives == [Life.LIVE, Life.LIVE]
        assert [view.number for view in member.ears.nodes] == [0, 1] and not member.ears.takes()
    assert two.nodes.number == 1 and {view.epoch for view in two.ears.nodes} == {1}
    house.passes(60.0)
    assert one.ears.lives == [Life.LIVE, Life.LIVE]


def test_what_a_node_says_of_itself_the_others_know_at_once(house: House) -> None:
    one, two = house.all
    house.passes(BEAT)
    one.nodes.publish({"state": "ready", "accounts": {"acme": [2, 1]}})
    one.turns()
    two.ears.takes()
    select.select([two.nodes._db.fileno()], [], [], 20)  # type: ignore[union-attr]
    assert 0.0 < two.nodes.turn() <= PAUSE
    house.clock.now += PAUSE
    two.turns()
    assert two.ears.nodes[0].facts == {"state": "ready", "accounts": {"acme": [2, 1]}} and two.ears.nodes[1].facts == {}
    before = values(one.stand, "SELECT version FROM leases WHERE node = 0")
    one.nodes.publish({"accounts": {"acme": [2, 1]}, "state": "ready"})
    house.passes(BEAT)
    assert values(one.stand, "SELECT version FROM leases WHERE node = 0") == before, "it is what was said before"
    for state in ("draining", "drained"):
        one.nodes.publish({"state": state})
    house.passes(BEAT)
    assert two.ears.nodes[0].facts == {"state": "drained"}
    assert values(one.stand, "SELECT version FROM leases WHERE node = 0") == [(int(str(before[0][0])) + 1,)]
    with pytest.raises(ValueError, match="octets of facts"):
        one.nodes.publish({"x": "x" * FACTS})


def test_what_was_said_is_no_more_than_what_it_is(house: House) -> None:
    one, two = house.all
    one.stand.execute("UPDATE leases SET facts = 'no JSON', version = 5 WHERE node = 0")
    one.stand.execute("UPDATE leases SET facts = '[]', version = 5 WHERE node = 1")
    house.passes(BEAT)
    assert [view.facts for view in two.ears.nodes] == [{}, {}]


def test_what_one_tells_the_others_hear_and_not_itself(house: House) -> None:
    one, two = house.all
    house.passes(BEAT)
    one.nodes.tell("opt-outs")
    one.nodes.tell("holds", "7")
    one.turns()
    assert two.listens(2) == [("changed", "opt-outs", ""), ("changed", "holds", "7")] and one.ears.takes() == []
    db = Connection(one.stand.server)
    for payload in (changed(None, "bans", "acme"), "not ours"):
        db.one("SELECT pg_notify('smppd', $1)", (payload,))
    db.close()
    assert one.listens() == two.listens() == [("changed", "bans", "acme")], "a command's all hear"


def test_rows_that_nobody_holds_are_told_of_with_their_commit(house: House) -> None:
    one, two = house.all
    house.passes(BEAT)
    batch = one.stand.store.batch
    batch.put += [shared(3), shared(5), shared(6, kind=Kind.MAIL, owner="beta"), row(7), row(8, kind=Kind.REPLY)]
    batch.handed.append((Kind.PARKED, "up"))
    assert two.ears.takes() == []
    one.stand.commits()
    assert two.listens(3) == [
        ("rows", Kind.QUEUE, "acme", 3, 5),
        ("rows", Kind.MAIL, "beta", 6),
        ("rows", Kind.PARKED, "up"),
    ]
    assert one.ears.takes() == []
    one.stand.store.batch.put.append(row(9))
    one.stand.store.batch.marks.append(b"mark;")
    one.stand.commits()
    house.passes(0.0)
    assert two.ears.takes() == []


def test_more_rows_than_a_commit_hands_over_follow_in_steps(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = house.all
    house.passes(BEAT)
    monkeypatch.setattr("smppd.store.postgres.batches.HANDED", 3)
    monkeypatch.setattr("smppd.store.postgres.rows._GIVEN_UP", 4)
    one.stand.store.batch.put += [row(number) for number in range(1, 16)]
    one.stand.commits()
    one.stand.store.batch.handed.append((Kind.QUEUE, "acme"))
    one.stand.commits()
    for _ in range(3):
        page(one.stand)
        one.stand.hears_within(0.2)
    assert page(one.stand) == [] and two.listens()
    assert len(claim(two.stand)) == 15


# -- death -------------------------------------------------------------------------------------------------------------------


def test_who_is_killed_is_taken_over_ten_seconds_later(house: House) -> None:
    one, two = house.all
    house.passes(BEAT)
    two.stand.tenant.adds(1)
    two.stand.store.batch.accepts.append(b"1;2;")
    two.stand.store.batch.put.append(row(7, b"up", kind=Kind.WAITING))
    two.stand.commits()
    two.dies()
    house.passes(DEAD - BEAT, one)
    assert one.ears.lives == [Life.LIVE, Life.LATE] and not one.ears.takes()
    house.passes(2 * BEAT, one)
    assert one.ears.lives == [Life.LIVE, Life.TAKEN] and one.ears.nodes[1].heir == 0
    assert sorted(one.ears.takes()) == [("rows", Kind.QUEUE, "acme", 1, 2), ("rows", Kind.WAITING, "acme")]
    assert claim(one.stand) == [1, 2]
    house.passes(60.0, one)
    assert one.ears.takes() == [] and one.ears.lives == [Life.LIVE, Life.TAKEN], "once"


def test_who_froze_and_wakes_sees_with_its_next_beat_that_its_time_is_over(house: House) -> None:
    one, two = house.all
    house.passes(BEAT)
    house.passes(DEAD + 2 * BEAT, one)
    assert one.ears.lives == [Life.LIVE, Life.TAKEN]
    two.nodes.turn()
    ((word, reason),) = two.ears.takes()
    assert word == "fenced" and "another smppd has taken the place of this node" in reason
    house.passes(BEAT)
    assert two.ears.takes() == [], "it is told once"
    two.stand.store.batch.marks.append(b"7;")
    two.stand.store.kick()
    two.stand.turns()
    two.stand.hears()
    assert "taken the place" in two.stand.sink.heard[-1][0]
    two.nodes.stop()
    two.stand.starts()
    two.begins()
    house.passes(BEAT)
    assert one.ears.lives == two.ears.lives == [Life.LIVE, Life.LIVE], "it begins again, as another run"


def test_who_slept_himself_thinks_nobody_dead(house: House) -> None:
    one, two = house.all
    house.passes(BEAT)
    house.clock.now += 3 * DEAD
    one.nodes.turn()
    assert one.ears.lives == [Life.LIVE, Life.LIVE]
    house.passes(BEAT)
    assert one.ears.lives == two.ears.lives == [Life.LIVE, Life.LIVE] and not two.ears.takes()


def test_while_the_database_is_away_nobody_dies(house: House, caplog: pytest.LogCaptureFixture) -> None:
    one, two = house.all
    house.passes(BEAT)
    with caplog.at_level(logging.WARNING, "smppd.store"):
        for member in house.all:
            database = member.stand.server.words("", 0)["dbname"]
            name = f"smppd node {member.stand.node} nodes"
            member.stand.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE application_name = '{name}' AND datname = '{database}'"
            )
        connect = Connection.__init__
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Connection, "__init__", _refused)
            house.passes(3 * DEAD)
        assert Connection.__init__ is connect
        house.passes(AGAIN + BEAT)
    assert [one.message for one in caplog.records] == ["the other nodes cannot be seen"] * 2 + [
        "the other nodes can be seen again"
    ] * 2
    assert one.ears.lives == two.ears.lives == [Life.LIVE, Life.LIVE]
    two.dies()
    house.passes(DEAD + 2 * BEAT, one)
    assert one.ears.lives == [Life.LIVE, Life.TAKEN]


def _refused(self: Connection, *_words: object, **_more: object) -> None:
    from smppd.store.postgres.connection import StoreAway

    raise StoreAway("refused", certain=True)


def test_who_has_not_begun_to_beat_is_not_dead_while_its_place_is_held(house: House) -> None:
    one, two = house.all
    house.passes(3 * DEAD, one)
    assert one.ears.lives == [Life.LIVE, Life.DOWN], "a long start, or an smppd that knows no leases"
    two.stand.store.batch.accepts.append(b"4;")
    two.stand.commits()
    two.dies()
    house.passes(BEAT, one)
    assert one.ears.lives == [Life.LIVE, Life.TAKEN] and claim(one.stand) == [4]


def test_of_three_one_is_the_heir(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(3)
    try:
        house.passes(BEAT)
        one, two, three = house.all
        three.stand.store.batch.accepts.append(b"4;")
        three.stand.commits()
        three.dies()
        house.passes(DEAD + 2 * BEAT, one, two)
        assert one.ears.lives == two.ears.lives == [Life.LIVE, Life.LIVE, Life.TAKEN]
        assert one.ears.takes() == two.ears.takes() == [("rows", Kind.QUEUE, "acme", 4)]
        heir = one.ears.nodes[2].heir
        house.all[heir or 0].dies()
        (last,) = [member for member in (one, two) if member.stand.node != heir]
        house.passes(DEAD + 2 * BEAT, last)
        assert last.ears.lives.count(Life.TAKEN) == 2 and claim(last.stand) == [4]
    finally:
        house.ends()


def test_a_take_over_that_fails_is_tried_again_later(house: House, caplog: pytest.LogCaptureFixture) -> None:
    one, two = house.all
    house.passes(BEAT)
    two.stand.store.batch.accepts.append(b"4;")
    two.stand.commits()
    two.dies()
    one.stand.execute(
        "CREATE FUNCTION lacking() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'none' USING ERRCODE = '53100'; END $$;"
        " CREATE TRIGGER lacking BEFORE INSERT ON cold EXECUTE FUNCTION lacking()"
    )
    with caplog.at_level(logging.ERROR, "smppd.store"):
        house.passes(DEAD + 5 * BEAT, one)
    said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert said == ["a take-over failed"]
    assert one.ears.lives == [Life.LIVE, Life.LATE]
    one.stand.execute("DROP FUNCTION lacking CASCADE")
    house.passes(30.0 + BEAT, one)
    assert one.ears.lives == [Life.LIVE, Life.TAKEN] and claim(one.stand) == [4]


# -- the end -----------------------------------------------------------------------------------------------------------------


def test_who_ends_gives_up_what_it_holds_where_others_live(house: House) -> None:
    one, two = house.all
    house.passes(BEAT)
    two.stand.store.batch.accepts.append(b"4;")
    two.stand.commits()
    two.stand.store.close()
    assert two.nodes.leave()
    two.nodes.stop()
    house.passes(BEAT, one)
    assert one.ears.lives == [Life.LIVE, Life.LEFT] and one.ears.nodes[1].heir == 0
    assert one.ears.takes() == [("rows", Kind.QUEUE, "acme", 4)] and two.ears.takes() == []
    assert claim(one.stand) == [4]
    assert not one.nodes.leave(), "nobody is there any more"
    one.stand.store.close()
    one.nodes.stop()
    assert values(one.stand, "SELECT life FROM leases ORDER BY node") == [("down",), ("left",)]
    one.stand._opens()
    assert one.stand.counted == {(Kind.QUEUE, "acme"): 1}


def test_who_is_fenced_gives_up_nothing(house: House) -> None:
    one, two = house.all
    house.passes(BEAT)
    one.stand.execute("SELECT begin_node(1, 'another')")
    house.passes(BEAT)
    assert [word for word, _ in two.ears.takes()] == ["fenced"]
    assert not two.nodes.leave()
    two.nodes.stop()
    assert values(one.stand, "SELECT life FROM leases WHERE node = 1") == [("down",)]


def test_a_store_that_only_one_can_have_has_no_nodes(house: House, tmp_path: Path) -> None:
    store = house.stands[1].store
    found = PostgresInstallation(store._session.server, tmp_path, node=1).nodes(store, store._ring, _at_once)
    assert found is not None and found.number == 1 and not found.leave()
    found.stop()
    assert SqliteInstallation(tmp_path, settle=False).nodes(store, store._ring, _at_once) is None


# -- with its thread ---------------------------------------------------------------------------------------------------------


def test_the_thread_does_all_of_it(house: House) -> None:
    one, two = house.all
    said: queue.SimpleQueue[str] = queue.SimpleQueue()

    class Told(Ears):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def nodes_changed(self, nodes: Sequence[NodeView]) -> None:
            if [view.life for view in nodes] == [Life.LIVE] * 2:
                said.put(f"{self.name} sees both, {nodes[0].facts}")

        def changed(self, topic: str, detail: str) -> None:
            said.put(f"{self.name}: {topic}")

    def until(words: str) -> None:
        while said.get(timeout=20) != words:
            pass

    made = []
    for member, name in ((one, "one"), (two, "two")):
        store = member.stand.store
        nodes = PostgresNodes(
            member.stand.server, store.node, store.epoch, store.keys, store._ring, _at_once, lifetime=lambda _owner: 1.0
        )
        nodes.start(Told(name), entries)
        made.append(nodes)
    until("two sees both, {}")
    made[0].publish({"state": "ready"})
    until("two sees both, {'state': 'ready'}")
    made[0].tell("opt-outs")
    until("two: opt-outs")
    two.stand.store.close()
    assert made[1].leave()
    for nodes in made:
        nodes.stop()
    assert values(one.stand, "SELECT life FROM leases ORDER BY node") == [("down",), ("left",)]


def _at_once(call: Callable[[], None]) -> None:
    call()
