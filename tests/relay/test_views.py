"""What an operator sees of the relay: each message and each number where it is, and nothing of a person's number."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from smppd.relay import views
from smppd.relay.flow import KEPT
from smppd.relay.views import MessageQuery
from tests.relay.fakes import World, settings

DIGITS = "7700900"


def messages(world: World, **query: Any) -> tuple[list[dict[str, Any]], bool]:
    """What the relay answers, once the store has."""
    answers: list[tuple[list[dict[str, Any]], bool]] = []
    world.relay.show_messages(MessageQuery(**query), lambda found, more: answers.append((found, more)))
    world.store.answer()
    (answer,) = answers
    assert DIGITS not in json.dumps(answer[0])
    return answer


def named(items: Any, name: str) -> dict[str, Any]:
    (found,) = [one for one in items if one.get("name") == name]
    return dict(found)


# -- messages ----------------------------------------------------------------------------------------------------------


def test_a_message_is_seen_on_its_whole_way() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"x")
    world.commits()
    (name,) = acme.ids()
    (one,), more = messages(world)
    assert not more and one["id"] == name.decode() and (one["phase"], one["upstream"]) == ("queued", "a")
    assert (one["from"], one["to"], one["part"], one["tries"], one["memory"]) == (
        "44770***0001",
        "44770***0123",
        None,
        0,
        True,
    )
    assert one["account"] == "acme" and one["expires"] > one["accepted"] and one["age"] >= 0
    a = world.carrier()
    world.commits()
    assert [(one["phase"], one["upstream"]) for one in messages(world)[0]] == [("sent", "a")]
    a.answers(b"id-1")
    world.commits()
    assert [one["phase"] for one in messages(world, upstream="a")[0]] == ["submitted"]
    assert messages(world, upstream="b")[0] == []
    a.reports(b"id-1")
    world.commits()
    assert messages(world) == ([], False)
    assert messages(world, identity=int(name, 16)) == ([], False)


def test_the_oldest_come_first_and_no_more_than_were_asked_for() -> None:
    world = World(
        settings(
            more=[{"system_id": "other", "password_hash": settings().accounts[0].password_hash[0], "networks": "any"}]
        )
    )
    acme, other = world.customer(), world.customer("other")
    names = []
    for number in range(12):
        world.passes(1)
        (acme if number % 2 else other).submits(b"x")
        world.commits()
        names += (acme if number % 2 else other).ids()
    shown = [name.decode() for name in names]
    found, more = messages(world, limit=5)
    assert [one["id"] for one in found] == shown[:5] and more
    found, more = messages(world, limit=12)
    assert [one["id"] for one in found] == shown and not more
    found, _ = messages(world, accounts=frozenset({"acme"}))
    assert [one["id"] for one in found] == shown[1::2] and {one["account"] for one in found} == {"acme"}
    assert messages(world, accounts=frozenset({"nobody"})) == ([], False)


def test_one_message_is_found_by_its_id_and_only_by_who_may_see_it() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"x", b"y")
    world.commits()
    first, second = acme.ids()
    assert [one["id"] for one in messages(world, identity=int(second, 16))[0]] == [second.decode()]
    assert messages(world, identity=int(first, 16), accounts=frozenset({"other"})) == ([], False)
    assert messages(world, identity=1) == ([], False)


def test_what_stands_on_disk_only_is_seen_too() -> None:
    world = World(settings(hot=4))
    acme = world.customer()
    names = []
    for _ in range(10):
        acme.submits(b"x")
        world.commits()
        names += acme.ids()
    lane = next(iter(world.account().lanes.values()))
    assert lane.cold, "some are rows"
    found, more = messages(world)
    assert [one["id"] for one in found] == [name.decode() for name in names] and not more
    assert [one["memory"] for one in found].count(False) == lane.cold
    assert {one["phase"] for one in found if not one["memory"]} == {"row"}
    (one,), _ = messages(world, identity=int(names[-1], 16))
    assert not one["memory"] and one["to"] == "44770***0123"
    found, more = messages(world, limit=2)
    assert len(found) == 2 and more
    world.check()


def test_no_look_passes_over_more_than_some_messages_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "SCAN", 3)
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(*[b"x"] * 8)
    world.commits()
    a.answers(*[b"id-%d" % n for n in range(8)])
    world.commits()
    assert messages(world, accounts=frozenset({"other"})) == ([], True)
    assert len(messages(world)[0]) == 8


def test_parts_and_what_nobody_answered() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"\5\0\3\7\2\1part", esm_class=0x40)
    world.commits()
    assert messages(world)[0][0]["part"] == [1, 2]
    world.passes(31)
    a.silent()
    assert [(one["phase"], one["upstream"]) for one in messages(world)[0]] == [("unknown", "a")]


@given(st.lists(st.sampled_from(["submit", "commit", "bind", "answer", "cut", "time"]), max_size=30))
@hypothesis_settings(max_examples=30, deadline=None)
def test_every_waiting_message_is_seen_once_whatever_happened(steps: list[str]) -> None:
    world = World(settings(hot=6))
    acme = world.customer()
    number = 0
    for step in steps:
        if step == "submit":
            acme.submits(b"x")
        elif step == "commit":
            world.commits()
        elif step == "bind":
            world.carrier()
        elif step == "answer":
            for link in world.links:
                while link.waiting:
                    number += 1
                    link.answers(b"id-%d" % number)
        elif step == "cut":
            for link in world.links:
                if not link.gone:
                    link.cut()
        else:
            world.passes(2)
    world.commits()
    accepted = {name.decode() for name in acme.ids()}
    found, _ = messages(world, limit=1000)
    ids = [one["id"] for one in found]
    assert ids == sorted(ids) and set(ids) == accepted, "no receipt came, so each is on its way"
    queued = sum(one["waiting"] for one in world.relay.show_queues(None, None, ()))
    assert queued == sum(1 for one in found if one["phase"] in ("queued", "row"))


# -- accounts, upstreams, queues ---------------------------------------------------------------------------------------


def test_an_account_from_its_first_message_to_the_last_receipt() -> None:
    world = World(settings(acme={"max_binds": 3, "queue": 50, "throughput": 100}))
    acme = world.customer()
    acme.submits(b"x", b"y")
    world.commits()
    first = acme.ids()[0]
    world.passes(30)
    one = named(world.relay.show_accounts(None), "acme")
    assert (one["sessions"], one["max_binds"], one["throughput"], one["queue_max"]) == (1, 3, 100, 50)
    assert (one["queued"], one["oldest_id"], one["accepted"]) == (2, first.decode(), 2)
    assert 29 <= one["oldest"] <= 32 and one["oldest_mail"] is None and one["suspended"] is None
    a = world.carrier()
    world.commits()
    a.answers(b"id-1", b"id-2")
    a.reports(b"id-1")
    world.commits()
    one = named(world.relay.show_accounts(None), "acme")
    assert (one["queued"], one["oldest"], one["oldest_id"], one["mailbox"]) == (0, None, None, 1)
    acme.receipts()
    world.commits()
    one = named(world.relay.show_accounts(frozenset({"acme"})), "acme")
    assert (one["mailbox"], one["delivered"]) == (0, 1)
    assert list(world.relay.show_accounts(frozenset())) == []


def test_refusals_of_an_account_are_counted() -> None:
    world = World(settings(acme={"queue": 1}))
    acme = world.customer()
    acme.submits(b"x", b"y", b"z")
    world.commits()
    assert named(world.relay.show_accounts(None), "acme")["refused"] == 2
    assert world.total("messages_refused", account="acme", reason="queue full") == 2


def test_an_upstream_that_is_down_bound_and_backing_off() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"x", b"y")
    world.commits()
    one = named(world.relay.show_upstreams(), "a")
    assert (one["state"], one["links"], one["waiting"], one["window"]) == ("down", 0, 2, 0)
    assert named(world.relay.show_upstreams(), "b")["waiting"] == 0, "their first choice is another"
    assert one["address"] == ", ".join(world.relay.context.upstreams["a"].settings.address)
    a = world.carrier(window=10)
    world.commits()
    one = named(world.relay.show_upstreams(), "a")
    assert (one["state"], one["links"], one["window"], one["window_used"], one["waiting"]) == ("bound", 1, 10, 2, 0)
    a.answers(status=0x58)
    one = named(world.relay.show_upstreams(), "a")
    assert one["state"] == "backing off" and one["again_in"] > 0 and one["failures"] == 1
    world.passes(5)
    a.answers(b"id-1")
    world.commits()
    world.passes(12)
    one = named(world.relay.show_upstreams(), "a")
    assert (one["waiting_receipts"], one["submitted"]) == (1, 1) and one["oldest_receipt"] >= 12


def test_an_upstream_has_its_addresses_in_their_order_and_one_that_left_has_none() -> None:
    world = World(settings(a={"address": ["127.0.0.1:1", "127.0.0.2:1"]}))
    world.relay.set_upstream_act("left", "paused")  # by an act that stands since before a restart
    shown = {one["name"]: one["address"] for one in world.relay.show_upstreams()}
    assert shown == {"a": "127.0.0.1:1, 127.0.0.2:1", "b": "127.0.0.1:2776"}
    pictured = {one.name: one.address for one in world.relay.picture().upstreams}
    assert pictured == {**shown, "left": ""}
    world.relay.set_gauges()


def test_why_a_lane_waits() -> None:
    world = World(settings(a={"throughput": 1, "burst": 1}, routes=[{"upstreams": ["a"]}]))
    acme = world.customer()

    def why(stopped: tuple[str, ...] = ()) -> list[str]:
        return [one["why"] for one in world.relay.show_queues(None, None, stopped)]

    assert why() == []
    acme.submits(b"x")
    world.commits()
    (lane,) = list(world.relay.show_queues(None, "a", ()))
    assert lane["upstreams"] == ["a"] and (lane["waiting"], lane["memory"], lane["disk"]) == (1, 1, 0)
    assert lane["why"] == "no link" and lane["opens"] is None and not lane["code"]
    assert list(world.relay.show_queues(None, "b", ())) == [] == list(world.relay.show_queues(frozenset(), None, ()))
    a = world.carrier(window=1)
    world.commits()
    acme.submits(*[b"y"] * 10)
    world.commits()
    assert why() == ["window full"] and why(("a",)) == ["paused"]
    a.answers(b"id-1")
    assert why() in (["rate"], ["window full"], ["flowing"])
    world.reloads(settings(a={"enabled": False}, routes=[{"upstreams": ["a"]}]))
    assert why() == ["no route"]


def test_limits_say_how_much_is_used() -> None:
    world = World(settings(acme={"max_binds": 2, "queue": 4}))
    acme = world.customer()
    acme.submits(b"x")
    world.commits()
    found = {(one.name, one.of): one for one in world.relay.show_limits(None)}
    assert found["binds", "acme"][2:] == (2, 1, 0.5) and found["queue", "acme"][2:] == (4, 1, 0.25)
    assert found["memory, things", None].used == 1
    mine = world.relay.show_limits(frozenset({"acme"}))
    assert {one.of for one in mine} == {"acme"} and world.relay.show_limits(frozenset()) == []


# -- flow --------------------------------------------------------------------------------------------------------------


def test_flow_counts_each_second_and_keeps_five_minutes() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    world.passes(2)
    for number in range(3):
        acme.submits(*[b"x"] * (number + 1))
        world.commits()
        world.passes(1)
    flow = world.relay.show_flow(0.0, None)
    assert flow.accounts == ["acme"] and flow.upstreams == []
    assert flow.account("acme")["accepted"][-3:] == [1, 2, 3]
    assert flow.first + len(flow.account("acme")["accepted"]) == int(world.wall)
    a.answers(b"id-1", b"id-2")
    a.reports(b"id-1")
    world.passes(1)
    flow = world.relay.show_flow(world.wall - 2, None)
    assert {name: numbers[-1] for name, numbers in flow.upstream("a").items()} == {"submitted": 2, "receipts": 1}
    assert len(flow.upstream("a")["submitted"]) == 2
    assert world.relay.show_flow(0.0, frozenset({"other"})).accounts == []
    assert world.relay.show_flow(0.0, frozenset({"acme"})).upstreams == []
    one = named(world.relay.show_accounts(None), "acme")
    assert one["rate"] == pytest.approx(6 / min(10, 6), abs=0.3)
    world.passes(400, step=1)
    assert sum(world.relay.show_flow(0.0, None).account("acme")["accepted"]) == 0
    assert len(world.relay.show_flow(0.0, None).account("acme")["accepted"]) == KEPT


def test_a_second_that_nobody_looked_at_is_not_shown_twice() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"x")
    world.commits()
    world.passes(1)
    world.passes(20, step=20)
    numbers = world.relay.show_flow(0.0, None).account("acme")["accepted"]
    assert sum(numbers) == 1
