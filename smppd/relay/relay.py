"""The data path put together: takes what customers and carriers bring, hears from the store, keeps house once a second."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import islice
from random import Random
from typing import Any, NamedTuple

from smppd.config import Settings
from smppd.ids import Counter, id_time
from smppd.metrics import Metrics
from smppd.policy.pipeline import Pipeline
from smppd.protocol.receipt_ids import canonical
from smppd.protocol.session import Session
from smppd.protocol.wire import command_name, status_name
from smppd.relay.accept.desk import Recorder, SubmitDesk
from smppd.relay.accept.parts import Holding
from smppd.relay.accept.routing import Router
from smppd.relay.balance import Balance
from smppd.relay.context import Context
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.guard import COMMIT, SPILL, SWEEP
from smppd.relay.ledger.journal import Entry, Journal, mark
from smppd.relay.operations import Enquiries
from smppd.relay.receipts.mo_owners import Owners
from smppd.relay.receipts.receipts import Receipts
from smppd.relay.recovery import Recovery
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.rerouting import Rerouting
from smppd.relay.state.model import Account, Customer, Message, Peer, Phase, UpstreamState
from smppd.relay.state.post import Mail, Parked
from smppd.store.api import Availability, Batch, ColdRow, Kind, Store
from smppd.vault.keys import KeyRing

log = logging.getLogger("smppd.relay")
_SEGMENT_ENTRIES = 50_000
_SEGMENT_SECONDS = 120.0
_SEGMENTS = 6
_SPILL = 1000
_SPILL_OCTETS = 8 << 20
_EXPIRED = 500
_SHORT_IDS = "short_id"
_LOOK = 60.0  # seconds between two counts of what is damaged, which commands remove
_AFTER_VALIDITY = 24 * 3600
_AFTER_SUBMIT = 72 * 3600
_STORE_SAYS = {
    Availability.OK: (logging.WARNING, "space again, accepting messages"),
    Availability.FULL: (logging.ERROR, "no space, refusing messages"),
    Availability.AWAY: (logging.ERROR, "the store cannot be reached, refusing messages"),
}


class Ways(NamedTuple):
    """Where messages go, out of one configuration: to carriers, and to the accounts that own a number."""

    router: Router
    owners: Owners

    @classmethod
    def of(cls, settings: Settings) -> Ways:
        """Takes some milliseconds for a thousand accounts, in any thread."""
        return cls(Router(settings), Owners(settings))


def _is_stored(thing: Message | Mail | Parked) -> bool:
    return True if isinstance(thing, Parked) else thing.stored


class Relay:
    """See the module. ``broken(reason)`` is called when nothing may be acknowledged any more. ``segments``: how many segments
    what lives may stay in; a new one is begun after ``segment_seconds`` at the latest."""

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
            journal=Journal(),
            ring=ring,
            new_id=new_id,
            wall=wall,
            now=now,
            later=later,
            metrics=metrics,
            hot_limit=settings.store.hot,
            hot_octets=settings.store.hot_octets,
            mail_octets=settings.store.hot_octets + settings.store.hot_octets // 4,
        )
        self._store = store
        self._broken = broken
        self.ready = False
        self.dispatch = Dispatch(context, random)
        self.mailroom = Mailroom(context)
        recorder = Recorder(context)
        ways = Ways.of(settings)
        self.desk = SubmitDesk(context, self.dispatch, recorder, ways.router)
        self.receipts = Receipts(context, self.dispatch, self.mailroom, recorder, ways.owners)
        self.enquiries = Enquiries(context, self.dispatch, recorder)
        self.dispatch.holding = Holding(context, self.dispatch.lanes, self.dispatch.end, self.desk.route)
        self.rerouting = Rerouting(context, self.dispatch.lanes, self.desk.route)
        self.balance = Balance(context, self.dispatch, self.mailroom)
        context.guard.withdraw = self.balance.withdraw
        self.dispatch.unsure = self.receipts.unsure
        self.dispatch.finished = self.mailroom.receipt
        self.dispatch.answer = self.desk.answer_upstream
        self.dispatch.known = self.receipts.known
        self.dispatch.displaced = self._displace
        self.desk.short_taken = self.enquiries.note
        self.segments = _SEGMENTS
        self.segment_seconds = _SEGMENT_SECONDS
        self._began = now()
        self._looked = now()
        self._before = 0
        self._tidying: list[Callable[[bool], None]] = []
        self._swept = 0.0
        self._looking: set[Kind] = set()
        self._released: dict[Account, int] = {}
        self._store_was = Availability.OK
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
        self.desk.router = ways.router
        self.desk.patience = settings.limits.throttle_wait
        context.tlvs = settings.limits.tlvs
        context.parked = settings.limits.parked
        self.receipts.owners = ways.owners
        self.short_ids(settings)

    def judge_by(self, pipelines: dict[str, Pipeline | None]) -> None:
        """Takes the policies of a configuration that was read anew. What is known of unfinished messages stays known."""
        for name, pipeline in pipelines.items():
            account = self.context.accounts[name]
            if pipeline is not None and account.pipeline is not None:
                pipeline.inherit(account.pipeline)
            account.pipeline = pipeline

    def short_ids(self, settings: Settings) -> None:
        """Sets up the counters behind short message ids (SMPP 3.3 binds, ``message_id: hex8 | decimal10``)."""
        store = self._store

        if "" not in self.desk.short_ids:
            # Where the number cannot be read any more: from the time on, where hardly one can be that still matters.
            store.begin_counter(_SHORT_IDS, int(self.context.wall()) % 0xFFFFFFFE)
            counter = Counter(partial(store.reserve, _SHORT_IDS), 0xFFFFFFFE)
            self.desk.short_ids[""] = lambda: b"%08X" % counter()
            self._counter = counter
        counter = self._counter
        for one in settings.accounts:
            if one.message_id == "hex8":
                self.desk.short_ids[one.system_id] = lambda: b"%08X" % counter()
            elif one.message_id == "decimal10":
                self.desk.short_ids[one.system_id] = lambda: b"%010d" % counter()
            else:
                self.desk.short_ids.pop(one.system_id, None)

    def recover(self) -> int:
        """Reads back what was on its way. Before the store is opened for writing."""
        self.context.restored = self._store.meta("restored", 0)
        living = Recovery(self.context, self.dispatch, self.receipts).run(self._store.replay(), self._store.counts())
        self.desk.recall()
        return living

    def start(self, segment: int) -> None:
        """The store writes into ``segment`` from now on."""
        context = self.context
        context.journal.begin(segment)
        self.ready = True
        context.guard.chore("held parts", lambda: self.dispatch.holding.rejudge(context.now()))
        context.guard.chore("parked receipts", self.receipts.resume)
        self._store.kick()

    # -- customers -----------------------------------------------------------------------------------------------------

    def submitted(self, customer: Customer, frames: list[bytes], now: float) -> None:
        """Messages from a customer."""
        self.desk.take(customer, frames, now)

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
            guarded(COMMIT, lambda: self.desk.stored(batch.accepted, now))
        # What was released in this batch waited longer than what was accepted in it.
        if batch.released:
            guarded(COMMIT, lambda: self.dispatch.released(batch.released))
        if batch.accepted:
            guarded(COMMIT, lambda: self.dispatch.stored(batch.accepted))
        if batch.acks:
            guarded(COMMIT, lambda: self.receipts.stored(batch.acks))
        if batch.mails:
            guarded(COMMIT, lambda: self.mailroom.stored(batch.mails, now))
        for function in batch.then:
            guarded(COMMIT, function)
        context.flush()

    def failed(self, batch: Batch, reason: str) -> None:
        """See ``store.api.Sink``."""
        now = self.context.now()
        guarded = self.context.guard.guarded
        guarded(COMMIT, lambda: self.dispatch.lost(batch.accepted))
        guarded(COMMIT, lambda: self.desk.lost(batch.accepted, now))
        guarded(COMMIT, lambda: self.receipts.lost(batch.acks))
        guarded(COMMIT, lambda: self.mailroom.lost(batch.mails))
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
        chore("messages", lambda: self.dispatch.sweep(now))
        chore("mail", lambda: self.mailroom.sweep(now))
        chore("parked receipts", self.receipts.sweep)
        chore("policies", lambda: self._policies(now))
        wall = int(context.wall())
        for kind, then in (
            (Kind.QUEUE, self.dispatch.overdue.expired_rows),
            (Kind.MAIL, self.mailroom.expired_rows),
            (Kind.WAITING, self.receipts.expired_rows),
        ):
            chore("expiry", partial(self._expired, kind, wall, then))
        chore("counts", lambda: self.balance.even(now))
        if now - self._looked >= _LOOK:
            self._looked = now
            store.look_at_damaged()
        store.watch()
        context.metrics.store_full.set(int(not store.takes))
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

    def _expired(self, kind: Kind, wall: int, then: Callable[[list[ColdRow]], None]) -> None:
        if kind in self._looking:
            return
        self._looking.add(kind)

        def arrived(rows: list[ColdRow]) -> None:
            self._looking.discard(kind)
            full = len(rows) == _EXPIRED
            rows = self.context.alive(rows)
            if rows:
                before = len(self.context.dropping)
                then(rows)
                if full and len(self.context.dropping) > before:
                    # Many ended at once: the next ones once these are gone, not a second later.
                    self.context.store.batch.then.append(lambda: self._expired(kind, wall, then))
                self.context.store.kick()
                self.context.flush()

        self._store.expired(kind, wall, _EXPIRED, self.context.looked(arrived))

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
        metrics.hot.set(context.journal.count())
        metrics.damaged.set(self._store.damaged)
        metrics.hot_octets.set(context.journal.octets)

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
                if message.phase is not Phase.SUBMITTED and (oldest is None or message.id < oldest):
                    released[message.account] = message.id
        self._released = released

    # -- the journal's bounds ------------------------------------------------------------------------------------------

    def _spill(self, now: float) -> None:
        """Begins new segments, drops dead ones, and moves what lives too long out of the oldest."""
        journal = self.context.journal
        store = self._store
        # On a full disk all that is written anew waits in memory, once more with each turn, for as long as that lasts.
        turns = store.takes
        # Also when all in it is over: nobody else would ever take it out.
        old = (journal.entries or journal.count()) and now - self._began > self.segment_seconds
        if turns and (journal.entries >= _SEGMENT_ENTRIES or old):
            journal.begin(store.rotate())
            self._began = now
        if self._before and turns:
            self._clear()
        dead = journal.dead()
        if dead:
            store.batch.segments.extend(dead)
            store.kick()
        if not turns:
            return
        if journal.octets > self.context.hot_octets:
            self._lighten()
        if len(journal.live) <= self.segments:
            return
        oldest, things = next(iter(journal.live.items()))
        if oldest == journal.current:
            return
        batch = store.batch
        some: list[Any] = []
        left = _SPILL_OCTETS
        for thing in things.values():
            if len(some) == _SPILL or left <= 0:
                break
            some.append(thing)
            left -= thing.weight
        for thing in some:
            try:
                self._move(thing, batch)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._stuck(thing, error)
        if batch:
            store.kick()

    def tidy(self, then: Callable[[bool], None]) -> None:
        """Takes what is over out of the spool, whatever else waits: what lives is written into a new segment, others go and so
        do their keys. ``then(complete)``: nothing that was over can be opened any more; False: there was no space for it.
        """
        self._tidying.append(then)
        self.context.journal.begin(self._store.rotate())
        self._began = self.context.now()
        self._before = self.context.journal.current

    def _clear(self) -> None:
        """Writes some of what lives in earlier segments into the current one; the store's turn when they are empty."""
        journal, batch = self.context.journal, self._store.batch
        left = _SPILL_OCTETS
        waits = False
        some: list[Any] = []
        for segment, things in journal.live.items():
            if segment >= self._before:
                break
            for thing in things.values():
                if len(some) == _SPILL or left <= 0 or not _is_stored(thing):
                    waits = True  # for the next turn, or for its own batch: one that is lost is not to come back
                    break
                some.append(thing)
                left -= thing.weight
        for thing in some:
            try:
                self._rewrite(thing, batch)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._stuck(thing, error)
        if waits:
            return
        self._before = 0
        told, self._tidying = self._tidying, []

        def over(complete: bool) -> None:
            for then in told:
                then(complete)

        # With the batch that drops these segments, or behind it.
        batch.then.append(lambda: self._store.tidy(over))
        self._store.kick()

    def _lighten(self) -> None:
        """Memory holds more octets than it should: messages that wait for their receipts become rows before their time, those
        that were submitted first, first."""
        context = self.context
        journal = context.journal
        excess = min(journal.octets - context.hot_octets, _SPILL_OCTETS)
        for upstream in context.upstreams.values():
            some: list[Message] = []
            for message in islice(upstream.ids.values(), 2 * _SPILL):
                if excess <= 0 or len(some) == _SPILL:
                    break
                if message.home and message.phase is Phase.SUBMITTED:  # else it is becoming a row
                    some.append(message)
                    excess -= message.weight
            for message in some:
                try:
                    self._chill(message, upstream, self._store.batch)
                except Exception as error:  # noqa: BLE001  the item's edge
                    self._stuck(message, error)
            if some:
                self._store.kick()

    def _move(self, thing: Message | Mail | Parked, batch: Batch) -> None:
        """Takes one thing out of its segment: as a cold row where it only waits, into the current segment otherwise."""
        if isinstance(thing, Message) and thing.phase is Phase.SUBMITTED and thing.upstream is not None:
            self._chill(thing, thing.upstream, batch)
        elif isinstance(thing, Mail) and self.mailroom.spill(thing):
            pass
        else:
            self._rewrite(thing, batch)

    def _rewrite(self, thing: Message | Mail | Parked, batch: Batch) -> None:
        """Writes one thing into the current segment."""
        journal = self.context.journal
        entry = thing.entry()  # tried first
        journal.remove(thing)
        batch.marks.append(entry)
        journal.add(thing)

    def _stuck(self, thing: Message | Mail | Parked, error: Exception) -> None:
        """What cannot be moved out of its segment would keep that for ever, and be tried with each tick."""
        guard = self.context.guard
        if isinstance(thing, Message):
            guard.message(SPILL, error, thing)
        elif isinstance(thing, Mail):
            guard.mail(SPILL, error, thing)
        else:
            self.receipts.parking.set_aside(thing, error, SPILL)
        self.context.journal.remove(thing)

    def _chill(self, message: Message, upstream: UpstreamState, batch: Batch) -> None:
        # Its receipt may be three days late, however short the time was in which it was worth delivering.
        expires = min(max(message.expires + _AFTER_VALIDITY, int(self.context.wall()) + _AFTER_SUBMIT), 0xFFFFFFFF)
        key = canonical(message.upstream_id)
        row = ColdRow(Kind.WAITING, upstream.name, key, message.id, expires, message.payload())  # tried first
        self.context.journal.remove(message)
        batch.moves.append(row)
        batch.marks.append(mark(Entry.DONE, message.id))  # in the journal, that is: it lives on as a row
        message.home = 0
        message.cold = (Kind.WAITING, upstream.name, key)
        upstream.cold_waiting += 1
        batch.then.append(lambda: upstream.forget(message))

    def _displace(self, message: Message) -> None:
        """Its carrier has given its id to another: from now on it is found among the rows, and addresses tell them apart."""
        upstream = message.upstream
        if upstream is None or message.phase is not Phase.SUBMITTED:
            return
        upstream.given_again(message.upstream_id)
        upstream.displaced.setdefault(message.upstream_id, {})[message.id] = message
        if message.home:
            try:
                self._chill(message, upstream, self._store.batch)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._stuck(message, error)

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
