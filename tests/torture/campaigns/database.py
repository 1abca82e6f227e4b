"""database: PostgreSQL is killed and started again under load, or its synchronous replica takes its place.

The daemons stay, and have to go on by themselves within half a minute of the database. What the server had not told them was
stored they ask for again. In one round in five a daemon is killed too while there is no database. A replica dies as well,
before its primary does in some of them: what the primary had stored alone, and told nobody, is gone with it.
Sometimes it is away for longer than a lease: no node is taken over for that.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from tests.ports import free_port
from tests.torture.campaigns.several import RATE, Stage, block, mutated, once
from tests.torture.cluster import MANNERS, Cluster, answers
from tests.torture.daemon import StartFailure, account
from tests.torture.fleet import Fleet
from tests.torture.load import percentile, until
from tests.torture.mutated import ANSWERED_FIRST, UNCHECKED
from tests.torture.plan import Options, Unit, blocks

NAME: Final = "database"
SERVING: Final = 30.0
"""Seconds from the moment in which the database takes writes to the next message that is taken, at each node."""
KILLED: Final = "node killed meanwhile"
REFUSED: Final = "synchronous_commit off or local at the server"
_ROUNDS: Final = 100
_BLOCK: Final = 5
_LOAD: Final = 0.3, 2.0
_SHORT: Final = 0.0, 3.0
_LONG: Final = 11.0, 14.0


def plan(options: Options) -> list[Unit]:
    """100 ends of the database in blocks of 5, half of them with a replica, half of them with two nodes; short: 1."""
    total = options.rounds or (1 if options.short else _ROUNDS)
    variants: list[dict[str, Any]] = [
        {"kind": kind, "nodes": nodes, "rate": options.rate or RATE}
        for nodes in (1, 2)
        for kind in ("restart", "failover")
    ]
    units = blocks(options, NAME, total, min(_BLOCK, total), variants[:1] if options.short else variants)
    units += mutated(options, NAME, (REFUSED, ANSWERED_FIRST, UNCHECKED), {**variants[0], "rounds": 2})
    return units


def _refused(options: Options, directory: Path) -> dict[str, Any]:
    """Whether a server that does not keep what it acknowledges is refused at the start."""
    cluster = Cluster(durable=False)
    fleet = Fleet(directory, options, cluster, [free_port()], [account("acme")])
    (node,) = fleet.nodes
    faults: list[str] = []
    try:
        node.keys()
        for value in ("off", "local"):
            cluster.configure(synchronous_commit=value)
            node.launch()
            try:
                node.await_ready()
                faults.append(f"it starts with synchronous_commit {value}")
            except StartFailure as failure:
                if f"synchronous_commit is {value}" not in str(failure):
                    faults.append(str(failure))
            node.kill()
    finally:
        fleet.kill()
        cluster.end()
    noticed = "refused, with the name of the setting"
    return {"kills": 0, "faults": faults, **({} if faults else {"caught": 1, "noticed": noticed})}


class _Rounds:
    """The rounds of one unit."""

    def __init__(self, kind: str, killed: float) -> None:
        """killed: how often a node ends with the database."""
        self.kind = kind
        self.killed = killed
        self.serving: list[float] = []

    def round(self, stage: Stage, number: int) -> bool:
        """One: load, an end, and load again."""
        if not stage.flows(stage.own):
            stage.faults.append(f"round {number}: no message was acknowledged within 30 s")
            return False
        time.sleep(stage.random.uniform(*_LOAD))
        killed, epochs = stage.told[KILLED], self._epochs(stage)
        if self.kind == "restart":
            self._restart(stage)
        else:
            self._failover(stage)
        began = time.monotonic()
        if not stage.flows(stage.own, 2 * SERVING):
            stage.faults.append(f"round {number}: not serving {2 * SERVING:g} s after the database was back")
            return False
        self.serving.append(time.monotonic() - began)
        if stage.told[KILLED] == killed and self._epochs(stage) != epochs:
            stage.faults.append(
                f"round {number}: a node was taken over, or began anew, where the database was away alone"
            )
        if self.kind == "failover":
            stage.cluster.heal()
        return True

    def _epochs(self, stage: Stage) -> list[int]:
        return [stage.cluster.epoch(number) for number in range(len(stage.fleet.nodes))]

    def _manner(self, stage: Stage, names: tuple[str, ...]) -> str:
        chosen = stage.random.choice(names)
        stage.told[chosen] += 1
        return chosen

    def _restart(self, stage: Stage) -> None:
        cluster = stage.cluster
        manner = self._manner(stage, ("kill", "kill", "quit", "shut", "backend"))
        MANNERS[manner](cluster)
        if manner == "backend":
            until(lambda: answers(cluster), 60.0)
            return
        self._away(stage)
        cluster.primary.start()
        self._back(stage)

    def _failover(self, stage: Stage) -> None:
        cluster = stage.cluster
        replica = cluster.replica
        assert replica is not None
        manner = self._manner(stage, ("primary", "primary", "primary", "replica", "replica, then primary"))
        if manner != "primary":
            # Nothing is acknowledged without it: what the primary stores now waits.
            replica.kill()
            time.sleep(stage.random.uniform(0.1, 3.0))
        if manner == "replica":
            replica.start()
            return
        cluster.primary.kill()
        self._away(stage)
        if manner != "primary":
            replica.start()
        cluster.fail_over()
        self._back(stage)

    def _away(self, stage: Stage) -> None:
        """A while without a database, sometimes longer than a lease; a node may be killed in it."""
        time.sleep(stage.random.uniform(*(_LONG if stage.random.random() < 0.15 else _SHORT)))
        if stage.random.random() < self.killed:
            stage.told[KILLED] += stage.random.choice(stage.fleet.nodes).kill9()

    def _back(self, stage: Stage) -> None:
        for each in stage.fleet.nodes:
            if each not in stage.fleet.up():
                stage.again(each)


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One block; or one mutation, whose result has a fault if it was *not* noticed."""
    if unit.values.get("mutation") == REFUSED:
        return {**unit.values, **_refused(options, directory)}
    return once(unit, options, directory, _block)


def _block(unit: Unit, options: Options, directory: Path, mutation: str | None) -> dict[str, Any]:
    # What is answered too early is stored a moment later, unless that node has ended.
    rounds = _Rounds(unit.values["kind"], 1.0 if mutation == ANSWERED_FIRST else 0.2)

    def before(stage: Stage) -> None:
        if mutation == UNCHECKED:
            stage.cluster.configure(wal_writer_delay="10s", synchronous_commit="off")

    def after(stage: Stage) -> list[str]:
        if mutation == UNCHECKED:
            # Or nobody could read what it has.
            stage.cluster.configure(synchronous_commit="on")
        return []

    replicated = rounds.kind == "failover"
    result = block(
        unit, options, directory, rounds.round, replicated=replicated, mutation=mutation, before=before, after=after
    )
    if not options.short and (slow := [one for one in rounds.serving if one > SERVING]):
        late = f"{len(slow)} of {len(rounds.serving)} times not serving within {SERVING:g} s of the database"
        result["faults"].append(late)
    ends = sum(count for manner, count in result["done"].items() if manner != KILLED)
    return {**result, "kills": ends, "serving_ms": [percentile(rounds.serving, 0.5), percentile(rounds.serving, 1.0)]}
