"""A database as one side of a copy (`store.copying`), as one node has it.

Everything that is copied into a database is this node's; out of it only what one node has can be copied, since the embedded
store has one chain.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from smppd.store.api import Kind, StoreBusy
from smppd.store.copying import (
    INDEXED,
    PURGE,
    TABLES,
    Key,
    Mark,
    Row,
    Table,
    Type,
    What,
    key_text,
    read_key,
    small,
)
from smppd.store.installation import TIDIED
from smppd.store.postgres.binary import clean
from smppd.store.postgres.connection import SCHEMA, Connection, Server
from smppd.store.postgres.database import BESIDE
from smppd.store.postgres.log_ids import columns
from smppd.store.postgres.migrations import known, migrate, version
from smppd.store.postgres.session import nodes_in_use
from smppd.store.tidy import ASKED

MARK: Final = "copied"
"""Fact: what became of the store (`Mark`)."""

_PLACE: Final = "copy "
_COMPLETE: Final = "complete"
_ARRAYS: Final = {
    Type.NUMBER: "bigint[]",
    Type.SMALL: "int[]",
    Type.TEXT: "text[]",
    Type.OCTETS: "bytea[]",
    Type.MAYBE: "bytea[]",
    Type.MAYBE_NUMBER: "bigint[]",
}
_OF_NODE: Final = frozenset({"secrets", "log", "seals", "checkpoints", "journal", "states", "numbers", "anchors"})
"""Tables whose rows are a node's."""
_MADE_BY: Final = frozenset({"keys", "cold", "damaged"})
"""Tables that say by whom or whose a row is, and whose key does not."""
_NAMES: Final = {"states": "state", "numbers": "meta"}
_RENAMED: Final = {("erased", "after"): "later", ("damaged", "row"): '"row"'}
_COUNTED: Final = ("damaged", "number_index", "event_index", "consents")
"""Tables whose key the server counts."""
_TABLES_OF_INDEXES: Final = ("number_index", "event_index")
_LAST: Final = (1 << 63) - 2
_OWN_NUMBERS: Final = (ASKED, TIDIED)
_PASSED_ON: Final = (Kind.PARKED, Kind.INHERITED)


def read_mark(db: Connection) -> Mark | None:
    """What a database says of itself. StoreError."""
    if version(db) < 2:
        return None
    row = db.one("SELECT value FROM smppd.facts WHERE name = $1", (MARK,))
    return None if row is None else Mark.read(row[0])


class PostgresSide:
    """See the module and `store.copying.Side`."""

    def __init__(self, server: Server, node: int) -> None:
        self.name = server.name
        self._node = node
        self._db = Connection(server, application="smppd store copy", statement_seconds=0)

    def close(self) -> None:
        """See `Side`."""
        self._db.close()

    # -- marks ---------------------------------------------------------------------------------------------------------

    def there(self) -> bool:
        """See `Side`."""
        names = {_NAMES.get(table.name, table.name) for table in TABLES} | {"nodes"}
        made = {str(row[0]) for row in self._db.all("SELECT tablename FROM pg_tables WHERE schemaname = $1", (SCHEMA,))}
        return any(self._db.one(f"SELECT 1 FROM {name} LIMIT 1") is not None for name in sorted(names & made))

    def read_mark(self) -> Mark | None:
        """See `Side`."""
        return read_mark(self._db)

    def write_mark(self, mark: Mark | None) -> None:
        """See `Side`."""
        if mark is None:
            self._db.run("DELETE FROM facts WHERE name = $1", (MARK,))
            return
        if mark.what is What.COMING:
            migrate(self._db)
        self._keep(MARK, mark.pack())

    def _keep(self, name: str, value: bytes) -> None:
        self._db.run(
            "INSERT INTO facts VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
        )

    def used(self) -> bool:
        """See `Side`: a start raises the epoch."""
        return self._db.one("SELECT 1 FROM nodes WHERE epoch > 0 LIMIT 1") is not None

    # -- of both -------------------------------------------------------------------------------------------------------

    def count(self, table: Table) -> int:
        """See `Side`."""
        row = self._db.one(f"SELECT count(*) FROM {_name(table)} WHERE {self._whose(table)}")
        return 0 if row is None else int(row[0])

    def _whose(self, table: Table) -> str:
        if table.name == "numbers":
            return f"node = {self._node:d} AND name NOT IN ({', '.join(map(_quoted, _OWN_NUMBERS))})"
        if table.name == "facts":
            return f"(name IN ({', '.join(map(_quoted, INDEXED))}) OR starts_with(name, {_quoted(PURGE)}))"
        return f"node = {self._node:d}" if table.name in _OF_NODE else "true"

    def read(self, table: Table, after: Key | None, limit: int, octets: int) -> list[Row]:
        """See `Side`."""
        names = [_column(table, name) for name, _ in table.columns]
        key = ", ".join(names[: table.key])
        behind = f"({key}) > ({', '.join(f'${at + 3}' for at in range(table.key))})" if after is not None else "true"
        # The length of a value stands in front of it: what is too much is not read.
        size = " + ".join(
            f"coalesce(octet_length({_column(table, name)}), 0)"
            for name, kind in table.columns
            if kind in (Type.TEXT, Type.OCTETS, Type.MAYBE)
        )
        return self._db.all(
            f"SELECT {', '.join(names)} FROM (SELECT *, row_number() OVER rising AS place_,"
            f" sum({size or '0'}) OVER rising AS total_ FROM"
            f" (SELECT * FROM {_source(table)} WHERE {self._whose(table)} AND {behind} ORDER BY {key} LIMIT $1) AS page"
            f" WINDOW rising AS (ORDER BY {key})) AS page WHERE place_ = 1 OR total_ <= $2 ORDER BY place_",
            (limit, octets, *(after or ())),
        )

    # -- of a source ---------------------------------------------------------------------------------------------------

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """See `Side`: who writes beside the relay waits for this lock; the relays are not there."""
        known(self._db)
        try:
            self._db.one("SELECT pg_advisory_lock($1)", (BESIDE,))
        except StoreBusy:
            raise StoreBusy(f"{self.name}: somebody is writing to it: try again in a moment") from None
        try:
            yield
        finally:
            if self._db.usable:
                self._db.one("SELECT pg_advisory_unlock($1)", (BESIDE,))

    def refusals(self) -> Iterator[str]:
        """See `Side`."""
        at_work = [node for node in nodes_in_use(self._db) if node != self._node]
        if at_work:
            yield f"{self.name}: nodes are at work on it ({', '.join(map(str, at_work))}): end them first"
        for name, what in (("journal", "messages on their way"), ("log", "a log"), ("seals", "checkpoints")):
            others = self._db.all(
                f"SELECT node FROM nodes WHERE node <> $1 AND EXISTS (SELECT 1 FROM {name} AS one WHERE one.node = nodes.node)"
                " ORDER BY node",
                (self._node,),
            )
            if others:
                numbers = ", ".join(str(row[0]) for row in others)
                yield (
                    f"{self.name}: nodes {numbers} have {what} there too, and the embedded store is one node's: start them and"
                    " end them, and wait until their records were purged"
                )
        kinds = "kind = ANY ($1::int[])"
        row = self._db.one(f"SELECT count(*) FROM cold WHERE {kinds}", ([int(kind) for kind in _PASSED_ON],))
        if row is not None and row[0]:
            yield (
                f"{self.name}: {row[0]} things that nodes have given up wait there for another node: start this node's daemon"
                " alone, and end it when they were taken"
            )

    def nodes(self) -> set[int]:
        """See `Side`: what others had there is refused."""
        return {self._node}

    # -- of a destination ----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """See `Side`. The node's row is there from the beginning, for who reads the log; no daemon has begun in it."""
        self._db.run("INSERT INTO nodes VALUES ($1, $2, 0) ON CONFLICT DO NOTHING", (self._node, socket.gethostname()))

    def fits(self, table: Table, row: Row) -> Row:
        """See `Side`: a text has no U+0000 here, and many numbers have 32 bits."""
        if table.name in _TABLES_OF_INDEXES:
            row = (*row[:4], max(-(1 << 15), min(row[4], (1 << 15) - 1)), *row[5:])  # the level, of 16 bits
        if table.name == "counters":
            row = (row[0], max(0, row[1]))
        return tuple(
            clean(value) if kind is Type.TEXT else small(value) if kind is Type.SMALL else value
            for value, (_, kind) in zip(row, table.columns, strict=True)
        )

    def place(self, table: Table) -> tuple[Key | None, bool]:
        """See `Side`."""
        row = self._db.one("SELECT value FROM facts WHERE name = $1", (_PLACE + table.name,))
        if row is None:
            return None, False
        text = row[0].decode()
        return (None, True) if text == _COMPLETE else (read_key(text), False)

    def put(self, table: Table, rows: Sequence[Row], last: Key | None, *, complete: bool) -> None:
        """See `Side`."""
        with self._db.writing():
            if table.whole:
                self._db.run(f"DELETE FROM {_name(table)} WHERE {self._whose(table)}")
            if rows:
                self._insert(table, rows)
            if not table.whole:
                self._keep(_PLACE + table.name, (_COMPLETE if complete else key_text(last or ())).encode())

    def _insert(self, table: Table, rows: Sequence[Row]) -> None:
        kept = [(_column(table, name), kind) for name, kind in table.columns if name != "secrets"]
        names = [name for name, _ in kept]
        arrays = [f"${at + 1}::{_ARRAYS[kind]}" for at, (_, kind) in enumerate(kept)]
        node = f"{self._node:d}"
        if table.name == "cold":
            node = f"CASE WHEN kind IN ({Kind.REPLY:d}, {Kind.ERASED:d}) THEN NULL ELSE {node} END"
        owned = table.name in _OF_NODE | _MADE_BY
        self._db.run(
            f"INSERT INTO {_name(table)} ({', '.join((*names, 'node') if owned else names)}) OVERRIDING SYSTEM VALUE"
            f" SELECT *{f', {node}' if owned else ''} FROM unnest({', '.join(arrays)}) AS new ({', '.join(names)})",
            columns((row[: len(names)] for row in rows), len(names)),
        )
        named = [(row[0], row[-1]) for row in rows if row[-1] is not None] if table.name == "log" else ()
        if named:
            self._db.run("INSERT INTO slots SELECT * FROM unnest($1::bigint[], $2::bigint[])", columns(named, 2))

    def settle(self) -> None:
        """See `Side`: the server counts on where the source was."""
        with self._db.writing():
            for name in _COUNTED:
                key = "handle" if name.endswith("_index") else "number"
                self._db.one(
                    f"SELECT setval(pg_get_serial_sequence('smppd.{name}', '{key}'),"
                    f" (SELECT least(greatest(coalesce(max({key}), 0), 0), {_LAST}) + 1 FROM {name}), false)"
                )
            self._db.run("DELETE FROM facts WHERE starts_with(name, $1)", (_PLACE,))
        for table in TABLES:
            self._db.run(f"ANALYZE {_name(table)}")


# -- how the tables have it --------------------------------------------------------------------------------------------


def _quoted(name: str) -> str:
    return f"'{name}'"


def _name(table: Table) -> str:
    return _NAMES.get(table.name, table.name)


def _source(table: Table) -> str:
    if table.name == "log":
        return "(SELECT log.*, slots.secrets FROM log LEFT JOIN slots USING (seq)) AS log"
    return _name(table)


def _column(table: Table, name: str) -> str:
    return _RENAMED.get((table.name, name), name)
