"""A connection to one of the files whose errors are the store's own: callers outside of this back end know no other.

The writer's thread works on bare connections instead, since what it does next depends on SQLite's codes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from smppd.store.api import StoreBusy, StoreError, StoreFull
from smppd.store.sqlite.files import connect

Row = tuple[Any, ...]
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_CHECKPOINT_MS: Final = 250
_AHEAD: Final = 2
_REST: Final = 0.01
_DUTY: Final = 2.0


def told(path: Path, error: sqlite3.Error) -> StoreError:
    """The store's error for one of SQLite's, which says what is the matter and never what is stored."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kind = StoreFull if code == sqlite3.SQLITE_FULL else StoreBusy if code in _BUSY else StoreError
    return kind(f"{path}: {error}")


class _OfAStore(Protocol):
    _directory: Path


_M = TypeVar("_M", bound=Callable[..., Any])


def spoken(method: _M) -> _M:
    """Decorates a method of what has the store's ``_directory``: SQLite's errors become the store's."""

    @wraps(method)
    def call(self: _OfAStore, *args: Any, **named: Any) -> Any:
        try:
            return method(self, *args, **named)
        except sqlite3.Error as error:
            raise told(self._directory, error) from error

    return call  # type: ignore[return-value]


class Database:
    """See the module. For one thread at a time; every method raises StoreError."""

    def __init__(self, path: Path, kind: str, *, read_only: bool = False) -> None:
        """path, kind, read_only: see `files.connect`."""
        self.path = path
        self.gives_way = False
        """Whether it rests after each write transaction, so that a daemon on the same store gets its turn: SQLite lets who
        waits for the lock sleep, up to 100 ms at a time, and somebody who takes it again and again is always quicker."""
        self.locked = 0.0
        """Seconds for which its last write transaction kept others from writing."""
        self.connection = connect(path, kind, read_only=read_only)
        """For what there is no method for; its errors are SQLite's."""

    def all(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """Every row of a query."""
        try:
            return self.connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise told(self.path, error) from error

    def one(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of a query."""
        try:
            row: Row | None = self.connection.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise told(self.path, error) from error
        return row

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Executes a statement; how many rows it changed."""
        try:
            return self.connection.execute(statement, values).rowcount
        except sqlite3.Error as error:
            raise told(self.path, error) from error

    def run_each(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Executes a statement once for each row."""
        try:
            self.connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise told(self.path, error) from error

    def version(self) -> int:
        """The file's schema version: an older one where it is only read."""
        row = self.one("PRAGMA user_version")
        return int(row[0]) if row is not None else 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A write transaction: all or, when anything is raised, nothing. `roll_back` inside ends it too."""
        self.run("BEGIN IMMEDIATE")
        began = time.perf_counter()
        try:
            yield
            if self.connection.in_transaction:
                self.run("COMMIT")
        except BaseException:
            self.roll_back()
            raise
        finally:
            self.locked = time.perf_counter() - began
        if self.gives_way:
            time.sleep(max(_REST, _DUTY * self.locked))

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All queries inside see the file as it is at the first."""
        self.run("BEGIN")
        try:
            yield
        finally:
            if self.connection.in_transaction:
                self.run("COMMIT")

    def roll_back(self) -> None:
        """Ends a transaction if there is one: SQLite has done so itself for want of space, and once more would hide why."""
        if self.connection.in_transaction:
            self.run("ROLLBACK")

    def truncate(self, milliseconds: int = _CHECKPOINT_MS) -> bool:
        """Empties the write-ahead log, so that no old page is left in it. False where somebody was reading all the time."""
        # First what can be copied without standing in the writer's way, so that it waits for little.
        for _ in range(_AHEAD):
            self.all("PRAGMA wal_checkpoint(PASSIVE)")
        self.run(f"PRAGMA busy_timeout = {milliseconds}")
        try:
            row = self.one("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self.run("PRAGMA busy_timeout = 5000")
        return row is not None and not row[0]

    def close(self) -> None:
        """Closes the file."""
        self.connection.close()
