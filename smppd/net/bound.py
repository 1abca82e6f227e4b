"""Which accounts are bound here and how often, and how many binds of theirs stand at other nodes: `max_binds` counts all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Bound(NamedTuple):
    """Sessions of an account that are bound: ``binds`` of them, of which ``receivers`` take mail."""

    binds: int
    receivers: int


class BoundAccounts:
    """See the module. For the reactor thread. ``here``: only those that have a bind.

    ``changed()`` is called after each bind and each end of one. ``wanted(account, places)`` is called where a new bind of an
    account whose oldest give way has no place unless others end so many."""

    def __init__(self) -> None:
        self.here: dict[str, Bound] = {}
        self.changed: Callable[[], object] = lambda: None
        self.wanted: Callable[[str, int], object] = lambda _account, _places: None
        self._elsewhere: Mapping[str, int] = {}

    def came(self, account: str, *, receives: bool) -> None:
        """A session of this account has bound."""
        had = self.here.get(account, Bound(0, 0))
        self.here[account] = Bound(had.binds + 1, had.receivers + receives)
        self.changed()

    def left(self, account: str, *, receives: bool) -> None:
        """It has ended."""
        had = self.here.pop(account)
        if had.binds > 1:
            self.here[account] = Bound(had.binds - 1, had.receivers - receives)
        self.changed()

    def set_elsewhere(self, binds: Mapping[str, int]) -> None:
        """How many binds of which account stand at other nodes; 0 of those that are not named."""
        self._elsewhere = binds

    def elsewhere(self, account: str) -> int:
        """How many binds of this account stand at other nodes, as far as is known."""
        return self._elsewhere.get(account, 0)
