"""The wrapped keys on PostgreSQL as commands see them, which write each at once, and those who only look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

from smppd.store.pending_keys import OnlyLookedAt
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.database import Database
from smppd.store.postgres.log_ids import columns, node_of
from smppd.store.postgres.migrations import migrate
from smppd.store.postgres.wiping import Wiper

_PUT_NEW = "INSERT INTO keys VALUES ($1, $2) ON CONFLICT (scope) DO UPDATE SET wrapped = keys.wrapped RETURNING wrapped"


class _Keys:
    """What both can do."""

    def __init__(self, data: Database) -> None:
        self.data = data

    def get(self, scope: bytes) -> bytes | None:
        """The wrapped key of a scope."""
        row = self.data.one("SELECT wrapped FROM keys WHERE scope = $1", (scope,))
        return None if row is None else row[0]

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All (scope, wrapped) whose scope begins with ``prefix``, in order."""
        asked = "SELECT scope, wrapped FROM keys WHERE scope >= $1 AND scope < $2 ORDER BY scope"
        yield from self.data.all(asked, (prefix, prefix + b"\xff"))

    def secrets(self, seq: int) -> bytes:
        """The record secrets of one log row; empty when they are gone."""
        row = self.data.one("SELECT data FROM secrets WHERE node = $2 AND seq = $1", (seq, node_of(seq)))
        return b"" if row is None else row[0]

    def close(self) -> None:
        """Closes the connection."""
        self.data.close()


class PostgresKeys(_Keys):
    """``vault.keys.KeyRows``, each call durable when it returns. For commands and for the start: makes the schema where
    there is none, and brings up an older one."""

    def __init__(self, server: Server) -> None:
        db = Connection(server)
        try:
            migrate(db)
        finally:
            db.close()
        super().__init__(Database(server))
        self._wiper = Wiper(self.data)

    def put_new(self, scope: bytes, wrapped: bytes) -> bytes:
        """Stores a key unless the scope has one; returns the one that is there now."""
        row = self.data.one(_PUT_NEW, (scope, wrapped))
        assert row is not None, "RETURNING gives the row that is there"
        return bytes(row[0])

    def replace_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Replaces the wrapped keys of existing scopes, all or none."""
        with self.data.writing("keys"):
            self.data.run(
                "UPDATE keys SET wrapped = new.wrapped FROM unnest($1::bytea[], $2::bytea[]) AS new (scope, wrapped)"
                " WHERE keys.scope = new.scope",
                columns(pairs, 2),
            )
        self._wiper.wipe("keys")  # what is wrapped by the KEK of before; where somebody reads, the next purge does it

    def delete(self, scope: bytes) -> None:
        """Destroys a key: its octets are gone from the table's file when this returns, unless somebody was reading all the
        time; then the next purge sees to it."""
        with self.data.writing():
            self.data.delete("keys", "scope = $1", (scope,))
        self._wiper.wipe("keys")


class ReadOnlyKeys(OnlyLookedAt, _Keys):
    """`vault.keys.KeyRows` of a store that is only looked at. Raises StoreError if there is none."""

    def __init__(self, server: Server) -> None:
        super().__init__(Database(server, read_only=True))

    @classmethod
    def over(cls, data: Database) -> Self:
        """On a connection that is there already, and closed with it."""
        made = cls.__new__(cls)
        _Keys.__init__(made, data)
        return made
