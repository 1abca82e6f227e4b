"""The register of opt-outs and what waits for a person, in data.db: written by the writer's thread with a batch, read at the
start; for commands beside a daemon, or where none runs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from smppd.store.api import Doubt, OptOut, StoreError
from smppd.store.sqlite.database import Database, told

_OCTETS: Final = 8192
"""A row goes into a page of its own, by its hash."""
_SINCE: Final = 5
"""The schema version that brought the tables."""
_EVERY: Final = "SELECT key, account, sender, at, source FROM opt_outs ORDER BY key"
_ROWS: Final = 2000


def write(db: sqlite3.Connection, changes: Iterable[OptOut], doubts: Iterable[Doubt], decided: Iterable[int]) -> int:
    """Inside a transaction: the changes in order. Returns about how many octets that is in the write-ahead log."""
    octets = 0
    for one in changes:
        octets += _OCTETS
        if one.stands:
            db.execute("INSERT OR REPLACE INTO opt_outs VALUES (?, ?, ?, ?, ?)", one[:5])
        else:
            db.execute("DELETE FROM opt_outs WHERE key = ?", (one.key,))
    db.executemany("INSERT OR REPLACE INTO doubts VALUES (?, ?, ?, ?, ?)", doubts)
    db.executemany("DELETE FROM doubts WHERE record = ?", [(record,) for record in decided])
    return octets + _OCTETS


def every(db: sqlite3.Connection) -> Iterator[OptOut]:
    """All entries in order of their keys. Rows that are none are passed over: of an opt-out whose key is gone nothing can be
    known."""
    for key, account, sender, at, source in db.execute(_EVERY):
        if isinstance(key, bytes) and len(key) == 16 and isinstance(account, str) and isinstance(at, int):
            yield OptOut(key, account, str(sender), at, str(source))


def doubts_waiting(db: sqlite3.Connection) -> int:
    """How many messages wait for a person."""
    return int(db.execute("SELECT count(*) FROM doubts").fetchone()[0])


class OptOutRows:
    """`store.installation.OptOutRows` of a store's directory. Raises StoreError when there is no store."""

    def __init__(self, directory: Path, *, read_only: bool = True) -> None:
        path = directory / "data.db"
        if not path.exists() and not (directory / "keys.db").exists():
            raise StoreError(f"{path}: there is no store here yet")
        self._there = path.exists() or not read_only
        if not self._there:
            return  # no daemon has run yet
        self._data = Database(path, "data", read_only=read_only)
        self._there = self._data.version() >= _SINCE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if hasattr(self, "_data"):
            self._data.close()

    def count(self) -> int:
        """How many entries there are."""
        row = self._data.one("SELECT count(*) FROM opt_outs") if self._there else None
        return int(row[0]) if row is not None else 0

    def get(self, key: bytes) -> OptOut | None:
        """The entry under a key."""
        if not self._there:
            return None
        row = self._data.one("SELECT key, account, sender, at, source FROM opt_outs WHERE key = ?", (key,))
        return OptOut(*row) if row is not None else None

    def all(self) -> Iterator[OptOut]:
        """All entries in order of their keys, in short reads."""
        after = b""
        while self._there:
            rows = self._data.all(f"{_EVERY.replace('ORDER', 'WHERE key > ? ORDER')} LIMIT {_ROWS}", (after,))
            if not rows:
                return
            for row in rows:
                yield OptOut(*row)
            after = rows[-1][0]

    def version(self) -> str:
        """See `store.installation.OptOutRows`: there is no other node."""
        return ""

    def doubts(self) -> list[Doubt]:
        """What waits for a person, oldest first."""
        if not self._there:
            return []
        ask = "SELECT record, key, account, sender, at FROM doubts ORDER BY at, record"
        return [Doubt(record & (1 << 64) - 1, *rest) for record, *rest in self._data.all(ask)]

    def write(self, changes: Sequence[OptOut], decided: Sequence[int]) -> None:
        """Writes changes, durable when this returns. Only where no daemon runs: it has them in memory."""
        with self._data.writing():
            try:
                write(self._data.connection, changes, (), decided)
            except sqlite3.Error as error:
                raise told(self._data.path, error) from error
