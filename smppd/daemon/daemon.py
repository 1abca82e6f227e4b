"""The one place where things are wired together, and where they are started, reloaded, drained and stopped."""

from __future__ import annotations

import gc
import logging
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from random import Random, SystemRandom
from typing import Any, Final, NamedTuple

from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall

from smppd import __version__, config, native
from smppd.config import ConfigError, Settings
from smppd.daemon import health as state
from smppd.daemon import memory
from smppd.daemon.background import Background
from smppd.daemon.clock import ClockWatch
from smppd.daemon.control import ControlServer
from smppd.daemon.damage import Damage
from smppd.daemon.deeds import deeds
from smppd.daemon.http import Health, HttpServer
from smppd.daemon.logs import configure
from smppd.daemon.patient import LONGER, PatientStore
from smppd.daemon.soundness import Soundness
from smppd.daemon.systemd import Notifier
from smppd.daemon.tidying import on_request
from smppd.daemon.worker import Aside
from smppd.events import AuditEvent
from smppd.ids import Ids
from smppd.metrics import Metrics
from smppd.net.customers import Customers
from smppd.net.door import Door
from smppd.net.tls import TlsError
from smppd.net.upstreams import Contexts, Upstreams, contexts
from smppd.policy.pipeline import Pipeline, PolicyError, compile_policies, pipeline_for
from smppd.relay.ledger.journal import LivingEntries
from smppd.relay.recovery import readable
from smppd.relay.relay import Relay, Ways
from smppd.store.api import StoreError
from smppd.store.sqlite.files import keys_lost
from smppd.vault.kek import KekMissing, advice_for_missing
from smppd.vault.keys import Kek, KeyRing, Part, VaultError, load_install, load_kek

log = logging.getLogger("smppd.daemon")
TICK: Final = 0.1
PREPARE: Final = 900.0
_SWITCH: Final = 0.0005
# Young garbage is looked at after so many new objects (1 us each and the interpreter's lock is held: 45 ms for 50,000 of a
# reload), old garbage hardly ever: next to nothing here is cyclic, and a full collection with 100,000 messages in memory
# takes tens of milliseconds.
_GARBAGE: Final = (5_000, 1_000, 1_000)
_SOME: Final = 20


class StartError(Exception):
    """The daemon cannot start; the text is one clear sentence."""


class Daemon:
    """One running smppd. ``ended(status)`` is called when it is over, with the process's exit status."""

    def __init__(self, settings: Settings, reactor: Any, ended: Callable[[int], None]) -> None:
        self.settings = settings
        self.reactor = reactor
        self.metrics = Metrics()
        self.notifier = Notifier()
        self._ended = ended
        self._began = time.monotonic()
        self._draining = False
        self._over = False
        self._beat = time.monotonic()
        self._prepared = 0.0
        self._gave_back = self._began
        self._to_prepare: list[config.Account] = []
        self._aside = Aside(reactor.callFromThread)
        self._reloading = self._reload_again = False
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor
        self._http: HttpServer | None = None

    # -- starting ------------------------------------------------------------------------------------------------------

    def start(self, before_ready: Callable[[], None] = lambda: None) -> None:
        """Opens everything; raises ``StartError``. Listens last, when all that was on its way is read back. ``before_ready``
        is called just before anybody is told that it is ready, and may send signals from then on."""
        settings = self.settings
        try:
            with ExitStack() as undo:
                waiting = self._open(settings, undo)
                undo.pop_all()
        except CannotListenError as error:
            why = getattr(error.socketError, "strerror", None) or error.socketError
            raise StartError(f"cannot listen on {error.interface}:{error.port}: {why}") from error
        except sqlite3.Error as error:
            raise StartError(f"{settings.store.directory}: {error}") from error
        except OSError as error:
            raise StartError(f"{error.filename or settings.store.directory}: {error.strerror or error}") from error
        except (VaultError, StoreError, PolicyError, TlsError, ValueError) as error:
            raise StartError(str(error)) from error
        sys.setswitchinterval(_SWITCH)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GARBAGE)
        self._loop.start(TICK, now=False).addErrback(self._loop_failed)
        self.metrics.ready.set(1)
        self._soundness.started({"version": __version__, "waiting": str(waiting)})
        before_ready()
        for address, tls in self.door.ports:
            log.info("listening", extra={"fields": {"address": address, "tls": tls}})
        log.info("ready", extra={"fields": {"version": __version__, "compiled": native.compiled, "recovered": waiting}})
        self.notifier.ready(f"{len(self.door.ports)} listeners, {waiting} messages recovered")

    def _open(self, settings: Settings, undo: ExitStack) -> int:
        """Opens everything, ``undo`` closes it; how much is on its way."""
        try:
            kek = load_kek(settings.keys)
        except KekMissing as error:
            raise StartError(advice_for_missing(error, settings.store.directory, settings.path)) from error
        self._open_store(settings)
        undo.callback(self.store.close)
        install = load_install(kek, self.store.keys)
        self.ring = KeyRing(kek, self.store.keys)
        self.store.use(self.ring)
        self._soundness = Soundness(settings.store.directory, install, self.store, self.metrics)
        self.audit = self._soundness.audit
        undo.callback(self.audit.close)
        random = Random(SystemRandom().random())  # jitter, nothing secret
        self.relay = Relay(
            settings,
            self.store,
            self.ring,
            self.metrics,
            new_id=(ids := Ids(time.time, settings.node, self.store.highest_id())),
            wall=time.time,
            now=time.monotonic,
            # What an item raises is caught before it gets here.
            later=lambda seconds, function: self.reactor.callLater(seconds, self._do, "relay", function),
            random=random,
            broken=self.broken,
        )
        self.store.lifetime = self.relay.context.guard.lifetime
        self.clock = ClockWatch(self.metrics, ids.behind, time.time, time.monotonic)
        self._apply_policies(settings)
        self.notifier.extend(LONGER)
        tidied = self.store.compact(LivingEntries(readable))
        log.debug("spool tidied", extra={"fields": tidied._asdict()})
        waiting = self.relay.recover()
        for things in self.relay.context.journal.live.values():
            ids.skip(max(things, default=0))
        self.clock.look()
        self.relay.start(self.store.open(self.relay, ids))
        self._soundness.tell()
        self.relay.desk.open = not settings.store.read_only
        # Known before the first message, not a second later.
        self.store.watch()
        self._prepare()
        self._background = Background(
            settings.store.directory,
            kek,
            self.ring,
            install,
            lambda: {one.system_id: one.retain for one in self.settings.accounts},
            self.metrics,
            self.reactor.callFromThread,
            lambda: self.store.busy,
            on_request(self.relay, self.store),
        )
        undo.callback(self._background.stop)
        self.relay.enquiries.history = self._background.history
        self._start_edge(settings, random)
        return waiting

    def _open_store(self, settings: Settings) -> None:
        directory = settings.store.directory
        if not (directory / "keys.db").exists():
            raise StartError(
                keys_lost(directory)
                or f"{directory}: no key store here; run `smppd keys init --config {settings.path}` first"
            )
        self.store = PatientStore(
            directory,
            notify=lambda function: self.reactor.callFromThread(self._from_store, function),
            later=self.reactor.callLater,
            soon=lambda function: self.reactor.soon(lambda: self._from_store(function)),
            reserve=settings.store.reserve,
        )
        self.store.notifier = self.notifier
        self.store.on_commit_time = self._committed
        damage = Damage(self.metrics, lambda: self.relay)
        self.store.on_damage, self.store.on_start_damage = damage.row, damage.at_start

    def _from_store(self, function: Callable[[], None]) -> None:
        """What the store has to say or to do. What an item raises is caught at the item (`relay.guard`); an error here is the
        store's own, and ends the daemon: the next start has everything from the journal."""
        try:
            function()
        except Exception:  # the daemon's edge
            self.metrics.errors.labels("store").inc()
            log.exception("error after a commit")
            self.broken("an error after a commit")

    def _committed(self, seconds: float, records: int) -> None:
        self.metrics.commit.observe(seconds)
        if records:
            self.metrics.commit_records.observe(records)

    def _start_edge(self, settings: Settings, random: Random) -> None:
        limits = settings.limits
        now = time.monotonic
        self.door = Door(self.reactor, settings, self.metrics)
        self.customers = Customers(self.relay, self.door.authenticator, self.metrics, limits, now, self.audit)
        self.upstreams = Upstreams(self.reactor, self.relay, self.metrics, limits, now, random)
        self.upstreams.use(settings.upstreams, limits, contexts(settings.upstreams))
        self.door.open(settings, self.customers.handler)
        self._control = ControlServer(
            self.reactor, settings.store.directory, deeds(self.door, self.audit, self.ring), self.metrics
        )
        self._control.start()
        if settings.http is not None:
            self._http = HttpServer(
                self.reactor,
                settings.http,
                self.metrics,
                self.health,
                self.status,
                self._gauges,
                self._aside,
            )
            port = self._http.start()
            log.info("serving http", extra={"fields": {"address": f"{settings.http.host}:{port}"}})

    def _gauges(self) -> None:
        self.relay.gauges()
        self.door.gauges()

    def _apply_policies(self, settings: Settings) -> None:
        compiled = compile_policies(settings)
        for one in settings.accounts:
            account = self.relay.context.accounts[one.system_id]
            account.pipeline = pipeline_for(settings, one, compiled) if one.policies else None

    def _prepare(self) -> None:
        """Makes the keys of now and of soon, so that no message waits for one: of all accounts, at the start."""
        self._to_prepare = list(self.settings.accounts)
        while self._to_prepare:
            self._prepare_some()

    def _prepare_some(self) -> None:
        """The same for a few accounts: 70 us each when their keys are new, and a thousand of them may be."""
        now = int(time.time())
        for _ in range(min(_SOME, len(self._to_prepare))):
            one = self._to_prepare.pop()
            for when in (now, now + int(PREPARE) + 60):
                self.ring.prepare(one.system_id, Part.NUMBERS, when, one.retain.numbers)
                if one.content != "hide":
                    self.ring.prepare(one.system_id, Part.BODY, when, one.retain.body)
        self._prepared = time.monotonic()

    # -- time ----------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic()
        self._do("relay", lambda: self.relay.tick(now))
        self._do("customers", lambda: self.customers.tick(now))
        if now - self._beat >= 1.0:
            self._beat = now
            self._do("upstreams", lambda: self.upstreams.tick(now))
            self._do("clock", self.clock.look)
            self._do("flush", self.relay.context.flush)
            self._do("checkpoints", lambda: self._soundness.tick(now))
            self._do("watchdog", lambda: self.notifier.watchdog(self.health().alive))
            if now - self._gave_back >= memory.EVERY:
                self._gave_back = now
                self._do("memory", memory.give_back)
            if now - self._prepared > PREPARE:
                self._to_prepare = list(self.settings.accounts)
        if self._to_prepare:
            self._do("keys", self._prepare_some)

    def _do(self, name: str, chore: Callable[[], object]) -> None:
        try:
            self.relay.context.guard.chore(name, chore)
        except Exception as error:  # noqa: BLE001  the daemon's edge: nothing may be acknowledged after a fault of the store
            self.broken(type(error).__name__)

    def _loop_failed(self, failure: Any) -> None:
        log.critical("housekeeping ended", extra={"fields": {"error": failure.type.__name__}})
        self.broken("housekeeping ended")

    # -- state ---------------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        """For /healthz and /readyz."""
        ends = {"draining": self._draining, "over": self._over}
        return state.health(self.settings, self.relay, self.store, self.door.listeners, clock=self.clock.check, **ends)

    def status(self) -> dict[str, object]:
        """For `smppd status`."""
        ready = self.health().ready
        return state.picture(
            self.relay, self.store, self.door.ports, began=self._began, ready=ready, draining=self._draining
        )

    # -- reload --------------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """SIGHUP: takes the configuration anew, all or nothing, and says what changed. Sessions stay. It is read beside the
        reactor: a thousand accounts take a quarter of a second."""
        if self._draining:
            return
        if self._reloading:
            self._reload_again = True
            return
        self._reloading = True
        self.notifier.reloading()
        self._aside.run("reload", self._read_again, self._reloaded)

    def _read_again(self) -> _Fresh:
        new = config.load(self.settings.path)
        changes = config.changes(self.settings, new)
        if changes.refusals:
            raise _Refused(changes.refusals)
        compiled = compile_policies(new)
        return _Fresh(
            new,
            changes.changes,
            {one.system_id: pipeline_for(new, one, compiled) if one.policies else None for one in new.accounts},
            Ways.of(new),
            contexts(new.upstreams),
            load_kek(new.keys),
        )

    def _reloaded(self, fresh: _Fresh | None, error: Exception | None) -> None:
        self._reloading = False
        if self._draining:
            return
        try:
            if fresh is None:
                raise error or AssertionError("nothing was read")
            if fresh.settings.log != self.settings.log:
                configure(fresh.settings.log, count=self.count)
            self.door.reload_listeners(fresh.settings)
        except (ConfigError, PolicyError, TlsError, VaultError, OSError, _Refused) as refusal:
            faults = [str(f) for f in refusal.faults] if isinstance(refusal, ConfigError) else [str(refusal)]
            self._reload_refused(faults)
        except Exception as bug:  # the daemon's edge: whatever it is, nothing has changed
            self.count("reload")
            log.exception("error in a reload")
            self._reload_refused([type(bug).__name__])
        else:
            self._use(fresh)
        if self._reload_again:
            self._reload_again = False
            self.reload()

    def _use(self, fresh: _Fresh) -> None:
        """Everything in it was tried: from here on nothing refuses."""
        new = self.settings = fresh.settings
        self.ring.use(fresh.kek)
        self.relay.use(new, fresh.ways)
        self.relay.judge_by(fresh.pipelines)
        self.door.use(new)
        self.customers.reload(new.limits)
        self._to_prepare = list(new.accounts)
        self.upstreams.use(new.upstreams, new.limits, fresh.tls)
        self.relay.context.flush()
        for change in fresh.changes:
            log.info("changed", extra={"fields": {"change": change}})
        log.info("reloaded", extra={"fields": {"changes": len(fresh.changes)}})
        self.metrics.reloads.labels("done").inc()
        self.audit(AuditEvent.RELOAD, {"changes": "; ".join(fresh.changes)[:2000]})
        self.notifier.ready("reloaded")

    def _reload_refused(self, faults: list[str]) -> None:
        for fault in faults:
            log.error("reload refused", extra={"fields": {"fault": fault}})
        self.metrics.reloads.labels("refused").inc()
        self.audit(AuditEvent.RELOAD, {"faults": str(len(faults))}, "refused")
        self.notifier.ready("reload refused, nothing changed")

    def count(self, where: str) -> None:
        """An error that was caught at an edge or nowhere: a bug."""
        self.metrics.errors.labels(where).inc()

    # -- ending --------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """SIGTERM: accepts no more, finishes what is in flight within ``drain``, unbinds all sides, ends. A second one
        ends at once: what is stored is there at the next start."""
        if self._draining:
            log.warning("told to stop again: ending at once")
            return self._finish(0)
        self._draining = True
        self.metrics.ready.set(0)
        self.notifier.stopping("draining")
        self.notifier.extend(self.settings.drain + LONGER)
        log.info("draining", extra={"fields": {"within": self.settings.drain}})
        self.door.stop()
        self.relay.desk.open = False
        self._deadline = time.monotonic() + self.settings.drain
        self.customers.unbind_all()
        self._drain()

    def _drain(self) -> None:
        """Customers first: each is unbound when it has its answers. What only waits in the store stays there."""
        if self._over:
            return
        now = time.monotonic()
        if not self.relay.dispatch.draining:
            if self.customers.links and now < self._deadline - self.settings.drain / 4:
                self.reactor.callLater(0.05, self._drain)
                return
            self.relay.dispatch.draining = True
            self.customers.unbind_all(at_once=True)
        if (self.upstreams.waiting() or self.store.busy or self.customers.links) and now < self._deadline:
            self.reactor.callLater(0.05, self._drain)
            return
        if self.upstreams.waiting():
            log.warning("drain time is over", extra={"fields": {"unanswered": self.upstreams.waiting()}})
        self.upstreams.stop(at_once=True)
        self._deadline = min(self._deadline, now + 5.0) if self._deadline > now else now + 1.0
        self._leave()

    def _leave(self) -> None:
        if self._over:
            return
        if (self.upstreams.connected() or self.store.busy) and time.monotonic() < self._deadline:
            self.reactor.callLater(0.05, self._leave)
            return
        self._finish(0)

    def broken(self, reason: str) -> None:
        """The store failed: nothing may be acknowledged any more. Ends at once; recovery is at the next start."""
        if self._over:
            return
        log.critical("the store failed, ending", extra={"fields": {"reason": reason}})
        self._finish(3)

    def _finish(self, status: int) -> None:
        if self._over:
            return
        self._over = True
        if self._loop.running:
            self._loop.stop()
        if self._http is not None:
            self._http.stop()
        self._control.stop()
        self.customers.tell_all()
        self._background.stop()
        self._soundness.stop(status, None if status else LivingEntries(readable))
        self.door.close()
        log.info("stopped", extra={"fields": {"status": status}})
        self._ended(status)


class _Fresh(NamedTuple):
    """A configuration that was read again, and what was made of it."""

    settings: Settings
    changes: list[str]
    pipelines: dict[str, Pipeline | None]
    ways: Ways
    tls: Contexts
    kek: Kek


class _Refused(Exception):
    """A reload that needs a restart."""

    def __init__(self, refusals: list[str]) -> None:
        super().__init__("; ".join(refusals))
