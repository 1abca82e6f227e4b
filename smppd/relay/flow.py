"""How many messages went by in each of the last seconds, for each account and upstream.

The counters of the metrics are looked at once a second; nothing is done for a message. What has never counted anything has no
ring, so idle accounts cost no memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Container
from typing import Any, Final

from smppd.metrics import total
from smppd.relay.context import Context

KEPT: Final = 300
"""Seconds that are kept."""
RATE_OVER: Final = 10
"""Seconds over which a rate is taken."""
_MOST: Final = (1 << 32) - 1
_EMPTY: Final = bytes(4 * KEPT)


class Flow:
    """Some seconds of it. ``first``: epoch seconds of the first one. ``accounts``, ``upstreams``: the names of those that have
    counted anything. What they counted is made as it is asked for: a number for each second, oldest first."""

    def __init__(self, first: int, accounts: dict[str, _Pair], upstreams: dict[str, _Pair], places: list[int]) -> None:
        self.first = first
        self.accounts = list(accounts)
        self.upstreams = list(upstreams)
        self._pairs = accounts, upstreams
        self._places = places

    def account(self, name: str) -> dict[str, list[int]]:
        """What an account had accepted, and was delivered."""
        accepted, delivered = self._pairs[0][name]
        return {"accepted": accepted.of(self._places), "delivered": delivered.of(self._places)}

    def upstream(self, name: str) -> dict[str, list[int]]:
        """What an upstream took, and the receipts that it brought."""
        submitted, receipts = self._pairs[1][name]
        return {"submitted": submitted.of(self._places), "receipts": receipts.of(self._places)}


class _Series:
    """One counter: where it stood, and what came in each second. ``ring``: None until something came."""

    __slots__ = ("counter", "ring", "was")

    def __init__(self, counter: Any) -> None:
        self.counter = counter
        self.was = 0.0  # counters begin with the process, and an account's before the first look at it
        self.ring: array[int] | None = None

    def note(self, place: int) -> None:
        now = total(self.counter)
        came = now - self.was
        if self.ring is None:
            if not came:
                return
            self.ring = array("I", _EMPTY)
        self.was = now
        self.ring[place] = min(_MOST, max(0, int(came)))

    def of(self, places: list[int]) -> list[int]:
        ring = self.ring
        return [0] * len(places) if ring is None else [ring[place] for place in places]


_Pair = tuple[_Series, _Series]


class FlowMeter:
    """See the module. ``tick`` is called ten times a second."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._accounts: dict[str, _Pair] = {}
        self._upstreams: dict[str, _Pair] = {}
        self._second = int(context.now())
        self._began = self._second
        self._wall = context.wall()

    def tick(self, now: float) -> None:
        """A second that is over is noted; ``now``: monotonic seconds. Seconds in which nobody asked have what came in them
        counted for the last of them."""
        second = int(now)
        if second == self._second:
            return
        passed, self._second = second - self._second, second
        self._wall = self._context.wall()
        place = (second - 1) % KEPT
        empty = [(second - 1 - back) % KEPT for back in range(1, min(passed, KEPT))]
        for name, account in self._context.accounts.items():
            pair = self._accounts.get(name)
            if pair is None:
                pair = self._accounts[name] = (_Series(account.accepted), _Series(account.delivered))
            _note(pair, place, empty)
        for name, upstream in self._context.upstreams.items():
            pair = self._upstreams.get(name)
            if pair is None:
                pair = self._upstreams[name] = (_Series(upstream.submitted), _Series(upstream.matched))
            _note(pair, place, empty)

    def account_rate(self, name: str) -> float:
        """Messages accepted a second, over the last ten."""
        return self._rate(self._accounts.get(name))

    def upstream_rate(self, name: str) -> float:
        """Messages that the carrier took a second, over the last ten."""
        return self._rate(self._upstreams.get(name))

    def _rate(self, pair: _Pair | None) -> float:
        places = self._places(RATE_OVER)
        return 0.0 if pair is None or not places else round(sum(pair[0].of(places)) / len(places), 1)

    def _places(self, most: int) -> list[int]:
        count = min(most, KEPT, self._second - self._began)
        return [(self._second - back) % KEPT for back in range(count, 0, -1)]

    def since(self, epoch: float, accounts: Container[str] | None) -> Flow:
        """The seconds from a time on (epoch seconds), at most the last `KEPT`. ``accounts``: these alone, and no upstreams;
        None: all."""
        end = int(self._wall)
        places = self._places(max(0, min(KEPT, end - int(epoch))))
        mine = {one: pair for one, pair in self._accounts.items() if accounts is None or one in accounts}
        theirs = self._upstreams if accounts is None else {}
        return Flow(end - len(places), _counted(mine), _counted(theirs), places)


def _counted(pairs: dict[str, _Pair]) -> dict[str, _Pair]:
    return {name: pair for name, pair in pairs.items() if any(one.ring is not None for one in pair)}


def _note(pair: _Pair, place: int, empty: list[int]) -> None:
    for one in pair:
        one.note(place)
        if one.ring is not None:
            for other in empty:
                one.ring[other] = 0
