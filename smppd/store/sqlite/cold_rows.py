"""Cold rows: what waits too long for memory lies on disk, sealed under the key of the spool segment it was written in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from smppd.store.api import ColdRow, Kind, Place
from smppd.store.cold import FOUND, ColdReader, Columns, open_columns, places, seal_columns
from smppd.store.sqlite.damaged import DamagedRows
from smppd.store.sqlite.files import writing
from smppd.vault.keys import KeyRing

__all__ = ["ColdRows", "Columns", "open_columns"]

_SELECT: Final = "SELECT kind, owner, key, id, expires, segment, data FROM cold WHERE kind = ? AND "
_PUT: Final = "INSERT OR REPLACE INTO cold VALUES "
# Many rows in one statement: a DELETE with a list of them would go through the whole table (no index is used for it).
_DROPPED: Final = (
    "CREATE TEMP VIEW dropped (kind, owner, key, id) AS SELECT 0, '', x'', 0",
    "CREATE TEMP TRIGGER dropped_put INSTEAD OF INSERT ON dropped BEGIN"
    " DELETE FROM cold WHERE kind = NEW.kind AND owner = NEW.owner AND key = NEW.key AND id = NEW.id;"
    " END",
)
_DROP: Final = "INSERT INTO dropped VALUES "
# Rows a statement: SQLite's module gives the interpreter's lock away for each and waits for it again. Few sizes, so that each
# is prepared once.
_SIZES: Final = (64, 8, 1)


class ColdRows:
    """Table `cold`, for the thread that writes it. ``damaged``: see ``cold.ColdReader``."""

    def __init__(
        self,
        db: sqlite3.Connection,
        ring: KeyRing,
        aside: DamagedRows,
        damaged: Callable[[Kind, str, int, str], object],
    ) -> None:
        self._db = db
        self._ring = ring
        self._reader = ColdReader(ring, aside.take_cold, damaged)
        for statement in _DROPPED:
            db.execute(statement)

    def put(self, rows: Iterable[ColdRow], segment: int) -> int:
        """Writes rows, in the caller's transaction; how many octets. One that is there already is replaced."""
        sealed = [seal_columns(self._ring, row, segment) for row in rows]
        put_many(self._db, _PUT, sealed)
        return sum(len(columns[6]) for columns in sealed)

    def drop(self, rows: Sequence[tuple[int, str, bytes, int]]) -> None:
        """Deletes rows by (kind, owner, key, id), in the caller's transaction."""
        put_many(self._db, _DROP, rows)

    def reseal(self, segment: int, after: tuple[Any, ...], limit: int) -> tuple[Any, ...] | None:
        """Seals up to ``limit`` rows of other segments under this one, in a transaction of its own; where to go on, None at the
        end. ``after``: empty to begin with. A damaged row stays as it is. Raises sqlite3.Error, nothing changed then."""
        behind = " AND (segment, kind, owner, key, id) > (?, ?, ?, ?, ?)" if after else ""
        found: list[Any] = self._db.execute(
            "SELECT kind, owner, key, id, expires, segment, data FROM cold WHERE segment < ?"
            f"{behind} ORDER BY segment, kind, owner, key, id LIMIT ?",
            (segment, *after, limit),
        ).fetchall()
        sealed = self._reader.resealed(found, segment)
        if sealed:
            with writing(self._db):
                put_many(self._db, _PUT, sealed)
        last = found[-1] if len(found) == limit else None
        return None if last is None else (last[5], *last[:4])

    def page(self, kind: Kind, owner: str, after: int, limit: int) -> list[ColdRow]:
        """See ``api.Spool``."""
        where = "owner = ? AND key = x'' AND id > ? ORDER BY id LIMIT ?"
        return self._reader.page(lambda behind: self._read(where, kind, owner, behind, limit), after)

    def find(self, kind: Kind, owner: str, keys: list[bytes]) -> list[ColdRow]:
        """See ``api.Spool``."""
        where = f"owner = ? AND key IN ({','.join('?' * len(keys))}) LIMIT ?"
        return self._read(where, kind, owner, *keys, FOUND)[0]

    def expired(self, kind: Kind, now: int, limit: int) -> list[ColdRow]:
        """See ``api.Spool``."""
        return self._read("expires < ? ORDER BY expires LIMIT ?", kind, now, limit)[0]

    def count(self, kind: Kind) -> dict[str, int]:
        """See ``api.Spool``."""
        asked = "SELECT owner, count(*) FROM cold WHERE kind = ? GROUP BY owner"
        return {owner: int(count) for owner, count in self._db.execute(asked, (int(kind),))}

    def walk(self, kind: Kind, after: Place, limit: int) -> tuple[list[ColdRow], Place | None]:
        """See ``api.Spool``."""
        where = "(owner, key, id) > (?, ?, ?) ORDER BY owner, key, id LIMIT ?"
        rows, damaged = self._read(where, kind, *after, limit)
        if len(rows) + len(damaged) < limit:
            return rows, None
        return rows, max(places(rows, damaged))

    def claim(self, kind: Kind, owner: str, ids: list[int] | None, limit: int) -> list[ColdRow]:
        """See ``api.Spool``: one daemon has the store, so every row is its own."""
        return []

    def peek(self, kind: Kind, owner: str, after: int, limit: int) -> list[ColdRow]:
        """See ``api.Spool``."""
        return []

    def unheld(self) -> dict[tuple[int, str], int]:
        """See ``api.Spool``."""
        return {}

    def _read(self, where: str, kind: Kind, *arguments: object) -> tuple[list[ColdRow], list[Columns]]:
        return self._reader.opened(self._db.execute(_SELECT + where, (int(kind), *arguments)).fetchall())


def put_many(db: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Gives many rows to a statement that ends with VALUES, in the caller's transaction."""
    at = 0
    for size in _SIZES:
        while len(rows) - at >= size:
            values = [value for row in rows[at : at + size] for value in row]
            marks = "(" + ",".join("?" * (len(values) // size)) + ")"
            db.execute(statement + ",".join([marks] * size), values)
            at += size
