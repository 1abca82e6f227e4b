"""What peers can pile up: work per PDU does not grow with it, memory is bounded in octets, nobody waits behind another's pile,
and a refusal is no dearer than the service."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from smppd import native
from smppd.message import State
from smppd.protocol.wire import Command, Fields, Status, address_field, build_sm, pdu
from smppd.relay import answers, brake, enquiries, lanes, mailbox, recent, submit
from smppd.relay.journal import WEIGHT
from tests.relay.fakes import FROM, TO, FakeCustomer, World, settings
from tests.relay.steps import operations
from tests.relay.test_dispatch import numbered
from tests.relay.test_enquiries import asked, cancel, query, replace
from tests.relay.test_submit import HOLD, multi, part

ZETA = {"system_id": "zeta", "password_hash": settings().accounts[0].password_hash, "networks": "any", "window": 1000}
ZETA |= {"throughput": None, "receipts": {"window": 1000}}
OTHER = b"447700900555"


def piled(number: int, **more: Any) -> tuple[World, FakeCustomer, list[bytes]]:
    """A world in which so many messages of acme wait for carriers that are away."""
    world = World(settings(more=[ZETA], **more))
    acme = world.customer()
    ids: list[bytes] = []
    for start in range(0, number, 500):
        acme.submits(*numbered(500, start))
        world.commits()
        ids += acme.ids()
    return world, acme, ids


def cut_late(world: World, _acme: FakeCustomer, _ids: list[bytes]) -> None:
    link = world.carrier(window=10)
    world.commits()
    link.cut()


def later(world: World, _acme: FakeCustomer, _ids: list[bytes]) -> None:
    link = world.carrier(window=10)
    world.commits()
    link.answers(status=Status.RTHROTTLED)


def fails(world: World, acme: FakeCustomer, _ids: list[bytes]) -> None:
    acme.submits(b"one more")
    world.fills()


ACTS: dict[str, Callable[[World, FakeCustomer, list[bytes]], object]] = {
    "submit_sm": lambda w, c, i: (c.submits(b"one more"), w.commits()),
    "query_sm": lambda w, c, i: asked(c, query(i[len(i) // 2])),
    "cancel_sm by id": lambda w, c, i: asked(c, cancel(i[len(i) // 2])),
    "cancel_sm by addresses of none": lambda w, c, i: asked(c, cancel(b"", to=OTHER)),
    "replace_sm": lambda w, c, i: asked(c, replace(i[len(i) // 2], b"new")),
    "a link comes and goes": cut_late,
    "an answer that says later": later,
    "a customer goes": lambda w, c, i: c.leaves(),
    "a tick": lambda w, c, i: w.relay.tick(w.now + 0.1),
    "a sweep": lambda w, c, i: w.relay._sweep(w.now),
    "a scrape": lambda w, c, i: w.relay.gauges(),
    "another's message": lambda w, c, i: (w.customer("zeta").submits(b"hello"), w.commits()),
    "a batch that fails": fails,
}


@pytest.mark.parametrize("act", ACTS)
def test_no_act_costs_more_the_more_waits(act: str) -> None:
    piles = piled(500), piled(4000)
    spent = [operations(partial(ACTS[act], *pile)) for pile in piles]
    assert native.compiled or spent[0] > 0
    assert spent[1] <= spent[0] * 1.2 + 300, f"{act}: {spent[0]} operations with 500 waiting, {spent[1]} with 4,000"


def test_cancel_by_addresses_of_all_goes_in_steps_and_is_answered_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enquiries, "STEP", 50)
    world, acme, ids = piled(1000)
    acme.submits(b"to another", to=OTHER)
    world.commits()
    acme.ids()
    acme.sends(cancel(b""))
    assert world.relay.enquiries.looked == 50 and acme.statuses() == [] and world.account().queued == 951
    (second,) = acme.sends(cancel(b"", to=OTHER))
    assert world.relay.enquiries.looked == 50, "one after the other"
    world.passes(0.2, step=0.01)
    answers_ = acme.answered()
    assert [status for _, status, _ in answers_] == [0, 0] and answers_[1][0] == second
    assert world.relay.enquiries.looked == 1001 and world.account().queued == 0
    world.commits()
    assert {name for name, stat in acme.receipts() if stat == "DELETED"} >= set(ids)
    world.check()


def test_cancel_in_steps_goes_on_beside_what_is_sent_and_when_its_customer_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enquiries, "STEP", 100)
    world, acme, _ = piled(1000)
    acme.sends(cancel(b""))
    a = world.carrier(window=50)
    acme.leaves()
    for _ in range(30):
        world.passes(0.01, step=0.01)
    world.check()
    assert world.account().queued == len(a.waiting) + len(world.upstream("a").ready)
    assert len(world.relay.enquiries._cancelling) == 0


def test_cancel_by_service_type_looks_only_at_that_pair_of_addresses() -> None:
    world, acme, _ = piled(500)
    frame = build_sm(
        Command.SUBMIT_SM, 0, FROM, address_field(1, 1, TO), b"typed", Fields(service_type=b"CMT", registered=1)
    )
    acme.sends(frame)
    world.commits()
    (one,) = acme.ids()
    wanted = pdu(Command.CANCEL_SM, 0, 0, b"CMT\0\0" + FROM + b"\1\1" + TO + b"\0")
    acme.sends(wanted)
    world.passes(0.5, step=0.01)
    assert acme.statuses() == [0] and world.account().queued == 500
    world.commits()
    assert acme.receipts() == [(one, "DELETED")]
    world.check()


# -- the end of validity -------------------------------------------------------------------------------------------------


def test_many_that_end_at_once_end_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smppd.relay.overdue.STEP", 100)
    world = World(settings(acme={"expire_after": "60s"}))
    acme = world.customer()
    acme.submits(*numbered(1000))
    world.commits()
    acme.ids()
    world.now += 61
    world.wall += 61
    world.relay._sweep(world.now)
    assert world.account().queued == 900, "the others in the next turns"
    world.turns()
    assert world.account().queued == 0
    world.commits()
    assert [stat for _, stat in acme.receipts()] == ["EXPIRED"] * 1000
    world.check()


def test_validity_ends_for_those_that_stand_aside_and_for_held_parts() -> None:
    world = World(settings(policies=HOLD, acme={"policies": ["spam"], "expire_after": "100s"}))
    acme = world.customer()
    acme.sends(part(b"half", 1, ref=3))
    world.commits()
    (name,) = acme.ids()
    world.passes(102)
    assert acme.receipts() == [(name, "EXPIRED")] and len(world.relay.dispatch.holding) == 0
    world.check()


def test_one_that_ends_before_its_commit_ends_after_it() -> None:
    world = World(settings(acme={"expire_after": "2s"}))
    acme = world.customer()
    acme.submits(b"short")
    world.passes(5, commit=False)
    assert world.account().queued == 1
    world.commits()
    world.passes(2)
    (name,) = acme.ids()
    assert acme.receipts() == [(name, "EXPIRED")]
    world.check()


# -- parts that stand aside ----------------------------------------------------------------------------------------------


def test_parts_aside_go_in_their_order_as_far_as_windows_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "STEP", 40)
    world = World()
    acme = world.customer()
    a = world.carrier("a", window=10)
    acme.sends(part(b"first", 1, total=200, ref=9))
    world.commits()
    a.answers(b"id-0")
    a.cut()
    b = world.carrier("b", window=10)
    acme.sends(*[part(b"%03d" % n, n, total=200, ref=9) for n in range(2, 200)])
    world.commits()
    world.check()
    assert len(b.waiting) == 0 and len(world.upstream("a").aside) == 198
    a = world.carrier("a", window=10)
    texts: list[bytes] = []
    for _ in range(60):
        world.commits()
        world.check()
        assert world.upstream("a").reserved <= 20
        texts += [sm.short_message[6:] for sm in a.waiting]
        if a.waiting:
            a.answers(*[b"n%d" % (len(texts) + n) for n in range(len(a.waiting))])
    assert texts == [b"%03d" % n for n in range(2, 200)] and b.waiting == []


def test_parts_whose_pin_is_over_go_back_to_their_lane_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "STEP", 40)
    world = World()
    acme = world.customer()
    a = world.carrier("a", window=10)
    acme.sends(part(b"first", 1, total=101, ref=9))
    world.commits()
    a.answers(b"id-0")
    a.cut()
    b = world.carrier("b", window=1000)
    acme.sends(*[part(b"%03d" % n, n, total=101, ref=9) for n in range(2, 102)])
    world.commits()
    assert len(world.upstream("a").aside) == 100
    (name, *_) = acme.ids()[1:]
    assert asked(acme, query(name))[0] == 0
    world.passes(lanes.PIN + 5)
    assert b.texts() == [part(b"%03d" % n, n, total=101, ref=9)[-9:] for n in range(2, 102)]
    assert len(world.upstream("a").aside) == 0
    world.check()


# -- shares --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [None, "50/s"])
def test_one_customer_s_backlog_does_not_delay_another_s_message(rate: str | None) -> None:
    world = World(settings(more=[ZETA], a={"window": 50, "throughput": rate}))
    acme, zeta = world.customer(), world.customer("zeta")
    for start in range(0, 10_000, 500):
        acme.submits(*numbered(500, start))
        world.commits()
    acme.heard.clear()
    a = world.carrier(window=50)
    for round_ in range(20):
        world.passes(0.1, step=0.1)
        if a.waiting:
            a.answers(b"x%d" % round_)
    world.commits()
    before = len(a.sent)
    zeta.submits(b"urgent")
    world.commits()
    for round_ in range(12):
        if a.waiting:
            a.answers(b"y%d" % round_)
        world.passes(0.1, step=0.1)
    sent = [sm.short_message for sm in a.sent[before:]]
    assert b"urgent" in sent and sent.index(b"urgent") <= 4, "two windows of the other stood before it, and not now"
    mine = [sm.short_message for sm in a.sent if sm.short_message != b"urgent"]
    assert mine == numbered(len(mine)), "the other's order is as it was"
    world.check()


def test_accounts_share_what_is_sent() -> None:
    world = World(settings(more=[ZETA], a={"window": 20}))
    acme, zeta = world.customer(), world.customer("zeta")
    for start in range(0, 1000, 500):
        acme.submits(*numbered(500, start))
        world.commits()
    zeta.submits(*numbered(60, 5000))
    world.commits()
    a = world.carrier(window=20)
    world.commits()
    while len(a.sent) < 160:
        a.answers(b"i%d" % len(a.sent))
        world.commits()
    of_zeta = [n for n, sm in enumerate(a.sent) if sm.short_message >= b"5000" and len(sm.short_message) == 4]
    assert len(of_zeta) == 60 and of_zeta[-1] < 130
    world.check()


def test_a_full_link_does_not_hold_up_the_accounts_whose_links_have_room() -> None:
    world = World(settings(more=[ZETA], a={"window": 2}))
    acme, zeta = world.customer(), world.customer("zeta")
    first, second = world.carrier(window=2), world.carrier(window=2)
    numbers = [b"44770090%04d" % n for n in range(40)]
    on_first = [n for n in numbers if hash(n) % 2 == 0]
    on_second = [n for n in numbers if hash(n) % 2 == 1]
    for n in range(4):
        acme.submits(b"%d" % n, to=on_first[0])
    world.commits()
    zeta.submits(b"other", to=on_second[0])
    world.commits()
    assert first.texts() == [b"0", b"1"] and second.texts() == [b"other"]
    world.check()


# -- octets --------------------------------------------------------------------------------------------------------------

LARGE = 60_000


def large(number: int, to: bytes = TO) -> list[bytes]:
    tag = (0x0424).to_bytes(2, "big") + LARGE.to_bytes(2, "big")
    head = build_sm(Command.SUBMIT_SM, 0, FROM, address_field(1, 1, to), b"", Fields(registered=1))
    body = head[16:] + tag + bytes(LARGE)
    return [pdu(Command.SUBMIT_SM, 0, 0, body)] * number


def test_memory_of_large_messages_is_bounded_in_octets_and_all_go_out_in_order() -> None:
    limit = 4 << 20
    world = World(settings(store={"path": "var", "hot_octets": limit}))
    acme = world.customer()
    for _ in range(40):
        acme.sends(*large(10))
        world.commits()
        assert world.relay.context.journal.octets <= limit + 20 * (LARGE + WEIGHT)
    world.check()
    assert len(world.store.cold) > 300
    ids = acme.ids()
    a = world.carrier(window=10)
    names: list[bytes] = []
    for _ in range(200):
        world.passes(0.1, step=0.1)
        assert world.relay.context.journal.octets <= limit + (2 << 20) + 40 * (LARGE + WEIGHT)
        if a.waiting:
            names.append(b"id-%03d" % len(names))
            a.answers(names[-1])
        else:
            world.passes(1.0)
    while a.waiting:
        names.append(b"id-%03d" % len(names))
        a.answers(names[-1])
        world.passes(1.0)
    assert len(a.sent) == 400 and world.account().queued == 0
    world.passes(3)
    world.check()
    assert world.relay.context.journal.octets <= limit, "those that wait for their receipts are rows now"
    a.reports(names[0], names[-1])
    world.commits()
    assert sorted(acme.receipts()) == [(ids[0], "DELIVRD"), (ids[-1], "DELIVRD")]
    world.check()


def test_what_moves_out_of_an_old_segment_in_one_tick_is_bounded_in_octets() -> None:
    world = World(settings(a={"window": 1000}), segments=1, seconds=1.0)
    acme = world.customer()
    for _ in range(20):
        acme.sends(*large(10))
        world.commits()
    moved: list[int] = []
    for _ in range(40):
        world.passes(0.1, step=0.1, commit=False)
        moved.append(sum(len(mark) for mark in world.store.batch.marks))
        world.commits()
    assert 0 < max(moved) <= (9 << 20)
    world.check()


def test_mail_of_one_account_is_bounded_in_octets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "OCTETS", 1 << 20)
    world = World(settings(acme={"numbers": [OTHER.decode()]}))
    a = world.carrier()
    for n in range(100):
        a.delivers(pdu(Command.DELIVER_SM, 0, 0, large(1, OTHER)[0][16:] + b"\x14\x00\0\1" + bytes((n,))))
        world.commits()
    assert set(a.acknowledged()) == {0}
    box = world.account().mailbox
    assert len(box) == 100 and box.octets <= (1 << 20) + LARGE + WEIGHT
    world.check()
    acme = world.customer()
    got: list[int] = []
    while len(got) < 100:
        world.commits()
        assert box.octets <= (2 << 20) + 2 * (LARGE + WEIGHT)
        came = acme.takes()
        assert came
        got += [sm.raw[-1] for sm in came]
    assert got == list(range(100)) and box.octets == 0
    world.commits()
    world.check()


def test_what_is_not_committed_is_bounded_and_its_customer_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brake, "BATCH_OCTETS", 10 * LARGE)
    world = World()
    acme = world.customer()
    acme.sends(*large(9))
    assert acme.session.window == 1000
    acme.sends(*large(2))
    assert acme.session.window == 0
    acme.sends(*large(3))
    session: Any = acme.session
    assert session.blocked and session.unanswered == 11
    world.commits_once()
    assert session.window == 1000 and session.unanswered == 3 and not session.blocked
    world.commits()
    assert len(acme.ids()) == 14
    world.check()


def test_the_brake_is_let_go_when_a_batch_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brake, "BATCH_MESSAGES", 5)
    world = World()
    acme = world.customer()
    acme.submits(*numbered(6))
    assert acme.session.window == 0
    world.fills()
    assert acme.session.window == 1000 and acme.statuses() == [Status.RMSGQFUL] * 6
    world.frees()
    world.passes(2)
    acme.submits(b"again")
    world.commits()
    assert len(acme.ids()) == 1


def test_what_is_remembered_for_resends_keeps_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "KEPT", 5)
    world = World(settings(acme={"deduplicate": "60s"}))
    acme, a = world.customer(), world.carrier()
    acme.submits(*numbered(8))
    world.commits()
    ids = acme.ids()
    a.answers(*[b"i%d" % n for n in range(8)])
    assert len(world.relay.desk.recent) == 5
    assert not any(hasattr(known, "frame") for known in world.relay.desk.recent._known.values())
    acme.submits(b"7", b"0")
    world.commits()
    again, new = acme.ids()
    assert again == ids[7] and new != ids[0]


def test_a_refusal_is_forgotten_without_a_look_at_the_others() -> None:
    world, acme, _ = piled(500, acme={"acknowledge": "stored", "deduplicate": "60s"})
    a = world.carrier()
    world.commits()
    few = operations(lambda: a.answers(status=Status.RINVDSTADR))
    for start in range(1000, 4000, 500):
        acme.submits(*numbered(500, start))
        world.commits()
    many = operations(lambda: a.answers(status=Status.RINVDSTADR))
    assert many <= few * 1.2 + 300


# -- refusals ------------------------------------------------------------------------------------------------------------


def test_a_chunk_goes_in_turns_and_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "TURN", 10)
    world = World()
    acme, a = world.customer(), world.carrier()
    world.turns = lambda: None  # type: ignore[method-assign]
    acme.submits(*numbered(25))
    assert len(world.store.batch.accepted) == 10
    acme.submits(*numbered(5, 25))
    del world.turns
    world.commits()
    assert a.texts() == numbered(30)
    assert acme.session.unanswered == 0


def test_who_is_gone_is_not_served_what_waited_for_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "TURN", 10)
    world = World()
    acme = world.customer()
    turns, world.turns = world.turns, lambda: None  # type: ignore[method-assign]
    acme.submits(*numbered(25))
    acme.leaves()
    turns()
    assert len(world.store.batch.accepted) == 10 and world.relay.desk._behind == {}


def test_a_multi_counts_as_its_destinations_for_the_rate() -> None:
    world = World(settings(acme={"throughput": "10/s", "burst": 20}, limits={"throttle_wait": "500ms"}))
    acme = world.customer()
    numbers = [b"4477009001%02d" % n for n in range(20)]
    acme.sends(multi(*numbers))
    world.commits()
    assert acme.statuses() == [0]
    records = world.store.records
    acme.sends(multi(*numbers))
    assert acme.statuses() == [] and not world.store.batch.accepted, "nothing was made of it"
    world.passes(0.6, step=0.1)
    assert acme.statuses() == [Status.RTHROTTLED] and world.store.records == records
    assert world.total("messages_refused", account="acme", reason="throttled") == 1
    world.passes(2.0)
    acme.sends(multi(*numbers))
    world.commits()
    assert acme.statuses() == [0] and world.store.records == records + 20


def test_a_multi_of_more_than_a_burst_is_served_and_owed() -> None:
    world = World(settings(acme={"throughput": "10/s", "burst": 5}, limits={"throttle_wait": "500ms"}))
    acme = world.customer()
    acme.sends(multi(*[b"4477009001%02d" % n for n in range(25)]))
    world.commits()
    assert acme.statuses() == [], "its answer waits, no longer than others do"
    world.passes(0.6, step=0.1)
    assert acme.statuses() == [0]
    acme.submits(b"next")
    world.passes(0.6, step=0.1)
    assert acme.statuses() == [Status.RTHROTTLED], "twenty are owed"
    world.passes(2.0)
    acme.submits(b"next")
    world.commits()
    assert len(acme.ids()) == 1


def test_a_multi_takes_as_many_places_of_the_window_until_it_is_answered() -> None:
    world = World()
    acme = world.customer()
    acme.session.window = 10
    acme.sends(multi(*[b"4477009001%02d" % n for n in range(12)]))
    assert acme.session.unanswered == 12
    acme.submits(b"behind")
    assert acme.session.blocked
    world.commits()
    assert acme.statuses() == [0, 0] and acme.session.unanswered == 0


def test_a_multi_over_the_queue_is_refused_whole_before_a_message_is_made() -> None:
    world = World(settings(acme={"queue": 10}))
    acme = world.customer()
    numbers = [b"4477009001%02d" % n for n in range(8)]
    acme.sends(multi(*numbers))
    world.commits()
    acme.sends(multi(*numbers))
    assert acme.statuses() == [0, Status.RMSGQFUL] and world.account().queued == 8
    assert not world.store.batch.records


NUMBERS = [b"447700900%03d" % n for n in range(254)]
REFUSED: dict[str, tuple[dict[str, Any], Callable[[], bytes], int]] = {
    "over the rate": ({"acme": {"throughput": "1/s", "burst": 1}}, lambda: multi(*NUMBERS), Status.RTHROTTLED),
    "a full queue": ({"acme": {"queue": 1}}, lambda: multi(*NUMBERS), Status.RMSGQFUL),
    "a full queue, one message": ({"acme": {"queue": 1}}, lambda: large(1)[0], Status.RMSGQFUL),
    "no route": ({"routes": [{"destination": ["+1"], "upstreams": ["a"]}]}, lambda: large(1)[0], Status.RINVDSTADR),
    "a bad body": ({}, lambda: pdu(Command.SUBMIT_SM, 0, 0, b"\0" * 3), Status.RINVMSGLEN),
    "no destinations": ({}, multi, Status.RINVNUMDESTS),
    "many TLVs": ({}, lambda: large(1)[0] + b"\x14\0\0\0" * 1000, Status.RINVOPTPARSTREAM),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_is_cheaper_than_the_service(what: str) -> None:
    def sends(frame: bytes, **sections: Any) -> tuple[int, World, FakeCustomer]:
        world = World(settings(limits={"throttle_wait": "1ms"}, **sections))
        acme = world.customer()
        acme.submits(b"first", to=b"15550100")
        world.commits()
        acme.answered()
        whole = len(frame).to_bytes(4, "big") + frame[4:]
        return operations(lambda: (acme.sends(whole), world.commits())), world, acme

    sections, frame, status = REFUSED[what]
    dear, _, served = sends(multi(*NUMBERS) if frame()[7] == 0x21 else large(1)[0])
    assert served.statuses() == [0]
    cheap, world, acme = sends(frame(), **sections)
    world.passes(0.1, step=0.01)
    (answer,) = acme.statuses()
    assert answer == status
    assert cheap <= dear
    if frame()[7] == 0x21:
        assert cheap * 20 <= dear or native.compiled


def test_delayed_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "DELAYED", 3)
    world = World(settings(acme={"throughput": "1/s", "burst": 1}, limits={"throttle_wait": "500ms"}))
    acme = world.customer()
    acme.submits(*numbered(6))
    world.commits()
    assert acme.statuses().count(Status.RTHROTTLED) == 2 and len(world.relay.desk.delayed) == 3
    world.passes(1.0, step=0.1)
    assert len(world.relay.desk.delayed) == 0 and acme.session.unanswered == 0


def test_the_states_of_what_was_cancelled_are_in_the_record() -> None:
    world, acme, ids = piled(500)
    acme.sends(cancel(b""))
    world.passes(0.2, step=0.01)
    world.commits()
    assert all(State.DELETED in world.states(name) for name in ids)
