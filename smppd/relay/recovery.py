"""Start-up: the journal read back, so that everything goes on where it stopped.

Not released: goes out, in order. Released without an answer: unknown, handled as the account says. Submitted: waits for its
receipt. Mail and parked receipts: as they were. Cold rows stay where they are and are only counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from smppd.ids import id_at
from smppd.message import State
from smppd.protocol.wire import Sm
from smppd.relay import log_counts
from smppd.relay.context import Context
from smppd.relay.guard import START
from smppd.relay.ledger.journal import HEAD, KNOWN, OPENS, Broken, Entry, fingerprint, mark, read
from smppd.relay.ledger.payload import Stored
from smppd.relay.receipts.receipts import Receipts
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.lanes import part_of
from smppd.relay.state.model import Message, Phase
from smppd.relay.state.post import Mail, Parked, read_mail, read_parked
from smppd.store.api import Kind

# Seconds that an id may be ahead of the clock: new ids are drawn above all that are found here.
_AHEAD: Final = 366 * 86400.0


class _Fault(NamedTuple):
    """Something in the journal that cannot be read: what it is, the id it gives, and what was raised."""

    kind: str
    id: int
    data: bytes
    error: Exception


class Recovery:
    """One start-up."""

    def __init__(self, context: Context, dispatch: Dispatch, receipts: Receipts) -> None:
        self._context = context
        self._dispatch = dispatch
        self._receipts = receipts
        self._things: dict[int, Message | Mail | Parked] = {}
        self._faults: dict[int, _Fault] = {}
        self._newest = id_at(context.wall() + _AHEAD)
        # Entries that open something and could not be read, by its id: over when that is.
        self._opened: dict[int, set[int]] = {}

    def run(self, blocks: Iterator[tuple[int, bytes]], counts: dict[tuple[int, str], int]) -> int:
        """Reads all blocks and counts; returns how many things live on. What cannot be read or put in its place stops nothing
        else: it is set aside."""
        journal = self._context.journal
        for segment, block in blocks:
            if segment not in journal.live:
                journal.begin(segment)
            self._block(segment, block)
        for (kind, owner), count in counts.items():
            try:
                self._count(kind, owner, count)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(START, error)
        self._place()
        self._set_aside()
        return len(self._things)

    def _block(self, segment: int, block: bytes) -> None:
        try:
            for kind, identity, payload in read(block):
                try:
                    self._entry(segment, kind, identity, payload)
                except Exception as error:  # noqa: BLE001  the item's edge
                    self._broken(kind, identity, payload, error)
        except Broken as error:
            key = fingerprint(error.rest)
            self._faults[key] = _Fault("block", 0, error.rest, error)

    def _broken(self, kind: int, identity: int, payload: bytes, error: Exception) -> None:
        """An entry that cannot be read. An older entry of the same message counts, as one that may have been sent since."""
        entry = HEAD.pack(kind, HEAD.size + len(payload), identity) + payload
        key = fingerprint(entry)
        self._faults[key] = _Fault("entry", identity, entry, error)
        if kind in OPENS:
            self._opened.setdefault(identity, set()).add(key)
        thing = self._things.get(identity)
        if isinstance(thing, Message) and thing.phase in (Phase.QUEUED, Phase.HELD):
            thing.phase = Phase.READY

    def _set_aside(self) -> None:
        """Keeps what could not be read among the damaged, and says so in the journal, so that the next start knows it."""
        context = self._context
        for key, fault in self._faults.items():
            context.guard.keep(START, fault.error, fault.kind, "", fault.id, fault.data)
            context.store.batch.marks.append(mark(Entry.ASIDE, key))
            if fault.id and fault.id not in self._things and fault.data[0] == Entry.ACCEPT:
                context.event(fault.id, State.UNKNOWN)

    def _open(self, segment: int, identity: int, thing: Message | Mail | Parked) -> None:
        old = self._things.get(identity)
        if old is not None:
            self._context.journal.remove(old)
        self._mended(identity)
        self._things[identity] = thing
        self._context.journal.place(thing, segment)

    def _mended(self, identity: int) -> None:
        for key in self._opened.pop(identity, ()):
            self._faults.pop(key, None)

    def _close(self, identity: int) -> None:
        self._mended(identity)
        thing = self._things.pop(identity, None)
        if thing is not None:
            self._context.journal.remove(thing)

    def _entry(self, segment: int, kind: int, identity: int, payload: bytes) -> None:
        context = self._context
        if kind in OPENS and not 0 < identity <= self._newest:
            raise ValueError("no id that was drawn")
        if kind == Entry.ACCEPT:
            message = self._dispatch.lanes.revive(identity, payload)
            message.phase = _phase(Stored(identity, payload))
            if message.phase is Phase.SUBMITTED and message.upstream is None:
                raise ValueError("no upstream is named")
            self._open(segment, identity, message)
        elif kind == Entry.MAIL:
            expires, about, name, frame = read_mail(payload)
            Sm(frame)
            self._open(segment, identity, Mail(identity, context.account(name), frame, about, expires))
        elif kind == Entry.PARK:
            expires, name, frame = read_parked(payload)
            Sm(frame)
            self._open(segment, identity, Parked(identity, context.upstream(name), (), frame, expires))
        elif kind in (Entry.DONE, Entry.MAIL_DONE, Entry.PARK_DONE):
            self._close(identity)
        elif kind == Entry.ASIDE:
            self._faults.pop(identity, None)
        elif kind not in KNOWN:
            raise ValueError("no kind of entry that is known")
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
            if not name:
                raise ValueError("no upstream is named")
            message.upstream = self._context.upstream(name.decode())
            message.phase = Phase.SUBMITTED
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
        guard = self._context.guard
        now = self._context.now()
        for thing in sorted(self._things.values(), key=lambda one: one.id):
            try:
                self._place_one(thing, now)
            except Exception as error:  # noqa: BLE001  the item's edge
                del self._things[thing.id]
                if isinstance(thing, Message):
                    guard.message(START, error, thing)
                elif isinstance(thing, Mail):
                    guard.mail(START, error, thing)
                else:
                    self._receipts.parking.set_aside(thing, error, START)
                self._close_for_good(thing)

    def _close_for_good(self, thing: Message | Mail | Parked) -> None:
        """However far that came: the next start is not to meet it again."""
        context = self._context
        done = (
            Entry.DONE
            if isinstance(thing, Message)
            else Entry.MAIL_DONE
            if isinstance(thing, Mail)
            else Entry.PARK_DONE
        )
        context.store.batch.marks.append(mark(done, thing.id))
        context.journal.remove(thing)

    def _place_one(self, thing: Message | Mail | Parked, now: float) -> None:
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
            self._context.tally.add(log_counts.UNKNOWN, upstream.name)
        else:
            message.phase = Phase.QUEUED
            message.upstream = None
            self._dispatch.lanes.insert(message)


def readable(kind: int, identity: int, payload: bytes) -> bool:
    """Whether an entry that opens something can be read (`journal.LivingEntries`)."""
    try:
        if kind == Entry.ACCEPT:
            part_of(Sm(Stored(identity, payload).frame))
        else:
            Sm(read_mail(payload)[3] if kind == Entry.MAIL else read_parked(payload)[2])
    except Exception:  # noqa: BLE001  whatever it is: it cannot be read
        return False
    return True


def _phase(stored: Stored) -> Phase:
    if stored.submitted:
        return Phase.SUBMITTED
    if stored.held:
        return Phase.HELD
    return Phase.READY if stored.released else Phase.QUEUED
