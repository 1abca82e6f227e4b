"""The thread that looks at the files of lists and rules (`lists.watcher`): when, and what the log and the metrics say of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from smppd.config import Settings
from smppd.config.includes import changed
from smppd.lists.compiling import Compilation
from smppd.lists.lists import Lists
from smppd.lists.watcher import Watcher
from smppd.metrics import Metrics

log = logging.getLogger("smppd.lists")
PATIENCE: Final = 10.0
"""Seconds that a start waits for lists that were never compiled; longer ones are compiled while it serves."""
_BUSY: Final = 0.1
_QUIET: Final = 60.0
_LINES: Final[Mapping[str, tuple[int, str]]] = {
    "compiled": (logging.INFO, "a list was compiled"),
    "in force": (logging.INFO, "a list is in force"),
    "refused": (logging.ERROR, "a list's file is not taken, the one before stays"),
    "failed": (logging.ERROR, "a list was not compiled, the one before stays"),
    "not believed": (logging.ERROR, "a compiled list is not believed"),
    "missing": (logging.ERROR, "a list's file is missing, what was compiled of it stays"),
    "changed": (logging.INFO, "a file of rules changed: reloading"),
}


class FileWatch:
    """See the module. ``reload``: asks for a reload, on the reactor thread. ``notify(function)`` runs a function there."""

    def __init__(
        self,
        lists: Lists,
        settings: Settings,
        metrics: Metrics,
        notify: Callable[[Callable[[], None]], object],
        reload: Callable[[], object],
    ) -> None:
        self._metrics = metrics
        self._settings = settings
        self._named: frozenset[str] = frozenset()
        self._quiet_until = 0.0
        self._over = threading.Event()
        self._wake = threading.Event()
        self._settled = threading.Event()
        reserve = settings.store.reserve
        self._watcher = Watcher(
            lists,
            lambda spec: Compilation(spec, lists.directory, lists.key, reserve),
            notify,
            reload,
            self._tell,
        )
        self._watcher.use(settings)
        self._thread = threading.Thread(target=self._run, name="file watch", daemon=True)
        self._thread.start()

    def use(self, settings: Settings) -> None:
        """After a reload: these settings, and the lists that are in force."""
        self._settings = settings
        self._watcher.use(settings)
        self._wake.set()

    def settle(self) -> None:
        """Waits for lists that were never compiled, for `PATIENCE` at the most: for the start, before anybody is served."""
        if self._settings.lists:
            self._settled.wait(PATIENCE)

    def stop(self) -> None:
        """Ends the thread, and what it has begun to compile."""
        self._over.set()
        self._wake.set()
        self._thread.join(2 * PATIENCE)

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.clear()
            try:
                self._watcher.look(time.monotonic(), time.time())
                self._gauge()
            except Exception as error:  # noqa: BLE001  the thread's edge: it goes on, and the next look may be better
                self._failed(type(error).__name__)
            if not self._watcher.busy and not self._watcher.waiting:
                self._settled.set()
            self._wake.wait(_BUSY if self._watcher.busy else self._settings.watch_files)
        self._watcher.stop()

    def _gauge(self) -> None:
        metrics = self._metrics
        settings = self._settings
        # They are used at a reload that somebody asks for, who may want to see a plan of it first.
        if settings.files:
            metrics.config_files_changed.set(changed(settings.path, settings.include, settings.files))
        states = self._watcher.states()
        for name, state in states.items():
            metrics.list_entries.labels(name).set(state.entries)
            metrics.list_compiled.labels(name).set(state.compiled)
            metrics.list_absent.labels(name).set(state.absent)
            metrics.list_stale.labels(name).set(state.stale)
        metrics.forget_lists(self._named - states.keys())
        self._named = frozenset(states)

    def _tell(self, what: str, name: str, fields: Mapping[str, object]) -> None:
        level, line = _LINES[what]
        if what in ("compiled", "refused", "failed"):
            self._metrics.list_compilations.labels(name, what).inc()
        log.log(level, line, extra={"fields": {("file" if what == "changed" else "list"): name, **fields}})

    def _failed(self, reason: str) -> None:
        self._metrics.chores_failed.labels("file watch").inc()
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET
            log.error("work in the background failed", extra={"fields": {"what": "file watch", "reason": reason}})
