"""A hold's key: part keys sealed for one record and one hold, blind indexes that no other hold shares."""

from __future__ import annotations

import os

import pytest

from smppd.vault.held import HoldKey, new_key
from smppd.vault.keys import Part
from smppd.vault.seal import (
    NO_KEYS,
    Content,
    Direction,
    PartKeys,
    SealError,
    erase,
    open_record,
    pack_numbers,
    part_keys,
    seal_record,
    split_pdu,
)
from tests.vault.rows import NOON, ring, some, submit_sm

DAY = 86400.0
PARTS = PartKeys(some("numbers"), some("body"))


def test_parts_come_back_for_their_record_and_hold_alone() -> None:
    key = HoldKey(7, new_key())
    source, destination = key.blind(b"acme"), key.blind(b"447700900123")
    sealed = key.seal(5, source, destination, PARTS)
    assert key.open(5, source, destination, sealed) == PARTS and PARTS.numbers is not None
    assert PARTS.numbers not in sealed and sealed != key.seal(5, source, destination, PARTS)
    secret = new_key()
    for other, record, one, two in (
        (key, 6, source, destination),
        (key, 5, destination, source),
        (HoldKey(8, new_key()), 5, source, destination),
    ):
        with pytest.raises(SealError):
            other.open(record, one, two, sealed)
    assert HoldKey(7, secret).blind(b"acme") == HoldKey(7, secret).blind(b"acme") != source
    with pytest.raises(SealError):
        HoldKey(8, secret).open(5, source, destination, HoldKey(7, secret).seal(5, source, destination, PARTS))
    for at in range(len(sealed)):
        with pytest.raises(SealError):
            key.open(5, source, destination, sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :])
    with pytest.raises(SealError):
        key.open(5, source, destination, b"")
    with pytest.raises(SealError, match="length"):
        key.seal(5, b"", destination, PARTS)


def test_nothing_is_printed() -> None:
    key = HoldKey(7, new_key())
    assert repr(key) == "<HoldKey 7 ***>" and repr(PARTS) == "<PartKeys ***>"


@pytest.mark.parametrize("parts", [PartKeys(), PartKeys(some("n"), None), PartKeys(None, some("b"))])
def test_a_part_that_was_gone_stays_gone(parts: PartKeys) -> None:
    key = HoldKey(1, new_key())
    blank = bytes(16)
    assert key.open(1, blank, blank, key.seal(1, blank, blank, parts)) == parts


@pytest.mark.parametrize("content", list(Content))
def test_a_record_opens_with_its_part_keys_alone(content: Content) -> None:
    keys, secrets = ring(), os.urandom(64)
    addresses, body = split_pdu(submit_sm(b"text"))
    numbers_key = keys.period("acme", Part.NUMBERS, NOON, DAY)
    body_key = None if content is Content.HIDE else keys.period("acme", Part.BODY, NOON, DAY)
    packed = seal_record(
        5, NOON * 1000, Direction.MT, content, 1, 0, numbers_key, body_key, b"acme", b"447700900123",
        pack_numbers(addresses), body, secrets, os.urandom(24),
    )  # fmt: skip
    parts = part_keys(packed, keys, secrets)
    assert (parts.body is not None) == (content is Content.ENCRYPT) and parts.numbers is not None
    whole = open_record(packed, keys, secrets)
    asked: list[int] = []

    def held(record: int) -> PartKeys:
        asked.append(record)
        return parts

    assert open_record(packed, NO_KEYS, bytes(64), held) == whole and asked == [5]
    assert open_record(packed, keys, secrets, held) == whole and asked == [5], "not asked where nothing is gone"
    half = open_record(packed, keys, secrets[:32] + bytes(32), held)
    assert half == whole, "one part by its period key, the other by the hold"
    assert open_record(packed, NO_KEYS, bytes(64), lambda _id: PartKeys()).numbers is None
    assert open_record(erase(packed), NO_KEYS, bytes(64), held).numbers is None
    with pytest.raises(SealError):
        open_record(packed, NO_KEYS, bytes(64), lambda _id: PartKeys(some("wrong"), None))
    assert part_keys(packed, NO_KEYS, secrets) == PartKeys() == part_keys(packed, keys, bytes(64))
    assert part_keys(erase(packed), keys, secrets) == PartKeys()
    with pytest.raises(SealError):
        part_keys(packed, keys, b"")
