"""A block of the journal: what one commit wrote, in one piece of a file.

A block begins at a multiple of 512 octets, the least that a disk writes whole. In network order: u32 magic, u32 length of all
but the zeros behind it, u64 sequence, u32 segment, u32 counter, u32 length of the spool's part, u32 CRC-32 of what follows the
head, u32 CRC-32 of the head so far; then the spool's part and the core, both sealed, and zeros up to the next multiple of 512.

The CRCs tell a whole block from one that was cut short, for those too who have no keys. Whether it was altered is for the
seals to say.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

SECTOR: Final = 512
"""What a block begins at a multiple of, in octets."""
LONGEST: Final = (1 << 31) - SECTOR
"""No block is longer, in octets."""
MAGIC: Final = b"\xa7sJ1"
_HEAD: Final = struct.Struct("!4sIQIIII")
_CHECK: Final = struct.Struct("!I")
HEAD_BYTES: Final = _HEAD.size + _CHECK.size


class Block(NamedTuple):
    """sequence: rises by one from block to block, over all files and all runs. segment: of the spool. counter: the number that
    the spool's part is sealed with in its segment; the core has the next one. spool, core: sealed; the spool's part may be
    empty."""

    sequence: int
    segment: int
    counter: int
    spool: bytes
    core: bytes

    def __repr__(self) -> str:
        return f"<Block {self.sequence} of segment {self.segment}>"


class Head(NamedTuple):
    """The head of a block. length: of the whole, in octets; check: of what follows the head."""

    length: int
    sequence: int
    segment: int
    counter: int
    spool: int
    check: int

    @property
    def octets(self) -> int:
        """With the zeros behind it."""
        return whole(self.length)


def whole(octets: int) -> int:
    """Octets rounded up to where the next block may begin."""
    return -(-octets // SECTOR) * SECTOR


def pack(block: Block) -> list[bytes]:
    """The pieces that are written, one behind the other. ValueError where it is longer than a block may be."""
    length = HEAD_BYTES + len(block.spool) + len(block.core)
    if length > LONGEST:
        raise ValueError("a block is too long")
    check = crc32(block.core, crc32(block.spool))
    head = _HEAD.pack(MAGIC, length, block.sequence, block.segment, block.counter, len(block.spool), check)
    return [head + _CHECK.pack(crc32(head)), block.spool, block.core, bytes(whole(length) - length)]


def head_at(data: bytes | memoryview, at: int) -> Head | None:
    """The head of the block that begins here; None where none does."""
    if len(data) - at < HEAD_BYTES:
        return None
    magic, *fields = _HEAD.unpack_from(data, at)
    head = Head(*fields)
    middle = at + _HEAD.size
    if magic != MAGIC or crc32(data[at:middle]) != _CHECK.unpack_from(data, middle)[0]:
        return None
    return head if HEAD_BYTES + head.spool <= head.length <= LONGEST else None


def unpack(data: bytes | memoryview, at: int = 0) -> Block | None:
    """The block that begins here, None where there is none that is whole."""
    head = head_at(data, at)
    if head is None or at + head.length > len(data):
        return None
    body, end = at + HEAD_BYTES, at + head.length
    if crc32(data[body:end]) != head.check:
        return None
    middle = body + head.spool
    return Block(head.sequence, head.segment, head.counter, bytes(data[body:middle]), bytes(data[middle:end]))
