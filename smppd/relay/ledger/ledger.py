"""The only writer of the spool: it opens, marks and closes things, writes them anew, and knows which are alive.

A thing lives either in the spool, where an entry opens it and a mark closes it, or as a cold row. Each method here does all
that belongs to its step: it writes the entry or the row, notes where the thing lives, and counts its memory. The ledger does
not know the phases and the lists in memory (`relay.state.phases`), and those do not know the spool.

``kept`` says whether an entry survives a full disk. An entry about something that has happened is kept, and written with the
next batch. An entry of something that is not acknowledged yet is dropped, and the customer or carrier who sent it is told.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from smppd.protocol.receipt_ids import canonical
from smppd.relay.ledger.journal import HEAD, Entry, mark
from smppd.relay.ledger.payload import write_mail, write_message, write_parked, write_released, write_submitted
from smppd.relay.state.addresses import bucket_key, may_name_number, names_number
from smppd.relay.state.living import WEIGHT, Living
from smppd.relay.state.model import Mail, Message, Parked
from smppd.store.api import ColdRow, Kind, Spool

_HEAD: Final = HEAD.size
# As plain numbers: packing a member of an enumeration takes three times as long.
_ACCEPT: Final = int(Entry.ACCEPT)
_RELEASED: Final = int(Entry.RELEASED)
_SUBMITTED: Final = int(Entry.SUBMITTED)
_DONE: Final = int(Entry.DONE)
_MAIL: Final = int(Entry.MAIL)
_MAIL_DONE: Final = int(Entry.MAIL_DONE)
_PARK: Final = int(Entry.PARK)
_PARK_DONE: Final = int(Entry.PARK_DONE)
# For how many seconds a receipt is waited for: after the end of validity, and after the submission. The later end counts.
_AFTER_VALIDITY: Final = 24 * 3600
_AFTER_SUBMIT: Final = 72 * 3600


class Ledger:
    """See the module. ``octets``: of memory, of all things that live in the spool and of those that were read back from
    rows."""

    def __init__(self, store: Spool) -> None:
        self._store = store
        self._live: OrderedDict[int, dict[int, Living]] = OrderedDict()
        self._place = 0
        self._here: dict[int, Living] = {}  # what lives in the present place
        self._opened = 0
        self._octets = 0
        self._dropping: set[tuple[int, str, int]] = set()

    # -- what is alive -------------------------------------------------------------------------------------------------

    @property
    def octets(self) -> int:
        """See the class."""
        return self._octets

    def count(self) -> int:
        """How many things live in the spool."""
        return sum([len(things) for things in self._live.values()])

    def get(self, identity: int) -> Living | None:
        """The thing in the spool with this id."""
        for things in reversed(self._live.values()):
            thing = things.get(identity)
            if thing is not None:
                return thing
        return None

    def living(self) -> list[Living]:
        """All that lives in the spool, place by place."""
        return [thing for things in self._live.values() for thing in things.values()]

    def highest(self) -> int:
        """The highest id of what lives in the spool, 0 for none."""
        return max((max(things, default=0) for things in self._live.values()), default=0)

    # -- places: where the store keeps what is opened ------------------------------------------------------------------

    def places(self) -> list[int]:
        """The places in which something lives or may, oldest first."""
        return list(self._live)

    def begin(self, place: int) -> None:
        """What is opened from now on lives in this place (`store.api.Tenant`)."""
        self._here = self._live.setdefault(place, {})
        self._place = place
        self._opened = 0

    def opened(self) -> int:
        """How many things were opened since the place began."""
        return self._opened

    def alive_in(self, place: int) -> int:
        """How many things live in a place."""
        return len(self._live.get(place, ()))

    def leave(self, place: int) -> None:
        """Nothing lives in a place, and nothing will."""
        if not self._live.get(place):
            self._live.pop(place, None)

    def oldest_in(self, place: int, most: int, octets: int) -> list[Living]:
        """The first of what lives in a place: up to ``most`` things of ``octets`` together, one at least."""
        some: list[Living] = []
        left = octets
        for thing in self._live.get(place, {}).values():
            if len(some) == most or left <= 0:
                break
            some.append(thing)
            left -= thing.weight
        return some

    # -- memory --------------------------------------------------------------------------------------------------------

    def weigh(self, thing: Living) -> None:
        """Counts the memory of a thing that was read back from a row."""
        octets = WEIGHT + len(thing.frame) - thing.weight
        self._octets += octets
        thing.weight += octets
        thing.weighed(octets)

    def _unweigh(self, thing: Living) -> None:
        octets = thing.weight
        if octets:
            self._octets -= octets
            thing.weight = 0
            thing.weighed(-octets)

    def _put(self, thing: Living) -> None:
        thing.home = self._place
        self._here[thing.id] = thing
        self._opened += 1
        self.weigh(thing)

    def _take(self, thing: Living) -> None:
        home = thing.home
        if home:
            things = self._here if home == self._place else self._live.get(home)
            if things is not None:
                things.pop(thing.id, None)
            thing.home = 0
        self._unweigh(thing)

    # -- the spool -----------------------------------------------------------------------------------------------------

    def restore(self, thing: Living, place: int) -> None:
        """A thing was found in the spool at the start."""
        if place != self._place:
            self.begin(place)
        self._put(thing)

    def forget(self, thing: Living) -> None:
        """A thing is neither in the spool nor a row: at the start a later entry speaks of it, or its batch was refused."""
        thing.cold = None
        self._take(thing)

    def open(self, thing: Living, *, kept: bool) -> None:
        """A thing lives in the spool from now on. ``kept``: see the module. Nothing has happened where its payload raises."""
        entry = _entry(thing)
        batch = self._store.batch
        (batch.marks if kept else batch.accepts).append(entry)
        self._put(thing)

    def open_row(self, thing: Living, row: ColdRow, *, kept: bool) -> None:
        """A thing lives as a row from now on, and not in memory."""
        batch = self._store.batch
        (batch.moves if kept else batch.put).append(row)
        thing.cold = (row.kind, row.owner, row.key)

    def close(self, thing: Living) -> None:
        """A thing is over, in the spool or as a row."""
        if thing.home:
            self._store.batch.marks.append(_closing(thing))
        elif thing.cold is not None:
            kind, owner, key = thing.cold
            thing.cold = None
            self.drop_row(kind, owner, key, thing.id)
        self._take(thing)

    def rewrite(self, thing: Living) -> None:
        """Writes a thing into the spool as it is now, out of its row or its older place. Nothing has happened where its payload
        raises."""
        entry = _entry(thing)
        if thing.cold is not None:
            kind, owner, key = thing.cold
            thing.cold = None
            self.drop_row(kind, owner, key, thing.id)
        self._take(thing)
        self._store.batch.marks.append(entry)
        self._put(thing)

    def shelve(self, thing: Living, row: ColdRow) -> None:
        """A thing in the spool lives as a row from now on."""
        batch = self._store.batch
        batch.moves.append(row)
        batch.marks.append(_closing(thing))  # in the spool, that is: it lives on as a row
        self._take(thing)
        thing.cold = (row.kind, row.owner, row.key)

    def to_row(self, thing: Living, row: ColdRow) -> None:
        """A thing that lives in the spool, or as a row, lives as another row from now on, and not in memory."""
        if thing.home:
            return self.shelve(thing, row)
        if thing.cold is not None:
            kind, owner, key = thing.cold
            self.drop_row(kind, owner, key, thing.id)
        self._take(thing)
        self._store.batch.moves.append(row)
        thing.cold = (row.kind, row.owner, row.key)

    def move_row(self, row: ColdRow, to: ColdRow) -> None:
        """A row that stands for itself belongs to another owner from now on."""
        self._store.batch.moves.append(to)
        self.drop_row(row.kind, row.owner, row.key, row.id)

    def rewrite_row(self, thing: Living, row: ColdRow) -> None:
        """Writes the row of a thing anew, in the place of the one before."""
        self._store.batch.moves.append(row)

    # -- marks on a message --------------------------------------------------------------------------------------------

    def released(self, message: Message) -> None:
        """It may be sent once this is durable. What lies on disk as a row is in the spool from now on."""
        if message.home:
            self._store.batch.marks.append(mark(_RELEASED, message.id, write_released(message)))
        else:
            self.rewrite(message)

    def returned(self, message: Message) -> None:
        """It was released, and no carrier has it."""
        self._store.batch.marks.append(mark(Entry.RETURNED, message.id))

    def resent(self, message: Message) -> None:
        """A carrier may have it, and it goes once more."""
        self._store.batch.marks.append(mark(Entry.RESENT, message.id))

    def submitted(self, message: Message) -> None:
        """A carrier has it."""
        self._store.batch.marks.append(mark(_SUBMITTED, message.id, write_submitted(message)))

    def end_unread(self, kind: int, identity: int) -> None:
        """A thing that an entry of this kind opened is over, and was never in memory: what was read of it makes no thing."""
        closing = _DONE if kind == _ACCEPT else _MAIL_DONE if kind == _MAIL else _PARK_DONE
        self._store.batch.marks.append(mark(closing, identity))

    def set_aside(self, key: int) -> None:
        """An entry that could not be read is among the damaged: ``key`` is its `journal.fingerprint`."""
        self._store.batch.marks.append(mark(Entry.ASIDE, key))

    # -- rows ----------------------------------------------------------------------------------------------------------

    def put_row(self, row: ColdRow, *, kept: bool) -> None:
        """Puts a row that stands for itself: nothing in memory is it. ``kept``: it is written although the disk is full."""
        batch = self._store.batch
        (batch.moves if kept else batch.put).append(row)

    def drop_row(self, kind: int, owner: str, key: bytes, identity: int) -> None:
        """Drops a row with the current batch. Until that is durable queries may still bring it: see ``alive``."""
        batch = self._store.batch
        batch.drop.append((kind, owner, key, identity))
        gone = (kind, owner, identity)
        self._dropping.add(gone)
        batch.then.append(lambda: self._dropping.discard(gone))

    def hand_over(self, kind: int, owner: str) -> None:
        """Gives up all rows of one owner with the current batch: nobody holds them then (``store.api.Batch.handed``)."""
        self._store.batch.handed.append((kind, owner))

    def is_dropped(self, kind: int, owner: str, identity: int) -> bool:
        """Whether a row is as good as gone."""
        return (kind, owner, identity) in self._dropping

    def alive(self, rows: list[ColdRow]) -> list[ColdRow]:
        """The rows that nobody has ended since the query was made."""
        dropping = self._dropping
        return [row for row in rows if (row.kind, row.owner, row.id) not in dropping] if dropping else rows


def message_row(message: Message) -> ColdRow:
    """The row of a message that waits for a carrier."""
    return ColdRow(Kind.QUEUE, message.lane.name, b"", message.id, message.expires, write_message(message))


def mail_row(mail: Mail) -> ColdRow:
    """The row of a mail."""
    return ColdRow(Kind.MAIL, mail.account.name, b"", mail.id, mail.expires, write_mail(mail))


def parked_row(parked: Parked) -> ColdRow:
    """The row of a parked receipt, which nobody holds."""
    return ColdRow(Kind.PARKED, parked.upstream.name, b"", parked.id, parked.expires, write_parked(parked), shared=True)


def waiting_row(
    upstream: str, identity: int, upstream_id: bytes, digits: bytes, validity: int, wall: float, data: bytes
) -> ColdRow:
    """The row of a message that waits for its receipt. ``upstream_id``: what its carrier calls it; ``digits``: of its
    destination, empty where they were erased; ``validity``: until when, epoch seconds; ``data``: its payload."""
    # Its receipt may be three days late, however short its validity was.
    expires = min(max(validity + _AFTER_VALIDITY, int(wall) + _AFTER_SUBMIT), 0xFFFFFFFF)
    key = canonical(upstream_id)
    if names_number(key, digits) if digits else may_name_number(key):
        key = bucket_key(key)
    return ColdRow(Kind.WAITING, upstream, key, identity, expires, data)


def _entry(thing: Living) -> bytes:
    """The entry that opens a thing."""
    if isinstance(thing, Message):
        payload, kind = write_message(thing), _ACCEPT
    elif isinstance(thing, Mail):
        payload, kind = write_mail(thing), _MAIL
    else:
        assert isinstance(thing, Parked)
        payload, kind = write_parked(thing), _PARK
    return HEAD.pack(kind, _HEAD + len(payload), thing.id) + payload


def _closing(thing: Living) -> bytes:
    """The mark that closes a thing."""
    kind = _DONE if isinstance(thing, Message) else _MAIL_DONE if isinstance(thing, Mail) else _PARK_DONE
    return HEAD.pack(kind, _HEAD, thing.id)
