"""The digest chain over records and events, and the signed checkpoints that make edits and roll-backs show."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

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


def sign_checkpoint(key: Ed25519PrivateKey, checkpoint: Checkpoint) -> bytes:
    """The checkpoint as signed bytes, to be kept and shipped off the host."""
    point = checkpoint
    try:
        packed = _CHECKPOINT.pack(
            _CONTEXT, point.sequence, point.blocks, point.time_ms, point.chain, point.audit_id, point.audit_hash
        )
    except struct.error:
        raise SealError("a value does not fit the checkpoint") from None
    return packed + key.sign(packed)


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
