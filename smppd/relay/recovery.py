"""Start-up: the journal read back, so that everything goes on where it stopped.

Not released: goes out, in order. Released without an answer: unknown, handled as the account says. Submitted: waits for its
receipt. Mail and parked receipts: as they were. Cold rows stay where they are and are only counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from smppd.relay import tally
from smppd.relay.context import Context
from smppd.relay.dispatch import Dispatch
from smppd.relay.journal import Entry, read
from smppd.relay.model import Message, Phase
from smppd.relay.payload import Stored
from smppd.relay.post import Mail, Parked, read_mail, read_parked
from smppd.relay.receipts import Receipts
from smppd.store.api import Kind


class Recovery:
    """One start-up."""

    def __init__(self, context: Context, dispatch: Dispatch, receipts: Receipts) -> None:
        self._context = context
        self._dispatch = dispatch
        self._receipts = receipts
        self._things: dict[int, Message | Mail | Parked] = {}

    def run(self, blocks: Iterator[tuple[int, bytes]], counts: dict[tuple[int, str], int]) -> int:
        """Reads all blocks and counts; returns how many things live on. Raises ValueError on a block that is not ours."""
        journal = self._context.journal
        for segment, block in blocks:
            if segment not in journal.live:
                journal.begin(segment)
            for kind, identity, payload in read(block):
                self._entry(segment, kind, identity, payload)
        for (kind, owner), count in counts.items():
            self._count(kind, owner, count)
        self._place()
        return len(self._things)

    def _open(self, segment: int, identity: int, thing: Message | Mail | Parked) -> None:
        old = self._things.get(identity)
        if old is not None:
            self._context.journal.remove(old)
        self._things[identity] = thing
        self._context.journal.place(thing, segment)

    def _close(self, identity: int) -> None:
        thing = self._things.pop(identity, None)
        if thing is not None:
            self._context.journal.remove(thing)

    def _entry(self, segment: int, kind: int, identity: int, payload: bytes) -> None:
        context = self._context
        if kind == Entry.ACCEPT:
            message = self._dispatch.lanes.revive(identity, payload)
            message.phase = _phase(Stored(identity, payload))
            self._open(segment, identity, message)
        elif kind == Entry.MAIL:
            expires, about, name, frame = read_mail(payload)
            self._open(segment, identity, Mail(identity, context.account(name), frame, about, expires))
        elif kind == Entry.PARK:
            expires, name, frame = read_parked(payload)
            self._open(segment, identity, Parked(identity, context.upstream(name), (), frame, expires))
        elif kind in (Entry.DONE, Entry.MAIL_DONE, Entry.PARK_DONE):
            self._close(identity)
        else:
            thing = self._things.get(identity)
            if isinstance(thing, Message):
                self._mark(thing, kind, payload)

    def _mark(self, message: Message, kind: int, payload: bytes) -> None:
        if kind == Entry.RELEASED:
            message.phase = Phase.READY
            message.upstream = self._context.upstream(payload.decode()) if payload else None
        elif kind == Entry.RETURNED:
            message.phase = Phase.QUEUED
        elif kind == Entry.RESENT:
            message.phase = Phase.QUEUED
            message.duplicate = True
            message.tries = 1
        elif kind == Entry.SUBMITTED:
            name, _, upstream_id = payload.partition(b"\0")
            message.phase = Phase.SUBMITTED
            message.upstream = self._context.upstream(name.decode())
            message.upstream_id = upstream_id

    def _count(self, kind: int, owner: str, count: int) -> None:
        context = self._context
        if kind == Kind.QUEUE:
            name, _, route = owner.partition("\n")
            account = context.account(name)
            self._dispatch.lane(account, route).cold += count
            account.queued += count
        elif kind == Kind.MAIL:
            context.account(owner).mailbox.cold += count
        elif kind == Kind.WAITING:
            context.upstream(owner).cold_waiting += count

    def _place(self) -> None:
        context = self._context
        now = context.now()
        for thing in sorted(self._things.values(), key=lambda one: one.id):
            if isinstance(thing, Mail):
                thing.stored = True
                thing.account.mailbox.octets += thing.weight
                thing.account.mailbox.hot.add(thing)
            elif isinstance(thing, Parked):
                self._receipts.park(thing)
            elif thing.phase is Phase.SUBMITTED:
                assert thing.upstream is not None
                thing.upstream.matcher.answered(thing.upstream_id)
                thing.upstream.await_receipt(thing)
            else:
                thing.account.queued += 1
                self._waiting(thing, now)

    def _waiting(self, message: Message, now: float) -> None:
        if message.phase in (Phase.QUEUED, Phase.HELD) and self._dispatch.lanes.doubt(message, now):
            return
        if message.duplicate:
            for one in message.lane.upstreams:
                one.retried[message.id] = message
        if message.phase is Phase.HELD:
            message.phase = Phase.STORING
            self._dispatch.holding.add(message, now)
        elif message.phase is Phase.READY and (message.upstream is not None or message.lane.upstreams):
            upstream = message.upstream = message.upstream or message.lane.upstreams[0]
            message.phase = Phase.UNKNOWN
            message.deadline = now + message.account.settings.unknown_after
            upstream.unknown[message.id] = message
            self._context.tally.add(tally.UNKNOWN, upstream.name)
        else:
            message.phase = Phase.QUEUED
            message.upstream = None
            self._dispatch.lanes.insert(message)


def _phase(stored: Stored) -> Phase:
    if stored.submitted:
        return Phase.SUBMITTED
    if stored.held:
        return Phase.HELD
    return Phase.READY if stored.released else Phase.QUEUED
