"""What the running daemon says of itself: the checks for /healthz and /readyz, and the picture for `smppd status`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from smppd import __version__, native
from smppd.config import Settings
from smppd.daemon.http import Health, assess
from smppd.net.endpoints import Listener
from smppd.relay.relay import Relay
from smppd.store.api import Availability
from smppd.store.installation import MainStore

STALLED: Final = 300.0
"""Seconds a message may wait to be submitted before /readyz says `degraded`."""
EXPIRING: Final = 7 * 86400.0
"""Seconds before its end at which a certificate makes /readyz say `degraded`."""
_NAMED: Final = 5
_STORE_CHECKS: Final = {
    Availability.OK: "ok",
    Availability.FULL: "failed: no space",
    Availability.AWAY: "failed: it cannot be reached",
}


def health(
    settings: Settings,
    relay: Relay,
    store: MainStore,
    listeners: Sequence[Listener],
    *,
    draining: bool,
    over: bool,
    clock: str = "ok",
    shipping: str = "ok",
    feed: str = "ok",
    nodes: Mapping[str, str] = MappingProxyType({}),
) -> Health:
    """The checks and what follows from them. clock: what `ClockWatch` says; shipping: what `Shipper` does; feed: `Feeding`;
    nodes: checks that are there where the store can have several nodes (`Membership`)."""
    condition = relay.readiness()
    up, oldest = condition.upstreams, condition.oldest
    enabled = sum(1 for one in settings.upstreams if one.enabled)
    missing = [f"{up} of {enabled} upstreams are bound"] if up < enabled else []
    if condition.stopped:
        more = f" and {len(condition.stopped) - _NAMED} more" if len(condition.stopped) > _NAMED else ""
        missing.append(f"paused by act: {', '.join(condition.stopped[:_NAMED])}{more}")
    checks = {
        "store": _STORE_CHECKS[store.availability],
        "spool": "ok" if condition.ready else "failed: still reading back",
        "draining": "failed: stopping" if draining else "ok",
        "upstreams": f"degraded: {'; '.join(missing)}" if missing else "ok",
        "certificates": _certificates([one.tls.expires.timestamp() for one in listeners if one.tls is not None]),
        "clock": clock,
        "shipping": shipping,
        "feed": feed,
        "oldest": "ok" if oldest < STALLED else f"degraded: the oldest message waits {int(oldest)} s",
        **nodes,
    }
    return assess(checks, alive=store.alive and not over)


def _certificates(ends: list[float]) -> str:
    left = min(ends, default=float("inf")) - time.time()
    if left > EXPIRING:
        return "ok"
    return f"degraded: a certificate ends in {int(left / 86400)} days" if left > 0 else "degraded: one has expired"


def picture(
    relay: Relay, store: MainStore, ports: Sequence[tuple[str, bool]], *, began: float, ready: bool, draining: bool
) -> dict[str, object]:
    """Counts and states of everything; `smppd status` shows it."""
    relays = relay.picture()
    return {
        "version": __version__,
        "compiled": native.compiled,
        "interpreted_because": native.reason,
        "uptime": round(time.monotonic() - began, 1),
        "ready": ready,
        "draining": draining,
        "store": {
            "full": not store.takes,
            "commits": store.commits,
            "entries": relays.entries,
            "damaged": store.damaged,
        },
        "accounts": [one._asdict() | {"oldest": round(one.oldest, 1)} for one in relays.accounts],
        "upstreams": [one._asdict() for one in relays.upstreams],
        "listeners": [{"address": address, "tls": tls} for address, tls in ports],
    }
