"""The parts of long messages that policy wants to see whole, by account and long message. `relay.accept.parts` decides what
becomes of them; `relay.state.phases` puts them in and takes them out."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from smppd.relay.state.model import Account, Message

if TYPE_CHECKING:
    from smppd.message import Verdict
    from smppd.policy.content import PartKey


class HeldGroup:
    """The parts of one long message that are held, each with the octets it is counted with. ``verdict`` and ``route`` count
    from the moment that the part with the id ``last`` is stored. ``since``: monotonic seconds at which the first part
    came."""

    __slots__ = ("last", "octets", "parts", "route", "since", "verdict")

    def __init__(self, since: float) -> None:
        self.since = since
        self.parts: dict[int, tuple[Message, int]] = {}
        self.octets = 0
        self.last = 0
        self.verdict: Verdict | None = None
        self.route = ""

    @property
    def messages(self) -> list[Message]:
        """Its parts, in the order they came."""
        return [message for _, (message, _) in sorted(self.parts.items())]

    @property
    def is_stored(self) -> bool:
        """Whether all of it is durable, and nothing is decided."""
        return self.last == 0 and all(message.stored for message, _ in self.parts.values())


class HeldOfAccount:
    """What is held of one account, the oldest long message first."""

    __slots__ = ("account", "groups", "octets", "parts")

    def __init__(self, account: Account) -> None:
        self.account = account
        self.groups: OrderedDict[PartKey, HeldGroup] = OrderedDict()
        self.parts = 0
        self.octets = 0


class Held:
    """See the module."""

    def __init__(self) -> None:
        self.accounts: dict[str, HeldOfAccount] = {}
        self._count = 0
        self._octets = 0

    def __len__(self) -> int:
        return self._count

    @property
    def octets(self) -> int:
        """Octets of all that is held, as PDUs."""
        return self._octets

    def group(self, message: Message) -> HeldGroup | None:
        """The parts of the long message that this one belongs to, where some are held."""
        if message.part is None:
            return None
        of = self.accounts.get(message.account.name)
        return of.groups.get(message.part) if of is not None else None

    def add(self, message: Message, now: float) -> None:
        """Puts a part in. Called by `relay.state.phases` alone."""
        assert message.part is not None
        name = message.account.name
        of = self.accounts.get(name)
        if of is None:
            of = self.accounts[name] = HeldOfAccount(message.account)
        group = of.groups.get(message.part)
        if group is None:
            group = of.groups[message.part] = HeldGroup(now)
        octets = len(message.frame)
        group.parts[message.id] = (message, octets)
        self._counted(of, group, 1, octets)

    def remove(self, message: Message) -> None:
        """Takes a part out, if it is here. Called by `relay.state.phases` alone."""
        of = self.accounts.get(message.account.name)
        group = self.group(message)
        if of is None or group is None or message.part is None:
            return
        entry = group.parts.pop(message.id, None)
        if entry is None:
            return
        self._counted(of, group, -1, -entry[1])
        if not group.parts:
            del of.groups[message.part]
            if not of.groups:
                del self.accounts[message.account.name]

    def _counted(self, of: HeldOfAccount, group: HeldGroup, parts: int, octets: int) -> None:
        group.octets += octets
        of.parts += parts
        of.octets += octets
        self._count += parts
        self._octets += octets
