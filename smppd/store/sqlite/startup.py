"""What a store tells at its start: the journal, the counts, the numbers it remembers. Nothing that is stored can stop a start:
what does not open, or is not what it should be, is set aside and told (`store.sqlite.damaged`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from smppd.store.sqlite.damaged import STRANGE, DamagedRows
from smppd.store.sqlite.journal import SPOOL, Journal
from smppd.vault.blocks import open_blob, split_row_id
from smppd.vault.keys import KeyRing


class StartUp:
    """See the module. ``told(what, id, reason)`` is called for each thing that is set aside. Before the writer runs."""

    def __init__(
        self,
        db: sqlite3.Connection,
        ring: KeyRing,
        aside: DamagedRows,
        journal: Journal,
        told: Callable[[str, int, str], object],
    ) -> None:
        self._db = db
        self._journal = journal
        self._ring = ring
        self._aside = aside
        self._told = told

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``api.Spool``: first the table, in which stands what lived when nobody used the store, then the journal."""
        self.set_aside()
        for seq, data in self._rows():
            opened = self._open(seq, data)
            if opened is not None:
                yield opened
        for seq, data in self._journal.spool():
            opened = self._open(seq, data)
            if opened is not None:
                yield opened

    def set_aside(self) -> None:
        """Sets aside what is damaged in the journal, so that it is told once. Raises ``StoreError``, sqlite3.Error."""
        self._journal.set_aside(self._aside, self._told)

    def _rows(self) -> Iterator[tuple[int, bytes]]:
        after = -1 << 63
        while True:
            rows = self._db.execute(
                "SELECT seq, data FROM spool WHERE seq > ? ORDER BY seq LIMIT 64", (after,)
            ).fetchall()
            if not rows:
                return
            yield from rows
            after = rows[-1][0]

    def _open(self, seq: int, data: bytes) -> tuple[int, bytes] | None:
        try:
            segment, counter = split_row_id(seq)
            return segment, open_blob(self._ring.segment(segment), counter, SPOOL, bytes(memoryview(data)))
        except Exception as error:  # noqa: BLE001  whatever is wrong with a block is wrong with that block alone
            reason = type(error).__name__
            self._aside.take_block(seq, data, reason)
            self._told("block", seq, reason)
            return None

    def counts(self) -> dict[tuple[int, str], int]:
        """See ``api.Spool``."""
        ask = f"SELECT kind, owner, count(*), sum{STRANGE} FROM cold GROUP BY kind, owner"
        rows = self._db.execute(ask).fetchall()
        strange = sum(int(row[3]) for row in rows)
        if strange:
            self._aside.take_strange()
            self._told("cold row", 0, f"{strange} of no kind that is known")
            rows = [row for row in self._db.execute(ask).fetchall() if row[3] < row[2]]
        return {(kind, owner): count - odd for kind, owner, count, odd in rows}

    def highest_id(self) -> int:
        """See ``api.Spool``."""
        highest = 0
        row = self._db.execute(
            "SELECT seq, length(records), length(events) FROM log ORDER BY seq DESC LIMIT 1"
        ).fetchone()
        if row:
            highest = int(row[0]) + (1 << 16) * max(1, (row[1] or 0) // 64 + (row[2] or 0) // 16)
        return max(highest, self.meta("highest_id", 0))

    def meta(self, name: str, default: int, damaged: int | None = None) -> int:
        """See ``api.Store``."""
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        if row is None:
            return default
        try:
            number = int(row[0])
        except (TypeError, ValueError, OverflowError):
            number = -1
        if 0 <= number < 1 << 63:
            return number
        self._aside.take_meta(name, row[0])
        self._told("meta", 0, name)
        return default if damaged is None else damaged
