"""spread: receipts come over the binds of all nodes in turn, while customers are bound at one, and move between them.

One customer's binds go from node to node every few seconds, in order or cut; another one submits at one node and receives at
the other. Everybody gets each receipt once; again only what he may not have acknowledged, since he was cut.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from tests.torture.campaigns.several import TOKENS, Stage, block, fleets
from tests.torture.customer import Customer
from tests.torture.daemon import PASSWORD
from tests.torture.plan import Options, Unit

NAME: Final = "spread"
_ROUNDS: Final = 100
_BLOCK: Final = 20
_STAY: Final = 0.3, 3.0
_TRANSMITTER: Final = 0x02
_RECEIVER: Final = 0x01


def plan(options: Options) -> list[Unit]:
    """100 moves in blocks of 20, of two and of three nodes by turns; short: 4."""
    total = options.rounds or (4 if options.short else _ROUNDS)
    return fleets(options, NAME, total, _BLOCK)


def before(stage: Stage) -> None:
    """One more account, which submits at the first node and receives at the last."""
    own = stage.own[0]
    first = (len(stage.own) + 1) * TOKENS
    last = stage.port(len(stage.own) - 1)
    for port, rate, command in ((stage.port(0), own.rate, _TRANSMITTER), (last, 0.0, _RECEIVER)):
        made = Customer(port, PASSWORD, system_id="split", rate=rate, first=first, command=command, book=own.book)
        stage.others.append(made)


def round_(stage: Stage, number: int) -> bool:
    """One move."""
    random, peers = stage.random, stage.peers
    time.sleep(random.uniform(*_STAY))
    mover = stage.others[0]
    ports = [stage.port(one) for one in range(len(stage.fleet.nodes))]
    random.shuffle(ports)
    chosen = ports[: random.randint(1, len(ports))]
    if random.random() < 0.5:
        stage.told["moved by unbind"] += 1
        peers.wait(mover.leaves(chosen))
    else:
        stage.told["moved by a cut"] += 1
        peers.call(lambda: mover.moves(chosen))
    if not stage.flows([mover]):
        stage.faults.append(f"round {number}: no message was acknowledged to the customer that moved within 30 s")
        return False
    return True


def after(stage: Stage) -> list[str]:
    """Whether somebody got a receipt twice without need."""
    book = stage.own[0].book
    again = [told for told, count in book.receipts.items() if count > 1 and told not in book.excused]
    stage.told["receipts again after a cut"] = sum(count > 1 for count in book.receipts.values()) - len(again)
    return [f"{len(again)} receipts delivered twice to a customer who was not cut"] if again else []


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One block."""
    result = block(unit, options, directory, round_, before=before, after=after)
    return {**result, "kills": result["done"].get("moved by unbind", 0) + result["done"].get("moved by a cut", 0)}
