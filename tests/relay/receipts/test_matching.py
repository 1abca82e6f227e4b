"""Which message a receipt means: by which ids it names, with which addresses, with or without the mark of a receipt."""

from __future__ import annotations

import pytest

from smppd.protocol.receipt import MessageState, write
from smppd.protocol.wire import Command, Fields, Status, Tag, address_field, build_sm, id_response, pdu, tlv
from tests.relay.fakes import TO, World, receipt, settings
from tests.relay.receipts.test_receipts import submitted
from tests.vault.rows import NOON

OTHER = b"447700900555"
OWNED = {"acme": {"numbers": ["+447700900001"]}}


def brought(
    text: bytes,
    *,
    source: bytes = TO,
    destination: bytes = b"447700900001",
    esm: int = 4,
    tlvs: bytes = b"",
    coding: int = 0,
    command: int = Command.DELIVER_SM,
) -> bytes:
    """A deliver_sm, or a data_sm with the text in message_payload."""
    ends = address_field(1, 1, source) + address_field(1, 1, destination)
    if command == Command.DATA_SM:
        return pdu(command, 0, 0, b"\0" + ends + bytes((esm, 0, coding)) + tlv(Tag.MESSAGE_PAYLOAD, text) + tlvs)
    fields = Fields(esm_class=esm, data_coding=coding)
    return build_sm(command, 0, address_field(1, 1, source), address_field(1, 1, destination), text, fields, tlvs)


def delivered(name: bytes) -> bytes:
    return write(name, MessageState.DELIVERED, submitted=NOON, done=NOON)


def pair(name: bytes, state: int = 2) -> bytes:
    return tlv(Tag.RECEIPTED_MESSAGE_ID, name + b"\0") + tlv(Tag.MESSAGE_STATE, bytes((state,)))


# -- texts ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"447700900123SMSAlert^id:1054BC64 sub:0 dlvrd:1 submit date:2611222313 done date:2611222313 stat:DELIVRD err: text:",
        b"\xfe\xff" + delivered(b"1054BC64").decode().encode("utf-16-be"),
        b"\xff\xfe" + delivered(b"1054BC64").decode().encode("utf-16-le"),
        delivered(b"1054BC64").decode().encode("utf-16-le"),
        b"\xef\xbb\xbf" + delivered(b"1054BC64"),
        "id:1054BC64 stat:DELIVRD text:Привет мир".encode("utf-16-be"),
        b'{"id":"1054BC64","status":"DELIVRD"}',
        b"id=1054BC64&stat=DELIVRD&err=0",
        b"DLR|id:1054BC64|stat:DELIVRD",
        b"\x05\0\3\x11\2\1" + delivered(b"1054BC64"),
    ],
)
@pytest.mark.parametrize("coding", [0, 8])
def test_an_id_is_found_in_any_text(text: bytes, coding: int) -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"1054BC64")
    a.delivers(brought(text, coding=coding, esm=0x44 if text[0] == 5 else 4))
    world.commits()
    (sm,) = acme.takes()
    assert b"1054BC64" not in sm.raw.replace(b"\0", b"") and one in sm.raw.replace(b"\0", b"")
    assert a.acknowledged() == [0] and not world.upstream().parked


def test_what_names_no_id_is_counted_and_said_and_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    acme, a, _ = submitted(world, b"id-1")
    a.delivers(brought(b"Your message was delivered"), brought(b""), brought(b"stat:DELIVRD"))
    world.commits()
    world.relay.context.log_counts.write()
    assert a.acknowledged() == [0, 0, 0] and acme.takes() == []
    assert world.total("receipts", upstream="a", outcome="unreadable") == 3
    (said,) = [record for record in caplog.records if record.message == "receipts not read"]
    assert said.fields == {"upstream": "a", "receipts": 3, "reason": "no id"}  # type: ignore[attr-defined]


def test_what_names_no_id_may_still_tell_of_the_one_unknown_message_between_its_addresses() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    a.cut()
    a = world.carrier()
    a.delivers(brought(b"stat:ENROUTE"), brought(b"stat:DELIVRD dlvrd:1"))
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.passes(70)
    assert a.sent == [] and not world.upstream().unknown
    world.check()


# -- without the mark of a receipt ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owned", [False, True], ids=["nobody's number", "an account's number"])
@pytest.mark.parametrize("esm", [0x00, 0x08, 0x10, 0x18])
@pytest.mark.parametrize("command", [Command.DELIVER_SM, Command.DATA_SM])
@pytest.mark.parametrize("told", ["both", "tlvs", "text"])
@pytest.mark.parametrize("where", ["memory", "cold", "restarted"])
def test_the_pair_of_tlvs_or_the_id_of_a_waiting_message_makes_a_receipt(
    owned: bool, esm: int, command: int, told: str, where: str
) -> None:
    world = World(settings(**(OWNED if owned else {})))
    acme, a, (one,) = submitted(world, b"73000001")
    if where == "cold":
        world.spills()
    if where == "restarted":
        world.restarts()
        acme, a = world.customer(), world.carrier()
    text = b"see below" if told == "tlvs" else delivered(b"73000001")
    frame = brought(text, esm=esm, command=command, tlvs=b"" if told == "text" else pair(b"73000001"))
    for _ in range(2):  # the second time it is the same again, not a message of somebody's
        a.delivers(frame)
        world.commits()
    heard = [frame for frame in acme.heard if not frame[4] & 0x80]
    assert len(heard) == 1 and b"73000001" not in heard[0] and one in heard[0]
    assert a.acknowledged() == [0, 0] and not world.upstream().ids and not world.upstream().parked
    world.check()


@pytest.mark.parametrize("where", ["memory", "cold"])
@pytest.mark.parametrize(
    ("name", "source", "text"),
    [
        (b"73000001", OTHER, b"id:73000001 stat:DELIVRD"),  # another subscriber
        (b"73000001", TO, b"id:73000002 stat:DELIVRD"),  # an id that was not given
        (b"73000001", TO, b"my id:73000001"),  # no receipt's text
        (b"73000001", TO, b"stat:DELIVRD"),
    ],
)
def test_what_a_subscriber_writes_stays_a_message(where: str, name: bytes, source: bytes, text: bytes) -> None:
    world = World(settings(**OWNED))
    acme, a, _ = submitted(world, name)
    if where == "cold":
        world.spills()
    a.delivers(brought(text, source=source, esm=0))
    world.commits()
    (sm,) = acme.takes()
    assert (sm.short_message, sm.esm_class, sm.source_digits) == (text, 0, source)
    assert a.acknowledged() == [0]
    a.reports(name)
    world.commits()
    assert len(acme.receipts()) == 1, "and the message still waits for its receipt"
    world.check()


def test_what_looks_like_a_receipt_to_nobody_s_number_is_refused() -> None:
    world = World()
    _, a, _ = submitted(world, b"73000001")
    world.spills()
    a.delivers(brought(b"id:73000002 stat:DELIVRD", esm=0))
    world.commits()
    assert a.acknowledged() == [Status.RX_P_APPN]


def test_one_without_the_mark_before_its_answer() -> None:
    world = World(settings(**OWNED))
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    a.delivers(brought(delivered(b"73000001"), esm=0))
    assert a.acknowledged() == []
    a.answers(b"73000001")
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")] and a.acknowledged() == [0]


# -- ids --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (b"SAR-447700900123-1eedf843-2-1", b"SAR-447700900123-1EEDF843-2-1"),
        (b"SAR-447700900123-1eedf843-2-1", b"sar4477009001231EEDF84321"),
        (b"00ABCDEF", b"11259375"),
        (b"0011259375", b"00aBcDeF"),
        (b"3F2B8C1E-0000-4000-8000-0123456789AB", b"3f2b8c1e0000400080000123456789ab"),
        (b"{1054BC64}", b"1054bc64"),
        (b"x.17", b"X17"),
    ],
)
@pytest.mark.parametrize("when", ["after", "before", "cold", "restarted", "cold and restarted"])
@pytest.mark.parametrize("by", ["text", "tlv"])
def test_ids_that_differ_in_several_ways_at_once(given: bytes, named: bytes, when: str, by: str) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    (one,) = acme.ids()
    frame = brought(b"id:" + named + b" stat:DELIVRD") if by == "text" else brought(b"", tlvs=pair(named))
    if when == "before":
        a.delivers(frame)
        world.commits()
        assert len(world.upstream().parked) == 1
    a.answers(given)
    world.commits()
    if "cold" in when:
        world.spills()
    if "restarted" in when:
        world.commits()
        world.restarts()
        acme, a = world.customer(), world.carrier()
    if when != "before":
        a.delivers(frame)
    world.commits()
    (sm,) = acme.takes()
    assert one in sm.raw and named not in sm.raw
    world.commits()
    assert not world.upstream().ids and not world.upstream().alike and not world.upstream().parked_keys
    world.check()


@pytest.mark.parametrize(
    ("given", "named"),
    [(b"1F", b"1F"), (b"1F", b"31"), (b"0001f", b"1f"), (b"ABC-1", b"abc-1"), (b"4c" * 32, b"4c" * 32)],
)
def test_rows_of_earlier_versions_are_found_by_the_very_id(given: bytes, named: bytes) -> None:
    world = World()
    acme, a, (one,) = submitted(world, given)
    world.spills()
    for key, row in list(world.store.cold.items()):
        del world.store.cold[key]
        world.store.cold[row.kind, row.owner, given, row.id] = row._replace(key=given)
    world.restarts()
    acme, a = world.customer(), world.carrier()
    world.upstream().matcher.answered(given)
    a.reports(named)
    world.commits()
    assert acme.receipts() == [(one, "DELIVRD")]
    world.commits()
    assert not world.store.cold
    world.check()


def test_an_id_that_is_only_alike_is_not_believed_against_the_addresses() -> None:
    world = World()
    acme, a, _ = submitted(world, b"ABC-1")
    a.delivers(brought(b"id:abc1 stat:DELIVRD", source=OTHER))
    world.commits()
    assert acme.takes() == [] and len(world.upstream().parked) == 1


def test_of_two_ids_that_are_alike_the_exact_one_counts() -> None:
    world = World()
    acme, a, (one, two) = submitted(world, b"abc", b"ABC")
    a.reports(b"ABC", b"abc")
    world.commits()
    assert acme.receipts() == [(two, "DELIVRD"), (one, "DELIVRD")]


def test_the_exact_id_of_another_subscriber_s_message_does_not_take_a_receipt_that_fits_elsewhere() -> None:
    """Hexadecimal in the answers, decimal in the receipts: 22 is 0x16's receipt, and the id of another message."""
    for cold in (False, True):
        world = World()
        acme, a, (one,) = submitted(world, b"16")
        if cold:
            world.spills()
        acme.submits(b"y", to=OTHER)
        world.commits()
        a.answers(b"22")
        world.commits()
        (two,) = acme.ids()
        a.reports(b"22")
        world.commits()
        assert acme.receipts() == [(one, "DELIVRD")]
        a.delivers(receipt(b"34", to=OTHER))
        world.commits()
        assert acme.receipts() == [(two, "DELIVRD")]
        world.check()


def test_the_exact_id_is_believed_where_nothing_fits_better() -> None:
    for cold in (False, True):
        world = World()
        acme, a, _ = submitted(world, b"id-1")
        if cold:
            acme.submits(b"y")
            world.spills()
        a.delivers(receipt(b"id-1", to=b"19995550100"))  # a carrier that writes something else there
        world.commits()
        assert len(acme.receipts()) == 1
        world.check()


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize(
    ("form", "given", "named"),
    [
        ("hex_to_decimal", b"1F", b"31"),
        ("decimal_to_hex", b"31", b"1f"),
        ("alike", b"SAR-1eedf843-2", b"SAR1EEDF8432"),
    ],
)
def test_a_form_that_is_set_needs_the_destination_only(form: str, given: bytes, named: bytes, cold: bool) -> None:
    world = World(settings(a={"message_id_form": form}))
    acme, a, _ = submitted(world, given)
    if cold:
        world.spills()
    a.delivers(brought(b"id:" + named + b" stat:DELIVRD", source=OTHER, destination=b"80000"))
    world.commits()
    assert acme.takes() == [] and len(world.upstream().parked) == 1
    a.delivers(brought(b"id:" + named + b" stat:DELIVRD", source=b"07700900123", destination=b"80000"))
    world.commits()
    assert len(acme.receipts()) == 1, "a carrier that replaces senders, and knows no country"
    world.check()


def test_a_form_that_is_settled_needs_the_destination_only() -> None:
    world = World()
    names = [b"%x" % number for number in range(0xA000, 0xA011)]
    acme, a, _ = submitted(world, *names)
    for name in names[:16]:
        a.reports(b"%d" % int(name, 16))
    world.commits()
    assert len(acme.receipts()) == 16
    a.delivers(brought(b"id:%d stat:DELIVRD" % int(names[16], 16), destination=b"80000"))
    world.commits()
    assert len(acme.receipts()) == 1


# -- ids that are too long, too short, or given twice ------------------------------------------------------------------------


@pytest.mark.parametrize("octets", [64, 65, 66, 128, 129, 254, 300, 5000])
@pytest.mark.parametrize("cold", [False, True])
def test_an_id_of_any_length(octets: int, cold: bool) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", b"y")
    world.commits()
    one, two = acme.ids()
    first, second = b"L" * (octets - 1) + b"1", b"L" * (octets - 1) + b"2"
    a.answers(first, second)
    world.commits()
    if cold:
        world.spills()
        assert world.upstream().cold_waiting == 2 and not world.broken
        world.restarts()
        acme, a = world.customer(), world.carrier()
    a.delivers(brought(b"", tlvs=pair(second)), brought(b"stat:DELIVRD", tlvs=pair(first)))
    world.commits()
    assert [one in sm.raw or two in sm.raw for sm in acme.takes()] == [True, True]
    assert world.states(one).count(2) == world.states(two).count(2) == 1
    world.check()


def test_a_long_id_that_the_receipt_cuts_off() -> None:
    for cold in (False, True):
        world = World()
        acme, a, _ = submitted(world, b"4c" * 150)
        if cold:
            world.spills()
        a.reports((b"4c" * 150)[:65])
        world.commits()
        assert len(acme.receipts()) == 1
        world.check()


def test_an_answer_without_the_end_of_its_id() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    frame = id_response(Command.SUBMIT_SM, a.waiting.pop(0).sequence, b"z" * 400)
    a.answers_with(len(frame[:-1]).to_bytes(4, "big") + frame[4:-1])
    world.commits()
    assert len(world.upstream().ids) == 1
    world.spills()
    assert world.upstream().cold_waiting == 1 and not world.broken


@pytest.mark.parametrize("where", ["memory", "at once", "cold", "cold and restarted"])
def test_one_id_for_two_messages_and_two_receipts_alike(where: str) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", b"y")
    world.commits()
    ids = acme.ids()
    a.answers(b"7", b"7")
    if where != "at once":
        world.commits()
    if "cold" in where:
        world.spills()
    if "restarted" in where:
        world.commits()
        world.restarts()
        acme, a = world.customer(), world.carrier()
    if where == "at once":
        a.reports(b"7", b"7")
        world.commits()
    else:
        for _ in range(2):
            a.reports(b"7")
            world.commits()
    assert sorted(acme.receipts()) == sorted((one, "DELIVRD") for one in ids)
    for _ in range(3):
        a.reports(b"7")
        world.commits()
    assert acme.receipts() == [] and not world.upstream().parked, "the carrier brings them again"
    assert a.acknowledged() == [0] * 5
    world.check()
    assert not world.upstream().displaced and world.store.cold == {}


def test_an_id_given_anew_after_its_message_ended_has_a_receipt_of_its_own() -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"7")
    a.reports(b"7")
    world.commits()
    acme.submits(b"y")
    world.commits()
    a.answers(b"7")
    a.reports(b"7")
    world.commits()
    (two,) = acme.ids()
    assert [name for name, _ in acme.receipts()] == [one, two]
    a.reports(b"7")
    world.commits()
    assert acme.receipts() == []


def test_many_messages_under_one_id() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    ids = []
    for number in range(300):
        acme.submits(b"x", to=b"4477009%05d" % (number % 50))
    world.commits()
    ids = acme.ids()
    a.answers(*[b"0"] * 300)
    world.commits()
    for number in range(300):
        a.reports(b"0", to=b"4477009%05d" % (number % 50))
        world.commits()
    assert sorted(acme.receipts()) == sorted((one, "DELIVRD") for one in ids)
    world.check()


def test_an_intermediate_word_twice_is_passed_on_once() -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"7")
    for _ in range(3):
        a.delivers(brought(b"id:7 stat:ONHOLD"))
        world.commits()
    assert acme.receipts() == [(one, "ONHOLD")]
