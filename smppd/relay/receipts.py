"""What carriers deliver: receipts are matched to their messages and passed on under the customer's id, MO messages go to the
account that owns the number. A carrier is acknowledged when, and only when, what it brought is durable.
"""

from __future__ import annotations

from typing import Any, Final

from smppd.message import State
from smppd.protocol.receipt import MessageState, Receipt, parse, splice as splice_text, write
from smppd.protocol.text import TextError, convert
from smppd.protocol.wire import BodyError, Command, Sm, Status, Tag, id_response, refusal, splice
from smppd.relay.context import Context
from smppd.relay.ids import id_time
from smppd.relay.journal import Entry, mark
from smppd.relay.mailbox import Mailroom
from smppd.relay.model import Account, Message, Parked, Peer, Phase, UpstreamState
from smppd.relay.dispatch import Dispatch
from smppd.relay.owners import Owners
from smppd.relay.submit import Recorder
from smppd.store.api import ColdRow, Kind
from smppd.vault.seal import Direction

_RECEIPT_BITS: Final = 0x3C  # message type bits of esm_class, SMPP 3.4 section 5.2.12
_RECEIPT: Final = 0x04
_INTERMEDIATE: Final = 0x20
PARK: Final = 72 * 3600


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

    def take(self, upstream: UpstreamState, link: Peer, frames: list[bytes], now: float) -> None:
        """The deliver_sm and data_sm of one chunk."""
        context = self._context
        acks = context.store.batch.acks
        matched = 0
        missed: list[tuple[Sm, Receipt | None, bytes]] = []
        for raw in frames:
            command = raw[7] | raw[6] << 8
            sequence = int.from_bytes(raw[12:16], "big")
            try:
                sm = Sm(raw)
                if sm.at_tlvs != len(raw):
                    sm.tlvs  # noqa: B018  a broken stream raises
                kind = sm.esm_class & _RECEIPT_BITS
                if kind == 0:
                    if not self._mo(upstream, sm):
                        self._answer(link, refusal(command, Status.RX_P_APPN, sequence))
                        continue
                elif kind == _RECEIPT or kind == _INTERMEDIATE:
                    given = sm.tlv(Tag.RECEIPTED_MESSAGE_ID)
                    receipt = parse(sm.short_message or sm.body)
                    raw_id = given.rstrip(b"\0") if given else (receipt.id if receipt is not None else b"")
                    if not raw_id:
                        context.metrics.receipts.labels(upstream.name, "unreadable").inc()
                    else:
                        message = self._find(upstream, raw_id, receipt)
                        if message is not None:
                            matched += 1
                            self._settle(upstream, message, sm, receipt)
                        else:
                            missed.append((sm, receipt, raw_id))
                else:
                    context.metrics.mo.labels(upstream.name, "unsupported").inc()
            except BodyError as error:
                link.session.bad_body(now)
                self._answer(link, refusal(command, error.status, sequence))
                continue
            acks.append((link, command, sequence))
        if matched:
            upstream.matched.inc(matched)
        for sm, receipt, raw_id in missed:
            self._missed(upstream, sm, receipt, raw_id)
        context.store.kick()

    def _answer(self, link: Peer, response: bytes) -> None:
        link.session.out.append(response)
        link.session.answered()
        self._context.dirty[link] = None

    def stored(self, acks: list[Any]) -> None:
        """What these brought is durable: the carrier may forget it."""
        dirty = self._context.dirty
        for link, command, sequence in acks:
            link.session.out.append(id_response(command, sequence, b""))
            link.session.unanswered -= 1
            dirty[link] = None

    def lost(self, acks: list[Any]) -> None:
        """It was not stored: the carrier has to bring it again."""
        for link, command, sequence in acks:
            self._answer(link, refusal(command, Status.RMSGQFUL, sequence))

    # -- receipts ------------------------------------------------------------------------------------------------------

    def _find(self, upstream: UpstreamState, raw_id: bytes, receipt: Receipt | None) -> Message | None:
        message = upstream.matcher.find(raw_id, upstream.ids)
        if message is None and receipt is not None and receipt.id and receipt.id != raw_id:
            message = upstream.matcher.find(receipt.id, upstream.ids)
        return message

    def _state(self, sm: Sm, receipt: Receipt | None) -> MessageState | None:
        given = sm.tlv(Tag.MESSAGE_STATE)
        if given:
            try:
                return MessageState(given[0])
            except ValueError:
                return None
        return receipt.state if receipt is not None else None

    def _settle(self, upstream: UpstreamState, message: Message, sm: Sm, receipt: Receipt | None) -> None:
        """Passes a receipt on and ends the message if it is final."""
        context = self._context
        batch = context.store.batch
        state = self._state(sm, receipt)
        final = sm.esm_class & _RECEIPT_BITS != _INTERMEDIATE and (
            state is None or state.is_final or state is MessageState.UNKNOWN
        )
        error = 0
        if receipt is not None and receipt.err.isdigit():
            error = int(receipt.err[:9])
        context.event(
            message.id,
            State(int(state)) if state is not None else State.UNKNOWN,
            error=error,
            detail=upstream.detail + message.upstream_id,
        )
        if final:
            if state is MessageState.DELIVERED or state is MessageState.ACCEPTED:
                wanted = message.wants_success
            else:
                wanted = message.wants_failure
        else:
            wanted = bool(message.registered & 0x10)
        if wanted:
            self._mailroom.post(message.account, self._rewrite(message, sm, receipt, state), message.id)
        if final:
            message.phase = Phase.DONE
            upstream.ids.pop(message.upstream_id, None)
            if message.home:
                batch.marks.append(mark(Entry.DONE, message.id))
                context.journal.remove(message)
            elif message.cold is not None:
                kind, owner, key = message.cold
                batch.drop.append((kind, owner, key, message.id))
                upstream.cold_waiting -= 1

    def _rewrite(self, message: Message, sm: Sm, receipt: Receipt | None, state: MessageState | None) -> bytes:
        """The carrier's receipt as our customer knows the message: our id in text and TLV, its own addresses, swapped."""
        own = Sm(message.frame)
        replace: dict[int, bytes] = {}
        if sm.at_tlvs != len(sm.raw):
            replace[Tag.RECEIPTED_MESSAGE_ID] = message.shown + b"\0"
        text = sm.short_message
        if receipt is not None and text:
            new = splice_text(text, message.shown)
            if new == text and receipt.id != message.shown:
                # Its id could not be exchanged in place: what it says is said anew rather than leaking the carrier's id.
                new = write(
                    message.shown,
                    state if state is not None else MessageState.UNKNOWN,
                    submitted=int(id_time(message.id)),
                    done=int(self._context.wall()),
                    err=receipt.err or b"000",
                )
            text = new
        elif receipt is not None:
            payload = sm.tlv(Tag.MESSAGE_PAYLOAD)
            if payload:
                replace[Tag.MESSAGE_PAYLOAD] = splice_text(payload, message.shown, 65535)
        source = message.reply_to if message.reply_to is not None else own.source_field
        return splice(sm, source=own.destination_field, destination=source, short_message=text, replace=replace or None)

    def _missed(self, upstream: UpstreamState, sm: Sm, receipt: Receipt | None, raw_id: bytes) -> None:
        """Not in memory: an older message's, one that is not known yet, or nobody's."""
        keys = {raw_id: None}
        for candidate in (raw_id, receipt.id if receipt is not None else b""):
            if candidate:
                keys.update(dict.fromkeys(key for _, key in upstream.matcher.candidates(candidate)))
        if upstream.cold_waiting > 0:
            self._context.store.find(
                Kind.WAITING,
                upstream.name,
                list(keys),
                lambda rows: self._found(upstream, sm, receipt, tuple(keys), rows),
            )
            # Kept first, looked up second: the acknowledgement does not wait for the search.
        self._park(upstream, sm, tuple(keys))

    def _park(self, upstream: UpstreamState, sm: Sm, keys: tuple[bytes, ...]) -> Parked:
        context = self._context
        parked = Parked(context.new_id(), upstream, keys, sm.raw, int(context.wall()) + PARK)
        context.store.batch.accepts.append(parked.entry())
        context.journal.add(parked)
        for key in keys:
            upstream.parked[key] = parked
        context.metrics.receipts.labels(upstream.name, "parked").inc()
        return parked

    def _unpark(self, upstream: UpstreamState, parked: Parked) -> None:
        context = self._context
        for key in parked.keys:
            if upstream.parked.get(key) is parked:
                del upstream.parked[key]
        if parked.home:
            context.store.batch.marks.append(mark(Entry.PARK_DONE, parked.id))
            context.journal.remove(parked)
        context.store.kick()

    def _found(
        self, upstream: UpstreamState, sm: Sm, receipt: Receipt | None, keys: tuple[bytes, ...], rows: list[ColdRow]
    ) -> None:
        if not rows:
            return
        parked = next((upstream.parked[key] for key in keys if key in upstream.parked), None)
        if parked is None or parked.frame != sm.raw:
            return
        rank = {key: place for place, key in enumerate(keys)}
        row = min(rows, key=lambda one: rank.get(one.key, len(rank)))
        message = self._dispatch.revive(row.id, row.data)
        message.cold = (row.kind, row.owner, row.key)
        message.upstream_id = row.key
        message.phase = Phase.SUBMITTED
        self._settle(upstream, message, sm, receipt)
        self._unpark(upstream, parked)
        upstream.matched.inc()
        self._context.flush()

    def known(self, message: Message) -> None:
        """An upstream id has just become known: a receipt for it may be waiting."""
        upstream = message.upstream
        if upstream is None:
            return
        parked = upstream.parked.get(message.upstream_id)
        if parked is None:
            return
        self._unpark(upstream, parked)
        sm = Sm(parked.frame)
        receipt = parse(sm.short_message or sm.body)
        upstream.matched.inc()
        self._settle(upstream, message, sm, receipt)

    # -- MO ------------------------------------------------------------------------------------------------------------

    def _mo(self, upstream: UpstreamState, sm: Sm) -> bool:
        """A message from a handset; False when nobody here owns its destination."""
        context = self._context
        name = self.owners.owner(sm.destination_digits, sm)
        account = context.accounts.get(name) if name else None
        if account is None:
            context.metrics.mo.labels(upstream.name, "no owner").inc()
            return False
        identity = context.new_id()
        self._recorder.record(identity, account, sm, Direction.MO, b"")
        context.event(identity, State.ACCEPTED, detail=upstream.detail)
        self._mailroom.post(account, self._incoming(sm, account, upstream), identity)
        context.metrics.mo.labels(upstream.name, "passed on").inc()
        return True

    def _incoming(self, sm: Sm, account: Account, upstream: UpstreamState) -> bytes:
        frame = sm.raw
        if sm.data_coding == 0 and account.alphabet is not upstream.alphabet and sm.short_message:
            head = sm.short_message[0] + 1 if sm.esm_class & 0x40 else 0
            try:
                body = convert(sm.short_message[head:], 0, upstream.alphabet, account.alphabet)
                if head + len(body) <= 254:
                    frame = splice(sm, short_message=sm.short_message[:head] + body)
            except TextError:
                frame = sm.raw
        if sm.command == Command.DATA_SM:
            return frame
        return frame

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Once a second: parked receipts whose message never turned up."""
        context = self._context
        wall = context.wall()
        for upstream in context.upstreams.values():
            while upstream.parked:
                parked = next(iter(upstream.parked.values()))
                if parked.expires > wall:
                    break
                self._unpark(upstream, parked)
                context.metrics.receipts.labels(upstream.name, "unmatched").inc()

    def expired_rows(self, rows: list[ColdRow]) -> None:
        """Cold messages whose receipt never came: their fate is unknown, and their sender is told so."""
        for row in rows:
            upstream = self._context.upstreams.get(row.owner)
            message = self._dispatch.revive(row.id, row.data)
            message.cold = (row.kind, row.owner, row.key)
            self.overdue(message, upstream)

    def overdue(self, message: Message, upstream: UpstreamState | None) -> None:
        """Ends a message that was accepted upstream and never reported on."""
        context = self._context
        message.phase = Phase.DONE
        context.event(message.id, State.UNKNOWN, detail=upstream.detail if upstream is not None else b"")
        if message.home:
            context.store.batch.marks.append(mark(Entry.DONE, message.id))
            context.journal.remove(message)
        elif message.cold is not None:
            kind, owner, key = message.cold
            context.store.batch.drop.append((kind, owner, key, message.id))
            if upstream is not None:
                upstream.cold_waiting -= 1
        # registered_delivery 2 means "tell me of failure only": silence was success.
        if message.wants_success:
            self._mailroom.receipt(message, State.UNKNOWN, 0)
        context.store.kick()
