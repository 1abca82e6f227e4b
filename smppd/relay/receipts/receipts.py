"""What carriers deliver: receipts are matched to their messages and passed on under the customer's id, MO messages go to the
account that owns the number. A carrier is acknowledged when, and only when, what it brought is durable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from smppd.ids import id_time
from smppd.message import State, masked
from smppd.protocol.receipt import MessageState, Receipt
from smppd.protocol.receipt_ids import IdForm
from smppd.protocol.wire import BodyError, Sm, Status, id_response, refusal
from smppd.relay import log_counts
from smppd.relay.alphabets import exchange
from smppd.relay.context import Context
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.guard import COMMIT, DELIVER, ROWS
from smppd.relay.guard import RECEIPT as RECEIPT_PLACE
from smppd.relay.ledger.payload import write_message
from smppd.relay.receipts.matching import (
    INTERMEDIATE,
    MESSAGE_TYPE,
    RECEIPT,
    Reading,
    find,
    is_paired,
    keys,
    meaning,
    read,
    resembles,
)
from smppd.relay.receipts.mending import mended
from smppd.relay.receipts.mo_owners import Owners
from smppd.relay.receipts.parking import PARK, Parking
from smppd.relay.receipts.rewrite import rewritten
from smppd.relay.record import Recorder
from smppd.relay.restore import restored_waiting
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.unanswered import unanswered
from smppd.relay.state.addresses import swapped
from smppd.relay.state.model import (
    HEARD_ACCEPTED,
    TOLD_UNKNOWN,
    TOLD_WORD,
    Account,
    Early,
    Message,
    Peer,
    UpstreamState,
)
from smppd.relay.state.phase import Phase
from smppd.store.api import ColdRow, Kind
from smppd.vault.seal import Direction

log = logging.getLogger("smppd.relay")

# Seconds for which a receipt may wait in memory, unacknowledged, for an answer that it overtook; and octets of them, of one
# upstream: what is over is kept at once.
EARLY: Final = 0.05
EARLY_OCTETS: Final = 4 << 20
# Seconds for which what has no mark of a receipt may wait so, if a message between its addresses has no answer yet: until that
# comes nothing tells the receipt from what a subscriber wrote. Carriers wait ten seconds at least for an acknowledgement.
PATIENCE: Final = 5.0
_PATIENT: Final = 64  # with so many of one upstream waiting at all, the next waits a moment only
_OURS: Final = {state: State(int(state)) for state in MessageState}
_ENDS: Final = frozenset(state for state in MessageState if state.is_final)
# Receipts of one upstream that need no second look when the carrier brings them again.
SEEN: Final = 20_000

Ticket = tuple[Peer, int, int]
"""What is acknowledged: the session that brought it, its command_id and sequence_number."""


class Receipts:
    """See the module. ``owners`` tells whose number a MO message goes to; a reload exchanges it."""

    def __init__(
        self, context: Context, dispatch: Dispatch, mailroom: Mailroom, recorder: Recorder, owners: Owners
    ) -> None:
        self._context = context
        self._dispatch = dispatch
        self._mailroom = mailroom
        self._recorder = recorder
        self.owners = owners
        self.parking = Parking(context, dispatch, self._settle)
        self._latest = 0.0

    def carrier_delivered(self, upstream: UpstreamState, link: Peer, frames: list[bytes], now: float) -> None:
        """The deliver_sm and data_sm of one chunk."""
        context = self._context
        matched = 0
        for raw in frames:
            command = raw[7] | raw[6] << 8
            sequence = int.from_bytes(raw[12:16], "big")
            ticket = (link, command, sequence)
            sm: Sm | None = None
            try:
                sm = self._read(upstream, raw, now)
                matched += self._one(upstream, ticket, sm, now, wait=True)
            except Exception as error:  # noqa: BLE001  the item's edge
                if sm is None and isinstance(error, BodyError):
                    context.answer(link, refusal(command, error.status, sequence))
                else:
                    self._set_aside(upstream, ticket, raw, error)
        if matched:
            upstream.matched.inc(matched)
            # One observation a chunk: the age of its last message, so that no clock is asked for each.
            upstream.receipt_age.observe(max(0.0, context.wall() - self._latest))
        context.store.nudge()

    def _read(self, upstream: UpstreamState, raw: bytes, now: float) -> Sm:
        """A PDU, mended where it is not to the letter. Raises ``BodyError`` where nothing can be read."""
        try:
            sm = Sm(raw)
            if sm.at_tlvs != len(raw) and len(sm.tlvs) > self._context.tlvs:
                raise BodyError(Status.RINVOPTPARSTREAM, f"more than {self._context.tlvs} TLVs")
        except BodyError:
            sm = mended(self._context, upstream, raw, now)
        return sm

    def _one(self, upstream: UpstreamState, ticket: Ticket, sm: Sm, now: float, *, wait: bool) -> int:
        """One deliver_sm or data_sm: 1 if it was a receipt of a message in memory, else 0. ``wait``: it may wait a moment for
        the answer that it may have overtaken, and for its acknowledgement."""
        if sm.esm_class & (RECEIPT | INTERMEDIATE) or is_paired(sm):
            return self._receipt(upstream, ticket, sm, now, wait)
        if upstream.ids or upstream.cold_waiting or upstream.reserved or upstream.seen:
            reading = resembles(sm)
            if reading is not None:
                return self._perhaps(upstream, ticket, sm, reading, now, wait)
        self._mo(upstream, ticket, sm)  # acknowledgements of a handset or its user among them
        return 0

    def _receipt(self, upstream: UpstreamState, ticket: Ticket, sm: Sm, now: float, wait: bool) -> int:
        """What is a receipt by its esm_class or by its TLVs. What it brings is kept from here on, space or not."""
        print_of = hash(sm.raw[16:])
        reading = read(sm)
        if print_of in upstream.seen:
            return self._repeated(upstream, ticket, sm, reading, lambda: self._again(upstream, ticket))
        ids = reading.ids
        if not ids:
            return self._nameless(upstream, ticket, sm, reading, now)
        message = upstream.ids.get(ids[0])
        if (
            message is not None
            and upstream.matcher.settled is IdForm.RAW
            and message.reversed.startswith(sm.source_digits, 2)
            and ids[0] not in upstream.reused
        ):
            upstream.matcher.learn(IdForm.RAW)
        else:
            early = wait and upstream.reserved > 0
            message = find(upstream, reading, sm, sure=early or upstream.cold_waiting > 0)
            if message is None and not upstream.cold_waiting:
                message = self.parking.unknown(upstream, sm, reading, now)
            if message is None and early and self._put_off(upstream, ticket, sm, ids[0], now):
                return 0
        if message is None:
            self.parking.keep(upstream, sm, reading)
            self._note(upstream, print_of, 0)
        else:
            self._settle(upstream, message, sm, reading, print_of)
        self._context.store.batch.acks.append(ticket)
        return int(message is not None)

    def _perhaps(
        self, upstream: UpstreamState, ticket: Ticket, sm: Sm, reading: Reading, now: float, wait: bool
    ) -> int:
        """What has no mark of a receipt but the looks of one: it is, if it names a message that waits and comes from where
        that went, to where that came from. Otherwise somebody wrote it by hand."""
        if hash(sm.raw[16:]) in upstream.seen:
            return self._repeated(upstream, ticket, sm, reading, lambda: self._again(upstream, ticket))
        message = find(upstream, reading, sm, sure=True)
        if message is not None and swapped(sm, Sm(message.frame)):
            self._settle(upstream, message, sm, reading)
            self._context.store.batch.acks.append(ticket)
            return 1
        if wait and upstream.reserved:
            awaits = unanswered(upstream, sm) if len(upstream.early) < _PATIENT else None
            if self._put_off(upstream, ticket, sm, reading.ids[0], now, awaits):
                return 0
        if upstream.cold_waiting:
            self._look(upstream, ticket, sm, reading, lambda: self._mo(upstream, ticket, sm), only_swapped=True)
        else:
            self._mo(upstream, ticket, sm)
        return 0

    def _repeated(
        self, upstream: UpstreamState, ticket: Ticket, sm: Sm, reading: Reading, otherwise: Callable[[], None]
    ) -> int:
        """The same receipt, octet for octet: the carrier brings it again, unless it has called another message by the same id,
        and that one still waits."""
        before = upstream.seen[hash(sm.raw[16:])]
        message = find(upstream, reading, sm, sure=True, but=before)
        if message is not None:
            self._settle(upstream, message, sm, reading)
            self._context.store.batch.acks.append(ticket)
            return 1
        if before and upstream.cold_waiting and any(one in upstream.reused for one in reading.ids):
            self._look(upstream, ticket, sm, reading, otherwise)
        else:
            otherwise()
        return 0

    def _again(self, upstream: UpstreamState, ticket: Ticket) -> None:
        self._context.metrics.receipts.labels(upstream.name, "again").inc()
        self._context.store.batch.acks.append(ticket)

    def _nameless(self, upstream: UpstreamState, ticket: Ticket, sm: Sm, reading: Reading, now: float) -> int:
        """A receipt that names no id. If it tells the end of a message, its addresses may say of which unknown one; otherwise
        nobody can tell, and it is counted and acknowledged: the carrier has no more to say."""
        state, clash = meaning(upstream, sm, reading.receipt)
        message = self.parking.unknown(upstream, sm, reading, now) if state in _ENDS and not clash else None
        if message is not None:
            self._settle(upstream, message, sm, reading)
        else:
            self._context.metrics.receipts.labels(upstream.name, "unreadable").inc()
            self._context.tally.add(log_counts.UNREAD, upstream.name)
        self._context.store.batch.acks.append(ticket)
        return int(message is not None)

    def _look(
        self,
        upstream: UpstreamState,
        ticket: Ticket,
        sm: Sm,
        reading: Reading,
        otherwise: Callable[[], None],
        *,
        only_swapped: bool = False,
    ) -> None:
        """Looks for the message among the cold rows before anything is decided; the acknowledgement waits for it."""

        def found(rows: list[ColdRow]) -> None:
            try:
                but = upstream.seen.get(hash(sm.raw[16:]), 0)
                message = self.parking.of_rows(upstream, reading, sm, rows, but)
                if message is not None and (not only_swapped or swapped(sm, Sm(message.frame))):
                    self._settle(upstream, message, sm, reading)
                    upstream.matched.inc()
                    self._context.store.batch.acks.append(ticket)
                else:
                    otherwise()
            except Exception as error:  # noqa: BLE001  the item's edge
                self._set_aside(upstream, ticket, sm.raw, error)
            self._context.store.kick()
            self._context.flush()

        self._context.store.find(Kind.WAITING, upstream.name, keys(upstream, reading), self._context.looked(found))

    # -- a moment's wait -----------------------------------------------------------------------------------------------

    def _put_off(
        self, upstream: UpstreamState, ticket: Ticket, sm: Sm, name: bytes, now: float, awaits: Message | None = None
    ) -> bool:
        if upstream.early_octets + len(sm.raw) > EARLY_OCTETS:
            return False
        link, command, sequence = ticket
        upstream.put_off(name, Early(link, command, sequence, sm, now, awaits, now + PATIENCE))
        return True

    def moment(self, now: float, most: float = EARLY) -> None:
        """Receipts that waited long enough for an answer to come are kept as what they are: early. Call often."""
        for upstream in self._context.upstreams.values():
            due = []
            for key, waiting in upstream.early.items():  # the longest wait first
                if now - waiting[0].since < most:
                    break
                due.append(key)
            for key in due:
                waiting = upstream.take_early(key)
                longer = [one._replace(since=now) for one in waiting if most > 0.0 and one.waits(now)]
                if longer:
                    upstream.put_off_longer(key, longer)
                self._overtaken(upstream, [one for one in waiting if most <= 0.0 or not one.waits(now)], now)
            if due:
                self._context.store.kick()

    def _overtaken(self, upstream: UpstreamState, waiting: list[Early], now: float) -> None:
        """Handles receipts that had to wait, and lets their carrier be acknowledged."""
        matched = 0
        for early in waiting:
            ticket = (early.link, early.command, early.sequence)
            try:
                matched += self._one(upstream, ticket, early.sm, now, wait=False)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._set_aside(upstream, ticket, early.sm.raw, error)
        if matched:
            upstream.matched.inc(matched)

    # -- answers -------------------------------------------------------------------------------------------------------

    def _refuse(self, ticket: Ticket) -> None:
        link, command, sequence = ticket
        self._context.answer(link, refusal(command, Status.RX_P_APPN, sequence))

    def _set_aside(self, upstream: UpstreamState, ticket: Ticket, raw: bytes, error: Exception) -> None:
        """What could not be handled is kept for somebody to look at, so it may be acknowledged: its carrier would bring it for
        ever."""
        self._context.guard.frame(DELIVER, error, upstream, raw)
        for waiting in upstream.early.values():
            if any(early[:3] == ticket for early in waiting):  # it is acknowledged with the moment that it waits for
                return
        acks = self._context.store.batch.acks
        if not acks or acks[-1] != ticket:
            acks.append(ticket)

    def batch_committed(self, acks: list[Any]) -> None:
        """What these brought is durable: the carrier may forget it."""
        for link, command, sequence in acks:
            try:
                self._context.answer(link, id_response(command, sequence, b""))
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(COMMIT, error)

    def batch_refused(self, acks: list[Any]) -> None:
        """It was not stored: the carrier has to bring it again."""
        for link, command, sequence in acks:
            try:
                self._context.answer(link, refusal(command, Status.RMSGQFUL, sequence))
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(COMMIT, error)

    # -- receipts ------------------------------------------------------------------------------------------------------

    def _note(self, upstream: UpstreamState, print_of: int, identity: int) -> None:
        seen = upstream.seen
        seen[print_of] = identity
        if len(seen) > SEEN:
            seen.popitem(last=False)

    def _settle(
        self, upstream: UpstreamState, message: Message, sm: Sm, reading: Reading, print_of: int | None = None
    ) -> None:
        """Passes a receipt on and ends the message if it is final. Its frame is made first: if that fails, nothing has
        happened yet."""
        context = self._context
        receipt = reading.receipt
        state, clash = meaning(upstream, sm, receipt)
        last = sm.esm_class & MESSAGE_TYPE != INTERMEDIATE
        ends = state in _ENDS
        final = last and ends and not clash
        # The carrier says two things at once, or a word of its own: it may be the last word, or not.
        word = clash or (ends and not last) or (last and state is None)
        unknown = last and state is MessageState.UNKNOWN and not clash
        if word:
            wanted = message.wants_any
        elif final:
            wanted = message.wants_success if state is MessageState.DELIVERED else message.wants_failure
        elif unknown:
            wanted = message.wants_failure and not message.told & TOLD_UNKNOWN
        else:
            wanted = bool(message.registered & 0x10)
        frame = b""
        if wanted:
            try:
                frame = rewritten(message, sm, reading)
            except Exception as error:  # noqa: BLE001  the item's edge
                # What the carrier wrote cannot be passed on as it is: its meaning can.
                context.guard.frame(RECEIPT_PLACE, error, upstream, sm.raw)
        if state is None:
            self._own_word(upstream, receipt)
        self._latest = id_time(message.id)
        code = 0
        if receipt is not None and receipt.err.isdigit():
            code = int(receipt.err[:9])
        context.event(
            message.id,
            _OURS[state] if state is not None else State.UNKNOWN,
            error=code,
            duplicate=message.duplicate,
            detail=upstream.detail + message.upstream_id,
        )
        if frame:
            self._mailroom.post(message.account, frame, message.id)
        elif wanted and (final or unknown or word or (last and state is MessageState.ACCEPTED)):
            # Two things at once, or a word of its own: all that is sure is that nobody knows.
            told = _OURS[state] if state is not None and not word else State.UNKNOWN
            try:
                self._mailroom.post_receipt(message, told, code)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.caught(RECEIPT_PLACE, error, owner=message.account.name, identity=message.id)
        self._note(upstream, hash(sm.raw[16:]) if print_of is None else print_of, message.id)
        if final:
            context.phases.move(message, Phase.DONE)
            context.ledger.close(message)
        elif unknown:
            self._tell(message, TOLD_UNKNOWN)
        elif word or (last and state is MessageState.ACCEPTED):
            self._tell(message, TOLD_WORD if wanted else HEARD_ACCEPTED if state is MessageState.ACCEPTED else 0)

    def _own_word(self, upstream: UpstreamState, receipt: Receipt | None) -> None:
        """A stat that nobody knows, or none: counted by its kind, and named in the log once a kind. Never the word itself, a
        peer chose it."""
        stat = receipt.stat if receipt is not None else b""
        kind = "none" if not stat else "digits" if stat.isdigit() else "letters" if stat.isalpha() else "other"
        self._context.metrics.receipt_words.labels(upstream.name, kind).inc()
        if kind not in upstream.own_words:
            upstream.own_words.add(kind)
            fields = {"upstream": upstream.name, "kind": kind, "octets": len(stat)}
            log.warning("receipt with a state that is not known", extra={"fields": fields})

    def _tell(self, message: Message, flag: int) -> None:
        """What its carrier has reported of it is no end, or may be none (UNKNOWN is some carriers' last word and to others a
        passing trouble, SMPP 3.4 section 5.2.28): another receipt may follow for 72 hours. It is kept with the message, for
        what its sender is told at the end of the wait."""
        context = self._context
        if message.told & flag == flag:
            return
        message.told |= flag
        if message.home:
            context.ledger.rewrite(message)
        elif message.cold is not None:
            row = ColdRow(*message.cold, message.id, int(context.wall()) + PARK, write_message(message))
            context.ledger.rewrite_row(message, row)

    def known(self, message: Message) -> None:
        """An upstream id has just become known: receipts for it may be waiting."""
        upstream = message.upstream
        assert upstream is not None
        if upstream.early:
            early = upstream.take_early(message.upstream_id)
            if early:
                self._overtaken(upstream, early, self._context.now())
        if upstream.parked:
            self.parking.known(message)

    # -- MO ------------------------------------------------------------------------------------------------------------

    def _mo(self, upstream: UpstreamState, ticket: Ticket, sm: Sm) -> None:
        """A message from a handset; refused where nobody here owns its destination, or its owner's alphabet has no room."""
        context = self._context
        name = self.owners.owner(sm.destination_digits, sm, upstream.region, upstream.alphabet)
        account = context.accounts.get(name) if name else None
        if account is None:
            context.metrics.mo.labels(upstream.name, "no owner").inc()
            numbers = {"from": masked(sm.source_digits), "to": masked(sm.destination_digits)}
            context.notices.note("MO message without an owner", {"upstream": upstream.name, **numbers}, context.now())
            self._refuse(ticket)
            return
        frame = self._incoming(sm, account, upstream)
        if frame is None:
            context.metrics.text_refused.labels(account.name, "MO").inc()
            context.metrics.mo.labels(upstream.name, "no letters").inc()
            context.tally.add(log_counts.UNSAYABLE, account.name)
            self._refuse(ticket)
            return
        identity = context.new_id()
        # Recorded as its owner gets it: the log is read in the owner's alphabet.
        recorded = sm if frame is sm.raw else Sm(frame)
        self._recorder.record(identity, account, recorded, Direction.MO, b"", upstream.region)
        context.event(identity, State.ACCEPTED, detail=upstream.detail)
        self._mailroom.post(account, frame, identity, kept=False)
        context.metrics.mo.labels(upstream.name, "passed on").inc()
        context.store.batch.acks.append(ticket)

    def _incoming(self, sm: Sm, account: Account, upstream: UpstreamState) -> bytes | None:
        """A MO message as its owner's alphabet writes it: a person waits for an answer, so a question mark is better than
        no message. None only where even that has no room."""
        if upstream.alphabet is account.alphabet:
            return sm.raw
        old = account.settings.interface_versions == ("3.3",) or any(one.version < 0x34 for one in account.sessions)
        made = exchange(sm, upstream.alphabet, account.alphabet, payloads=not old, lossy=True)
        if made is None:
            return None
        if made.nearest:
            self._context.metrics.text_nearest.labels(account.name, "MO").inc()
            self._context.tally.add(log_counts.NEAREST, account.name)
        return made.frame

    # -- time ----------------------------------------------------------------------------------------------------------

    def expired_rows(self, rows: list[ColdRow]) -> None:
        """Cold messages whose receipt never came, or never the last: their sender is told what is known. A row that cannot be
        read is set aside: nobody can be told of it."""
        context = self._context
        for row in rows:
            upstream = context.upstream(row.owner)
            try:
                message = restored_waiting(context, row)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.unreadable_waiting(row, error)
                continue
            try:
                self._overdue(message, upstream)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.message(ROWS, error, message)

    def _overdue(self, message: Message, upstream: UpstreamState) -> None:
        """Ends a message that was accepted upstream and whose end was never reported. Its sender has heard UNKNOWN or a word of
        the carrier's own already, or is told ACCEPTD where that was the carrier's last word, or UNKNOWN."""
        context = self._context
        context.phases.move(message, Phase.DONE)
        context.ledger.close(message)
        context.store.kick()
        if message.told & (TOLD_UNKNOWN | TOLD_WORD):
            return
        state = State.ACCEPTED if message.told & HEARD_ACCEPTED else State.UNKNOWN
        if state is State.UNKNOWN:
            context.tally.add(log_counts.SILENT, upstream.name)
        detail = upstream.detail + message.upstream_id
        context.event(message.id, state, duplicate=message.duplicate, detail=detail)
        # registered_delivery 2 means "tell me of failure only": silence was success.
        if message.wants_success:
            self._mailroom.post_receipt(message, state, 0)
