"""Parts of long messages that policy wants to see whole (``hold_parts``): answered when stored, held in the spool until the
last part is there, then released together on one route, or each refused with a receipt.

Nothing that is held is ever released without a verdict on the whole. What is not whole after five minutes is refused; so is
what has to go since the memory of all is used up. An account at its own limit is answered ESME_RMSGQFUL, and what it has held
before stays. The part that completes a message is held as well until it is stored: then all parts before it are, and none
overtakes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from smppd.message import State, Verdict
from smppd.policy.content import PartKey
from smppd.policy.pipeline import Pipeline
from smppd.protocol.wire import Sm, Status
from smppd.relay import log_counts
from smppd.relay.accept.verdicts import change
from smppd.relay.context import Context
from smppd.relay.guard import START, SWEEP
from smppd.relay.send.lanes import Lanes
from smppd.relay.state.model import Account, Message, Phase

HOLD: Final = 300.0
HELD: Final = 10_000
"""Parts held of one account."""
HELD_OCTETS: Final = 16 * 1024 * 1024
"""... and their octets, as PDUs."""
HELD_TOTAL: Final = 128 * 1024 * 1024
"""Octets held of all accounts: beyond, the oldest message of the account that has most is refused."""


class _Group:
    """The parts of one long message that are here. ``verdict`` counts once the part ``last`` is stored."""

    __slots__ = ("deadline", "last", "messages", "octets", "route", "verdict")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.messages: list[Message] = []
        self.octets = 0
        self.last = 0
        self.verdict: Verdict | None = None
        self.route = ""


class _Held:
    """What is held of one account, the oldest message first."""

    __slots__ = ("account", "groups", "octets", "parts")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.groups: OrderedDict[PartKey, _Group] = OrderedDict()
        self.parts = 0
        self.octets = 0


class Holding:
    """See the module. ``end(message, state, error)`` ends a message with its receipt; ``route(account, sm, verdict)`` gives
    its upstreams' names, empty where no route leads."""

    def __init__(
        self,
        context: Context,
        lanes: Lanes,
        end: Callable[[Message, State, int], None],
        route: Callable[[Account, Sm, Verdict | None], str],
    ) -> None:
        self._context = context
        self._lanes = lanes
        self._end = end
        self._route = route
        self._held: dict[str, _Held] = {}
        self._soon: dict[int, Message] = {}  # their validity may pass while they are held
        self._count = 0
        self._octets = 0

    def __len__(self) -> int:
        return self._count

    @property
    def octets(self) -> int:
        """Octets of all that is held."""
        return self._octets

    def waits(self, account: Account, part: PartKey | None) -> bool:
        """Whether parts of this long message are held."""
        held = self._held.get(account.name)
        return part is not None and held is not None and part in held.groups

    def room(self, account: Account, octets: int) -> bool:
        """Whether another part of the account can be held; room is made where the memory of all accounts is used up."""
        held = self._held.get(account.name)
        if held is not None and (held.parts >= HELD or held.octets + octets > HELD_OCTETS):
            return False
        while self._octets + octets > HELD_TOTAL:
            most = max(self._held.values(), key=lambda one: one.octets)
            if most is held:
                return False
            stored = (key for key, group in most.groups.items() if _is_stored(group))
            key = next(stored, None)
            if key is None:
                return False
            self._give_up(most, key, log_counts.HELD_LIMIT)
        return True

    def add(self, message: Message, now: float) -> None:
        """Holds a part."""
        message.enter(Phase.HELD)
        assert message.part is not None
        name = message.account.name
        held = self._held.get(name)
        if held is None:
            held = self._held[name] = _Held(message.account)
        group = held.groups.get(message.part)
        if group is None:
            group = held.groups[message.part] = _Group(now + HOLD)
        group.messages.append(message)
        self._counted(held, group, 1, len(message.frame))
        if message.expires <= self._context.wall() + HOLD:
            self._soon[message.id] = message
        self._lanes.file(message)

    def _counted(self, held: _Held, group: _Group, parts: int, octets: int) -> None:
        group.octets += octets
        held.parts += parts
        held.octets += octets
        self._count += parts
        self._octets += octets
        if not held.parts:
            self._held.pop(held.account.name, None)

    def decide(self, message: Message, verdict: Verdict | None, route: str) -> None:
        """With ``message`` the verdict on the whole long message is known; it counts once ``message`` is stored."""
        assert message.part is not None
        group = self._held[message.account.name].groups[message.part]
        group.last = message.id
        group.verdict = verdict
        group.route = route

    def stored(self, message: Message, now: float) -> None:
        """A message of a held group is durable, or the record of its refusal is."""
        held, group = self._group(message)
        if held is not None and group is not None and group.last == message.id:
            assert message.part is not None
            self._settle(held, message.part, group.verdict, now)

    def lost(self, message: Message) -> None:
        """A part was not stored."""
        held, group = self._group(message)
        if held is None or group is None:
            return
        if group.last == message.id:
            group.last, group.verdict = 0, None
        self._remove(held, group, message)

    def take_out(self, message: Message) -> None:
        """A part is going to end by itself."""
        held, group = self._group(message)
        if held is not None and group is not None:
            self._remove(held, group, message)

    def _group(self, message: Message) -> tuple[_Held | None, _Group | None]:
        if message.part is None:
            return None, None
        held = self._held.get(message.account.name)
        return held, held.groups.get(message.part) if held is not None else None

    def _remove(self, held: _Held, group: _Group, message: Message) -> None:
        assert message.part is not None
        self._soon.pop(message.id, None)
        if message in group.messages:
            group.messages.remove(message)
            self._counted(held, group, -1, -len(message.frame))
        if not group.messages:
            held.groups.pop(message.part, None)

    def _give_up(self, held: _Held, key: PartKey, why: log_counts.Line) -> None:
        """Refuses a message of which not all came."""
        group = held.groups.pop(key)
        account = held.account
        self._counted(held, group, -len(group.messages), -group.octets)
        if account.pipeline is not None and group.messages:
            account.pipeline.forget(Sm(group.messages[0].frame))
        self._context.metrics.refused.labels(account.name, "incomplete").inc(len(group.messages))
        self._context.tally.add(why, account.name, len(group.messages))
        for message in sorted(group.messages, key=lambda one: one.id):
            self._soon.pop(message.id, None)
            self._ends(message, State.REJECTED, Status.RSUBMITFAIL)

    def _ends(self, message: Message, state: State, error: int) -> None:
        """Ends one of many: what it raises stops none of the others."""
        try:
            self._end(message, state, error)
        except Exception as caught:  # noqa: BLE001  the item's edge
            self._context.guard.message(SWEEP, caught, message)

    def _settle(self, held: _Held, key: PartKey, verdict: Verdict | None, now: float) -> None:
        group = held.groups.pop(key)
        self._counted(held, group, -len(group.messages), -group.octets)
        messages = sorted(group.messages, key=lambda one: one.id)
        for message in messages:
            self._soon.pop(message.id, None)
        if verdict is not None and verdict.refusal is not None:
            for message in messages:
                self._ends(message, State.REJECTED, verdict.refusal.status)
            return
        context, lanes = self._context, self._lanes
        batch = context.store.batch
        wall = context.wall()
        lane = lanes.lane(messages[0].account, group.route or messages[0].lane.route) if messages else None
        for message in messages:
            assert lane is not None
            try:
                if verdict is not None:
                    # Its own time began when it was accepted, however long the other parts took.
                    change(message, Sm(message.frame), verdict, min(message.accepted_at, wall))
                message.lane = lane
                message.enter(Phase.QUEUED)
                entry = message.entry()  # tried first
                context.journal.remove(message)
                batch.marks.append(entry)
                context.journal.add(message)
                lanes.insert(message)
            except Exception as error:  # noqa: BLE001  the item's edge
                context.guard.message(SWEEP, error, message)
        if lane is not None:
            lanes.place(lane, now)
            lanes.activate(lane)
            if lane.active is not None:
                lanes.pump(lane.active, now)
        context.store.kick()

    def rejudge(self, now: float) -> None:
        """After a restart: what was held is shown to policy once more, which remembers nothing of it."""
        for held in list(self._held.values()):
            pipeline = held.account.pipeline
            for key, group in list(held.groups.items()):
                try:
                    self._rejudge(held, key, group, pipeline, now)
                except Exception as error:  # noqa: BLE001  the edge of a long message
                    self._context.guard.caught(START, error, owner=held.account.name)

    def _rejudge(self, held: _Held, key: PartKey, group: _Group, pipeline: Pipeline | None, now: float) -> None:
        verdict: Verdict | None = None
        for message in sorted(group.messages, key=lambda one: one.id):
            verdict = pipeline.decide(Sm(message.frame), now) if pipeline is not None else None
            if verdict is not None and verdict.refusal is not None:
                break
        if verdict is None or not verdict.hold:
            first = group.messages[0]
            group.route = self._route(first.account, Sm(first.frame), verdict)
            self._settle(held, key, verdict, now)

    def sweep(self, now: float, wall: float) -> None:
        """Once a second: parts whose validity passed, and messages that have waited long enough."""
        for held in list(self._held.values()):
            while held.groups:
                key, group = next(iter(held.groups.items()))
                if group.deadline > now or not _is_stored(group):
                    break
                self._give_up(held, key, log_counts.HELD_AGE)
        for message in [m for m in self._soon.values() if m.expires <= wall and m.stored]:
            self.take_out(message)
            self._ends(message, State.EXPIRED, 0)


def _is_stored(group: _Group) -> bool:
    return group.last == 0 and all(message.stored for message in group.messages)
