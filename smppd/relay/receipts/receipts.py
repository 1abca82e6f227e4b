"""Handles what carriers deliver. Receipts are matched to their messages and passed on under the customer's id. MO messages
go to the account that owns the number. A carrier is acknowledged only after what it delivered is durable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from smppd.consent.words import Meaning
from smppd.ids import id_time
from smppd.message import State, masked
from smppd.policy.screens import Ear
from smppd.protocol.receipt import MessageState, Receipt
from smppd.protocol.receipt_ids import IdForm
from smppd.protocol.wire import (
    BodyError,
    Sm,
    Status,
    id_response,
    pdu_body,
    refusal,
    request_command,
    sequence_number,
    splice,
)
from smppd.relay import log_counts
from smppd.relay.alphabets import exchange_alphabets
from smppd.relay.context import Context
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.guard import COMMIT, DELIVER, ROWS
from smppd.relay.guard import RECEIPT as RECEIPT_PLACE
from smppd.relay.ledger.payload import write_message
from smppd.relay.receipts.erased import ErasedNumbers
from smppd.relay.receipts.matching import (
    INTERMEDIATE,
    MESSAGE_TYPE,
    RECEIPT,
    Reading,
    find_message,
    is_paired,
    read_receipt,
    reported_state,
    resembles,
    row_keys,
)
from smppd.relay.receipts.mending import mend_delivered
from smppd.relay.receipts.mo_owners import MoOwners
from smppd.relay.receipts.opt_outs import OptOuts
from smppd.relay.receipts.parking import PARK, Parking
from smppd.relay.receipts.rewrite import rewritten_receipt
from smppd.relay.record import Recorder
from smppd.relay.reply_senders import ReplySenders
from smppd.relay.restore import restored_waiting
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.unanswered import unanswered_between
from smppd.relay.state.addresses import addresses_swapped
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
from smppd.store.api import ColdRow
from smppd.vault.seal import Direction

log = logging.getLogger("smppd.relay")

# A receipt may overtake the answer to its submit. It waits so many seconds in memory, not acknowledged, for that answer.
# Above so many octets of one upstream it is parked at once.
EARLY: Final = 0.05
EARLY_OCTETS: Final = 4 << 20
# A deliver_sm that does not say that it is a receipt may wait longer, if a message between its addresses has no answer yet:
# before that answer it could as well be a subscriber's text. Carriers wait at least ten seconds for an acknowledgement.
PATIENCE: Final = 5.0
_PATIENT: Final = 64  # where so many of one upstream wait, further ones wait ``EARLY`` seconds only
_OURS: Final = {state: State(int(state)) for state in MessageState}
_ENDS: Final = frozenset(state for state in MessageState if state.is_final)
# What carriers bring while nothing can be stored is kept in memory, and refused: they may not bring it again. Above so many
# octets it is refused unread, until the store takes something again. A PDU counts as its octets and what is made of it.
UNSTORED: Final = 64 << 20
_BESIDE: Final = 1024
# So many receipts of one upstream are remembered, to know them when the carrier sends them again.
SEEN: Final = 20_000

Ticket = tuple[Peer, int, int]
"""What an acknowledgement needs: the session that brought the PDU, its command_id and its sequence_number."""


def fingerprint_of(sm: Sm) -> int:
    """By what a receipt is known again when its carrier sends it again: all of it but the header, hashed."""
    return hash(pdu_body(sm.raw))


class Receipts:
    """See the module. ``owners`` tells whose number a MO message goes to; a reload exchanges it."""

    def __init__(
        self,
        context: Context,
        dispatch: Dispatch,
        mailroom: Mailroom,
        recorder: Recorder,
        owners: MoOwners,
        opt_outs: OptOuts,
        replies: ReplySenders,
        erased: ErasedNumbers,
    ) -> None:
        self._opt_outs = opt_outs
        self._erased = erased
        self._context = context
        self._replies = replies
        self._dispatch = dispatch
        self._mailroom = mailroom
        self._recorder = recorder
        self.owners = owners
        self.parking = Parking(context, dispatch, self._settle)
        self._latest = 0.0
        self._unstored = 0

    def carrier_delivered(self, upstream: UpstreamState, link: Peer, frames: list[bytes], now: float) -> None:
        """The deliver_sm and data_sm of one chunk."""
        context = self._context
        if context.store.takes:
            self._unstored = 0
        else:
            if self._unstored >= UNSTORED:
                self.batch_refused([(link, request_command(raw), sequence_number(raw)) for raw in frames])
                return
            self._unstored += sum(len(raw) + _BESIDE for raw in frames)
        matched = 0
        for raw in frames:
            command = request_command(raw)
            sequence = sequence_number(raw)
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
        """A PDU that was read, and mended where its form is wrong. Raises ``BodyError`` where nothing can be read."""
        try:
            sm = Sm(raw)
            if sm.at_tlvs != len(raw) and len(sm.tlvs) > self._context.tlv_limit:
                raise BodyError(Status.RINVOPTPARSTREAM, f"more than {self._context.tlv_limit} TLVs")
        except BodyError:
            sm = mend_delivered(self._context, upstream, raw, now)
        return sm

    def _one(self, upstream: UpstreamState, ticket: Ticket, sm: Sm, now: float, *, wait: bool) -> int:
        """One deliver_sm or data_sm: 1 if it was a receipt of a message in memory, else 0. ``wait``: it may wait a moment for
        the answer that it may have overtaken, and for its acknowledgement."""
        if sm.esm_class & (RECEIPT | INTERMEDIATE) or is_paired(sm):
            return self._receipt(upstream, ticket, sm, now, wait)
        if upstream.ids or upstream.may_be_row or upstream.reserved or upstream.seen:
            reading = resembles(sm)
            if reading is not None:
                return self._perhaps(upstream, ticket, sm, reading, now, wait)
        self._mo(upstream, ticket, sm)  # acknowledgements of a handset or its user among them
        return 0

    def _receipt(self, upstream: UpstreamState, ticket: Ticket, sm: Sm, now: float, wait: bool) -> int:
        """Handles a deliver_sm that is a receipt by its esm_class or its TLVs. From here on what it says is kept, even if
        the disk is full."""
        fingerprint = fingerprint_of(sm)
        reading = read_receipt(sm)
        if fingerprint in upstream.seen:
            return self._repeated(upstream, ticket, sm, reading, lambda: self._again(upstream, ticket))
        ids = reading.ids
        if not ids:
            return self._nameless(upstream, ticket, sm, reading, now)
        message = upstream.ids.get(ids[0])
        if (
            message is not None
            and upstream.matcher.settled is IdForm.RAW
            and (message.erased or message.reversed.startswith(sm.source_digits, 2))
            and ids[0] not in upstream.reused
        ):
            upstream.matcher.learn(IdForm.RAW)
        else:
            early = wait and upstream.reserved > 0
            message = find_message(upstream, reading, sm, sure=early or upstream.may_be_row)
            if message is None and not upstream.may_be_row and self.parking.alone:
                message = self.parking.unknown_message_of(upstream, sm, reading, now)
            if message is None and early and self._put_off(upstream, ticket, sm, ids[0], now):
                return 0
        if message is None:
            if self._erased.count > 0:
                self._park_unless_erased(upstream, ticket, sm, reading, fingerprint)
                return 0
            self.parking.park_receipt(upstream, sm, reading)
            self._note(upstream, fingerprint, 0)
        else:
            self._settle(upstream, message, sm, reading, fingerprint)
        self._context.store.batch.acks.append(ticket)
        return int(message is not None)

    def _park_unless_erased(
        self, upstream: UpstreamState, ticket: Ticket, sm: Sm, reading: Reading, fingerprint: int
    ) -> None:
        """Looks whether a receipt names a number that was erased, before it is parked; the acknowledgement waits for it."""

        def told(source: bool, destination: bool) -> None:
            try:
                if source or destination:
                    self.parking.park_bare(upstream, sm, reading, source, destination)
                else:
                    self.parking.park_receipt(upstream, sm, reading)
                self._note(upstream, fingerprint, 0)
                self._context.store.batch.acks.append(ticket)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._set_aside(upstream, ticket, sm.raw, error)
            self._context.store.kick()
            self._context.flush()

        self._erased.ask(sm, upstream.region, told)

    def _perhaps(
        self, upstream: UpstreamState, ticket: Ticket, sm: Sm, reading: Reading, now: float, wait: bool
    ) -> int:
        """Handles a deliver_sm that looks like a receipt and does not say so. It is one if it names a message that waits for
        a receipt, comes from that message's destination and goes to its source. Otherwise it is a subscriber's text."""
        if fingerprint_of(sm) in upstream.seen:
            return self._repeated(upstream, ticket, sm, reading, lambda: self._again(upstream, ticket))
        message = find_message(upstream, reading, sm, sure=True)
        if message is not None and (message.erased or addresses_swapped(sm, Sm(message.frame))):
            self._settle(upstream, message, sm, reading)
            self._context.store.batch.acks.append(ticket)
            return 1
        if wait and upstream.reserved:
            awaits = unanswered_between(upstream, sm) if len(upstream.early) < _PATIENT else None
            if self._put_off(upstream, ticket, sm, reading.ids[0], now, awaits):
                return 0
        if upstream.may_be_row:
            self._look(upstream, ticket, sm, reading, lambda: self._mo(upstream, ticket, sm), only_swapped=True)
        else:
            self._mo(upstream, ticket, sm)
        return 0

    def _repeated(
        self, upstream: UpstreamState, ticket: Ticket, sm: Sm, reading: Reading, otherwise: Callable[[], None]
    ) -> int:
        """The same receipt came before, octet for octet. The carrier sent it again; or it gave the same id to another
        message, which still waits."""
        before = upstream.seen[fingerprint_of(sm)]
        message = find_message(upstream, reading, sm, sure=True, but=before)
        if message is not None:
            self._settle(upstream, message, sm, reading)
            self._context.store.batch.acks.append(ticket)
            return 1
        if before and upstream.may_be_row and any(one in upstream.reused for one in reading.ids):
            self._look(upstream, ticket, sm, reading, otherwise)
        else:
            otherwise()
        return 0

    def _again(self, upstream: UpstreamState, ticket: Ticket) -> None:
        self._context.metrics.receipts.labels(upstream.name, "again").inc()
        self._context.store.batch.acks.append(ticket)

    def _nameless(self, upstream: UpstreamState, ticket: Ticket, sm: Sm, reading: Reading, now: float) -> int:
        """A receipt that names no id. If it says how a message ended, its addresses may fit an unknown one. Otherwise nobody
        can say which message it is about: it is counted and acknowledged, since the carrier knows no more."""
        state, clash = reported_state(upstream, sm, reading.receipt)
        message = self.parking.unknown_message_of(upstream, sm, reading, now) if state in _ENDS and not clash else None
        if message is not None:
            self._settle(upstream, message, sm, reading)
        else:
            self._context.metrics.receipts.labels(upstream.name, "unreadable").inc()
            self._context.log_counts.count(log_counts.UNREAD, upstream.name)
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
                but = upstream.seen.get(fingerprint_of(sm), 0)
                message = self.parking.message_of_rows(upstream, reading, sm, rows, but)
                if message is not None and (
                    not only_swapped or message.erased or addresses_swapped(sm, Sm(message.frame))
                ):
                    self._settle(upstream, message, sm, reading)
                    upstream.matched.inc()
                    self._context.store.batch.acks.append(ticket)
                else:
                    otherwise()
            except Exception as error:  # noqa: BLE001  the item's edge
                self._set_aside(upstream, ticket, sm.raw, error)
            self._context.store.kick()
            self._context.flush()

        self.parking.find_rows(upstream, row_keys(upstream, reading), found)

    # -- a moment's wait -----------------------------------------------------------------------------------------------

    def _put_off(
        self, upstream: UpstreamState, ticket: Ticket, sm: Sm, name: bytes, now: float, awaits: Message | None = None
    ) -> bool:
        if upstream.early_octets + len(sm.raw) > EARLY_OCTETS:
            return False
        link, command, sequence = ticket
        upstream.put_off(name, Early(link, command, sequence, sm, now, awaits, now + PATIENCE))
        return True

    def settle_early(self, now: float, most: float = EARLY) -> None:
        """Handles early receipts that have waited long enough for the answer to their submit. Call often."""
        for upstream in self._context.upstreams.values():
            due = []
            for key, waiting in upstream.early.items():  # those that have waited longest come first
                if now - waiting[0].since < most:
                    break
                due.append(key)
            for key in due:
                waiting = upstream.take_early(key)
                longer = [one._replace(since=now) for one in waiting if most > 0.0 and one.still_waits(now)]
                if longer:
                    upstream.put_off_longer(key, longer)
                self._overtaken(upstream, [one for one in waiting if most <= 0.0 or not one.still_waits(now)], now)
            if due:
                self._context.store.kick()

    def _overtaken(self, upstream: UpstreamState, waiting: list[Early], now: float) -> None:
        """Handles receipts that had to wait; they are acknowledged with the batch."""
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
        """A PDU that could not be handled is kept among the damaged items, and acknowledged: otherwise its carrier would
        send it again for ever."""
        self._context.guard.keep_frame(DELIVER, error, upstream, raw)
        for waiting in upstream.early.values():
            if any(early[:3] == ticket for early in waiting):  # it is acknowledged when its wait is over
                return
        acks = self._context.store.batch.acks
        if not acks or acks[-1] != ticket:
            acks.append(ticket)

    def batch_committed(self, acks: list[Any]) -> None:
        """What these PDUs brought is durable: they are acknowledged."""
        for link, command, sequence in acks:
            try:
                self._context.answer(link, id_response(command, sequence, b""))
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(COMMIT, error)

    def batch_refused(self, acks: list[Any]) -> None:
        """What these PDUs brought was not stored: the carrier has to send them again."""
        for link, command, sequence in acks:
            try:
                self._context.answer(link, refusal(command, Status.RMSGQFUL, sequence))
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(COMMIT, error)

    # -- receipts ------------------------------------------------------------------------------------------------------

    def _note(self, upstream: UpstreamState, fingerprint: int, identity: int) -> None:
        seen = upstream.seen
        seen[fingerprint] = identity
        if len(seen) > SEEN:
            seen.popitem(last=False)

    def _settle(
        self, upstream: UpstreamState, message: Message, sm: Sm, reading: Reading, fingerprint: int | None = None
    ) -> None:
        """Passes a receipt on, and ends its message if the receipt is final. The frame for the customer is made first: if
        that fails, nothing has happened yet."""
        context = self._context
        receipt = reading.receipt
        state, clash = reported_state(upstream, sm, receipt)
        last = sm.esm_class & MESSAGE_TYPE != INTERMEDIATE
        ends = state in _ENDS
        final = last and ends and not clash
        # The receipt contradicts itself, or has a word of the carrier's own: it may be the last receipt, or not.
        word = clash or (ends and not last) or (last and state is None)
        unknown = last and state is MessageState.UNKNOWN and not clash
        if word:
            wanted = message.wants_any
        elif final:
            wanted = message.wants_success if state is MessageState.DELIVERED else message.wants_failure
        elif unknown:
            wanted = message.wants_failure and not message.reported & TOLD_UNKNOWN
        else:
            wanted = message.wants_intermediate
        frame = b""
        if wanted and not message.erased:  # else one of our own is passed on, which says nothing of a number or a text
            try:
                frame = rewritten_receipt(message, sm, reading)
            except Exception as error:  # noqa: BLE001  the item's edge
                # What the carrier wrote cannot be passed on. A receipt of our own with the same meaning can.
                context.guard.keep_frame(RECEIPT_PLACE, error, upstream, sm.raw)
        if state is None:
            self._own_word(upstream, receipt)
        self._latest = id_time(message.id)
        code = 0
        if receipt is not None and receipt.err.isdigit():
            code = int(receipt.err[:9])
        context.append_event(
            message.id,
            _OURS[state] if state is not None else State.UNKNOWN,
            error=code,
            duplicate=message.duplicate,
            detail=upstream.detail + message.named_in_log(message.upstream_id),
        )
        if frame:
            self._mailroom.post_mail(message.account, frame, message.id)
        elif wanted and (final or unknown or word or (last and state is MessageState.ACCEPTED)):
            # A contradiction, or a word of the carrier's own: the state is not known.
            told = _OURS[state] if state is not None and not word else State.UNKNOWN
            try:
                self._mailroom.post_receipt(message, told, code)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.caught(RECEIPT_PLACE, error, owner=message.account.name, identity=message.id)
        self._note(upstream, fingerprint_of(sm) if fingerprint is None else fingerprint, message.id)
        if final:
            assert state is not None, "a final receipt has a state"
            upstream.ended[state] = upstream.ended.get(state, 0) + 1
            context.phases.move(message, Phase.DONE)
            context.ledger.close(message)
            ear = message.account.ear
            if ear is not None:
                self._hear(ear, message, state is MessageState.DELIVERED)
        elif unknown:
            self._tell(message, TOLD_UNKNOWN)
        elif word or (last and state is MessageState.ACCEPTED):
            self._tell(message, TOLD_WORD if wanted else HEARD_ACCEPTED if state is MessageState.ACCEPTED else 0)

    def _hear(self, ear: Ear, message: Message, delivered: bool) -> None:
        """Tells a screen how a message ended. An error there is none of the receipt's."""
        context = self._context
        try:
            digits = message.destination_digits
            if digits and not message.erased:
                seconds = max(0.0, context.wall() - message.accepted_at)
                ear.ended(digits, message.reversed[0], delivered, seconds, context.now())
        except Exception as error:  # noqa: BLE001  the item's edge
            context.guard.caught(RECEIPT_PLACE, error, owner=message.account.name, identity=message.id)

    def _own_word(self, upstream: UpstreamState, receipt: Receipt | None) -> None:
        """Counts a stat that nobody knows, or a missing one, by its kind; the log names each kind once. The word itself is
        never logged, since the peer chose it."""
        stat = receipt.stat if receipt is not None else b""
        kind = "none" if not stat else "digits" if stat.isdigit() else "letters" if stat.isalpha() else "other"
        self._context.metrics.receipt_words.labels(upstream.name, kind).inc()
        if kind not in upstream.own_words:
            upstream.own_words.add(kind)
            fields = {"upstream": upstream.name, "kind": kind, "octets": len(stat)}
            log.warning("receipt with a state that is not known", extra={"fields": fields})

    def _tell(self, message: Message, flag: int) -> None:
        """Notes in the message what its carrier has reported, where that is not the end or may not be: UNKNOWN is the last
        word of some carriers and a passing state of others (SMPP 3.4 section 5.2.28). Another receipt may follow for 72
        hours. At the end of that time the note decides what the sender is told."""
        context = self._context
        if message.reported & flag == flag:
            return
        message.reported |= flag
        if message.home:
            context.ledger.rewrite(message)
        elif message.cold is not None:
            row = ColdRow(*message.cold, message.id, int(context.wall()) + PARK, write_message(message))
            context.ledger.rewrite_row(message, row)

    def upstream_id_known(self, message: Message) -> None:
        """A message has just got its upstream id. Receipts for it may be waiting."""
        upstream = message.upstream
        assert upstream is not None
        if upstream.early:
            early = upstream.take_early(message.upstream_id)
            if early:
                self._overtaken(upstream, early, self._context.now())
        if upstream.parked:
            self.parking.upstream_id_known(message)

    # -- MO ------------------------------------------------------------------------------------------------------------

    def _mo(self, upstream: UpstreamState, ticket: Ticket, sm: Sm) -> None:
        """Handles a message from a handset. It is refused where no account owns its destination, or where its text has no
        form in the owner's alphabet."""
        context = self._context
        name = self.owners.owner_of(sm.destination_digits, sm, upstream.region, upstream.alphabet)
        account = context.accounts.get(name) if name else None
        if account is None and self._word_without_owner(upstream, sm):
            context.metrics.mo.labels(upstream.name, "opt-out").inc()
            context.store.batch.acks.append(ticket)
            return
        if account is None:
            context.metrics.mo.labels(upstream.name, "no owner").inc()
            numbers = {"from": masked(sm.source_digits), "to": masked(sm.destination_digits)}
            context.notices.note("MO message without an owner", {"upstream": upstream.name, **numbers}, context.now())
            self._refuse(ticket)
            return
        original = self._replies.stands_for(account, sm, upstream.region)
        if original is None and self._replies.restores(account):
            self._ask_whom(upstream, ticket, sm, account)
            return
        self._pass_mo(upstream, ticket, sm, account, original)

    def _ask_whom(self, upstream: UpstreamState, ticket: Ticket, sm: Sm, account: Account) -> None:
        """Looks which sender of the account a handset replies to, before its text is passed on; the acknowledgement waits
        for it."""

        def found(original: bytes | None) -> None:
            try:
                self._pass_mo(upstream, ticket, sm, account, original)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._set_aside(upstream, ticket, sm.raw, error)
            self._context.store.kick()
            self._context.flush()

        self._replies.find(account, sm, upstream.region or account.region, found)

    def _pass_mo(
        self, upstream: UpstreamState, ticket: Ticket, sm: Sm, account: Account, original: bytes | None
    ) -> None:
        """Passes a text from a handset on. ``original``: the address field of the sender that its customer used, where the
        handset replies to what was put in its place."""
        context = self._context
        came = sm  # STOP ends what comes from the number that the handset knows
        if original is not None:
            sm = Sm(splice(sm, destination=original))
        frame = self._incoming(sm, account, upstream)
        if frame is None:
            context.metrics.text_refused.labels(account.name, "MO").inc()
            context.metrics.mo.labels(upstream.name, "no letters").inc()
            context.log_counts.count(log_counts.UNSAYABLE, account.name)
            self._refuse(ticket)
            return
        identity = context.new_id()
        # The record has it as its owner gets it, since the log is read in the owner's alphabet.
        recorded = sm if frame is sm.raw else Sm(frame)
        self._recorder.record(identity, account, recorded, Direction.MO, b"", upstream.region)
        context.append_event(identity, State.ACCEPTED, detail=upstream.detail)
        self._mailroom.post_mail(account, frame, identity, kept=False)
        self._opt_outs.hear(account, upstream, came, identity)
        self._others_stop(account, upstream, came)
        context.metrics.mo.labels(upstream.name, "passed on").inc()
        context.store.batch.acks.append(ticket)

    def _word_without_owner(self, upstream: UpstreamState, sm: Sm) -> bool:
        """A word to a number that several accounts share, without a keyword that says which of them is meant, is said to all of
        them, and the first that has an answer gives it. Whether it was that."""
        was = answered = False
        for name in self.owners.sharing(sm.destination_digits, sm, upstream.region):
            account = self._context.accounts.get(name)
            if account is not None and self._opt_outs.meaning(account, upstream, sm) is not None:
                was = True
                answered = self._opt_outs.hear(account, upstream, sm, 0, answers=not answered) or answered
        return was

    def _others_stop(self, owner: Account, upstream: UpstreamState, sm: Sm) -> None:
        """The same where one of them gets all that names no keyword. A word behind somebody's keyword is said to him alone, and
        HELP to whom gets it."""
        names = self.owners.sharing(sm.destination_digits, sm, upstream.region)
        if len(names) < 2:
            return
        for name in names:
            account = self._context.accounts.get(name)
            if account is None or account is owner:
                continue
            if self._opt_outs.meaning(account, upstream, sm) not in (None, Meaning.HELP):
                self._opt_outs.hear(account, upstream, sm, 0, answers=False)

    def _incoming(self, sm: Sm, account: Account, upstream: UpstreamState) -> bytes | None:
        """The frame of an MO message in its owner's alphabet. Letters that it lacks become question marks, since a person
        waits for an answer and any text is better than none. None only where even that has no room."""
        if upstream.alphabet is account.alphabet:
            return sm.raw
        old = account.settings.interface_versions == ("3.3",) or any(one.version < 0x34 for one in account.sessions)
        made = exchange_alphabets(sm, upstream.alphabet, account.alphabet, payloads=not old, lossy=True)
        if made is None:
            return None
        if made.nearest:
            self._context.metrics.text_nearest.labels(account.name, "MO").inc()
            self._context.log_counts.count(log_counts.NEAREST, account.name)
        return made.frame

    # -- time ----------------------------------------------------------------------------------------------------------

    def expired_rows(self, rows: list[ColdRow]) -> None:
        """Ends cold messages whose last receipt never came. Their sender is told what is known. A row that cannot be read is
        set aside."""
        context = self._context
        for row in rows:
            upstream = context.upstream(row.owner)
            if row.shared:
                upstream.claimed()
            try:
                message = restored_waiting(context, row)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.set_waiting_row_aside(row, error)
                continue
            try:
                self._overdue(message, upstream)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.set_message_aside(ROWS, error, message)

    def _overdue(self, message: Message, upstream: UpstreamState) -> None:
        """Ends a message that its carrier took and whose end was never reported. A sender who was told UNKNOWN, or a word of
        the carrier's own, is told nothing more. Otherwise he is told ACCEPTD where that was the carrier's last word, and
        UNKNOWN where it was not."""
        context = self._context
        context.phases.move(message, Phase.DONE)
        context.ledger.close(message)
        context.store.kick()
        if message.reported & (TOLD_UNKNOWN | TOLD_WORD):
            return
        state = State.ACCEPTED if message.reported & HEARD_ACCEPTED else State.UNKNOWN
        if state is State.UNKNOWN:
            context.log_counts.count(log_counts.SILENT, upstream.name)
        detail = upstream.detail + message.named_in_log(message.upstream_id)
        context.append_event(message.id, state, duplicate=message.duplicate, detail=detail)
        # registered_delivery 2 asks for receipts of failure only.
        if message.wants_success:
            self._mailroom.post_receipt(message, state, 0)
