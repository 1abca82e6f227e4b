"""Once a second: messages whose time is over, in memory and on disk, and lanes that want another look."""

from __future__ import annotations

from smppd.message import State
from smppd.protocol.wire import Status
from smppd.relay.context import Context
from smppd.relay.dispatch import Dispatch
from smppd.relay.guard import SEND, SWEEP
from smppd.relay.model import Lane
from smppd.store.api import ColdRow


class Sweeping:
    """See the module. What one message, lane or upstream raises stops none of the others."""

    def __init__(self, context: Context, dispatch: Dispatch) -> None:
        self._context = context
        self._dispatch = dispatch

    def sweep(self, now: float) -> None:
        """Once a second: unknown ones whose time is over, waiting ones whose validity passed, lanes to look at again."""
        context = self._context
        wall = context.wall()
        context.guard.chore("held parts", lambda: self._dispatch.holding.sweep(now, wall))
        for upstream in list(context.upstreams.values()):
            try:
                self._dispatch.unknown.sweep(upstream, now)
                if upstream.asking:
                    # Where another way is open, nobody has to wait behind a question that may never be answered.
                    for lane in dict.fromkeys(m.lane for m in upstream.ready):
                        self._dispatch.lanes.place(lane, now)
                for message in self._dispatch.lanes.overdue(upstream, wall):
                    self._dispatch.ends(message, State.EXPIRED)
                if upstream.aside:
                    self._dispatch.lanes.resume(upstream, now)
            except Exception as error:  # noqa: BLE001  the edge of an upstream
                context.guard.caught(SWEEP, error, owner=upstream.name)
        for account in list(context.accounts.values()):
            for lane in list(account.lanes.values()):
                try:
                    if lane.hot:
                        self._expire(lane, wall)
                    if lane.hot or lane.cold:
                        if self._dispatch.lanes.place(lane, now) is None and account.settings.acknowledge == "upstream":
                            self._no_way(lane, now)
                        self._dispatch.lanes.activate(lane)
                        self._dispatch.lanes.look(lane)
                except Exception as error:  # noqa: BLE001  the edge of a lane
                    context.guard.caught(SWEEP, error, owner=account.name)
        for upstream in list(context.upstreams.values()):
            try:
                self._dispatch.pump(upstream, now)
            except Exception as error:  # noqa: BLE001  the edge of an upstream
                context.guard.caught(SEND, error, owner=upstream.name)

    def policies(self, now: float) -> None:
        """Once a second: parts that policy remembers and that will not be completed."""
        for account in list(self._context.accounts.values()):
            if account.pipeline is not None:
                try:
                    account.pipeline.expire(now)
                except Exception as error:  # noqa: BLE001  the edge of an account
                    self._context.guard.caught(SWEEP, error, owner=account.name)

    def _expire(self, lane: Lane, wall: float) -> None:
        late = [m for m in lane.hot if m.expires <= wall and m.stored]
        if late:
            gone = set(late)
            kept = [m for m in lane.hot if m not in gone]
            lane.hot.clear()
            lane.hot.extend(kept)
            for message in late:
                self._dispatch.ends(message, State.EXPIRED)

    def _no_way(self, lane: Lane, now: float) -> None:
        """The last link of the lane is gone: who waits for a carrier's word is told so, and may send it again."""
        for message in [m for m in lane.hot if m.customer is not None and m.stored and not m.duplicate]:
            try:
                lane.hot.remove(message)
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
