"""What customers have sent and is not committed yet is bounded in messages and octets, all sessions together: windows count
messages of one session, each of which may be 64 KiB. Whoever sends more is not read until the disk has caught up.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from smppd.relay.context import Context
from smppd.relay.state.model import Customer
from smppd.store.api import Batch

BATCH_MESSAGES: Final = 4000
BATCH_OCTETS: Final = 16 << 20


class _Pending:
    """How many messages, of how many octets, wait for the commit of a batch."""

    __slots__ = ("batch", "messages", "octets")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.messages = 0
        self.octets = 0


class Brake:
    """See the module. At most two batches are under way: one that is being written, and the next."""

    def __init__(self, context: Context) -> None:
        self.messages = BATCH_MESSAGES
        self.octets = BATCH_OCTETS
        self._context = context
        self._pending: deque[_Pending] = deque()
        self._braked: dict[Customer, None] = {}

    def note(self, batch: Batch, messages: int, octets: int) -> None:
        """So many more messages are in a batch, and what they came in took so many octets."""
        pending = self._pending
        if not pending or pending[-1].batch is not batch:
            pending.append(_Pending(batch))
        pending[-1].messages += messages
        pending[-1].octets += octets

    def look(self, customer: Customer) -> None:
        """Lets a customer who has just sent something wait unread, if too much is to be committed."""
        if self._full() and customer not in self._braked:
            self._braked[customer] = None
            customer.session.window = 0

    def _full(self) -> bool:
        messages = octets = 0
        for one in self._pending:
            messages += one.messages
            octets += one.octets
        return messages >= self.messages or octets >= self.octets

    def committed(self) -> None:
        """The oldest batch is over, stored or not: who was not read may go on."""
        if self._pending:
            self._pending.popleft()
        if self._braked and not self._full():
            braked, self._braked = self._braked, {}
            for customer in braked:
                customer.session.window = customer.account.settings.window
                self._context.dirty[customer] = None
