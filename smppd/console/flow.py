"""What flowed in the last minutes, second by second, kept here so that the daemon is asked for what is new only.

With a thousand accounts five minutes are 600,000 counts; the seconds since the last question are some thousands.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

from smppd.console.asking import KEPT
from smppd.console.page import Asked, Asking

SECONDS: Final = 300
"""Seconds that are kept, as many as the daemon has."""
_SCOPES: Final = 32
"""Kinds of people, who see different accounts, whose flow is kept at one time."""
_FIRST: Final = 120
"""Seconds that are asked for at first."""
_GROUPS: Final = ("accounts", "upstreams")

Series = dict[str, dict[str, list[float]]]
"""Name -> what is counted -> counts, oldest first; all lists are as long."""


class _Kept:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asked = float("-inf")
        self.first = 0.0
        self.length = 0
        self.groups: dict[str, Series] = {group: {} for group in _GROUPS}

    def add(self, answer: Mapping[str, Any]) -> None:
        """Puts an answer behind what is kept; where they overlap the answer is right."""
        begins, step = float(answer["from"]), float(answer.get("step") or 1)
        keep = round((begins - self.first) / step) if self.length else 0
        if not 0 <= keep <= self.length:  # a hole, or the daemon was restarted
            keep = 0
        lists = [one for group in _GROUPS for kinds in (answer.get(group) or {}).values() for one in kinds.values()]
        new = max(map(len, lists), default=0)
        drop = max(0, keep + new - SECONDS)
        for group in _GROUPS:
            found: Series = {}
            said = answer.get(group) or {}
            for name in [*said, *(name for name in self.groups[group] if name not in said and keep > drop)]:
                before = self.groups[group].get(name, {})
                kinds = said.get(name) or dict.fromkeys(before, ())
                found[name] = {
                    kind: [*_padded(before.get(kind, ()), keep)[drop:], *([0.0] * (new - len(values))), *values]
                    for kind, values in kinds.items()
                }
            self.groups[group] = found
        self.first = begins - (keep - drop) * step
        self.length = keep - drop + new


class Flows:
    """The flow of everybody who asks, by what he may see. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[object, _Kept] = {}

    def of(self, asked: Asked) -> dict[str, Series]:
        """What somebody may see of it (`read`)."""
        return self.read((asked.authority.roles, asked.authority.accounts), asked.daemon, asked.now)

    def read(self, scope: object, daemon: Asking, now: float) -> dict[str, Series]:
        """`accounts` and `upstreams`, each a Series. scope: what the daemon's answer depends on. now: epoch seconds.
        Refusal."""
        with self._lock:
            if scope not in self._kept and len(self._kept) >= _SCOPES:
                del self._kept[next(iter(self._kept))]
            kept = self._kept.setdefault(scope, _Kept())
        with kept.lock:
            if kept.asked <= now < kept.asked + KEPT:
                return kept.groups
            since = kept.first + kept.length - 1 if kept.length else int(now) - _FIRST
            kept.add(daemon.show("flow", since=int(since)))
            kept.asked = now
            return kept.groups


def _padded(values: Any, length: int) -> list[float]:
    """The first `length` of the values; where there are fewer, zeros stand before them."""
    found = list(values[:length])
    return [0.0] * (length - len(found)) + found
