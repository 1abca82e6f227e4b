"""`store.holds.HeldRows` in keys.db: table `held`. How far a hold has come stands in rows of no record (id 0 and below)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smppd.store.api import StoreError
from smppd.store.holds import HeldRow, Mark
from smppd.store.lock import in_use
from smppd.store.sqlite.database import Database

_COLUMNS: Final = (
    "record, hold, CAST(source AS BLOB), CAST(destination AS BLOB), CAST(sealed AS BLOB)"  # who edits may change types
)
_ADD: Final = "INSERT INTO held VALUES (?, ?, ?, ?, ?) ON CONFLICT (record, hold) DO NOTHING"
_ASKED: Final = 400  # values in one statement


class SqliteHeldRows:
    """See the module. For one thread."""

    def __init__(self, keys: Database) -> None:
        """keys: keys.db; of an earlier version, where nothing is held, where it is only read. Closed with this."""
        self._keys = keys
        self._there = keys.one("SELECT 1 FROM sqlite_schema WHERE name = 'held'") is not None

    @classmethod
    def at(cls, directory: Path) -> SqliteHeldRows:
        """Those of a store's directory, on a connection of their own. Raises StoreError when there is no store."""
        path = directory / "keys.db"
        if not path.exists():
            raise StoreError(f"{path}: there is no store here yet")
        keys = Database(path, "keys")
        keys.gives_way = in_use(directory)
        return cls(keys)

    @property
    def locked(self) -> float:
        """See `store.holds.HeldRows`."""
        return self._keys.locked

    def wrapped(self, scope: bytes) -> bytes | None:
        """See `store.holds.HeldRows`."""
        row = self._keys.one("SELECT wrapped FROM keys WHERE scope = ?", (scope,))
        return None if row is None else bytes(row[0])

    def put_key(self, scope: bytes, wrapped: bytes) -> bytes:
        """See `store.holds.HeldRows`."""
        with self._keys.writing():
            self._keys.run("INSERT OR IGNORE INTO keys VALUES (?, ?)", (scope, wrapped))
            row = self._keys.one("SELECT wrapped FROM keys WHERE scope = ?", (scope,))
        assert row is not None, "it is there now"
        return bytes(row[0])

    def destroy_key(self, scope: bytes) -> None:
        """See `store.holds.HeldRows`."""
        self._keys.run("DELETE FROM keys WHERE scope = ?", (scope,))
        self._keys.truncate()

    def mark(self, hold: int, which: Mark) -> bytes:
        """See `store.holds.HeldRows`."""
        if not self._there:
            return b""
        row = self._keys.one("SELECT CAST(sealed AS BLOB) FROM held WHERE record = ? AND hold = ?", (int(which), hold))
        return b"" if row is None else bytes(row[0])

    def add(self, scope: bytes, hold: int, rows: Sequence[HeldRow], which: Mark, mark: bytes) -> bool:
        """See `store.holds.HeldRows`."""
        with self._keys.writing():
            if self._keys.one("SELECT 1 FROM keys WHERE scope = ?", (scope,)) is None:
                self._keys.roll_back()
                return False
            self._keys.run_each(_ADD, rows)
            self._keys.run("INSERT OR REPLACE INTO held VALUES (?, ?, x'', x'', ?)", (int(which), hold, mark))
        return True

    def within(self, low: int, high: int) -> set[int]:
        """See `store.holds.HeldRows`."""
        if not self._there:
            return set()
        query = "SELECT DISTINCT record FROM held WHERE record >= ? AND record <= ?"
        return {row[0] for row in self._keys.all(query, (max(1, low), high))}

    def of(self, record: int) -> list[HeldRow]:
        """See `store.holds.HeldRows`."""
        if not self._there or record < 1:
            return []
        return [HeldRow(*row) for row in self._keys.all(f"SELECT {_COLUMNS} FROM held WHERE record = ?", (record,))]

    def find(self, hold: int, blinds: Sequence[bytes]) -> list[int]:
        """See `store.holds.HeldRows`."""
        found: set[int] = set()
        for at in range(0, len(blinds) if self._there else 0, _ASKED):
            some = blinds[at : at + _ASKED]
            marks = ",".join("?" * len(some))
            for column in ("source", "destination"):
                query = f"SELECT record FROM held WHERE hold = ? AND {column} IN ({marks}) AND record > 0"
                found.update(row[0] for row in self._keys.all(query, (hold, *some)))
        return sorted(found)

    def page(self, hold: int, after: int, limit: int) -> list[HeldRow]:
        """See `store.holds.HeldRows`."""
        if not self._there:
            return []
        query = f"SELECT {_COLUMNS} FROM held WHERE hold = ? AND record > ? ORDER BY record LIMIT ?"
        return [HeldRow(*row) for row in self._keys.all(query, (hold, max(0, after), limit))]

    def count(self, hold: int) -> int:
        """See `store.holds.HeldRows`."""
        row = (
            self._keys.one("SELECT count(*) FROM held WHERE hold = ? AND record > 0", (hold,)) if self._there else None
        )
        return 0 if row is None else int(row[0])

    def holds(self) -> list[int]:
        """See `store.holds.HeldRows`."""
        found: list[int] = []
        while self._there:
            # One after another: all different ones at once would go through the whole index.
            row = self._keys.one("SELECT min(hold) FROM held WHERE hold > ?", (found[-1] if found else 0,))
            if row is None or row[0] is None:
                break
            found.append(row[0])
        return found

    def remove(self, hold: int, records: Sequence[int]) -> None:
        """See `store.holds.HeldRows`. keys.db has `secure_delete`."""
        with self._keys.writing():
            self._keys.run_each(
                "DELETE FROM held WHERE record = ? AND hold = ?", [(record, hold) for record in records]
            )

    def forget(self, hold: int) -> None:
        """See `store.holds.HeldRows`."""
        self._keys.run("DELETE FROM held WHERE record <= 0 AND hold = ?", (hold,))

    def close(self) -> None:
        """Closes the file."""
        self._keys.close()
