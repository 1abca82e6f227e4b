"""What peers can pile up: work per PDU does not grow with it, and nobody waits behind another's pile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from smppd import native
from smppd.message import State
from smppd.protocol.wire import Command, Fields, Status, address_field, build_sm, pdu
from smppd.relay import operations as smpp_operations
from smppd.relay.send import lanes
from tests.relay.accept.test_desk import HOLD, part
from tests.relay.fakes import FROM, TO, FakeCustomer, World, settings
from tests.relay.send.test_dispatch import numbered
from tests.relay.steps import operations
from tests.relay.test_operations import asked, cancel, query, replace

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
    "a scrape": lambda w, c, i: w.relay.set_gauges(),
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
    monkeypatch.setattr(smpp_operations, "STEP", 50)
    world, acme, ids = piled(1000)
    acme.submits(b"to another", to=OTHER)
    world.commits()
    acme.ids()
    acme.sends(cancel(b""))
    assert world.relay.operations.looked == 50 and acme.statuses() == [] and world.account().queued == 951
    (second,) = acme.sends(cancel(b"", to=OTHER))
    assert world.relay.operations.looked == 50, "one after the other"
    world.passes(0.5, step=0.01)
    answers_ = acme.answered()
    assert [status for _, status, _ in answers_] == [0, 0] and answers_[1][0] == second
    assert world.relay.operations.looked == 1001 and world.account().queued == 0
    world.commits()
    assert {name for name, stat in acme.receipts() if stat == "DELETED"} >= set(ids)
    world.check()


def test_cancel_in_steps_goes_on_beside_what_is_sent_and_when_its_customer_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smpp_operations, "STEP", 100)
    world, acme, _ = piled(1000)
    acme.sends(cancel(b""))
    a = world.carrier(window=50)
    acme.leaves()
    for _ in range(30):
        world.passes(0.01, step=0.01)
    world.check()
    assert world.account().queued == len(a.waiting) + len(world.upstream("a").ready)
    assert len(world.relay.operations._cancelling) == 0


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


def test_many_that_end_at_once_end_in_steps() -> None:
    world = World(settings(acme={"expire_after": "60s"}))
    world.relay.overdue.step = 100
    acme = world.customer()
    acme.submits(*numbered(1000))
    world.commits()
    acme.ids()
    world.now += 61
    world.wall += 61
    world.relay._sweep(world.now)
    assert world.account().queued == 900, "the others in the next turns"
    world.turns()
    assert world.account().queued == 900, "once that is durable"
    world.commits_once()
    world.turns()
    assert world.account().queued == 800
    world.commits()
    assert world.account().queued == 0
    assert [stat for _, stat in acme.receipts()] == ["EXPIRED"] * 1000
    world.check()


def test_validity_ends_for_those_that_stand_aside_and_for_held_parts() -> None:
    world = World(settings(policies=HOLD, acme={"policies": ["spam"], "expire_after": "100s"}))
    acme = world.customer()
    acme.sends(part(b"half", 1, ref=3))
    world.commits()
    (name,) = acme.ids()
    world.passes(102)
    assert acme.receipts() == [(name, "EXPIRED")] and len(world.relay.context.phases.held) == 0
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


def test_parts_aside_go_in_their_order_as_far_as_windows_go() -> None:
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
    assert len(b.waiting) == 0 and len(world.upstream("a").pinned_parts) == 198
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


def test_many_parts_stand_aside_in_steps_and_hold_up_nobody() -> None:
    world = World()
    acme = world.customer()
    a = world.carrier("a", window=10)
    for ref in range(6):
        acme.sends(part(b"first", 1, total=200, ref=ref))
        world.commits()
        a.answers(b"id-%d" % ref)
    a.cut()
    for ref in range(6):
        acme.sends(*[part(b"%03d" % n, n, total=200, ref=ref) for n in range(2, 200)])
        world.commits()
    acme.submits(b"whole", to=OTHER)
    world.commits()
    b = world.carrier("b", window=10)
    assert 0 < len(world.upstream("a").pinned_parts) <= lanes.STEP, "no more in one turn"
    world.check()
    world.commits()
    assert b.texts() == [b"whole"] and len(world.upstream("a").pinned_parts) == 6 * 198
    world.check()


def test_parts_whose_pin_is_over_go_back_to_their_lane() -> None:
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
    assert len(world.upstream("a").pinned_parts) == 100
    (name, *_) = acme.ids()[1:]
    assert asked(acme, query(name))[0] == 0
    world.passes(lanes.PIN + 5)
    assert b.texts() == [part(b"%03d" % n, n, total=101, ref=9)[-9:] for n in range(2, 102)]
    assert len(world.upstream("a").pinned_parts) == 0
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


def test_the_states_of_what_was_cancelled_are_in_the_record() -> None:
    world, acme, ids = piled(500)
    acme.sends(cancel(b""))
    world.passes(0.5, step=0.01)
    world.commits()
    assert all(State.DELETED in world.states(name) for name in ids)


def test_a_refusal_is_forgotten_without_a_look_at_the_others() -> None:
    world, acme, _ = piled(500, acme={"acknowledge": "stored", "deduplicate": "60s"})
    a = world.carrier()
    world.commits()
    few = operations(lambda: a.answers(status=Status.RINVDSTADR))
    for start in range(1000, 4000, 500):
        acme.submits(*numbered(500, start))
        world.commits()
    many = operations(lambda: a.answers(status=Status.RINVDSTADR))
    assert many <= few * 1.2 + 700, "and the release of the next one"


def test_a_carrier_that_makes_up_statuses_makes_few_series() -> None:
    world = World(settings())
    acme, a = world.customer(), world.carrier(window=1000)
    acme.submits(*numbered(300))
    world.commits()
    for number in range(290):
        a.answers(status=0x10000 + number)
    for _ in range(10):
        a.answers(status=Status.RINVDSTADR)
    world.commits()
    series = [one for one in next(iter(world.metrics.rejected.collect())).samples if one.name.endswith("_total")]
    values = {one.labels["status"]: one.value for one in series}
    assert len(values) == 66 and sum(values.values()) == 300
    assert (values["0x00010000"], values["other"], values["ESME_RINVDSTADR"]) == (1, 226, 10)
    world.check()


@pytest.mark.parametrize(
    ("table", "label"),
    [("dlt", "PE_TM_HASH_NOT_RECEIVED"), ("dlt_other", "CLI_MISMATCH_WITH_TEMPLATE"), (None, "0x00000266")],
)
def test_a_carriers_codes_have_the_names_of_its_table(table: str | None, label: str) -> None:
    world = World(settings(a={"error_table": table}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"1")
    world.commits()
    a.answers(status=614)
    world.commits()
    assert world.total("messages_rejected", upstream="a", status=label) == 1
