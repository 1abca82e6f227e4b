"""Takes a person out of what is on its way: messages, receipts, texts from handsets, in memory, in the spool and as rows.

A message that no carrier has is ended, as cancel_sm does. One that a carrier has, or may have, stays, so that its receipt still
reaches the customer; its frame is exchanged for one without a text and without the person's number. So are receipts in a
mailbox. A text from or to the person that waits in a mailbox is deleted, and so are parked receipts; one that comes within 72
hours is parked without the number (`receipts/erased.py`). At the end the spool is tidied: what was written before cannot be
opened any more.

It works in small steps between the messages. Things move while it lasts, from memory to rows and back. So what is in memory is
looked through, then all rows, then once more what is in memory. What comes later is not part of it.

What a hold is about is left as it is, each thing for itself: by its account, when it was accepted, and both its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from smppd.ids import id_time
from smppd.message import State
from smppd.numbering import normalise
from smppd.protocol.wire import Command, Fields, Sm, build_sm
from smppd.relay.context import Context
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.guard import SWEEP
from smppd.relay.ledger.ledger import mail_row
from smppd.relay.ledger.payload import read_parked, write_message
from smppd.relay.receipts.erased import ErasedNumbers
from smppd.relay.receipts.matching import INTERMEDIATE, RECEIPT
from smppd.relay.receipts.parking import Parking
from smppd.relay.receipts.rewrite import NOBODY, bare_receipt
from smppd.relay.reply_senders import ReplySenders
from smppd.relay.restore import restored_mail, restored_row, restored_waiting
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.state.living import Living
from smppd.relay.state.model import Mail, Message, Parked
from smppd.relay.state.phase import Phase
from smppd.relay.state.queues import Queue
from smppd.relay.turns import COMMIT, GO, WAIT, Turns
from smppd.store.api import ColdRow, Kind, Store

ROWS: Final = 100
"""Rows that are read at a time."""

_SOME: Final = 1000  # things of a queue that are picked out in one step
_ENDS: Final = (Phase.HELD, Phase.QUEUED, Phase.PINNED, Phase.RELEASING, Phase.READY)
_NOBODYS: Final = (Kind.QUEUE, Kind.WAITING, Kind.MAIL, Kind.PARKED, Kind.INHERITED)
_BLANKS: Final = (Phase.SENT, Phase.UNKNOWN, Phase.SUBMITTED)


class Kept(NamedTuple):
    """What a hold is about. forms: of a number, none for every number; account: empty for every account; since, until: epoch
    seconds of acceptance, `since <= t < until`. hold: its number."""

    forms: frozenset[bytes]
    account: str
    since: float
    until: float
    hold: int = 0

    def __repr__(self) -> str:
        return f"<Kept of {len(self.forms)} forms ***>"


class Wanted(Protocol):
    """Who or what is to be erased."""

    def hides(self, digits: bytes, ton: int, region: str | None) -> bool:
        """Whether an address is to go."""

    def takes(self, account: str, records: Collection[int]) -> bool:
        """Whether a thing of this account, which belongs to these records, may be meant at all."""

    def parts(self, one: bool, other: bool) -> bool:
        """Whether a thing is meant of which one or the other address is hidden."""

    def keeps(self, account: str | None, record: int, forms: Collection[bytes]) -> frozenset[int]:
        """The holds that keep a thing of this account (None: nobody knows whose, so no hold on a whole account is about it),
        of this record, from and to numbers in these normal forms."""


class Person:
    """A person, by the forms of a number. accounts: None for all. held: what stays nevertheless."""

    def __init__(
        self, forms: Collection[bytes], accounts: Collection[str] | None = None, held: Sequence[Kept] = ()
    ) -> None:
        self._forms = self.forms = frozenset(forms)
        self._held = held
        self._accounts = None if accounts is None else frozenset(accounts)

    def __repr__(self) -> str:
        return f"<Person of {len(self._forms)} forms ***>"

    def hides(self, digits: bytes, ton: int, region: str | None) -> bool:
        """See ``Wanted``."""
        return normalise(digits, ton, 0, region) in self._forms

    def takes(self, account: str, records: Collection[int]) -> bool:
        """See ``Wanted``."""
        return self._accounts is None or account in self._accounts

    def not_held(self, at: float) -> frozenset[bytes]:
        """The forms that no hold is about which keeps what comes at a time (epoch seconds)."""
        return self._forms.difference(*[one.forms for one in self._held if one.since <= at < one.until])

    def parts(self, one: bool, other: bool) -> bool:
        """See ``Wanted``."""
        return one or other

    def keeps(self, account: str | None, record: int, forms: Collection[bytes]) -> frozenset[int]:
        """See ``Wanted``."""
        at = id_time(record)
        return frozenset(
            one.hold
            for one in self._held
            if (one.account in ("", account) if account is not None else one.forms)
            and one.since <= at < one.until
            and (not one.forms or not one.forms.isdisjoint(forms))
        )


class OfRecords:
    """What belongs to some records: after a restore only their ids are known. Both addresses go."""

    def __init__(self, records: Collection[int]) -> None:
        self._records = frozenset(records)

    def hides(self, digits: bytes, ton: int, region: str | None) -> bool:
        """See ``Wanted``."""
        return True

    def takes(self, account: str, records: Collection[int]) -> bool:
        """See ``Wanted``."""
        return not self._records.isdisjoint(records)

    def parts(self, one: bool, other: bool) -> bool:
        """See ``Wanted``."""
        return True

    def keeps(self, account: str | None, record: int, forms: Collection[bytes]) -> frozenset[int]:
        """See ``Wanted``. Whoever names records has looked at the holds."""
        return frozenset()


class Found:
    """What was found. messages: ended here; waiting: with a carrier, without text and number now; receipts, texts: in
    mailboxes, rewritten and deleted; parked: receipts without a message; replies: senders that are remembered for replies;
    kept: left as they are, because holds are about them. records: the ids that all these belong to. reply_keys: of the replies'
    rows. complete: nothing of it can
    be opened any more; False where there was no space for that."""

    def __init__(self) -> None:
        self.messages = 0
        self.waiting = 0
        self.receipts = 0
        self.texts = 0
        self.parked = 0
        self.replies = 0
        self.kept = 0
        self.holds: frozenset[int] = frozenset()
        self.records: set[int] = set()
        self.reply_keys: set[bytes] = set()
        self.complete = False

    def __repr__(self) -> str:
        return f"<Found {self.counts()}>"

    def counts(self) -> dict[str, int]:
        """The numbers, by name."""
        return {
            "messages": self.messages,
            "waiting": self.waiting,
            "receipts": self.receipts,
            "texts": self.texts,
            "parked": self.parked,
            "replies": self.replies,
            "kept": self.kept,
        }


def _forms(sm: Sm, regions: Collection[str | None]) -> set[bytes]:
    """Both numbers of a frame in their normal forms, as each region writes them."""
    both = ((sm.source_digits, sm.source_ton), (sm.destination_digits, sm.destination_ton))
    return {normalise(digits, ton, 0, region) for digits, ton in both for region in regions}


class Erasing(Turns):
    """See the module. One erasure at a time; the next begins when the one before is over."""

    def __init__(
        self,
        context: Context,
        store: Store,
        dispatch: Dispatch,
        mailroom: Mailroom,
        parking: Parking,
        replies: ReplySenders,
        erased: ErasedNumbers,
        brought: Callable[[], int] = lambda: 0,
        adopt: Callable[[list[ColdRow]], object] = lambda _rows: None,
    ) -> None:
        """``brought()``: how many messages acts have put into another lane as rows so far. ``adopt(rows)``: takes messages over
        that have to be judged (`Kind.INHERITED`)."""
        super().__init__(context, store)
        self._brought = brought
        self._adopt = adopt
        self._unheld: dict[tuple[int, str], int] = {}
        self._replies = replies
        self._erased = erased
        self._dispatch = dispatch
        self._mailroom = mailroom
        self._parking = parking
        self._waiting: list[tuple[Wanted, bool, Callable[[Found], None]]] = []
        self._wanted: Wanted = Person(())
        self._acts = False
        self._found = Found()
        self._then: Callable[[Found], None] = lambda _found: None
        self._rows: list[ColdRow] = []
        self._after: tuple[str, bytes, int] | None = None
        self._seen: set[int] = set()

    def erase(self, wanted: Wanted, then: Callable[[Found], None], *, acts: bool) -> None:
        """Looks for what is meant and, where ``acts``, takes it out; then(found) at the end."""
        self._waiting.append((wanted, acts, then))
        if self._steps is None:
            self._next()

    def _next(self) -> None:
        if not self._waiting:
            self._steps = None
            return
        self._wanted, self._acts, self._then = self._waiting.pop(0)
        self._found = Found()
        self._seen = set()
        self._begin(self._all())

    def _over(self) -> None:
        then, found = self._then, self._found

        def tidied(complete: bool) -> None:
            found.complete = complete
            self._next()
            then(found)

        if self._acts:
            self._store.tidy(tidied)
            self._store.kick()
        else:
            tidied(True)

    def _broken(self, error: Exception) -> None:
        # What was not looked at may still be there: whoever asked is told so, and asks again.
        self._context.guard.caught(SWEEP, error, owner="erasure")
        then, found = self._then, self._found
        found.complete = False
        self._next()
        then(found)

    def _all(self) -> Iterator[int]:
        wanted = self._wanted
        if self._acts and isinstance(wanted, Person):
            # First, and durable: a receipt that comes meanwhile is parked already and found, or meets this.
            self._erased.remember(wanted.not_held(self._context.wall()))
            yield COMMIT
        yield from self._memory()
        brought = self._brought()
        yield COMMIT
        for kind in (Kind.QUEUE, Kind.WAITING, Kind.MAIL):
            yield from self._cold(kind)
        yield from self._nobodys()
        yield from self._replies_of()
        yield from self._memory()
        while brought != self._brought():
            # Meanwhile an act put messages into other lanes, where the rows may have been looked through already.
            brought = self._brought()
            yield COMMIT
            yield from self._cold(Kind.QUEUE)
            yield from self._memory()
        yield COMMIT

    # -- memory --------------------------------------------------------------------------------------------------------

    def _memory(self) -> Iterator[int]:
        things: list[Living] = self._context.ledger.living()
        yield GO
        yield from self._each(things)
        for upstream in list(self._context.upstreams.values()):
            yield from self._each([one for one in upstream.parked.values() if one.shared])
        for account in list(self._context.accounts.values()):
            for lane in list(account.lanes.values()):
                yield from self._of_queue(lane.hot)
            yield from self._of_queue(account.pinned_parts)
            box = account.mailbox
            yield from self._of_queue(box.hot)
            yield from self._each([m for m in box.later.values() if not m.home])
            for peer in list(account.sessions):
                sent = [e.token for e in peer.session.outstanding.values()]
                yield from self._each([one for one in sent if isinstance(one, Mail)])

    def _of_queue(self, queue: Queue[Message] | Queue[Mail]) -> Iterator[int]:
        """What was read back from rows, and so does not live in the spool."""
        ids = queue.ids()
        for at in range(0, len(ids), _SOME):
            yield GO
            things = map(queue.get, ids[at : at + _SOME])
            yield from self._each([one for one in things if one is not None and not one.home])

    def _each(self, things: Sequence[Living]) -> Iterator[int]:
        for thing in things:
            try:
                self._visit(thing)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._damaged(thing, error)
            yield GO

    def _damaged(self, thing: Living, error: Exception) -> None:
        """What cannot be looked at is handled as anywhere else. Whoever erases looks at the damaged items too."""
        guard = self._context.guard
        if isinstance(thing, Message):
            guard.set_message_aside(SWEEP, error, thing)
        elif isinstance(thing, Mail):
            guard.set_mail_aside(SWEEP, error, thing)
        elif isinstance(thing, Parked):
            self._parking.set_aside(thing, error, SWEEP)

    def _visit(self, thing: Living) -> None:
        if thing.id in self._seen:
            return  # found before, and left as it was
        if isinstance(thing, Message):
            if thing.stored and not thing.erased and thing.refusal is None and self._means_message(thing):
                self._message(thing)
        elif isinstance(thing, Mail):
            if thing.stored and not thing.done and self._means_mail(thing):
                self._mail(thing)
        elif isinstance(thing, Parked) and not thing.done:
            self._parked(thing)

    def _means_message(self, message: Message) -> bool:
        account = message.account
        if not self._wanted.takes(account.name, (message.id,)):
            return False
        sm = Sm(message.frame)
        region, wanted = account.region, self._wanted
        source = wanted.hides(sm.source_digits, sm.source_ton, region)
        reply = message.reply_to
        if reply is not None:
            source = source or wanted.hides(reply[2:-1], reply[0], region)
        if not wanted.parts(source, wanted.hides(sm.destination_digits, sm.destination_ton, region)):
            return False
        forms = _forms(sm, (region,))
        if reply is not None:
            forms.add(normalise(reply[2:-1], reply[0], 0, region))
        return not self._keeps(account.name, message.id, message.id, forms)

    def _keeps(self, account: str | None, record: int, identity: int, forms: Collection[bytes]) -> bool:
        """Whether a hold keeps a thing, which is counted then, once. identity: the thing's own id."""
        holds = self._wanted.keeps(account, record, forms)
        if not holds:
            return False
        if identity not in self._seen:
            self._seen.add(identity)
            self._found.kept += 1
            self._found.holds |= holds
            self._found.records.update((record,) if account is not None else ())
        return True

    def _message(self, message: Message) -> None:
        phase = message.phase
        if phase in _ENDS:
            self._found.messages += 1
        elif phase in _BLANKS:
            self._found.waiting += 1
        else:
            return  # over, or becoming a row
        self._found.records.add(message.id)
        if not self._acts:
            self._seen.add(message.id)
            return
        self._batch += 1
        if phase in _ENDS:
            self._blank(message)  # its receipt has neither number nor text
            self._dispatch.end_guarded(message, State.DELETED)
        else:
            self._blank(message)
            self._context.ledger.rewrite(message)

    def _blank(self, message: Message) -> None:
        """Exchanges the frame of a message for one without a text, and without the numbers that are to go."""
        sm = Sm(message.frame)
        region, wanted, reply = message.account.region, self._wanted, message.reply_to
        source = NOBODY if wanted.hides(sm.source_digits, sm.source_ton, region) else sm.source_field
        destination = (
            NOBODY if wanted.hides(sm.destination_digits, sm.destination_ton, region) else sm.destination_field
        )
        if reply is not None and wanted.hides(reply[2:-1], reply[0], region):
            reply = NOBODY
        fields = Fields(registered=message.registered)
        message.frame = build_sm(Command.SUBMIT_SM, 0, source, destination, b"", fields)
        message.reply_to = reply
        message.reversed = destination + (reply if reply is not None else source)
        message.erased = True
        message.on_unknown = "hold"  # there is nothing left to send again

    def _means_mail(self, mail: Mail) -> bool:
        account = mail.account
        if not self._wanted.takes(account.name, (mail.about, mail.id)):
            return False
        sm = Sm(mail.frame)
        wanted, regions = self._wanted, {account.region}
        if not sm.esm_class & (RECEIPT | INTERMEDIATE):
            # A text has its numbers as its carrier writes them, and which one brought it is not known any more.
            regions |= {upstream.region for upstream in self._context.upstreams.values()}
        meant = wanted.parts(
            any(wanted.hides(sm.source_digits, sm.source_ton, one) for one in regions),
            any(wanted.hides(sm.destination_digits, sm.destination_ton, one) for one in regions),
        )
        return meant and not self._keeps(account.name, mail.about or mail.id, mail.id, _forms(sm, regions))

    def _mail(self, mail: Mail) -> None:
        sm = Sm(mail.frame)
        if not sm.esm_class & (RECEIPT | INTERMEDIATE):
            self._note(mail)
            self._found.texts += 1
            if self._acts:
                self._mailroom.remove_mail(mail)
            return
        frame = self._bare(sm, mail)
        if frame == mail.frame:
            return  # it was rewritten already
        self._note(mail)
        self._found.receipts += 1
        if self._acts:
            mail.frame = frame
            mail.piece = mail.left = 0
            if mail.home:
                self._context.ledger.rewrite(mail)
            else:
                self._context.ledger.rewrite_row(mail, mail_row(mail))

    def _note(self, mail: Mail) -> None:
        if mail.about:
            self._found.records.add(mail.about)
        if self._acts:
            self._batch += 1
        else:
            self._seen.add(mail.id)

    def _bare(self, sm: Sm, mail: Mail) -> bytes:
        """A receipt without the numbers that are to go and without what it says of the text."""
        wanted, region = self._wanted, mail.account.region
        source = NOBODY if wanted.hides(sm.source_digits, sm.source_ton, region) else sm.source_field
        destination = (
            NOBODY if wanted.hides(sm.destination_digits, sm.destination_ton, region) else sm.destination_field
        )
        return bare_receipt(sm, source, destination)

    def _parked(self, parked: Parked) -> None:
        if not self._means_parked(parked.id, parked.frame, parked.upstream.region):
            return
        self._found.parked += 1
        if self._acts:
            self._batch += 1
            self._parking.remove(parked)
        else:
            self._seen.add(parked.id)

    def _means_parked(self, identity: int, frame: bytes, region: str | None) -> bool:
        sm = Sm(frame)
        wanted = self._wanted
        if not isinstance(wanted, Person):
            return False  # it belongs to no record yet
        return (
            wanted.hides(sm.source_digits, sm.source_ton, region)
            or wanted.hides(sm.destination_digits, sm.destination_ton, region)
        ) and not self._keeps(None, identity, identity, _forms(sm, (region,)))

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _cold(self, kind: Kind) -> Iterator[int]:
        context = self._context
        after: tuple[str, bytes, int] | None = ("", b"", 0)
        while after is not None:
            self._store.walk(kind, after, ROWS, self._arrived)
            yield WAIT
            after = self._after
            rows, self._rows = self._rows, []
            for row in context.ledger.alive(rows):
                try:
                    self._row(kind, row)
                except Exception as error:  # noqa: BLE001  the item's edge
                    context.guard.caught(SWEEP, error, owner=row.owner, identity=row.id)
                if self._spent():
                    # In a later turn somebody else may have ended or moved the others: they are asked for anew.
                    after = (row.owner, row.key, row.id)
                    break
            yield GO

    def _nobodys(self) -> Iterator[int]:
        """Rows that no node holds. What is meant of them is claimed first: it may be another's by then."""
        self._store.unheld(self._counted)
        yield WAIT
        for (kind, owner), _count in sorted(self._unheld.items()):
            if kind not in _NOBODYS:
                continue
            after = 0
            while True:
                self._store.peek(Kind(kind), owner, after, ROWS, self._page)
                yield WAIT
                rows, self._rows = self._rows, []
                if not rows:
                    break
                after = rows[-1].id
                ids = [row.id for row in rows if self._means_row(kind, row)]
                if self._acts and ids:
                    self._store.claim(Kind(kind), owner, ids, len(ids), self._page)
                    yield WAIT
                    rows, self._rows = self._rows, []
                    self._claimed(kind, rows)
                    yield COMMIT
                yield GO

    def _means_row(self, kind: int, row: ColdRow) -> bool:
        """Whether a row that nobody holds is meant; in a look it is counted here."""
        try:
            meant = self._is_meant(kind, row)
        except Exception as error:  # noqa: BLE001  the item's edge: whoever claims it sets it aside
            self._context.guard.caught(SWEEP, error, owner=row.owner, identity=row.id)
            return False
        if meant and not self._acts and row.id not in self._seen:
            self._seen.add(row.id)
            self._found.messages += kind in (Kind.QUEUE, Kind.INHERITED)
            self._found.waiting += kind == Kind.WAITING
            self._found.parked += kind == Kind.PARKED
            if kind == Kind.PARKED:
                return meant  # it belongs to no record yet
            if kind == Kind.MAIL:
                mail = restored_mail(self._context.account(row.owner), row.id, row.data)
                self._count_mail(mail)
            else:
                self._found.records.add(row.id)
        return meant

    def _is_meant(self, kind: int, row: ColdRow) -> bool:
        context = self._context
        if kind == Kind.MAIL:
            account = context.account(row.owner)
            mail = restored_mail(account, row.id, row.data)
            return self._means_mail(mail) and self._bare_differs(mail)
        if kind == Kind.PARKED:
            return self._means_parked(row.id, read_parked(row.data)[2], context.upstream(row.owner).region)
        if kind == Kind.WAITING:
            message = restored_waiting(context, row)
        else:
            name, _, route = row.owner.partition("\n")
            message = restored_row(context, row, context.lane(context.account(name), route))
        return not message.erased and self._means_message(message)

    def _bare_differs(self, mail: Mail) -> bool:
        """Whether there is something to be taken out of a mail: a receipt may have been rewritten already."""
        sm = Sm(mail.frame)
        return not sm.esm_class & (RECEIPT | INTERMEDIATE) or self._bare(sm, mail) != mail.frame

    def _count_mail(self, mail: Mail) -> None:
        if mail.about:
            self._found.records.add(mail.about)
        if Sm(mail.frame).esm_class & (RECEIPT | INTERMEDIATE):
            self._found.receipts += 1
        else:
            self._found.texts += 1

    def _claimed(self, kind: int, rows: list[ColdRow]) -> None:
        """Rows that were nobody's until now, and are meant."""
        if kind == Kind.INHERITED:
            self._adopt(rows)  # and in memory it is found with the next look there
            return
        for row in rows:
            try:
                if kind == Kind.PARKED:
                    self._found.parked += 1
                    self._batch += 1
                    self._context.ledger.drop_row(row.kind, row.owner, row.key, row.id)
                else:
                    self._row(Kind(kind), row)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(SWEEP, error, owner=row.owner, identity=row.id)

    def _counted(self, counts: dict[tuple[int, str], int]) -> None:
        self._unheld = counts
        self._go()

    def _page(self, rows: list[ColdRow]) -> None:
        self._rows = rows
        self._go()

    def _replies_of(self) -> Iterator[int]:
        """What is remembered for replies of a person. No record speaks of it, so no hold keeps it."""
        wanted = self._wanted
        if not isinstance(wanted, Person):
            return
        for account in self._replies.accounts():
            if not wanted.takes(account, ()):
                continue
            self._replies.find_of(account, wanted.forms, lambda rows: self._arrived(rows, None))
            yield WAIT
            rows, self._rows = self._rows, []
            self._found.replies += len(rows)
            self._found.reply_keys |= {row.key for row in rows}
            if self._acts and rows:
                self._replies.forget(rows)
                self._batch += len(rows)
            yield GO

    def _arrived(self, rows: list[ColdRow], following: tuple[str, bytes, int] | None) -> None:
        self._rows, self._after = rows, following
        self._go()

    def _row(self, kind: Kind, row: ColdRow) -> None:
        if kind == Kind.QUEUE:
            self._queued_row(row)
        elif kind == Kind.WAITING:
            self._waiting_row(row)
        else:
            self._mail_row(row)

    def _queued_row(self, row: ColdRow) -> None:
        name, _, route = row.owner.partition("\n")
        context = self._context
        lane = context.lane(context.account(name), route)
        if (row.id <= lane.upto and not row.shared) or not self._means_message(restored_row(context, row, lane)):
            return  # in memory, and ends there; or somebody else's
        self._found.messages += 1
        self._found.records.add(row.id)
        if not self._acts:
            self._seen.add(row.id)  # it may be in memory by the time that is looked through again
            return
        message = self._dispatch.lanes.take_expired_row(row)
        if message is not None:
            self._batch += 1
            self._blank(message)
            self._dispatch.end_guarded(message, State.DELETED)

    def _waiting_row(self, row: ColdRow) -> None:
        context = self._context
        message = restored_waiting(context, row)
        if message.erased or row.id in self._seen or not self._means_message(message):
            return
        self._found.waiting += 1
        self._found.records.add(row.id)
        if not self._acts:
            self._seen.add(row.id)
        else:
            self._batch += 1
            self._blank(message)
            new = row._replace(data=write_message(message))
            context.ledger.rewrite_row(message, new)

    def _mail_row(self, row: ColdRow) -> None:
        context = self._context
        account = context.account(row.owner)
        if row.id in account.mailbox.read or row.id in self._seen:
            return  # in memory
        mail = restored_mail(account, row.id, row.data)
        mail.cold = (row.kind, row.owner, row.key)
        mail.stored = True
        if not self._means_mail(mail):
            return
        sm = Sm(mail.frame)
        if not row.shared or sm.esm_class & (RECEIPT | INTERMEDIATE) == 0:
            if row.shared:
                account.mailbox.read.add(row.id)  # it is not counted here
            self._mail(mail)
        elif (frame := self._bare(sm, mail)) != mail.frame:
            self._note(mail)
            self._found.receipts += 1
            mail.frame = frame
            context.ledger.rewrite_row(mail, mail_row(mail)._replace(shared=True))  # nobody's again
