"""Joins the entries of a journal: what lives, and where each thing stood. A start puts it in its place (`relay.recovery`); of
the journal of a node that is gone it becomes rows (`relay.inheritance`). Nothing here knows what is in memory."""

from __future__ import annotations

from typing import Final

from smppd.ids import id_at
from smppd.policy.content import part_of
from smppd.protocol.wire import Sm
from smppd.relay.ledger.journal import HEAD, KNOWN, OPENS, Broken, Entry, fingerprint, read
from smppd.relay.ledger.payload import StoredMessage, read_mail, read_parked, read_released, read_submitted
from smppd.relay.state.phase import Phase

# By so many seconds an id that is read back may be ahead of the clock. New ids are drawn above all of them, so one that is
# far ahead would spoil them.
_AHEAD: Final = 366 * 86400.0
_CLOSES: Final = frozenset((int(Entry.DONE), int(Entry.MAIL_DONE), int(Entry.PARK_DONE)))

ENTRY: Final = "entry"
BLOCK: Final = "block"


class Unreadable:
    """Something in a journal that cannot be read. ``kind``: ENTRY, or BLOCK for what is left of a block. ``id``: the one that
    it names, 0 for none."""

    __slots__ = ("data", "error", "id", "kind")

    def __init__(self, kind: str, identity: int, data: bytes, error: Exception) -> None:
        self.kind = kind
        self.id = identity
        self.data = data
        self.error = error

    def __repr__(self) -> str:
        return f"<Unreadable {self.kind} {self.id:016x}>"


class Thing:
    """Something that lives in a journal. ``kind``: of the entry that opened it. ``place``: where that is. ``payload``: of mail
    and parked receipts. ``message``: a message, as its latest entry and the marks on it say. ``phase``: where that was. QUEUED:
    not released. READY: released, and nobody knows whether it was sent. SUBMITTED: its carrier has it. HELD: a part."""

    __slots__ = ("id", "kind", "message", "payload", "phase", "place")

    def __init__(self, identity: int, kind: int, place: int, payload: bytes, message: StoredMessage | None) -> None:
        self.id = identity
        self.kind = kind
        self.place = place
        self.payload = payload
        self.message = message
        self.phase = Phase.QUEUED if message is None else phase_of(message)

    def __repr__(self) -> str:
        return f"<Thing {self.id:016x}>"


def phase_of(stored: StoredMessage) -> Phase:
    """Where a message was when it was written; see ``Thing``."""
    if stored.submitted:
        return Phase.SUBMITTED
    if stored.held:
        return Phase.HELD
    return Phase.READY if stored.released else Phase.QUEUED


class Joined:
    """See the module. ``living``: in the order in which their entries were written. ``unreadable``: by `journal.fingerprint`;
    what a later entry of the same thing made good is not among them. ``wall``: epoch seconds."""

    def __init__(self, wall: float) -> None:
        self.living: dict[int, Thing] = {}
        self.unreadable: dict[int, Unreadable] = {}
        self._newest = id_at(wall + _AHEAD)
        # Entries that open a thing and could not be read, by the id of the thing. They are forgotten when the thing is over.
        self._opened: dict[int, set[int]] = {}

    def block(self, place: int, block: bytes) -> None:
        """The next block. What cannot be read stops nothing else."""
        try:
            for kind, identity, payload in read(block):
                try:
                    self._entry(place, kind, identity, payload)
                except Exception as error:  # noqa: BLE001  the item's edge
                    self._broken(kind, identity, payload, error)
        except Broken as broken:
            self.unreadable[fingerprint(broken.rest)] = Unreadable(BLOCK, 0, broken.rest, broken)

    def _broken(self, kind: int, identity: int, payload: bytes, error: Exception) -> None:
        """An entry cannot be read. Where an older entry of the same message could be read, that one counts, and the message
        may have been sent since then."""
        entry = HEAD.pack(kind, HEAD.size + len(payload), identity) + payload
        key = fingerprint(entry)
        self.unreadable[key] = Unreadable(ENTRY, identity, entry, error)
        if kind in OPENS:
            self._opened.setdefault(identity, set()).add(key)
        thing = self.living.get(identity)
        if thing is not None and thing.message is not None and thing.phase in (Phase.QUEUED, Phase.HELD):
            thing.phase = Phase.READY

    def _entry(self, place: int, kind: int, identity: int, payload: bytes) -> None:
        if kind in OPENS:
            self._open(place, kind, identity, payload)
        elif kind in _CLOSES:
            self._mended(identity)
            self.living.pop(identity, None)
        elif kind == Entry.ASIDE:
            self.unreadable.pop(identity, None)
        elif kind not in KNOWN:
            raise ValueError("no kind of entry that is known")
        else:
            thing = self.living.get(identity)
            if thing is not None and thing.message is not None:
                self._mark(thing, thing.message, kind, payload)

    def _open(self, place: int, kind: int, identity: int, payload: bytes) -> None:
        if not 0 < identity <= self._newest:
            raise ValueError("no id that was drawn")
        message: StoredMessage | None = None
        if kind == Entry.ACCEPT:
            message = StoredMessage(identity, payload)
            part_of(Sm(message.frame))
            if message.submitted and not message.upstream:
                raise ValueError("no upstream is named")
            payload = b""
        else:
            Sm(read_mail(payload)[3] if kind == Entry.MAIL else read_parked(payload)[2])
        self._mended(identity)
        self.living.pop(identity, None)  # it stands behind all that was written before its latest entry
        self.living[identity] = Thing(identity, kind, place, payload, message)

    def _mended(self, identity: int) -> None:
        for key in self._opened.pop(identity, ()):
            self.unreadable.pop(key, None)

    def _mark(self, thing: Thing, message: StoredMessage, kind: int, payload: bytes) -> None:
        if kind == Entry.RELEASED:
            message.upstream = read_released(payload)
            thing.phase = Phase.READY
        elif kind == Entry.RETURNED:
            thing.phase = Phase.QUEUED
        elif kind == Entry.RESENT:
            message.duplicate = True
            thing.phase = Phase.QUEUED
        elif kind == Entry.SUBMITTED:
            message.upstream, message.upstream_id = read_submitted(payload)
            thing.phase = Phase.SUBMITTED


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
