"""`store.documents.Documents` in data.db."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from smppd.store.api import StoreError
from smppd.store.documents import FOREVER
from smppd.store.sqlite.database import Database


class SqliteDocuments:
    """The documents of a store's directory. For one thread. Raises StoreError when there is no store."""

    def __init__(self, directory: Path) -> None:
        path = directory / "data.db"
        if not path.exists() and not (directory / "keys.db").exists():
            raise StoreError(f"{path}: there is no store here yet")
        self._data = Database(path, "data")
        # Of what is deleted nothing is to be left in a free page: it is small, and seldom.
        self._data.run("PRAGMA secure_delete = ON")

    def get(self, kind: str, name: str) -> bytes | None:
        """See `store.documents.Documents`."""
        row = self._data.one("SELECT CAST(sealed AS BLOB) FROM documents WHERE kind = ? AND name = ?", (kind, name))
        return None if row is None else row[0]

    def all(self, kind: str) -> list[tuple[str, bytes]]:
        """See `store.documents.Documents`."""
        return self._data.all(
            "SELECT CAST(name AS TEXT), CAST(sealed AS BLOB) FROM documents WHERE kind = ? ORDER BY name", (kind,)
        )

    def add(self, kind: str, name: str, sealed: bytes, until: int = FOREVER) -> bool:
        """See `store.documents.Documents`."""
        with self._data.writing():
            return (
                self._data.run("INSERT OR IGNORE INTO documents VALUES (?, ?, ?, ?)", (kind, name, until, sealed)) == 1
            )

    def replace(self, kind: str, name: str, before: bytes, after: bytes, until: int = FOREVER) -> bool:
        """See `store.documents.Documents`."""
        statement = "UPDATE documents SET sealed = ?, until = ? WHERE kind = ? AND name = ? AND sealed = ?"
        with self._data.writing():
            return self._data.run(statement, (after, until, kind, name, before)) == 1

    def put(self, kind: str, documents: Mapping[str, bytes], until: int = FOREVER) -> None:
        """See `store.documents.Documents`."""
        with self._data.writing():
            self._data.run_each(
                "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)",
                ((kind, name, until, sealed) for name, sealed in documents.items()),
            )

    def remove(self, kind: str, name: str) -> bool:
        """See `store.documents.Documents`."""
        with self._data.writing():
            return self._data.run("DELETE FROM documents WHERE kind = ? AND name = ?", (kind, name)) == 1

    def expire(self, now: float) -> int:
        """See `store.documents.Documents`."""
        with self._data.writing():
            return self._data.run("DELETE FROM documents WHERE until <= ?", (int(now),))

    def number(self, kind: str) -> int:
        """See `store.documents.Documents`."""
        with self._data.writing():
            row = self._data.one(
                "INSERT INTO document_numbers VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET last = last + 1 RETURNING last",
                (kind,),
            )
        assert row is not None, "RETURNING gives the row that is there"
        return int(row[0])

    def close(self) -> None:
        """Closes the file."""
        self._data.close()
