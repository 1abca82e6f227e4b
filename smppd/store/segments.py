"""The spool's segments: when a new one begins, when an old one may go, and who has to leave it.

A segment is what is sealed under one key. Entries of a thing may stand in later segments than the one that opens it, so
segments go oldest first, with their keys. What lives too long in an old one is asked to move (`store.api.Tenant`), so the
spool, its replay and the number of keys stay bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smppd.store.api import Spool, Tenant

ENTRIES: Final = 50_000
"""Things that are opened in a segment before the next begins."""
SECONDS: Final = 120.0
"""Seconds after which the next begins at the latest."""
MOST: Final = 6
"""Segments that what lives may stay in."""
# What moves in one step: things, and octets.
_STEP: Final = 1000
_STEP_OCTETS: Final = 8 << 20


class Segments:
    """See the module. ``store`` is whose batches the changes go into. ``rotate`` begins a segment and returns its number.
    ``destroy(then)`` destroys the keys that nothing needs any more, and calls then(complete)."""

    def __init__(
        self,
        store: Spool,
        tenant: Tenant,
        rotate: Callable[[], int],
        destroy: Callable[[Callable[[bool], None]], None],
        now: float,
    ) -> None:
        self.seconds = SECONDS
        self.most = MOST
        self._store = store
        self._tenant = tenant
        self._rotate = rotate
        self._destroy = destroy
        self._current = 0
        self._began = now
        self._before = 0
        self._waiting: list[Callable[[bool], None]] = []

    def opened(self, segment: int) -> None:
        """The store has begun a segment."""
        self._current = segment
        self._tenant.begin(segment)

    def tick(self, now: float) -> None:
        """Call about ten times a second. On a full disk all that is written anew would wait in memory, once more with each
        turn, for as long as that lasts, so nothing moves then."""
        tenant, store = self._tenant, self._store
        moves = store.takes
        if moves:
            # Also when all in it is over: nobody else would ever take it out.
            old = now - self._began > self.seconds and (
                tenant.opened() or any(tenant.alive_in(place) for place in tenant.places())
            )
            if old or tenant.opened() >= ENTRIES:
                self._begin(now)
            if self._before:
                self._clear()
        dead = self._dead()
        if dead:
            store.batch.segments.extend(dead)
            store.kick()
        places = tenant.places()
        if moves and len(places) > self.most and places[0] != self._current:
            tenant.renew(places[0], _STEP, _STEP_OCTETS, rows=True)
            if store.batch:
                store.kick()

    def tidy(self, now: float, then: Callable[[bool], None]) -> None:
        """Takes what is over out of the spool, whatever else waits: what lives is written into a new segment, others go and so
        do their keys. ``then(complete)``: nothing that was over can be opened any more; False: there was no space for it."""
        self._waiting.append(then)
        self._begin(now)
        self._before = self._current

    def _begin(self, now: float) -> None:
        self.opened(self._rotate())
        self._began = now

    def _dead(self) -> list[int]:
        """Oldest segments with nothing alive in them; their rows and keys may go."""
        gone = []
        for place in self._tenant.places():
            if place == self._current or self._tenant.alive_in(place):
                break
            self._tenant.leave(place)
            gone.append(place)
        return gone

    def _clear(self) -> None:
        """Has some of what lives in earlier segments written into the current one."""
        things, octets = _STEP, _STEP_OCTETS
        for place in self._tenant.places():
            if place >= self._before:
                break
            done = self._tenant.renew(place, things, octets, rows=False)
            things -= done.things
            octets -= done.octets
            if not done.complete or things <= 0 or octets <= 0:
                return
        self._before = 0
        told, self._waiting = self._waiting, []

        def over(complete: bool) -> None:
            for then in told:
                then(complete)

        # With the batch that drops these segments, or behind it.
        self._store.batch.then.append(lambda: self._destroy(over))
        self._store.kick()
