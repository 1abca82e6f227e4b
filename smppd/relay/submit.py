"""Takes customers' messages: limits, policy, route, seal; and answers them when, and only when, their batch is durable."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable
from itertools import count
from typing import Final

from smppd.message import Refusal, State, Verdict
from smppd.numbering import normalise
from smppd.policy.content import PartKey
from smppd.protocol import times
from smppd.protocol.operations import multi_response, read_multi
from smppd.protocol.wire import (
    BodyError,
    Command,
    Sm,
    Status,
    id_response,
    refusal,
)
from smppd.relay.changes import change
from smppd.relay.context import Context
from smppd.relay.dispatch import Dispatch
from smppd.relay.guard import COMMIT, START, SUBMIT, TIMER
from smppd.relay.ids import shown as shown_form
from smppd.relay.lanes import part_of
from smppd.relay.model import Account, Customer, Fanout, Message, Phase
from smppd.relay.outgoing import sayable
from smppd.relay.recent import Recent
from smppd.relay.routing import Router
from smppd.vault.keys import Part
from smppd.vault.seal import NONCES_BYTES, SECRETS_BYTES, Content, Direction, pack_numbers, seal_record, split_pdu

_CONTENT: Final = {"encrypt": Content.ENCRYPT, "hash": Content.HASH, "hide": Content.HIDE}
_RANDOM_POOL: Final = 64
_IDLE: Final = float("inf")
_NEVER: Final = 3650 * 86400.0
FULL: Final = Refusal(Status.RMSGQFUL, "no space to store messages", "store full")
QUEUE_FULL: Final = Refusal(Status.RMSGQFUL, "too many messages are waiting", "queue full")
THROTTLED: Final = Refusal(Status.RTHROTTLED, "over the agreed rate", "throttled")
NO_ROUTE: Final = Refusal(Status.RINVDSTADR, "no route to this destination", "no route")
NO_UPSTREAM: Final = Refusal(Status.RMSGQFUL, "no upstream is available", "upstream down")
UNSAYABLE: Final = Refusal(Status.RSUBMITFAIL, "the carrier's alphabet lacks letters of the text", "alphabet")
HELD_FULL: Final = Refusal(Status.RMSGQFUL, "too many parts wait for the rest of their messages", "held parts full")
FAILED: Final = Refusal(Status.RSYSERR, "the message could not be handled", "error")
ON_ITS_WAY: Final = Refusal(Status.RMSGQFUL, "the same message is on its way", "duplicate")


class Recorder:
    """Seals messages into log records of the current batch. Randomness is drawn for many at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._random = b""
        self._at = 0

    def record(
        self, identity: int, account: Account, sm: Sm, direction: Direction, ip: bytes, region: str | None = None
    ) -> None:
        """Appends the sealed record of one message, and the secrets it was sealed with. ``region``: of its national numbers,
        where that is not the account's."""
        context = self._context
        settings = account.settings
        wall = context.wall()
        if self._at >= len(self._random):
            self._random = os.urandom(_RANDOM_POOL * (SECRETS_BYTES + NONCES_BYTES))
            self._at = 0
        at = self._at
        batch = context.store.batch
        secrets = batch.draw() or self._random[at : at + SECRETS_BYTES]
        nonces = self._random[at + SECRETS_BYTES : at + SECRETS_BYTES + NONCES_BYTES]
        self._at = at + SECRETS_BYTES + NONCES_BYTES
        retain = settings.retain
        content = _CONTENT[settings.content]
        when = int(wall)
        ring = context.ring
        addresses, body = split_pdu(sm.raw)
        if content is Content.HIDE:
            body_key, body = None, b""
        else:
            body_key = ring.period(account.name, Part.BODY, when, retain.body)
            if content is Content.HASH:
                body = sm.body
        text = sm.short_message
        region = region or account.region
        parts = text[4] if sm.esm_class & 0x40 and text[:3] == b"\x05\x00\x03" and len(text) > 5 else 1
        record = seal_record(
            identity,
            int(wall * 1000),
            direction,
            content,
            parts,
            sm.data_coding,
            ring.period(account.name, Part.NUMBERS, when, retain.numbers),
            body_key,
            normalise(sm.source_digits, sm.source_ton, 0, region),
            normalise(sm.destination_digits, sm.destination_ton, 0, region),
            pack_numbers(addresses, ip),
            body,
            secrets,
            nonces,
        )
        batch.records.append(record)
        batch.secrets.append(secrets)


class SubmitDesk:
    """Where a customer's frames arrive, a chunk at a time."""

    def __init__(self, context: Context, dispatch: Dispatch, recorder: Recorder, router: Router) -> None:
        self._context = context
        self._dispatch = dispatch
        self._recorder = recorder
        self.router = router
        self.patience = 0.5
        self.short_ids: dict[str, Callable[[], bytes]] = {}
        self.short_taken: Callable[[Message], None]
        self.open = True
        self.recent = Recent()
        self._accepting: Message | None = None  # the one that is being put into the batch
        self._delayed: list[tuple[float, int, Customer, bytes]] = []
        self._tie = count()
        self._timer = _IDLE

    # -- taking --------------------------------------------------------------------------------------------------------

    def take(self, customer: Customer, frames: list[bytes], now: float) -> None:
        """Handles the message PDUs of one chunk. Each is answered: at once when refused for its form or by a limit, with its
        batch otherwise."""
        refused: dict[str, int] = {}
        account = customer.account
        for raw in frames:
            try:
                command = raw[7]
                if command == 0x21:
                    self._multi(customer, raw, now)
                    continue
                sm = Sm(raw)
                no = self._accept(customer, sm, now, sm.sequence, None)
            except BodyError as error:
                customer.session.bad_body(now)
                self._context.metrics.bad_pdus.labels(account.name).inc()
                no = Refusal(error.status, str(error), "bad PDU")
            except Exception as error:  # noqa: BLE001  the item's edge
                no = self._failed(account, error)
            if no is not None:
                refused[no.rule] = refused.get(no.rule, 0) + 1
                self._refuse(customer, raw, no, now)
        for rule, number in refused.items():
            self._context.metrics.refused.labels(account.name, rule).inc(number)
        self._context.store.kick()

    def _failed(self, account: Account, error: Exception) -> Refusal:
        """A message could not be handled: it is not accepted, and its sender is told so. What of it is in the batch already
        ends with the batch."""
        context = self._context
        context.guard.caught(SUBMIT, error, owner=account.name)
        message, self._accepting = self._accepting, None
        if message is not None:
            message.customer = None
            message.registered = 0
            accepted = context.store.batch.accepted
            if accepted and accepted[-1] is message:
                accepted.pop()
            self._dispatch.holding.lost(message)
            context.guard.guarded(SUBMIT, lambda: context.guard.withdraw(message))
        return FAILED

    def _accept(self, customer: Customer, sm: Sm, now: float, sequence: int, fanout: Fanout | None) -> Refusal | None:
        """Puts one message into the batch; or the refusal to answer at once."""
        context = self._context
        account = customer.account
        settings = account.settings
        if sm.at_tlvs != len(sm.raw) and len(sm.tlvs) > context.tlvs:
            return Refusal(Status.RINVOPTPARSTREAM, f"more than {context.tlvs} TLVs", "bad PDU")
        if settings.strict_fields and len(sm.short_message) > 254:
            return Refusal(Status.RINVMSGLEN, "short_message is longer than 254 octets", "bad PDU")
        if not sm.destination_digits:
            return Refusal(Status.RINVDSTADR, "destination_addr is empty", "bad PDU")
        if not self.open or context.store.full:
            return FULL
        wait = account.bucket.take(now, self.patience)
        if wait < 0:
            return THROTTLED
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
        elif sm.raw[sm.at_validity]:
            expires = times.read(sm.validity, wall)
        if expires is None:
            expires = wall + (settings.expire_after if settings.expire_after is not None else _NEVER)
        # From here on a part is remembered by policy: whatever refuses it must say so, see ``_not_taken``.
        verdict = account.pipeline.decide(sm, now) if account.pipeline is not None else None
        refused = None if verdict is None else verdict.refusal
        if verdict is not None:
            for hit in verdict.hits:
                context.metrics.rule_hits.labels(hit.policy, hit.rule, "shadow" if hit.shadow else "enforce").inc()
        part = part_of(sm) if sm.esm_class & 0x40 or sm.at_tlvs != len(sm.raw) else None
        hold = False
        route = ""
        if refused is None:
            if account.queued >= settings.queue:
                return self._not_taken(account, part, QUEUE_FULL)
            route = self.route(account, sm, verdict)
            if not route:
                return self._not_taken(account, part, NO_ROUTE)
            lane = account.lanes.get(route) or self._dispatch.lane(account, route)
            if settings.acknowledge == "upstream" and not self._dispatch.available(lane, now):
                return self._not_taken(account, part, NO_UPSTREAM)
            if verdict is not None and verdict.hold and not self._dispatch.holding.room(account, len(sm.raw)):
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
            short = self.short_ids.get(account.name) if self.short_ids else None
            name = shown_form(identity) if short is None and customer.version >= 0x34 else self._short(account)
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
            hold = self._whole(message, part, verdict, route)
        if refused is not None:
            message.refusal = refused
            context.metrics.refused.labels(account.name, refused.rule or "policy").inc()
            self._accepting = None
            return None  # one record, no life in the spool: the answer goes with the commit
        if verdict is not None and not hold:
            change(message, sm, verdict, wall)
        self._dispatch.admit(message, now, hold=hold)
        if key:
            self.recent.note(key, message, now)
        if len(name) != 16:
            self.short_taken(message)
        self._accepting = None
        return None

    @staticmethod
    def _not_taken(account: Account, part: PartKey | None, why: Refusal) -> Refusal:
        if part is not None and account.pipeline is not None:
            account.pipeline.undo()
        return why

    def route(self, account: Account, sm: Sm, verdict: Verdict | None) -> str:
        """The names of its upstreams, joined by commas; empty when no route leads there."""
        if verdict is not None:
            if verdict.route:
                return verdict.route
            return self.router.way(account.name, sm, verdict.tags)
        return self.router.way(account.name, sm)

    def _whole(self, message: Message, part: PartKey, verdict: Verdict | None, route: str) -> bool:
        """Whether a part is to be held: policy wants to see more, or it completes a message of which others are held."""
        if verdict is not None and verdict.hold:
            return True
        holding = self._dispatch.holding
        if not holding.waits(message.account, part):
            return False
        holding.decide(message, verdict, route)
        return verdict is None or verdict.refusal is None

    def _again(self, before: Message, customer: Customer, sm: Sm) -> Refusal | None:
        """The same message once more: it has its id already, and is not sent again."""
        if customer.account.settings.acknowledge == "upstream" and before.phase not in (Phase.SUBMITTED, Phase.DONE):
            return ON_ITS_WAY

        def answer() -> None:
            # With its batch or a later one: by now the first is durable, or was lost.
            response = (
                id_response(sm.command, sm.sequence, before.shown)
                if before.stored
                else refusal(sm.command, FULL.status, sm.sequence)
            )
            customer.session.out.append(response)
            customer.session.answered()
            self._context.dirty[customer] = None

        if before.stored:
            answer()
        else:
            self._context.store.batch.then.append(answer)
        return None

    def recall(self) -> None:
        """After a restart: what of the latest messages is still here, for accounts with ``deduplicate``."""
        context = self._context
        wall, now = context.wall(), context.now()
        for things in context.journal.live.values():
            for thing in things.values():
                try:
                    if isinstance(thing, Message) and thing.account.settings.deduplicate is not None:
                        age = max(0.0, wall - thing.accepted_at)
                        if age < thing.account.settings.deduplicate:
                            self.recent.note(self.recent.key(thing.account.name, Sm(thing.frame)), thing, now - age)
                except Exception as error:  # noqa: BLE001  the item's edge
                    context.guard.caught(START, error, identity=thing.id)

    def _short(self, account: Account) -> bytes:
        return self.short_ids.get(account.name, self.short_ids[""])()

    def _multi(self, customer: Customer, raw: bytes, now: float) -> None:
        multi = read_multi(raw)
        fanout = Fanout(len(multi.frames), b"")
        for frame in multi.frames:
            sm = Sm(frame)
            try:
                no = self._accept(customer, sm, now, multi.sequence, fanout)
            except BodyError as error:
                no = Refusal(error.status, str(error), "bad PDU")
            except Exception as error:  # noqa: BLE001  the item's edge
                no = self._failed(customer.account, error)
            if no is not None:
                self._context.metrics.refused.labels(customer.account.name, no.rule).inc()
                self._fan(customer, fanout, multi.sequence, sm.destination_field, no.status)

    # -- answering -----------------------------------------------------------------------------------------------------

    def _refuse(self, customer: Customer, raw: bytes, no: Refusal, now: float) -> None:
        command = int.from_bytes(raw[4:8], "big")
        sequence = int.from_bytes(raw[12:16], "big")
        # The version decides where a reason may stand: data_sm_resp in 3.4, submit_sm_resp from 5.0 on.
        told = customer.version >= 0x50 or (command == Command.DATA_SM and customer.version >= 0x34)
        response = refusal(command, no.status, sequence, no.reason if told else "")
        if no is THROTTLED and self.patience:
            self._delay(now + self.patience, customer, response)
        else:
            customer.session.out.append(response)
            customer.session.answered()
            self._context.dirty[customer] = None

    def stored(self, messages: list[Message], now: float) -> None:
        """Their batch is durable: now the customer may be told."""
        context = self._context
        dirty = context.dirty
        account: Account | None = None
        number = 0
        for message in messages:
            try:
                if message.account is not account:
                    if account is not None:
                        account.accepted.inc(number)
                    account, number = message.account, 0
                if message.refusal is not None:
                    self._answer(message, message.refusal.status, now, message.refusal)
                    continue
                number += 1
                if message.account.settings.acknowledge == "stored" or message.phase is Phase.HELD:
                    customer = message.customer
                    if customer is None:
                        continue
                    if message.answer_at > now or message.fanout is not None:
                        self._answer(message, 0, now)
                        continue
                    response = id_response(message.frame[7] | message.frame[6] << 8, message.sequence, message.shown)
                    message.customer = None
                    session = customer.session
                    session.out.append(response)
                    session.unanswered -= 1
                    dirty[customer] = None
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.message(COMMIT, error, message)
        if account is not None:
            account.accepted.inc(number)
        if messages:
            # One observation a commit: the oldest of its answers.
            messages[0].account.answer_time.observe(now - messages[0].read_at)

    def lost(self, messages: list[Message], now: float) -> None:
        """Their batch was not stored: nothing is kept, the customer is told so."""
        for message in messages:
            try:
                if message.account.settings.deduplicate is not None:
                    self.recent.forget(message)
                self._answer(message, FULL.status, now, FULL)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(COMMIT, error, owner=message.account.name, identity=message.id)

    def _answer(self, message: Message, status: int, now: float, why: Refusal | None = None) -> None:
        customer = message.customer
        if customer is None:
            return
        command = int.from_bytes(message.frame[4:8], "big")
        if message.fanout is not None:
            message.customer = None
            self._fan(customer, message.fanout, message.sequence, Sm(message.frame).destination_field, status)
            return
        if status:
            told = customer.version >= 0x50 or (command == Command.DATA_SM and customer.version >= 0x34)
            response = refusal(command, status, message.sequence, why.reason if told and why is not None else "")
        else:
            response = id_response(command, message.sequence, message.shown)
        message.customer = None
        if message.answer_at > now:
            self._delay(message.answer_at, customer, response)
            return
        customer.session.out.append(response)
        customer.session.answered()
        self._context.dirty[customer] = None

    def answer_upstream(self, message: Message, status: int, now: float) -> None:
        """What the upstream said, for an account that acknowledges by upstream."""
        if status:
            self.recent.forget(message)
        self._answer(message, status, now)

    def _fan(self, customer: Customer, fanout: Fanout, sequence: int, destination: bytes, status: int) -> None:
        if status:
            fanout.failed.append((destination, status))
        fanout.left -= 1
        if fanout.left == 0:
            whole = len(fanout.failed) == fanout.total
            # Nothing of it was taken: then there is no message id, and the status is not ESME_ROK.
            customer.session.out.append(
                refusal(Command.SUBMIT_MULTI, fanout.failed[0][1], sequence)
                if whole
                else multi_response(sequence, fanout.shown, fanout.failed)
            )
            customer.session.answered()
            self._context.dirty[customer] = None

    def _delay(self, due: float, customer: Customer, response: bytes) -> None:
        heapq.heappush(self._delayed, (due, next(self._tie), customer, response))
        self._release_at(due)

    def _release_at(self, due: float) -> None:
        if due < self._timer:  # nothing wakes us before
            self._timer = due
            self._context.later(max(0.001, due - self._context.now()), self._release)

    def _release(self) -> None:
        self._timer = _IDLE
        now = self._context.now()
        delayed = self._delayed
        while delayed and delayed[0][0] <= now + 0.002:
            _, _, customer, response = heapq.heappop(delayed)
            try:
                customer.session.out.append(response)
                customer.session.answered()
                self._context.dirty[customer] = None
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.caught(TIMER, error)
        if delayed:
            self._release_at(delayed[0][0])
        self._context.flush()
