"""The log of two nodes: rows of one become visible behind rows of the other that have higher ids, and none is missed."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Container, Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from smppd.audit.trail import AuditTrail
from smppd.feed.lines import Cursor, Wanted
from smppd.feed.tail import Tail
from smppd.ids import id_time
from smppd.message import State
from smppd.records.consistency import ANCHORS, anchor_faults, cross_faults
from smppd.records.evidence import write
from smppd.records.extents import Extents
from smppd.records.indexer import Indexer
from smppd.records.listing import Place as ListPlace
from smppd.records.listing import by_time
from smppd.records.log_export import LogExport
from smppd.records.places import Place
from smppd.records.search import by_number
from smppd.records.verify import LogVerdict, verify_log
from smppd.records.vouch import Voucher
from smppd.store.api import StoreError
from smppd.vault.chain import ChainKeys
from tests.records.holding import LIFE, demand, holds, kept, purge, purger
from tests.store.builder import DAY
from tests.store.pairs import NodeBuilder, pair

SUBJECT = b"447700900999"
Pair = tuple[NodeBuilder, NodeBuilder]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Pair]:
    with pair(tmp_path) as both:
        yield both


def record(node: NodeBuilder, destination: bytes = SUBJECT) -> int:
    """Each node has an account of its own here, so that no two make the same key."""
    return node.record(destination=destination, account=f"account{node.node}")


def index(node: NodeBuilder, run: int = 1) -> None:
    with closing(node.place.index()) as rows:
        indexer = Indexer(rows, id_time, run=run, fan=2)
        while indexer.step():
            pass


def found(node: NodeBuilder) -> list[int]:
    with node.reader() as reader:
        return [one.record.header.record_id for one in by_number(reader, [SUBJECT])]


def test_a_row_that_comes_late_is_indexed_too(nodes: Pair) -> None:
    one, two = nodes
    late = record(one)
    one.now = two.now = one.now + 5.0
    early = record(two)
    two.commit()
    index(two)
    assert found(one) == [early]
    one.commit()
    with closing(one.place.records()) as records:
        assert records.indexed() < late < max(records.covered().values()), "what came late is not covered"
    assert found(two) == [early, late]
    index(one)
    assert found(two) == [early, late]
    with closing(one.place.records()) as records:
        assert set(records.covered()) == {1, 2} and records.packed_beyond(records.covered(), 9) == []


def test_whoever_indexes_beside_another_is_told(nodes: Pair) -> None:
    one, two = nodes
    with closing(one.place.index()) as ours, closing(two.place.index()) as theirs:
        mine, other = Indexer(ours, id_time, run=2), Indexer(theirs, id_time, run=2)
        for node in nodes:
            record(node)
            node.commit()
        assert mine.step() and other.step() and mine.step()
        with pytest.raises(StoreError, match="another process"):
            other.step()
    assert len(found(one)) == 2


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_missed_in_any_order(nodes: Pair, seed: int) -> None:
    """Batches are begun, committed and indexed in any order, with clocks that are apart."""
    random = Random(seed)
    nodes[1].behind = random.choice((-3.0, 0.0, 3.0))
    waiting: dict[int, list[tuple[int, bool]]] = {1: [], 2: []}
    there: dict[int, bool] = {}
    rows = nodes[0].place.index()
    indexer = Indexer(rows, id_time, run=4, fan=3)
    for _ in range(80):
        for node in nodes:
            node.now += random.random() * 2
        node = random.choice(nodes)
        what = random.random()
        if what < 0.5:
            theirs = random.random() < 0.6
            waiting[node.node].append((record(node, SUBJECT if theirs else b"447700900111"), theirs))
        elif what < 0.8 and waiting[node.node]:
            node.commit()
            there.update(waiting[node.node])
            waiting[node.node].clear()
        else:
            indexer.step()
        if random.random() < 0.2:
            assert found(nodes[0]) == sorted((one for one, theirs in there.items() if theirs), reverse=True)
    with nodes[1].reader() as reader:
        page = by_time(reader, 0.0, float("inf"), None, ListPlace(), 1000, 1000)
        assert {one.record.header.record_id for one in page.found} == set(there)
    every = [row[0] for row in nodes[0].house.ask("SELECT seq FROM log")]
    extents = Extents(rows, id_time).all()
    assert all(any(one.first <= seq <= one.last for one in extents) for seq in every)
    rows.close()


def test_the_life_of_a_message_that_another_node_went_on_with(nodes: Pair) -> None:
    """Accepted by node 1, and delivered by node 2, whose clock is behind; looked up by one that reads all the time."""
    one, two = nodes
    two.behind = 7.0
    identity = record(one)
    one.commit()
    with one.reader() as reader:
        assert reader.events(identity) == []
        for node, state in ((one, State.SUBMITTED), (two, State.RESENT), (two, State.DELIVERED)):
            node.now += 1.0
            other = two if node is one else one
            other.now = node.now
            node.event(identity, state)
            node.commit()
            assert reader.events(identity)[-1].state == state
        wanted = [State.SUBMITTED, State.RESENT, State.DELIVERED]
        assert [event.state for event in reader.events(identity)] == wanted
        for at in range(3):
            for node in nodes:
                record(node)
                node.commit()
            index(one, run=2 + at)
            assert [event.state for event in reader.events(identity)] == wanted
    assert all(found(node) == sorted(found(node), reverse=True) for node in nodes)


def test_the_front_of_the_log_goes_up_to_the_newest_row_of_each_node(nodes: Pair) -> None:
    """So a node that was away for years goes on with its chain; and what came late with a clock far behind is not lost."""
    one, two = nodes
    events: dict[int, list[int]] = {1: [], 2: []}
    for _ in range(3):
        for node in nodes:
            node.now += 60.0
            node.event(7, State.SUBMITTED)
            node.store.batch.seq = node.new_id()
            events[node.node].append(node.store.batch.seq)
            node.commit()
    kept = record(one)
    one.commit()
    with closing(one.place.purge()) as purge:
        front = purge.front(10)
        assert [row[0] for row in front[:-1]] == sorted(events[1] + events[2][:-1]), (
            "the end of node 2 holds nothing up"
        )
        last, link, _size = front[-2]
        two.behind = 1000.0
        two._id = 2 << 16
        late = record(two)
        two.commit()
        assert purge.trim((last, link), last, 0, 10) == 0, "there is something in the way by now"
        assert [row[0] for row in purge.front(1)] == [one.house.ask("SELECT min(seq) FROM log")[0][0]]
        one.house.edit("DELETE FROM log WHERE node = 2 AND octet_length(records) > 0")
        purge.trim((last, link), last, 0, 10)
    left = {row[0] for row in one.house.ask("SELECT seq FROM log")}
    assert left >= {events[2][-1]} and not left & {*events[1], *events[2][:-1]} and late not in found(two)
    assert found(one) == [kept]
    anchors = dict(one.house.ask("SELECT node, seq FROM anchors"))
    assert anchors == {1: events[1][-1], 2: events[2][-2]}


def test_a_row_is_held_against_the_chain_of_its_own_node(tmp_path: Path) -> None:
    with pair(tmp_path, sealed=True) as nodes:
        for _ in range(3):
            for node in nodes:
                record(node)
                node.commit()
        with closing(nodes[0].place.records()) as records:
            voucher = Voucher(records, ChainKeys(nodes[0].install.audit, nodes[0].install.checkpoint))
            before, chains = None, set()
            for row in records.rows(0, 100):
                voucher.check(row, before)
                before = row
                chains.add(records.chain_of(row.seq))
        assert chains == {1, 2}


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Pair]:
    with pair(tmp_path, sealed=True) as both:
        yield both


def verified(node: NodeBuilder, of: int, erased: Container[int] = frozenset()) -> LogVerdict:
    with closing(node.place.records(of)) as records:
        return verify_log(records, id_time, node.keys.public, None, node.keys, erased)


def test_each_log_is_verified_by_itself(sealed: Pair) -> None:
    one, two = sealed
    for _ in range(3):
        for node in sealed:
            node.now += 60.0
            record(node)
            node.commit()
    two.close()
    for of in (1, 2):
        verdict = verified(one, of)
        assert verdict.ok and verdict.records == 3, verdict.reason
        with closing(one.place.states(of)) as states:
            assert cross_faults(states, one.keys, None) == []
    assert verified(one, 2).clean and not verified(one, 1).clean, "of one that was killed its seals say so"
    assert [(other.number, other.at_work) for other in one.place.others()] == [(2, False)]
    one.house.edit("UPDATE log SET events = 'x' WHERE node = 2 AND seq = (SELECT max(seq) FROM log WHERE node = 2)")
    assert verified(one, 1).ok and not verified(one, 2).ok
    one.house.edit("DELETE FROM seals WHERE node = 2 AND number = (SELECT max(number) FROM seals WHERE node = 2)")
    with closing(one.place.states(2)) as states:
        assert "cut off or put back" in cross_faults(states, one.keys, None)[0]


def test_where_the_logs_begin_after_a_purge_every_machine_can_tell(sealed: Pair, tmp_path: Path) -> None:
    one, two = sealed
    for _ in range(3):
        for node in sealed:
            node.now += 60.0
            record(node)
            node.commit()
    for node in sealed:
        node.now += 40 * DAY
        record(node)
        node.commit()
    with (
        AuditTrail(tmp_path / "one.db", one.install.audit) as trail,
        AuditTrail(tmp_path / "two.db", b"k" * 32) as other,
    ):
        with purger(one, trail, account1=LIFE, account2=LIFE) as work:
            assert work.run(one.now).rows >= 4
        with closing(two.place.purge()) as rows:
            for of in (1, 2):
                verdict = verified(two, of)
                assert verdict.ok and verdict.anchor_row
                known = rows.remembered(f"{ANCHORS} {of}", [])
                assert anchor_faults(verdict, trail) == []
                assert (
                    anchor_faults(verdict, other, two.keys, known)
                    == []
                    == anchor_faults(verdict, None, two.keys, known)
                )
                assert anchor_faults(verdict, other, two.keys, [])
                cut = verdict._replace(anchor_row=verdict.anchor_row + 1)
                assert anchor_faults(cut, None, two.keys, known), "somebody else has cut it off"


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("behind", [-5.0, 5.0])
def test_an_export_of_one_node_has_what_another_tells_of_its_messages(
    sealed: Pair, indexed: bool, behind: float
) -> None:
    one, two = sealed
    two.behind = behind
    ids = []
    for _ in range(3):
        one.now += 1.0
        ids.append(record(one))
        one.event(ids[-1], State.SUBMITTED)
        one.commit()
        two.now = one.now + 0.5
        record(two)
        two.event(ids[-1], State.DELIVERED)
        two.commit()
    if indexed:
        index(one, run=3)
    with one.reader() as reader, closing(one.place.records(1)) as own:
        for stretch in (1, 100):
            made = LogExport(
                own,
                reader.ring,
                reader.held,
                Voucher(own, one.keys),
                lambda _account: True,
                stretch=stretch,
                everywhere=reader.records,
            )
            found = list(made.messages(Place(), 0.0, float("inf")))
            assert [message.record.header.record_id for message in found] == ids and not made.damaged
            assert [message.life.state for message in found] == [State.DELIVERED] * 3
            assert all(message.life.submitted for message in found)


def test_a_feed_tells_what_its_node_wrote_and_no_more(sealed: Pair, tmp_path: Path) -> None:
    _one, two = sealed
    ids = []
    for _ in range(2):
        for node in sealed:
            node.now += 1.0
            ids.append(record(node))
            node.commit()
    two.event(ids[0], State.DELIVERED)
    two.commit()
    told: dict[int, list[tuple[str, str]]] = {}
    for node in sealed:
        with closing(node.place.records(node.node)) as records, AuditTrail(tmp_path / "audit.db", b"k" * 32) as trail:
            page = Tail(records, trail, Wanted()).page(Cursor())
        lines = [json.loads(line.data) for line in page.lines]
        told[node.node] = [(line["event"], line.get("id", "")) for line in lines]
        assert {line["account"] for line in lines} <= {"account1", "account2"}
    accepted = {node: [identity for event, identity in lines if event == "accepted"] for node, lines in told.items()}
    assert accepted == {1: [f"{one:016x}" for one in ids[::2]], 2: [f"{one:016x}" for one in ids[1::2]]}
    assert told[2][-1][1] == f"{ids[0]:016x}", "of another node's message, whose account it knows"


def test_a_hold_keeps_what_both_nodes_have_and_what_came_late(sealed: Pair) -> None:
    one, two = sealed
    late = record(two)
    held = []
    for node in (one, two):
        node.now = two.now + 5.0
        if node is one:
            held.append(record(one))
            one.commit()
    number = demand(one, SUBJECT)
    assert kept(one, number) == 1
    two.commit()
    after = two.record(destination=SUBJECT, account="account2")
    two.commit()
    held += [late, after]
    for node in sealed:
        node.now += 40 * DAY
    retains = {"account1": LIFE, "account2": LIFE}
    assert purge(one, **retains).keys == 4
    assert kept(one, number) == 3, "a hold looks at what is young once more"
    with one.reader() as reader:
        for identity in held:
            found_one = reader.record(identity)
            assert found_one is not None and found_one.record.numbers is not None
        assert found(one) == sorted(held, reverse=True)
        out = Out()
        own = holds(one)
        hold = own.get(number)
        assert hold is not None
        made = write(
            cast("Any", out),
            reader,
            hold,
            own.parts,
            lambda each: {"id": each.record.header.record_id},
            one.keys,
            Ed25519PrivateKey.generate(),
            "fingerprint",
            one.now,
            "test",
        )
        own.close()
    assert not made.faults and made.records == 3
    with tarfile.open(fileobj=BytesIO(out.getvalue())) as bundle:
        files = [bundle.extractfile(name) for name in bundle.getnames() if name.startswith("chain/")]
        chain = [json.loads(line) for file in files if file is not None for line in file.read().splitlines()]
    assert {line["node"] for line in chain} == {1, 2} and all(line["fits"] for line in chain)


class Out(BytesIO):
    """It stays open to be read."""

    def close(self) -> None:
        pass
