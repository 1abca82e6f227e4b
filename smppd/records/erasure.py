"""Erases records by their ids: journal first, then their secrets, then what these opened, then their blind indexes.

What is to be erased is put down in the store and in the signed journal (`records.erasure_journal`), and on the audit trail,
before anything is destroyed. From then on whoever comes next finishes it: the command, the daemon's purge, any purge by hand.
Each step covers a few rows and is compared with what was read, so several may be at it, and a kill at any moment loses nothing.

The digests of erased records stay, so the chain verifies. A record that a hold keeps, or a floor, is left as it is and erased
when that is over. Its body needs its numbers to be opened, so where the body has to be kept the numbers are too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, Self

from smppd.audit.trail import Actor, AuditTrail
from smppd.events import AuditEvent
from smppd.numbering import normalise
from smppd.records.erasure_journal import ErasureJournal, Line, give_to_owner
from smppd.records.segments import number_bucket, without
from smppd.store.erasures import BODY, INDEX, NUMBERS, Erased, ErasureRows, Stripped
from smppd.store.log import LogRow, read_purged
from smppd.vault import certificate
from smppd.vault.keys import InstallSecrets, KeyRing, Part
from smppd.vault.seal import (
    SECRETS_BYTES,
    Content,
    RecordHeader,
    SealError,
    erase,
    erase_body,
    iter_records,
    open_record,
    read_header,
)

CERTIFICATES: Final = "certificates"
"""The directory of certificates, in the store's."""
BACKUPS: Final = "backups"
"""Name of what is known of backups (`PurgeRows.remember`): a list of `{id, directory, keys, taken, keys_expire}`."""
COPIES_LAST: Final = 30 * 86400.0
"""Seconds for which a copy of the keys may be kept that this store knows nothing of."""
STATE: Final = "state"
LISTING, OPEN, CLOSING, DONE = "listing", "open", "closing", "done"
"""Where a request stands: its records are being put down; they are in the journal and may be erased; no more will come; all are
erased, or wait for a hold or a floor to end and then are."""

WAY_HELD: Final = "way_held"
"""Name in a request of the numbers of holds that keep some of what was on its way."""

OTHERS: Final = "others"
"""Name in a request of the keyed hashes of what no record speaks of (`erasure_journal.Line`)."""

INTERRUPTED: Final = "interrupted"
"""Name in a request of whether the command was killed, so that nobody knows what of what was on its way was taken out."""

_RECORDS: Final = 64
_PIECES: Final = 16
_HALF: Final = SECRETS_BYTES // 2
_ZERO: Final = bytes(_HALF)
_TRIES: Final = 40


Floor = Callable[[str, Part, float], float]
"""floor(account, part, accepted): epoch seconds before which a part of a record must be kept; 0 for none."""


def no_floor(_account: str, _part: Part, _accepted: float) -> float:
    """Where nothing must be kept."""
    return 0.0


class HoldsRecords(Protocol):
    """What holds records back from being erased."""

    def holding(self, record_id: int, account: str, accepted_ms: int, forms: Collection[bytes]) -> int:
        """The hold that keeps a record, 0 for none. forms: its numbers as they are indexed; empty where they cannot be read."""

    def in_force(self) -> Collection[int]:
        """The numbers of all holds in force."""


class NothingHeld:
    """Where there are no holds."""

    def holding(self, _record_id: int, _account: str, _accepted_ms: int, _forms: Collection[bytes]) -> int:
        """None."""
        return 0

    def in_force(self) -> Collection[int]:
        """None."""
        return ()


class Progress(NamedTuple):
    """What an eraser has done so far. records: stripped of something; secrets: overwritten, by parts; pieces: segments of the
    index that were rewritten. complete: nothing of what was erased can be found in what lies beside the rows."""

    records: int = 0
    secrets: int = 0
    pieces: int = 0
    complete: bool = True


class _Place(NamedTuple):
    row: LogRow
    place: int
    packed: bytes
    head: RecordHeader


def utc(at: float) -> str:
    """Epoch seconds as ISO 8601."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Eraser:
    """Erases in one store, beside the daemon or inside it. For one thread."""

    def __init__(
        self,
        rows: ErasureRows,
        directory: Path,
        install: InstallSecrets,
        ring: KeyRing,
        *,
        trail: AuditTrail,
        journal: ErasureJournal,
        holds: HoldsRecords | None = None,
        floor: Floor = no_floor,
        region: Callable[[str], str | None] = lambda _account: None,
        way: Callable[[int, Sequence[int]], bool] = lambda _number, _records: True,
        closed: Callable[[], object] = lambda: None,
    ) -> None:
        """rows: the log, closed with this. directory: the store's, for certificates. ring: opens what a hold may be about.
        holds: None where nothing is ever held. floor: see `Floor`. region(account): of its national numbers.
        way(number, records): takes out of what is on its way what belongs to records of a request, after the holds that kept
        it are over; False where that lasts, then it is asked again. closed: called when this is."""
        self.rows = rows
        self._closed = closed
        self.journal = journal
        self._directory = directory
        self._install = install
        self._ring = ring
        self._trail = trail
        self._holds: HoldsRecords = holds or NothingHeld()
        self._floor = floor
        self._region = region
        self._way = way
        self._over = 0
        """Requests up to this number are done."""
        self._unclean = False
        self._buckets: dict[int, tuple[int, frozenset[int]]] = {}
        self.progress = Progress()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the log."""
        self.rows.close()
        self._closed()

    # -- putting it down -----------------------------------------------------------------------------------------------

    def begin(self, now: float, actor: Actor, facts: Mapping[str, Any]) -> int:
        """Puts a request down; its number. facts: reason, note, what it is limited to; nothing of a person. actor: on whose
        word, and from where."""
        given = {STATE: LISTING, "at": utc(now), "who": actor.who, "source": actor.source}
        return self.rows.begin_erasure({**given, **facts})

    def list_records(self, number: int, records: Mapping[int, str]) -> int:
        """Puts records (id -> account) down; how many of them were not known to any request. Within `ErasureJournal.alone`."""
        self.rows.note_erasure(number, {STATE: LISTING})
        return self.rows.list_records(number, sorted(records))

    def list_others(self, number: int, others: Iterable[str]) -> None:
        """Puts down what no record speaks of, as a line of the journal names it. Within `ErasureJournal.alone`."""
        before: list[str] = (self.rows.erasure(number) or {}).get(OTHERS, [])
        self.rows.note_erasure(number, {STATE: LISTING, OTHERS: list(dict.fromkeys([*before, *others]))})

    def declare(self, number: int) -> None:
        """Writes what is put down into the journal and onto the audit trail, as far as it is not there. From now on it may be
        destroyed. Within `ErasureJournal.alone`. Raises StoreError and VaultError: then nothing may be."""
        facts = self.rows.erasure(number) or {}
        lines = [line for line in self.journal.lines() if line.erasure == number]
        known = {record for line in lines for record in line.ids}
        new = [one.record for one in self.listed(number) if one.record not in known]
        named = {other for line in lines for other in line.others}
        others = [one for one in facts.get(OTHERS, ()) if one not in named]
        lines += self.journal.append(number, new, facts["at"], others) if new or others else []
        told = self._on_trail(number) if lines else frozenset()
        for line in lines:
            if line.line not in told:
                what = {"reason": facts.get("reason", ""), "note": facts.get("note", ""), **line.for_trail()}
                self._trail.append(AuditEvent.ERASURE, facts["who"], what, "journal", source=facts["source"])
        noted: dict[str, Any] = {STATE: OPEN}
        if lines:
            noted["journal"] = {"line": lines[-1].line, "digest": lines[-1].digest}
        self.rows.note_erasure(number, noted)

    def finish_listing(self, number: int, facts: Mapping[str, Any]) -> None:
        """No more records will come. facts: what is to stand in the certificate beside what is known of the records."""
        self.rows.note_erasure(number, {**facts, STATE: CLOSING})

    def listed(self, number: int) -> Iterator[Erased]:
        """The records of a request."""
        after = 0
        while page := self.rows.listed(number, after, 1000):
            yield from page
            after = page[-1].record

    def _on_trail(self, number: int) -> frozenset[int]:
        entries = self._trail.entries(events=(AuditEvent.ERASURE,))
        return frozenset(
            int(entry.what["line"])
            for entry in entries
            if entry.what.get("erasure") == number and isinstance(entry.what.get("line"), int)
        )

    # -- doing it ------------------------------------------------------------------------------------------------------

    def step(self, now: float) -> bool:
        """Does a little; False when nothing is left to do now. Raises StoreError and VaultError; nothing is half done then, and
        the next call goes on."""
        asked = self.rows.erasures(self._over)
        waiting = [(number, facts) for number, facts in asked if facts.get(STATE) != DONE]
        if asked:
            self._over = waiting[0][0] - 1 if waiting else asked[-1][0]
        self.rows.wake(self._holds.in_force())
        listing = [number for number, facts in waiting if facts.get(STATE) == LISTING]
        due = self.rows.due(NUMBERS | BODY, now, listing, _RECORDS)
        if due:
            self._destroy(due, now)
            return True
        due = self.rows.due(INDEX, now, (), _PIECES)
        if due:
            self._index(due)
            return True
        if self._unclean:
            return self._wiped()
        # What another process was killed at; while it lives it has the journal.
        open_ones = [number for number, facts in waiting if facts.get(STATE) in (LISTING, OPEN)]
        if open_ones:
            with self.journal.alone(wait=False) as alone:
                if alone:
                    for number in open_ones:
                        self.declare(number)
                        self.finish_listing(number, {INTERRUPTED: True})
                    return True
        return any(facts.get(STATE) == CLOSING and self._finish(number, facts, now) for number, facts in waiting)

    def _wiped(self) -> bool:
        """Whether nothing of what was erased is in what lies beside the rows."""
        self._unclean = not self.rows.wipe()
        self.progress = self.progress._replace(complete=not self._unclean)
        return not self._unclean

    def look_again(self) -> None:
        """Records that wait for a floor are looked at again: the floor may have been lowered since. Raises StoreError."""
        self.rows.wake_late()

    def run(self, now: float, progress: Callable[[Progress], object] | None = None) -> Progress:
        """Everything that can be done at `now`. progress: called after each step."""
        while self.step(now):
            if progress is not None:
                progress(self.progress)
        return self.progress

    def _destroy(self, due: Sequence[Erased], now: float) -> None:
        """Secrets first, then rows. Nothing of it is changed where something is not as it was read: the next step looks
        again."""
        rows = self.rows.holding([one.record for one in due])
        places = _places(rows, {one.record for one in due})
        secrets = dict(self.rows.kept_secrets(rows, 1, 0)) if rows else {}
        holds = self._holds.in_force()
        kept: list[Erased] = []
        strip: dict[int, tuple[_Place, int]] = {}
        marks: list[tuple[Erased, Erased]] = []
        for one in due:
            found = places.get(one.record)
            if found is None:  # purged as a whole, or never written
                marks.append((one, one._replace(parts=0, after=0)))
                continue
            left, after, hold = self._kept(one, found, secrets, holds, now)
            gone = one.parts & (NUMBERS | BODY) & ~left
            if not gone:
                kept.append(one._replace(after=after, hold=hold))
                continue
            strip[one.record] = (found, gone)
            index = INDEX if gone & NUMBERS else 0
            marks.append((one, one._replace(parts=left & one.parts | index, after=after, hold=hold)))
        if kept:
            self.rows.postpone(kept)
        if not marks:
            return
        overwritten, changed = _overwritten(secrets, list(strip.values()))
        if changed and not self.rows.replace_secrets(changed):
            return
        self._unclean = True
        if not self.rows.strip(_stripped(rows, strip), marks):
            return
        done = self.progress
        self.progress = done._replace(records=done.records + len(strip), secrets=done.secrets + overwritten)
        for record, (place, gone) in strip.items():
            head = place.head
            if gone & NUMBERS and head.source_index is not None and head.destination_index is not None:
                buckets = frozenset(map(number_bucket, (head.source_index, head.destination_index)))
                self._buckets[record] = (place.row.seq, buckets)

    def _kept(
        self, one: Erased, found: _Place, secrets: Mapping[int, bytes], holds: Collection[int], now: float
    ) -> tuple[int, int, int]:
        """(parts that have to stay, until when, by which hold) of a record."""
        head = found.head
        if holds:
            forms = self._forms(found, secrets)
            hold = self._holds.holding(head.record_id, head.account, head.accepted_ms, forms)
            if hold:
                return NUMBERS | BODY, 0, hold
        accepted = head.accepted_ms / 1000
        body = self._floor(head.account, Part.BODY, accepted) if one.parts & BODY and not head.body_gone else 0.0
        numbers = max(self._floor(head.account, Part.NUMBERS, accepted), body)
        left = (BODY if body > now else 0) | (NUMBERS if numbers > now else 0)
        return left, int(min((end for end in (body, numbers) if end > now), default=0.0)), 0

    def _forms(self, found: _Place, secrets: Mapping[int, bytes]) -> frozenset[bytes]:
        """The numbers of a record as they are indexed, nothing where it does not open."""
        kept = secrets.get(found.row.secrets or found.row.seq, b"")[found.place * SECRETS_BYTES :][:SECRETS_BYTES]
        try:
            opened = open_record(found.packed, self._ring, kept.ljust(SECRETS_BYTES, b"\0"))
        except SealError:
            return frozenset()
        if opened.numbers is None:
            return frozenset()
        octets, region = opened.numbers.addresses, self._region(found.head.account)
        end = octets.index(0, 2)
        both = ((octets[0], octets[2:end]), (octets[end + 1], octets[end + 3 : octets.index(0, end + 3)]))
        return frozenset(normalise(digits, ton, 0, region) for ton, digits in both)

    def _index(self, due: Sequence[Erased]) -> None:
        """Takes blind indexes out of the segments that are built. Where nobody remembers which they were, after a kill, all
        segments over the record's row are looked at."""
        known = {one.record: self._buckets[one.record] for one in due if one.record in self._buckets}
        ids = frozenset(one.record for one in due)
        unknown = [one.record for one in due if one.record not in known]
        wanted: dict[int, set[int] | None] = {row.seq: None for row in self.rows.holding(unknown)}
        for seq, buckets in known.values():
            some = wanted.setdefault(seq, set())
            if some is not None:
                some |= buckets
        for seq, some in wanted.items():
            for _ in range(_TRIES):
                if self._rewrite(seq, some, ids):
                    break
            else:
                return  # merged again and again: the next step goes on
        self.rows.index_done(due)
        for record in known:
            del self._buckets[record]

    def _rewrite(self, seq: int, buckets: Collection[int] | None, ids: frozenset[int]) -> bool:
        for piece in self.rows.pieces(seq, buckets):
            left = without(piece.data, ids)
            if left is not piece.data:
                self._unclean = True
                if not self.rows.replace_piece(piece, left):
                    return False
                self.progress = self.progress._replace(pieces=self.progress.pieces + 1)
        return True

    # -- the end -------------------------------------------------------------------------------------------------------

    def _finish(self, number: int, facts: Mapping[str, Any], now: float) -> bool:
        """Writes the certificate when all is erased, and before that once where something has to wait; whether it did."""
        queued, held, later = self.rows.left(number)
        holds = facts.get(WAY_HELD) or ()
        waits = queued or not frozenset(holds).isdisjoint(self._holds.in_force())
        if waits and facts.get("certified") == queued:
            return False
        # A command that was killed may not have come to what is on its way.
        again = not waits and bool(holds or facts.get(INTERRUPTED))
        if again and not self._way(number, [one.record for one in self.listed(number)]):
            return False
        # Whoever erased it may have been killed before that, or have ended while somebody was reading.
        if not self._wiped():
            return False
        changes: dict[str, Any] = {"certified": queued}
        if again:
            changes[WAY_HELD] = []
            self.rows.note_erasure(number, {WAY_HELD: [], INTERRUPTED: False})
        self.certify(number, now)
        if not waits:
            changes |= {STATE: DONE, "done": utc(now)}
            if "certified" in facts:
                result = f"all of erasure {number} is erased now: what kept records is over"
                what = {"erasure": number, "held": held, "later": later}
                self._trail.append(AuditEvent.ERASURE, facts["who"], what, result, source=facts["source"])
        self.rows.note_erasure(number, changes)
        return True

    def certify(self, number: int, now: float) -> Path:
        """Writes the certificate of a request as it stands, behind `run`; its path. OSError becomes StoreError's business of
        the caller."""
        facts = self.rows.erasure(number) or {}
        queued, held, _later = self.rows.left(number)
        listed = sum(1 for _ in self.listed(number))
        journal = facts.get("journal") or {}
        said: dict[str, object] = {
            "certificate": "erasure",
            "erasure": number,
            "asked": facts.get("at", ""),
            "certified": utc(now),
            "reason": facts.get("reason", ""),
            "records_erased": listed - queued,
            "overwritten": not self._unclean,
            "records_queued": queued,
            "queued_by_hold": {str(hold): count for hold, count in sorted(self.rows.holds_of(number).items())},
            "queued_by_retention": queued - held,
            "records_by_account": facts.get("accounts", {}),
            "on_its_way_kept_by_hold": [str(hold) for hold in facts.get(WAY_HELD) or ()],
            "on_its_way": facts.get("way", "not known: the command was interrupted; it is to be run again"),
            "journal_line": journal.get("line", 0),
            "journal_line_sha256": journal.get("digest", ""),
            "backups_unreadable_by": utc(self.copies_end(now)),
        }
        made = certificate.certify(said, self._install.checkpoint)
        place = self._directory / CERTIFICATES
        path = certificate.write(place, f"erasure-{number}", made)
        for one in (place, path, path.with_suffix(".sig"), place / certificate.PUBLIC_KEY):
            give_to_owner(one)
        return path

    def copies_end(self, now: float) -> float:
        """Epoch seconds by which the last copy of the keys has to be deleted that can open what a backup has."""
        known: list[dict[str, str]] = self.rows.remembered(BACKUPS, [])
        ends = [datetime.fromisoformat(one["keys_expire"]).timestamp() for one in known]
        return max((end for end in ends if end > now), default=now + COPIES_LAST)


def _places(rows: Sequence[LogRow], wanted: Collection[int]) -> dict[int, _Place]:
    found = {}
    for row in rows:
        gone = read_purged(row.digests)
        free = (place for place in range(row.written) if place not in gone)
        for place, packed in zip(free, iter_records(row.records), strict=False):
            head = read_header(packed)
            if head.record_id in wanted:
                found[head.record_id] = _Place(row, place, packed, head)
    return found


def _overwritten(
    secrets: Mapping[int, bytes], strip: Sequence[tuple[_Place, int]]
) -> tuple[int, list[tuple[int, bytes, bytes]]]:
    """(how many secrets, changes) for `PurgeRows.replace_secrets`."""
    new: dict[int, bytearray] = {}
    count = 0
    for place, gone in strip:
        where = place.row.secrets or place.row.seq
        if where not in secrets:
            continue  # all of the row's secrets are gone
        data = new.setdefault(where, bytearray(secrets[where]))
        at = place.place * SECRETS_BYTES
        for part, begin in ((NUMBERS, at), (BODY, at + _HALF)):
            if gone & part and data[begin : begin + _HALF] not in (_ZERO, b""):
                data[begin : begin + _HALF] = _ZERO
                count += 1
    changed = [(where, secrets[where], bytes(data)) for where, data in new.items() if data != secrets[where]]
    return count, changed


def _stripped(rows: Sequence[LogRow], strip: Mapping[int, tuple[_Place, int]]) -> list[Stripped]:
    changes: list[Stripped] = []
    for row in rows:
        kept, changed = [], False
        for packed in iter_records(row.records):
            head = read_header(packed)
            found = strip.get(head.record_id)
            left = packed
            if found is not None:
                left = _without_parts(packed, head, found[1])
            changed = changed or left is not packed
            kept.append(left)
        if changed:
            changes.append((row, b"".join(kept), row.digests or b"", row.mac))
    return changes


def _without_parts(packed: bytes, head: RecordHeader, gone: int) -> bytes:
    if gone & NUMBERS:
        return packed if head.numbers_gone and head.body_gone else erase(packed)
    return packed if head.body_gone or head.content is Content.HIDE else erase_body(packed)


def erased_ids(lines: Sequence[Line]) -> frozenset[int]:
    """The records that a journal says are erased or were to be."""
    return frozenset(record for line in lines for record in line.ids)
