"""The database as all see it who work beside the relay's commits: commands, the indexer, the purge, erasures.

Whoever writes here does so in short transactions, one after another: an advisory lock is what SQLite's write lock is to the
embedded store. So what was looked at inside of a transaction stays as it was until its end, as far as others beside the relay
could change it. The relay's own commits take no part in that and never wait for it.

Each transaction says what it has stained: tables in which something that must not be found any more is left as a dead row.
`store.postgres.wiping` cleans these.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import psycopg

from smppd.store.postgres.connection import Connection, Row, Server
from smppd.store.postgres.migrations import known

BESIDE: Final = 0x736D707065
WIPING: Final = 0x736D707066
"""Keys of advisory locks (`store.postgres.migrations` has another): to write beside the relay; to wipe."""

_STAIN: Final = "INSERT INTO stains (name) SELECT * FROM unnest($1::text[])"


class Database:
    """See the module. For one thread at a time; every method raises StoreError, and so does the opening where there is no store
    yet."""

    def __init__(self, server: Server, *, read_only: bool = False) -> None:
        self.server = server
        self.locked = 0.0
        """Seconds for which its last write transaction kept others from writing beside the relay."""
        self.connection = Connection(server, application="smppd beside", read_only=read_only)
        try:
            known(self.connection)
        except BaseException:
            self.connection.close()
            raise

    def all(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """Every row of a query."""
        return self.connection.all(statement, values)

    def one(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of a query."""
        return self.connection.one(statement, values)

    def number(self, statement: str, values: Sequence[Any] = ()) -> int:
        """The first column of the first row of a query, as a number; 0 where there is none."""
        row = self.connection.one(statement, values)
        return int(row[0] or 0) if row is not None else 0

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Executes a statement; how many rows it changed."""
        return self.connection.run(statement, values)

    @contextmanager
    def writing(self, *stained: str) -> Iterator[None]:
        """A write transaction beside the relay: all or, when anything is raised, nothing. `undo` inside ends it without an
        error. stained: names of tables, see the module."""
        began = time.perf_counter()
        try:
            with self.connection.writing():
                self.one("SELECT pg_advisory_xact_lock($1)", (BESIDE,))
                began = time.perf_counter()
                yield
                self.stain(*stained)
        finally:
            self.locked = time.perf_counter() - began

    def stain(self, *tables: str) -> None:
        """Inside `writing`: these are stained, see the module."""
        if tables:
            self.run(_STAIN, (list(tables),))

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All queries inside see the database as it is at the first."""
        with self.connection.snapshot():
            yield

    # -- small facts ---------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> bytes | None:
        """What is remembered under a name."""
        row = self.one("SELECT value FROM facts WHERE name = $1", (name,))
        return None if row is None else bytes(row[0])

    def count(self, name: str) -> int | None:
        """The number that is remembered under a name."""
        found = self.fact(name)
        return None if found is None else int(found)

    def keep(self, name: str, value: bytes | int) -> None:
        """Remembers something under a name: octets, or a number. Inside `writing`."""
        octets = b"%d" % value if isinstance(value, int) else value
        self.run(
            "INSERT INTO facts VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, octets)
        )

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()


def undo() -> NoReturn:
    """Inside `Database.writing`: nothing of the transaction happens, and it goes on behind it."""
    raise psycopg.Rollback
