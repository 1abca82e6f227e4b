"""What the tests of holds share: a store under construction with its holds, as the daemon's purge and the commands see it."""

from __future__ import annotations

from smppd.audit.trail import AuditTrail
from smppd.config import Retain
from smppd.ids import id_time
from smppd.records.capture import Capture, gather
from smppd.records.holds import Hold, Holds
from smppd.records.keeping import Keeper
from smppd.records.retention import Purged, Purger
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import KeyRing
from tests.store.builder import DAY, Builder

HOUR = 3600.0
SUBJECT = b"447700900999"
NEIGHBOUR = b"447700900111"
LIFE = Retain(body=DAY, numbers=DAY, billing=3 * DAY)


def holds(log: Builder) -> Holds:
    """On connections and with keys of their own, as another process has them."""
    rows = log.place.held()
    return Holds(log.place.documents(), rows, KeyRing(log.kek, log.store.keys), DocumentSealer(log.install))


def purger(log: Builder, trail: AuditTrail | None = None, **retains: Retain) -> Purger:
    keeper = Keeper(holds(log), log.place.records(), trail=trail)
    return Purger(
        log.place.purge(),
        lambda: retains or {"acme": LIFE},
        id_time,
        trail=trail,
        chain_keys=log.keys,
        dropped=log.ring.drop,
        keeper=keeper,
    )


def purge(log: Builder, **retains: Retain) -> Purged:
    with purger(log, None, **retains) as one:
        return one.run(log.now)


def demand(
    log: Builder,
    *forms: bytes,
    account: str = "",
    since: float = 0.0,
    until: float = float("inf"),
    days: float = 365,
    second: str = "carol",
    catch: bool = True,
) -> int:
    """A hold of now; its number. second: who agrees, nobody when empty. catch: gathers at once, as `hold add` does."""
    found = holds(log)
    try:
        number = found.number()
        hold = Hold(number, forms, account, since, until, "Court", "12/26", log.now + days * DAY, "bob", log.now)
        found.add(hold)
        if second:
            hold = found.activate(number, second)
        if catch:
            caught(log, hold)
        return number
    finally:
        found.close()


def caught(log: Builder, hold: Hold) -> None:
    found, records = holds(log), log.place.records()
    try:
        gather(Capture(found, records), hold)
    finally:
        records.close()
        found.close()


def kept(log: Builder, number: int) -> int:
    rows = log.place.held()
    try:
        return rows.count(number)
    finally:
        rows.close()
