"""How often somebody may try to log in: by name, and all names together.

A try is counted before it is looked at, with a compare and swap, and taken back when it was right. So processes that try side
by side find each other's tries, and killing one gains nothing.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from smppd.operators.desk import Desk, Paper

KIND: Final = "attempts"
FREE: Final = 5
"""Failures of one name after which it has to wait."""
FREE_ALL: Final = 20
"""The same of all names together."""
FIRST_DELAY: Final = 30.0
LONGEST_DELAY: Final = 900.0
"""Seconds; the delay doubles with each failure. Of all names together it is a minute at most, so that nobody can keep everybody
out by failing."""
LONGEST_DELAY_ALL: Final = 60.0
FORGET: Final = 86400.0
"""Seconds after the last failure of a name, after which they are forgotten; of all names an hour."""
FORGET_ALL: Final = 3600.0
TOLD_EVERY: Final = 60.0
"""Tries that were not looked at are on the audit trail together, once in so many seconds."""

_ALL: Final = "all"
_CAS: Final = 200


class Tries(NamedTuple):
    """What is known of a name. until: nothing is looked at before (epoch seconds). told, untold: when the audit trail was told,
    and how many tries it was not told of."""

    failures: int = 0
    last: float = 0.0
    until: float = 0.0
    told: float = 0.0
    untold: int = 0


class Attempts:
    """The tries of a store. Raises StoreError and SealError."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def take(self, name: str, now: float) -> bool:
        """Counts a try as a failure. False: it has to wait and must not be looked at. now: epoch seconds."""
        own = self._own(name)
        if now < self._read(own, now)[0].until or not self._count(_ALL, now):
            return False
        if self._count(own, now):
            return True
        self._give_back(now)
        return False

    def right(self, name: str, now: float) -> int:
        """The try was right: the name's failures are forgotten. How many tries the audit trail was not told of."""
        own = self._own(name)
        tries, _ = self._read(own, now)
        self._desk.remove(KIND, own)
        self._give_back(now)
        return tries.untold

    def wrong(self, name: str, now: float, looked_at: bool) -> int:
        """The try was wrong, or was not looked at. How many the audit trail is to be told of now; 0: later."""
        own = self._own(name)
        for _ in range(_CAS):
            tries, paper = self._read(own, now)
            if paper is None:  # of a name that is not remembered: all names have to wait
                own = _ALL
                continue
            count = tries.untold + 1
            due = looked_at or not tries.told <= now < tries.told + TOLD_EVERY
            after = tries._replace(told=now, untold=0) if due else tries._replace(untold=count)
            if self._write(own, paper, after):
                return count if due else 0
        return 1

    def _own(self, name: str) -> str:
        return self._desk.hash("name", name)

    def _count(self, of: str, now: float) -> bool:
        free, longest = (FREE_ALL, LONGEST_DELAY_ALL) if of == _ALL else (FREE, LONGEST_DELAY)
        for _ in range(_CAS):
            tries, paper = self._read(of, now)
            if now < tries.until:
                return False
            failures = tries.failures + 1
            delay = min(FIRST_DELAY * 2.0 ** min(failures - free, 30), longest) if failures >= free else 0.0
            after = tries._replace(failures=failures, last=now, until=now + delay)
            if self._write(of, paper, after):
                return True
        return False

    def _give_back(self, now: float) -> None:
        for _ in range(_CAS):
            tries, paper = self._read(_ALL, now)
            if paper is None or not tries.failures:
                return
            # It was looked at, so the wait before it was over; and while all have to wait, one at a time is looked at.
            if self._write(_ALL, paper, tries._replace(failures=tries.failures - 1, until=0.0)):
                return

    def _read(self, of: str, now: float) -> tuple[Tries, Paper | None]:
        paper = self._desk.get(KIND, of)
        if paper is None:
            return Tries(), None
        tries = Tries(*paper.value)
        if tries.last > now:
            # The clock was set back: what was left to wait is waited for from now on.
            tries = tries._replace(last=now, until=now + max(0.0, tries.until - tries.last))
            self._write(of, paper, tries)
            paper = self._desk.get(KIND, of)
        elif now >= tries.last + (FORGET_ALL if of == _ALL else FORGET):
            tries = Tries(told=tries.told, untold=tries.untold)
        return tries, paper

    def _write(self, of: str, before: Paper | None, tries: Tries) -> bool:
        value: list[Any] = list(tries)
        until = max(tries.last, tries.told) + FORGET
        if before is None:
            return self._desk.add(KIND, of, value, until)
        return self._desk.replace(KIND, before, value, until)
