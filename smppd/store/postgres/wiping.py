"""Takes away what a deletion leaves behind in PostgreSQL's files: the last step of a purge and of an erasure.

A deleted or overwritten row stays in its page as a dead one until VACUUM has come by, and VACUUM gives its room back without
overwriting it: most octets are still there for whoever reads the file. So the room is filled with zeros and given back: rows
of zeros are inserted, large ones first, until they find no room any more in the pages that there are, and the transaction is
rolled back. Nobody ever sees these rows, no lock of the relay's is in the way, and a kill leaves nothing that has to be undone.

Small tables that the relay does not write are rewritten as a whole instead (VACUUM FULL), since their indexes have something of
the rows in them too, such as keyed hashes of numbers.

None of it reaches a dead row that a transaction can still see that began before the deletion: a dump, a long search. Then
nothing is clean yet, and `wipe` says so. What the write-ahead log and backups have is told in docs/data-protection.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from smppd.store.api import StoreBusy, StoreFull
from smppd.store.postgres.database import WIPING, Database, undo

_STEP: Final = 32
"""Octets: the server finds a page for a row by its room in steps of so many. A row of the largest such size that has room in a
page leaves less than a secret or a key has."""
_ROW: Final = 2016
"""Octets of the longest row that stays whole."""
_CHUNK: Final = 1996
_CHUNK_HEAD: Final = 40
"""Octets of a long value in one row of a table's second file (PostgreSQL, "TOAST"), and what such a row takes beside."""
_SECOND: Final = (_CHUNK, *range(_ROW - _CHUNK_HEAD, 0, -_STEP))
_LOCK: Final = "3s"


class _Table(NamedTuple):
    """How to fill a table, see the function `fill_room` in `schema/0002-records.sql`. head: octets that a row takes beside
    ``value``, rounded up, so that a row of `_STEP` times a number less ``head`` takes no more than that."""

    columns: str
    given: str
    value: str
    head: int


_FILLED: Final = {
    "keys": _Table("scope, node", "convert_to('{mark}' || lpad(n::text, 12), 'UTF8'), -1", "wrapped", 80),
    "secrets": _Table("node, seq", "-1, n", "data", 48),
    "log": _Table("node, seq, count, events, chain", "-1, n, 0, '', ''", "records", 52),
    "journal": _Table("node, segment, counter", "-1, 0, n", "data", 48),
    "cold": _Table("kind, owner, key, id, expires, segment, node", "-1, '', '', n, 0, 0, -1", "data", 64),
    "damaged": _Table(
        'node, kind, owner, id, place, reason, at, until, form, "row", segment',
        "-1, '', '', 0, '', '', 0, 0, 0, 0, 0",
        "data",
        100,
    ),
}
_REWRITTEN: Final = ("documents", "consents", "held", "opt_outs", "number_index")


class Wiper:
    """See the module. For one thread, on its connection."""

    def __init__(self, data: Database) -> None:
        self._data = data

    def wipe(self, *only: str) -> bool:
        """Cleans what is stained. False where it is still to be done: a transaction sees what was deleted, another process
        wipes, somebody reads a table that has to be rewritten, or there is no space. only: names of tables, where others can
        wait."""
        stains = self._data.all("SELECT id, name FROM stains")
        names = {name for _, name in stains if not only or name in only}
        if not names:
            return True
        with self._alone() as alone:
            if not alone or not self._passed():
                return False
            try:
                for name in _REWRITTEN:
                    if name in names:
                        self._run(f"VACUUM (FULL) {name}")
                for name, table in _FILLED.items():
                    if name in names:
                        self._fill(name, table)
            except (StoreBusy, StoreFull):
                return False
            gone = [number for number, name in stains if name in names]
            self._data.run("DELETE FROM stains WHERE id = ANY ($1::bigint[])", (gone,))
        return True

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process wipes. A statement may take as long as it takes in here, and waits for little."""
        row = self._data.one("SELECT pg_try_advisory_lock($1)", (WIPING,))
        if row is None or not row[0]:
            yield False
            return
        limits = self._data.one("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')") or ()
        try:
            self._limit("0", _LOCK)
            yield True
        finally:
            if self._data.connection.usable:
                self._limit(*limits)
                self._data.one("SELECT pg_advisory_unlock($1)", (WIPING,))

    def _limit(self, statement: str, lock: str) -> None:
        self._data.one(
            "SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false)",
            (statement, lock),
        )

    def _passed(self) -> bool:
        """Whether no transaction can see any more what was deleted up to now: then the file of a table whose one row was
        deleted after all of it is empty behind VACUUM."""
        self._run("INSERT INTO horizon VALUES (1)")
        self._run("DELETE FROM horizon")
        self._run("VACUUM (TRUNCATE) horizon")
        return self._data.number("SELECT pg_relation_size('horizon')") == 0

    def _run(self, statement: str) -> None:
        self._data.connection.run(statement)

    def _fill(self, name: str, table: _Table) -> None:
        given = table.given.format(mark=secrets.token_hex(16))
        self._vacuum(name)
        for second, sizes in ((True, _SECOND), (False, range(_ROW - table.head, -1, -_STEP))):
            self._insert((name, table.columns, given, table.value, list(sizes), second))
        self._vacuum(name)

    def _insert(self, values: tuple[Any, ...]) -> None:
        with self._data.connection.writing():
            self._data.one("SELECT fill_room($1, $2, $3, $4, $5::int[], $6)", values)
            undo()

    def _vacuum(self, name: str) -> None:
        self._run(f"VACUUM (INDEX_CLEANUP ON) {name}")
