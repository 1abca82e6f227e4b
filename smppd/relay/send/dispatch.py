"""Upstreams: what new messages are admitted to, what is sent, what answers mean, what happens when a carrier is silent.

The order in which messages wait, and who serves them, is in ``lanes``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from smppd.message import State
from smppd.protocol.receipt_ids import kept
from smppd.protocol.wire import Status
from smppd.relay import log_counts
from smppd.relay.accept.parts import Holding
from smppd.relay.context import Context
from smppd.relay.guard import ANSWER, COMMIT, LINK, SEND, SWEEP, TIMER
from smppd.relay.ledger.journal import Entry, mark
from smppd.relay.send.lanes import Lanes
from smppd.relay.send.outgoing import outgoing
from smppd.relay.send.overdue import Overdue
from smppd.relay.send.unanswered import Unknown
from smppd.relay.state.model import Account, Lane, Message, Peer, Phase, UpstreamState
from smppd.store.api import ColdRow, Kind

# "Later, please": the carrier did not take the message and will.
RETRY: Final = frozenset((Status.RTHROTTLED, Status.RMSGQFUL, Status.RX_T_APPN, Status.RSYSERR))


class Dispatch:
    """See the module. ``finished(message, state, error)`` makes the receipt of a message whose fate is known here;
    ``answer(message, status, now)`` answers a customer who waits for the carrier; ``known(message)`` is told of each
    upstream id, since a receipt may have come before it, ``displaced(message)`` of one whose id was given again;
    ``unsure(upstream, messages, now)`` when messages became unknown."""

    def __init__(self, context: Context, random: Random) -> None:
        self._context = context
        self._random = random
        self.lanes = Lanes(context)
        self.lanes.pump = self.pump
        self.unknown = Unknown(context, self.lanes, self.end)
        self.overdue = Overdue(context, self)
        self.holding: Holding
        self.finished: Callable[[Message, State, int], None]
        self.answer: Callable[[Message, int, float], None]
        self.known: Callable[[Message], None]
        self.displaced: Callable[[Message], None]
        self.unsure: Callable[[UpstreamState, list[Message], float], None]
        self.draining = False

    # -- admission -----------------------------------------------------------------------------------------------------

    def lane(self, account: Account, route: str) -> Lane:
        """The lane of an account for a route (names joined by commas)."""
        return self.lanes.lane(account, route)

    def available(self, lane: Lane, now: float) -> bool:
        """Whether some upstream of the lane would take a message soon: for customers who want its word."""
        if lane.cold or not any(self.lanes.open(u, now) and not u.asking for u in lane.upstreams):
            return False
        context = self._context
        return len(lane.hot) < context.hot_limit and context.journal.octets < context.hot_octets

    def admit(self, message: Message, now: float, *, hold: bool = False) -> None:
        """Gives a new message its place, in the batch that accepts it."""
        context = self._context
        lane = message.lane
        batch = context.store.batch
        message.account.queued += 1
        if hold:
            self.holding.add(message, now)
            batch.accepts.append(message.entry())
            context.journal.add(message)
            return
        upstream = lane.active
        if upstream is None or not upstream.links or upstream is not lane.upstreams[0]:
            upstream = self.lanes.place(lane, now)
        hot = lane.hot
        if (
            upstream is not None
            and not len(hot)
            and not lane.cold
            and upstream.paused_until <= now
            and not upstream.lanes
            and upstream.credit > 0
            and (message.part is None or self.lanes.pinned(message, now) in (None, upstream))
        ):
            message.enter(Phase.READY)
            message.leaving = True
            lane.leaving += 1
            upstream.reserved += 1
            message.upstream = upstream
        else:
            message.enter(Phase.QUEUED)
            # What follows a cold row is one: after a restart rows stand behind all that is in the journal.
            youngest = hot.last()
            full = lane.cold or (youngest is not None and not youngest.home) or context.crowded
            if full and message.account.settings.acknowledge == "stored":
                lane.cold += 1
                lane.unstored += 1
                batch.put.append(ColdRow(Kind.QUEUE, lane.name, b"", message.id, message.expires, message.payload()))
                return
            self.lanes.insert(message)
        batch.accepts.append(message.entry())
        context.journal.add(message)

    def stored(self, messages: list[Message]) -> None:
        """The batch that accepted them is durable."""
        touched: dict[UpstreamState, None] = {}
        back: dict[UpstreamState, list[Message]] = {}
        now = self._context.now()
        for message in messages:
            try:
                message.stored = True
                overtakes = message.leaving and self._left(message, touched)
                if message.phase is Phase.READY:
                    self._go(message, touched, back, now, overtakes)
                elif message.phase is Phase.DONE:
                    continue  # set aside
                elif message.refusal is not None or message.phase is Phase.HELD:
                    if message.part is not None:
                        self.holding.stored(message, now)
                else:
                    lane = message.lane
                    if not message.home:
                        lane.unstored -= 1
                    self.lanes.activate(lane)
                    if lane.active is not None:
                        touched[lane.active] = None
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(COMMIT, error, message)
        self._went(touched, back, now)

    def released(self, messages: list[Message]) -> None:
        """Their RELEASED marks are durable: they may go."""
        touched: dict[UpstreamState, None] = {}
        back: dict[UpstreamState, list[Message]] = {}
        now = self._context.now()
        for message in messages:
            try:
                overtakes = message.leaving and self._left(message, touched)
                if message.phase is Phase.READY:
                    self._go(message, touched, back, now, overtakes)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(COMMIT, error, message)
        self._went(touched, back, now)

    def _go(
        self,
        message: Message,
        touched: dict[UpstreamState, None],
        back: dict[UpstreamState, list[Message]],
        now: float,
        overtakes: bool,
    ) -> None:
        """A release is durable. If its upstream went away or pauses meanwhile, or older messages were put back, this one goes
        back too, or it would wait there while another could take it, and overtake them."""
        upstream = message.upstream
        assert upstream is not None
        touched[upstream] = None
        if (
            upstream.links
            and upstream.paused_until <= now
            and not overtakes
            and (message.lane.active is upstream or self.lanes.pinned(message, now) is upstream)
        ):
            upstream.ready.append(message)
        else:
            back.setdefault(upstream, []).append(message)

    def _left(self, message: Message, touched: dict[UpstreamState, None]) -> bool:
        """See ``Lane.left``; what waited for it may go now."""
        lane = message.lane
        if lane.waits and lane.active is not None:
            touched[lane.active] = None
        return lane.left(message)

    def _went(self, touched: dict[UpstreamState, None], back: dict[UpstreamState, list[Message]], now: float) -> None:
        for upstream, messages in back.items():
            self.lanes.unrelease(upstream, messages, now)
            touched.update(dict.fromkeys(m.lane.active for m in messages if m.lane.active is not None))
        for upstream in touched:
            try:
                self.pump(upstream, now)
            except Exception as error:  # noqa: BLE001  the edge of an upstream
                self._context.guard.caught(SEND, error, owner=upstream.name)

    def lost(self, messages: list[Message]) -> None:
        """The batch that accepted them was not stored: they are gone."""
        context = self._context
        for message in messages:
            try:
                self.holding.lost(message)
                if message.refusal is not None:
                    continue
                message.account.queued -= 1
                self.lanes.unfile(message)
                context.journal.remove(message)
                if message.leaving:
                    message.lane.left(message)
                if message.phase is Phase.READY and message.upstream is not None:
                    message.upstream.reserved -= 1
                elif message.home:
                    self.lanes.out(message)
                else:
                    message.lane.cold -= 1
                    message.lane.unstored -= 1
                message.phase = Phase.DONE
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.message(COMMIT, error, message)

    # -- sending -------------------------------------------------------------------------------------------------------

    def pump(self, upstream: UpstreamState, now: float) -> None:
        """Sends what may be sent: by window, by rate, in order."""
        if self.draining or upstream.paused_until > now or not upstream.links:
            return
        if len(upstream.aside):
            self.lanes.resume(upstream, now)
        if upstream.lanes:
            self.lanes.release(upstream, now)
        ready = upstream.ready
        if not len(ready):
            return
        links = upstream.links
        number = len(links)
        bucket = upstream.bucket
        wall = self._context.wall()
        dirty = self._context.dirty
        skipped = 0
        while len(ready):
            message = ready.first()
            if message.phase is not Phase.READY:
                ready.popleft()  # answered meanwhile, to an earlier attempt
                continue
            if message.expires <= wall:
                ready.popleft()
                upstream.reserved -= 1
                self.ends(message, State.EXPIRED)
                continue
            link = upstream.link_for(message.way, now) if number > 1 else links[0]
            session = link.session
            if session.room <= 0 or not session.can_send:
                # The links of the next accounts' messages may have room.
                skipped += 1
                if number == 1 or skipped >= min(ready.accounts(), 2 * number):
                    break
                ready.skip()
                continue
            if upstream.failures:
                # It refused for now: one message asks whether it takes more, the others keep their order behind it.
                if upstream.asking:
                    break
                upstream.probe = message
            if bucket.rate is not None and bucket.take(now) < 0:
                self._wake(upstream, now, bucket.ready_in(now))
                break
            ready.popleft()
            try:
                frame = outgoing(self._context, message, upstream, wall)
                if not frame:
                    upstream.reserved -= 1
                    if frame is None:
                        self.end(message, State.REJECTED, Status.RSUBMITFAIL, upstream)
                    else:
                        self._refused(upstream, message, Status.RINVMSGLEN, now)
                    continue
                if message.part is not None:
                    self.lanes.pin(message, upstream, now)
                message.phase = Phase.SENT
                message.sent_at = now
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(SEND, error, message)
                continue
            try:
                message.wire = session.request(frame, message, now)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(SEND, error, message)
                break  # should it be the session's fault, it must not cost all that waits at once
            dirty[link] = None

    def _wake(self, upstream: UpstreamState, now: float, seconds: float) -> None:
        if upstream.wake_at > now:
            return
        upstream.wake_at = now + max(seconds, 0.005)

        def awake() -> None:
            upstream.wake_at = 0.0
            self._context.guard.guarded(TIMER, lambda: self.pump(upstream, self._context.now()))
            self._context.flush()

        self._context.later(upstream.wake_at - now, awake)

    # -- answers -------------------------------------------------------------------------------------------------------

    def answered(self, upstream: UpstreamState, answers: list[tuple[Any, int, int, bytes]], now: float) -> None:
        """The carrier's responses to submit_sm and data_sm: (message, command, status, frame) each."""
        context = self._context
        batch = context.store.batch
        upstream.heard_at = now
        taken = decided = 0
        back: list[Message] = []
        for message, _command, status, frame in answers:
            try:
                if message.phase is Phase.SENT and not message.tries:
                    upstream.reserved -= 1
                elif not self._belated(upstream, message, status, frame):
                    continue
                if status == 0:
                    taken += 1
                    self.taken(upstream, message, _id_of(frame), now)
                elif (
                    status in RETRY
                    and message.account.settings.acknowledge == "stored"
                    and status not in (upstream.settings.final_statuses or ())
                ):
                    back.append(message)
                else:
                    decided += 1
                    self._refused(upstream, message, status, now)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.message(ANSWER, error, message)
        if taken:
            upstream.submitted.inc(taken)
            upstream.answer_time.observe(now - answers[0][0].sent_at)
        if taken or decided:
            upstream.failures = 0
        if back:
            for message in back:
                batch.marks.append(mark(Entry.RETURNED, message.id))
            context.metrics.retried.labels(upstream.name).inc(len(back))
            self.pause(upstream, now)
            self.lanes.requeue(back, now)
        if batch:
            # Nobody waits for these marks: they say what has happened already.
            context.store.nudge()
        self.pump(upstream, now)
        for message in back:
            if message.lane.active is not None:
                self.pump(message.lane.active, now)

    def _refused(self, upstream: UpstreamState, message: Message, status: int, now: float) -> None:
        """Ends a message that the carrier does not take."""
        self._context.metrics.rejected.labels(upstream.name, upstream.refusal(status)).inc()
        if message.account.settings.acknowledge == "upstream" and message.customer is not None:
            self.answer(message, status, now)
            message.registered = 0
        self.end(message, State.REJECTED, status, upstream)

    def _belated(self, upstream: UpstreamState, message: Message, status: int, frame: bytes) -> bool:
        """An answer after the response timer, perhaps to an earlier attempt than the last: whether it decides anything. An
        acceptance always does, a refusal only when it is the last attempt's."""
        phase = message.phase
        if phase in (Phase.SUBMITTED, Phase.DONE):
            return False
        latest = message.upstream is upstream and message.wire == int.from_bytes(frame[12:16], "big")
        if status and not (latest and phase in (Phase.SENT, Phase.UNKNOWN)):
            return False
        if phase in (Phase.SENT, Phase.READY):
            assert message.upstream is not None
            message.upstream.reserved -= 1
        elif phase is Phase.UNKNOWN:
            assert message.upstream is not None
            message.upstream.unknown.pop(message.id, None)
        elif phase is Phase.QUEUED:
            self.lanes.take_out(message)
        return True

    def taken(self, upstream: UpstreamState, message: Message, upstream_id: bytes, now: float) -> None:
        """The carrier has accepted a message under this id."""
        context = self._context
        message.account.queued -= 1
        self.lanes.unfile(message)
        message.phase = Phase.SUBMITTED
        if message.known is not None:
            message.known.taken = True
        message.upstream = upstream
        message.upstream_id = upstream_id
        detail = upstream.detail + upstream_id
        context.event(message.id, State.SUBMITTED, duplicate=message.duplicate, detail=detail)
        if message.customer is not None:
            self.answer(message, 0, now)
        if message.registered & 0x13 and upstream_id:
            context.store.batch.marks.append(mark(Entry.SUBMITTED, message.id, detail))
            upstream.matcher.answered(upstream_id)
            if upstream_id in upstream.ids:
                self.displaced(upstream.ids[upstream_id])
            upstream.await_receipt(message)
            if upstream.parked or upstream.early:
                self.known(message)
        else:
            message.phase = Phase.DONE
            context.store.batch.marks.append(mark(Entry.DONE, message.id))
            context.journal.remove(message)
            if message.wants_success:  # and the carrier gave no id that its receipt could be known by
                context.event(message.id, State.UNKNOWN, duplicate=message.duplicate, detail=detail)
                self.finished(message, State.UNKNOWN, 0)

    def pause(self, upstream: UpstreamState, now: float) -> None:
        """Backs off: nothing is sent for a while that doubles, with jitter, up to ``retry.most``."""
        retry = upstream.settings.retry
        if upstream.paused_until > now:
            return
        seconds = min(retry.most, retry.first * 2 ** min(upstream.failures, 16))
        upstream.failures += 1
        upstream.paused_until = now + seconds * (0.75 + 0.5 * self._random.random())
        # What was released and not sent yet goes back behind what was refused, so the order stays.
        self.lanes.recall(upstream, list(upstream.ready), now)
        self._wake(upstream, now, upstream.paused_until - now)

    def end(self, message: Message, state: State, error: int = 0, upstream: UpstreamState | None = None) -> None:
        """Ends a message whose fate is decided here, with the receipt its sender asked for."""
        context = self._context
        if state is State.EXPIRED:
            context.tally.add(log_counts.EXPIRED, message.account.name)
        if state is State.EXPIRED and message.duplicate:
            state = State.UNKNOWN  # an earlier attempt may have arrived: nobody can say that it was not delivered
        message.account.queued -= 1
        self.lanes.unfile(message)
        message.phase = Phase.DONE
        if message.known is not None:
            message.known.taken = True
        if message.customer is not None:
            self.answer(message, Status.RSUBMITFAIL, context.now())
            message.registered = 0
        detail = upstream.detail if upstream is not None else b""
        context.event(message.id, state, error=error, duplicate=message.duplicate, detail=detail)
        if state is State.EXPIRED:
            context.metrics.expired.labels(message.account.name).inc()
        if message.home:
            context.store.batch.marks.append(mark(Entry.DONE, message.id))
        elif message.cold is not None:
            context.drop(*message.cold, message.id)
        context.journal.remove(message)
        if message.wants_failure:
            self.finished(message, state, error)
        context.store.kick()

    def ends(self, message: Message, state: State) -> None:
        """``end`` for one of many: what it raises stops none of the others."""
        try:
            self.end(message, state)
        except Exception as error:  # noqa: BLE001  the item's edge
            self._context.guard.message(SWEEP, error, message)

    # -- trouble -------------------------------------------------------------------------------------------------------

    def unanswered(self, upstream: UpstreamState, messages: list[Message], now: float) -> None:
        """These were sent and no answer came (timer or cut link): nobody knows whether the carrier has them."""
        if not messages:
            return
        self.unknown.add(upstream, messages, now)
        if upstream.unknown and upstream.parked:
            self.unsure(upstream, messages, now)

    def timed_out(self, upstream: UpstreamState, messages: list[Message], now: float) -> None:
        """The response timer ran out on these. A carrier that has answered nothing for as long takes no messages, whatever
        its links say: it gets a pause, as one that says "later" does, and what waits goes to the next of its route."""
        self.unanswered(upstream, messages, now)
        if messages and now - upstream.heard_at >= upstream.settings.response:
            self.pause(upstream, now)

    def link_up(self, upstream: UpstreamState, link: Peer, now: float) -> None:
        """A session to the carrier is bound for sending."""
        upstream.link(link, True)
        for account in self._context.accounts.values():
            for lane in account.lanes.values():
                try:
                    if upstream in lane.upstreams and (len(lane) or lane.active is not None):
                        self.lanes.place(lane, now)
                        self.lanes.activate(lane)
                except Exception as error:  # noqa: BLE001  the edge of a lane
                    self._context.guard.caught(LINK, error, owner=account.name)
        self.pump(upstream, now)

    def link_down(self, upstream: UpstreamState, link: Peer, unanswered: list[Message], now: float) -> None:
        """A session to the carrier is gone."""
        upstream.link(link, False)
        self.unanswered(upstream, unanswered, now)
        if upstream.links:
            self.pump(upstream, now)
            return
        lanes = {m.lane: None for m in upstream.ready} | dict.fromkeys(upstream.lanes)
        self.lanes.recall(upstream, list(upstream.ready), now)
        for lane in lanes:
            try:
                self.lanes.place(lane, now)
                self.lanes.activate(lane)
            except Exception as error:  # noqa: BLE001  the edge of a lane
                self._context.guard.caught(LINK, error, owner=lane.name)
        upstream.lanes.clear()
        for other in {lane.active for lane in lanes if lane.active is not None}:
            self.pump(other, now)

    def sweep(self, now: float) -> None:
        """Once a second: unknown ones whose time is over, waiting ones whose validity passed, lanes to look at again. What one
        message, lane or upstream raises stops none of the others."""
        context = self._context
        wall = context.wall()
        context.guard.chore("held parts", lambda: self.holding.sweep(now, wall))
        for upstream in list(context.upstreams.values()):
            try:
                self.unknown.sweep(upstream, now)
                if upstream.asking:
                    # Where another way is open, nobody has to wait behind a question that may never be answered.
                    for lane in dict.fromkeys(m.lane for m in upstream.ready):
                        self.lanes.place(lane, now)
                for message in self.lanes.overdue(upstream, wall):
                    self.ends(message, State.EXPIRED)
                if len(upstream.aside):
                    self.lanes.unpinned(upstream, now)
            except Exception as error:  # noqa: BLE001  the edge of an upstream
                context.guard.caught(SWEEP, error, owner=upstream.name)
        context.guard.chore("validity", self.overdue.look)
        for account in list(context.accounts.values()):
            for lane in list(account.lanes.values()):
                try:
                    if len(lane):
                        if self.lanes.place(lane, now) is None and lane.asking:
                            self.overdue.no_way(lane, now)
                        self.lanes.activate(lane)
                        self.lanes.look(lane)
                except Exception as error:  # noqa: BLE001  the edge of a lane
                    context.guard.caught(SWEEP, error, owner=account.name)
        for upstream in list(context.upstreams.values()):
            try:
                self.pump(upstream, now)
            except Exception as error:  # noqa: BLE001  the edge of an upstream
                context.guard.caught(SEND, error, owner=upstream.name)


def _id_of(frame: bytes) -> bytes:
    """message_id of a response (SMPP 3.4 section 4.4.2), as it is kept: a carrier may give more than its 64 octets."""
    end = frame.find(b"\0", 16)
    return kept(frame[16:end] if end >= 0 else frame[16:])
