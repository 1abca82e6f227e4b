"""Takes what is over out of the spool for good: what still waits is written anew under a new key, the old keys are destroyed.

The rows of a segment share a key, so what is over can be opened for as long as one neighbour waits, in free pages too. Of a
store that nobody uses (at the end, at the start, for a purge or a backup) the whole journal is gone through at once:
`compact`. In a running one the relay moves what lives into a new segment, and the `Tidier` does the rest beside the messages:
seals cold rows anew, a few at a time, and destroys the keys that nothing needs any more.

Keys first: a new key is durable before what it seals, and an old one is destroyed when nothing that it sealed is left. So a
kill at any moment costs at most some work that is done again.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol

from smppd.store.sqlite.cold_rows import ColdRows
from smppd.store.sqlite.files import connect
from smppd.store.sqlite.files import truncate as truncate_log
from smppd.store.sqlite.journal import OVER, SPOOL, Journal
from smppd.store.sqlite.keys import PendingKeys, put_keys
from smppd.vault.blocks import SegmentSealer, open_blob, row_id, split_row_id
from smppd.vault.keys import KeyRing

ASKED: Final = "tidy asked"
DONE: Final = "tidy done"
"""Names in `meta`: what somebody outside asked the daemon for, and what it has done of it."""
EVERY: Final = 3600.0
"""Seconds after which the daemon does it unasked."""
FEW: Final = 20_000
"""Cold rows that are sealed anew while the store is being closed or opened: a third of a second. More wait for the next hour,
a purge or a backup."""

_PAGE: Final = 64
_BLOCK: Final = 1 << 20
_SOME: Final = 64  # cold rows at a time beside the messages: a millisecond
_MANY: Final = 1000
_REST: Final = 0.02
_LOOK: Final = 1.0
_SHREDDED: Final = 1000  # segments that are looked at with each new one
_LATER: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NEEDED: Final = (
    "SELECT EXISTS (SELECT 1 FROM spool WHERE seq >= ?1 << 32 AND seq < (?1 + 1) << 32)"
    " OR EXISTS (SELECT 1 FROM cold WHERE segment = ?1)"
    " OR EXISTS (SELECT 1 FROM damaged WHERE segment = ?1)"
)


class Entries(Protocol):
    """The grammar of the journal, as far as it says what is over (`relay.ledger.journal.LivingEntries`)."""

    @property
    def dead(self) -> int:
        """How many of the entries that were looked at are over."""

    def look(self, block: bytes) -> None:
        """One block, in order. Raises ValueError."""

    def doubt(self) -> None:
        """Some blocks could not be looked at."""

    def keep(self, block: bytes) -> bytes:
        """What is left of a block; in the same order, after all were looked at."""


class Compacted(NamedTuple):
    """entries: how many were taken out of the journal; rows: cold rows that were sealed anew; keys: how many were destroyed;
    unreadable: blocks that do not open and stay as they are; complete: False where the disk was full or somebody was reading,
    so that some of it is still to be done."""

    entries: int = 0
    rows: int = 0
    keys: int = 0
    unreadable: int = 0
    complete: bool = True


def later(error: sqlite3.Error) -> bool:
    """Whether what failed may be tried again later: no space, or somebody in the way."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _LATER


class Files(NamedTuple):
    """What both sides work on: connections to data.db and keys.db, the keys in memory, the ring over them, the cold rows, the
    journal."""

    data: sqlite3.Connection
    secrets: sqlite3.Connection
    keys: PendingKeys
    ring: KeyRing
    cold: ColdRows
    journal: Journal


# -- a store that nobody uses ------------------------------------------------------------------------------------------


def compact(files: Files, entries: Entries, most: int | None = None) -> Compacted:
    """Puts what lives in the spool into its table, without what is over, so that no journal file is left; and the cold rows
    (if there are at most `most`) under a new key; destroys every key that nothing needs. Nothing else may write, and all is
    filed. Raises sqlite3.Error where it is not for want of space, and StoreError."""
    unreadable = _look(files, entries)
    dead, rows, keys = 0, 0, 0
    try:
        dead = entries.dead
        if dead or files.journal.there:
            _rewrite(files, entries, unreadable)
            files.journal.remove()
        cold = files.data.execute("SELECT count(*) FROM cold").fetchone()[0]
        if cold and (most is None or cold <= most):
            rows = cold
            segment = files.ring.new_segment()
            commit_keys(files)
            after: tuple[Any, ...] | None = ()
            while after is not None:
                after = files.cold.reseal(segment, after, _MANY)
        keys = shred(files)
        complete = truncate(files) and (rows == cold)
    except sqlite3.Error as error:
        for db in (files.data, files.secrets):
            if db.in_transaction:
                db.execute("ROLLBACK")
        if not later(error):
            raise
        complete = False
    return Compacted(dead, rows, keys, len(unreadable), complete)


def _rows(db: sqlite3.Connection, below: int) -> Iterator[tuple[int, bytes]]:
    after = -1 << 63
    while True:
        rows = db.execute(
            f"SELECT seq, CAST(data AS BLOB) FROM spool WHERE seq > ? AND seq < ? ORDER BY seq LIMIT {_PAGE}",
            (after, below),
        ).fetchall()
        if not rows:
            return
        yield from rows
        after = rows[-1][0]


def _blocks(files: Files, below: int = 1 << 62) -> Iterator[tuple[int, bytes]]:
    yield from _rows(files.data, below)
    yield from files.journal.spool()


def _open(ring: KeyRing, seq: int, data: bytes) -> bytes:
    segment, counter = split_row_id(seq)
    return open_blob(ring.segment(segment), counter, SPOOL, data)


def _look(files: Files, entries: Entries) -> frozenset[int]:
    """Looks at all blocks; the rows of those that do not open or are broken. Those stay, and so do their keys: what to do about
    them is for the replay to say."""
    unreadable = set()
    for seq, data in _blocks(files):
        try:
            entries.look(_open(files.ring, seq, data))
        except Exception:  # noqa: BLE001  whatever is wrong with a block is wrong with that block alone
            unreadable.add(seq)
    if unreadable:
        entries.doubt()
    return frozenset(unreadable)


def _rewrite(files: Files, entries: Entries, unreadable: frozenset[int]) -> None:
    sealer = SegmentSealer(files.ring)
    below = sealer.segment << 32
    commit_keys(files)
    data = files.data
    data.execute("BEGIN IMMEDIATE")
    kept: list[bytes] = []
    size = 0

    def put() -> None:
        counter, sealed = sealer.seal(SPOOL, b"".join(kept))
        data.execute("INSERT INTO spool VALUES (?, ?)", (row_id(sealer.segment, counter), sealed))
        kept.clear()

    for seq, sealed in _blocks(files, below):
        if seq in unreadable:
            # Those of the journal get a row like the others.
            data.execute("INSERT OR IGNORE INTO spool VALUES (?, ?)", (seq, sealed))
            continue
        block = entries.keep(_open(files.ring, seq, sealed))
        if block:
            kept.append(block)
            size += len(block)
        if size >= _BLOCK:
            put()
            size = 0
    if kept:
        put()
    if unreadable:
        rows = [row[0] for row in data.execute("SELECT seq FROM spool WHERE seq < ?", (below,)).fetchall()]
        data.executemany("DELETE FROM spool WHERE seq = ?", [(seq,) for seq in rows if seq not in unreadable])
    else:
        data.execute("DELETE FROM spool WHERE seq < ?", (below,))
    data.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (OVER, files.journal.last))
    data.execute("COMMIT")


def commit_keys(files: Files) -> None:
    """Makes new keys durable, and destroys those that are to go."""
    new, gone = files.keys.take()
    db = files.secrets
    db.execute("BEGIN IMMEDIATE")
    put_keys(db, new)
    db.executemany("DELETE FROM keys WHERE scope = ?", [(scope,) for scope in gone])
    db.execute("COMMIT")


def shred(files: Files) -> int:
    """Destroys the keys of all segments that no row needs; how many."""
    needless = [one for one in files.ring.segments() if not needed(files, one)]
    for segment in needless:
        files.ring.drop_segment(segment)
    if needless:
        commit_keys(files)
    return len(needless)


def needed(files: Files, segment: int) -> bool:
    """Whether the spool, a cold row or a damaged item is sealed under a segment's key."""
    return files.journal.files.has(segment) or bool(files.data.execute(_NEEDED, (segment,)).fetchone()[0])


def truncate(files: Files) -> bool:
    """Empties both write-ahead logs; False where somebody is reading."""
    whole = True
    for db in (files.secrets, files.data):
        whole = truncate_log(db) and whole
    return whole


# -- a running store ---------------------------------------------------------------------------------------------------


class Tidier:
    """Seals cold rows anew and destroys needless keys while messages go on. On the reactor thread, but for what is given to
    the writer. ``cold``: the segment that cold rows are sealed under, which the journal never uses; ``stained``: whether a
    cold row of it may be over. ``aside``: the one of damaged items, 0 where this run has had none."""

    def __init__(
        self,
        files: Files,
        give: Callable[[Callable[[], None]], object],
        notify: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], object],
        commit: Callable[[Callable[[], None]], None],
    ) -> None:
        """give(job): runs a job on the writer's thread. notify, later: as for the store. commit(function): commits the current
        batch, and what is new in `PendingKeys` with it, then calls the function."""
        self._files = files
        self._give = give
        self._notify = notify
        self._later = later
        self._commit = commit
        self._shredded = 0
        self.cold = files.ring.new_segment()
        self.stained = True
        self.aside = 0

    def tidy(self, current: Callable[[], int], then: Callable[[bool], None]) -> None:
        """current(): the journal's segment. then(complete): called when nothing that was over can be opened any more, or with
        False when there was no space for it."""
        if not self.stained:
            self.shred(current(), lambda: self._empty(then))
            return
        self.stained = False
        self.cold = segment = self._files.ring.new_segment()
        # Behind all batches that seal rows under the one before.
        self._commit(lambda: self._next(segment, (), current, then))

    def _next(
        self, segment: int, after: tuple[Any, ...], current: Callable[[], int], then: Callable[[bool], None]
    ) -> None:
        self._give(lambda: self._reseal(segment, after, current, then))

    def _reseal(
        self, segment: int, after: tuple[Any, ...], current: Callable[[], int], then: Callable[[bool], None]
    ) -> None:
        """On the writer's thread."""
        try:
            following = self._files.cold.reseal(segment, after, _SOME)
        except sqlite3.Error as error:
            if not later(error):
                raise
            self.stained = True
            self._notify(lambda: then(False))
            return

        def go_on() -> None:
            if following is None:
                self.shred(current(), lambda: self._empty(then))
            else:
                self._later(_REST, lambda: self._next(segment, following, current, then))

        self._notify(go_on)

    def _empty(self, then: Callable[[bool], None]) -> None:
        def done() -> None:
            then(True)

        def job() -> None:
            truncate(self._files)
            self._notify(done)

        self._give(job)

    def shred(self, current: int, then: Callable[[], None] | None = None) -> None:
        """Destroys the keys of segments below ``current`` that nothing stored uses any more; then(): when they are gone. A
        carrier that brings no receipts for days leaves many segments with a few rows each: some are looked at each time, in
        turn, all where somebody waits for it."""
        cold = self.cold
        self._give(lambda: self._shred(current, cold, then))

    def _shred(self, current: int, cold: int, then: Callable[[], None] | None) -> None:
        """On the writer's thread, behind every batch sealed under an earlier segment: nothing is added to those again. The rows
        are gone for good before the key is, so no crash leaves a row that does not open; keys go with the next batch."""
        used = (cold, self.aside)
        segments = [one for one in self._files.ring.segments() if one < current and one not in used]
        if then is None:
            segments = [one for one in segments if one > self._shredded] + [s for s in segments if s <= self._shredded]
            segments = segments[:_SHREDDED]
            if segments:
                self._shredded = segments[-1]
        needless = [one for one in segments if not needed(self._files, one)]
        for segment in needless:
            self._files.ring.drop_segment(segment)
        if then is not None:
            gone = then
            self._notify(lambda: self._commit(gone))


# -- asking a running daemon -------------------------------------------------------------------------------------------


def ask(directory: Path, seconds: float) -> bool:
    """Asks the daemon that uses the store to tidy, and waits for it; whether it has. Raises StoreError, sqlite3.Error."""
    db = connect(directory / "data.db", "data")
    try:
        token = secrets.randbits(60) | 1
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (ASKED, token))
        deadline, wait = monotonic() + seconds, threading.Event()
        while _meta(db, DONE) != token:
            if monotonic() > deadline:
                return False
            wait.wait(0.05)
        return True
    finally:
        db.close()


def _meta(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


class TidyThread(threading.Thread):
    """Looks once a second whether somebody asks for it, and calls ``wanted(token)`` in this thread; with 0 once an hour."""

    def __init__(
        self,
        directory: Path,
        stop: threading.Event,
        wanted: Callable[[int], object],
        failed: Callable[[str], object],
        every: float = EVERY,
    ) -> None:
        """directory: the store's. stop: set it, then join. failed(reason): told what is wrong; it goes on after a minute."""
        super().__init__(name="tidy", daemon=True)
        self._directory = directory
        self._stop_event = stop
        self._wanted = wanted
        self._failed = failed
        self._every = every

    def run(self) -> None:
        """The thread's loop."""
        due = monotonic() + self._every
        db: sqlite3.Connection | None = None
        seen = 0
        while not self._stop_event.is_set():
            pause = _LOOK
            try:
                db = db or connect(self._directory / "data.db", "data", read_only=True)
                asked = _meta(db, ASKED)
                if asked not in (seen, _meta(db, DONE)):
                    seen = asked
                    self._wanted(asked)
                elif monotonic() > due:
                    due = monotonic() + self._every
                    self._wanted(0)
            except sqlite3.Error as error:
                self._failed(f"{type(error).__name__}: {error}")
                pause = 60 * _LOOK
            self._stop_event.wait(pause)
        if db is not None:
            db.close()
