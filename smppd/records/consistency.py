"""Compares the three files of a store with each other, and with notes that are kept elsewhere.

data.db, keys.db and audit.db each name a state of the other two, protected by keys. Seals in data.db name the head of the
audit trail. keys.db names the newest seal and an entry of the trail. The trail names seals. So a file that was cut short,
emptied, or replaced by an older copy does not fit the others. If all three are replaced together they do fit: only a note
that is kept on another machine shows that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from smppd.audit.trail import AuditTrail
from smppd.events import AuditEvent
from smppd.records.verify import LogVerdict
from smppd.store.log import States
from smppd.vault.chain import ChainKeys, LogState, Seal, seal_hash
from smppd.vault.seal import SealError

NAMING: Final = (AuditEvent.START, AuditEvent.STOP, AuditEvent.CHECKPOINT, AuditEvent.RESTORE)
"""Entries of the audit trail that name a seal of the log."""


def checkpoint_facts(seal: tuple[int, bytes] | None) -> dict[str, str | int]:
    """What an entry of the audit trail says to name a seal (number, hash)."""
    return {} if seal is None or not seal[0] else {"checkpoint": seal[0], "checkpoint_hash": seal[1].hex()}


def named_seals(trail: AuditTrail) -> list[tuple[int, bytes]]:
    """(number, hash) of the seals that the audit trail names since the last restore of a backup. A restore takes away what
    came after the backup was taken. Raises VaultError."""
    named: list[tuple[int, bytes]] = []
    for entry in trail.entries(events=NAMING):
        if entry.event == AuditEvent.RESTORE:
            named.clear()
        number, digest = entry.what.get("checkpoint"), entry.what.get("checkpoint_hash")
        if isinstance(number, int) and isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest):
            named.append((number, bytes.fromhex(digest)))
    return named


ANCHORS: Final = "anchors"
"""In front of a node's number: name of what a purge remembers of where its log begins (`PurgeRows.remember`), the newest last,
each as `anchor_named` gives it."""


def anchor_named(row: int, chain: bytes, keys: ChainKeys) -> list[str]:
    """Where a log begins since a purge, and what vouches for that: row, chain, MAC, in hexadecimal."""
    return [f"{row:016x}", chain.hex(), keys.purged(row, b"anchor" + chain).hex()]


def anchor_faults(
    verdict: LogVerdict, trail: AuditTrail | None, keys: ChainKeys | None = None, remembered: Sequence[object] = ()
) -> list[str]:
    """Whether the oldest rows of the log were deleted by a purge. trail: None where it is on another machine. keys, remembered:
    what `ANCHORS` has of the node, where there are several."""
    if verdict.anchor is None and verdict.anchor_row is None:
        return []
    if keys is not None and anchor_named(verdict.anchor_row or 0, verdict.anchor or b"", keys) in remembered:
        return []
    row = "" if verdict.anchor_row is None else f"{verdict.anchor_row:016x}"
    anchor = (verdict.anchor or b"").hex()
    for entry in () if trail is None else trail.entries(events=(AuditEvent.PURGE,)):
        if entry.what.get("anchor") == anchor and entry.what.get("row", "") == row:
            return []
    return ["the log's oldest rows were deleted by no purge on the audit trail"]


# -- the files against each other ------------------------------------------------------------------------------------


class _Known(NamedTuple):
    """What was read of the files. None: the file is not there, or there is nothing in it."""

    log: LogState | None = None
    audit: tuple[int, bytes] | None = None
    seal: tuple[Seal, bytes] | None = None


def cross_faults(states: States, keys: ChainKeys, trail: AuditTrail | None) -> list[str]:
    """The faults: what does not fit. Empty where all fits. trail: None where it is on another machine, that of the node
    which is asked about. It works beside a running daemon, since the file that must be ahead of another is read after it.
    Raises StoreError and VaultError where something cannot be read."""
    faults: list[str] = []
    named = named_seals(trail) if trail is not None else []
    before = _keys_side(states, keys, faults)
    data = _log_side(states, keys, faults)
    after = _keys_side(states, keys, [])
    number = data.seal[0].number if data.seal is not None else 0
    if before.log is not None:
        faults += _rolled_back(before.log, data.seal, number)
    if number and after.log is None:
        faults.append("keys.db knows nothing of the log's checkpoints: it was put back to an older copy, or altered")
    elif after.log is not None and after.log.next < number:
        faults.append(
            f"keys.db was put back to an older copy: it knows {after.log.next} checkpoints, data.db has {number}"
        )
    faults += _named_faults(states, named, number)
    if data.audit is not None and (after.audit is None or after.audit[0] < data.audit[0]):
        faults.append("keys.db was put back to an older copy: data.db knows a newer entry of the audit trail")
    if trail is not None and not _begins(trail, before, data, after):
        faults += audit_faults(trail, (before.audit, data.audit, _head_of(data.seal)))
    return list(dict.fromkeys(faults))


def _begins(trail: AuditTrail, *known: _Known) -> bool:
    """Whether nothing was done here yet, as at a further node of a store whose keys were made at another: its trail is empty,
    and the store knows of no entry."""
    return not trail.head()[0] and all(one == _Known() for one in known)


def audit_faults(trail: AuditTrail, known: Iterable[tuple[int, bytes] | None]) -> list[str]:
    """The faults of the trail: it is empty, or lacks entries (id, hash) that are known of it."""
    head = trail.head()[0]
    if not head:
        return ["the audit trail is empty, and `smppd keys init` made its first entry"]
    for entry in known:
        if entry is not None and entry[0]:
            found = trail.hash_of(entry[0])
            if found is None:
                return [
                    f"the audit trail ends with entry {head}, and entry {entry[0]} was in it: it was cut off or put back"
                ]
            if found != entry[1]:
                return [f"entry {entry[0]} of the audit trail is not the one that was there"]
    return []


def _rolled_back(known: LogState, seal: tuple[Seal, bytes] | None, number: int) -> list[str]:
    if number < known.number or (known.closed and number < known.next):
        return [
            f"data.db was cut off or put back to an older copy: it has {number} checkpoints, keys.db knows {known.number}"
        ]
    expected = {known.number: known.digest, known.next: known.next_digest}.get(number)
    if seal is not None and expected is not None and expected != seal[1]:
        return [f"checkpoint {number} is not the one that keys.db knows"]
    return []


def _named_faults(states: States, named: list[tuple[int, bytes]], number: int) -> list[str]:
    over = max((one for one, _digest in named), default=0)
    if over > number:
        return [
            f"data.db was cut off or put back to an older copy: it has {number} checkpoints, the audit trail names {over}"
        ]
    if not named:
        return []
    first = states.first_seal() or 0
    if first > 1 and not states.trimmed():
        return [f"the checkpoints before {first} are missing, and no purge took them out"]
    for one, digest in named:
        signed = states.seal(one)
        # A purge took out the seals below the first one. `verify_log` checks that no other one is missing.
        if one >= first and (signed is None or seal_hash(signed) != digest):
            return [f"checkpoint {one} is not the one that the audit trail names"]
    return []


def _head_of(seal: tuple[Seal, bytes] | None) -> tuple[int, bytes] | None:
    return None if seal is None else (seal[0].audit_id, seal[0].audit_hash)


def _keys_side(states: States, keys: ChainKeys, faults: list[str]) -> _Known:
    log, audit = states.known()
    try:
        return _Known(None if log is None else keys.read_log(log), None if audit is None else keys.read_audit(audit))
    except SealError as error:
        faults.append(str(error))
        return _Known()


def _log_side(states: States, keys: ChainKeys, faults: list[str]) -> _Known:
    newest = states.newest_seal()
    audit = states.audit_head()
    try:
        return _Known(
            audit=None if audit is None else keys.read_audit(audit),
            seal=None if newest is None else (keys.read(newest[1]), seal_hash(newest[1])),
        )
    except SealError as error:
        faults.append(str(error))
        return _Known()


# -- notes -----------------------------------------------------------------------------------------------------------

_NOTE: Final = re.compile(
    r"smppd-note (?P<time>\S+)(?: checkpoint (?P<number>[0-9]{1,18}):(?P<seal>[0-9a-f]{64}))?"
    r"(?: row (?P<row>[0-9a-f]{16}):(?P<chain>[0-9a-f]{64}))? audit (?P<id>[0-9]{1,18}):(?P<hash>[0-9a-f]{64})"
)


class Note(NamedTuple):
    """A state of a store in one line, to be kept on another machine. checkpoint: (number, hash) of a seal; row: (id, chain) of
    a log row; audit: (id, hash) of an entry of the trail."""

    time: str
    checkpoint: tuple[int, bytes] | None
    row: tuple[int, bytes] | None
    audit: tuple[int, bytes]

    def line(self) -> str:
        """The line. It holds no secret."""
        text = f"smppd-note {self.time}"
        if self.checkpoint is not None:
            text += f" checkpoint {self.checkpoint[0]}:{self.checkpoint[1].hex()}"
        if self.row is not None:
            text += f" row {self.row[0]:016x}:{self.row[1].hex()}"
        return f"{text} audit {self.audit[0]}:{self.audit[1].hex()}"


def read_notes(text: str) -> list[Note]:
    """All notes in a text, one a line; other lines are passed over if they are empty or begin with `#`. Raises ValueError for
    any other, and when there is none."""
    notes = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _NOTE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} is no note of smppd")
        got = match.groupdict()
        if got["row"] is not None and int(got["row"], 16) >= 1 << 63:
            raise ValueError(f"line {number} is no note of smppd")
        notes.append(
            Note(
                got["time"],
                None if got["number"] is None else (int(got["number"]), bytes.fromhex(got["seal"])),
                None if got["row"] is None else (int(got["row"], 16), bytes.fromhex(got["chain"])),
                (int(got["id"]), bytes.fromhex(got["hash"])),
            )
        )
    if not notes:
        raise ValueError("there is no note in it")
    return notes


def note_of(states: States, trail: AuditTrail, now: float) -> Note:
    """The state as it is now. now: epoch seconds. Raises StoreError and VaultError."""
    seal = states.newest_seal()
    return Note(
        datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        None if seal is None else (seal[0], seal_hash(seal[1])),
        states.last_row(),
        trail.head(),
    )


def note_faults(states: States, trail: AuditTrail, notes: Iterable[Note]) -> list[str]:
    """What was noted and is not there any more. Raises StoreError and VaultError."""
    return [
        f"noted {note.time}: {fault}"
        for note in notes
        for fault in (*_note_of_log(states, note), *audit_faults(trail, (note.audit,)))
    ]


def _note_of_log(states: States, note: Note) -> list[str]:
    if note.checkpoint is None and note.row is None:
        return []
    if not states.sealed():
        return ["the log is gone, or was put back to an older copy"]
    faults = []
    if note.checkpoint is not None:
        number, digest = note.checkpoint
        first = states.first_seal()
        signed = states.seal(number)
        if signed is None and (first is None or number >= first):
            faults.append(f"checkpoint {number} is not in the log: it was cut off or put back to an older copy")
        elif signed is not None and seal_hash(signed) != digest:
            faults.append(f"checkpoint {number} of the log is another one")
    if note.row is not None:
        seq, chain = note.row
        link = states.link(seq)
        oldest = states.first_row()
        if link is None and (oldest is None or seq >= oldest):
            faults.append(f"log row {seq:016x} is missing")
        elif link is not None and link != chain:
            faults.append(f"log row {seq:016x} is another one")
    return faults
