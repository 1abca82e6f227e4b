"""Steps that campaigns share: load until it flows, stop it, wait for the end of everything, hold the books together."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any, Final

from smppd.store.api import StoreError
from tests.torture.customer import Customer
from tests.torture.daemon import Daemon
from tests.torture.ledger import compare
from tests.torture.peers import Peers
from tests.torture.record import read_record


def until(done: Callable[[], bool], seconds: float, pause: float = 0.02) -> bool:
    """Polls; whether it came about in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


LATE: Final = 60.0
"""Seconds after the end of the load by which everything should have ended; later is a finding, but no loss."""
PATIENCE: Final = 300.0


def drain(
    daemon: Daemon, peers: Peers, customers: list[Customer], seconds: float = PATIENCE, quiet: float = 4.0
) -> float:
    """Stops the load and waits until every acknowledged message has its receipt and every receipt is settled; or until
    nothing has moved for ``quiet`` seconds while the daemon says that nothing waits in it. What it still has is not lost,
    however slow it is. The seconds it took."""
    began = time.monotonic()
    for each in customers:
        each.sending = False

    def moved() -> tuple[int, ...]:
        books = [each.book for each in customers]
        told = sum(len(book.receipts) + len(book.ids) for book in books)
        return len(peers.smsc.book.submits), told, peers.smsc.unsettled

    def complete() -> bool:
        books = [each.book for each in customers if each.registered]
        told = all(len(book.receipts) >= len(book.ids) and book.ids.keys() <= book.receipts.keys() for book in books)
        # What waits for its second sending is found by the daemon's own count only.
        return told and not peers.smsc.unsettled and daemon.waiting() == 0

    seen, news = moved(), began
    while time.monotonic() - began < seconds and not complete():
        time.sleep(0.1)
        now = moved()
        if now != seen:
            seen, news = now, time.monotonic()
        elif time.monotonic() - news > quiet and daemon.waiting() == 0:
            break
    return time.monotonic() - began


def verdict(
    daemon: Daemon,
    peers: Peers,
    customer: Customer,
    *,
    verify: bool = False,
    receipts: bool = True,
    drained: float = 0.0,
) -> tuple[dict[str, Any], list[str]]:
    """Ends the daemon as an operator would and compares the books. ``verify``: the log's digest chain as well. ``drained``:
    what ``drain`` took."""
    faults: list[str] = []
    if drained > LATE:
        faults.append(f"late: {drained:.0f} s from the end of the load to the end of the last message")
    unfinished = daemon.waiting()
    if daemon.process is not None and daemon.process.poll() is None:
        if errors := daemon.metric("smppd_internal_errors_total"):
            faults.append(f"the daemon counted {errors:g} internal errors")
        if damaged := daemon.metric("smppd_damaged_items"):
            faults.append(f"{damaged:g} items are told as damaged")
        # The customer's acknowledgements of its last receipts are still on their way into the record.
        status = daemon.terminate(20)
        if status:
            faults.append(f"the daemon ended with status {status}")
    try:
        record = read_record(daemon.store, daemon.config_file)
    except (StoreError, sqlite3.Error) as error:
        record = None
        faults.append(f"the store cannot be read: {type(error).__name__}")
    found, wrong = compare(customer.book, peers.smsc.book, record, receipts=receipts, unfinished=unfinished)
    faults += wrong
    if verify:
        checked = daemon.command("log", "verify")
        if checked.returncode:
            faults.append(f"`smppd log verify` says: {(checked.stdout + checked.stderr).strip()[:200]}")
    return found, faults + daemon.complaints()


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of them lie, in milliseconds; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 2)
