"""The end after SIGTERM: the daemon accepts no more, finishes what is in flight, and unbinds all sides. Customers come
first: each is unbound when it has its answers. What only waits in the store stays there."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from smppd.net.customers import Customers
from smppd.net.door import Door
from smppd.net.upstreams import Upstreams
from smppd.relay.relay import Relay
from smppd.store.installation import MainStore

log = logging.getLogger("smppd.daemon")
STEP: Final = 0.05
"""Seconds between two looks."""
_UNBIND: Final = 5.0
_LATE: Final = 1.0
"""Seconds for the unbind of carriers when the time of the drain is over already."""


class Drain:
    """One drain, by the reactor's monotonic clock. ``done()`` is called when all sides are unbound, or when ``within``
    seconds and a little more for the unbinds are over."""

    def __init__(
        self,
        reactor: Any,
        relay: Relay,
        store: MainStore,
        door: Door,
        customers: Customers,
        upstreams: Upstreams,
        within: float,
        done: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._relay = relay
        self._store = store
        self._door = door
        self._customers = customers
        self._upstreams = upstreams
        self._within = within
        self._done = done
        self._deadline = 0.0
        self._timer: Any = None

    def begin(self) -> None:
        """Begins; ``done`` may be called before this returns."""
        self._door.stop()
        self._relay.stop_accepting()
        self._deadline = self._reactor.seconds() + self._within
        self._customers.unbind_all()
        self._await_customers()

    def stop(self) -> None:
        """Ends the wait; ``done`` is not called."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look_again(self, step: Callable[[], None]) -> None:
        def again() -> None:
            self._timer = None
            step()

        self._timer = self._reactor.callLater(STEP, again)

    def _await_customers(self) -> None:
        """Customers have three quarters of the time for their answers; carriers are sent messages until then."""
        if self._customers.links and self._reactor.seconds() < self._deadline - self._within / 4:
            self._look_again(self._await_customers)
            return
        self._relay.stop_sending()
        self._customers.unbind_all(at_once=True)
        self._await_carriers()

    def _await_carriers(self) -> None:
        """Waits until carriers have answered what was sent, and until all that is known is stored."""
        now = self._reactor.seconds()
        if (self._upstreams.waiting() or self._store.busy or self._customers.links) and now < self._deadline:
            self._look_again(self._await_carriers)
            return
        if self._upstreams.waiting():
            log.warning("drain time is over", extra={"fields": {"unanswered": self._upstreams.waiting()}})
        self._upstreams.stop(at_once=True)
        self._deadline = min(self._deadline, now + _UNBIND) if self._deadline > now else now + _LATE
        self._await_unbound()

    def _await_unbound(self) -> None:
        if (self._upstreams.connected() or self._store.busy) and self._reactor.seconds() < self._deadline:
            self._look_again(self._await_unbound)
            return
        self._done()
