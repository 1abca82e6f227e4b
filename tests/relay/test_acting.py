"""An operator pauses and drains upstreams, and ends or moves what waits: nothing is lost, nothing is sent twice, and the order
stays."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.message import State
from smppd.protocol.wire import Status
from smppd.relay.acting import EXPIRE, MOVE, REQUEUE, STEP, Acted, Waiting
from smppd.relay.state.model import Message
from smppd.relay.state.phase import Phase
from smppd.relay.turns import ACTS
from tests.relay.accept.test_desk import part
from tests.relay.fakes import HASH, TO, World, drained, settings
from tests.relay.send.test_dispatch import numbered
from tests.relay.send.test_hours import Night

OTHER = b"447700900555"
ONLY_A = [{"upstreams": ["a"]}]
ONLY_B = [{"upstreams": ["b"]}]
MAKES_ROWS = 100


def act(world: World, what: str, seconds: float = 10.0, step: float = 0.1, **which: Any) -> Acted:
    """Does an act on what waits, and lets it come to its end."""
    said: list[Acted] = []
    wanted = Waiting(what, which.pop("upto", world.relay.last_id(which.pop("ago", 0.0))), **which)
    world.relay.act_on_waiting(wanted, said.append)
    while not said and seconds > 0:
        world.commits()
        world.passes(step, step=step)
        seconds -= step
    assert said, "it does not come to an end"
    world.check()
    return said[0]


def piled(world: World, count: int, start: int = 0, **more: Any) -> list[bytes]:
    """As many messages wait, beyond `hot` of them as rows; their ids."""
    acme = world.customers[0] if world.customers else world.customer()
    for at in range(start, start + count, MAKES_ROWS):
        acme.submits(*numbered(min(MAKES_ROWS, start + count - at), at), **more)
        world.commits()
    return acme.ids()


# -- pause --------------------------------------------------------------------------------------------------------------


def test_a_paused_upstream_gets_nothing_more_and_the_next_one_does() -> None:
    world = World()
    acme, a, b = world.customer(), world.carrier("a", window=2), world.carrier("b")
    acme.submits(*numbered(10))
    world.commits()
    assert a.texts() == [b"0", b"1"]  # and 2 and 3 are released to it
    world.relay.set_upstream_act("a", "paused")
    world.commits()
    assert a.texts() == [b"0", b"1"] and b.texts() == numbered(8, 2)
    acme.submits(b"more")
    world.commits()
    assert b.texts()[-1] == b"more"
    # What was sent is answered, and its receipt comes in.
    a.answers(b"one", b"two")
    a.reports(b"one")
    world.commits()
    assert len(acme.ids()) == 11 and len(acme.receipts()) == 1 and a.acknowledged() == [0]
    world.check()
    world.relay.set_upstream_act("a", "")
    acme.submits(b"again")
    world.commits()
    assert a.texts() == [b"again"] and not any(event.duplicate for event in world.store.events)
    world.check()


def test_what_was_released_in_a_batch_comes_back_too() -> None:
    world = World()
    acme, a, b = world.customer(), world.carrier("a"), world.carrier("b")
    acme.submits(*numbered(3))
    world.store.hand_over()  # their release is in the batch that is under way
    world.relay.set_upstream_act("a", "paused")
    world.commits()
    assert a.texts() == [] and b.texts() == numbered(3)
    world.check()


def test_without_another_upstream_all_waits_in_order() -> None:
    world = World(settings(routes=ONLY_A))
    acme, a = world.customer(), world.carrier("a", window=2)
    acme.submits(*numbered(10))
    world.commits()
    world.relay.set_upstream_act("a", "paused")
    world.commits()
    acme.submits(*numbered(5, 10))
    world.commits()
    a.answers(b"one", b"two")
    world.passes(120)
    assert a.texts() == [] and world.account().queued == 13
    assert world.relay.readiness().stopped == ("a",)
    world.relay.set_upstream_act("a", "")
    assert drained(world, a) == numbered(15)


def test_a_pause_holds_over_a_reload_and_where_the_upstream_comes_back() -> None:
    world = World(settings(routes=ONLY_A))
    world.relay.set_upstream_act("a", "paused")
    without = world.settings.model_copy(update={"upstreams": world.settings.upstreams[1:], "routes": ()})
    world.reloads(without)
    assert world.relay.readiness().stopped == ()
    world.reloads(settings(routes=ONLY_A))
    acme, a = world.customer(), world.carrier("a")
    acme.submits(b"x")
    world.passes(3)
    assert a.texts() == [] and world.relay.readiness().stopped == ("a",)


def test_one_that_is_not_configured_keeps_its_act_until_it_is() -> None:
    world = World(settings(b={"enabled": False}, routes=ONLY_A))
    world.relay.set_upstream_act("c", "paused")
    assert world.relay.has_upstream("c") and world.relay.readiness().stopped == ()


def test_parts_stay_with_the_paused_upstream_of_the_first_one() -> None:
    world = World()
    acme, a, b = world.customer(), world.carrier("a"), world.carrier("b")
    acme.sends(part(b"one", 1))
    world.commits()
    a.answers(b"id")
    world.relay.set_upstream_act("a", "paused")
    acme.sends(part(b"two", 2))
    acme.submits(b"other")
    world.passes(5)
    assert a.texts() == [] and b.texts() == [b"other"] and len(world.upstream().pinned_parts) == 1
    world.relay.set_upstream_act("a", "")
    world.passes(2)
    assert len(a.texts()) == 1
    world.check()


def test_who_waits_for_the_carriers_word_is_told() -> None:
    world = World(settings(routes=ONLY_A, acme={"acknowledge": "upstream"}))
    acme, _a = world.customer(), world.carrier("a")
    world.relay.set_upstream_act("a", "paused")
    acme.submits(b"x")
    world.passes(3)
    assert acme.statuses() == [Status.RMSGQFUL] and world.account().queued == 0


def test_no_answer_while_it_is_paused_sends_it_by_the_next_one_flagged() -> None:
    world = World()
    acme, a, b = world.customer(), world.carrier("a"), world.carrier("b")
    acme.submits(b"x")
    world.commits()
    world.relay.set_upstream_act("a", "paused")
    world.passes(70)
    a.silent()
    world.passes(70)
    assert b.texts() == [b"x"] and any(event.duplicate for event in world.store.events)
    world.check()


def test_what_a_drain_waits_for() -> None:
    world = World()
    acme, a = world.customer(), world.carrier("a")
    acme.submits(b"x", b"y")
    world.commits()
    assert world.relay.upstream_awaits("a") == (2, 0)
    world.relay.set_upstream_act("a", "draining")
    a.answers(b"one", b"two")
    world.commits()
    assert world.relay.upstream_awaits("a") == (0, 2)
    a.reports(b"one", b"two")
    world.commits()
    assert world.relay.upstream_awaits("a") == (0, 0) and len(acme.receipts()) == 2


# -- expire -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [{"account": "acme"}, {"upstream": "a"}])
def test_what_waits_ends_expired_with_its_receipt(which: dict[str, Any]) -> None:
    world = World(settings(hot=50))
    ids = piled(world, 1500)
    acme = world.customers[0]
    assert len(world.store.cold) > 1000
    assert act(world, EXPIRE, **which) == Acted(1500)
    got: list[tuple[bytes, str]] = []
    for _ in range(20):
        world.passes(1)
        got += acme.receipts()
    assert sorted(got) == sorted((one, "EXPIRED") for one in ids)
    assert all(world.states(one)[-2:] != [] and State.EXPIRED in world.states(one) for one in ids)
    assert world.account().queued == 0 and not [r for r in world.store.cold.values() if r.kind == 1]
    assert act(world, EXPIRE, **which) == Acted(0)


def test_what_a_carrier_has_or_may_have_is_left_alone() -> None:
    world = World(settings(routes=ONLY_A))
    acme, a = world.customer(), world.carrier("a", window=3)
    acme.submits(*numbered(20))
    world.commits()
    a.answers(b"one")  # 0 is submitted; 1, 2 and 3 are sent; six are released
    world.commits()
    assert act(world, EXPIRE, account="acme") == Acted(16)
    states = {m.phase for m in world.relay.context.ledger.living() if isinstance(m, Message)}
    assert states == {Phase.SUBMITTED, Phase.SENT}
    a.answers(b"two", b"three", b"four")
    world.commits()
    a.reports(b"one", b"two", b"three", b"four")
    world.commits()
    stats = [stat for _, stat in acme.receipts()]
    assert sorted(stats) == ["DELIVRD"] * 4 + ["EXPIRED"] * 16 and [sm.short_message for sm in a.sent] == numbered(4)


def test_unknown_ones_are_left_alone() -> None:
    world = World(settings(routes=ONLY_A))
    acme, a = world.customer(), world.carrier("a")
    acme.submits(b"x")
    world.commits()
    a.cut()
    world.commits()
    assert act(world, EXPIRE, account="acme", seconds=2) == Acted(0) and len(world.upstream().unknown) == 1


def test_held_for_hours_held_parts_and_pinned_ones_end_too() -> None:
    night = Night()
    acme = night.customer()
    acme.submits(b"tomorrow", to=b"12125550100")
    night.commits()
    assert act(night, EXPIRE, account="acme") == Acted(1)
    world = World(
        settings(
            policies={"p": {"hold_parts": True, "rules": [{"name": "r", "when": {"text": "prize"}, "do": "refuse"}]}},
            acme={"policies": ["p"]},
        )
    )
    acme = world.customer()
    acme.sends(part(b"one", 1))
    world.commits()
    assert len(world.relay.context.phases.held) == 1
    assert act(world, EXPIRE, account="acme") == Acted(1) and not len(world.relay.context.phases.held)
    world = World()
    acme, a = world.customer(), world.carrier("a")
    acme.sends(part(b"one", 1))
    world.commits()
    a.answers(b"id")
    world.carrier("b")
    world.relay.set_upstream_act("a", "paused")
    acme.sends(part(b"two", 2))
    world.passes(2)
    assert len(world.upstream().pinned_parts) == 1
    assert act(world, EXPIRE, upstream="a") == Acted(1)


def test_only_what_is_older() -> None:
    world = World(settings(hot=10))
    piled(world, 300)
    world.passes(3600, step=600)
    piled(world, 50, 300)
    assert act(world, EXPIRE, account="acme", ago=1800.0) == Acted(300)
    assert drained(world, world.carrier("a")) == numbered(50, 300)


def test_what_comes_meanwhile_is_not_meant() -> None:
    world = World()
    piled(world, 300)
    said: list[Acted] = []
    world.relay.act_on_waiting(Waiting(EXPIRE, world.relay.last_id(), "acme"), said.append)
    piled(world, 5, 300)
    world.passes(3, step=0.1)
    assert said == [Acted(300)] and world.account().queued == 5


def test_an_earlier_attempt_may_have_reached_a_carrier() -> None:
    world = World(settings(routes=ONLY_A, acme={"unknown_after": "60s"}))
    acme, a = world.customer(), world.carrier("a")
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    a.cut()
    world.passes(70)
    assert act(world, EXPIRE, account="acme") == Acted(1)
    world.passes(2)
    assert acme.receipts() == [(one, "UNKNOWN")]


# -- one message --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 60, 1499])
@pytest.mark.parametrize("what", [EXPIRE, REQUEUE])
def test_one_message_wherever_it_waits(at: int, what: str) -> None:
    world = World(settings(hot=50, routes=ONLY_A))
    ids = piled(world, 1500)
    world.reloads(settings(hot=50, routes=ONLY_B))
    assert act(world, what, message=int(ids[at], 16)) == Acted(1)
    link = world.carrier("b" if what == REQUEUE else "a")
    texts = drained(world, link)
    assert texts == ([b"%d" % at] if what == REQUEUE else [one for one in numbered(1500) if one != b"%d" % at])
    again = act(world, what, message=int(ids[at], 16))
    assert again.changed == 0


def test_one_message_that_a_carrier_has() -> None:
    world = World()
    acme, _a = world.customer(), world.carrier("a")
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    assert act(world, EXPIRE, message=int(one, 16)) == Acted(0, carrier=True)
    assert act(world, EXPIRE, message=12345) == Acted(0)


# -- requeue and move ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up", [False, True])
def test_it_waits_for_another_upstream_first_in_order(up: bool) -> None:
    world = World(settings(hot=50, routes=ONLY_A))
    world.relay.set_upstream_act("a", "paused")
    a = world.carrier("a")
    b = world.carrier("b", window=7) if up else None
    piled(world, 1500)
    assert act(world, MOVE, upstream="a", to="b") == Acted(1500)
    assert [lane.route for lane in world.account().lanes.values() if len(lane)] == ["b,a"]
    assert drained(world, b or world.carrier("b", window=7), most=400) == numbered(1500)
    assert a.sent == [] and not any(event.duplicate for event in world.store.events)
    # What comes later takes the routes.
    world.customers[0].submits(b"later")
    world.passes(2)
    assert world.account().queued == 1
    world.restarts()
    assert {m.phase for m in world.relay.context.ledger.living() if isinstance(m, Message)} <= {
        Phase.SUBMITTED,
        Phase.QUEUED,
    }


def test_rows_stay_rows_where_memory_is_full() -> None:
    world = World(settings(hot=50, routes=ONLY_A))
    piled(world, 1500)
    before = world.relay.context.ledger.count()
    assert act(world, MOVE, upstream="a", to="b") == Acted(1500)
    assert world.relay.context.ledger.count() <= before + 25 and len(world.store.cold) >= 1400
    world.restarts()
    world.check()
    assert drained(world, world.carrier("b"), most=200) == numbered(1500)


def test_older_and_younger_rows_of_the_new_lane_keep_their_place() -> None:
    apart = [{"destination": [OTHER.decode()], "upstreams": ["b", "a"]}, {"upstreams": ["a"]}]
    world = World(settings(hot=20, routes=apart))
    acme = world.customer()
    for at in range(0, 900, 30):
        acme.submits(*numbered(30, at), to=OTHER if at % 60 else TO)
        world.commits()
    assert act(world, MOVE, upstream="a", to="b", seconds=60, step=1.0).changed >= 0
    world.check()
    # Where memory was full and older rows of the new lane were on disk, it waited for these.
    b = world.carrier("b")
    texts = drained(world, b, most=300)
    assert sorted(texts, key=int) == numbered(900)
    per_number = [[t for t in texts if (int(t) // 30 % 2) == one] for one in (0, 1)]
    assert all(some == sorted(some, key=int) for some in per_number)


@pytest.mark.parametrize("steps", [0, 4, 8, 13, 21])
def test_rows_that_come_while_the_new_lane_is_read_are_read_too(steps: int) -> None:
    apart = [{"destination": [OTHER.decode()], "upstreams": ["b", "a"]}, {"upstreams": ["a"]}]
    beta = {"system_id": "beta", "password_hash": HASH, "networks": "any", "window": 1000, "throughput": None}
    world = World(settings(hot=40, routes=apart, more=[beta]))
    world.customer("beta").submits(*numbered(60))  # memory is full of what has no way
    world.commits()
    acme = world.customer()
    for at in range(900):
        acme.submits(b"%d" % at, to=OTHER if at % 2 else TO, registered=0)
    world.commits()
    said: list[Acted] = []
    wanted = Waiting(MOVE, world.relay.last_id(), account="acme", upstream="a", to="b")
    world.relay.act_on_waiting(wanted, said.append)
    for _ in range(steps):
        world.passes(0.002, step=0.002, commit=False)
        world.commits_once()
    b = world.carrier("b", window=7)
    texts = drained(world, b, most=900)
    assert sorted(texts, key=int) == numbered(900) and said
    assert world.account().queued == 0 and not any(len(lane) for lane in world.account().lanes.values())
    per_number = [[t for t in texts if int(t) % 2 == one] for one in (0, 1)]
    assert all(some == sorted(some, key=int) for some in per_number)


def test_a_healthy_lane_is_moved_without_overtaking() -> None:
    world = World(settings(routes=ONLY_A))
    acme, a, b = world.customer(), world.carrier("a", window=5), world.carrier("b", window=5)
    acme.submits(*numbered(100))
    world.commits()
    assert act(world, MOVE, upstream="a", to="b") == Acted(95)
    assert a.texts() == numbered(5) and [sm.short_message for sm in b.sent][:5] == numbered(5, 5)
    a.answers(*[b"a%d" % n for n in range(5)])
    assert drained(world, b, most=200) == numbered(95, 5)
    assert [sm.short_message for sm in a.sent] == numbered(5)


def test_what_waits_takes_the_route_that_it_has_now() -> None:
    world = World(settings(hot=50, routes=ONLY_A))
    piled(world, 1500)
    assert act(world, REQUEUE, account="acme") == Acted(0, 1500)
    world.reloads(settings(hot=50, routes=ONLY_B))
    assert world.account().queued == 1500
    assert act(world, REQUEUE, account="acme") == Acted(1500)
    assert drained(world, world.carrier("b"), most=200) == numbered(1500)


def test_hours_and_codes_go_along() -> None:
    night = Night()
    acme = night.customer()
    acme.submits(b"tomorrow", to=b"12125550100")
    night.commits()
    (lane,) = [one for one in night.account().lanes.values() if len(one)]
    assert act(night, MOVE, upstream="a", to="b") == Acted(1)
    (moved,) = [one for one in night.account().lanes.values() if len(one)]
    assert moved.marks == lane.marks and moved.gate is lane.gate and moved.route.startswith("b,a;")


@pytest.mark.parametrize("what", [EXPIRE, MOVE])
@pytest.mark.parametrize("commits", [0, 1, 3, 9])
def test_killed_half_way_it_is_finished_at_the_next_start(what: str, commits: int) -> None:
    world = World(settings(hot=50, routes=ONLY_A))
    ids = piled(world, 1500)
    to = "b" if what == MOVE else ""
    wanted = Waiting(what, world.relay.last_id(), upstream="a", to=to)
    world.relay.act_on_waiting(wanted, lambda _acted: None)
    for _ in range(commits):
        world.commits_once()
        world.store.answer()
        world.turns()
        world.now += 0.01
    world.restarts()
    world.check()
    assert act(world, what, upto=wanted.upto, upstream="a", to=to).changed <= 1500
    acme = world.customer()
    if what == EXPIRE:
        got: list[tuple[bytes, str]] = []
        for _ in range(20):
            world.passes(1)
            got += acme.receipts()
        assert sorted(got) == sorted((one, "EXPIRED") for one in ids)
    else:
        assert drained(world, world.carrier("b"), most=200) == numbered(1500)
    assert world.account().queued == 0 and not any(event.duplicate for event in world.store.events)


def test_no_space_and_it_waits() -> None:
    world = World(settings(hot=50, routes=ONLY_A))
    piled(world, 500)
    said: list[Acted] = []
    world.relay.act_on_waiting(Waiting(MOVE, world.relay.last_id(), upstream="a", to="b"), said.append)
    world.fills()
    world.passes(5)
    assert not said
    world.frees()
    world.passes(10, step=0.1)
    assert said == [Acted(500)]
    assert drained(world, world.carrier("b"), most=200) == numbered(500)


def test_a_damaged_one_stops_none_of_the_others() -> None:
    world = World(settings(routes=ONLY_A))
    ids = piled(world, 100)
    bad = world.relay.context.ledger.get(int(ids[50], 16))
    assert isinstance(bad, Message)
    bad.shown = b"x" * 300  # its length does not fit into an octet
    act(world, MOVE, upstream="a", to="b")
    assert len(world.store.aside) == 1
    assert drained(world, world.carrier("b")) == [one for one in numbered(100) if one != b"50"]


def test_one_act_after_another() -> None:
    world = World(settings(routes=ONLY_A))
    piled(world, 300)
    said: list[str] = []
    upto = world.relay.last_id()
    world.relay.act_on_waiting(
        Waiting(MOVE, upto, upstream="a", to="b"), lambda acted: said.append(f"{acted.changed} moved")
    )
    world.relay.act_on_waiting(Waiting(EXPIRE, upto, "acme"), lambda acted: said.append(f"{acted.changed} ended"))
    world.passes(5, step=0.1)
    assert said == ["300 moved", "300 ended"]
    world.check()


@pytest.mark.parametrize("what", [EXPIRE, MOVE])
def test_many_are_done_in_small_steps(what: str) -> None:
    world = World(settings(hot=200, routes=ONLY_A))
    piled(world, 2000)
    said: list[Acted] = []
    to = "b" if what == MOVE else ""
    world.relay.act_on_waiting(Waiting(what, world.relay.last_id(), upstream="a", to=to), said.append)
    commits = 0
    while not said:
        world.store.hand_over()
        for batch, _ in world.store.under_way:
            assert max(len(batch.events), len(batch.drop), len(batch.marks)) <= 2 * (ACTS + STEP)
            commits += 1
        world.commits_once()
        world.turns()
        world.now += 0.01
    assert said == [Acted(2000)] and commits >= 2000 / (ACTS + STEP)
    world.check()
