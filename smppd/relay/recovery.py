"""Start-up: reads the journal back, so that everything goes on where it stopped.

A message that was not released is sent, in order. A message that was released and has no answer is unknown, and is handled
as the account says. A message that was submitted waits for its receipt. Mail and parked receipts are as they were. Cold rows
stay where they are and are only counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from smppd.ids import id_at
from smppd.message import State
from smppd.policy.content import part_of
from smppd.protocol.wire import Sm
from smppd.relay.context import Context
from smppd.relay.guard import START
from smppd.relay.ledger.journal import HEAD, KNOWN, OPENS, Broken, Entry, fingerprint, read
from smppd.relay.ledger.payload import StoredMessage, read_mail, read_parked, read_released, read_submitted
from smppd.relay.receipts.erased import ErasedNumbers
from smppd.relay.receipts.parking import Parking
from smppd.relay.reply_senders import ReplySenders
from smppd.relay.restore import restored_mail, restored_message
from smppd.relay.send.lanes import Lanes
from smppd.relay.state.model import Mail, Message, Parked
from smppd.relay.state.phase import Phase
from smppd.store.api import Kind

# By so many seconds an id that is read back may be ahead of the clock. New ids are drawn above all of them, so one that is
# far ahead would spoil them.
_AHEAD: Final = 366 * 86400.0


class _Fault(NamedTuple):
    """Something in the journal that cannot be read. ``kind``: an entry or the rest of a block. ``id``: the one that it
    names, 0 for none."""

    kind: str
    id: int
    data: bytes
    error: Exception


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
        # Where each message was, by its entry and the marks on it. READY: it was released, and nobody knows whether it was
        # sent.
        self._phases: dict[int, Phase] = {}
        self._faults: dict[int, _Fault] = {}
        self._newest = id_at(context.wall() + _AHEAD)
        # Entries that open a thing and could not be read, by the id of the thing. They are forgotten when the thing is over.
        self._opened: dict[int, set[int]] = {}

    def run(self, blocks: Iterator[tuple[int, bytes]], counts: dict[tuple[int, str], int]) -> int:
        """Reads all blocks and takes over the numbers of rows. Returns how many things live on. What cannot be read, or
        cannot be put in its place, is set aside and stops nothing else."""
        for place, block in blocks:
            # Also where nothing was opened there: a place that is not known is never left, with its key.
            self._context.ledger.begin(place)
            self._block(place, block)
        for (kind, owner), count in counts.items():
            try:
                self._count(kind, owner, count)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(START, error)
        self._place()
        self._set_aside()
        return len(self._things)

    def _block(self, place: int, block: bytes) -> None:
        try:
            for kind, identity, payload in read(block):
                try:
                    self._entry(place, kind, identity, payload)
                except Exception as error:  # noqa: BLE001  the item's edge
                    self._broken(kind, identity, payload, error)
        except Broken as error:
            key = fingerprint(error.rest)
            self._faults[key] = _Fault("block", 0, error.rest, error)

    def _broken(self, kind: int, identity: int, payload: bytes, error: Exception) -> None:
        """An entry cannot be read. Where an older entry of the same message could be read, that one counts, and the message
        may have been sent since then."""
        entry = HEAD.pack(kind, HEAD.size + len(payload), identity) + payload
        key = fingerprint(entry)
        self._faults[key] = _Fault("entry", identity, entry, error)
        if kind in OPENS:
            self._opened.setdefault(identity, set()).add(key)
        if self._phases.get(identity) in (Phase.QUEUED, Phase.HELD):
            self._phases[identity] = Phase.READY

    def _set_aside(self) -> None:
        """Keeps what could not be read among the damaged items. An entry of the journal says so, so that the next start does
        not do it again."""
        context = self._context
        for key, fault in self._faults.items():
            context.guard.keep_damaged(START, fault.error, fault.kind, "", fault.id, fault.data)
            context.ledger.set_aside(key)
            if fault.id and fault.id not in self._things and fault.data[0] == Entry.ACCEPT:
                context.append_event(fault.id, State.UNKNOWN)

    def _open(self, place: int, identity: int, thing: Message | Mail | Parked) -> None:
        old = self._things.get(identity)
        if old is not None:
            self._context.ledger.forget(old)
        self._mended(identity)
        self._things[identity] = thing
        self._context.ledger.restore(thing, place)

    def _mended(self, identity: int) -> None:
        for key in self._opened.pop(identity, ()):
            self._faults.pop(key, None)

    def _close(self, identity: int) -> None:
        self._mended(identity)
        self._phases.pop(identity, None)
        thing = self._things.pop(identity, None)
        if thing is not None:
            self._context.ledger.forget(thing)

    def _entry(self, place: int, kind: int, identity: int, payload: bytes) -> None:
        context = self._context
        if kind in OPENS and not 0 < identity <= self._newest:
            raise ValueError("no id that was drawn")
        if kind == Entry.ACCEPT:
            stored = StoredMessage(identity, payload)
            message = restored_message(context, stored)
            phase = _phase(stored)
            if phase is Phase.SUBMITTED and message.upstream is None:
                raise ValueError("no upstream is named")
            self._open(place, identity, message)
            self._phases[identity] = phase
        elif kind == Entry.MAIL:
            self._open(place, identity, restored_mail(context.account(read_mail(payload)[2]), identity, payload))
        elif kind == Entry.PARK:
            expires, name, frame = read_parked(payload)
            Sm(frame)
            self._open(place, identity, Parked(identity, context.upstream(name), (), frame, expires))
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
            name = read_released(payload)
            message.upstream = self._context.upstream(name) if name else None
            self._phases[message.id] = Phase.READY
        elif kind == Entry.RETURNED:
            self._phases[message.id] = Phase.QUEUED
        elif kind == Entry.RESENT:
            message.duplicate = True
            message.tries = 1
            self._phases[message.id] = Phase.QUEUED
        elif kind == Entry.SUBMITTED:
            name, message.upstream_id = read_submitted(payload)
            message.upstream = self._context.upstream(name)
            self._phases[message.id] = Phase.SUBMITTED

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
            self._place_message(thing, self._phases[thing.id], now)

    def _place_message(self, message: Message, was: Phase, now: float) -> None:
        phases, lanes = self._context.phases, self._lanes
        if was is Phase.SUBMITTED:
            assert message.upstream is not None
            message.upstream.matcher.answered(message.upstream_id)
            phases.move(message, Phase.SUBMITTED)
            return
        if was is not Phase.READY and lanes.doubt_restored(message, now):
            return
        if message.duplicate:
            for one in message.lane.upstreams:
                one.retried[message.id] = message
        if was is Phase.HELD:
            phases.move(message, Phase.HELD)
        elif was is Phase.READY and (message.upstream is not None or message.lane.upstreams):
            upstream = message.upstream or message.lane.upstreams[0]
            lanes.restore_unknown(message, upstream, now + message.account.settings.unknown_after)
        else:
            phases.move(message, Phase.QUEUED)


def readable(kind: int, identity: int, payload: bytes) -> bool:
    """Whether an entry that opens something can be read (`journal.LivingEntries`)."""
    try:
        if kind == Entry.ACCEPT:
            part_of(Sm(StoredMessage(identity, payload).frame))
        else:
            Sm(read_mail(payload)[3] if kind == Entry.MAIL else read_parked(payload)[2])
    except Exception:  # noqa: BLE001  whatever it is: it cannot be read
        return False
    return True


def _phase(stored: StoredMessage) -> Phase:
    if stored.submitted:
        return Phase.SUBMITTED
    if stored.held:
        return Phase.HELD
    return Phase.READY if stored.released else Phase.QUEUED
