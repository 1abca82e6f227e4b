"""What the daemon says of itself."""

from __future__ import annotations

from typing import Any

from smppd.daemon.health import health
from smppd.protocol.wire import Command
from tests.relay.fakes import World


def checks(world: World) -> dict[str, str]:
    store: Any = world.store
    store.alive = True
    return dict(health(world.settings, world.relay, store, [], draining=False, over=False).checks)


def test_an_upstream_that_brings_no_receipts_is_not_whole() -> None:
    world = World()
    world.carrier("a")
    world.carrier("b", command=Command.BIND_TRANSMITTER)
    assert checks(world)["upstreams"] == "degraded: 1 of 2 upstreams are bound"
    receiver = world.carrier("b", command=Command.BIND_RECEIVER)
    assert checks(world)["upstreams"] == "ok"
    receiver.cut()
    assert checks(world)["upstreams"].startswith("degraded")


def test_what_waits_long_is_told() -> None:
    world = World()
    world.customer().submits(b"x")
    world.commits()
    world.passes(299)
    assert checks(world)["oldest"] == "ok"
    world.passes(2)
    assert checks(world)["oldest"] == "degraded: the oldest message waits 301 s"


def test_a_node_that_may_be_taken_for_dead_is_not_ready() -> None:
    world = World()
    store: Any = world.store
    store.alive = True

    def asked(**nodes: str) -> bool:
        return health(world.settings, world.relay, store, [], draining=False, over=False, nodes=nodes).ready

    assert asked() and asked(lease="ok", nodes="degraded: node 2 (gw2) is late")
    assert not asked(lease="failed: the lease was not renewed for 7 s", nodes="ok")
