"""Upstreams: what new messages are admitted to, what is sent, what answers mean, what happens when a carrier is silent.

The order in which messages wait, and who serves them, is in ``lanes``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

from smppd.message import State
from smppd.protocol.receipt_ids import kept
from smppd.protocol.wire import Status
from smppd.relay import log_counts
from smppd.relay.context import Context
from smppd.relay.guard import ANSWER, COMMIT, LINK, SEND, SWEEP, TIMER
from smppd.relay.ledger.ledger import message_row
from smppd.relay.send.lanes import Lanes
from smppd.relay.send.outgoing import outgoing
from smppd.relay.send.unanswered import Unknown
from smppd.relay.state.model import Lane, Message, Peer, UpstreamState
from smppd.relay.state.phase import IS_IN_LANE, IS_RELEASING, IS_ROW, IS_SENT, Phase

# "Later, please": the carrier did not take the message and will.
RETRY: Final = frozenset((Status.RTHROTTLED, Status.RMSGQFUL, Status.RX_T_APPN, Status.RSYSERR))


class Listeners(NamedTuple):
    """Whom the fate of a message is told that is known here. ``answer(message, status, now)`` answers a customer who waits
    for the carrier; ``finished(message, state, error)`` makes the receipt; ``known(message)`` hears each upstream id, since a
    receipt may have come before it; ``given_again(message)`` of one whose id its carrier gave to another; ``unsure(upstream,
    messages, now)`` when messages became unknown."""

    answer: Callable[[Message, int, float], None]
    finished: Callable[[Message, State, int], None]
    known: Callable[[Message], None]
    given_again: Callable[[Message], None]
    unsure: Callable[[UpstreamState, list[Message], float], None]


class Dispatch:
    """See the module."""

    def __init__(self, context: Context, random: Random, listeners: Listeners) -> None:
        self._context = context
        self._phases = context.phases
        self._ledger = context.ledger
        self._random = random
        self._tell = listeners
        self.lanes = Lanes(context, self.pump)
        self.unknown = Unknown(context, self.lanes, self.end)
        self.draining = False

    # -- admission -----------------------------------------------------------------------------------------------------

    def available(self, lane: Lane, now: float) -> bool:
        """Whether some upstream of the lane would take a message soon: for customers who want its word."""
        if lane.cold or not any(self.lanes.open(u, now) and not u.asking for u in lane.upstreams):
            return False
        context = self._context
        return len(lane.hot) < context.hot_limit and context.ledger.octets < context.hot_octets

    def admit(self, message: Message, now: float, *, hold: bool = False) -> None:
        """Gives a new message its place, in the batch that accepts it. ``hold``: with the parts that wait for the rest."""
        lane = message.lane
        if hold:
            self._phases.move(message, Phase.HELD)
            self._ledger.open(message, kept=False)
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
            self._phases.move(message, Phase.RELEASING, upstream)
        else:
            # What follows a row is one: after a restart rows stand behind all that is in the spool.
            youngest = hot.last()
            full = lane.cold or (youngest is not None and not youngest.home) or self._context.crowded
            if full and message.account.settings.acknowledge == "stored":
                self._ledger.open_row(message, message_row(message), kept=False)
                self._phases.move(message, Phase.ROW)
                return
            self._phases.move(message, Phase.QUEUED)
        self._ledger.open(message, kept=False)

    # -- the store's words ---------------------------------------------------------------------------------------------

    def batch_committed(self, accepted: list[Message], complete: Callable[[], None]) -> None:
        """The batch that accepted these is durable. ``complete()`` lets go what they complete, before anything is sent: it
        may have come before some of them."""
        touched: dict[UpstreamState, None] = {}
        back: list[Message] = []
        now = self._context.now()
        for message in accepted:
            try:
                message.stored = True
                if message.is_in(IS_RELEASING):
                    self._released(message, touched, back, now)
                elif message.is_in(IS_IN_LANE):
                    lane = message.lane
                    if message.is_in(IS_ROW):
                        lane.backlog.pushed()
                    self.lanes.activate(lane)
                    if lane.active is not None:
                        touched[lane.active] = None
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(COMMIT, error, message)
        self._context.guard.guarded(COMMIT, complete)
        self._pump_all(touched, back, now)

    def releases_committed(self, messages: list[Message]) -> None:
        """The batch with these releases is durable: they may go."""
        touched: dict[UpstreamState, None] = {}
        back: list[Message] = []
        now = self._context.now()
        for message in messages:
            try:
                if message.is_in(IS_RELEASING):
                    self._released(message, touched, back, now)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(COMMIT, error, message)
        self._pump_all(touched, back, now)

    def _released(self, message: Message, touched: dict[UpstreamState, None], back: list[Message], now: float) -> None:
        """A release is durable. If its upstream went away or pauses meanwhile, or older messages were put back, this one goes
        back too, or it would wait there while another could take it, and overtake them."""
        upstream = message.upstream
        lane = message.lane
        assert upstream is not None
        touched[upstream] = None
        if lane.waits and lane.active is not None:
            touched[lane.active] = None  # what waits for this may go now
        if (
            upstream.links
            and upstream.paused_until <= now
            and not lane.overtaken_by(message)
            and (lane.active is upstream or self.lanes.pinned(message, now) is upstream)
        ):
            self._phases.move(message, Phase.READY)
        else:
            back.append(message)

    def _pump_all(self, touched: dict[UpstreamState, None], back: list[Message], now: float) -> None:
        self.lanes.recall(back, now)
        touched.update(dict.fromkeys(m.lane.active for m in back if m.lane.active is not None))
        for upstream in touched:
            try:
                self.pump(upstream, now)
            except Exception as error:  # noqa: BLE001  the edge of an upstream
                self._context.guard.caught(SEND, error, owner=upstream.name)

    def batch_refused(self, accepted: list[Message]) -> None:
        """The batch that was to accept these is not stored: they are gone."""
        for message in accepted:
            try:
                if message.refusal is None and message.phase is not Phase.DONE:
                    self._phases.move(message, Phase.DONE)
                    self._ledger.forget(message)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(COMMIT, error, message)

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
            if message.expires <= wall:
                self.end_one(message, State.EXPIRED)
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
            try:
                frame = outgoing(self._context, message, upstream, wall)
                if not frame:
                    if frame is None:
                        self.end(message, State.REJECTED, Status.RSUBMITFAIL, upstream)
                    else:
                        self._refused(upstream, message, Status.RINVMSGLEN, now)
                    continue
                if message.part is not None:
                    self.lanes.pin(message, upstream, now)
                self._phases.move(message, Phase.SENT)
                ready.skip()
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

    def carrier_answered(self, upstream: UpstreamState, answers: list[tuple[Any, int, int, bytes]], now: float) -> None:
        """The carrier's responses to submit_sm and data_sm: (message, command, status, frame) each."""
        context = self._context
        batch = context.store.batch
        upstream.heard_at = now
        taken = decided = 0
        back: list[Message] = []
        for message, _command, status, frame in answers:
            try:
                if (message.tries or not message.is_in(IS_SENT)) and not _decides(upstream, message, status, frame):
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
                self._ledger.returned(message)
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
            self._tell.answer(message, status, now)
            message.registered = 0
        self.end(message, State.REJECTED, status, upstream)

    def taken(self, upstream: UpstreamState, message: Message, upstream_id: bytes, now: float) -> None:
        """The carrier has accepted a message under this id."""
        context = self._context
        message.upstream_id = upstream_id
        detail = upstream.detail + upstream_id
        if message.wants_any and upstream_id:
            before = upstream.ids.get(upstream_id)
            upstream.matcher.answered(upstream_id)
            context.event(message.id, State.SUBMITTED, duplicate=message.duplicate, detail=detail)
            if message.customer is not None:
                self._tell.answer(message, 0, now)
            if before is not None:
                self._tell.given_again(before)
            self._phases.move(message, Phase.SUBMITTED, upstream)
            self._ledger.submitted(message)
            if upstream.parked or upstream.early:
                self._tell.known(message)
            return
        self._phases.move(message, Phase.DONE)
        message.upstream = upstream
        context.event(message.id, State.SUBMITTED, duplicate=message.duplicate, detail=detail)
        if message.customer is not None:
            self._tell.answer(message, 0, now)
        self._ledger.close(message)
        if message.wants_success:  # and the carrier gave no id that its receipt could be known by
            context.event(message.id, State.UNKNOWN, duplicate=message.duplicate, detail=detail)
            self._tell.finished(message, State.UNKNOWN, 0)

    def pause(self, upstream: UpstreamState, now: float) -> None:
        """Backs off: nothing is sent for a while that doubles, with jitter, up to ``retry.most``."""
        retry = upstream.settings.retry
        if upstream.paused_until > now:
            return
        seconds = min(retry.most, retry.first * 2 ** min(upstream.failures, 16))
        upstream.failures += 1
        upstream.paused_until = now + seconds * (0.75 + 0.5 * self._random.random())
        # What was released and not sent yet goes back behind what was refused, so the order stays.
        self.lanes.recall(list(upstream.ready), now)
        self._wake(upstream, now, upstream.paused_until - now)

    def end(self, message: Message, state: State, error: int = 0, upstream: UpstreamState | None = None) -> None:
        """Ends a message whose fate is decided here, wherever it stands, with the receipt its sender asked for."""
        context = self._context
        if state is State.EXPIRED:
            context.tally.add(log_counts.EXPIRED, message.account.name)
            if message.duplicate:
                state = State.UNKNOWN  # an earlier attempt may have arrived: nobody can say that it was not delivered
            else:
                context.metrics.expired.labels(message.account.name).inc()
        self._phases.move(message, Phase.DONE)
        if message.customer is not None:
            self._tell.answer(message, Status.RSUBMITFAIL, context.now())
            message.registered = 0
        detail = upstream.detail if upstream is not None else b""
        context.event(message.id, state, error=error, duplicate=message.duplicate, detail=detail)
        self._ledger.close(message)
        if message.wants_failure:
            self._tell.finished(message, state, error)
        context.store.kick()

    def end_one(self, message: Message, state: State, error: int = 0) -> None:
        """``end`` for one of many: what it raises stops none of the others."""
        try:
            self.end(message, state, error)
        except Exception as caught:  # noqa: BLE001  the item's edge
            self._context.guard.message(SWEEP, caught, message)

    def refuse_waiting(self, message: Message, status: int, now: float) -> None:
        """Ends a message that waits here, and tells its customer, who waits for the carrier's word, so that he may send it
        again."""
        self._tell.answer(message, status, now)
        message.registered = 0
        self.end(message, State.REJECTED, status)

    # -- trouble -------------------------------------------------------------------------------------------------------

    def unanswered(self, upstream: UpstreamState, messages: list[Message], now: float) -> None:
        """These were sent and no answer came (timer or cut link): nobody knows whether the carrier has them."""
        if not messages:
            return
        self.unknown.add(upstream, messages, now)
        if upstream.unknown and upstream.parked:
            self._tell.unsure(upstream, messages, now)

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
        self.lanes.recall(list(upstream.ready), now)
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
        """Once a second: unknown ones whose time is over, released ones whose validity passed. What one message or upstream
        raises stops none of the others."""
        context = self._context
        wall = context.wall()
        for upstream in list(context.upstreams.values()):
            try:
                self.unknown.sweep(upstream, now)
                if upstream.asking:
                    # Where another way is open, nobody has to wait behind a question that may never be answered.
                    for lane in dict.fromkeys(m.lane for m in upstream.ready):
                        self.lanes.place(lane, now)
                # The way may be slow. Not more than ``AHEAD`` and what was on its way there are looked at.
                for message in [m for m in upstream.ready if m.expires <= wall]:
                    self.end_one(message, State.EXPIRED)
                if len(upstream.aside):
                    self.lanes.unpinned(upstream, now)
            except Exception as error:  # noqa: BLE001  the edge of an upstream
                context.guard.caught(SWEEP, error, owner=upstream.name)

    def pump_all(self, now: float) -> None:
        """Once a second: lets every upstream send."""
        for upstream in list(self._context.upstreams.values()):
            try:
                self.pump(upstream, now)
            except Exception as error:  # noqa: BLE001  the edge of an upstream
                self._context.guard.caught(SEND, error, owner=upstream.name)


def _decides(upstream: UpstreamState, message: Message, status: int, frame: bytes) -> bool:
    """Whether an answer after the response timer, perhaps to an earlier attempt than the last, decides anything: an acceptance
    always does, a refusal only when it is the last attempt's."""
    phase = message.phase
    if phase is Phase.DONE or message.awaits_receipt:
        return False
    latest = message.upstream is upstream and message.wire == int.from_bytes(frame[12:16], "big")
    return not status or (latest and phase in (Phase.SENT, Phase.UNKNOWN))


def _id_of(frame: bytes) -> bytes:
    """message_id of a response (SMPP 3.4 section 4.4.2), as it is kept: a carrier may give more than its 64 octets."""
    end = frame.find(b"\0", 16)
    return kept(frame[16:end] if end >= 0 else frame[16:])
