"""What an operator does with messages that wait: ends them (EXPIRE), lets them take the route that they have now (REQUEUE), or
lets them wait for another upstream first (MOVE).

Messages that a carrier has, or may have, are left alone. An act is about what was accepted before it was asked for, wherever
that waits: in memory, as rows, for its hour, as a part that is held or waits for one carrier alone. It works in small steps
between the messages. Things move while it lasts, from rows to memory and on. So each lane is looked through in memory, then
its rows, then in memory once more. An act that was interrupted is begun again: what it has done is not there any more.

REQUEUE and MOVE hold a lane while they go through it, so that no message overtakes an older one on its old way. A message
changes its lane in one commit, as in `send.rerouting`; in memory where memory has room or the new lane goes on at once, else as
a row. Where neither is possible, since older messages of the new lane have to be read first or memory is full, the lane goes on
as before, and the act comes back to it after a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from smppd.message import State
from smppd.relay import log_counts
from smppd.relay.context import Context
from smppd.relay.guard import ACT
from smppd.relay.ledger.ledger import message_row
from smppd.relay.restore import restored_row
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.rerouting import Rerouting, fits
from smppd.relay.state.backlog import PAGE, rows_for
from smppd.relay.state.marks import read_route
from smppd.relay.state.model import Account, Lane, Message
from smppd.relay.state.phase import Phase
from smppd.relay.turns import COMMIT, GO, WAIT, Turns
from smppd.store.api import ColdRow, Store

EXPIRE: Final = "expire"
REQUEUE: Final = "requeue"
MOVE: Final = "move"

AGAIN: Final = 1.0
"""Seconds until it comes back to a lane that it could not finish."""
STEP: Final = 25
"""Messages, or rows, of one step."""

_SOME: Final = 1000  # ids that are picked out of a queue in one step
_WAITS: Final = (Phase.HELD, Phase.QUEUED, Phase.PINNED, Phase.RELEASING, Phase.READY)


class Waiting(NamedTuple):
    """An act on waiting messages. Which: those of ``account``, those whose first upstream is ``upstream``, or the one with
    the id ``message`` (one of the three; the others empty or 0), with ids up to ``upto``. ``to``: the upstream of MOVE."""

    act: str
    upto: int
    account: str = ""
    upstream: str = ""
    message: int = 0
    to: str = ""


class Acted(NamedTuple):
    """What became of it. ``changed``: messages that ended, or that have another lane. ``left``: messages that have no other
    way, and wait as before. ``carrier``: the one message that was meant has been released to a carrier. ``failed``: an error of
    ours interrupted it; it is in the log."""

    changed: int
    left: int = 0
    carrier: bool = False
    failed: bool = False


class _Job:
    """An act that was asked for, and what became of it so far. ``again``: monotonic seconds before which it is not begun."""

    __slots__ = ("again", "changed", "then", "wanted")

    def __init__(self, wanted: Waiting, then: Callable[[Acted], None]) -> None:
        self.wanted = wanted
        self.then = then
        self.changed = 0
        self.again = 0.0


class Acting(Turns):
    """See the module. One act at a time; the next begins when the one before is over, or has to wait."""

    def __init__(self, context: Context, store: Store, dispatch: Dispatch, rerouting: Rerouting) -> None:
        super().__init__(context, store)
        self._dispatch = dispatch
        self._lanes = dispatch.lanes
        self._rerouting = rerouting
        self._jobs: list[_Job] = []
        self._job: _Job | None = None
        self._wanted = Waiting(EXPIRE, 0)
        self._looks = False
        self._rows: list[ColdRow] = []
        self._held: Lane | None = None
        self._left = self._changed = 0
        self._behind = self._carrier = self._late = False
        self.brought = 0
        """Messages that were put into another lane as rows."""

    def act(self, wanted: Waiting, then: Callable[[Acted], None]) -> None:
        """Does it; ``then(acted)`` on the reactor thread when all of it is durable."""
        self._jobs.append(_Job(wanted, then))
        if self._job is None:
            self._next()

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        now = self._context.now()
        job = next((one for one in self._jobs if one.again <= now), None)
        self._job, self._steps = job, None
        if job is None:
            if self._jobs and not self._looks:
                self._looks = True
                self._context.later(AGAIN, self._look_again)
            return
        self._jobs.remove(job)
        self._wanted = job.wanted
        self._left = 0
        self._changed = job.changed
        self._carrier = self._late = False
        self._begin(self._all(job.wanted))

    def _look_again(self) -> None:
        self._looks = False
        if self._job is None:
            self._next()

    def _put_off(self) -> None:
        """Another act may be done meanwhile. This one is begun again later; what it has done is not there any more."""
        job = self._job
        assert job is not None
        job.changed, job.again = self._changed, self._context.now() + AGAIN
        self._jobs.append(job)
        self._next()

    def _broken(self, error: Exception) -> None:
        self._context.guard.caught(ACT, error, owner=self._wanted.account or self._wanted.upstream)
        self._end(failed=True)

    def _over(self) -> None:
        if self._late:
            self._put_off()
        else:
            self._end()

    def _end(self, *, failed: bool = False) -> None:
        self._let_go()
        job, acted = self._job, Acted(self._changed, self._left, self._carrier, failed)
        assert job is not None
        self._next()
        job.then(acted)

    def _all(self, wanted: Waiting) -> Iterator[int]:
        if wanted.message:
            yield from self._one(wanted.message)
        else:
            for lane in self._meant(wanted):
                yield from self._expire_lane(lane) if wanted.act == EXPIRE else self._move_lane(lane)
        yield COMMIT

    def _meant(self, wanted: Waiting) -> list[Lane]:
        return [
            lane
            for account in self._context.accounts.values()
            if not wanted.account or account.name == wanted.account
            for lane in account.lanes.values()
            if not wanted.upstream or (lane.upstreams and lane.upstreams[0].name == wanted.upstream)
        ]

    def _pages(self, lane: Lane, use: Callable[[list[ColdRow]], None]) -> Iterator[int]:
        """Hands out the rows of a lane that are meant, a few at a time, until there are no more or ``self._behind`` is set.
        Each page is used in the turn in which it came: in a later one somebody else may have ended its rows."""
        after, upto = 0, self._wanted.upto
        while True:
            lane.backlog.peek(self._store, after, STEP, self._context.guarded_rows, self._arrived)
            yield WAIT
            rows, self._rows = self._rows, []
            use([r for r in self._context.ledger.alive(rows) if lane.upto < r.id <= upto])
            if self._behind or len(rows) < STEP or rows[-1].id >= upto:
                return
            after = rows[-1].id
            yield GO

    def _arrived(self, rows: list[ColdRow]) -> None:
        self._rows = rows
        self._go()

    # -- one message ---------------------------------------------------------------------------------------------------

    def _one(self, identity: int) -> Iterator[int]:
        message = self._find(identity)
        if message is not None:
            self._do_one(message)
            return
        for lane in [lane for account in self._context.accounts.values() for lane in account.lanes.values()]:
            if not lane.cold:
                continue
            lane.backlog.peek(self._store, identity - 1, 1, self._context.guarded_rows, self._arrived)
            yield WAIT
            rows, self._rows = self._rows, []
            if rows and rows[0].id == identity and self._context.ledger.alive(rows):
                if identity <= lane.upto:  # read into memory meanwhile
                    message = self._find(identity)
                    if message is not None:
                        self._do_one(message)
                elif self._wanted.act == EXPIRE:
                    self._expire_rows(rows)
                else:
                    self._move_rows(lane, rows)
                return

    def _find(self, identity: int) -> Message | None:
        thing: object = self._context.ledger.get(identity)
        if thing is None:
            for account in self._context.accounts.values():
                for queue in (account.pinned_parts, *(lane.hot for lane in account.lanes.values())):
                    thing = thing or queue.get(identity)
        return thing if isinstance(thing, Message) else None

    def _do_one(self, message: Message) -> None:
        if message.phase not in _WAITS or not message.stored:
            self._carrier = message.phase is not Phase.DONE
        elif self._wanted.act == EXPIRE:
            self._expire(message)
        elif message.phase is Phase.QUEUED:
            self._behind = False
            self._move(message.lane, [message])
            self._left, self._late = 1 - self._changed, self._behind
        else:
            self._carrier = True

    # -- the end of messages -------------------------------------------------------------------------------------------

    def _expire_lane(self, lane: Lane) -> Iterator[int]:
        yield from self._expire_memory(lane)
        if lane.cold:
            self._behind = False
            yield from self._pages(lane, self._expire_rows)
            yield from self._expire_memory(lane)

    def _expire_memory(self, lane: Lane) -> Iterator[int]:
        account = lane.account
        for queue in (lane.hot, account.pinned_parts):
            ids = queue.ids()
            for at in range(0, len(ids), _SOME):
                for identity in ids[at : at + _SOME]:
                    message = queue.get(identity)
                    if message is not None and self._expire_if_meant(lane, message):
                        yield GO
                yield GO
        held = self._context.phases.held.accounts.get(account.name)
        if held is not None:
            yield from self._expire_each(lane, [m for group in held.groups.values() for m in group.messages])
        for upstream in lane.upstreams:
            yield from self._expire_each(lane, upstream.released())

    def _expire_each(self, lane: Lane, messages: Sequence[Message]) -> Iterator[int]:
        for message in messages:
            if self._expire_if_meant(lane, message):
                yield GO

    def _expire_if_meant(self, lane: Lane, message: Message) -> bool:
        if message.lane is not lane or message.id > self._wanted.upto or not message.stored:
            return False
        if message.phase not in _WAITS:
            return False
        self._expire(message)
        return True

    def _expire(self, message: Message) -> None:
        self._dispatch.end_guarded(message, State.EXPIRED)
        self._count()

    def _expire_rows(self, rows: list[ColdRow]) -> None:
        for row in rows:
            message = self._lanes.take_expired_row(row)
            if message is not None:
                self._expire(message)

    def _count(self, number: int = 1) -> None:
        self._changed += number
        self._batch += number

    # -- another lane --------------------------------------------------------------------------------------------------

    def _move_lane(self, lane: Lane) -> Iterator[int]:
        if not len(lane):
            return
        self._behind = False
        self._held = lane
        self._lanes.hold(lane, self._context.now())
        yield COMMIT  # what was being released is back
        yield from self._move_memory(lane)
        if lane.cold and not self._behind:
            yield from self._pages(lane, lambda rows: self._move_rows(lane, rows))
            if not self._behind:
                yield from self._move_memory(lane)
        self._let_go()
        self._left += len([one for one in lane.hot.ids() if one <= self._wanted.upto])
        if self._behind:
            self._late = True

    def _let_go(self) -> None:
        lane, self._held = self._held, None
        if lane is not None:
            self._lanes.let_go(lane, self._context.now())

    def _move_memory(self, lane: Lane) -> Iterator[int]:
        upto = self._wanted.upto
        ids = lane.hot.ids()
        for at in range(0, len(ids), STEP):
            some = [m for m in map(lane.hot.get, ids[at : at + STEP]) if m is not None and m.stored and m.id <= upto]
            if some:
                self._move(lane, some)
            if self._behind or ids[at] > upto:
                return
            yield GO

    def _targets(self, lane: Lane, messages: list[Message]) -> list[Lane | None]:
        if self._wanted.act == REQUEUE:
            return self._rerouting.targets(lane.account, messages, self._context.now())
        return [self._moved(lane)] * len(messages)

    def _moved(self, lane: Lane) -> Lane:
        to = self._wanted.to
        names = (to, *[name for name in read_route(lane.route).names if name != to])
        return self._context.lane(lane.account, ",".join(names) + lane.marks)

    def _move(self, lane: Lane, messages: list[Message]) -> None:
        """Messages in memory, oldest first, take their other lane."""
        context = self._context
        touched: dict[Lane, None] = {}
        for message, target in zip(messages, self._targets(lane, messages), strict=True):
            if target is None or target is lane:
                continue
            try:
                if fits(target, message.id):
                    context.phases.to_lane(message, target)
                    context.ledger.rewrite(message)
                elif message.customer is None and not message.duplicate and _may_be_row(target, message.id):
                    row = message_row_in(message, target)
                    context.phases.to_row(message, target)
                    context.ledger.to_row(message, row)
                    self._came(target, message.id)
                else:
                    self._behind = True
                    break
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.set_message_aside(ACT, error, message)
                continue
            touched[target] = None
            self._went(target.account)
        self._serve(touched)

    def _move_rows(self, lane: Lane, rows: list[ColdRow]) -> None:
        """Rows of a lane, oldest first, take their other lane."""
        context = self._context
        messages: list[Message] = []
        found: list[ColdRow] = []
        for row in rows:
            try:
                messages.append(restored_row(context, row, lane))
                found.append(row)
            except Exception as error:  # noqa: BLE001  the item's edge
                lane.row_taken()
                self._lanes.set_row_aside(row, error)
        touched: dict[Lane, None] = {}
        for row, message, target in zip(found, messages, self._targets(lane, messages), strict=True):
            if target is None or target is lane:
                self._left += 1
                continue
            if fits(target, message.id) and (not context.half_full or self._passes_on(target, found)):
                lane.row_taken()
                try:
                    if not self._lanes.doubt_restored(message, context.now()):
                        context.phases.to_lane(message, target)
                        context.ledger.rewrite(message)
                except Exception as error:  # noqa: BLE001  the item's edge
                    context.guard.set_message_aside(ACT, error, message)
                    continue
            elif _may_be_row(target, message.id):
                to = message_row_in(message, target)
                lane.row_taken()
                context.ledger.move_row(row, to)
                target.row_put()
                self._came(target, message.id)
            else:
                self._behind = True
                break
            touched[target] = None
            self._went(target.account)
        self._serve(touched)

    def _came(self, lane: Lane, identity: int) -> None:
        """A message is in the batch as a row of a lane."""
        context = self._context
        self.brought += 1
        lane.backlog.came_between(identity)

        def stored() -> None:
            # Until now no page could lead past it.
            if lane.backlog.between_committed():
                self._lanes.serve_lane(lane, context.now())

        context.store.batch.then.append(stored)

    @staticmethod
    def _passes_on(lane: Lane, rows: list[ColdRow]) -> bool:
        """Whether rows may come into the memory of a lane although memory is full, with what others wait for: as many as a page
        has, where the lane sends them on."""
        return lane.active is not None and len(lane.hot) < rows_for(rows, PAGE)

    def _went(self, account: Account) -> None:
        self._count()
        self._context.log_counts.count(log_counts.REROUTED, account.name)

    def _serve(self, lanes: dict[Lane, None]) -> None:
        for lane in lanes:
            lane.put_back()  # messages that are released in a batch may be younger
            self._lanes.serve_lane(lane, self._context.now())
        if lanes:
            self._store.kick()


def message_row_in(message: Message, lane: Lane) -> ColdRow:
    """The row of a message as it is to wait in a lane."""
    was, message.lane = message.lane, lane
    try:
        return message_row(message)
    finally:
        message.lane = was


def _may_be_row(lane: Lane, identity: int) -> bool:
    """Whether a message may stand as a row of a lane: not before what was read into memory already."""
    youngest = lane.hot.last()
    return identity > lane.upto and (youngest is None or identity > youngest.id)
