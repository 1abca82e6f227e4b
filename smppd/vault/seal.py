"""The record format: a message sealed in two parts (numbers, body) that can die apart, packed into one binary record.

Pure functions on bytes, tuned for the hot path; docs/adr/0002-record-format.md has the reasons. Big-endian throughout:

    u32 record length | u8 gone | u16 numbers length | u32 body length            mutable: what erasure may change
    u8 version, algorithm, flags, parts, data_coding, account length
    u64 record id | u64 accepted ms | u32 numbers period | u32 body period | account   immutable, authenticated
    numbers section: source index 16 | destination index 16 | nonce 12 | AES-256-GCM   (or its 32-byte leaf when gone)
    body section: nonce 12 | AES-256-GCM; or a keyed hash of 32 bytes; or nothing      (or its 32-byte leaf when gone)
    digest 32 = BLAKE2b-256(immutable head | leaf of numbers | leaf of body), leaf = BLAKE2b-256(section)

So the digest of a record whose sections were erased still verifies, and so does the chain over it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from hashlib import blake2b
from hmac import compare_digest
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from smppd.vault.keys import Part, Period, PeriodKey, VaultError, period_from_code

FORMAT_VERSION: Final = 1
ALGORITHM: Final = 1
"""1: AES-256-GCM under BLAKE2b-256 derived keys; blind index BLAKE2b-128."""
SECRETS_BYTES: Final = 64
"""Record secrets of one record: 32 for the numbers, then 32 for the body."""
NONCES_BYTES: Final = 24
"""Nonces of one record: 12 for the numbers, then 12 for the body."""
DIGEST_BYTES: Final = 32
"""A record ends with its digest: `packed[-DIGEST_BYTES:]`."""
INDEX_BYTES: Final = 16

_LENGTHS: Final = struct.Struct("!IBHI")
_HEAD: Final = struct.Struct("!BBBBBBQQII")
_FIXED: Final = _LENGTHS.size + _HEAD.size
_ID_TIME: Final = struct.Struct("!QQ")
_LEN: Final = struct.Struct("!I")
_BLOCK: Final = 64
_MASK: Final = _BLOCK - 1
_PAD: Final = tuple(bytes(n) for n in range(_BLOCK))
_NONCE: Final = 12
_TAG: Final = 16
_LEAF: Final = 32
_NUMBERS_MIN: Final = 2 * INDEX_BYTES + _NONCE + _BLOCK + _TAG
_BODY_MIN: Final = _NONCE + _BLOCK + _TAG
_GONE_NUMBERS: Final = 1
_GONE_BODY: Final = 2
_NUMBERS_LABEL: Final = b"N"
_BODY_LABEL: Final = b"B"
_RECORD_PERSON: Final = b"smppd-record"
_LEAF_PERSON: Final = b"smppd-leaf"
_DESTROYED: Final = bytes(32)
_LEAF_STATE: Final = blake2b(digest_size=_LEAF, person=_LEAF_PERSON)
_RECORD_STATE: Final = blake2b(digest_size=DIGEST_BYTES, person=_RECORD_PERSON)
_AEAD: Final = AESGCM  # compiled, a constant of the module costs nothing, a name one look-up each time


class SealError(VaultError):
    """A record or sealed block is malformed, was altered, or was moved from where it belongs."""


class Direction(IntEnum):
    """Mobile terminated (from the customer) or mobile originated (to the customer)."""

    MT = 0
    MO = 1


class Content(IntEnum):
    """What is kept of the body: sealed, only a keyed hash, or no trace."""

    ENCRYPT = 0
    HASH = 1
    HIDE = 2


# --- PDU <-> parts ---------------------------------------------------------------------------------------------------


def split_pdu(pdu: bytes) -> tuple[bytes, bytes]:
    """Cut a submit_sm, data_sm or deliver_sm frame (SMPP 3.4 section 4.4, 4.7, 4.6) into (addresses, body).

    addresses: source TON, NPI, address NUL, destination TON, NPI, address NUL, as received. body: everything else in
    order, from command_id on. command_length is not kept: `join_pdu` rebuilds the identical frame without it.
    Raises SealError if the frame is not whole.
    """
    find = pdu.find
    source = find(b"\0", 16) + 1
    destination = find(b"\0", source + 2) + 1
    rest = find(b"\0", destination + 2) + 1
    if not (source and destination and rest) or _LEN.unpack_from(pdu)[0] != len(pdu):
        raise SealError("not a whole PDU that starts with a service type and two addresses")
    return pdu[source:rest], pdu[4:source] + pdu[rest:]


def join_pdu(addresses: bytes, body: bytes) -> bytes:
    """The frame that `split_pdu` cut. Raises SealError if the parts are not what it makes."""
    service_end = body.find(b"\0", 12) + 1
    if not service_end:
        raise SealError("not the body of a PDU")
    return _LEN.pack(4 + len(body) + len(addresses)) + body[:service_end] + addresses + body[service_end:]


def pack_numbers(addresses: bytes, ip: bytes = b"") -> bytes:
    """What the numbers part seals: the addresses as `split_pdu` gives them and the customer's IP (packed form, 4 or 16
    bytes, at most 255 of any form; empty if there is none)."""
    if len(ip) > 255:
        raise SealError("the IP is too long")
    return b"%c%b%b" % (len(ip), ip, addresses)


class NumbersPart(NamedTuple):
    """The opened numbers part. ip: as packed; addresses: as `split_pdu` gives them."""

    ip: bytes
    addresses: bytes

    def __repr__(self) -> str:
        return "<NumbersPart ***>"


# --- Sealing ---------------------------------------------------------------------------------------------------------


def seal_record(
    record_id: int,
    accepted_ms: int,
    direction: Direction,
    content: Content,
    parts: int,
    data_coding: int,
    numbers_key: PeriodKey,
    body_key: PeriodKey | None,
    source: bytes,
    destination: bytes,
    numbers: bytes,
    body: bytes,
    secrets: bytes,
    nonces: bytes,
) -> bytes:
    """Seal one message and return its packed record.

    record_id: u64, unique. accepted_ms: epoch milliseconds. parts, data_coding: u8. numbers_key and body_key: the keys
    of the same account for the record's time; body_key is None with Content.HIDE only. source, destination: as
    `index.normalise` gives them. numbers: from `pack_numbers`. body: with ENCRYPT the body from `split_pdu`; with HASH
    the message text's bytes alone (short_message or payload), so that equal texts hash alike; with HIDE unused.
    secrets: SECRETS_BYTES of fresh randomness, which the caller has committed, or commits first. nonces: NONCES_BYTES
    of fresh randomness. Both are drawn for a whole batch at once. Raises SealError if a value does not fit its field.
    """
    if len(secrets) != SECRETS_BYTES or len(nonces) != NONCES_BYTES:
        raise SealError("record secrets or nonces of a wrong length")
    account = numbers_key.account_bytes
    if body_key is not None:
        if content == 2 or body_key.account_bytes != account:
            raise SealError("the body's key is not this record's")
        body_period = body_key.period.code
    elif content == 2:
        body_period = 0
    else:
        raise SealError("the body's key is missing")
    try:
        head = (
            _HEAD.pack(
                FORMAT_VERSION,
                ALGORITHM,
                direction | content << 1,
                parts,
                data_coding,
                len(account),
                record_id,
                accepted_ms,
                numbers_key.period.code,
                body_period,
            )
            + account
        )
        state = numbers_key.index.copy()
        state.update(source)
        indexes = state.digest()
        state = numbers_key.index.copy()
        state.update(destination)
        indexes += state.digest()
        bound = head + indexes  # associated data: what may never change, so nothing can be moved elsewhere

        state = numbers_key.derive.copy()
        state.update(secrets[:32])
        nonce = nonces[:12]
        size = len(numbers)
        plain = _LEN.pack(size) + numbers + _PAD[-(size + 4) & _MASK]
        numbers_section = indexes + nonce + _AEAD(state.digest()).encrypt(nonce, plain, _NUMBERS_LABEL + bound)

        if body_key is None:
            body_section = b""
        elif content:
            state = body_key.content.copy()
            state.update(body)
            body_section = state.digest()
        else:
            state = body_key.derive.copy()
            state.update(secrets[32:])
            nonce = nonces[12:]
            size = len(body)
            plain = _LEN.pack(size) + body + _PAD[-(size + 4) & _MASK]
            body_section = nonce + _AEAD(state.digest()).encrypt(nonce, plain, _BODY_LABEL + bound)

        n, b = len(numbers_section), len(body_section)
        lengths = _LENGTHS.pack(_FIXED + len(account) + n + b + DIGEST_BYTES, 0, n, b)
    except struct.error:
        raise SealError("a value does not fit its field in the record") from None
    leaf = _LEAF_STATE.copy()
    leaf.update(numbers_section)
    digest = _RECORD_STATE.copy()
    digest.update(head + leaf.digest())
    leaf = _LEAF_STATE.copy()
    leaf.update(body_section)
    digest.update(leaf.digest())
    return b"".join((lengths, head, numbers_section, body_section, digest.digest()))


# --- Reading ---------------------------------------------------------------------------------------------------------


class RecordHeader(NamedTuple):
    """What a record says without a key. The indexes are None once erased; the body period is None with Content.HIDE."""

    record_id: int
    accepted_ms: int
    direction: Direction
    content: Content
    parts: int
    data_coding: int
    account: str
    numbers_period: Period
    body_period: Period | None
    source_index: bytes | None
    destination_index: bytes | None
    numbers_gone: bool
    body_gone: bool


class _Layout(NamedTuple):
    """Offsets into a packed record: head .. numbers .. body .. digest .. end."""

    gone: int
    flags: int
    head: int
    numbers: int
    body: int
    digest: int
    end: int


def _layout(packed: bytes | memoryview, start: int = 0) -> _Layout:
    """Check every length of the record at `start` and say where its pieces are."""
    if len(packed) - start < _FIXED + DIGEST_BYTES:
        raise SealError("a record is cut short")
    total, gone, numbers_size, body_size = _LENGTHS.unpack_from(packed, start)
    head = start + _LENGTHS.size
    version, algorithm, flags, account_size = packed[head], packed[head + 1], packed[head + 2], packed[head + 5]
    if version != FORMAT_VERSION or algorithm != ALGORITHM:
        raise SealError("a record has an unknown format version or algorithm")
    numbers = head + _HEAD.size + account_size
    body = numbers + numbers_size
    digest = body + body_size
    end = digest + DIGEST_BYTES
    if total != end - start or end > len(packed):
        raise SealError("a record's lengths do not add up")
    content = flags >> 1
    if content > Content.HIDE or gone > (_GONE_NUMBERS | _GONE_BODY):
        raise SealError("a record has unknown flags")
    if gone & _GONE_NUMBERS:
        fits = numbers_size == _LEAF
    else:
        fits = numbers_size >= _NUMBERS_MIN and not (numbers_size - _NUMBERS_MIN) % _BLOCK
    if gone & _GONE_BODY or content == Content.HASH:
        fits = fits and body_size == _LEAF
    elif content == Content.HIDE:
        fits = fits and not body_size
    else:
        fits = fits and body_size >= _BODY_MIN and not (body_size - _BODY_MIN) % _BLOCK
    if not fits:
        raise SealError("a record's sections have impossible lengths")
    return _Layout(gone, flags, head, numbers, body, digest, end)


def read_header(packed: bytes | memoryview, start: int = 0) -> RecordHeader:
    """The open header of the record at `start`. It is not verified: `verify_digest` and the chain do that."""
    at = _layout(packed, start)
    _, _, flags, parts, coding, _, record_id, accepted_ms, numbers_code, body_code = _HEAD.unpack_from(packed, at.head)
    source = destination = None
    if not at.gone & _GONE_NUMBERS:
        source = bytes(packed[at.numbers : at.numbers + INDEX_BYTES])
        destination = bytes(packed[at.numbers + INDEX_BYTES : at.numbers + 2 * INDEX_BYTES])
    try:
        account = bytes(packed[at.head + _HEAD.size : at.numbers]).decode("utf-8")
        numbers_period = period_from_code(numbers_code)
        body_period = period_from_code(body_code) if body_code else None
    except (UnicodeDecodeError, VaultError):
        raise SealError("a record's account or period is malformed") from None
    content = Content(flags >> 1)
    if (body_period is None) != (content is Content.HIDE):
        raise SealError("a record's period does not fit its content mode")
    return RecordHeader(
        record_id,
        accepted_ms,
        Direction(flags & 1),
        content,
        parts,
        coding,
        account,
        numbers_period,
        body_period,
        source,
        destination,
        bool(at.gone & _GONE_NUMBERS),
        bool(at.gone & _GONE_BODY),
    )


def iter_records(block: bytes) -> Iterator[bytes]:
    """The packed records of a block (records joined end to end). Raises SealError where the block is malformed."""
    start = 0
    while start < len(block):
        end = _layout(block, start).end
        yield block[start:end]
        start = end


def iter_indexes(block: bytes) -> Iterator[tuple[bytes, int]]:
    """(blind index, record id) of both addresses of each record in a block, for the sorted index segments. Erased
    records give nothing."""
    start = 0
    while start < len(block):
        at = _layout(block, start)
        if not at.gone & _GONE_NUMBERS:
            (record_id,) = struct.unpack_from("!Q", block, at.head + 6)
            middle = at.numbers + INDEX_BYTES
            yield block[at.numbers : middle], record_id
            yield block[middle : middle + INDEX_BYTES], record_id
        start = at.end


def iter_times(block: bytes) -> Iterator[tuple[int, int]]:
    """(record id, epoch milliseconds of acceptance) of each record in a block, erased ones too."""
    start = 0
    while start < len(block):
        at = _layout(block, start)
        record_id, accepted_ms = _ID_TIME.unpack_from(block, at.head + 6)
        yield record_id, accepted_ms
        start = at.end


class Glance(NamedTuple):
    """What a count asks of a record: account (octets), numbers period (code), the blind index of the person (the sender of an
    MO message, the recipient of any other), None where it was erased or purged. body: whether its text is still there."""

    record_id: int
    accepted_ms: int
    account: bytes
    period: int
    person: bytes | None
    body: bool


def iter_glances(block: bytes) -> Iterator[Glance]:
    """A glance at each record in a block, erased ones too; nothing is verified. Raises SealError."""
    start = 0
    while start < len(block):
        at = _layout(block, start)
        record_id, accepted_ms, period = struct.unpack_from("!QQI", block, at.head + 6)
        person = None
        if not at.gone & _GONE_NUMBERS:
            place = at.numbers + (0 if at.flags & 1 else INDEX_BYTES)
            person = block[place : place + INDEX_BYTES]
        sealed = at.flags >> 1 == Content.ENCRYPT and not at.gone & _GONE_BODY
        yield Glance(record_id, accepted_ms, block[at.head + _HEAD.size : at.numbers], period, person, sealed)
        start = at.end


def digest_of(packed: bytes) -> bytes:
    """The digest that the record carries, unverified."""
    return packed[_layout(packed).digest :][:DIGEST_BYTES]


def verify_digest(packed: bytes) -> bytes:
    """Compute the digest anew and return it; SealError if the record carries another one. Works on erased records."""
    at = _layout(packed)
    if at.end != len(packed):
        raise SealError("bytes follow the record")
    digest = _RECORD_STATE.copy()
    digest.update(packed[at.head : at.numbers])
    digest.update(_leaf(packed[at.numbers : at.body], at.gone & _GONE_NUMBERS))
    digest.update(_leaf(packed[at.body : at.digest], at.gone & _GONE_BODY))
    computed = digest.digest()
    if not compare_digest(computed, packed[at.digest : at.end]):
        raise SealError("a record does not match its digest: it was altered")
    return computed


def _leaf(section: bytes, gone: int) -> bytes:
    if gone:
        return section
    state = _LEAF_STATE.copy()
    state.update(section)
    return state.digest()


class PeriodKeys(Protocol):
    """Where `open_record` finds keys; `KeyRing` is one."""

    def existing(self, account: str, part: Part, period: Period) -> PeriodKey | None:
        """The key, or None when it has been destroyed."""


class _NoKeys:
    """`PeriodKeys` that are all gone."""

    def existing(self, account: str, part: Part, period: Period) -> PeriodKey | None:
        """None."""
        return None


NO_KEYS: Final = _NoKeys()
"""For who opens a record by the keys of its parts alone."""


class PartKeys(NamedTuple):
    """The keys of a record's two parts, 32 octets each, made of period key and record secret; None where there is none (any
    more)."""

    numbers: bytes | None = None
    body: bytes | None = None

    def __repr__(self) -> str:
        return "<PartKeys ***>"


class OpenRecord(NamedTuple):
    """An opened record. numbers and body are None when they cannot be read any more (erased, or a key or secret was
    destroyed) or were never kept; content_hash is set with Content.HASH only."""

    header: RecordHeader
    numbers: NumbersPart | None
    body: bytes | None
    content_hash: bytes | None

    def __repr__(self) -> str:
        return f"<OpenRecord {self.header.record_id:016x} {self.header.account} ***>"

    def pdu(self) -> bytes | None:
        """The frame as received, or None when a part of it is not readable."""
        if self.numbers is None or self.body is None:
            return None
        return join_pdu(self.numbers.addresses, self.body)


def part_keys(packed: bytes, keys: PeriodKeys, secrets: bytes) -> PartKeys:
    """What opens this record without its period keys and secrets, for whoever has to keep it longer than these live. The body
    has none unless it is sealed. secrets: as for `open_record`. Raises SealError if the record is malformed."""
    return _part_keys(read_header(packed), keys, secrets)


def _part_keys(header: RecordHeader, keys: PeriodKeys, secrets: bytes) -> PartKeys:
    if len(secrets) != SECRETS_BYTES:
        raise SealError("record secrets of a wrong length")
    numbers: bytes | None = None
    body: bytes | None = None
    if not header.numbers_gone:
        numbers = _part_key(keys.existing(header.account, Part.NUMBERS, header.numbers_period), secrets[:32])
        if header.body_period is not None and not header.body_gone and header.content is Content.ENCRYPT:
            body = _part_key(keys.existing(header.account, Part.BODY, header.body_period), secrets[32:])
    return PartKeys(numbers, body)


def open_record(
    packed: bytes, keys: PeriodKeys, secrets: bytes, held: Callable[[int], PartKeys] | None = None
) -> OpenRecord:
    """Verify and open one record.

    secrets: the record's SECRETS_BYTES; a half that is all zero counts as destroyed (erasure overwrites it so).
    held(record_id): asked where a period key or a secret is gone: the keys of parts that a hold keeps.
    Raises SealError if the record was altered, or was moved between accounts, periods, subjects or parts.
    """
    verify_digest(packed)
    header = read_header(packed)
    at = _layout(packed)
    numbers: NumbersPart | None = None
    body: bytes | None = None
    content_hash: bytes | None = None
    opening = _part_keys(header, keys, secrets)
    if held is not None and not at.gone & _GONE_NUMBERS:
        sealed_body = header.content is Content.ENCRYPT and not at.gone & _GONE_BODY
        if opening.numbers is None or (sealed_body and opening.body is None):
            kept = held(header.record_id)
            opening = PartKeys(
                kept.numbers if opening.numbers is None else opening.numbers,
                kept.body if opening.body is None else opening.body,
            )
    if not at.gone & _GONE_NUMBERS:
        bound = packed[at.head : at.numbers + 2 * INDEX_BYTES]
        sealed = packed[at.numbers + 2 * INDEX_BYTES : at.body]
        plain = _open_part(sealed, opening.numbers, _NUMBERS_LABEL + bound)
        if plain is not None:
            if not plain or len(plain) < 1 + plain[0]:
                raise SealError("a record's numbers part is malformed")
            numbers = NumbersPart(plain[1 : 1 + plain[0]], plain[1 + plain[0] :])
        if not at.gone & _GONE_BODY and header.body_period is not None:
            section = packed[at.body : at.digest]
            if header.content is Content.HASH:
                content_hash = section
            else:
                body = _open_part(section, opening.body, _BODY_LABEL + bound)
    return OpenRecord(header, numbers, body, content_hash)


def _part_key(key: PeriodKey | None, secret: bytes) -> bytes | None:
    if key is None or secret == _DESTROYED:
        return None
    state = key.derive.copy()
    state.update(secret)
    return state.digest()


def _open_part(sealed: bytes, key: bytes | None, bound: bytes) -> bytes | None:
    if key is None:
        return None
    try:
        plain = AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], bound)
    except InvalidTag:
        raise SealError("a sealed part does not open: it was altered or moved, or this is not its secret") from None
    (size,) = _LEN.unpack_from(plain)
    if size > len(plain) - _LEN.size:
        raise SealError("a sealed part's length does not fit")
    return plain[_LEN.size : _LEN.size + size]


# --- Erasing ---------------------------------------------------------------------------------------------------------


def erase(packed: bytes) -> bytes:
    """The record without both sections and the blind indexes. Its digest verifies as before; erasing again changes
    nothing. That a record *may* be erased is for the erasure journal to say: the digest does not cover it."""
    return _strip(packed, _GONE_NUMBERS | _GONE_BODY)


def erase_body(packed: bytes) -> bytes:
    """The record without its body section (the body's retention is over, the numbers' is not)."""
    return _strip(packed, _GONE_BODY)


def _strip(packed: bytes, parts: int) -> bytes:
    at = _layout(packed)
    numbers, body = packed[at.numbers : at.body], packed[at.body : at.digest]
    if parts & _GONE_NUMBERS:
        numbers = _leaf(numbers, at.gone & _GONE_NUMBERS)
    if parts & _GONE_BODY:
        body = _leaf(body, at.gone & _GONE_BODY)
    head = packed[at.head : at.numbers]
    total = _LENGTHS.size + len(head) + len(numbers) + len(body) + DIGEST_BYTES
    lengths = _LENGTHS.pack(total, at.gone | parts, len(numbers), len(body))
    return b"".join((lengths, head, numbers, body, packed[at.digest : at.end]))
