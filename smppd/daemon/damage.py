"""What the store found damaged: counted, in the log without content, and told to the relay, whose counts it is in."""

from __future__ import annotations

import logging
from collections.abc import Callable

from smppd.metrics import Metrics
from smppd.relay.guard import STORE
from smppd.relay.relay import Relay
from smppd.store.api import Kind

log = logging.getLogger("smppd.store")


class Damage:
    """On the reactor thread. ``relay()`` is asked once it is there: the store is opened first."""

    def __init__(self, metrics: Metrics, relay: Callable[[], Relay]) -> None:
        self._metrics = metrics
        self._relay = relay

    def at_start(self, what: str, identity: int, reason: str) -> None:
        """Something does not open, or is not what it should be, and is set aside."""
        self._metrics.set_aside.labels(STORE).inc()
        fields = {"kind": what, "id": f"{identity & (1 << 64) - 1:016x}", "reason": reason}
        log.error("stored and does not open", extra={"fields": fields})

    def row(self, kind: Kind, owner: str, identity: int, reason: str) -> None:
        """A cold row does not open."""
        self.at_start(kind.name.lower(), identity, reason)
        self._relay().row_damaged(kind, owner, identity)
