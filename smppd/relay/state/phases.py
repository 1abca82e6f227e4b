"""Moves messages from one list to another: the one function that does. Whoever moves a message thereby changes its phase, the
lists, the indexes that it is found by, and all numbers that count it, so none of these can be half done or forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from smppd.relay.state.held import Held
from smppd.relay.state.model import Lane, Message, UpstreamState
from smppd.relay.state.phase import FILED, RESERVING, WAITING, Phase
from smppd.relay.state.queues import Calendar


class Phases:
    """``held`` and ``calendar`` are the lists that belong to no account, lane or carrier. ``now``: monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.held = Held()
        self.calendar: Calendar[Message] = Calendar()

    def move(self, message: Message, to: Phase, upstream: UpstreamState | None = None) -> None:
        """Takes a message out of the list it stands in and puts it into another, at its place there.

        ``upstream``: the carrier it goes to, or that has it: needed for ASIDE, RELEASING and UNKNOWN where it is not the one
        that it has, and for SUBMITTED; in QUEUED it has none. AssertionError where no such way is in the table: then nothing
        has happened. What is in no list any more, since something raised half-way, is moved all the same.
        """
        was = message.follow(to)
        self._uncount(message, was, to)
        self._leave(message, was, to)
        if to is Phase.QUEUED:
            message.upstream = None
        elif upstream is not None:
            message.upstream = upstream
        if RESERVING >> to & 1 and message.upstream is not None:
            message.upstream.reserve(1)
        if FILED >> to & 1:
            self.file(message)
        elif FILED >> was & 1:
            self._unfile(message)
        self._enter(message, to)

    def to_lane(self, message: Message, lane: Lane) -> None:
        """A message waits in another lane, at its place there."""
        if message.phase is Phase.QUEUED:
            message.lane.hot.remove(message)
            message.lane.asking.pop(message.id, None)
        message.lane = lane
        self.move(message, Phase.QUEUED)

    def end(self, message: Message, upstreams: Iterable[UpstreamState]) -> None:
        """Ends a message of which something raised half-way: it is taken out of each list that it could stand in, so that none
        keeps it, whatever its phase says."""
        was = message.finish()
        self._uncount(message, was, Phase.DONE)
        try:
            self._leave(message, was, Phase.DONE)
        finally:
            message.lane.hot.remove(message)
            message.lane.asking.pop(message.id, None)
            self.held.remove(message)
            self._unfile(message)
            message.account.aside.remove(message)
            for upstream in upstreams:
                upstream.ready.remove(message.account.name, message)
                upstream.aside.remove(message.account.name, message)
                upstream.unknown.pop(message.id, None)
                upstream.retried.pop(message.id, None)
                upstream.forget(message)
                if upstream.probe is message:
                    upstream.probe = None

    def file(self, message: Message) -> None:
        """Notes a message that waits here under its addresses, and under the end of its validity, where that has changed."""
        message.account.addressed.add(message)
        if message.due != (message.expires or 1):
            self.calendar.add(message)

    def _unfile(self, message: Message) -> None:
        if message.key:
            message.account.addressed.remove(message)
        if message.due:
            self.calendar.remove(message)

    def _uncount(self, message: Message, was: Phase, to: Phase) -> None:
        """Takes a message out of the numbers of its account and its carrier, or puts it into the account's."""
        if RESERVING >> was & 1 and message.upstream is not None:
            message.upstream.reserve(-1)
        if WAITING >> was & 1:
            if not WAITING >> to & 1:
                message.account.count_queued(-1)
        elif WAITING >> to & 1:
            message.account.count_queued(1)

    def _leave(self, message: Message, was: Phase, to: Phase) -> None:
        upstream = message.upstream
        if was is Phase.QUEUED:
            lane = message.lane
            if lane.asking:
                lane.asking.pop(message.id, None)
            lane.hot.remove(message)
        elif was is Phase.RELEASING:
            message.lane.release_ends()
        elif was is Phase.ROW:
            if message.stored:
                message.lane.row_taken()
            else:
                message.lane.row_refused()
        elif was is Phase.HELD:
            self.held.remove(message)
        elif upstream is None:
            return
        elif was is Phase.READY:
            upstream.ready.remove(message.account.name, message)
        elif was is Phase.SUBMITTED:
            if to is not Phase.SHELVED:  # else it is found here until its row is durable (`relay.spill`)
                upstream.forget(message)
        elif was is Phase.SHELVED:
            upstream.forget(message)
            upstream.unshelved()
        elif was is Phase.UNKNOWN:
            upstream.unknown.pop(message.id, None)
        elif was is Phase.ASIDE:
            upstream.aside.remove(message.account.name, message)
            message.account.aside.remove(message)

    def _enter(self, message: Message, to: Phase) -> None:
        upstream = message.upstream
        if to is Phase.QUEUED:
            lane = message.lane
            lane.hot.add(message)
            if message.customer is not None and message.account.settings.acknowledge == "upstream":
                lane.asking[message.id] = message
        elif to is Phase.RELEASING:
            message.lane.release_begins()
        elif to is Phase.ROW:
            message.lane.row_put()
        elif to is Phase.HELD:
            self.held.add(message, self._now())
        elif to is Phase.DONE:
            if message.known is not None:
                message.known.taken = True
        elif upstream is None:
            return
        elif to is Phase.READY:
            upstream.ready.append(message.account.name, message)
        elif to is Phase.SUBMITTED:
            if message.known is not None:
                message.known.taken = True
            upstream.await_receipt(message)
        elif to is Phase.SHELVED:
            upstream.shelved()
        elif to is Phase.UNKNOWN:
            upstream.unknown[message.id] = message
        elif to is Phase.ASIDE:
            upstream.aside.add(message.account.name, message)
            message.account.aside.add(message)
