"""How much a step along the log takes on: as much as others can wait for, however large rows are and slow the disk is."""

from __future__ import annotations

from typing import Final

LOCKED: Final = 0.008
"""Seconds for which a step may keep the daemon from writing. Who waits longer than that for SQLite's lock sleeps 10 ms and more
at a time."""
WORK: Final = 0.1
"""Seconds of the processor's time for a step."""
OCTETS: Final = 4 << 20
"""Of rows that are in memory at a time."""
LEAST: Final = 8
MOST: Final = 512


class Pace:
    """The number of rows for the next step, by what the steps before took. One for each thread and kind of work."""

    def __init__(self) -> None:
        self.rows = LEAST

    def took(self, locked: float, work: float, *, full: bool) -> None:
        """What the step took: seconds for which nobody else could write, seconds of the processor. full: it had as many rows
        as it was to have; else it says nothing about more."""
        load = max(locked / LOCKED, work / WORK)
        if load > 1:
            self.rows = max(LEAST, int(self.rows / min(load, 4)))
        elif full and load < 0.5:
            self.rows = min(MOST, 2 * self.rows)
