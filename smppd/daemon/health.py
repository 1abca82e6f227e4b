"""What the running daemon says of itself: the checks behind /healthz and /readyz, and the picture for `smppd status`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from smppd import __version__, native
from smppd.config import Settings
from smppd.daemon.http import Health, assess
from smppd.metrics import total
from smppd.net.endpoints import Listener
from smppd.relay.relay import Relay
from smppd.relay.state.model import Account
from smppd.store.api import Availability
from smppd.store.sqlite.store import SqliteStore

STALLED: Final = 300.0
"""Seconds a message may wait to be submitted before /readyz says `degraded`."""
PEERS: Final = 8
"""How many addresses of an account `smppd status` shows."""
EXPIRING: Final = 7 * 86400.0
"""Seconds before its end at which a certificate makes /readyz say `degraded`."""
_STORE_CHECKS: Final = {
    Availability.OK: "ok",
    Availability.FULL: "failed: no space",
    Availability.AWAY: "failed: it cannot be reached",
}


def health(
    settings: Settings,
    relay: Relay,
    store: SqliteStore,
    listeners: Sequence[Listener],
    *,
    draining: bool,
    over: bool,
    clock: str = "ok",
) -> Health:
    """The checks and what follows from them. clock: what `ClockWatch` says."""
    context = relay.context
    # One that takes messages and brings no receipts is not whole.
    up = [one for one in context.upstreams.values() if one.links and one.receivers]
    enabled = [one for one in settings.upstreams if one.enabled]
    oldest = max((relay.oldest(account) for account in context.accounts.values()), default=0.0)
    missing = f"degraded: {len(up)} of {len(enabled)} upstreams are bound"
    checks = {
        "store": _STORE_CHECKS[store.availability],
        "spool": "ok" if relay.ready else "failed: still reading back",
        "draining": "failed: stopping" if draining else "ok",
        "upstreams": "ok" if len(up) >= len(enabled) else missing,
        "certificates": _certificates([one.tls.expires.timestamp() for one in listeners if one.tls is not None]),
        "clock": clock,
        "oldest": "ok" if oldest < STALLED else f"degraded: the oldest message waits {int(oldest)} s",
    }
    return assess(checks, alive=store.alive and not over)


def _certificates(ends: list[float]) -> str:
    left = min(ends, default=float("inf")) - time.time()
    if left > EXPIRING:
        return "ok"
    return f"degraded: a certificate ends in {int(left / 86400)} days" if left > 0 else "degraded: one has expired"


def _peers(account: Account) -> list[str]:
    """The addresses that an account's sessions come from, the first few of them."""
    return sorted({one.address.decode("ascii", "replace") for one in account.sessions})[:PEERS]


def picture(
    relay: Relay, store: SqliteStore, ports: Sequence[tuple[str, bool]], *, began: float, ready: bool, draining: bool
) -> dict[str, object]:
    """Counts and states of everything; `smppd status` shows it."""
    context = relay.context
    now = time.monotonic()
    return {
        "version": __version__,
        "compiled": native.compiled,
        "interpreted_because": native.reason,
        "uptime": round(now - began, 1),
        "ready": ready,
        "draining": draining,
        "store": {
            "full": not store.takes,
            "commits": store.commits,
            "entries": context.journal.count(),
            "damaged": store.damaged,
        },
        "accounts": [
            {
                "name": account.name,
                "sessions": len(account.sessions),
                "peers": _peers(account),
                "queued": account.queued,
                "oldest": round(relay.oldest(account), 1),
                "mailbox": len(account.mailbox),
                "accepted": total(account.accepted),
                "delivered": total(account.delivered),
            }
            for account in context.accounts.values()
        ],
        "upstreams": [
            {
                "name": one.name,
                "address": one.settings.address,
                "enabled": not one.gone,
                "links": len(one.links),
                "window_used": sum(len(link.session.outstanding) for link in one.links),
                "ready": len(one.ready),
                "unknown": len(one.unknown),
                "waiting_receipts": len(one.ids) + one.cold_waiting,
                "paused": one.paused_until > now,
                "submitted": total(one.submitted),
            }
            for one in context.upstreams.values()
        ],
        "listeners": [{"address": address, "tls": tls} for address, tls in ports],
    }
