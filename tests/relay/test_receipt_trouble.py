"""Receipts and MO messages on bad days, as transcripts: full disks, cut links, ambiguity, carriers that come and go."""

from __future__ import annotations

import pytest

from smppd.message import State
from smppd.protocol.receipt import MessageState, write
from smppd.protocol.wire import Command, Fields, Sm, Status, Tag, address_field, build_sm, tlv
from tests.relay.fakes import FROM, TO, World, settings
from tests.relay.receipts.test_receipts import submitted
from tests.vault.rows import NOON


@pytest.mark.parametrize("early", [False, True])
def test_a_full_disk_loses_no_receipt(early: bool) -> None:
    world = World()
    if early:
        acme, a = world.customer(), world.carrier()
        acme.submits(b"x")
        world.commits()
        (one,) = acme.ids()
    else:
        acme, a, (one,) = submitted(world, b"id-1")
    a.reports(b"id-1")
    world.relay.receipts.settle_early(world.now, 0.0)
    world.fills()
    assert a.acknowledged() == [Status.RMSGQFUL]
    world.passes(3)
    a.reports(b"id-1")  # it brings it again, while there is no space, and once there is
    world.passes(3)
    world.frees()
    world.passes(3)
    a.reports(b"id-1")
    world.commits()
    if early:
        a.answers(b"id-1")
        world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.check()
    assert a.acknowledged()[-1] == 0 and not world.upstream().parked


def test_a_full_disk_loses_no_receipt_of_our_own() -> None:
    world = World()
    acme = world.customer()
    acme.submits(b"x", validity=b"000000000005000R")
    world.commits()
    (one,) = acme.ids()
    world.store.room = False
    world.passes(10)
    assert acme.receipts() == []
    world.frees()
    world.passes(2)
    assert acme.receipts() == [(one, "EXPIRED")]
    world.check()


# -- configuration ------------------------------------------------------------------------------------------------------------


def test_an_upstream_that_left_with_all_routes_and_came_back() -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"id-1")
    acme.submits(b"unsent")
    world.store.hand_over()
    a.cut()
    world.commits()
    without = world.settings.model_copy(update={"upstreams": world.settings.upstreams[1:], "routes": ()})
    before = world.settings
    world.restarts(without)
    world.spills()
    world.check()
    world.restarts(before)
    acme, a = world.customer(), world.carrier()
    world.commits()
    assert a.texts() == [b"unsent"]
    a.reports(b"id-1")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.check()


def test_messages_of_an_upstream_that_never_comes_back_end_unknown() -> None:
    world = World(settings(acme={"expire_after": "1h"}))
    _, a, (one,) = submitted(world, b"id-1")
    without = world.settings.model_copy(
        update={"upstreams": world.settings.upstreams[1:], "routes": settings(routes=[{"upstreams": ["b"]}]).routes}
    )
    world.restarts(without)
    acme = world.customer()
    world.passes(74 * 3600, step=300)
    assert acme.receipts() == [(one, "UNKNOWN")] and a.sent
    world.check()


def test_an_account_that_left_the_configuration() -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"id-1")
    acme.submits(b"more")
    world.commits()
    before = world.settings
    world.restarts(world.settings.model_copy(update={"accounts": ()}))
    a = world.carrier()
    a.reports(b"id-1")
    world.passes(70)
    assert a.texts() == [b"more"] and len(world.account().mailbox) == 1
    world.restarts(before)
    acme = world.customer()
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]


# -- MO ---------------------------------------------------------------------------------------------------------------------


def mo(to: bytes, text: bytes = b"hi") -> bytes:
    return build_sm(Command.DELIVER_SM, 0, address_field(1, 1, TO), address_field(1, 1, to), text, Fields())


def test_mo_goes_to_the_owner_of_the_number_prefix_or_keyword() -> None:
    zeta = {"system_id": "zeta", "password_hash": settings().accounts[0].password_hash, "networks": "any"}
    more = [zeta | {"numbers": ["+447700900300", "+4477009004*"], "keywords": []}]
    world = World(settings(acme={"numbers": ["+447700900300"], "keywords": ["win"]}, more=more))
    acme, zed, a = world.customer(), world.customer("zeta"), world.carrier()
    a.delivers(mo(b"447700900300", b"WIN now"), mo(b"447700900300", b"hello"), mo(b"447700900401"), mo(b"12125550100"))
    assert a.acknowledged() == [Status.RX_P_APPN]
    world.commits()
    assert a.acknowledged() == [0, 0, 0]
    assert [sm.short_message for sm in acme.takes()] == [b"WIN now"]
    assert [sm.short_message for sm in zed.takes()] == [b"hello", b"hi"]
    assert world.store.records == 3
    world.check()


def test_mo_without_space_stays_with_the_carrier() -> None:
    world = World(settings(acme={"numbers": ["+447700900300"]}))
    acme, a = world.customer(), world.carrier()
    a.delivers(mo(b"447700900300"))
    world.fills()
    assert a.acknowledged() == [Status.RMSGQFUL]
    world.frees()
    world.passes(2)
    assert acme.takes() == [] and len(world.account().mailbox) == 0
    a.delivers(mo(b"447700900300"))
    world.commits()
    assert a.acknowledged() == [0] and len(acme.takes()) == 1
    world.check()


def test_mo_in_another_alphabet() -> None:
    world = World(settings(acme={"numbers": ["+447700900300"], "default_alphabet": "latin1"}))
    acme, a = world.customer(), world.carrier()
    a.delivers(mo(b"447700900300", b"\0 \x05"))
    world.commits()
    assert acme.takes()[0].short_message == "@ é".encode("latin-1")


def test_a_receipt_by_data_sm_and_one_that_says_nothing() -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"id-1")
    text = write(b"id-1", MessageState.DELIVERED, submitted=NOON, done=NOON)
    body = b"\0" + address_field(1, 1, TO) + FROM + b"\4\0\0" + tlv(Tag.MESSAGE_PAYLOAD, text)
    a.delivers((16 + len(body)).to_bytes(4, "big") + Command.DATA_SM.to_bytes(4, "big") + bytes(8) + body)
    a.delivers(build_sm(Command.DELIVER_SM, 0, address_field(1, 1, TO), FROM, b"?", Fields(esm_class=4)))
    world.commits()
    assert a.acknowledged() == [0, 0]
    (frame,) = [f for f in acme.heard if not f[4] & 0x80]
    assert (Sm(frame).tlv(Tag.MESSAGE_PAYLOAD) or b"").startswith(b"id:" + one)
    assert world.total("receipts", upstream="a", outcome="unreadable") == 1


def test_a_message_that_is_being_sent_again_makes_a_receipt_ambiguous() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    a.cut()
    acme.submits(b"y")
    world.commits()
    world.passes(30)
    a = world.carrier()
    world.passes(29)
    a.cut()  # y is unknown now; x waits to be sent again
    world.passes(5)
    a = world.carrier()
    a.reports(b"id-1")
    world.commits()
    assert acme.receipts() == [] and len(world.upstream().parked) == 1
    world.check()


@pytest.mark.parametrize("esm", [0x08, 0x10], ids=["of a handset", "of its user"])
def test_an_acknowledgement_from_beyond_the_carrier_is_passed_on_or_stays_with_it(esm: int) -> None:
    world = World(settings(acme={"numbers": ["+447700900300"]}))
    acme, a = world.customer(), world.carrier()
    for number in (b"447700900300", b"447700900301"):
        field = Fields(esm_class=esm)
        a.delivers(build_sm(Command.DELIVER_SM, 0, address_field(1, 1, TO), address_field(1, 1, number), b"ok", field))
    world.commits()
    assert sorted(a.acknowledged()) == [0, Status.RX_P_APPN], "nobody owns the second number"
    assert [(sm.esm_class, sm.short_message) for sm in acme.takes()] == [(esm, b"ok")]


def test_a_message_for_which_the_carrier_gave_no_id_ends_unknown() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", b"y", b"z")
    acme.submits(b"no receipt", registered=0)
    world.commits()
    one, *rest = acme.ids()
    a.answers(b"", b"1", b"2", b"")
    world.commits()
    assert acme.receipts() == [(one, "UNKNOWN")], "its receipt could not be known"
    assert world.states(one)[:2] == [State.SUBMITTED, State.UNKNOWN]
    assert world.states(rest[-1]) == [State.SUBMITTED]
    world.check()


@pytest.mark.parametrize("cold", [False, True], ids=["in memory", "on disk"])
def test_a_carrier_that_gives_an_id_again_while_it_is_waited_for(cold: bool) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    numbers = (b"447700900101", b"447700900102", b"447700900103")
    ids = []
    for number in numbers:
        acme.submits(b"x", to=number)
        world.commits()
        ids += acme.ids()
        a.answers(b"7")
        world.commits()
    world.check()
    if cold:
        world.spills()
        world.restarts()
        acme, a = world.customer(), world.carrier()
    for number in (numbers[1], numbers[0], numbers[2]):
        a.reports(b"7", to=number)
        world.commits()
    assert acme.receipts() == [(ids[1], "DELIVRD"), (ids[0], "DELIVRD"), (ids[2], "DELIVRD")]
    world.check()
    assert world.store.cold == {} and world.relay.context.ledger.count() == 0
