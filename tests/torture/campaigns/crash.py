"""What kill and power have in common: a loaded daemon is killed again and again, and the books are compared at the end.

Each round: load until messages flow, a random moment later SIGKILL, whatever the campaign does to the disk, start again. One
round in eight kills within the first second of the start instead, whether or not it is ready. The customer and the SMSC
live through all rounds of a block and go on by themselves.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.torture.customer import Customer
from tests.torture.daemon import PASSWORD, Daemon, StartFailure, account
from tests.torture.load import drain, percentile, until, verdict
from tests.torture.peers import Peers
from tests.torture.plan import Options, Unit
from tests.torture.smsc import Step, Submit

RATE = 1600.0
_LOAD = 0.2, 1.2
"""Seconds from the first message to the kill, if the unit has no ``load``."""


def crash_block(
    unit: Unit,
    options: Options,
    directory: Path,
    *,
    prepare: Callable[[Daemon], None],
    after: Callable[[Daemon, Random], None],
    mutation: str | None = None,
) -> dict[str, Any]:
    """One block. ``prepare(daemon)`` before each start, ``after(daemon, random)`` after each kill."""
    random = unit.random()
    rounds: int = unit.values["rounds"]
    delays = unit.random()

    def script(_submit: Submit, _attempt: int) -> Step:
        # A receipt in time settles a message of unknown fate; one in four comes too late for it, so that resends happen.
        late = delays.random() < 0.25
        receipt = delays.uniform(2.5, 3.5) if late else delays.uniform(0.0, 0.2)
        return Step(receipt=receipt, delay=delays.choice((0.0, 0.0, 0.02, 0.05)))

    faults: list[str] = []
    recovered: list[float] = []
    up = 0.0
    under_load = 0
    kills = early = 0
    with Peers(script) as peers:
        settings = account("acme", acknowledge=unit.values["acknowledge"], unknown_after="1s")
        daemon = Daemon(directory, options, peers.smsc.port, [settings], mutation=mutation)
        peers.at_end.append(daemon.kill)
        customer = Customer(daemon.plain_port, PASSWORD, rate=RATE)
        try:
            daemon.keys()
            prepare(daemon)
            daemon.launch()
            daemon.await_ready()
            peers.add(customer)
            customer.sending = True
            while kills < rounds:
                before = len(customer.book.ids)
                flowing = until(lambda start=before: len(customer.book.ids) > start, 30.0)  # type: ignore[misc]
                if not flowing:
                    faults.append(f"round {kills}: no message was acknowledged within 30 s of the start")
                    break
                # Only what is acknowledged between these two looks counts as load.
                began, count = time.monotonic(), len(customer.book.ids)
                time.sleep(random.uniform(*unit.values.get("load", _LOAD)))
                under_load += len(customer.book.ids) - count
                up += time.monotonic() - began
                if not daemon.kill9():
                    faults.append(f"round {kills}: the daemon had ended by itself")
                kills += 1
                after(daemon, random)
                while kills < rounds and random.random() < 0.125:
                    prepare(daemon)
                    daemon.launch()
                    time.sleep(random.uniform(0.2, 1.2))
                    daemon.kill9()
                    after(daemon, random)
                    kills += 1
                    early += 1
                prepare(daemon)
                daemon.launch()
                recovered.append(daemon.await_ready())
            drained = drain(daemon, peers, [customer])
        except StartFailure as failure:
            faults.append(f"round {kills}: {failure}")
            drained = 0.0
        finally:
            customer.sending = False
        found, wrong = verdict(daemon, peers, customer, verify=True, drained=drained)
    shutil.rmtree(directory / "base", ignore_errors=True)
    return {
        **unit.values,
        **found,
        "kills": kills,
        "kills_while_starting": early,
        "rate": round(under_load / up) if up else 0,
        "paced_at": RATE,
        "recovery_ms": [percentile(recovered, 0.5), percentile(recovered, 1.0)],
        "drained_s": round(drained, 1),
        "faults": faults + wrong,
    }
