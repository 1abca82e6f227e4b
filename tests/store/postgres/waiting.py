"""Lets a store go on until something is so."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from tests.store.stands import PostgresStand


def until(stand: PostgresStand, true: Callable[[], bool]) -> None:
    """Lets the store go on, as the daemon's timers do, until something is so."""
    limit = monotonic() + 30
    while not true():
        assert monotonic() < limit
        stand.store.watch()
        stand.hears_within(0.02)


def settles(stand: PostgresStand) -> None:
    """All that waits is stored."""
    stand.store.kick()
    stand.turns()
    until(stand, lambda: not stand.store.busy and stand.store.takes)
