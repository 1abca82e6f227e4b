"""Receipts composed of what carriers write: whichever names a waiting message reaches its customer, once, and nobody else's."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from smppd.protocol.receipt import MessageState, parse
from smppd.protocol.wire import Command, Fields, Sm, Tag, address_field, build_sm, pdu, tlv
from tests.relay.fakes import HASH, FakeCustomer, FakeLink, World, settings

ACCOUNTS = ("acme", "zeta", "omni")
NUMBERS = {"acme": b"447700900001", "zeta": b"447700900002", "omni": b"447700900003"}
STATES = {
    MessageState.DELIVERED: (b"DELIVRD", b"delivrd", b"Delivered", b"DELIVERD", b"DELIVRED"),
    MessageState.UNDELIVERABLE: (b"UNDELIV", b"Undelivered", b"FAILED"),
    MessageState.EXPIRED: (b"EXPIRED", b"expired"),
    MessageState.REJECTED: (b"REJECTD", b"Rejected"),
    MessageState.DELETED: (b"DELETED", b"CANCELLED"),
}
FORMS = ("raw", "stripped", "padded", "case", "hexadecimal", "decimal", "uuid", "several")
LABELS = {
    "id": (b"id", b"ID", b"Id", b"message_id", b"msgid", b"MessageId"),
    "sub": (b"sub", b"Sub"),
    "dlvrd": (b"dlvrd", b"DLVRD"),
    "submit date": (b"submit date", b"Submit Date", b"submitdate", b"submit_date"),
    "done date": (b"done date", b"DONE DATE", b"donedate", b"done_date"),
    "stat": (b"stat", b"Stat", b"STAT", b"status"),
    "err": (b"err", b"Err", b"error"),
    "text": (b"text", b"Text", b"TEXT"),
}
VALUES = {
    "sub": (b"001", b"1", b""),
    "dlvrd": (b"001", b"000", b"1"),
    "submit date": (b"2611222313", b"261122231301", b"2026-11-22 23:13:01"),
    "done date": (b"2611222313", b"20261122231301"),
    "err": (b"000", b"0", b"0A1", b"", b"9" * 200),
    "text": (b"", b"hello", b"Order id:991 is ready", b"your code: 17, status: fine", b"x" * 60),
}


def ids(form: str, number: int) -> tuple[bytes, bytes]:
    """(id in the answer, id in the receipt) of message ``number``."""
    value = 0x5A00_0000 + 0x1_0007 * number
    hexadecimal, decimal = b"%x" % value, b"%d" % value
    uuid = b"3f2b8c1e-0000-4000-8000-%012x" % value
    sar = b"SAR-%d-1eedf843-%d-1" % (value, number)
    return {
        "raw": (b"r" + decimal, b"r" + decimal),
        "stripped": (b"00" + decimal + b"7", decimal + b"7"),
        "padded": (decimal + b"8", b"000" + decimal + b"8"),
        "case": (b"AbQ" + hexadecimal, b"aBq" + hexadecimal.upper()),
        "hexadecimal": (b"%x" % (value + 1), b"%d" % (value + 1)),
        "decimal": (b"%d" % (value + 2), b"%X" % (value + 2)),
        "uuid": (uuid, uuid.replace(b"-", b"").upper()),
        "several": (sar, sar.upper().replace(b"-", b"")),
    }[form]


@dataclass(frozen=True)
class Recipe:
    """One message, and the receipt that a carrier sends for it."""

    account: str
    where: str
    form: str
    naming: str
    esm: int
    body: str
    script: str
    style: str
    order: tuple[str, ...]
    missing: frozenset[str]
    state: MessageState
    word: bytes
    labels: tuple[int, ...]
    values: tuple[int, ...]
    numbers: str


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    state = draw(st.sampled_from(list(STATES)))
    return Recipe(
        draw(st.sampled_from(ACCOUNTS)),
        draw(st.sampled_from(("memory", "cold", "restarted"))),
        draw(st.sampled_from(FORMS)),
        draw(st.sampled_from(("text", "both", "tlv", "text twice", "all twice"))),
        draw(st.sampled_from((0x04, 0x00, 0x08))),
        draw(st.sampled_from(("short_message", "payload", "data_sm"))),
        draw(st.sampled_from(("ascii", "ascii", "be", "be mark", "le", "le mark", "utf-8 mark"))),
        draw(st.sampled_from(("plain", "wide", "commas", "pipes", "colons", "prefix", "json", "query"))),
        tuple(draw(st.permutations(["id", "sub", "dlvrd", "submit date", "done date", "stat", "err"]))),
        frozenset(draw(st.sets(st.sampled_from(["sub", "dlvrd", "submit date", "done date", "err", "text"])))),
        state,
        draw(st.sampled_from(STATES[state])),
        tuple(draw(st.lists(st.integers(0, 5), min_size=8, max_size=8))),
        tuple(draw(st.lists(st.integers(0, 4), min_size=8, max_size=8))),
        draw(st.sampled_from(("same", "plus", "national", "zeros"))),
    )


def text_of(recipe: Recipe, named: bytes) -> bytes:
    """The receipt's text, in ASCII."""
    fields: list[tuple[bytes, bytes]] = []
    for place, name in enumerate(recipe.order):
        if name in recipe.missing or (name == "id" and recipe.naming == "tlv"):
            continue
        labels = LABELS[name]
        label = labels[recipe.labels[place] % len(labels)]
        if name == "id":
            value = named
        elif name == "stat":
            value = recipe.word
        else:
            value = VALUES[name][recipe.values[place] % len(VALUES[name])]
        if recipe.style in ("json", "query") and b" " in label:
            label = label.replace(b" ", b"_")
        fields.append((label, value))
        if name == "id" and "twice" in recipe.naming:
            fields.append((b"message id" if recipe.style not in ("json", "query") else b"message_id", named))
    if "text" not in recipe.missing:
        fields.append((LABELS["text"][recipe.labels[7] % 3], VALUES["text"][recipe.values[7] % 5]))
    if recipe.style == "json":
        return b"{" + b",".join(b'"%b":"%b"' % field for field in fields) + b"}"
    if recipe.style == "query":
        return b"&".join(b"%b=%b" % field for field in fields)
    between = {"wide": b"  ", "commas": b", ", "pipes": b"|"}.get(recipe.style, b" ")
    colon = b": " if recipe.style == "colons" else b":"
    text = between.join(label + colon + value for label, value in fields)
    return b"447700900123SMSAlert^" + text if recipe.style == "prefix" else text


def wide(text: bytes, script: str) -> tuple[bytes, int]:
    """The text as it is sent, and its data_coding."""
    if script == "ascii":
        return text, 0
    if script == "utf-8 mark":
        return b"\xef\xbb\xbf" + text, 0
    mark = {"be mark": b"\xfe\xff", "le mark": b"\xff\xfe"}.get(script, b"")
    return mark + text.decode().encode("utf-16-be" if script.startswith("be") else "utf-16-le"), 8


def written(recipe: Recipe, number: int, to: bytes) -> bytes:
    """The deliver_sm or data_sm."""
    _, named = ids(recipe.form, number)
    text, coding = wide(text_of(recipe, named), recipe.script)
    tlvs = b""
    if recipe.naming in ("both", "tlv", "all twice"):
        tlvs += tlv(Tag.RECEIPTED_MESSAGE_ID, named + b"\0") + tlv(Tag.MESSAGE_STATE, bytes((recipe.state,)))
    if recipe.naming == "all twice":
        tlvs += tlv(0x1501, named) + tlv(0x1502, named + b"\0")
    sender = NUMBERS[recipe.account]
    source = {"plus": b"+" + to, "national": b"0" + to[2:], "zeros": b"00" + to}.get(recipe.numbers, to)
    ends = address_field(1, 1, source) + address_field(1, 1, sender)
    if recipe.body == "data_sm":
        flags = bytes((recipe.esm, 0, coding))
        return pdu(Command.DATA_SM, 0, 0, b"\0" + ends + flags + tlv(Tag.MESSAGE_PAYLOAD, text) + tlvs)
    if recipe.body == "payload" or len(text) > 254:
        tlvs = tlv(Tag.MESSAGE_PAYLOAD, text) + tlvs
        text = b""
    fields = Fields(esm_class=recipe.esm, data_coding=coding)
    return build_sm(Command.DELIVER_SM, 0, address_field(1, 1, source), address_field(1, 1, sender), text, fields, tlvs)


def three() -> World:
    more = [
        {"system_id": name, "password_hash": HASH, "networks": "any", "window": 1000, "throughput": None}
        | {"receipts": {"window": 1000}, "numbers": [f"+{NUMBERS[name].decode()}"]}
        for name in ACCOUNTS[1:]
    ]
    return World(settings(acme={"numbers": [f"+{NUMBERS['acme'].decode()}"]}, more=more))


def send(
    world: World, link: FakeLink, customers: dict[str, FakeCustomer], some: list[tuple[int, Recipe]]
) -> dict[int, bytes]:
    """Submits a message for each recipe, which the carrier takes; our ids of them by number."""
    ours: dict[int, bytes] = {}
    for number, recipe in some:
        customer = customers[recipe.account]
        sender = address_field(1, 1, NUMBERS[recipe.account])
        to = address_field(1, 1, destination(number))
        customer.sends(build_sm(Command.SUBMIT_SM, 0, sender, to, b"x", Fields(registered=1)))
        world.commits()
        (ours[number],) = customer.ids()
        link.answers(ids(recipe.form, number)[0])
    world.commits()
    return ours


def taken(customer: FakeCustomer) -> list[Sm]:
    """What came for a customer, by deliver_sm or data_sm, acknowledged."""
    came, customer.heard = [Sm(frame) for frame in customer.heard if not frame[4] & 0x80], []
    for sm in came:
        customer.acknowledges(pdu(sm.command | 0x80000000, 0, sm.sequence, b"\0"))
    return came


def destination(number: int) -> bytes:
    return b"4477009%05d" % (number % 3)  # many messages go to one number, from different accounts


@hypothesis_settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(recipes(), min_size=15, max_size=20))
def test_each_reaches_its_customer_once_under_our_id(chosen: list[Recipe]) -> None:
    numbered = list(enumerate(chosen))
    world = three()

    def begin() -> tuple[FakeLink, dict[str, FakeCustomer]]:
        return world.carrier(), {name: world.customer(name) for name in ACCOUNTS}

    link, customers = begin()
    ours = send(world, link, customers, [one for one in numbered if one[1].where == "cold"])
    world.spills()
    ours |= send(world, link, customers, [one for one in numbered if one[1].where == "restarted"])
    world.restarts()
    link, customers = begin()
    ours |= send(world, link, customers, [one for one in numbered if one[1].where == "memory"])
    got: dict[str, list[Sm]] = {name: [] for name in ACCOUNTS}
    frames = {number: written(recipe, number, destination(number)) for number, recipe in numbered}
    for again in (False, True):
        for number, recipe in numbered:
            before = {name: len(taken) for name, taken in got.items()}
            link.delivers(frames[number])
            world.commits()
            for name in ACCOUNTS:
                got[name] += taken(customers[name])
            world.commits()
            note(f"{number} {recipe} {text_of(recipe, ids(recipe.form, number)[1])!r}")
            came = {name: len(taken) - before[name] for name, taken in got.items()}
            assert came == {name: int(name == recipe.account and not again) for name in ACCOUNTS}
            if not again:
                passed(got[recipe.account][-1], recipe, number, ours[number])
    assert set(link.acknowledged()) == {0}
    world.check()
    assert not world.upstream().parked and not world.upstream().ids and not world.upstream().cold_waiting


def passed(sm: Sm, recipe: Recipe, number: int, shown: bytes) -> None:
    """It is a receipt, between the right addresses, that a customer finds our id in, and nobody the carrier's."""
    assert sm.esm_class & 0x3C == 0x04
    assert (sm.source_digits, sm.destination_digits) == (destination(number), NUMBERS[recipe.account])
    read = parse(sm.short_message or sm.tlv(Tag.MESSAGE_PAYLOAD) or b"")
    assert read is not None and read.id == shown, "whoever reads the text only has to know"
    assert sm.tlv(Tag.RECEIPTED_MESSAGE_ID) in (None, shown + b"\0")
    assert read.state is recipe.state
    narrow = sm.raw.replace(b"\0", b"")
    for name in ids(recipe.form, number):
        assert name not in narrow
    content = VALUES["text"][recipe.values[7] % 5]
    if "text" not in recipe.missing and len(sm.short_message) < 250:  # else a longer id leaves less of it
        assert content in narrow, "what the customer wrote is the customer's"


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_are_what_they_say(form: str) -> None:
    pairs = [ids(form, number) for number in range(200)]
    assert len({one for one, _ in pairs}) == len({other for _, other in pairs}) == 200
    assert all((one == other) == (form == "raw") for one, other in pairs)
