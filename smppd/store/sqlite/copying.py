"""The embedded store as one side of a copy (`store.copying`): the rows of keys.db and data.db, and a file beside them that says
what became of the store.

The journal's files have no part in it: what lives in them stands in table `spool` before (`store.tidy.compact`).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from smppd.durable import replace_file, sync_directory
from smppd.store.api import StoreError
from smppd.store.copying import (
    CHAIN_STATES,
    COUNTERS,
    INDEXED,
    PURGE,
    Key,
    Mark,
    Row,
    Table,
    Type,
    key_text,
    octets_of,
    read_key,
)
from smppd.store.installation import TIDIED
from smppd.store.journal.reader import numbers
from smppd.store.lock import LOCK_FILE
from smppd.store.sqlite.copies import settle
from smppd.store.sqlite.database import Database, told
from smppd.store.sqlite.filing import ENDED, FILED
from smppd.store.sqlite.journal import OVER
from smppd.store.sqlite.log_rows import ANCHOR, ANCHOR_ROW
from smppd.store.sqlite.seals import AUDIT_HEAD
from smppd.store.tidy import ASKED

MARK: Final = "copied.json"
"""In the directory: what became of the store (`Mark`)."""

_PLACE: Final = "copy "
_COMPLETE: Final = "complete"
_IN_KEYS: Final = frozenset({"keys", "secrets", "held"})
_AS: Final = {
    Type.NUMBER: "CAST({} AS INTEGER)",
    Type.SMALL: "CAST({} AS INTEGER)",
    Type.TEXT: "CAST({} AS TEXT)",
    Type.OCTETS: "CAST({} AS BLOB)",
    Type.MAYBE: "CAST({} AS BLOB)",
    Type.MAYBE_NUMBER: "CAST({} AS INTEGER)",
}
"""Who edits a file may change types too."""
_NUMBERS: Final = ("highest_id", "restored")
_OWN: Final = (FILED, ENDED, OVER, ASKED, TIDIED, ANCHOR, ANCHOR_ROW, AUDIT_HEAD, *INDEXED, *COUNTERS)
"""Names in `meta` that have a place of their own elsewhere, or mean nothing there."""


def read_mark(directory: Path) -> Mark | None:
    """What the store in a directory says of itself. StoreError."""
    try:
        return Mark.read((directory / MARK).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{directory / MARK}: {error.strerror or error}") from error


class SqliteSide:
    """See the module and `store.copying.Side`."""

    def __init__(self, directory: Path) -> None:
        self.name = str(directory)
        self._directory = directory
        self._opened: dict[str, Database] = {}

    def close(self) -> None:
        """See `Side`."""
        for one in self._opened.values():
            one.close()
        self._opened.clear()

    def _file(self, kind: str) -> Database:
        """`data` or `keys`."""
        if kind not in self._opened:
            database = self._opened[kind] = Database(self._directory / f"{kind}.db", kind)
            # Texts that are none, after somebody edited the file, are no reason to leave a row behind.
            database.connection.text_factory = lambda octets: octets.decode("utf-8", "replace")
            if kind == "data":
                database.run("PRAGMA secure_delete = ON")
        return self._opened[kind]

    def _of(self, table: Table) -> Database:
        return self._file("keys" if table.name in _IN_KEYS else "data")

    # -- marks ---------------------------------------------------------------------------------------------------------

    def there(self) -> bool:
        """See `Side`."""
        return any((self._directory / name).exists() for name in ("keys.db", "data.db")) or self._journal()

    def _journal(self) -> bool:
        try:
            return bool(numbers(self._directory))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"{self._directory}: {error.strerror or error}") from error

    def read_mark(self) -> Mark | None:
        """See `Side`."""
        return read_mark(self._directory)

    def write_mark(self, mark: Mark | None) -> None:
        """See `Side`."""
        try:
            if mark is not None:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_file(self._directory / MARK, mark.pack())
                self._hand_over(MARK)
                return
            (self._directory / MARK).unlink(missing_ok=True)
            sync_directory(self._directory)
        except OSError as error:
            raise StoreError(f"{self._directory / MARK}: {error.strerror or error}") from error

    def used(self) -> bool:
        """See `Side`: its first commit is a block of the journal."""
        return self._journal() or self._file("data").one("SELECT 1 FROM meta WHERE name = ?", (FILED,)) is not None

    # -- of both -------------------------------------------------------------------------------------------------------

    def count(self, table: Table) -> int:
        """See `Side`."""
        if table.whole:
            return len(self._whole(table))
        row = self._of(table).one(f"SELECT count(*) FROM {_name(table)}")
        return 0 if row is None else int(row[0])

    def read(self, table: Table, after: Key | None, limit: int, octets: int) -> list[Row]:
        """See `Side`."""
        if table.whole:
            return self._whole(table) if after is None else []
        key = _key(table)
        behind = "" if after is None else f"WHERE ({', '.join(key)}) > ({', '.join('?' * len(key))})"
        statement = f"SELECT {_selected(table)} FROM {_name(table)} {behind} ORDER BY {', '.join(key)} LIMIT ?"
        found: list[Row] = []
        try:
            cursor = self._of(table).connection.execute(statement, (*_packed(table, after or ()), limit))
            # Row by row: what is too much is not read.
            for row in cursor:
                found.append(row)
                octets -= octets_of(row)
                if octets <= 0:
                    break
            cursor.close()
        except sqlite3.Error as error:
            raise told(self._of(table).path, error) from error
        return found

    def _whole(self, table: Table) -> list[Row]:
        """The rows of a table that is `whole`: most stand in `meta`."""
        meta = self._file("data").all
        if table.name == "states":
            known = self._file("keys").all(
                "SELECT name, CAST(value AS BLOB) FROM state WHERE name IN (?, ?)", CHAIN_STATES[:2]
            )
            head = meta("SELECT ?, CAST(value AS BLOB) FROM meta WHERE name = ?", (CHAIN_STATES[2], AUDIT_HEAD))
            return [*known, *head]
        if table.name == "anchors":
            return meta(
                "SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = ?), 0), CAST(value AS BLOB)"
                " FROM meta WHERE name = ?",
                (ANCHOR_ROW, ANCHOR),
            )
        if table.name == "counters":
            return meta(
                f"SELECT name, value FROM meta WHERE name IN ({_marks(COUNTERS)}) AND typeof(value) = 'integer'",
                COUNTERS,
            )
        others = f"name NOT IN ({_marks(_OWN)}) AND substr(name, 1, {len(_PLACE)}) <> '{_PLACE}'"
        if table.name == "numbers":
            return meta(f"SELECT name, value FROM meta WHERE typeof(value) = 'integer' AND {others}", _OWN)
        indexed = meta(
            f"SELECT name, CAST(CAST(value AS INTEGER) AS BLOB) FROM meta WHERE name IN ({_marks(INDEXED)})", INDEXED
        )
        purge = meta(
            f"SELECT ? || name, CAST(value AS BLOB) FROM meta WHERE typeof(value) = 'text' AND name NOT IN ({_marks(_NUMBERS)})"
            f" AND {others}",
            (PURGE, *_NUMBERS, *_OWN),
        )
        return [*indexed, *purge]

    # -- of a source ---------------------------------------------------------------------------------------------------

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """See `Side`: both files' write locks."""
        held = (self._file("keys"), self._file("data"))
        try:
            for one in held:
                one.run("BEGIN IMMEDIATE")
            yield
        finally:
            for one in held:
                one.roll_back()

    def refusals(self) -> Iterator[str]:
        """See `Side`."""
        if self._journal():
            yield f"{self.name}: journal files are left: start the daemon once and end it, then copy"

    def nodes(self) -> set[int]:
        """See `Side`."""
        return {row[0] for row in self._file("data").all("SELECT DISTINCT seq >> 16 & 63 FROM log")}

    # -- of a destination ----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """See `Side`."""
        self._file("keys")
        self._file("data")

    def fits(self, table: Table, row: Row) -> Row:
        """See `Side`: whatever is a text or a number elsewhere is one here."""
        return row

    def place(self, table: Table) -> tuple[Key | None, bool]:
        """See `Side`."""
        where = "state" if table.name in _IN_KEYS else "meta"
        row = self._of(table).one(f"SELECT CAST(value AS TEXT) FROM {where} WHERE name = ?", (_PLACE + table.name,))
        if row is None:
            return None, False
        return (None, True) if row[0] == _COMPLETE else (read_key(row[0]), False)

    def put(self, table: Table, rows: Sequence[Row], last: Key | None, *, complete: bool) -> None:
        """See `Side`."""
        if table.whole:
            self._put_whole(table, rows)
            return
        database = self._of(table)
        where = "state" if table.name in _IN_KEYS else "meta"
        place = _COMPLETE if complete else key_text(last or ())
        with database.writing():
            database.run_each(_inserted(table), [_stored(table, row) for row in rows])
            database.run(f"INSERT OR REPLACE INTO {where} VALUES (?, ?)", (_PLACE + table.name, place.encode()))

    def _put_whole(self, table: Table, rows: Sequence[Row]) -> None:
        data, keys = self._file("data"), self._file("keys")
        values: list[tuple[str, Any]] = []
        for row in rows:
            if table.name == "states" and row[0] != CHAIN_STATES[2]:
                keys.run("INSERT OR REPLACE INTO state VALUES (?, ?)", row)
            elif table.name == "states":
                values.append((AUDIT_HEAD, row[1]))
            elif table.name == "anchors":
                values += [(ANCHOR_ROW, row[0]), (ANCHOR, row[1])]
            elif table.name != "facts":
                values.append((row[0], row[1]))
            elif row[0] in INDEXED:
                values.append((row[0], int(row[1])))
            else:
                values.append((row[0].removeprefix(PURGE), row[1].decode()))
        with data.writing():
            # What an earlier call has put and the source has no more.
            for gone in self._whole(table):
                if table.name in ("numbers", "counters", "facts"):
                    data.run("DELETE FROM meta WHERE name = ?", (str(gone[0]).removeprefix(PURGE),))
            data.run_each("INSERT OR REPLACE INTO meta VALUES (?, ?)", values)

    def settle(self) -> None:
        """See `Side`: the daemon's start makes the rest."""
        for kind, where in (("keys", "state"), ("data", "meta")):
            with self._file(kind).writing():
                self._file(kind).run(f"DELETE FROM {where} WHERE substr(name, 1, {len(_PLACE)}) = '{_PLACE}'")
        self.close()
        for kind in ("keys", "data"):
            settle(self._directory / f"{kind}.db")
        try:
            self._hand_over("keys.db", "data.db", LOCK_FILE)
        except OSError as error:
            raise StoreError(f"{self._directory}: {error.strerror or error}") from error

    def _hand_over(self, *names: str) -> None:
        """Files that root made are the daemon's user's. OSError."""
        if os.geteuid() == 0:
            owner = self._directory.stat()
            for name in names:
                if (self._directory / name).exists():
                    os.chown(self._directory / name, owner.st_uid, owner.st_gid)


# -- how the files have it ---------------------------------------------------------------------------------------------


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _name(table: Table) -> str:
    return "spool" if table.name == "journal" else table.name


def _column(table: Table, name: str) -> str:
    if table.name == "journal":
        return {"segment": "seq >> 32", "counter": "seq & 4294967295", "data": "data"}[name]
    return "rowid" if name == "handle" else f'"{name}"'


def _selected(table: Table) -> str:
    return ", ".join(_AS[kind].format(_column(table, name)) for name, kind in table.columns)


def _key(table: Table) -> list[str]:
    if table.name == "journal":
        return ["seq"]
    return [_column(table, name) for name, _ in table.columns[: table.key]]


def _packed(table: Table, key: Key) -> Key:
    return (key[0] << 32 | key[1],) if key and table.name == "journal" else key


def _stored(table: Table, row: Row) -> Row:
    return (row[0] << 32 | row[1], row[2]) if table.name == "journal" else row


def _inserted(table: Table) -> str:
    names = ["seq", "data"] if table.name == "journal" else [_column(table, name) for name, _ in table.columns]
    return f"INSERT INTO {_name(table)} ({', '.join(names)}) VALUES ({_marks(names)})"
