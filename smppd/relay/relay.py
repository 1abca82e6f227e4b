"""`Relay` puts the data path together. The rest of the daemon speaks to the relay by its methods: they are called with what
customers and carriers send, with what the store reports, with the time, with a new configuration, at the start and at the
end. No code outside this room uses the parts behind `Relay`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple

from smppd.config import Settings
from smppd.consent.register import ConsentScreen
from smppd.consent.screen import OptOutScreen
from smppd.consent.suppression import KEY_OCTETS, Hashes, Register
from smppd.consent.words import WordTable
from smppd.ids import Ids, id_at, id_time
from smppd.message import Verdict
from smppd.metrics import Metrics
from smppd.policy.hours.hours import Hours
from smppd.policy.pipeline import Pipeline
from smppd.policy.screens import Admission, Question, Screen, admission_of, ear_of
from smppd.protocol.session import Session
from smppd.protocol.wire import Sm, command_name, status_name
from smppd.relay.accept.answers import Answers
from smppd.relay.accept.desk import SubmitDesk
from smppd.relay.accept.duplicates import Duplicates
from smppd.relay.accept.parts import HeldParts
from smppd.relay.accept.routing import Router, Routes
from smppd.relay.acting import Acted, Acting, Waiting
from smppd.relay.adopting import Adopting
from smppd.relay.context import Context
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.erasing import Erasing, Found, Kept, OfRecords, Person
from smppd.relay.flow import Flow, FlowMeter
from smppd.relay.gauges import Gauges, Load, Picture, Readiness
from smppd.relay.guard import COMMIT, ROWS, SWEEP
from smppd.relay.inheritance import convert
from smppd.relay.log_changes import LogChanges
from smppd.relay.operations import History, Operations
from smppd.relay.receipts.erased import ErasedNumbers
from smppd.relay.receipts.mo_owners import MoOwners
from smppd.relay.receipts.opt_outs import Change, OptOuts
from smppd.relay.receipts.receipts import Receipts
from smppd.relay.record import Recorder
from smppd.relay.recovery import Recovery
from smppd.relay.reply_senders import ReplySenders
from smppd.relay.send.dispatch import Dispatch, Listeners
from smppd.relay.send.overdue import Overdue
from smppd.relay.send.rerouting import Rerouting
from smppd.relay.short_ids import ShortIds
from smppd.relay.spill import Spill
from smppd.relay.state.backlog import Expiry
from smppd.relay.state.model import Account, CustomerPeer, Message, Peer, UpstreamState
from smppd.relay.stranded import Stranded, stranded
from smppd.relay.views import LimitView, MessageQuery, Names, View, Views
from smppd.relay.withdrawal import Withdrawal
from smppd.store.api import Batch, ColdRow, Kind, OptOut, Store
from smppd.vault.keys import KeyRing

_EXPIRED = 500
_LEFT = 0.5  # seconds for which what nobody waits for is left to a commit that comes anyway
_LOOK = 60.0  # seconds between two counts of what is damaged, which commands remove


Response = tuple[Any, int, int, bytes]
"""A response to a request of ours, as a session gives it: (token, command, status, frame)."""


_LEAST: Final = 1 / 64  # of a rate; a node that is given less sends so much all the same


def _share(shares: Mapping[str, float], name: str) -> float:
    return min(1.0, max(_LEAST, shares.get(name, 1.0)))


class Routing(NamedTuple):
    """Where messages go, out of one configuration: to carriers, and to the accounts that own a number; and by which words a
    handset says that it wants no more; and when they may."""

    router: Router
    owners: MoOwners
    words: WordTable
    hours: Hours

    @classmethod
    def of(cls, settings: Settings) -> Routing:
        """Takes some milliseconds for a thousand accounts, in any thread. Raises PolicyError."""
        return cls(Router(settings), MoOwners(settings), WordTable(settings), Hours.of(settings))


class Relay:
    """See the module. ``begin`` starts it; before that it only knows its configuration.

    ``pipelines``: of each account by its name, None for one without policies. ``screens``: what is asked after the rules,
    likewise (`policy.screens`). ``ids`` draws messages' ids. ``wall``: epoch seconds; ``now``: monotonic ones;
    ``later(seconds, function)`` runs a function on the reactor thread. ``broken(reason)`` is called when nothing may be
    acknowledged any more. ``history`` looks finished messages up for query_sm, which answers without it that it does not know
    them. ``reply_secret`` keys what is remembered for replies to replaced senders, ``erased_secret`` what is of erased
    numbers; without one nothing is. ``register``: of opt-outs, which ``begin`` fills; without one there are none. ``opted_out``
    hears of changes by words. All of it is called on the reactor thread."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        ring: KeyRing,
        metrics: Metrics,
        *,
        pipelines: Mapping[str, Pipeline | None],
        screens: Mapping[str, tuple[Screen, ...]] | None = None,
        ids: Ids,
        wall: Callable[[], float],
        now: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
        random: Random,
        broken: Callable[[str], None],
        history: History | None = None,
        register: Register | None = None,
        opted_out: Callable[[Change], object] = lambda _change: None,
        reply_secret: bytes | None = None,
        erased_secret: bytes | None = None,
    ) -> None:
        self.context = context = Context(
            store=store,
            ring=ring,
            new_id=ids,
            wall=wall,
            now=now,
            later=later,
            metrics=metrics,
            # `Withdrawal` is made of the context, so the context can only call it by this function.
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
        routing = Routing.of(settings)
        self.routes = Routes(routing.router)
        recorder = Recorder(context)
        duplicates = Duplicates()
        self.short_ids = ShortIds(context, store)
        self.customer_answers = Answers(context, duplicates)
        self.mailroom = Mailroom(context)
        self.withdrawal = Withdrawal(context, self.customer_answers, self.mailroom)
        # `Dispatch` and `Receipts` call each other: a message that gets its upstream id may have a receipt that waits for
        # it, and a receipt may settle a message that has no answer.
        listeners = Listeners(
            answer_customer=self.customer_answers.answer_upstream,
            post_receipt=self.mailroom.post_receipt,
            upstream_id_known=lambda message: self.receipts.upstream_id_known(message),
            upstream_id_reused=lambda message: self.spill.upstream_id_reused(message),
            became_unknown=lambda upstream, messages, at: self.receipts.parking.became_unknown(upstream, messages, at),
        )
        self.dispatch = Dispatch(context, random, listeners)
        self.overdue = Overdue(context, self.dispatch)
        self.rerouting = Rerouting(context, self.dispatch.lanes, self.routes.route)
        self._register = register
        self.opt_outs = OptOuts(
            context,
            self.dispatch,
            recorder,
            self.routes.route,
            register if register is not None else Register(Hashes(os.urandom(KEY_OCTETS))),
            routing.words,
            opted_out,
        )
        self.reply_senders = ReplySenders(context, reply_secret)
        self.erased_numbers = ErasedNumbers(context, erased_secret)
        self.held_parts = HeldParts(context, self.dispatch, self.routes, self.reply_senders)
        self.desk = SubmitDesk(
            context,
            self.dispatch,
            self.held_parts,
            self.routes,
            recorder,
            self.customer_answers,
            duplicates,
            self.short_ids,
            self.mailroom,
            self.reply_senders,
        )
        self.receipts = Receipts(
            context,
            self.dispatch,
            self.mailroom,
            recorder,
            routing.owners,
            self.opt_outs,
            self.reply_senders,
            self.erased_numbers,
        )
        self.operations = Operations(context, self.dispatch, recorder, self.short_ids, history)
        self.spill = Spill(context, self.mailroom, self.receipts.parking)
        self.erasing = Erasing(
            context,
            store,
            self.dispatch,
            self.mailroom,
            self.receipts.parking,
            self.reply_senders,
            self.erased_numbers,
            lambda: self.acting.brought,
            lambda rows: self.adopting.adopt(rows),
        )
        self.acting = Acting(context, store, self.dispatch, self.rerouting)
        self.adopting = Adopting(
            context,
            self.dispatch,
            self.mailroom,
            self.held_parts,
            self.receipts.parking,
            self.desk.restore_remembered,
        )
        self.mailroom.given_up = lambda account: self.adopting.rows_unheld(Kind.MAIL, account, ())
        self._shares: tuple[Mapping[str, float], Mapping[str, float]] = ({}, {})
        self._parked_rows, self._inherited = Expiry(Kind.PARKED, _EXPIRED), Expiry(Kind.INHERITED, _EXPIRED)
        self._expiries = (
            (Expiry(Kind.QUEUE, _EXPIRED), self.overdue.expired_rows),
            (Expiry(Kind.MAIL, _EXPIRED), self.mailroom.expired_rows),
            (Expiry(Kind.WAITING, _EXPIRED), self.receipts.expired_rows),
        )
        self.counts = Gauges(context, store)
        self.flow_meter = FlowMeter(context)
        self.views = Views(context, self.counts, self.flow_meter)
        self._looked = now()
        self._swept = self._kicked = 0.0
        self._log_changes = LogChanges()
        self.take_configuration(settings, routing, pipelines, screens)

    # -- configuration -------------------------------------------------------------------------------------------------

    def take_configuration(
        self,
        settings: Settings,
        routing: Routing,
        pipelines: Mapping[str, Pipeline | None],
        screens: Mapping[str, tuple[Screen, ...]] | None = None,
    ) -> None:
        """Takes all of a configuration: accounts and their policies, upstreams, routes, owners of numbers, limits, forms of id.
        ``routing`` and ``pipelines`` were made of the same settings; a reload makes them beside the reactor. No setting is
        refused here. Policies go on with what they know of unfinished long messages. Raises KeyError where an account has no
        entry in ``pipelines``; then nothing has changed."""
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
        self.rerouting.start_over()
        self.routes.router = routing.router
        self.desk.patience = settings.limits.throttle_wait
        context.tlv_limit = settings.limits.tlvs
        context.parked_limit = settings.limits.parked
        self.receipts.owners = routing.owners
        self.opt_outs.words = routing.words
        for name, pipeline in judged:
            account = context.accounts[name]
            if pipeline is not None and account.pipeline is not None:
                pipeline.take_over_parts(account.pipeline)
            account.pipeline = pipeline
            asked = screens.get(name, ()) if screens else ()
            account.opt_out = next((one for one in asked if isinstance(one, OptOutScreen)), None)
            account.consent = next((one for one in asked if isinstance(one, ConsentScreen)), None)
            account.admission = admission_of(asked)
            account.ear = ear_of(asked)
            # Admission is asked before the rules: an account that has no other screen costs no question.
            account.screens = tuple([one for one in asked if not isinstance(one, Admission)])
        # What waits is asked again, by the new settings. More than the versions of lists that left can take away.
        self.opt_outs.register.epoch += 1 << 32
        context.use_hours(routing.hours)
        self.short_ids.use(settings)
        self.set_shares(*self._shares)

    def stranded(
        self, settings: Settings, routing: Routing, pipelines: Mapping[str, Pipeline | None]
    ) -> list[Stranded]:
        """What waits and would have no upstream by a configuration that is not in force; see ``relay.stranded``. ``routing``
        and ``pipelines`` were made of it for this question alone."""
        return stranded(self.context, settings, routing.router, pipelines)

    def unrouted(self, routing: Routing) -> list[str]:
        """The accounts whose messages have a route now and would have none by another configuration, by name."""
        now, then = self.routes.router, routing.router
        named = then.accounts() & now.accounts()
        return sorted(name for name in named if now.leads_somewhere(name) and not then.leads_somewhere(name))

    def account(self, name: str) -> Account | None:
        """The account of this name, which customers bind to; None where nobody has it."""
        return self.context.accounts.get(name)

    def explain_screens(self, name: str, frame: bytes, verdict: Verdict) -> list[tuple[str, str]]:
        """What the screens of an account would say of a message (a submit_sm) now, each by its name, in the order in which they
        are asked. ``verdict``: that of the rules. Counts and changes nothing. KeyError where there is no such account,
        ValueError where that is no message."""
        context = self.context
        account = context.accounts[name]
        sm = Sm(frame)
        settings, wall = account.settings, context.wall()
        expires = wall + settings.expire_after if settings.expire_after is not None else float("inf")
        question = Question(name, account.region, sm, verdict, settings.class_, wall, context.now(), expires)
        admission = account.admission
        said = [] if admission is None else [(admission.name, admission.explain(question))]
        return said + [(one.name, one.explain(question)) for one in account.screens]

    def upstream(self, name: str) -> UpstreamState:
        """An upstream of the configuration. KeyError."""
        return self.context.upstreams[name]

    def has_upstream(self, name: str) -> bool:
        """Whether there is an upstream of this name: in the configuration, or what waits for it or its receipts knows it."""
        return name in self.context.upstreams

    def lifetime(self, owner: str) -> float:
        """Seconds for which what is damaged may be kept, by its owner: see ``Guard.lifetime``. Any thread."""
        return self.context.guard.lifetime(owner)

    # -- the start and the end -----------------------------------------------------------------------------------------

    def begin(self) -> int:
        """Reads back what was on its way, opens the store for writing and goes on with it. From then on the relay takes
        messages, unless the store is ``read_only``. Returns how many things were on their way. To be called once, before
        there is any session; raises RuntimeError when called again. Raises what the store raises."""
        if self.ready:
            raise RuntimeError("the relay has begun")
        context, store = self.context, self._store
        context.restored_upto = store.meta("restored", 0)
        recovery = Recovery(
            context, self.dispatch.lanes, self.receipts.parking, self.reply_senders, self.erased_numbers
        )
        counts = store.counts()
        living = recovery.run(store.replay(), counts)
        self.desk.restore_remembered(context.ledger.living())
        self._ids.skip(context.ledger.highest())
        if self._register is not None:
            self.opt_outs.load(store.opt_outs(), store.doubts())
        store.open(self, self.spill, self._ids)
        self.ready = True
        self.desk.accepts = self._accepts
        context.guard.do_chore("held parts", lambda: self.held_parts.judge_again(context.now()))
        context.guard.do_chore("parked receipts", self.receipts.parking.resume_searches)
        context.guard.do_chore("rows that nobody holds", lambda: self.adopting.begin(counts))
        store.kick()
        store.watch()  # known before the first message, not a second later
        return living

    def stop_accepting(self) -> None:
        """Refuses messages from now on; those that were accepted go on."""
        self.desk.accepts = False

    def stop_sending(self) -> None:
        """Accepts no more messages, and releases none to carriers. What waits stays in the store."""
        self.stop_accepting()
        self.dispatch.draining = True

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Calls a function after some seconds, on the reactor thread. An error in the function stops nothing else."""
        self.context.later(seconds, function)

    def flush(self) -> None:
        """Lets every peer send what it has: at the end of whatever was handled."""
        self.context.flush()

    def do_chore(self, name: str, chore: Callable[[], object]) -> None:
        """Does one chore of the housekeeping. An error in it stops nothing else: see ``Guard.do_chore``."""
        self.context.guard.do_chore(name, chore)

    # -- customers -----------------------------------------------------------------------------------------------------

    def customer_bound(self, customer: CustomerPeer, now: float) -> None:
        """A customer has bound."""
        customer.account.sessions.append(customer)
        if customer.session.can_receive:
            self.mailroom.settle_place(customer.account)
            self.mailroom.customer_bound(customer.account, now)
            self.adopting.customer_bound(customer.account.name)
            self.context.flush()

    def customer_sent(
        self,
        customer: CustomerPeer,
        answers: list[Response],
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
            self.operations.answer_requests(customer, requests, now)

    def customer_silent(self, customer: CustomerPeer, unanswered: list[Any], now: float) -> None:
        """The response timer ran out on mail (tokens of its session) that a customer was sent: it goes again after a pause."""
        self.mailroom.answers_missing(customer.account, unanswered, now, wait=True)
        self.context.flush()

    def customer_writable(self, customer: CustomerPeer, now: float) -> None:
        """A customer's connection takes octets again, and its window is open: mail that waits goes on."""
        self.mailroom.deliver_mail(customer.account, now)
        self.context.flush()

    def customer_left(self, customer: CustomerPeer, unanswered: list[Any], now: float) -> None:
        """A customer's session is gone. What it was sent and has not answered (tokens of its session) will have no
        answer."""
        account = customer.account
        if customer in account.sessions:
            account.sessions.remove(customer)
        self.context.dirty.pop(customer, None)
        self.mailroom.answers_missing(account, unanswered, now, wait=False)
        self.mailroom.settle_place(account)
        self.context.flush()

    # -- carriers ------------------------------------------------------------------------------------------------------

    def carrier_bound(self, upstream: UpstreamState, link: Peer, now: float) -> None:
        """A session to a carrier is bound."""
        if link.session.can_receive:
            upstream.receivers.append(link)
        if link.session.can_send:
            self.dispatch.link_up(upstream, link, now)
        self.context.flush()

    def carrier_sent(
        self, upstream: UpstreamState, link: Peer, answers: list[Response], messages: list[bytes], now: float
    ) -> None:
        """What a carrier sent over a bound link in one chunk, as its session sorted it: responses to our messages, then what it
        delivers. What is acknowledged goes out with the next ``flush``."""
        if answers:
            self.dispatch.carrier_answered(upstream, answers, now)
        if messages:
            self.receipts.carrier_delivered(upstream, link, messages, now)

    def carrier_silent(self, upstream: UpstreamState, unanswered: list[Any], now: float) -> None:
        """The response timer of some requests to a carrier ran out (tokens of its session; those of submits are
        messages)."""
        self.dispatch.answers_timed_out(upstream, [token for token in unanswered if isinstance(token, Message)], now)
        self.context.flush()

    def carrier_left(self, upstream: UpstreamState, link: Peer, unanswered: list[Any], now: float) -> None:
        """A link to a carrier is gone, or is not to be used any more. ``unanswered`` (tokens of its session) will have no
        answer. For a link that is to be unbound this is called twice: first with nothing unanswered, and again when the link
        is gone."""
        self.context.dirty.pop(link, None)
        if link in upstream.receivers:
            upstream.receivers.remove(link)
        self.dispatch.link_down(upstream, link, [t for t in unanswered if isinstance(t, Message)], now)
        self.context.flush()

    def peer_nacked(self, side: str, name: str, session: Session, now: float) -> None:
        """A peer sent generic_nack. The log says which request it did not understand. ``side``: account or upstream."""
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
        # Each item is guarded by itself. These guards are for the code around the items.
        guarded = context.guard.call_guarded
        if batch.accepted:
            guarded(COMMIT, lambda: self.desk.batch_committed(batch.accepted, now))
        # Messages that were released in this batch have waited longer than those that were accepted in it: they go first.
        if batch.released:
            guarded(COMMIT, lambda: self.dispatch.releases_committed(batch.released))
        if batch.accepted:
            complete = partial(self.held_parts.batch_committed, batch.accepted, now)
            guarded(COMMIT, lambda: self.dispatch.batch_committed(batch.accepted, complete))
        if batch.acks:
            guarded(COMMIT, lambda: self.receipts.batch_committed(batch.acks))
        if batch.opt_outs or batch.doubts or batch.decided or batch.asked:
            guarded(COMMIT, lambda: self.opt_outs.batch_committed(batch))
        if batch.mails:
            guarded(COMMIT, lambda: self.mailroom.batch_committed(batch.mails, now))
        for function in batch.then:
            guarded(COMMIT, function)
        context.flush()

    def batch_refused(self, batch: Batch, reason: str) -> None:
        """See ``store.api.Sink``."""
        now = self.context.now()
        guarded = self.context.guard.call_guarded
        guarded(COMMIT, lambda: self.held_parts.batch_refused(batch.accepted))
        guarded(COMMIT, lambda: self.dispatch.batch_refused(batch.accepted))
        guarded(COMMIT, lambda: self.desk.batch_refused(batch.accepted, now))
        guarded(COMMIT, self.reply_senders.batch_refused)
        guarded(COMMIT, lambda: self.receipts.batch_refused(batch.acks))
        guarded(COMMIT, lambda: self.opt_outs.batch_refused(batch))
        guarded(COMMIT, lambda: self.mailroom.batch_refused(batch.mails))
        self.context.metrics.store_full.set(1)
        self.context.flush()

    def store_broken(self, reason: str) -> None:
        """See ``store.api.Sink``."""
        self.stop_accepting()
        self._broken(reason)

    def row_damaged(self, kind: Kind, owner: str, identity: int) -> None:
        """The store found a cold row that does not open, and has set it aside: it is counted no more."""
        self.context.guard.call_guarded(ROWS, lambda: self.withdrawal.row_damaged(kind, owner, identity))

    # -- several nodes on one store (`store.nodes`) --------------------------------------------------------------------

    def rows_unheld(self, kind: int, owner: str, ids: Sequence[int]) -> None:
        """Nobody holds some rows (`store.api.Kind`) that another node put or a take-over left: these ids, or (empty) some. The
        relay claims what it can do something with, now or later, and looks by itself every half a minute."""
        self.context.guard.call_guarded(ROWS, lambda: self.adopting.rows_unheld(kind, owner, ids))
        self._store.kick()
        self.context.flush()

    def set_alone(self, alone: bool) -> None:
        """Whether no other node lives. Where others do, receipts whose message is not here are put where all can find them.
        True until this is called."""
        self.receipts.parking.set_alone(alone)
        self.reply_senders.alone = alone

    def set_elsewhere(self, receivers: Collection[str]) -> None:
        """The accounts that have a receive-capable session at another node. Mail of those that have none here is handed over to
        whoever claims it, now and as it comes. To be called whenever it changes; nothing happens where it has not."""
        self.mailroom.set_elsewhere(receivers)
        self.context.flush()

    def set_shares(self, accounts: Mapping[str, float], upstreams: Mapping[str, float]) -> None:
        """This node's part of the rate (``throughput`` and ``burst``) of each account and upstream, above 0 and 1 at the most;
        1 for those that are not named. To be called whenever it changes; what has not changed costs nothing."""
        self._shares = dict(accounts), dict(upstreams)
        now = self.context.now()
        for account in self.context.accounts.values():
            account.set_share(_share(accounts, account.name), now)
        for upstream in self.context.upstreams.values():
            upstream.set_share(_share(upstreams, upstream.name), now)

    def convert(self, blocks: Iterable[tuple[int, bytes]]) -> Iterator[ColdRow]:
        """Makes rows of all that lives in the journal of a node (`store.nodes.Convert`; `relay.inheritance`). Any thread."""
        return convert(blocks, self.context.wall)

    # -- erasure -------------------------------------------------------------------------------------------------------

    def erase_person(
        self,
        forms: Collection[bytes],
        accounts: Collection[str] | None,
        then: Callable[[Found], None],
        *,
        acts: bool,
        held: Sequence[Kept] = (),
    ) -> None:
        """Takes a person out of all that is on its way, or only looks where that is not to be done (``acts``). ``forms``: of
        the number (`vault.numbers`). ``accounts``: None for all. ``held``: what stays, because of holds. ``then(found)`` on the
        reactor thread at the end."""
        self.erasing.erase(Person(forms, accounts, held), then, acts=acts)

    def erase_records(self, records: Collection[int], then: Callable[[Found], None]) -> None:
        """The same of what belongs to some records: in a restored store, where only their ids are known."""
        self.erasing.erase(OfRecords(records), then, acts=True)

    # -- acts of an operator -------------------------------------------------------------------------------------------

    def set_upstream_act(self, name: str, act: str) -> None:
        """Pauses an upstream (``UpstreamState.act``: `paused`, `draining` or `drained`), or lets it go on (empty): no message
        is released to it, and what was released and not sent goes back. One that is not in the configuration keeps it, and has
        it when it comes back."""
        context = self.context
        self.dispatch.set_act(context.upstream(name), act, context.now())
        context.store.kick()
        context.flush()

    def upstream_awaits(self, name: str) -> tuple[int, int]:
        """What an upstream is still waited for: (answers to what was sent, receipts)."""
        upstream = self.context.upstream(name)
        sent = sum(
            1 for link in upstream.links for e in link.session.outstanding.values() if isinstance(e.token, Message)
        )
        return sent, len(upstream.ids) + upstream.cold_waiting

    def act_on_waiting(self, wanted: Waiting, then: Callable[[Acted], None]) -> None:
        """Ends messages that wait, or gives them another way: see `relay.acting`. ``then(acted)`` on the reactor thread when
        all of it is durable."""
        self.acting.act(wanted, then)

    def last_id(self, ago: float = 0.0) -> int:
        """The highest id that a message which was accepted until now can have, or until so many seconds ago."""
        newest = self.context.new_id()
        return newest if ago <= 0 else id_at(id_time(newest) - ago)

    # -- opt-outs ------------------------------------------------------------------------------------------------------

    def change_opt_outs(
        self, changes: Sequence[OptOut], decided: Collection[int], then: Callable[[bool], None]
    ) -> None:
        """Changes the register of opt-outs for a command, and takes messages (ids of their records) out of the review.
        ``then(stored)``: whether that is durable; False where there was no space, and nothing has changed."""
        self.opt_outs.ask(changes, decided, then)

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Call about ten times a second."""
        if not self.ready:
            return
        chore = self.context.guard.do_chore
        chore("flow", lambda: self.flow_meter.tick(now))
        chore("spill", lambda: self._spill(now))
        chore("early receipts", lambda: self.receipts.settle_early(now))
        chore("rerouting", lambda: self.rerouting.reroute_some(now))
        # A full disk is tried again by the sweep, once a second. What nobody waits for may lie here a while: at low rates it
        # goes with the next message then, and costs no commit of its own.
        if self._store.takes and now - self._kicked >= _LEFT:
            self._kicked = now
            self._store.kick()
        if now - self._swept >= 1.0:
            self._swept = now
            self._sweep(now)
        self.context.flush()

    def _sweep(self, now: float) -> None:
        context = self.context
        store = self._store
        chore = context.guard.do_chore
        chore("rerouting", self.rerouting.sweep)
        chore("rerouting", lambda: self.rerouting.reroute_some(now))
        chore("held parts", lambda: self.held_parts.sweep(now))
        chore("messages", lambda: self.dispatch.sweep(now))
        chore("validity", self.overdue.end_expired)
        chore("messages", lambda: self.overdue.sweep_lanes(now))
        chore("messages", lambda: self.dispatch.send_all_ready(now))
        chore("mail", lambda: self.mailroom.sweep(now))
        chore("parked receipts", self.receipts.parking.sweep)
        chore("rows that nobody holds", lambda: self.adopting.sweep(now))
        chore("policies", lambda: self._policies(now))
        wall = int(context.wall())
        for expiry, end in self._expiries:
            chore("expiry", partial(self._expire, expiry, wall, end))
        if self.receipts.parking.has_rows:
            chore("expiry", lambda: self._expire(self._parked_rows, wall, self.receipts.parking.expired_rows))
        if self.adopting.has_inherited:
            chore("expiry", lambda: self._expire(self._inherited, wall, self.adopting.adopt))
        chore("replies", self.reply_senders.sweep)
        chore("erased numbers", self.erased_numbers.sweep)
        if now - self._looked >= _LOOK:
            self._looked = now
            store.look_at_damaged()
        store.watch()
        context.metrics.store_full.set(int(not store.takes))
        chore("gauges", self.counts.note_oldest_released)
        chore("telling", lambda: self._write_log(now))

    def _policies(self, now: float) -> None:
        """Policy forgets parts of long messages whose other parts did not come in time."""
        for account in list(self.context.accounts.values()):
            if account.pipeline is not None:
                try:
                    account.pipeline.expire(now)
                except Exception as error:  # noqa: BLE001  the edge of an account
                    self.context.guard.caught(SWEEP, error, owner=account.name)

    def _write_log(self, now: float) -> None:
        """Writes into the log what began and what ended since the last sweep, and how often many things happened."""
        self.context.log_counts.write()
        self.context.notices.tick(now)
        self._log_changes.write(self.context.upstreams, self._store.availability, now)

    def _expire(self, expiry: Expiry, wall: int, end: Callable[[list[ColdRow]], None]) -> None:
        context = self.context

        def end_rows(rows: list[ColdRow]) -> bool:
            alive = context.ledger.alive(rows)
            if alive:
                end(alive)
                self._store.kick()
                context.flush()
            return any(context.ledger.is_dropped(row.kind, row.owner, row.id) for row in alive)

        expiry.look(self._store, wall, context.guarded_rows, end_rows)

    def _spill(self, now: float) -> None:
        self._store.tick(now)
        if self._store.takes:
            self.spill.lighten()

    # -- what an operator sees -----------------------------------------------------------------------------------------

    def set_gauges(self) -> None:
        """Sets the gauges; called when somebody asks for them."""
        self.counts.set_gauges()

    def readiness(self) -> Readiness:
        """What /readyz and /healthz need to know of the relay."""
        return self.counts.readiness(self.ready)

    def load(self) -> Load:
        """What waits here."""
        return self.counts.load()

    def links(self) -> dict[str, int]:
        """How many links stand to each upstream that has one."""
        return self.counts.links()

    def picture(self) -> Picture:
        """Counts and states of everything."""
        return self.counts.picture()

    # What an operator sees of it: `relay.views`. ``names``: of the accounts that may be seen, None for all.

    def show_accounts(self, names: Names) -> Iterator[View]:
        """The accounts, each made as it is asked for."""
        return self.views.accounts(names)

    def show_upstreams(self) -> Iterator[View]:
        """The upstreams, likewise."""
        return self.views.upstreams()

    def show_queues(self, names: Names, upstream: str | None, stopped: Collection[str]) -> Iterator[View]:
        """The lanes in which something waits, likewise; those of one upstream alone, or of all (None). ``stopped``: upstreams
        that an act has paused."""
        return self.views.queues(names, upstream, stopped)

    def show_messages(self, query: MessageQuery, then: Callable[[list[View], bool], None]) -> None:
        """Messages on their way: ``then(messages, more)``, perhaps later."""
        self.views.messages(query, then)

    def show_limits(self, names: Names) -> list[LimitView]:
        """How much of each limit is used."""
        return self.views.limits(names)

    def show_flow(self, since: float, names: Names) -> Flow:
        """How many messages went by in each of the last seconds, from a time on (epoch seconds)."""
        return self.flow_meter.since(since, names)
