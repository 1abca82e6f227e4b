"""What `smppd restore` does where the store is a database: PostgreSQL's own tools have put an older copy of it back, and it is
made one that a daemon may work on.

What was erased since is erased again, as far as the erasure journal of this machine, or one that is given, says so. Messages
that were on their way are marked, since they may have been sent meanwhile; short ids that may have been given out are skipped.
All of it may be done again: a kill costs nothing but time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from smppd.audit.trail import Actor, AuditTrail
from smppd.backup.erasures import Replayed, gather, known_until, replay_erasures
from smppd.backup.manifest import AUDIT
from smppd.backup.restore import SHORT_IDS_A_SECOND
from smppd.events import AuditEvent
from smppd.ids import id_time
from smppd.records.erasure import Floor, no_floor
from smppd.records.erasure_journal import NAME
from smppd.store.installation import Installation
from smppd.vault.chain import ChainKeys
from smppd.vault.keys import InstallSecrets, Kek, load_install


class Settled(NamedTuple):
    """erasures: what was erased again; known_until: ISO 8601, up to when erasures are known, empty where there was no journal;
    underway: what was taken out of what is on its way; highest: the highest id in the copy, 0 for none; skipped: short ids."""

    erasures: Replayed
    known_until: str
    underway: Mapping[str, int]
    highest: int
    skipped: int


def settle(
    place: Installation,
    kek: Kek,
    *,
    now: float,
    actor: Actor,
    erasures: Sequence[Path] = (),
    replay: Callable[[Collection[int]], Mapping[str, int]] = lambda _ids: {},
    floor: Floor = no_floor,
) -> Settled:
    """See the module. now: epoch seconds. erasures: files that must be, beside the journal of this machine, which may be.
    replay(ids): takes what is on its way and belongs to these records out of the store, and counts it. floor: what must be kept
    in spite of an erasure. Raises StoreError, VaultError, OSError and BackupError: then it must not be used yet."""
    lock = place.lock()
    try:
        install = _install(place, kek)
        lines = gather(place, install, [place.directory / NAME], erasures)
        replayed = replay_erasures(place, kek, install, lines, now, actor, floor=floor)
        with closing(place.records()) as records:
            highest = (records.bounds() or (0, 0))[1]
        skipped = int(max(0.0, now - id_time(highest)) * SHORT_IDS_A_SECOND) if highest else 0
        place.restored(highest, skipped)
        with AuditTrail(place.directory / AUDIT, install.audit) as trail:
            what: dict[str, str | int] = {
                "store": place.name,
                "highest": f"{highest:016x}",
                "records": replayed.records,
            }
            trail.append(AuditEvent.RESTORE, actor.who, what, "done", source=actor.source)
            head = trail.head()
        place.witness(ChainKeys(install.audit, install.checkpoint), *head)
    finally:
        lock.release()
    ids = frozenset(record for line in lines for record in line.ids) - replayed.held
    underway = replay(ids) if ids else {}
    return Settled(replayed, known_until(lines, False, now), underway, highest, skipped)


def _install(place: Installation, kek: Kek) -> InstallSecrets:
    with closing(place.read_only_keys()) as keys:
        return load_install(kek, keys)
