"""The sealed file of a trace: read back as it was, up to the last whole block; nothing altered, moved or exchanged."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.vault.seal import SealError
from smppd.vault.traces import LARGEST, TraceWriter, new_key, read_trace, trace_scope

BLOCKS = [b"first", b"", b"the third block"]


def written(blocks: list[bytes], key: bytes, number: int = 3) -> bytes:
    file = io.BytesIO()
    writer = TraceWriter(file, number, key)
    for one in blocks:
        writer.write(one)
    assert writer.octets == len(file.getvalue()) and "***" in repr(writer)
    return file.getvalue()


def read(data: bytes, key: bytes, number: int = 3) -> list[bytes]:
    return list(read_trace(io.BytesIO(data), number, key))


def test_it_is_read_back_and_cut_anywhere_up_to_the_last_whole_block() -> None:
    key = new_key()
    data = written(BLOCKS, key)
    assert read(data, key) == BLOCKS
    assert b"third" not in data
    for end in range(len(data)):
        found = read(data[:end], key)
        assert found == BLOCKS[: len(found)] and len(found) < len(BLOCKS)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_whatever_octet_is_altered_nothing_false_comes_out(at: int, by: int) -> None:
    key = bytes(32)
    data = bytearray(written(BLOCKS, key))
    data[at % len(data)] ^= by
    found: list[bytes] = []
    try:
        for one in read_trace(io.BytesIO(bytes(data)), 3, key):
            found.append(one)
    except SealError:
        pass
    assert found == BLOCKS[: len(found)]


def test_no_block_in_anothers_place_and_no_file_for_another_trace() -> None:
    key = new_key()
    data = written([b"a" * 8, b"b" * 8], key)
    head, size = 12, 4 + 8 + 16
    swapped = data[:head] + data[head + size :] + data[head : head + size]
    for wrong, number in ((swapped, 3), (data, 4)):
        with pytest.raises(SealError):
            read(wrong, key, number)
    with pytest.raises(SealError):
        read(data, new_key())


def test_a_disk_that_takes_little_at_a_time_gets_all_of_it() -> None:
    class Slow(io.BytesIO):
        def write(self, data: Any, /) -> int:
            return super().write(bytes(data[:3]))

    file, key = Slow(), new_key()
    TraceWriter(file, 3, key).write(b"a block")
    assert read(file.getvalue(), key) == [b"a block"]


def test_too_large_a_block_is_refused() -> None:
    with pytest.raises(SealError, match="too large"):
        TraceWriter(io.BytesIO(), 3, new_key()).write(bytes(LARGEST))
    assert trace_scope(7) == b"trace/000007"


class Full(io.BytesIO):
    """A disk that is full behind so many octets, until somebody makes room."""

    room = 1 << 20

    def write(self, data: Any) -> int:
        part = bytes(data)[: self.room]
        if not part:
            raise OSError(28, "No space left on device")
        self.room -= len(part)
        return super().write(part)


def test_nothing_is_written_behind_half_a_block() -> None:
    key, file = new_key(), Full()
    writer = TraceWriter(file, 3, key)
    writer.write(b"whole")
    file.room = 10
    with pytest.raises(OSError, match="space"):
        writer.write(b"x" * 100)
    file.room = 1 << 20
    with pytest.raises(SealError):
        writer.write(b"the end")
    assert read(file.getvalue(), key) == [b"whole"]
