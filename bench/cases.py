"""What the bench measures: the cases, by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, Literal

Acknowledge = Literal["stored", "upstream"]
WINDOW: Final = 50  # submit_sm outstanding on each bind
SLOW: Final = 500  # messages a second: up to here the yardsticks can keep the pace, and are driven at it
ENOUGH: Final = 400  # messages of a run, where it can be had
PACED: Final = 10_000  # messages a second: a third of the budget's 30,000, where p99 of the answer is to be under 10 ms


@dataclass(frozen=True)
class Case:
    """One way to drive the daemon."""

    binds: int = 10
    tls: bool = True
    rules: int = 20
    acknowledge: Acknowledge = "stored"
    pinned: bool = True
    rate: int = 0  # messages a second, open loop; 0: as fast as the windows allow
    window: int = WINDOW
    mix: bool = False  # all kinds of bodies, parts and vendor TLVs; else 100 characters of GSM 03.38 each
    links: bool = False  # a third of the texts has a link
    feed: bool = False  # the event feed writes its file
    policies: int = 0  # all that policy can do (bench/policies.py), with a list of so many numbers

    @property
    def name(self) -> str:
        """Such as `10-tls-20-stored-pinned`: binds, transport, rules, acknowledgement, cores (, window, rate, mix)."""
        parts = [str(self.binds), "tls" if self.tls else "plain", str(self.rules), self.acknowledge]
        parts.append("pinned" if self.pinned else "unpinned")
        parts += [f"window{self.window}"] * (self.window != WINDOW)
        parts += (
            [f"paced{self.rate}"] * bool(self.rate) + ["mix"] * self.mix + ["links"] * self.links + ["feed"] * self.feed
        )
        return "-".join(parts + [f"policies{self.policies}"] * bool(self.policies))

    @property
    def without(self) -> Case | None:
        """The same case without any policy, which one with all of them is held against; None for other cases."""
        return replace(self, rules=0, policies=0) if self.policies else None

    @property
    def yardstick(self) -> Case:
        """How the yardsticks are driven beside it: the same binds and cores; plain, no rules, at the same pace where they can
        carry it, else at full speed.

        Never the mix: their libraries lose vendor TLVs, which the SMSC would rightly call harm.
        """
        rate = self.rate if self.rate <= SLOW else 0
        return Case(
            self.binds, tls=False, rules=0, acknowledge="upstream", pinned=self.pinned, window=self.window, rate=rate
        )

    def spell(self, seconds: float) -> float:
        """How long a run is that was to take so long: up to twice as long where few messages come, for the percentiles."""
        return seconds if not self.rate else max(seconds, min(2 * seconds, ENOUGH / self.rate))


ACKNOWLEDGE: Final[tuple[Acknowledge, ...]] = ("stored", "upstream")
MATRIX: Final = tuple(
    Case(binds, tls, rules, acknowledge, pinned)
    for binds, tls, rules in product((10, 1), (True, False), (20, 200))
    for acknowledge, pinned in product(ACKNOWLEDGE, (True, False))
)
BASE: Final = Case()
# Everything that policy can do, beside the same without; `--entries` gives the big list the size that is promised for.
POLICIES: Final = (Case(rules=0, links=True), Case(rules=200, links=True, policies=1_000_000))
# With the event feed, and the same without.
FEED: Final = tuple(Case(rate=rate, pinned=False, feed=feed) for rate in (0, PACED) for feed in (False, True))
# The base and its neighbours: one thing changed at a time. The whole matrix takes half an hour.
DEFAULT: Final = (
    BASE,
    Case(tls=False),
    Case(binds=1),
    Case(binds=1, tls=False),
    Case(rules=200),
    Case(acknowledge="upstream"),
    Case(pinned=False),
    Case(binds=1, pinned=False),
    Case(tls=False, pinned=False),
    Case(rate=PACED),
    Case(rate=PACED, pinned=False),
    # What most providers allow: one bind, window 10; p99 of the answer is to be under 10 ms.
    Case(binds=1, window=10, rate=500),
    Case(binds=1, window=10, rate=500, pinned=False),
    Case(mix=True),
    *POLICIES,
)
QUICK: Final = (BASE, Case(rate=PACED))
# Most of an operator's day: one message at a time, few a second; and full load, which must not pay for it. Plain without
# rules as the yardsticks are, and as it is in earnest.
RATES: Final = tuple(
    Case(binds, tls, rules, rate=rate, window=window)
    for binds, window, rate in ((1, 1, 50), (1, 10, 50), (1, 10, 200), (1, 10, 500), (10, WINDOW, 0))
    for tls, rules in ((False, 0), (True, 20))
)


def select(patterns: Sequence[str]) -> tuple[Case, ...]:
    """The cases whose names match one of these shell patterns; ValueError when a pattern matches none.

    `default`, `quick`, `policies`, `feed`, `rates` and `all` name sets.
    """
    named = {"default": DEFAULT, "quick": QUICK, "policies": POLICIES, "feed": FEED, "rates": RATES}
    named["all"] = tuple(dict.fromkeys((*MATRIX, *DEFAULT, *FEED, *RATES)))
    known = {case.name: case for case in named["all"]}
    chosen: dict[str, Case] = {}
    for pattern in patterns:
        names = [case.name for case in named[pattern]] if pattern in named else fnmatch.filter(known, pattern)
        if not names:
            raise ValueError(f"no case is called {pattern}; there are: {', '.join(known)}")
        chosen.update((name, known[name]) for name in names)
    return tuple(chosen.values())
