"""Takes customers' messages: limits, policy, route, seal; and answers them when, and only when, their batch is durable."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from smppd.ids import shown as shown_form
from smppd.message import Refusal, State, Verdict
from smppd.policy.content import PartKey, part_of
from smppd.protocol import times
from smppd.protocol.lenient import Fault, submitted
from smppd.protocol.operations import count_destinations, read_multi
from smppd.protocol.wire import BodyError, Sm, Status, id_response, refusal
from smppd.relay.accept.answers import Answers
from smppd.relay.accept.brake import Brake
from smppd.relay.accept.duplicates import Recent
from smppd.relay.accept.parts import Parts
from smppd.relay.accept.routing import Routes
from smppd.relay.accept.verdicts import change
from smppd.relay.context import Context
from smppd.relay.guard import COMMIT, START, SUBMIT
from smppd.relay.record import Recorder
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.send.outgoing import sayable
from smppd.relay.short_ids import ShortIds
from smppd.relay.state.living import Living
from smppd.relay.state.model import Account, Customer, Fanout, Known, Message
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
ON_ITS_WAY: Final = Refusal(Status.RMSGQFUL, "the same message is on its way", "duplicate")


class SubmitDesk:
    """Where a customer's frames arrive, a chunk at a time."""

    def __init__(
        self,
        context: Context,
        dispatch: Dispatch,
        parts: Parts,
        routes: Routes,
        recorder: Recorder,
        answers: Answers,
        recent: Recent,
        short_ids: ShortIds,
    ) -> None:
        self._context = context
        self._dispatch = dispatch
        self._parts = parts
        self._routes = routes
        self._recorder = recorder
        self._answers = answers
        self._short_ids = short_ids
        self.recent = recent
        self.brake = Brake(context, self.accept_submits)
        self.patience = 0.5
        self.turn = TURN
        self.open = True
        self._accepting: Message | None = None  # the one that is being put into the batch
        self._behind: dict[Customer, list[bytes]] = {}
        # Accounts that have had their turn, and their sessions that wait for the next ones.
        self._lines: dict[Account, deque[Customer]] = {}
        self._refusals: dict[tuple[str, str], Any] = {}
        self._hits: dict[tuple[str, str, bool], Any] = {}

    # -- taking --------------------------------------------------------------------------------------------------------

    def accept_submits(self, customer: Customer, frames: list[bytes], now: float) -> None:
        """Handles the message PDUs of one chunk. Each is answered: at once when refused for its form or by a limit, with its
        batch otherwise. What is more than ``TURN`` messages goes on in the next turn of the reactor, in its order; so does what
        other sessions of the account sent, or one customer with many of them would take a turn for each."""
        behind = self._behind.get(customer)
        if behind is not None:
            behind.extend(frames)
            return
        if self.brake.keeps(customer, frames):
            return
        line = self._lines.get(customer.account)
        if line is not None:
            self._behind[customer] = list(frames)
            line.append(customer)
            return
        self._take(customer, frames, now)

    def _take(self, customer: Customer, frames: list[bytes], now: float) -> None:
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
                command = raw[7]
                if command == 0x21:
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
                self._answers.refuse(
                    customer, raw, no, now + self.patience if no is THROTTLED and self.patience else 0.0
                )
        for rule, often in refused.items():
            self._refused(account, rule, often)
        if self.turn - left >= self.turn // 4 and account not in self._lines:
            # A share of the turn that is worth a timer.
            self._lines[account] = deque()
            self._context.later(0.0, lambda: self._go_on(account))
        if done < len(frames):
            self._behind[customer] = frames[done:]
            self._lines[account].append(customer)
        taken = len(batch.accepted) - before
        if taken:
            self.brake.note(batch, account, taken, sum([len(raw) for raw in frames[:done]]))
            self.brake.look(customer)
        self._context.store.kick()

    def _wrong(self, account: Account, error: Exception) -> Refusal:
        """The refusal of a PDU that raised an error: it is not as it should be, or we could not handle it."""
        if isinstance(error, BodyError) and self._accepting is None:
            return Refusal(error.status, str(error), BAD_PDU)
        return self._failed(account, error)

    def _failed(self, account: Account, error: Exception) -> Refusal:
        """A message could not be handled: it is not accepted, and its sender is told so. What of it is in the batch already
        ends with the batch."""
        context = self._context
        context.guard.caught(SUBMIT, error, owner=account.name)
        message, self._accepting = self._accepting, None
        if message is not None:
            message.customer = None
            message.registered = 0
            self.recent.forget(message)
            accepted = context.store.batch.accepted
            if accepted and accepted[-1] is message:
                accepted.pop()
            self._parts.undecide(message)
            context.guard.guarded(SUBMIT, lambda: context.withdraw(message))
        return FAILED

    @property
    def behind(self) -> bool:
        """Whether something a customer sent waits for its turn."""
        return bool(self._behind)

    def _go_on(self, account: Account) -> None:
        """The next turn of an account: what was too much for one. Its sessions go in turn."""
        line = self._lines[account]
        while line:
            customer = line.popleft()
            frames = self._behind.pop(customer)
            # Whoever is gone was answered nothing, and sends it again.
            if customer in account.sessions and not self.brake.keeps(customer, frames):
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

    def _hit(self, policy: str, rule: str, shadow: bool) -> None:
        key = (policy, rule, shadow)
        counter = self._hits.get(key)
        if counter is None:
            mode = "shadow" if shadow else "enforce"
            counter = self._hits[key] = self._context.metrics.rule_hits.labels(policy, rule, mode)
        counter.inc()

    def _with_tlvs(self, sm: Sm, account: Account) -> Sm:
        """The message with its TLVs read; where what stands behind short_message is none, less the one NUL that many
        libraries write there, unless the account wants the letter. Raises ``BodyError``."""
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

    def _accept(self, customer: Customer, sm: Sm, now: float, sequence: int, fanout: Fanout | None) -> Refusal | None:
        """Puts one message into the batch; or the refusal to answer at once. What is cheap to see is looked at first."""
        context = self._context
        account = customer.account
        settings = account.settings
        if sm.at_tlvs != len(sm.raw) and len(sm.tlvs) > context.tlvs:
            return Refusal(Status.RINVOPTPARSTREAM, f"more than {context.tlvs} TLVs", "bad PDU")
        if settings.strict_fields and len(sm.short_message) > 254:
            return Refusal(Status.RINVMSGLEN, "short_message is longer than 254 octets", "bad PDU")
        if not sm.destination_digits:
            return Refusal(Status.RINVDSTADR, "destination_addr is empty", "bad PDU")
        if fanout is not None:
            wait = 0.0  # its answer waits
        else:
            if not self.open or not context.store.takes:
                return FULL
            wait = account.bucket.take(now, self.patience)
            if wait < 0:
                return THROTTLED
            if account.queued >= settings.queue:
                return QUEUE_FULL
        key = b""
        if settings.deduplicate is not None and fanout is None:
            key = self.recent.key(account.name, sm)
            before = self.recent.find(key, now, settings.deduplicate)
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
        # From here on a part is remembered by policy: whatever refuses it must say so, see ``_not_taken``.
        verdict = account.pipeline.decide(sm, now) if account.pipeline is not None else None
        refused = None if verdict is None else verdict.refusal
        if verdict is not None:
            for hit in verdict.hits:
                self._hit(hit.policy, hit.rule, hit.shadow)
        part = part_of(sm)
        hold = False
        route = ""
        if refused is None:
            route = self._routes.route(account.name, sm, verdict)
            if not route:
                return self._not_taken(account, part, NO_ROUTE)
            lane = account.lanes.get(route) or context.lane(account, route)
            if settings.acknowledge == "upstream" and not self._dispatch.available(lane, now):
                return self._not_taken(account, part, NO_UPSTREAM)
            if verdict is not None and verdict.hold and not self._parts.make_room(account, len(sm.raw)):
                return self._not_taken(account, part, HELD_FULL)
            for upstream in lane.upstreams:
                if upstream.alphabet is not account.alphabet:
                    if not sayable(sm, account.alphabet, lane):
                        context.metrics.text_refused.labels(account.name, "MT").inc()
                        return self._not_taken(account, part, UNSAYABLE)
                    break
        identity = context.new_id()
        self._recorder.record(identity, account, sm, Direction.MT, customer.address)
        if refused is not None:
            context.event(identity, State.REFUSED, error=refused.status)
            lane = None  # type: ignore[assignment]
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
        message.way = hash(sm.destination_digits)
        message.reversed = sm.destination_field + sm.source_field
        batch = context.store.batch
        batch.accepted.append(message)
        self._accepting = message
        if part is not None:
            hold = self._whole(message, verdict, route)
        if refused is not None:
            message.refusal = refused
            self._refused(account, refused.rule or "policy", 1)
            self._accepting = None
            return None  # one record, no life in the spool: the answer goes with the commit
        if verdict is not None and not hold:
            change(message, sm, verdict, wall)
        self._dispatch.admit(message, now, hold=hold)
        if key:
            self.recent.note(key, message, now)
        if len(name) != 16:
            self._short_ids.note(message)
        self._accepting = None
        return None

    @staticmethod
    def _not_taken(account: Account, part: PartKey | None, why: Refusal) -> Refusal:
        if part is not None and account.pipeline is not None:
            account.pipeline.undo()
        return why

    def _whole(self, message: Message, verdict: Verdict | None, route: str) -> bool:
        """Whether a part is to be held: policy wants to see more, or it completes a message of which others are held."""
        if verdict is not None and verdict.hold:
            return True
        if not self._parts.are_held(message):
            return False
        self._parts.decide(message, verdict, route)
        return verdict is None or verdict.refusal is None

    def _again(self, before: Known, customer: Customer, sm: Sm) -> Refusal | None:
        """The same message once more: it has its id already, and is not sent again."""
        if customer.account.settings.acknowledge == "upstream" and not before.taken:
            return ON_ITS_WAY

        def answer() -> None:
            # With its batch or a later one: by now the first is durable, or was lost.
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

    def recall(self, living: list[Living]) -> None:
        """After a restart, of what is still here: which messages the short ids mean, and the latest for ``deduplicate``."""
        context = self._context
        wall, now = context.wall(), context.now()
        for thing in living:
            if not isinstance(thing, Message):
                continue
            try:
                if len(thing.shown) != 16:
                    self._short_ids.note(thing)
                if thing.account.settings.deduplicate is not None:
                    age = max(0.0, wall - thing.accepted_at)
                    if age < thing.account.settings.deduplicate:
                        self.recent.note(self.recent.key(thing.account.name, Sm(thing.frame)), thing, now - age)
                        assert thing.known is not None
                        thing.known.stored = True
                        thing.known.taken = thing.awaits_receipt or thing.phase is Phase.DONE
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.caught(START, error, identity=thing.id)

    def _multi(self, customer: Customer, raw: bytes, now: float) -> tuple[int, Refusal | None]:
        """A submit_multi is as many messages as it has destinations: for the rate, the queue, and the window, of which it takes
        as many places until it is answered. It is taken whole or, before a message of it is made, refused whole. How many
        messages were made of it, and the refusal to answer at once."""
        account = customer.account
        number = count_destinations(raw)
        if not self.open or not self._context.store.takes:
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
        # The next ones wait for what is owed; this answer no longer than others may.
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
                self._answers.fan(customer, fanout, multi.sequence, sm.destination_field, no.status)
        for rule, often in refused.items():
            self._refused(account, rule, often)
        return number, None

    # -- answering -----------------------------------------------------------------------------------------------------

    def batch_committed(self, messages: list[Message], now: float) -> None:
        """Their batch is durable: now the customer may be told."""
        context = self._context
        account: Account | None = None
        number = 0
        self.brake.committed()
        for message in messages:
            try:
                if message.known is not None:
                    message.known.stored = True
                if message.account is not account:
                    if account is not None:
                        account.accepted.inc(number)
                    account, number = message.account, 0
                if message.refusal is not None:
                    self._answers.answer(message, message.refusal.status, now, message.refusal)
                    continue
                number += 1
                if message.account.settings.acknowledge == "stored" or message.phase is Phase.HELD:
                    customer = message.customer
                    if customer is None:
                        continue
                    if message.answer_at > now or message.fanout is not None:
                        self._answers.answer(message, 0, now)
                        continue
                    response = id_response(message.frame[7] | message.frame[6] << 8, message.sequence, message.shown)
                    message.customer = None
                    context.answer(customer, response)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.message(COMMIT, error, message)
        if account is not None:
            account.accepted.inc(number)
        if messages:
            # One observation a commit: the oldest of its answers.
            messages[0].account.answer_time.observe(now - messages[0].read_at)

    def batch_refused(self, messages: list[Message], now: float) -> None:
        """Their batch was not stored: nothing is kept, the customer is told so."""
        if messages:
            self.brake.committed()
        for message in messages:
            try:
                self.recent.forget(message)
                self._answers.answer(message, FULL.status, now, FULL)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(COMMIT, error, owner=message.account.name, identity=message.id)
