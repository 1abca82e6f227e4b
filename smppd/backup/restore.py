"""Restoring a backup: copied beside the store, verified as a whole, then moved into its place.

keys.db is moved last and, of an old store, moved away first: a daemon does not start without it, so a restore that was
interrupted is never taken for a store.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from smppd.audit.trail import Actor, AuditTrail
from smppd.backup.erasures import Replayed, gather, known_until, replay_erasures
from smppd.backup.manifest import (
    AUDIT,
    DATA,
    KEYS,
    BackupError,
    Copied,
    Manifest,
    Progress,
    key_copy,
    parse_time,
    read_manifest,
    verify_manifest,
)
from smppd.backup.opt_outs import TakenOver, carry_over
from smppd.backup.take import free_room
from smppd.durable import sync_directory
from smppd.events import AuditEvent
from smppd.records.consistency import anchor_faults, checkpoint_facts
from smppd.records.erasure import Floor, no_floor
from smppd.records.erasure_journal import NAME, Line
from smppd.records.lookup import LogReader
from smppd.records.verify import LogVerdict, verify_log
from smppd.store.api import StoreError
from smppd.store.lock import LOCK_FILE, Lock
from smppd.store.log import LogRow, read_purged
from smppd.store.opening import embedded
from smppd.store.sqlite import copies
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.store.sqlite.log_rows import SqliteRecords
from smppd.store.sqlite.seals import witness
from smppd.store.sqlite.states import SqliteStates
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.chain import ChainKeys, LogState, seal_hash
from smppd.vault.kek import Kek, VaultError
from smppd.vault.keys import InstallSecrets, KeyRing, Part, load_install, period_scope
from smppd.vault.seal import SECRETS_BYTES, iter_records, read_header

SHORT_IDS_A_SECOND: Final = 2000
_ENDINGS: Final = ("", "-wal", "-shm")
_ORDER: Final = (AUDIT, DATA, KEYS)
_STAGING: Final = ".restore"
_PIECE: Final = 1 << 20
_PAGE: Final = 64
_HALF: Final = SECRETS_BYTES // 2


class Checked(NamedTuple):
    """What a verified copy holds.

    first, last: epoch seconds of the log's oldest and newest id, None when it is empty. unreadable: records that have a key
    and no secrets: none, unless secrets were destroyed while the backup was taken. highest: no id in it is above. cold:
    how many cold rows of each kind (`store.api.Kind`). seal: number and hash of the log's newest seal. erased: lines
    of all erasure journals that are known.
    """

    manifest: Manifest
    rows: int
    records: int
    purged: int
    unreadable: int
    keys: int
    audit_entries: int
    first: float | None
    last: float | None
    highest: int
    cold: dict[int, int]
    seal: tuple[int, bytes] | None = None
    erased: Sequence[Line] = ()


class Restored(NamedTuple):
    """checked: what is in the store now. aside: where the old store is, None if there was none. expired: the copy of the
    keys should have been deleted by now. erasures: what was erased again. known_until: ISO 8601, up to when erasures are known;
    empty where no journal was found. underway: what `replay` gave. taken_over: opt-outs and withdrawals of
    consents, from the store that was replaced; None where there was none that could be read."""

    checked: Checked
    aside: Path | None
    expired: bool
    erasures: Replayed
    known_until: str
    underway: Mapping[str, int]
    taken_over: TakenOver | None = None


def verify(
    source: Path,
    keys_source: Path,
    directory: Path,
    kek: Kek,
    id_time: Callable[[int], float],
    *,
    block: Callable[[bytes], object] = lambda _block: None,
    progress: Progress = lambda _what, _done: None,
    journals: Sequence[Path] = (),
    erasures: Sequence[Path] = (),
) -> Checked:
    """Restores the backup in `source` into the empty `directory` and checks everything: sizes and digests, the manifest's
    signature, every key under the KEK, the digest chain, the checkpoints, the audit trail, that the records have their
    secrets, that what is on its way opens. BackupError says what is wrong.

    id_time: `ids.id_time`. block: given the entries of each spool block. journals: erasure journals that may be there, beside
    the backup's own; erasures: files that must be (`erasures.read_erasures`).
    """
    with _explained(source):
        manifest = read_manifest(source)
        keys_file = key_copy(keys_source, manifest.id)
        _unpack(source, keys_file, manifest, directory, progress)
        return _check(directory, source, kek, id_time, block, progress, (source / NAME, *journals), erasures)


def restore(
    source: Path,
    keys_source: Path,
    directory: Path,
    kek: Kek,
    id_time: Callable[[int], float],
    *,
    now: float,
    actor: Actor,
    force: bool = False,
    block: Callable[[bytes], object] = lambda _block: None,
    progress: Progress = lambda _what, _done: None,
    erasures: Sequence[Path] = (),
    replay: Callable[[Path, Collection[int]], Mapping[str, int]] = lambda _directory, _ids: {},
    floor: Floor = no_floor,
) -> Restored:
    """Makes `directory` the store that the backup shows. Arguments as for `verify`; keys_source: the directory with its
    keys, or the one above. now: epoch seconds. force: a store that is there is moved into a directory beside the files,
    instead of BackupError. The restore is on the restored audit trail. StoreError while a daemon uses the store. What was
    erased since the backup was taken is erased again first, as far as a journal says so. erasures: as for `verify`.
    replay(directory, ids): takes what is on its way and belongs to these records out of the copy, and counts it. floor: what
    must be kept in spite of an erasure (`records.erasure`).
    """
    with _explained(directory):
        lock = Lock(directory)
        try:
            old = existing(directory)
            if old and not force:
                raise BackupError(f"{directory}: there is a store already; --force moves it aside")
            staging = directory / _STAGING
            shutil.rmtree(staging, ignore_errors=True)  # of a restore that was killed
            staging.mkdir(mode=0o700)
            try:
                replaced = (directory / NAME,) if old else ()
                checked = verify(
                    source,
                    keys_source,
                    staging,
                    kek,
                    id_time,
                    block=block,
                    progress=progress,
                    journals=replaced,
                    erasures=erasures,
                )
                progress("Erasing again what was erased", 0.0)
                install = _open_keys(staging, kek)[0]
                replayed = replay_erasures(embedded(staging), kek, install, checked.erased, now, actor, floor=floor)
                taken_over = carry_over(directory, staging, kek, install) if old else None
                ids = frozenset(record for line in checked.erased for record in line.ids) - replayed.held
                underway: Mapping[str, int] = {}
                if ids:
                    underway, checked = _replay_underway(staging, install, checked, lambda: replay(staging, ids))
                (staging / LOCK_FILE).unlink(missing_ok=True)
                manifest = checked.manifest
                away = now - parse_time(manifest.taken)
                # Short ids that may have been given out since are not given out again.
                copies.mark(staging / DATA, checked.highest, int(max(0.0, away) * SHORT_IDS_A_SECOND))
                expired = parse_time(manifest.keys_expire) <= now
                _record(staging, kek, checked, actor, expired)
                for name in _ORDER:
                    if not copies.settle(staging / name):
                        raise BackupError(f"{staging / name}: still in use")
                aside = _move_aside(directory, existing(directory), now) if old else None
                _put(staging, directory)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        finally:
            lock.release()
    until = known_until(checked.erased, bool(old), now)
    return Restored(checked, aside, expired, replayed, until, underway, taken_over)


def _replay_underway(
    staging: Path, install: InstallSecrets, checked: Checked, replay: Callable[[], Mapping[str, int]]
) -> tuple[Mapping[str, int], Checked]:
    """Has the relay erase in a restored copy. It writes into the log, so the files have to know each other before it begins,
    and the newest seal is another one after it."""
    keys = ChainKeys(install.audit, install.checkpoint)
    _acquaint(staging, keys, checked)
    with AuditTrail(staging / AUDIT, install.audit) as trail:
        head = trail.head()
    witness(staging, keys, *head)
    found = replay()
    with closing(SqliteStates(staging)) as states:
        newest = states.newest_seal()
    if newest is not None:
        checked = checked._replace(seal=(newest[0], seal_hash(newest[1])))
    return found, checked


def _acquaint(directory: Path, keys: ChainKeys, checked: Checked) -> None:
    if checked.seal is not None:
        number, digest = checked.seal
        copies.acquaint(directory / KEYS, keys.pack_log(LogState(number, number, False, digest, digest)))


def existing(directory: Path) -> list[Path]:
    """The files of a store in a directory, keys.db first, those of its journal last."""
    names = [name + ending for name in reversed(_ORDER) for ending in _ENDINGS]
    return [directory / name for name in names if (directory / name).exists()] + copies.journal_files(directory)


@contextmanager
def _explained(where: Path) -> Iterator[None]:
    try:
        yield
    except BackupError:
        raise
    except StoreError as error:
        raise BackupError(str(error)) from None
    except VaultError as error:
        raise BackupError(f"{where}: {error}") from None
    except OSError as error:
        raise BackupError(f"{error.filename or where}: {error.strerror or error}") from None


# -- copying ---------------------------------------------------------------------------------------------------------


def _unpack(source: Path, keys_file: Path, manifest: Manifest, directory: Path, progress: Progress) -> None:
    if any(directory.iterdir()):
        raise BackupError(f"{directory}: not empty")
    free_room(directory, sum(one.octets for one in manifest.files), 0)
    for one in manifest.files:
        path = keys_file if one.name == KEYS else source / one.name
        if not path.exists():
            raise BackupError(f"{path}: this file of the backup is missing")
        _copy(path, directory / one.name, one, progress)


def _copy(path: Path, target: Path, expected: Copied, progress: Progress) -> None:
    state, octets = hashlib.sha256(), 0
    handle = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with path.open("rb") as file, os.fdopen(handle, "wb") as copy:
        while piece := file.read(_PIECE):
            copy.write(piece)
            state.update(piece)
            octets += len(piece)
            progress(f"Copying {path.name}", octets / max(1, expected.octets))
    if octets != expected.octets or state.hexdigest() != expected.sha256:
        raise BackupError(f"{path}: not the file that was written: {octets} octets of {expected.octets}, or altered")


# -- checking --------------------------------------------------------------------------------------------------------


def _check(
    directory: Path,
    source: Path,
    kek: Kek,
    id_time: Callable[[int], float],
    block: Callable[[bytes], object],
    progress: Progress,
    journals: Sequence[Path],
    erasures: Sequence[Path],
) -> Checked:
    for name in _ORDER:
        if not copies.intact(directory / name):
            raise BackupError(f"{name} of the backup is damaged")
        progress("Checking files", (_ORDER.index(name) + 1) / 3)
    install, scopes = _open_keys(directory, kek)
    manifest = verify_manifest(source, install.checkpoint.public_key())
    keys = ChainKeys(install.audit, install.checkpoint)
    lines = gather(embedded(directory), install, journals, erasures)
    erased = frozenset(record for line in lines for record in line.ids)
    with LogReader(SqliteRecords(directory), kek) as reader:
        verdict = verify_log(
            reader.records, id_time, keys.public, lambda done: progress("Verifying the log", done), keys, erased
        )
        if not verdict.ok:
            raise BackupError(f"the log of the backup is not sound: {verdict.reason}")
        entries = _check_trail(directory, install, manifest, verdict)
        unreadable = _check_secrets(reader, scopes, erased, manifest, progress)
    store = SqliteStore(
        directory, notify=lambda _call: None, later=lambda _seconds, _call: None, soon=lambda _call: None
    )
    try:
        ring = KeyRing(kek, store.keys)
        store.use(ring)
        for _segment, entry in store.replay():
            block(entry)
        cold: dict[int, int] = {}
        for (kind, _owner), count in store.counts().items():
            cold[kind] = cold.get(kind, 0) + count
        highest = store.highest_id()
    finally:
        store.close()
    _check_cold(directory, ring)
    (directory / "lock").unlink(missing_ok=True)
    last = None if verdict.first is None else id_time(int(manifest.highest_id, 16))
    return Checked(
        manifest=manifest,
        rows=verdict.rows,
        records=verdict.records,
        purged=verdict.purged,
        unreadable=unreadable,
        keys=len(scopes),
        audit_entries=entries,
        first=None if verdict.first is None else id_time(verdict.first),
        last=last,
        highest=highest,
        cold=cold,
        seal=verdict.seal,
        erased=lines,
    )


def _open_keys(directory: Path, kek: Kek) -> tuple[InstallSecrets, frozenset[bytes]]:
    rows = ReadOnlyKeys(directory)
    try:
        install = load_install(kek, rows)  # first: it says whose KEK it is, where it is not this one's
        scopes = set()
        for scope, wrapped in rows.scan(b""):
            kek.unwrap(scope, wrapped)
            scopes.add(scope)
        return install, frozenset(scopes)
    finally:
        rows.close()


def _check_trail(directory: Path, install: InstallSecrets, manifest: Manifest, log: LogVerdict) -> int:
    """How many entries. Whether the log's front was deleted by a purge on it."""
    with AuditTrail(directory / AUDIT, install.audit) as trail:
        verdict = trail.verify((manifest.audit_id, bytes.fromhex(manifest.audit_hash)))
        if not verdict.ok:
            raise BackupError(f"the audit trail of the backup is not sound: {verdict.reason}")
        for fault in anchor_faults(log, trail):
            raise BackupError(fault)
        return verdict.entries


def _check_secrets(
    reader: LogReader, scopes: frozenset[bytes], erased: Collection[int], manifest: Manifest, progress: Progress
) -> int:
    """Counts records of which a part has its key and no secret, and that were not erased; opens one record of each page."""
    lacking, after, done, link = 0, 0, 0, b""
    while page := reader.records.rows(after, _PAGE):
        probe = 0
        for row in page:
            lacking += _lacking(row, reader.records.secrets(row), scopes, erased)
            if row.records:
                probe = read_header(row.records).record_id
        if probe:
            reader.record(probe)
        after, link, done = page[-1].seq, bytes(page[-1].chain), done + len(page)
        progress("Checking secrets", done / max(1, manifest.rows))
    if link.hex() != manifest.chain:
        raise BackupError("the log of the backup does not end where the manifest says")
    return lacking


def _lacking(row: LogRow, secrets: bytes, scopes: frozenset[bytes], erased: Collection[int]) -> int:
    gone = read_purged(row.digests)
    lacking = 0
    for place, packed in zip((p for p in range(row.written) if p not in gone), iter_records(row.records), strict=False):
        head = read_header(packed)
        if head.record_id in erased:
            continue
        at = place * SECRETS_BYTES
        parts = (
            (Part.NUMBERS, head.numbers_gone, head.numbers_period, at),
            (Part.BODY, head.body_gone, head.body_period, at + _HALF),
        )
        lacking += any(
            not erased
            and period is not None
            and period_scope(head.account, part, period) in scopes
            and not any(secrets[begin : begin + _HALF])
            for part, erased, period, begin in parts
        )
    return lacking


def _check_cold(directory: Path, ring: KeyRing) -> None:
    """Every segment that something on its way is sealed under has its key. VaultError otherwise."""
    for segment in copies.cold_segments(directory / DATA):
        ring.segment(segment)


# -- into place ------------------------------------------------------------------------------------------------------


def _record(directory: Path, kek: Kek, checked: Checked, actor: Actor, expired: bool) -> None:
    install = _open_keys(directory, kek)[0]
    manifest = checked.manifest
    what: dict[str, str | int] = {
        "backup": manifest.id,
        "taken": manifest.taken,
        "records": checked.records,
        "highest": manifest.highest_id,
        "unreadable": checked.unreadable,
        "keys_expire": manifest.keys_expire,
        **checkpoint_facts(checked.seal),
    }
    with AuditTrail(directory / AUDIT, install.audit) as trail:
        result = "done, from a copy of keys past its date" if expired else "done"
        trail.append(AuditEvent.RESTORE, actor.who, what, result, source=actor.source)
        head = trail.head()
    # The files are told of each other: they were copied one after another, so none knew where the others would end.
    keys = ChainKeys(install.audit, install.checkpoint)
    _acquaint(directory, keys, checked)
    witness(directory, keys, *head)


def _move_aside(directory: Path, old: list[Path], now: float) -> Path:
    name = f"before-restore-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    # One of this second may be there: of a restore that was killed and is run again.
    aside = next(path for n in count(1) if not (path := directory / (name if n == 1 else f"{name}-{n}")).exists())
    aside.mkdir(mode=0o700)
    for path in old:
        os.rename(path, aside / path.name)
        if path.name == KEYS:
            sync_directory(directory)
    sync_directory(aside)
    sync_directory(directory)
    return aside


def _put(staging: Path, directory: Path) -> None:
    if os.geteuid() == 0:  # restored by root, used by the daemon's user
        owner = directory.stat()
        for path in (*(staging / name for name in (*_ORDER, NAME)), directory / "lock"):
            if path.exists():
                os.chown(path, owner.st_uid, owner.st_gid)
    if (staging / NAME).exists():  # it has all that the one before had, too
        os.replace(staging / NAME, directory / NAME)
    for name in _ORDER:
        if name == KEYS:
            sync_directory(directory)
        os.rename(staging / name, directory / name)
    sync_directory(directory)
