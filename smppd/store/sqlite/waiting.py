"""What of the erasure journal still waits, for whoever reports on it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from smppd.store.sqlite.database import Database

_JOURNAL: Final = 4
"""The schema version that brought it."""


class Waiting(NamedTuple):
    """Records of one erasure whose parts are not all erased yet. hold: the number of the hold that keeps them, 0 for none;
    after: epoch seconds, the latest time that has to pass first, 0 for none."""

    erasure: int
    hold: int
    records: int
    after: int


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
