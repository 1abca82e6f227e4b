"""Start-up: the journal read back, so that everything goes on where it stopped.

Not released: goes out, in order. Released without an answer: unknown, handled as the account says. Submitted: waits for its
receipt. Mail and parked receipts: as they were. Cold rows stay where they are and are only counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from smppd.config import Account as AccountSettings
from smppd.protocol.receipt import parse
from smppd.protocol.wire import Sm, Tag
from smppd.relay.context import Context
from smppd.relay.dispatch import Dispatch
from smppd.relay.journal import Entry, read
from smppd.relay.mailbox import Mailroom
from smppd.relay.model import Account, Mail, Message, Parked, Phase, read_mail, read_parked
from smppd.store.api import Kind


def account_of(context: Context, name: str) -> Account:
    """The account, or a closed stand-in for one that left the configuration while things of it were waiting."""
    account = context.accounts.get(name)
    if account is None:
        settings = AccountSettings.model_construct(system_id=name, password_hash=(), networks=(), suspended=True)
        account = Account(settings, context.metrics, context.now())
        account.closed = True
        context.accounts[name] = account
    return account


class Recovery:
    """One start-up."""

    def __init__(self, context: Context, dispatch: Dispatch, mailroom: Mailroom) -> None:
        self._context = context
        self._dispatch = dispatch
        self._mailroom = mailroom
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
        thing.home = segment
        self._things[identity] = thing
        self._context.journal.live[segment][identity] = thing

    def _close(self, identity: int) -> None:
        thing = self._things.pop(identity, None)
        if thing is not None:
            self._context.journal.remove(thing)

    def _entry(self, segment: int, kind: int, identity: int, payload: bytes) -> None:
        context = self._context
        if kind == Entry.ACCEPT:
            name = payload[7 : 7 + int.from_bytes(payload[5:7], "big")].decode().partition("\n")[0]
            account_of(context, name)
            message = self._dispatch.revive(identity, payload)
            flags = payload[4]
            message.phase = Phase.SUBMITTED if flags & 16 else Phase.READY if flags & 1 else Phase.QUEUED
            self._open(segment, identity, message)
        elif kind == Entry.MAIL:
            expires, about, name, frame = read_mail(payload)
            self._open(segment, identity, Mail(identity, account_of(context, name), frame, about, expires))
        elif kind == Entry.PARK:
            expires, name, frame = read_parked(payload)
            upstream = context.upstreams.get(name)
            if upstream is not None:
                self._open(segment, identity, Parked(identity, upstream, (), frame, expires))
        elif kind in (Entry.DONE, Entry.MAIL_DONE, Entry.PARK_DONE):
            self._close(identity)
        else:
            thing = self._things.get(identity)
            if isinstance(thing, Message):
                self._mark(thing, kind, payload)

    def _mark(self, message: Message, kind: int, payload: bytes) -> None:
        if kind == Entry.RELEASED:
            message.phase = Phase.READY
        elif kind == Entry.RETURNED:
            message.phase = Phase.QUEUED
        elif kind == Entry.RESENT:
            message.phase = Phase.QUEUED
            message.duplicate = True
            message.tries += 1
        elif kind == Entry.SUBMITTED:
            name, _, upstream_id = payload.partition(b"\0")
            message.phase = Phase.SUBMITTED
            message.upstream = self._context.upstreams.get(name.decode())
            message.upstream_id = upstream_id

    def _count(self, kind: int, owner: str, count: int) -> None:
        context = self._context
        if kind == Kind.QUEUE:
            name, _, route = owner.partition("\n")
            account = account_of(context, name)
            self._dispatch.lane(account, route).cold += count
            account.queued += count
        elif kind == Kind.MAIL:
            account_of(context, owner).mailbox.cold += count
        elif owner in context.upstreams:
            if kind == Kind.WAITING:
                context.upstreams[owner].cold_waiting += count
            else:
                context.upstreams[owner].cold_parked += count

    def _place(self) -> None:
        context = self._context
        now = context.now()
        for thing in sorted(self._things.values(), key=lambda one: one.id):
            if isinstance(thing, Mail):
                thing.account.mailbox.hot.append(thing)
            elif isinstance(thing, Parked):
                self._parked(thing)
            elif thing.phase is Phase.SUBMITTED:
                if thing.upstream is not None:
                    thing.upstream.ids[thing.upstream_id] = thing
            else:
                thing.account.queued += 1
                if thing.phase is Phase.READY and thing.lane.upstreams:
                    thing.phase = Phase.UNKNOWN
                    upstream = thing.upstream = thing.lane.upstreams[0]
                    thing.deadline = now + thing.account.settings.unknown_after
                    upstream.unknown[thing.id] = thing
                else:
                    thing.phase = Phase.QUEUED
                    thing.lane.hot.append(thing)

    def _parked(self, parked: Parked) -> None:
        upstream = parked.upstream
        sm = Sm(parked.frame)
        given = sm.tlv(Tag.RECEIPTED_MESSAGE_ID)
        receipt = parse(sm.short_message or sm.body)
        keys: dict[bytes, None] = {}
        for raw in (given.rstrip(b"\0") if given else b"", receipt.id if receipt is not None else b""):
            if raw:
                keys[raw] = None
                keys.update(dict.fromkeys(key for _, key in upstream.matcher.candidates(raw)))
        parked.keys = tuple(keys)
        for key in keys:
            upstream.parked[key] = parked
