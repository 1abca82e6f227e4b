"""Compares what was shipped (`audit.shipping`) with the trail and the log, and with itself.

What left the host cannot be changed by somebody on it, and what is on the host not by somebody at the collector. So an edit,
a deletion, a change of order, a cut or an older copy on either side shows. Lines may stand there twice. What a restore took off
the trail, and rows and seals that a purge deleted, are no fault: they are told.
"""

from __future__ import annotations

import gzip
import hmac
import json
import re
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from smppd.audit.shipping import ZERO, Place, milliseconds, stored_what
from smppd.audit.trail import AuditTrail, TrailRow
from smppd.events import AuditEvent
from smppd.store.log import States
from smppd.vault.certificate import fingerprint
from smppd.vault.chain import ChainKeys, Seal, seal_hash
from smppd.vault.seal import DIGEST_BYTES, SealError

FAULTS: Final = 20
"""So many are told one by one."""
_BEGIN: Final = '{"kind":"'
_HALF: Final = re.compile(r'\{"kind":"(audit|seal)","(?:id|number)":([0-9]{1,18}),')
_SLACK_MS: Final = 600_000  # between the copy of the trail in a backup and the time that the backup names
_PAGE: Final = 500


class ShippedLine(NamedTuple):
    """A line that was found. place: `FILE, line N`; file: which of the files, from 0."""

    file: int
    place: str
    facts: dict[str, Any]


class ShippedVerdict(NamedTuple):
    """What was found. lines: how many, doubles included; numbers: which entries or checkpoints; faults: sentences, the first
    twenty one by one; remarks: what is no fault and worth saying."""

    lines: int
    numbers: Set[int]
    faults: list[str]
    remarks: list[str]

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        first, last = min(self.numbers, default=0), max(self.numbers, default=0)
        return {"lines": self.lines, "first": first, "last": last, "faults": self.faults, "remarks": self.remarks}


class Expected(NamedTuple):
    """What is asked for. first: the number that the files must begin with, None for the very first; what is lower is passed
    over. until_ms: what was made before (epoch milliseconds) and was taken by its target must be in them. places: how far each
    target is by the store, None where that is not known."""

    first: int | None
    until_ms: int
    places: Callable[[str], Place | None]


class _Faults:
    def __init__(self) -> None:
        self.told: list[str] = []
        self._more = 0

    def add(self, text: str) -> None:
        if len(self.told) < FAULTS:
            self.told.append(text)
        else:
            self._more += 1

    def all(self) -> list[str]:
        return [*self.told, f"{self._more} more of what was shipped does not fit"] if self._more else self.told


# -- reading ---------------------------------------------------------------------------------------------------------


class Half(NamedTuple):
    """What cannot be read of a line of ours. number: the entry or checkpoint that it was, 0 where that is not in it."""

    place: str
    kind: str
    number: int


def read_shipped(names: Sequence[str], kind: str, halves: list[Half]) -> Iterator[ShippedLine]:
    """The lines of a kind (`audit`, `seal`) in files, `-` for standard input, `.gz` opened too; files in the order of their
    first lines. Lines of others are passed over, and what a syslog server puts before ours. halves gets what cannot be read of
    ours: a syslog server that was killed leaves half of a line, and goes on behind it. OSError."""
    for at, name in enumerate(sorted(names, key=_begins) if len(names) > 1 else names):
        with _opened(name) as file:
            for number, text in enumerate(file, 1):
                place = f"{name}, line {number}"
                begin = text.find(_BEGIN)
                while begin >= 0:
                    facts, end = _facts(text, begin)
                    if facts is None:
                        half = _HALF.match(text, begin)
                        halves.append(Half(place, half[1] if half else "", int(half[2]) if half else 0))
                    elif facts.get("kind") == kind:
                        yield ShippedLine(at, place, facts)
                    elif facts.get("kind") not in ("audit", "seal"):
                        halves.append(Half(place, kind, 0))
                    begin = text.find(_BEGIN, end)


def half_faults(halves: Iterable[Half], kind: str, seen: Container[int]) -> tuple[list[str], list[str]]:
    """(faults, remarks): half of a line is no fault where the same stands whole somewhere."""
    faults: list[str] = []
    remarks: list[str] = []
    for half in halves:
        if half.kind in (kind, ""):
            whole = half.number in seen
            (remarks if whole else faults).append(f"{half.place} is not whole" + ("" if whole else ", or was altered"))
    return faults[:FAULTS], remarks[:FAULTS]


@contextmanager
def _opened(name: str) -> Iterator[IO[str]]:
    if name == "-":
        yield sys.stdin
    elif name.endswith(".gz"):
        with gzip.open(name, "rt", encoding="utf-8", errors="replace") as packed:
            yield packed
    else:
        with Path(name).open(encoding="utf-8", errors="replace") as file:
            yield file


def _begins(name: str) -> tuple[str, str]:
    """When the first line of a file was made."""
    if name == "-":
        return "~", name
    with _opened(name) as file:
        for text in file:
            begin = text.find(_BEGIN)
            facts = _facts(text, begin)[0] if begin >= 0 else None
            if facts is not None and isinstance(facts.get("at"), str):
                return facts["at"], name
    return "", name


def _facts(text: str, begin: int) -> tuple[dict[str, Any] | None, int]:
    """The JSON object that begins there, and where it ends."""
    try:
        facts, end = json.JSONDecoder().raw_decode(text, begin)
    except (ValueError, RecursionError):
        return None, begin + 1
    return (facts, end) if isinstance(facts, dict) else (None, begin + 1)


def _digest(value: object) -> bytes:
    digest = bytes.fromhex(value) if isinstance(value, str) else b""
    if len(digest) != DIGEST_BYTES:
        raise ValueError
    return digest


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 62:
        raise ValueError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


# -- restores --------------------------------------------------------------------------------------------------------


class _Restores:
    """When something may have been shipped that a restore took away afterwards."""

    def __init__(self, trail: AuditTrail) -> None:
        self._spans: list[tuple[int, int]] = []
        for entry in trail.entries(events=(AuditEvent.RESTORE,)):
            try:
                taken = datetime.fromisoformat(str(entry.what.get("taken", "")))
            except ValueError:
                continue
            taken = taken if taken.tzinfo else taken.replace(tzinfo=UTC)
            self._spans.append((int(taken.timestamp() * 1000) - _SLACK_MS, entry.at_ms))
        self.count = 0

    def explain(self, at_ms: int) -> bool:
        """Whether what was made then may have been taken away so; counted."""
        if any(begin <= at_ms <= end for begin, end in self._spans):
            self.count += 1
            return True
        return False

    def remark(self, what: str) -> list[str]:
        return (
            [f"{self.count} {what} were shipped before a backup was restored that did not have them"]
            if self.count
            else []
        )


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Rising numbers as ranges."""
    begin = end = None
    for number in numbers:
        if end is not None and number == end + 1:
            end = number
            continue
        if begin is not None and end is not None:
            yield begin, end
        begin = end = number
    if begin is not None and end is not None:
        yield begin, end


def _named(one: str, many: str, begin: int, end: int) -> str:
    return f"{one} {begin} is" if begin == end else f"{many} {begin} to {end} are"


def _front(what: str, begins: int, first: int, faults: _Faults) -> None:
    if begins > first:
        faults.add(
            f"the shipped lines begin with {what} {begins} and not with {first}: if older files were given up, or shipping"
            f" began then, say --from {begins}"
        )


# -- the trail -------------------------------------------------------------------------------------------------------


class _Seen(NamedTuple):
    hash: bytes
    mac: bytes
    at_ms: int
    file: int


class _Orphan(NamedTuple):
    """A line whose predecessor was not seen before it."""

    place: str
    file: int
    row: TrailRow


def check_audit(
    lines: Iterable[ShippedLine], trail: AuditTrail, keys: ChainKeys | None, key: bytes | None, expected: Expected
) -> ShippedVerdict:
    """Compares shipped entries with the trail. keys, key: without them neither the installation nor the MACs are checked, the
    plain hashes still are. Raises VaultError."""
    faults, restores = _Faults(), _Restores(trail)
    seen: dict[int, list[_Seen]] = {}
    orphans: list[_Orphan] = []
    targets: dict[str, int] = {}
    installation = None if keys is None else fingerprint(keys.public)
    start = 1 if expected.first is None else expected.first
    count = 0
    for file, place, facts in lines:
        try:
            row = _row(facts)
        except (ValueError, KeyError):
            faults.add(f"{place}: an entry that smppd never writes so")
            continue
        if row.id < start:
            continue
        count += 1
        target = str(facts.get("target"))[:40]
        targets[target] = max(targets.get(target, 0), row.id)
        if installation is not None and facts.get("installation") != installation:
            faults.add(f"{place}: entry {row.id} is of another installation")
            continue
        before = seen.get(row.id - 1)
        if before is None:
            orphans.append(_Orphan(place, file, row))
        elif not any(_follows(row, one, key) for one in before):
            faults.add(f"{place}: entry {row.id} was altered, or does not follow the one before")
            continue
        listed = seen.setdefault(row.id, [])
        if all(one.hash != row.hash for one in listed):
            listed.append(_Seen(row.hash, row.mac, row.at_ms, file))
    if not seen:
        faults.add("there is no shipped entry of the audit trail")
        return ShippedVerdict(count, set(), faults.all(), [])
    for orphan in orphans:
        number = orphan.row.id
        before = seen.get(number - 1)
        if before is not None and number > start and any(one.file == orphan.file for one in before):
            faults.add(f"{orphan.place}: entry {number} stands before entry {number - 1}: the order was changed")
        before = before or _on_trail(trail, number - 1)
        if before and not any(_follows(orphan.row, one, key) for one in before):
            faults.add(f"{orphan.place}: entry {number} was altered, or does not follow the one before")
    first, last = min(seen), max(seen)
    _front("entry", first, start, faults)
    missing, owed = _walk_trail(seen, first, last, trail, restores, expected, targets, faults)
    for begin, end in _ranges(missing):
        faults.add(f"{_named('entry', 'entries', begin, end)} on the trail and not among what was shipped")
    remarks = restores.remark("entries")
    for target, newest in targets.items():
        place_of = expected.places(target)
        if place_of is None:
            remarks.append(f"how far target {target} is is not known here: a cut at its end would not be seen")
        elif owed.get(target, 0) > newest:
            faults.add(
                f"what was shipped to {target} ends with entry {newest}, and it had taken entry {owed[target]} by then: its"
                " end is missing"
            )
    return ShippedVerdict(count, seen.keys(), faults.all(), remarks)


def _walk_trail(
    seen: Mapping[int, list[_Seen]],
    first: int,
    last: int,
    trail: AuditTrail,
    restores: _Restores,
    expected: Expected,
    targets: Iterable[str],
    faults: _Faults,
) -> tuple[list[int], dict[str, int]]:
    """Goes over the trail once: which entries were not shipped, and what each target must have."""
    places = {target: expected.places(target) for target in targets}
    owed: dict[str, int] = {}
    missing: list[int] = []
    found, number = 0, first - 1
    while rows := trail.rows_after(number, _PAGE):
        for row in rows:
            for gone in range(number + 1, min(row.id, last + 1)) if row.id > number + 1 else ():
                _absent(gone, seen, restores, faults, f"entry {gone} was shipped and is missing on the trail")
            number = row.id
            listed = seen.get(number)
            if listed is not None:
                same = any(one.hash == row.hash for one in listed)
                found = number if same else found
                others = [one for one in listed if one.hash != row.hash]
                if not all(restores.explain(one.at_ms) for one in others):
                    faults.add(
                        f"entry {number} was shipped in two forms"
                        if same
                        else f"entry {number} on the trail is not the one that was shipped: it was altered, or put back"
                    )
                    continue
                if not same:
                    missing.append(number)
            elif number <= last:
                missing.append(number)
            for target, place in places.items():
                if place is not None and number <= place.sure.audit and row.at_ms < expected.until_ms:
                    owed[target] = number
    cut = [gone for gone in seen if gone > number and not all(restores.explain(one.at_ms) for one in seen[gone])]
    if cut:
        faults.add(
            f"the trail ends with entry {number}, and entry {max(cut)} was shipped: it was cut off or put back to an older copy"
        )
    # What a restore took away may have had higher numbers than what was shipped since.
    return [one for one in missing if one <= found], owed


def _absent(number: int, seen: Mapping[int, list[_Seen]], restores: _Restores, faults: _Faults, text: str) -> None:
    listed = seen.get(number)
    if listed is not None and not all(restores.explain(one.at_ms) for one in listed):
        faults.add(text)


def _row(facts: dict[str, Any]) -> TrailRow:
    return TrailRow(
        _number(facts["id"]),
        milliseconds(_text(facts["at"])),
        _text(facts["event"]),
        _text(facts["who"]),
        _text(facts["source"]),
        stored_what(facts["what"]),
        _text(facts["result"]),
        _digest(facts["hash"]),
        _digest(facts["mac"]),
    )


def _follows(row: TrailRow, before: _Seen, key: bytes | None) -> bool:
    if not hmac.compare_digest(row.hash_after(before.hash), row.hash):
        return False
    return key is None or hmac.compare_digest(row.mac_after(key, before.mac), row.mac)


def _on_trail(trail: AuditTrail, number: int) -> list[_Seen]:
    if not number:
        return [_Seen(ZERO, ZERO, 0, -1)]
    rows = trail.rows_after(number - 1, 1)
    return [_Seen(rows[0].hash, rows[0].mac, rows[0].at_ms, -1)] if rows and rows[0].id == number else []


# -- the seals -------------------------------------------------------------------------------------------------------


def check_seals(
    lines: Iterable[ShippedLine], states: States, keys: ChainKeys, trail: AuditTrail, expected: Expected
) -> ShippedVerdict:
    """Compares shipped seals with the log and with the trail that they name. Raises StoreError and VaultError."""
    faults, restores = _Faults(), _Restores(trail)
    seen: dict[int, dict[bytes, Seal]] = {}
    files: dict[bytes, int] = {}  # the file in which a seal of this hash stands first
    orphans: dict[bytes, tuple[str, int, int]] = {}
    targets: dict[str, int] = {}
    installation = fingerprint(keys.public)
    start = 1 if expected.first is None else expected.first
    count = 0
    for file, place, facts in lines:
        try:
            number, signed = _number(facts["number"]), bytes.fromhex(_text(facts["signed"]))
            at_ms, digest = milliseconds(_text(facts["at"])), _digest(facts["hash"])
        except (ValueError, KeyError):
            faults.add(f"{place}: a checkpoint that smppd never writes so")
            continue
        if number < start:
            continue
        count += 1
        target = str(facts.get("target"))[:40]
        targets[target] = max(targets.get(target, 0), number)
        if facts.get("installation") != installation:
            faults.add(f"{place}: checkpoint {number} is of another installation")
            continue
        try:
            seal = keys.read(signed)
        except SealError as error:
            faults.add(f"{place}: checkpoint {number}: {error}")
            continue
        if (seal.number, seal.time_ms, seal_hash(signed)) != (number, at_ms, digest):
            faults.add(f"{place}: checkpoint {number} was altered")
            continue
        if seal.previous != ZERO and seal.previous not in files and number > start and digest not in files:
            orphans[seal.previous] = (place, file, number)
        files.setdefault(digest, file)
        seen.setdefault(number, {})[digest] = seal
    if not seen:
        faults.add("there is no shipped checkpoint of the log")
        return ShippedVerdict(count, set(), faults.all(), [])
    for previous, (place, file, number) in orphans.items():
        if files.get(previous) == file:
            faults.add(f"{place}: checkpoint {number} stands before the one that it follows: the order was changed")
        elif previous not in files and number != min(seen):
            faults.add(f"{place}: the checkpoint that {number} follows is not among what was shipped")
    first = min(seen)
    _front("checkpoint", first, start, faults)
    owed = _walk_seals(seen, states, keys, trail, restores, expected, targets, faults)
    remarks = restores.remark("checkpoints")
    oldest = states.first_seal()
    if oldest is not None and first < oldest:
        remarks.append(f"checkpoints below {oldest} were shipped, and a purge took them out of the log since")
    for target, newest in targets.items():
        if expected.places(target) is None:
            remarks.append(f"how far target {target} is is not known here: a cut at its end would not be seen")
        elif owed.get(target, 0) > newest:
            faults.add(
                f"what was shipped to {target} ends with checkpoint {newest}, and it had taken checkpoint {owed[target]} by"
                " then: its end is missing"
            )
    return ShippedVerdict(count, seen.keys(), faults.all(), remarks)


def _walk_seals(
    seen: Mapping[int, Mapping[bytes, Seal]],
    states: States,
    keys: ChainKeys,
    trail: AuditTrail,
    restores: _Restores,
    expected: Expected,
    targets: Iterable[str],
    faults: _Faults,
) -> dict[str, int]:
    places = {target: expected.places(target) for target in targets}
    owed: dict[str, int] = {}
    first, last = min(seen), max(seen)
    oldest = states.first_seal()
    newest = states.newest_seal()
    end = 0 if newest is None else newest[0]
    missing: list[int] = []
    kept: dict[int, bytes] = {}
    number = first - 1
    while page := states.seals_after(number, _PAGE):
        for number, signed in page:
            kept[number] = seal_hash(signed)
            if number <= last and kept[number] not in seen.get(number, {}):
                missing.append(number)
            for target, place in places.items():
                if place is not None and number <= place.sure.seal and _made(keys, signed) < expected.until_ms:
                    owed[target] = number
    found = max((one for one, digest in kept.items() if digest in seen.get(one, {})), default=0)
    different = set()
    for one, forms in sorted(seen.items()):
        for digest, seal in forms.items():
            if kept.get(one) == digest:
                _rest_of(seal, states, trail, faults)
            elif oldest is not None and one < oldest:
                continue  # a purge took it out
            elif not restores.explain(seal.time_ms):
                different.add(one)
                if one > end:
                    continue
                faults.add(
                    f"checkpoint {one} of the log is not the one that was shipped: it was altered, or put back"
                    if one in kept
                    else f"checkpoint {one} was shipped and is missing in the log"
                )
    cut = [one for one in different if one > end]
    if cut:
        faults.add(
            f"the log ends with checkpoint {end}, and {max(cut)} was shipped: it was cut off or put back to an older copy"
        )
    # What a restore took away may have had higher numbers than what was shipped since.
    for begin, until in _ranges(one for one in missing if one <= found and one not in different):
        faults.add(f"{_named('checkpoint', 'checkpoints', begin, until)} in the log and not among what was shipped")
    return owed


def _made(keys: ChainKeys, signed: bytes) -> int:
    """When a seal was made; never where it was altered, which `log verify` tells anyway."""
    try:
        return keys.read(signed).time_ms
    except SealError:
        return 1 << 62


def _rest_of(seal: Seal, states: States, trail: AuditTrail, faults: _Faults) -> None:
    """What a seal says of the log and of the trail must still be so."""
    if seal.seq:
        link = states.link(seal.seq)
        if link is None:
            oldest = states.first_row()
            if not states.trimmed() or (oldest is not None and seal.seq >= oldest):
                faults.add(f"log row {seal.seq:016x}, which checkpoint {seal.number} covers, is missing")
        elif link != seal.chain:
            faults.add(f"log row {seal.seq:016x} is not the one that checkpoint {seal.number} was made of")
    if seal.audit_id and trail.hash_of(seal.audit_id) != seal.audit_hash:
        faults.add(f"entry {seal.audit_id} of the audit trail is not the one that checkpoint {seal.number} names")
