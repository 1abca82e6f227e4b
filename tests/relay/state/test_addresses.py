"""Addresses written in different ways, and messages found by theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from smppd.protocol.wire import Command, Fields, Sm, address_field, build_sm
from smppd.relay.state.addresses import ByAddress, address_tail, bucket_key, near, without_number
from smppd.relay.state.model import Message
from tests.relay.fakes import World


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"447700900123", b"447700900123", True),
        (b"+447700900123", b"00447700900123", True),
        (b"07700900123", b"447700900123", True),
        (b"7700900123", b"447700900123", True),
        (b"87700900123", b"77700900123", True),  # another trunk prefix
        (b"40123456", b"4740123456", True),  # eight digits without their country
        (b"123456", b"4740123456", False),  # too short to say so
        (b"447700900123", b"447700900124", False),
        (b"40123457", b"4740123456", False),
        (b"ACME", b"acme", True),
        (b"ACME", b"ACMEX", False),
        (b"", b"", True),
        (b"", b"447700900123", False),
        (b"80000", b"80000", True),
        (b"8000", b"80000", False),
    ],
)
def test_near(one: bytes, other: bytes, same: bool) -> None:
    assert near(one, other) is near(other, one) is same
    if same:
        assert address_tail(one) == address_tail(other), "or it would not be found"


@hypothesis_settings(deadline=None)
@given(st.text("0123456789+aB", max_size=15).map(str.encode), st.text("0123456789+aB", max_size=15).map(str.encode))
def test_what_is_near_is_found(one: bytes, other: bytes) -> None:
    assert near(one, other) is near(other, one)
    if near(one, other):
        assert address_tail(one) == address_tail(other)


def receipt(source: bytes, destination: bytes) -> Sm:
    fields = Fields(esm_class=4)
    return Sm(
        build_sm(Command.DELIVER_SM, 0, address_field(1, 1, source), address_field(1, 1, destination), b"", fields)
    )


def test_they_are_found_by_addresses_and_by_deadline() -> None:
    world = World()
    acme = world.customer()
    for number in range(20):
        acme.submits(b"x", to=b"4477009001%02d" % number)
    messages = list(next(iter(world.account().lanes.values())).hot)
    held: ByAddress[Message] = ByAddress()
    for number, message in enumerate(messages):
        message.deadline = 100.0 - number
        held[message.id] = message
    assert len(held) == 20 and all(message.id in held for message in messages)
    assert held.fitting(receipt(b"+447700900107", b"447700900001")) == [messages[7]]
    assert held.fitting(receipt(b"447700900001", b"07700900107")) == [messages[7]], "not swapped"
    assert held.fitting(receipt(b"447700900107", b"447700900002")) == []
    assert held.take_due(80.0, 99) == []
    assert held.take_due(82.0, 1) == [messages[19]] and held.take_due(82.0, 99) == [messages[18]]
    del held[messages[17].id]
    assert held.pop(messages[17].id) is None
    with pytest.raises(KeyError):
        del held[messages[17].id]
    assert held.take_due(84.0, 99) == [messages[16]] and list(held) == [message.id for message in messages[:16]]
    messages[3].deadline = 5.0
    held[messages[3].id] = messages[3]  # put in anew
    assert held.take_due(5.0, 99) == [messages[3]]
    assert len(held.oldest(2)) == 2 and len(held.values()) == 15
    for _ in range(300):
        held[messages[0].id] = messages[0]
    assert len(held._deadlines) < 200, "what is out of date does not pile up"


@pytest.mark.parametrize(
    ("name", "digits", "shown"),
    [
        (b"SAR-447700900123-1eedf843-2-1", b"447700900123", b"SAR-***-1eedf843-2-1"),
        (b"SAR-07700900123-1", b"+447700900123", b"SAR-***-1"),
        (b"00447700900123", b"447700900123", b"***"),
        (b"SAR-447700900124-1", b"447700900123", b"SAR-447700900124-1"),
        (b"0123456789", b"12345", b"0123456789"),
        (b"1eedf843", b"447700900123", b"1eedf843"),
        (b"sender-x", b"sender-name", b"sender-x"),
        (b"SAR-447700900123-1", b"", b"SAR-***-1"),
        (b"abc-123456-1", b"", b"abc-123456-1"),
    ],
)
def test_a_number_in_a_carriers_id_is_not_written_into_the_log(name: bytes, digits: bytes, shown: bytes) -> None:
    assert without_number(name, digits) == shown


def test_rows_of_such_ids_are_found_by_a_key_that_names_nobody() -> None:
    key = bucket_key(b"SAR-447700900123-1")
    assert key == bucket_key(b"SAR-447700900123-1") and len(key) == 4 and key[:1] == b"\0"
