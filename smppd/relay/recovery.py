"""Start-up: reads the journal back, so that everything goes on where it stopped.

A message that was not released is sent, in order. A message that was released and has no answer is unknown, and is handled
as the account says. A message that was submitted waits for its receipt. Mail and parked receipts are as they were. Cold rows
stay where they are and are only counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from smppd.message import State
from smppd.relay.context import Context
from smppd.relay.guard import START
from smppd.relay.ledger.joined import Joined, Thing, Unreadable, readable
from smppd.relay.ledger.journal import Entry
from smppd.relay.ledger.payload import read_mail, read_parked, write_stored
from smppd.relay.receipts.erased import ErasedNumbers
from smppd.relay.receipts.parking import Parking
from smppd.relay.reply_senders import ReplySenders
from smppd.relay.restore import restored_mail, restored_message
from smppd.relay.send.lanes import Lanes
from smppd.relay.state.model import Mail, Message, Parked
from smppd.relay.state.phase import Phase
from smppd.store.api import Kind

__all__ = ["Recovery", "readable"]


class Recovery:
    """One start-up."""

    def __init__(
        self, context: Context, lanes: Lanes, parking: Parking, replies: ReplySenders, erased: ErasedNumbers
    ) -> None:
        self._context = context
        self._replies = replies
        self._erased = erased
        self._lanes = lanes
        self._parking = parking
        self._things: dict[int, Message | Mail | Parked] = {}
        self._phases: dict[int, Phase] = {}

    def run(self, blocks: Iterator[tuple[int, bytes]], counts: dict[tuple[int, str], int]) -> int:
        """Reads all blocks and takes over the numbers of rows. Returns how many things live on. What cannot be read, or
        cannot be put in its place, is set aside and stops nothing else."""
        joined = Joined(self._context.wall())
        for place, block in blocks:
            # Also where nothing was opened there: a place that is not known is never left, with its key.
            self._context.ledger.begin(place)
            joined.block(place, block)
        for (kind, owner), count in counts.items():
            try:
                self._count(kind, owner, count)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(START, error)
        for one in joined.living.values():
            try:
                self._restore(one)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._unrestored(one, error)
        self._place()
        self._set_aside(joined.unreadable)
        return len(self._things)

    def _set_aside(self, unreadable: dict[int, Unreadable]) -> None:
        """Keeps what could not be read among the damaged items. An entry of the journal says so, so that the next start does
        not do it again."""
        context = self._context
        for key, fault in unreadable.items():
            context.guard.keep_damaged(START, fault.error, fault.kind, "", fault.id, fault.data)
            context.ledger.set_aside(key)
            if fault.id and fault.id not in self._things and fault.data[0] == Entry.ACCEPT:
                context.append_event(fault.id, State.UNKNOWN)

    def _unrestored(self, one: Thing, error: Exception) -> None:
        """Something that could be read cannot be made again. It is set aside, and the next start is not to meet it."""
        context = self._context
        message = one.message
        kind = "message" if message is not None else "mail" if one.kind == Entry.MAIL else "parked"
        owner = message.lane.partition("\n")[0] if message is not None else ""
        data = one.payload if message is None else write_stored(message)
        context.guard.keep_damaged(START, error, kind, owner, one.id, data)
        context.ledger.end_unread(one.kind, one.id)
        if message is not None:
            context.append_event(one.id, State.UNKNOWN)

    def _restore(self, one: Thing) -> None:
        thing: Message | Mail | Parked
        context = self._context
        if one.message is not None:
            thing = restored_message(context, one.message)
            self._phases[one.id] = one.phase
        elif one.kind == Entry.MAIL:
            account = context.account(read_mail(one.payload)[2])
            thing = restored_mail(account, one.id, one.payload)
        else:
            expires, name, frame = read_parked(one.payload)
            thing = Parked(one.id, context.upstream(name), (), frame, expires)
        self._things[one.id] = thing
        context.ledger.restore(thing, one.place)

    def _count(self, kind: int, owner: str, count: int) -> None:
        context = self._context
        if kind == Kind.QUEUE:
            name, found, route = owner.partition("\n")
            if found:  # else it is no lane's: whoever altered it, it does not open when its time comes
                context.lane(context.account(name), route).rows_found(count)
        elif kind == Kind.MAIL:
            context.account(owner).mailbox.backlog.count_found(count)
        elif kind == Kind.WAITING:
            context.upstream(owner).shelved(count)
        elif kind == Kind.REPLY:
            self._replies.count_found(owner, count)
        elif kind == Kind.ERASED:
            self._erased.count_found(count)

    def _place(self) -> None:
        guard = self._context.guard
        now = self._context.now()
        for thing in sorted(self._things.values(), key=lambda one: one.id):
            try:
                self._place_one(thing, now)
            except Exception as error:  # noqa: BLE001  the item's edge
                del self._things[thing.id]
                if isinstance(thing, Message):
                    guard.set_message_aside(START, error, thing)
                elif isinstance(thing, Mail):
                    guard.set_mail_aside(START, error, thing)
                else:
                    self._parking.set_aside(thing, error, START)
                self._context.ledger.close(thing)  # the next start is not to meet it again

    def _place_one(self, thing: Message | Mail | Parked, now: float) -> None:
        if isinstance(thing, Mail):
            thing.stored = True
            thing.account.mailbox.hot.add(thing)
        elif isinstance(thing, Parked):
            self._parking.restore_parked(thing)
        else:
            self._lanes.place_restored(thing, self._phases[thing.id], now)
