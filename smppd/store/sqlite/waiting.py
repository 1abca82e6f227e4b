"""What of the erasure journal still waits, for whoever reports on it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from smppd.store.erasures import Waiting
from smppd.store.sqlite.database import Database

_JOURNAL: Final = 4
"""The schema version that brought it."""


def waiting_erasures(directory: Path) -> list[Waiting]:
    """All of them, in order; none where the store is of a version before there was a journal. Raises StoreError."""
    data = Database(directory / "data.db", "data", read_only=True)
    try:
        if data.version() < _JOURNAL:
            return []
        query = "SELECT erasure, hold, count(*), max(after) FROM erased WHERE parts > 0 GROUP BY erasure, hold ORDER BY 1, 2"
        return [Waiting(*map(int, row)) for row in data.all(query)]
    finally:
        data.close()
