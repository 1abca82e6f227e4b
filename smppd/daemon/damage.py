"""Reports what the store found damaged: it is counted, logged without content, and the relay is told, which has counted
it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from smppd.metrics import Metrics
from smppd.relay.guard import STORE
from smppd.relay.relay import Relay
from smppd.store.api import Kind

log = logging.getLogger("smppd.store")


class DamageReports:
    """Its methods are called on the reactor thread. ``relay()`` gives the relay, which is made after the store."""

    def __init__(self, metrics: Metrics, relay: Callable[[], Relay]) -> None:
        self._metrics = metrics
        self._relay = relay

    def report_at_start(self, what: str, identity: int, reason: str) -> None:
        """At the start something does not open, or has a wrong form, and is set aside."""
        self._metrics.set_aside.labels(STORE).inc()
        fields = {"kind": what, "id": f"{identity & (1 << 64) - 1:016x}", "reason": reason}
        log.error("stored and does not open", extra={"fields": fields})

    def report_row(self, kind: Kind, owner: str, identity: int, reason: str) -> None:
        """A cold row does not open."""
        self.report_at_start(kind.name.lower(), identity, reason)
        self._relay().row_damaged(kind, owner, identity)
