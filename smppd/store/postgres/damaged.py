"""What was set aside, on PostgreSQL, for commands and the purge (`store.damaged.DamagedItems`). The relay writes
it with a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

from cryptography.exceptions import InvalidTag

from smppd.store.aside import Aside, open_item
from smppd.store.damaged import account_of
from smppd.store.postgres.connection import Server
from smppd.store.postgres.database import Database
from smppd.store.postgres.wiping import Wiper
from smppd.vault.kek import VaultError
from smppd.vault.keys import KeyRing

LISTED: Final = 'number, kind, owner, id, place, reason, at, until, form, "row", segment, octet_length(data)'
UNOPENED: Final = (VaultError, InvalidTag, TypeError, ValueError, OverflowError)


class Item(NamedTuple):
    """One row of the table, without its content (`store.damaged.Item`)."""

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


def opened(item: Item, data: bytes, ring: KeyRing) -> bytes | None:
    """What an item holds, or None where it does not open: it was altered, or its key is gone."""
    kept = Aside(item.kind, item.owner, item.id, item.at, item.form, item.row, item.segment)
    try:
        return open_item(ring, kept, data)
    except UNOPENED:
        return None


def overdue(data: Database, now: float, kept: Callable[[str], float | None]) -> int:
    """Inside `Database.writing`: deletes what is past its time, by what was said when it was set aside or by what
    ``kept(account)`` says now, whichever is shorter; how many."""
    gone = [
        item.number
        for item in _items(data)
        if item.until <= now or ((seconds := kept(account_of(item))) is not None and item.at + seconds <= now)
    ]
    return _remove(data, gone)


def _items(data: Database) -> list[Item]:
    return [Item(*row) for row in data.all(f"SELECT {LISTED} FROM damaged ORDER BY number")]


def _remove(data: Database, numbers: Sequence[int]) -> int:
    if not numbers:
        return 0
    data.stain("damaged")
    return data.run("DELETE FROM damaged WHERE number = ANY ($1::bigint[])", (list(numbers),))


class PostgresDamaged:
    """See the module. For one thread. Raises StoreError when there is no store."""

    def __init__(self, server: Server, *, read_only: bool) -> None:
        self._data = Database(server, read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._data.close()

    def items(self) -> list[Item]:
        """See `store.damaged.DamagedItems`."""
        return _items(self._data)

    def content(self, number: int, ring: KeyRing) -> bytes | None:
        """See `store.damaged.DamagedItems`."""
        row = self._data.one(f"SELECT {LISTED}, data FROM damaged WHERE number = $1", (number,))
        return None if row is None else opened(Item(*row[:-1]), row[-1], ring)

    def remove(self, numbers: Sequence[int]) -> int:
        """See `store.damaged.DamagedItems`. Where somebody reads all the time, the next purge takes away what is left in the
        file."""
        with self._data.writing():
            count = _remove(self._data, numbers)
        if count:
            Wiper(self._data).wipe("damaged")
        return count
