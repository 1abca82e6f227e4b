"""Moves an installation from one store into another: copies everything, compares both, verifies the log there, and says on the
old one that it is over (`store.copying`).

Steps, each of which may be the last before a kill, and from each of which the next call goes on: the source is marked, the
destination is marked, rows are copied in pages, both are compared, the log is verified, the source is marked as over, the
destination is opened.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from smppd.audit.trail import AuditTrail
from smppd.ids import id_time
from smppd.records.consistency import anchor_faults, cross_faults
from smppd.records.erasure_journal import NAME, ErasedIds
from smppd.records.verify import verify_log
from smppd.store.api import StoreError
from smppd.store.copying import Compared, Mark, Progress, Side, What, compare, copy_rows
from smppd.store.installation import AUDIT_FILE, Installation
from smppd.vault.chain import ChainKeys
from smppd.vault.keys import InstallSecrets


class Moved(NamedTuple):
    """rows: how many this call has put; tables: what both sides have; old_faults: what was wrong with the log before, and
    still is; already: an earlier call had done it all."""

    rows: int
    tables: list[Compared]
    old_faults: list[str]
    already: bool = False


def begins(ours: Side, theirs: Side) -> bool:
    """Whether a copy would begin with this call, and not go on. Raises StoreError where it may not: one side has become
    something else, or the destination is not empty."""
    mark, other = ours.read_mark(), theirs.read_mark()
    fresh = mark is None or mark.what is What.HERE
    if mark is not None and mark.what in (What.COMING, What.UNDONE):
        raise StoreError(mark.sentence(ours.name))
    if other is not None and other.what is not What.HERE:
        if fresh or mark is None or other.id != mark.id or other.what is not What.COMING:
            raise StoreError(other.sentence(theirs.name))
        return False
    if mark is not None and mark.what is What.GONE:
        if other is not None and other.id == mark.id:
            return False
        raise StoreError(mark.sentence(ours.name))
    if other is not None or theirs.there():
        raise StoreError(f"{theirs.name}: it is not empty, and no copy of {ours.name} was begun there")
    if not ours.there():
        raise StoreError(f"{ours.name}: there is no store here yet")
    return fresh


def move(
    ours: Side,
    theirs: Side,
    *,
    node: int,
    faults: Callable[[bool], list[str]],
    told: Callable[[], object],
    progress: Progress,
) -> Moved:
    """See the module. Both sides are locked by the caller: no daemon works on them. node: the number that both are configured
    with. faults(there): of the log there, or here. told(): puts it on the audit trail that it is done, once more after a kill.
    Raises StoreError, store.copying.Different, and what these functions raise; the next call goes on."""
    mark, other = ours.read_mark(), theirs.read_mark()
    begins(ours, theirs)
    if mark is not None and mark.what is What.GONE:
        if other is None or other.what is What.HERE:
            return Moved(0, [], [], already=True)
        _open(ours, theirs, mark, told)
        return Moved(0, [], [], already=True)
    with ours.frozen():
        _refuse(ours, node)
        if mark is None or mark.what is not What.LEAVING:
            mark = Mark(What.LEAVING, secrets.token_hex(16), theirs.name)
            ours.write_mark(mark)
        if other is None:
            theirs.write_mark(Mark(What.COMING, mark.id, ours.name))
        theirs.prepare()
        put = copy_rows(ours, theirs, progress)
        tables = compare(ours, theirs, progress)
        progress("verifying the log", 0, 1)
        found = faults(True)
        old = found and faults(False)
        if found != old:
            raise StoreError(f"the log of the copy is not sound: {next(one for one in found if one not in old)}")
        _refuse(ours, node)
        ours.write_mark(Mark(What.GONE, mark.id, theirs.name))
    _open(ours, theirs, mark, told)
    return Moved(put, tables, found)


def _refuse(ours: Side, node: int) -> None:
    for why in ours.refusals():
        raise StoreError(why)
    drawn = sorted(ours.nodes() - {node})
    if drawn:
        raise StoreError(
            f"{ours.name}: records in it were made as node {', '.join(map(str, drawn))}, and `node` is {node} here: set it to"
            " that number in both configurations (a log of several numbers cannot be copied)"
        )


def _open(ours: Side, theirs: Side, mark: Mark, told: Callable[[], object]) -> None:
    told()
    theirs.settle()
    theirs.write_mark(Mark(What.HERE, mark.id, ours.name))


def undo(ours: Side, theirs: Side | None, *, force: bool) -> None:
    """The source counts again, and the copy does not. Both are locked by the caller. theirs: the copy; None where it cannot be
    reached, which takes force, and so does one on which a daemon has worked. StoreError where there is nothing to undo."""
    mark = ours.read_mark()
    if mark is None or mark.what not in (What.LEAVING, What.GONE):
        raise StoreError(f"{ours.name}: it was not copied anywhere: there is nothing to undo")
    other = None if theirs is None else theirs.read_mark()
    if theirs is not None and other is not None and other.id == mark.id:
        if other.what in (What.LEAVING, What.GONE):
            raise StoreError(other.sentence(theirs.name))
        if other.what is What.HERE and theirs.used() and not force:
            raise StoreError(
                f"{theirs.name}: a daemon has worked on it since: what it took would be lost with --undo; copy it back, or"
                " --force"
            )
        theirs.write_mark(Mark(What.UNDONE, mark.id, ours.name))
    elif mark.what is What.GONE and not force:
        raise StoreError(
            f"{mark.other} is the store now: name its configuration with --to-config, so that it is closed; or --force, where"
            " it is no more"
        )
    ours.write_mark(None)


def log_faults(place: Installation, install: InstallSecrets) -> list[str]:
    """What `smppd log verify` finds. Raises StoreError and VaultError."""
    keys = ChainKeys(install.audit, install.checkpoint)
    with AuditTrail(place.directory / AUDIT_FILE, install.audit) as trail:
        with closing(place.states()) as states:
            faults = cross_faults(states, keys, trail)
        with closing(place.records()) as records:
            erased = ErasedIds(place.directory / NAME, keys.public)
            verdict = verify_log(records, id_time, keys.public, None, keys, erased)
        return [*verdict.faults, *faults, *anchor_faults(verdict, trail)]
