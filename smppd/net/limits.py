"""Who may connect, how many at once, and who must wait before binding again. Pure: `now` comes from the caller.

IPv6 peers count by their /64: whoever has one address there has them all. The network of a peer is its /24, for IPv6 its /56:
what one customer of an access provider or of a data centre commonly has at hand.
"""

from __future__ import annotations

import ipaddress
import socket
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from heapq import heapify, heappop, heappush
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from smppd.config import Account, IPNetwork, Limits

TABLE_MAX: Final = 20_000
"""Entries of each table of offenders; beyond it the one seen longest ago is forgotten. Passwords are checked some hundred a
second, 60,000 in `address_window`: a guesser with 3,000 addresses, each one failure short of its ban, takes all of that. With
more addresses than are remembered he gains nothing, so a larger table would take memory and protect nobody."""
NAMES: Final = 10
"""Different names that failed, from which on an address is banned although it serves customers."""
GOOD_FOR: Final = 86400.0
"""Seconds for which an address with a good bind counts as one that serves customers."""
BANS: Final = 10_000
"""Bans that can be listed."""
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


def network_key(peer: str) -> str:
    """The network that an address counts to: the /24 of IPv4, the /56 of IPv6."""
    if ":" not in peer:
        return peer.rpartition(".")[0] or peer
    try:
        packed = ipaddress.IPv6Address(peer.partition("%")[0]).packed
    except ValueError:
        return peer
    return packed[:7].hex()


class Networks:
    """Some networks; whether an address lies in one is a few look-ups, however many they are."""

    def __init__(self, networks: Iterable[IPNetwork] = ()) -> None:
        self._prefixes: dict[tuple[int, int], set[int]] = {}  # (version, bits behind the prefix) -> prefixes
        for network in networks:
            hidden = network.max_prefixlen - network.prefixlen
            self._prefixes.setdefault((network.version, hidden), set()).add(int(network.network_address) >> hidden)

    @classmethod
    def of(cls, accounts: Iterable[Account]) -> Networks:
        """The networks that accounts name; `any` names none."""
        return cls(network for one in accounts if one.networks != "any" for network in one.networks)

    def __bool__(self) -> bool:
        return bool(self._prefixes)

    def has(self, peer: str) -> bool:
        """Whether the address lies in one of them; text that is no address does not."""
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        number, version = int(address), address.version
        return any(kind == version and number >> bits in known for (kind, bits), known in self._prefixes.items())


class AdmissionRefusal(StrEnum):
    """Why a connection is not admitted, or has to go before it has bound."""

    CONNECTIONS = "connections"
    UNBOUND = "unbound"
    UNBOUND_PER_ADDRESS = "unbound_per_address"
    EVICTED = "evicted"
    BANNED = "banned"


class Evictable(Protocol):
    """A connection that can be asked to leave."""

    @property
    def idle(self) -> bool:
        """Whether it has sent nothing so far, and had the time to."""

    def evict(self) -> None:
        """Its place is given to another connection. It must not be reported as gone after this."""


_Kept = dict[Evictable, int]
"""Who is not bound yet, with a running number, in the order of coming."""


class ConnectionLimits:
    """Counts the customers' connections of all listeners: in total, not bound yet, and of those per address.

    When there is no room for another that is not bound yet, the network that holds most of those places gives up its oldest
    one; an address with all of its own gives up one that has said nothing. `unbound_reserved` of the places are for the
    accounts' own networks: strangers never fill them.
    """

    def __init__(self, limits: Limits, known: Networks | None = None) -> None:
        self._limits = limits
        self._known = known or Networks()
        self._per_address: dict[str, int] = {}
        self._bound: dict[str, int] = {}
        self._kept: tuple[dict[str, _Kept], dict[str, _Kept]] = ({}, {})  # by known networks, by strangers
        self._where: dict[Evictable, tuple[bool, str, str]] = {}  # known, network, peer
        # For each network the negative number of places that it holds, and the number of its oldest connection: the first
        # entry names the network that gives up a place next. An entry whose network has changed since is ignored.
        self._fullest: tuple[list[tuple[int, int, str]], list[tuple[int, int, str]]] = ([], [])
        self._number = 0
        self.strangers = 0
        self.connections = 0
        self.unbound = 0

    def reload(self, limits: Limits, known: Networks | None = None) -> None:
        """New limits; who is connected stays, and counts as before."""
        self._limits = limits
        self._known = self._known if known is None else known

    def admit(self, peer: str, guest: Evictable | None = None) -> AdmissionRefusal | None:
        """Counts a new connection as unbound; the limit it would pass otherwise, and then it is not counted. One without
        `guest` can't be asked to leave later."""
        limits, key = self._limits, address_key(peer)
        if self.connections >= limits.connections:
            return AdmissionRefusal.CONNECTIONS
        known = self._known.has(peer)
        if self._per_address.get(key, 0) >= limits.unbound_per_address and not self._evict_idle(known, peer):
            return AdmissionRefusal.UNBOUND_PER_ADDRESS
        if not self._room(known):
            return AdmissionRefusal.UNBOUND
        self.connections += 1
        self.unbound += 1
        self._per_address[key] = self._per_address.get(key, 0) + 1
        if guest is not None:
            network = network_key(peer)
            self._number += 1
            self._where[guest] = known, network, peer
            self._kept[not known].setdefault(network, {})[guest] = self._number
            self._changed(not known, network)
            self.strangers += not known
        return None

    def bound(self, peer: str, guest: Evictable | None = None) -> None:
        """An admitted connection has bound: it counts in the total only."""
        self._leave(peer, guest)
        key = address_key(peer)
        self._bound[key] = self._bound.get(key, 0) + 1

    def gone(self, peer: str, was_bound: bool, guest: Evictable | None = None) -> None:
        """An admitted connection has ended."""
        if was_bound:
            _less(self._bound, address_key(peer))
        else:
            self._leave(peer, guest)
        self.connections -= 1

    def serves(self, peer: str) -> bool:
        """Whether a connection from this address is bound now."""
        return address_key(peer) in self._bound

    # -- making room -----------------------------------------------------------------------------------------------

    def _room(self, known: bool) -> bool:
        limits = self._limits
        reserved = min(limits.unbound_reserved, limits.unbound - 1) if self._known else 0
        if not known and self.strangers >= limits.unbound - reserved:
            return self._evict((1,))
        return self.unbound < limits.unbound or self._evict((0, 1))

    def _evict(self, kinds: tuple[int, ...]) -> bool:
        """Frees a place of the network that holds most. Of two that hold as many it is the one whose connection has waited
        longer."""
        most = [(*first, kind) for kind in kinds if (first := self._most(kind)) is not None]
        if not most:
            return False
        *_, network, kind = min(most)
        self._dismiss(next(iter(self._kept[kind][network])))
        return True

    def _most(self, kind: int) -> tuple[int, int, str] | None:
        """The place of the network that holds most. In a flood each connection asks for it, so it must not search."""
        places, kept = self._fullest[kind], self._kept[kind]
        while places:
            number, oldest, network = places[0]
            guests = kept.get(network)
            if guests is not None and len(guests) == -number and next(iter(guests.values())) == oldest:
                return places[0]
            heappop(places)
        return None

    def _changed(self, kind: int, network: str) -> None:
        places, kept = self._fullest[kind], self._kept[kind]
        guests = kept.get(network)
        if guests is not None:
            heappush(places, (-len(guests), next(iter(guests.values())), network))
        if len(places) > 4 * len(kept) + 64:
            places[:] = [(-len(guests), next(iter(guests.values())), name) for name, guests in kept.items()]
            heapify(places)

    def _evict_idle(self, known: bool, peer: str) -> bool:
        """Frees a place of an address that has all its places, and takes it from a connection that is idle: many sessions
        that come back at once must not push each other out in the middle of their binds."""
        key = address_key(peer)
        for guest in self._kept[not known].get(network_key(peer), ()):
            if guest.idle and address_key(self._where[guest][2]) == key:
                self._dismiss(guest)
                return True
        return False

    def _dismiss(self, victim: Evictable) -> None:
        self._leave(self._where[victim][2], victim)
        self.connections -= 1
        victim.evict()

    def _leave(self, peer: str, guest: Evictable | None) -> None:
        """A connection is no longer one that is not bound yet."""
        self.unbound -= 1
        _less(self._per_address, address_key(peer))
        if guest is not None:
            known, network, _ = self._where.pop(guest)
            kept = self._kept[not known][network]
            del kept[guest]
            if not kept:
                del self._kept[not known][network]
            self._changed(not known, network)
            self.strangers -= not known


def _less(counts: dict[str, int], key: str) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]


class LeastRecent(Generic[V]):
    """A table of at most `size` entries. The entry that was not used for the longest time is forgotten first."""

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

    def __iter__(self) -> Iterator[object]:
        return iter(self._entries)


class _Failures:
    """Failed binds of one name from one address."""

    __slots__ = ("banned_until", "delay", "last", "many", "times", "until")

    def __init__(self) -> None:
        self.last = 0.0
        self.times = array("d")
        self.many = array("d")
        self.delay = 0.0
        self.until = 0.0
        self.banned_until = 0.0


class _Offender:
    """Failed binds of one address."""

    __slots__ = ("banned_until", "names", "times")

    def __init__(self) -> None:
        self.times = array("d")
        self.names: dict[int, float] = {}  # hash of each, when it failed last; in that order
        self.banned_until = 0.0


class BindHold(StrEnum):
    """Why a bind is refused before its password is looked at."""

    BANNED = "banned"
    DELAYED = "delayed"


class Ban(NamedTuple):
    """A ban that stands."""

    address: str
    """The address, or for IPv6 its /64."""
    system_id: bytes | None
    """The name whose binds from there are refused; None: every connection from there."""
    left: float
    """Seconds until it ends by itself."""


class BindGuard:
    """Slows password guessing down: a growing delay per (name, address), a ban per address, no lock of a name alone.

    A name locked for everybody would let anyone shut a customer out. And where an address serves customers (one of them is
    bound from there, or was within `GOOD_FOR`), twenty failures of one name ban that name from there and nobody else, since
    several customers may stand behind one address; only failures of `NAMES` different names ban such an address whole.
    """

    def __init__(
        self, limits: Limits, table_max: int = TABLE_MAX, serves: Callable[[str], bool] = lambda peer: False
    ) -> None:
        """`serves`: whether a connection from an address is bound now."""
        self._limits = limits
        self._serves = serves
        self._pairs: LeastRecent[_Failures] = LeastRecent(table_max)
        self._addresses: LeastRecent[_Offender] = LeastRecent(table_max)
        self._good: LeastRecent[float] = LeastRecent(table_max)
        self._lifted: LeastRecent[float] = LeastRecent(table_max)  # when the operator forgave an address
        self._standing: dict[tuple[bytes | None, str], float] = {}  # bans, until when

    def reload(self, limits: Limits) -> None:
        """New limits; what is known about offenders stays."""
        self._limits = limits

    def banned(self, peer: str, now: float) -> bool:
        """Whether nothing at all is taken from this address at `now` (monotonic seconds)."""
        offender = self._addresses.get(address_key(peer))
        return offender is not None and now < offender.banned_until

    def hold_of(self, system_id: bytes, peer: str, now: float) -> BindHold | None:
        """Why this bind must not be tried at `now`; None when it may."""
        if self.banned(peer, now):
            return BindHold.BANNED
        failures = self._failures(system_id, address_key(peer))
        if failures is None:
            return None
        if now < failures.banned_until:
            return BindHold.BANNED
        return BindHold.DELAYED if now < failures.until else None

    def failed(self, system_id: bytes, peer: str, now: float) -> bool:
        """Counts a failed bind. True when it brought a ban, of the address or of this name from there."""
        limits, key = self._limits, address_key(peer)
        pair = (system_id, key)
        failures = self._failures(system_id, key) or _Failures()
        failures.last = now
        if _count(failures.times, now, _MINUTE, limits.id_failures) or failures.delay:
            # Doubles with each failure; forgotten once quiet for as long as the longest delay.
            if failures.delay and now - failures.until > limits.id_delay.most:
                failures.delay = 0.0
            else:
                failures.delay = min(max(2 * failures.delay, limits.id_delay.first), limits.id_delay.most)
                failures.until = now + failures.delay
        many = _count(failures.many, now, limits.address_window, limits.address_failures)
        self._pairs.put(pair, failures)
        offender = self._addresses.get(key) or _Offender()
        over = _count(offender.times, now, limits.address_window, limits.address_failures)
        self._addresses.put(key, offender)
        # A dictionary of hashes: of 100,000 addresses with ten names each that is 100 MB less.
        name = hash(system_id)
        offender.names.pop(name, None)
        offender.names[name] = now
        while len(offender.names) > NAMES or now - next(iter(offender.names.values())) > limits.address_window:
            del offender.names[next(iter(offender.names))]
        if over and (len(offender.names) >= NAMES or not self._good_from(peer, key, now)):
            offender.banned_until = now + limits.address_ban
            del offender.times[:]
            self._stands(None, key, offender.banned_until, now)
            return True
        if many:
            failures.banned_until = now + limits.address_ban
            del failures.many[:]
            self._stands(system_id, key, failures.banned_until, now)
        return many

    def _failures(self, system_id: bytes, key: str) -> _Failures | None:
        """What this name failed from there, unless that was forgiven since."""
        failures = self._pairs.get((system_id, key))
        if failures is not None and (lifted := self._lifted.get(key)) is not None and failures.last <= lifted:
            return None
        return failures

    def _good_from(self, peer: str, key: str, now: float) -> bool:
        when = self._good.get(key)
        return self._serves(peer) or (when is not None and now - when < GOOD_FOR)

    def succeeded(self, system_id: bytes, peer: str, now: float = 0.0) -> None:
        """A right password ends the delay of its pair. What counts towards a ban stays: the address may be guessing other
        names, and another behind it this one."""
        key = address_key(peer)
        failures = self._failures(system_id, key)
        if failures is not None:
            del failures.times[:]
            failures.delay = failures.until = 0.0
        self._good.put(key, now)

    # -- bans, for the operator ------------------------------------------------------------------------------------

    def _stands(self, system_id: bytes | None, key: str, until: float, now: float) -> None:
        self._standing.pop((system_id, key), None)
        self._standing[system_id, key] = until
        while len(self._standing) > BANS or next(iter(self._standing.values())) <= now:
            del self._standing[next(iter(self._standing))]

    def bans(self, now: float) -> Iterator[Ban]:
        """All bans that stand at `now`, the oldest first; of more than `BANS` the newest."""
        self._forget(now)
        return (Ban(_shown(key), name, until - now) for (name, key), until in list(self._standing.items()))

    def _forget(self, now: float) -> None:
        self._standing = {what: until for what, until in self._standing.items() if until > now}

    def count(self, now: float) -> tuple[int, int]:
        """How many bans stand: of addresses, of names."""
        self._forget(now)
        whole = sum(name is None for name, _ in self._standing)
        return whole, len(self._standing) - whole

    def lift(self, peer: str, now: float) -> int:
        """Ends all bans and delays of an address (for IPv6, of its /64); how many bans there were."""
        key = address_key(peer)
        over = [what for what, until in self._standing.items() if what[1] == key and until > now]
        for what in over:
            del self._standing[what]
        self._addresses.drop(key)
        self._lifted.put(key, now)  # what each name failed from there is not searched for
        return len(over)


def _shown(key: str) -> str:
    """An address as people write it, from what it counts as."""
    if "." in key or len(key) != 16:
        return key
    return f"{socket.inet_ntop(socket.AF_INET6, bytes.fromhex(key) + bytes(8))}/64"  # a tenth of what `ipaddress` takes


def _count(times: array[float], now: float, window: float, most: int) -> bool:
    """Adds `now`; whether `most` events lie within `window`. Remembers `most` of them at most."""
    times.append(now)
    old = sum(1 for time in times if time <= now - window)
    del times[: max(old, len(times) - most)]
    return len(times) >= most


class BindRate:
    """How often an account may bind from one address: `limits.account_binds` a minute, or twice its `max_binds` if that is
    more, so that all sessions of a large customer can come back at once. Who is over it has shown the right password, so it
    is told."""

    def __init__(self, limits: Limits, table_max: int = TABLE_MAX) -> None:
        self._limits = limits
        self._pairs: LeastRecent[tuple[float, float]] = LeastRecent(table_max)  # binds left, when that was so

    def reload(self, limits: Limits) -> None:
        """New limits; what was used of the old ones stays used."""
        self._limits = limits

    def allows(self, account: str, peer: str, max_binds: int, now: float) -> bool:
        """Whether one bind more is inside the rate at `now` (monotonic seconds); it counts if it is."""
        most = float(max(self._limits.account_binds, 2 * max_binds))
        key = (account, address_key(peer))
        left, since = self._pairs.get(key) or (most, now)
        left = min(most, left + (now - since) * most / _MINUTE)
        allowed = left >= 1.0
        self._pairs.put(key, (left - 1.0 if allowed else left, now))
        return allowed
