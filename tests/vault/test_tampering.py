"""Every octet of a record in turn, and everything that can be put into another's place: refused, all of it, also by somebody
who makes the digest fit again, which needs no key."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import permutations

import pytest

from smppd.vault.keys import Part
from smppd.vault.seal import Content, Direction, SealError, open_record, pack_numbers, split_pdu
from tests.vault.rows import NOON, some, submit_sm
from tests.vault.test_seal import DAY, IP, NONCES, RING, SECRETS, reseal_digest, seal

LENGTHS = 11
"""Octets of the lengths; behind them comes the header: 30 octets and the account."""
HEAD = 30


def sections(packed: bytes) -> tuple[int, int, int, int]:
    """Where header, numbers, body and digest begin."""
    total, _, numbers, body = struct.unpack_from("!IBHI", packed)
    digest = total - 32
    return LENGTHS, digest - body - numbers, digest - body, digest


def refused(packed: bytes, secrets: bytes = SECRETS) -> None:
    with pytest.raises(SealError):
        open_record(packed, RING, secrets)


def closed(packed: bytes) -> None:
    """Refused, or, where it claims to be of an account or a period that has no key, as if its key had been destroyed: nothing
    of it is read. That such a header is not believed either is the chain's business (records/test_vouch.py)."""
    try:
        opened = open_record(packed, RING, SECRETS)
    except SealError:
        return
    head = opened.header
    assert opened.numbers is None and opened.body is None
    assert RING.existing(head.account, Part.NUMBERS, head.numbers_period) is None


def altered(packed: bytes, at: int, value: int) -> bytes:
    return packed[:at] + bytes([value]) + packed[at + 1 :]


@pytest.mark.parametrize("content", list(Content))
def test_every_value_of_every_octet_of_the_header(content: Content) -> None:
    packed = seal(content=content)
    assert open_record(packed, RING, SECRETS).numbers is not None
    _, numbers, _, _ = sections(packed)
    assert numbers == LENGTHS + HEAD + len("acme")
    for at in range(numbers + 32):  # the blind indexes are bound too
        for value in range(256):
            if value != packed[at]:
                refused(altered(packed, at, value))
                if at >= LENGTHS:
                    closed(reseal_digest(altered(packed, at, value)))


@pytest.mark.parametrize("content", list(Content))
def test_every_bit_behind_the_header(content: Content) -> None:
    packed = seal(content=content)
    _, numbers, body, digest = sections(packed)
    for at in range(numbers, len(packed)):
        for bit in range(8):
            changed = altered(packed, at, packed[at] ^ 1 << bit)
            refused(changed)
            # The hash of a body is no sealed part: only the chain holds it (records/test_vouch.py).
            if at < digest and not (content is Content.HASH and at >= body):
                refused(reseal_digest(changed))


def test_every_bit_of_the_secrets() -> None:
    packed = seal()
    for at in range(64):
        for bit in range(8):
            refused(packed, altered(SECRETS, at, SECRETS[at] ^ 1 << bit))


def test_every_cut_and_everything_behind() -> None:
    packed = seal()
    for size in range(len(packed)):
        refused(packed[:size])
    refused(packed + b"\0")
    refused(packed + packed)


OTHER_SECRETS = some("o1") + some("o2")
OTHER_NONCES = some("other nonces", 24)

OTHERS: dict[str, Callable[[], bytes]] = {
    "an account": lambda: seal(account="globex", secrets=OTHER_SECRETS, nonces=OTHER_NONCES),
    "a subject": lambda: _to(b"447700900999"),
    "a direction": lambda: seal(direction=Direction.MO, secrets=OTHER_SECRETS, nonces=OTHER_NONCES),
    "a time": lambda: seal(accepted_ms=NOON * 1000 + 6, secrets=OTHER_SECRETS, nonces=OTHER_NONCES),
    "a record": lambda: seal(record_id=78, secrets=OTHER_SECRETS, nonces=OTHER_NONCES),
    "a period": lambda: seal(
        numbers_key=RING.period("acme", Part.NUMBERS, NOON + 2 * DAY, 30 * DAY),
        body_key=RING.period("acme", Part.BODY, NOON + 2 * DAY, DAY),
        secrets=OTHER_SECRETS,
        nonces=OTHER_NONCES,
    ),
}


def _to(number: bytes) -> bytes:
    addresses, body = split_pdu(submit_sm(b"another text, as long", destination=number))
    return seal(
        destination=number,
        numbers=pack_numbers(addresses, IP),
        body=body,
        secrets=OTHER_SECRETS,
        nonces=OTHER_NONCES,
    )


def mixtures(ours: bytes, theirs: bytes) -> Iterator[tuple[str, bytes]]:
    """Everything that can be made out of the pieces of two records but the two themselves."""
    pieces = []
    for packed in (ours, theirs):
        head, numbers, body, digest = sections(packed)
        indexes = packed[numbers : numbers + 32]
        pieces.append((packed[:head], packed[head:numbers], indexes, packed[numbers + 32 : body], packed[body:digest]))
    for choice in range(0, 32, 2):
        chosen = [pieces[choice >> place & 1][place] for place in range(1, 5)]
        total = LENGTHS + sum(map(len, chosen)) + 32
        _, indexes, addresses, text = chosen
        lengths = struct.pack("!IBHI", total, 0, len(indexes) + len(addresses), len(text))
        if chosen in ([*pieces[0][1:]], [*pieces[1][1:]]):
            continue
        yield f"{choice >> 1:04b}", reseal_digest(lengths + b"".join(chosen) + bytes(32))


@pytest.mark.parametrize("what", OTHERS)
def test_pieces_of_two_records_never_make_a_third(what: str) -> None:
    ours, theirs = seal(), OTHERS[what]()
    assert open_record(theirs, RING, OTHER_SECRETS).body is not None
    count = 0
    for name, mixed in mixtures(ours, theirs):
        for secrets in (SECRETS, OTHER_SECRETS, SECRETS[:32] + OTHER_SECRETS[32:], OTHER_SECRETS[:32] + SECRETS[32:]):
            with pytest.raises(SealError):
                open_record(mixed, RING, secrets)
                pytest.fail(f"{name} was opened")
            count += 1
    assert count >= 48
    # And whole records under each other's secrets, or with the halves of theirs exchanged.
    refused(ours, OTHER_SECRETS)
    refused(theirs, SECRETS)
    for halves in permutations((SECRETS[:32], SECRETS[32:], OTHER_SECRETS[:32], OTHER_SECRETS[32:]), 2):
        if b"".join(halves) != SECRETS:
            refused(ours, b"".join(halves))


def test_the_parts_of_one_record_do_not_change_places() -> None:
    """Numbers in the body's place and the other way round, with the secrets exchanged as well."""
    packed = seal()
    head, numbers, body, digest = sections(packed)
    indexes, sealed, text = packed[numbers : numbers + 32], packed[numbers + 32 : body], packed[body:digest]
    lengths = struct.pack("!IBHI", len(packed), 0, 32 + len(text), len(sealed))
    swapped = reseal_digest(lengths + packed[head:numbers] + indexes + text + sealed + bytes(32))
    for secrets in (SECRETS, SECRETS[32:] + SECRETS[:32]):
        refused(swapped, secrets)
    assert NONCES
