"""Steps that campaigns share: load until it flows, stop it, wait for the end of everything, hold the books together."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from smppd.store.api import StoreError
from tests.torture.customer import Customer
from tests.torture.ledger import compare
from tests.torture.peers import Peers
from tests.torture.record import Record


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


class Judged(Protocol):
    """What is put to torture: a daemon, or several that work together. See `Daemon`."""

    def waiting(self) -> int: ...
    def ends(self) -> list[str]: ...
    def record(self) -> Record: ...
    def verifies(self) -> list[str]: ...
    def complaints(self) -> list[str]: ...


def drain(
    daemon: Judged, peers: Peers, customers: list[Customer], seconds: float = PATIENCE, quiet: float = 4.0
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
    daemon: Judged,
    peers: Peers,
    customer: Customer,
    *,
    verify: bool = False,
    receipts: bool = True,
    drained: float = 0.0,
) -> tuple[dict[str, Any], list[str]]:
    """Ends what was judged as an operator would and compares the books. ``verify``: the log's digest chain as well.
    ``drained``: what ``drain`` took."""
    faults: list[str] = []
    if drained > LATE:
        faults.append(f"late: {drained:.0f} s from the end of the load to the end of the last message")
    unfinished = daemon.waiting()
    faults += daemon.ends()
    try:
        record: Record | None = daemon.record()
    except (StoreError, sqlite3.Error) as error:
        record = None
        faults.append(f"the store cannot be read: {type(error).__name__}")
    found, wrong = compare(customer.book, peers.smsc.book, record, receipts=receipts, unfinished=unfinished)
    faults += wrong
    if verify:
        faults += daemon.verifies()
    return found, faults + daemon.complaints()


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of them lie, in milliseconds; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 2)
