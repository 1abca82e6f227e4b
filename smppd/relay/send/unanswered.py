"""Messages of which nobody knows whether a carrier has them: they were sent, and no answer came.

For a while an answer or a receipt may still settle it; then each goes once more, flagged as a possible duplicate, or is
reported as unknown: ``on_unknown`` of a rule or of the account says which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smppd.message import State
from smppd.protocol.wire import Sm
from smppd.relay import log_counts
from smppd.relay.context import Context
from smppd.relay.guard import LINK, SWEEP
from smppd.relay.send.lanes import Lanes
from smppd.relay.state.addresses import agree, swapped, tail
from smppd.relay.state.model import Message, UpstreamState
from smppd.relay.state.phase import Phase

MAX_TRIES: Final = 1
# Messages that end or are sent again in one turn, and of those sent again, how many are looked at in a sweep.
_STEP: Final = 500
# Unanswered submits that are looked through for one whose addresses a receipt fits; with more, none is taken for unknown.
_IN_FLIGHT: Final = 4096


def only_one(upstream: UpstreamState, sm: Sm) -> Message | None:
    """The one unknown message that the addresses of a receipt fit; None if there are several, or if it may be about one that
    is being sent (again) just now and whose answer may bring its id."""
    fits = upstream.unknown.fitting(sm)
    if len(fits) != 1:
        return None
    for other in upstream.retried.fitting(sm):
        if not (other.awaits_receipt or other.phase is Phase.DONE) and other is not fits[0]:
            return None
    if sum(len(link.session.outstanding) for link in upstream.links) > _IN_FLIGHT:
        return None
    ends = (tail(sm.source_digits), tail(sm.destination_digits))
    for link in upstream.links:
        for entry in link.session.outstanding.values():
            message = entry.token
            if not isinstance(message, Message):
                continue
            fields = message.reversed
            if fields and tail(fields[2 : fields.find(0, 2)]) not in ends:
                continue
            if agree(sm, Sm(message.frame)):
                return None
    return fits[0]


def unanswered(upstream: UpstreamState, sm: Sm) -> Message | None:
    """A message that was sent and has no answer yet, to where a deliver_sm comes from and from where it goes; None with more
    than some thousands of them."""
    if sum(len(link.session.outstanding) for link in upstream.links) > _IN_FLIGHT:
        return None
    end = tail(sm.source_digits)
    for link in upstream.links:
        for entry in link.session.outstanding.values():
            message = entry.token
            if not isinstance(message, Message):
                continue
            fields = message.reversed
            if fields and tail(fields[2 : fields.find(0, 2)]) != end:
                continue
            if swapped(sm, Sm(message.frame)):
                return message
    return None


class Unknown:
    """See the module. ``end(message, state, error, upstream)`` ends a message with the receipt its sender asked for."""

    def __init__(
        self, context: Context, lanes: Lanes, end: Callable[[Message, State, int, UpstreamState | None], None]
    ) -> None:
        self._context = context
        self._lanes = lanes
        self._end = end

    def add(self, upstream: UpstreamState, messages: list[Message], now: float) -> None:
        """These were sent and no answer came (timer or cut link)."""
        context = self._context
        context.metrics.unanswered.labels(upstream.name).inc(len(messages))
        number = 0
        for message in messages:
            try:
                if message.phase is not Phase.SENT or message.upstream is not upstream:
                    continue
                number += 1
                message.deadline = now + message.account.settings.unknown_after
                context.phases.move(message, Phase.UNKNOWN)
                context.event(message.id, State.UNANSWERED, duplicate=message.duplicate, detail=upstream.detail)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.message(LINK, error, message)
        if number:
            context.tally.add(log_counts.UNKNOWN, upstream.name, number)
        context.store.kick()

    def sweep(self, upstream: UpstreamState, now: float) -> None:
        """Once a second: those whose time is over, some hundreds at a time."""
        self._due(upstream, now)
        for message in upstream.retried.oldest(_STEP):
            del upstream.retried[message.id]
            if not (message.awaits_receipt or message.phase is Phase.DONE):
                upstream.retried[message.id] = message  # behind the others, so that each has its turn

    def _due(self, upstream: UpstreamState, now: float) -> None:
        late = upstream.unknown.due(now, _STEP)
        again: list[Message] = []
        for message in late:
            try:
                if self._settle(upstream, message):
                    again.append(message)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(SWEEP, error, message)
        if again:
            self._lanes.requeue(again, now)
            self._context.store.kick()
        if len(late) == _STEP:
            self._context.later(0.0, lambda: self._due(upstream, now))

    def _settle(self, upstream: UpstreamState, message: Message) -> bool:
        """What becomes of one whose time is over: whether it goes once more."""
        context = self._context
        if message.resends and message.tries < MAX_TRIES:
            message.tries += 1
            message.duplicate = True
            upstream.retried[message.id] = message
            context.ledger.resent(message)
            context.event(message.id, State.RESENT, duplicate=True, detail=upstream.detail)
            context.metrics.resent.labels(upstream.name).inc()
            context.tally.add(log_counts.RESENT, upstream.name)
            return True
        context.tally.add(log_counts.HELD, upstream.name)
        self._end(message, State.UNKNOWN, 0, upstream)
        return False
