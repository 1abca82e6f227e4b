"""A store whose start tells the service manager that it goes on: a long journal takes its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from smppd.daemon.systemd import Notifier
from smppd.store.sqlite.store import SqliteStore

LONGER: Final = 60.0
"""Seconds of patience that are asked for at a time."""


class PatientStore(SqliteStore):
    """See the module. ``notifier`` is set before the replay."""

    notifier: Notifier

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``SqliteStore``."""
        told = 0.0
        for block in super().replay():
            if time.monotonic() - told > LONGER / 4:
                told = time.monotonic()
                self.notifier.extend(LONGER)
            yield block
