"""Blocks of the journal: what was written is read again, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.store.journal.blocks import HEAD_BYTES, LONGEST, SECTOR, Block, head_at, pack, unpack, whole

BLOCK = Block(7, 3, 12, b"spool" * 30, b"core" * 300)


def octets(block: Block) -> bytes:
    return b"".join(pack(block))


@given(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 32) - 1),
    st.binary(max_size=2000),
    st.binary(max_size=2000),
)
def test_what_was_packed_is_unpacked(sequence: int, segment: int, counter: int, spool: bytes, core: bytes) -> None:
    block = Block(sequence, segment, counter, spool, core)
    data = octets(block)
    assert len(data) % SECTOR == 0
    assert unpack(data) == block
    assert unpack(bytes(SECTOR) + data + data, SECTOR) == block
    head = head_at(data, 0)
    assert head is not None and head.octets == len(data) and head.sequence == sequence


@given(st.integers(0, len(octets(BLOCK)) * 8 - 1))
def test_no_bit_can_be_flipped(bit: int) -> None:
    data = bytearray(octets(BLOCK))
    data[bit // 8] ^= 1 << bit % 8
    inside = bit // 8 < HEAD_BYTES + len(BLOCK.spool) + len(BLOCK.core)
    assert unpack(bytes(data)) == (None if inside else BLOCK)


@given(st.integers(0, len(octets(BLOCK)) - 1))
def test_a_block_that_is_cut_short_is_none(end: int) -> None:
    there = end >= HEAD_BYTES + len(BLOCK.spool) + len(BLOCK.core)
    assert unpack(octets(BLOCK)[:end]) == (BLOCK if there else None)


@given(st.binary(max_size=1500), st.integers(0, 1500))
def test_any_octets_are_no_block(data: bytes, at: int) -> None:
    assert unpack(data, at) is None


def test_limits() -> None:
    assert [whole(n) for n in (0, 1, 512, 513)] == [0, 512, 512, 1024]

    class Huge(bytes):
        def __len__(self) -> int:
            return LONGEST

    with pytest.raises(ValueError, match="too long"):
        pack(BLOCK._replace(core=Huge()))
    assert "spool" not in repr(BLOCK)
