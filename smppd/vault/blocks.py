"""Sealing of spool blocks (in flight, id map, mailbox): AES-256-GCM under a segment's key with a counter as nonce."""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from smppd.vault.keys import KeyRing
from smppd.vault.seal import SealError

BLOBS_PER_SEGMENT = 1 << 32
"""Counters of one segment; nonces never come near it, because segments are bounded in records and time."""

_NONCE = struct.Struct("!IQ")
_TAG = 16


def seal_blob(aead: AESGCM, counter: int, aad: bytes, data: bytes) -> bytes:
    """Seal `data` as number `counter` of its segment. A counter is used once: see `SegmentSealer`. The counter is not
    in the result (the row's id says it). aad: what must not change, for example table and segment."""
    if not 0 <= counter < BLOBS_PER_SEGMENT:
        raise SealError("the spool segment is full")
    return aead.encrypt(_NONCE.pack(0, counter), data, aad)


def open_blob(aead: AESGCM, counter: int, aad: bytes, sealed: bytes) -> bytes:
    """The data of `seal_blob`; SealError if the blob, its counter or its associated data is not the same."""
    if not 0 <= counter < BLOBS_PER_SEGMENT or len(sealed) < _TAG:
        raise SealError("not a sealed spool block")
    try:
        return aead.decrypt(_NONCE.pack(0, counter), sealed, aad)
    except InvalidTag:
        raise SealError("a spool block does not open: it was altered or moved") from None


def row_id(segment: int, counter: int) -> int:
    """Segment and counter as one 63-bit row id, rising with both."""
    if not 0 < segment < 1 << 31 or not 0 <= counter < BLOBS_PER_SEGMENT:
        raise SealError("segment or counter out of range")
    return segment << 32 | counter


def split_row_id(row: int) -> tuple[int, int]:
    """(segment, counter) of a row id."""
    return row >> 32, row & (BLOBS_PER_SEGMENT - 1)


class SegmentSealer:
    """Writes one fresh spool segment. Its counter lives in memory only and never goes back: a failed commit wastes
    numbers, and a restart takes a new segment, since a lost row's bytes may survive in the write-ahead log and a second
    use of its nonce would give both plaintexts away."""

    __slots__ = ("_aead", "_next", "segment")

    def __init__(self, ring: KeyRing) -> None:
        """Takes a new segment from the ring (waits for the disk)."""
        self.segment = ring.new_segment()
        self._aead = ring.segment(self.segment)
        self._next = 0

    def __repr__(self) -> str:
        return f"<SegmentSealer segment={self.segment} next={self._next} ***>"

    def seal(self, aad: bytes, data: bytes) -> tuple[int, bytes]:
        """(counter, sealed) for one block; store both, see `row_id`."""
        counter = self._next
        self._next += 1
        return counter, seal_blob(self._aead, counter, aad, data)

    def seal_two(self, aad: bytes, data: bytes, other_aad: bytes, other: bytes) -> tuple[int, bytes, bytes]:
        """(counter, sealed, other sealed): two blobs that are stored together; the other one has the counter after it. Empty
        data stays empty."""
        counter = self._next
        self._next += 2
        sealed = seal_blob(self._aead, counter, aad, data) if data else b""
        return counter, sealed, seal_blob(self._aead, counter + 1, other_aad, other)
