"""Lanes and upstreams: what waits, what is released to which carrier, what its answers mean, what happens when it is silent.

A message may be sent only after its release is durable: acceptance says so at once while the way is free, a RELEASED mark
says so later. So after a crash everything that was not released was certainly not sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

from smppd.message import State
from smppd.protocol import times
from smppd.protocol.text import TextError, convert
from smppd.protocol.wire import Sm, Status, splice, status_name
from smppd.relay.context import Context
from smppd.relay.journal import Entry, mark
from smppd.relay.model import Account, Lane, Message, Peer, Phase, Stored, UpstreamState
from smppd.store.api import ColdRow, Kind

PAGE: Final = 500
# "Later, please": the carrier did not take the message and will.
RETRY: Final = frozenset((Status.RTHROTTLED, Status.RMSGQFUL, Status.RX_T_APPN, Status.RSYSERR))
MAX_TRIES: Final = 1


class Dispatch:
    """See the module. ``finished(message, state, error)`` makes the receipt of a message whose fate is known here;
    ``answer(message, status, now)`` answers a customer who waits for the carrier; ``known(message)`` is told of each
    upstream id, since a receipt may have come before it."""

    def __init__(self, context: Context, random: Random) -> None:
        self._context = context
        self._random = random
        self.finished: Callable[[Message, State, int], None]
        self.answer: Callable[[Message, int, float], None]
        self.known: Callable[[Message], None]
        self.draining = False

    # -- lanes ---------------------------------------------------------------------------------------------------------

    def lane(self, account: Account, route: str) -> Lane:
        """The lane of an account for a route (names joined by commas)."""
        lane = account.lanes.get(route)
        if lane is None:
            known = self._context.upstreams
            lane = Lane(account, route, tuple(known[name] for name in route.split(",") if name in known))
            account.lanes[route] = lane
        return lane

    def _open(self, upstream: UpstreamState, now: float) -> bool:
        return bool(upstream.links) and upstream.paused_until <= now

    def available(self, lane: Lane, now: float) -> bool:
        """Whether some upstream of the lane would take a message soon: for customers who want its word."""
        return any(u.links and (u.credit > 0 or u.paused_until <= now) for u in lane.upstreams)

    def _place(self, lane: Lane, now: float) -> UpstreamState | None:
        """The upstream that serves the lane now: the first that is up, one that is not pausing before one that is."""
        best: UpstreamState | None = None
        for upstream in lane.upstreams:
            if upstream.links:
                if upstream.paused_until <= now:
                    best = upstream
                    break
                best = best or upstream
        if best is not lane.active:
            if lane.active is not None and lane in lane.active.lanes:
                lane.active.lanes.remove(lane)
            lane.active = best
        return best

    def admit(self, message: Message, now: float) -> None:
        """Gives a new message its place, in the batch that accepts it."""
        context = self._context
        lane = message.lane
        batch = context.store.batch
        message.account.queued += 1
        upstream = lane.active
        if upstream is None or not upstream.links or upstream is not lane.upstreams[0]:
            upstream = self._place(lane, now)
        if (
            upstream is not None
            and not lane.hot
            and not lane.cold
            and upstream.paused_until <= now
            and not upstream.lanes
            and upstream.credit > 0
        ):
            message.enter(Phase.READY)
            upstream.reserved += 1
            message.upstream = upstream
        else:
            message.enter(Phase.QUEUED)
            if lane.cold or context.journal.count() >= context.hot_limit:
                lane.cold += 1
                batch.put.append(ColdRow(Kind.QUEUE, lane.name, b"", message.id, message.expires, message.payload()))
                if message.account.settings.acknowledge == "upstream":
                    message.customer = None
                return
            lane.hot.append(message)
        batch.accepts.append(message.entry())
        context.journal.add(message)

    def stored(self, messages: list[Message]) -> None:
        """The batch that accepted them is durable."""
        touched: dict[UpstreamState, None] = {}
        for message in messages:
            message.stored = True
            if message.phase is Phase.READY:
                upstream = message.upstream
                if upstream is not None:
                    upstream.ready.append(message)
                    touched[upstream] = None
            elif message.refusal is None:
                lane = message.lane
                self._activate(lane)
                if lane.active is not None:
                    touched[lane.active] = None
        now = self._context.now()
        for upstream in touched:
            self.pump(upstream, now)

    def lost(self, messages: list[Message]) -> None:
        """The batch that accepted them was not stored: they are gone."""
        context = self._context
        lanes: dict[Lane, None] = {}
        for message in messages:
            if message.refusal is not None:
                continue
            message.account.queued -= 1
            context.journal.remove(message)
            if message.phase is Phase.READY and message.upstream is not None:
                message.upstream.reserved -= 1
            elif message.home:
                lanes[message.lane] = None
            else:
                message.lane.cold -= 1
            message.phase = Phase.DONE
        for lane in lanes:
            kept = [message for message in lane.hot if message.phase is not Phase.DONE]
            lane.hot.clear()
            lane.hot.extend(kept)

    def released(self, messages: list[Message]) -> None:
        """Their RELEASED marks are durable: they may go."""
        touched: dict[UpstreamState, None] = {}
        for message in messages:
            upstream = message.upstream
            if message.phase is Phase.READY and upstream is not None:
                upstream.ready.append(message)
                touched[upstream] = None
        now = self._context.now()
        for upstream in touched:
            self.pump(upstream, now)

    def _activate(self, lane: Lane) -> None:
        upstream = lane.active
        if upstream is not None and (lane.hot or lane.cold) and lane not in upstream.lanes:
            upstream.lanes.append(lane)

    def _requeue(self, messages: Iterable[Message]) -> None:
        """Puts messages back to the front of their lanes, in order; they were not taken by a carrier."""
        for message in sorted(messages, key=lambda m: m.id, reverse=True):
            lane = message.lane
            message.enter(Phase.QUEUED)
            message.upstream = None
            hot = lane.hot
            if not hot or hot[0].id > message.id:
                hot.appendleft(message)
            else:
                at = next((i for i, other in enumerate(hot) if other.id > message.id), len(hot))
                hot.insert(at, message)
            self._place(lane, self._context.now())
            self._activate(lane)

    # -- sending -------------------------------------------------------------------------------------------------------

    def _release(self, upstream: UpstreamState, now: float) -> None:
        """Releases waiting messages, in turn over the lanes, as far as windows and commits ahead of them go."""
        context = self._context
        batch = context.store.batch
        lanes = upstream.lanes
        credit = upstream.credit
        idle = 0
        while lanes and credit > 0 and idle < len(lanes):
            lane = lanes[0]
            if lane.active is not upstream:
                lanes.popleft()
                continue
            hot = lane.hot
            if not hot:
                if lane.cold:
                    self._page(lane)
                    idle += 1
                    lanes.rotate(-1)
                else:
                    lanes.popleft()
                continue
            message = hot[0]
            if not message.stored:
                idle += 1
                lanes.rotate(-1)
                continue
            hot.popleft()
            idle = 0
            message.enter(Phase.READY)
            message.upstream = upstream
            upstream.reserved += 1
            credit -= 1
            if message.home:
                batch.marks.append(mark(Entry.RELEASED, message.id))
            else:
                self._rehome(message)
            batch.released.append(message)
            lanes.rotate(-1)
        if batch.released:
            context.store.kick()

    def _rehome(self, message: Message) -> None:
        """Moves a message from its cold row into the journal."""
        batch = self._context.store.batch
        if message.cold is not None:
            kind, owner, key = message.cold
            batch.drop.append((kind, owner, key, message.id))
            message.cold = None
        batch.marks.append(message.entry())
        self._context.journal.add(message)

    def _page(self, lane: Lane) -> None:
        if lane.paging:
            return
        lane.paging = True

        def arrived(rows: list[ColdRow]) -> None:
            lane.paging = False
            if not rows:
                # What was counted is not committed yet, or expired meanwhile; the sweep asks again.
                return
            for row in rows:
                message = self.revive(row.id, row.data, lane)
                message.cold = (row.kind, row.owner, row.key)
                message.stored = True
                message.enter(Phase.QUEUED)
                lane.hot.append(message)
                lane.upto = row.id
            lane.cold -= len(rows)
            self._place(lane, self._context.now())
            self._activate(lane)
            if lane.active is not None:
                self.pump(lane.active, self._context.now())
                self._context.flush()

        self._context.store.page(Kind.QUEUE, lane.name, lane.upto, PAGE, arrived)

    def revive(self, identity: int, payload: bytes, lane: Lane | None = None) -> Message:
        """A message read back from the store, in phase STORING."""
        stored = Stored(identity, payload)
        if lane is None:
            name, _, route = stored.lane.partition("\n")
            lane = self.lane(self._context.accounts[name], route)
        sm = Sm(stored.frame)
        message = Message(identity, lane.account, lane, stored.frame, sm.registered, stored.expires, stored.shown)
        message.reply_to = stored.reply_to
        message.duplicate = stored.duplicate
        message.way = hash(sm.destination_digits)
        message.stored = True
        if stored.submitted:
            message.upstream = self._context.upstreams.get(stored.upstream)
            message.upstream_id = stored.upstream_id
        return message

    def pump(self, upstream: UpstreamState, now: float) -> None:
        """Sends what may be sent: by window, by rate, in order."""
        if self.draining or upstream.paused_until > now or not upstream.links:
            return
        if upstream.lanes:
            self._release(upstream, now)
        ready = upstream.ready
        if not ready:
            return
        links = upstream.links
        number = len(links)
        bucket = upstream.bucket
        wall = self._context.wall()
        dirty = self._context.dirty
        while ready:
            message = ready[0]
            if message.expires <= wall:
                ready.popleft()
                upstream.reserved -= 1
                self.end(message, State.EXPIRED, 0)
                continue
            link = links[message.way % number] if number > 1 else links[0]
            session = link.session
            if session.room <= 0 or not session.can_send:
                break
            if bucket.rate is not None and bucket.take(now) < 0:
                self._wake(upstream, now, bucket.ready_in(now))
                break
            ready.popleft()
            message.phase = Phase.SENT
            message.sent_at = now
            session.request(self._outgoing(message, upstream, wall), message, now)
            dirty[link] = None

    def _outgoing(self, message: Message, upstream: UpstreamState, wall: float) -> bytes:
        """The frame as this upstream gets it: its bytes, unless alphabets differ or a relative validity has been ticking."""
        frame = message.frame
        if message.account.alphabet is upstream.alphabet and frame.find(b"R\0", 30, 120) < 0:
            return frame
        sm = Sm(frame)
        validity: bytes | None = None
        if times.is_relative(sm.validity) and message.expires - wall < (times.read(sm.validity, wall) or 0) - wall - 1:
            validity = times.write_relative(message.expires - wall)
        text: bytes | None = None
        if sm.data_coding == 0 and message.account.alphabet is not upstream.alphabet and sm.short_message:
            head = sm.short_message[0] + 1 if sm.esm_class & 0x40 else 0
            try:
                body = convert(sm.short_message[head:], 0, message.account.alphabet, upstream.alphabet)
                if head + len(body) <= 254:
                    text = sm.short_message[:head] + body
            except TextError:
                text = None
        if validity is None and text is None:
            return frame
        return splice(sm, validity=validity, short_message=text)

    def _wake(self, upstream: UpstreamState, now: float, seconds: float) -> None:
        if upstream.wake_at > now:
            return
        upstream.wake_at = now + max(seconds, 0.005)

        def awake() -> None:
            upstream.wake_at = 0.0
            self.pump(upstream, self._context.now())
            self._context.flush()

        self._context.later(upstream.wake_at - now, awake)

    # -- answers -------------------------------------------------------------------------------------------------------

    def answered(self, upstream: UpstreamState, answers: list[tuple[Any, int, int, bytes]], now: float) -> None:
        """The carrier's responses to submit_sm and data_sm: (message, command, status, frame) each."""
        context = self._context
        batch = context.store.batch
        taken = 0
        back: list[Message] = []
        for message, _command, status, frame in answers:
            if message.phase is Phase.UNKNOWN:
                upstream.unknown.pop(message.id, None)
            elif message.phase is Phase.SENT:
                upstream.reserved -= 1
            else:
                continue
            if status == 0:
                taken += 1
                self._taken(upstream, message, frame, now)
            elif (
                status in RETRY
                and message.account.settings.acknowledge == "stored"
                and not self._final(upstream, status)
            ):
                back.append(message)
            else:
                context.metrics.rejected.labels(upstream.name, status_name(status)).inc()
                if message.account.settings.acknowledge == "upstream" and message.customer is not None:
                    self.answer(message, status, now)
                    message.registered = 0
                self.end(message, State.REJECTED, status, upstream)
        if taken:
            upstream.submitted.inc(taken)
            upstream.answer_time.observe(now - answers[0][0].sent_at)
            upstream.failures = 0
        if back:
            for message in back:
                batch.marks.append(mark(Entry.RETURNED, message.id))
            context.metrics.retried.labels(upstream.name).inc(len(back))
            self.pause(upstream, now)
            self._requeue(back)
        if batch:
            context.store.kick()
        self.pump(upstream, now)

    def _final(self, upstream: UpstreamState, status: int) -> bool:
        finals = upstream.settings.final_statuses
        return finals is not None and status in finals

    def _taken(self, upstream: UpstreamState, message: Message, frame: bytes, now: float) -> None:
        context = self._context
        end = frame.find(b"\0", 16)
        upstream_id = frame[16:end] if end >= 0 else frame[16:]
        account = message.account
        account.queued -= 1
        message.phase = Phase.SUBMITTED
        message.upstream = upstream
        message.upstream_id = upstream_id
        detail = upstream.detail + upstream_id
        context.event(message.id, State.SUBMITTED, duplicate=message.duplicate, detail=detail)
        if message.customer is not None:
            self.answer(message, 0, now)
        if message.registered & 0x13 and upstream_id:
            context.store.batch.marks.append(mark(Entry.SUBMITTED, message.id, detail))
            upstream.matcher.answered(upstream_id)
            upstream.ids[upstream_id] = message
            if upstream.parked or upstream.cold_parked:
                self.known(message)
        else:
            message.phase = Phase.DONE
            context.store.batch.marks.append(mark(Entry.DONE, message.id))
            context.journal.remove(message)

    def pause(self, upstream: UpstreamState, now: float) -> None:
        """Backs off: nothing is sent for a while that doubles, with jitter, up to ``retry.most``."""
        retry = upstream.settings.retry
        if upstream.paused_until > now:
            return
        seconds = min(retry.most, retry.first * 2 ** min(upstream.failures, 16))
        upstream.failures += 1
        upstream.paused_until = now + seconds * (0.75 + 0.5 * self._random.random())
        # What was released and not sent yet goes back behind what was refused, so the order stays.
        waiting = list(upstream.ready)
        upstream.ready.clear()
        upstream.reserved -= len(waiting)
        for message in waiting:
            self._context.store.batch.marks.append(mark(Entry.RETURNED, message.id))
        self._requeue(waiting)
        self._wake(upstream, now, upstream.paused_until - now)

    def end(self, message: Message, state: State, error: int = 0, upstream: UpstreamState | None = None) -> None:
        """Ends a message whose fate is decided here, with the receipt its sender asked for."""
        context = self._context
        message.account.queued -= 1
        message.phase = Phase.DONE
        if message.customer is not None:
            self.answer(message, Status.RSUBMITFAIL, context.now())
            message.registered = 0
        detail = upstream.detail if upstream is not None else b""
        context.event(message.id, state, error=error, duplicate=message.duplicate, detail=detail)
        if state is State.EXPIRED:
            context.metrics.expired.labels(message.account.name).inc()
        batch = context.store.batch
        if message.home:
            batch.marks.append(mark(Entry.DONE, message.id))
            context.journal.remove(message)
        elif message.cold is not None:
            kind, owner, key = message.cold
            batch.drop.append((kind, owner, key, message.id))
        if message.wants_failure:
            self.finished(message, state, error)
        context.store.kick()

    # -- trouble -------------------------------------------------------------------------------------------------------

    def unanswered(self, upstream: UpstreamState, messages: list[Message], now: float) -> None:
        """These were sent and no answer came (timer or cut link): nobody knows whether the carrier has them."""
        context = self._context
        if not messages:
            return
        context.metrics.unanswered.labels(upstream.name).inc(len(messages))
        for message in messages:
            if message.phase is not Phase.SENT:
                continue
            upstream.reserved -= 1
            message.enter(Phase.UNKNOWN)
            message.deadline = now + message.account.settings.unknown_after
            upstream.unknown[message.id] = message
            context.event(message.id, State.UNANSWERED, duplicate=message.duplicate, detail=upstream.detail)
        context.store.kick()

    def link_up(self, upstream: UpstreamState, link: Peer, now: float) -> None:
        """A session to the carrier is bound for sending."""
        upstream.links.append(link)
        for account in self._context.accounts.values():
            for lane in account.lanes.values():
                if upstream in lane.upstreams and (lane.hot or lane.cold):
                    self._place(lane, now)
                    self._activate(lane)
        self.pump(upstream, now)

    def link_down(self, upstream: UpstreamState, link: Peer, unanswered: list[Message], now: float) -> None:
        """A session to the carrier is gone."""
        if link in upstream.links:
            upstream.links.remove(link)
        self.unanswered(upstream, unanswered, now)
        if upstream.links:
            return
        waiting = list(upstream.ready)
        upstream.ready.clear()
        upstream.reserved -= len(waiting)
        batch = self._context.store.batch
        for message in waiting:
            batch.marks.append(mark(Entry.RETURNED, message.id))
        lanes = list(upstream.lanes)
        upstream.lanes.clear()
        self._requeue(waiting)
        for lane in lanes:
            lane.active = None
            self._place(lane, now)
            self._activate(lane)
        for other in {lane.active for lane in lanes if lane.active is not None}:
            self.pump(other, now)

    def sweep(self, now: float) -> None:
        """Once a second: unknown ones whose time is over, waiting ones whose validity passed, lanes to look at again."""
        context = self._context
        wall = context.wall()
        for upstream in context.upstreams.values():
            due = [message for message in upstream.unknown.values() if message.deadline <= now]
            for message in due:
                del upstream.unknown[message.id]
                self._settle_unknown(upstream, message)
        for account in context.accounts.values():
            for lane in account.lanes.values():
                if lane.hot:
                    late = [m for m in lane.hot if m.expires <= wall and m.stored]
                    if late:
                        gone = set(late)
                        kept = [m for m in lane.hot if m not in gone]
                        lane.hot.clear()
                        lane.hot.extend(kept)
                        for message in late:
                            self.end(message, State.EXPIRED, 0)
                if lane.hot or lane.cold:
                    self._place(lane, now)
                    self._activate(lane)
        for upstream in context.upstreams.values():
            self.pump(upstream, now)

    def _settle_unknown(self, upstream: UpstreamState, message: Message) -> None:
        context = self._context
        if message.account.settings.on_unknown == "resend" and message.tries < MAX_TRIES:
            message.tries += 1
            message.duplicate = True
            context.store.batch.marks.append(mark(Entry.RESENT, message.id))
            context.event(message.id, State.RESENT, duplicate=True, detail=upstream.detail)
            context.metrics.resent.labels(upstream.name).inc()
            self._requeue([message])
            context.store.kick()
        else:
            self.end(message, State.UNKNOWN, 0, upstream)

    def expired_rows(self, rows: list[ColdRow]) -> None:
        """Cold waiting messages whose validity passed."""
        for row in rows:
            message = self.revive(row.id, row.data)
            message.cold = (row.kind, row.owner, row.key)
            if any(m.id == row.id for m in message.lane.hot):
                continue
            message.lane.cold = max(0, message.lane.cold - 1)
            self.end(message, State.EXPIRED, 0)
