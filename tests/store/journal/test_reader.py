"""Files of the journal are read in order; what a loss of power cut short is told from what was damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from smppd.store.journal.blocks import MAGIC, SECTOR, Block, pack
from smppd.store.journal.reader import Broken, Placed, last_sequence, numbers, path_of, read

LENGTH = 16 * SECTOR


def block(sequence: int, segment: int = 1, octets: int = 900) -> Block:
    return Block(sequence, segment, 2 * sequence, b"\1" * 300, b"\2" * octets)


def octets(sequence: int, segment: int = 1) -> bytes:
    return b"".join(pack(block(sequence, segment)))


SIZE = len(octets(1))


def write(directory: Path, number: int, *pieces: bytes, length: int = LENGTH) -> None:
    path_of(directory, number).write_bytes(b"".join(pieces).ljust(length, b"\0"))


def told(directory: Path) -> list[int | tuple[str, int, int]]:
    """Sequences of whole blocks; what is broken as (what, file, missing)."""
    found: list[int | tuple[str, int, int]] = []
    for one in read(directory):
        if isinstance(one, Placed):
            found.append(one.block.sequence)
        else:
            found.append(("torn" if one.torn else "damaged", one.file, one.missing))
    return found


def test_blocks_in_the_order_of_the_files(tmp_path: Path) -> None:
    write(tmp_path, 9, octets(1), octets(2))
    write(tmp_path, 10, octets(3, 2))
    write(tmp_path, 11)
    (tmp_path / "journal-x").write_bytes(octets(4))
    (tmp_path / "journal-0000000g").write_bytes(octets(4))
    assert numbers(tmp_path) == [9, 10, 11]
    assert told(tmp_path) == [1, 2, 3]
    assert last_sequence(tmp_path) == 3
    assert [one.block for one in read(tmp_path) if isinstance(one, Placed)] == [block(1), block(2), block(3, 2)]


def test_an_empty_directory(tmp_path: Path) -> None:
    assert told(tmp_path) == [] and last_sequence(tmp_path) == 0


@pytest.mark.parametrize("left", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}])
def test_a_block_of_which_some_sectors_were_written_is_torn(tmp_path: Path, left: set[int]) -> None:
    assert SIZE == 3 * SECTOR
    torn = b"".join(
        octets(2)[n * SECTOR : (n + 1) * SECTOR] if n in left else bytes(SECTOR) for n in range(SIZE // SECTOR)
    )
    write(tmp_path, 1, octets(1), torn)
    write(tmp_path, 2)
    assert told(tmp_path) == [1, ("torn", 1, 0)]
    # Something that was written later says that it was durable.
    write(tmp_path, 2, octets(3))
    assert told(tmp_path) == [1, ("damaged", 1, 1), 3]


@pytest.mark.parametrize("at", [0, 5, 40, 600, 1100])
def test_a_flipped_bit_is_damage(tmp_path: Path, at: int) -> None:
    for which, expected in (
        (0, [("damaged", 1, 0), 2, 3]),
        (1, [1, ("damaged", 1, 1), 3]),
        (2, [1, 2, ("damaged", 1, 0)]),
    ):
        data = bytearray(octets(1) + octets(2) + octets(3))
        data[which * SIZE + at] ^= 1
        write(tmp_path, 1, bytes(data))
        assert told(tmp_path) == expected


def test_zeros_in_the_middle_are_a_gap(tmp_path: Path) -> None:
    write(tmp_path, 1, octets(1), bytes(SIZE), octets(3))
    assert told(tmp_path) == [1, ("damaged", 1, 1), 3]
    (broken,) = [one for one in read(tmp_path) if isinstance(one, Broken)]
    assert broken.data == b"" and not broken.last


def test_a_file_that_is_gone_is_a_gap(tmp_path: Path) -> None:
    write(tmp_path, 1, octets(1))
    write(tmp_path, 3, octets(4))
    assert told(tmp_path) == [1, ("damaged", 3, 2), 4]


def test_a_copy_of_a_file_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 1, octets(1), octets(2))
    write(tmp_path, 2, octets(1), octets(2), octets(3))
    assert told(tmp_path) == [1, 2, 3]


def test_a_file_may_end_with_its_last_block(tmp_path: Path) -> None:
    write(tmp_path, 1, octets(1), octets(2), length=0)
    assert told(tmp_path) == [1, 2]
    write(tmp_path, 2, octets(3), octets(4)[:600], length=0)
    assert told(tmp_path) == [1, 2, 3, ("damaged", 2, 0)]


def test_the_last_block_is_found_from_the_end(tmp_path: Path) -> None:
    write(tmp_path, 1, octets(1), octets(2))
    write(tmp_path, 2)
    assert last_sequence(tmp_path) == 2, "the next file was made ahead"
    # What looks like a head and is none, or stands where none does.
    write(tmp_path, 2, octets(3), MAGIC + bytes(508), bytes(100) + octets(4))
    assert last_sequence(tmp_path) == 3
    write(tmp_path, 3, octets(4)[:SECTOR])
    assert last_sequence(tmp_path) == 4, "it is being written"
