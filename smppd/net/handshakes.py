"""Decides whose TLS handshake is made next, and when. A handshake costs more than anything else that a peer can ask for
before it has bound.

Rules:
  1. A handshake is asked for when the ClientHello is whole, and made at once where nobody waits and no limit stands against it.
  2. All handshakes together take at most `limits.handshake_share` of the reactor's time: after one that took t, the next begins
     no sooner than its share allows, so that sessions are served in between. The hello after a HelloRetryRequest (RFC 8446
     section 4.1.4), which nearly all of it is for, waits like the first; what other later messages cost is added.
  3. Of that the dear ones (P-384, see `hello.dear`) have a tenth: each keeps the reactor ten times as long as another. They
     stand in a line of their own, so others are behind one of them at most.
  4. Each address and each network (IPv4 /24, IPv6 /56) has a rate and a burst; the accounts' own networks four times as much.
  5. Who is over a rate waits, within the deadline for the handshake. Networks take turns, in a network its addresses; and
     every second turn belongs to the accounts' networks, as long as one of them waits.
Who waits is an unbound connection and counts as one, so the queue has the limit of those.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from math import inf
from typing import Any, Final, Protocol

from smppd.config import Limits
from smppd.net.limits import TABLE_MAX, LeastRecent, Networks, address_key, network_key

KNOWN_MORE: Final = 4
"""How many times the rates an address has in a network of an account: there many sessions come back at once."""
DEAR_PART: Final = 10
"""Dear handshakes have one part in so many of the share."""
_LOOK: Final = 0.02
"""Seconds until those over their rate are looked at again."""


class Waiting(Protocol):
    """A connection whose hello is here, its first or the one after a HelloRetryRequest."""

    peer: str
    dear: bool
    """Whether its handshake takes ten times as long as another."""

    def shake(self) -> None:
        """Makes the costly step of the handshake."""


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at

    def full(self, now: float, rate: float, burst: float) -> bool:
        """Whether it holds a token."""
        self.tokens = min(burst, self.tokens + (now - self.at) * rate)
        self.at = now
        return self.tokens >= 0.999  # less than 1 by rounding


_Line = OrderedDict[str, OrderedDict[str, deque[Waiting]]]
"""Network -> address -> who waits, in the order of the next turns."""


class _Queue:
    """The connections whose handshakes cost about the same: those from the accounts' networks, those of strangers, and which
    of the two is next."""

    __slots__ = ("lines", "turn")

    def __init__(self) -> None:
        self.lines: tuple[_Line, _Line] = (OrderedDict(), OrderedDict())
        self.turn = 0

    def __bool__(self) -> bool:
        return bool(self.lines[0] or self.lines[1])

    def __len__(self) -> int:
        return sum(len(pipes) for line in self.lines for places in line.values() for pipes in places.values())


class Handshakes:
    """The queues of all listeners."""

    def __init__(self, clock: Any, limits: Limits, known: Networks, table_max: int = TABLE_MAX) -> None:
        """`clock`: IReactorTime. `known`: the accounts' networks."""
        self._clock = clock
        self._limits = limits
        self._known = known
        self._addresses: LeastRecent[_Bucket] = LeastRecent(table_max)
        self._networks: LeastRecent[_Bucket] = LeastRecent(table_max)
        self._usual, self._dear = _Queue(), _Queue()
        self._next = self._next_dear = 0.0
        self._timer: Any = None
        self.on_wait: Callable[[], None] = lambda: None
        """Called for each one that could not be made at once."""

    def __len__(self) -> int:
        return len(self._usual) + len(self._dear)

    def reload(self, limits: Limits, known: Networks) -> None:
        """New limits and networks; who waits stays where it is."""
        self._limits, self._known = limits, known

    def request_turn(self, pipe: Waiting) -> None:
        """The hello of `pipe` is whole: `pipe.shake` is called now or later, once, unless it leaves before."""
        queue = self._dear if pipe.dear else self._usual
        line = queue.lines[0 if self._known.has(pipe.peer) else 1]
        line.setdefault(network_key(pipe.peer), OrderedDict()).setdefault(address_key(pipe.peer), deque()).append(pipe)
        now = self._clock.seconds()
        try:
            if now < self._next or self._one(now) is not pipe:
                self.on_wait()
        finally:
            self._later()

    def charge_time(self, pipe: Waiting, seconds: float) -> None:
        """The handshake of `pipe`, which had its turn, took so many seconds: the next one begins later."""
        now = self._clock.seconds()
        self._next = max(self._next, now) + self._pause(seconds)
        if pipe.dear:
            self._next_dear = max(self._next_dear, now) + self._pause(seconds, DEAR_PART)

    def _pause(self, seconds: float, part: int = 1) -> float:
        """For how long no handshake begins after one that took so many seconds."""
        return seconds * (100 * part / self._limits.handshake_share - 1)

    def leave(self, pipe: Waiting) -> None:
        """A connection has ended. Nothing happens where it does not wait."""
        network, address = network_key(pipe.peer), address_key(pipe.peer)
        for line in (self._dear if pipe.dear else self._usual).lines:
            places = line.get(network)
            pipes = places.get(address) if places is not None else None
            if pipes is not None and pipe in pipes:
                pipes.remove(pipe)
                self._tidy(line, network, address)

    @staticmethod
    def _tidy(line: _Line, network: str, address: str) -> None:
        places = line[network]
        if not places[address]:
            del places[address]
        if not places:
            del line[network]

    def _one(self, now: float) -> Waiting | None:
        """Makes the handshake whose turn it is, if anybody may have one now."""
        pipe = self._pop(self._dear, now) if now >= self._next_dear else None
        pipe = pipe or self._pop(self._usual, now)
        if pipe is not None:
            pipe.shake()
            self.charge_time(pipe, self._clock.seconds() - now)
        elif self._due() <= now:
            self._next = now + _LOOK  # all that wait are over their rate
        return pipe

    def _pop(self, queue: _Queue, now: float) -> Waiting | None:
        for turn in (queue.turn, 1 - queue.turn):
            line = queue.lines[turn]
            for network in list(line):
                pipe = self._of_network(line, network, turn == 0, now)
                if pipe is not None:
                    queue.turn = 1 - turn
                    return pipe
        return None

    def _of_network(self, line: _Line, network: str, known: bool, now: float) -> Waiting | None:
        limits, more = self._limits, KNOWN_MORE if known else 1
        rate, burst = limits.handshakes_per_network * more, limits.handshakes_per_network_burst * more
        whole = self._bucket(self._networks, network, burst, now)
        if not whole.full(now, rate, burst):
            return None
        rate, burst = limits.handshakes_per_address * more, limits.handshakes_per_address_burst * more
        places = line[network]
        for address in list(places):
            one = self._bucket(self._addresses, address, burst, now)
            if not one.full(now, rate, burst):
                continue
            pipes = places[address]
            pipe = pipes.popleft()
            one.tokens -= 1.0
            whole.tokens -= 1.0
            places.move_to_end(address)
            line.move_to_end(network)
            self._tidy(line, network, address)
            return pipe
        return None

    @staticmethod
    def _bucket(table: LeastRecent[_Bucket], key: str, burst: float, now: float) -> _Bucket:
        bucket = table.get(key) or _Bucket(burst, now)
        table.put(key, bucket)
        return bucket

    def _due(self) -> float:
        """When the next handshake of those that wait may be made."""
        if self._usual:
            return self._next
        return max(self._next, self._next_dear) if self._dear else inf

    def _later(self) -> None:
        due = self._due()
        if self._timer is not None and due < self._timer.getTime():
            self._timer.cancel()
            self._timer = None
        if self._timer is None and due < inf:
            self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        try:
            if now >= self._due():
                self._one(now)
        finally:
            self._later()  # an error with one must not stop the others
