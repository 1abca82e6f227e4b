"""Parts of long messages that policy wants to see whole (``hold_parts``): answered when stored, held in the spool until the
last part is there or five minutes passed, then released together on one route, or each refused with a receipt.

The part that completes a message is held as well until it is stored: then all parts before it are, and none overtakes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from smppd.message import State, Verdict
from smppd.policy.content import PartKey
from smppd.protocol.wire import Sm
from smppd.relay.changes import change
from smppd.relay.context import Context
from smppd.relay.lanes import Lanes
from smppd.relay.model import Account, Message, Phase

HOLD: Final = 300.0
HELD: Final = 10_000


class _Group:
    """The parts of one long message that are here. ``verdict`` counts once the part ``last`` is stored."""

    __slots__ = ("deadline", "last", "messages", "route", "verdict")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.messages: list[Message] = []
        self.last = 0
        self.verdict: Verdict | None = None
        self.route = ""


class Holding:
    """See the module. ``end(message, state, error)`` ends a message with its receipt; ``route(account, sm, verdict)`` gives
    its upstreams' names, empty where no route leads. At ``HELD`` parts the oldest long message no longer waits."""

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
        self._groups: OrderedDict[tuple[str, PartKey], _Group] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def waits(self, account: Account, part: PartKey | None) -> bool:
        """Whether parts of this long message are held."""
        return part is not None and (account.name, part) in self._groups

    def add(self, message: Message, now: float) -> None:
        """Holds a part."""
        message.enter(Phase.HELD)
        assert message.part is not None
        key = (message.account.name, message.part)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(now + HOLD)
        group.messages.append(message)
        self._count += 1
        self._lanes.file(message)

    def decide(self, message: Message, verdict: Verdict | None, route: str) -> None:
        """With ``message`` the verdict on the whole long message is known; it counts once ``message`` is stored."""
        assert message.part is not None
        group = self._groups[message.account.name, message.part]
        group.last = message.id
        group.verdict = verdict
        group.route = route

    def stored(self, message: Message, now: float) -> None:
        """A message of a held group is durable, or the record of its refusal is."""
        assert message.part is not None
        key = (message.account.name, message.part)
        group = self._groups.get(key)
        if group is not None and group.last == message.id:
            self._settle(key, group, now)

    def lost(self, message: Message) -> None:
        """A part was not stored."""
        if message.part is None:
            return
        key = (message.account.name, message.part)
        group = self._groups.get(key)
        if group is None:
            return
        if group.last == message.id:
            group.last, group.verdict = 0, None
        self._remove(key, group, message)

    def take_out(self, message: Message) -> None:
        """A part is going to end by itself."""
        assert message.part is not None
        key = (message.account.name, message.part)
        self._remove(key, self._groups[key], message)

    def _remove(self, key: tuple[str, PartKey], group: _Group, message: Message) -> None:
        if message in group.messages:
            group.messages.remove(message)
            self._count -= 1
        if not group.messages:
            self._groups.pop(key, None)

    def _settle(self, key: tuple[str, PartKey], group: _Group, now: float) -> None:
        del self._groups[key]
        self._count -= len(group.messages)
        verdict = group.verdict
        messages = sorted(group.messages, key=lambda one: one.id)
        if verdict is not None and verdict.refusal is not None:
            for message in messages:
                self._end(message, State.REJECTED, verdict.refusal.status)
            return
        context, lanes = self._context, self._lanes
        batch = context.store.batch
        wall = context.wall()
        lane = lanes.lane(messages[0].account, group.route or messages[0].lane.route) if messages else None
        for message in messages:
            assert lane is not None
            if verdict is not None:
                # Its own time began when it was accepted, however long the other parts took.
                change(message, Sm(message.frame), verdict, min(message.accepted_at, wall))
            message.lane = lane
            message.enter(Phase.QUEUED)
            context.journal.remove(message)
            batch.marks.append(message.entry())
            context.journal.add(message)
            lanes.insert(message)
        if lane is not None:
            lanes.place(lane, now)
            lanes.activate(lane)
            if lane.active is not None:
                lanes.pump(lane.active, now)
        context.store.kick()

    def rejudge(self, now: float) -> None:
        """After a restart: what was held is shown to policy once more, which remembers nothing of it."""
        for key, group in list(self._groups.items()):
            pipeline = self._context.account(key[0]).pipeline
            verdict: Verdict | None = None
            for message in sorted(group.messages, key=lambda one: one.id):
                verdict = pipeline.decide(Sm(message.frame), now) if pipeline is not None else None
                if verdict is not None and verdict.refusal is not None:
                    break
            if verdict is None or not verdict.hold:
                group.verdict = verdict
                first = group.messages[0]
                group.route = self._route(first.account, Sm(first.frame), verdict)
                self._settle(key, group, now)

    def sweep(self, now: float, wall: float) -> None:
        """Once a second: parts whose validity passed, and messages that have waited long enough."""
        while self._groups:
            key, group = next(iter(self._groups.items()))
            if group.deadline > now and self._count <= HELD:
                break
            if any(not message.stored for message in group.messages):
                break
            self._settle(key, group, now)
        for group in list(self._groups.values()):
            for message in [m for m in group.messages if m.expires <= wall and m.stored]:
                self.take_out(message)
                self._end(message, State.EXPIRED, 0)
