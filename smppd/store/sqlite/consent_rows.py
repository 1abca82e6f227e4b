"""`store.consents.Consents` in data.db."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from smppd.store.api import StoreError
from smppd.store.consents import FOREVER, ConsentRow, Standing
from smppd.store.sqlite.database import Database

_COLUMNS: Final = (
    "CAST(digest AS BLOB), CAST(account AS TEXT), CAST(subject AS BLOB), CAST(scopes AS BLOB), withdrawn, until,"
    " CAST(sealed AS BLOB), number"
)
_ADD: Final = (
    "INSERT OR IGNORE INTO consents (digest, account, subject, scopes, withdrawn, until, sealed)"
    " SELECT ?1, ?2, ?3, ?4, last, CASE last WHEN 0 THEN ?6 ELSE ends END, ?7 FROM"
    " (SELECT coalesce(max(withdrawn), 0) AS last, coalesce(max(CASE WHEN withdrawn > 0 THEN until END), 0) AS ends"
    " FROM consents WHERE subject = ?3 AND withdrawn >= -?5)"
)

_SINCE: Final = 6
"""The schema version that brought the table."""
_TAKE_OVER: Final = (
    "INSERT INTO consents (digest, account, subject, scopes, withdrawn, until, sealed) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (digest) DO UPDATE SET withdrawn = excluded.withdrawn, until = excluded.until, sealed = excluded.sealed"
    " WHERE withdrawn = 0"
)


class SqliteConsents:
    """The consents of a store's directory. For one thread. Raises StoreError when there is no store."""

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        path = directory / "data.db"
        if not path.exists() and not (directory / "keys.db").exists():
            raise StoreError(f"{path}: there is no store here yet")
        self._data = Database(path, "data", read_only=read_only)
        if not read_only:
            # Of what is deleted nothing is to be left in a free page.
            self._data.run("PRAGMA secure_delete = ON")
        self._data.gives_way = True

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
        marks = ",".join("?" * len(values))
        asked = f"SELECT {_COLUMNS} FROM consents WHERE {column} IN ({marks}) ORDER BY number"
        return [ConsentRow(*row) for row in self._data.all(asked, values)]

    def withdraw(self, changes: Iterable[tuple[ConsentRow, ConsentRow]]) -> bool:
        """See `store.consents.Consents`."""
        statement = "UPDATE consents SET withdrawn = ?, until = ?, sealed = ? WHERE number = ? AND sealed = ?"
        with self._data.writing():
            for before, after in changes:
                values: tuple[Any, ...] = (after.withdrawn, after.until, after.sealed, before.number, before.sealed)
                if self._data.run(statement, values) != 1:
                    self._data.roll_back()
                    return False
        return True

    def remove(self, numbers: Sequence[int]) -> int:
        """See `store.consents.Consents`."""
        with self._data.writing():
            removed = sum(self._data.run("DELETE FROM consents WHERE number = ?", (number,)) for number in numbers)
        if removed:
            self._data.truncate()
        return removed

    def withdrawn(self, after: int, limit: int) -> list[ConsentRow]:
        """What was withdrawn: the first ``limit`` rows above a number, rising. Of a file that is only read and older than the
        register: nothing."""
        if self._data.version() < _SINCE:
            return []
        asked = f"SELECT {_COLUMNS} FROM consents WHERE number > ? AND withdrawn > 0 ORDER BY number LIMIT ?"
        return [ConsentRow(*row) for row in self._data.all(asked, (after, limit))]

    def take_over(self, rows: Sequence[ConsentRow]) -> int:
        """Puts down withdrawals that another copy of this store has, all or none; how many were not known."""
        new = 0
        with self._data.writing():
            for row in rows:
                new += self._data.run(_TAKE_OVER, row[:7])
        return new

    def standing(self, after: int, limit: int) -> list[tuple[int, Standing]]:
        """See `store.consents.Consents`."""
        asked = (
            "SELECT number, CAST(account AS TEXT), CAST(subject AS BLOB), CAST(scopes AS BLOB) FROM consents"
            " WHERE number > ? AND withdrawn = 0 ORDER BY number LIMIT ?"
        )
        return [(row[0], Standing(*row[1:])) for row in self._data.all(asked, (after, limit))]

    def accounts(self) -> list[str]:
        """See `store.consents.Consents`."""
        # One step of the index for each account, however many rows each has.
        asked = (
            "WITH RECURSIVE found (account) AS (SELECT min(account) FROM consents UNION ALL"
            " SELECT (SELECT min(account) FROM consents WHERE account > found.account) FROM found"
            " WHERE found.account IS NOT NULL) SELECT CAST(account AS TEXT) FROM found WHERE account IS NOT NULL"
        )
        return [row[0] for row in self._data.all(asked)]

    def count(self) -> int:
        """See `store.consents.Consents`."""
        row = self._data.one("SELECT count(*) FROM consents")
        return int(row[0]) if row is not None else 0

    def version(self) -> str:
        """See `store.consents.Consents`: rows only become ones that count no more, and new ones have higher numbers."""
        row = self._data.one("SELECT count(*), max(number) FROM consents WHERE withdrawn = 0")
        return repr(row)

    def expire(self, now: float) -> int:
        """See `store.consents.Consents`."""
        with self._data.writing():
            return self._data.run("DELETE FROM consents WHERE until <= ? AND until < ?", (int(now), FOREVER))

    def close(self) -> None:
        """Closes the file."""
        self._data.close()
