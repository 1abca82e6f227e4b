"""What is to be committed is bounded whoever sends it, and many sessions that go on at once take many turns."""

from __future__ import annotations

from typing import Any

from smppd.relay.accept.brake import RELEASE_SECONDS
from smppd.relay.context import FLUSH_SECONDS
from tests.relay.fakes import HASH, World, settings
from tests.relay.send.test_dispatch import numbered

OTHER = {"system_id": "other", "password_hash": HASH, "networks": "any", "window": 1000, "throughput": None}


def caught(world: World) -> float:
    """Errors that were caught at an item."""
    samples = [one for family in world.relay.context.metrics.registry.collect() for one in family.samples]
    return sum(one.value for one in samples if one.name == "smppd_internal_errors_total")


def test_sessions_whose_first_chunk_comes_while_it_is_full_put_nothing_into_the_batch() -> None:
    world = World()
    world.relay.desk.brake.messages = 10
    sessions = [world.customer() for _ in range(20)]
    for one in sessions:
        one.submits(*numbered(5))
    assert len(world.store.batch.accepted) == 10
    assert [one.session.unanswered for one in sessions] == [5] * 20, "they hold their places"
    world.commits()
    assert [len(one.ids()) for one in sessions] == [5] * 20
    world.check()


def test_what_one_session_sent_keeps_its_order_though_a_reload_reads_it_again() -> None:
    world = World()
    world.relay.desk.brake.messages = 3
    acme = world.customer()
    texts = numbered(12)
    acme.submits(*texts[:3])
    for at in (3, 6, 9):
        acme.session.window = 1000  # as `Customers.reload` does
        acme.submits(*texts[at : at + 3])
        assert acme.session.window == 0
    assert len(world.store.batch.accepted) == 3
    a = world.carrier(window=100)
    world.commits()
    assert [sm.short_message for sm in a.sent] == list(texts)
    world.check()


def test_who_is_gone_while_it_is_full_is_not_taken() -> None:
    world = World()
    world.relay.desk.brake.messages = 3
    acme, other = world.customer(), world.customer()
    acme.submits(*numbered(3))
    other.submits(*numbered(3))
    other.leaves()
    world.commits()
    assert len(acme.ids()) == 3 and world.account().queued == 3
    world.check()


def test_thousands_of_sessions_that_go_on_at_once_are_no_deep_stack() -> None:
    world = World()
    sessions = [world.customer() for _ in range(1500)]
    for one in sessions:
        one.session.window = 1
        one.submits(*numbered(3))
    assert all(one.session.blocked for one in sessions)
    world.commits()
    assert [len(one.ids()) for one in sessions] == [3] * 1500
    assert caught(world) == 0
    world.check()


class SlowPeer:
    """A peer whose flush takes a third of what a turn has for them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.flushed = 0

    def flush(self) -> None:
        self.world.now += FLUSH_SECONDS / 3 + 1e-6
        self.flushed += 1


def test_what_many_peers_have_to_send_takes_many_turns() -> None:
    world = World()
    context = world.relay.context
    peers: list[Any] = [SlowPeer(world) for _ in range(8)]
    context.dirty.update(dict.fromkeys(peers))
    context.flush()
    assert [one.flushed for one in peers] == [1] * 3 + [0] * 5
    world.turns()
    assert [one.flushed for one in peers] == [1] * 8 and not context.dirty


def test_many_who_were_not_read_go_on_in_many_turns() -> None:
    world = World()
    world.relay.desk.brake.messages = 4
    sessions = [world.customer() for _ in range(9)]
    for one in sessions:
        one.submits(*numbered(4))
    taken: list[Any] = []
    world.relay.desk.brake.messages = 1000
    take = world.relay.desk.brake._go_on

    def slow(customer: Any, frames: list[bytes], now: float) -> None:
        taken.append(customer)
        world.now += RELEASE_SECONDS / 3 + 1e-6
        take(customer, frames, now)

    world.relay.desk.brake._go_on = slow
    world.commits_once()
    assert not taken, "not in the turn of the commit"
    world.turns()
    assert taken == sessions[1:]
    world.commits()
    assert [len(one.ids()) for one in sessions] == [4] * 9


def test_one_account_s_flood_leaves_the_batch_to_the_others() -> None:
    world = World(settings(more=[OTHER]))
    world.relay.desk.brake.share = 10
    flood = [world.customer() for _ in range(8)]
    other = world.customer("other")
    for one in flood:
        one.submits(*numbered(4))
    assert len(world.store.batch.accepted) == 12 and {one.session.window for one in flood[2:]} == {0}
    other.submits(*numbered(3))
    assert len(world.store.batch.accepted) == 15 and other.session.window == 1000
    world.commits_once()
    world.turns()
    assert len(other.ids()) == 3 and len(world.store.batch.accepted) == 12, "the next of them, up to their share"
    world.commits()
    assert [len(one.ids()) for one in flood] == [4] * 8
    world.check()


def test_accounts_that_were_not_read_go_on_in_turn() -> None:
    world = World(settings(more=[OTHER]))
    brake = world.relay.desk.brake
    brake.messages = 2
    first = world.customer()
    first.submits(*numbered(2))
    flood = [world.customer() for _ in range(4)]
    others = [world.customer("other") for _ in range(2)]
    for one in (*flood, *others):
        one.submits(*numbered(1))
    brake.messages = 1000
    went: list[Any] = []
    take = brake._go_on

    def noted(customer: Any, frames: list[bytes], now: float) -> None:
        went.append(customer)
        take(customer, frames, now)

    brake._go_on = noted
    world.commits()
    assert went == [others[0], flood[0], others[1], *flood[1:]], "the first one had sent nothing more"
