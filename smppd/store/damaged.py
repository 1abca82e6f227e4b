"""What could not be handled and was set aside, as commands ask a store for it; it was put there as `store.api.Damaged`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from smppd.store.api import Damaged, StoreError
from smppd.store.aside import Aside, open_item
from smppd.vault.keys import KeyRing


class Item(NamedTuple):
    """One item, without its content. number: by which it is listed, shown and removed; form, row, segment: see `aside.Aside`;
    octets: of its content as it is stored; the rest: see `store.api.Damaged`; ``kind`` is ``meta`` too, a number that the store
    remembered. ``owner`` as it was found; see `account_of`."""

    number: int
    kind: str
    owner: str
    id: int
    place: str
    reason: str
    at: int
    until: int
    form: int
    row: int
    segment: int
    octets: int


def account_of(item: Item) -> str:
    """The account that an item belongs to, or the upstream; empty where nobody can tell."""
    return "" if item.kind == "meta" else item.owner.partition("\n")[0]


def opened(item: Item, data: bytes, ring: KeyRing) -> bytes | None:
    """What an item holds, or None where it does not open: it was altered, or its key is gone. Raises StoreError where
    the keys cannot be read."""
    stored = Aside(item.kind, item.owner, item.id, item.at, item.form, item.row, item.segment)
    try:
        return open_item(ring, stored, data)
    except StoreError:  # the keys could not be read
        raise
    except Exception:  # noqa: BLE001  whatever it is that was altered: it does not open. Errors of the ring say the same
        return None


def set_aside(item: Item, data: bytes) -> Damaged:
    """An item as it was set aside."""
    return Damaged(item.kind, item.owner, item.id, item.place, item.reason, item.at, item.until, data)


def overdue(items: Iterable[Item], now: float, kept: Callable[[str], float | None]) -> list[int]:
    """The numbers of those that are past their time, by what was said when they were set aside or by what ``kept(account)``
    says now, whichever is shorter."""
    return [
        item.number
        for item in items
        if item.until <= now or ((seconds := kept(account_of(item))) is not None and item.at + seconds <= now)
    ]


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
