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
from smppd.policy.pipeline import Pipeline
from smppd.protocol.wire import Sm, Status
from smppd.relay import log_counts
from smppd.relay.context import Context
from smppd.relay.guard import ROWS, SEND, SWEEP
from smppd.relay.ledger.journal import Entry, mark
from smppd.relay.ledger.payload import Stored
from smppd.relay.state.model import Account, Lane, Message, Phase, UpstreamState
from smppd.relay.state.post import rows_for
from smppd.relay.state.queues import AHEAD, Calendar
from smppd.store.api import ColdRow, Kind

PAGE: Final = 500
# By how much a page is smaller while memory holds all the octets it should.
CROWDED: Final = 8
# Messages that are moved in one step where more may wait for it; the rest follow with the next step.
STEP: Final = 500
# Parts of a long message take the way of the first one for this long, and so many long messages are remembered.
PIN: Final = 300.0
PINS: Final = 10_000


def part_of(sm: Sm) -> PartKey | None:
    """What a part shares with the other parts of its long message, None for a whole message."""
    return Pipeline.part_key(sm) if sm.esm_class & 0x40 or sm.at_tlvs != len(sm.raw) else None


class Lanes:
    """See the module. ``pump(upstream, now)`` sends what was released."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pins: OrderedDict[tuple[str, PartKey], tuple[UpstreamState, float]] = OrderedDict()
        self._soon: set[UpstreamState] = set()
        self.calendar = Calendar()
        self.pump: Callable[[UpstreamState, float], None]

    def lane(self, account: Account, route: str) -> Lane:
        """The lane of an account for a route (names joined by commas)."""
        lane = account.lanes.get(route)
        if lane is None:
            known = self._context.upstream
            lane = Lane(account, route, tuple(known(name) for name in route.split(",") if name))
            account.lanes[route] = lane
        return lane

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
                self.recall(old, self._released(old, lane, now), now)
        return best

    def _released(self, upstream: UpstreamState, lane: Lane, now: float) -> list[Message]:
        """What of a lane is released to an upstream and not sent, without the parts that have to go there."""
        return [m for m in upstream.ready.of(lane.account) if m.lane is lane and self.pinned(m, now) is not upstream]

    def activate(self, lane: Lane) -> None:
        """Makes its upstream look at the lane, if anything waits there."""
        upstream = lane.active
        if upstream is not None and (len(lane.hot) or lane.cold) and lane not in upstream.lanes:
            upstream.lanes[lane] = None

    def _go_on(self, upstream: UpstreamState) -> None:
        """There is more to release than one step takes: goes on in the next turn."""
        if upstream in self._soon:
            return
        self._soon.add(upstream)

        def turn() -> None:
            self._soon.discard(upstream)
            self.pump(upstream, self._context.now())
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

    def file(self, message: Message) -> None:
        """Notes a message that waits here, so that it is found by its addresses, and when its validity ends."""
        message.account.addressed.add(message)
        if message.due != (message.expires or 1):
            self.calendar.add(message)

    def unfile(self, message: Message) -> None:
        """It does not wait here any more."""
        if message.key:
            message.account.addressed.remove(message)
        if message.due:
            self.calendar.remove(message)

    def insert(self, message: Message) -> None:
        """Puts a waiting message where its id belongs."""
        lane = message.lane
        lane.hot.add(message)
        if message.customer is not None and message.account.settings.acknowledge == "upstream":
            lane.asking[message.id] = message
        self.file(message)

    def out(self, message: Message) -> bool:
        """Takes a waiting message out of its lane; whether it was there. It is still filed."""
        lane = message.lane
        if lane.asking:
            lane.asking.pop(message.id, None)
        return lane.hot.remove(message)

    def requeue(self, messages: Iterable[Message], now: float) -> None:
        """Puts messages back to the front of their lanes, in order; they were not taken by a carrier."""
        lanes: dict[Lane, None] = {}
        for message in sorted(messages, key=lambda m: m.id, reverse=True):
            try:
                message.enter(Phase.QUEUED)
                message.upstream = None
                self.insert(message)
                lanes[message.lane] = None
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(SWEEP, error, message)
        for lane in lanes:
            lane.waits = lane.leaving > 0
            self.place(lane, now)
            self.activate(lane)

    def recall(self, upstream: UpstreamState, messages: list[Message], now: float) -> None:
        """Takes back what was released to an upstream and not sent."""
        if not messages:
            return
        upstream.ready.take_out(messages)
        self.unrelease(upstream, [m for m in messages if m.phase is Phase.READY], now)

    def unrelease(self, upstream: UpstreamState, messages: list[Message], now: float) -> None:
        """These were released to an upstream, are in none of its queues, and are not going there now."""
        batch = self._context.store.batch
        upstream.reserved -= len(messages)
        for message in messages:
            batch.marks.append(mark(Entry.RETURNED, message.id))
        self.requeue(messages, now)
        if messages:
            self._context.store.kick()

    def take_out(self, message: Message) -> None:
        """Takes a waiting message out of its place; it is going to end."""
        if not self.out(message) and message.part is not None and message.upstream is not None:
            message.upstream.aside.remove(message)

    def overdue(self, upstream: UpstreamState, wall: float) -> list[Message]:
        """Takes out those that are released to this upstream and whose validity passed: the way may be slow. Not more than
        ``AHEAD`` and what was on its way there are looked at."""
        gone = [m for m in upstream.ready if m.expires <= wall and m.phase is Phase.READY]
        if gone:
            upstream.ready.take_out(gone)
            upstream.reserved -= len(gone)
        return gone

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
            upstream.aside.remove(message)
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
                upstream.aside.remove(first)
                try:
                    first.upstream = None
                    self.insert(first)
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
                self.out(message)
                target = upstream
                if message.part is not None:
                    target = self.pinned(message, now) or upstream
                    if (target is not upstream or len(target.aside)) and self._stands_aside(
                        target, message, target is upstream, now
                    ):
                        message.upstream = target
                        target.aside.add(message)
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
        batch = self._context.store.batch
        message.enter(Phase.READY)
        self.unfile(message)
        message.leaving = True
        message.lane.leaving += 1
        message.upstream = upstream
        upstream.reserved += 1
        if message.home:
            batch.marks.append(mark(Entry.RELEASED, message.id, message.via))
        else:
            self.rewrite(message)
        batch.released.append(message)

    def rewrite(self, message: Message) -> None:
        """Writes a message into the journal as it is now, out of its cold row or its older segment."""
        entry = message.entry()  # tried first
        if message.cold is not None:
            self._context.drop(*message.cold, message.id)
            message.cold = None
        self._context.journal.remove(message)
        self._context.store.batch.marks.append(entry)
        self._context.journal.add(message)

    # -- cold rows -----------------------------------------------------------------------------------------------------

    def look(self, lane: Lane) -> None:
        """Reads the oldest row of a lane that has nothing in memory and nobody who asks for more, so that its age is known."""
        if lane.cold and not len(lane.hot):
            self._page(lane, 1)

    def _page(self, lane: Lane, limit: int = PAGE) -> None:
        if lane.paging:
            return
        lane.paging = True
        sure, before = not lane.unstored, lane.cold

        def arrived(rows: list[ColdRow]) -> None:
            lane.paging = False
            if rows:
                lane.upto = rows[-1].id
                lane.rows = rows_for(rows, PAGE)
                self._arrived(lane, self._context.alive(rows))
            elif sure and lane.cold == before:
                # Nothing was under way, and nothing is there: the count was wrong, and must not keep the lane slow.
                lane.cold = 0
                self._context.guard.uneven = True

        context = self._context
        most = max(1, lane.rows // CROWDED) if context.journal.octets >= context.hot_octets else lane.rows
        context.store.page(Kind.QUEUE, lane.name, lane.upto, min(limit, most), context.looked(arrived))

    def _arrived(self, lane: Lane, rows: list[ColdRow]) -> None:
        now = self._context.now()
        for row in rows:
            try:
                message = self.revive(row.id, row.data, lane)
                message.cold = (row.kind, row.owner, row.key)
            except Exception as error:  # noqa: BLE001  the item's edge
                self.unreadable(row, error, lane)
                continue
            try:
                if self.doubt(message, now):
                    continue
                message.enter(Phase.QUEUED)
                self._context.journal.weigh(message)
                self.insert(message)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(ROWS, error, message)
        lane.cold -= len(rows)
        self.place(lane, now)
        self.activate(lane)
        if lane.active is not None:
            self.pump(lane.active, now)
            self._context.flush()

    def revive(self, identity: int, payload: bytes, lane: Lane | None = None) -> Message:
        """A message read back from the store, in phase STORING."""
        stored = Stored(identity, payload)
        if lane is None:
            name, _, route = stored.lane.partition("\n")
            lane = self.lane(self._context.account(name), route)
        sm = Sm(stored.frame)
        message = Message(identity, lane.account, lane, stored.frame, sm.registered, stored.expires, stored.shown)
        message.reply_to = stored.reply_to
        message.reversed = sm.destination_field + (stored.reply_to or sm.source_field)
        message.duplicate = stored.duplicate
        message.tries = int(stored.duplicate)
        message.on_unknown = stored.on_unknown
        message.told = stored.told
        message.way = hash(sm.destination_digits)
        message.part = part_of(sm)
        message.stored = True
        if stored.upstream:
            message.upstream = self._context.upstream(stored.upstream)
        message.upstream_id = stored.upstream_id
        return message

    def unreadable(self, row: ColdRow, error: Exception, lane: Lane | None = None) -> None:
        """A row of a lane that cannot be handled is set aside. ``lane``: the one it was read for, which no longer counts it."""
        self._context.unreadable(row, error, "message")
        if lane is None:
            name, _, route = row.owner.partition("\n")
            lane = self._context.account(name).lanes.get(route)
            if lane is not None:
                if row.id <= lane.upto:
                    return  # in memory, and goes on from there
                lane.cold -= 1
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
        upstream = message.upstream = message.lane.upstreams[0]
        message.phase = Phase.UNKNOWN
        message.deadline = now
        upstream.unknown[message.id] = message
        self._context.tally.add(log_counts.UNKNOWN, upstream.name)
        return True

    def expired(self, row: ColdRow) -> Message | None:
        """The message of a cold row whose validity passed, out of its lane; None when it is in memory and ends there."""
        message = self.revive(row.id, row.data)
        lane = message.lane
        if row.id <= lane.upto:
            return None
        message.cold = (row.kind, row.owner, row.key)
        lane.cold -= 1
        return message
