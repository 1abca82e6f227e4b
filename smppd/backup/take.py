"""Online backup of an embedded store: data.db and audit.db into one directory, keys.db into another, a signed manifest last.

The daemon may be running. The order is what makes the copy consistent: data.db, audit.db, keys.db. Secrets and keys are
committed before what they seal, and a purge is on the trail before it deletes, so all that the copy of data.db needs is in
the later copies; what was destroyed in between is gone from the backup too, as it should be. How each file is copied is
`store.sqlite.copies`'s.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from smppd.backup.erasures import copy_journal
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
    write_key_manifest,
    write_manifest,
)
from smppd.durable import sync_directory
from smppd.records.erasure_journal import NAME
from smppd.store.api import StoreError, StoreFull
from smppd.store.sqlite import copies
from smppd.vault.kek import VaultError, blob_info
from smppd.vault.seal import iter_records, read_header

KEYS_LAST: Final = 30 * 86400.0
"""Seconds that a copy of keys.db may be kept: until then it can bring back what was purged or erased."""

_TRIES: Final = 3


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
            undo.enter_context(_fresh(directory, (DATA, AUDIT, KEYS, MANIFEST, KEY_MANIFEST, NAME)))
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
            # After all else: it has to know what was erased from the copies while they were made.
            copy_journal(store, target)
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
    except BackupError:
        raise
    except StoreFull:
        raise BackupError(f"{directory}: no space left; the part that was written is removed again") from None
    except StoreError as error:
        raise BackupError(f"{directory}: the copy failed: {error}; what was written is removed again") from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "no space left" if full else f"the copy failed: {error.strerror}"
        raise BackupError(f"{directory}: {why}; what was written is removed again") from None


def _spool_keys(store: Path, target: Path, reserve: int, progress: Progress) -> dict[bytes, bytes]:
    """Copies data.db and the journal's part of the spool; returns the keys of the spool segments in the copy. Asked before and
    after: while it is copied a segment's messages may be moved to a younger one and its key be destroyed, and the copy knows
    them in the old one only."""
    for _ in range(_TRIES):
        known = copies.segment_keys(store)
        with closing(copies.JournalCopy(store)) as journal:
            _snapshot(store / DATA, target / DATA, reserve, progress)
            whole = journal.put_into(target / DATA)
        known |= copies.segment_keys(store)
        used, wanted = copies.used_segments(target / DATA)
        if whole and used <= known.keys():
            return {scope: known[scope] for scope in used | (wanted & known.keys())}
        (target / DATA).unlink()
    raise BackupError("spool segments end faster than they can be copied: try again")


def _snapshot(source: Path, target: Path, reserve: int, progress: Progress) -> None:
    """One file as it is now. Of a file system that is the daemon's too the reserve is kept."""
    if source.parent.stat().st_dev != target.parent.stat().st_dev:
        reserve = 0
    copies.snapshot(
        source,
        target,
        lambda octets: free_room(target.parent, octets, reserve),
        lambda done: progress(f"Copying {source.name}", done),
    )


def free_room(directory: Path, octets: int, reserve: int) -> None:
    """BackupError unless so many octets and the reserve are free in a directory's file system."""
    stat = os.statvfs(directory)
    free = stat.f_bavail * stat.f_frsize
    if free < octets + reserve:
        kept = f" beside the store's reserve of {reserve >> 20} MiB" if reserve else ""
        raise BackupError(f"{directory}: no space: {octets >> 20} MiB are needed{kept}, {free >> 20} MiB are free")


def _copy_keys(store: Path, directory: Path, spool: dict[bytes, bytes], progress: Progress) -> tuple[int, ...]:
    """All rows of keys.db; returns the versions of the KEK that they need. spool: keys that the data needs and that may be gone
    by now."""
    wrapped = copies.copy_keys(store, directory / KEYS, spool, lambda done: progress("Copying keys.db", done))
    try:
        return tuple(sorted({blob_info(blob).kek_version for blob in wrapped}))
    except VaultError as error:
        raise BackupError(f"{store / KEYS}: {error}") from None


def _describe(path: Path, progress: Progress) -> Copied:
    version = copies.schema(path)
    octets, digest = sha256_of(path, progress)
    return Copied(path.name, octets, digest, version)


def _manifest(
    target: Path, files: tuple[Copied, ...], versions: tuple[int, ...], now: float, version: str, keys_last: float
) -> Manifest:
    held = copies.contents(target / DATA)
    ids = [read_header(packed).record_id for packed in iter_records(held.newest)]
    head = copies.trail_head(target / AUDIT)
    return Manifest(
        format=FORMAT,
        id=f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}",
        smppd=version,
        taken=format_time(now),
        keys_expire=format_time(now + keys_last),
        files=files,
        kek_versions=versions,
        chain=held.chain.hex(),
        first_id=f"{held.first:016x}",
        highest_id=f"{max(held.last, *ids, 0):016x}",
        rows=held.rows,
        records=held.records,
        audit_id=head[0],
        audit_hash=head[1].hex(),
    )
