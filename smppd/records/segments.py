"""Sorted segments: the pieces of the indexes over the log. Each is one block of octets that is searched as it is.

A segment is a head and entries in rising order, so that it is searched by bisection and several are merged in one pass.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from typing import Final

from smppd.pacing import breathe
from smppd.vault.seal import INDEX_BYTES, SealError

BUCKETS: Final = 64
"""An index is cut into so many by key, so that sorting, writing and reading a segment stays a small piece of work."""
_SEGMENT = struct.Struct("!4sI")  # magic, entries
_BLIND_MAGIC = b"SIX1"
_RECORD_MAGIC = b"SRX1"
_U64 = struct.Struct("!Q")
_FEW: Final = 8  # entries of a key that are looked at first; of a sender of many messages there are thousands
_MANY: Final = 1024
_ENTRY = struct.Struct(f"!{INDEX_BYTES}xQ")
_BREATH: Final = 1000


def number_bucket(blind: bytes) -> int:
    """The bucket of a blind index: its first bits."""
    return blind[0] * BUCKETS >> 8


def record_bucket(record_id: int) -> int:
    """The bucket of a record id: its bits mixed, since most ids end in zeros."""
    return (record_id * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 58


def build_segment(entries: Iterable[tuple[bytes, int]]) -> bytes:
    """A sorted, read-only map from blind index (INDEX_BYTES) to record ids (u64); equal entries are kept once."""
    pack = _U64.pack
    return _build(_BLIND_MAGIC, INDEX_BYTES, (key + pack(record_id) for key, record_id in entries))


def find_number(segment: bytes, blind_index: bytes) -> list[int]:
    """The record ids of this blind index in a segment of `build_segment`, rising. Bisection: log2(n) comparisons."""
    if len(blind_index) != INDEX_BYTES:
        raise SealError("a blind index has a wrong length")
    return _find(segment, _BLIND_MAGIC, blind_index)


def without(segment: bytes, records: Collection[int]) -> bytes:
    """A segment of `build_segment` without the entries of some records; the same object where it has none of them."""
    if len(segment) < _SEGMENT.size:
        raise SealError("an index segment is cut short")
    magic, count = _SEGMENT.unpack_from(segment)
    size = INDEX_BYTES + 8
    if magic != _BLIND_MAGIC or len(segment) != _SEGMENT.size + count * size:
        raise SealError("an index segment is malformed")
    kept = []
    begin = _SEGMENT.size
    for number, (record,) in enumerate(_ENTRY.iter_unpack(segment[_SEGMENT.size :])):
        if not number % _BREATH:
            breathe()
        if record in records:
            at = _SEGMENT.size + number * size
            kept.append(segment[begin:at])
            begin = at + size
    if begin == _SEGMENT.size and not kept:
        return segment
    kept.append(segment[begin:])
    joined = b"".join(kept)
    return _SEGMENT.pack(magic, len(joined) // size) + joined


def build_record_segment(entries: Iterable[tuple[int, int]]) -> bytes:
    """A sorted, read-only map from record id (u64) to the sequences (u64) of the event blocks that tell of it."""
    pack = _U64.pack
    return _build(_RECORD_MAGIC, 8, (pack(record_id) + pack(block) for record_id, block in entries))


def find_record(segment: bytes, record_id: int) -> list[int]:
    """The block sequence numbers of this record in a segment of `build_record_segment`, rising."""
    return _find(segment, _RECORD_MAGIC, _U64.pack(record_id))


def records_between(segment: bytes, low: int, high: int) -> set[int]:
    """The block sequence numbers of all records from one id to another in a segment of `build_record_segment`."""
    size = 16
    if len(segment) < _SEGMENT.size:
        raise SealError("an index segment is cut short")
    found, count = _SEGMENT.unpack_from(segment)
    if found != _RECORD_MAGIC or len(segment) != _SEGMENT.size + count * size:
        raise SealError("an index segment is malformed")
    first = bisect_left(range(count), low, key=lambda at: _U64.unpack_from(segment, _SEGMENT.size + at * size)[0])
    last = bisect_right(range(count), high, key=lambda at: _U64.unpack_from(segment, _SEGMENT.size + at * size)[0])
    values = range(_SEGMENT.size + first * size + 8, _SEGMENT.size + last * size, size)
    return {_U64.unpack_from(segment, at)[0] for at in values}


def _build(magic: bytes, key_bytes: int, rows: Iterable[bytes]) -> bytes:
    size = key_bytes + 8
    try:
        listed = sorted(set(rows))
        joined = b"".join(listed)
        if len(joined) != size * len(listed):
            raise SealError("an index entry has a wrong length")
        return _SEGMENT.pack(magic, len(listed)) + joined
    except struct.error:
        raise SealError("an index entry's number does not fit 64 bits") from None


def _find(segment: bytes, magic: bytes, key: bytes) -> list[int]:
    size = len(key) + 8
    if len(segment) < _SEGMENT.size:
        raise SealError("an index segment is cut short")
    found, count = _SEGMENT.unpack(segment[: _SEGMENT.size])
    if found != magic or len(segment) != _SEGMENT.size + count * size:
        raise SealError("an index segment is malformed")
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        at = _SEGMENT.size + middle * size
        if segment[at : at + len(key)] < key:
            low = middle + 1
        else:
            high = middle
    values: list[int] = []
    at = _SEGMENT.size + low * size
    some = _FEW
    while some_of := segment[at : at + some * size]:
        for place in range(0, len(some_of), size):
            if not some_of.startswith(key, place):
                return values
            values.append(_U64.unpack_from(some_of, place + len(key))[0])
        at += len(some_of)
        some = _MANY
    return values
