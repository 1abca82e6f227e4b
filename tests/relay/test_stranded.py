"""What waits and would have no upstream by another configuration; nothing changes by asking."""

from __future__ import annotations

from smppd.policy.pipeline import pipelines
from smppd.relay.relay import Routing
from smppd.relay.stranded import OF_A_LANE, Stranded
from tests.relay.fakes import World, settings
from tests.relay.send.test_dispatch import numbered
from tests.relay.send.test_rerouting import APART, ONLY_A, ONLY_B, reloads, without_a


def asked(world: World, **sections: object) -> list[Stranded]:
    new = settings(**sections)
    return world.relay.stranded(new, Routing.of(new), pipelines(new))


def test_what_waits_for_an_upstream_that_leaves_is_counted_and_tried() -> None:
    world = World(settings(routes=ONLY_A))
    world.customer().submits(*numbered(30))
    world.commits()
    assert asked(world, routes=ONLY_A) == [] and asked(world, routes=ONLY_B) == []
    disabled = {"enabled": False}
    (one,) = asked(world, routes=ONLY_B, a=disabled)
    assert one == ("acme", ("a",), 30, OF_A_LANE, OF_A_LANE)
    (one,) = asked(world, routes=APART, a=disabled)
    assert one.waiting == 30 and one.routed == 0, "the only route for this destination leads to a"
    (one,) = asked(world, routes=ONLY_A, a=disabled)
    assert (one.tried, one.routed) == (OF_A_LANE, 0)
    world.check()
    assert world.account().queued == 30


def test_what_is_on_disk_only_is_counted_and_not_tried() -> None:
    world = World(settings(routes=ONLY_A, hot=100))
    acme = world.customer()
    for start in range(0, 300, 100):
        acme.submits(*numbered(100, start))
        world.commits_once()
    (one,) = asked(world, routes=ONLY_B, a={"enabled": False})
    assert one.waiting == 300 and one.tried <= OF_A_LANE


def test_what_is_gone_already_is_no_news() -> None:
    world = World(settings(routes=ONLY_A))
    world.customer().submits(*numbered(3))
    world.commits()
    reloads(world, without_a(world, []))
    assert asked(world, routes=ONLY_B, a={"enabled": False}) == []


def test_accounts_that_lose_their_last_route_are_named() -> None:
    world = World(settings(routes=ONLY_A))
    new = settings(routes=[{"accounts": ["nobody"], "upstreams": ["a"]}])
    assert world.relay.unrouted(Routing.of(settings(routes=ONLY_B))) == []
    assert "acme" in world.relay.unrouted(Routing.of(new))
