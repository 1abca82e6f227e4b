"""Receipts and messages that never met: parked receipts whose message did not turn up, messages whose receipt never came."""

from __future__ import annotations

from functools import partial

from smppd.message import State
from smppd.relay import tally
from smppd.relay.context import Context
from smppd.relay.dispatch import Dispatch
from smppd.relay.guard import ROWS, SWEEP
from smppd.relay.mailbox import Mailroom
from smppd.relay.model import Message, Phase, UpstreamState
from smppd.relay.receipts import Receipts
from smppd.store.api import ColdRow


class Overdue:
    """See the module."""

    def __init__(self, context: Context, dispatch: Dispatch, mailroom: Mailroom, receipts: Receipts) -> None:
        self._context = context
        self._dispatch = dispatch
        self._mailroom = mailroom
        self._receipts = receipts

    def sweep(self) -> None:
        """Once a second: parked receipts whose message never turned up."""
        context = self._context
        wall = context.wall()
        for upstream in list(context.upstreams.values()):
            while upstream.parked:
                parked = next(iter(upstream.parked.values()))
                if parked.expires > wall:
                    break
                self._receipts.guarded(parked, partial(self._receipts.give_up, parked, tally.GIVEN_UP_AGE), SWEEP)
                upstream.parked.pop(parked.id, None)

    def expired_rows(self, rows: list[ColdRow]) -> None:
        """Cold messages whose receipt never came: their fate is unknown, and their sender is told so."""
        for row in rows:
            try:
                upstream = self._context.upstream(row.owner)
                message = self._dispatch.lanes.revive(row.id, row.data)
                message.cold = (row.kind, row.owner, row.key)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.unreadable_waiting(row, error)
                continue
            try:
                self._overdue(message, upstream)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.message(ROWS, error, message)

    def _overdue(self, message: Message, upstream: UpstreamState) -> None:
        """Ends a message that was accepted upstream and never reported on."""
        context = self._context
        message.phase = Phase.DONE
        if not message.told:
            context.tally.add(tally.SILENT, upstream.name)
            context.event(
                message.id, State.UNKNOWN, duplicate=message.duplicate, detail=upstream.detail + message.upstream_id
            )
        assert message.cold is not None
        context.drop(*message.cold, message.id)
        message.cold = None
        upstream.cold_waiting -= 1
        # registered_delivery 2 means "tell me of failure only": silence was success.
        if message.wants_success and not message.told:
            self._mailroom.receipt(message, State.UNKNOWN, 0)
        context.store.kick()
