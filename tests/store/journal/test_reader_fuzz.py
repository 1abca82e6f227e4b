"""The reader of journal files, given anything: it never raises, what is whole and in order is read, what is gone is told, and a
write that a loss of power cut short is no damage."""

from __future__ import annotations

from typing import Final, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.store.journal.blocks import SECTOR, Block, pack
from smppd.store.journal.reader import Broken, Placed, in_file, in_files
from tests.store.journal.harms import Files, Harm, harms

_SPARE: Final = bytes(2 * SECTOR)


class Written(NamedTuple):
    """Files as they were written. ``places``: file and offset of each block; ``ends``: where the zeros behind each begin."""

    files: Files
    blocks: list[Block]
    places: list[tuple[int, int]]
    ends: list[int]


def _sealed(seed: int, octets: int) -> bytes:
    """What cannot be told from random; no sector of it is zeros."""
    return bytes((seed * 31 + at * 7 + at // 256) % 255 + 1 for at in range(octets))


def _write(sizes: list[list[tuple[int, int]]], first: int) -> Written:
    files: Files = {}
    blocks: list[Block] = []
    places: list[tuple[int, int]] = []
    ends: list[int] = []
    sequence = first
    for number, inside in enumerate(sizes, 3):
        data = b""
        for spool, core in inside:
            block = Block(
                sequence, number, 2 * sequence % (1 << 32), _sealed(sequence, spool), _sealed(sequence + 1, core)
            )
            blocks.append(block)
            places.append((number, len(data)))
            data += b"".join(pack(block))
            ends.append(len(data))
            sequence += 1
        files[number] = data + _SPARE
    return Written(files, blocks, places, ends)


_SIZES = st.lists(
    st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 1500)), min_size=1, max_size=4), min_size=1, max_size=3
)
_WRITTEN = st.builds(_write, _SIZES, st.integers(1, 1 << 40))


def _read(files: Files) -> tuple[list[Placed], list[Broken]]:
    found = list(in_files(sorted(files.items())))
    return [one for one in found if isinstance(one, Placed)], [one for one in found if isinstance(one, Broken)]


@given(_WRITTEN)
def test_what_is_whole_is_read_and_nothing_is_told(written: Written) -> None:
    read, broken = _read(written.files)
    assert [one.block for one in read] == written.blocks
    assert [(one.file, one.at) for one in read] == written.places
    assert broken == []


@settings(max_examples=300)
@given(_WRITTEN, st.lists(harms(), min_size=1, max_size=4))
def test_nothing_is_made_up_and_what_is_gone_is_told(written: Written, harms: list[Harm]) -> None:
    files = dict(written.files)
    for harm in harms:
        harm(files)
    read, broken = _read(files)
    assert all(one.block in written.blocks for one in read)
    sequences = [one.block.sequence for one in read]
    assert sequences == sorted(set(sequences))
    standing = {
        one.block.sequence for number, data in files.items() for one in in_file(number, data) if isinstance(one, Placed)
    }
    between = {block.sequence for block in written.blocks if read and sequences[0] < block.sequence < sequences[-1]}
    if gone := (standing | between) - set(sequences):
        assert any(not one.torn for one in broken), f"{len(gone)} blocks are not read, and nothing is told"
    # As long as all that is whole is in order, it is read.
    found = [one for number in sorted(files) for one in in_file(number, files[number]) if isinstance(one, Placed)]
    order = [one.block.sequence for one in found]
    if order == sorted(set(order)):
        assert read == found


@settings(max_examples=300)
@given(_WRITTEN, st.data())
def test_a_write_that_was_cut_short_is_no_damage(written: Written, data: st.DataObject) -> None:
    number, at = written.places[-1]
    end = written.ends[-1]
    sectors = range(at, end, SECTOR)
    lost = data.draw(st.sets(st.sampled_from(sectors), min_size=1), label="sectors that were not written")
    content = bytearray(written.files[number])
    for sector in lost:
        content[sector : sector + SECTOR] = bytes(SECTOR)
    read, broken = _read({**written.files, number: bytes(content)})
    assert [one.block for one in read] == written.blocks[:-1]
    assert all(one.torn and one.last for one in broken) and len(broken) <= 1


@settings(max_examples=200)
@given(_WRITTEN, st.data())
def test_a_block_that_was_written_and_is_not_whole_is_damage(written: Written, data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(written.blocks) - 1))
    number, at = written.places[which]
    length = sum(map(len, pack(written.blocks[which])[:-1]))
    place = at + data.draw(st.integers(0, length - 1))
    content = bytearray(written.files[number])
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    read, broken = _read({**written.files, number: bytes(content)})
    assert [one.block for one in read] == [block for block in written.blocks if block is not written.blocks[which]]
    assert len(broken) == 1 and not broken[0].torn
    assert (broken[0].file, broken[0].at) == (number, at)


@settings(max_examples=200)
@given(_WRITTEN, st.data())
def test_what_is_behind_zeros_in_the_middle_is_damage(written: Written, data: st.DataObject) -> None:
    """As a write that was cut short looks, but something was written behind it."""
    which = data.draw(st.integers(0, len(written.blocks) - 1))
    number, at = written.places[which]
    sector = data.draw(st.sampled_from(range(at, written.ends[which], SECTOR)))
    content = bytearray(written.files[number])
    content[sector : sector + SECTOR] = bytes(SECTOR)
    read, broken = _read({**written.files, number: bytes(content)})
    rest = [block for block in written.blocks if block is not written.blocks[which]]
    assert [one.block for one in read] == rest
    behind = which < len(written.blocks) - 1
    # Where nothing is left of the first one nobody can know that it was there, but for who knows what is filed.
    if behind and which > 0:
        assert broken and not any(one.torn for one in broken)


@settings(max_examples=300)
@given(st.dictionaries(st.integers(1, 5), st.binary(max_size=3000), max_size=3))
def test_anything_can_be_read(files: Files) -> None:
    read, broken = _read(files)
    assert read == [] and len(broken) <= len(files)
