"""What customers have sent and is not committed yet is bounded in messages and octets, all sessions together: windows count
messages of one session, each of which may be 64 KiB. Of one account it is bounded lower, since everybody's answer waits for
the whole batch. Whoever sends more is not read until the disk has caught up; what he has sent already waits here till then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from smppd.relay.context import Context
from smppd.relay.state.model import Account, Customer
from smppd.store.api import Batch

BATCH_MESSAGES: Final = 4000
BATCH_OCTETS: Final = 16 << 20
ACCOUNT_MESSAGES: Final = 2000
"""Of one account."""
RELEASE_SECONDS: Final = 0.005
"""What those who are read again may take of one turn."""


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

    def __init__(self, context: Context, go_on: Callable[[Customer, list[bytes], float], None]) -> None:
        """go_on(customer, frames, now): takes what a customer had sent when he was stopped."""
        self.messages = BATCH_MESSAGES
        self.octets = BATCH_OCTETS
        self.share = ACCOUNT_MESSAGES
        self._context = context
        self._go_on = go_on
        self._pending: deque[_Pending] = deque()
        self._braked: dict[Account, dict[Customer, list[bytes]]] = {}
        """Who is not read, with what he had sent; accounts in the order of their turns, sessions in that of being stopped."""
        self._releasing = False

    def note(self, batch: Batch, account: Account, messages: int, octets: int) -> None:
        """So many more messages of an account are in a batch, and what they came in took so many octets."""
        pending = self._pending
        if not pending or pending[-1].batch is not batch:
            pending.append(_Pending(batch))
        last = pending[-1]
        last.messages += messages
        last.octets += octets
        last.accounts[account] = last.accounts.get(account, 0) + messages

    def look(self, customer: Customer) -> None:
        """Lets a customer who has just sent something wait unread, if too much is to be committed."""
        if self._kept(customer) is None and self._full(customer.account):
            self._stop(customer, [])

    def keeps(self, customer: Customer, frames: list[bytes]) -> bool:
        """Whether what a customer sends has to wait: then it is kept until the disk has caught up. Many sessions may have their
        first chunk on its way while it is full, and some of them are read again by a reload."""
        kept = self._kept(customer)
        if kept is not None:
            kept.extend(frames)
            customer.session.window = 0
            return True
        if not self._full(customer.account):
            return False
        self._stop(customer, list(frames))
        return True

    def _kept(self, customer: Customer) -> list[bytes] | None:
        line = self._braked.get(customer.account)
        return None if line is None else line.get(customer)

    def _stop(self, customer: Customer, frames: list[bytes]) -> None:
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

    def committed(self) -> None:
        """The oldest batch is over, stored or not: who was not read may go on."""
        if self._pending:
            self._pending.popleft()
        if self._braked and not self._releasing:
            self._releasing = True
            self._context.later(0.0, self._release)

    def _release(self) -> None:
        """Those who were stopped go on, accounts in turn, as long as there is room: ten thousand of them, with a chunk each,
        are more than one turn of the reactor."""
        self._releasing = False
        context = self._context
        until = context.now() + RELEASE_SECONDS
        while (customer := self._next()) is not None:
            frames = self._braked[customer.account].pop(customer)
            line = self._braked.pop(customer.account)
            if line:
                self._braked[customer.account] = line  # behind the others
            if customer.session.close_reason is None:  # whoever is gone was answered nothing, and sends it again
                customer.session.window = customer.account.settings.window
                context.dirty[customer] = None
                if frames:
                    self._go_on(customer, frames, context.now())
                context.flush()
            if self._braked and context.now() >= until:
                self._releasing = True
                context.later(0.0, self._release)
                return

    def _next(self) -> Customer | None:
        for account, line in self._braked.items():  # few of them are full: there is room for a few full ones only
            if not self._full(account):
                return next(iter(line))
        return None
