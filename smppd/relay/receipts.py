"""What carriers deliver: receipts are matched to their messages and passed on under the customer's id, MO messages go to the
account that owns the number. A carrier is acknowledged when, and only when, what it brought is durable.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Final

from smppd.message import State
from smppd.protocol.receipt import IdForm, MessageState, Receipt
from smppd.protocol.wire import BodyError, Sm, Status, Tag, id_response, refusal
from smppd.relay import tally
from smppd.relay.alphabets import exchange
from smppd.relay.context import Context
from smppd.relay.dispatch import Dispatch
from smppd.relay.guard import COMMIT, DELIVER, RECEIPT, SPILL, START
from smppd.relay.ids import id_time
from smppd.relay.journal import Entry, mark
from smppd.relay.mailbox import Mailroom
from smppd.relay.matching import agree as _agree
from smppd.relay.matching import read as _read
from smppd.relay.model import Account, Early, Message, Peer, Phase, UpstreamState
from smppd.relay.owners import Owners
from smppd.relay.passing import rewritten
from smppd.relay.post import Parked
from smppd.relay.submit import Recorder
from smppd.store.api import ColdRow, Kind
from smppd.vault.seal import Direction

_RECEIPT_BITS: Final = 0x3C  # message type bits of esm_class, SMPP 3.4 section 5.2.12
_RECEIPT: Final = 0x04
_INTERMEDIATE: Final = 0x20
PARK: Final = 72 * 3600
# Seconds for which a receipt may wait in memory, unacknowledged, for an answer that it overtook.
EARLY: Final = 0.05
_BY_VALUE: Final = {int(state): state for state in MessageState}
_OURS: Final = {state: State(int(state)) for state in MessageState}
_ENDS: Final = frozenset(state for state in MessageState if state.is_final)
# Receipts nobody knows a message for, of one upstream: at the limit the oldest is given up, visibly.
PARKED: Final = 100_000
# Receipts of one upstream that need no second look when the carrier brings them again.
SEEN: Final = 20_000
# How many parked receipts are looked through for a message that has just become unknown.
_LOOK_BACK: Final = 1000


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
        self._latest = 0.0

    def take(self, upstream: UpstreamState, link: Peer, frames: list[bytes], now: float) -> None:
        """The deliver_sm and data_sm of one chunk."""
        context = self._context
        acks = context.store.batch.acks
        matched = 0
        for raw in frames:
            command = raw[7] | raw[6] << 8
            sequence = int.from_bytes(raw[12:16], "big")
            try:
                sm = Sm(raw)
                if sm.at_tlvs != len(raw) and len(sm.tlvs) > context.tlvs:
                    raise BodyError(Status.RINVOPTPARSTREAM, f"more than {context.tlvs} TLVs")
                if sm.esm_class & (_RECEIPT | _INTERMEDIATE):
                    outcome = self._receipt(upstream, sm, now, link)
                    if outcome is None:
                        continue
                    matched += outcome
                elif not self._mo(upstream, sm):  # acknowledgements of a handset or its user among them
                    self._answer(link, refusal(command, Status.RX_P_APPN, sequence))
                    continue
            except BodyError as error:
                link.session.bad_body(now)
                self._answer(link, refusal(command, error.status, sequence))
                continue
            except Exception as error:  # noqa: BLE001  the item's edge
                # Kept for somebody to look at, so it may be acknowledged: its carrier would bring it for ever.
                context.guard.frame(DELIVER, error, upstream, raw)
            acks.append((link, command, sequence))
        if matched:
            upstream.matched.inc(matched)
            # One observation a chunk: the age of its last message, so that no clock is asked for each.
            upstream.receipt_age.observe(max(0.0, context.wall() - self._latest))
        context.store.nudge()

    def _receipt(self, upstream: UpstreamState, sm: Sm, now: float, link: Peer | None) -> int | None:
        """One receipt: 1 if it was for a message in memory, else 0; None if it waits a moment for its message to be known,
        and for its acknowledgement. What it brings is kept from here on, space or not."""
        metrics = self._context.metrics
        seen = upstream.seen
        mark_of = hash(sm.raw[16:])
        if mark_of in seen:
            metrics.receipts.labels(upstream.name, "again").inc()
            return 0
        raw_id, receipt = _read(sm)
        if not raw_id:
            metrics.receipts.labels(upstream.name, "unreadable").inc()
            return 0
        message = self._find(upstream, raw_id, receipt, sm)
        if message is None and not upstream.cold_waiting:
            message = self._unknown(upstream, sm, raw_id, now)
        if message is not None:
            self._settle(upstream, message, sm, receipt)
        elif link is not None and upstream.reserved:
            early = Early(link, sm.command, sm.sequence, sm, now)
            upstream.early.setdefault(raw_id, []).append(early)
            return None
        else:
            self._missed(upstream, sm, receipt, raw_id)
        seen[mark_of] = None
        if len(seen) > SEEN:
            seen.popitem(last=False)
        return int(message is not None)

    def moment(self, now: float, most: float = EARLY) -> None:
        """Receipts that waited long enough for an answer to come are kept as what they are: early. Call often."""
        for upstream in self._context.upstreams.values():
            if not upstream.early:
                continue
            due = [key for key, waiting in upstream.early.items() if now - waiting[0].since >= most]
            for key in due:
                self._overtaken(upstream, upstream.early.pop(key), now)
            if due:
                self._context.store.kick()

    def _overtaken(self, upstream: UpstreamState, waiting: list[Early], now: float) -> None:
        """Handles receipts that had to wait, and lets their carrier be acknowledged."""
        matched = 0
        for early in waiting:
            try:
                matched += self._receipt(upstream, early.sm, now, None) or 0
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.frame(DELIVER, error, upstream, early.sm.raw)
            self._context.store.batch.acks.append((early.link, early.command, early.sequence))
        if matched:
            upstream.matched.inc(matched)

    def _answer(self, link: Peer, response: bytes) -> None:
        link.session.out.append(response)
        link.session.answered()
        self._context.dirty[link] = None

    def stored(self, acks: list[Any]) -> None:
        """What these brought is durable: the carrier may forget it."""
        dirty = self._context.dirty
        for link, command, sequence in acks:
            try:
                link.session.out.append(id_response(command, sequence, b""))
                link.session.unanswered -= 1
                dirty[link] = None
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(COMMIT, error)

    def lost(self, acks: list[Any]) -> None:
        """It was not stored: the carrier has to bring it again."""
        for link, command, sequence in acks:
            try:
                self._answer(link, refusal(command, Status.RMSGQFUL, sequence))
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(COMMIT, error)

    # -- receipts ------------------------------------------------------------------------------------------------------

    def _find(self, upstream: UpstreamState, raw_id: bytes, receipt: Receipt | None, sm: Sm) -> Message | None:
        """The message in memory that a receipt is about: by the TLV's id, then by the text's, each as it came and in the
        forms this upstream is known to use. Another form than the id itself is believed only if the addresses agree too:
        decimal 16 is hexadecimal 10, and either may be somebody else's."""
        matcher, ids, reused = upstream.matcher, upstream.ids, upstream.reused
        message = ids.get(raw_id)
        if message is not None and matcher.settled is IdForm.RAW and raw_id not in reused:
            matcher.learn(IdForm.RAW)
            return message
        named = receipt.id if receipt is not None else raw_id
        for one in (raw_id,) if named == raw_id or not named else (raw_id, named):
            for form, key in matcher.candidates(one):
                message = ids.get(key)
                sure = form is IdForm.RAW and key not in reused
                if message is not None and (sure or _agree(sm, Sm(message.frame))):
                    matcher.learn(form)
                    return message
        return None

    def _unknown(self, upstream: UpstreamState, sm: Sm, raw_id: bytes, now: float) -> Message | None:
        """A receipt under an id never seen settles the one unknown message that its addresses fit, if it is only one: that
        message was taken after all, and this is what the carrier calls it."""
        if not upstream.unknown:
            return None
        fits = [m for m in upstream.unknown.values() if _agree(sm, Sm(m.frame))]
        if len(fits) != 1:
            return None
        for other in upstream.retried.values():
            if (
                other.phase not in (Phase.SUBMITTED, Phase.DONE)
                and other is not fits[0]
                and _agree(sm, Sm(other.frame))
            ):
                return None  # this may be about its first attempt
        for link in upstream.links:
            for entry in link.session.outstanding.values():
                if isinstance(entry.token, Message) and _agree(sm, Sm(entry.token.frame)):
                    return None  # its answer is still to come, and may bring this id
        message = fits[0]
        del upstream.unknown[message.id]
        self._dispatch.taken(upstream, message, raw_id, now)
        if message.phase is Phase.DONE:
            return None  # nobody asked for its receipt
        return message

    def unsure(self, upstream: UpstreamState, now: float) -> None:
        """Messages became unknown: the receipt of one may have come before."""
        for parked in list(islice(reversed(upstream.parked.values()), _LOOK_BACK)):
            try:
                sm = Sm(parked.frame)
                oldest = min((message.id for message in upstream.unknown.values()), default=parked.id)
                if oldest >= parked.id:
                    return  # from here on all came before any of them was sent
                message = self._unknown(upstream, sm, parked.keys[0], now)
                if message is not None and not parked.done:
                    self._unpark(upstream, parked)
                    self._settle(upstream, message, sm, _read(sm)[1])
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(RECEIPT, error, owner=upstream.name, identity=parked.id)

    def _state(self, sm: Sm, receipt: Receipt | None) -> MessageState | None:
        given = sm.tlv(Tag.MESSAGE_STATE)
        if given:
            return _BY_VALUE.get(given[0])
        return receipt.state if receipt is not None else None

    def _settle(self, upstream: UpstreamState, message: Message, sm: Sm, receipt: Receipt | None) -> None:
        """Passes a receipt on and ends the message if it is final."""
        context = self._context
        batch = context.store.batch
        self._latest = id_time(message.id)
        state = self._state(sm, receipt)
        last = sm.esm_class & _RECEIPT_BITS != _INTERMEDIATE
        final = last and (state is None or state in _ENDS)
        unknown = last and state is MessageState.UNKNOWN
        error_code = 0
        if receipt is not None and receipt.err.isdigit():
            error_code = int(receipt.err[:9])
        context.event(
            message.id,
            _OURS[state] if state is not None else State.UNKNOWN,
            error=error_code,
            duplicate=message.duplicate,
            detail=upstream.detail + message.upstream_id,
        )
        if final:
            if state is MessageState.DELIVERED or state is MessageState.ACCEPTED:
                wanted = message.wants_success
            else:
                wanted = message.wants_failure
        elif unknown:
            wanted = message.wants_failure and not message.told
        else:
            wanted = bool(message.registered & 0x10)
        if wanted:
            try:
                frame = rewritten(message, sm, receipt, state, context.wall())
            except Exception as error:  # noqa: BLE001  the item's edge
                # What the carrier wrote cannot be passed on as it is: its meaning can.
                context.guard.frame(RECEIPT, error, upstream, sm.raw)
                if final or unknown:
                    told = _OURS[state] if state is not None else State.UNKNOWN
                    self._mailroom.receipt(message, told, error_code)
            else:
                self._mailroom.post(message.account, frame, message.id)
        if unknown and not message.told:
            self._reported_unknown(message)
        if final:
            message.phase = Phase.DONE
            if upstream.ids.get(message.upstream_id) is message:
                del upstream.ids[message.upstream_id]
            if message.home:
                batch.marks.append(mark(Entry.DONE, message.id))
                context.journal.remove(message)
            elif message.cold is not None:
                context.drop(*message.cold, message.id)
                upstream.cold_waiting -= 1

    def _reported_unknown(self, message: Message) -> None:
        """UNKNOWN is the last word of some carriers and a passing trouble to others (SMPP 3.4 section 5.2.28): its sender has
        been told, and another receipt may follow for 72 hours; then it ends without a word."""
        context = self._context
        message.told = True
        if message.home:
            self._dispatch.lanes.rewrite(message)
        elif message.cold is not None:
            row = ColdRow(*message.cold, message.id, int(context.wall()) + PARK, message.payload())
            context.store.batch.moves.append(row)  # in the place of the one before

    def _missed(self, upstream: UpstreamState, sm: Sm, receipt: Receipt | None, raw_id: bytes) -> None:
        """Not in memory: an older message's, one that is not known yet, or nobody's. Kept first, looked up second: the
        acknowledgement does not wait for the search."""
        context = self._context
        parked = Parked(context.new_id(), upstream, (), sm.raw, int(context.wall()) + PARK)
        self.park(parked)  # tried first: what is durable is looked at again with every start
        context.store.batch.marks.append(parked.entry())
        context.journal.add(parked)
        context.metrics.receipts.labels(upstream.name, "parked").inc()
        context.tally.add(tally.PARKED, upstream.name)
        if upstream.cold_waiting > 0:
            self._search(parked)
        if len(upstream.parked) > PARKED:
            self.give_up(next(iter(upstream.parked.values())), tally.GIVEN_UP_LIMIT)

    def park(self, parked: Parked) -> None:
        """Keeps a receipt in memory until its message turns up; it is in the journal already."""
        upstream = parked.upstream
        raw_id, receipt = _read(Sm(parked.frame))
        keys = {raw_id: None}
        for one in (raw_id, receipt.id if receipt is not None else b""):
            if one:
                keys[one] = None
                keys.update(dict.fromkeys(key for _, key in upstream.matcher.candidates(one)))
        parked.keys = tuple(keys)
        upstream.parked[parked.id] = parked
        for key in keys:
            upstream.parked_keys.setdefault(key, []).append(parked)

    def _unpark(self, upstream: UpstreamState, parked: Parked) -> None:
        context = self._context
        parked.done = True
        del upstream.parked[parked.id]
        for key in parked.keys:
            waiting = upstream.parked_keys[key]
            waiting.remove(parked)
            if not waiting:
                del upstream.parked_keys[key]
        context.store.batch.marks.append(mark(Entry.PARK_DONE, parked.id))
        context.journal.remove(parked)
        context.store.kick()

    def give_up(self, parked: Parked, why: tally.Line) -> None:
        self._unpark(parked.upstream, parked)
        self._context.metrics.receipts.labels(parked.upstream.name, "unmatched").inc()
        self._context.tally.add(why, parked.upstream.name)

    def give_up_damaged(self, parked: Parked, error: Exception, place: str = SPILL) -> None:
        """A parked receipt that cannot be handled, or kept any longer as what it is, is set aside."""
        upstream = parked.upstream
        self._context.guard.keep(place, error, "frame", upstream.name, parked.id, parked.frame)
        if upstream.parked.get(parked.id) is parked:
            self._unpark(upstream, parked)

    def _search(self, parked: Parked) -> None:
        """Looks for its message among the cold rows."""
        self._context.store.find(
            Kind.WAITING,
            parked.upstream.name,
            list(parked.keys),
            self._context.looked(lambda rows: self.guarded(parked, lambda: self._found(parked, rows))),
        )

    def guarded(self, parked: Parked, look: Callable[[], object], place: str = RECEIPT) -> None:
        """Does something about a parked receipt. One that cannot be handled is set aside."""
        try:
            look()
        except Exception as error:  # noqa: BLE001  the item's edge
            self.give_up_damaged(parked, error, place)

    def _found(self, parked: Parked, rows: list[ColdRow]) -> None:
        if parked.done:
            return
        upstream = parked.upstream
        sm = Sm(parked.frame)
        rank = {key: place for place, key in enumerate(parked.keys)}
        # Of two that the carrier called by one name, the one that the addresses fit, else the younger.
        fits: dict[int, Message] = {}
        agree: set[int] = set()
        for row in self._context.alive(rows):
            try:
                fits[row.id] = self._dispatch.lanes.revive(row.id, row.data)
                if _agree(sm, Sm(fits[row.id].frame)):
                    agree.add(row.id)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.unreadable_waiting(row, error)
        rows = [row for row in rows if row.id in fits]
        rows.sort(key=lambda one: (rank.get(one.key, len(rank)), one.id not in agree, -one.id))
        for row in self._context.alive(rows):
            message = fits[row.id]
            if row.key != parked.keys[0] and row.id not in agree:
                continue
            message.cold = (row.kind, row.owner, row.key)
            message.upstream_id = row.key
            message.phase = Phase.SUBMITTED
            self._unpark(upstream, parked)
            self._settle(upstream, message, sm, _read(sm)[1])
            upstream.matched.inc()
            self._context.flush()
            return
        # Nobody's that is known: then it may tell what became of an unknown one.
        unknown = self._unknown(upstream, sm, parked.keys[0], self._context.now())
        if unknown is not None and not parked.done:
            self._unpark(upstream, parked)
            self._settle(upstream, unknown, sm, _read(sm)[1])
            upstream.matched.inc()
            self._context.flush()

    def known(self, message: Message) -> None:
        """An upstream id has just become known: receipts for it may be waiting, and are passed on in the order they came."""
        upstream = message.upstream
        assert upstream is not None
        if upstream.early:
            early = upstream.early.pop(message.upstream_id, None)
            if early is not None:
                self._overtaken(upstream, early, self._context.now())
        if not upstream.parked:
            return
        for key in (message.upstream_id, message.upstream_id.lstrip(b"0")):
            for parked in list(upstream.parked_keys.get(key, ())):
                if message.phase is not Phase.SUBMITTED:
                    return
                self.guarded(parked, partial(self._known, message, upstream, parked))

    def _known(self, message: Message, upstream: UpstreamState, parked: Parked) -> None:
        sm = Sm(parked.frame)
        if parked.done or (parked.keys[0] != message.upstream_id and not _agree(sm, Sm(message.frame))):
            return
        self._unpark(upstream, parked)
        upstream.matched.inc()
        self._settle(upstream, message, sm, _read(sm)[1])

    def resume(self) -> None:
        """After a restart: the search that a parked receipt was in the middle of."""
        for upstream in list(self._context.upstreams.values()):
            for parked in list(upstream.parked.values()):
                self.guarded(parked, partial(self._resume, upstream, parked), START)

    def _resume(self, upstream: UpstreamState, parked: Parked) -> None:
        sm = Sm(parked.frame)
        raw_id, receipt = _read(sm)
        message = self._find(upstream, raw_id, receipt, sm)
        if message is not None:
            self._unpark(upstream, parked)
            upstream.matched.inc()
            self._settle(upstream, message, sm, receipt)
        elif upstream.cold_waiting > 0:
            self._search(parked)

    # -- MO ------------------------------------------------------------------------------------------------------------

    def _mo(self, upstream: UpstreamState, sm: Sm) -> bool:
        """A message from a handset; False when nobody here owns its destination."""
        context = self._context
        name = self.owners.owner(sm.destination_digits, sm, upstream.region, upstream.alphabet)
        account = context.accounts.get(name) if name else None
        if account is None:
            context.metrics.mo.labels(upstream.name, "no owner").inc()
            return False
        frame = self._incoming(sm, account, upstream)
        if frame is None:
            context.metrics.text_refused.labels(account.name, "MO").inc()
            context.metrics.mo.labels(upstream.name, "no letters").inc()
            context.tally.add(tally.UNSAYABLE, account.name)
            return False
        identity = context.new_id()
        # Recorded as its owner gets it: the log is read in the owner's alphabet.
        recorded = sm if frame is sm.raw else Sm(frame)
        self._recorder.record(identity, account, recorded, Direction.MO, b"", upstream.region)
        context.event(identity, State.ACCEPTED, detail=upstream.detail)
        self._mailroom.post(account, frame, identity, kept=False)
        context.metrics.mo.labels(upstream.name, "passed on").inc()
        return True

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
            self._context.tally.add(tally.NEAREST, account.name)
        return made.frame
