"""Receipts and MO messages: early, late, twice, unknown, in other forms of the id, from memory and from disk; owners."""

from __future__ import annotations

import pytest

from smppd.message import State
from smppd.protocol.receipt import MessageState
from smppd.protocol.wire import tlv
from tests.relay.fakes import FROM, TO, FakeCustomer, FakeLink, World, receipt, settings


def submitted(world: World, *names: bytes, to: bytes = TO) -> tuple[FakeCustomer, FakeLink, list[bytes]]:
    """Messages that the carrier has accepted under these ids."""
    acme, a = world.customer(), world.carrier()
    acme.submits(*[b"x"] * len(names), to=to)
    world.commits()
    a.answers(*names)
    world.commits()
    return acme, a, acme.ids()


def test_a_receipt_comes_back_under_our_id_and_is_acknowledged_when_durable() -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"id-1")
    a.reports(b"id-1")
    assert a.acknowledged() == [] and acme.heard == []
    world.commits()
    assert a.acknowledged() == [0]
    (sm,) = acme.takes()
    assert sm.short_message.startswith(b"id:" + one + b" ")
    assert (sm.source_digits, sm.destination_digits) == (TO, FROM[2:-1])
    world.commits()
    assert world.states(one) == [State.SUBMITTED, State.DELIVERED, State.RECEIPT_DONE]
    assert world.relay.context.ledger.count() == 0 and not world.upstream().ids
    world.check()
    world.restarts()
    assert world.living == 0


@pytest.mark.parametrize(
    ("registered", "state", "esm", "passed"),
    [
        (1, MessageState.DELIVERED, 4, True),
        (1, MessageState.UNDELIVERABLE, 4, True),
        (2, MessageState.DELIVERED, 4, False),
        (2, MessageState.UNDELIVERABLE, 4, True),
        (1, MessageState.ENROUTE, 0x20, False),
        (0x11, MessageState.ENROUTE, 0x20, True),
        (1, MessageState.ACCEPTED, 4, False),
        (0x11, MessageState.ACCEPTED, 4, True),
        (3, MessageState.DELIVERED, 4, True),
    ],
)
def test_who_wants_which_receipt(registered: int, state: MessageState, esm: int, passed: bool) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", registered=registered)
    world.commits()
    a.answers(b"id-1")
    a.reports(b"id-1", state=state, esm=esm)
    world.commits()
    assert a.acknowledged() == [0]
    assert len(acme.takes()) == passed
    world.commits()
    final = state in (MessageState.DELIVERED, MessageState.UNDELIVERABLE)
    assert (world.relay.context.ledger.count() == 0) == final
    world.check()


@pytest.mark.parametrize(
    ("answered", "reported"),
    [
        (b"1f", b"31"),
        (b"1F", b"31"),
        (b"31", b"1f"),
        (b"00031", b"31"),
        (b"31", b"00031"),
        (b"0001f", b"31"),
        (b"ABCDEF", b"abcdef"),
        (b"6f9619ff-8b86-d011-b42d-00cf4fc964ff", b"6f9619ff8b86d011b42d00cf4fc964ff"),
    ],
)
@pytest.mark.parametrize("when", ["after", "before", "cold", "restarted"])
def test_ids_in_other_forms(answered: bytes, reported: bytes, when: str) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"0", b"x", to=b"447700900555")
    world.commits()
    a.answers(answered[:-1] + b"0" if len(answered) < 20 else b"y", b"zz")  # what this carrier's ids look like
    acme.ids()
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    if when == "before":
        a.reports(reported)
        world.commits()
    a.answers(answered)
    world.commits()
    if when == "cold":
        world.spills()
        assert world.upstream().cold_waiting == 3
    if when == "restarted":
        world.restarts()
        acme, a = world.customer(), world.carrier()
    if when != "before":
        a.reports(reported)
        world.commits()
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.check()


def test_the_tlv_s_id_counts_before_the_text_s() -> None:
    world = World()
    acme, a, (one, two) = submitted(world, b"id-1", b"id-2")
    a.reports(b"id-2", tlv_id=b"id-1")
    a.reports(b"zzz", tlv_id=b"id-2")
    world.commits()
    assert [name for name, _ in acme.receipts()] == [one, two]


def test_another_form_of_an_id_is_not_believed_against_the_addresses() -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"22")  # 0x16
    a.delivers(receipt(b"16", to=b"447700900999"))
    world.commits()
    assert acme.receipts() == [] and len(world.upstream().parked) == 1
    acme.submits(b"y", to=b"447700900999")
    world.commits()
    a.answers(b"16")
    world.commits()
    (two,) = acme.ids()
    assert acme.receipts() == [(two, "DELIVRD")]
    a.reports(b"22")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.check()


def test_a_receipt_before_the_answer_is_parked_and_matched() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    a.reports(b"id-1", state=MessageState.ENROUTE, esm=0x20)
    a.reports(b"id-1")
    world.commits()
    assert a.acknowledged() == [0, 0] and acme.receipts() == []
    world.check()
    a.answers(b"id-1")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")] and not world.upstream().parked and not world.upstream().parked_keys
    world.check()
    world.commits()
    world.restarts()
    assert world.living == 0


def test_a_receipt_that_overtakes_its_answer_by_a_moment_is_not_parked() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    a.reports(b"id-1")
    assert not world.upstream().parked and len(world.upstream().early) == 1
    assert a.acknowledged() == []  # it is nowhere but in memory
    a.answers(b"id-1")
    assert not world.upstream().early and not world.upstream().parked
    assert a.acknowledged() == []
    world.commits()
    assert a.acknowledged() == [0] and acme.receipts() == [(one, "DELIVRD")]
    world.check()


def test_a_moment_later_it_is_parked_and_acknowledged() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    a.reports(b"id-1")
    a.reports(b"id-1")  # and again, before either is acknowledged
    world.relay.tick(world.now)
    assert len(world.upstream().early) == 1 and a.acknowledged() == []
    world.passes(0.1, 0.1)
    assert not world.upstream().early and len(world.upstream().parked) == 1
    assert a.acknowledged() == [0, 0]
    a.answers(b"id-1")
    world.commits()
    assert len(acme.receipts()) == 1
    world.check()


def test_a_receipt_between_the_answer_and_its_commit() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    a.answers(b"id-1")
    a.reports(b"id-1")
    world.commits()
    assert len(acme.receipts()) == 1
    world.check()


def test_a_receipt_twice_is_passed_on_once() -> None:
    world = World()
    acme, a, _ = submitted(world, b"id-1")
    a.reports(b"id-1", b"id-1")
    world.commits()
    a.reports(b"id-1")
    world.commits()
    assert a.acknowledged() == [0, 0, 0] and len(acme.receipts()) == 1 and not world.upstream().parked
    world.check()


def test_an_early_receipt_twice() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    a.reports(b"id-1", b"id-1")
    a.answers(b"id-1")
    world.commits()
    assert len(acme.receipts()) == 1 and not world.upstream().parked


def test_nobody_s_receipt_is_kept_72_hours() -> None:
    world = World()
    a = world.carrier()
    a.reports(b"zzz")
    world.commits()
    assert a.acknowledged() == [0]
    world.spills()
    assert len(world.upstream().parked) == 1
    world.restarts()
    assert len(world.upstream().parked) == 1
    world.passes(72 * 3600, step=600)
    assert not world.upstream().parked and world.total("receipts", upstream="a", outcome="unmatched") == 1
    world.check()


def test_a_receipt_for_a_cold_message_twice_at_the_same_moment() -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"id-1")
    world.spills()
    assert world.upstream().cold_waiting == 1 and world.relay.context.ledger.count() == 0
    a.delivers(receipt(b"id-1"), receipt(b"id-1", esm=4, tlv_id=b"id-1"))
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.check()
    assert world.upstream().cold_waiting == 0
    world.commits()
    assert [row for row in world.store.cold.values() if row.kind == 2] == []


def test_a_parked_receipt_whose_search_a_restart_cut_off() -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"id-1")
    world.spills()
    a.reports(b"id-1")
    world.store.jobs.clear()
    world.commits_once()
    assert a.acknowledged() == [0]
    world.restarts()
    acme = world.customer()
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.check()


def test_receipts_while_their_messages_are_being_spilled() -> None:
    world = World()
    names = [b"id-%d" % n for n in range(20)]
    acme, a, ids = submitted(world, *names)
    for _ in range(7):
        world.passes(121, step=121, commit=False)
        world.commits()
    got = []
    for name in names:
        world.relay.tick(world.now)  # one more step of the spill, its commit still to come
        a.reports(name)
        world.check()
        if name[-1] % 2:
            world.commits()
        got += acme.receipts()
    world.spills()
    got += acme.receipts()
    assert sorted(got) == sorted((one, "DELIVRD") for one in ids)
    world.passes(100 * 3600, step=1800)
    assert acme.receipts() == [] and world.store.cold == {}
    world.restarts()
    assert world.living == 0 and world.upstream().cold_waiting == 0


def test_a_message_nobody_reports_on_ends_unknown() -> None:
    world = World(settings(acme={"expire_after": "1h"}))
    acme, _, (one,) = submitted(world, b"id-1")
    world.passes(72 * 3600, step=300)
    assert acme.receipts() == []
    world.passes(2 * 3600, step=300)
    assert acme.receipts() == [(one, "UNKNOWN")]
    world.check()
    assert world.store.cold == {}


def test_a_receipt_72_hours_late_is_matched_however_short_the_validity_was() -> None:
    world = World(settings(acme={"expire_after": "5m"}))
    acme, a, (one,) = submitted(world, b"id-1")
    world.passes(72 * 3600, step=300)
    a.reports(b"id-1")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.check()


# -- unknown messages -------------------------------------------------------------------------------------------------------


def test_a_receipt_with_an_id_never_seen_settles_the_one_unknown_message_it_fits() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    acme.submits(b"y", to=b"447700900555")
    world.commits()
    one, two = acme.ids()
    a.cut()
    a = world.carrier()
    a.reports(b"id-1")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.check()
    world.passes(65)
    assert a.texts() == [b"y"] and len(acme.ids()) == 0 and two


def test_two_unknown_messages_that_fit_are_left_alone() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", b"y")
    world.commits()
    a.cut()
    a = world.carrier()
    a.reports(b"id-1")
    world.commits()
    assert acme.receipts() == [] and len(world.upstream().parked) == 1
    world.check()


def test_a_receipt_parked_before_the_link_was_cut_settles_it_too() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    a.reports(b"id-1")
    world.commits()
    a.cut()
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")] and not world.upstream().unknown
    world.check()
    a = world.carrier()
    world.passes(70)
    assert a.sent == []


def test_after_a_restart_a_receipt_settles_what_went_to_the_second_upstream() -> None:
    world = World()
    acme, b = world.customer(), world.carrier("b")
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    world.restarts()
    acme, b = world.customer(), world.carrier("b")
    assert world.upstream("b").unknown and not world.upstream("a").unknown
    b.reports(b"id-1")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]


# -- full -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "answered", "reported", "matches"),
    [
        ("hex_to_decimal", b"1F", b"31", True),
        ("hex_to_decimal", b"0000001f", b"31", True),
        ("hex_to_decimal", b"31", b"31", False),
        ("decimal_to_hex", b"31", b"1f", True),
        ("raw", b"1f", b"31", False),
        ("raw", b"31", b"31", True),
    ],
)
def test_a_form_of_ids_that_is_configured_is_not_guessed(
    form: str, answered: bytes, reported: bytes, matches: bool
) -> None:
    world = World(settings(a={"message_id_form": form}))
    acme, a, _ = submitted(world, answered)
    a.reports(reported)
    world.commits()
    assert len(acme.takes()) == matches and len(world.upstream().parked) == (not matches)
    world.check()


def test_of_more_tlvs_than_the_limit_a_carriers_receipt_keeps_the_first() -> None:
    world = World(settings(limits={"tlvs": 2}))
    acme, a, _ = submitted(world, b"id-1")
    frame = receipt(b"id-1") + tlv(0x1400, b"x") * 3
    a.delivers(len(frame).to_bytes(4, "big") + frame[4:])
    world.commits()
    assert a.acknowledged() == [0]
    assert [sm.tlvs for sm in acme.takes()] == [[(0x1400, b"x")] * 2]
