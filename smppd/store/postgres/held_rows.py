"""`store.holds.HeldRows` on PostgreSQL. How far a hold has come stands in rows of no record (id 0 and below)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smppd.store.holds import HeldRow, Mark
from smppd.store.postgres.connection import Server
from smppd.store.postgres.database import Database, undo
from smppd.store.postgres.log_ids import columns
from smppd.store.postgres.wiping import Wiper

_COLUMNS: Final = "record, hold, source, destination, sealed"
_PUT_KEY: Final = (
    "INSERT INTO keys VALUES ($1, $2) ON CONFLICT (scope) DO UPDATE SET wrapped = keys.wrapped RETURNING wrapped"
)
_ADD: Final = (
    "INSERT INTO held SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bytea[])"
    " ON CONFLICT (record, hold) DO NOTHING"
)
_MARK: Final = (
    "INSERT INTO held VALUES ($1, $2, '', '', $3) ON CONFLICT (record, hold) DO UPDATE SET sealed = excluded.sealed"
)


class PostgresHeldRows:
    """See the module. For one thread."""

    def __init__(self, data: Database) -> None:
        """data: closed with this."""
        self._data = data
        self._wiper = Wiper(data)

    @classmethod
    def at(cls, server: Server) -> PostgresHeldRows:
        """On a connection of their own. Raises StoreError when there is no store."""
        return cls(Database(server))

    @property
    def locked(self) -> float:
        """See `store.holds.HeldRows`. It is not the relay that was kept waiting."""
        return self._data.locked

    def wrapped(self, scope: bytes) -> bytes | None:
        """See `store.holds.HeldRows`."""
        row = self._data.one("SELECT wrapped FROM keys WHERE scope = $1", (scope,))
        return None if row is None else row[0]

    def put_key(self, scope: bytes, wrapped: bytes) -> bytes:
        """See `store.holds.HeldRows`."""
        with self._data.writing():
            row = self._data.one(_PUT_KEY, (scope, wrapped))
        assert row is not None, "it is there now"
        return bytes(row[0])

    def destroy_key(self, scope: bytes) -> None:
        """See `store.holds.HeldRows`. Where somebody reads all the time, the next purge takes away what is left in the
        file."""
        with self._data.writing("keys"):
            self._data.run("DELETE FROM keys WHERE scope = $1", (scope,))
        self._wiper.wipe("keys")

    def mark(self, hold: int, which: Mark) -> bytes:
        """See `store.holds.HeldRows`."""
        row = self._data.one("SELECT sealed FROM held WHERE record = $1 AND hold = $2", (int(which), hold))
        return b"" if row is None else row[0]

    def add(self, scope: bytes, hold: int, rows: Sequence[HeldRow], which: Mark, mark: bytes) -> bool:
        """See `store.holds.HeldRows`."""
        done = False
        with self._data.writing():
            if self._data.one("SELECT 1 FROM keys WHERE scope = $1", (scope,)) is None:
                undo()
            self._data.run(_ADD, columns(rows, 5))
            self._data.run(_MARK, (int(which), hold, mark))
            done = True
        return done

    def within(self, low: int, high: int) -> set[int]:
        """See `store.holds.HeldRows`."""
        query = "SELECT DISTINCT record FROM held WHERE record >= $1 AND record <= $2"
        return {row[0] for row in self._data.all(query, (max(1, low), high))}

    def of(self, record: int) -> list[HeldRow]:
        """See `store.holds.HeldRows`."""
        if record < 1:
            return []
        query = f"SELECT {_COLUMNS} FROM held WHERE record = $1 ORDER BY hold"
        return [HeldRow(*row) for row in self._data.all(query, (record,))]

    def find(self, hold: int, blinds: Sequence[bytes]) -> list[int]:
        """See `store.holds.HeldRows`."""
        found = self._data.all(
            "SELECT record FROM held WHERE hold = $1 AND source = ANY ($2::bytea[]) AND record > 0"
            " UNION SELECT record FROM held WHERE hold = $1 AND destination = ANY ($2::bytea[]) AND record > 0",
            (hold, list(blinds)),
        )
        return sorted(row[0] for row in found)

    def page(self, hold: int, after: int, limit: int) -> list[HeldRow]:
        """See `store.holds.HeldRows`."""
        query = f"SELECT {_COLUMNS} FROM held WHERE hold = $1 AND record > $2 ORDER BY record LIMIT $3"
        return [HeldRow(*row) for row in self._data.all(query, (hold, max(0, after), limit))]

    def count(self, hold: int) -> int:
        """See `store.holds.HeldRows`."""
        return self._data.number("SELECT count(*) FROM held WHERE hold = $1 AND record > 0", (hold,))

    def holds(self) -> list[int]:
        """See `store.holds.HeldRows`."""
        found: list[int] = []
        while True:
            # One after another: all different ones at once would go through the whole index.
            row = self._data.one("SELECT min(hold) FROM held WHERE hold > $1", (found[-1] if found else 0,))
            if row is None or row[0] is None:
                return found
            found.append(row[0])

    def remove(self, hold: int, records: Sequence[int]) -> None:
        """See `store.holds.HeldRows`. They are overwritten by the purge that removes them, at its end (`PurgeRows.wipe`)."""
        with self._data.writing("held"):
            self._data.run("DELETE FROM held WHERE hold = $1 AND record = ANY ($2::bigint[])", (hold, list(records)))

    def forget(self, hold: int) -> None:
        """See `store.holds.HeldRows`."""
        with self._data.writing():
            self._data.run("DELETE FROM held WHERE record <= 0 AND hold = $1", (hold,))

    def close(self) -> None:
        """Closes the connection."""
        self._data.close()
