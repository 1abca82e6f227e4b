"""The data path put together, and all that the rest of the daemon says to it: what customers and carriers bring, what the store
has to say, the time, a new configuration, the start and the end. Nobody outside this room reaches for the parts behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any, NamedTuple

from smppd.config import Settings
from smppd.ids import Ids
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
from smppd.relay.gauges import Condition, Gauges, Picture
from smppd.relay.guard import COMMIT, ROWS, SWEEP
from smppd.relay.operations import Enquiries, History
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
from smppd.store.api import Availability, Batch, ColdRow, Kind, Store
from smppd.vault.keys import KeyRing

log = logging.getLogger("smppd.relay")
_EXPIRED = 500
_LOOK = 60.0  # seconds between two counts of what is damaged, which commands remove
_STORE_SAYS = {
    Availability.OK: (logging.WARNING, "space again, accepting messages"),
    Availability.FULL: (logging.ERROR, "no space, refusing messages"),
    Availability.AWAY: (logging.ERROR, "the store cannot be reached, refusing messages"),
}


Answer = tuple[Any, int, int, bytes]
"""A response to a request of ours, as a session gives it: (token, command, status, frame)."""


class Ways(NamedTuple):
    """Where messages go, out of one configuration: to carriers, and to the accounts that own a number."""

    router: Router
    owners: Owners

    @classmethod
    def of(cls, settings: Settings) -> Ways:
        """Takes some milliseconds for a thousand accounts, in any thread."""
        return cls(Router(settings), Owners(settings))


class Relay:
    """See the module. ``begin`` starts it; before that it only knows its configuration.

    ``pipelines``: of each account by its name, None for one without policies. ``ids`` draws messages' ids. ``wall``: epoch
    seconds; ``now``: monotonic ones; ``later(seconds, function)`` runs a function on the reactor thread. ``broken(reason)`` is
    called when nothing may be acknowledged any more. ``history`` looks finished messages up for query_sm, which answers without
    it that it does not know them. All of it is called on the reactor thread."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        ring: KeyRing,
        metrics: Metrics,
        *,
        pipelines: Mapping[str, Pipeline | None],
        ids: Ids,
        wall: Callable[[], float],
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
        random: Random,
        broken: Callable[[str], None],
        history: History | None = None,
    ) -> None:
        self.context = context = Context(
            store=store,
            ring=ring,
            new_id=ids,
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
        self._ids = ids
        self._broken = broken
        self._accepts = not settings.store.read_only
        self.ready = False
        ways = Ways.of(settings)
        self.routes = Routes(ways.router)
        recorder = Recorder(context)
        recent = Recent()
        self.short_ids = ShortIds(context, store)
        self.customer_answers = Answers(context, recent)
        self.mailroom = Mailroom(context)
        self.withdrawal = Withdrawal(context, self.customer_answers, self.mailroom)
        # Dispatch and receipts tell each other: what has an id may have a receipt already, and the reverse.
        listeners = Listeners(
            answer=self.customer_answers.answer_upstream,
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
            context, self.dispatch, self.parts, self.routes, recorder, self.customer_answers, recent, self.short_ids
        )
        self.receipts = Receipts(context, self.dispatch, self.mailroom, recorder, ways.owners)
        self.enquiries = Enquiries(context, self.dispatch, recorder, self.short_ids, history)
        self.spill = Spill(context, self.mailroom, self.receipts.parking)
        self._expiries = (
            (Expiry(Kind.QUEUE, _EXPIRED), self.overdue.expired_rows),
            (Expiry(Kind.MAIL, _EXPIRED), self.mailroom.expired_rows),
            (Expiry(Kind.WAITING, _EXPIRED), self.receipts.expired_rows),
        )
        self.counts = Gauges(context, store)
        self._looked = now()
        self._swept = 0.0
        self._store_was = Availability.OK
        self._paused: dict[str, int] = {}
        self.take_configuration(settings, ways, pipelines)

    # -- configuration -------------------------------------------------------------------------------------------------

    def take_configuration(self, settings: Settings, ways: Ways, pipelines: Mapping[str, Pipeline | None]) -> None:
        """Takes all of a configuration: accounts and their policies, upstreams, routes, owners of numbers, limits, forms of id.
        ``ways`` and ``pipelines`` were made of the same settings, beside the reactor on a reload. Nothing in it refuses; what
        policies know of unfinished messages stays known. Raises KeyError, with nothing changed, where an account has no entry
        in ``pipelines``."""
        judged = [(one.system_id, pipelines[one.system_id]) for one in settings.accounts]
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
        for name, pipeline in judged:
            account = context.accounts[name]
            if pipeline is not None and account.pipeline is not None:
                pipeline.inherit(account.pipeline)
            account.pipeline = pipeline
        self.short_ids.use(settings)

    def account(self, name: str) -> Account | None:
        """The account of this name, which customers bind to; None where nobody has it."""
        return self.context.accounts.get(name)

    def upstream(self, name: str) -> UpstreamState:
        """An upstream of the configuration. KeyError."""
        return self.context.upstreams[name]

    def lifetime(self, owner: str) -> float:
        """Seconds for which what is damaged may be kept, by its owner: see ``Guard.lifetime``. Any thread."""
        return self.context.guard.lifetime(owner)

    # -- the start and the end -----------------------------------------------------------------------------------------

    def begin(self) -> int:
        """Reads back what was on its way, opens the store for writing and goes on with it; takes messages from then on, unless
        the store is ``read_only``. How many things were on their way. Once, before anybody is there; RuntimeError when called
        again. Raises what the store raises."""
        if self.ready:
            raise RuntimeError("the relay has begun")
        context, store = self.context, self._store
        context.restored = store.meta("restored", 0)
        recovery = Recovery(context, self.dispatch.lanes, self.receipts.parking)
        living = recovery.run(store.replay(), store.counts())
        self.desk.recall(context.ledger.living())
        self._ids.skip(context.ledger.highest())
        store.open(self, self.spill, self._ids)
        self.ready = True
        self.desk.open = self._accepts
        context.guard.chore("held parts", lambda: self.parts.rejudge(context.now()))
        context.guard.chore("parked receipts", self.receipts.parking.resume)
        store.kick()
        store.watch()  # known before the first message, not a second later
        return living

    def stop_accepting(self) -> None:
        """Refuses messages from now on; those that were accepted go on."""
        self.desk.open = False

    def stop_sending(self) -> None:
        """Releases no more messages to carriers, and accepts none: what waits stays in the store."""
        self.stop_accepting()
        self.dispatch.draining = True

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Calls a function after a time, on the reactor thread; what it raises stops nothing else."""
        self.context.later(seconds, function)

    def flush(self) -> None:
        """Lets every peer send what it has: at the end of whatever was handled."""
        self.context.flush()

    def guard_chore(self, name: str, chore: Callable[[], object]) -> None:
        """Does one chore of the housekeeping, whatever it raises: see ``Guard.chore``."""
        self.context.guard.chore(name, chore)

    # -- customers -----------------------------------------------------------------------------------------------------

    def customer_bound(self, customer: Customer, now: float) -> None:
        """A customer's bind stands."""
        customer.account.sessions.append(customer)
        if customer.session.can_receive:
            self.mailroom.welcome(customer.account, now)
            self.context.flush()

    def customer_sent(
        self,
        customer: Customer,
        answers: list[Answer],
        messages: list[bytes],
        requests: list[tuple[int, bytes]],
        now: float,
    ) -> None:
        """What a bound customer sent in one chunk, as its session sorted it: responses to deliver_sm, messages, and query_sm,
        cancel_sm, replace_sm. What is answered at once goes out with the next ``flush``."""
        if answers:
            self.mailroom.customer_answered(customer, answers, now)
        if messages:
            self.desk.accept_submits(customer, messages, now)
        if requests:
            self.enquiries.answer_requests(customer, requests, now)

    def customer_silent(self, customer: Customer, unanswered: list[Any], now: float) -> None:
        """The response timer ran out on mail (tokens of its session) that a customer was sent: it goes again after a pause."""
        self.mailroom.unanswered(customer.account, unanswered, now, wait=True)
        self.context.flush()

    def customer_writable(self, customer: Customer, now: float) -> None:
        """A customer's connection takes octets again, and its window is open: mail that waits goes on."""
        self.mailroom.pump(customer.account, now)
        self.context.flush()

    def customer_left(self, customer: Customer, unanswered: list[Any], now: float) -> None:
        """A customer's session is gone, and what it was asked (tokens of its session) will have no answer."""
        account = customer.account
        if customer in account.sessions:
            account.sessions.remove(customer)
        self.context.dirty.pop(customer, None)
        self.mailroom.unanswered(account, unanswered, now, wait=False)
        self.context.flush()

    # -- carriers ------------------------------------------------------------------------------------------------------

    def carrier_bound(self, upstream: UpstreamState, link: Peer, now: float) -> None:
        """A bind to a carrier stands."""
        if link.session.can_receive:
            upstream.receivers.append(link)
        if link.session.can_send:
            self.dispatch.link_up(upstream, link, now)
        self.context.flush()

    def carrier_sent(
        self, upstream: UpstreamState, link: Peer, answers: list[Answer], messages: list[bytes], now: float
    ) -> None:
        """What a carrier sent over a bound link in one chunk, as its session sorted it: responses to our messages, then what it
        delivers. What is acknowledged goes out with the next ``flush``."""
        if answers:
            self.dispatch.carrier_answered(upstream, answers, now)
        if messages:
            self.receipts.carrier_delivered(upstream, link, messages, now)

    def carrier_silent(self, upstream: UpstreamState, unanswered: list[Any], now: float) -> None:
        """The response timer ran out on some of what a link was asked (tokens of its session, messages among them)."""
        self.dispatch.timed_out(upstream, [token for token in unanswered if isinstance(token, Message)], now)
        self.context.flush()

    def carrier_left(self, upstream: UpstreamState, link: Peer, unanswered: list[Any], now: float) -> None:
        """A link to a carrier is gone, or is not to be used any more; ``unanswered`` (tokens of its session) will have no
        answer. One that is to be unbound leaves with none, and once more when it is gone."""
        self.context.dirty.pop(link, None)
        if link in upstream.receivers:
            upstream.receivers.remove(link)
        self.dispatch.link_down(upstream, link, [t for t in unanswered if isinstance(t, Message)], now)
        self.context.flush()

    def peer_nacked(self, side: str, name: str, session: Session, now: float) -> None:
        """A peer (``side``: account or upstream) said generic_nack: what it did not understand is in the log."""
        nacks, session.nacks = session.nacks, []
        for nack in nacks:
            about = command_name(nack.command) if nack.command else "unknown"
            self.context.metrics.nacks.labels(about).inc()
            what = {side: name, "request": about, "status": status_name(nack.status)}
            self.context.notices.note("generic_nack", what, now, sequence=nack.sequence)

    # -- the store's words ---------------------------------------------------------------------------------------------

    def batch_committed(self, batch: Batch) -> None:
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
            complete = partial(self.parts.batch_committed, batch.accepted, now)
            guarded(COMMIT, lambda: self.dispatch.batch_committed(batch.accepted, complete))
        if batch.acks:
            guarded(COMMIT, lambda: self.receipts.batch_committed(batch.acks))
        if batch.mails:
            guarded(COMMIT, lambda: self.mailroom.batch_committed(batch.mails, now))
        for function in batch.then:
            guarded(COMMIT, function)
        context.flush()

    def batch_refused(self, batch: Batch, reason: str) -> None:
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

    def store_broken(self, reason: str) -> None:
        """See ``store.api.Sink``."""
        self.stop_accepting()
        self._broken(reason)

    def row_damaged(self, kind: Kind, owner: str, identity: int) -> None:
        """The store found a cold row that does not open, and has set it aside: it is counted no more."""
        self.context.guard.guarded(ROWS, lambda: self.withdrawal.row_damaged(kind, owner, identity))

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Call about ten times a second."""
        if not self.ready:
            return
        chore = self.context.guard.chore
        chore("spill", lambda: self._spill(now))
        chore("early receipts", lambda: self.receipts.moment(now))
        chore("rerouting", lambda: self.rerouting.move(now))
        if self._store.takes:  # a full disk is tried again by the sweep, once a second
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
        store.watch()
        context.metrics.store_full.set(int(not store.takes))
        chore("gauges", self.counts.look)
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
        state = self._store.availability
        if state is not self._store_was:
            self._store_was = state
            log.log(*_STORE_SAYS[state])
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
        if self._store.takes:
            self.spill.lighten()

    # -- what an operator sees -----------------------------------------------------------------------------------------

    def gauges(self) -> None:
        """Sets the gauges; called when somebody asks for them."""
        self.counts.gauges()

    def condition(self) -> Condition:
        """What tells whether it does well."""
        return self.counts.condition(self.ready)

    def picture(self) -> Picture:
        """Counts and states of everything."""
        return self.counts.picture()
