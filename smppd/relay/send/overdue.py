"""What waits here and ends here: its validity passed, or its customer waits for the word of a carrier and no way is open."""

from __future__ import annotations

from itertools import islice

from smppd.message import State
from smppd.protocol.wire import Status
from smppd.relay.context import Context
from smppd.relay.guard import SWEEP
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.lanes import STEP
from smppd.relay.state.model import Lane, Message
from smppd.store.api import ColdRow


class Overdue:
    """See the module."""

    def __init__(self, context: Context, dispatch: Dispatch) -> None:
        self._context = context
        self._dispatch = dispatch
        self.step = STEP
        self._expiring = False

    def look(self) -> None:
        """Ends what waits here and whose validity passed, a step's worth; each further step once the one before is durable, so
        that no batch grows with what ends at once."""
        context = self._context
        calendar = context.phases.calendar
        late = calendar.ended(context.wall(), self.step)
        young: list[Message] = []
        for message in late:
            if not message.stored:
                young.append(message)  # in a batch: looked at again once that is durable
                continue
            self._dispatch.end_one(message, State.EXPIRED)
        for message in young:
            calendar.add(message)
        if len(late) == self.step > len(young) and not self._expiring:
            self._expiring = True
            context.store.batch.then.append(self._later)
            context.store.kick()

    def _later(self) -> None:
        self._context.later(0.0, self._more)

    def _more(self) -> None:
        self._expiring = False
        self.look()
        self._context.flush()

    def sweep_lanes(self, now: float) -> None:
        """Once a second: gives each lane its way, and what has none its end where somebody waits for a carrier's word."""
        lanes = self._dispatch.lanes
        for account in list(self._context.accounts.values()):
            for lane in list(account.lanes.values()):
                try:
                    if len(lane):
                        if lanes.place(lane, now) is None and lane.asking:
                            self.no_way(lane, now)
                        lanes.activate(lane)
                        lanes.look(lane)
                except Exception as error:  # noqa: BLE001  the edge of a lane
                    self._context.guard.caught(SWEEP, error, owner=account.name)

    def no_way(self, lane: Lane, now: float) -> None:
        """The last link of the lane is gone: who waits for a carrier's word is told so, and may send it again."""
        for message in list(islice(lane.asking.values(), STEP)):
            if message.duplicate or message.customer is None:
                del lane.asking[message.id]
            elif message.stored:
                try:
                    self._dispatch.refuse_waiting(message, Status.RMSGQFUL, now)
                except Exception as error:  # noqa: BLE001  the item's edge
                    self._context.guard.message(SWEEP, error, message)

    def expired_rows(self, rows: list[ColdRow]) -> None:
        """Cold waiting messages whose validity passed."""
        for row in rows:
            message = self._dispatch.lanes.expired(row)
            if message is not None:
                self._dispatch.end_one(message, State.EXPIRED)
