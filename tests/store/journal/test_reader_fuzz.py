"""The reader of journal files, given anything: it never raises, what is whole and in order is read, what is gone is told, and a
write that a loss of power cut short is no damage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.store.journal.blocks import SECTOR, Block, pack
from smppd.store.journal.reader import Broken, Placed, in_file, in_files

_SPARE: Final = bytes(2 * SECTOR)
Files = dict[int, bytes]


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
            block = Block(sequence, number, 2 * sequence % (1 << 32), _sealed(sequence, spool), _sealed(sequence + 1, core))
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


Harm = Callable[[Files], None]


def _exchanged(number: int, data: bytes, which: int, place: int) -> bytes:
    """A file with two of its blocks in each other's place."""
    found = [one for one in in_file(number, data) if isinstance(one, Placed)]
    if len(found) < 2:
        return data
    one, other = sorted((found[which % len(found)], found[place % len(found)]), key=lambda each: each.at)
    first, second = (data[each.at : each.at + each.octets] for each in (one, other))
    between = data[one.at + one.octets : other.at]
    return data[: one.at] + second + between + first + data[other.at + other.octets :] if one is not other else data


@st.composite
def _harms(draw: st.DrawFn) -> Harm:
    """Something that happens to some files. Numbers beyond what there is count from the start again."""
    which, place, octets = draw(st.integers(0, 9)), draw(st.integers(0, 1 << 16)), draw(st.binary(min_size=1, max_size=700))
    kind = draw(st.sampled_from(("cut", "flip", "zeros", "over", "into", "out", "swap", "gone", "copy", "strange", "exchange")))

    def harm(files: Files) -> None:
        numbers = sorted(files)
        if not numbers:
            return
        number = numbers[which % len(numbers)]
        other = numbers[place % len(numbers)]
        data = files[number]
        at = place % max(1, len(data))
        sector = at // SECTOR * SECTOR
        if kind == "cut":
            files[number] = data[:at]
        elif kind == "flip" and data:
            files[number] = data[:at] + bytes((data[at] ^ (1 << which % 8),)) + data[at + 1 :]
        elif kind == "zeros":
            files[number] = data[:sector] + bytes(len(data[sector : sector + SECTOR])) + data[sector + SECTOR :]
        elif kind == "over":
            files[number] = data[:at] + octets + data[at + len(octets) :]
        elif kind == "into":
            files[number] = data[:at] + octets + data[at:]
        elif kind == "out":
            files[number] = data[:sector] + data[sector + SECTOR :]
        elif kind == "swap":
            files[number], files[other] = files[other], data
        elif kind == "gone":
            del files[number]
        elif kind == "exchange":
            files[number] = _exchanged(number, data, which, place)
        elif kind == "copy":
            files[max(numbers) + 1] = data
        else:
            files[max(numbers) + 1] = octets

    return harm


@given(_WRITTEN)
def test_what_is_whole_is_read_and_nothing_is_told(written: Written) -> None:
    read, broken = _read(written.files)
    assert [one.block for one in read] == written.blocks
    assert [(one.file, one.at) for one in read] == written.places
    assert broken == []


@settings(max_examples=300)
@given(_WRITTEN, st.lists(_harms(), min_size=1, max_size=4))
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
    # What stands where it stood, in files whose order is as it was, is read.
    if sorted(files) == sorted(written.files):
        for block, (number, at), data in zip(written.blocks, written.places, map(pack, written.blocks), strict=True):
            whole = b"".join(data)
            if files[number][at : at + len(whole)] == whole and all(_alike(files, written, n) for n in files):
                assert block in [one.block for one in read]


def _alike(files: Files, written: Written, number: int) -> bool:
    """Whether a file has no block that is another file's."""
    own = [one.block for one in in_files([(number, files[number])]) if isinstance(one, Placed)]
    return all(written.places[written.blocks.index(one)][0] == number for one in own)


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
