"""What is caught at an item: what becomes of it, what its peer hears, and that housekeeping goes on."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from smppd.message import FINAL_STATES, State
from smppd.protocol.wire import Command, Status, pdu
from smppd.relay import restore, spill
from smppd.relay.accept.answers import Answers
from smppd.relay.accept.parts import HeldParts
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.gauges import Gauges
from smppd.relay.guard import Guard
from smppd.relay.ledger import ledger
from smppd.relay.operations import Operations
from smppd.relay.receipts import receipts
from smppd.relay.receipts.parking import Parking
from smppd.relay.receipts.receipts import Receipts
from smppd.relay.record import Recorder
from smppd.relay.relay import Relay
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.lanes import Lanes
from smppd.relay.send.overdue import Overdue
from smppd.relay.send.rerouting import Rerouting
from smppd.relay.send.unanswered import Unanswered
from smppd.store.api import Fault, Kind
from tests.relay.accept.test_desk import multi
from tests.relay.fakes import HASH, World, receipt, settings
from tests.relay.test_guard_lives import LATER, TEXTS, Poison, everything_even, places, whole_life
from tests.relay.test_operations import cancel, query

pytestmark = pytest.mark.interpreted("methods of compiled classes cannot be exchanged")


def test_a_submit_that_cannot_be_handled_is_answered_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    Poison(monkeypatch).put(Dispatch, "admit_message", "after")
    acme, a = world.customer(), world.carrier()
    first, bad, last = acme.submits(*TEXTS)
    world.commits()
    assert sorted((number, status) for number, status, _ in acme.answered()) == [
        (first, 0),
        (bad, Status.RSYSERR),
        (last, 0),
    ]
    assert a.texts() == [b"one", b"two"] and places(world) == {"submit": 1}
    everything_even(world)
    world.restarts()
    assert world.living == 2, "it is not there after a restart either"


def test_one_destination_of_many_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    Poison(monkeypatch).put(Recorder, "record")
    acme, a = world.customer(), world.carrier()
    acme.sends(multi(b"447700900101", b"447700900102", text=b"bad"))
    acme.sends(multi(b"447700900101", b"447700900102", text=b"fine"))
    world.commits()
    assert acme.statuses() == [Status.RSYSERR, 0]
    assert a.texts() == [b"fine", b"fine"]
    everything_even(world)


def test_an_enquiry_that_cannot_be_handled_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    acme = world.customer()
    monkeypatch.setattr(Operations, "_living", lambda *_: 1 / 0)
    acme.sends(query(b"0123456789abcdef"))
    monkeypatch.undo()
    acme.sends(query(b"0123456789abcdef"))
    assert acme.statuses() == [Status.RSYSERR, Status.RINVMSGID]
    assert places(world) == {"enquiry": 1}


def test_a_carrier_s_receipt_that_cannot_be_handled_is_kept_and_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    Poison(monkeypatch).put(Receipts, "_receipt", "after")
    world.customer()
    a = world.carrier()
    a.reports(b"id-bad")
    assert a.acknowledged() == [], "not before it is durable"
    world.commits()
    assert a.acknowledged() == [0]
    (item,) = world.store.aside
    assert (item.kind, item.owner, item.place, item.reason) == ("frame", "a", "deliver", "ValueError")
    assert b"id-bad" in item.data


def test_a_receipt_that_cannot_be_passed_on_is_told_in_our_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    Poison(monkeypatch).put(receipts, "rewritten_receipt")
    acme, a = world.customer(), world.carrier()
    acme.submits(b"bad")
    world.commits()
    (one,) = acme.ids()
    a.answers(b"id-bad")
    a.reports(b"id-bad")
    world.commits()
    assert a.acknowledged() == [0]
    assert acme.receipts() == [(one, "DELIVRD")]
    assert [item.place for item in world.store.aside] == ["receipt"]
    world.commits()
    everything_even(world)


def test_what_cannot_be_mended_is_kept_and_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(receipts, "mend_delivered", lambda *_: 1 / 0)
    acme, a = world.customer(), world.carrier()
    acme.submits(b"one")
    world.commits()
    a.answers(b"id-one")
    a.delivers(pdu(Command.DELIVER_SM, 0, 0, b"x" * 9), receipt(b"id-one"))
    world.commits()
    assert a.acknowledged() == [0, 0] and len(acme.receipts()) == 1
    assert [(item.kind, item.place) for item in world.store.aside] == [("frame", "deliver")]
    everything_even(world)


def test_tidying_goes_on_beside_what_cannot_be_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    acme = world.customer()
    ids = whole_life(world, acme, TEXTS)
    Poison(monkeypatch).put(ledger, "_entry")
    told: list[bool] = []
    world.store.tidy(told.append)
    world.passes(3)
    assert told == [True]
    assert [(item.kind, item.place) for item in world.store.aside] == [("message", "spill")]
    assert world.states(ids[b"bad"])[-1] in FINAL_STATES
    a = world.carrier()
    world.commits()
    assert a.texts() == [b"one", b"two"]
    everything_even(world)


def test_memory_is_lightened_beside_a_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    ids = whole_life(world, acme, TEXTS)
    while a.waiting:
        a.answers(b"id-" + a.waiting[0].short_message)
    world.commits()
    Poison(monkeypatch).put(spill, "write_message")
    world.relay.context.hot_octets = 1
    world.passes(3)
    assert len(world.store.cold) == 2 and len(world.store.aside) == 1
    world.relay.context.hot_octets = 1 << 30
    a.reports(b"id-one", b"id-two")
    world.commits()
    assert {(ids[b"one"], "DELIVRD"), (ids[b"two"], "DELIVRD")} <= set(acme.receipts())
    everything_even(world)


def test_waiting_ones_end_beside_a_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(settings(acme={"expire_after": "1m"}))
    acme = world.customer()
    ids = whole_life(world, acme, TEXTS)
    Poison(monkeypatch).put(Dispatch, "end_message")
    world.passes(70)
    assert {ids[b"one"], ids[b"two"]} <= {shown for shown, stat in acme.receipts() if stat == "EXPIRED"}
    assert [(item.kind, item.place) for item in world.store.aside] == [("message", "sweep")]
    assert world.living == 0 or not world.relay.context.ledger.get(int(ids[b"bad"], 16))
    everything_even(world)


def test_who_waits_for_a_word_is_told_that_there_is_no_way_beside_a_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(settings(acme={"acknowledge": "upstream"}))
    acme, a = world.customer(), world.carrier(window=1)
    acme.submits(b"zero", *TEXTS)
    world.commits()
    assert a.texts() == [b"zero"]
    Poison(monkeypatch).put(Dispatch, "end_message")
    a.cut()
    world.passes(2)
    assert acme.statuses() == [Status.RMSGQFUL] * 3
    assert [(item.kind, item.place) for item in world.store.aside] == [("message", "sweep")]
    everything_even(world)


def test_a_cancel_by_addresses_goes_on_behind_a_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    acme = world.customer()
    ids = whole_life(world, acme, TEXTS)
    Poison(monkeypatch).put(Dispatch, "end_message")
    acme.sends(cancel(b""))
    world.commits()
    world.passes(2)
    assert acme.statuses() == [0]
    assert {text: world.states(ids[text])[-1] for text in TEXTS if text != b"bad"} == {
        b"one": State.DELETED,
        b"two": State.DELETED,
    }
    assert len(world.store.aside) == 1
    everything_even(world)


def test_what_is_done_later_is_guarded() -> None:
    world = World()
    done: list[str] = []
    world.relay.context.later(1.0, lambda: 1 / 0)  # type: ignore[arg-type]
    world.relay.context.later(1.0, lambda: done.append("it"))
    world.passes(2)
    assert done == ["it"] and places(world) == {"timer": 1} and world.broken == []


def test_an_account_that_waits_for_the_carrier_s_word_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(settings(acme={"acknowledge": "upstream"}))
    Poison(monkeypatch).put(Dispatch, "carrier_took", "before")
    acme, a = world.customer(), world.carrier()
    first, bad, last = acme.submits(*TEXTS)
    world.commits()
    a.answers(b"id-one", b"id-bad", b"id-two")
    world.commits()
    assert [(number, status) for number, status, _ in acme.answered()] == [(first, 0), (bad, Status.RSYSERR), (last, 0)]
    assert acme.session.unanswered == 0, "its window is free again"
    everything_even(world)


def test_a_full_disk_with_a_bad_one_among_the_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    for where, name in ((Answers, "answer_message"), (Dispatch, "batch_refused")):
        world = World()
        poison = Poison(monkeypatch)
        poison.put(where, name)
        acme = world.customer()
        acme.submits(*TEXTS)
        world.fills()
        monkeypatch.undo()
        assert len(acme.statuses()) == (3 if name == "batch_refused" else 2)
        world.frees()
        world.passes(15)
        ids = whole_life(world, acme, LATER)
        assert len(ids) == 2
        everything_even(world)


def test_expiry_goes_on_behind_a_row_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(settings(hot=1, acme={"expire_after": "1m"}))
    acme = world.customer()
    ids = whole_life(world, acme, TEXTS)
    assert len(world.store.cold) == 2
    Poison(monkeypatch).put(restore, "restored_message")
    world.passes(90)
    states = {text: world.states(ids[text])[-1] for text in TEXTS}
    assert acme.receipts() and set(states) == set(TEXTS)
    assert world.store.cold == {} and len(world.store.aside) == 1
    everything_even(world)


def test_late_mail_and_messages_expire_beside_bad_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    ids = whole_life(world, acme, TEXTS)
    while a.waiting:
        a.answers(b"id-" + a.waiting[0].short_message)
    world.commits()
    world.spills()
    Poison(monkeypatch).put(Receipts, "_overdue")
    world.passes(200 * 3600, step=3600)
    assert {shown for shown, stat in acme.receipts() if stat == "UNKNOWN"} == {ids[b"one"], ids[b"two"], ids[b"bad"]}
    assert world.store.cold == {}
    everything_even(world)


def test_unknown_ones_are_settled_beside_a_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(settings(acme={"unknown_after": "5s"}))
    acme, a = world.customer(), world.carrier()
    whole_life(world, acme, TEXTS)
    Poison(monkeypatch).put(Unanswered, "_settle")
    a.cut()
    world.carrier()
    world.passes(10)
    assert world.links[-1].texts() == [b"one", b"two"]
    everything_even(world)


def noted(where: list[Any], what: Any, result: Any) -> Any:
    """Notes a call, and gives its result."""
    where.append(what)
    return result


CHORES: list[tuple[str, Any, str]] = [
    ("spill", Relay, "_spill"),
    ("early receipts", Receipts, "settle_early"),
    ("rerouting", Rerouting, "sweep"),
    ("rerouting", Rerouting, "reroute_some"),
    ("messages", Dispatch, "sweep"),
    ("validity", Overdue, "end_expired"),
    ("held parts", HeldParts, "sweep"),
    ("mail", Mailroom, "sweep"),
    ("parked receipts", Parking, "sweep"),
    ("policies", Relay, "_policies"),
    ("expiry", Relay, "_expire"),
    ("gauges", Gauges, "note_oldest_released"),
    ("telling", Relay, "_write_log"),
]


@pytest.mark.parametrize(("chore", "where", "name"), CHORES, ids=[f"{chore}-{name}" for chore, _, name in CHORES])
def test_a_chore_that_fails_stops_no_other(
    chore: str, where: Any, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    called: list[str] = []
    for other, there, method in CHORES:
        if (there, method) != (where, name):
            original = getattr(there, method)
            monkeypatch.setattr(
                there, method, lambda *given, _o=original, _n=f"{other} {method}": noted(called, _n, _o(*given))
            )
    monkeypatch.setattr(where, name, lambda *_: 1 / 0)
    acme, a = world.customer(), world.carrier()
    with caplog.at_level(logging.ERROR, "smppd.relay"):
        acme.submits(b"x")
        for _ in range(60):
            world.passes(0.5, step=0.5, commit=False)
            world.store.commit()
            world.store.answer()
    within = {"held parts", "validity"} if where is Dispatch else set()  # these are chores of its own
    assert {
        f"{other} {method}"
        for other, there, method in CHORES
        if (there, method) != (where, name) and other not in within
    } <= set(called)
    assert a.texts() == [b"x"] and world.broken == []
    failed = world.metrics.registry.get_sample_value("smppd_chores_failed_total", {"chore": chore})
    assert failed is not None and failed >= 30
    lines = [record for record in caplog.records if record.getMessage() == "error in housekeeping"]
    assert len(lines) == 1, "once a minute"
    assert lines[0].fields["chore"] == chore  # type: ignore[attr-defined]


def test_what_one_account_or_upstream_raises_in_a_sweep_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(settings(more=[{"system_id": "beta", "password_hash": HASH, "networks": "any"}]))
    acme, beta = world.customer(), world.customer("beta")
    acme.submits(b"one")
    beta.submits(b"two")
    world.commits()
    original = Lanes.choose_upstream

    def place(self: Lanes, lane: Any, now: float) -> Any:
        if lane.account.name == "acme":
            raise RuntimeError("447700900123")
        return original(self, lane, now)

    monkeypatch.setattr(Lanes, "choose_upstream", place)
    a = world.carrier()
    world.passes(3)
    assert a.texts() == [b"two"]
    monkeypatch.undo()
    world.passes(3)
    assert a.texts() == [b"two", b"one"]
    everything_even(world)


def test_what_follows_a_commit_and_a_peer_s_flush_are_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    done: list[str] = []
    world.store.batch.then += [lambda: done.append("first"), lambda: 1 / 0, lambda: done.append("last")]  # type: ignore[list-item]
    broken, fine = world.customer(), world.customer()
    monkeypatch.setattr(broken, "flush", lambda: 1 / 0)
    broken.session.out.append(b"")
    world.relay.context.dirty[broken] = None
    world.relay.context.dirty[fine] = None
    fine.session.out.append(receipt(b"x"))
    world.commits()
    assert done == ["first", "last"] and len(fine.heard) == 1
    assert world.broken == []


def test_answers_that_wait_for_their_time_are_given_beside_a_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(settings(acme={"throughput": "2/s", "burst": 1}))
    gone, acme = world.customer(), world.customer()
    gone.submits(b"x", b"x", b"x")
    acme.submits(b"x", b"x", b"x")
    world.commits()
    monkeypatch.setattr(gone, "session", None)
    world.passes(2, step=0.1)
    assert len(acme.statuses()) == 3


def test_a_fault_of_the_store_is_no_item_s(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    Poison(monkeypatch).put(Recorder, "record", error=Fault)
    acme = world.customer()
    with pytest.raises(Fault):
        acme.submits(b"bad")
    assert places(world) == {}


def test_a_damaged_row_is_counted_no_longer_and_its_record_says_so() -> None:
    world = World(settings(hot=1))
    acme = world.customer()
    ids = whole_life(world, acme, TEXTS)
    row = next(row for row in world.store.cold.values() if b"bad" in row.data)
    del world.store.cold[row.kind, row.owner, row.key, row.id]
    world.relay.withdrawal.row_damaged(Kind(row.kind), row.owner, row.id)
    world.commits()
    world.check()
    assert world.states(ids[b"bad"])[-1] in FINAL_STATES


def test_what_is_kept_lives_no_longer_than_its_account_allows() -> None:
    more = [
        {"system_id": name, "password_hash": HASH, "networks": "any", **extra}
        for name, extra in (
            ("beta", {"retain": "2h"}),
            ("gamma", {"content": "hide", "retain": "400d"}),
            ("delta", {"basis": "contract"}),
        )
    ]
    world = World(settings(more=more))
    guard: Guard = world.relay.context.guard
    assert guard.lifetime("beta\na,b") == 2 * 3600
    assert guard.lifetime("gamma") == 72 * 3600
    assert guard.lifetime("delta") == 30 * 86400
    assert guard.lifetime("acme") == 86400, "no basis is named"
    assert guard.lifetime("a") == guard.lifetime("") == 2 * 3600, "the strictest, where nobody can tell whose it is"


def test_counts_stand_whatever_a_peer_provokes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    Poison(monkeypatch).put(Receipts, "_receipt")
    a = world.carrier()
    for _ in range(30):
        a.reports(*[b"id-bad"] * 50)
        world.commits()
        world.check()
        world.passes(1)
    world.check()
