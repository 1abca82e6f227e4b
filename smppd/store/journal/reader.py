"""Reads journal files: the blocks in order, and what is not whole told apart.

A loss of power may leave the block that was being written: some of its sectors are there, others are zeros as before it. It was
never answered for. Anything else that is not whole is damage: something that was stored is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from smppd.store.journal.blocks import HEAD_BYTES, MAGIC, SECTOR, Block, head_at, unpack, whole

PREFIX: Final = "journal-"
_DIGITS: Final = 8
_ZEROS: Final = bytes(SECTOR)


class Placed(NamedTuple):
    """A whole block and where it stands. at, octets: in the file of this number, with the zeros behind it."""

    block: Block
    file: int
    at: int
    octets: int


class Broken(NamedTuple):
    """What is not a whole block. file, at: where it stands. data: what is there, empty where nothing is. torn: a loss of power
    cut it short, and it was never answered for; else it is damage. last: nothing stands behind it in its file. missing: how
    many blocks there were at least, as the sequences tell, 0 where they tell nothing."""

    file: int
    at: int
    data: bytes
    torn: bool
    last: bool
    missing: int

    def __repr__(self) -> str:
        return f"<Broken file={self.file} at={self.at} octets={len(self.data)} torn={self.torn}>"


def path_of(directory: Path, number: int) -> Path:
    """The file of a number."""
    return directory / f"{PREFIX}{number:0{_DIGITS}x}"


def numbers(directory: Path) -> list[int]:
    """The numbers of all journal files in a directory, rising. OSError where it cannot be read."""
    found = []
    for path in directory.glob(PREFIX + "*"):
        digits = path.name.removeprefix(PREFIX)
        if len(digits) == _DIGITS and all(one in "0123456789abcdef" for one in digits):
            found.append(int(digits, 16))
    return sorted(found)


def paths(directory: Path) -> list[Path]:
    """All journal files in a directory, oldest first. OSError."""
    return [path_of(directory, number) for number in numbers(directory)]


def octets_of(path: Path) -> bytes:
    """A file's content; empty where it is gone by now: a segment ended."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def in_file(number: int, data: bytes) -> Iterator[Placed | Broken]:
    """What a file holds, in order. Something broken at its end is told as torn where it looks like that: whether something
    stands in a later file is for the caller to say."""
    at = 0
    while at < len(data):
        block = unpack(data, at)
        if block is not None:
            octets = whole(HEAD_BYTES + len(block.spool) + len(block.core))
            yield Placed(block, number, at, octets)
            at += octets
            continue
        following = _next(data, at + SECTOR)
        if following is not None:
            yield Broken(number, at, data[at:following].rstrip(b"\0"), False, False, 0)
            at = following
            continue
        rest = data[at:].rstrip(b"\0")
        if rest:
            yield Broken(number, at, rest, _cut_short(data, at, len(rest)), True, 0)
        return


def _next(data: bytes, at: int) -> int | None:
    """Where the next whole block begins."""
    while (found := data.find(MAGIC, at)) >= 0:
        if found % SECTOR == 0 and unpack(data, found) is not None:
            return found
        at = found + 1
    return None


def _cut_short(data: bytes, at: int, octets: int) -> bool:
    """Whether a sector of what was being written here is still zeros. octets: up to the last that is not zero."""
    if data[at : at + SECTOR] == _ZEROS:
        return True
    head = head_at(data, at)
    # A sector is written as a whole, so where there is one there is its head.
    end = at + (head.octets if head is not None else octets)
    return any(data[place : place + SECTOR] == _ZEROS for place in range(at, min(end, len(data)), SECTOR))


def read(directory: Path) -> Iterator[Placed | Broken]:
    """What all files hold, in the order of commitment; see `in_files`. OSError."""
    return in_files((number, octets_of(path_of(directory, number))) for number in numbers(directory))


def in_files(files: Iterable[tuple[int, bytes]]) -> Iterator[Placed | Broken]:
    """The same of files that were read: (number, content), rising. A block whose sequence does not rise was there already and
    is passed over; one that was not is out of its place, and is told as broken: what came behind it was read before."""
    sequence = first = 0
    gaps: list[range] = []
    waiting: list[Broken] = []
    for number, data in files:
        for one in in_file(number, data):
            if isinstance(one, Broken):
                waiting.append(one)
                continue
            found = one.block.sequence
            if found <= sequence:
                if found < first or any(found in gap for gap in gaps):
                    end = one.at + one.octets
                    yield Broken(number, one.at, data[one.at : end].rstrip(b"\0"), False, end >= len(data), 0)
                continue
            missing = found - sequence - 1 if sequence else 0
            if missing:
                gaps.append(range(sequence + 1, found))
            first = first or found
            for broken in waiting:
                # Something was written behind it, so it was durable once.
                yield broken._replace(torn=False, missing=missing)
                missing = 0
            waiting = []
            if missing:
                yield Broken(number, one.at, b"", False, False, missing)
            sequence = found
            yield one
    yield from waiting


def last_sequence(directory: Path) -> int:
    """The sequence of the last block, by its head alone; 0 for none. For those beside a daemon that goes on writing, who ask
    again and again: from the end, since a file may have tens of thousands of blocks."""
    for number in reversed(numbers(directory)):
        data = octets_of(path_of(directory, number))
        end = len(data)
        while (found := data.rfind(MAGIC, 0, end)) >= 0:
            head = head_at(data, found) if found % SECTOR == 0 else None
            if head is not None:
                return head.sequence
            end = found + len(MAGIC) - 1
    return 0
