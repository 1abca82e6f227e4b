"""Lanes: what waits, which upstream serves it, in what order it is released, what of it is read back from disk.

A message may be sent only after its release is durable: acceptance says so at once while the way is free, a RELEASED mark
says so later. So after a crash everything that was not released was certainly not sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from smppd.message import State
from smppd.policy.content import PartKey
from smppd.protocol.wire import Status
from smppd.relay import log_counts
from smppd.relay.context import Context
from smppd.relay.guard import ROWS, SEND, SWEEP
from smppd.relay.restore import restored_row
from smppd.relay.state.backlog import PAGE
from smppd.relay.state.model import Lane, Message, UpstreamState
from smppd.relay.state.phase import Phase
from smppd.relay.state.queues import AHEAD
from smppd.store.api import ColdRow

# By how much a page is smaller while memory holds all the octets it should.
CROWDED: Final = 8
# Messages that are moved in one step where more may wait for it; the rest follow with the next step.
STEP: Final = 500
# Parts of a long message take the way of the first one for this long, and so many long messages are remembered.
PIN: Final = 300.0
PINS: Final = 10_000


class Lanes:
    """See the module. ``pump(upstream, now)`` sends what was released."""

    def __init__(self, context: Context, pump: Callable[[UpstreamState, float], None]) -> None:
        self._context = context
        self._phases = context.phases
        self._pump = pump
        self._pins: OrderedDict[tuple[str, PartKey], tuple[UpstreamState, float]] = OrderedDict()
        self._soon: set[UpstreamState] = set()

    # -- ways ----------------------------------------------------------------------------------------------------------

    def open(self, upstream: UpstreamState, now: float) -> bool:
        """Whether it takes messages now, rate and window aside."""
        return bool(upstream.links) and upstream.paused_until <= now

    def place(self, lane: Lane, now: float) -> UpstreamState | None:
        """The upstream that serves the lane now: the first that is up, one that takes messages before one that is pausing or
        still being asked whether it does."""
        best: UpstreamState | None = None
        for upstream in lane.upstreams:
            if upstream.links and not upstream.gone:
                if upstream.paused_until <= now and not upstream.asking:
                    best = upstream
                    break
                best = best or upstream
        old = lane.active
        if best is not old:
            lane.active = best
            if old is not None:
                old.lanes.pop(lane, None)
                # What was released to the old one and not sent goes along, or it would be overtaken.
                self.recall(self._released(old, lane, now), now)
        return best

    def _released(self, upstream: UpstreamState, lane: Lane, now: float) -> list[Message]:
        """What of a lane is released to an upstream and not sent, without the parts that have to go there."""
        return [
            m for m in upstream.ready.of(lane.account.name) if m.lane is lane and self.pinned(m, now) is not upstream
        ]

    def activate(self, lane: Lane) -> None:
        """Makes its upstream look at the lane, if anything waits there."""
        upstream = lane.active
        if upstream is not None and (len(lane.hot) or lane.cold) and lane not in upstream.lanes:
            upstream.lanes[lane] = None

    def serve(self, lane: Lane, now: float) -> None:
        """Gives a lane in which something has come its upstream, and lets that send."""
        self.place(lane, now)
        self.activate(lane)
        if lane.active is not None:
            self._pump(lane.active, now)

    def _go_on(self, upstream: UpstreamState) -> None:
        """There is more to release than one step takes: goes on in the next turn."""
        if upstream in self._soon:
            return
        self._soon.add(upstream)

        def turn() -> None:
            self._soon.discard(upstream)
            self._pump(upstream, self._context.now())
            self._context.flush()

        self._context.later(0.0, turn)

    def pin(self, message: Message, upstream: UpstreamState, now: float) -> None:
        """A part is being sent: the others of its message follow it."""
        assert message.part is not None
        key = (message.account.name, message.part)
        entry = self._pins.get(key)
        if entry is not None and entry[1] > now and not entry[0].gone:
            return
        self._pins[key] = (upstream, now + PIN)
        self._pins.move_to_end(key)
        if len(self._pins) > PINS:
            self._pins.popitem(last=False)

    def pinned(self, message: Message, now: float) -> UpstreamState | None:
        """The upstream that an earlier part of the same long message took, and that is still in the configuration."""
        if message.part is None:
            return None
        entry = self._pins.get((message.account.name, message.part))
        return entry[0] if entry is not None and entry[1] > now and not entry[0].gone else None

    # -- putting back --------------------------------------------------------------------------------------------------

    def requeue(self, messages: Iterable[Message], now: float) -> None:
        """Puts messages back to the front of their lanes, in order; they were not taken by a carrier."""
        lanes: dict[Lane, None] = {}
        for message in sorted(messages, key=lambda m: m.id, reverse=True):
            try:
                self._phases.move(message, Phase.QUEUED)
                lanes[message.lane] = None
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(SWEEP, error, message)
        for lane in lanes:
            lane.put_back()
            self.place(lane, now)
            self.activate(lane)

    def recall(self, messages: list[Message], now: float) -> None:
        """Takes back what was released to an upstream and not sent: it is not going there now."""
        if not messages:
            return
        for message in messages:
            self._context.ledger.returned(message)
        self.requeue(messages, now)
        self._context.store.kick()

    # -- parts that wait for one upstream ------------------------------------------------------------------------------

    def _stands_aside(self, upstream: UpstreamState, message: Message, own: bool, now: float) -> bool:
        """Whether a part has to wait for the upstream that another part of its message took: that one takes none, or others
        wait for it that are older. ``own``: it is the one that serves the lane, and has credit."""
        if not self.open(upstream, now) or (not own and upstream.credit <= 0):
            return True
        first = upstream.aside.first()
        return first is not None and first.id < message.id

    def resume(self, upstream: UpstreamState, now: float) -> None:
        """Releases parts that waited for this upstream, oldest first, if it takes messages again."""
        if not self.open(upstream, now):
            return
        batch = self._context.store.batch
        credit = upstream.credit - len(batch.released)
        while credit > 0:
            message = upstream.aside.first()
            if message is None or not message.stored or message.lane.waits:
                break
            try:
                self._release(message, upstream)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(SEND, error, message)
            credit -= 1
        if batch.released:
            self._context.store.kick()

    def unpinned(self, upstream: UpstreamState, now: float) -> None:
        """Parts that waited for this upstream and need not any more go back to their lanes; call once a second."""
        left = STEP
        lanes: dict[Lane, None] = {}
        for group in upstream.aside.groups(STEP):
            first = group.first()
            if first is None or self.pinned(first, now) is upstream:
                continue
            while first is not None and left > 0:
                left -= 1
                try:
                    self._phases.move(first, Phase.QUEUED)
                    lanes[first.lane] = None
                except Exception as error:  # noqa: BLE001  the item's edge
                    self._context.guard.message(SWEEP, error, first)
                first = group.first()
        for lane in lanes:
            self.place(lane, now)
            self.activate(lane)

    # -- releasing -----------------------------------------------------------------------------------------------------

    def release(self, upstream: UpstreamState, now: float) -> None:
        """Releases waiting messages, in turn over the lanes, as far as windows and commits ahead of them go."""
        context = self._context
        batch = context.store.batch
        lanes = upstream.lanes
        credit = min(upstream.credit, AHEAD - len(batch.released))
        idle = moved = 0
        while lanes and credit > 0 and idle < len(lanes):
            lane = next(iter(lanes))
            if lane.active is not upstream:
                del lanes[lane]
                continue
            message = lane.hot.first()
            if message is None:
                if lane.cold:
                    self._page(lane)
                    idle += 1
                    lanes.move_to_end(lane)
                else:
                    del lanes[lane]
                continue
            if not message.stored or lane.waits:
                idle += 1
                lanes.move_to_end(lane)
                continue
            idle = 0
            try:
                target = upstream
                if message.part is not None:
                    target = self.pinned(message, now) or upstream
                    if (target is not upstream or len(target.aside)) and self._stands_aside(
                        target, message, target is upstream, now
                    ):
                        self._phases.move(message, Phase.ASIDE, target)
                        moved += 1
                        if moved == STEP:
                            self._go_on(upstream)
                            break
                        continue
                self._release(message, target)
                if target is upstream:
                    credit -= 1
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.message(SEND, error, message)
            lanes.move_to_end(lane)
        if batch.released:
            context.store.kick()

    def _release(self, message: Message, upstream: UpstreamState) -> None:
        """Puts the release of a message to an upstream into the batch: it may be sent once that is durable."""
        self._phases.move(message, Phase.RELEASING, upstream)
        self._context.ledger.released(message)
        self._context.store.batch.released.append(message)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def look(self, lane: Lane) -> None:
        """Reads the oldest row of a lane that has nothing in memory and nobody who asks for more, so that its age is known."""
        if lane.cold and not len(lane.hot):
            self._page(lane, 1)

    def _page(self, lane: Lane, limit: int = PAGE) -> None:
        context = self._context
        if context.ledger.octets >= context.hot_octets:
            limit = min(limit, max(1, lane.backlog.page_rows // CROWDED))
        lane.backlog.page(context.store, limit, context.looked, lambda rows: self._arrived(lane, rows))

    def _arrived(self, lane: Lane, rows: list[ColdRow]) -> None:
        context = self._context
        now = context.now()
        for row in context.ledger.alive(rows):
            lane.row_taken()
            try:
                message = restored_row(context, row, lane)
            except Exception as error:  # noqa: BLE001  the item's edge
                self.unreadable(row, error)
                continue
            try:
                if self.doubt(message, now):
                    continue
                self._phases.move(message, Phase.QUEUED)
                context.ledger.weigh(message)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.message(ROWS, error, message)
        self.serve(lane, now)
        context.flush()

    def unreadable(self, row: ColdRow, error: Exception) -> None:
        """A row of a lane that cannot be handled is set aside; it is counted no more."""
        self._context.unreadable(row, error, "message")
        # Rows of lanes were never released, so no carrier has it.
        self._context.event(row.id, State.REJECTED, error=Status.RSYSERR)

    def doubt(self, message: Message, now: float) -> bool:
        """After a restore: a waiting message that may have been sent since the backup is flagged. True when it is not to be
        sent (``on_unknown: hold``): it is among the unknown ones now, and is reported so with the next look at them."""
        if message.id > self._context.restored or message.duplicate:
            return False
        message.duplicate = True
        message.tries = 1
        for one in message.lane.upstreams:
            one.retried[message.id] = message
        if message.resends or not message.lane.upstreams:
            return False
        self.now_unknown(message, message.lane.upstreams[0], now)
        return True

    def now_unknown(self, message: Message, upstream: UpstreamState, deadline: float) -> None:
        """A message was read back of which nobody knows whether this carrier has it. ``deadline``: monotonic seconds."""
        message.deadline = deadline
        self._phases.move(message, Phase.UNKNOWN, upstream)
        self._context.tally.add(log_counts.UNKNOWN, upstream.name)

    def expired(self, row: ColdRow) -> Message | None:
        """The message of a row whose validity passed, out of its lane; None when it is in memory and ends there. Where it
        cannot be read, it is set aside."""
        context = self._context
        name, _, route = row.owner.partition("\n")
        lane = context.lane(context.account(name), route)
        if row.id <= lane.upto:
            return None
        lane.row_taken()
        try:
            return restored_row(context, row, lane)
        except Exception as error:  # noqa: BLE001  the item's edge
            self.unreadable(row, error)
            return None
