"""What is on its way, for commands: joins the store's blocks and rows (`records.underway`) with the relay's forms of them."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from smppd.protocol.receipt import parse
from smppd.protocol.wire import BodyError, Sm
from smppd.records.underway import Thing
from smppd.relay.ledger import journal
from smppd.relay.ledger.journal import HEAD, Entry
from smppd.relay.ledger.payload import StoredMessage, read_mail, read_parked, read_submitted
from smppd.store.api import Kind

_UNREADABLE: Final = (BodyError, ValueError, IndexError, struct.error)
_RECEIPT: Final = 0x24  # bits of esm_class that say so, SMPP 3.4 section 5.2.12
_ENTRIES: Final = {int(Entry.ACCEPT): "message", int(Entry.MAIL): "mail", int(Entry.PARK): "parked"}
_ROWS: Final = {
    int(Kind.QUEUE): "message",
    int(Kind.WAITING): "message",
    int(Kind.MAIL): "mail",
    int(Kind.PARKED): "parked",
}


class Journal:
    """`records.underway.Grammar` of the relay's journal."""

    @property
    def opens(self) -> Collection[int]:
        """See `records.underway.Grammar`."""
        return journal.OPENS

    @property
    def closes(self) -> Collection[int]:
        """See `records.underway.Grammar`."""
        return _CLOSES

    def read(self, block: bytes) -> Iterator[tuple[int, int, bytes]]:
        """See `records.underway.Grammar`."""
        return journal.read(block)


_CLOSES: Final = frozenset((int(Entry.DONE), int(Entry.MAIL_DONE), int(Entry.PARK_DONE)))


class OnItsWay(NamedTuple):
    """A thing that was read. record: id of the log's record that it belongs to, 0 for none; place: in words; account: empty
    where nobody can tell; upstream, upstream_id: the carrier that has it or may; receipt: it is one; sender: the source field
    that its customer used, where policy exchanged it."""

    id: int
    record: int
    place: str
    account: str
    upstream: str
    upstream_id: bytes
    expires: int
    receipt: bool
    sender: bytes
    sm: Sm

    def __repr__(self) -> str:
        return f"<OnItsWay {self.id:016x} {self.place}>"


def read_thing(thing: Thing) -> OnItsWay | None:
    """What a thing is, None where there is no message in it that can be read."""
    try:
        if thing.place == "spool":
            return _read(thing, _ENTRIES.get(thing.kind, ""), thing.data)
        if thing.place == "row":
            return _read(thing, _ROWS.get(thing.kind, ""), thing.data)
        return _damaged(thing, thing.name, thing.data)
    except _UNREADABLE:
        return None


def holds_nothing(thing: Thing) -> bool:
    """Whether it is of a kind in which there is no message: a number, a sender that replies are to reach, the hash of
    an erased number."""
    if thing.place == "row":
        return thing.kind in (Kind.REPLY, Kind.ERASED)
    return thing.place == "damaged" and thing.name in ("meta", "cold reply", "cold erased")


def _damaged(thing: Thing, kind: str, data: bytes) -> OnItsWay:
    if kind == "entry":
        kind, data = _ENTRIES.get(HEAD.unpack_from(data, 0)[0], ""), data[HEAD.size :]
    if kind == "frame":
        sm = Sm(data)
        return OnItsWay(thing.id, thing.id, "set aside", "", thing.owner, b"", 0, _is_receipt(sm), b"", sm)
    return _read(thing, kind.removeprefix("cold "), data)._replace(place="set aside")


def _read(thing: Thing, kind: str, data: bytes) -> OnItsWay:
    if kind == "mail":
        expires, about, account, frame = read_mail(data)
        sm = Sm(frame)
        receipt = _is_receipt(sm)
        place = "mailbox, a receipt" if receipt else "mailbox, a message to the customer"
        return OnItsWay(thing.id, about, place, account, "", b"", expires, receipt, b"", sm)
    if kind == "parked":
        expires, upstream, frame = read_parked(data)
        return OnItsWay(
            thing.id, 0, "a receipt whose message is not known yet", "", upstream, b"", expires, True, b"", Sm(frame)
        )
    if kind not in ("message", "waiting"):
        raise ValueError("no message is in this kind of thing")
    stored = StoredMessage(thing.id, data)
    upstream, upstream_id = stored.upstream, stored.upstream_id
    submitted, released = stored.submitted, stored.released
    for mark, payload in thing.marks:
        if mark == Entry.SUBMITTED:
            upstream, upstream_id = read_submitted(payload)
            submitted = True
        elif mark in (Entry.RELEASED, Entry.RESENT, Entry.RETURNED):
            released = mark == Entry.RELEASED
    if thing.place == "row" and thing.kind == Kind.WAITING:
        submitted, upstream = True, upstream or thing.owner
    place = (
        "waits for its receipt" if submitted
        else "is being sent" if released
        else "a part that is held until its message is whole" if stored.held
        else "waits for its carrier"
    )  # fmt: skip
    account = stored.lane.partition("\n")[0]
    sender = stored.reply_to or b""
    return OnItsWay(
        thing.id, thing.id, place, account, upstream, upstream_id, stored.expires, False, sender, Sm(stored.frame)
    )


def _is_receipt(sm: Sm) -> bool:
    return bool(sm.esm_class & _RECEIPT)


def receipt_text(sm: Sm) -> tuple[str, bytes]:
    """(state, beginning of the message's text) of a receipt; both empty where it is written in no known way."""
    found = parse(sm.body)
    return ("", b"") if found is None else (found.stat.decode("latin-1"), found.text)
