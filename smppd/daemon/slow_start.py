"""A store whose start may take long: it takes what is over out of its spool first, reads a long journal and a long register,
and meanwhile tells the service manager that it is still at work."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from smppd.daemon.systemd import Notifier
from smppd.relay.ledger.journal import LivingEntries
from smppd.relay.recovery import readable
from smppd.store.api import OptOut
from smppd.store.sqlite.store import SqliteStore

log = logging.getLogger("smppd.daemon")
T = TypeVar("T")
LONGER: Final = 60.0
"""Seconds more that the service manager is asked for at a time."""


class SlowStartStore(SqliteStore):
    """See the module."""

    def __init__(self, *arguments: Any, notifier: Notifier, **more: Any) -> None:
        """As ``SqliteStore``. ``notifier``: the service manager."""
        super().__init__(*arguments, **more)
        self._notifier = notifier

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``SqliteStore``. When this returns, what is over is gone, also from what is counted afterwards."""
        self._notifier.extend(LONGER)
        tidied = self.compact(LivingEntries(readable))
        log.debug("spool tidied", extra={"fields": tidied._asdict()})
        return self._blocks()

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        return self._telling(super().replay())

    def opt_outs(self) -> Iterator[OptOut]:
        """See ``SqliteStore``."""
        return self._telling(super().opt_outs())

    def _telling(self, items: Iterator[T]) -> Iterator[T]:
        """The same items; the service manager hears that they are read."""
        told = 0.0
        for item in items:
            if time.monotonic() - told > LONGER / 4:
                told = time.monotonic()
                self._notifier.extend(LONGER)
            yield item
