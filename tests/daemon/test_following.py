"""What one node changes counts at the other: at once where it is told, within half a minute where that was lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from smppd.consent.register import Register as ConsentRegister
from smppd.consent.register_proof import PURPOSE, ConsentKeys
from smppd.consent.suppression import Hashes, Register
from smppd.daemon.consents import load
from smppd.daemon.following import EVERY, KEYS, Following, followed
from smppd.daemon.standing import StandingActs
from smppd.daemon.traffic import TrafficMemory
from smppd.metrics import Metrics
from smppd.store.api import OPT_OUTS, OptOut
from smppd.store.consents import FOREVER, ConsentRow
from smppd.store.postgres.announcing import CHANNEL, read
from smppd.store.postgres.connection import Connection
from smppd.traffic.suspension import KIND, Suspension
from smppd.vault.documents import DocumentSealer
from tests.store.pairs import NodeBuilder, pair

FROM, TO = b"447700900001", b"447700900123"


class Wire:
    """What nodes tell each other; nothing arrives while it is cut."""

    def __init__(self) -> None:
        self.ends: list[End] = []
        self.cut = False

    def end(self) -> End:
        self.ends.append(End(self))
        return self.ends[-1]


class End:
    """`daemon.following.Fellows`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._heard: dict[str, Callable[[str], object]] = {}
        self.told: list[tuple[str, str]] = []

    def listen(self, topic: str, heard: Callable[[str], object]) -> None:
        self._heard[topic] = heard

    def tell(self, topic: str, detail: str = "") -> None:
        self.told.append((topic, detail))
        for other in self._wire.ends:
            if other is not self and not self._wire.cut:
                other._heard[topic](detail)


class Node:
    """One daemon's memory of what is shared."""

    def __init__(self, builder: NodeBuilder, wire: Wire) -> None:
        self.builder = builder
        self.end = wire.end()
        self.jobs: deque[tuple[Callable[[], Any], Callable[[Any, Exception | None], None]]] = deque()
        metrics = Metrics()
        store = builder.place
        self.register = Register(Hashes(builder.install.suppression))
        self.consents = ConsentRegister(ConsentKeys(builder.install.for_purpose(PURPOSE)))
        self.traffic = TrafficMemory(
            store.documents, builder.install, metrics, lambda *_: None, self, lambda: 1000.0, lambda: 0.0, builder.node
        )
        self.acts = StandingActs(
            store.documents, cast("Any", None), DocumentSealer(builder.install), metrics, cast("Any", self), lambda: 1.0
        )
        self.paused: list[str] = []
        self.following: Following = followed(
            self.end,
            store,
            self,
            metrics,
            self.register,
            self.consents,
            self.traffic,
            self.acts,
            cast("Any", self),
            several=True,
            now=0.0,
        )
        self.now = 0.0

    def follow(self, stored: list[Any]) -> None:
        """`ActRoom.follow`."""
        self.paused = [one.target for one in stored]

    def run(self, _name: str, work: Callable[[], Any], then: Callable[[Any, Exception | None], None]) -> None:
        """`daemon.worker.Worker`: done when the test says so."""
        self.jobs.append((work, then))

    def works(self) -> None:
        while self.jobs:
            work, then = self.jobs.popleft()
            try:
                done = work()
            except Exception as error:  # noqa: BLE001  as the worker does
                then(None, error)
            else:
                then(done, None)

    def waits(self) -> None:
        self.now += EVERY
        self.following.tick(self.now)
        self.works()

    def changes(self, *changes: OptOut) -> None:
        """As the relay does, in a batch."""
        batch = self.builder.store.batch
        for one in changes:
            assert self.register.change(one)
            batch.opt_outs.append(one)
            batch.meta.append((OPT_OUTS, self.builder.new_id()))
        self.builder.commit()
        self.register.committed(changes)

    def entry(self, number: bytes = TO, *, stands: bool = True) -> OptOut:
        return self.register.entry("acme", FROM, number, 1, "word stop", stands)

    def stands(self, number: bytes = TO) -> bool:
        return self.register.stands("acme", FROM, number)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node, Wire]]:
    with pair(tmp_path) as both:
        wire = Wire()
        yield Node(both[0], wire), Node(both[1], wire), wire


def test_an_opt_out_at_one_node_counts_at_the_other(nodes: tuple[Node, Node, Wire]) -> None:
    one, two, _ = nodes
    before = two.register.epoch
    one.changes(one.entry())
    two.works()
    assert two.stands() and two.register.epoch > before, "what was asked before is asked again"
    assert all(TO.decode() not in detail for _topic, detail in one.end.told)
    two.changes(two.entry(stands=False))
    one.works()
    assert not one.stands() and not two.stands()


def test_what_was_not_heard_is_found_with_the_next_look(nodes: tuple[Node, Node, Wire]) -> None:
    one, two, wire = nodes
    one.changes(one.entry())
    two.works()
    wire.cut = True
    one.changes(one.entry(stands=False), one.entry(b"447700900124"))
    two.waits()
    assert not two.stands() and two.stands(b"447700900124") and len(two.register) == 1
    with closing(one.builder.place.opt_outs(read_only=False)) as rows:  # a command, where no daemon runs
        rows.write([one.entry(b"447700900125")], [])
    for node in (one, two):
        node.waits()
        assert node.stands(b"447700900125")


def test_a_command_tells_the_daemons(nodes: tuple[Node, Node, Wire]) -> None:
    place = nodes[0].builder.place
    with closing(Connection(cast("Any", place)._server)) as db:
        db.run(f"LISTEN {CHANNEL}")
        place.tell("opt-outs")
        note = next(db._db.notifies(timeout=10, stop_after=1))
    told = read(note.payload)
    assert told is not None and (told.node, told.topic, told.detail) == (None, "opt-outs", "")


def test_more_than_can_be_told_is_looked_for(nodes: tuple[Node, Node, Wire]) -> None:
    one, two, _ = nodes
    one.changes(*[one.entry(b"4477009%05d" % n) for n in range(KEYS + 1)])
    two.works()
    assert len(two.register) == KEYS + 1 and one.end.told[-1] == ("opt-outs", "")


def test_what_changes_during_a_look_is_kept(nodes: tuple[Node, Node, Wire]) -> None:
    one, two, wire = nodes
    one.changes(one.entry(), one.entry(b"447700900124"))
    two.works()
    wire.cut = True
    one.changes(one.entry(b"447700900125"))
    two.following.tick(EVERY)
    work, then = next(job for job in two.jobs if "OptOuts" in repr(job[0]))
    done = work()
    mine = two.entry(b"447700900126")
    assert two.register.change(mine)  # in a batch that is not durable yet
    two.changes(two.entry(stands=False))
    then(done, None)
    assert [two.stands(number) for number in (TO, b"447700900124", b"447700900125", b"447700900126")] == [
        False,
        True,
        True,
        True,
    ]
    two.register.refused([mine])
    assert not two.stands(b"447700900126")


def row(number: int, account: str = "acme", withdrawn: int = 0) -> ConsentRow:
    one = number.to_bytes(16, "big")
    return ConsentRow(one, account, one, b"a scope of theirs"[:16], withdrawn, FOREVER, b"sealed %d" % number)


def test_consents_follow(nodes: tuple[Node, Node, Wire]) -> None:
    one, two, wire = nodes
    for node in (one, two):
        node.consents.load(())
    with closing(one.builder.place.consents()) as rows:
        rows.add([row(1), row(2)])
        one.consents.add([each for _number, each in rows.standing(0, 10)])
        two.works()
        assert len(two.consents) == len(one.consents) == 2
        wire.cut = True
        before = two.consents.epoch
        stored = rows.of([row(1).subject])[0]
        assert rows.withdraw([(stored, stored._replace(withdrawn=5))])
        two.waits()
        assert len(two.consents) == 1 and two.consents.epoch > before
        assert len(list(load(rows))) == 1


def test_who_is_suspended_at_one_node_is_at_the_other(nodes: tuple[Node, Node, Wire]) -> None:
    one, two, wire = nodes
    made = Suspension("acme", 1.0, "ada", "a test")
    sealer = DocumentSealer(one.builder.install)
    with closing(one.builder.place.documents()) as documents:
        documents.put(KIND, {"acme": sealer.seal(KIND, "acme", made.as_dict())})
        assert one.traffic.requests()["suspensions read"]({}, 0) == {"suspended": ["acme"]}
        two.works()
        assert [each.account for each in two.traffic.suspensions.suspended()] == ["acme"]
        wire.cut = True
        documents.remove(KIND, "acme")
        two.waits()
        assert not two.traffic.suspensions.suspended()
        documents.put(KIND, {"acme": sealer.seal(KIND, "acme", made.as_dict())})
        two.following.tick(two.now + EVERY)
        job = next(job for job in two.jobs if "Suspensions" in repr(job[0]))
        done = job[0]()
        two.traffic.suspensions.suspend(made._replace(account="other"))
        documents.put(KIND, {"other": sealer.seal(KIND, "other", made._replace(account="other").as_dict())})
        job[1](done, None)
        two.works()
        assert [each.account for each in two.traffic.suspensions.suspended()] == ["acme", "other"]


def test_what_cannot_be_read_is_told_and_read_later(
    nodes: tuple[Node, Node, Wire], caplog: pytest.LogCaptureFixture
) -> None:
    one, two, wire = nodes
    one.builder.house.edit("ALTER TABLE documents RENAME TO gone")
    two.waits()
    assert [record.message for record in caplog.records] == ["cannot look at what other nodes have changed"] * 2
    one.builder.house.edit("ALTER TABLE gone RENAME TO documents")
    wire.cut = True
    one.changes(one.entry())
    two.waits()
    assert two.stands() and len(caplog.records) == 2
