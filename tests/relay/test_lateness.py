"""Nothing waits unseen: carriers that are silent, ways that are gone, validity that ends in a queue."""

from __future__ import annotations

from smppd.message import State
from tests.relay.fakes import World


def test_a_carrier_that_answers_nothing_is_left_for_the_next_and_asked_now_and_then() -> None:
    world = World()
    acme, a, b = world.customer(), world.carrier(window=5), world.carrier("b", window=5)
    sent = 0
    for second in range(200):
        acme.submits(b"%d" % second)
        world.passes(1)
        a.silent()
        sent = len(b.sent)
        while b.waiting:
            b.answers(b"id-%d" % len(b.sent))
            world.commits()
    assert len(a.sent) <= 12, "one asks after each pause, the others go elsewhere"
    assert sent >= 180
    assert world.account().queued <= 3
    world.check()
    late = a.sent[-1]
    a.answers_late(late, b"id-a")
    acme.submits(b"once more")
    world.commits()
    assert a.texts()[-1:] == [b"once more"], "it speaks again"
    world.check()


def test_one_answer_that_is_lost_makes_no_pause() -> None:
    world = World()
    acme, a = world.customer(), world.carrier(window=5)
    acme.submits(b"0")
    world.commits()
    a.waiting.pop()
    for second in range(40):
        acme.submits(b"x")
        world.passes(1)
        a.answers(b"id-%d" % second)
        a.silent()
    assert len(a.sent) == 41 and world.upstream().failures == 0
    (lost,) = (name for name in acme.ids()[:1])
    assert world.states(lost) == [State.UNANSWERED]
