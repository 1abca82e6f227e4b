"""SIGHUP: reads the configuration again, uses all of it or nothing, and logs what changed. Sessions stay, but for those that
could not bind any more (`net.standing`). What a reload would do is found out in the same way, by the same functions, and then
not done (`daemon.plan`)."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from smppd import config
from smppd.config import Changes, ConfigError, Settings
from smppd.daemon.audit_log import Audit
from smppd.daemon.feeding import Feeding
from smppd.daemon.file_watch import FileWatch
from smppd.daemon.keys_ahead import KeysAhead
from smppd.daemon.logs import configure, try_file
from smppd.daemon.screens import Screens
from smppd.daemon.shipper import Shipper, tls_context
from smppd.daemon.spans import Spans
from smppd.daemon.systemd import Notifier
from smppd.daemon.worker import Worker
from smppd.events import AuditEvent
from smppd.lists.lists import Lists
from smppd.lists.named import NamedList
from smppd.metrics import Metrics
from smppd.net.customers import Customers
from smppd.net.door import Door
from smppd.net.tls import TlsError
from smppd.net.upstreams import Contexts, Upstreams, contexts
from smppd.policy.pipeline import Pipeline, PolicyError, pipelines
from smppd.policy.screens import Screen
from smppd.relay.relay import Relay, Routing
from smppd.spans.job import Job, TracingError, job_of
from smppd.store.api import StoreError
from smppd.store.installation import Installation
from smppd.store.opening import installation
from smppd.vault.keys import Kek, KeyRing, VaultError, load_install, load_kek

log = logging.getLogger("smppd.daemon")
FAULTS: Final = 100
"""Faults of a refused reload that are remembered; the log has all."""


class LastReload(NamedTuple):
    """How the last reload ended that was asked for: ``at`` in epoch seconds; ``result``: `done` or `refused`; ``faults``: the
    first ones."""

    at: float
    result: str
    faults: tuple[str, ...] = ()


class ReloadTargets(NamedTuple):
    """The parts that get a new configuration, and those that are told of a reload."""

    relay: Relay
    ring: KeyRing
    keys_ahead: KeysAhead
    door: Door
    customers: Customers
    upstreams: Upstreams
    metrics: Metrics
    audit: Audit
    notifier: Notifier
    shipper: Shipper
    feeding: Feeding
    spans: Spans
    screens: Screens
    lists: Lists
    files: FileWatch


class Reload:
    """See the module. ``settings``: those in force. A configuration is read beside the reactor, since a thousand accounts
    take a quarter of a second."""

    def __init__(
        self,
        settings: Settings,
        targets: ReloadTargets,
        worker: Worker,
        count: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``count(where)`` counts an error that was caught at an edge: a bug. ``wall``: epoch seconds."""
        self.settings = settings
        self.last: LastReload | None = None
        """None before the first one."""
        self.loaded = wall()
        """When the settings in force were taken, in epoch seconds."""
        self._targets = targets
        self._worker = worker
        self._count = count
        self._wall = wall
        self._reading = self._again = self._over = False
        self._one_reads = threading.Lock()
        self._show()

    def picture(self) -> dict[str, object]:
        """For `/status`."""
        last = self.last
        return {
            "path": str(self.settings.path),
            "hash": self.settings.digest,
            "loaded": round(self.loaded, 3),
            "last_reload": None if last is None else {**last._asdict(), "at": round(last.at, 3)},
        }

    def _show(self) -> None:
        """Sets the metrics about the configuration in force."""
        metrics = self._targets.metrics
        metrics.reload_good.set(1)
        metrics.reload_at.set(self.loaded)
        metrics.config.clear()
        metrics.config.labels(self.settings.digest).set(1)

    def ask(self) -> None:
        """Reads the configuration and uses it. If this is called while the configuration is being read, it is read once
        more."""
        if self._over:
            return
        if self._reading:
            self._again = True
            return
        self._reading = True
        self._targets.notifier.reloading()
        self._worker.run("reload", self.read, self._was_read)

    def stop(self) -> None:
        """The daemon is about to end: nothing changes any more."""
        self._over = True

    def read(self) -> Fresh:
        """Reads the configuration and makes of it all that a reload uses; changes nothing that is in use. Any thread. Raises
        what ``REFUSALS`` names."""
        # A reload and a plan read one after the other: what is known of an account's traffic is made once, by the first.
        with self._one_reads:
            return self._read()

    def _read(self) -> Fresh:
        before = self.settings
        new = config.load(before.path)
        changes = config.changes(before, new)
        if changes.refusals:
            raise NeedsRestart(changes, new)
        if new.log != before.log:
            try_file(new.log)
        kek = load_kek(new.keys)
        wrapped = opened_by(kek, installation(new))
        lists = self._targets.lists.of(new)
        return Fresh(
            before,
            new,
            changes.changes,
            pipelines(new, lists),
            Routing.of(new),
            contexts(new.upstreams),
            kek,
            wrapped,
            tls_context(new.shipping),
            job_of(new),
            self._targets.screens.of(new, lists),
            lists,
        )

    def _was_read(self, fresh: Fresh | None, error: Exception | None) -> None:
        self._reading = False
        if self._over:
            return
        try:
            if fresh is None:
                raise error or AssertionError("nothing was read")
            if fresh.settings.log != self.settings.log:
                # A certificate that cannot be used refuses the log's settings too.
                self._targets.door.try_listeners(fresh.settings)
                configure(fresh.settings.log, count=self._count)
            self._targets.door.reload_listeners(fresh.settings)
        except REFUSALS as refusal:
            self._refused(faults_of(refusal))
        except Exception as bug:  # the daemon's edge: after any error nothing has changed
            self._count("reload")
            log.exception("error in a reload")
            self._refused([type(bug).__name__])
        else:
            self._use(fresh)
        if self._again:
            self._again = False
            self.ask()

    def _use(self, fresh: Fresh) -> None:
        """Uses a configuration. All of it was tried before: nothing fails from here on."""
        targets = self._targets
        new = self.settings = fresh.settings
        self.loaded = self._wall()
        self.last = LastReload(self.loaded, "done")
        self._show()
        targets.ring.use(fresh.kek, fresh.wrapped)
        targets.lists.use(new, fresh.lists)
        targets.screens.use(fresh.screens)
        targets.relay.take_configuration(new, fresh.routing, fresh.pipelines, fresh.screens)
        targets.door.use(new)
        targets.customers.reload(new.limits)
        targets.keys_ahead.use(new.accounts)
        targets.upstreams.use(new.upstreams, new.limits, fresh.tls)
        targets.shipper.use(new.shipping, fresh.shipping)
        targets.feeding.use(new)
        targets.spans.use(fresh.spans)
        targets.files.use(new)
        targets.relay.flush()
        for change in fresh.changes:
            log.info("changed", extra={"fields": {"change": change}})
        log.info("reloaded", extra={"fields": {"changes": len(fresh.changes)}})
        targets.metrics.reloads.labels("done").inc()
        targets.audit(AuditEvent.RELOAD, {"changes": "; ".join(fresh.changes)[:2000]})
        targets.notifier.ready("reloaded")

    def _refused(self, faults: list[str]) -> None:
        for fault in faults:
            log.error("reload refused", extra={"fields": {"fault": fault}})
        self.last = LastReload(self._wall(), "refused", tuple(faults[:FAULTS]))
        self._targets.metrics.reload_good.set(0)
        self._targets.metrics.reloads.labels("refused").inc()
        self._targets.audit(AuditEvent.RELOAD, {"faults": str(len(faults))}, "refused")
        self._targets.notifier.ready("reload refused, nothing changed")


def opened_by(kek: Kek, store: Installation) -> dict[bytes, bytes]:
    """The wrapped keys of a store as they are now. VaultError where it is not this KEK that opens them: what it wrapped
    from here on could never be opened again."""
    rows = store.read_only_keys()
    try:
        load_install(kek, rows)
        return dict(rows.scan(b""))
    finally:
        rows.close()


def faults_of(refusal: Exception) -> list[str]:
    """The sentences of one of ``REFUSALS``."""
    return [str(fault) for fault in refusal.faults] if isinstance(refusal, ConfigError) else [str(refusal)]


class Fresh(NamedTuple):
    """A configuration that was read again, and what was made of it. ``before``: the one that it was compared with."""

    before: Settings
    settings: Settings
    changes: list[str]
    pipelines: dict[str, Pipeline | None]
    routing: Routing
    tls: Contexts
    kek: Kek
    wrapped: dict[bytes, bytes]
    shipping: ssl.SSLContext | None
    spans: Job | None
    screens: dict[str, tuple[Screen, ...]]
    lists: Mapping[str, NamedList]


class NeedsRestart(Exception):
    """The configuration cannot be used without a restart. ``settings``: it; ``changes``: what would change, refusals too."""

    def __init__(self, changes: Changes, settings: Settings) -> None:
        super().__init__("; ".join(changes.refusals))
        self.changes = changes
        self.settings = settings


REFUSALS: Final = (ConfigError, PolicyError, TlsError, VaultError, StoreError, OSError, NeedsRestart, TracingError)
"""Why a reload is refused."""
