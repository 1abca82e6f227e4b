"""`store.underway.Underway` over data.db, read-only, each call a statement of its own: a long one would keep the write-ahead
log from being truncated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smppd.store.api import ColdRow, Damaged
from smppd.store.aside import UNOPENED
from smppd.store.damaged import Item, set_aside
from smppd.store.journal.reader import Placed, path_of
from smppd.store.sqlite.cold_rows import open_columns
from smppd.store.sqlite.damaged import STRANGE, content, present
from smppd.store.sqlite.database import Database, spoken
from smppd.store.sqlite.journal import ASK_OVER, SPOOL, living, over_of
from smppd.store.underway import Block, Row
from smppd.vault.blocks import open_blob, row_id, split_row_id
from smppd.vault.keys import KeyRing


class SqliteUnderway:
    """The spool of a store's directory. Raises StoreError when there is no store."""

    def __init__(self, directory: Path, ring: KeyRing) -> None:
        """ring: over keys that are read from the disk (`store.sqlite.keys.ReadOnlyKeys`): the daemon makes new ones."""
        self._directory = directory
        self._data = Database(directory / "data.db", "data", read_only=True)
        self._ring = ring
        self._journal: Iterator[Placed] = iter(())
        self._at = -1
        self._damaged = present(self._data.connection)

    def blocks(self, after: int, limit: int) -> list[Block]:
        """See `store.underway.Underway`."""
        found = self._data.all(
            "SELECT seq, CAST(data AS BLOB) FROM spool WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
        )
        opened = []
        for seq, data in found:
            clear = self._block(seq, data)
            # Its key may have gone with it meanwhile: what still lived in it stands further behind.
            if clear is not None or self._data.one("SELECT 1 FROM spool WHERE seq = ?", (seq,)) is not None:
                opened.append(Block(seq, clear))
            else:
                opened.append(Block(seq, b""))
        if len(found) < limit:
            opened += self._in_journal(after if not found else found[-1][0], limit - len(found))
        return opened

    def _in_journal(self, after: int, limit: int) -> list[Block]:
        """What stands behind a place in the journal's files: all of it is younger than the rows of the table."""
        opened: list[Block] = []
        if after != self._at:
            self._journal = self._living()
        self._at = after
        while True:
            before = self._at
            for one in self._journal:
                seq = row_id(one.block.segment, one.block.counter)
                if seq <= self._at:
                    continue
                clear = self._block(seq, one.block.spool)
                gone = clear is None and not path_of(self._directory, one.file).exists()
                opened.append(Block(seq, b"" if gone else clear))
                self._at = seq
                if len(opened) == limit:
                    return opened
            # Meanwhile something may have been written.
            self._journal = self._living()
            if self._at == before:
                return opened

    def _living(self) -> Iterator[Placed]:
        return living(self._directory, over_of(self._data.one(ASK_OVER)))

    def _block(self, seq: int, data: bytes) -> bytes | None:
        try:
            segment, counter = split_row_id(seq)
            return open_blob(self._ring.segment(segment), counter, SPOOL, data)
        except UNOPENED:
            return None

    def rows(self, after: tuple[int, str, bytes, int] | None, limit: int) -> list[Row]:
        """See `store.underway.Underway`. Rows that no query gives back as they should be are not among them: the daemon moves
        them to the damaged items when it starts."""
        behind = "(kind, owner, key, id) > (?, ?, ?, ?)" if after is not None else "1"
        found = self._data.all(
            "SELECT kind, owner, key, id, expires, segment, data FROM cold"
            f" WHERE {behind} AND NOT {STRANGE} ORDER BY kind, owner, key, id LIMIT ?",
            (*(after or ()), limit),
        )
        return [Row(columns[:4], self._row(columns)) for columns in found]

    def _row(self, columns: Any) -> ColdRow | None:
        try:
            return open_columns(self._ring, columns)
        except UNOPENED:
            # Sealed anew meanwhile, under a key that is younger: once more.
            again = self._data.one(
                "SELECT kind, owner, key, id, expires, segment, data FROM cold"
                " WHERE kind = ? AND owner = ? AND key = ? AND id = ?",
                columns[:4],
            )
            if again is None:
                return ColdRow(columns[0], columns[1], columns[2], columns[3], 0, b"")
            try:
                return open_columns(self._ring, again)
            except UNOPENED:
                return None

    @spoken
    def damaged(self, after: int, limit: int) -> list[tuple[int, Damaged | None]]:
        """See `store.underway.Underway`."""
        if not self._damaged:
            return []
        found = self._data.all(
            "SELECT number, kind, owner, id, place, reason, at, until, form, row, segment, length(data) FROM damaged"
            " WHERE number > ? ORDER BY number LIMIT ?",
            (after, limit),
        )
        listed: list[tuple[int, Damaged | None]] = []
        for columns in found:
            item = Item(*columns)
            data = content(self._data.connection, item, self._ring)
            listed.append((item.number, None if data is None else set_aside(item, data)))
        return listed

    def close(self) -> None:
        """Closes the file."""
        self._data.close()
