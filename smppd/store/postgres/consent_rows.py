"""`store.consents.Consents` on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from smppd.store.consents import FOREVER, ConsentRow, Standing
from smppd.store.postgres.connection import Server
from smppd.store.postgres.database import Database, undo
from smppd.store.postgres.wiping import Wiper

_COLUMNS: Final = "digest, account, subject, scopes, withdrawn, until, sealed, number"
_ADD: Final = (
    "INSERT INTO consents (digest, account, subject, scopes, withdrawn, until, sealed)"
    " SELECT $1, $2, $3, $4, last, CASE last WHEN 0 THEN $6::bigint ELSE ends END, $7 FROM"
    " (SELECT coalesce(max(withdrawn), 0) AS last, coalesce(max(until) FILTER (WHERE withdrawn > 0), 0) AS ends"
    " FROM consents WHERE subject = $3 AND withdrawn >= -($5::bigint)) AS ended ON CONFLICT (digest) DO NOTHING"
)
_TAKE_OVER: Final = (
    "INSERT INTO consents (digest, account, subject, scopes, withdrawn, until, sealed) VALUES ($1, $2, $3, $4, $5, $6, $7)"
    " ON CONFLICT (digest) DO UPDATE SET withdrawn = excluded.withdrawn, until = excluded.until, sealed = excluded.sealed"
    " WHERE consents.withdrawn = 0"
)


class PostgresConsents:
    """See the module. For one thread. Raises StoreError when there is no store."""

    def __init__(self, server: Server, *, read_only: bool = False) -> None:
        self._data = Database(server, read_only=read_only)
        self._wiper = Wiper(self._data)

    def add(self, rows: Sequence[ConsentRow]) -> int:
        """See `store.consents.Consents`."""
        new = 0
        with self._data.writing():
            for row in rows:
                new += self._data.run(_ADD, row[:7])
        return new

    def named(self, digests: Sequence[bytes]) -> list[ConsentRow]:
        """See `store.consents.Consents`."""
        return self._some("digest", digests)

    def of(self, subjects: Sequence[bytes]) -> list[ConsentRow]:
        """See `store.consents.Consents`."""
        return self._some("subject", subjects)

    def _some(self, column: str, values: Sequence[bytes]) -> list[ConsentRow]:
        asked = f"SELECT {_COLUMNS} FROM consents WHERE {column} = ANY ($1::bytea[]) ORDER BY number"
        return [ConsentRow(*row) for row in self._data.all(asked, (list(values),))]

    def withdraw(self, changes: Iterable[tuple[ConsentRow, ConsentRow]]) -> bool:
        """See `store.consents.Consents`."""
        statement = "UPDATE consents SET withdrawn = $1, until = $2, sealed = $3 WHERE number = $4 AND sealed = $5"
        done = False
        with self._data.writing("consents"):
            for before, after in changes:
                values = (after.withdrawn, after.until, after.sealed, before.number, before.sealed)
                if self._data.run(statement, values) != 1:
                    undo()
            done = True
        return done

    def remove(self, numbers: Sequence[int]) -> int:
        """See `store.consents.Consents`. Where somebody reads the register just now, the next purge takes away what is left in
        the file."""
        with self._data.writing():
            removed = self._data.delete("consents", "number = ANY ($1::bigint[])", (list(numbers),))
        if removed:
            self._wiper.wipe("consents")
        return removed

    def withdrawn(self, after: int, limit: int) -> list[ConsentRow]:
        """What was withdrawn: the first ``limit`` rows above a number, rising."""
        asked = f"SELECT {_COLUMNS} FROM consents WHERE number > $1 AND withdrawn > 0 ORDER BY number LIMIT $2"
        return [ConsentRow(*row) for row in self._data.all(asked, (after, limit))]

    def take_over(self, rows: Sequence[ConsentRow]) -> int:
        """Puts down withdrawals that another copy of this store has, all or none; how many were not known."""
        new = 0
        with self._data.writing("consents"):
            for row in rows:
                new += self._data.run(_TAKE_OVER, row[:7])
        return new

    def standing(self, after: int, limit: int) -> list[tuple[int, Standing]]:
        """See `store.consents.Consents`."""
        asked = (
            "SELECT number, account, subject, scopes FROM consents WHERE number > $1 AND withdrawn = 0"
            " ORDER BY number LIMIT $2"
        )
        return [(row[0], Standing(*row[1:])) for row in self._data.all(asked, (after, limit))]

    def accounts(self) -> list[str]:
        """See `store.consents.Consents`."""
        # One step of the index for each account, however many rows each has.
        asked = (
            "WITH RECURSIVE found (account) AS (SELECT min(account) FROM consents UNION ALL"
            " SELECT (SELECT min(account) FROM consents WHERE account > found.account) FROM found"
            " WHERE found.account IS NOT NULL) SELECT account FROM found WHERE account IS NOT NULL"
        )
        return [row[0] for row in self._data.all(asked)]

    def count(self) -> int:
        """See `store.consents.Consents`."""
        return self._data.number("SELECT count(*) FROM consents")

    def version(self) -> str:
        """See `store.consents.Consents`: rows only become ones that count no more, and new ones have higher numbers."""
        row = self._data.one("SELECT count(*), max(number) FROM consents WHERE withdrawn = 0")
        return repr(row)

    def expire(self, now: float) -> int:
        """See `store.consents.Consents`."""
        with self._data.writing():
            return self._data.delete("consents", "until <= $1 AND until < $2", (int(now), FOREVER))

    def close(self) -> None:
        """Closes the connection."""
        self._data.close()
