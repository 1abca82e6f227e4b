"""An upstream leaves the configuration, or is disabled: what waits for it takes the way that the routes give now."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.config import Settings
from smppd.message import State
from smppd.protocol.wire import Status
from smppd.relay.state.model import Message
from smppd.relay.state.phase import Phase
from tests.relay.accept.test_desk import part
from tests.relay.fakes import FROM, TO, World, drained, settings
from tests.relay.send.test_dispatch import numbered

OTHER = b"447700900555"
ONLY_A = [{"upstreams": ["a"]}]
ONLY_B = [{"upstreams": ["b"]}]
APART: list[dict[str, Any]] = [
    {"destination": [OTHER.decode()], "upstreams": ["b"]},
    {"destination": [TO.decode()], "upstreams": ["a"]},
]


def without_a(world: World, routes: list[dict[str, Any]] | None = None) -> Settings:
    """The configuration once a is gone."""
    new = settings(routes=ONLY_B if routes is None else routes or ONLY_B)
    return world.settings.model_copy(
        update={"upstreams": new.upstreams[1:], "routes": new.routes if routes != [] else ()}
    )


def reloads(world: World, configuration: Settings) -> None:
    world.settings = configuration
    world.reloads(configuration)


@pytest.mark.parametrize("disabled", [False, True])
@pytest.mark.parametrize("restart", [False, True])
def test_what_waits_in_memory_takes_the_other_upstream(disabled: bool, restart: bool) -> None:
    world = World(settings(routes=ONLY_A))
    acme = world.customer()
    acme.submits(*numbered(700))
    world.commits()
    if disabled:
        new = settings(routes=ONLY_B, a={"enabled": False})
    else:
        new = without_a(world)
    if restart:
        world.restarts(new)
    else:
        reloads(world, new)
    b = world.carrier("b")
    assert drained(world, b) == numbered(700)
    assert world.account().queued == 0 and not any(event.duplicate for event in world.store.events)
    world.restarts()
    living = world.relay.context.ledger.living()
    assert {m.phase for m in living if isinstance(m, Message)} <= {Phase.SUBMITTED}


@pytest.mark.parametrize("restart", [False, True])
def test_what_waits_on_disk_takes_the_other_upstream(restart: bool) -> None:
    world = World(settings(routes=ONLY_A, hot=100))
    acme = world.customer()
    for start in range(0, 1800, 100):
        acme.submits(*numbered(100, start))
        world.commits_once()
    world.commits()
    assert len(world.store.cold) == 1700
    if restart:
        world.restarts(without_a(world))
    else:
        reloads(world, without_a(world))
    b = world.carrier("b")
    assert drained(world, b) == numbered(1800)
    assert not [row for row in world.store.cold.values() if row.kind == 1] and world.account().queued == 0


def test_rows_wait_on_disk_while_memory_has_no_room() -> None:
    world = World(settings(routes=ONLY_A, hot=10))
    acme = world.customer()
    for start in range(0, 2000, 10):
        acme.submits(*numbered(10, start))
        world.commits()
    assert len(world.store.cold) == 1990
    reloads(world, without_a(world))
    world.passes(10)
    # The first rows that were looked at, whose size nobody knew, a page of the size that suits them, and the oldest one, which
    # is always in memory.
    assert len(world.store.cold) == 1990 - 16 - 500 - 1 and world.relay.context.ledger.count() == 10 + 16 + 500 + 1
    world.check()
    assert drained(world, world.carrier("b")) == numbered(2000)


def test_both_lanes_together_keep_the_order_of_arrival() -> None:
    world = World(settings(routes=APART))
    acme = world.customer()
    for n in range(40):
        acme.submits(b"%d" % n, to=OTHER if n % 3 else TO)
    world.commits()
    reloads(world, without_a(world))
    world.passes(2)
    world.check()
    assert drained(world, world.carrier("b", window=7)) == numbered(40)


def test_older_rows_of_the_new_lane_go_first() -> None:
    world = World(settings(routes=APART, hot=10, a={"window": 1}))
    acme = world.customer()
    acme.submits(*numbered(600), to=OTHER)
    world.commits()
    acme.submits(*numbered(600, 600), to=OTHER)
    world.commits()
    acme.submits(*numbered(10, 1200))
    world.commits()
    acme.submits(*numbered(10, 1210), to=OTHER)
    world.commits()
    reloads(world, without_a(world))
    world.passes(3)
    world.check()
    sent = drained(world, world.carrier("b", window=50), most=120)
    assert sorted(sent, key=int) == numbered(1220)
    assert sent[:1200] == numbered(1200), "what is older than all that was moved"


def test_those_behind_a_long_queue_do_not_hold_up_others() -> None:
    third = b"447700900777"
    upstreams = [
        {"name": name, "address": "127.0.0.1:2776", "system_id": "gw", "password": {"env": "PW"}} for name in "abc"
    ]

    def routed(others: str, thirds: str, **more: Any) -> Settings:
        routes = [{"destination": [OTHER.decode()], "upstreams": ["b"]}]
        routes += [{"destination": [TO.decode()], "upstreams": [others]}]
        routes += [{"destination": [third.decode()], "upstreams": [thirds]}]
        return settings(upstreams=upstreams, routes=routes, **more)

    world = World(routed("a", "a", hot=10))
    acme = world.customer()
    acme.submits(*numbered(600), to=OTHER)
    world.commits()
    assert len(world.store.cold) == 590
    world.restarts(routed("a", "a"))
    acme = world.customer()
    acme.submits(*[b"behind"] * 600)
    acme.submits(b"free", to=third)
    world.commits()
    new = routed("b", "c")
    reloads(world, new.model_copy(update={"upstreams": new.upstreams[1:]}))
    c = world.carrier("c")
    world.passes(3)
    assert c.texts() == [b"free"]
    world.check()
    sent = drained(world, world.carrier("b", window=50), most=120)
    assert sent == numbered(600) + [b"behind"] * 600


def test_where_no_route_leads_it_waits_and_goes_when_there_is_one() -> None:
    world = World(settings(routes=ONLY_A, hot=5))
    acme, b = world.customer(), world.carrier("b")
    for start in range(0, 20, 5):
        acme.submits(*numbered(5, start))
        world.commits()
    reloads(world, without_a(world, []))
    world.passes(30)
    assert b.sent == [] and world.relay.counts.oldest(world.account()) >= 30 and world.account().queued == 20
    world.check()
    world.restarts(without_a(world, []))
    world.passes(5)
    world.check()
    reloads(world, without_a(world))
    assert drained(world, world.carrier("b")) == numbered(20)


def test_some_have_a_way_and_others_wait() -> None:
    world = World(settings(routes=ONLY_A, hot=2))
    acme, b = world.customer(), world.carrier("b")
    for n in range(1200):
        acme.submits(b"%d" % n, to=OTHER if n % 2 else TO)
        if n % 500 == 0:
            world.commits()
    world.commits()
    reloads(world, without_a(world, [{"destination": [OTHER.decode()], "upstreams": ["b"]}]))
    assert drained(world, b) == numbered(1200)[1::2]
    assert world.account().queued == 600
    assert len([row for row in world.store.cold.values() if row.kind == 1]) >= 598, "they wait on disk as before"
    before = settings(routes=ONLY_A)
    reloads(world, before)
    assert drained(world, world.carrier()) == numbered(1200)[::2]


def test_what_waits_without_a_way_still_expires_once() -> None:
    world = World(settings(routes=ONLY_A, hot=2))
    acme = world.customer()
    acme.submits(*numbered(2), validity=b"000000000001000R")
    world.commits()
    acme.submits(*numbered(2, 2), validity=b"000000000001000R")
    world.commits()
    ids = acme.ids()
    reloads(world, without_a(world, []))
    world.passes(15)
    assert sorted(acme.receipts()) == [(one, "EXPIRED") for one in ids]
    world.check()


def test_what_was_sent_keeps_its_fate_and_goes_elsewhere_flagged() -> None:
    world = World(settings(routes=ONLY_A))
    acme, a = world.customer(), world.carrier()
    acme.submits(*numbered(3))
    world.commits()
    ids = acme.ids()
    a.answers(b"id-0")
    world.commits()
    reloads(world, without_a(world))
    b = world.carrier("b")
    a.cut()
    world.passes(50)
    assert b.sent == []
    world.passes(20)
    assert b.texts() == [b"1", b"2"]
    assert all(State.RESENT in world.states(one) for one in ids[1:]) and State.RESENT not in world.states(ids[0])
    b.answers(b"b-1", b"b-2")
    world.commits()
    b.reports(b"b-1", b"b-2")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD") for one in ids[1:]]
    world.check()


def test_released_and_pinned_parts_go_along() -> None:
    world = World(settings(routes=[{"upstreams": ["a", "b"]}]))
    acme, a = world.customer(), world.carrier(window=1)
    acme.sends(part(b"one", 1, 3))
    world.commits()
    b = world.carrier("b")
    a.answers(status=Status.RTHROTTLED)
    acme.sends(part(b"two", 2, 3), part(b"three", 3, 3))
    world.commits()
    reloads(world, without_a(world))
    a.cut()
    world.passes(5)
    assert sorted(sm.short_message[6:] for sm in b.sent) == [b"one", b"three", b"two"]
    world.check()


def test_policy_and_the_customer_s_own_sender_decide_on_the_way() -> None:
    rules = [
        {"name": "to-a", "when": {"text": "here", "sender": FROM[2:-1].decode()}, "do": {"tag": "special"}},
        {"name": "brand", "do": {"replace_sender": "ACME"}},
    ]
    routes = [{"tags": ["special"], "upstreams": ["b"]}]
    policies = {"p": rules}
    world = World(settings(routes=ONLY_A, policies=policies, acme={"policies": ["p"]}))
    acme, b = world.customer(), world.carrier("b")
    acme.submits(b"here", b"over")
    world.commits()
    reloads(world, without_a(world, routes))
    assert drained(world, b) == [b"here"]
    assert b.sent[0].source_digits == b"ACME" and world.account().queued == 1


def test_a_customer_who_waits_for_the_carrier_s_word_gets_the_other_s() -> None:
    world = World(settings(routes=ONLY_A, acme={"acknowledge": "upstream"}))
    acme, a, b = world.customer(), world.carrier(window=1), world.carrier("b")
    acme.submits(b"0", b"1", b"2")
    world.commits()
    reloads(world, without_a(world))
    a.cut()
    world.passes(2)
    assert b.texts() == [b"1", b"2"]
    b.answers(b"id-1", b"id-2")
    world.commits()
    assert acme.statuses() == [0, 0], "0 may have arrived: it is unknown"


def test_a_link_that_is_on_its_way_out_gets_no_more() -> None:
    world = World(settings())
    acme, a = world.customer(), world.carrier(window=1)
    acme.submits(*numbered(4))
    world.commits()
    b = world.carrier("b")
    assert a.texts() == [b"0"]
    reloads(world, without_a(world))
    world.passes(2)
    assert b.texts() == numbered(3, 1)
    a.answers(b"id-0")
    world.commits()
    assert len(a.sent) == 1
    world.check()


def test_nothing_moves_on_a_full_disk() -> None:
    world = World(settings(routes=ONLY_A))
    acme = world.customer()
    acme.submits(*numbered(5))
    world.commits()
    reloads(world, without_a(world))
    world.fills()
    world.passes(5)
    assert not world.store.batch.marks
    world.frees()
    assert drained(world, world.carrier("b")) == numbered(5)


@pytest.mark.parametrize("hot", [100_000, 3])
@pytest.mark.parametrize("step", range(12))
def test_killed_at_any_commit_each_message_is_in_one_lane(hot: int, step: int) -> None:
    """Commits by hand, and a kill after ``step`` of them: before the move, in it, at the release, after sending."""
    world = World(settings(routes=ONLY_A, hot=hot))
    acme = world.customer()
    for start in range(0, 12, 3):
        acme.submits(*numbered(3, start))
        world.commits()
    assert len(acme.ids()) == 12
    new = without_a(world)
    reloads(world, new)
    b = world.carrier("b", window=5)
    seen: list[bytes] = []
    for turn in range(step):
        if turn % 2:
            world.passes(0.5, step=0.1, commit=False)
            world.store.answer()
        else:
            world.commits_once()
        if turn > 6 and b.waiting:
            b.answers(b"x-%d" % len(b.sent))
    seen += [sm.short_message for sm in b.sent]
    world.restarts(new)
    world.check()
    waiting = [
        message.id
        for account in world.relay.context.accounts.values()
        for lane in account.lanes.values()
        for message in lane.hot
    ] + [row.id for row in world.store.cold.values()]
    assert len(waiting) == len(set(waiting))
    b = world.carrier("b")
    for _ in range(70):
        world.passes(1)
        while b.waiting:
            b.answers(*[b"y-%d-%d" % (len(b.sent), n) for n in range(len(b.waiting))])
            world.commits()
    again = [sm.short_message for sm in b.sent]
    assert len(again) == len(set(again))
    assert set(seen + again) == set(numbered(12)), "none lost"
    twice = set(seen) & set(again)
    flagged = {event.id for event in world.store.events if event.state == State.RESENT and event.duplicate}
    assert len(twice) <= len(flagged), "none twice without a flag"
    assert world.account().queued == 0
    world.check()
