"""nodes: `kill -9` of one of two or three nodes under load, again and again.

In most rounds another one has to take it over, and then it starts again; in some it is back before that, or just then. In some
the one that may be taking it over is killed too, or all are. Customers at the others are to notice nothing but slowness.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from tests.torture.campaigns.several import RATE, Stage, block
from tests.torture.plan import Options, Unit, blocks

NAME: Final = "nodes"
_KILLS: Final = 100
_BLOCK: Final = 5
_LOAD: Final = 0.3, 3.0
_DEAD: Final = 8.0, 13.0
"""Seconds after a kill in which a take-over may be under way."""


def plan(options: Options) -> list[Unit]:
    """100 kills in blocks of 5, of two and of three nodes by turns; short: 1."""
    total = options.rounds or (1 if options.short else _KILLS)
    return blocks(
        options, NAME, total, min(_BLOCK, total), [{"nodes": n, "rate": options.rate or RATE} for n in (2, 3)]
    )


def round_(stage: Stage, number: int) -> bool:
    """One kill, and what comes of it."""
    random, nodes = stage.random, stage.fleet.nodes
    if not stage.flows(stage.own):
        stage.faults.append(f"round {number}: no message was acknowledged at each node within 30 s")
        return False
    time.sleep(random.uniform(*_LOAD))
    victim = random.randrange(len(nodes))
    what = random.choices(
        ("taken over", "back at once", "back meanwhile", "heir killed", "all killed"), (6, 1, 1, 1, 1)
    )[0]
    stage.told[what] += 1
    epoch, began = stage.cluster.epoch(victim), time.monotonic()
    nodes[victim].kill9()
    gone = [victim]
    if what == "back at once":
        time.sleep(random.uniform(0.0, 3.0))
    elif what == "back meanwhile":
        time.sleep(random.uniform(*_DEAD))
    elif what == "all killed":
        time.sleep(random.uniform(0.0, 1.0))
        gone = list(range(len(nodes)))
    elif what == "heir killed":
        time.sleep(random.uniform(*_DEAD))
        gone.append(random.choice([one for one in range(len(nodes)) if one != victim]))
    for one in gone[1:]:
        nodes[one].kill9()
    if what == "taken over":
        if not stage.await_heir(victim, epoch, began):
            return False
        time.sleep(random.uniform(0.0, 2.0))
    random.shuffle(gone)
    for one in gone:
        if nodes[one] not in stage.fleet.up():
            stage.again(nodes[one])
    stage.told["kills"] += len(gone)
    return True


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One block."""
    result = block(unit, options, directory, round_)
    return {**result, "kills": result["done"].get("kills", 0)}
