"""frozen: a node is stopped (SIGSTOP) under load, and goes on later (SIGCONT) without having noticed.

Past its lease another one has taken it over by then: it may commit nothing more, and ends with status 3. In one round in three
it is back before that, and nothing has happened.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from tests.torture.campaigns.several import Stage, block, fleets, mutated, once
from tests.torture.mutated import EPOCH_KEPT, NOT_FENCED
from tests.torture.plan import Options, Unit

NAME: Final = "frozen"
FENCED: Final = 3
"""The exit status of a node in whose place another is."""
_ROUNDS: Final = 30
_BLOCK: Final = 5
_LOAD: Final = 0.3, 3.0
_BRIEF: Final = 0.5, 6.0
_PATIENCE: Final = 20.0


def plan(options: Options) -> list[Unit]:
    """30 rounds in blocks of 5, of two and of three nodes by turns; short: 1."""
    total = options.rounds or (1 if options.short else _ROUNDS)
    units = fleets(options, NAME, total, _BLOCK)
    return [*units, *mutated(options, NAME, (EPOCH_KEPT, NOT_FENCED), {"nodes": 2, "rounds": 4})]


def round_(stage: Stage, number: int) -> bool:
    """One node sleeps."""
    random, cluster = stage.random, stage.cluster
    if not stage.flows(stage.own):
        stage.faults.append(f"round {number}: no message was acknowledged at each node within 30 s")
        return False
    time.sleep(random.uniform(*_LOAD))
    victim = random.randrange(len(stage.fleet.nodes))
    node = stage.fleet.nodes[victim]
    epoch, began = cluster.epoch(victim), time.monotonic()
    os.killpg(node.pid, signal.SIGSTOP)
    if number and "mutation" not in stage.values and random.random() < 0.34:
        stage.told["woken within its lease"] += 1
        time.sleep(random.uniform(*_BRIEF))
        os.killpg(node.pid, signal.SIGCONT)
        if cluster.epoch(victim) != epoch:
            stage.faults.append(f"round {number}: taken over after {time.monotonic() - began:.0f} s")
        return True
    stage.told["woken past its lease"] += 1
    if not stage.await_heir(victim, epoch, began):
        os.killpg(node.pid, signal.SIGCONT)
        return False
    written = cluster.written(victim)
    time.sleep(random.uniform(0.0, 4.0))
    os.killpg(node.pid, signal.SIGCONT)
    return ended(stage, victim, written)


def ended(stage: Stage, number: int, written: tuple[int, int, int, int]) -> bool:
    """Whether a node that was taken over ends as it should; it is started again. written: what it had written then."""
    node = stage.fleet.nodes[number]
    assert node.process is not None
    try:
        status = node.process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        stage.faults.append(f"node {number} works on {_PATIENCE:g} s after it was taken over")
        node.kill()
        return False
    if status != FENCED:
        stage.faults.append(f"node {number}, taken over, ended with status {status}: {node.last_words()}")
    if (now := stage.cluster.written(number)) != written:
        stage.faults.append(f"node {number} committed after it was taken over: {written}, then {now}")
    stage.again(node)
    return True


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One block; or one mutation, whose result has a fault if it was *not* noticed."""
    return once(unit, options, directory, _block)


def _block(unit: Unit, options: Options, directory: Path, mutation: str | None) -> dict[str, Any]:
    def before(stage: Stage) -> None:
        if mutation == NOT_FENCED:
            stage.cluster.alter("commit_plain", "AND epoch = p_epoch", "")

    result = block(unit, options, directory, round_, mutation=mutation, before=before)
    return {**result, "kills": sum(result["done"].values())}
