"""A store whose start takes what is over out of its spool first, and tells the service manager that it goes on: a long journal
takes its time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, Final

from smppd.daemon.systemd import Notifier
from smppd.relay.ledger.journal import LivingEntries
from smppd.relay.recovery import readable
from smppd.store.sqlite.store import SqliteStore

log = logging.getLogger("smppd.daemon")
LONGER: Final = 60.0
"""Seconds of patience that are asked for at a time."""


class PatientStore(SqliteStore):
    """See the module."""

    def __init__(self, *arguments: Any, notifier: Notifier, **more: Any) -> None:
        """As ``SqliteStore``, and whom to tell."""
        super().__init__(*arguments, **more)
        self._notifier = notifier

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``SqliteStore``. What is over is gone when this returns, also from what is counted afterwards."""
        self._notifier.extend(LONGER)
        tidied = self.compact(LivingEntries(readable))
        log.debug("spool tidied", extra={"fields": tidied._asdict()})
        return self._blocks()

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        told = 0.0
        for block in super().replay():
            if time.monotonic() - told > LONGER / 4:
                told = time.monotonic()
                self._notifier.extend(LONGER)
            yield block
