"""Bounds what customers have sent and what is not committed yet, in messages and octets of all sessions together. Windows
are no such bound: they count the messages of one session, and each may have 64 KiB. The bound of one account is lower, since
everybody's answer waits for the whole batch. A customer who sends more is not read until the disk has caught up. What he has
sent already waits here until then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from smppd.relay.context import Context
from smppd.relay.state.model import Account, CustomerPeer
from smppd.store.api import Batch

BATCH_MESSAGES: Final = 4000
BATCH_OCTETS: Final = 16 << 20
ACCOUNT_MESSAGES: Final = 2000
"""Messages of one account."""
RELEASE_SECONDS: Final = 0.005
"""Seconds of one turn of the reactor for customers who are read again."""


class _Pending:
    """How many messages, of how many octets, wait for the commit of a batch; and how many of each account."""

    __slots__ = ("accounts", "batch", "messages", "octets")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.messages = 0
        self.octets = 0
        self.accounts: dict[Account, int] = {}


class Brake:
    """See the module. At most two batches are under way: one that is being written, and the next."""

    def __init__(self, context: Context, go_on: Callable[[CustomerPeer, list[bytes], float], None]) -> None:
        """go_on(customer, frames, now): takes what a customer had sent when he was stopped."""
        self.messages = BATCH_MESSAGES
        self.octets = BATCH_OCTETS
        self.share = ACCOUNT_MESSAGES
        self._context = context
        self._go_on = go_on
        self._pending: deque[_Pending] = deque()
        self._braked: dict[Account, dict[CustomerPeer, list[bytes]]] = {}
        """Customers who are not read, each with what he had sent. Accounts are in the order of their turns, and their
        sessions in the order in which they were stopped."""
        self._releasing = False

    def note_batch(self, batch: Batch, account: Account, messages: int, octets: int) -> None:
        """Counts messages of an account that are in a batch now. ``octets``: of the PDUs in which they came."""
        pending = self._pending
        if not pending or pending[-1].batch is not batch:
            pending.append(_Pending(batch))
        last = pending[-1]
        last.messages += messages
        last.octets += octets
        last.accounts[account] = last.accounts.get(account, 0) + messages

    def stop_if_full(self, customer: CustomerPeer) -> None:
        """Stops reading from a customer who has just sent something, if too much is to be committed."""
        if self._kept(customer) is None and self._full(customer.account):
            self._stop(customer, [])

    def keep_back(self, customer: CustomerPeer, frames: list[bytes]) -> bool:
        """Keeps what a customer sent until the disk has caught up, if it has to wait; returns whether it has. It is asked
        for each chunk: many sessions may send their first chunk while the batch is full, and a reload lets some be read
        again."""
        kept = self._kept(customer)
        if kept is not None:
            kept.extend(frames)
            customer.session.window = 0
            return True
        if not self._full(customer.account):
            return False
        self._stop(customer, list(frames))
        return True

    def _kept(self, customer: CustomerPeer) -> list[bytes] | None:
        line = self._braked.get(customer.account)
        return None if line is None else line.get(customer)

    def _stop(self, customer: CustomerPeer, frames: list[bytes]) -> None:
        self._braked.setdefault(customer.account, {})[customer] = frames
        customer.session.window = 0

    def _full(self, account: Account) -> bool:
        """Whether no more of an account may go into a batch."""
        messages = octets = own = 0
        for one in self._pending:
            messages += one.messages
            octets += one.octets
            own += one.accounts.get(account, 0)
        return messages >= self.messages or octets >= self.octets or own >= self.share

    def batch_over(self) -> None:
        """The oldest batch is over, stored or refused. Customers who were not read may go on."""
        if self._pending:
            self._pending.popleft()
        if self._braked and not self._releasing:
            self._releasing = True
            self._context.later(0.0, self._release)

    def _release(self) -> None:
        """Customers who were stopped go on, accounts in turn, as long as there is room. What takes longer than
        `RELEASE_SECONDS` goes on in the next turn: ten thousand customers with a chunk each are more than one turn of the
        reactor."""
        self._releasing = False
        context = self._context
        until = context.now() + RELEASE_SECONDS
        while (customer := self._next()) is not None:
            frames = self._braked[customer.account].pop(customer)
            line = self._braked.pop(customer.account)
            if line:
                self._braked[customer.account] = line  # behind the others
            if customer.session.close_reason is None:  # a customer who is gone had no answer, and sends it again
                customer.session.window = customer.account.settings.window
                context.dirty[customer] = None
                if frames:
                    self._go_on(customer, frames, context.now())
                context.flush()
            if self._braked and context.now() >= until:
                self._releasing = True
                context.later(0.0, self._release)
                return

    def _next(self) -> CustomerPeer | None:
        for account, line in self._braked.items():  # short: only a few accounts can be full at a time
            if not self._full(account):
                return next(iter(line))
        return None
