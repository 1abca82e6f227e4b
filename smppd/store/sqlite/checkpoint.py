"""Copies the write-ahead logs into their files, beside the filer.

SQLite does that in the commit that makes a log too long, and whoever waits for this commit waits for some thousand pages and
two more syncs: 10 to 50 ms, once or twice a second at full load. Here a thread copies what there is while the writer goes on
(a PASSIVE checkpoint stands in nobody's way), then the writer copies the little that came meanwhile, between two commits;
after that SQLite begins the log anew (sqlite.org/wal.html#avoiding_excessively_large_wal_files).

An error here is the writer's error: what could not be synced into the file may be gone from the page cache, and a second
attempt would find nothing wrong (never retry an fsync). No space is none: the log is whole, and the copy is made later.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from smppd.store.sqlite.files import connect

LIMIT: Final = 16 << 20
"""Octets of log after which it is copied."""
PAGE: Final = 8192
_COMMIT: Final = 4 * PAGE  # what a commit writes beside its content: pages that are only partly new
_HARMLESS: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def checkpoint(databases: Sequence[sqlite3.Connection]) -> None:
    """Copies what may be copied without waiting for anybody. sqlite3.Error where that failed for another reason than space."""
    for db in databases:
        try:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _HARMLESS:
                raise


class Checkpointer:
    """``wrote`` and ``finished`` are the writer's, in its thread. ``rest()`` is called in this one when the bulk is copied: the
    writer is to copy the rest and say ``finished``; ``failed(error)`` when nothing may be acknowledged any more."""

    def __init__(
        self,
        files: Sequence[tuple[Path, str]],
        rest: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """files: (path, kind) of each, as `files.connect` takes them. Opened here, so that what is wrong with them is said at
        the start. Raises ``StoreError``."""
        self._databases = [connect(path, kind) for path, kind in files]
        self._rest = rest
        self._failed = failed
        self._written = 0
        self._running = False
        self._wanted = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def wrote(self, octets: int) -> None:
        """A commit of so many octets was made."""
        self._written += octets + _COMMIT
        if self._written > LIMIT and not self._running:
            self._running = True
            self._written = 0
            self._wanted.set()

    def finished(self) -> None:
        """The writer copied the rest."""
        self._running = False

    def stop(self) -> None:
        """Ends the thread; a copy under way is finished first."""
        self._over = True
        self._wanted.set()
        self._thread.join(30.0)

    def _run(self) -> None:
        try:
            while True:
                self._wanted.wait()
                self._wanted.clear()
                if self._over:
                    return
                checkpoint(self._databases)
                self._rest()
        except Exception as error:  # noqa: BLE001  the thread's edge: a log that grows unseen would fill the disk
            self._failed(error)
        finally:
            for db in self._databases:
                db.close()
