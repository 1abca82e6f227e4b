"""Takes customers' messages: applies limits, policy and routes, and has the record sealed. A message is acknowledged only
after its batch is durable."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any, Final

from smppd.ids import shown as shown_form
from smppd.message import Refusal, State, Verdict
from smppd.policy.content import PartKey, part_of
from smppd.policy.screens import Question
from smppd.protocol import times
from smppd.protocol.lenient import Fault, submitted
from smppd.protocol.operations import count_destinations, read_multi
from smppd.protocol.wire import SUBMIT_MULTI, BodyError, Sm, Status, id_response, refusal, request_command
from smppd.relay.accept.answers import Answers
from smppd.relay.accept.brake import Brake
from smppd.relay.accept.duplicates import Duplicates
from smppd.relay.accept.parts import HeldParts
from smppd.relay.accept.routing import Routes
from smppd.relay.accept.verdicts import apply_verdict
from smppd.relay.context import Context
from smppd.relay.deliver.mailroom import Mailroom
from smppd.relay.guard import COMMIT, START, SUBMIT
from smppd.relay.record import Recorder
from smppd.relay.reply_senders import ReplySenders
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.outgoing import sayable
from smppd.relay.short_ids import ShortIds
from smppd.relay.state.living import Living
from smppd.relay.state.marks import marks_of
from smppd.relay.state.model import Account, CustomerPeer, Fanout, Message, Remembered
from smppd.relay.state.phase import Phase
from smppd.vault.seal import Direction

_NEVER: Final = 3650 * 86400.0
BAD_PDU: Final = "bad PDU"
# Messages of one customer that are handled in one turn of the reactor.
TURN: Final = 300
FULL: Final = Refusal(Status.RMSGQFUL, "no space to store messages", "store full")
QUEUE_FULL: Final = Refusal(Status.RMSGQFUL, "too many messages are waiting", "queue full")
THROTTLED: Final = Refusal(Status.RTHROTTLED, "over the agreed rate", "throttled")
NO_ROUTE: Final = Refusal(Status.RINVDSTADR, "no route to this destination", "no route")
NO_UPSTREAM: Final = Refusal(Status.RMSGQFUL, "no upstream is available", "upstream down")
UNSAYABLE: Final = Refusal(Status.RSUBMITFAIL, "the carrier's alphabet lacks letters of the text", "alphabet")
HELD_FULL: Final = Refusal(Status.RMSGQFUL, "too many parts wait for the rest of their messages", "held parts full")
FAILED: Final = Refusal(Status.RSYSERR, "the message could not be handled", "error")
TAKEN: Final = Refusal(int(Status.ROK), "its receipt says that it is refused", "rejected")
ON_ITS_WAY: Final = Refusal(Status.RMSGQFUL, "the same message is on its way", "duplicate")


class SubmitDesk:
    """Where a customer's frames arrive, a chunk at a time."""

    def __init__(
        self,
        context: Context,
        dispatch: Dispatch,
        parts: HeldParts,
        routes: Routes,
        recorder: Recorder,
        answers: Answers,
        duplicates: Duplicates,
        short_ids: ShortIds,
        mailroom: Mailroom,
        replies: ReplySenders,
    ) -> None:
        self._mailroom = mailroom
        self._context = context
        self._dispatch = dispatch
        self._parts = parts
        self._routes = routes
        self._recorder = recorder
        self._answers = answers
        self._short_ids = short_ids
        self._replies = replies
        self.duplicates = duplicates
        self.brake = Brake(context, self.accept_submits)
        self.patience = 0.5
        self.turn = TURN
        self.accepts = True
        self._accepting: Message | None = None  # the message that is being put into the batch
        self._behind: dict[CustomerPeer, list[bytes]] = {}
        # Accounts that have had their turn, each with its sessions that wait for the next turns.
        self._lines: dict[Account, deque[CustomerPeer]] = {}
        self._refusals: dict[tuple[str, str], Any] = {}
        self._hits: dict[tuple[str, str, bool], Any] = {}

    # -- taking --------------------------------------------------------------------------------------------------------

    def accept_submits(self, customer: CustomerPeer, frames: list[bytes], now: float) -> None:
        """Handles the message PDUs of one chunk. Each is answered: at once where its form or a limit refuses it, otherwise
        with its batch. After ``TURN`` messages the rest goes on in the next turn of the reactor, in order. What other
        sessions of the account sent waits for that turn too: otherwise an account with many sessions would have that many
        turns."""
        behind = self._behind.get(customer)
        if behind is not None:
            behind.extend(frames)
            return
        if self.brake.keep_back(customer, frames):
            return
        line = self._lines.get(customer.account)
        if line is not None:
            self._behind[customer] = list(frames)
            line.append(customer)
            return
        self._take(customer, frames, now)

    def _take(self, customer: CustomerPeer, frames: list[bytes], now: float) -> None:
        """One turn of an account: the first messages of one of its sessions."""
        refused: dict[str, int] = {}
        account = customer.account
        left = self.turn
        done = 0
        batch = self._context.store.batch
        before = len(batch.accepted)
        for raw in frames:
            if left <= 0:
                break
            done += 1
            left -= 1
            try:
                if request_command(raw) == SUBMIT_MULTI:
                    number, no = self._multi(customer, raw, now)
                    left -= number
                else:
                    sm = Sm(raw)
                    if sm.at_tlvs != len(raw):
                        sm = self._with_tlvs(sm, account)
                    no = self._accept(customer, sm, now, sm.sequence, None)
            except Exception as error:  # noqa: BLE001  the item's edge
                no = self._wrong(account, error)
                if no.rule == BAD_PDU:
                    customer.session.bad_body(now)
                    self._context.metrics.bad_pdus.labels(account.name).inc()
            if no is not None:
                refused[no.rule] = refused.get(no.rule, 0) + 1
                self._answers.refuse_pdu(
                    customer, raw, no, now + self.patience if no is THROTTLED and self.patience else 0.0
                )
        for rule, often in refused.items():
            self._refused(account, rule, often)
        if self.turn - left >= self.turn // 4 and account not in self._lines:
            # So much of the turn is used that the account's next messages wait for the next turn.
            self._lines[account] = deque()
            self._context.later(0.0, lambda: self._go_on(account))
        if done < len(frames):
            self._behind[customer] = frames[done:]
            self._lines[account].append(customer)
        taken = len(batch.accepted) - before
        if taken:
            self.brake.note_batch(batch, account, taken, sum([len(raw) for raw in frames[:done]]))
            self.brake.stop_if_full(customer)
        self._context.store.kick()

    def _wrong(self, account: Account, error: Exception) -> Refusal:
        """The refusal of a PDU that caused an error: either its form is wrong, or we could not handle it."""
        if isinstance(error, BodyError) and self._accepting is None:
            return Refusal(error.status, str(error), BAD_PDU)
        return self._failed(account, error)

    def _failed(self, account: Account, error: Exception) -> Refusal:
        """A message could not be handled. It is not accepted, and its sender is told so. Its record, if it is in the batch
        already, stays there with a final state."""
        context = self._context
        context.guard.caught(SUBMIT, error, owner=account.name)
        message, self._accepting = self._accepting, None
        if message is not None:
            message.customer = None
            message.registered = 0
            self.duplicates.forget(message)
            accepted = context.store.batch.accepted
            if accepted and accepted[-1] is message:
                accepted.pop()
            self._parts.forget_verdict(message)
            context.guard.call_guarded(SUBMIT, lambda: context.withdraw(message))
        return FAILED

    @property
    def behind(self) -> bool:
        """Whether something a customer sent waits for its turn."""
        return bool(self._behind)

    def _go_on(self, account: Account) -> None:
        """The next turn of an account, with what was too much for the turn before. Its sessions go in turn."""
        line = self._lines[account]
        while line:
            customer = line.popleft()
            frames = self._behind.pop(customer)
            # A customer who is gone had no answer, and sends it again.
            if customer in account.sessions and not self.brake.keep_back(customer, frames):
                self._context.later(0.0, lambda: self._go_on(account))
                self._take(customer, frames, self._context.now())
                self._context.flush()
                return
        del self._lines[account]

    def _refused(self, account: Account, rule: str, number: int) -> None:
        key = (account.name, rule)
        counter = self._refusals.get(key)
        if counter is None:
            counter = self._refusals[key] = self._context.metrics.refused.labels(account.name, rule)
        counter.inc(number)
        account.count_refused(number)

    def _hit(self, policy: str, rule: str, shadow: bool) -> None:
        key = (policy, rule, shadow)
        counter = self._hits.get(key)
        if counter is None:
            mode = "shadow" if shadow else "enforce"
            counter = self._hits[key] = self._context.metrics.rule_hits.labels(policy, rule, mode)
        counter.inc()

    def _with_tlvs(self, sm: Sm, account: Account) -> Sm:
        """The message with its TLVs read and checked. Many libraries write one NUL behind short_message, which is no TLV: it
        is taken off, unless the account has ``strict_fields``. Raises ``BodyError``."""
        try:
            sm.tlvs  # noqa: B018  read and checked
        except BodyError:
            whole = None if account.settings.strict_fields else submitted(sm.raw)
            if whole is None:
                raise
            self._mended(account)
            return Sm(whole)
        return sm

    def _mended(self, account: Account) -> None:
        self._context.metrics.mended.labels(account.name, Fault.STRAY.value).inc()

    def _accept(
        self, customer: CustomerPeer, sm: Sm, now: float, sequence: int, fanout: Fanout | None
    ) -> Refusal | None:
        """Puts one message into the batch, or returns the refusal that is to be answered at once. Cheap checks come
        first."""
        context = self._context
        account = customer.account
        settings = account.settings
        admission = account.admission
        if admission is not None and admission.closed is not None:
            return admission.closed
        if sm.at_tlvs != len(sm.raw) and len(sm.tlvs) > context.tlv_limit:
            return Refusal(Status.RINVOPTPARSTREAM, f"more than {context.tlv_limit} TLVs", "bad PDU")
        if settings.strict_fields and len(sm.short_message) > 254:
            return Refusal(Status.RINVMSGLEN, "short_message is longer than 254 octets", "bad PDU")
        if not sm.destination_digits:
            return Refusal(Status.RINVDSTADR, "destination_addr is empty", "bad PDU")
        if fanout is not None:
            wait = 0.0  # its answer waits
        else:
            if not self.accepts or not context.store.takes:
                return FULL
            wait = account.bucket.take(now, self.patience)
            if wait < 0:
                return THROTTLED
            if account.queued >= settings.queue:
                return QUEUE_FULL
        key = b""
        if settings.deduplicate is not None and fanout is None:
            key = self.duplicates.key(account.name, sm)
            before = self.duplicates.sent_before(key, now, settings.deduplicate)
            if before is not None:
                return self._again(before, customer, sm)
        wall = context.wall()
        expires: float | None = None
        if sm.at_sm < 0:
            left = times.to_live(sm.tlv(times.TIME_TO_LIVE))
            expires = wall + left if left is not None else None
        elif sm.raw[sm.at_validity] or sm.raw[sm.at_schedule]:
            try:
                expires = times.check(sm.schedule, sm.validity, wall)
            except BodyError as error:
                return Refusal(error.status, str(error), "bad time")
        if expires is None:
            expires = wall + (settings.expire_after if settings.expire_after is not None else _NEVER)
        # From here on policy remembers a part, and screens count. Each refusal below must tell them that it is not taken: see
        # ``_not_taken``.
        verdict = account.pipeline.decide(sm, now) if account.pipeline is not None else None
        refused = None if verdict is None else verdict.refusal
        if verdict is not None:
            for hit in verdict.hits:
                self._hit(hit.policy, hit.rule, hit.shadow)
            if refused is not None and account.pipeline is not None and account.pipeline.is_authorised(sm):
                self._authorised_refused(account, now)
        part = part_of(sm)
        by_rules = refused is not None
        rejects = False
        question: Question | None = None
        if refused is None and account.screens:
            question = Question(account.name, account.region, sm, verdict, settings.class_, wall, now, expires)
            for screen in account.screens:
                refused = screen.look(question)
                if refused is not None:
                    self._not_taken(account, part, refused, question)
                    rejects = question.rejects
                    break
            for hit in question.hits:
                self._hit(hit.policy, hit.rule, hit.shadow)
        hold = waits = False
        route = ""
        code = account.sends_codes
        # The class of a part may be known with the last part only, which then must not overtake the others.
        if verdict is not None and verdict.message_class and part is None:
            code = verdict.message_class == "one_time_code"
        if refused is None:
            route = self._routes.route(account.name, sm, verdict)
            if not route:
                return self._not_taken(account, part, NO_ROUTE, question)
            if code:
                verdict = _of_a_code(verdict, settings.one_time_codes.expire_after)
            gate = "" if question is None else question.gate
            if code or gate:
                route += marks_of(code, gate)
                waits = question is not None and question.until > wall
            lane = account.lanes.get(route) or context.lane(account, route)
            if settings.acknowledge == "upstream" and not self._dispatch.has_open_upstream(lane, now):
                return self._not_taken(account, part, NO_UPSTREAM, question)
            if verdict is not None and verdict.hold and not self._parts.make_room(account, len(sm.raw)):
                return self._not_taken(account, part, HELD_FULL, question)
            for upstream in lane.upstreams:
                if upstream.alphabet is not account.alphabet:
                    if not sayable(sm, account.alphabet, lane):
                        context.metrics.text_refused.labels(account.name, "MT").inc()
                        return self._not_taken(account, part, UNSAYABLE, question)
                    break
        identity = context.new_id()
        hide = verdict is not None and verdict.hide
        self._recorder.record(identity, account, sm, Direction.MT, customer.address, None, hide)
        if refused is not None:
            state = State.REJECTED if rejects else State.REFUSED
            context.append_event(identity, state, error=refused.status)
            lane = None  # type: ignore[assignment]
        elif waits:
            context.append_event(identity, State.SCHEDULED)
        if fanout is not None and fanout.shown:
            name = fanout.shown
        else:
            name = self._short_ids.draw(account, customer.version) or shown_form(identity)
            if fanout is not None:
                fanout.shown = name
        message = Message(identity, account, lane, sm.raw, sm.registered, max(0, min(int(expires), 0xFFFFFFFF)), name)
        message.customer = customer
        message.sequence = sequence
        message.read_at = now
        message.answer_at = now + wait
        message.fanout = fanout
        message.part = part
        message.destination_hash = hash(sm.destination_digits)
        message.reversed = sm.destination_field + sm.source_field
        batch = context.store.batch
        batch.accepted.append(message)
        self._accepting = message
        if part is not None and (refused is None or by_rules):
            # A part that a screen refused is none of its message: it may come again, and the others wait for it until then.
            hold = self._whole(message, verdict, route)
        message.asked = account.epoch
        message.agreed = question is not None and question.agreed
        if refused is not None:
            message.refusal = TAKEN if rejects else refused
            self._refused(account, refused.rule or "policy", 1)
            if rejects and message.wants_failure:
                self._mailroom.post_receipt(message, State.REJECTED, refused.status, kept=False)
            if admission is not None:
                admission.refused(refused.rule, identity, wall)
            self._accepting = None
            return None  # one record, no life in the spool: the answer goes with the commit
        if verdict is not None and not hold:
            apply_verdict(message, sm, verdict, wall)
            if verdict.restore and verdict.source is not None:
                self._replies.remember(account, sm, verdict.source)
        self._dispatch.admit_message(message, now, hold=hold)
        if key:
            self.duplicates.remember(key, message, now)
        if len(name) != 16:
            self._short_ids.remember(message)
        self._accepting = None
        return None

    def _authorised_refused(self, account: Account, now: float) -> None:
        """Rules refused a message whose sender the account is authorised for: one of them may be wrong."""
        self._context.metrics.authorised_refused.labels(account.name).inc()
        self._context.notices.note("authorised sender refused by a rule", {"account": account.name}, now)

    @staticmethod
    def _not_taken(account: Account, part: PartKey | None, why: Refusal, question: Question | None) -> Refusal:
        """What remembers or counts the message is told that it is not taken."""
        if question is not None and question.counted and account.ear is not None:
            account.ear.not_taken(question)
        if part is not None and account.pipeline is not None:
            account.pipeline.undo_last()
        return why

    def _whole(self, message: Message, verdict: Verdict | None, route: str) -> bool:
        """Whether a part is to be held: policy wants to see more of its message, or it completes a message whose other parts
        are held."""
        if verdict is not None and verdict.hold:
            return True
        if not self._parts.are_held(message):
            return False
        self._parts.note_verdict(message, verdict, route)
        return verdict is None or verdict.refusal is None

    def _again(self, before: Remembered, customer: CustomerPeer, sm: Sm) -> Refusal | None:
        """The customer sent the same message once more. He gets the id of the first one, and nothing is sent again."""
        if customer.account.settings.acknowledge == "upstream" and not before.taken:
            return ON_ITS_WAY

        def answer() -> None:
            # Called with the batch of the first one or a later batch: by now it is known whether the first one is durable.
            response = (
                id_response(sm.command, sm.sequence, before.shown)
                if before.stored
                else refusal(sm.command, FULL.status, sm.sequence)
            )
            self._context.answer(customer, response)

        if before.stored:
            answer()
        else:
            self._context.store.batch.then.append(answer)
        return None

    def restore_remembered(self, living: list[Living]) -> None:
        """After a restart: takes over from what is still here which messages the short ids mean, and which messages
        ``deduplicate`` compares with."""
        context = self._context
        wall, now = context.wall(), context.now()
        for thing in living:
            if not isinstance(thing, Message):
                continue
            try:
                if len(thing.shown) != 16:
                    self._short_ids.remember(thing)
                if thing.account.settings.deduplicate is not None and not thing.ours:
                    age = max(0.0, wall - thing.accepted_at)
                    if age < thing.account.settings.deduplicate:
                        self.duplicates.remember(
                            self.duplicates.key(thing.account.name, Sm(thing.frame)), thing, now - age
                        )
                        assert thing.remembered is not None
                        thing.remembered.stored = True
                        thing.remembered.taken = thing.awaits_receipt or thing.phase is Phase.DONE
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.caught(START, error, identity=thing.id)

    def _multi(self, customer: CustomerPeer, raw: bytes, now: float) -> tuple[int, Refusal | None]:
        """Handles a submit_multi. For the rate, the queue and the window it counts as one message for each destination. It
        is refused as a whole before a message is made of it, or taken as a whole. Returns how many messages were made of it,
        and the refusal that is to be answered at once."""
        account = customer.account
        number = count_destinations(raw)
        if account.admission is not None and account.admission.closed is not None:
            return 0, account.admission.closed
        if not self.accepts or not self._context.store.takes:
            return 0, FULL
        if account.queued + number > account.settings.queue:
            return 0, QUEUE_FULL
        wait = account.bucket.take(now, self.patience, number)
        if wait < 0:
            return 0, THROTTLED
        multi = read_multi(raw, strict=account.settings.strict_fields)
        if multi.mended:
            self._mended(account)
        fanout = Fanout(number, b"")
        # Later messages wait until the rate allows them again. This answer waits no longer than that of any other message
        # may.
        fanout.answer_at = now + min(wait, self.patience)
        customer.session.unanswered += number - 1
        refused: dict[str, int] = {}
        for frame in multi.frames:
            sm = Sm(frame)
            try:
                no = self._accept(customer, sm, now, multi.sequence, fanout)
            except Exception as error:  # noqa: BLE001  the item's edge
                no = self._wrong(account, error)
            if no is not None:
                refused[no.rule] = refused.get(no.rule, 0) + 1
                self._answers.answer_one_of_multi(customer, fanout, multi.sequence, sm.destination_field, no.status)
        for rule, often in refused.items():
            self._refused(account, rule, often)
        return number, None

    # -- answering -----------------------------------------------------------------------------------------------------

    def batch_committed(self, messages: list[Message], now: float) -> None:
        """The batch of these messages is durable: now customers get their answers."""
        context = self._context
        account: Account | None = None
        number = 0
        self.brake.batch_over()
        for message in messages:
            try:
                if message.ours:
                    continue  # nobody waits for an answer, and it is not the customer's
                if message.remembered is not None:
                    message.remembered.stored = True
                if message.account is not account:
                    if account is not None:
                        account.accepted.inc(number)
                    account, number = message.account, 0
                if message.refusal is not None:
                    self._answers.answer_message(message, message.refusal.status, now, message.refusal)
                    continue
                number += 1
                if message.account.settings.acknowledge == "stored" or message.phase is Phase.HELD:
                    customer = message.customer
                    if customer is None:
                        continue
                    if message.answer_at > now or message.fanout is not None:
                        self._answers.answer_message(message, 0, now)
                        continue
                    response = id_response(request_command(message.frame), message.sequence, message.shown)
                    message.customer = None
                    context.answer(customer, response)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.set_message_aside(COMMIT, error, message)
        if account is not None:
            account.accepted.inc(number)
        if messages:
            # One observation a commit: the oldest of its answers.
            messages[0].account.answer_time.observe(now - messages[0].read_at)

    def batch_refused(self, messages: list[Message], now: float) -> None:
        """The batch of these messages was not stored. Nothing of them is kept, and their customers are told so."""
        if messages:
            self.brake.batch_over()
        for message in messages:
            try:
                self.duplicates.forget(message)
                self._answers.answer_message(message, FULL.status, now, FULL)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(COMMIT, error, owner=message.account.name, identity=message.id)


def _of_a_code(verdict: Verdict | None, expire_after: float | None) -> Verdict | None:
    """The verdict on a one-time code, which expires after so many seconds at the latest."""
    if expire_after is None or (
        verdict is not None and verdict.expire_after is not None and verdict.expire_after <= expire_after
    ):
        return verdict
    return replace(verdict or Verdict(), expire_after=expire_after)
