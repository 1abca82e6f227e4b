"""mailbox: very many receipts wait for a customer who is not bound. Memory stays within its bound, another customer does not
feel it, a restart with all of them waiting is quick, and every one is delivered when the customer binds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from tests.torture.customer import Customer
from tests.torture.daemon import PASSWORD, Daemon, StartFailure, account
from tests.torture.load import drain, percentile, until, verdict
from tests.torture.peers import Peers
from tests.torture.plan import Options, Unit
from tests.torture.smsc import Step

NAME: Final = "mailbox"
_RECEIPTS: Final = 1_000_000
_SHORT: Final = 8_000
BOUND: Final = 256 << 20
"""Octets of resident memory that the daemon may have at any time, however many receipts wait."""
_OTHER: Final = 100.0
FEW_MS: Final = 20.0
"""Milliseconds: a p99 below this is as good as undisturbed; twice a very small number means nothing on a shared machine."""


def plan(options: Options) -> list[Unit]:
    """A million; short: 8,000."""
    count = options.rounds or (_SHORT if options.short else _RECEIPTS)
    return [Unit(f"{NAME}-{count}", options.seed, {"waiting": count})]


def run(unit: Unit, options: Options, directory: Path) -> dict[str, Any]:
    """Fill, restart, bind."""
    count: int = unit.values["waiting"]
    faults: list[str] = []
    notes: dict[str, Any] = {}
    patience = 60.0 + count / 300
    with Peers(lambda _submit, _attempt: Step(receipt=0.0)) as peers:
        accounts = [account("acme", receipts={"limit": 2 * count, "window": 100}), account("other")]
        daemon = Daemon(directory, options, peers.smsc.port, accounts)
        peers.at_end.append(daemon.kill)
        try:
            daemon.keys()
            daemon.launch()
            daemon.await_ready()
            # Only transmitters: nobody takes the receipts.
            away = Customer(daemon.plain_port, PASSWORD, rate=1e6, binds=2, window=100, command=0x02)
            other = Customer(daemon.plain_port, PASSWORD, system_id="other", rate=_OTHER, binds=1, first=900_000_000)
            peers.add(other)
            other.sending = True
            quiet = _listen(other, 0.5 if options.short else 10.0)
            notes["rss_start_mib"] = daemon.rss() >> 20
            away.limit = count
            away.sending = True
            # Three quarters of what it can do alone: a customer is measured beside a load, not beside an overload.
            away.rate = 4000.0 if options.short else 2500.0
            peers.add(away)
            began = time.monotonic()
            mark, most = len(other.book.waits), 0
            grown: list[list[int]] = []
            deadline = began + patience
            while (len(away.book.ids) < count or peers.smsc.unsettled) and time.monotonic() < deadline:
                time.sleep(0.1)
                now = daemon.rss()
                most = max(most, now)
                if len(away.book.ids) >= (len(grown) + 1) * count // 10:
                    grown.append([len(away.book.ids), now >> 20])
            notes["rss_mib_by_waiting"] = grown
            notes["fill_s"] = round(time.monotonic() - began, 1)
            notes["rate"] = round(len(away.book.ids) / (time.monotonic() - began))
            filled = percentile(other.book.waits[mark:], 0.99)
            # The gauge is set once a second.
            if not until(lambda: daemon.metric("smppd_mailbox", account="acme") == count, 5):
                waiting = daemon.metric("smppd_mailbox", account="acme")
                faults.append(f"{waiting:g} receipts wait, of {count}")
            calm = _listen(other, 0.5 if options.short else 10.0)
            most = max(most, daemon.rss())
            notes["rss_filled_mib"] = most >> 20
            peers.wait(other.stop())
            peers.customers.remove(other)
            status = daemon.terminate()
            if status:
                faults.append(f"the daemon ended with status {status}")
            daemon.launch()
            notes["restart_s"] = round(daemon.await_ready(), 2)
            notes["rss_restarted_mib"] = daemon.rss() >> 20
            second = Customer(daemon.plain_port, PASSWORD, system_id="other", rate=_OTHER, binds=1, first=950_000_000)
            peers.add(second)
            second.sending = True
            _listen(second, 0.5)
            mark = len(second.book.waits)
            taker = Customer(daemon.plain_port, PASSWORD, rate=0.0, binds=1, command=0x01)
            peers.add(taker)
            began = time.monotonic()
            deadline = began + patience
            while len(taker.book.receipts) < count and time.monotonic() < deadline:
                time.sleep(0.1)
                most = max(most, daemon.rss())
            notes["delivery_s"] = round(time.monotonic() - began, 1)
            delivered = percentile(second.book.waits[mark:], 0.99)
            notes["p99_ms"] = {"alone": quiet, "filling": filled, "waiting": calm, "delivering": delivered}
            notes["rss_most_mib"] = most >> 20
            drained = drain(daemon, peers, [second])
            until(lambda: daemon.metric("smppd_mailbox", account="acme") == 0, 5)
        except StartFailure as failure:
            return {**unit.values, "faults": [str(failure)]}
        away.book.receipts = taker.book.receipts
        for one in (other, second):
            away.book.ids |= one.book.ids
            away.book.receipts.update(one.book.receipts)
            away.book.sent += one.book.sent
        found, wrong = verdict(daemon, peers, away, drained=drained)
    if most > BOUND:
        faults.append(f"{most >> 20} MiB of memory, more than {BOUND >> 20}")
    # The short form shares its cores with other tests: its times mean nothing.
    for name, value in notes["p99_ms"].items() if not options.short else ():
        if name == "waiting" and value > max(2 * quiet, FEW_MS):
            faults.append(f"another customer's p99 is {value} ms with the mailbox full, {quiet} ms before")
        if name == "delivering" and value > max(2 * filled, 2 * quiet, FEW_MS):
            faults.append(f"another customer's p99 is {value} ms while the mailbox is delivered, {quiet} ms before")
    return {**unit.values, **found, **notes, "bound_mib": BOUND >> 20, "faults": faults + wrong}


def _listen(customer: Customer, seconds: float) -> float:
    """p99 of a customer's answers over some time, milliseconds."""
    mark = len(customer.book.waits)
    time.sleep(seconds)
    return percentile(customer.book.waits[mark:], 0.99)
