"""What was erased stays erased, whatever is restored: the erasure journal beside each backup, and its replay on a restored
copy.

A backup holds what was erased after it was taken. So each erasure puts the newest journal beside every backup that is known and
can be reached, and a restore erases again, before the copy is put in place, what any journal names that it is given: the one
beside the backup, the one of the store that it replaces, and copies of it from elsewhere, such as the audit trail that was
shipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from smppd.audit.trail import Actor, AuditTrail
from smppd.backup.manifest import AUDIT, MANIFEST, BackupError, Manifest
from smppd.durable import replace_file, sync_directory
from smppd.events import AuditEvent
from smppd.records.erasure import BACKUPS, CLOSING, DONE, STATE, WAY_HELD, Eraser, Floor, HoldsRecords, no_floor, utc
from smppd.records.erasure_journal import (
    CONSENT,
    NAME,
    REPLIES,
    ErasureJournal,
    JournalError,
    Line,
    check_line,
    missing_lines,
    of_trail,
    read_journal,
    write_lines,
)
from smppd.records.holds import Holds
from smppd.store.erasures import ErasureRows
from smppd.store.installation import Installation
from smppd.vault.documents import DocumentSealer
from smppd.vault.kek import Kek
from smppd.vault.keys import InstallSecrets, KeyRing

_SOME: Final = 200
_KNOWN: Final = 1000
"""Backups that are remembered."""


class Replayed(NamedTuple):
    """erasures: requests that were done again; records: of them, in the restored copy; others: consents, and senders remembered
    for replies, that were removed again. until: ISO 8601, up to when erasures are
    known; empty where no journal was found. queued: records that a hold or a floor keeps in the copy; held: ids of those that
    a hold keeps: then what belongs to them on its way is kept too."""

    erasures: int = 0
    records: int = 0
    until: str = ""
    queued: int = 0
    held: frozenset[int] = frozenset()
    others: int = 0


# -- beside backups ----------------------------------------------------------------------------------------------------


def copy_journal(store: Path, target: Path) -> bool:
    """Puts the store's journal into a directory, whole or not at all, and in the place of an older one; False where there is
    none yet. It is synced when this returns. OSError."""
    try:
        data = (store / NAME).read_bytes()
    except FileNotFoundError:
        return False
    replace_file(target / NAME, data)
    return True


def remember_backup(rows: ErasureRows, manifest: Manifest, directory: Path, keys: Path) -> None:
    """Writes down where a backup went and until when the copy of its keys is kept: later erasures have to reach it."""
    known: list[dict[str, str]] = rows.remembered(BACKUPS, [])
    one = {
        "id": manifest.id,
        "directory": str(directory.resolve()),
        "keys": str(keys.resolve()),
        "taken": manifest.taken,
        "keys_expire": manifest.keys_expire,
    }
    rows.remember({BACKUPS: [*known, one][-_KNOWN:]})


def spread(rows: ErasureRows, store: Path) -> tuple[list[str], list[str]]:
    """Puts the newest journal beside each known backup; (directories that have it, those that could not be reached)."""
    known: list[dict[str, str]] = rows.remembered(BACKUPS, [])
    reached: list[str] = []
    missed: list[str] = []
    for one in known:
        target = Path(one["directory"])
        try:
            there = _is_backup(target, one["id"]) and copy_journal(store, target)
        except OSError:
            there = False
        (reached if there else missed).append(str(target))
    return reached, missed


def _is_backup(target: Path, backup: str) -> bool:
    try:
        facts = json.loads((target / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and facts.get("id") == backup


# -- reading -----------------------------------------------------------------------------------------------------------


def read_erasures(path: Path, install: InstallSecrets) -> list[Line]:
    """Lines of a file that somebody gives: an erasure journal, or entries of the audit trail as JSON lines, of which those
    about erasures count. BackupError where one was altered or is another installation's."""
    key = install.checkpoint.public_key()
    try:
        begins = path.read_bytes()[: 1 << 16].lstrip()[:1]
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}") from None
    try:
        if begins == b"{" and b'"event"' in path.read_bytes().split(b"\n", 1)[0]:
            return list(_of_entries(path, install))
        lines = read_journal(path, key)
    except JournalError as error:
        raise BackupError(str(error)) from None
    if not lines:
        raise BackupError(f"{path}: neither an erasure journal nor entries of an audit trail")
    return lines


def _of_entries(path: Path, install: InstallSecrets) -> Iterable[Line]:
    key = install.checkpoint.public_key()
    for number, text in enumerate(path.read_bytes().split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            entry = json.loads(text)
            event, what = entry["event"], entry["what"]
        except (ValueError, KeyError, TypeError):
            raise BackupError(f"{path}: line {number} is no entry of an audit trail") from None
        if event == AuditEvent.ERASURE and isinstance(what, dict) and "signature" in what:
            line = of_trail(what)
            check_line(line, key, str(path))
            yield line


def gather(place: Installation, install: InstallSecrets, journals: Sequence[Path], given: Sequence[Path]) -> list[Line]:
    """All lines that are known of a restored copy, one of each request's parts, in order. journals: files that may be there;
    given: files that must be. BackupError where one does not verify, or the copy names a line that none of them has."""
    key = install.checkpoint.public_key()
    found: dict[str, Line] = {}
    try:
        for path in journals:
            found.update((line.signature, line) for line in read_journal(path, key))
        for path in given:
            found.update((line.signature, line) for line in read_erasures(path, install))
        lines = sorted(found.values(), key=lambda line: (line.line, line.at))
        rows = place.erasures()
        try:
            faults = missing_lines_of(lines, rows)
        finally:
            rows.close()
    except JournalError as error:
        raise BackupError(str(error)) from None
    if faults:
        raise BackupError(
            f"{faults[0]}; the journal lies beside the backup, or give a copy with --erasures (the journal, or the audit trail)"
        )
    return lines


def missing_lines_of(lines: Sequence[Line], rows: ErasureRows) -> list[str]:
    """As `missing_lines`, of the requests in a copy."""
    by_number = {}
    for number, facts in rows.erasures():
        if not facts.get("restored"):
            by_number[number] = facts
    wanted = {facts["journal"]["digest"] for facts in by_number.values() if "journal" in facts}
    return [] if wanted <= {line.digest for line in lines} else missing_lines(lines, by_number.items())


# -- replaying ---------------------------------------------------------------------------------------------------------


def open_eraser(
    store: Installation,
    kek: Kek,
    install: InstallSecrets,
    trail: AuditTrail,
    *,
    holds: HoldsRecords | None = None,
    floor: Floor = no_floor,
    region: Callable[[str], str | None] = lambda _account: None,
    way: Callable[[int, Sequence[int]], bool] = lambda _number, _records: True,
) -> tuple[Eraser, ErasureRows]:
    """An eraser on a store, and its rows, closed with it. holds, floor, region, way: see `Eraser`."""
    rows = store.erasures()
    keys = store.read_only_keys()
    journal = ErasureJournal(store.directory / NAME, install.checkpoint)
    eraser = Eraser(
        rows,
        store.directory,
        install,
        KeyRing(kek, keys),
        trail=trail,
        journal=journal,
        holds=holds,
        floor=floor,
        region=region,
        way=way,
        closed=keys.close,
    )
    return eraser, rows


def replay_erasures(
    place: Installation,
    kek: Kek,
    install: InstallSecrets,
    lines: Sequence[Line],
    now: float,
    actor: Actor,
    *,
    floor: Floor = no_floor,
) -> Replayed:
    """Erases again, in a restored copy that is not in use yet, what lines of journals name. The copy's own journal and its
    audit trail have them then. What a hold keeps that the copy knows of stays, and is queued. Raises StoreError and VaultError:
    then the copy must not be used."""
    if not lines:
        return Replayed()
    _own(lines, place.directory / NAME, install)
    with AuditTrail(place.directory / AUDIT, install.audit) as trail, closing(_holds_of(place, kek, install)) as holds:
        eraser, rows = open_eraser(place, kek, install, trail, holds=holds, floor=floor)
        with eraser:
            told = {entry.what.get("signature") for entry in trail.entries(events=(AuditEvent.ERASURE,))}
            numbers: dict[int, str] = {}
            for line in lines:
                numbers.setdefault(line.erasure, line.at)
                if line.signature not in told:
                    what = {"reason": "restore", **line.for_trail()}
                    trail.append(AuditEvent.ERASURE, actor.who, what, "done again at a restore", source=actor.source)
            for number, at in numbers.items():
                facts = {STATE: DONE, "at": at, "who": actor.who, "source": actor.source, "restored": True}
                rows.restore_erasure(number, facts)
            for line in lines:
                rows.list_records(line.erasure, line.ids)
            done = eraser.run(now)
            queued = sum(rows.left(number)[0] for number in numbers)
            held: set[int] = set()
            for number in numbers:
                kept = rows.holds_of(number)
                if kept:  # a purge goes on with the request when they are over, on its way too
                    held |= {one.record for one in eraser.listed(number) if one.parts and one.hold}
                    rows.note_erasure(
                        number, {STATE: CLOSING, WAY_HELD: sorted(kept), "certified": rows.left(number)[0]}
                    )
            if not done.complete:
                raise BackupError(
                    f"{place.name}: what was erased again can still be found, since somebody was reading it: try again"
                )
    others = _remove_others(place, {one for line in lines for one in line.others})
    return Replayed(len(numbers), done.records, max(line.at for line in lines), queued, frozenset(held), others)


def _remove_others(place: Installation, others: Iterable[str]) -> int:
    named = sorted(others)
    digests = [bytes.fromhex(one[1:]) for one in named if one.startswith(CONSENT)]
    with closing(place.consents()) as consents:
        removed = 0
        for at in range(0, len(digests), _SOME):
            removed += consents.remove([row.number for row in consents.named(digests[at : at + _SOME])])
    keys = [bytes.fromhex(one[1:]) for one in named if one.startswith(REPLIES)]
    with closing(place.erasures()) as rows:
        return removed + (rows.forget_replies(keys) if keys else 0)


def _holds_of(store: Installation, kek: Kek, install: InstallSecrets) -> Holds:
    keys = store.keys()
    try:
        ring = KeyRing(kek, keys)  # for holds' keys alone, which go by the held rows
    finally:
        keys.close()
    return Holds(store.documents(), store.held(), ring, DocumentSealer(install))


def _own(lines: Sequence[Line], path: Path, install: InstallSecrets) -> None:
    """Makes the journal of a restored copy: the longest of the journals as it is, and behind it anew what only others have. It
    takes the place of the one that is there when it is whole."""
    made = path.with_name(f"{path.name}.new")
    journal = ErasureJournal(made, install.checkpoint)
    made.unlink(missing_ok=True)
    chain: list[Line] = []
    previous = {line.previous: line for line in lines}
    by_start = [line for line in lines if line.line == 1]
    if by_start:
        chain = _chain(by_start[0], previous)
    write_lines(made, [], chain)
    kept = {line.signature for line in chain}
    for line in lines:
        if line.signature not in kept:
            journal.append(line.erasure, line.ids, line.at, line.others)
    made.replace(path)
    sync_directory(path.parent)


def _chain(first: Line, following: dict[str, Line]) -> list[Line]:
    chain = [first]
    while (line := following.get(chain[-1].digest)) is not None:
        chain.append(line)
    return chain


def known_until(lines: Sequence[Line], replaced: bool, now: float) -> str:
    """Up to when erasures are known: now where the store itself was there."""
    if replaced:
        return utc(now)
    return max((line.at for line in lines), default="")
