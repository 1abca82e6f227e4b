"""The life of a store, for tests that cut it off: `python -m tests.store.sqlite.life STORE STATES SEED [MUTATION]`.

Things are opened and end, rows come and go, segments begin and end, the store is closed with and without a tidy and opened
again. Behind each commit its number is written into the file `told` of the store; STATES (JSON, the last line of it whole or
not) says what was to be found behind each.
MUTATION: a promise that is broken on purpose (`tests.torture.mutated`).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from smppd.relay.ledger.journal import Entry, LivingEntries, mark, read
from smppd.store.api import ColdRow, Kind, Renewed
from smppd.store.journal import files as journal_files
from tests.store.builder import Builder
from tests.torture.mutated import MUTATIONS

TOLD: Final = "told"
WIDTH: Final = 8
_FILE: Final = 1 << 14
"""Octets of a journal file, so that there are many."""
_HOUR: Final = 3600.0


class State(NamedTuple):
    """What is to be found: things that live, ids of cold rows and of records, and a number that is remembered."""

    living: list[int]
    cold: list[int]
    records: list[int]
    number: int


class Things:
    """`store.api.Tenant`: the things that live, by segment."""

    def __init__(self) -> None:
        self.live: dict[int, dict[int, bytes]] = {}
        self.place = self.new = 0
        self.builder: Builder | None = None

    def places(self) -> list[int]:
        return list(self.live)

    def alive_in(self, place: int) -> int:
        return len(self.live.get(place, ()))

    def opened(self) -> int:
        return self.new

    def begin(self, place: int) -> None:
        self.live.setdefault(place, {})
        self.place, self.new = place, 0

    def leave(self, place: int) -> None:
        del self.live[place]

    def open(self, number: int, data: bytes) -> None:
        assert self.builder is not None
        self.live[self.place][number] = data
        self.new += 1
        self.builder.store.batch.accepts.append(mark(Entry.ACCEPT, number, data))

    def end(self, number: int) -> None:
        assert self.builder is not None
        for some in self.live.values():
            some.pop(number, None)
        self.builder.store.batch.marks.append(mark(Entry.DONE, number))

    def all(self) -> list[int]:
        return sorted(number for some in self.live.values() for number in some)

    def renew(self, place: int, most: int, octets: int, *, rows: bool) -> Renewed:
        there = self.live[place]
        some = list(there)[:most]
        for number in some:
            self.open(number, there.pop(number))
        return Renewed(len(some), len(some), not there)


class Life:
    """See the module."""

    def __init__(self, directory: Path, states: Path, random: Random) -> None:
        self.random = random
        self.directory = directory
        self.states = states.open("w")
        self.things = Things()
        self.cold: list[int] = []
        self.records: list[int] = []
        self.number = 0
        self.next = 1
        self.commits = 0
        self.clock = 0.0
        self.builder = self._open(None)
        self.told = os.open(directory / TOLD, os.O_CREAT | os.O_RDWR | os.O_APPEND)

    def _open(self, before: Builder | None) -> Builder:
        """Opens the store; what an earlier run left lives where the replay finds it."""

        def read_back(builder: Builder) -> None:
            live: dict[int, dict[int, bytes]] = {}
            self.things.live = live
            if before is not None:
                builder.now, builder._id = before.now, before._id
            if self.random.random() < 0.5:
                builder.store.compact(LivingEntries())
            for segment, block in builder.store.replay():
                live.setdefault(segment, {})
                for kind, number, data in read(block):
                    for some in live.values():
                        some.pop(number, None)
                    if kind == Entry.ACCEPT:
                        live[segment][number] = data

        builder = Builder(self.directory, read_back=read_back, tenant=self.things)
        self.things.builder = builder
        return builder

    def runs(self, commits: int) -> None:
        """So many commits."""
        for _ in range(commits):
            self._acts()
            self.builder.now += 1
            self.commits += 1
            self.states.write(json.dumps(State(self.things.all(), self.cold, self.records, self.number)) + "\n")
            self.states.flush()
            self.builder.commit(files=self.random.random() < 0.2)
            os.write(self.told, b"%0*d" % (WIDTH, self.commits))

    def _acts(self) -> None:
        random = self.random
        if random.random() < 0.1:
            self.clock += 200.0
        # Segments begin and end, and what lives in old ones moves: nothing that is told changes.
        self.builder.store.segments.tick(self.builder.store._now() + self.clock)
        while self.builder.store.busy:
            self.builder.commit(files=False)
        batch = self.builder.store.batch
        for _ in range(random.randint(0, 3)):
            self.things.open(self.next, random.randbytes(random.choice((20, 200, 1500))))
            self.next += 1
        living = self.things.all()
        for number in random.sample(living, min(len(living), random.randint(0, 3))):
            self.things.end(number)
        if random.random() < 0.4:
            self.cold.append(self.next)
            batch.put.append(_row(self.next))
            self.next += 1
        if self.cold and random.random() < 0.3:
            gone = self.cold.pop(random.randrange(len(self.cold)))
            batch.drop.append((Kind.QUEUE, "acme", b"", gone))
        if random.random() < 0.5:
            self.records.append(self.builder.record(b"text"))
        self.number += 1
        batch.meta.append(("a number", self.number))

    def opens_again(self, *, tidy: bool) -> None:
        """A clean end and a start."""
        self.builder.store.close(LivingEntries() if tidy else None)
        self.builder.closed = True
        self.builder = self._open(self.builder)


def _row(number: int) -> ColdRow:
    return ColdRow(Kind.QUEUE, "acme", b"", number, 2**31, b"row %d" % number)


def main(directory: Path, states: Path, seed: int) -> None:
    """A life that ends without an end."""
    random = Random(seed)
    life = Life(directory, states, random)
    for tidy in (False, True, False):
        life.runs(random.randint(10, 20))
        life.opens_again(tidy=tidy)
    life.runs(10)
    os._exit(0)


if __name__ == "__main__":
    changed: Any = journal_files
    changed.SMALLEST = changed.LARGEST = _FILE
    for mutation in sys.argv[4:]:
        MUTATIONS[mutation]()
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
