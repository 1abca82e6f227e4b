"""Copies of a store's files, for a backup: whole or by rows, beside a running daemon; and what a restored copy is told.

What lives in the journal stands in table `spool` of the copy.

data.db and audit.db: `VACUUM INTO`, one statement in one read transaction: a snapshot that needs no restart whatever is
committed meanwhile (readers of a write-ahead log do not block its writer, sqlite.org/wal.html), and only live content, so
free pages with deleted rows stay behind. Their write-ahead logs grow while it lasts.

keys.db: by rows, a few thousand in each short read. Its rows do not depend on each other, and a long read would keep
destroyed keys from being truncated out of the write-ahead log.

Every function raises StoreError, StoreFull where there is no space.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from smppd.store.api import StoreError
from smppd.store.installation import RESTORED
from smppd.store.journal.reader import Placed, in_files, numbers, path_of, paths
from smppd.store.sqlite.damaged import present
from smppd.store.sqlite.database import Database, told
from smppd.store.sqlite.filing import FILED
from smppd.store.sqlite.journal import ASK_OVER, OVER, over_of
from smppd.store.sqlite.seals import LOG_STATE
from smppd.vault.blocks import row_id
from smppd.vault.keys import segment_scope

_SHORT_ID: Final = "short_id"
_ASK_FILED: Final = f"SELECT value FROM meta WHERE name = '{FILED}'"
_ROWS: Final = 4000
_SYNC_EVERY: Final = 16 << 20
_STEPS: Final = 2000  # of SQLite's machine between two looks at the progress
_ONE: Final = {"keys": "SELECT scope, wrapped FROM keys", "secrets": "SELECT seq, data FROM secrets"}
_HELD: Final = "SELECT record, hold, source, destination, sealed FROM held"


# -- copying -----------------------------------------------------------------------------------------------------------


def snapshot(source: Path, target: Path, room: Callable[[int], object], progress: Callable[[float], object]) -> None:
    """One file as it is now, 0600 and synced. The daemon's share of a disk is left alone: pages go out in small portions.
    room(octets): raises where so many more are not free; asked at the start, and with 0 now and then. KeyboardInterrupt where
    `progress` raised it."""
    db = Database(source, "data", read_only=True)
    try:
        pages, free, size = (_pragma(db, name) for name in ("page_count", "freelist_count", "page_size"))
        expected = max(1, (pages - free) * size)
        room(expected)
        handle = os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        short: list[StoreError] = []
        synced = 0

        def look() -> int:
            nonlocal synced
            done = os.fstat(handle).st_size
            if done - synced >= _SYNC_EVERY:
                os.fdatasync(handle)
                synced = done
                try:
                    room(0)
                except StoreError as error:
                    short.append(error)
                    return 1
            progress(min(1.0, done / expected))
            return 0

        try:
            db.connection.set_progress_handler(look, _STEPS)
            db.connection.execute("VACUUM INTO ?", (str(target.absolute()),))
        except sqlite3.Error as error:
            if short:
                raise short[0] from None
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise KeyboardInterrupt from None
            raise told(source, error) from error
        finally:
            os.fsync(handle)
            os.close(handle)
    finally:
        db.close()


def _pragma(db: Database, name: str) -> int:
    row = db.one(f"PRAGMA {name}")
    return 0 if row is None else int(row[0])


def segment_keys(store: Path) -> dict[bytes, bytes]:
    """scope -> wrapped key of each spool segment of the store in a directory."""
    with closing(Database(store / "keys.db", "keys", read_only=True)) as db:
        rows = db.all(
            "SELECT scope, wrapped FROM keys WHERE scope >= x'7365676d656e742f' AND scope < x'7365676d656e7430'"
        )
    return {bytes(scope): bytes(wrapped) for scope, wrapped in rows}


def used_segments(data: Path) -> tuple[set[bytes], set[bytes]]:
    """Scopes of segments that something on its way is sealed under, and of those that only something damaged is: it may be
    that these have no key, which is why it is damaged."""
    with closing(Database(data, "data", read_only=True)) as db:
        rows = db.all("SELECT DISTINCT seq >> 32 FROM spool UNION SELECT DISTINCT segment FROM cold")
        damaged = db.all("SELECT DISTINCT segment FROM damaged") if present(db.connection) else []
    return {segment_scope(row[0]) for row in rows}, {segment_scope(row[0]) for row in damaged}


def cold_segments(data: Path) -> list[int]:
    """Numbers of the segments that cold rows are sealed under."""
    with closing(Database(data, "data", read_only=True)) as db:
        return [row[0] for row in db.all("SELECT DISTINCT segment FROM cold")]


def copy_keys(
    store: Path, target: Path, also: Mapping[bytes, bytes], progress: Callable[[float], object]
) -> list[bytes]:
    """All rows of the keys.db in a store's directory into the file ``target``, in short reads; the wrapped keys that are in it
    then. also: scope -> key, of which some may be gone by now. What keys.db knows of the other files is made anew by a restore:
    they are copied at other moments than this one."""
    with (
        closing(Database(store / "keys.db", "keys", read_only=True)) as source,
        closing(Database(target, "keys")) as copy,
    ):
        tables = {row[0] for row in source.all("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if tables - {"state", "held"} != set(_ONE):
            raise StoreError(f"{source.path}: holds tables that this version does not know how to copy")
        copy.run("PRAGMA journal_mode=OFF")  # thrown away when it fails
        copy.run("PRAGMA synchronous=OFF")  # synced at the end
        row = source.one("SELECT max(seq) FROM secrets")
        newest = row[0] or 0 if row is not None else 0
        copy.run("BEGIN")
        copy.run_each("INSERT INTO keys VALUES (?, ?)", also.items())
        for page in _pages(source, "keys", "scope", b""):
            # A key that was wrapped anew meanwhile: the newer one stands.
            copy.run_each("INSERT OR REPLACE INTO keys VALUES (?, ?)", page)
        wrapped = [bytes(row[0]) for row in copy.all("SELECT wrapped FROM keys")]
        for page in _pages(source, "secrets", "seq", -1, newest):
            copy.run_each("INSERT INTO secrets VALUES (?, ?)", page)
            progress(page[-1][0] / max(1, newest))
        place = (-1, -1)
        while "held" in tables:
            held = source.all(f"{_HELD} WHERE (record, hold) > (?, ?) ORDER BY record, hold LIMIT ?", (*place, _ROWS))
            if not held:
                break
            copy.run_each("INSERT INTO held VALUES (?, ?, ?, ?, ?)", held)
            place = held[-1][:2]
        copy.run("COMMIT")
    return wrapped


def _pages(
    db: Database, table: str, by: str, after: bytes | int, until: int | None = None
) -> Iterator[list[tuple[Any, ...]]]:
    bound = "" if until is None else f" AND {by} <= {until:d}"
    while page := db.all(f"{_ONE[table]} WHERE {by} > ?{bound} ORDER BY {by} LIMIT {_ROWS}", (after,)):
        yield page
        after = page[-1][0]


class JournalCopy:
    """The journal's files as they were when this was made, held open: a segment that ends while data.db is copied is still
    needed by the copy, which knows its messages as waiting. OSError."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._held: dict[int, BinaryIO] = {}
        self._hold()

    def _hold(self) -> None:
        for number in numbers(self._store):
            if number not in self._held:
                with suppress(FileNotFoundError):
                    self._held[number] = path_of(self._store, number).open("rb")

    def put_into(self, data: Path) -> bool:
        """Puts what lived in the journal when a data.db was copied into the copy's table `spool`. False where some of it is
        gone. StoreError, OSError."""
        self._hold()
        with closing(Database(data, "data")) as db:
            db.run("PRAGMA journal_mode=OFF")  # thrown away when it fails
            over, upto = (over_of(db.one(ask)) for ask in (ASK_OVER, _ASK_FILED))
            last = over
            with db.writing():
                for one in in_files((number, self._content(number)) for number in sorted(self._held)):
                    if not isinstance(one, Placed) or not over < one.block.sequence <= upto:
                        continue
                    block, last = one.block, one.block.sequence
                    if block.spool:
                        place = row_id(block.segment, block.counter)
                        db.run("INSERT INTO spool VALUES (?, ?)", (place, block.spool))
                db.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (OVER, max(over, upto)))
            return last == max(over, upto)

    def _content(self, number: int) -> bytes:
        file = self._held[number]
        file.seek(0)
        return file.read()

    def close(self) -> None:
        """Lets the files go."""
        for file in self._held.values():
            file.close()
        self._held.clear()


def journal_files(store: Path) -> list[Path]:
    """The journal's files of the store in a directory. OSError."""
    return paths(store)


# -- what is in a copy -------------------------------------------------------------------------------------------------


class Contents(NamedTuple):
    """Of a data.db. first, last: ids of its oldest and newest row, 0 for none; rows, records: how many; chain: the link after
    the last row, empty for none; newest: the records of the last row that has any, packed."""

    first: int
    last: int
    rows: int
    records: int
    chain: bytes
    newest: bytes


def contents(data: Path) -> Contents:
    """What a data.db holds."""
    with closing(Database(data, "data", read_only=True)) as db:
        first, last, rows, records = db.one("SELECT min(seq), max(seq), count(*), sum(count) FROM log") or (0, 0, 0, 0)
        end = db.one("SELECT chain FROM log ORDER BY seq DESC LIMIT 1")
        full = db.one("SELECT records FROM log WHERE length(records) > 0 ORDER BY seq DESC LIMIT 1")
    chain, newest = end[0] if end is not None else b"", full[0] if full is not None else b""
    return Contents(first or 0, last or 0, rows, records or 0, chain, newest)


def trail_head(audit: Path) -> tuple[int, bytes]:
    """(id, hash) of the last entry in an audit.db; (0, 32 zeros) for none."""
    with closing(Database(audit, "data", read_only=True)) as db:
        row = db.one("SELECT id, hash FROM head")
    return (0, bytes(32)) if row is None else (row[0], row[1])


def schema(path: Path) -> int:
    """The schema version of a file. Leaves nothing beside it, and the file synced."""
    with closing(Database(path, "data", read_only=True)) as db:
        version = db.version()
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return version


def intact(path: Path) -> bool:
    """Whether the pages of a file hang together."""
    with closing(Database(path, "data", read_only=True)) as db:
        return db.one("PRAGMA quick_check(1)") == ("ok",)


# -- what a restored copy is told --------------------------------------------------------------------------------------


def mark(data: Path, highest: int, skipped: int) -> None:
    """Says in a data.db that it was restored and which id was its highest, and skips so many short ids."""
    with closing(Database(data, "data")) as db, db.writing():
        db.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (RESTORED, highest))
        db.run("UPDATE meta SET value = value + ? WHERE name = ?", (skipped, _SHORT_ID))


def acquaint(keys: Path, state: bytes) -> None:
    """Tells a keys.db the state of the log's seals."""
    with closing(Database(keys, "keys")) as db, db.writing():
        db.run("INSERT OR REPLACE INTO state VALUES (?, ?)", (LOG_STATE, state))


def settle(path: Path) -> bool:
    """Everything in the one file, and that on stable storage: its write-ahead log is not moved with it. False where the file is
    in use."""
    try:
        db = sqlite3.connect(path, isolation_level=None)
        try:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            db.close()  # the last one to close it removes the log
    except sqlite3.Error as error:
        raise told(path, error) from error
    if any(path.with_name(path.name + ending).exists() for ending in ("-wal", "-shm")):
        return False
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return True
