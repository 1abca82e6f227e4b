"""Rows of a journal are what a restart would have made of it: both are tried with the same lives of messages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.protocol.wire import Status
from smppd.relay.ledger.payload import StoredMessage, write_message, write_stored
from smppd.relay.state.model import Mail, Message, Parked
from smppd.store.api import Kind
from tests.relay.accept.test_desk import part
from tests.relay.accept.test_parts import RULES
from tests.relay.cluster import Cluster
from tests.relay.fakes import World
from tests.relay.fakes import settings as configuration
from tests.relay.test_limits import ZETA

ACTS = st.lists(
    st.sampled_from(
        ["submits", "part", "a", "b", "cut", "answers", "refuses", "later", "reports", "stranger", "takes", "silent"]
        + ["commits", "passes", "leaves", "spills"]
    ),
    max_size=25,
)


def configured() -> Any:
    return configuration(
        more=[{**ZETA, "on_unknown": "hold"}],
        policies={"p": {"hold_parts": True, "rules": RULES}},
        acme={"policies": ["p"], "expire_after": "1h"},
    )


def lives(world: World, acts: list[str]) -> None:
    """What happens to a node until it dies."""
    links: dict[str, Any] = {}
    binds: dict[str, Any] = {}
    for number, act in enumerate(acts):
        if act == "submits":
            for name in ("acme", "zeta"):
                if name not in binds:
                    binds[name] = world.customer(name)
                binds[name].submits(b"%03d" % number)
        elif act == "part":
            binds.setdefault("acme", None)
            binds["acme"] = binds["acme"] or world.customer()
            binds["acme"].sends(part(b"words", number % 3 + 1, total=4, ref=number % 2))
        elif act in ("a", "b") and act not in links:
            links[act] = world.carrier(act, 3)
        elif act == "cut" and links:
            links.popitem()[1].cut()
        elif act in ("answers", "refuses", "later"):
            status = {"answers": 0, "refuses": Status.RINVDSTADR, "later": Status.RTHROTTLED}[act]
            for link in links.values():
                if link.waiting:
                    link.answers(*([b"id%d" % number] if not status else []), status=status)
        elif act == "reports":
            for name, link in links.items():
                link.reports(*list(world.upstream(name).ids)[:1])
        elif act == "stranger" and links:
            next(iter(links.values())).reports(b"no%d" % number)
        elif act == "takes":
            for bind in binds.values():
                bind.takes(0, 1)
        elif act == "silent":
            world.now += 100
            for link in links.values():
                link.silent()
        elif act == "leaves" and binds:
            binds.popitem()[1].leaves()
        elif act == "commits":
            world.commits()
        elif act == "passes":
            world.passes(70, step=35)
        elif act == "spills":
            world.spills()


KINDS = {
    "QUEUED": (Kind.QUEUE, Kind.INHERITED),  # held until its message was whole
    "SUBMITTED": (Kind.WAITING,),
    "UNKNOWN": (Kind.INHERITED,),
    "HELD": (Kind.INHERITED,),
    "mail": (Kind.MAIL,),
    "parked": (Kind.PARKED,),
}


def standing(world: World) -> dict[int, tuple[object, ...]]:
    """All that lives at a node: what it is, where it stands, and what is known of it."""
    found: dict[int, tuple[object, ...]] = {}
    context = world.relay.context
    for thing in context.ledger.living():
        if isinstance(thing, Message):
            to = thing.upstream.name if thing.upstream is not None else ""
            found[thing.id] = (
                thing.phase.name,
                to,
                thing.upstream_id,
                thing.lane.name,
                thing.duplicate,
                thing.tries,
                thing.on_unknown,
                thing.expires,
                thing.shown,
                thing.reported,
                thing.frame,
                thing.reply_to,
            )
        elif isinstance(thing, Mail):
            found[thing.id] = ("mail", thing.account.name, thing.about, thing.expires, thing.frame)
        elif isinstance(thing, Parked):
            found[thing.id] = ("parked", thing.upstream.name, thing.expires, thing.frame)
    return found


@settings(max_examples=60, deadline=None)
@given(ACTS)
def test_an_heir_stands_where_a_restart_would(acts: list[str]) -> None:
    """The whole life of a node, up to where it dies, is lived twice."""
    alone = World(configured(), seconds=600.0)
    lives(alone, acts)
    blocks = list(alone.store.blocks)
    alone.restarts()
    heir = World(configured(), node=1)
    heir.now, heir.wall = alone.now, alone.wall
    rows = {row.id: row for row in heir.relay.convert(blocks)}
    restored = standing(alone)
    assert set(rows) == set(restored), "each thing, once, and no other"
    for identity, row in rows.items():
        was = restored[identity]
        assert row.kind in KINDS[str(was[0])] and row.shared
        if was[0] in ("mail", "parked"):
            assert row.owner == was[1] and row.expires == was[-2]
    # The same, claimed: messages as rows of their kinds are, in the phases that a restart gives them.
    claimed = [row for row in rows.values() if row.kind in (Kind.QUEUE, Kind.INHERITED)]
    heir.relay.adopting._messages([row._replace(shared=True) for row in claimed])
    adopted = standing(heir)
    for row in claimed:
        assert adopted[row.id] == restored[row.id]
    for row in rows.values():
        if row.kind == Kind.WAITING:
            stored = StoredMessage(row.id, row.data)
            assert (stored.upstream, stored.upstream_id, stored.frame) == (
                row.owner,
                restored[row.id][2],
                restored[row.id][10],
            )


@settings(max_examples=40, deadline=None)
@given(ACTS)
def test_what_was_read_is_written_as_it_was(acts: list[str]) -> None:
    world = World(configured(), seconds=600.0)
    lives(world, acts)
    for thing in world.relay.context.ledger.living():
        if isinstance(thing, Message):
            payload = write_message(thing)
            assert write_stored(StoredMessage(thing.id, payload)) == payload


def test_a_waiting_message_has_the_row_that_spilling_gives_it() -> None:
    cluster = Cluster()
    one, other = cluster.worlds
    acme, link = one.customer(), one.carrier()
    acme.submits(b"x", b"y")
    one.commits()
    link.answers(b"00AB-7", b"447700900123-1")
    one.commits()
    one.passes(1)
    converted = {row.id: row for row in one.relay.convert(list(one.store.blocks))}
    one.spills()
    spilled = {row.id: row for row in one.store.cold.values()}
    assert set(spilled) == set(converted)
    for identity, row in converted.items():
        assert (row.kind, row.owner, row.key, row.data) == spilled[identity][:3] + (spilled[identity].data,)
        assert b"447700900123" not in row.key
        assert abs(row.expires - spilled[identity].expires) < 3600
    assert other.living == 0


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_torn_block_and_an_entry_of_no_kind_become_rows_too(cut: int) -> None:
    world = World()
    world.customer().submits(b"x")
    world.commits()
    place, block = world.store.blocks[0]
    rows = list(world.relay.convert([(place, block[:-cut]), (place, bytes((99, 0, 0, 0, 13)) + bytes(8))]))
    assert sorted(row.owner for row in rows) == ["block", "entry"]
    assert {row.kind for row in rows} == {Kind.INHERITED} and all(0 <= row.id < 1 << 63 for row in rows)
