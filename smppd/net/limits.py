"""Who may connect, how many at once, and who must wait before binding again. Pure: `now` comes from the caller.

IPv6 peers count by their /64: whoever has one address there has them all.
"""

from __future__ import annotations

import ipaddress
from array import array
from collections import OrderedDict
from enum import StrEnum
from typing import Final, Generic, TypeVar

from smppd.config import Limits

TABLE_MAX: Final = 100_000
"""Entries of each table of offenders; beyond it the one seen longest ago is forgotten."""
_MINUTE: Final = 60.0

V = TypeVar("V")


def normal_address(text: str) -> str:
    """An IP address in one form: IPv4-mapped IPv6 becomes IPv4, zones are dropped. Other text stays as it is."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if address.version == 6 and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def address_key(peer: str) -> str:
    """What an address counts as: itself, or for IPv6 its /64."""
    if ":" not in peer:
        return peer
    try:
        packed = ipaddress.IPv6Address(peer.partition("%")[0]).packed
    except ValueError:
        return peer
    return packed[:8].hex()


class Full(StrEnum):
    """Why a connection is not admitted."""

    CONNECTIONS = "connections"
    UNBOUND = "unbound"
    UNBOUND_PER_ADDRESS = "unbound_per_address"


class ConnectionLimits:
    """Counts the customers' connections of all listeners: in total, not bound yet, and of those per address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._per_address: dict[str, int] = {}
        self.connections = 0
        self.unbound = 0

    def reload(self, limits: Limits) -> None:
        """New limits; who is connected stays."""
        self._limits = limits

    def admit(self, peer: str) -> Full | None:
        """Counts a new connection as unbound; the limit it would pass otherwise, and then it is not counted."""
        limits, key = self._limits, address_key(peer)
        if self.connections >= limits.connections:
            return Full.CONNECTIONS
        if self.unbound >= limits.unbound:
            return Full.UNBOUND
        if self._per_address.get(key, 0) >= limits.unbound_per_address:
            return Full.UNBOUND_PER_ADDRESS
        self.connections += 1
        self.unbound += 1
        self._per_address[key] = self._per_address.get(key, 0) + 1
        return None

    def bound(self, peer: str) -> None:
        """An admitted connection has bound: it counts in the total only."""
        self.unbound -= 1
        key = address_key(peer)
        left = self._per_address[key] - 1
        if left:
            self._per_address[key] = left
        else:
            del self._per_address[key]

    def gone(self, peer: str, was_bound: bool) -> None:
        """An admitted connection has ended."""
        if not was_bound:
            self.bound(peer)
        self.connections -= 1


class _Recent(Generic[V]):
    """A table of at most `size` entries, the one touched longest ago is forgotten first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[object, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: object) -> V | None:
        return self._entries.get(key)

    def put(self, key: object, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def drop(self, key: object) -> None:
        self._entries.pop(key, None)


class _Failures:
    """Failed binds of one name from one address."""

    __slots__ = ("delay", "times", "until")

    def __init__(self) -> None:
        self.times = array("d")
        self.delay = 0.0
        self.until = 0.0


class _Offender:
    """Failed binds of one address."""

    __slots__ = ("banned_until", "times")

    def __init__(self) -> None:
        self.times = array("d")
        self.banned_until = 0.0


class Held(StrEnum):
    """Why a bind is refused before its password is looked at."""

    BANNED = "banned"
    DELAYED = "delayed"


class BindGuard:
    """Slows password guessing down: a growing delay per (name, address), a ban per address, no lock of a name alone.

    A name locked for everybody would let anyone shut a customer out.
    """

    def __init__(self, limits: Limits, table_max: int = TABLE_MAX) -> None:
        self._limits = limits
        self._pairs: _Recent[_Failures] = _Recent(table_max)
        self._addresses: _Recent[_Offender] = _Recent(table_max)

    def reload(self, limits: Limits) -> None:
        """New limits; what is known about offenders stays."""
        self._limits = limits

    def held(self, system_id: bytes, peer: str, now: float) -> Held | None:
        """Why this bind must not be tried at `now` (monotonic seconds); None when it may."""
        key = address_key(peer)
        offender = self._addresses.get(key)
        if offender is not None and now < offender.banned_until:
            return Held.BANNED
        failures = self._pairs.get((system_id, key))
        if failures is not None and now < failures.until:
            return Held.DELAYED
        return None

    def failed(self, system_id: bytes, peer: str, now: float) -> bool:
        """Counts a failed bind. True when it brought a ban of the address."""
        limits, key = self._limits, address_key(peer)
        pair = (system_id, key)
        failures = self._pairs.get(pair) or _Failures()
        if _count(failures.times, now, _MINUTE, limits.id_failures) or failures.delay:
            # Doubles with each failure; forgotten once quiet for as long as the longest delay.
            if failures.delay and now - failures.until > limits.id_delay.most:
                failures.delay = 0.0
            else:
                failures.delay = min(max(2 * failures.delay, limits.id_delay.first), limits.id_delay.most)
                failures.until = now + failures.delay
        self._pairs.put(pair, failures)
        offender = self._addresses.get(key) or _Offender()
        banned = _count(offender.times, now, limits.address_window, limits.address_failures)
        if banned:
            offender.banned_until = now + limits.address_ban
            del offender.times[:]
        self._addresses.put(key, offender)
        return banned

    def succeeded(self, system_id: bytes, peer: str) -> None:
        """A right password clears its pair. The address keeps its record: it may be guessing other names."""
        self._pairs.drop((system_id, address_key(peer)))


def _count(times: array[float], now: float, window: float, most: int) -> bool:
    """Adds `now`; whether `most` events lie within `window`. Remembers `most` of them at most."""
    times.append(now)
    old = sum(1 for time in times if time <= now - window)
    del times[: max(old, len(times) - most)]
    return len(times) >= most
