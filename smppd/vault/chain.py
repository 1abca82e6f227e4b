"""The digest chain over records and events, and the numbered seals by which edits and roll-backs are noticed.

`ChainKeys` makes the chain as it is written today: under a key, with seals. `chain` and `Checkpoint` are its first form,
which anybody could compute again; they are here to verify what older versions wrote. See docs/adr/0013.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from smppd.vault.seal import DIGEST_BYTES, SealError

GENESIS = bytes(DIGEST_BYTES)
"""What the first link continues."""

_COUNT = struct.Struct("!I")
_CHECKPOINT = struct.Struct("!12sQQQ32sQ32s")  # context, sequence, blocks, time ms, chain, audit id, audit hash
_CONTEXT = b"smppd-chkp-1"
_SIGNATURE = 64


def chain(previous: bytes, digests: Iterable[bytes]) -> bytes:
    """The chain after one more block: BLAKE2b-256(previous | u32 count | digests).

    One link a commit, not a record, so it costs little: verification needs the same blocks, which are the rows of the
    log. digests: of DIGEST_BYTES each, in order; none at all leaves the chain as it was.
    """
    listed = list(digests)
    joined = b"".join(listed)
    if len(previous) != DIGEST_BYTES or len(joined) != DIGEST_BYTES * len(listed):
        raise SealError("a digest has a wrong length")
    if not listed:
        return previous
    return blake2b(previous + _COUNT.pack(len(listed)) + joined, digest_size=32, person=b"smppd-chain").digest()


def events_digest(events: bytes) -> bytes:
    """The digest of the events of one log row, as the chain contains it."""
    return blake2b(events, digest_size=32, person=b"smppd events").digest()


class Checkpoint(NamedTuple):
    """The state of the log at one moment.

    sequence: rises by one a checkpoint. blocks: how many blocks the chain covers. time_ms:
    epoch milliseconds. chain: the digest chain. audit_id, audit_hash: the audit trail's head (`AuditTrail.head`).
    """

    sequence: int
    blocks: int
    time_ms: int
    chain: bytes
    audit_id: int = 0
    audit_hash: bytes = GENESIS


def verify_checkpoint(key: Ed25519PublicKey, signed: bytes) -> Checkpoint:
    """The checkpoint in `signed`; SealError if it is malformed or this key did not sign it."""
    if len(signed) != _CHECKPOINT.size + _SIGNATURE:
        raise SealError("a checkpoint has a wrong length")
    packed = signed[: _CHECKPOINT.size]
    context, *values = _CHECKPOINT.unpack(packed)
    try:
        key.verify(signed[_CHECKPOINT.size :], packed)
    except InvalidSignature:
        raise SealError("a checkpoint's signature does not verify") from None
    if context != _CONTEXT:
        raise SealError("a checkpoint has an unknown format")
    return Checkpoint(*values)


# -- the chain under a key -------------------------------------------------------------------------------------------

_LINK = struct.Struct("!QQI")  # row, row of secrets that it names or 0, count
_SEAL = struct.Struct("!12sQBQQQ32s32sQ32s")
_SEAL_CONTEXT = b"smppd-seal-1"
_LOG_STATE = struct.Struct("!QQB32s32s")
_AUDIT_STATE = struct.Struct("!Q32s")


class SealKind(IntEnum):
    """Why a seal was made. BEGIN: the chain under a key begins here; a second one says that the store did not fit its seals.
    RUNNING: so many records or seconds after the last. STOP: a clean end, nothing follows it. START: the first of a run, which
    takes over what an end that was not clean had left unsealed."""

    BEGIN = 0
    RUNNING = 1
    STOP = 2
    START = 3


class Seal(NamedTuple):
    """A signed state of the log at one moment.

    number: 1, 2, 3 ... without gaps over the life of the store. seq: the last log row covered, 0 for none. rows: how many the
    chain covers. time_ms: epoch milliseconds. chain: the digest chain after that row. previous: `seal_hash` of the one
    before, zeros for the first. audit_id, audit_hash: the audit trail's head then (`AuditTrail.head`).
    """

    number: int
    kind: SealKind
    seq: int
    rows: int
    time_ms: int
    chain: bytes
    previous: bytes
    audit_id: int
    audit_hash: bytes


class LogState(NamedTuple):
    """What keys.db knows of data.db. number, digest: a seal that is durable there. next, next_digest: the one that is written
    after this state, so that a kill between the two files is not taken for a roll-back; the same again at rest. closed: the
    daemon ended cleanly with it."""

    number: int
    next: int
    closed: bool
    digest: bytes
    next_digest: bytes


def seal_hash(signed: bytes) -> bytes:
    """The hash by which the next seal, the audit trail and notes name a seal."""
    return blake2b(signed, digest_size=DIGEST_BYTES, person=b"smppd-seal").digest()


def read_seal(public: Ed25519PublicKey, signed: bytes) -> Seal:
    """The seal in `signed`; SealError if it is malformed or this key did not sign it."""
    if len(signed) != _SEAL.size + _SIGNATURE:
        raise SealError("a checkpoint has a wrong length")
    packed = signed[: _SEAL.size]
    context, number, kind, *values = _SEAL.unpack(packed)
    try:
        public.verify(signed[_SEAL.size :], packed)
        if context != _SEAL_CONTEXT:
            raise SealError("a checkpoint has an unknown format")
        return Seal(number, SealKind(kind), *values)
    except InvalidSignature:
        raise SealError("a checkpoint's signature does not verify") from None
    except ValueError:
        raise SealError("a checkpoint is of an unknown kind") from None


class ChainKeys:
    """The keys of the log's chain: one makes its links and the MACs over states of other files, the other signs. Both are
    secrets of the installation, so they live longer than the keys of all periods, and what was purged still verifies by its
    digests."""

    __slots__ = ("_link", "_mac", "_sign", "public")

    def __init__(self, audit: bytes, checkpoint: Ed25519PrivateKey) -> None:
        """audit, checkpoint: of `vault.keys.InstallSecrets`."""
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"smppd log chain v2").derive(audit)
        self._link = blake2b(key=key, digest_size=DIGEST_BYTES, person=b"smppd-link")
        self._mac = blake2b(key=key, digest_size=DIGEST_BYTES, person=b"smppd-state")
        self._sign = checkpoint
        self.public = checkpoint.public_key()

    def __repr__(self) -> str:
        return "<ChainKeys ***>"

    def link(self, previous: bytes, seq: int, secrets: int | None, digests: Sequence[bytes]) -> bytes:
        """The chain after the log row `seq`, which names the row `secrets` of keys.db or none. Raises SealError.

        Keyed BLAKE2b-256(previous | u64 seq | u64 secrets | u32 count | digests): without the key nobody can go on with the
        chain, nor give a row another place in it.
        """
        joined = b"".join(digests)
        if len(previous) != DIGEST_BYTES or len(joined) != DIGEST_BYTES * len(digests):
            raise SealError("a digest has a wrong length")
        state = self._link.copy()
        try:
            state.update(previous + _LINK.pack(seq, secrets or 0, len(digests)) + joined)
        except struct.error:
            raise SealError("a row has an impossible number") from None
        return state.digest()

    def mac(self, label: bytes, *values: bytes) -> bytes:
        """A MAC over values of one use, named by `label`. The lengths are part of it."""
        state = self._mac.copy()
        for value in (label, *values):
            state.update(_COUNT.pack(len(value)) + value)
        return state.digest()

    def purged(self, seq: int, digests: bytes) -> bytes:
        """The MAC of what a purge leaves of the log row `seq`."""
        return self.mac(b"purged", seq.to_bytes(8, "big"), digests)

    def sign(self, seal: Seal) -> bytes:
        """The seal as signed bytes. Raises SealError for a value that does not fit."""
        try:
            packed = _SEAL.pack(_SEAL_CONTEXT, *seal)
        except struct.error:
            raise SealError("a value does not fit the seal") from None
        return packed + self._sign.sign(packed)

    def read(self, signed: bytes) -> Seal:
        """The seal in `signed`; SealError if it is malformed or this installation did not sign it."""
        return read_seal(self.public, signed)

    def pack_log(self, state: LogState) -> bytes:
        """`LogState` under its MAC."""
        packed = _LOG_STATE.pack(*state)
        return packed + self.mac(b"log", packed)

    def read_log(self, value: bytes) -> LogState:
        """The inverse of `pack_log`. Raises SealError."""
        packed = self._checked(value, _LOG_STATE.size, b"log")
        number, following, closed, digest, other = _LOG_STATE.unpack(packed)
        return LogState(number, following, bool(closed), digest, other)

    def pack_audit(self, number: int, digest: bytes) -> bytes:
        """(id, hash) of an entry of the audit trail, under its MAC."""
        packed = _AUDIT_STATE.pack(number, digest)
        return packed + self.mac(b"audit", packed)

    def read_audit(self, value: bytes) -> tuple[int, bytes]:
        """The inverse of `pack_audit`. Raises SealError."""
        number, digest = _AUDIT_STATE.unpack(self._checked(value, _AUDIT_STATE.size, b"audit"))
        return number, digest

    def _checked(self, value: bytes, size: int, label: bytes) -> bytes:
        packed = value[:size]
        if len(value) != size + DIGEST_BYTES or not hmac.compare_digest(self.mac(label, packed), value[size:]):
            raise SealError("what keys.db and data.db know of each other was altered")
        return packed
