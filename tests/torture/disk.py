"""What a power cut leaves on the disk: the log of the file layer, played again with only what was synced certain to be there.

The model is a strict one. A write that no later sync of its file covers is lost or kept by 512-octet sectors of the disk, each
by itself and in any order; a truncation likewise. A write that is its own sync makes durable what it wrote and the file's size,
and nothing else. A file that was created, renamed or removed without a sync of its directory may not have been,
later changes of the directory never surviving earlier ones. What is synced is there.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

SECTOR: Final = 512
_HEAD: Final = struct.Struct("=BBHIQQ")
_WRITE: Final = ord("W")
_TRUNCATE: Final = ord("T")
_CREATE: Final = ord("C")
_SYNC: Final = ord("S")
_OWN_SYNC: Final = ord("Y")
_DIRECTORY: Final = ord("D")
_UNLINK: Final = ord("U")
_RENAME: Final = ord("R")


class Operation(NamedTuple):
    """One record of the log. ``place``: its number from 0. ``a``: offset, size, place at which a sync began, or place of the
    one write that is synced."""

    place: int
    op: int
    name: str
    second: str
    a: int
    data: bytes


def operations(log: bytes) -> Iterator[Operation]:
    """The records of a log; a last one that the kill cut off is left out."""
    at, place = 0, 0
    while at + _HEAD.size <= len(log):
        op, name_n, second_n, _, a, b = _HEAD.unpack_from(log, at)
        data_n = b if op == _WRITE else 0
        start = at + _HEAD.size
        end = start + name_n + second_n + data_n
        if end > len(log):
            return
        name = log[start : start + name_n].decode()
        second = log[start + name_n : start + name_n + second_n].decode()
        yield Operation(place, op, name, second, a, log[end - data_n : end])
        at, place = end, place + 1


@dataclass(slots=True)
class _File:
    content: bytearray
    """What is durable."""
    pending: list[Operation] = field(default_factory=list)

    def synced(self, upto: int) -> None:
        for each in self.pending:
            if each.place < upto:
                _apply(self.content, each)
        self.pending = [each for each in self.pending if each.place >= upto]

    def synced_alone(self, place: int) -> None:
        """One write is durable. What was written before it to the same octets is over; other octets wait as they did. A
        truncation before it is durable, since a file has one size."""
        ours = next((each for each in self.pending if each.place == place), None)
        if ours is None:
            return
        waiting: list[Operation] = []
        for each in self.pending:
            if each.place > place:
                waiting.append(each)
            elif each.op == _TRUNCATE:
                for before in waiting:
                    _apply(self.content, before)
                waiting.clear()
                _apply(self.content, each)
            elif each is not ours:
                waiting.extend(_outside(each, ours.a, ours.a + len(ours.data)))
        _apply(self.content, ours)
        self.pending = waiting


def _outside(one: Operation, start: int, end: int) -> Iterator[Operation]:
    """The parts of a write outside of some octets."""
    last = one.a + len(one.data)
    if one.a < start:
        yield one._replace(data=one.data[: start - one.a])
    if last > end:
        yield one._replace(a=max(one.a, end), data=one.data[max(0, end - one.a) :])


def _apply(content: bytearray, one: Operation) -> None:
    if one.op == _TRUNCATE:
        if len(content) > one.a:
            del content[one.a :]
        else:
            content.extend(bytes(one.a - len(content)))
    else:
        _put(content, one.a, one.data)


def _put(content: bytearray, at: int, data: bytes) -> None:
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data


class Manner(NamedTuple):
    """How a cut treats what was not synced. ``keep``: the chance of a write to be kept at all; ``tear``: of a kept one to be
    torn; ``sector``: of each sector of a torn one to be kept; ``until``: the share of writes, in order, that are looked at
    (those after are lost)."""

    keep: float
    tear: float
    sector: float
    until: float


MANNERS: Final = {
    "all lost": Manner(0.0, 0.0, 0.0, 1.0),
    "in order, the last torn": Manner(1.0, 0.0, 0.0, 0.5),
    "any whole writes": Manner(0.5, 0.0, 0.0, 1.0),
    "any sectors": Manner(1.0, 1.0, 0.5, 1.0),
    "mixed": Manner(0.7, 0.3, 0.6, 1.0),
}


@dataclass(slots=True)
class Cut:
    """What a power cut did: how many writes and octets were not synced, how many of them were kept whole or in part."""

    manner: str
    pending: int = 0
    kept: int = 0
    torn: int = 0
    lost: int = 0
    directory_lost: int = 0


def copy_store(store: Path, to: Path) -> None:
    """Copies a store without what is no file (a FIFO), which no disk remembers anything in."""
    shutil.copytree(store, to, dirs_exist_ok=True, ignore=_no_files)


def _no_files(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if not (path := Path(directory, name)).is_file() and not path.is_dir()]


def materialise(base: Path, log: bytes, to: Path, random: Random) -> Cut:
    """Makes directory ``to`` what the disk may look like after a power cut: ``base`` is what it was when the log began."""
    files = {each.name: _File(bytearray(each.read_bytes())) for each in base.iterdir() if each.is_file()}
    durable = dict(files)
    waiting: list[Operation] = []
    links: dict[int, _File] = {}
    for one in operations(log):
        if one.op in (_WRITE, _TRUNCATE):
            files[one.name].pending.append(one)
        elif one.op == _SYNC:
            if one.name in files:
                files[one.name].synced(one.a)
        elif one.op == _OWN_SYNC:
            if one.name in files:
                files[one.name].synced_alone(one.a)
        elif one.op == _DIRECTORY:
            _directory(durable, [each for each in waiting if each.place < one.a], links)
            waiting = [each for each in waiting if each.place >= one.a]
        else:
            if one.op == _CREATE:
                links[one.place] = files[one.name] = _File(bytearray())
            elif one.op == _UNLINK:
                files.pop(one.name, None)
            elif one.op == _RENAME:
                files[one.second] = files.pop(one.name)
            waiting.append(one)
    name = random.choice(list(MANNERS))
    cut = Cut(name)
    kept = 0 if name == "all lost" else random.randint(0, len(waiting))
    cut.directory_lost = len(waiting) - kept
    _directory(durable, waiting[:kept], links)
    for each in durable.values():
        _cut(each, MANNERS[name], random, cut)
    if to.exists():
        shutil.rmtree(to)
    to.mkdir(mode=0o700)
    for label, file in durable.items():
        if not label.endswith("-shm"):
            path = to / label
            path.write_bytes(file.content)
            path.chmod(0o600)
    return cut


def _directory(durable: dict[str, _File], changes: list[Operation], links: dict[int, _File]) -> None:
    for one in changes:
        if one.op == _CREATE:
            durable[one.name] = links[one.place]
        elif one.op == _UNLINK:
            durable.pop(one.name, None)
        elif one.name in durable:
            durable[one.second] = durable.pop(one.name)


def _sectors(one: Operation) -> Iterator[tuple[int, bytes]]:
    """A write by the sectors of the disk that it falls into: (offset, octets) of each piece."""
    at, end = one.a, one.a + len(one.data)
    while at < end:
        following = min(end, (at // SECTOR + 1) * SECTOR)
        yield at, one.data[at - one.a : following - one.a]
        at = following


def _cut(file: _File, manner: Manner, random: Random, cut: Cut) -> None:
    cut.pending += len(file.pending)
    looked = len(file.pending) if manner.until == 1.0 else random.randint(0, len(file.pending))
    for number, one in enumerate(file.pending):
        last = manner.until != 1.0 and number == looked - 1
        if number >= looked or random.random() >= manner.keep:
            cut.lost += 1
        elif one.op == _TRUNCATE:
            _apply(file.content, one)
            cut.kept += 1
        elif last or random.random() < manner.tear:
            chance = 0.5 if last else manner.sector
            for at, piece in _sectors(one):
                if random.random() < chance:
                    _put(file.content, at, piece)
            cut.torn += 1
        else:
            _apply(file.content, one)
            cut.kept += 1
    file.pending.clear()
