"""Sent, and no answer came: late answers and receipts settle it, or it goes once more, flagged, or is reported unknown."""

from __future__ import annotations

from smppd.message import State
from smppd.protocol.wire import Status
from tests.relay.fakes import World, settings


def test_a_cut_link_leaves_messages_unknown_and_they_go_once_more_flagged() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"0")
    world.commits()
    (one,) = acme.ids()
    a.cut()
    a = world.carrier()
    world.passes(59)
    assert a.sent == []
    world.passes(2)
    assert a.texts() == [b"0"]
    a.cut()
    world.passes(62)
    assert acme.receipts() == [(one, "UNKNOWN")], "sent again once only"
    flagged = [e for e in world.store.events if e.id == int(one, 16) and e.duplicate]
    assert next(e.state for e in flagged) == State.RESENT and State.UNKNOWN in [e.state for e in flagged]
    assert world.account().queued == 0
    world.check()


def test_on_unknown_hold_reports_unknown() -> None:
    world = World(settings(acme={"on_unknown": "hold", "unknown_after": "10s"}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"0")
    world.commits()
    (one,) = acme.ids()
    a.cut()
    world.carrier()
    world.passes(12)
    assert acme.receipts() == [(one, "UNKNOWN")]
    assert sum(len(link.sent) for link in world.links) == 1


def test_a_late_answer_settles_an_unknown_message() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"0", b"1")
    world.commits()
    one, two = acme.ids()
    world.passes(31)
    first, second = a.waiting
    a.silent()
    world.check()
    a.answers_late(first, b"id-0")
    a.answers_late(second, status=Status.RINVDSTADR)
    world.commits()
    assert acme.receipts() == [(two, "REJECTD")]
    world.passes(70)
    assert len(a.sent) == 2
    a.reports(b"id-0")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.check()


def test_an_acceptance_that_comes_after_the_resend_was_queued() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"0")
    world.commits()
    (one,) = acme.ids()
    late = a.waiting[0]
    world.passes(31)
    a.silent()
    world.upstream().paused_until = world.now + 100
    world.passes(61)
    a.answers_late(late, b"id-0")
    world.check()
    world.passes(60)
    assert len(a.sent) == 1, "not sent again"
    a.reports(b"id-0")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]


def test_an_acceptance_of_the_first_attempt_while_the_second_is_out() -> None:
    world = World()
    acme, a, b = world.customer(), world.carrier(), world.carrier("b")
    acme.submits(b"0")
    world.commits()
    late = a.waiting[0]
    world.passes(31)
    a.silent()
    world.upstream().paused_until = world.now + 1000
    world.passes(61)
    assert b.texts() == [b"0"]
    a.answers_late(late, status=Status.RINVDSTADR)  # decides nothing: the second is under way
    world.check()
    assert world.upstream("b").reserved == 1
    b.answers(b"id-b")
    world.commits()
    world.check()
    b.reports(b"id-b")
    world.commits()
    assert [stat for _, stat in acme.receipts()] == ["DELIVRD"]
