"""Takes a damaged item out of everything that it stands in, and gives it an end that its sender can see. An item is damaged
when an error interrupted its handling, or when it does not open."""

from __future__ import annotations

from smppd.message import State
from smppd.protocol.wire import Status
from smppd.relay.accept.answers import Answers
from smppd.relay.context import Context
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.guard import SWEEP
from smppd.relay.state.model import Message
from smppd.relay.state.phase import OUT, Phase
from smppd.store.api import Kind


class Withdrawal:
    """See the module."""

    def __init__(self, context: Context, answers: Answers, mailroom: Mailroom) -> None:
        self._context = context
        self._answers = answers
        self._mailroom = mailroom

    def withdraw(self, message: Message) -> None:
        """Takes a message out of everything that it may stand in, whatever state it was left in. It ends as REJECTED where
        no carrier can have it, and as UNKNOWN otherwise."""
        context, guard = self._context, self._context.guard
        was = message.phase
        if message.customer is not None:
            guard.call_guarded(SWEEP, lambda: self._answers.answer_upstream(message, Status.RSYSERR, context.now()))
            message.customer = None
        if message.refusal is not None:
            return  # a record and no life in the spool
        guard.call_guarded(SWEEP, lambda: context.phases.end(message, context.upstreams.values()))
        context.ledger.close(message)
        if was is not Phase.DONE:
            out = bool(OUT >> was & 1)
            state = State.UNKNOWN if out or message.duplicate else State.REJECTED
            error = 0 if state is State.UNKNOWN else int(Status.RSYSERR)
            context.append_event(message.id, state, error=error, duplicate=message.duplicate)
            if message.wants_failure and not message.reported:
                guard.call_guarded(SWEEP, lambda: self._mailroom.post_receipt(message, state, error))
        context.store.kick()

    def row_damaged(self, kind: Kind, owner: str, identity: int) -> None:
        """A cold row does not open, and the store has set it aside. It is not counted any more, and its record says what is
        known."""
        context = self._context
        if context.ledger.is_dropped(kind, owner, identity):
            return
        if kind is Kind.QUEUE:
            name, _, route = owner.partition("\n")
            lane = context.account(name).lanes.get(route)
            if lane is not None:
                if not lane.cold or identity <= lane.upto:
                    return  # not counted, or in memory, and goes on from there
                lane.row_taken()
            # Rows of lanes were never released, so no carrier has it.
            context.append_event(identity, State.REJECTED, error=Status.RSYSERR)
        elif kind is Kind.MAIL:
            box = context.account(owner).mailbox
            if identity not in box.read and box.cold:
                box.backlog.take()
        elif kind is Kind.WAITING:
            upstream = context.upstream(owner)
            if upstream.cold_waiting:
                upstream.unshelved()
            context.append_event(identity, State.UNKNOWN)
        context.store.nudge()
