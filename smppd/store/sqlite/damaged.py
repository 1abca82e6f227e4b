"""Table `damaged`: what is set aside (`store.aside`), for the writer and for commands."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import time
from typing import Any, Final

from smppd.store import damaged
from smppd.store.api import Damaged, StoreError
from smppd.store.aside import (
    CLEAR,
    COLD,
    KINDS,
    MOST,
    OCTETS,
    OURS,
    SPOOL,
    number_of,
    seal_item,
)
from smppd.store.damaged import Item, opened
from smppd.store.sqlite.database import Database, spoken
from smppd.vault.keys import KeyRing

__all__ = [
    "CLEAR",
    "COLD",
    "KINDS",
    "MOST",
    "OCTETS",
    "OURS",
    "SPOOL",
    "STRANGE",
    "DamagedItems",
    "DamagedRows",
    "Item",
    "content",
    "items",
    "overdue",
    "present",
    "remove",
]

_LISTED: Final = "number, kind, owner, id, place, reason, at, until, form, row, segment, length(data)"
_PUT: Final = (
    "INSERT INTO damaged (kind, owner, id, place, reason, at, until, form, row, segment, data)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
STRANGE: Final = (
    "(kind NOT IN (1, 2, 3, 5, 6) OR typeof(owner) <> 'text' OR typeof(key) <> 'blob' OR typeof(id) <> 'integer'"
    " OR typeof(expires) <> 'integer' OR typeof(segment) <> 'integer' OR typeof(data) <> 'blob')"
)
"""SQL: whether a row of `cold` is one that nobody looks for, or that no query can give back as it should be."""


class DamagedRows:
    """The table, for the thread that writes it. ``lifetime(owner)``: seconds for which what belongs to an account, a lane or an
    upstream may be kept; ``wall``: epoch seconds."""

    def __init__(
        self,
        db: sqlite3.Connection,
        ring: KeyRing,
        lifetime: Callable[[str], float],
        wall: Callable[[], float] = time,
    ) -> None:
        self._db = db
        self._ring = ring
        self._lifetime = lifetime
        self._wall = wall
        self.count = self._octets = 0
        self.recount()

    def recount(self) -> None:
        """Counts anew: others remove rows too."""
        row = self._db.execute("SELECT count(*), coalesce(sum(length(data)), 0) FROM damaged").fetchone()
        self.count, self._octets = int(row[0]), int(row[1])

    def put(self, items: Iterable[Damaged], segment: int) -> int:
        """Writes items, sealed, in the caller's transaction; how many octets."""
        written = 0
        for item in items:
            sealed = seal_item(self._ring, item, segment)
            kept = (item.kind, item.owner, number_of(item.id), item.place, item.reason, item.at, item.until)
            self._insert((*kept, OURS, 0, segment, sealed))
            written += len(sealed)
        self._limit()
        return written

    def take_cold(self, rows: Sequence[tuple[tuple[Any, ...], str]], place: str) -> bool:
        """Moves rows of `cold` here as they are: (columns, reason) each. A transaction of its own; False without space: then
        all stay where they are."""

        def move() -> None:
            for (kind, owner, key, identity, _expires, segment, data), reason in rows:
                name = KINDS.get(kind, "cold row") if isinstance(kind, int) else "cold row"
                self._found(name, owner, identity, place, reason, COLD, kind, segment, data)
                self._db.execute(
                    "DELETE FROM cold WHERE kind = ? AND owner = ? AND key = ? AND id = ?", (kind, owner, key, identity)
                )

        return self._moved(move)

    def take_block(self, row: int, data: Any, reason: str) -> bool:
        """Moves a row of `spool` here as it is; see `take_cold`."""

        def move() -> None:
            self._found("block", "", 0, "spool", reason, SPOOL, row, row >> 32, data)
            self._db.execute("DELETE FROM spool WHERE seq = ?", (row,))

        return self._moved(move)

    def take_broken(self, data: bytes, reason: str) -> bool:
        """Keeps what is left of a block of the journal that is not whole; see `take_cold`."""
        return self._moved(lambda: self._found("block", "", 0, "spool", reason, SPOOL, 0, 0, data))

    def take_meta(self, name: str, value: Any) -> bool:
        """Moves a row of `meta` here; see `take_cold`."""

        def move() -> None:
            data = value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
            self._found("meta", name, 0, "meta", "ValueError", CLEAR, 0, 0, data)
            self._db.execute("DELETE FROM meta WHERE name = ?", (name,))

        return self._moved(move)

    def take_strange(self) -> int:
        """Moves the rows of `cold` that nobody would ever look for; how many."""
        rows = self._db.execute(
            f"SELECT kind, owner, key, id, expires, segment, data FROM cold WHERE {STRANGE}"
        ).fetchall()
        return len(rows) if rows and self.take_cold([(row, "unknown") for row in rows], "cold") else 0

    def _moved(self, move: Callable[[], None]) -> bool:
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            move()
            self._limit()
            db.execute("COMMIT")
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            self.recount()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (
                sqlite3.SQLITE_FULL,
                sqlite3.SQLITE_BUSY,
                sqlite3.SQLITE_LOCKED,
            ):
                raise
            return False
        return True

    def _found(
        self,
        kind: str,
        owner: Any,
        identity: Any,
        place: str,
        reason: str,
        form: int,
        row: Any,
        segment: Any,
        data: Any,
    ) -> None:
        name = owner if isinstance(owner, str) else ""
        at = int(self._wall())
        content = bytes(data) if isinstance(data, (bytes, memoryview)) else str(data).encode("utf-8", "replace")
        until = at + int(self._lifetime(name))
        self._insert(
            (
                kind,
                name,
                number_of(identity),
                place,
                reason,
                at,
                until,
                form,
                number_of(row),
                number_of(segment),
                content,
            )
        )

    def _insert(self, values: tuple[Any, ...]) -> None:
        self._db.execute(_PUT, values)
        self.count += 1
        self._octets += len(values[-1])

    def _limit(self) -> None:
        if self.count <= MOST and self._octets <= OCTETS:
            return
        self.recount()
        while self.count > MOST or (self._octets > OCTETS and self.count > 1):
            number, octets = self._db.execute(
                "SELECT number, length(data) FROM damaged ORDER BY number LIMIT 1"
            ).fetchone()
            self._db.execute("DELETE FROM damaged WHERE number = ?", (number,))
            self.count -= 1
            self._octets -= octets


# -- for commands --------------------------------------------------------------------------------------------------------


def present(db: sqlite3.Connection) -> bool:
    """Whether this data.db has the table: not where it is of an earlier version and only read."""
    return db.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'damaged'").fetchone() is not None


def items(db: sqlite3.Connection) -> list[Item]:
    """All items, oldest first."""
    if not present(db):
        return []
    return [Item(*row) for row in db.execute(f"SELECT {_LISTED} FROM damaged ORDER BY number")]


def content(db: sqlite3.Connection, item: Item, ring: KeyRing) -> bytes | None:
    """What an item holds, or None where it does not open: it was altered, or its key is gone."""
    row = db.execute("SELECT data FROM damaged WHERE number = ?", (item.number,)).fetchone()
    return None if row is None else opened(item, bytes(row[0]), ring)


def remove(db: sqlite3.Connection, numbers: Sequence[int]) -> int:
    """Deletes items; how many were there."""
    return sum(db.execute("DELETE FROM damaged WHERE number = ?", (number,)).rowcount for number in numbers)


def overdue(db: sqlite3.Connection, now: float, kept: Callable[[str], float | None]) -> int:
    """Deletes what is past its time, by what was said when it was set aside or by what ``kept(account)`` says now, whichever is
    shorter; how many."""
    return remove(db, damaged.overdue(items(db), now, kept))


class DamagedItems:
    """`store.damaged.DamagedItems` of a store's directory. Raises StoreError when there is no store."""

    def __init__(self, directory: Path, *, read_only: bool) -> None:
        self._directory = directory
        path = directory / "data.db"
        if not path.exists():
            raise StoreError(f"{path}: there is no store here yet")
        self._database = Database(path, "data", read_only=read_only)
        if not read_only:  # the key of an item is that of others too: what is removed must not stay in a free page
            self._database.run("PRAGMA secure_delete = ON")

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    @spoken
    def items(self) -> list[Item]:
        """See `store.damaged.DamagedItems`."""
        return items(self._database.connection)

    @spoken
    def content(self, number: int, ring: KeyRing) -> bytes | None:
        """See `store.damaged.DamagedItems`."""
        db = self._database.connection
        found = db.execute(f"SELECT {_LISTED} FROM damaged WHERE number = ?", (number,)).fetchone()
        return None if found is None else content(db, Item(*found), ring)

    def remove(self, numbers: Sequence[int]) -> int:
        """See `store.damaged.DamagedItems`."""
        with self._database.writing():
            count = self._remove(numbers)
        # So that nothing of them lingers there; where somebody is reading, the daemon's next purge does it.
        self._database.truncate()
        return count

    @spoken
    def _remove(self, numbers: Sequence[int]) -> int:
        return remove(self._database.connection, numbers)
