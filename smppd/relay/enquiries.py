"""query_sm, cancel_sm and replace_sm, answered from our own record. Cancel and replace work while the message is still here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from smppd.message import FINAL_STATES, State, Verdict
from smppd.protocol import times
from smppd.protocol.operations import (
    Cancel,
    Query,
    Replace,
    query_response,
    read_cancel,
    read_query,
    read_replace,
)
from smppd.protocol.wire import BodyError, Command, Sm, Status, Tag, pdu, read_tlvs, refusal, splice
from smppd.relay.changes import shorten
from smppd.relay.context import Context
from smppd.relay.dispatch import Dispatch
from smppd.relay.guard import ENQUIRY
from smppd.relay.ids import parse_shown
from smppd.relay.model import Account, Customer, Message, Phase, customer_state
from smppd.relay.outgoing import sayable
from smppd.relay.submit import Recorder
from smppd.vault.seal import Direction

SHORT_IDS: Final = 100_000

# (account, id, then): ``then`` gets (state, epoch seconds of it or 0, network error), or None for no such message.
History = Callable[[str, int, Callable[[tuple[State, float, int] | None], None]], None]


class Enquiries:
    """See the module. ``history`` looks finished messages up in the log, off the reactor thread."""

    def __init__(self, context: Context, dispatch: Dispatch, recorder: Recorder) -> None:
        self._context = context
        self._dispatch = dispatch
        self._recorder = recorder
        self.history: History | None = None
        self._short: OrderedDict[tuple[str, bytes], int] = OrderedDict()

    def note(self, message: Message) -> None:
        """Remembers what a short id stands for, for the last 100,000 of them."""
        self._short[message.account.name, message.shown] = message.id
        if len(self._short) > SHORT_IDS:
            self._short.popitem(last=False)

    def take(self, customer: Customer, others: list[tuple[int, bytes]], now: float) -> None:
        """Answers the enquiries of one chunk."""
        for command, raw in others:
            sequence = int.from_bytes(raw[12:16], "big")
            try:
                if command == Command.QUERY_SM:
                    self._query(customer, read_query(raw))
                elif command == Command.CANCEL_SM:
                    self._say(customer, pdu(Command.CANCEL_SM_RESP, self._cancel(customer, read_cancel(raw)), sequence))
                elif command == Command.REPLACE_SM:
                    replace = read_replace(raw)
                    status = Status.RREPLACEFAIL if _has_payload(raw, replace) else self._replace(customer, replace)
                    self._say(customer, pdu(Command.REPLACE_SM_RESP, status, sequence))
                else:
                    self._say(customer, refusal(command, Status.RINVCMDID, sequence))
            except BodyError as error:
                customer.session.bad_body(now)
                self._say(customer, refusal(command, error.status, sequence))
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(ENQUIRY, error, owner=customer.account.name)
                self._say(customer, refusal(command, Status.RSYSERR, sequence))
        self._context.store.kick()

    def _say(self, customer: Customer, response: bytes) -> None:
        customer.session.out.append(response)
        self._context.dirty[customer] = None

    def _identity(self, account: Account, shown: bytes) -> int | None:
        known = self._short.get((account.name, shown))
        return known if known is not None else parse_shown(shown)

    def _living(self, account: Account, identity: int | None) -> Message | None:
        if identity is None:
            return None
        thing = self._context.journal.get(identity)
        if thing is None:
            thing = next((m for lane in account.lanes.values() for m in lane.hot if m.id == identity), None)
        if isinstance(thing, Message) and thing.account is account:
            return thing
        return None

    # -- query_sm ------------------------------------------------------------------------------------------------------

    def _query(self, customer: Customer, query: Query) -> None:
        account = customer.account
        identity = self._identity(account, query.message_id)
        message = self._living(account, identity)
        if message is not None:
            if query.source[2] and query.source[2] != _source(message):
                self._say(customer, pdu(Command.QUERY_SM_RESP, Status.RINVSRCADR, query.sequence))
                return
            state = State.UNKNOWN if message.told else customer_state(message.phase)
            self._say(customer, query_response(query.sequence, query.message_id, b"", state, 0))
            return
        if identity is None or self.history is None:
            self._say(customer, pdu(Command.QUERY_SM_RESP, Status.RINVMSGID, query.sequence))
            return

        def found(answer: tuple[State, float, int] | None) -> None:
            try:
                response = _answer(query, answer)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(ENQUIRY, error, owner=account.name, identity=identity)
                response = refusal(Command.QUERY_SM, Status.RSYSERR, query.sequence)
            self._say(customer, response)
            self._context.flush()

        self.history(account.name, identity, found)

    # -- cancel_sm -----------------------------------------------------------------------------------------------------

    def _cancel(self, customer: Customer, cancel: Cancel) -> int:
        account = customer.account
        if cancel.message_id:
            message = self._living(account, self._identity(account, cancel.message_id))
            if message is None:
                return Status.RINVMSGID
            return Status.ROK if self._delete([message]) else Status.RCANCELFAIL
        wanted = cancel.source[2], cancel.destination[2]
        pending = []
        waiting = [message for lane in account.lanes.values() for message in lane.hot]
        waiting += [m for one in self._context.upstreams.values() for m in one.aside if m.account is account]
        waiting += self._dispatch.holding.of(account)
        for message in waiting:
            sm = Sm(message.frame)
            if (_source(message), sm.destination_digits) == wanted and (
                not cancel.service_type or cancel.service_type == sm.service_type
            ):
                pending.append(message)
        return Status.ROK if self._delete(pending) else Status.RCANCELFAIL

    def _delete(self, messages: list[Message]) -> int:
        """Deletes those that still wait here; how many."""
        gone = 0
        for message in messages:
            if not message.stored:
                continue
            if message.phase is Phase.QUEUED:
                self._dispatch.lanes.take_out(message)
            elif message.phase is Phase.HELD:
                self._dispatch.holding.take_out(message)
            else:
                continue
            self._dispatch.end(message, State.DELETED)
            gone += 1
        return gone

    # -- replace_sm ----------------------------------------------------------------------------------------------------

    def _replace(self, customer: Customer, replace: Replace) -> int:
        account = customer.account
        message = self._living(account, self._identity(account, replace.message_id))
        if message is None:
            return Status.RINVMSGID
        if replace.source[2] != _source(message):
            return Status.RINVSRCADR
        old = Sm(message.frame)
        if message.phase is not Phase.QUEUED or not message.stored or old.at_sm < 0:
            return Status.RREPLACEFAIL
        wall = self._context.wall()
        frame = splice(
            old,
            short_message=replace.short_message,
            schedule=replace.schedule or None,
            validity=replace.validity or None,
            registered=replace.registered,
        )
        sm = Sm(frame)
        expires = times.read(replace.validity, wall)
        verdict: Verdict | None = None
        if account.pipeline is not None:
            verdict = account.pipeline.replace(_as_sent(old, message), _as_sent(sm, message), self._context.now())
            if verdict is not None and verdict.refusal is not None:
                return verdict.refusal.status
        if not sayable(sm, account.alphabet, message.lane):
            if account.pipeline is not None and message.part is not None:
                account.pipeline.undo()
            return Status.RREPLACEFAIL
        if expires is not None:
            message.expires = min(int(expires), 0xFFFFFFFF)
        if verdict is not None:
            # A new validity does not undo what policy says of the message, which was accepted when it was.
            message.on_unknown = verdict.on_unknown or message.on_unknown
            ends = shorten(message, sm, verdict, min(message.accepted_at, wall))
            if ends is not None:
                frame = splice(sm, validity=ends)
        message.frame = frame
        message.registered = replace.registered
        # The new text is a record of its own, and the spool's entry is written anew: the later one counts.
        identity = self._context.new_id()
        self._recorder.record(identity, account, sm, Direction.MT, customer.address)
        self._context.event(message.id, State.SKIPPED, detail=b"\0%016x" % identity)
        self._context.event(identity, State.STORED, detail=b"\0%016x" % message.id)
        batch = self._context.store.batch
        if message.home:
            self._context.journal.remove(message)
        elif message.cold is not None:
            self._context.drop(*message.cold, message.id)
            message.cold = None
        batch.marks.append(message.entry())
        self._context.journal.add(message)
        return Status.ROK


def _has_payload(raw: bytes, replace: Replace) -> bool:
    """Whether a replace_sm brings its text in message_payload, as SMPP 5.0 has it (4.5.3.1): nothing here exchanges one."""
    fields = (replace.message_id, replace.source[2], replace.schedule, replace.validity)
    at = 16 + sum(len(field) + 1 for field in fields) + 2 + 3 + len(replace.short_message)
    try:
        return any(tag == Tag.MESSAGE_PAYLOAD for tag, _ in read_tlvs(raw, at))
    except BodyError:
        return False  # a replace_sm of 3.4 has no TLVs, and what stands there is none


def _as_sent(sm: Sm, message: Message) -> Sm:
    """The frame with the sender that its customer gave it: rules see no other."""
    return sm if message.reply_to is None else Sm(splice(sm, source=message.reply_to))


def _answer(query: Query, answer: tuple[State, float, int] | None) -> bytes:
    """The response to a question about a finished message."""
    if answer is None:
        return pdu(Command.QUERY_SM_RESP, Status.RINVMSGID, query.sequence)
    state, when, error = answer
    shown, final = _told(state), state in FINAL_STATES or state is State.REFUSED
    date = times.write_absolute(when) if when and final else b""
    return query_response(query.sequence, query.message_id, date, shown, min(error, 255))


def _source(message: Message) -> bytes:
    """The source digits that the customer used."""
    if message.reply_to is not None:
        return message.reply_to[2:-1]
    return Sm(message.frame).source_digits


def _told(state: State) -> int:
    """message_state as query_sm_resp knows it."""
    if state in (State.REFUSED, State.CANCELLED):
        return State.REJECTED
    if state >= State.STORED:
        return State.ACCEPTED if state is State.SUBMITTED else State.ENROUTE
    return state
