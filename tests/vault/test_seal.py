"""The record format: exact round trips, nothing moves or changes unseen, hidden things leave no trace, erasure verifies."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.vault.keys import KeyRing, Part, Period, PeriodKey, period_of
from smppd.vault.seal import (
    DIGEST_BYTES,
    Content,
    Direction,
    SealError,
    digest_of,
    erase,
    erase_body,
    iter_indexes,
    iter_records,
    join_pdu,
    open_record,
    pack_numbers,
    read_header,
    seal_record,
    split_pdu,
    verify_digest,
)
from tests.vault.rows import NOON, MemoryRows, ring, some, submit_sm

DAY = 86400
CANARY = b"canary-in-the-text"
NUMBER = b"447700900123"
IP = bytes([192, 0, 2, 7])
SECRETS = some("s1") + some("s2")
NONCES = some("nonces", 24)
PDU = submit_sm(CANARY)


def keys_of(keys: KeyRing, account: str = "acme") -> tuple[PeriodKey, PeriodKey]:
    return (
        keys.period(account, Part.NUMBERS, NOON, 30 * DAY),
        keys.period(account, Part.BODY, NOON, DAY),
    )


RING = ring(MemoryRows())


def seal(pdu: bytes = PDU, keys: KeyRing = RING, account: str = "acme", **changes: Any) -> bytes:
    numbers_key, body_key = keys_of(keys, account)
    addresses, body = split_pdu(pdu)
    content = changes.get("content", Content.ENCRYPT)
    values: dict[str, Any] = {
        "record_id": 77,
        "accepted_ms": NOON * 1000 + 5,
        "direction": Direction.MT,
        "content": content,
        "parts": 1,
        "data_coding": 8,
        "numbers_key": numbers_key,
        "body_key": None if content is Content.HIDE else body_key,
        "source": b"acme",
        "destination": NUMBER,
        "numbers": pack_numbers(addresses, IP),
        "body": body,
        "secrets": SECRETS,
        "nonces": NONCES,
    }
    return seal_record(**(values | changes))


def reseal_digest(packed: bytes) -> bytes:
    """What an attacker who knows the format would do after a change: make the (unkeyed) digest fit again."""
    from hashlib import blake2b

    total, gone, numbers, body = struct.unpack_from("!IBHI", packed)
    digest_at = total - 32
    body_at = digest_at - body
    numbers_at = body_at - numbers

    def leaf(section: bytes, is_gone: int) -> bytes:
        return section if is_gone else blake2b(section, digest_size=32, person=b"smppd-leaf").digest()

    joined = (
        packed[11:numbers_at] + leaf(packed[numbers_at:body_at], gone & 1) + leaf(packed[body_at:digest_at], gone & 2)
    )
    return packed[:digest_at] + blake2b(joined, digest_size=32, person=b"smppd-record").digest()


def test_round_trip_gives_the_same_frame() -> None:
    packed = seal()
    opened = open_record(packed, RING, SECRETS)
    assert opened.pdu() == PDU
    assert opened.numbers is not None and opened.numbers.ip == IP
    header = read_header(packed)
    assert (header.record_id, header.accepted_ms, header.parts, header.data_coding) == (77, NOON * 1000 + 5, 1, 8)
    assert (header.account, header.direction, header.content) == ("acme", Direction.MT, Content.ENCRYPT)
    assert header.numbers_period.label == "2026-11-22"
    assert header.body_period == period_of(NOON, DAY)
    assert (header.source_index, header.destination_index) == (header.source_index, header.destination_index)


def test_reprs_are_masked() -> None:
    opened = open_record(seal(), RING, SECRETS)
    for shown in (repr(opened), repr(opened.numbers)):
        assert "canary" not in shown and "7700" not in shown and "***" in shown


field = st.binary(max_size=20).map(lambda value: value.replace(b"\0", b""))


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    field,
    st.tuples(st.integers(0, 255), st.integers(0, 255), field),
    st.tuples(st.integers(0, 255), st.integers(0, 255), field),
    st.binary(max_size=400),
    st.sampled_from([4, 5, 0x103]),
)
def test_any_frame_splits_and_joins(
    status: int,
    sequence: int,
    service: bytes,
    source: tuple[int, int, bytes],
    destination: tuple[int, int, bytes],
    rest: bytes,
    command: int,
) -> None:
    body = service + b"\0" + b"".join(bytes(side[:2]) + side[2] + b"\0" for side in (source, destination)) + rest
    pdu = struct.pack("!IIII", 16 + len(body), command, status, sequence) + body
    addresses, kept = split_pdu(pdu)
    assert join_pdu(addresses, kept) == pdu
    packed = seal(pdu)
    assert open_record(packed, RING, SECRETS).pdu() == pdu


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60))
def test_broken_frames_are_refused_or_kept(data: bytes) -> None:
    try:
        addresses, body = split_pdu(data)
    except SealError:
        return
    assert join_pdu(addresses, body) == data


@pytest.mark.parametrize("cut", [0, 3, 15, 16, 20, 24, 30, len(PDU) - 1])
def test_cut_frame_is_refused(cut: int) -> None:
    with pytest.raises(SealError):
        split_pdu(PDU[:cut])


def test_every_bit_of_a_record_is_held() -> None:
    packed = seal()
    for at in range(len(packed)):
        with pytest.raises(SealError):
            open_record(packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :], RING, SECRETS)


def test_changed_record_with_fitting_digest_is_refused_where_it_matters() -> None:
    """Everything immutable is bound to the sealed parts, so recomputing the digest does not help."""
    packed = seal()
    for at in range(11, len(packed) - DIGEST_BYTES):
        changed = reseal_digest(packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :])
        try:
            opened = open_record(changed, RING, SECRETS)
        except SealError:
            continue
        assert opened.numbers is None and opened.body is None, f"byte {at}"  # another period or account: no key


def sections(packed: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """(lengths, head, numbers, body, digest) of a record."""
    total, _, numbers, body = struct.unpack_from("!IBHI", packed)
    at = total - 32 - body
    return packed[:11], packed[11 : at - numbers], packed[at - numbers : at], packed[at:-32], packed[-32:]


def test_parts_do_not_move_between_records_accounts_or_subjects() -> None:
    one = sections(seal())
    for other_record in (
        seal(record_id=78),
        seal(account="beta"),
        seal(destination=b"447700900124"),
        seal(source=b"beta"),
        seal(direction=Direction.MO),
        seal(accepted_ms=1),
    ):
        other = sections(other_record)
        for mixed in ((one[2], other[3]), (other[2], one[3])):
            moved = reseal_digest(one[0] + one[1] + mixed[0] + mixed[1] + bytes(32))
            with pytest.raises(SealError):
                open_record(moved, RING, SECRETS)


def test_parts_do_not_change_places() -> None:
    """Same size, same secret: only the label keeps a numbers part from opening as a body."""
    lengths, head, numbers, _, _ = sections(seal(secrets=some("s1") * 2))
    swapped = numbers[32:]
    lengths = struct.pack("!IBHI", len(lengths + head + numbers + swapped) + 32, 0, len(numbers), len(swapped))
    moved = reseal_digest(lengths + head + numbers + swapped + bytes(32))
    same_key = keys_of(RING)[0]

    class Same:
        def existing(self, account: str, part: Part, period: Period) -> PeriodKey:
            return same_key

    with pytest.raises(SealError, match="altered or moved"):
        open_record(moved, Same(), some("s1") * 2)


def test_wrong_secret_or_foreign_key_does_not_open() -> None:
    packed = seal()
    with pytest.raises(SealError):
        open_record(packed, RING, some("x") * 2)
    other = ring(MemoryRows())
    keys_of(other)
    with pytest.raises(SealError):
        open_record(packed, other, SECRETS)
    for size in (0, 32, 65):
        with pytest.raises(SealError):
            open_record(packed, RING, bytes(size))


def test_destroyed_secrets_and_keys_leave_the_other_part() -> None:
    packed = seal()
    no_body = open_record(packed, RING, SECRETS[:32] + bytes(32))
    assert no_body.numbers is not None and no_body.body is None and no_body.pdu() is None
    no_numbers = open_record(packed, RING, bytes(32) + SECRETS[32:])
    assert no_numbers.numbers is None and no_numbers.body is not None
    keys = ring(MemoryRows())
    packed = seal(keys=keys)
    keys.drop("acme", Part.BODY, period_of(NOON, DAY))
    opened = open_record(packed, keys, SECRETS)
    assert opened.numbers is not None and opened.body is None


def test_padding_hides_length() -> None:
    addresses, _ = split_pdu(PDU)
    sizes = {len(seal(body=bytes(n))) for n in range(61, 125)}
    assert len(sizes) == 1
    assert len(seal(body=bytes(60))) == len(seal(body=b"")) == sizes.pop() - 64
    assert len(seal(numbers=pack_numbers(addresses, b""))) == len(seal(numbers=pack_numbers(addresses, bytes(16))))


@pytest.mark.parametrize("content", list(Content))
def test_nothing_is_in_the_clear(content: Content) -> None:
    packed = seal(content=content)
    for secret in (CANARY, NUMBER, b"Acme", IP, SECRETS[:32], SECRETS[32:]):
        assert secret not in packed


def test_hide_reveals_neither_body_nor_length() -> None:
    packed = seal(content=Content.HIDE)
    assert packed == seal(content=Content.HIDE, body=bytes(1000))
    opened = open_record(packed, RING, SECRETS)
    assert (opened.body, opened.content_hash, opened.header.body_period) == (None, None, None)
    assert opened.numbers is not None


def test_hash_matches_equal_texts_of_one_period_only() -> None:
    one = open_record(seal(content=Content.HASH, body=CANARY), RING, SECRETS).content_hash
    same = open_record(seal(content=Content.HASH, body=CANARY, record_id=2), RING, SECRETS).content_hash
    other = open_record(seal(content=Content.HASH, body=b"other"), RING, SECRETS).content_hash
    beta = open_record(seal(content=Content.HASH, body=CANARY, account="beta"), RING, SECRETS).content_hash
    assert one == same and one is not None and len(one) == 32
    assert len({one, other, beta}) == 3
    assert len(seal(content=Content.HASH, body=bytes(900))) == len(seal(content=Content.HASH, body=b""))


def test_blind_indexes_are_per_account_and_period() -> None:
    one, two = read_header(seal()), read_header(seal(account="beta"))
    assert one.destination_index != two.destination_index
    assert list(iter_indexes(seal())) == [(one.source_index, 77), (one.destination_index, 77)]


def test_erased_record_keeps_its_digest_and_nothing_else() -> None:
    packed = seal()
    gone = erase(packed)
    assert verify_digest(gone) == verify_digest(packed) == digest_of(packed) == packed[-DIGEST_BYTES:]
    assert erase(gone) == gone == erase(erase_body(packed))
    assert len(gone) == len(erase(seal(content=Content.HIDE))) == len(erase(seal(body=bytes(500))))
    header = read_header(gone)
    assert header.numbers_gone and header.body_gone
    assert header.source_index is None and header.destination_index is None
    assert list(iter_indexes(gone)) == []
    opened = open_record(gone, RING, SECRETS)
    assert opened.numbers is None and opened.body is None
    original = read_header(packed)
    for index in (original.source_index, original.destination_index):
        assert index is not None and index not in gone
    for at in range(11, len(gone)):
        with pytest.raises(SealError):
            verify_digest(gone[:at] + bytes([gone[at] ^ 1]) + gone[at + 1 :])


def test_body_can_go_first() -> None:
    packed = seal()
    rest = erase_body(packed)
    assert verify_digest(rest) == digest_of(packed)
    opened = open_record(rest, RING, SECRETS)
    assert opened.numbers is not None and opened.body is None and opened.header.body_gone
    assert not opened.header.numbers_gone


def test_block_iterates_its_records() -> None:
    records = [seal(), erase(seal(record_id=2)), seal(content=Content.HIDE, record_id=3), seal(content=Content.HASH)]
    block = b"".join(records)
    assert list(iter_records(block)) == records
    for cut in (1, 20, len(block) - 1):
        with pytest.raises(SealError):
            list(iter_records(block[:cut]))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 400))
def test_any_bytes_are_parsed_or_refused(noise: bytes, start: int, stop: int) -> None:
    packed = seal()
    data = packed[:start] + noise + packed[stop:]
    for read in (
        lambda: list(iter_records(data)),
        lambda: list(iter_indexes(data)),
        lambda: read_header(data),
        lambda: erase(data),
        lambda: open_record(data, RING, SECRETS),
    ):
        try:
            read()
        except SealError:
            pass


@pytest.mark.parametrize(
    "changes",
    [
        {"record_id": -1},
        {"record_id": 1 << 64},
        {"parts": 256},
        {"data_coding": 256},
        {"accepted_ms": -1},
        {"secrets": bytes(63)},
        {"nonces": bytes(23)},
        {"body_key": None},
        {"body_key": keys_of(RING, "beta")[1]},
        {"content": Content.HIDE, "body_key": keys_of(RING)[1]},
        {"numbers": bytes(70_000)},
    ],
)
def test_values_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SealError):
        seal(**changes)
