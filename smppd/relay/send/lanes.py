"""Lanes: which upstream serves each, in what order messages are released, and when rows are read back from disk.

A message may be sent only after its release is durable. While the way is free it is released by the entry that accepts it,
later by a RELEASED mark. So after a crash it is certain that what was not released was not sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from smppd.consent.register import MISSING
from smppd.consent.screen import OPTED_OUT
from smppd.message import Refusal, State
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

# By this factor a page is smaller while memory holds as many octets as it should.
CROWDED: Final = 8
# So many messages are moved in one step; the rest follow with the next step.
STEP: Final = 500
# For so many seconds the parts of a long message go to the upstream of the first part; so many long messages are remembered.
PIN: Final = 300.0
PINS: Final = 10_000


class Lanes:
    """See the module. ``pump(upstream, now)`` sends what was released. ``end_unwanted(message, why)`` ends a message whose
    recipient has opted out or withdrawn while it waited."""

    def __init__(
        self,
        context: Context,
        pump: Callable[[UpstreamState, float], None],
        end_unwanted: Callable[[Message, Refusal], None],
    ) -> None:
        self._context = context
        self._phases = context.phases
        self._pump = pump
        self._end_unwanted = end_unwanted
        self._pins: OrderedDict[tuple[str, PartKey], tuple[UpstreamState, float]] = OrderedDict()
        self._soon: set[UpstreamState] = set()

    # -- ways ----------------------------------------------------------------------------------------------------------

    def takes_messages(self, upstream: UpstreamState, now: float) -> bool:
        """Whether an upstream takes messages now, apart from its rate and window."""
        return bool(upstream.links) and upstream.paused_until <= now and not upstream.act

    def choose_upstream(self, lane: Lane, now: float) -> UpstreamState | None:
        """Chooses the upstream that serves the lane now: the first one that is up and takes messages. Where none does, the
        first one that is up, though it pauses or its probe has no answer yet; never one that an act has paused. None serves a
        lane whose hour it is not, or which an act goes through."""
        best: UpstreamState | None = None
        if not lane.held and (lane.gate is None or not lane.is_shut(self._context.wall())):
            for upstream in lane.upstreams:
                if upstream.links and not upstream.gone and not upstream.act:
                    if upstream.paused_until <= now and not upstream.is_probing:
                        best = upstream
                        break
                    best = best or upstream
        old = lane.active
        if best is not old:
            lane.active = best
            if old is not None:
                old.lanes_like(lane).pop(lane, None)
                # What was released to the old one and not sent goes to the new one too, or it would be overtaken.
                self.recall(self._released(old, lane, now), now)
        return best

    def _released(self, upstream: UpstreamState, lane: Lane, now: float) -> list[Message]:
        """The messages of a lane that are released to an upstream and not sent. Parts that have to go to that upstream are
        left out."""
        here = upstream.turns_for(lane).of(lane.account.name)
        return [m for m in here if m.lane is lane and self.pinned(m, now) is not upstream]

    def activate(self, lane: Lane) -> None:
        """Puts the lane among those that its upstream serves, if anything waits in it."""
        upstream = lane.active
        if upstream is not None and (len(lane.hot) or lane.cold):
            upstream.lanes_like(lane)[lane] = None

    def hold(self, lane: Lane, now: float) -> None:
        """An act goes through the lane: no upstream serves it, and what was released and not sent goes back. What is being
        released goes back when its batch is durable."""
        lane.held = True
        self.choose_upstream(lane, now)

    def let_go(self, lane: Lane, now: float) -> None:
        """The act is through."""
        lane.held = False
        self.serve_lane(lane, now)

    def serve_lane(self, lane: Lane, now: float) -> None:
        """Chooses the upstream of a lane that got something, and lets it send."""
        self.choose_upstream(lane, now)
        self.activate(lane)
        if lane.active is not None:
            self._pump(lane.active, now)

    def _go_on(self, upstream: UpstreamState) -> None:
        """More is to be released than in one step: the rest goes on in the next turn of the reactor."""
        if upstream in self._soon:
            return
        self._soon.add(upstream)

        def turn() -> None:
            self._soon.discard(upstream)
            self._pump(upstream, self._context.now())
            self._context.flush()

        self._context.later(0.0, turn)

    def pin(self, message: Message, upstream: UpstreamState, now: float) -> None:
        """A part is being sent to an upstream: the other parts of its message have to follow."""
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
        """Puts messages that no carrier took back to the front of their lanes, in order."""
        lanes: dict[Lane, None] = {}
        for message in sorted(messages, key=lambda m: m.id, reverse=True):
            try:
                self._phases.move(message, Phase.QUEUED)
                lanes[message.lane] = None
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_message_aside(SWEEP, error, message)
        for lane in lanes:
            lane.put_back()
            self.choose_upstream(lane, now)
            self.activate(lane)

    def recall(self, messages: list[Message], now: float) -> None:
        """Takes messages back that were released to an upstream and not sent, since they do not go there now."""
        if not messages:
            return
        for message in messages:
            self._context.ledger.returned(message)
        self.requeue(messages, now)
        self._context.store.kick()

    # -- parts that wait for one upstream ------------------------------------------------------------------------------

    def _stands_aside(self, upstream: UpstreamState, message: Message, own: bool, now: float) -> bool:
        """Whether a part has to wait for the upstream that another part of its message went to: that upstream takes no
        messages now, or older parts wait for it. ``own``: it is the upstream that serves the lane, and has credit."""
        if not self.takes_messages(upstream, now) or (not own and upstream.credit <= 0):
            return True
        first = upstream.pinned_parts.first()
        return first is not None and first.id < message.id

    def release_pinned(self, upstream: UpstreamState, now: float) -> None:
        """Releases parts that wait for this upstream alone, oldest first, if it takes messages again."""
        if not self.takes_messages(upstream, now):
            return
        batch = self._context.store.batch
        credit = upstream.credit - len(batch.released)
        ended = 0
        while credit > 0:
            message = upstream.pinned_parts.first()
            if message is None or not message.stored or message.lane.waits_for_batches:
                break
            try:
                if not self._release(message, upstream):
                    ended += 1
                    if ended == STEP:
                        self._go_on(upstream)
                        break
                    continue
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_message_aside(SEND, error, message)
            credit -= 1
        if batch.released:
            self._context.store.kick()

    def return_unpinned(self, upstream: UpstreamState, now: float) -> None:
        """Puts parts that no longer have to go to this upstream back into their lanes. Call once a second."""
        left = STEP
        lanes: dict[Lane, None] = {}
        for group in upstream.pinned_parts.groups(STEP):
            first = group.first()
            if first is None or self.pinned(first, now) is upstream:
                continue
            while first is not None and left > 0:
                left -= 1
                try:
                    self._phases.move(first, Phase.QUEUED)
                    lanes[first.lane] = None
                except Exception as error:  # noqa: BLE001  the item's edge
                    self._context.guard.set_message_aside(SWEEP, error, first)
                first = group.first()
        for lane in lanes:
            self.choose_upstream(lane, now)
            self.activate(lane)

    # -- releasing -----------------------------------------------------------------------------------------------------

    def release_waiting(self, upstream: UpstreamState, now: float) -> None:
        """Releases waiting messages of the lanes in turn, as many as the upstream's credit and one batch allow; one-time
        codes first."""
        if upstream.code_lanes:
            self._release_some(upstream, upstream.code_lanes, upstream.code_credit, now)
        if upstream.lanes:
            self._release_some(upstream, upstream.lanes, upstream.credit, now)

    def _release_some(self, upstream: UpstreamState, lanes: OrderedDict[Lane, None], credit: int, now: float) -> None:
        context = self._context
        batch = context.store.batch
        credit = min(credit, AHEAD - len(batch.released))
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
            if not message.stored or lane.waits_for_batches:
                idle += 1
                lanes.move_to_end(lane)
                continue
            idle = 0
            try:
                target = upstream
                if message.part is not None:
                    target = self.pinned(message, now) or upstream
                    if (target is not upstream or len(target.pinned_parts)) and self._stands_aside(
                        target, message, target is upstream, now
                    ):
                        self._phases.move(message, Phase.PINNED, target)
                        moved += 1
                        if moved == STEP:
                            self._go_on(upstream)
                            break
                        continue
                if not self._release(message, target):
                    moved += 1
                    if moved == STEP:
                        self._go_on(upstream)
                        break
                elif target is upstream:
                    credit -= 1
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.set_message_aside(SEND, error, message)
            lanes.move_to_end(lane)
        if batch.released:
            context.store.kick()

    def unwanted(self, message: Message) -> Refusal | None:
        """Why a message that has waited may not leave any more: its recipient has opted out meanwhile, or withdrawn. Where
        nobody has since it was last asked this costs a few comparisons."""
        account = message.account
        screen, consent = account.opt_out, account.consent if message.agreed else None
        if (screen is None and consent is None) or message.ours or message.erased:
            return None
        epoch = account.epoch
        if message.asked == epoch:
            return None
        message.asked = epoch
        asked = account.name, account.region, message.frame, message.reply_to
        if screen is not None and screen.refuses_now(*asked):
            return OPTED_OUT
        return MISSING if consent is not None and consent.refuses_now(*asked) else None

    def _release(self, message: Message, upstream: UpstreamState) -> bool:
        """Puts the release of a message to an upstream into the batch: it may be sent once that is durable. False where its
        recipient has opted out or withdrawn meanwhile: then it has ended."""
        why = self.unwanted(message)
        if why is not None:
            self._end_unwanted(message, why)
            return False
        self._phases.move(message, Phase.RELEASING, upstream)
        self._context.ledger.released(message)
        self._context.store.batch.released.append(message)
        return True

    # -- rows ----------------------------------------------------------------------------------------------------------

    def read_oldest(self, lane: Lane) -> None:
        """Reads the oldest row of a lane that has nothing in memory, so that the age of its oldest message is known. Of
        messages that wait for their hour nobody asks it."""
        if lane.cold and not len(lane.hot) and not lane.is_shut(self._context.wall()):
            self._page(lane, 1)

    def _page(self, lane: Lane, limit: int = PAGE) -> None:
        context = self._context
        if context.ledger.octets >= context.hot_octets:
            limit = min(limit, max(1, lane.backlog.page_rows // CROWDED))
        arrived = partial(self._arrived, lane)
        lane.backlog.page(context.store, limit, context.guarded_rows, arrived, lane.rows_missing)

    def _arrived(self, lane: Lane, rows: list[ColdRow]) -> None:
        context = self._context
        now = context.now()
        for row in context.ledger.alive(rows):
            lane.row_taken()
            try:
                message = restored_row(context, row, lane)
            except Exception as error:  # noqa: BLE001  the item's edge
                self.set_row_aside(row, error)
                continue
            try:
                if self.doubt_restored(message, now):
                    continue
                self._phases.move(message, Phase.QUEUED)
                context.ledger.weigh(message)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.set_message_aside(ROWS, error, message)
        self.serve_lane(lane, now)
        context.flush()

    def set_row_aside(self, row: ColdRow, error: Exception) -> None:
        """Sets a row of a lane aside that cannot be handled. The caller has counted it out."""
        self._context.set_row_aside(row, error, "message")
        # Rows of lanes were never released, so no carrier has it.
        self._context.append_event(row.id, State.REJECTED, error=Status.RSYSERR)

    def doubt_restored(self, message: Message, now: float) -> bool:
        """After a restore: flags a waiting message that may have been sent since the backup was taken. True when it is not
        to be sent again (``on_unknown: hold``): then it is among the unknown messages, and is reported as UNKNOWN with the
        next look at them."""
        if message.id > self._context.restored_upto or message.duplicate:
            return False
        message.duplicate = True
        message.tries = 1
        for one in message.lane.upstreams:
            one.retried[message.id] = message
        if message.resends or not message.lane.upstreams:
            return False
        self.restore_unknown(message, message.lane.upstreams[0], now)
        return True

    def place_restored(self, message: Message, was: Phase, now: float) -> None:
        """Puts a message that was read back where it goes on from. ``was``: where it stood (`relay.ledger.joined.Thing`)."""
        phases = self._phases
        if was is Phase.SUBMITTED:
            assert message.upstream is not None
            message.upstream.matcher.answered(message.upstream_id)
            phases.move(message, Phase.SUBMITTED)
            return
        if was is not Phase.READY and self.doubt_restored(message, now):
            return
        if message.duplicate:
            for one in message.lane.upstreams:
                one.retried[message.id] = message
        if was is Phase.HELD:
            phases.move(message, Phase.HELD)
        elif was is Phase.READY and (message.upstream is not None or message.lane.upstreams):
            upstream = message.upstream or message.lane.upstreams[0]
            self.restore_unknown(message, upstream, now + message.account.settings.unknown_after)
        else:
            phases.move(message, Phase.QUEUED)

    def restore_unknown(self, message: Message, upstream: UpstreamState, deadline: float) -> None:
        """Puts a message that was read back among the unknown ones: nobody knows whether this carrier has it. ``deadline``:
        monotonic seconds."""
        message.deadline = deadline
        self._phases.move(message, Phase.UNKNOWN, upstream)
        self._context.log_counts.count(log_counts.UNKNOWN, upstream.name)

    def take_expired_row(self, row: ColdRow) -> Message | None:
        """The message of a row whose validity has passed, taken out of its lane. None where the message is in memory, and
        ends there, and where the row cannot be read, and is set aside."""
        context = self._context
        name, _, route = row.owner.partition("\n")
        lane = context.lane(context.account(name), route)
        if not row.shared:  # else nobody held it until now, and it is not counted here
            if row.id <= lane.upto:
                return None
            lane.row_taken()
        try:
            return restored_row(context, row, lane)
        except Exception as error:  # noqa: BLE001  the item's edge
            self.set_row_aside(row, error)
            return None
