"""What a carrier's word for a state does: its own words, numbers, TLVs that say something else, ACCEPTD as the last one."""

from __future__ import annotations

import logging

import pytest

from smppd.message import State
from smppd.protocol.receipt import MessageState
from smppd.protocol.wire import Command, Fields, Sm, Tag, address_field, build_sm, tlv
from tests.relay.fakes import FROM, TO, FakeCustomer, FakeLink, World, settings
from tests.relay.receipts.test_receipts import submitted


def saying(text: bytes, *, state: int | None = None, esm: int = 4, name: bytes = b"") -> bytes:
    """A receipt with this text; TLVs where given."""
    tlvs = tlv(Tag.RECEIPTED_MESSAGE_ID, name + b"\0") if name else b""
    if state is not None:
        tlvs += tlv(Tag.MESSAGE_STATE, bytes((state,)))
    return build_sm(Command.DELIVER_SM, 0, address_field(1, 1, TO), FROM, text, Fields(esm_class=esm), tlvs)


def taken(world: World, registered: int = 1) -> tuple[FakeCustomer, FakeLink, bytes]:
    """A message that the carrier has taken as id-1."""
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", registered=registered)
    world.commits()
    a.answers(b"id-1")
    world.commits()
    return acme, a, acme.ids()[0]


@pytest.mark.parametrize("between", ["", "restart", "spill", "spill and restart"])
@pytest.mark.parametrize("word", [b"ONHOLD", b"0", b"17", b"W8-ING", b""])
def test_a_word_that_nobody_knows_is_passed_on_and_ends_nothing(word: bytes, between: str) -> None:
    world = World()
    acme, a, one = taken(world)
    a.delivers(saying(b"id:id-1 stat:" + word + b" err:0"))
    world.commits()
    assert acme.receipts() == [(one, word.decode())]
    if "spill" in between:
        world.spills()
        assert len(world.store.cold) == 1
    if "restart" in between:
        world.commits()
        world.restarts()
        acme, a = world.customer(), world.carrier()
    world.check()
    a.reports(b"id-1")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")] and a.acknowledged()[-1] == 0
    world.check()
    assert not world.upstream().parked


def test_each_of_a_carrier_s_own_words_is_passed_on_and_then_it_ends_without_another() -> None:
    world = World(settings(acme={"expire_after": "1h"}))
    acme, a, one = taken(world)
    for word in (b"TRYING", b"STUCK", b"STUCK", b"GONE"):
        a.delivers(saying(b"id:id-1 stat:" + word))
        world.commits()
    assert acme.receipts() == [(one, "TRYING"), (one, "STUCK"), (one, "GONE")]
    world.passes(71 * 3600, step=600)
    assert len(world.store.cold) == 1
    world.passes(3 * 3600, step=600)
    assert acme.receipts() == [] and not world.store.cold, "any of them may have been the last word"
    world.check()


@pytest.mark.parametrize(("registered", "told"), [(0x11, True), (1, True), (2, True), (3, True), (0x10, True)])
def test_who_is_told_a_carrier_s_own_word(registered: int, told: bool) -> None:
    world = World()
    acme, a, _ = taken(world, registered)
    a.delivers(saying(b"id:id-1 stat:NOROUTE"))
    world.commits()
    assert len(acme.receipts()) == told


def test_own_words_are_counted_and_named_once_a_kind_and_never_repeated(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    _, a, _ = taken(world)
    with caplog.at_level(logging.INFO, logger="smppd.relay"):
        for word in (b"SECRETLY", b"SECRETLY2", b"TRYING", b"0", b"1"):
            a.delivers(saying(b"id:id-1 stat:" + word))
        world.commits()
        world.relay.context.log_counts.write()
    said = [record for record in caplog.records if record.message == "receipt with a state that is not known"]
    assert [record.fields["kind"] for record in said] == ["letters", "other", "digits"]  # type: ignore[attr-defined]
    assert "SECRETLY" not in caplog.text + str([vars(record) for record in said])
    assert world.total("receipt_own_words", upstream="a", kind="letters") == 2
    assert world.total("receipt_own_words", upstream="a", kind="digits") == 2


@pytest.mark.parametrize("word", [b"BUFFERD", b"BUFFRED", b"PENDING", b"Submitd"])
def test_a_known_not_yet_is_an_intermediate_state(word: bytes) -> None:
    world = World()
    acme, a, one = taken(world)
    a.delivers(saying(b"id:id-1 stat:" + word))
    a.reports(b"id-1")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]


# -- numbers ----------------------------------------------------------------------------------------------------------------


def test_words_and_numbers_mean_what_the_configuration_says() -> None:
    states = {"0": "delivered", "99": "undeliverable", "bufferd": "expired", "ONHOLD": "enroute"}
    world = World(settings(a={"receipt_states": states}))
    acme, a, ids = submitted(world, b"id-1", b"id-2", b"id-3", b"id-4")
    for number, word in enumerate((b"0", b"99", b"BUFFERD", b"OnHold"), 1):
        a.delivers(saying(b"id:id-%d stat:%b err:0" % (number, word)))
    world.commits()
    assert [name for name, _ in acme.receipts()] == ids[:3]
    assert [world.states(one)[1:2] for one in ids[:3]] == [[State.DELIVERED], [State.UNDELIVERABLE], [State.EXPIRED]]
    assert len(world.upstream().ids) == 1, "the fourth waits on"
    world.check()


def test_the_configuration_goes_before_message_state() -> None:
    world = World(settings(a={"receipt_states": {"0": "delivered"}}))
    _, a, one = taken(world)
    a.delivers(saying(b"id:id-1 stat:0", state=1))
    world.commits()
    assert world.states(one)[1:2] == [State.DELIVERED]


def test_a_reload_changes_what_words_and_ids_mean() -> None:
    world = World()
    acme, a, ids = submitted(world, b"1F", b"20")
    a.delivers(saying(b"id:1F stat:0"))
    world.commits()
    assert acme.receipts() == [(ids[0], "0")] and len(world.upstream().ids) == 2
    world.reloads(settings(a={"receipt_states": {"0": "delivered"}, "message_id_form": "hex_to_decimal"}))
    a.delivers(saying(b"id:31 stat:0"), saying(b"id:32 stat:0"), saying(b"id:20 stat:0"))
    world.commits()
    assert acme.receipts() == [(one, "0") for one in ids] and not world.upstream().ids
    assert len(world.upstream().parked) == 1, "20 is decimal now"
    world.check()


# -- message_state ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "state", "ends", "told"),
    [
        (b"id:id-1", 2, True, True),  # the TLV alone
        (b"id:id-1 stat:0 err:000", 2, True, True),  # a number that nobody knows
        (b"id:id-1 stat:ODD", 1, False, False),
        (b"id:id-1 stat:DELIVRD", 0, True, True),  # no value of SMPP 3.4
        (b"id:id-1 stat:DELIVRD", 77, True, True),  # nobody's value
        (b"id:id-1 stat:ENROUTE", 77, False, False),
        (b"id:id-1 stat:ODD", 77, False, True),
        (b"id:id-1 stat:DELIVRD", 1, False, True),  # it contradicts itself
        (b"id:id-1 stat:ENROUTE", 2, False, True),
        (b"id:id-1 stat:UNDELIV", 3, True, True),  # both are an end
    ],
)
def test_message_state_and_the_text(text: bytes, state: int, ends: bool, told: bool) -> None:
    world = World()
    acme, a, _ = taken(world)
    a.delivers(saying(text, state=state, name=b"id-1"))
    world.commits()
    assert bool(acme.takes()) == told
    assert (not world.upstream().ids) == ends
    if not ends:
        a.reports(b"id-1")
        world.commits()
        assert len(acme.receipts()) == 1
    world.check()


def test_an_intermediate_notification_of_an_end_is_passed_on_and_ends_nothing() -> None:
    world = World()
    acme, a, one = taken(world)
    a.delivers(saying(b"id:id-1 stat:DELIVRD", esm=0x20))
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")] and world.upstream().ids


# -- ACCEPTD ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("cold", [False, True])
def test_accepted_as_a_carrier_s_last_word_is_told_at_the_end(restart: bool, cold: bool) -> None:
    world = World(settings(acme={"expire_after": "1h"}))
    acme, a, one = taken(world)
    if cold:
        world.spills()
    a.reports(b"id-1", state=MessageState.ACCEPTED)
    world.commits()
    assert acme.receipts() == []
    if restart:
        world.commits()
        world.restarts()
        acme = world.customer()
    world.passes(70 * 3600, step=600)
    assert acme.receipts() == []
    world.passes(5 * 3600, step=600)
    assert acme.receipts() == [(one, "ACCEPTD")] and not world.store.cold
    assert State.ACCEPTED in world.states(one) and State.UNKNOWN not in world.states(one)
    world.check()


@pytest.mark.parametrize(
    ("registered", "words", "told"),
    [
        (1, ["ACCEPTED", "DELIVERED"], ["DELIVRD"]),
        (1, ["ACCEPTED", "ENROUTE"], ["ACCEPTD"]),
        (2, ["ACCEPTED"], []),
        (0x11, ["ACCEPTED"], ["ACCEPTD"]),  # told at once
        (1, ["ACCEPTED", "UNKNOWN"], ["UNKNOWN"]),
    ],
)
def test_what_is_told_of_a_message_that_was_accepted(registered: int, words: list[str], told: list[str]) -> None:
    world = World(settings(acme={"expire_after": "1h"}))
    acme, a, _ = taken(world, registered)
    for word in words:
        a.reports(b"id-1", state=MessageState[word])
        world.commits()
    world.passes(75 * 3600, step=600)
    assert [stat for _, stat in acme.receipts()] == told
    assert not world.store.cold


def test_a_receipt_without_stat_keeps_its_octets() -> None:
    world = World()
    acme, a, one = taken(world)
    a.delivers(saying(b"id:id-1 sub:001 err: text:"))
    world.commits()
    (sm,) = acme.takes()
    assert isinstance(sm, Sm) and sm.short_message == b"id:" + one + b" sub:001 err: text:"
