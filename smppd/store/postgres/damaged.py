"""What was set aside, on PostgreSQL, for commands and the purge (`store.damaged.DamagedItems`). The relay writes
it with a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from smppd.store import damaged
from smppd.store.damaged import Item, opened
from smppd.store.postgres.connection import Server
from smppd.store.postgres.database import Database
from smppd.store.postgres.wiping import Wiper
from smppd.vault.keys import KeyRing

LISTED: Final = 'number, kind, owner, id, place, reason, at, until, form, "row", segment, octet_length(data)'


def overdue(data: Database, now: float, kept: Callable[[str], float | None]) -> int:
    """Inside `Database.writing`: deletes what is past its time, by what was said when it was set aside or by what
    ``kept(account)`` says now, whichever is shorter; how many."""
    return _remove(data, damaged.overdue(_items(data), now, kept))


def _items(data: Database) -> list[Item]:
    return [Item(*row) for row in data.all(f"SELECT {LISTED} FROM damaged ORDER BY number")]


def _remove(data: Database, numbers: Sequence[int]) -> int:
    return data.delete("damaged", "number = ANY ($1::bigint[])", (list(numbers),)) if numbers else 0


class PostgresDamaged:
    """See the module. For one thread. Raises StoreError when there is no store."""

    def __init__(self, server: Server, *, read_only: bool) -> None:
        self._data = Database(server, read_only=read_only)

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
