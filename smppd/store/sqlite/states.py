"""What data.db and keys.db say of each other and of audit.db: `store.log.States` of a store's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smppd.store.sqlite.database import Database
from smppd.store.sqlite.log_rows import ANCHOR_ROW
from smppd.store.sqlite.seals import AUDIT_HEAD, AUDIT_STATE, LOG_STATE

_SEALED = 3
"""The schema version that brought seals and states."""


class SqliteStates:
    """See the module. The files are opened when they are asked for the first time; what is missing then raises StoreError, but
    for data.db, which a store has from the daemon's first start on. For one thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._keys: Database | None = None
        self._data: Database | None = None

    def close(self) -> None:
        """Closes what was opened."""
        for one in (self._keys, self._data):
            if one is not None:
                one.close()
        self._keys = self._data = None

    def _log(self) -> Database | None:
        if self._data is None and (self._directory / "data.db").exists():
            self._data = Database(self._directory / "data.db", "data", read_only=True)
        return self._data

    def _of_seals(self, query: str, *values: object) -> Any:
        """The first column of the first row of a query; None where there is none, and where there are no seals."""
        log = self._log() if self.sealed() else None
        row = None if log is None else log.one(query, values)
        return None if row is None else row[0]

    def known(self) -> tuple[bytes | None, bytes | None]:
        """See `store.log.States`."""
        if self._keys is None:
            self._keys = Database(self._directory / "keys.db", "keys", read_only=True)
        if self._keys.version() < _SEALED:
            return None, None
        values: dict[str, bytes] = dict(self._keys.all("SELECT name, CAST(value AS BLOB) FROM state"))
        return values.get(LOG_STATE), values.get(AUDIT_STATE)

    def audit_head(self) -> bytes | None:
        """See `store.log.States`."""
        head: bytes | None = self._of_seals("SELECT CAST(value AS BLOB) FROM meta WHERE name = ?", AUDIT_HEAD)
        return head

    def sealed(self) -> bool:
        """See `store.log.States`."""
        log = self._log()
        return log is not None and log.version() >= _SEALED

    def newest_seal(self) -> tuple[int, bytes] | None:
        """See `store.log.States`."""
        log = self._log() if self.sealed() else None
        row = (
            None
            if log is None
            else log.one("SELECT number, CAST(signed AS BLOB) FROM seals ORDER BY number DESC LIMIT 1")
        )
        return None if row is None else (row[0], row[1])

    def first_seal(self) -> int | None:
        """See `store.log.States`."""
        number: int | None = self._of_seals("SELECT min(number) FROM seals")
        return number

    def seal(self, number: int) -> bytes | None:
        """See `store.log.States`."""
        signed: bytes | None = self._of_seals("SELECT CAST(signed AS BLOB) FROM seals WHERE number = ?", number)
        return signed

    def seals_after(self, number: int, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.States`."""
        log = self._log() if self.sealed() else None
        query = "SELECT number, CAST(signed AS BLOB) FROM seals WHERE number > ? ORDER BY number LIMIT ?"
        return [] if log is None else log.all(query, (number, limit))

    def trimmed(self) -> bool:
        """See `store.log.States`."""
        return self._of_seals("SELECT 1 FROM meta WHERE name = ?", ANCHOR_ROW) is not None

    def last_row(self) -> tuple[int, bytes] | None:
        """See `store.log.States`."""
        log = self._log()
        row = None if log is None else log.one("SELECT seq, CAST(chain AS BLOB) FROM log ORDER BY seq DESC LIMIT 1")
        return None if row is None else (row[0], row[1])

    def first_row(self) -> int | None:
        """See `store.log.States`."""
        seq: int | None = self._of_seals("SELECT min(seq) FROM log")
        return seq

    def link(self, seq: int) -> bytes | None:
        """See `store.log.States`."""
        chain: bytes | None = self._of_seals("SELECT CAST(chain AS BLOB) FROM log WHERE seq = ?", seq)
        return chain
