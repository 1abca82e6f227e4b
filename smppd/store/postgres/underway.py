"""`store.underway.Underway` on PostgreSQL, of all nodes, each call a statement of its own: a long one would keep VACUUM from
its work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smppd.store.api import ColdRow, Damaged
from smppd.store.aside import KINDS, UNOPENED
from smppd.store.cold import Columns, open_columns
from smppd.store.damaged import Item, opened, set_aside
from smppd.store.postgres.batches import SPOOL
from smppd.store.postgres.connection import Server
from smppd.store.postgres.damaged import LISTED
from smppd.store.postgres.database import Database
from smppd.store.underway import Block, Row
from smppd.vault.blocks import open_blob, row_id, split_row_id
from smppd.vault.keys import KeyRing

_KINDS = tuple(KINDS)
_COLD = "kind, owner, key, id, expires, segment, data"


class PostgresUnderway:
    """See the module. Raises StoreError when there is no store."""

    def __init__(self, server: Server, ring: KeyRing) -> None:
        """ring: over keys that are read from the database (`key_rows.ReadOnlyKeys`): the daemon makes new ones."""
        self._data = Database(server, read_only=True)
        self._ring = ring

    def blocks(self, after: int, limit: int) -> list[Block]:
        """See `store.underway.Underway`. A segment's number has the node in it, so that a place needs none."""
        segment, counter = split_row_id(after)
        found = self._data.all(
            "SELECT segment, counter, data FROM nodes, LATERAL (SELECT * FROM journal WHERE journal.node = nodes.node"
            " AND (segment, counter) > ($1, $2) ORDER BY segment, counter LIMIT $3) AS journal"
            " ORDER BY segment, counter LIMIT $3",
            (segment, counter, limit),
        )
        made = []
        for number, count, data in found:
            clear = self._block(number, count, data)
            # Its key may have gone with it meanwhile: what still lived in it stands further behind.
            if clear is None and not self._there(number, count):
                clear = b""
            made.append(Block(row_id(number, count), clear))
        return made

    def _there(self, segment: int, counter: int) -> bool:
        asked = "SELECT 1 FROM nodes JOIN journal USING (node) WHERE segment = $1 AND counter = $2"
        return self._data.one(asked, (segment, counter)) is not None

    def _block(self, segment: int, counter: int, data: bytes) -> bytes | None:
        try:
            return open_blob(self._ring.segment(segment), counter, SPOOL, data)
        except UNOPENED:
            return None

    def rows(self, after: tuple[int, str, bytes, int] | None, limit: int) -> list[Row]:
        """See `store.underway.Underway`. Rows of kinds that nobody looks for are not among them: the daemon moves them to the
        damaged items when it starts."""
        behind = "(kind, owner, key, id) > ($2, $3, $4, $5)" if after is not None else "true"
        found = self._data.all(
            f"SELECT {_COLD} FROM cold WHERE {behind} AND kind IN {_KINDS} ORDER BY kind, owner, key, id LIMIT $1",
            (limit, *(after or ())),
        )
        return [Row(columns[:4], self._row(columns)) for columns in map(_columns, found)]

    def _row(self, columns: Columns) -> ColdRow | None:
        try:
            return open_columns(self._ring, columns)
        except UNOPENED:
            # Sealed anew meanwhile, under a key that is younger: once more.
            again = self._data.one(
                f"SELECT {_COLD} FROM cold WHERE kind = $1 AND owner = $2 AND key = $3 AND id = $4", columns[:4]
            )
            if again is None:
                return ColdRow(columns[0], columns[1], columns[2], columns[3], 0, b"")
            try:
                return open_columns(self._ring, _columns(again))
            except UNOPENED:
                return None

    def damaged(self, after: int, limit: int) -> list[tuple[int, Damaged | None]]:
        """See `store.underway.Underway`."""
        asked = f"SELECT {LISTED}, data FROM damaged WHERE number > $1 ORDER BY number LIMIT $2"
        listed: list[tuple[int, Damaged | None]] = []
        for *found, data in self._data.all(asked, (after, limit)):
            item = Item(*found)
            clear = opened(item, data, self._ring)
            listed.append((item.number, None if clear is None else set_aside(item, clear)))
        return listed

    def close(self) -> None:
        """Closes the connection."""
        self._data.close()


def _columns(row: Sequence[Any]) -> Columns:
    kind, owner, key, identity, expires, segment, data = row
    return kind, owner, key, identity, expires, segment, data
