"""A start that may take long: the store takes what is over out of its spool first, reads a long journal and a long register,
and meanwhile the service manager is told that it is still at work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from smppd.daemon.systemd import Notifier
from smppd.relay.ledger.journal import LivingEntries
from smppd.relay.recovery import readable
from smppd.store.installation import LongStart

LONGER: Final = 60.0
"""Seconds more that the service manager is asked for at a time."""


def slow_start(notifier: Notifier, now: Callable[[], float] = time.monotonic) -> LongStart:
    """What a store is given for its start. now: monotonic seconds."""
    asked: list[float] = []

    def still() -> None:
        at = now()
        if not asked or at - asked[-1] > LONGER / 4:
            asked[:] = [at]
            notifier.extend(LONGER)

    return LongStart(lambda: LivingEntries(readable), still)
