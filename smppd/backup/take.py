"""Online backup of an embedded store: data.db and audit.db into one directory, keys.db into another, a signed manifest last.

The daemon may be running. The order is what makes the copy consistent: data.db, audit.db, keys.db. Secrets and keys are
committed before what they seal, and a purge is on the trail before it deletes, so all that the copy of data.db needs is in
the later copies; what was destroyed in between is gone from the backup too, as it should be.

- data.db and audit.db: `VACUUM INTO`, one statement in one read transaction: a snapshot that needs no restart whatever is
  committed meanwhile (readers of a write-ahead log do not block its writer, sqlite.org/wal.html), and only live content, so
  free pages with deleted rows stay behind. Their write-ahead logs grow while it lasts.
- keys.db: by rows, a few thousand in each short read. Its rows do not depend on each other, and a long read would keep
  destroyed keys from being truncated out of the write-ahead log.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from smppd.backup.manifest import (
    AUDIT,
    DATA,
    FORMAT,
    KEY_MANIFEST,
    KEYS,
    MANIFEST,
    BackupError,
    Copied,
    Manifest,
    Progress,
    format_time,
    sha256_of,
    sync_directory,
    write_key_manifest,
    write_manifest,
)
from smppd.store.sqlite.damaged import present
from smppd.store.sqlite.files import connect
from smppd.vault.kek import VaultError, blob_info
from smppd.vault.keys import segment_scope
from smppd.vault.seal import iter_records, read_header

KEYS_LAST: Final = 30 * 86400.0
"""Seconds that a copy of keys.db may be kept: until then it can bring back what was purged or erased."""

_ROWS: Final = 4000
_TRIES: Final = 3
_SYNC_EVERY: Final = 16 << 20
_STEPS: Final = 2000  # of SQLite's machine between two looks at the progress
_ONE: Final = {"keys": "SELECT scope, wrapped FROM keys", "secrets": "SELECT seq, data FROM secrets"}


def take(
    store: Path,
    target: Path,
    keys_target: Path,
    *,
    sign: Ed25519PrivateKey,
    now: float,
    version: str,
    keys_last: float = KEYS_LAST,
    reserve: int = 0,
    progress: Progress = lambda _what, _done: None,
) -> Manifest:
    """Copies the store in `store`: data.db and audit.db to `target`, keys.db to `keys_target` (the same directory only if
    the caller insists). Directories are made (0700), or are empty; files are 0600 and synced.

    sign: the installation's checkpoint key. now: epoch seconds. keys_last: seconds until keys_expire. reserve: octets
    to leave free where the target shares the store's file system. Raises BackupError (no space among others); then, and
    when interrupted, what was written is removed again.
    """
    target, keys_target = target.resolve(), keys_target.resolve()
    _not_inside(store.resolve(), target, keys_target)
    with ExitStack() as undo:
        for directory in dict.fromkeys((target, keys_target)):
            undo.enter_context(_fresh(directory, (DATA, AUDIT, KEYS, MANIFEST, KEY_MANIFEST)))
        with _explained(target):
            spool = _spool_keys(store, target, reserve, progress)
            _snapshot(store / AUDIT, target / AUDIT, reserve, progress)
        with _explained(keys_target):
            versions = _copy_keys(store, keys_target, spool, progress)
        where = ((target, DATA), (target, AUDIT), (keys_target, KEYS))
        with _explained(target):
            files = tuple(_describe(directory / name, progress) for directory, name in where)
            manifest = _manifest(target, files, versions, now, version, keys_last)
        with _explained(keys_target):
            write_key_manifest(keys_target, manifest)
        with _explained(target):
            write_manifest(target, manifest, sign)
    return manifest


def _not_inside(here: Path, data: Path, keys: Path) -> None:
    for path in (data, keys):
        if path == here or here in path.parents:
            raise BackupError(f"{path}: a backup does not go into the store's own directory")
    if data != keys and (data in keys.parents or keys in data.parents):
        raise BackupError("the keys' copy does not go inside the backup's directory, nor the other way round")


@contextmanager
def _fresh(directory: Path, names: tuple[str, ...]) -> Iterator[None]:
    """An empty directory; emptied, and removed if it was made here, when anything is raised."""
    made = []
    try:
        for path in [*reversed(directory.parents), directory]:
            if not path.exists():
                path.mkdir(mode=0o700)
                made.append(path)
                sync_directory(path.parent)
        if any(directory.iterdir()):
            known = (
                "a backup" if (directory / MANIFEST).exists() or (directory / KEY_MANIFEST).exists() else "something"
            )
            raise BackupError(f"{directory}: there is {known} already: give an empty or a new directory")
    except OSError as error:
        raise BackupError(f"{directory}: {error.strerror}") from None
    try:
        yield
    except BaseException:
        for name in names:
            for ending in ("", "-wal", "-shm", "-journal", ".part"):
                (directory / (name + ending)).unlink(missing_ok=True)
        for path in reversed(made):
            try:
                path.rmdir()
            except OSError:  # somebody put something into it
                break
        raise


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Turns what a copy may run into to a sentence."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            raise BackupError(f"{directory}: no space left; the part that was written is removed again") from None
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            raise KeyboardInterrupt from None
        raise BackupError(f"{directory}: the copy failed: {error}; what was written is removed again") from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "no space left" if full else f"the copy failed: {error.strerror}"
        raise BackupError(f"{directory}: {why}; what was written is removed again") from None


def _spool_keys(store: Path, target: Path, reserve: int, progress: Progress) -> dict[bytes, bytes]:
    """Copies data.db and returns the keys of the spool segments in the copy. Asked before and after: while it is copied a
    segment's messages may be moved to a younger one and its key be destroyed, and the copy knows them in the old one only."""
    for _ in range(_TRIES):
        known = _segment_keys(store)
        _snapshot(store / DATA, target / DATA, reserve, progress)
        known |= _segment_keys(store)
        used, wanted = _used_segments(target / DATA)
        if used <= known.keys():
            return {scope: known[scope] for scope in used | (wanted & known.keys())}
        (target / DATA).unlink()
    raise BackupError("spool segments end faster than they can be copied: try again")


def _segment_keys(store: Path) -> dict[bytes, bytes]:
    db = connect(store / KEYS, "keys", read_only=True)
    try:
        rows = db.execute(
            "SELECT scope, wrapped FROM keys WHERE scope >= x'7365676d656e742f' AND scope < x'7365676d656e7430'"
        )
        return {bytes(scope): bytes(wrapped) for scope, wrapped in rows.fetchall()}
    finally:
        db.close()


def _used_segments(data: Path) -> tuple[set[bytes], set[bytes]]:
    """Scopes of segments that something on its way is sealed under, and of those that only something damaged is: it may be
    that these have no key, which is why it is damaged."""
    db = connect(data, "data", read_only=True)
    try:
        rows = db.execute("SELECT DISTINCT seq >> 32 FROM spool UNION SELECT DISTINCT segment FROM cold").fetchall()
        damaged = db.execute("SELECT DISTINCT segment FROM damaged").fetchall() if present(db) else []
        return {segment_scope(row[0]) for row in rows}, {segment_scope(row[0]) for row in damaged}
    finally:
        db.close()


def _snapshot(source: Path, target: Path, reserve: int, progress: Progress) -> None:
    """One file as it is now. The daemon's share of a disk is left alone: pages go out in small portions, and the reserve
    is kept."""
    if source.parent.stat().st_dev != target.parent.stat().st_dev:
        reserve = 0
    db = connect(source, "data", read_only=True)
    try:
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
        expected = max(1, (pages - free) * size)
        free_room(target.parent, expected, reserve)
        handle = os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        short: list[BackupError] = []
        synced = 0

        def look() -> int:
            nonlocal synced
            done = os.fstat(handle).st_size
            if done - synced >= _SYNC_EVERY:
                os.fdatasync(handle)
                synced = done
                try:
                    free_room(target.parent, 0, reserve)
                except BackupError as error:
                    short.append(error)
                    return 1
            progress(f"Copying {source.name}", min(1.0, done / expected))
            return 0

        try:
            db.set_progress_handler(look, _STEPS)
            db.execute("VACUUM INTO ?", (str(target.absolute()),))
        except sqlite3.Error:
            if short:
                raise short[0] from None
            raise
        finally:
            os.fsync(handle)
            os.close(handle)
    finally:
        db.close()


def free_room(directory: Path, octets: int, reserve: int) -> None:
    """BackupError unless so many octets and the reserve are free in a directory's file system."""
    stat = os.statvfs(directory)
    free = stat.f_bavail * stat.f_frsize
    if free < octets + reserve:
        kept = f" beside the store's reserve of {reserve >> 20} MiB" if reserve else ""
        raise BackupError(f"{directory}: no space: {octets >> 20} MiB are needed{kept}, {free >> 20} MiB are free")


def _copy_keys(store: Path, directory: Path, spool: dict[bytes, bytes], progress: Progress) -> tuple[int, ...]:
    """All rows of keys.db, in short reads; returns the versions of the KEK that they need. spool: keys that the data needs
    and that may be gone by now."""
    source = connect(store / KEYS, "keys", read_only=True)
    try:
        tables = {row[0] for row in source.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        # What keys.db knows of the other files is made anew by a restore: they are copied at other moments than this one.
        if tables - {"state"} != set(_ONE):
            raise BackupError(f"{store / KEYS}: holds tables that this version does not know how to copy")
        target = connect(directory / KEYS, "keys")
        try:
            target.execute("PRAGMA journal_mode=OFF")  # thrown away when it fails
            target.execute("PRAGMA synchronous=OFF")  # synced at the end
            newest = source.execute("SELECT max(seq) FROM secrets").fetchone()[0] or 0
            versions = set()
            target.execute("BEGIN")
            target.executemany("INSERT INTO keys VALUES (?, ?)", spool.items())
            for page in _pages(source, "keys", "scope", b""):
                # A key that was wrapped anew meanwhile: the newer one stands.
                target.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?)", page)
            versions = {blob_info(row[0]).kek_version for row in target.execute("SELECT wrapped FROM keys")}
            for page in _pages(source, "secrets", "seq", -1, newest):
                target.executemany("INSERT INTO secrets VALUES (?, ?)", page)
                progress("Copying keys.db", page[-1][0] / max(1, newest))
            target.execute("COMMIT")
        finally:
            target.close()
        return tuple(sorted(versions))
    except VaultError as error:
        raise BackupError(f"{store / KEYS}: {error}") from None
    finally:
        source.close()


def _pages(
    db: sqlite3.Connection, table: str, by: str, after: bytes | int, until: int | None = None
) -> Iterator[list[tuple[Any, Any]]]:
    bound = "" if until is None else f" AND {by} <= {until:d}"
    while True:
        page = db.execute(f"{_ONE[table]} WHERE {by} > ?{bound} ORDER BY {by} LIMIT {_ROWS}", (after,)).fetchall()
        if not page:
            return
        yield page
        after = page[-1][0]


def _describe(path: Path, progress: Progress) -> Copied:
    db = connect(path, "data", read_only=True)
    try:
        schema = int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()
    for ending in ("-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    octets, digest = sha256_of(path, progress)
    return Copied(path.name, octets, digest, schema)


def _manifest(
    target: Path, files: tuple[Copied, ...], versions: tuple[int, ...], now: float, version: str, keys_last: float
) -> Manifest:
    db = connect(target / DATA, "data", read_only=True)
    try:
        first, last, rows, records = db.execute("SELECT min(seq), max(seq), count(*), sum(count) FROM log").fetchone()
        row = db.execute("SELECT seq, chain FROM log ORDER BY seq DESC LIMIT 1").fetchone()
        full = db.execute("SELECT records FROM log WHERE length(records) > 0 ORDER BY seq DESC LIMIT 1").fetchone()
    finally:
        db.close()
    ids = [read_header(packed).record_id for packed in iter_records(full[0])] if full else []
    trail = connect(target / AUDIT, "data", read_only=True)
    try:
        head = trail.execute("SELECT id, hash FROM head").fetchone() or (0, bytes(32))
    finally:
        trail.close()
    return Manifest(
        format=FORMAT,
        id=f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        smppd=version,
        taken=format_time(now),
        keys_expire=format_time(now + keys_last),
        files=files,
        kek_versions=versions,
        chain=row[1].hex() if row else "",
        first_id=f"{first or 0:016x}",
        highest_id=f"{max(last or 0, *ids, 0):016x}",
        rows=rows,
        records=records or 0,
        audit_id=head[0],
        audit_hash=head[1].hex(),
    )
