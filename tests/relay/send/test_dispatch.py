"""Sending: order, paging, back-off, failover and back, cut links, unknown answers, validity."""

from __future__ import annotations

import pytest

from smppd.message import State
from smppd.protocol.times import read as read_time
from smppd.protocol.times import write_absolute
from smppd.protocol.wire import Sm, Status
from tests.relay.accept.test_desk import part
from tests.relay.fakes import HASH, World, settings


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % n for n in range(start, start + count)]


# -- order --------------------------------------------------------------------------------------------------------------


def test_what_waited_goes_first() -> None:
    world = World()
    acme = world.customer()
    acme.submits(*numbered(5))
    world.commits()
    a = world.carrier()
    acme.submits(*numbered(3, 5))
    world.commits()
    assert a.texts() == numbered(8)
    world.check()


def test_released_and_accepted_in_one_commit_keep_their_order() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"0", b"1")
    world.commits()
    a = world.carrier()  # releases both, in the batch that accepts the next
    acme.submits(b"2")
    world.commits_once()
    world.commits()
    assert a.texts() == [b"0", b"1", b"2"]


def test_a_link_that_is_back_within_one_commit_keeps_the_order() -> None:
    world = World(settings(a={"throughput": "1/s", "burst": 1}))
    acme = world.customer()
    a = world.carrier()
    acme.submits(b"0", b"1")
    world.commits()
    assert a.texts() == [b"0"], "the other waits for the carrier's rate"
    a.answers(b"id-0")
    world.commits()
    acme.submits(b"2")
    world.store.hand_over()  # accepted and released, while the way is free
    a.cut()
    again = world.carrier()
    world.commits()
    for _ in range(4):
        world.passes(1)
        world.commits()
    assert again.texts() == [b"1", b"2"]
    world.check()


def test_order_through_memory_and_disk() -> None:
    world = World(settings(hot=5))
    acme = world.customer()
    for start in range(0, 1500, 100):
        acme.submits(*numbered(100, start))
        world.commits_once()
    assert len(world.store.cold) == 1495
    world.check()
    a = world.carrier(window=20)
    sent = 0
    while sent < 1500:
        world.commits()
        world.check()
        assert a.texts() == numbered(len(a.waiting), sent)
        if sent == 700:
            acme.submits(*numbered(10, 1500))
        sent += len(a.waiting)
        a.answers(*[b"id-%d" % (sent - n) for n in range(len(a.waiting))])
    world.commits()
    assert a.texts() == numbered(10, 1500)
    assert world.store.cold == {}
    world.check()


def test_rows_stand_behind_the_journal_after_a_restart() -> None:
    world = World(settings(hot=3, a={"window": 1}))
    acme = world.customer()
    acme.submits(*numbered(3))
    world.commits()
    acme.submits(*numbered(5, 3))
    world.commits()
    a = world.carrier(window=1)
    world.commits()
    while len(a.sent) < 4:
        a.answers(b"x%d" % len(a.sent))
        world.commits()
    acme.submits(*numbered(3, 8))  # read rows wait in memory: these must not stand before them when all is read again
    world.commits()
    sent = [sm.short_message for sm in a.sent]
    world.restarts()
    a = world.carrier(window=1)
    for _ in range(20):
        world.passes(1)
        if a.waiting:
            a.answers(b"y%d" % len(a.sent))
    late = [sm.short_message for sm in a.sent]
    assert late == sorted(late, key=int)
    world.passes(60)
    a.answers(b"z")
    late = [sm.short_message for sm in a.sent]  # with what had been released, and was unknown after the restart
    assert set(sent + late) == set(numbered(11))
    world.check()


def test_a_page_that_comes_back_empty_does_not_stall_the_lane() -> None:
    world = World(settings(hot=1))
    acme = world.customer()
    acme.submits(b"0")
    world.commits()
    a = world.carrier()
    acme.submits(b"1", b"2")  # rows, not committed yet
    world.store.answer()
    world.commits()
    world.passes(1)
    assert a.texts() == [b"0", b"1", b"2"]
    world.check()


def test_one_lane_does_not_starve_another() -> None:
    zeta_too = {"system_id": "zeta", "password_hash": HASH, "networks": "any", "throughput": None}
    world = World(settings(more=[zeta_too]))
    acme, zeta = world.customer(), world.customer("zeta")
    acme.submits(*[b"a"] * 50)
    zeta.submits(*[b"z"] * 50)
    world.commits()
    a = world.carrier(window=10)
    world.commits()
    assert sorted(a.texts()) == [b"a"] * 5 + [b"z"] * 5


def test_the_rate_of_an_upstream() -> None:
    world = World(settings(a={"throughput": 10.0, "burst": 1}))
    acme, a = world.customer(), world.carrier()
    acme.submits(*numbered(30))
    world.commits()
    world.passes(1, step=0.02)
    assert 9 <= len(a.waiting) <= 12
    assert a.texts() == numbered(len(a.waiting))


# -- later, please -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.RTHROTTLED, Status.RMSGQFUL, Status.RX_T_APPN, Status.RSYSERR])
def test_a_carrier_that_says_later_is_asked_again_in_order(status: int) -> None:
    world = World()
    acme, a = world.customer(), world.carrier(window=3)
    acme.submits(*numbered(10))
    world.commits()
    a.answers(status=status)
    a.answers(status=status)
    a.answers(status=status)
    assert a.waiting == [] and world.upstream().reserved == 0
    world.check()
    world.passes(0.7, step=0.1)
    assert a.waiting == []
    world.passes(1)
    assert a.texts() == [b"0"], "one asks, the others wait"
    a.answers(status=status)
    world.passes(1)
    assert a.waiting == [], "the pause doubles"
    world.passes(2)
    a.answers(b"id-0")
    world.commits()
    for n in range(1, 10):
        assert a.texts()[0] == b"%d" % n
        a.answers(b"id-%d" % n)
        world.commits()
    assert world.account().queued == 0
    world.check()


def test_a_submit_that_is_never_answered_does_not_hold_up_the_one_that_asks() -> None:
    world = World()
    acme, a = world.customer(), world.carrier(window=2)
    acme.submits(*numbered(6))
    world.commits()
    assert a.texts() == [b"0", b"1"]
    silent = a.waiting.pop(0)  # 0 is never answered
    a.answers(status=Status.RTHROTTLED)
    world.passes(2)
    assert a.texts() == [b"1"], "1 asks, though 0 is outstanding"
    a.answers(b"id-1")
    world.commits()
    assert a.texts()[:1] == [b"2"]
    assert silent is not None
    world.check()


def test_nothing_overtakes_what_was_refused_for_now() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"0")
    world.commits()
    acme.submits(b"1")
    world.store.hand_over()  # accepted as ready, not committed when the refusal comes
    a.answers(status=Status.RTHROTTLED)
    acme.submits(b"2")
    world.commits()
    world.passes(3)
    a.answers(b"x")
    world.commits()
    assert [sm.short_message for sm in a.sent] == [b"0", b"0", b"1", b"2"]
    world.check()


def test_what_a_throttling_carrier_does_not_take_goes_to_the_next_and_comes_back_to_the_first() -> None:
    world = World()
    acme, a, b = world.customer(), world.carrier(), world.carrier("b")
    acme.submits(b"0")
    world.commits()
    a.answers(status=Status.RTHROTTLED)
    world.commits()
    world.passes(0.1)
    assert b.texts() == [b"0"]
    world.passes(3)
    acme.submits(b"1")
    world.commits()
    assert a.texts() == [b"1"]
    world.check()


def test_a_final_refusal_makes_a_receipt() -> None:
    world = World(settings(a={"final_statuses": [0x14]}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"0", b"1")
    world.commits()
    one, two = acme.ids()
    a.answers(status=Status.RINVDSTADR)
    a.answers(status=Status.RMSGQFUL)
    world.commits()
    assert acme.receipts() == [(one, "REJECTD"), (two, "REJECTD")]
    assert world.states(one)[0] == State.REJECTED
    world.check()


# -- links ---------------------------------------------------------------------------------------------------------------


def test_failover_and_back_keep_the_order() -> None:
    world = World()
    acme, a = world.customer(), world.carrier(window=2)
    acme.submits(*numbered(10))
    world.commits()
    b = world.carrier("b", window=2)
    a.cut()  # 0 and 1 are unknown
    world.commits()
    assert b.texts() == [b"2", b"3"]
    world.check()
    a = world.carrier(window=100)
    world.commits()
    assert a.texts() == numbered(6, 4), "what was released to b and not sent went back"
    world.check()
    world.passes(61)
    assert a.texts()[-2:] == [b"0", b"1"]


def test_a_link_that_goes_between_release_and_commit() -> None:
    world = World()
    acme, a, b = world.customer(), world.carrier(), world.carrier("b")
    acme.submits(b"0")
    a.cut()
    world.commits()
    assert b.texts() == [b"0"] and world.upstream().reserved == 0
    world.check()


def test_a_released_message_of_a_dead_carrier_expires() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"0", validity=b"000000000010000R")
    a.cut()
    world.commits()
    (one,) = acme.ids()
    world.passes(12)
    assert acme.receipts() == [(one, "EXPIRED")]


# -- validity -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["relative", "absolute"])
@pytest.mark.parametrize("where", ["hot", "cold"])
def test_validity_passed_means_one_expired_receipt(kind: str, where: str) -> None:
    world = World(settings(hot=1 if where == "cold" else 100))
    acme = world.customer()
    validity = b"000000000100000R" if kind == "relative" else write_absolute(world.wall + 60)
    if where == "cold":
        acme.submits(b"x")
        world.commits()
    acme.submits(b"0", validity=validity)
    world.commits()
    one = acme.ids()[-1]
    world.passes(59)
    assert acme.receipts() == []
    world.passes(4)
    assert acme.receipts() == [(one, "EXPIRED")]
    a = world.carrier()
    world.passes(5)
    assert b"0" not in a.texts() and acme.receipts() == []
    world.check()
    world.restarts()
    acme = world.customer()
    world.passes(5)
    assert acme.receipts() == []


def test_expired_rows_found_again_before_their_drop_is_durable() -> None:
    world = World(settings(hot=1))
    acme = world.customer()
    acme.submits(b"x", registered=0)
    world.commits()
    acme.submits(b"0", b"1", validity=b"000000000005000R")
    world.commits()
    ids = acme.ids()[1:]
    world.passes(8, commit=False)  # the writer is slow: queries still find the rows
    for _ in range(5):
        world.store.answer()
        world.passes(1, commit=False)
    world.commits()
    assert sorted(acme.receipts()) == sorted((one, "EXPIRED") for one in ids)
    assert world.account().queued == 1
    world.check()


def test_validity_is_sent_on_less_the_time_spent_here() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"0", validity=b"000000010000000R")
    world.commits()
    world.passes(1200)
    a = world.carrier()
    world.commits()
    left = (read_time(a.waiting[0].validity, world.wall) or 0) - world.wall
    assert 2398 <= left <= 2401


def test_expire_after_is_for_messages_that_name_no_validity() -> None:
    world = World(settings(acme={"expire_after": "60s"}))
    acme = world.customer()
    acme.submits(b"0")
    acme.submits(b"1", validity=b"000000001000000R")
    world.commits()
    one, _ = acme.ids()
    world.passes(70)
    assert acme.receipts() == [(one, "EXPIRED")]


# -- alphabets, parts -------------------------------------------------------------------------------------------------------


def test_alphabets_that_differ_between_links() -> None:
    world = World(settings(acme={"default_alphabet": "latin1"}, a={"default_alphabet": "gsm"}))
    acme, a = world.customer(), world.carrier()
    acme.submits("@ é $".encode("latin-1"), "ç²".encode("latin-1"))
    world.commits()
    assert a.waiting[0].short_message == b"\0 \x05 \x02"
    assert (a.waiting[1].data_coding, a.waiting[1].short_message) == (8, "ç²".encode("utf-16-be")), "² is in UCS-2 only"
    a.answers(b"x", b"y")


def test_parts_take_one_upstream_also_over_a_failover() -> None:
    world = World()
    acme, a, b = world.customer(), world.carrier(), world.carrier("b")
    acme.sends(part(b"one", 1, 3))
    world.commits()
    a.answers(b"id-1")
    a.cut()
    acme.sends(part(b"two", 2, 3))
    acme.submits(b"plain")
    world.commits()
    assert b.texts() == [b"plain"], "the part waits for its carrier, and nobody waits for the part"
    world.check()
    a = world.carrier()
    world.commits()
    assert [sm.short_message[6:] for sm in a.waiting] == [b"two"]
    a.cut()
    acme.sends(part(b"three", 3, 3))
    world.passes(310)
    assert b"three" in [text[6:] for text in b.texts()], "for five minutes at most"
    world.check()


def test_parts_that_wait_for_a_carrier_expire_can_be_recovered_and_throttled() -> None:
    world = World()
    acme, a, b = world.customer(), world.carrier(), world.carrier("b")
    acme.sends(part(b"one", 1, 2))
    world.commits()
    a.answers(status=Status.RTHROTTLED)
    acme.sends(part(b"two", 2, 2))
    world.commits()
    world.check()
    assert b.texts() == []
    world.passes(2)
    a.answers(b"id-1")
    world.commits()
    assert [sm.short_message[6:] for sm in a.waiting] == [b"two"]
    a.answers(status=Status.RTHROTTLED)
    world.commits()
    world.restarts()
    b = world.carrier("b")
    world.commits()
    assert [sm.short_message[6:] for sm in b.waiting] == [b"two"]
    assert isinstance(b.waiting[0], Sm)
