"""The spool of the embedded store for who takes out what is over (`store.tidy`): the table, the journal's files, the cold
rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from smppd.store import tidy
from smppd.store.api import StoreBusy, StoreError, StoreFull
from smppd.store.sqlite.cold_rows import ColdRows
from smppd.store.sqlite.database import Database, spoken
from smppd.store.sqlite.files import connect, truncate, writing
from smppd.store.sqlite.journal import OVER, SPOOL, Journal
from smppd.store.sqlite.keys import PendingKeys, put_keys
from smppd.store.tidy import ASKED, DONE, Entries, Place, Sealed, commit_keys, kept
from smppd.vault.blocks import SegmentSealer, open_blob, row_id, split_row_id
from smppd.vault.keys import KeyRing

_PAGE: Final = 64
_ABOVE: Final = 1 << 30  # every segment
_NEEDED: Final = (
    "SELECT EXISTS (SELECT 1 FROM spool WHERE seq >= ?1 << 32 AND seq < (?1 + 1) << 32)"
    " OR EXISTS (SELECT 1 FROM cold WHERE segment = ?1)"
    " OR EXISTS (SELECT 1 FROM damaged WHERE segment = ?1)"
)


class FileSpool:
    """``store.tidy.Spool`` of files: connections to data.db and keys.db, the keys in memory, the ring over them, the cold rows,
    the journal. `compact` leaves no journal file: what lives is in the table then."""

    until_next: tuple[type[StoreError], ...] = (StoreFull, StoreBusy)

    def __init__(
        self,
        directory: Path,
        data: sqlite3.Connection,
        secrets: sqlite3.Connection,
        keys: PendingKeys,
        ring: KeyRing,
        cold: ColdRows,
        journal: Journal,
    ) -> None:
        self._directory = directory
        self._data = data
        self._secrets = secrets
        self.keys = keys
        self.ring = ring
        self._cold = cold
        self._journal = journal

    @spoken
    def store_keys(self, new: list[tuple[bytes, bytes]], gone: list[bytes]) -> None:
        """See ``tidy.Spool``."""
        with writing(self._secrets):
            put_keys(self._secrets, new)
            self._secrets.executemany("DELETE FROM keys WHERE scope = ?", [(scope,) for scope in gone])

    # -- a store that nobody uses: all is filed ------------------------------------------------------------------------

    def blocks(self, below: int = _ABOVE) -> Iterator[Sealed]:
        """See ``tidy.Spool``: first the table, then the journal. sqlite3.Error."""
        for seq, data in self._rows(below << 32):
            yield (*split_row_id(seq), data)
        for seq, data in self._journal.spool():
            yield (*split_row_id(seq), data)

    def _rows(self, below: int) -> Iterator[tuple[int, bytes]]:
        after = -1 << 63
        while True:
            rows = self._data.execute(
                f"SELECT seq, CAST(data AS BLOB) FROM spool WHERE seq > ? AND seq < ? ORDER BY seq LIMIT {_PAGE}",
                (after, below),
            ).fetchall()
            if not rows:
                return
            yield from rows
            after = rows[-1][0]

    def open(self, block: Sealed) -> bytes:
        """See ``tidy.Spool``."""
        segment, counter, sealed = block
        return open_blob(self.ring.segment(segment), counter, SPOOL, sealed)

    def spread(self) -> bool:
        """See ``tidy.Spool``: what lives in files is put into the table."""
        return self._journal.there

    @spoken
    def rewrite(self, entries: Entries, unreadable: frozenset[Place]) -> None:
        """See ``tidy.Spool``."""
        sealer = SegmentSealer(self.ring)
        commit_keys(self)
        data = self._data
        below = sealer.segment << 32
        with writing(data):
            for block in kept(self._all(sealer.segment, unreadable), self.open, entries, unreadable):
                counter, sealed = sealer.seal(SPOOL, block)
                data.execute("INSERT INTO spool VALUES (?, ?)", (row_id(sealer.segment, counter), sealed))
            if unreadable:
                rows = [row[0] for row in data.execute("SELECT seq FROM spool WHERE seq < ?", (below,)).fetchall()]
                over = [(seq,) for seq in rows if split_row_id(seq) not in unreadable]
                data.executemany("DELETE FROM spool WHERE seq = ?", over)
            else:
                data.execute("DELETE FROM spool WHERE seq < ?", (below,))
            data.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (OVER, self._journal.last))
        self._journal.remove()

    def _all(self, below: int, unreadable: frozenset[Place]) -> Iterator[Sealed]:
        """The blocks; those of the journal that do not open get a row like the others, as they are."""
        for block in self.blocks(below):
            segment, counter, sealed = block
            if (segment, counter) in unreadable:
                self._data.execute("INSERT OR IGNORE INTO spool VALUES (?, ?)", (segment << 32 | counter, sealed))
            yield block

    @spoken
    def cold(self) -> int:
        """See ``tidy.Spool``."""
        return int(self._data.execute("SELECT count(*) FROM cold").fetchone()[0])

    # -- a running one too ---------------------------------------------------------------------------------------------

    @spoken
    def reseal(self, segment: int, after: tuple[Any, ...] | None, limit: int) -> tuple[Any, ...] | None:
        """See ``tidy.Spool``."""
        return self._cold.reseal(segment, after or (), limit)

    @spoken
    def segments(self, after: int, below: int, used: Sequence[int], most: int) -> list[tuple[int, bool]]:
        """See ``tidy.Spool``."""
        some = [one for one in self.ring.segments() if after < one < below and one not in used]
        return [(one, not self._needed(one)) for one in some[:most]]

    def _needed(self, segment: int) -> bool:
        """Whether the spool, a cold row or a damaged item is sealed under a segment's key."""
        return self._journal.files.has(segment) or bool(self._data.execute(_NEEDED, (segment,)).fetchone()[0])

    @spoken
    def clean(self) -> bool:
        """See ``tidy.Spool``: empties both write-ahead logs."""
        whole = True
        for db in (self._secrets, self._data):
            whole = truncate(db) and whole
        return whole


def ask(directory: Path, seconds: float) -> bool:
    """Asks the daemon that uses the store to tidy, and waits for it; whether it has. Raises StoreError, sqlite3.Error."""
    with closing(connect(directory / "data.db", "data")) as db:

        def put(token: int) -> None:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (ASKED, token))

        def done(token: int) -> bool:
            return db.execute("SELECT 1 FROM meta WHERE name = ? AND value = ?", (DONE, token)).fetchone() is not None

        return tidy.ask(put, done, seconds)


class Requests:
    """``store.tidy.Requests`` of a store's directory."""

    def __init__(self, directory: Path) -> None:
        self._data = Database(directory / "data.db", "data", read_only=True)

    def number(self, name: str) -> int:
        """See ``tidy.Requests``."""
        row = self._data.one("SELECT value FROM meta WHERE name = ?", (name,))
        return 0 if row is None else int(row[0])

    def close(self) -> None:
        """Closes the file."""
        self._data.close()
