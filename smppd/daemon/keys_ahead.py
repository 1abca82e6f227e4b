"""Makes the accounts' keys of now and of soon, so that no message waits for one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from smppd.config import Account
from smppd.vault.keys import KeyRing, Part

EVERY: Final = 900.0
"""Seconds between two looks."""
_AHEAD: Final = 60
"""Seconds for which keys are there beyond the next look."""
_SOME: Final = 20


class KeysAhead:
    """See the module. ``prepare`` is called at the start. Then ``check_due`` about once a second, and ``make_some`` as long
    as ``behind`` is true."""

    def __init__(
        self,
        ring: KeyRing,
        accounts: Iterable[Account],
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``wall``: epoch seconds; ``now``: monotonic ones."""
        self._ring = ring
        self._accounts = tuple(accounts)
        self._left: list[Account] = []
        self._wall = wall
        self._now = now
        self._looked = now()

    def use(self, accounts: Iterable[Account]) -> None:
        """Takes the accounts of a configuration that was read anew; their keys are made with the next ticks."""
        self._accounts = tuple(accounts)
        self._left = list(self._accounts)

    def prepare(self) -> None:
        """Makes the keys of all accounts."""
        self._left = list(self._accounts)
        while self._left:
            self.make_some()

    def check_due(self, now: float) -> None:
        """To be called about once a second: notes whether it is time to make keys. now: monotonic seconds."""
        if now - self._looked > EVERY:
            self._left = list(self._accounts)

    @property
    def behind(self) -> bool:
        """Whether ``make_some`` has something to do."""
        return bool(self._left)

    def make_some(self) -> None:
        """Makes the keys of a few accounts. New keys take 70 us for each, and there may be a thousand accounts."""
        now = int(self._wall())
        for _ in range(min(_SOME, len(self._left))):
            one = self._left.pop()
            for when in (now, now + int(EVERY) + _AHEAD):
                self._ring.prepare(one.system_id, Part.NUMBERS, when, one.kept.numbers)
                if one.content != "hide":
                    self._ring.prepare(one.system_id, Part.BODY, when, one.kept.new_body)
        self._looked = self._now()
