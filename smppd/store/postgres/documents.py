"""`store.documents.Documents` on PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping

from smppd.store.documents import FOREVER
from smppd.store.postgres.connection import Server
from smppd.store.postgres.database import Database
from smppd.store.postgres.wiping import Wiper

_PUT = (
    "INSERT INTO documents SELECT $1, name, $2, sealed FROM unnest($3::text[], $4::bytea[]) AS new (name, sealed)"
    " ON CONFLICT (kind, name) DO UPDATE SET until = excluded.until, sealed = excluded.sealed"
)


class PostgresDocuments:
    """See the module. For one thread. Raises StoreError when there is no store."""

    def __init__(self, server: Server) -> None:
        self._data = Database(server)
        self._wiper = Wiper(self._data)

    def get(self, kind: str, name: str) -> bytes | None:
        """See `store.documents.Documents`."""
        row = self._data.one("SELECT sealed FROM documents WHERE kind = $1 AND name = $2", (kind, name))
        return None if row is None else row[0]

    def all(self, kind: str) -> list[tuple[str, bytes]]:
        """See `store.documents.Documents`."""
        return self._data.all("SELECT name, sealed FROM documents WHERE kind = $1 ORDER BY name", (kind,))

    def add(self, kind: str, name: str, sealed: bytes, until: int = FOREVER) -> bool:
        """See `store.documents.Documents`."""
        statement = "INSERT INTO documents VALUES ($1, $2, $3, $4) ON CONFLICT (kind, name) DO NOTHING"
        with self._data.writing():
            return self._data.run(statement, (kind, name, until, sealed)) == 1

    def replace(self, kind: str, name: str, before: bytes, after: bytes, until: int = FOREVER) -> bool:
        """See `store.documents.Documents`."""
        statement = "UPDATE documents SET sealed = $1, until = $2 WHERE kind = $3 AND name = $4 AND sealed = $5"
        with self._data.writing("documents"):
            return self._data.run(statement, (after, until, kind, name, before)) == 1

    def put(self, kind: str, documents: Mapping[str, bytes], until: int = FOREVER) -> None:
        """See `store.documents.Documents`."""
        with self._data.writing("documents"):
            self._data.run(_PUT, (kind, until, list(documents), list(documents.values())))

    def remove(self, kind: str, name: str) -> bool:
        """See `store.documents.Documents`. Where somebody reads it just now, the next purge takes away what is left in the
        file."""
        with self._data.writing("documents"):
            removed = self._data.run("DELETE FROM documents WHERE kind = $1 AND name = $2", (kind, name)) == 1
        if removed:
            self._wiper.wipe("documents")
        return removed

    def expire(self, now: float) -> int:
        """See `store.documents.Documents`."""
        with self._data.writing("documents"):
            return self._data.run("DELETE FROM documents WHERE until <= $1", (int(now),))

    def number(self, kind: str) -> int:
        """See `store.documents.Documents`."""
        with self._data.writing():
            return self._data.number(
                "INSERT INTO document_numbers VALUES ($1, 1)"
                " ON CONFLICT (kind) DO UPDATE SET last = document_numbers.last + 1 RETURNING last",
                (kind,),
            )

    def close(self) -> None:
        """Closes the connection."""
        self._data.close()
