"""`store.log.States` on PostgreSQL, of one node: what its log, its state and its audit trail say of each other; and how they
are told of an entry of the trail.

In the embedded store these are in two files, so that neither can be put back alone. Here both are in one database, and what
is found out is that a table was put back, or the database without the trail. Whoever puts back the whole database and the
trail is found out by what was shipped or noted elsewhere.
"""

from __future__ import annotations

from typing import Any, Final

from smppd.store.postgres.connection import Server
from smppd.store.postgres.database import Database
from smppd.store.postgres.log_rows import only_node
from smppd.store.seals import LOG_STATE, names_older
from smppd.vault.chain import ChainKeys

AUDIT_STATE: Final = "audit"
AUDIT_HEAD: Final = "audit head"
"""Names in `state`, beside `store.seals.LOG_STATE`: an entry that the audit trail must hold, and the same once more, as
two files of the embedded store have it."""


class PostgresStates:
    """See the module. The connection is made when it is asked for the first time. For one thread."""

    def __init__(self, server: Server, node: int | None = None) -> None:
        """node: whose; None where there is one only."""
        self._server = server
        self._node = node
        self._data: Database | None = None

    def close(self) -> None:
        """Closes the connection."""
        if self._data is not None:
            self._data.close()
        self._data = None

    def _opened(self) -> Database:
        if self._data is None:
            self._data = Database(self._server, read_only=True)
        return self._data

    def _of_node(self, query: str, *values: object) -> Any:
        """The first row of a query about the node, which is $1."""
        data = self._opened()
        if self._node is None:
            self._node = only_node(data)
        return data.one(query, (self._node, *values))

    def _first(self, query: str, *values: object) -> Any:
        row = self._of_node(query, *values)
        return None if row is None else row[0]

    def known(self) -> tuple[bytes | None, bytes | None]:
        """See `store.log.States`."""
        query = "SELECT value FROM state WHERE node = $1 AND name = $2"
        return self._first(query, LOG_STATE), self._first(query, AUDIT_STATE)

    def audit_head(self) -> bytes | None:
        """See `store.log.States`."""
        head: bytes | None = self._first("SELECT value FROM state WHERE node = $1 AND name = $2", AUDIT_HEAD)
        return head

    def sealed(self) -> bool:
        """See `store.log.States`: every version of this back end has seals."""
        return self._first("SELECT 1 FROM log WHERE node = $1 LIMIT 1") is not None or self.newest_seal() is not None

    def newest_seal(self) -> tuple[int, bytes] | None:
        """See `store.log.States`."""
        row = self._of_node("SELECT number, signed FROM seals WHERE node = $1 ORDER BY number DESC LIMIT 1")
        return None if row is None else (row[0], row[1])

    def first_seal(self) -> int | None:
        """See `store.log.States`."""
        number: int | None = self._first("SELECT min(number) FROM seals WHERE node = $1")
        return number

    def seal(self, number: int) -> bytes | None:
        """See `store.log.States`."""
        signed: bytes | None = self._first("SELECT signed FROM seals WHERE node = $1 AND number = $2", number)
        return signed

    def seals_after(self, number: int, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.States`."""
        self._first("SELECT 1 WHERE $1::int IS NOT NULL")  # which node it is
        query = "SELECT number, signed FROM seals WHERE node = $1 AND number > $2 ORDER BY number LIMIT $3"
        return self._opened().all(query, (self._node, number, limit))

    def trimmed(self) -> bool:
        """See `store.log.States`."""
        return self._first("SELECT 1 FROM anchors WHERE node = $1") is not None

    def last_row(self) -> tuple[int, bytes] | None:
        """See `store.log.States`."""
        row = self._of_node("SELECT seq, chain FROM log WHERE node = $1 ORDER BY seq DESC LIMIT 1")
        return None if row is None else (row[0], row[1])

    def first_row(self) -> int | None:
        """See `store.log.States`."""
        seq: int | None = self._first("SELECT min(seq) FROM log WHERE node = $1")
        return seq

    def link(self, seq: int) -> bytes | None:
        """See `store.log.States`."""
        chain: bytes | None = self._first("SELECT chain FROM log WHERE node = $1 AND seq = $2", seq)
        return chain


def witness(server: Server, keys: ChainKeys, number: int, digest: bytes, node: int | None = None) -> None:
    """Tells the database that a node's audit trail has this entry, so that a copy of the trail without it is found out. Raises
    StoreError."""
    value = keys.pack_audit(number, digest)
    data = Database(server)
    try:
        of = only_node(data) if node is None else node
        with data.writing():
            for name in (AUDIT_STATE, AUDIT_HEAD):
                row = data.one("SELECT value FROM state WHERE node = $1 AND name = $2", (of, name))
                if names_older(keys, None if row is None else row[0], number):
                    data.run(
                        "INSERT INTO state VALUES ($1, $2, $3)"
                        " ON CONFLICT (node, name) DO UPDATE SET value = excluded.value",
                        (of, name, value),
                    )
    finally:
        data.close()
