"""Receipts whose message is not known: limits in number and octets, indexes for loops, content that makes nothing fail."""

from __future__ import annotations

from typing import Any

import pytest

from smppd.message import State
from smppd.protocol import receipt as receipts
from smppd.protocol.receipt import MessageState
from smppd.protocol.wire import Status, Tag, tlv
from smppd.relay.ledger.journal import Entry, mark, read
from smppd.relay.ledger.payload import write_parked
from smppd.relay.receipts import rewrite
from smppd.relay.state.model import Parked
from tests.relay.fakes import World, receipt, settings
from tests.relay.receipts.test_matching import brought, pair
from tests.relay.receipts.test_receipts import submitted

# -- limits -----------------------------------------------------------------------------------------------------------------


def test_octets_of_parked_receipts_are_counted_and_at_the_limit_the_oldest_are_given_up() -> None:
    world = World(settings(limits={"parked": "1MiB"}))
    a, state = world.carrier(), world.upstream()
    big = tlv(Tag.MESSAGE_PAYLOAD, b"id:%b stat:DELIVRD text:" + b"x" * 50_000)
    for number in range(60):
        a.delivers(brought(b"", tlvs=big.replace(b"%b", b"%02d" % number)))
        world.commits()
        assert state.parked_octets == sum(len(one.frame) + 2200 for one in state.parked.values()) <= 1 << 20
    assert len(state.parked) == 20 and a.acknowledged() == [0] * 60
    assert world.total("receipts", upstream="a", outcome="unmatched") == 40
    assert [one.keys[0] for one in state.parked.values()] == [b"%02d" % number for number in range(40, 60)], (
        "the youngest"
    )
    world.check()
    world.restarts()
    assert world.upstream().parked_octets == state.parked_octets
    world.passes(73 * 3600, step=600)
    assert world.upstream().parked_octets == 0 and not world.upstream().parked_keys
    world.check()


def test_their_number_is_limited() -> None:
    world = World()
    assert world.relay.receipts.parking.most == 100_000
    world.relay.receipts.parking.most = 10
    a = world.carrier()
    for number in range(30):
        a.reports(b"nobody-%d" % number)
        world.commits()
    assert len(world.upstream().parked) == 10
    assert world.total("receipts", upstream="a", outcome="unmatched") == 20


@pytest.mark.interpreted("exchanges a number that compiled modules have written into them")
def test_what_carriers_bring_while_nothing_can_be_stored_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait in memory for as long as a disk is full, or a database away, and be one commit at the end."""
    monkeypatch.setattr("smppd.relay.receipts.receipts.UNSTORED", 20_000)
    world = World()
    a, b = world.carrier(), world.carrier()
    world.fills()
    for number in range(200):
        (a, b)[number % 2].reports(b"nobody-%d" % number)
        world.passes(1)
    assert len(world.upstream().parked) == len(world.store.batch.marks) == 17, "some 1,180 octets each"
    assert a.acknowledged() == b.acknowledged() == [Status.RMSGQFUL] * 100
    world.frees()
    world.passes(2)
    a.reports(*[b"nobody-%d" % number for number in range(200)])
    world.commits()
    assert a.acknowledged() == [0] * 200 and len(world.upstream().parked) == 200
    world.fills()
    a.reports(b"nobody-200")
    assert len(world.upstream().parked) == 201, "it is counted anew"
    world.check()


def test_what_waits_a_moment_in_memory_is_limited_in_octets() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    big = [tlv(Tag.MESSAGE_PAYLOAD, b"id:%d stat:DELIVRD text:" % number + b"x" * 60_000) for number in range(100)]
    a.delivers(*[brought(b"", tlvs=tlvs) for tlvs in big])
    state = world.upstream()
    assert state.early_octets == sum(len(one.sm.raw) for many in state.early.values() for one in many) <= 4 << 20
    assert len(state.early) < 80 and len(state.parked) == 100 - len(state.early)
    world.commits()
    assert state.early_octets == 0 and a.acknowledged() == [0] * 100 and len(state.parked) == 100
    world.check()


# -- loops ------------------------------------------------------------------------------------------------------------------


def many_unknown(world: World, number: int) -> list[bytes]:
    """Messages of which nobody knows whether the carrier has them, each to a number of its own."""
    acme, a = world.customer(), world.carrier(window=1000)
    ids = []
    for begin in range(0, number, 500):
        for one in range(begin, begin + 500):
            acme.submits(b"x", to=b"4477009%05d" % one)
        world.commits()
        ids += acme.ids()
        a.cut()
        a = world.carrier(window=1000)
    assert len(world.upstream().unknown) == number
    return ids


def test_a_receipt_nobody_knows_looks_at_few_of_many_unknown_messages() -> None:
    world = World(settings(acme={"unknown_after": "1h"}))
    ids = many_unknown(world, 4000)
    link = world.links[-1]
    concerned = {int(ids[17 * number], 16) for number in range(100)}
    frames = {message.id: message.frame for message in world.upstream().unknown.values()}
    for message in world.upstream().unknown.values():
        if message.id not in concerned:
            message.frame = b""  # whoever looks at it fails
    for number in range(100):
        link.delivers(receipt(b"new-%d" % number, to=b"15550100%03d" % number))
        link.delivers(receipt(b"mine-%d" % number, to=b"4477009%05d" % (17 * number)))
    world.commits()
    assert link.acknowledged() == [0] * 200
    assert [name for name, _ in world.customers[0].receipts()] == [ids[17 * number] for number in range(100)]
    for message in world.upstream().unknown.values():
        message.frame = frames[message.id]
    world.check()


def test_messages_that_become_unknown_look_at_few_of_many_parked_receipts() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", to=b"447700900999")
    world.commits()
    (one,) = acme.ids()
    for number in range(3000):
        a.delivers(receipt(b"n-%d" % number, to=b"1555010%05d" % number))
        if not number % 500:
            world.commits()
    world.commits()
    for parked in world.upstream().parked.values():
        parked.frame = b""  # whoever looks at it fails
    a.delivers(receipt(b"its-id", to=b"447700900999"))
    world.commits()
    a.cut()
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    assert len(world.upstream().parked) == 3000


def test_thousands_of_parked_receipts_under_one_id() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    for number in range(3000):
        a.delivers(brought(b"id:0 stat:ENROUTE err:%04d" % number))
        if not number % 500:
            world.commits()
    world.commits()
    assert len(world.upstream().parked) == 3000
    acme.submits(b"x")
    world.commits()
    a.answers(b"0")
    world.commits()
    assert 2900 <= len(world.upstream().parked) < 3000, "some of them at a time, never all"
    world.check()
    world.passes(73 * 3600, step=600)
    world.passes(20)
    assert not world.upstream().parked and not world.upstream().parked_keys
    world.check()


def test_thousands_of_unknown_messages_end_in_small_steps() -> None:
    world = World(settings(acme={"on_unknown": "hold"}))
    ids = many_unknown(world, 3000)
    before = len(world.upstream().unknown)
    world.now += 61
    world.wall += 61
    world.relay.tick(world.now)
    assert before - len(world.upstream().unknown) <= 500
    world.passes(2)
    assert not world.upstream().unknown
    told: list[tuple[bytes, str]] = []
    for _ in range(5):
        world.commits()
        told += world.customers[0].receipts()
    assert sorted(told) == sorted((name, "UNKNOWN") for name in ids)
    world.check()


def test_thousands_of_unknown_messages_go_once_more_in_their_order() -> None:
    world = World()
    many_unknown(world, 3000)
    world.passes(65)
    link = world.links[-1]
    for _ in range(5):
        while link.waiting:
            link.answers(b"id-%d" % len(link.sent))
        world.commits()
    sent = [sm.destination_digits for sm in link.sent]
    assert len(sent) == 3000 and sorted(sent) == sent
    world.passes(20)
    assert not world.upstream().retried
    world.check()


def test_with_thousands_in_flight_no_receipt_is_taken_for_an_unknown_message() -> None:
    world = World(settings(acme={"unknown_after": "1h"}))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", b"y", to=b"447700900555")
    acme.submits(b"z")
    world.commits()
    one = acme.ids()[2]
    a.cut()
    links = [world.carrier(window=1000) for _ in range(5)]
    for number in range(4200):
        acme.submits(b"y", to=b"1555010%05d" % number)
        if not number % 500:
            world.commits()
    for _ in range(5):
        world.commits()
    assert sum(len(link.waiting) for link in links) > 4096
    links[0].reports(b"id-1")
    world.commits()
    assert len(world.upstream().parked) == 1
    for number, link in enumerate(links):
        link.answers(*[b"%d-%d" % (number, place) for place in range(len(link.waiting))])
    acme.heard = []
    links[0].reports(b"id-2")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]


# -- content ----------------------------------------------------------------------------------------------------------------

LONG = b"err:" + b"9" * 200


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        LONG + b" stat:DELIVRD",
        LONG,
        b"stat:" + b"S" * 240,
        b"sub:" + b"1" * 230 + b" stat:DELIVRD",
        b"x" * 255,
        b"\xff" * 255,
    ],
)
def test_fields_of_any_length_pass(text: bytes, restart: bool) -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"id-1")
    world.spills()
    a.delivers(brought(text, tlvs=pair(b"id-1")))
    world.store.jobs.clear()  # the search is cut off by the restart
    world.commits_once()
    if restart:
        world.restarts()
        acme = world.customer()
    else:
        world.relay.receipts.parking.resume_searches()
    world.commits()
    (sm,) = acme.takes()
    assert len(sm.short_message) <= 255 and sm.tlv(Tag.RECEIPTED_MESSAGE_ID) == one + b"\0"
    assert not world.broken and not world.upstream().parked
    world.check()


def test_an_error_over_one_receipt_stops_none_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    acme, a, (_, two) = submitted(world, b"id-1", b"id-2")
    message = world.upstream().ids[b"id-1"]
    shown, message.shown = message.shown, b"x" * 70_000  # no TLV holds it
    a.delivers(receipt(b"id-1", tlv_id=b"id-1"), receipt(b"id-2"))
    world.commits()
    assert a.acknowledged() == [0, 0] and acme.receipts() == [(two, "DELIVRD")]
    (item,) = world.store.aside
    assert (item.kind, item.owner, item.place) == ("frame", "a", "receipt") and b"id-1" in item.data
    assert "an item was set aside" in caplog.text
    assert world.states(shown)[-1] == State.DELIVERED, "what it says of its message counts"
    world.passes(12)
    world.check()


@pytest.mark.interpreted("exchanges a function, which compiled modules do not look up")
def test_a_receipt_that_cannot_be_passed_on_is_set_aside_and_others_are_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of ours, for which no content is known: it is tried before anything is durable."""
    world = World()
    acme, a, (one, two) = submitted(world, b"id-1", b"id-2")
    real = receipts.splice

    def failing(text: bytes, *rest: Any, **more: Any) -> bytes:
        if b"bad" in text:
            raise ValueError("bytes must be in range(0, 256)")
        return real(text, *rest, **more)

    monkeypatch.setattr(rewrite, "splice", failing)
    a.delivers(
        brought(b"id:id-1 stat:DELIVRD bad"),
        brought(b"id:nobody stat:DELIVRD bad"),
        receipt(b"id-2"),
        receipt(b"nobody"),
    )
    world.commits()
    assert a.acknowledged() == [0] * 4
    # What the one means is told in our own words.
    assert sorted(acme.receipts()) == sorted([(one, "DELIVRD"), (two, "DELIVRD")])
    assert len(world.upstream().parked) == 1
    kinds = [kind for _, block in world.store.blocks for kind, _, _ in read(block)]
    assert kinds.count(Entry.PARK) == 1
    assert [(item.kind, item.place) for item in world.store.aside] == [("frame", "receipt"), ("frame", "deliver")]
    assert all(b"bad" in item.data for item in world.store.aside)
    assert "an item was set aside" in caplog.text and b"bad" not in caplog.text.encode()
    world.passes(12)
    world.check()


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0" * 16,
        brought(b"id:9 stat:DELIVRD")[:-8],
        brought(b"id:9 stat:DELIVRD") + b"\0\x1e\0\xff",
        b"\xff" * 40,
    ],
    ids=["nothing", "a header", "half", "a broken TLV", "noise"],
)
def test_a_parked_receipt_that_cannot_be_read_stops_neither_a_start_nor_others(
    frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    acme, _, (one,) = submitted(world, b"id-1")
    for content in (frame, receipt(b"id-1"), frame):
        broken = Parked(world.ids(), world.upstream(), (), content, int(world.wall) + 3600)
        world.store.batch.marks.append(mark(Entry.PARK, broken.id, write_parked(broken)))
    world.commits_once()
    world.restarts()
    assert world.living == 2 and not world.broken
    acme = world.customer()
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")] and not world.upstream().parked
    assert [(item.kind, item.place) for item in world.store.aside] == [("entry", "start")] * 2
    assert "an item was set aside" in caplog.text
    world.passes(12)
    world.check()
    world.restarts()
    assert world.living == 0 and len(world.store.aside) == 2, "once"
    world.passes(3700, step=100)
    assert not world.upstream().parked and world.upstream().parked_octets == 0
    world.check()
    world.restarts()
    assert world.living == 0


def test_a_row_that_cannot_be_read_stops_neither_a_search_nor_the_end_of_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(settings(acme={"expire_after": "1h"}))
    acme, a, (one, two) = submitted(world, b"id-1", b"id-2")
    world.spills()
    (first, *_) = [key for key, row in world.store.cold.items() if row.id == int(one, 16)]
    world.store.cold[first] = world.store.cold[first]._replace(data=b"\0\1")
    a.reports(b"id-1", state=MessageState.DELIVERED)
    world.commits()
    assert a.acknowledged() == [0] and not world.broken
    world.passes(80 * 3600, step=600)
    assert acme.receipts() == [(two, "UNKNOWN")] and not world.store.cold
    assert "an item was set aside" in caplog.text and world.states(one)[-1] == State.UNKNOWN
    (item,) = world.store.aside
    assert (item.kind, item.owner, item.place) == ("message", "a", "rows")
    world.check()
