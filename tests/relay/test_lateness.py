"""Nothing waits unseen: carriers that are silent, ways that are gone, validity that ends in a queue."""

from __future__ import annotations

from smppd.message import State
from smppd.protocol.wire import HEADER, Command, Status, address_field, tlv
from tests.relay.fakes import FROM, HASH, TO, World, settings


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


def test_one_session_of_two_that_nobody_answers_on_does_not_hold_up_the_other() -> None:
    world = World()
    acme, deaf, a = world.customer(), world.carrier(window=5), world.carrier(window=5)
    for second in range(100):
        acme.submits(b"x", to=b"447700900%03d" % second)
        world.passes(1)
        deaf.silent()
        while a.waiting:
            a.answers(b"id-%d" % len(a.sent))
            world.commits()
    assert len(a.sent) >= 70 and len(a.sent) + len(deaf.sent) >= 98
    world.check()


# -- how long the oldest waits -----------------------------------------------------------------------------------------


def test_the_oldest_is_known_though_it_is_on_disk_and_no_upstream_is_there() -> None:
    world = World(settings(hot=1))
    acme = world.customer()
    acme.submits(b"0", validity=b"000000000010000R")
    acme.submits(*[b"x"] * 3)
    world.commits()
    world.passes(400)
    assert world.relay.counts.oldest(world.account()) == 400
    assert [(len(lane.hot), lane.cold) for lane in world.account().lanes.values()] == [(1, 2)]
    world.check()
    world.restarts()
    world.passes(2)
    assert world.relay.counts.oldest(world.account()) == 402
    a = world.carrier()
    world.passes(2)
    assert a.texts() == [b"x"] * 3
    world.check()


def test_the_oldest_is_known_though_it_was_released_to_a_slow_carrier() -> None:
    world = World(settings(a={"throughput": 0.01, "burst": 1}))
    acme, _ = world.customer(), world.carrier()
    acme.submits(b"0", b"1")
    world.commits()
    world.passes(90)
    assert world.relay.counts.oldest(world.account()) == 90


def test_validity_ends_behind_a_slow_carrier_s_queue_in_time() -> None:
    world = World(settings(a={"throughput": 1.0, "burst": 1}))
    acme, a = world.customer(), world.carrier()
    acme.submits(*[b"x"] * 300)
    acme.submits(b"short", validity=b"000000000010000R")
    world.commits()
    ids = acme.ids()
    world.passes(12)
    assert acme.receipts() == [(ids[-1], "EXPIRED")]
    world.check()
    world.passes(300)
    assert len(a.sent) == 300 and acme.receipts() == []
    world.check()


def test_many_rows_that_expire_together_end_together() -> None:
    world = World(settings(hot=1))
    acme = world.customer()
    for _ in range(17):
        acme.submits(*[b"x"] * 100, validity=b"000000000010000R")
        world.commits()
    world.passes(12)
    assert world.account().queued == 0 and world.total("messages_expired", account="acme") == 1700
    world.check()


def test_what_may_have_arrived_ends_unknown_and_is_not_counted_as_expired() -> None:
    world = World(settings(acme={"unknown_after": "1s"}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", validity=b"000000000010000R")
    world.commits()
    a.cut()
    world.passes(12)
    assert [stat for _, stat in acme.receipts()] == ["UNKNOWN"]
    assert world.total("messages_expired", account="acme") == 0
    world.check()


# -- the way is gone ---------------------------------------------------------------------------------------------------


def test_who_waits_for_the_carrier_s_word_is_told_when_the_last_link_goes() -> None:
    world = World(settings(acme={"acknowledge": "upstream"}))
    acme, a = world.customer(), world.carrier(window=1)
    acme.submits(b"0", b"1", b"2")
    world.commits()
    assert a.texts() == [b"0"]
    a.cut()
    world.passes(2)
    assert acme.statuses() == [Status.RMSGQFUL] * 2, "0 may have arrived: it is unknown"
    world.check()
    a = world.carrier()
    world.passes(62)
    assert a.texts() == [b"0"]
    a.answers(b"id-0")
    world.commits()
    assert acme.statuses() == [0] and world.account().queued == 0
    world.check()


def data_sm(seconds: int) -> bytes:
    body = (
        b"\0" + FROM + address_field(1, 1, TO) + b"\0\1\0" + tlv(0x17, seconds.to_bytes(4, "big")) + tlv(0x424, b"hi")
    )
    return HEADER.pack(16 + len(body), Command.DATA_SM, 0, 0) + body


def test_the_time_to_live_of_a_data_sm_is_its_validity() -> None:
    world = World()
    acme = world.customer()
    acme.sends(data_sm(30), data_sm(600), data_sm(0))
    world.commits()
    ids = acme.ids()
    world.passes(32)
    assert acme.receipts() == [(ids[0], "EXPIRED")]
    world.passes(68)
    a = world.carrier()
    world.commits()
    left, none = (int.from_bytes(sm.tlv(0x17) or b"", "big") for sm in a.waiting)
    assert left == 500 and none == 0
    assert [sm.tlv(0x424) for sm in a.waiting] == [b"hi"] * 2


def test_who_waits_for_the_carrier_s_word_is_refused_at_once_while_it_pauses() -> None:
    zeta = {
        "system_id": "zeta",
        "password_hash": HASH,
        "networks": "any",
        "throughput": None,
        "acknowledge": "upstream",
    }
    world = World(settings(more=[zeta]))
    acme, other, a = world.customer(), world.customer("zeta"), world.carrier()
    acme.submits(b"0")
    world.commits()
    a.answers(status=Status.RMSGQFUL)
    other.submits(b"1")
    world.commits()
    assert other.statuses() == [Status.RMSGQFUL]
    world.passes(2)
    other.submits(b"2")
    world.commits()
    assert other.statuses() == [Status.RMSGQFUL], "it is being asked, and has not said yes"
    a.answers(b"id-0")
    other.submits(b"3")
    world.commits()
    a.answers(b"id-3")
    world.commits()
    assert other.statuses() == [0]
    world.check()


def test_what_may_have_arrived_ends_unknown_not_expired() -> None:
    world = World(settings(acme={"unknown_after": "10s"}))
    acme = world.customer()
    a = world.carrier()
    acme.submits(b"x", validity=b"000000000130000R")
    world.commits()
    (told,) = acme.ids()
    a.silent()
    a.cut()
    world.passes(100)  # it is to be sent once more, and there is no way
    assert acme.receipts() == [(told, "UNKNOWN")], "nobody can say that it was not delivered"
    assert world.states(told)[-1] in (State.UNKNOWN, State.RECEIPT_DONE)
    world.passes(100)
    assert acme.receipts() == []
    world.check()
