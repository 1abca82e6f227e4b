"""Holds parts of long messages that policy wants to see as a whole (``hold_parts``). A part is answered when it is stored,
and held in the spool until the last part is there. Then all parts are released together on one route, or each is refused
with a receipt.

No held part is released without a verdict on the whole message. A message that is not complete after five minutes is
refused. So is the oldest one where the memory for all accounts is used up. An account at its own limit is answered
ESME_RMSGQFUL, and its parts that are held stay. The part that completes a message is held too until it is stored: by then
all other parts are stored, and no part overtakes another.
"""

from __future__ import annotations

from typing import Final

from smppd.message import State, Verdict
from smppd.policy.pipeline import Pipeline
from smppd.protocol.wire import Sm, Status
from smppd.relay import log_counts
from smppd.relay.accept.marks import marks_again
from smppd.relay.accept.routing import Routes
from smppd.relay.accept.verdicts import apply_verdict
from smppd.relay.context import Context
from smppd.relay.guard import COMMIT, ROWS, START, SWEEP
from smppd.relay.reply_senders import ReplySenders
from smppd.relay.send.dispatch import Dispatch
from smppd.relay.state.held import HeldGroup
from smppd.relay.state.model import Account, Message

HOLD: Final = 300.0
HELD: Final = 10_000
"""Parts held of one account."""
HELD_OCTETS: Final = 16 * 1024 * 1024
"""... and their octets, as PDUs."""
HELD_TOTAL: Final = 128 * 1024 * 1024
"""Octets held of all accounts. Above it the oldest message of the account that has most is refused."""


class HeldParts:
    """See the module."""

    def __init__(self, context: Context, dispatch: Dispatch, routes: Routes, replies: ReplySenders) -> None:
        self._context = context
        self._replies = replies
        self._dispatch = dispatch
        self._routes = routes
        self._held = context.phases.held

    # -- at acceptance -------------------------------------------------------------------------------------------------

    def are_held(self, message: Message) -> bool:
        """Whether other parts of its long message are held."""
        return self._held.group(message) is not None

    def make_room(self, account: Account, octets: int) -> bool:
        """Whether another part of the account can be held. Where the memory for all accounts is used up, it makes room."""
        held = self._held
        own = held.accounts.get(account.name)
        if own is not None and (own.parts >= HELD or own.octets + octets > HELD_OCTETS):
            return False
        while held.octets + octets > HELD_TOTAL:
            most = max(held.accounts.values(), key=lambda one: one.octets)
            if most is own:
                return False
            group = next((one for one in most.groups.values() if one.is_stored), None)
            if group is None:
                return False
            self._give_up(most.account, group, log_counts.HELD_LIMIT)
        return True

    def note_verdict(self, message: Message, verdict: Verdict | None, route: str) -> None:
        """With ``message`` the verdict on the whole long message is known; it counts once ``message`` is stored."""
        group = self._held.group(message)
        assert group is not None
        group.last = message.id
        group.verdict = verdict
        group.route = route

    def forget_verdict(self, message: Message) -> None:
        """A message is not stored after all: its verdict is forgotten."""
        group = self._held.group(message)
        if group is not None and group.last == message.id:
            group.last, group.verdict = 0, None

    # -- the store's words ---------------------------------------------------------------------------------------------

    def batch_committed(self, messages: list[Message], now: float) -> None:
        """Messages, or the records of refused ones, are durable. Long messages that are complete now are released or
        refused."""
        for message in messages:
            if message.part is None:
                continue
            try:
                group = self._held.group(message)
                if group is not None and group.last == message.id:
                    self._settle(group, group.verdict, now)
            except Exception as error:  # noqa: BLE001  the item's edge
                self._context.guard.set_message_aside(COMMIT, error, message)

    def batch_refused(self, messages: list[Message]) -> None:
        """Messages were not stored."""
        for message in messages:
            if message.part is not None:
                self.forget_verdict(message)

    # -- what becomes of them ------------------------------------------------------------------------------------------

    def _give_up(self, account: Account, group: HeldGroup, why: log_counts.LogLine) -> None:
        """Refuses a message of which not all came."""
        messages = group.messages
        if account.pipeline is not None and messages:
            account.pipeline.forget_parts(Sm(messages[0].frame))
        self._context.metrics.refused.labels(account.name, "incomplete").inc(len(messages))
        account.count_refused(len(messages))
        self._context.log_counts.count(why, account.name, len(messages))
        for message in messages:
            self._dispatch.end_guarded(message, State.REJECTED, Status.RSUBMITFAIL)

    def _settle(self, group: HeldGroup, verdict: Verdict | None, now: float) -> None:
        messages = group.messages
        group.last, group.verdict = 0, None
        if verdict is not None and verdict.refusal is not None:
            for message in messages:
                self._dispatch.end_guarded(message, State.REJECTED, verdict.refusal.status)
            return
        if not messages:
            return
        context = self._context
        wall = context.wall()
        lane = context.lane(messages[0].account, group.route or messages[0].lane.route)
        for message in messages:
            try:
                if verdict is not None:
                    # The time of each part began when it was accepted, however long the other parts took to come.
                    sm = Sm(message.frame)
                    apply_verdict(message, sm, verdict, min(message.accepted_at, wall))
                    if verdict.restore and verdict.source is not None:
                        self._replies.remember(message.account, sm, verdict.source, kept=True)
                context.phases.to_lane(message, lane)
                context.ledger.rewrite(message)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.set_message_aside(SWEEP, error, message)
        self._dispatch.lanes.serve_lane(lane, now)
        context.store.kick()

    def judge_again(self, now: float) -> None:
        """After a restart policy remembers nothing: it judges the held parts once more."""
        for of in list(self._held.accounts.values()):
            pipeline = of.account.pipeline
            for group in list(of.groups.values()):
                try:
                    self._rejudge(group, pipeline, now)
                except Exception as error:  # noqa: BLE001  the edge of a long message
                    self._context.guard.caught(START, error, owner=of.account.name)

    def judge_adopted(self, messages: list[Message], now: float) -> None:
        """Parts came from another node. Their messages are judged once more, together with what is here of them."""
        groups: dict[int, HeldGroup] = {}
        for one in messages:
            of = self._held.group(one)
            if of is not None:
                groups[id(of)] = of
        for group in groups.values():
            first = group.messages[0]
            pipeline = first.account.pipeline
            try:
                if pipeline is not None:
                    pipeline.forget_parts(Sm(first.frame))
                self._rejudge(group, pipeline, now)
            except Exception as error:  # noqa: BLE001  the edge of a long message
                self._context.guard.caught(ROWS, error, owner=first.account.name)

    def _rejudge(self, group: HeldGroup, pipeline: Pipeline | None, now: float) -> None:
        verdict: Verdict | None = None
        messages = group.messages
        for message in messages:
            verdict = pipeline.decide(Sm(message.frame), now) if pipeline is not None else None
            if verdict is not None and verdict.refusal is not None:
                break
        if verdict is None or not verdict.hold:
            first = messages[0]
            group.route = self._routes.route(first.account.name, Sm(first.frame), verdict)
            if group.route:
                group.route += marks_again(self._context, first, Sm(first.frame), verdict, now)
            self._settle(group, verdict, now)

    def sweep(self, now: float) -> None:
        """Once a second: gives up messages that have waited long enough for their other parts."""
        for of in list(self._held.accounts.values()):
            while of.groups:
                group = next(iter(of.groups.values()))
                if group.since + HOLD > now or not group.is_stored:
                    break
                self._give_up(of.account, group, log_counts.HELD_AGE)
