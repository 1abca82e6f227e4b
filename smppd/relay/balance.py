"""What is left to do after something was caught half-way: a message is taken out of wherever it stands, with an end that its
sender can see, and the counts are made anew from what they count.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from smppd.message import State
from smppd.protocol.wire import Status
from smppd.relay.context import Context
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.guard import SWEEP
from smppd.relay.ledger.journal import Entry, mark
from smppd.relay.receipts.parking import parked_weight
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.state.model import Message, Phase, UpstreamState
from smppd.relay.state.post import Mail
from smppd.store.api import Kind

# Phases in which a carrier may have it, so that nobody can say that it was not delivered.
_OUT: Final = frozenset((Phase.SENT, Phase.UNKNOWN, Phase.SUBMITTED))
# Seconds between two counts at least: they take as long as memory is full.
_EVERY: Final = 10.0


class Balance:
    """See the module."""

    def __init__(self, context: Context, dispatch: Dispatch, mailroom: Mailroom) -> None:
        self._context = context
        self._dispatch = dispatch
        self._mailroom = mailroom
        self._counted = float("-inf")

    def withdraw(self, message: Message) -> None:
        """Takes a message out of everything it may stand in, whatever state it was left in, and ends it: REJECTED where no
        carrier can have it, UNKNOWN otherwise."""
        context, guard = self._context, self._context.guard
        was, message.phase = message.phase, Phase.DONE
        ended = was is Phase.DONE
        out = was in _OUT or (message.cold is not None and message.cold[0] == Kind.WAITING)
        if message.customer is not None:
            guard.guarded(SWEEP, lambda: self._dispatch.answer(message, Status.RSYSERR, context.now()))
            message.customer = None
        if message.refusal is not None:
            return  # a record and no life in the spool
        lane = message.lane
        if was is Phase.QUEUED and not message.home and message.cold is None and message not in lane.hot:
            # A row that is in a batch, or has just become durable.
            lane.cold -= 1
            lane.unstored -= not message.stored
            message.cold = (Kind.QUEUE, lane.name, b"")
        lanes = self._dispatch.lanes
        lanes.out(message)
        lanes.unfile(message)
        if message.known is not None:
            message.known.taken = True
        if message.leaving:
            lane.left(message)
        for upstream in context.upstreams.values():
            guard.guarded(SWEEP, partial(self._forget, upstream, message))
        self._dispatch.holding.take_out(message)
        context.journal.remove(message)
        if message.home:
            context.store.batch.marks.append(mark(Entry.DONE, message.id))
            message.home = 0
        elif message.cold is not None:
            if message.cold[0] == Kind.WAITING and message.upstream is not None:
                message.upstream.cold_waiting -= 1
            context.drop(*message.cold, message.id)
            message.cold = None
        if not ended:
            state = State.UNKNOWN if out or message.duplicate else State.REJECTED
            error = 0 if state is State.UNKNOWN else int(Status.RSYSERR)
            context.event(message.id, state, error=error, duplicate=message.duplicate)
            if message.wants_failure and not message.told:
                guard.guarded(SWEEP, lambda: self._mailroom.receipt(message, state, error))
        context.store.kick()

    def _forget(self, upstream: UpstreamState, message: Message) -> None:
        upstream.ready.take_out([message])
        if message.part is not None:
            upstream.aside.remove(message)
        upstream.unknown.pop(message.id, None)
        upstream.retried.pop(message.id, None)
        upstream.forget(message)
        if upstream.probe is message:
            upstream.probe = None

    def row_gone(self, kind: Kind, owner: str, identity: int) -> None:
        """A cold row does not open and is set aside: it is counted no longer, and its record says what is known."""
        context = self._context
        if (kind, identity) in context.dropping:
            return
        if kind is Kind.QUEUE:
            name, _, route = owner.partition("\n")
            lane = context.account(name).lanes.get(route)
            if lane is None or not lane.cold or identity <= lane.upto:
                return  # not counted, or in memory, and goes on from there
            lane.cold -= 1
            lane.account.queued -= 1
            # Rows of lanes were never released, so no carrier has it.
            context.event(identity, State.REJECTED, error=Status.RSYSERR)
        elif kind is Kind.MAIL:
            box = context.account(owner).mailbox
            if identity not in box.read and box.cold:
                box.cold -= 1
        elif kind is Kind.WAITING:
            upstream = context.upstream(owner)
            upstream.cold_waiting -= upstream.cold_waiting > 0
            context.event(identity, State.UNKNOWN)
        context.store.nudge()

    def even(self, now: float) -> None:
        """Once a second: counts anew what was caught half-way may have left one off."""
        guard = self._context.guard
        if guard.uneven and now - self._counted >= _EVERY:
            self._counted = now
            guard.uneven = False
            self.count()

    def count(self) -> None:
        """Makes the counts of messages and mail, and their octets, from what they count. As long as memory is full: 100 ms for
        100,000."""
        context = self._context
        queued = dict.fromkeys(context.accounts.values(), 0)
        reserved = dict.fromkeys(context.upstreams.values(), 0)
        for things in context.journal.live.values():
            for thing in things.values():
                if not isinstance(thing, Message):
                    continue
                if thing.phase in (Phase.READY, Phase.SENT, Phase.UNKNOWN, Phase.HELD):
                    queued[thing.account] += 1
                if thing.phase in (Phase.READY, Phase.SENT) and thing.upstream is not None:
                    reserved[thing.upstream] += 1
        for upstream, number in reserved.items():
            upstream.reserved = number
            for message in upstream.aside:
                queued[message.account] += 1
            for message in upstream.unknown.values():
                queued[message.account] += not message.home  # out of a row, after a restore
            upstream.parked_octets = sum(map(parked_weight, upstream.parked.values()))
            upstream.early_octets = sum(len(early.sm.raw) for some in upstream.early.values() for early in some)
        octets = 0
        for account, moving in queued.items():
            account.queued = moving + sum(len(lane) for lane in account.lanes.values())
            box = account.mailbox
            busy = [
                entry.token
                for customer in account.sessions
                for entry in customer.session.outstanding.values()
                if isinstance(entry.token, Mail) and entry.token.busy
            ]
            box.sent = len(busy)
            # What was read back from rows is in no segment.
            read = [mail for some in (box.hot, box.later.values(), busy) for mail in some if not mail.home]
            box.octets = sum(mail.weight for mail in read)
            octets += box.octets
            for some in (*(lane.hot for lane in account.lanes.values()), account.aside):
                octets += sum(message.weight for message in some if not message.home)
        for things in context.journal.live.values():
            for thing in things.values():
                octets += thing.weight
                if isinstance(thing, Mail):
                    thing.account.mailbox.octets += thing.weight
        context.journal.octets = octets
