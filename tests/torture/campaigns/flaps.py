"""flaps: the link to the SMSC goes again and again under load. Nothing is lost, and backlogs are gone within twice the outage.

Half of the flaps cut the sessions only; the others take the SMSC away for up to two seconds. The load is 40 % of what the
same machine was measured to do just before. An outage lasts from the cut to the next bind.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from tests.torture.customer import Customer
from tests.torture.daemon import PASSWORD, Daemon, StartFailure, account
from tests.torture.load import drain, until, verdict
from tests.torture.peers import Peers
from tests.torture.plan import Options, Unit, blocks
from tests.torture.smsc import Step

NAME: Final = "flaps"
_FLAPS: Final = 500
_BLOCK: Final = 50
_SHARE: Final = 0.4
LEAST: Final = 0.5
"""Seconds: an outage shorter than this is held to this, since a commit and a turn of the sweep are in it too."""
NEAR: Final = 0.1
"""Seconds of load that are always on their way: so much is no backlog."""


def plan(options: Options) -> list[Unit]:
    """500 flaps in blocks of 50; short: 3."""
    total = options.rounds or (3 if options.short else _FLAPS)
    return blocks(options, NAME, total, min(_BLOCK, total), [{"acknowledge": "stored"}])


def capacity(daemon: Daemon, peers: Peers, seconds: float) -> float:
    """Messages a second, measured from the first submit to the last receipt with the customer's window always full."""
    customer = Customer(daemon.plain_port, PASSWORD, rate=1e6, binds=2, first=900_000_000)
    peers.add(customer)
    customer.sending = True
    until(lambda: len(customer.book.ids) > 0, 20)
    began = time.monotonic()
    time.sleep(seconds)
    drain(daemon, peers, [customer], 30)
    rate = len(customer.book.receipts) / (time.monotonic() - began)
    peers.wait(customer.stop())
    peers.customers.remove(customer)
    return rate


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """One block."""
    random = unit.random()
    faults: list[str] = []
    slow: list[float] = []
    outages: list[float] = []
    worst = 0.0
    with Peers(lambda _submit, _attempt: Step(receipt=0.05, delay=0.01)) as peers:
        settings = account("acme", acknowledge=unit.values["acknowledge"], unknown_after="1s")
        daemon = Daemon(directory, options, peers.smsc.port, [settings])
        peers.at_end.append(daemon.kill)
        try:
            daemon.keys()
            daemon.launch()
            daemon.await_ready()
            daemon.wait_links("sim", 1)
            most = capacity(daemon, peers, 1.0 if options.short else 4.0)
            # From here on the books are those of the one customer.
            peers.call(peers.smsc.book.submits.clear)
            peers.call(peers.smsc.book.receipts.clear)
            customer = Customer(daemon.plain_port, PASSWORD, rate=most * _SHARE)
            peers.add(customer)
            customer.sending = True
            loaded = time.monotonic()
            for _ in range(unit.values["rounds"]):
                time.sleep(random.uniform(0.1, 0.5))
                binds = peers.smsc.book.binds
                began = time.monotonic()
                if random.random() < 0.5:
                    peers.call(peers.smsc.cut)
                else:
                    peers.wait(peers.smsc.stop())
                    time.sleep(random.uniform(0.1, 2.0))
                    peers.wait(peers.smsc.start())
                if not until(lambda seen=binds: peers.smsc.book.binds > seen, 15):  # type: ignore[misc]
                    faults.append("no bind within 15 s")
                    break
                outage = time.monotonic() - began
                outages.append(outage)
                back = time.monotonic()
                # What the cut left without an answer waits for its second sending by intention: it is no backlog.
                near = customer.rate * NEAR + 50
                until(lambda near=near: _backlog(daemon, customer, peers) <= near, 4 * max(outage, LEAST))  # type: ignore[misc]
                took = time.monotonic() - back
                worst = max(worst, took / max(outage, LEAST))
                if took > 2 * max(outage, LEAST):
                    slow.append(took / outage)
            # What was really acknowledged, outages and all: the aim alone proves no load.
            achieved = len(customer.book.ids) / (time.monotonic() - loaded)
            drained = drain(daemon, peers, [customer])
            # The short form shares its cores with other tests: its times mean nothing.
            if slow and not options.short:
                faults.append(f"{len(slow)} of {len(outages)} backlogs took more than twice the outage")
        except StartFailure as failure:
            return {**unit.values, "faults": [str(failure)]}
        found, wrong = verdict(daemon, peers, customer, drained=drained)
    # The messages of the measurement are in the record too, and nowhere else.
    return {
        **unit.values,
        **found,
        "flaps": len(outages),
        "capacity": round(most),
        "rate": round(achieved),
        "paced_at": round(most * _SHARE),
        "share": round(achieved / most, 3),
        "outage_s": round(sum(outages), 1),
        "longest_outage_s": round(max(outages, default=0.0), 2),
        "slowest_drain": round(worst, 2),
        "faults": faults + wrong,
    }


def _backlog(daemon: Daemon, customer: Customer, peers: Peers) -> float:
    """Acknowledged messages that the SMSC does not have, those of unknown fate left out."""
    unknown = sum(int(one["unknown"]) for one in daemon.status()["upstreams"])
    return daemon.waiting() - unknown
