"""Sends messages to carriers: admits new messages, sends what may be sent, handles answers, and pauses a carrier that is
silent.

In which order messages wait, and which upstream serves a lane, is decided in ``lanes``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

from smppd.message import Refusal, State
from smppd.protocol.receipt_ids import kept
from smppd.protocol.wire import Status, pdu_body, sequence_number
from smppd.relay import log_counts
from smppd.relay.context import Context
from smppd.relay.guard import ANSWER, COMMIT, LINK, SEND, SWEEP, TIMER
from smppd.relay.ledger.ledger import message_row
from smppd.relay.send.lanes import Lanes
from smppd.relay.send.outgoing import outgoing_frame
from smppd.relay.send.unanswered import Unanswered
from smppd.relay.state.model import Lane, Message, Peer, UpstreamState
from smppd.relay.state.phase import IS_IN_LANE, IS_RELEASING, IS_ROW, IS_SENT, Phase

# With these statuses a carrier says "later": it did not take the message now.
RETRY: Final = frozenset((Status.RTHROTTLED, Status.RMSGQFUL, Status.RX_T_APPN, Status.RSYSERR))

CODES_IN_ROW: Final = 9
"""After so many one-time codes in a row a message of another kind goes, if one waits: codes take nine tenths at most."""


class Listeners(NamedTuple):
    """The functions that `Dispatch` calls when it knows what became of a message. ``answer_customer(message, status, now)``
    answers a customer who waits for the carrier. ``post_receipt(message, state, error)`` makes the receipt.
    ``upstream_id_known(message)`` is called with each new upstream id, since a receipt may have come before it.
    ``upstream_id_reused(message)``: the carrier gave the id of this message to another one too. ``became_unknown(upstream,
    messages, now)``: these were sent, and no answer came."""

    answer_customer: Callable[[Message, int, float], None]
    post_receipt: Callable[[Message, State, int], None]
    upstream_id_known: Callable[[Message], None]
    upstream_id_reused: Callable[[Message], None]
    became_unknown: Callable[[UpstreamState, list[Message], float], None]


class Dispatch:
    """See the module."""

    def __init__(self, context: Context, random: Random, listeners: Listeners) -> None:
        self._context = context
        self._phases = context.phases
        self._ledger = context.ledger
        self._random = random
        self._tell = listeners
        self.lanes = Lanes(context, self.send_ready, self.end_unwanted)
        self.unanswered = Unanswered(context, self.lanes, self.end_message)
        self.draining = False

    # -- admission -----------------------------------------------------------------------------------------------------

    def has_open_upstream(self, lane: Lane, now: float) -> bool:
        """Whether some upstream of the lane would take a message soon. Asked for accounts with ``acknowledge: upstream``."""
        if lane.cold or not any(self.lanes.takes_messages(u, now) and not u.is_probing for u in lane.upstreams):
            return False
        context = self._context
        return len(lane.hot) < context.hot_limit and context.ledger.octets < context.hot_octets

    def admit_message(self, message: Message, now: float, *, hold: bool = False) -> None:
        """Gives a new message its first phase and writes it into the batch that accepts it. ``hold``: it is a part that
        waits for the other parts of its message."""
        lane = message.lane
        if hold:
            self._phases.move(message, Phase.HELD)
            self._ledger.open(message, kept=False)
            return
        upstream = lane.active
        if (
            upstream is None
            or not upstream.links
            or upstream.act
            or upstream is not lane.upstreams[0]
            or lane.gate is not None
        ):
            upstream = self.lanes.choose_upstream(lane, now)
        hot = lane.hot
        if (
            upstream is not None
            and not len(hot)
            and not lane.cold
            and upstream.paused_until <= now
            and not (upstream.code_lanes if lane.code else upstream.lanes)
            and (upstream.code_credit if lane.code else upstream.credit) > 0
            and (message.part is None or self.lanes.pinned(message, now) in (None, upstream))
        ):
            self._phases.move(message, Phase.RELEASING, upstream)
        else:
            # A message behind a row has to be a row too: after a restart all rows stand behind what is in the spool.
            youngest = hot.last()
            full = lane.cold or (youngest is not None and not youngest.home) or self._context.crowded
            if not full and upstream is None and lane.gate is not None:
                full = self._context.half_full  # what waits for its hour leaves room for the others
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
                        lane.backlog.push_committed()
                    self.lanes.activate(lane)
                    if lane.active is not None:
                        touched[lane.active] = None
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_message_aside(COMMIT, error, message)
        self._context.guard.call_guarded(COMMIT, complete)
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
                self._context.guard.set_message_aside(COMMIT, error, message)
        self._pump_all(touched, back, now)

    def _released(self, message: Message, touched: dict[UpstreamState, None], back: list[Message], now: float) -> None:
        """The release of a message is durable. It goes back to its lane if its upstream has gone away or pauses, since
        another could take it, and if older messages were put back meanwhile, since it would overtake them."""
        upstream = message.upstream
        lane = message.lane
        assert upstream is not None
        touched[upstream] = None
        if lane.waits_for_batches and lane.active is not None:
            touched[lane.active] = None  # messages that waited for this batch may go now
        if (
            upstream.links
            and upstream.paused_until <= now
            and not upstream.act
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
                self.send_ready(upstream, now)
            except Exception as error:  # noqa: BLE001  the edge of an upstream
                self._context.guard.caught(SEND, error, owner=upstream.name)

    def batch_refused(self, accepted: list[Message]) -> None:
        """The batch that was to accept these was not stored: they are forgotten."""
        for message in accepted:
            try:
                if message.refusal is None and message.phase is not Phase.DONE:
                    self._phases.move(message, Phase.DONE)
                    self._ledger.forget(message)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_message_aside(COMMIT, error, message)

    # -- sending -------------------------------------------------------------------------------------------------------

    def send_ready(self, upstream: UpstreamState, now: float) -> None:
        """Sends what may be sent: by window, by rate, in order."""
        if self.draining or upstream.paused_until > now or not upstream.links or upstream.act:
            return
        if len(upstream.pinned_parts):
            self.lanes.release_pinned(upstream, now)
        if upstream.lanes or upstream.code_lanes:
            self.lanes.release_waiting(upstream, now)
        ready, codes = upstream.ready, upstream.codes
        if not len(ready) and not len(codes):
            return
        links = upstream.links
        number = len(links)
        bucket = upstream.bucket
        wall = self._context.wall()
        dirty = self._context.dirty
        skipped = 0
        stuck = codes_stuck = False  # no link has room for any more of them
        while True:
            # Codes go first; of so many in a row one place is left to the others.
            if len(codes) and not codes_stuck and (stuck or not len(ready) or upstream.codes_in_row < CODES_IN_ROW):
                turns = codes
            elif len(ready) and not stuck:
                turns = ready
            else:
                break
            message = turns.first()
            if message.expires <= wall:
                self.end_guarded(message, State.EXPIRED)
                turns.skip()  # its account has had its turn
                continue
            if message.lane.gate is not None and message.lane.is_shut(wall):
                self.lanes.recall([message], now)  # its hour ended since it was released, as for the others of its lane
                continue
            why = self.lanes.unwanted(message)
            if why is not None:
                self.end_unwanted(message, why)
                turns.skip()
                continue
            link = upstream.link_for(message.destination_hash, now) if number > 1 else links[0]
            session = link.session
            if session.room <= (0 if turns is codes else upstream.kept_places) or not session.can_send:
                # The links that the messages of the next accounts go by may have room.
                skipped += 1
                if number == 1 or skipped >= min(turns.accounts(), 2 * number):
                    if turns is codes:
                        codes_stuck = True
                    else:
                        stuck = True
                    skipped = 0
                    continue
                turns.skip()
                continue
            if upstream.failures:
                # The carrier said "later". One message tries whether it takes more; the others wait behind it, in order.
                if upstream.is_probing:
                    break
                upstream.probe = message
            if bucket.rate is not None and bucket.take(now) < 0:
                self._wake(upstream, now, bucket.ready_in(now))
                break
            try:
                frame = outgoing_frame(self._context, message, upstream, wall)
                if not frame:
                    if frame is None:
                        self.end_message(message, State.REJECTED, Status.RSUBMITFAIL, upstream)
                    else:
                        self._refused(upstream, message, Status.RINVMSGLEN, now)
                    turns.skip()
                    continue
                if message.part is not None:
                    self.lanes.pin(message, upstream, now)
                self._phases.move(message, Phase.SENT)
                turns.skip()
                upstream.codes_in_row = upstream.codes_in_row + 1 if turns is codes else 0
                message.sent_at = now
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_message_aside(SEND, error, message)
                continue
            try:
                message.wire = session.request(frame, message, now)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_message_aside(SEND, error, message)
                break  # if the session is the cause, the other messages must not be set aside too
            dirty[link] = None

    def _wake(self, upstream: UpstreamState, now: float, seconds: float) -> None:
        if upstream.wake_at > now:
            return
        upstream.wake_at = now + max(seconds, 0.005)

        def awake() -> None:
            upstream.wake_at = 0.0
            self._context.guard.call_guarded(TIMER, lambda: self.send_ready(upstream, self._context.now()))
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
                    self.carrier_took(upstream, message, _id_of(frame), now)
                elif (
                    status in RETRY
                    and message.account.settings.acknowledge == "stored"
                    and not message.erased  # there is nothing left to send again
                    and status not in (upstream.settings.final_statuses or ())
                ):
                    back.append(message)
                else:
                    decided += 1
                    self._refused(upstream, message, status, now)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.set_message_aside(ANSWER, error, message)
        if taken:
            upstream.submitted.inc(taken)
            upstream.answer_time.observe(now - answers[0][0].sent_at)
        if taken or decided:
            upstream.failures = 0
        if back:
            for message in back:
                self._ledger.returned(message)
            context.metrics.retried.labels(upstream.name).inc(len(back))
            self.pause_upstream(upstream, now)
            self.lanes.requeue(back, now)
        if batch:
            # Nobody waits for these marks, since they are about what has happened already.
            context.store.nudge()
        self.send_ready(upstream, now)
        for message in back:
            if message.lane.active is not None:
                self.send_ready(message.lane.active, now)

    def _refused(self, upstream: UpstreamState, message: Message, status: int, now: float) -> None:
        """Ends a message that the carrier does not take."""
        self._context.metrics.rejected.labels(upstream.name, upstream.refusal(status)).inc()
        if message.account.settings.acknowledge == "upstream" and message.customer is not None:
            self._tell.answer_customer(message, status, now)
            message.registered = 0
        self.end_message(message, State.REJECTED, status, upstream)

    def carrier_took(self, upstream: UpstreamState, message: Message, upstream_id: bytes, now: float) -> None:
        """The carrier has accepted a message under this id."""
        context = self._context
        message.upstream_id = upstream_id
        detail = upstream.detail + message.named_in_log(upstream_id)
        if message.wants_any and upstream_id:
            before = upstream.ids.get(upstream_id)
            upstream.matcher.answered(upstream_id)
            context.append_event(message.id, State.SUBMITTED, duplicate=message.duplicate, detail=detail)
            if message.customer is not None:
                self._tell.answer_customer(message, 0, now)
            if before is not None:
                self._tell.upstream_id_reused(before)
            self._phases.move(message, Phase.SUBMITTED, upstream)
            self._ledger.submitted(message)
            if upstream.parked or upstream.early:
                self._tell.upstream_id_known(message)
            return
        self._phases.move(message, Phase.DONE)
        message.upstream = upstream
        context.append_event(message.id, State.SUBMITTED, duplicate=message.duplicate, detail=detail)
        if message.customer is not None:
            self._tell.answer_customer(message, 0, now)
        self._ledger.close(message)
        if message.wants_success:  # and the carrier gave no id, so no receipt can be matched
            context.append_event(message.id, State.UNKNOWN, duplicate=message.duplicate, detail=detail)
            self._tell.post_receipt(message, State.UNKNOWN, 0)

    def pause_upstream(self, upstream: UpstreamState, now: float) -> None:
        """Sends this upstream nothing for a while. The while doubles with each failure, with jitter, up to
        ``retry.most``."""
        retry = upstream.settings.retry
        if upstream.paused_until > now:
            return
        seconds = min(retry.most, retry.first * 2 ** min(upstream.failures, 16))
        upstream.failures += 1
        upstream.paused_until = now + seconds * (0.75 + 0.5 * self._random.random())
        # What was released and not sent yet goes back too. Lanes keep it behind what was refused, so the order stays.
        self.lanes.recall(upstream.released(), now)
        self._wake(upstream, now, upstream.paused_until - now)

    def end_message(
        self, message: Message, state: State, error: int = 0, upstream: UpstreamState | None = None
    ) -> None:
        """Ends a message whose fate is decided here, wherever it stands, with the receipt its sender asked for."""
        context = self._context
        if state is State.EXPIRED:
            context.log_counts.count(log_counts.EXPIRED, message.account.name)
            if message.duplicate:
                state = State.UNKNOWN  # an earlier attempt may have reached the carrier, so it may have been delivered
            else:
                context.metrics.expired.labels(message.account.name).inc()
        self._phases.move(message, Phase.DONE)
        if message.customer is not None:
            self._tell.answer_customer(message, Status.RSUBMITFAIL, context.now())
            message.registered = 0
        detail = upstream.detail if upstream is not None else b""
        context.append_event(message.id, state, error=error, duplicate=message.duplicate, detail=detail)
        self._ledger.close(message)
        if message.wants_failure:
            self._tell.post_receipt(message, state, error)
        context.store.kick()

    def end_guarded(self, message: Message, state: State, error: int = 0) -> None:
        """``end_message`` for one of many. An error stops none of the others."""
        try:
            self.end_message(message, state, error)
        except Exception as caught:  # noqa: BLE001  the item's edge
            self._context.guard.set_message_aside(SWEEP, caught, message)

    def end_unwanted(self, message: Message, why: Refusal) -> None:
        """Ends a message whose recipient has opted out or withdrawn while it waited. A customer who waits for the carrier's
        answer is told; any other gets the receipt he asked for. Where an earlier attempt may have reached a carrier, nobody
        knows its end."""
        status = int(why.status)
        self._context.metrics.refused.labels(message.account.name, why.rule).inc()
        message.account.count_refused(1)
        try:
            if message.customer is not None:
                self.refuse_waiting(message, status, self._context.now())
            else:
                self.end_message(message, State.UNKNOWN if message.duplicate else State.REJECTED, status)
        except Exception as caught:  # noqa: BLE001  the item's edge
            self._context.guard.set_message_aside(SEND, caught, message)

    def refuse_waiting(self, message: Message, status: int, now: float) -> None:
        """Ends a message that waits here and whose customer waits for the carrier's answer (``acknowledge: upstream``). The
        customer is told, and may send it again."""
        self._tell.answer_customer(message, status, now)
        message.registered = 0
        self.end_message(message, State.REJECTED, status)

    # -- trouble -------------------------------------------------------------------------------------------------------

    def answers_missing(self, upstream: UpstreamState, messages: list[Message], now: float) -> None:
        """These messages were sent and no answer came, by the timer or since the link was cut: nobody knows whether the
        carrier has them."""
        if not messages:
            return
        self.unanswered.became_unknown(upstream, messages, now)
        if upstream.unknown and upstream.parked:
            self._tell.became_unknown(upstream, messages, now)

    def answers_timed_out(self, upstream: UpstreamState, messages: list[Message], now: float) -> None:
        """The response timer of these messages ran out. A carrier that has answered nothing for that long takes no messages,
        though its links are up. It gets a pause, like a carrier that says "later", and what waits goes to the next upstream
        of the route."""
        self.answers_missing(upstream, messages, now)
        if messages and now - upstream.heard_at >= upstream.settings.response:
            self.pause_upstream(upstream, now)

    def link_up(self, upstream: UpstreamState, link: Peer, now: float) -> None:
        """A session to the carrier is bound for sending."""
        upstream.set_link(link, True)
        for account in self._context.accounts.values():
            for lane in account.lanes.values():
                try:
                    if upstream in lane.upstreams and (len(lane) or lane.active is not None):
                        self.lanes.choose_upstream(lane, now)
                        self.lanes.activate(lane)
                except Exception as error:  # noqa: BLE001  the edge of a lane
                    self._context.guard.caught(LINK, error, owner=account.name)
        self.send_ready(upstream, now)

    def link_down(self, upstream: UpstreamState, link: Peer, unanswered: list[Message], now: float) -> None:
        """A session to the carrier is gone."""
        upstream.set_link(link, False)
        self.answers_missing(upstream, unanswered, now)
        if upstream.links:
            self.send_ready(upstream, now)
            return
        released = upstream.released()
        lanes = {m.lane: None for m in released} | dict.fromkeys([*upstream.code_lanes, *upstream.lanes])
        self.lanes.recall(released, now)
        for lane in lanes:
            try:
                self.lanes.choose_upstream(lane, now)
                self.lanes.activate(lane)
            except Exception as error:  # noqa: BLE001  the edge of a lane
                self._context.guard.caught(LINK, error, owner=lane.name)
        upstream.lanes.clear()
        upstream.code_lanes.clear()
        for other in {lane.active for lane in lanes if lane.active is not None}:
            self.send_ready(other, now)

    def set_act(self, upstream: UpstreamState, act: str, now: float) -> None:
        """An operator pauses an upstream (``UpstreamState.act``), or lets it go on (empty). What was released to it and not
        sent goes back in order, and its lanes take the next upstream of their route. What was sent is not touched."""
        was, upstream.act = upstream.act, act
        if bool(was) == bool(act):
            return
        others: dict[UpstreamState, None] = {}
        if act:
            released = upstream.released()
            self.lanes.recall(released, now)
            others = dict.fromkeys([one.lane.active for one in released if one.lane.active is not None])
        for account in self._context.accounts.values():
            for lane in account.lanes.values():
                try:
                    if lane.active is upstream if act else upstream in lane.upstreams:
                        self.lanes.choose_upstream(lane, now)
                        self.lanes.activate(lane)
                        if lane.active is not None:
                            others[lane.active] = None
                except Exception as error:  # noqa: BLE001  the edge of a lane
                    self._context.guard.caught(LINK, error, owner=account.name)
        if act:
            upstream.lanes.clear()
            upstream.code_lanes.clear()
        else:
            others[upstream] = None
        for other in others:
            self.send_ready(other, now)

    def sweep(self, now: float) -> None:
        """Once a second: handles unknown messages whose time is over, and released ones whose validity has passed. An error
        with one message or upstream stops none of the others."""
        context = self._context
        wall = context.wall()
        for upstream in list(context.upstreams.values()):
            try:
                self.unanswered.sweep(upstream, now)
                if upstream.is_probing:
                    # The probe may never be answered: where another upstream is open, the messages behind it go there.
                    for lane in dict.fromkeys([m.lane for m in upstream.released()]):
                        self.lanes.choose_upstream(lane, now)
                # Released messages may wait long for a slow link. There are not many more than ``AHEAD`` to look at.
                for message in [m for m in upstream.released() if m.expires <= wall]:
                    self.end_guarded(message, State.EXPIRED)
                if len(upstream.pinned_parts):
                    self.lanes.return_unpinned(upstream, now)
            except Exception as error:  # noqa: BLE001  the edge of an upstream
                context.guard.caught(SWEEP, error, owner=upstream.name)

    def send_all_ready(self, now: float) -> None:
        """Once a second: lets every upstream send."""
        for upstream in list(self._context.upstreams.values()):
            try:
                self.send_ready(upstream, now)
            except Exception as error:  # noqa: BLE001  the edge of an upstream
                self._context.guard.caught(SEND, error, owner=upstream.name)


def _decides(upstream: UpstreamState, message: Message, status: int, frame: bytes) -> bool:
    """Whether an answer that came after the response timer counts. It may be to an earlier attempt than the last. An
    acceptance always counts; a refusal counts only if it answers the last attempt."""
    phase = message.phase
    if phase is Phase.DONE or message.awaits_receipt:
        return False
    latest = message.upstream is upstream and message.wire == sequence_number(frame)
    return not status or (latest and phase in (Phase.SENT, Phase.UNKNOWN))


def _id_of(frame: bytes) -> bytes:
    """message_id of a response (SMPP 3.4 section 4.4.2), in the form in which ids are kept: some carriers give more than the
    64 octets that it may have."""
    return kept(pdu_body(frame).partition(b"\0")[0])
