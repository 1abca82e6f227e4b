"""Messages of which nobody knows whether a carrier has them: they were sent, and no answer came.

For a while an answer or a receipt may still settle it; then each goes once more, flagged as a possible duplicate, or is
reported as unknown: ``on_unknown`` of a rule or of the account says which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smppd.message import State
from smppd.relay import tally
from smppd.relay.context import Context
from smppd.relay.guard import LINK, SWEEP
from smppd.relay.journal import Entry, mark
from smppd.relay.lanes import Lanes
from smppd.relay.model import Message, Phase, UpstreamState

MAX_TRIES: Final = 1


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
                upstream.reserved -= 1
                message.enter(Phase.UNKNOWN)
                message.deadline = now + message.account.settings.unknown_after
                upstream.unknown[message.id] = message
                context.event(message.id, State.UNANSWERED, duplicate=message.duplicate, detail=upstream.detail)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.message(LINK, error, message)
        if number:
            context.tally.add(tally.UNKNOWN, upstream.name, number)
        context.store.kick()

    def sweep(self, upstream: UpstreamState, now: float) -> None:
        """Once a second: those whose time is over."""
        for message in [message for message in upstream.unknown.values() if message.deadline <= now]:
            del upstream.unknown[message.id]
            try:
                self._settle(upstream, message, now)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(SWEEP, error, message)
        for message in list(upstream.retried.values()):
            if message.phase in (Phase.SUBMITTED, Phase.DONE):
                del upstream.retried[message.id]

    def _settle(self, upstream: UpstreamState, message: Message, now: float) -> None:
        context = self._context
        if message.resends and message.tries < MAX_TRIES:
            message.tries += 1
            message.duplicate = True
            upstream.retried[message.id] = message
            context.store.batch.marks.append(mark(Entry.RESENT, message.id))
            context.event(message.id, State.RESENT, duplicate=True, detail=upstream.detail)
            context.metrics.resent.labels(upstream.name).inc()
            context.tally.add(tally.RESENT, upstream.name)
            self._lanes.requeue([message], now)
            context.store.kick()
        else:
            context.tally.add(tally.HELD, upstream.name)
            self._end(message, State.UNKNOWN, 0, upstream)
