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
from typing import Final, NamedTuple

from smppd.store.api import StoreBusy, StoreFull
from smppd.store.postgres.database import WIPING, Database, undo

_PAGE: Final = 8192
_CHUNK: Final = 1996
"""Octets of a long value in one row of a table's second file (PostgreSQL, "TOAST"); four such rows fill a page."""
_PIECES: Final = (4 * _CHUNK, 2 * _CHUNK, *(_CHUNK + rest for rest in (1000, 500, 250, 120, 50, 10)))
"""Sizes of values that go there: so many whole rows, and one for the room that is left in pages."""
_SIZES: Final = (1900, 1000, 500, 250, 120, 60, 30, 0)
"""Sizes of values that stay in the table itself."""
_LAST: Final = (60, 30, 0)
"""Once more with many small ones: the places of rows, which grow from the other end of a page, cover what the others left."""
_ROWS: Final = 100
_HEAD: Final = 28
"""Octets that a row takes beside its columns at the least."""
_SMALL: Final = 256 << 20
"""Octets of a table up to which it is filled though nobody said that it is stained."""
_LOCK: Final = "3s"


class _Table(NamedTuple):
    """How to fill a table. columns: what a row of zeros has in all but ``value``, in terms of ``n``, which is negative and
    no other row's. always: the relay deletes from it without saying so."""

    columns: str
    given: str
    value: str
    always: bool = False


_FILLED: Final = {
    "keys": _Table("scope, node", "convert_to($4 || n, 'UTF8'), -1", "wrapped", always=True),
    "secrets": _Table("node, seq", "-1, n", "data"),
    "log": _Table("node, seq, count, events, chain", "-1, n, 0, '', ''", "records"),
    "journal": _Table("node, segment, counter", "-1, 0, n", "data", always=True),
    "cold": _Table("kind, owner, key, id, expires, segment, node", "-1, '', '', n, 0, 0, -1", "data", always=True),
    "damaged": _Table(
        'node, kind, owner, id, place, reason, at, until, form, "row", segment',
        "-1, '', '', 0, '', '', 0, 0, 0, 0, 0",
        "data",
        always=True,
    ),
    "number_index": _Table("first, last, bucket, level, low", "0, 0, -1, 0, 0", "data"),
    "event_index": _Table("first, last, bucket, level, low", "0, 0, -1, 0, 0", "data"),
}
_REWRITTEN: Final = ("documents", "consents", "held", "opt_outs")
"""Whoever deletes from these says so."""


class Wiper:
    """See the module. For one thread, on its connection."""

    def __init__(self, data: Database) -> None:
        self._data = data
        self._clean = False

    def wipe(self, *only: str) -> bool:
        """Cleans what is stained. False where it is still to be done: a transaction sees what was deleted, another process
        wipes, somebody reads a table that has to be rewritten, or there is no space. only: names of tables, where others can
        wait."""
        before = {name: times for name, times in self._stains().items() if not only or name in only}
        if (self._clean or only) and not before:
            return True
        with self._alone() as alone:
            if not alone or not self._passed():
                return False
            try:
                for name in _REWRITTEN:
                    if name in before:
                        self._run(f"VACUUM (FULL) {name}")
                for name, table in _FILLED.items():
                    if name in before or (table.always and not only and self._sizes(name)[0] <= _SMALL):
                        self._fill(name, table)
            except (StoreBusy, StoreFull):
                return False
            self._forget(before)
        self._clean = self._clean or not only
        return True

    def _stains(self) -> dict[str, int]:
        return dict(self._data.all("SELECT name, times FROM stains"))

    def _forget(self, cleaned: dict[str, int]) -> None:
        """What was stained again meanwhile stays so."""
        with self._data.writing():
            self._data.run(
                "DELETE FROM stains USING unnest($1::text[], $2::bigint[]) AS cleaned (name, times)"
                " WHERE stains.name = cleaned.name AND stains.times = cleaned.times",
                (list(cleaned), list(cleaned.values())),
            )

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
        return self._sizes("horizon")[0] == 0

    def _sizes(self, name: str) -> tuple[int, int]:
        """Octets of a table's file and of its second one."""
        row = self._data.one(
            "SELECT pg_relation_size(oid), CASE reltoastrelid WHEN 0 THEN 0 ELSE pg_relation_size(reltoastrelid) END"
            " FROM pg_class WHERE oid = to_regclass($1)",
            (name,),
        )
        assert row is not None
        return int(row[0]), int(row[1])

    def _run(self, statement: str) -> None:
        self._data.connection.run(statement)

    def _fill(self, name: str, table: _Table) -> None:
        vacuum = f"VACUUM (INDEX_CLEANUP ON) {name}"
        self._run(vacuum)
        for sizes in (_PIECES + _SIZES, _LAST):
            with self._data.connection.writing():
                self._insert(name, table, sizes)
            self._run(vacuum)

    def _insert(self, name: str, table: _Table, sizes: tuple[int, ...]) -> None:
        """In a transaction, which it takes back at its end."""
        statement = (
            f"INSERT INTO {name} ({table.columns}, {table.value})"
            f" SELECT {table.given}, decode(repeat('00', $3::int), 'hex') FROM generate_series($1::bigint, $2::bigint) AS n"
        )
        mark: tuple[str, ...] = (secrets.token_hex(16),) if "$4" in statement else ()
        at = -1
        for size in sizes:
            before, filled = self._sizes(name), 0
            room = sum(before)
            while filled <= room:  # there is no more than that
                self._data.run(statement, (at - _ROWS + 1, at, size, *mark))
                at -= _ROWS
                filled += _ROWS * (size + _HEAD)
                after = self._sizes(name)
                if _full(size, after[0] - before[0], after[1] - before[1]):
                    break
                before = after
        undo()


def _full(size: int, grown: int, second: int) -> bool:
    """Whether rows of this size found no room in the pages that there were: the file had to grow. A value that goes into the
    second file is whole rows, for most of which pages are added, and a rest that is to find room: half of those did not."""
    if size <= _CHUNK:
        return grown > 0
    whole, rest = _ROWS * (size // _CHUNK) // 4, _ROWS * (size % _CHUNK + _HEAD) // _PAGE
    return second >= (whole * 9 // 10 + (rest // 2 if size % _CHUNK else 0)) * _PAGE
