"""Peers that do not keep to the letter: what they bring is served where it can be, told why where not, and seen in the log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from smppd.protocol import times
from smppd.protocol.session import Nack
from smppd.protocol.wire import (
    HEADER,
    BodyError,
    Command,
    Fields,
    Sm,
    Status,
    Tag,
    address_field,
    build_sm,
    pdu,
    tlv,
)
from tests.relay.accept.test_desk import multi
from tests.relay.fakes import FROM, TO, World, receipt, settings
from tests.relay.receipts.test_receipts import submitted
from tests.relay.test_operations import asked, cancel, one_waiting, query, replace
from tests.vault.rows import NOON

NUMBER = b"447700900500"
OWNER = {"numbers": ["447700900500"]}


def longer(frame: bytes, tail: bytes) -> bytes:
    return (len(frame) + len(tail)).to_bytes(4, "big") + frame[4:] + tail


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, object]]:
    return [record.__dict__["fields"] for record in caplog.records if record.message == event]


# -- carriers -----------------------------------------------------------------------------------------------------------

STATE = tlv(Tag.MESSAGE_STATE, b"\2")
SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "stray octet": lambda raw: longer(raw, b"\0"),
    "repeated tlv": lambda raw: longer(raw, STATE + STATE),
    "broken tlv": lambda raw: longer(raw, STATE + b"\4"),
    "time": lambda raw: longer(raw.replace(b"\4\0\0\0\0", b"\4\0\x00261129120000\0\0"), b""),
    "length": lambda raw: raw.replace(bytes((len(Sm(raw).short_message),)) + b"id:", b"\xffid:"),
    "cut short": lambda raw: longer(raw.replace(b"\4\0\0\0\0", b"\4\0\0\0"), b""),
    "field too long": lambda raw: longer(raw.replace(b"\x01\x01" + TO, b"\x01\x01" + TO + b" " * 20), b""),
}


@pytest.mark.parametrize("fault", list(SPOILT))
def test_a_receipt_that_is_not_to_the_letter_arrives(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    acme, a, (one,) = submitted(world, b"id-1")
    a.delivers(SPOILT[fault](receipt(b"id-1")))
    world.commits()
    assert a.acknowledged() == [0] and acme.receipts() == [(one, "DELIVRD")]
    assert world.total("upstream_pdus_mended", upstream="a", fault=fault) == 1
    assert lines(caplog, "PDU not to the letter") == [{"upstream": "a", "fault": fault, "count": 1}]
    world.check()


def test_a_thousand_of_them_end_no_link_and_make_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    names = [b"id-%d" % number for number in range(1000)]
    acme, a, _ = submitted(world, *names[:500])
    for chunk in range(0, 1000, 500):
        if chunk:
            acme.submits(*[b"x"] * 500)
            world.commits()
            a.answers(*names[chunk : chunk + 500])
        a.delivers(*[longer(receipt(name), b"\0") for name in names[chunk : chunk + 500]])
        world.commits()
        assert len(acme.receipts()) == 500
        acme.answered()
    a.delivers(*[pdu(Command.DELIVER_SM, 0, 0)] * 900)
    assert a.session.bound and a.session.close_reason is None
    assert set(a.acknowledged()) == {0, Status.RINVMSGLEN}
    world.passes(61)
    told = lines(caplog, "PDU not to the letter")
    assert [(line["fault"], line["count"]) for line in told] == [
        ("stray octet", 1),
        ("unreadable", 1),
        ("stray octet", 999),
        ("unreadable", 899),
    ]
    assert world.total("upstream_pdus_mended", upstream="a", fault="unreadable") == 900


def test_what_the_customer_gets_of_an_mo_message_is_to_the_letter() -> None:
    world = World(settings(acme=OWNER))
    acme, a = world.customer(), world.carrier()
    good = build_sm(5, 0, FROM, address_field(1, 1, NUMBER), b"hi\0", Fields(data_coding=3), tlv(0x1400, b"v"))
    a.delivers(longer(good, tlv(0x204, b"\0\1") * 2), longer(good, b"\4\x24"), good)
    world.commits()
    got = [sm.raw[16:] for sm in acme.takes()]
    assert got == [good[16:] + tlv(0x204, b"\0\1"), good[16:], good[16:]]


def test_an_mo_message_without_an_owner_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    a = world.carrier()
    frame = build_sm(5, 0, FROM, address_field(1, 1, NUMBER), b"secret")
    a.delivers(frame, frame, frame)
    assert a.acknowledged() == [Status.RX_P_APPN] * 3
    world.passes(61)
    named = {"upstream": "a", "from": "44770***0001", "to": "44770***0500"}
    assert lines(caplog, "MO message without an owner") == [{**named, "count": 1}, {**named, "count": 2}]
    assert world.total("mo_messages", upstream="a", outcome="no owner") == 3
    others = [
        build_sm(5, 0, address_field(5, 0, b"A%03d" % number), address_field(1, 1, b"1"), b"") for number in range(300)
    ]
    a.delivers(*others)
    assert all(
        "secret" not in str(record.__dict__) and "447700900" not in str(record.__dict__) for record in caplog.records
    )


def test_lines_about_many_things_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    for number in range(1000):
        world.relay.context.notices.note("event", {"what": str(number)}, world.now)
    assert len(lines(caplog, "event")) == 101
    world.passes(61)
    assert lines(caplog, "event")[101:] == [{"others": "yes", "count": 899}]
    world.passes(61)
    caplog.clear()
    world.relay.context.notices.note("event", {"what": "again"}, world.now)
    assert lines(caplog, "event") == [{"what": "again", "count": 1}]


@pytest.mark.parametrize("side", ["account", "upstream"])
def test_what_a_generic_nack_said_is_in_the_log(side: str, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x")
    world.commits()
    session = a.session
    session.receive(pdu(Command.GENERIC_NACK, Status.RINVCMDID, a.waiting[0].sequence), world.now)
    session.receive(pdu(Command.GENERIC_NACK, 0x400, 99), world.now)
    assert session.nacks == [Nack(Command.SUBMIT_SM, Status.RINVCMDID, a.waiting[0].sequence), Nack(0, 0x400, 99)]
    world.relay.peer_nacked(side, "one", session, world.now)
    assert session.nacks == []
    assert lines(caplog, "generic_nack") == [
        {
            side: "one",
            "request": "submit_sm",
            "status": "ESME_RINVCMDID",
            "count": 1,
            "sequence": a.waiting[0].sequence,
        },
        {side: "one", "request": "unknown", "status": "0x00000400", "count": 1, "sequence": 99},
    ]
    assert world.total("generic_nacks", request="submit_sm") == 1


# -- customers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tlvs", [b"", tlv(0x1400, b"1101")])
def test_one_nul_behind_the_text_is_served_and_never_counted_against_the_session(tlvs: bytes) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    frame = build_sm(Command.SUBMIT_SM, 0, FROM, address_field(1, 1, TO), b"hello", Fields(registered=1))
    acme.sends(*[longer(frame, b"\0" + tlvs)] * 50)
    world.commits()
    assert acme.statuses() == [0] * 50 and acme.session.bound
    assert {sm.raw[16:] for sm in a.waiting} == {frame[16:] + tlvs}
    assert world.total("pdus_mended", account="acme", fault="stray octet") == 50
    world.check()


def test_a_submit_multi_likewise() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.sends(longer(multi(b"447700900123", b"447700900124"), b"\0"))
    world.commits()
    assert [status for _, status, _ in acme.answered()] == [0]
    assert [sm.at_tlvs == len(sm.raw) for sm in a.waiting] == [True, True]
    assert world.total("pdus_mended", account="acme", fault="stray octet") == 1


def test_an_account_may_have_the_letter() -> None:
    world = World(settings(acme={"strict_fields": True}))
    acme = world.customer()
    frame = build_sm(Command.SUBMIT_SM, 0, FROM, address_field(1, 1, TO), b"hello")
    acme.sends(longer(frame, b"\0"), longer(multi(b"447700900123"), b"\0"))
    world.commits()
    assert acme.statuses() == [Status.RINVOPTPARSTREAM] * 2


def test_what_else_libraries_write_is_served_or_told() -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    to = address_field(1, 1, TO)
    acme.sends(
        build_sm(Command.SUBMIT_SM, 0, FROM, to, b"x" * 255),
        build_sm(Command.SUBMIT_SM, 0, FROM, to, b"", tlvs=tlv(0x424, b"")),
        build_sm(Command.SUBMIT_SM, 0, FROM, to, b"counted\0"),
        # schedule_delivery_time without its NUL
        pdu(Command.SUBMIT_SM, 0, 0, b"\0" + FROM + to + b"\0\0\0\0\0\0\0\0\5hello"),
    )
    world.commits()
    assert acme.statuses() == [Status.RINVMSGLEN, 0, 0, 0] and len(a.waiting) == 3


def test_enquiries_that_end_behind_the_id() -> None:
    world = World()
    acme, name = one_waiting(world)
    assert asked(acme, pdu(Command.QUERY_SM, 0, 0, name + b"\0"))[0] == 0
    assert asked(acme, pdu(Command.CANCEL_SM, 0, 0, b"\0" + name + b"\0"))[0] == 0
    assert asked(acme, pdu(Command.CANCEL_SM, 0, 0, b"\0\0"))[0] == Status.RINVMSGLEN


@pytest.mark.parametrize("version", [0x33, 0x34, 0x50])
def test_refused_enquiries_carry_their_fields(version: int) -> None:
    world = World()
    acme = world.customer(version=version)
    unknown = b"0123456789abcdef"
    acme.sends(query(unknown), query(b"no id"), pdu(Command.QUERY_SM, 0, 0, b"x" * 70))
    assert [(f[8:12], f[16:]) for f in acme.heard if f[4] & 0x80] == [
        (status.to_bytes(4, "big"), b"\0\0\7\0") for status in (Status.RINVMSGID,) * 3
    ]
    acme.heard.clear()
    acme.sends(cancel(unknown), replace(unknown, b"x"))
    assert [f[16:] for f in acme.heard] == [b"", b""]


# -- times --------------------------------------------------------------------------------------------------------------

PAST = times.write_absolute(NOON - 1)
SOON = times.write_absolute(NOON + 60)
LATER = times.write_absolute(NOON + 3600)
IMPOSSIBLE = [
    (b"", b"000000000000000R", Status.RINVEXPIRY),
    (b"", PAST, Status.RINVEXPIRY),
    (b"", times.write_absolute(NOON), Status.RINVEXPIRY),
    (b"", b"260230000000000+", Status.RINVEXPIRY),
    (b"", b"261129126000000+", Status.RINVEXPIRY),
    (b"", b"261129120000049+", Status.RINVEXPIRY),
    (b"", b"261129120000000Z", Status.RINVEXPIRY),
    (b"", b"tomorrow at noon", Status.RINVEXPIRY),
    (b"260230000000000+", b"", Status.RINVSCHED),
    (b"261301000000000+", LATER, Status.RINVSCHED),
    (b"tomorrow at noon", b"", Status.RINVSCHED),
    (LATER, SOON, Status.RINVEXPIRY),
    (LATER, LATER, Status.RINVEXPIRY),
    (b"000000010000000R", b"000000005900000R", Status.RINVEXPIRY),
    (LATER, b"000000005900000R", Status.RINVEXPIRY),
]
POSSIBLE = [
    (b"", SOON),
    (b"", b"000000000001000R"),
    (b"", b"000000480000000R"),  # of that many hours, though the letter ends at 23
    (SOON, LATER),
    (PAST, SOON),
    (b"000000000000000R", b"000000000001000R"),
    (LATER, b""),
]


@pytest.mark.parametrize(("schedule", "validity", "status"), IMPOSSIBLE)
def test_an_impossible_time_is_refused(schedule: bytes, validity: bytes, status: int) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(*[b"x"] * 30, schedule=schedule, validity=validity)
    world.commits()
    assert acme.statuses() == [status] * 30 and not a.waiting
    assert acme.session.bound, "it is no broken PDU"
    many = multi(b"447700900123", b"447700900124")
    at = many.index(b"\0\0\0\0\0\1\0\0\0")
    many = many[: at + 3] + schedule + b"\0" + validity + b"\0" + many[at + 5 :]
    acme.sends(longer(many, b""))
    world.commits()
    assert acme.statuses() == [status]
    world.check()


@pytest.mark.parametrize(("schedule", "validity", "status"), IMPOSSIBLE)
def test_nor_does_a_replace_take_it(schedule: bytes, validity: bytes, status: int) -> None:
    world = World()
    acme, name = one_waiting(world)
    [waiting] = next(iter(acme.account.lanes.values())).hot
    before = waiting.frame
    body = name + b"\0" + FROM + schedule + b"\0" + validity + b"\0\0\0\3new"
    for _ in range(30):
        assert asked(acme, pdu(Command.REPLACE_SM, 0, 0, body)) == (status, b"")
        world.passes(1)
    assert acme.session.bound
    assert waiting.frame == before


@pytest.mark.parametrize(("schedule", "validity"), POSSIBLE)
def test_a_possible_one_passes_as_it_came(schedule: bytes, validity: bytes) -> None:
    world = World()
    acme, a = world.customer(), world.carrier()
    acme.submits(b"x", schedule=schedule, validity=validity)
    world.commits()
    assert acme.statuses() == [0]
    assert [(sm.schedule, sm.validity) for sm in a.waiting] == [(schedule, validity)]


_TIMES = st.one_of(
    st.just(b""), st.from_regex(rb"[0-9]{12}[0-9][0-4][0-9][-+R]", fullmatch=True), st.binary(min_size=16, max_size=16)
)


@hypothesis(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(_TIMES, _TIMES)
def test_no_message_is_taken_that_could_never_go(schedule: bytes, validity: bytes) -> None:
    try:
        ends = times.check(schedule, validity, NOON)
    except BodyError as error:
        assert error.status in (Status.RINVSCHED, Status.RINVEXPIRY)
    else:
        assert ends is None or ends > NOON
        assert (ends is None) == (validity == b"")


# -- sizes --------------------------------------------------------------------------------------------------------------


def test_the_largest_payload_goes_both_ways_and_over_the_disk() -> None:
    world = World(settings(acme=OWNER, hot=1))
    acme = world.customer()
    text = bytes(range(256)) * 256
    whole = build_sm(
        Command.SUBMIT_SM, 0, FROM, address_field(1, 1, TO), b"", Fields(registered=1), tlv(0x424, text[:65_535])
    )
    assert HEADER.size + 65_535 < len(whole) < 68 * 1024
    for _ in range(4):
        acme.sends(whole)
        world.commits()
    ids = acme.ids()
    world.spills()
    world.restarts()
    a = world.carrier()
    world.commits()
    assert [sm.raw[16:] for sm in a.waiting] == [whole[16:]] * 4
    a.answers(b"id-1", b"id-2", b"id-3", b"id-4")
    world.commits()
    long = receipt(b"id-1")
    told = long[long.index(b"id:") :]
    a.delivers(
        build_sm(
            5,
            0,
            address_field(1, 1, TO),
            FROM,
            b"",
            Fields(esm_class=4),
            tlv(0x424, told + b"z" * (65_535 - len(told))),
        ),
        build_sm(5, 0, FROM, address_field(1, 1, NUMBER), b"", tlvs=tlv(0x424, text[:65_535])),
    )
    world.commits()
    assert a.acknowledged() == [0, 0]
    world.spills()
    world.restarts()
    acme = world.customer()
    world.commits()
    first, second = acme.takes()
    assert first.body.startswith(b"id:" + ids[0] + b" ") and 65_500 < len(first.body) <= 65_535
    assert second.body == text[:65_535]
    world.check()
