"""Answers query_sm, cancel_sm and replace_sm from our own record. A message can be cancelled or replaced as long as no
carrier has it."""

from __future__ import annotations

from collections import deque
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
from smppd.protocol.wire import BodyError, Command, Sm, Status, Tag, pdu, read_tlvs, refusal, sequence_number, splice
from smppd.relay.accept.marks import marks_again
from smppd.relay.accept.verdicts import shorten_validity
from smppd.relay.context import Context
from smppd.relay.guard import OPERATION
from smppd.relay.record import Recorder
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.outgoing import sayable
from smppd.relay.short_ids import ShortIds
from smppd.relay.state.marks import read_route
from smppd.relay.state.model import TOLD_UNKNOWN, TOLD_WORD, Account, CustomerPeer, Message
from smppd.relay.state.phase import Phase, customer_state
from smppd.relay.state.queues import addresses_key
from smppd.vault.seal import Direction

# Messages that a cancel_sm by addresses looks at in one turn of the reactor, and the seconds until its next.
STEP: Final = 200
PAUSE: Final = 0.005

# (account, id, then): ``then`` gets (state, epoch seconds of it or 0, network error), or None for no such message.
History = Callable[[str, int, Callable[[tuple[State, float, int] | None], None]], None]


class _Cancelling:
    """A cancel_sm by addresses that is under way. ``at``: where its chain of messages goes on. ``left``: how many messages
    may still be looked at. ``gone``: how many were cancelled."""

    def __init__(self, customer: CustomerPeer, cancel: Cancel) -> None:
        self.customer = customer
        self.cancel = cancel
        self.at: Message | None = None
        self.left = customer.account.queued
        self.gone = 0


class Operations:
    """See the module. ``history`` looks finished messages up in the log, off the reactor thread."""

    def __init__(
        self,
        context: Context,
        dispatch: Dispatch,
        recorder: Recorder,
        short_ids: ShortIds,
        history: History | None = None,
    ) -> None:
        self._context = context
        self._dispatch = dispatch
        self._recorder = recorder
        self._short_ids = short_ids
        self.history = history
        self.looked = 0  # messages that cancel_sm by addresses looked at, for tests
        self._cancelling: dict[Account, deque[_Cancelling]] = {}

    def answer_requests(self, customer: CustomerPeer, others: list[tuple[int, bytes]], now: float) -> None:
        """Answers the query_sm, cancel_sm and replace_sm of one chunk."""
        for command, raw in others:
            sequence = sequence_number(raw)
            try:
                if command == Command.QUERY_SM:
                    self._query(customer, read_query(raw))
                elif command == Command.CANCEL_SM:
                    self._cancel(customer, read_cancel(raw))
                elif command == Command.REPLACE_SM:
                    replace = read_replace(raw)
                    status = Status.RREPLACEFAIL if _has_payload(raw, replace) else self._replace(customer, replace)
                    self._context.answer(customer, pdu(Command.REPLACE_SM_RESP, status, sequence), 0)
                else:
                    self._context.answer(customer, refusal(command, Status.RINVCMDID, sequence), 0)
            except BodyError as error:
                customer.session.bad_body(now)
                self._context.answer(customer, refusal(command, error.status, sequence), 0)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(OPERATION, error, owner=customer.account.name)
                self._context.answer(customer, refusal(command, Status.RSYSERR, sequence), 0)
        self._context.store.kick()

    def _living(self, account: Account, identity: int | None) -> Message | None:
        if identity is None:
            return None
        thing: object = self._context.ledger.get(identity)
        if thing is None:
            # Read back from a row, and not written anew yet.
            places = [lane.hot for lane in account.lanes.values()]
            thing = next(
                (m for m in (one.get(identity) for one in (*places, account.pinned_parts)) if m is not None), None
            )
        if isinstance(thing, Message) and thing.account is account:
            return thing
        return None

    # -- query_sm ------------------------------------------------------------------------------------------------------

    def _query(self, customer: CustomerPeer, query: Query) -> None:
        account = customer.account
        identity = self._short_ids.id_behind(account, query.message_id)
        message = self._living(account, identity)
        if message is not None:
            if query.source[2] and query.source[2] != _source(message):
                self._context.answer(customer, refusal(Command.QUERY_SM, Status.RINVSRCADR, query.sequence), 0)
                return
            state = State.UNKNOWN if message.reported & (TOLD_UNKNOWN | TOLD_WORD) else customer_state(message.phase)
            if message.phase is Phase.QUEUED and message.lane.is_shut(self._context.wall()):
                state = State(_told(State.SCHEDULED, customer.version))
            self._context.answer(customer, query_response(query.sequence, query.message_id, b"", state, 0), 0)
            return
        if identity is None or self.history is None:
            self._context.answer(customer, refusal(Command.QUERY_SM, Status.RINVMSGID, query.sequence), 0)
            return

        def found(answer: tuple[State, float, int] | None) -> None:
            try:
                response = _answer(query, answer, customer.version)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(OPERATION, error, owner=account.name, identity=identity)
                response = refusal(Command.QUERY_SM, Status.RSYSERR, query.sequence)
            self._context.answer(customer, response, 0)
            self._context.flush()

        self.history(account.name, identity, found)

    # -- cancel_sm -----------------------------------------------------------------------------------------------------

    def _cancel(self, customer: CustomerPeer, cancel: Cancel) -> None:
        account = customer.account
        if cancel.message_id:
            message = self._living(account, self._short_ids.id_behind(account, cancel.message_id))
            if message is None:
                status: int = Status.RINVMSGID
            else:
                status = Status.ROK if self._delete([message]) else Status.RCANCELFAIL
            self._context.answer(customer, pdu(Command.CANCEL_SM_RESP, status, cancel.sequence), 0)
            return
        jobs = self._cancelling.setdefault(account, deque())
        jobs.append(_Cancelling(customer, cancel))
        if len(jobs) == 1:
            self._cancel_some(account, jobs)

    def _cancel_some(self, account: Account, jobs: deque[_Cancelling]) -> None:
        """One step of the oldest cancel_sm by addresses of an account; all waiting messages may have these addresses, so it
        takes steps. It is answered at its end. Then the next cancel_sm of the account begins."""
        while jobs:
            job = jobs[0]
            cancel = job.cancel
            key = addresses_key(cancel.source[2], cancel.destination[2])
            found, job.at = account.addressed.some(key, job.at, STEP)
            self.looked += len(found)
            job.left -= len(found)
            gone = self._delete([message for message in found if self._fits(message, cancel)])
            job.gone += gone
            if job.at is not None and job.left > 0:
                self._cancel_later(account, jobs, gone)
                return
            jobs.popleft()
            status = Status.ROK if job.gone else Status.RCANCELFAIL
            self._context.answer(job.customer, pdu(Command.CANCEL_SM_RESP, status, cancel.sequence), 0)
            if found and jobs:
                self._cancel_later(account, jobs, gone)
                return
        del self._cancelling[account]

    def _cancel_later(self, account: Account, jobs: deque[_Cancelling], gone: int) -> None:
        """Begins the next step after a moment; where messages were deleted, once that is durable, so that no batch grows too
        large."""
        context = self._context

        def step() -> None:
            context.later(PAUSE, lambda: self._cancel_on(account, jobs))

        if gone:
            context.store.batch.then.append(step)
        else:
            step()

    def _cancel_on(self, account: Account, jobs: deque[_Cancelling]) -> None:
        self._cancel_some(account, jobs)
        self._context.store.kick()
        self._context.flush()

    def _delete(self, messages: list[Message]) -> int:
        """Deletes those that still wait here; how many."""
        gone = 0
        for message in messages:
            if message.stored and message.phase in (Phase.QUEUED, Phase.PINNED, Phase.HELD):
                self._dispatch.end_guarded(message, State.DELETED)
                gone += 1
        return gone

    def _fits(self, message: Message, cancel: Cancel) -> bool:
        try:
            return _fits(message, cancel)
        except Exception as error:  # noqa: BLE001  the item's edge
            self._context.guard.set_message_aside(OPERATION, error, message)
            return False

    # -- replace_sm ----------------------------------------------------------------------------------------------------

    def _replace(self, customer: CustomerPeer, replace: Replace) -> int:
        account = customer.account
        if account.admission is not None and account.admission.closed is not None:
            return Status.RREPLACEFAIL  # another text is as good as another message
        message = self._living(account, self._short_ids.id_behind(account, replace.message_id))
        if message is None:
            return Status.RINVMSGID
        if replace.source[2] != _source(message):
            return Status.RINVSRCADR
        old = Sm(message.frame)
        if message.phase not in (Phase.QUEUED, Phase.PINNED) or not message.stored or old.at_sm < 0:
            return Status.RREPLACEFAIL
        wall = self._context.wall()
        try:
            expires = times.check(replace.schedule, replace.validity, wall)
        except BodyError as error:
            return error.status
        frame = splice(
            old,
            short_message=replace.short_message,
            schedule=replace.schedule or None,
            validity=replace.validity or None,
            registered=replace.registered,
        )
        sm = Sm(frame)
        verdict: Verdict | None = None
        if account.pipeline is not None:
            verdict = account.pipeline.judge_replacement(
                _as_sent(old, message), _as_sent(sm, message), self._context.now()
            )
            if verdict is not None and verdict.refusal is not None:
                return verdict.refusal.status
        gate = read_route(marks_again(self._context, message, _as_sent(sm, message), verdict, self._context.now())).gate
        if not sayable(sm, account.alphabet, message.lane) or (gate and gate != message.lane.gate_key):
            # The carrier's alphabet lacks letters of it, or with this text it might not leave when it does.
            if account.pipeline is not None and message.part is not None:
                account.pipeline.undo_last()
            return Status.RREPLACEFAIL
        if expires is not None:
            message.expires = max(0, min(int(expires), 0xFFFFFFFF))
        if verdict is not None:
            # A new validity does not undo what policy says of the message, which was accepted when it was.
            message.on_unknown = verdict.on_unknown or message.on_unknown
            ends = shorten_validity(message, sm, verdict, min(message.accepted_at, wall))
            if ends is not None:
                frame = splice(sm, validity=ends)
        message.frame = frame
        message.registered = replace.registered
        self._context.phases.file(message)
        # The new text is a record of its own, and the spool's entry is written anew: the later one counts.
        identity = self._context.new_id()
        hide = verdict is not None and verdict.hide
        self._recorder.record(identity, account, sm, Direction.MT, customer.address, None, hide)
        self._context.append_event(message.id, State.SKIPPED, detail=b"\0%016x" % identity)
        self._context.append_event(identity, State.STORED, detail=b"\0%016x" % message.id)
        self._context.ledger.rewrite(message)
        return Status.ROK


def _fits(message: Message, cancel: Cancel) -> bool:
    """Whether a message is one of those that a cancel_sm by addresses means (SMPP 3.4 section 4.9.1)."""
    sm = Sm(message.frame)
    return (_source(message), sm.destination_digits) == (cancel.source[2], cancel.destination[2]) and (
        not cancel.service_type or cancel.service_type == sm.service_type
    )


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


def _answer(query: Query, answer: tuple[State, float, int] | None, version: int) -> bytes:
    """The response to a question about a finished message."""
    if answer is None:
        return refusal(Command.QUERY_SM, Status.RINVMSGID, query.sequence)
    state, when, error = answer
    shown, final = _told(state, version), state in FINAL_STATES or state is State.REFUSED
    date = times.write_absolute(when) if when and final else b""
    return query_response(query.sequence, query.message_id, date, shown, min(error, 255))


def _source(message: Message) -> bytes:
    """The source digits that the customer used."""
    if message.reply_to is not None:
        return message.reply_to[2:-1]
    return Sm(message.frame).source_digits


def _told(state: State, version: int) -> int:
    """message_state as query_sm_resp knows it; before 5.0 there is neither SCHEDULED nor SKIPPED (5.0 section 4.7.15)."""
    if version < 0x50 and state in (State.SCHEDULED, State.SKIPPED):
        return State.ENROUTE if state is State.SCHEDULED else State.UNDELIVERABLE
    if state is State.REFUSED:
        return State.REJECTED
    if state >= State.STORED:
        return State.ACCEPTED if state is State.SUBMITTED else State.ENROUTE
    return state
