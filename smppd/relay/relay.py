"""The data path put together: takes what customers and carriers bring, hears from the store, keeps house once a second."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, NamedTuple

from smppd.config import Settings
from smppd.ids import id_time
from smppd.metrics import Metrics
from smppd.policy.pipeline import Pipeline
from smppd.protocol.session import Session
from smppd.protocol.wire import command_name, status_name
from smppd.relay.accept.answers import Answers
from smppd.relay.accept.desk import SubmitDesk
from smppd.relay.accept.duplicates import Recent
from smppd.relay.accept.parts import Parts
from smppd.relay.accept.routing import Router, Routes
from smppd.relay.context import Context
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.guard import COMMIT, SWEEP
from smppd.relay.operations import Enquiries
from smppd.relay.receipts.mo_owners import Owners
from smppd.relay.receipts.receipts import Receipts
from smppd.relay.record import Recorder
from smppd.relay.recovery import Recovery
from smppd.relay.send.dispatch import Dispatch, Listeners
from smppd.relay.send.overdue import Overdue
from smppd.relay.send.rerouting import Rerouting
from smppd.relay.short_ids import ShortIds
from smppd.relay.spill import Spill
from smppd.relay.state.backlog import Expiry
from smppd.relay.state.model import Account, Customer, Message, Peer, UpstreamState
from smppd.relay.withdrawal import Withdrawal
from smppd.store.api import Batch, ColdRow, Kind, Store
from smppd.vault.keys import KeyRing

log = logging.getLogger("smppd.relay")
_EXPIRED = 500
_LOOK = 60.0  # seconds between two counts of what is damaged, which commands remove


class Ways(NamedTuple):
    """Where messages go, out of one configuration: to carriers, and to the accounts that own a number."""

    router: Router
    owners: Owners

    @classmethod
    def of(cls, settings: Settings) -> Ways:
        """Takes some milliseconds for a thousand accounts, in any thread."""
        return cls(Router(settings), Owners(settings))


class Relay:
    """See the module. ``broken(reason)`` is called when nothing may be acknowledged any more."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        ring: KeyRing,
        metrics: Metrics,
        *,
        new_id: Callable[[], int],
        wall: Callable[[], float],
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
        random: Random,
        broken: Callable[[str], None],
    ) -> None:
        self.context = context = Context(
            store=store,
            ring=ring,
            new_id=new_id,
            wall=wall,
            now=now,
            later=later,
            metrics=metrics,
            # Whoever raises something is taken out by what is made of the context, so it is called through here.
            withdraw=lambda message: self.withdrawal.withdraw(message),
            hot_limit=settings.store.hot,
            hot_octets=settings.store.hot_octets,
            mail_octets=settings.store.hot_octets + settings.store.hot_octets // 4,
        )
        self._store = store
        self._broken = broken
        self.ready = False
        ways = Ways.of(settings)
        self.routes = Routes(ways.router)
        recorder = Recorder(context)
        recent = Recent()
        self.short_ids = ShortIds(context, store)
        self.answers = Answers(context, recent)
        self.mailroom = Mailroom(context)
        self.withdrawal = Withdrawal(context, self.answers, self.mailroom)
        # Dispatch and receipts tell each other: what has an id may have a receipt already, and the reverse.
        listeners = Listeners(
            answer=self.answers.answer_upstream,
            finished=self.mailroom.post_receipt,
            known=lambda message: self.receipts.known(message),
            given_again=lambda message: self.spill.given_again(message),
            unsure=lambda upstream, messages, at: self.receipts.parking.unsure(upstream, messages, at),
        )
        self.dispatch = Dispatch(context, random, listeners)
        self.overdue = Overdue(context, self.dispatch)
        self.rerouting = Rerouting(context, self.dispatch.lanes, self.routes.route)
        self.parts = Parts(context, self.dispatch, self.routes)
        self.desk = SubmitDesk(
            context, self.dispatch, self.parts, self.routes, recorder, self.answers, recent, self.short_ids
        )
        self.receipts = Receipts(context, self.dispatch, self.mailroom, recorder, ways.owners)
        self.enquiries = Enquiries(context, self.dispatch, recorder, self.short_ids)
        self.spill = Spill(context, self.mailroom, self.receipts.parking)
        self._expiries = (
            (Expiry(Kind.QUEUE, _EXPIRED), self.overdue.expired_rows),
            (Expiry(Kind.MAIL, _EXPIRED), self.mailroom.expired_rows),
            (Expiry(Kind.WAITING, _EXPIRED), self.receipts.expired_rows),
        )
        self._looked = now()
        self._swept = 0.0
        self._released: dict[Account, int] = {}
        self._was_full = False
        self._paused: dict[str, int] = {}
        self._told_forms: dict[tuple[str, str], int] = {}
        self.use(settings, ways)

    # -- configuration -------------------------------------------------------------------------------------------------

    def use(self, settings: Settings, ways: Ways | None = None) -> None:
        """Takes the accounts, upstreams and routes of a configuration; called again on a reload, with ``ways`` that were made
        beside the reactor. Policies: ``pipelines``."""
        ways = ways or Ways.of(settings)
        context = self.context
        now = context.now()
        for one in settings.accounts:
            account = context.accounts.get(one.system_id)
            if account is None:
                context.accounts[one.system_id] = Account(one, context.metrics, now)
            else:
                account.closed = False
                account.use(one, now)
        for one in settings.accounts:
            context.accounts[one.system_id].region = one.region or settings.region
        named = {one.system_id for one in settings.accounts}
        for name, account in context.accounts.items():
            account.closed = name not in named
        for upstream in settings.upstreams:
            known = context.upstreams.get(upstream.name)
            if known is None:
                context.upstreams[upstream.name] = UpstreamState(upstream, context.metrics, now)
            else:
                known.use(upstream, now)
        for upstream in settings.upstreams:
            context.upstreams[upstream.name].region = upstream.region or settings.region
        present = {one.name for one in settings.upstreams}
        for name, state in context.upstreams.items():
            if name not in present:
                state.gone = True
        self.rerouting.anew()
        self.routes.router = ways.router
        self.desk.patience = settings.limits.throttle_wait
        context.tlvs = settings.limits.tlvs
        context.parked = settings.limits.parked
        self.receipts.owners = ways.owners
        self.short_ids.use(settings)

    def judge_by(self, pipelines: dict[str, Pipeline | None]) -> None:
        """Takes the policies of a configuration that was read anew. What is known of unfinished messages stays known."""
        for name, pipeline in pipelines.items():
            account = self.context.accounts[name]
            if pipeline is not None and account.pipeline is not None:
                pipeline.inherit(account.pipeline)
            account.pipeline = pipeline

    def recover(self) -> int:
        """Reads back what was on its way. Before the store is opened for writing."""
        context = self.context
        context.restored = self._store.meta("restored", 0)
        recovery = Recovery(context, self.dispatch.lanes, self.receipts.parking)
        living = recovery.run(self._store.replay(), self._store.counts())
        self.desk.recall(context.ledger.living())
        return living

    def start(self) -> None:
        """The store is open for writing."""
        context = self.context
        self.ready = True
        context.guard.chore("held parts", lambda: self.parts.rejudge(context.now()))
        context.guard.chore("parked receipts", self.receipts.parking.resume)
        self._store.kick()

    # -- customers -----------------------------------------------------------------------------------------------------

    def submitted(self, customer: Customer, frames: list[bytes], now: float) -> None:
        """Messages from a customer."""
        self.desk.accept_submits(customer, frames, now)

    def customer_up(self, customer: Customer, now: float) -> None:
        """A customer's bind stands."""
        customer.account.sessions.append(customer)
        if customer.session.can_receive:
            self.mailroom.welcome(customer.account, now)
            self.context.flush()

    def customer_down(self, customer: Customer, tokens: list[Any], now: float) -> None:
        """A customer's session is gone, and what it was asked will have no answer."""
        account = customer.account
        if customer in account.sessions:
            account.sessions.remove(customer)
        self.context.dirty.pop(customer, None)
        self.mailroom.unanswered(account, tokens, now, wait=False)
        self.context.flush()

    def nacked(self, side: str, name: str, session: Session, now: float) -> None:
        """A peer (``side``: account or upstream) said generic_nack: what it did not understand is in the log."""
        nacks, session.nacks = session.nacks, []
        for nack in nacks:
            about = command_name(nack.command) if nack.command else "unknown"
            self.context.metrics.nacks.labels(about).inc()
            what = {side: name, "request": about, "status": status_name(nack.status)}
            self.context.notices.note("generic_nack", what, now, sequence=nack.sequence)

    # -- the store's words ---------------------------------------------------------------------------------------------

    def committed(self, batch: Batch) -> None:
        """See ``store.api.Sink``."""
        context = self.context
        now = context.now()
        # Each item is guarded by itself; this is for what stands around them.
        guarded = context.guard.guarded
        if batch.accepted:
            guarded(COMMIT, lambda: self.desk.batch_committed(batch.accepted, now))
        # What was released in this batch waited longer than what was accepted in it.
        if batch.released:
            guarded(COMMIT, lambda: self.dispatch.releases_committed(batch.released))
        if batch.accepted:
            guarded(COMMIT, lambda: self.dispatch.batch_committed(batch.accepted))
            guarded(COMMIT, lambda: self.parts.batch_committed(batch.accepted, now))
        if batch.acks:
            guarded(COMMIT, lambda: self.receipts.batch_committed(batch.acks))
        if batch.mails:
            guarded(COMMIT, lambda: self.mailroom.batch_committed(batch.mails, now))
        for function in batch.then:
            guarded(COMMIT, function)
        context.flush()

    def failed(self, batch: Batch, reason: str) -> None:
        """See ``store.api.Sink``."""
        now = self.context.now()
        guarded = self.context.guard.guarded
        guarded(COMMIT, lambda: self.parts.batch_refused(batch.accepted))
        guarded(COMMIT, lambda: self.dispatch.batch_refused(batch.accepted))
        guarded(COMMIT, lambda: self.desk.batch_refused(batch.accepted, now))
        guarded(COMMIT, lambda: self.receipts.batch_refused(batch.acks))
        guarded(COMMIT, lambda: self.mailroom.batch_refused(batch.mails))
        self.context.metrics.store_full.set(1)
        self.context.flush()

    def broken(self, reason: str) -> None:
        """See ``store.api.Sink``."""
        self.desk.open = False
        self._broken(reason)

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Call about ten times a second."""
        if not self.ready:
            return
        chore = self.context.guard.chore
        chore("spill", lambda: self._spill(now))
        chore("early receipts", lambda: self.receipts.moment(now))
        chore("rerouting", lambda: self.rerouting.move(now))
        if not self._store.full:  # a full disk is tried again by the sweep, once a second
            self._store.kick()
        if now - self._swept >= 1.0:
            self._swept = now
            self._sweep(now)
        self.context.flush()

    def _sweep(self, now: float) -> None:
        context = self.context
        store = self._store
        chore = context.guard.chore
        chore("rerouting", self.rerouting.sweep)
        chore("rerouting", lambda: self.rerouting.move(now))
        chore("held parts", lambda: self.parts.sweep(now))
        chore("messages", lambda: self.dispatch.sweep(now))
        chore("validity", self.overdue.look)
        chore("messages", lambda: self.overdue.sweep_lanes(now))
        chore("messages", lambda: self.dispatch.pump_all(now))
        chore("mail", lambda: self.mailroom.sweep(now))
        chore("parked receipts", self.receipts.parking.sweep)
        chore("policies", lambda: self._policies(now))
        wall = int(context.wall())
        for expiry, end in self._expiries:
            chore("expiry", partial(self._expire, expiry, wall, end))
        if now - self._looked >= _LOOK:
            self._looked = now
            store.look_at_damaged()
        if not store.space():
            store.full = True
        elif store.full:
            store.retry()
        context.metrics.store_full.set(int(store.full))
        chore("gauges", self._look_at_released)
        chore("telling", lambda: self._tell(now))

    def _policies(self, now: float) -> None:
        """Parts that policy remembers and that will not be completed."""
        for account in list(self.context.accounts.values()):
            if account.pipeline is not None:
                try:
                    account.pipeline.expire(now)
                except Exception as error:  # noqa: BLE001  the edge of an account
                    self.context.guard.caught(SWEEP, error, owner=account.name)

    def _tell(self, now: float) -> None:
        """Says what began, what ended and what there was of many things since the last sweep."""
        self.context.tally.say()
        self.context.notices.tick(now)
        full = self._store.full
        if full != self._was_full:
            self._was_full = full
            if full:
                log.error("no space, refusing messages")
            else:
                log.warning("space again, accepting messages")
        for upstream in self.context.upstreams.values():
            told = self._paused.get(upstream.name, 0)
            if upstream.failures == told:
                continue
            self._paused[upstream.name] = upstream.failures
            if upstream.failures > told:
                seconds = round(max(0.0, upstream.paused_until - now), 1)
                log.warning("upstream paused", extra={"fields": {"upstream": upstream.name, "again_in": seconds}})
            elif not upstream.failures:
                log.info("upstream takes messages again", extra={"fields": {"upstream": upstream.name}})

    def _expire(self, expiry: Expiry, wall: int, end: Callable[[list[ColdRow]], None]) -> None:
        context = self.context

        def end_rows(rows: list[ColdRow]) -> bool:
            alive = context.ledger.alive(rows)
            if alive:
                end(alive)
                self._store.kick()
                context.flush()
            return any(context.ledger.is_dropped(row.kind, row.id) for row in alive)

        expiry.look(self._store, wall, context.looked, end_rows)

    def _spill(self, now: float) -> None:
        self._store.tick(now)
        if not self._store.full:
            self.spill.lighten()

    def gauges(self) -> None:
        """Sets the gauges; called when somebody asks for them."""
        context = self.context
        metrics = context.metrics
        for account in context.accounts.values():
            queued, mailbox, sessions, oldest = account.gauges
            queued.set(account.queued)
            mailbox.set(len(account.mailbox))
            sessions.set(len(account.sessions))
            oldest.set(self.oldest(account))
        for upstream in context.upstreams.values():
            if upstream.gone and not upstream.links:
                # It is meant to be down: a series that says 0 links would call somebody.
                metrics.forget_upstream(upstream.name)
                continue
            metrics.links.labels(upstream.name).set(len(upstream.links))
            metrics.paused.labels(upstream.name).set(int(upstream.failures > 0))
            metrics.window.labels(upstream.name).set(sum(len(link.session.outstanding) for link in upstream.links))
            for form, hits in upstream.matcher.hits.items():
                told = self._told_forms.get((upstream.name, form.value), 0)
                if hits != told:
                    # Fewer than told: a reload gave the upstream another matcher, which counts from 0.
                    metrics.receipt_forms.labels(upstream.name, form.value).inc(hits - told if hits > told else hits)
                    self._told_forms[upstream.name, form.value] = hits
        metrics.hot.set(context.ledger.count())
        metrics.damaged.set(self._store.damaged)
        metrics.hot_octets.set(context.ledger.octets)

    def oldest(self, account: Account) -> float:
        """Age in seconds of the account's oldest message that waits to be submitted; released ones as of the last sweep."""
        first = [lane.hot.first() for lane in account.lanes.values()] + [account.aside.first()]
        ids = [message.id for message in first if message is not None]
        if account in self._released:
            ids.append(self._released[account])
        return max(0.0, self.context.wall() - id_time(min(ids))) if ids else 0.0

    def _look_at_released(self) -> None:
        released: dict[Account, int] = {}
        for upstream in self.context.upstreams.values():
            for message in upstream.ready.heads():
                oldest = released.get(message.account)
                if oldest is None or message.id < oldest:
                    released[message.account] = message.id
        self._released = released

    # -- carriers ------------------------------------------------------------------------------------------------------

    def link_up(self, upstream: UpstreamState, link: Peer, now: float) -> None:
        """A bind to a carrier stands."""
        if link.session.can_receive:
            upstream.receivers.append(link)
        if link.session.can_send:
            self.dispatch.link_up(upstream, link, now)
        self.context.flush()

    def link_down(self, upstream: UpstreamState, link: Peer, tokens: list[Any], now: float) -> None:
        """A carrier's session is gone."""
        self.context.dirty.pop(link, None)
        if link in upstream.receivers:
            upstream.receivers.remove(link)
        self.dispatch.link_down(upstream, link, [t for t in tokens if isinstance(t, Message)], now)
        self.context.flush()
