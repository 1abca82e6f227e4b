"""Unknown messages: they were sent and no answer came, so nobody knows whether the carrier has them.

For a while an answer or a receipt may still settle it. Then the message is sent once more, flagged as a possible duplicate,
or it is reported as UNKNOWN: ``on_unknown`` of a rule or of the account says which.
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
from smppd.relay.state.addresses import address_tail, addresses_agree, addresses_swapped
from smppd.relay.state.model import Message, UpstreamState
from smppd.relay.state.phase import Phase

MAX_TRIES: Final = 1
# So many messages end or are sent again in one turn. So many of those sent again are looked at in a sweep.
_STEP: Final = 500
# Up to so many unanswered submits are searched for the addresses of a receipt. Where there are more, no message is found by
# addresses.
_IN_FLIGHT: Final = 4096


def only_unknown(upstream: UpstreamState, sm: Sm) -> Message | None:
    """The one unknown message that fits the addresses of a receipt. None if there are several, or if the receipt may be
    about a message that is being sent (again) just now, whose answer may bring its id."""
    fits = upstream.unknown.fitting(sm)
    if len(fits) != 1:
        return None
    for other in upstream.retried.fitting(sm):
        if not (other.awaits_receipt or other.phase is Phase.DONE) and other is not fits[0]:
            return None
    if sum(len(link.session.outstanding) for link in upstream.links) > _IN_FLIGHT:
        return None
    ends = (address_tail(sm.source_digits), address_tail(sm.destination_digits))
    for link in upstream.links:
        for entry in link.session.outstanding.values():
            message = entry.token
            if not isinstance(message, Message):
                continue
            fields = message.reversed
            if fields and address_tail(fields[2 : fields.find(0, 2)]) not in ends:
                continue
            if addresses_agree(sm, Sm(message.frame)):
                return None
    return fits[0]


def unanswered_between(upstream: UpstreamState, sm: Sm) -> Message | None:
    """A message that was sent, has no answer yet, and has the addresses of a deliver_sm, swapped. None where more than some
    thousands have no answer."""
    if sum(len(link.session.outstanding) for link in upstream.links) > _IN_FLIGHT:
        return None
    end = address_tail(sm.source_digits)
    for link in upstream.links:
        for entry in link.session.outstanding.values():
            message = entry.token
            if not isinstance(message, Message):
                continue
            fields = message.reversed
            if fields and address_tail(fields[2 : fields.find(0, 2)]) != end:
                continue
            if addresses_swapped(sm, Sm(message.frame)):
                return message
    return None


class Unanswered:
    """See the module. ``end(message, state, error, upstream)`` ends a message with the receipt its sender asked for."""

    def __init__(
        self, context: Context, lanes: Lanes, end: Callable[[Message, State, int, UpstreamState | None], None]
    ) -> None:
        self._context = context
        self._lanes = lanes
        self._end = end

    def became_unknown(self, upstream: UpstreamState, messages: list[Message], now: float) -> None:
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
                context.append_event(message.id, State.UNANSWERED, duplicate=message.duplicate, detail=upstream.detail)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.set_message_aside(LINK, error, message)
        if number:
            context.log_counts.count(log_counts.UNKNOWN, upstream.name, number)
        context.store.kick()

    def sweep(self, upstream: UpstreamState, now: float) -> None:
        """Once a second: handles messages whose time is over, some hundreds at a time."""
        self._due(upstream, now)
        for message in upstream.retried.oldest(_STEP):
            del upstream.retried[message.id]
            if not (message.awaits_receipt or message.phase is Phase.DONE):
                upstream.retried[message.id] = message  # now behind the others, so that each is looked at in turn

    def _due(self, upstream: UpstreamState, now: float) -> None:
        late = upstream.unknown.take_due(now, _STEP)
        again: list[Message] = []
        for message in late:
            try:
                if self._settle(upstream, message):
                    again.append(message)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_message_aside(SWEEP, error, message)
        if again:
            self._lanes.requeue(again, now)
            self._context.store.kick()
        if len(late) == _STEP:
            self._context.later(0.0, lambda: self._due(upstream, now))

    def _settle(self, upstream: UpstreamState, message: Message) -> bool:
        """Decides about a message whose time is over. True: it is sent once more. False: it has ended as UNKNOWN."""
        context = self._context
        if message.resends and message.tries < MAX_TRIES:
            message.tries += 1
            message.duplicate = True
            upstream.retried[message.id] = message
            context.ledger.resent(message)
            context.append_event(message.id, State.RESENT, duplicate=True, detail=upstream.detail)
            context.metrics.resent.labels(upstream.name).inc()
            context.log_counts.count(log_counts.RESENT, upstream.name)
            return True
        context.log_counts.count(log_counts.HELD, upstream.name)
        self._end(message, State.UNKNOWN, 0, upstream)
        return False
