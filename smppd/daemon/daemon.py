"""Wires all parts of the daemon together, starts and stops them. What happens between is in `reload` and `drain`."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from random import Random, SystemRandom
from typing import Any, Final

from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall

from smppd import __version__, native
from smppd.audit.trail import AuditTrail
from smppd.config import Settings
from smppd.config.retention import floor, unfounded
from smppd.consent.register import Register as ConsentRegister
from smppd.consent.register_proof import PURPOSE, ConsentKeys
from smppd.consent.suppression import Hashes, Register
from smppd.control.wire import group_number
from smppd.daemon import garbage, memory
from smppd.daemon import health as state
from smppd.daemon.act_room import ActRoom
from smppd.daemon.acts import ActHandler, ActInForce
from smppd.daemon.askers import Askers
from smppd.daemon.background import Background
from smppd.daemon.clock import ClockWatch
from smppd.daemon.consents import consent_requests, load
from smppd.daemon.control import ControlServer
from smppd.daemon.control_requests import control_requests
from smppd.daemon.damage import DamageReports
from smppd.daemon.drain import Drain
from smppd.daemon.erasing import Finisher, erase_errands, erase_requests
from smppd.daemon.errands import TOPIC as ERRANDS
from smppd.daemon.errands import ErrandThread
from smppd.daemon.explaining import explain_requests
from smppd.daemon.feeding import Feeding
from smppd.daemon.file_watch import FileWatch
from smppd.daemon.following import followed
from smppd.daemon.history import History
from smppd.daemon.http import Health, HttpServer
from smppd.daemon.integrity import Integrity
from smppd.daemon.keys_ahead import KeysAhead
from smppd.daemon.nodes import DRAINING, Membership
from smppd.daemon.opt_outs import TrailOfWords, opt_out_requests
from smppd.daemon.plan import Plans
from smppd.daemon.reload import Reload, ReloadTargets
from smppd.daemon.screens import Screens
from smppd.daemon.shipper import Shipper, tls_context
from smppd.daemon.showing import Seen, Showing
from smppd.daemon.slow_start import LONGER, slow_start
from smppd.daemon.spans import Spans
from smppd.daemon.standing import StandingActs
from smppd.daemon.systemd import Notifier
from smppd.daemon.tidying import on_request
from smppd.daemon.tracing import Tracing
from smppd.daemon.traffic import TrafficMemory
from smppd.daemon.worker import Worker
from smppd.ids import Ids
from smppd.lists.lists import Lists
from smppd.metrics import Metrics
from smppd.net.customers import Customers
from smppd.net.door import Door
from smppd.net.tls import TlsError
from smppd.net.upstreams import Upstreams, contexts
from smppd.policy.pipeline import PolicyError, pipelines
from smppd.relay.inheritance import convert
from smppd.relay.ledger.journal import LivingEntries
from smppd.relay.recovery import readable
from smppd.relay.relay import Relay
from smppd.spans.job import TracingError, job_of
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE, Installation
from smppd.store.opening import installation
from smppd.vault.documents import DocumentSealer
from smppd.vault.kek import Kek, KekMissing, advice_for_missing
from smppd.vault.keys import ERASED, REPLIES, KeyRing, VaultError, load_install, load_kek, remember_kek

log = logging.getLogger("smppd.daemon")
TICK: Final = 0.1
_SWITCH: Final = 0.0005
_NAMED: Final = 20


class StartError(Exception):
    """The daemon cannot start; the text is one clear sentence."""


class Daemon:
    """One running smppd. ``ended(status)`` is called when it is over, with the process's exit status."""

    def __init__(self, settings: Settings, reactor: Any, ended: Callable[[int], None]) -> None:
        self._settings = settings  # of the start; see ``settings``
        self.reactor = reactor
        self.metrics = Metrics()
        self.metrics.build.labels(__version__, "yes" if native.compiled else "no").set(1)
        self.notifier = Notifier()
        self._ended = ended
        self._began = time.monotonic()
        self._drain: Drain | None = None
        self._over = False
        self._beat = time.monotonic()
        self._gave_back = self._began
        self._worker = Worker(reactor.callFromThread)
        self._reload: Reload | None = None
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor
        self._http: HttpServer | None = None
        self._errands: ErrandThread | None = None

    @property
    def settings(self) -> Settings:
        """The settings that are in force, since the last reload."""
        return self._settings if self._reload is None else self._reload.settings

    # -- starting ------------------------------------------------------------------------------------------------------

    def start(self, before_ready: Callable[[], None] = lambda: None) -> None:
        """Opens everything; raises ``StartError``. It listens last, when all that was on its way is read back.
        ``before_ready`` is called just before the service manager is told that the daemon is ready; signals may come from
        then on."""
        settings = self.settings
        try:
            with ExitStack() as undo:
                waiting = self._open(settings, undo)
                undo.pop_all()
        except CannotListenError as error:
            why = getattr(error.socketError, "strerror", None) or error.socketError
            raise StartError(f"cannot listen on {error.interface}:{error.port}: {why}") from error
        except OSError as error:
            raise StartError(f"{error.filename or settings.store.directory}: {error.strerror or error}") from error
        except (VaultError, StoreError, PolicyError, TlsError, TracingError, ValueError) as error:
            raise StartError(str(error)) from error
        sys.setswitchinterval(_SWITCH)
        garbage.begin()
        self._loop.start(TICK, now=False).addErrback(self._loop_failed)
        self.metrics.ready.set(1)
        self._integrity.note_start({"version": __version__, "waiting": str(waiting)})
        before_ready()
        for address, tls in self.door.ports:
            log.info("listening", extra={"fields": {"address": address, "tls": tls}})
        if without := unfounded(self.settings):
            named = ", ".join(without[:_NAMED]) + (" ..." if len(without) > _NAMED else "")
            log.warning(
                "texts are kept for 24 h at most: no basis is named",
                extra={"fields": {"accounts": named, "count": len(without)}},
            )
        log.info("ready", extra={"fields": {"version": __version__, "compiled": native.compiled, "recovered": waiting}})
        self.notifier.ready(f"{len(self.door.ports)} listeners, {waiting} messages recovered")

    def _open(self, settings: Settings, undo: ExitStack) -> int:
        """Opens everything, and returns how many things are on their way. ``undo`` gets what closes it again."""
        store = self._installation = installation(settings, settle=False)
        try:
            kek = load_kek(settings.keys)
        except KekMissing as error:
            there = store.name if store.has_keys() else ""
            raise StartError(advice_for_missing(error, there, settings.path)) from error
        self._look_at_keys(store, settings, kek)
        self._open_store(store, settings)
        undo.callback(self.store.close)
        install = load_install(kek, self.store.keys)
        _remember(store, kek)
        self.ring = KeyRing(kek, self.store.keys)
        self.store.use(self.ring)
        self._install = install
        self._integrity = Integrity(store, install, self.store, self.metrics)
        self.audit = self._integrity.audit
        undo.callback(self.audit.close)
        self._history = History(store, kek, self.metrics, self.reactor.callFromThread)
        undo.callback(self._history.stop)
        self.lists = Lists(settings.store.directory, install.lists)
        self.lists.use(settings, self.lists.of(settings))
        self._words = TrailOfWords(store, kek, lambda: load_kek(self.settings.keys), self.audit, self._worker)
        self.traffic = TrafficMemory(
            store.documents,
            install,
            self.metrics,
            self.audit,
            self._worker,
            time.time,
            time.monotonic,
            settings.node,
        )
        self.traffic.load()
        self._acts = StandingActs(
            store.documents,
            lambda: AuditTrail(settings.store.directory / AUDIT_FILE, install.audit),
            DocumentSealer(install),
            self.metrics,
            self._worker,
            time.time,
            lambda: self.audit.written(),
            lambda: self.settings,
        )
        self._acts.load()
        self._consents = ConsentRegister(ConsentKeys(install.for_purpose(PURPOSE)))
        with closing(store.consents()) as consents:
            self._consents.load(load(consents))
        self.screens = Screens(Register(Hashes(install.suppression)), self.traffic, self._consents)
        screens = self.screens.of(settings, self.lists.by_name)
        self.screens.use(screens)
        random = Random(SystemRandom().random())  # jitter, nothing secret
        ids = Ids(time.time, settings.node, self.store.highest_id())
        self.relay = Relay(
            settings,
            self.store,
            self.ring,
            self.metrics,
            pipelines=pipelines(settings, self.lists.by_name),
            screens=screens,
            ids=ids,
            wall=time.time,
            now=time.monotonic,
            # What an item raises is caught before it gets here.
            later=lambda seconds, function: self.reactor.callLater(seconds, self._do, "relay", function),
            random=random,
            broken=self.broken,
            history=self._history.ask,
            register=self.screens.register,
            opted_out=self._words,
            reply_secret=install.for_purpose(REPLIES),
            erased_secret=install.for_purpose(ERASED),
        )
        self.store.lifetime = self.relay.lifetime
        self.clock = ClockWatch(self.metrics, ids.behind, time.time, time.monotonic)
        waiting = self.relay.begin()
        self._start_nodes(undo)
        self.clock.look()
        self._integrity.report_faults()
        self._keys_ahead = KeysAhead(self.ring, settings.accounts)
        self._keys_ahead.prepare()
        self._background = Background(
            store,
            self.ring,
            install,
            lambda: {one.system_id: one.kept for one in self.settings.accounts},
            self.metrics,
            self.reactor.callFromThread,
            lambda: self.store.busy,
            on_request(self.store),
            floor=lambda account, part, accepted: floor(self.settings, account, part.value, accepted),
            region=lambda account: self.settings.region_of(account),
            way=Finisher(self.relay, self.reactor.callFromThread, store, DocumentSealer(install)),
            ours=self.nodes.is_housekeeper,
            trace_retain=lambda: self.settings.traces.retain,
        )
        undo.callback(self._background.stop)
        shipping = tls_context(settings.shipping)
        self._shipper = Shipper(store, install, self.metrics)
        undo.callback(self._shipper.stop)
        self._shipper.use(settings.shipping, shipping)
        self.audit.written = self._shipper.wake
        self._feeding = Feeding(settings.store, settings.node, self.metrics)
        undo.callback(self._feeding.stop)
        self._feeding.start(settings)
        self._spans = Spans(self.metrics)
        undo.callback(self._spans.stop)
        self._spans.use(job_of(settings))
        self._files = FileWatch(self.lists, settings, self.metrics, self.reactor.callFromThread, self.reload)
        undo.callback(self._files.stop)
        self._files.settle()
        self._start_edge(settings, random)
        return waiting

    def _look_at_keys(self, store: Installation, settings: Settings, kek: Kek) -> None:
        """Whether the KEK opens the installation's keys: before anything of the store is opened to be written."""
        directory = settings.store.directory
        if store.being_shredded():
            raise StartError(f"{store.name}: it is being shredded; `smppd keys shred` goes on with it")
        if why := store.closed(daemon=True):
            raise StartError(why)
        if not store.has_keys():
            raise StartError(
                store.keys_lost()
                or f"{store.name}: no key store here; run `smppd keys init --config {settings.path}` first"
            )
        if settings.store.url is not None:  # `keys init` was run at another node
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise StartError(f"{directory}: {os.strerror(errno.EACCES)}")
        rows = store.read_only_keys()
        try:
            load_install(kek, rows)
        finally:
            rows.close()

    def _open_store(self, store: Installation, settings: Settings) -> None:
        self.store = store.store(
            notify=lambda function: self.reactor.callFromThread(self._from_store, function),
            later=self.reactor.later,
            soon=lambda function: self.reactor.soon(lambda: self._from_store(function)),
            reserve=settings.store.reserve,
            start=slow_start(self.notifier),
        )
        self.store.on_commit_time = self._committed
        damage = DamageReports(self.metrics, lambda: self.relay)
        self.store.on_damage, self.store.on_start_damage = damage.report_row, damage.report_at_start

    def _start_nodes(self, undo: ExitStack) -> None:
        """This node begins to renew its lease, where the store can have several."""
        self.nodes = Membership(
            self._installation.nodes(self.store, self.ring, self._from_nodes),
            self.relay,
            self.metrics,
            state=self._state_in_a_word,
            load=self.relay.load,
            links=self.relay.links,
            fenced=self.fenced,
            now=time.monotonic,
            later=lambda seconds, function: self.reactor.callLater(seconds, self._do, "nodes", function),
        )
        undo.callback(self.nodes.stop)
        self.nodes.start(partial(convert, wall=time.time))

    def _state_in_a_word(self) -> str:
        return DRAINING if self._drain is not None else "ready" if self.health().ready else "not ready"

    def _from_nodes(self, function: Callable[[], None]) -> None:
        self.reactor.callFromThread(self._do, "nodes", function)

    def _from_store(self, function: Callable[[], None]) -> None:
        """Runs a call of the store on the reactor thread. Errors that an item causes are caught at the item (`relay.guard`).
        An error that comes as far as here is the store's own, and ends the daemon: the next start reads everything from the
        journal."""
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
        self.nodes.serve(self.customers.bound, self.customers.evict_oldest)
        self._act_room = ActRoom(
            self._acts,
            self.relay,
            self.customers,
            self.upstreams,
            self.door,
            self.traffic,
            lambda: self.settings,
            self.reload,
            self.reactor.callLater,
            time.time,
        )
        self._act_room.resume()
        self._following = followed(
            self.nodes,
            self._installation,
            self._worker,
            self.metrics,
            self.screens.register,
            self._consents,
            self.traffic,
            self._acts,
            self._act_room,
            several=settings.store.url is not None,
            now=now(),
        )
        if settings.store.url is not None:
            self._errands = ErrandThread(
                self._installation,
                DocumentSealer(self._install),
                settings.node,
                erase_errands(self.relay),
                lambda function: self.reactor.callFromThread(self._do, "errands", function),
                self._worker,
                self.metrics,
            )
            self.nodes.listen(ERRANDS, lambda _detail: self._errands.wake() if self._errands else None)
            self._errands.start()
        self.upstreams.use(settings.upstreams, limits, contexts(settings.upstreams))
        self._tracing = Tracing(
            self._installation,
            self.ring,
            self._install,
            self.customers,
            self.upstreams,
            self._acts,
            self.audit,
            self.reactor,
            lambda: self.settings.store.reserve,
            time.time,
            now,
            lambda: self.metrics.errors.labels("traces").inc(),
        )
        self._tracing.settle()
        targets = ReloadTargets(
            self.relay,
            self.ring,
            self._keys_ahead,
            self.door,
            self.customers,
            self.upstreams,
            self.metrics,
            self.audit,
            self.notifier,
            self._shipper,
            self._feeding,
            self._spans,
            self.screens,
            self.lists,
            self._files,
        )
        self._reload = Reload(settings, targets, self._worker, self.count)
        self.door.open(settings, self.customers.handler)
        self._control = ControlServer(
            self.reactor,
            settings.store.directory,
            {
                **control_requests(self.door, self.audit, self.ring),
                **erase_requests(self.relay),
                **opt_out_requests(self.relay),
                **self.traffic.requests(),
                **explain_requests(self.relay),
                **consent_requests(self._consents),
                **Plans(self._reload, targets, self._worker).requests(),
            },
            self.metrics,
            shows=Showing(
                Seen(
                    lambda: self.settings,
                    self.relay,
                    self.customers,
                    self.upstreams,
                    self.door,
                    self.metrics,
                    self._reload,
                    self._worker,
                    self.traffic.suspensions.suspended,
                    self.acts_in_force,
                    self.health,
                    self.nodes,
                )
            ).views(),
            acts=self._act_handlers(),
            askers=Askers(self._installation, self._install, self._worker, self.reactor.callLater, self._shipper.wake),
            place=settings.control.path,
            group=group_number(settings.control.group),
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
                self._worker,
            )
            port = self._http.start()
            log.info("serving http", extra={"fields": {"address": f"{settings.http.host}:{port}"}})

    def _act_handlers(self) -> dict[str, ActHandler]:
        """What can be done to the running daemon, by the name of the act."""
        return {**self._act_room.handlers(), "trace": self._tracing.act}

    def acts_in_force(self) -> list[ActInForce]:
        """The acts that stand."""
        return [*self._acts.in_force(), *self._tracing.in_force()]

    def _gauges(self) -> None:
        self.relay.set_gauges()
        self.door.gauges()
        self.traffic.set_gauges()
        self._acts.set_gauges()
        self.metrics.traces.set(self._tracing.on)
        self.metrics.consents.set(len(self._consents))

    # -- time ----------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic()
        self._do("relay", lambda: self.relay.tick(now))
        self._do("garbage", garbage.look)
        self._do("customers", lambda: self.customers.tick(now))
        self._do("traffic", lambda: self.traffic.tick(now))
        self._do("traces", self._tracing.tick)
        self._do("nodes", lambda: self.nodes.tick(now))
        if now - self._beat >= 1.0:
            self._beat = now
            self._do("upstreams", lambda: self.upstreams.tick(now))
            self._do("acts", self._act_room.tick)
            self._do("clock", self.clock.look)
            self._do("opt-outs", self._words.tick)
            self._do("following", lambda: self._following.tick(now))
            self._do("flush", self.relay.flush)
            self._do("checkpoints", lambda: self._integrity.tick(now))
            self._do("watchdog", lambda: self.notifier.watchdog(self.health().alive))
            if now - self._gave_back >= memory.EVERY:
                self._gave_back = now
                self._do("memory", memory.give_back)
            self._keys_ahead.check_due(now)
        if self._keys_ahead.behind:
            self._do("keys", self._keys_ahead.make_some)

    def _do(self, name: str, chore: Callable[[], object]) -> None:
        try:
            self.relay.do_chore(name, chore)
        except Exception as error:  # noqa: BLE001  the daemon's edge: nothing may be acknowledged after a fault of the store
            self.broken(type(error).__name__)

    def _loop_failed(self, failure: Any) -> None:
        log.critical("housekeeping ended", extra={"fields": {"error": failure.type.__name__}})
        self.broken("housekeeping ended")

    # -- state ---------------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        """For /healthz and /readyz."""
        ends = {"draining": self._drain is not None, "over": self._over}
        clock, shipping, feed = self.clock.check, self._shipper.check(), self._feeding.check()
        listeners = self.door.listeners
        nodes = {"lease": self.nodes.check(), "nodes": self.nodes.others()}
        return state.health(
            self.settings,
            self.relay,
            self.store,
            listeners,
            clock=clock,
            shipping=shipping,
            feed=feed,
            nodes={name: said for name, said in nodes.items() if said is not None},
            **ends,
        )

    def status(self) -> dict[str, object]:
        """For `smppd status`."""
        ready = self.health().ready
        draining = self._drain is not None
        seen = state.picture(self.relay, self.store, self.door.ports, began=self._began, ready=ready, draining=draining)
        if nodes := self.nodes.views():
            seen = {**seen, "nodes": nodes}
        return seen if self._reload is None else {**seen, "config": self._reload.picture()}

    # -- reload --------------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """SIGHUP: see ``daemon.reload``."""
        if self._reload is not None:
            self._reload.ask()

    def count(self, where: str) -> None:
        """An error that was caught at an edge or nowhere: a bug."""
        self.metrics.errors.labels(where).inc()

    # -- ending --------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """SIGTERM: accepts no more, finishes what is in flight within ``drain``, unbinds all sides, ends. A second one
        ends at once: what is stored is there at the next start."""
        if self._drain is not None:
            log.warning("told to stop again: ending at once")
            return self._finish(0)
        within = self.settings.drain
        self._drain = Drain(
            self.reactor,
            self.relay,
            self.store,
            self.door,
            self.customers,
            self.upstreams,
            within,
            lambda: self._finish(0),
        )
        if self._reload is not None:
            self._reload.stop()
        self.metrics.ready.set(0)
        self.notifier.stopping("draining")
        self.notifier.extend(within + LONGER)
        log.info("draining", extra={"fields": {"within": within}})
        self.nodes.drain()
        self._drain.begin()

    def broken(self, reason: str) -> None:
        """The store failed: nothing may be acknowledged any more. Ends at once; recovery is at the next start."""
        if self._over:
            return
        log.critical("the store failed, ending", extra={"fields": {"reason": reason}})
        self._finish(3)

    def fenced(self, reason: str) -> None:
        """Another node has this one's place: nothing can be stored any more. Ends at once, without a drain: what was released
        and not answered the other node knows, and flags."""
        if self._over:
            return
        log.critical("another node has taken this one's place, ending", extra={"fields": {"reason": reason}})
        self._finish(3)

    def _finish(self, status: int) -> None:
        if self._over:
            return
        self._over = True
        if self._drain is not None:
            self._drain.stop()
        if self._loop.running:
            self._loop.stop()
        if self._http is not None:
            self._http.stop()
        self._control.stop()
        self._tracing.stop()
        self.customers.flush_bind_notes()
        self._files.stop()
        if self._errands is not None:
            self._errands.stop()
        self._background.stop()
        self._history.stop()
        if not status:
            self.traffic.stop()
        self._spans.end()
        self._feeding.stop()
        self._spans.stop()
        with self._shipper.pausing():
            self._integrity.close_store(status, None if status else LivingEntries(readable))
        if not status:
            self.nodes.leave()
        self.nodes.stop()
        self._shipper.stop()
        if not status:
            self._leave_whole()
        self.door.close()
        log.info("stopped", extra={"fields": {"status": status}})
        self._ended(status)

    def _leave_whole(self) -> None:
        try:
            self._installation.leave_whole()
        except (StoreError, OSError) as error:
            log.warning("the store's log stays beside it", extra={"fields": {"reason": type(error).__name__}})


def _remember(store: Installation, kek: Kek) -> None:
    """A store of an earlier version learns which KEK it belongs to. Written at once, not with the next batch: a rotation may
    come in between."""
    rows = store.keys()
    try:
        remember_kek(kek, rows)
    finally:
        rows.close()
