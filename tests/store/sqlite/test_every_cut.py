"""A store that is cut off by a loss of power behind any operation on its files is, when it is opened, as it was behind the last
commit that was told, or behind the next one, which was under way; nothing is told as damaged, and it goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import pytest

from smppd.ids import id_time
from smppd.records.verify import verify_log
from smppd.relay.ledger.journal import OPENS, read
from smppd.store.api import StoreError
from smppd.store.journal import reader
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.keys import KeyRing
from smppd.vault.seal import iter_records, read_header
from tests.e2e.children import ROOT
from tests.store.builder import Builder
from tests.store.sqlite.life import TOLD, WIDTH, State
from tests.torture.disk import materialise, operations
from tests.torture.layer import Layer
from tests.torture.mutated import EMBEDDED, NO_CHECKSUM, unchecked
from tests.vault.rows import kek

_EVERY: Final = "SMPPD_EVERY_STEP" in os.environ
"""Whether each operation is cut behind, in several manners, and not some: for a run of its own."""
_CUTS: Final = 60
_SEEDS: Final = range(1, 21) if _EVERY else (1,)


class Lived(NamedTuple):
    """log: of the file layer; ends: where in it each operation ends; told: how many commits had been told by then."""

    log: bytes
    ends: list[int]
    told: list[int]
    states: list[State]


@pytest.fixture(scope="module", params=_SEEDS)
def lived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    return _live(tmp_path_factory.mktemp("life"), request.param)


def _live(scratch: Path, seed: int, *mutations: str) -> Lived:
    store, states = scratch / "store", scratch / "states"
    store.mkdir(mode=0o700)
    layer = Layer(scratch, store, scratch / "log")
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.sqlite.life", str(store), str(states), str(seed), *mutations],
        env={**os.environ, **layer.environment(), "PYTHONPATH": str(ROOT), "SMPPD_INTERPRETED": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    log = (scratch / "log").read_bytes()
    ends, told, at, seen = [], [], 0, 0
    for one in operations(log):
        at += 24 + len(one.name) + len(one.second) + len(one.data)
        if one.name == TOLD and len(one.data) == WIDTH:
            seen = int(one.data)
        ends.append(at)
        told.append(seen)
    states_told = [State(*json.loads(line)) for line in states.read_text().splitlines()]
    return Lived(log, ends, told, [State([], [], [], 0), *states_told])


def _found(directory: Path) -> tuple[State, list[str]]:
    told: list[str] = []
    store = SqliteStore(
        directory, notify=lambda call: call(), later=lambda _seconds, call: call(), soon=lambda call: call()
    )
    store.on_start_damage = lambda what, _identity, reason: told.append(f"{what}: {reason}")
    try:
        store.use(KeyRing(kek(), store.keys))
        living: set[int] = set()
        for _segment, block in store.replay():
            for kind, identity, _payload in read(block):
                (living.add if kind in OPENS else living.discard)(identity)
        db = store._data
        cold = [row[0] for row in db.execute("SELECT id FROM cold ORDER BY id")]
        records = [
            read_header(one).record_id
            for (packed,) in db.execute("SELECT records FROM log ORDER BY seq")
            for one in iter_records(packed)
        ]
        return State(sorted(living), cold, records, store.meta("a number", 0)), told
    finally:
        store.close()


def test_it_is_as_it_was_told(lived: Lived, tmp_path: Path) -> None:
    for place, directory, found in _cuts(lived, tmp_path, every=_EVERY):
        assert not found.wrong, f"behind operation {place}: {found.wrong}"
        if place % 5 == 0:
            _goes_on(directory, found.state)


@pytest.mark.parametrize("mutation", EMBEDDED)
def test_a_promise_that_is_broken_is_noticed(mutation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "life"
    scratch.mkdir()
    lived = _live(scratch, 1, mutation)
    if mutation == NO_CHECKSUM:
        # It is for who reads.
        monkeypatch.setattr(reader, "unpack", unchecked)
    assert any(found.wrong for _place, _directory, found in _cuts(lived, tmp_path, every=True))


class Found(NamedTuple):
    """wrong: what is not as it was told, in words; empty where all is."""

    state: State
    wrong: str


def _cuts(lived: Lived, scratch: Path, *, every: bool) -> Iterator[tuple[int, Path, Found]]:
    """Cuts the power behind operations, in some order: the operation, what is left, what is found there."""
    random = Random(7)
    nothing = scratch / "nothing"
    nothing.mkdir()
    first = next(place for place, told in enumerate(lived.told) if told)
    places = range(first, len(lived.ends))
    for place in random.sample(places, len(places) if every else _CUTS):
        directory = scratch / f"cut-{place}"
        cut = materialise(nothing, lived.log[: lived.ends[place]], directory, random)
        try:
            found, told = _found(directory)
        except StoreError as error:
            yield place, directory, Found(lived.states[0], str(error))
            continue
        last = lived.told[place]
        possible = [one._replace(cold=sorted(one.cold)) for one in lived.states[last : last + 2]]
        wrong = "" if found in possible else f"commit {last}, {cut}: {_difference(possible[0], found)}"
        yield place, directory, Found(found, wrong or " ".join(told))
        shutil.rmtree(directory)


def _difference(wanted: State, found: State) -> dict[str, tuple[object, object]]:
    """By name: what is wanted and not found, what is found and not wanted."""
    seen: dict[str, tuple[object, object]] = {}
    for name in ("living", "cold", "records"):
        one, other = set(getattr(wanted, name)), set(getattr(found, name))
        if one != other:
            seen[name] = sorted(one - other), sorted(other - one)
    if wanted.number != found.number:
        seen["number"] = wanted.number, found.number
    return seen


def _goes_on(directory: Path, before: State) -> None:
    builder = Builder(directory, read_back=lambda one: list(one.store.replay()))
    builder.now += 1000 * before.number
    builder.store.batch.meta.append(("a number", before.number + 1))
    record = builder.record()
    builder.commit()
    with builder.reader() as reader:
        assert reader.record(record) is not None
        assert verify_log(reader.records, id_time).ok
    builder.close()
    after, told = _found(directory)
    assert after == before._replace(records=[*before.records, record], number=before.number + 1)
    assert told == []
