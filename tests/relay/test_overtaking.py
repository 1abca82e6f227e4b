"""Receipts without the mark of one that come before the answer to their message: only that tells them from what a subscriber
wrote.
"""

from __future__ import annotations

import pytest

from smppd.protocol.wire import Status
from tests.relay.fakes import TO, World, settings
from tests.relay.receipts.test_matching import OTHER, OWNED, brought, delivered


@pytest.mark.parametrize("named", [b"73000001", b"073000001"])
def test_one_without_the_mark_long_before_its_answer(named: bytes) -> None:
    world = World(settings(**OWNED))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    a.delivers(brought(delivered(named), esm=0))
    world.passes(3.0, 0.1, commit=False)
    assert a.acknowledged() == [] and world.upstream().early
    a.answers(b"73000001")
    world.passes(0.2, 0.1, commit=False)
    assert not world.upstream().early
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")] and a.acknowledged() == [0]
    world.check()


@pytest.mark.parametrize("why", ["time", "addresses", "refused", "cut"])
def test_one_without_the_mark_that_no_answer_explains_is_a_message(why: str) -> None:
    world = World(settings(**OWNED))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    acme.ids()
    text = delivered(b"73000001")
    a.delivers(brought(text, esm=0, source=OTHER if why == "addresses" else TO))
    world.passes(6.0 if why == "time" else 0.2, 0.1, commit=False)
    assert bool(world.upstream().early) == (why in ("refused", "cut"))
    if why == "refused":
        a.answers(status=Status.RINVDSTADR)
    elif why == "cut":
        a.cut()
    world.passes(0.2, 0.1, commit=False)
    assert not world.upstream().early
    world.commits()
    came = [sm for sm in acme.takes() if not sm.esm_class]
    assert [sm.short_message for sm in came] == [text]
    if why != "cut":
        assert a.acknowledged() == [0]
    world.check()


def test_few_wait_so_long() -> None:
    world = World(settings(**OWNED))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    for number in range(200):
        a.delivers(brought(delivered(b"%08d" % number), esm=0))
    world.passes(0.2, 0.1, commit=False)
    assert len(world.upstream().early) == 64
    world.commits()
    assert not world.upstream().early and a.acknowledged() == [0] * 200
