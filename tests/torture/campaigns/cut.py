"""cut: one line of a node is cut under load: to the database, to its customers, to the carrier.

Either all connections end and no new ones come about; or nothing passes any more and nobody is told, as where a cable is
pulled. Then the line is mended: what stood still goes on, or has been cut meanwhile. A node without its database for longer
than its lease is taken over, and ends when it hears of it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from tests.torture.campaigns.frozen import ended
from tests.torture.campaigns.several import Stage, block, fleets
from tests.torture.plan import Options, Unit

NAME: Final = "cut"
_ROUNDS: Final = 60
_BLOCK: Final = 6
_LOAD: Final = 0.3, 2.0
_BRIEF: Final = 0.2, 5.0
_LINES: Final = ("database", "carriers", "customers")


def plan(options: Options) -> list[Unit]:
    """60 rounds in blocks of 6, of two and of three nodes by turns; short: 1."""
    total = options.rounds or (1 if options.short else _ROUNDS)
    return fleets(options, NAME, total, _BLOCK)


def round_(stage: Stage, number: int) -> bool:
    """One line of one node."""
    random = stage.random
    if not stage.flows(stage.own):
        stage.faults.append(f"round {number}: no message was acknowledged at each node within 30 s")
        return False
    time.sleep(random.uniform(*_LOAD))
    victim = random.randrange(len(stage.lines))
    name = _LINES[number % len(_LINES)]
    proxy = getattr(stage.lines[victim], name)
    silent, resumes = random.random() < 0.5, random.random() < 0.5
    long = name == "database" and random.random() < 0.5
    how = "silent" if silent else "cut"
    stage.told[f"{name}, {how}{', past the lease' if long else ''}"] += 1
    epoch, began = stage.cluster.epoch(victim), time.monotonic()
    stage.peers.call(proxy.silence if silent else proxy.cut)
    written = None
    if long:
        if not stage.await_heir(victim, epoch, began):
            stage.peers.call(proxy.mend)
            return False
        written = stage.cluster.written(victim)
        time.sleep(random.uniform(0.0, 4.0))
    else:
        time.sleep(random.uniform(*_BRIEF))
    if silent and not resumes:
        stage.peers.call(proxy.cut)
    stage.peers.call(proxy.mend)
    if written is not None:
        return ended(stage, victim, written)
    if stage.cluster.epoch(victim) != epoch:
        stage.faults.append(
            f"round {number}: taken over though its {name} was away for {time.monotonic() - began:.0f} s only"
        )
    return True


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One block."""
    result = block(unit, options, directory, round_, proxies=True)
    return {**result, "kills": sum(result["done"].values())}
