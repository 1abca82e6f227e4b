"""What could not be handled and was set aside, as commands ask a store for it; it was put there as `store.api.Damaged`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from smppd.vault.keys import KeyRing


class Item(Protocol):
    """One item, without its content. number: by which it is listed, shown and removed; octets: of its content as it is
    stored; the rest: see `store.api.Damaged`. ``owner`` as it was found; see `account_of`."""

    @property
    def number(self) -> int:
        """See above."""

    @property
    def kind(self) -> str:
        """See above; ``meta`` too, a number that the store remembered."""

    @property
    def owner(self) -> str:
        """See above."""

    @property
    def id(self) -> int:
        """See above."""

    @property
    def place(self) -> str:
        """See above."""

    @property
    def reason(self) -> str:
        """See above."""

    @property
    def at(self) -> int:
        """Epoch seconds."""

    @property
    def until(self) -> int:
        """Epoch seconds."""

    @property
    def octets(self) -> int:
        """See above."""


def account_of(item: Item) -> str:
    """The account that an item belongs to, or the upstream; empty where nobody can tell."""
    return "" if item.kind == "meta" else item.owner.partition("\n")[0]


class DamagedItems(Protocol):
    """The items of one store, beside a running daemon too. For one thread; every method raises StoreError."""

    def items(self) -> Sequence[Item]:
        """All items, oldest first."""

    def content(self, number: int, ring: KeyRing) -> bytes | None:
        """What an item holds, or None where it does not open: it was altered, or it or its key is gone."""

    def remove(self, numbers: Sequence[int]) -> int:
        """Deletes items, and overwrites them; how many were there."""

    def close(self) -> None:
        """Lets them go."""
