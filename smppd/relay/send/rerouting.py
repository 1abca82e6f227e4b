"""Gives new lanes to messages whose upstreams are gone, since every upstream of their lane left the configuration or was
disabled. They take the upstreams that the present routes give them, in the order of their ids. Where no route matches they
wait as before.

A message changes its lane in one commit: its entry under the new lane and the end of its cold row are in the same batch, and
it is released only after that. So after a crash it is in exactly one lane. A message that was sent to an upstream that is
gone stays with that upstream; it is moved here only when it is to be sent once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from smppd.message import Verdict
from smppd.policy.content import PartKey
from smppd.policy.pipeline import Pipeline
from smppd.protocol.wire import Sm, splice
from smppd.relay import log_counts
from smppd.relay.context import Context
from smppd.relay.guard import REROUTE
from smppd.relay.restore import restored_row
from smppd.relay.send.lanes import Lanes
from smppd.relay.state.backlog import FIRST_ROWS, rows_for
from smppd.relay.state.model import Account, Lane, Message
from smppd.store.api import ColdRow

# In a tick so many messages in memory are looked at and, where none is left in memory, so many rows.
MOST: Final = 500
# Some messages have to wait until older ones of the new lane, which are rows still, are in memory. They are looked at again
# after so many seconds.
AGAIN: Final = 1.0


class _Search:
    """How far a lane without an upstream was looked through. ``ids``: the messages that were in memory when the look began;
    ``at``: the index of the next one in it. ``stay``: messages in memory for which no route matches. ``behind``: some
    messages have to wait for older ones; the next look is at ``again`` (monotonic seconds). Rows up to ``upto`` were looked
    at, ``rows`` at a time; ``done``: all of them. ``targets``: the lanes that the latest messages went to."""

    __slots__ = ("again", "asking", "at", "behind", "done", "ids", "rows", "stay", "targets", "upto")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.at = 0
        self.stay: set[int] = set()
        self.behind = False
        self.targets: list[Lane] = []
        self.upto = 0
        self.rows = FIRST_ROWS
        self.asking = False
        self.done = False
        self.again = 0.0

    def begin(self, lane: Lane) -> None:
        """Begins to look at all messages in memory again, without those that are known to have no route."""
        every = lane.hot.ids()
        if self.stay:
            self.stay.intersection_update(every)
            every = [identity for identity in every if identity not in self.stay]
        self.ids, self.at, self.behind = every, 0, False


class Rerouting:
    """See the module. ``route(account, sm, verdict)`` gives the names of a message's upstreams, empty where no route leads."""

    def __init__(self, context: Context, lanes: Lanes, route: Callable[[str, Sm, Verdict | None], str]) -> None:
        self._context = context
        self._lanes = lanes
        self._route = route
        self._searches: dict[Lane, _Search] = {}

    def start_over(self) -> None:
        """The configuration has changed: all lanes are looked through anew."""
        self._searches.clear()

    def sweep(self) -> None:
        """Once a second: finds the lanes without an upstream in which something waits."""
        for account in self._context.accounts.values():
            for lane in account.lanes.values():
                try:
                    if not len(lane) or not lane.gone:
                        self._searches.pop(lane, None)
                    elif lane not in self._searches:
                        self._searches[lane] = _Search()
                except Exception as error:  # noqa: BLE001  the edge of a lane
                    self._context.guard.caught(REROUTE, error, owner=account.name)

    def reroute_some(self, now: float) -> None:
        """Gives some messages their new lane. Call often."""
        context = self._context
        if not self._searches or not context.store.takes:
            return
        left = MOST
        for lane, search in list(self._searches.items()):
            if search.again > now:
                continue
            room = self._room(search)
            if search.at == len(search.ids) and len(lane.hot) != len(search.stay):
                search.begin(lane)
            waiting = self._some(lane, search, left, room)
            if waiting:
                left -= len(waiting)
                self._hot(lane, search, waiting, now)
            elif search.at < len(search.ids):
                continue  # there is no room
            elif search.behind or not lane.cold or search.done:
                search.again = now + AGAIN
            elif room and not search.asking:
                self._ask(lane, search)
            if left <= 0:
                return

    def _some(self, lane: Lane, search: _Search, most: int, room: bool) -> list[Message]:
        """The next messages in memory, up to ``most``."""
        waiting: list[Message] = []
        ids = search.ids
        end = min(len(ids), search.at + 4 * most)
        while search.at < end and len(waiting) < most:
            message = lane.hot.get(ids[search.at])
            if message is not None and message.cold is not None and not room:
                break
            search.at += 1
            if message is None:
                continue
            if message.stored:
                waiting.append(message)
            else:
                search.behind = True
        return waiting

    def _room(self, search: _Search) -> bool:
        """Whether there is room for more messages: memory has room, or the messages that were moved last have gone on."""
        context = self._context
        if not context.crowded:
            return True
        return all(len(target.hot) < MOST for target in search.targets)

    # -- what is in memory ---------------------------------------------------------------------------------------------

    def _hot(self, lane: Lane, search: _Search, waiting: list[Message], now: float) -> None:
        going: dict[Lane, list[Message]] = {}
        for message, target in zip(waiting, self.targets(lane.account, waiting, now), strict=True):
            if target is None:
                search.stay.add(message.id)
            elif fits(target, message.id):
                going.setdefault(target, []).append(message)
            else:
                search.behind = True
        if going:
            search.targets = list(going)
            self._went(going, now)

    # -- what is on disk -----------------------------------------------------------------------------------------------

    def _ask(self, lane: Lane, search: _Search) -> None:
        """Looks at the next rows. They stay rows unless they have a route, since many may have none."""
        search.asking = True
        sure, most = not lane.backlog.unstored, search.rows

        def arrived(rows: list[ColdRow]) -> None:
            search.asking = False
            if self._searches.get(lane) is not search:
                return
            search.done = sure and len(rows) < most
            if rows:
                search.rows = rows_for(rows, MOST)
                search.upto = rows[-1].id
                self._rows(lane, search, self._context.ledger.alive(rows), self._context.now())

        lane.backlog.peek(self._context.store, search.upto, most, self._context.guarded_rows, arrived)

    def _rows(self, lane: Lane, search: _Search, rows: list[ColdRow], now: float) -> None:
        lanes = self._lanes
        waiting: list[Message] = []
        for row in rows:
            if row.id > lane.upto:  # otherwise it was read into memory meanwhile
                try:
                    waiting.append(restored_row(self._context, row, lane))
                except Exception as error:  # noqa: BLE001  the item's edge
                    lane.row_taken()
                    lanes.set_row_aside(row, error)
        going: dict[Lane, list[Message]] = {}
        behind = False
        for message, target in zip(waiting, self.targets(lane.account, waiting, now), strict=True):
            if target is None:
                continue
            if not fits(target, message.id):
                if not behind:  # the next look begins with this one
                    behind = True
                    search.again = now + AGAIN
                    search.upto = message.id - 1
                    search.done = False
                continue
            lane.row_taken()
            if not lanes.doubt_restored(message, now):
                going.setdefault(target, []).append(message)
        if going:
            search.targets = list(going)
            self._went(going, now)
        self._context.flush()

    # -- both ----------------------------------------------------------------------------------------------------------

    def targets(self, account: Account, messages: list[Message], now: float) -> list[Lane | None]:
        """The lane of each message by the present routes; None where no route matches. Policy is asked for its tags and its
        route, as when the message came. A refusal of policy does not count now, since the message was accepted."""
        # A pipeline of its own: the account's pipeline remembers these parts, and must not see them twice.
        pipeline = account.pipeline
        judge: Pipeline | None = None
        if pipeline is not None:
            judge = Pipeline(pipeline.program, pipeline.alphabet, pipeline.region, registered=pipeline.registered)
        frames: list[Sm | None] = []
        verdicts: list[Verdict | None] = []
        whole: dict[PartKey, Verdict | None] = {}
        for message in messages:
            # A message with which policy or the routes fail has no lane for now, and waits as before.
            sm: Sm | None = None
            verdict: Verdict | None = None
            try:
                sm = Sm(message.frame)
                if message.reply_to is not None:
                    sm = Sm(splice(sm, source=message.reply_to))
                verdict = judge.decide(sm, now) if judge is not None else None
            except Exception as error:  # noqa: BLE001  the item's edge
                sm = None
                self._context.guard.caught(REROUTE, error, owner=account.name, identity=message.id)
            frames.append(sm)
            verdicts.append(verdict)
            if message.part is not None and sm is not None:
                whole[message.part] = verdict
        targets: list[Lane | None] = []
        for message, sm, verdict in zip(messages, frames, verdicts, strict=True):
            target: Lane | None = None
            try:
                if sm is not None:
                    # All parts go to one lane: that of the last part, since policy knows most of the text then.
                    route = self._route(account.name, sm, verdict if message.part is None else whole[message.part])
                    # A code stays one, and its hours are the number's, whichever way it goes.
                    target = self._context.lane(account, route + message.lane.marks) if route else None
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(REROUTE, error, owner=account.name, identity=message.id)
            targets.append(target if target is not None and not target.gone else None)
        return targets

    def _went(self, going: dict[Lane, list[Message]], now: float) -> None:
        """Moves messages into their new lanes, writes them anew, and lets the lanes go on."""
        context = self._context
        for target, messages in going.items():
            moved = 0
            for message in messages:
                try:
                    context.phases.to_lane(message, target)
                    context.ledger.rewrite(message)
                except Exception as error:  # noqa: BLE001  the item's edge
                    context.guard.set_message_aside(REROUTE, error, message)
                    continue
                moved += 1
            if not moved:
                continue
            context.log_counts.count(log_counts.REROUTED, target.account.name, moved)
            target.put_back()  # messages that are released in a batch may be younger
            self._lanes.serve_lane(target, now)
        if going:
            context.store.kick()


def fits(target: Lane, identity: int) -> bool:
    """Whether a message may stand in the memory of a lane: not while older rows of that lane are still to be read."""
    if not target.cold or identity <= target.upto:
        return True
    youngest = target.hot.last()
    return youngest is not None and identity < youngest.id
