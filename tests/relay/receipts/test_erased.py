"""A receipt that comes after its person was erased leaves no number behind, and still reaches whom it is for."""

from __future__ import annotations

from math import inf

import pytest

from smppd.protocol.wire import Sm
from smppd.relay.erasing import Found, Kept
from smppd.relay.receipts.erased import REMEMBERED
from smppd.store.api import Kind
from tests.relay.fakes import TO, FakeLink, World

OTHER = b"447700900456"


def erased(world: World, *, held: list[Kept] | None = None, forms: tuple[bytes, ...] = (TO,)) -> None:
    done: list[Found] = []
    world.relay.erase_person(forms, None, done.append, acts=True, held=held or [])
    world.passes(5, step=0.1)
    assert len(done) == 1 and done[0].complete


def kept(world: World) -> bytes:
    """All that is on the disk of what is on its way."""
    rows = [row.owner.encode() + row.key + row.data for row in world.store.cold.values()]
    return b"".join([*(block for _, block in world.store.blocks), *rows, *(one.data for one in world.store.aside)])


def rows(world: World) -> int:
    return sum(row.kind == Kind.ERASED for row in world.store.cold.values())


def reported(world: World, link: FakeLink, name: bytes, to: bytes = TO) -> None:
    link.reports(name, to=to)
    world.commits()
    assert link.acknowledged() == [0]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_receipt_of_an_unknown_message_is_parked_without_the_number(restarted: bool) -> None:
    world = World()
    erased(world)
    if restarted:
        world.restarts()
    a = world.carrier()
    reported(world, a, b"up-1")
    reported(world, a, b"up-2", to=OTHER)
    assert len(world.upstream().parked) == 2
    assert TO not in kept(world) and OTHER in kept(world)
    assert TO not in b"".join(one.frame for one in world.upstream().parked.values())
    world.check()


def test_a_message_sent_since_then_gets_its_receipt_in_full() -> None:
    world = World()
    erased(world)
    a, acme = world.carrier(), world.customer()
    acme.submits(b"a new text")
    world.commits()
    (mine,) = acme.ids()
    a.reports(b"up-1")
    world.passes(1)  # the answer takes longer than a receipt waits for it
    assert a.acknowledged() == [0] and len(world.upstream().parked) == 1
    a.answers(b"up-1")
    world.passes(1)
    (sm,) = acme.takes()
    assert mine in sm.short_message and b"stat:DELIVRD" in sm.short_message and sm.source_digits == TO
    assert not world.upstream().parked
    world.check()


def test_a_cold_message_is_found_by_all_that_the_carrier_wrote() -> None:
    world = World()
    erased(world)
    a, acme = world.carrier(), world.customer()
    acme.submits(b"a new text")
    world.commits()
    (mine,) = acme.ids()
    a.answers(b"up-" + TO)
    world.commits()
    world.spills()
    assert world.upstream().cold_waiting == 1
    reported(world, a, b"up-" + TO)
    world.passes(1)
    assert [name for name, _ in acme.receipts()] == [mine]
    world.check()


@pytest.mark.parametrize("cold", [False, True])
def test_an_id_that_is_made_of_the_number_is_not_kept(cold: bool) -> None:
    world = World()
    a, acme = world.carrier(), world.customer()
    if cold:
        acme.submits(b"to another", to=OTHER)
        world.commits()
        a.answers(b"up-9")
        world.commits()
        world.spills()
    erased(world)
    reported(world, a, b"x" + TO + b"-1")
    world.passes(1)
    assert not world.upstream().parked
    assert world.total("receipts", upstream="a", outcome="erased") == 1
    world.check()


def test_it_is_forgotten_after_72_hours() -> None:
    world = World()
    erased(world)
    assert rows(world) == 1 and TO not in kept(world)
    world.wall += REMEMBERED
    world.passes(3)
    assert rows(world) == 0 and world.relay.erased_numbers.count == 0
    reported(world, world.carrier(), b"up-1")
    assert TO in kept(world)


def test_looking_remembers_nobody() -> None:
    world = World()
    done: list[Found] = []
    world.relay.erase_person((TO,), None, done.append, acts=False)
    world.passes(5, step=0.1)
    assert done and rows(world) == 0


@pytest.mark.parametrize(
    ("forms", "ends", "remembered"), [({TO}, inf, 0), ({OTHER}, inf, 1), ({TO}, 0.0, 1), (set(), inf, 1)]
)
def test_what_a_hold_keeps_is_kept_later_too(forms: set[bytes], ends: float, remembered: int) -> None:
    world = World()
    erased(world, held=[Kept(frozenset(forms), "acme", 0.0, ends)])
    assert rows(world) == remembered


def test_those_that_end_first_go_where_there_are_too_many() -> None:
    world = World()
    world.relay.erased_numbers._most = 3
    for number in range(5):
        erased(world, forms=(b"44770090010%d" % number,))
        world.passes(2)
    assert rows(world) == 3 and world.relay.erased_numbers.count == 3
    a = world.carrier()
    reported(world, a, b"old", to=b"447700900100")
    reported(world, a, b"new", to=b"447700900104")
    frames = [Sm(one.frame).source_digits for one in world.upstream().parked.values()]
    assert frames == [b"447700900100", b""]
