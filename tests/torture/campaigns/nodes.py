"""nodes: `kill -9` of one of two or three nodes under load, again and again.

In most rounds another one has to take it over, and then it starts again; in some it is back before that, or just then. In some
the one that may be taking it over is killed too, or all are. Customers at the others are to notice nothing but slowness.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from tests.torture.campaigns.several import Stage, block, fleets, mutated, once
from tests.torture.mutated import NOT_LOCKED
from tests.torture.plan import Options, Unit

NAME: Final = "nodes"
_KILLS: Final = 100
_BLOCK: Final = 5
_LOAD: Final = 0.3, 3.0
CARRIER_AWAY: Final = "taken over while the carrier is away"
QUEUED: Final = "taken over with a queue"
_WHAT: Final = {
    "taken over": 4,
    CARRIER_AWAY: 1,
    QUEUED: 1,
    "back at once": 1,
    "back meanwhile": 1,
    "heir killed": 1,
    "all killed": 1,
}
"""What may come of a kill, and how often."""
_DEAD: Final = 8.0, 13.0
"""Seconds after a kill in which a take-over may be under way."""


def plan(options: Options) -> list[Unit]:
    """100 kills in blocks of 5, of two and of three nodes by turns; short: 1."""
    total = options.rounds or (1 if options.short else _KILLS)
    units = fleets(options, NAME, total, _BLOCK)
    return [*units, *mutated(options, NAME, (NOT_LOCKED,), {"nodes": 3, "rounds": 3, "what": QUEUED})]


def round_(stage: Stage, number: int, what: str = "") -> bool:
    """One kill, and what comes of it."""
    random, nodes, smsc = stage.random, stage.fleet.nodes, stage.peers.smsc
    if not stage.flows(stage.own):
        stage.faults.append(f"round {number}: no message was acknowledged at each node within 30 s")
        return False
    time.sleep(random.uniform(*_LOAD))
    what = what or random.choices(list(_WHAT), list(_WHAT.values()))[0]
    stage.told[what] += 1
    if what == CARRIER_AWAY:
        # What the dead one had to send is for whoever has a link first.
        stage.peers.wait(smsc.stop())
        time.sleep(random.uniform(0.5, 3.0))
    victim = random.randrange(len(nodes))
    line = stage.lines[victim].carriers
    if what == QUEUED:
        # What it had to send is for all the others at once.
        stage.peers.call(line.cut)
        time.sleep(random.uniform(1.0, 4.0))
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
    else:
        heir = stage.await_heir(victim, epoch, began)
        if what == CARRIER_AWAY:
            stage.peers.wait(smsc.start())
        stage.peers.call(line.mend)
        if not heir:
            return False
        time.sleep(random.uniform(0.0, 2.0))
    for one in gone[1:]:
        nodes[one].kill9()
    random.shuffle(gone)
    for one in gone:
        if nodes[one] not in stage.fleet.up():
            stage.again(nodes[one])
    stage.told["kills"] += len(gone)
    return True


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One block; or one mutation, whose result has a fault if it was *not* noticed."""
    return once(unit, options, directory, _block)


def _block(unit: Unit, options: Options, directory: Path, mutation: str | None) -> dict[str, Any]:
    def before(stage: Stage) -> None:
        if mutation == NOT_LOCKED:
            stage.cluster.alter("claim_rows", "FOR UPDATE SKIP LOCKED", "")

    def one(stage: Stage, number: int) -> bool:
        return round_(stage, number, unit.values.get("what", ""))

    result = block(unit, options, directory, one, proxies=True, mutation=mutation, before=before)
    return {**result, "kills": result["done"].get("kills", 0)}
