"""The daemon's work beside the data path, each kind in a thread of its own: it indexes the log, purges records whose
retention is over, and asks for the spool to be tidied."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from smppd.audit.trail import Actor, AuditTrail
from smppd.config import Retain
from smppd.config.tracing import TRACE_RETAIN
from smppd.daemon.consents import expiry
from smppd.daemon.traces import each, trace_expiry
from smppd.ids import id_time
from smppd.metrics import Metrics
from smppd.records.erasure import Eraser, Floor, no_floor
from smppd.records.erasure_journal import NAME, ErasureJournal
from smppd.records.holds import Holds
from smppd.records.indexer import IndexerThread
from smppd.records.keeping import Keeper
from smppd.records.retention import Purger, PurgeThread
from smppd.store.installation import AUDIT_FILE, Installation
from smppd.vault.chain import ChainKeys
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import InstallSecrets, KeyRing

log = logging.getLogger("smppd.background")
_QUIET: Final = 60.0


class Background:
    """See the module. ``notify(function)`` runs a function on the reactor thread. ``busy()``: whether the store has much to
    do. ``tidy(token)`` is called on the reactor thread when the spool is to be tidied; the token is that of a command that
    asked for it (`Installation.ask_tidy`), or 0."""

    def __init__(
        self,
        store: Installation,
        ring: KeyRing,
        install: InstallSecrets,
        retains: Callable[[], Mapping[str, Retain]],
        metrics: Metrics,
        notify: Callable[[Callable[[], None]], object],
        busy: Callable[[], bool],
        tidy: Callable[[int], None],
        *,
        floor: Floor = no_floor,
        region: Callable[[str], str | None] = lambda _account: None,
        way: Callable[[int, Sequence[int]], bool] = lambda _number, _records: True,
        trace_retain: Callable[[], float] = lambda: TRACE_RETAIN,
        ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """ours(): whether this node does what one of all does, which is to index and to purge; asked in their threads.
        floor, region, way: see `records.erasure.Eraser`; trace_retain(): seconds for which traces are kept; asked in the
        purge's thread."""
        self._metrics = metrics
        self._stop = threading.Event()
        self._quiet: dict[str, float] = {}  # until when the log says nothing more of a thread
        self._trail: AuditTrail | None = None
        """The purge's own. While one is open SQLite keeps the write-ahead log, and audit.db copied alone would lack its end."""

        def purger() -> Purger:
            trail = self._trail = AuditTrail(store.directory / AUDIT_FILE, install.audit)
            keys = ChainKeys(install.audit, install.checkpoint)
            with ExitStack() as undo:
                log_rows = store.purge()
                undo.callback(log_rows.close)
                documents = store.documents()
                undo.callback(documents.close)
                held = store.held()
                undo.callback(held.close)
                records = store.records()
                undo.callback(records.close)
                holds = Holds(documents, held, ring, DocumentSealer(install))
                erased = store.erasures()
                undo.callback(erased.close)
                journal = ErasureJournal(store.directory / NAME, install.checkpoint)
                eraser = Eraser(
                    erased,
                    store.directory,
                    install,
                    ring,
                    trail=trail,
                    journal=journal,
                    holds=holds,
                    floor=floor,
                    region=region,
                    way=way,
                )
                made = Purger(
                    log_rows,
                    retains,
                    id_time,
                    trail=trail,
                    chain_keys=keys,
                    dropped=ring.drop,
                    keeper=Keeper(holds, records, trail=trail),
                    erasing=eraser,
                    also=each(
                        expiry(store, trail, Actor("smppd", "")),
                        trace_expiry(store, ring, install, trail, Actor("smppd", ""), trace_retain),
                    ),
                )
                undo.pop_all()
            return made

        self._threads: list[threading.Thread] = [
            IndexerThread(
                store.index,
                id_time,
                self._stop,
                lambda reason: self._failed("indexer", reason),
                busy=busy,
                ours=ours,
            ),
            store.tidy_thread(
                self._stop,
                lambda token: notify(lambda: tidy(token)),
                lambda reason: self._failed("tidy", reason),
            ),
            PurgeThread(purger, self._stop, time.time, lambda reason: self._failed("purge", reason), ours),
        ]
        for thread in self._threads:
            thread.start()

    def _failed(self, what: str, reason: str) -> None:
        """One of the threads had an error, and goes on. It is counted by the thread's name, and logged once a minute."""
        self._metrics.chores_failed.labels(what).inc()
        now = time.monotonic()
        if now >= self._quiet.get(what, 0.0):
            self._quiet[what] = now + _QUIET
            log.error("work in the background failed", extra={"fields": {"what": what, "reason": reason}})

    def stop(self) -> None:
        """Ends all threads; each within a step of its work."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10.0)
        if self._trail is not None:
            self._trail.close()
