"""Moves messages from one list to another; no other code does. A move changes the phase of the message, the lists, the
indexes by which it is found, and all numbers that count it. So none of these can be forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from smppd.relay.state.held import Held
from smppd.relay.state.model import Lane, Message, UpstreamState
from smppd.relay.state.phase import FILED, RESERVING, WAITING, Phase
from smppd.relay.state.queues import Calendar

# The phases as numbers, which compiled code compares at no cost; a test holds them against `Phase`.
_HELD: Final = 2
_QUEUED: Final = 3
_ROW: Final = 4
_PINNED: Final = 5
_RELEASING: Final = 6
_READY: Final = 7
_UNKNOWN: Final = 9
_SUBMITTED: Final = 10
_SHELVED: Final = 11
_DONE: Final = 12


class Phases:
    """``held`` and ``calendar`` are the lists that belong to no account, lane or carrier. ``now``: monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.held = Held()
        self.calendar: Calendar[Message] = Calendar()

    def move(self, message: Message, to: Phase, upstream: UpstreamState | None = None) -> None:
        """Takes a message out of its list and puts it into another, at its place there.

        ``upstream``: the carrier it goes to, or that has it: needed for PINNED, RELEASING and UNKNOWN where it is not the one
        that it has, and for SUBMITTED; in QUEUED it has none. AssertionError where no such way is in the table: then nothing
        has happened. What is in no list any more, since something raised half-way, is moved all the same.
        """
        number: int = to
        was = message.follow(number)
        self._recount(message, was, number)
        self._leave(message, was, number)
        if number == _QUEUED:
            message.upstream = None
        elif upstream is not None:
            message.upstream = upstream
        if RESERVING >> number & 1 and message.upstream is not None:
            message.upstream.reserve(1, message.lane.code)
        if FILED >> number & 1:
            self.file(message)
        elif FILED >> was & 1:
            self._unfile(message)
        self._enter(message, number)

    def to_lane(self, message: Message, lane: Lane) -> None:
        """A message waits in another lane, at its place there."""
        if message.phase is Phase.QUEUED:
            message.lane.hot.remove(message)
            message.lane.awaiting_word.pop(message.id, None)
        message.lane = lane
        self.move(message, Phase.QUEUED)

    def to_row(self, message: Message, lane: Lane) -> None:
        """A message that waits in memory waits in another lane, on disk."""
        message.lane.hot.remove(message)
        message.lane.awaiting_word.pop(message.id, None)
        message.lane = lane
        self.move(message, Phase.ROW)

    def end(self, message: Message, upstreams: Iterable[UpstreamState]) -> None:
        """Ends a message whose handling an error interrupted. It is taken out of every list in which it could stand,
        whatever its phase is."""
        was = message.finish()
        self._recount(message, was, _DONE)
        try:
            self._leave(message, was, _DONE)
        finally:
            message.lane.hot.remove(message)
            message.lane.awaiting_word.pop(message.id, None)
            self.held.remove(message)
            self._unfile(message)
            message.account.pinned_parts.remove(message)
            for upstream in upstreams:
                upstream.ready.remove(message.account.name, message)
                upstream.codes.remove(message.account.name, message)
                upstream.pinned_parts.remove(message.account.name, message)
                upstream.unknown.pop(message.id, None)
                upstream.retried.pop(message.id, None)
                upstream.forget(message)
                if upstream.probe is message:
                    upstream.probe = None

    def file(self, message: Message) -> None:
        """Notes a waiting message under its addresses and under the end of its validity."""
        message.account.addressed.add(message)
        if message.due != (message.expires or 1):
            self.calendar.add(message)

    def _unfile(self, message: Message) -> None:
        if message.key:
            message.account.addressed.remove(message)
        if message.due:
            self.calendar.remove(message)

    def _recount(self, message: Message, was: int, to: int) -> None:
        """Takes a message out of the numbers of its account and its carrier, or puts it into the account's."""
        if RESERVING >> was & 1 and message.upstream is not None:
            message.upstream.reserve(-1, message.lane.code)
        if WAITING >> was & 1:
            if not WAITING >> to & 1:
                message.account.count_queued(-1)
        elif WAITING >> to & 1:
            message.account.count_queued(1)

    def _leave(self, message: Message, was: int, to: int) -> None:
        upstream = message.upstream
        if was == _QUEUED:
            lane = message.lane
            if lane.awaiting_word:
                lane.awaiting_word.pop(message.id, None)
            lane.hot.remove(message)
        elif was == _RELEASING:
            message.lane.release_ends()
        elif was == _ROW:
            if message.stored:
                message.lane.row_taken()
            else:
                message.lane.row_refused()
        elif was == _HELD:
            self.held.remove(message)
        elif upstream is None:
            return
        elif was == _READY:
            upstream.turns_for(message.lane).remove(message.account.name, message)
        elif was == _SUBMITTED:
            if to != _SHELVED:  # else it is found here until its row is durable (`relay.spill`)
                upstream.forget(message)
        elif was == _SHELVED:
            upstream.forget(message)
            upstream.unshelved()
        elif was == _UNKNOWN:
            upstream.unknown.pop(message.id, None)
        elif was == _PINNED:
            upstream.pinned_parts.remove(message.account.name, message)
            message.account.pinned_parts.remove(message)

    def _enter(self, message: Message, to: int) -> None:
        upstream = message.upstream
        if to == _QUEUED:
            lane = message.lane
            lane.hot.add(message)
            if message.customer is not None and message.account.settings.acknowledge == "upstream":
                lane.awaiting_word[message.id] = message
        elif to == _RELEASING:
            message.lane.release_begins()
        elif to == _ROW:
            message.lane.row_put()
        elif to == _HELD:
            self.held.add(message, self._now())
        elif to == _DONE:
            if message.remembered is not None:
                message.remembered.taken = True
        elif upstream is None:
            return
        elif to == _READY:
            upstream.turns_for(message.lane).append(message.account.name, message)
        elif to == _SUBMITTED:
            if message.remembered is not None:
                message.remembered.taken = True
            upstream.await_receipt(message)
        elif to == _SHELVED:
            upstream.shelved()
        elif to == _UNKNOWN:
            upstream.unknown[message.id] = message
        elif to == _PINNED:
            upstream.pinned_parts.add(message.account.name, message)
            message.account.pinned_parts.add(message)
