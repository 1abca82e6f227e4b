"""The digest chain, signed checkpoints, and spool blocks whose nonces never repeat."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.vault.blocks import (
    BLOBS_PER_SEGMENT,
    SegmentSealer,
    open_blob,
    row_id,
    seal_blob,
    split_row_id,
)
from smppd.vault.chain import GENESIS, Checkpoint, chain, verify_checkpoint
from smppd.vault.seal import SealError
from tests.vault.checkpoints import sign_checkpoint
from tests.vault.rows import MemoryRows, ring, some

A, B, C = some("a"), some("b"), some("c")


def test_chain_depends_on_every_digest_their_order_and_the_blocks() -> None:
    links = [
        chain(GENESIS, [A, B, C]),
        chain(GENESIS, [A, C, B]),
        chain(GENESIS, [A, B]),
        chain(chain(GENESIS, [A, B]), [C]),
        chain(chain(GENESIS, [A]), [B, C]),
        chain(A, [A, B, C]),
    ]
    assert len(set(links)) == len(links)
    assert chain(A, []) == A
    assert chain(GENESIS, iter([A, B, C])) == links[0]


@pytest.mark.parametrize(("previous", "digests"), [(b"", [A]), (GENESIS, [A[:31]]), (GENESIS, [A + B])])
def test_chain_refuses_other_lengths(previous: bytes, digests: list[bytes]) -> None:
    with pytest.raises(SealError):
        chain(previous, digests)


KEY = Ed25519PrivateKey.from_private_bytes(some("sign"))
POINT = Checkpoint(sequence=3, blocks=1000, time_ms=1_795_348_800_000, chain=A, audit_id=9, audit_hash=B)


def test_checkpoint_round_trip() -> None:
    assert verify_checkpoint(KEY.public_key(), sign_checkpoint(KEY, POINT)) == POINT


def test_checkpoint_refuses_any_change_and_other_keys() -> None:
    signed = sign_checkpoint(KEY, POINT)
    for at in range(len(signed)):
        with pytest.raises(SealError):
            verify_checkpoint(KEY.public_key(), signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :])
    with pytest.raises(SealError):
        verify_checkpoint(Ed25519PrivateKey.from_private_bytes(A).public_key(), signed)
    for cut in (b"", signed[:-1], signed + b"x"):
        with pytest.raises(SealError):
            verify_checkpoint(KEY.public_key(), cut)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200), st.binary(max_size=20), st.integers(0, BLOBS_PER_SEGMENT - 1))
def test_blob_round_trip(data: bytes, aad: bytes, counter: int) -> None:
    keys = ring(MemoryRows())
    aead = keys.segment(keys.new_segment())
    sealed = seal_blob(aead, counter, aad, data)
    assert open_blob(aead, counter, aad, sealed) == data
    for wrong in ((counter ^ 1, aad, sealed), (counter, aad + b"x", sealed), (counter, aad, sealed[:-1] + b"\0\1")):
        with pytest.raises(SealError):
            open_blob(aead, *wrong)


def test_blob_counter_is_bounded() -> None:
    keys = ring(MemoryRows())
    aead = keys.segment(keys.new_segment())
    for counter in (-1, BLOBS_PER_SEGMENT):
        with pytest.raises(SealError):
            seal_blob(aead, counter, b"", b"")
        with pytest.raises(SealError):
            open_blob(aead, counter, b"", bytes(16))


def test_sealer_never_uses_a_counter_or_segment_twice() -> None:
    rows = MemoryRows()
    first = SegmentSealer(ring(rows))
    assert [first.seal(b"", b"x")[0] for _ in range(3)] == [0, 1, 2]
    second = SegmentSealer(ring(rows))  # after a restart
    assert (first.segment, second.segment) == (1, 2)
    counter, sealed = second.seal(b"spool", b"data")
    assert open_blob(ring(rows).segment(2), counter, b"spool", sealed) == b"data"
    with pytest.raises(SealError):
        open_blob(ring(rows).segment(1), counter, b"spool", sealed)
    assert "***" in repr(second)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, (1 << 31) - 1), st.integers(0, BLOBS_PER_SEGMENT - 1))
def test_row_id_round_trip(segment: int, counter: int) -> None:
    row = row_id(segment, counter)
    assert 0 < row < 1 << 63
    assert split_row_id(row) == (segment, counter)


@pytest.mark.parametrize(("segment", "counter"), [(0, 0), (1 << 31, 0), (1, -1), (1, BLOBS_PER_SEGMENT)])
def test_row_id_is_bounded(segment: int, counter: int) -> None:
    with pytest.raises(SealError):
        row_id(segment, counter)
