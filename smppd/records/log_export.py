"""Goes through the log message by message, in the order in which they were accepted, each in the state that is known by now.

A stretch of the log at a time: its records, and the events of them that later rows hold, which the index of events finds. So
memory is bounded by a stretch, and each row is read about once. A message stands at its place in the log (`records.places`),
which never changes: exports that begin where others ended give each message once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Final, NamedTuple

from smppd.message import BESIDE, FINAL_STATES, Event, State, read_events
from smppd.records.held import HeldParts
from smppd.records.places import Place
from smppd.records.segments import BUCKETS, records_between
from smppd.records.vouch import Voucher
from smppd.store.log import APART, LogRow, Records, read_purged
from smppd.vault.seal import (
    SECRETS_BYTES,
    Direction,
    OpenRecord,
    PartKeys,
    PeriodKeys,
    SealError,
    iter_records,
    open_record,
    read_header,
)

STRETCH_RECORDS: Final = 20_000
"""Records of a stretch, about: as many as a segment of the index covers."""
STRETCH_OCTETS: Final = 32 << 20
"""Octets of its records, about."""
_PAGE: Final = 64
_HALF: Final = SECRETS_BYTES // 2
_SENT: Final = frozenset({State.SUBMITTED, State.UNANSWERED})


class Life(NamedTuple):
    """What the events of a message say. Times are epoch milliseconds, 0 for what was not. state: the final one, or the latest;
    error: the latest, 0 for none; tries: how often it was sent to a carrier, as far as the log tells."""

    state: int
    error: int
    submitted: int
    final: int
    acknowledged: int
    upstream: str
    upstream_id: bytes
    tries: int
    duplicate: bool


def life_of(events: list[Event], mo: bool) -> Life:
    """events: of one message, oldest first. mo: it came from a handset."""
    of_message = [one for one in events if one.state not in BESIDE]
    final = [one for one in of_message if one.state in FINAL_STATES or one.state == State.REFUSED]
    known = [one for one in final if one.state != State.UNKNOWN] or final
    said = (known or of_message)[-1:]
    went = next((one for one in reversed(events) if one.upstream_id), None)
    went = went or next((one for one in reversed(of_message) if one.upstream), None)
    sent = any(one.state in _SENT for one in events)
    return Life(
        said[0].state if said else State.STORED,
        next((one.error for one in reversed(events) if one.error), 0),
        next((one.time for one in events if one.state == State.SUBMITTED), 0),
        known[-1].time if known else 0,
        next((one.time for one in reversed(events) if one.state == State.RECEIPT_DONE), 0),
        went.upstream if went is not None else "",
        went.upstream_id if went is not None else b"",
        0 if mo else sent + sum(1 for one in events if one.state == State.RESENT),
        any(one.duplicate for one in events),
    )


class Exported(NamedTuple):
    """A message. place: where it stands; an export that goes on from there begins with the next."""

    place: Place
    record: OpenRecord
    life: Life

    def __repr__(self) -> str:
        return f"<Exported {self.place}>"


class _Standing(NamedTuple):
    place: Place
    number: int
    row: LogRow
    packed: bytes


class LogExport:
    """One export. For one thread. Raises StoreError; what was altered is counted and left out."""

    def __init__(
        self,
        records: Records,
        keys: PeriodKeys,
        held: HeldParts,
        voucher: Voucher,
        sees: Callable[[str], bool],
        *,
        bodies: bool = False,
        stretch: int = STRETCH_RECORDS,
        everywhere: Records | None = None,
    ) -> None:
        """records: the log of one node, in which ids rise. everywhere: that of all nodes, which may tell of its messages; None
        where there is one. keys, held: what opens records. sees(account): whether its messages are wanted. bodies: texts are
        opened too. stretch: records of a stretch, about."""
        self._records = records
        self._everywhere = everywhere
        self._keys = keys
        self._held = held
        self._voucher = voucher
        self._sees = sees
        self._bodies = bodies
        self._stretch = stretch
        self._secrets: tuple[int, bytes] = (-1, b"")
        self._goes_on = False
        self._gone: deque[Place] = deque()
        self.cursor = Place()
        """Everything before it was gone through."""
        self.damaged: list[int] = []
        """Rows that were altered, and are left out."""
        self.missed: tuple[Place, Place] | None = None
        """Rows that were purged before the export came so far, if there were some."""
        self.purged = 0
        """Messages behind the place where it began that were purged out of rows which are still there."""
        self.foreign = False
        """Whether that place is none of this log: it is of another store, or of before this one was put back."""

    def messages(self, after: Place, since: float, until: float) -> Iterator[Exported]:
        """Messages behind a place that were accepted at ``since <= t`` (epoch seconds), up to the first one that was
        accepted at ``until`` or later: an export that goes on from there gives that one and those behind it."""
        self.cursor = after
        unknown = after.taken > 0 and self._records.row(after.seq) is None
        end = (self._records.bounds() or (0, 0))[1]
        deleted = self._records.anchor()[1]
        if deleted is not None and Place() < after and after.seq <= deleted:
            self.missed = after, Place(deleted + 1)
            self.cursor = Place(deleted + 1)
        self.foreign = after.seq > max(end, deleted or 0) + 1 or (unknown and after.seq > (deleted or 0))
        self._goes_on = Place() < after
        self.cursor = max(self.cursor, self._begin(since))
        before: LogRow | None = None
        over = False
        while not over:
            standing, events, last, over = self._gather(since, until, end, before)
            lives = self._events(standing, events, last)
            for one in standing:
                self._pass(one.place)
                try:
                    record = self._open(one)
                except SealError:
                    self._note(one.row.seq)
                    continue
                mo = record.header.direction is Direction.MO
                yield Exported(one.place, record, life_of(lives[record.header.record_id], mo))
            self._pass(self.cursor)
            before = last
            if last is None:
                return

    def _pass(self, place: Place) -> None:
        """The export is as far as this place: counts what was purged before it."""
        while self._gone and self._gone[0] <= place:
            self._gone.popleft()
            self.purged += 1

    def _begin(self, since: float) -> Place:
        """Before the first row that may hold messages of this time, as far as the extents say."""
        listed = self._records.extents() if since > 0 else []
        bounds = self._records.bounds()
        if not listed or bounds is None or bounds[0] < listed[0].first:
            return Place()  # the oldest rows were never measured
        first = next((one.first for one in listed if one.latest >= since * 1000), listed[-1].last + 1)
        return Place(first)

    def _gather(
        self, since: float, until: float, end: int, before: LogRow | None
    ) -> tuple[list[_Standing], dict[int, list[Event]], LogRow | None, bool]:
        """The next stretch: its records that are wanted, the events in its own rows of them, its last row, and whether it is
        the last stretch."""
        standing: list[_Standing] = []
        events: dict[int, list[Event]] = {}
        count = octets = 0
        at = self.cursor
        above = before.seq if before is not None else max(0, at.seq - 1)
        while count < self._stretch and octets < STRETCH_OCTETS:
            rows = self._records.rows(above, _PAGE)
            for row in rows:
                if row.seq > end:
                    return standing, events, before, True
                above = row.seq
                try:
                    self._voucher.check(row, before)
                except SealError:
                    self._note(row.seq)
                    self.cursor, before = Place(row.seq + 1), row
                    continue
                taken = at.taken if at.seq == row.seq else 0
                stopped = False
                gone = read_purged(row.digests)
                places = (place for place in range(row.written) if place not in gone)
                for number, packed in zip(places, iter_records(row.records), strict=False):
                    if number < taken:
                        continue
                    header = read_header(packed)
                    if header.accepted_ms >= until * 1000:
                        self.cursor, stopped = Place(row.seq, number), True
                        break
                    if header.accepted_ms >= since * 1000 and self._sees(header.account):
                        standing.append(_Standing(Place(row.seq, number + 1), number, row, packed))
                        events[header.record_id] = []
                for event in read_events(row.events):
                    mine = events.get(event.id)
                    if mine is not None:
                        mine.append(event)
                if self._goes_on:
                    over = self.cursor.taken if stopped else row.written
                    self._gone.extend(Place(row.seq, number + 1) for number in sorted(gone) if taken <= number < over)
                if stopped:
                    return standing, events, row, True
                self.cursor, before = Place(row.seq, max(taken, row.written)), row
                count += row.written
                octets += len(row.records)
            if len(rows) < _PAGE:
                return standing, events, before, True
        return standing, events, before, False

    def _events(
        self, standing: list[_Standing], events: dict[int, list[Event]], last: LogRow | None
    ) -> dict[int, list[Event]]:
        """Adds what the rows behind a stretch say of its messages."""
        if last is None or not events:
            return events
        low, high = min(events), max(events)
        records = self._everywhere or self._records
        # What another node tells may stand before the message, where its clock is behind.
        first = last.seq + 1 if self._everywhere is None else max(0, low - APART)
        own = records.node(last.seq)
        told: dict[int, bytes | None] = {}
        if first <= max(records.covered().values(), default=0):
            for bucket in range(BUCKETS):
                for segment in records.event_segments(bucket, high, first):
                    told.update((seq, None) for seq in records_between(segment, low, high) if seq >= first)
        front = records.covered()
        front = {node: max(upto, last.seq if node == own else first - 1) for node, upto in front.items()}
        front.setdefault(own, last.seq)
        while page := records.told_beyond(front, _PAGE):
            for seq, _block in page:
                front[records.node(seq)] = seq
            told.update((seq, block) for seq, block in page if seq >= first)
        for seq in sorted(told):
            if seq <= last.seq and records.node(seq) == own:
                continue  # it was gone through
            block = told[seq]
            for event in read_events(self._records.events(seq) if block is None else block):
                mine = events.get(event.id)
                if mine is not None:
                    mine.append(event)
        if self._everywhere is not None:
            for mine in events.values():
                mine.sort(key=attrgetter("time"))
        return events

    def _open(self, one: _Standing) -> OpenRecord:
        if self._secrets[0] != one.row.seq:
            self._secrets = one.row.seq, self._records.secrets(one.row)
        mine = self._secrets[1][one.number * SECRETS_BYTES :][:SECRETS_BYTES].ljust(SECRETS_BYTES, b"\0")
        if self._bodies:
            return open_record(one.packed, self._keys, mine, self._held.parts)
        mine = mine[:_HALF].ljust(SECRETS_BYTES, b"\0")
        opened = open_record(one.packed, self._keys, mine)
        if opened.numbers is None and not opened.header.numbers_gone:
            opened = open_record(one.packed, self._keys, mine, self._held_numbers)
        return opened

    def _held_numbers(self, record: int) -> PartKeys:
        return PartKeys(self._held.parts(record).numbers)

    def _note(self, seq: int) -> None:
        if seq not in self.damaged and len(self.damaged) < 1000:
            self.damaged.append(seq)
