"""Ends messages that wait here: their validity has passed, or their customer waits for a carrier's answer and no upstream is
open."""

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

    def end_expired(self) -> None:
        """Ends waiting messages whose validity has passed, as many as one step takes. The next step begins when this one is
        durable, so that no batch grows too large where many end at once."""
        context = self._context
        calendar = context.phases.calendar
        late = calendar.take_ended(context.wall(), self.step)
        young: list[Message] = []
        for message in late:
            if not message.stored:
                young.append(message)  # in a batch: looked at again once that is durable
                continue
            self._dispatch.end_guarded(message, State.EXPIRED)
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
        self.end_expired()
        self._context.flush()

    def sweep_lanes(self, now: float) -> None:
        """Once a second: chooses the upstream of each lane. Where there is none, messages whose customers wait for a
        carrier's answer end."""
        lanes = self._dispatch.lanes
        for account in list(self._context.accounts.values()):
            for lane in list(account.lanes.values()):
                try:
                    if len(lane) or (lane.gate is not None and lane.active is not None):
                        if lanes.choose_upstream(lane, now) is None and lane.awaiting_word and not lane.held:
                            self.refuse_without_way(lane, now)
                        lanes.activate(lane)
                        lanes.read_oldest(lane)
                except Exception as error:  # noqa: BLE001  the edge of a lane
                    self._context.guard.caught(SWEEP, error, owner=account.name)

    def refuse_without_way(self, lane: Lane, now: float) -> None:
        """The last link of the lane is gone. Customers who wait for a carrier's answer are told so, and may send the message
        again."""
        for message in list(islice(lane.awaiting_word.values(), STEP)):
            if message.duplicate or message.customer is None:
                del lane.awaiting_word[message.id]
            elif message.stored:
                try:
                    self._dispatch.refuse_waiting(message, Status.RMSGQFUL, now)
                except Exception as error:  # noqa: BLE001  the item's edge
                    self._context.guard.set_message_aside(SWEEP, error, message)

    def expired_rows(self, rows: list[ColdRow]) -> None:
        """Ends cold rows of waiting messages whose validity has passed."""
        for row in rows:
            message = self._dispatch.lanes.take_expired_row(row)
            if message is not None:
                self._dispatch.end_guarded(message, State.EXPIRED)
