"""power: the power is cut, so what was not synced is lost, torn or reordered; and the same with one promise broken on purpose
(`tests.torture.mutated`), which must be noticed, or the campaign could not be trusted."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.torture.campaigns.crash import crash_block
from tests.torture.daemon import Daemon
from tests.torture.disk import Cut, copy_store, materialise
from tests.torture.layer import SHORT_WRITE, Layer
from tests.torture.mutants import until_noticed
from tests.torture.plan import Options, Unit, blocks

NAME: Final = "power"
_CUTS: Final = 100
_BLOCK: Final = 5
_MUTATED: Final = 10
NO_CHECKSUM: Final = "checksum off"
"""It shows where a block of several sectors was torn and its first one was kept, which is one cut in ten."""
MUTATIONS: Final = (
    "no sync",
    "sync before write",
    NO_CHECKSUM,
    "filed before written",
    "file removed too early",
    "no sync of the directory",
    "synchronous=NORMAL",
    "synchronous=OFF",
)
_LATE: Final = ("file removed too early", "no sync of the directory")
"""These show where more than one file was filled."""
_SYNC_US: Final = 1500


def plan(options: Options) -> list[Unit]:
    """100 cuts in blocks of 5, both modes by turns; then each mutation, some cuts at a time, until it is caught; short: one
    cut. What each mutation does to a store alone is for `tests/store/sqlite/test_every_cut.py`."""
    total = options.rounds or (1 if options.short else _CUTS)
    size = max(1, min(_BLOCK, total // 2))
    units = blocks(options, NAME, total, size, [{"acknowledge": "stored"}, {"acknowledge": "upstream"}])
    for number, mutation in enumerate(() if options.short else MUTATIONS):
        values = {"acknowledge": "stored", "rounds": 3, "mutation": mutation, "tries": _MUTATED}
        if mutation == NO_CHECKSUM:
            values["rounds"] = 8
        if mutation in _LATE:
            values |= {"rounds": 5, "load": (1.0, 2.5)}
        name = mutation.lower().replace(" ", "-").replace("=", "-")
        units.append(Unit(f"{NAME}-{name}", options.seed * 1000 + 900 + number, values))
    return units


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One block; or one mutation, whose result has a fault if it was *not* caught."""
    mutation = unit.values.get("mutation")
    if mutation is None:
        return _block(unit, options, directory, None)
    return until_noticed(
        unit,
        directory,
        lambda one, place: _block(one, options, place, mutation),
        lambda row: f"{row['manners']}, {row['writes_unsynced']} writes not synced, {row['writes_lost']} lost",
    )


def _block(unit: Unit, options: Options, directory: Path, mutation: str | None) -> dict[str, Any]:
    directory.mkdir(parents=True, exist_ok=True)
    base, log = directory / "base", directory / "operations"
    layers: list[Layer] = []
    cuts: list[Cut] = []
    halves = Random(f"halves {unit.key} {unit.seed}")

    def prepare(daemon: Daemon) -> None:
        shutil.rmtree(base, ignore_errors=True)
        copy_store(daemon.store, base)
        log.write_bytes(b"")
        if not layers:
            layers.append(Layer(options.scratch, daemon.store.resolve(), log, _SYNC_US))
        # One start in four writes in halves, so that a cut may come between the two.
        layers[0].fault(SHORT_WRITE if halves.random() < 0.25 else 0)
        daemon.environment = layers[0].environment()

    def after(daemon: Daemon, random: Random) -> None:
        cuts.append(materialise(base, log.read_bytes(), daemon.store, random))

    try:
        result = crash_block(unit, options, directory, prepare=prepare, after=after, mutation=mutation)
    finally:
        log.unlink(missing_ok=True)
    return {
        **result,
        "writes_unsynced": sum(cut.pending for cut in cuts),
        "writes_lost": sum(cut.lost for cut in cuts),
        "writes_torn": sum(cut.torn for cut in cuts),
        "entries_lost": sum(cut.directory_lost for cut in cuts),
        "manners": dict(Counter(cut.manner for cut in cuts)),
    }
