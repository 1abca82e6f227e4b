"""What waits here and ends here: its validity passed, or its customer waits for the word of a carrier and no way is open."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from smppd.message import State
from smppd.protocol.wire import Status
from smppd.relay.context import Context
from smppd.relay.guard import SWEEP
from smppd.relay.send.lanes import STEP
from smppd.relay.state.model import Lane, Message, Phase
from smppd.store.api import ColdRow

if TYPE_CHECKING:
    from smppd.relay.send.dispatch import Dispatch


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
        late = self._dispatch.lanes.calendar.ended(context.wall(), self.step)
        young: list[Message] = []
        for message in late:
            if not message.stored:
                young.append(message)  # in a batch: looked at again once that is durable
                continue
            try:
                if message.phase is Phase.HELD:
                    self._dispatch.holding.take_out(message)
                else:
                    self._dispatch.lanes.take_out(message)
                self._dispatch.end(message, State.EXPIRED, 0)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.message(SWEEP, error, message)
        for message in young:
            self._dispatch.lanes.calendar.add(message)
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

    def no_way(self, lane: Lane, now: float) -> None:
        """The last link of the lane is gone: who waits for a carrier's word is told so, and may send it again."""
        for message in list(islice(lane.asking.values(), STEP)):
            if message.duplicate or message.customer is None:
                del lane.asking[message.id]
            elif message.stored:
                try:
                    self._dispatch.lanes.out(message)
                    self._dispatch.answer(message, Status.RMSGQFUL, now)
                    message.registered = 0
                    self._dispatch.end(message, State.REJECTED, Status.RMSGQFUL)
                except Exception as error:  # noqa: BLE001  the item's edge
                    self._context.guard.message(SWEEP, error, message)

    def expired_rows(self, rows: list[ColdRow]) -> None:
        """Cold waiting messages whose validity passed."""
        for row in rows:
            try:
                message = self._dispatch.lanes.expired(row)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._dispatch.lanes.unreadable(row, error)
                continue
            if message is not None:
                self._dispatch.ends(message, State.EXPIRED)
