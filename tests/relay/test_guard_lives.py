"""One bad item stops nothing but itself: every seam that an item passes is made to raise for one of three messages, before
it did its work and after, and the other two, and those that come later, live their lives to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smppd.message import FINAL_STATES
from smppd.protocol.session import Session
from smppd.protocol.wire import Sm, Status
from smppd.relay import recovery, restore, spill
from smppd.relay.accept import desk
from smppd.relay.accept.routing import Routes
from smppd.relay.context import Context
from smppd.relay.deliver import mailroom
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.guard import PLACES
from smppd.relay.ledger import ledger
from smppd.relay.ledger.joined import Joined
from smppd.relay.ledger.ledger import Ledger
from smppd.relay.ledger.payload import StoredMessage
from smppd.relay.receipts import parking, receipts
from smppd.relay.receipts.parking import Parking
from smppd.relay.receipts.receipts import Receipts
from smppd.relay.record import Recorder
from smppd.relay.recovery import Recovery
from smppd.relay.send import dispatch
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.lanes import Lanes
from smppd.relay.send.unanswered import Unanswered
from smppd.relay.spill import Spill
from smppd.relay.state.model import Early, Lane, Mail, Message, Parked, UpstreamState
from smppd.relay.state.phases import Phases
from smppd.store.api import ColdRow
from tests.relay.fakes import FakeCustomer, World, settings

pytestmark = pytest.mark.interpreted("methods of compiled classes cannot be exchanged")

TEXTS = (b"one", b"bad", b"two")
LATER = (b"three", b"four")


class Poison:
    """Makes a function raise whenever it is given the bad message, or anything that was made of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._ids: set[int] = set()
        self.hits = 0
        admit = Dispatch.admit_message

        def admitted(this: Dispatch, message: Message, *arguments: Any, **named: Any) -> None:
            self.is_bad(message)  # so that it is known by its id from here on
            admit(this, message, *arguments, **named)

        monkeypatch.setattr(Dispatch, "admit_message", admitted)

    def put(self, where: Any, name: str, when: str = "before", error: type[Exception] = ValueError) -> None:
        original = getattr(where, name)

        def poisoned(*arguments: Any, **named: Any) -> Any:
            bad = any(self.is_bad(one) for one in (*arguments, *named.values()))
            result = None if bad and when == "before" else original(*arguments, **named)
            if bad:
                self.hits += 1
                raise error("447700900123 said something")
            return result

        self._monkeypatch.setattr(where, name, poisoned)

    def is_bad(self, thing: Any) -> bool:
        if isinstance(thing, Message):
            if b"bad" in thing.frame:
                self._ids.add(thing.id)
            return thing.id in self._ids
        if isinstance(thing, StoredMessage):
            return b"bad" in thing.frame or thing.id in self._ids
        if isinstance(thing, Mail):
            return thing.about in self._ids
        if isinstance(thing, Sm):
            return b"bad" in thing.raw
        if isinstance(thing, (Parked, Early)):
            return b"bad" in (thing.frame if isinstance(thing, Parked) else thing.sm.raw)
        if isinstance(thing, ColdRow):
            return b"bad" in thing.data or thing.id in self._ids
        if isinstance(thing, bytes):
            return b"bad" in thing or any(thing == b"%016x" % one or one.to_bytes(8) in thing for one in self._ids)
        if isinstance(thing, list):
            return len(thing) == 1 and self.is_bad(thing[0])
        if isinstance(thing, int):
            return thing in self._ids
        return False


def everything_even(world: World) -> None:
    """Counts are made anew within ten seconds."""
    world.passes(12)
    world.check()
    assert world.broken == []


def whole_life(world: World, customer: FakeCustomer, texts: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """Submits texts, and plays the carrier for all that leave: text -> our id of those that were accepted."""
    accepted: dict[bytes, bytes] = {}
    for text in texts:
        customer.submits(text)
        world.commits()
        for _, status, body in customer.answered():
            if status == 0:
                accepted[text] = body
    return accepted


def carry(world: World, rounds: int = 6) -> None:
    """A carrier takes what there is under `id-TEXT` and reports on it."""
    (link,) = [one for one in world.links if not one.gone]
    for _ in range(rounds):
        world.commits()
        names = []
        while link.waiting:
            name = b"id-" + link.waiting[0].short_message
            names.append(name)
            link.answers(name)
        world.commits()
        if names:
            link.reports(*names)
        world.passes(1)


def played(world: World) -> None:
    """The usual way: everything stays in memory."""
    acme = world.customer()
    world.carrier()
    ids = whole_life(world, acme, TEXTS)
    carry(world)
    finished(world, acme, ids)


def played_with_rows(world: World) -> None:
    """Nobody takes messages for a while: most lie on disk."""
    acme = world.customer()
    ids = whole_life(world, acme, TEXTS)
    world.carrier()
    carry(world)
    finished(world, acme, ids)


def played_after_spilling(world: World) -> None:
    """Receipts come so late that their messages are rows."""
    acme, a = world.customer(), world.carrier()
    ids = whole_life(world, acme, TEXTS)
    while a.waiting:
        a.answers(b"id-" + a.waiting[0].short_message)
    world.commits()
    world.spills()
    a.reports(*[b"id-" + text for text in TEXTS])
    world.commits()
    world.passes(3)
    finished(world, acme, ids)


def played_over_restarts(world: World) -> None:
    """The process ends after each step."""
    ids = whole_life(world, world.customer(), TEXTS)
    world.restarts()
    a = world.carrier()
    world.commits()
    while a.waiting:
        a.answers(b"id-" + a.waiting[0].short_message)
    world.commits()
    world.restarts()
    world.carrier().reports(*[b"id-" + text for text in TEXTS])
    world.commits()
    world.restarts()
    world.carrier()
    finished(world, world.customer(), ids)


def played_away(world: World) -> None:
    """The customer is not there when the receipts come, and they are spilled."""
    acme = world.customer()
    world.carrier()
    ids = whole_life(world, acme, TEXTS)
    acme.leaves()
    carry(world)
    world.spills()
    world.restarts()
    world.carrier()
    finished(world, world.customer(), ids)


def played_early(world: World) -> None:
    """Receipts come before the answers that name their messages, and a restart falls between."""
    acme, a = world.customer(), world.carrier()
    ids = whole_life(world, acme, TEXTS)
    for text in TEXTS:
        a.reports(b"id-" + text)
        world.commits()
    a.answers(b"id-one")
    world.commits()
    got = acme.receipts()
    world.restarts()
    acme, a = world.customer(), world.carrier()
    world.passes(70)
    carry(world)
    finished(world, acme, ids, got)


def played_late(world: World) -> None:
    """The carrier answers after its time, and says "later" to what comes again."""
    acme, a = world.customer(), world.carrier()
    ids = whole_life(world, acme, TEXTS)
    late, a.waiting = a.waiting, []
    world.passes(40)
    a.silent()
    world.passes(1)
    for sm in late:
        a.answers_late(sm, b"id-" + sm.short_message)
    world.commits()
    a.reports(*[b"id-" + text for text in TEXTS])
    world.commits()
    finished(world, acme, ids)


def played_throttled(world: World) -> None:
    """The carrier says "later" first."""
    acme, a = world.customer(), world.carrier()
    ids = whole_life(world, acme, TEXTS)
    a.answers(*[b""] * len(a.waiting), status=Status.RTHROTTLED)
    world.passes(20)
    carry(world)
    finished(world, acme, ids)


def finished(
    world: World, customer: FakeCustomer, ids: dict[bytes, bytes], before: list[tuple[bytes, str]] | None = None
) -> None:
    """All good messages were delivered and told of, the bad one has an end that can be seen, and later ones live."""
    got = list(before or ())
    for _ in range(4):
        got += customer.receipts()
        world.commits()
        world.passes(1)
    for text in TEXTS:
        if text != b"bad":
            assert (ids[text], "DELIVRD") in got, (text, got)
    everything_even(world)
    assert all(customer.statuses() == [] for _ in range(1))
    # Without a way to write events there is nothing to be seen.
    if b"bad" in ids and not getattr(world, "mute", False) and not any(shown == ids[b"bad"] for shown, _ in got):
        states = world.states(ids[b"bad"])
        living = world.relay.context.ledger.get(int(ids[b"bad"], 16))
        rows = {row.id for row in world.store.cold.values()}
        assert set(states) & FINAL_STATES or living is not None or int(ids[b"bad"], 16) in rows, states
    assert set(whole_life(world, customer, LATER)) == set(LATER)
    carry(world)
    assert len([stat for _, stat in customer.receipts() if stat == "DELIVRD"]) == len(LATER)
    everything_even(world)


USUAL: list[tuple[Any, str]] = [
    (Recorder, "record"),
    (Routes, "route"),
    (Dispatch, "admit_message"),
    (ledger, "_entry"),
    (desk, "id_response"),
    (Dispatch, "_released"),
    (Lane, "overtaken_by"),
    (dispatch, "outgoing_frame"),
    (Dispatch, "carrier_took"),
    (Receipts, "_receipt"),
    (Receipts, "_one"),
    (Receipts, "_settle"),
    (receipts, "read_receipt"),
    (receipts, "reported_state"),
    (receipts, "rewritten_receipt"),
    (UpstreamState, "await_receipt"),
    (Context, "append_event"),
    (Mailroom, "post_mail"),
    (Mailroom, "_end"),
    (Session, "request"),
    (Phases, "move"),
    (Phases, "_enter"),
    (Ledger, "open"),
    (Ledger, "submitted"),
]
ROWS: list[tuple[Any, str]] = [
    (restore, "restored_message"),
    (Lanes, "doubt_restored"),
    (Ledger, "rewrite"),
    (Ledger, "open_row"),
    (Phases, "move"),
    (ledger, "write_message"),
    (ledger, "_entry"),
    (dispatch, "outgoing_frame"),
]
SPILLED: list[tuple[Any, str]] = [
    (Spill, "_to_row"),
    (Spill, "_shelve"),
    (Ledger, "shelve"),
    (spill, "write_message"),
    (restore, "restored_message"),
    (Parking, "park_receipt"),
    (Parking, "_into_memory"),
    (Parking, "_search"),
    (Parking, "_found"),
    (Parking, "message_of_rows"),
    (Parking, "_pass_on"),
    (Parking, "_unpark"),
    (parking, "check_rewritable"),
    (Parking, "_park"),
    (parking, "best_match"),
    (Receipts, "_settle"),
    (receipts, "rewritten_receipt"),
]
STARTS: list[tuple[Any, str]] = [
    (Joined, "_entry"),
    (Joined, "_open"),
    (Joined, "_mark"),
    (Recovery, "_place_one"),
    (Lanes, "place_restored"),
    (recovery, "restored_message"),
    (Phases, "move"),
    (Phases, "_enter"),
    (Phases, "file"),
]
EARLY: list[tuple[Any, str]] = [
    (Receipts, "_receipt"),
    (Receipts, "_put_off"),
    (receipts, "find_message"),
    (Receipts, "_one"),
    (Receipts, "upstream_id_known"),
    (Parking, "park_receipt"),
    (Parking, "restore_parked"),
    (Parking, "upstream_id_known"),
    (Parking, "unknown_message_of"),
    (Parking, "_pass_on"),
    (Parking, "_unpark"),
    (Parking, "_resume"),
    (parking, "find_message"),
    (parking, "believed"),
    (Recovery, "_place_one"),
    (Unanswered, "_settle"),
]
LATE: list[tuple[Any, str]] = [(dispatch, "_decides"), (Dispatch, "carrier_took")]
THROTTLED: list[tuple[Any, str]] = [(Phases, "_enter"), (Dispatch, "_released")]
AWAY: list[tuple[Any, str]] = [
    (mailroom, "restored_mail"),
    (Mailroom, "shelve_mail"),
    (Mailroom, "_end"),
    (ledger, "_entry"),
    (mailroom, "mail_row"),
]


def seams(play: Callable[[World], None], every: list[tuple[Any, str]]) -> list[Any]:
    named = [(where, name, getattr(where, "__name__", "").rpartition(".")[2]) for where, name in every]
    return [
        pytest.param(play, where, name, when, id=f"{play.__name__}-{short}.{name}-{when}")
        for where, name, short in named
        for when in ("before", "after")
    ]


@pytest.mark.parametrize(
    ("play", "where", "name", "when"),
    [
        *seams(played, USUAL),
        *seams(played_with_rows, ROWS),
        *seams(played_after_spilling, SPILLED),
        *seams(played_over_restarts, STARTS),
        *seams(played_away, AWAY),
        *seams(played_early, EARLY),
        *seams(played_late, LATE),
        *seams(played_throttled, THROTTLED),
    ],
)
def test_what_one_message_raises_stops_no_other(
    play: Callable[[World], None], where: Any, name: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = Poison(monkeypatch)
    poison.put(where, name, when)
    world = World(settings(hot=1 if play is played_with_rows else 100_000))
    monkeypatch.setattr(world, "mute", where is Context, raising=False)
    play(world)
    assert poison.hits, "this seam was not passed"
    assert set(places(world)) <= set(PLACES)


def places(world: World) -> dict[str, float]:
    """How many items were set aside, by place."""
    return {
        sample.labels["place"]: sample.value
        for family in world.metrics.registry.collect()
        if family.name == "smppd_items_set_aside"
        for sample in family.samples
        if sample.name.endswith("_total") and sample.value
    }
