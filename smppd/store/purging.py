"""The daemon's thread that purges: see ``purge``."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from smppd.store.files import StoreError
from smppd.store.purge import Purger
from smppd.vault.keys import VaultError

_REST: Final = 0.02
_DUTY: Final = 3.0
_IDLE: Final = 10.0
_FAILED: Final = 60.0


class PurgeThread(threading.Thread):
    """Runs a `Purger` in the daemon until told to stop: a look an hour, and short steps while something is due."""

    def __init__(
        self,
        make: Callable[[], Purger],
        stop: threading.Event,
        clock: Callable[[], float],
        failed: Callable[[str], object],
    ) -> None:
        """make: builds the purger, in this thread. stop: set it, then join. clock: epoch seconds. failed(reason): called in
        this thread when something is wrong; it goes on after a minute."""
        super().__init__(name="purge", daemon=True)
        self._make = make
        self._stop_event = stop
        self._clock = clock
        self._failed = failed

    def run(self) -> None:
        """The thread's loop."""
        purger: Purger | None = None
        while not self._stop_event.is_set():
            began = monotonic()
            try:
                if purger is None:
                    purger = self._make()
                more = purger.step(self._clock())
                pause = max(_REST, _DUTY * (monotonic() - began)) if more else _IDLE
            except (sqlite3.Error, StoreError, VaultError) as error:
                self._failed(f"{type(error).__name__}: {error}")
                pause = _FAILED
            except Exception as error:  # noqa: BLE001  the thread's edge: retention goes on with the next try
                self._failed(type(error).__name__)  # its words may quote what was stored
                pause = _FAILED
            self._stop_event.wait(pause)
        if purger is not None:
            purger.close()
