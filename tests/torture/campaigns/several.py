"""What the campaigns on PostgreSQL have in common: one node or several on one database, under a steady load at each, round
after round of what the campaign does to them; then the books are compared.

Each node has a customer of its own who binds nowhere else; another one binds wherever he can, as behind a load balancer. The
SMSC sends its receipts over all binds in turn, whichever node the message came from.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.torture.cluster import Cluster
from tests.torture.customer import Customer, CustomerBook
from tests.torture.daemon import PASSWORD, Daemon, StartFailure, account
from tests.torture.fleet import Fleet, keep
from tests.torture.load import drain, percentile, until, verdict
from tests.torture.mutants import until_noticed
from tests.torture.peers import Peers
from tests.torture.plan import Options, Unit, blocks
from tests.torture.proxy import Proxy
from tests.torture.smsc import Step, Submit

RATE: Final = 100
TAKEN_OVER: Final = 15.0
"""Seconds from the death of a node to its take-over."""
PATIENCE: Final = 120.0
QUIET: Final = 45.0
"""Seconds for all to end, and those in which nothing happens until that is the end: what nobody told it of, a node looks for
after thirty."""
ACCOUNTS: Final = ("acme", "roaming", "split")
_TRIES: Final = 5
_FULL: Final = 0x14
"""ESME_RMSGQFUL, the one answer to a message that cannot be stored now."""
TOKENS: Final = 100_000_000
"""Each customer's texts are numbered from another multiple of this."""


@dataclass(slots=True)
class Line:
    """The proxies of a node: before the database, before the carrier, before itself."""

    database: Proxy
    carriers: Proxy
    customers: Proxy


@dataclass(slots=True)
class Stage:
    """A unit that runs."""

    values: dict[str, Any]
    """Of the unit."""
    random: Random
    cluster: Cluster
    fleet: Fleet
    peers: Peers
    own: list[Customer]
    """Of each node."""
    others: list[Customer] = field(default_factory=list)
    """Those who are bound at several."""
    lines: list[Line] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    """Seconds from each death to the take-over."""
    told: Counter[str] = field(default_factory=Counter)
    """What was done, for the result."""
    faults: list[str] = field(default_factory=list)

    @property
    def customers(self) -> list[Customer]:
        """All."""
        return [*self.own, *self.others]

    def flows(self, customers: Sequence[Customer], seconds: float = 30.0) -> bool:
        """Whether a message is acknowledged to each of them within so long."""
        seen = [each.acknowledged for each in customers]
        return until(lambda: all(c.acknowledged > s for c, s in zip(customers, seen, strict=True)), seconds)

    def port(self, number: int) -> int:
        """Where customers reach a node."""
        return self.lines[number].customers.port if self.lines else self.fleet.nodes[number].plain_port

    def await_heir(self, number: int, epoch: int, since: float) -> bool:
        """Waits until a node that is gone ``since`` then, in this epoch of it, was taken over; whether it was."""
        cluster, patience = self.cluster, 2 * TAKEN_OVER - (time.monotonic() - since)
        # A build that keeps the epoch says of the lease what it should.
        if not until(lambda: cluster.epoch(number) > epoch or cluster.taken(number), patience, 0.1):
            self.faults.append(f"node {number} was not taken over within {2 * TAKEN_OVER:g} s")
            return False
        self.taken.append(time.monotonic() - since)
        return True

    def again(self, node: Daemon) -> None:
        """Starts one again that has ended."""
        node.launch()
        node.await_ready()


Round = Callable[[Stage, int], bool]
"""Does one round, of this number; whether to go on."""


def script(random: Random) -> Callable[[Submit, int], Step]:
    """An SMSC that is not always quick, so that a death finds messages without an answer; one receipt in four comes too late to
    settle such a one."""

    def step(_submit: Submit, _attempt: int) -> Step:
        late = random.random() < 0.25
        receipt = random.uniform(2.5, 3.5) if late else random.uniform(0.0, 0.2)
        return Step(receipt=receipt, delay=random.choice((0.0, 0.02, 0.1, 0.4)))

    return step


def fleets(options: Options, name: str, total: int, size: int) -> list[Unit]:
    """``total`` rounds in blocks of ``size`` at the most, of two and of three nodes by turns."""
    variants = [{"nodes": count, "rate": options.rate or RATE} for count in (2, 3)]
    return blocks(options, name, total, min(size, total), variants)


def once(unit: Unit, options: Options, directory: Path, run: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """``run(unit, options, directory, mutation)`` once; or, of a unit with a mutation, until something is noticed."""
    mutation = unit.values.get("mutation")
    if mutation is None:
        return run(unit, options, directory, None)
    return until_noticed(unit, directory, lambda one, place: run(one, options, place, mutation))


def mutated(options: Options, name: str, mutations: Sequence[str], values: dict[str, Any]) -> list[Unit]:
    """A unit for each mutation; none in the short form."""
    made = []
    for number, mutation in enumerate(() if options.short else mutations):
        key, seed = f"{name}-mutation-{number}", options.seed * 1000 + 900 + number
        made.append(Unit(key, seed, {"rate": options.rate or RATE, **values, "mutation": mutation, "tries": _TRIES}))
    return made


def block(
    unit: Unit,
    options: Options,
    directory: Path,
    round_: Round,
    *,
    proxies: bool = False,
    replicated: bool = False,
    mutation: str | None = None,
    before: Callable[[Stage], None] = lambda _stage: None,
    after: Callable[[Stage], list[str]] = lambda _stage: [],
    refusals: frozenset[int] = frozenset(),
) -> dict[str, Any]:
    """One block. ``before(stage)``: when the nodes run, and nobody has bound yet; ``after(stage)``: what it finds besides,
    with all at rest. ``refusals``: what else a message may be answered with."""
    directory.mkdir(parents=True, exist_ok=True)
    count: int = unit.values["nodes"]
    faults: list[str] = []
    cluster = Cluster(durable=not options.short, replicated=replicated)
    with Peers(script(unit.random())) as peers:
        peers.at_end.append(cluster.end)
        peers.smsc.spread = True
        lines = [_line(peers, cluster) for _ in range(count)] if proxies else []
        smscs = [one.carriers.port for one in lines] or [peers.smsc.port] * count
        urls = [cluster.through(one.database.port) for one in lines] or None
        accounts = [account(name, unknown_after="1s") for name in ACCOUNTS]
        fleet = Fleet(directory, options, cluster, smscs, accounts, urls=urls, mutation=mutation)
        peers.at_end.append(fleet.kill)
        book = CustomerBook()
        rate = unit.values["rate"] / (count + 1 if count > 1 else 1)
        stage = Stage(unit.values, unit.random(), cluster, fleet, peers, [], lines=lines)
        drained = 0.0
        broken = ""
        try:
            if replicated:
                cluster.synchronous()
            for line, node in zip(lines, fleet.nodes, strict=False):
                line.customers.to = node.plain_port
            fleet.start()
            for number in range(count):
                port = stage.port(number)
                stage.own.append(Customer(port, PASSWORD, rate=rate, first=number * TOKENS, book=book))
            if count > 1:
                here, *there = [stage.port(number) for number in range(count)]
                made = Customer(here, PASSWORD, system_id="roaming", rate=rate, first=count * TOKENS, book=book)
                made.others = there
                stage.others.append(made)
            before(stage)
            for each in stage.customers:
                peers.add(each)
                each.sending = True
            for number in range(unit.values["rounds"]):
                if not round_(stage, number):
                    break
            drained = drain(fleet, peers, stage.customers, PATIENCE, QUIET if count > 1 else 4.0)
            stage.faults += after(stage)
        except StartFailure as failure:
            faults.append(str(failure))
        except RuntimeError as failure:
            broken = str(failure)
            faults.append(f"the campaign cannot go on: {broken}")
        finally:
            for each in stage.customers:
                each.sending = False
        found, wrong = verdict(fleet, peers, Customer(0, PASSWORD, book=book), verify=True, drained=drained)
        faults += stage.faults + wrong
        allowed = {_FULL, *refusals}
        if strange := {hex(one): times for one, times in book.refused.items() if one not in allowed}:
            faults.append(f"refused with {strange}")
        if not options.short and (slow := [one for one in stage.taken if one > TAKEN_OVER]):
            faults.append(f"{len(slow)} of {len(stage.taken)} take-overs later than {TAKEN_OVER:g} s")
        if faults and mutation is None:
            keep(cluster, fleet, directory)
    return {
        **unit.values,
        **found,
        "done": dict(sorted(stage.told.items())),
        "taken_ms": [percentile(stage.taken, 0.5), percentile(stage.taken, 1.0)] if stage.taken else [],
        "takeovers": len(stage.taken),
        "drained_s": round(drained, 1),
        **({"broken": broken} if broken else {}),
        "faults": faults,
    }


def _line(peers: Peers, cluster: Cluster) -> Line:
    made = Line(Proxy(cluster.socket), Proxy(peers.smsc.port), Proxy(0))
    for each in (made.database, made.carriers, made.customers):
        peers.wait(each.start())
        peers.at_end.insert(0, lambda proxy=each: peers.wait(proxy.stop()))  # type: ignore[misc]
    return made
