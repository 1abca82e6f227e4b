"""Reads the sealed log: a record by its id, opened as far as its keys are left, and its events.

What was purged or erased reads as None. All records of a phone number are `records.search`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from types import TracebackType
from typing import Final, NamedTuple, Self

from smppd.message import FINAL_STATES, Event, State, read_events
from smppd.records.held import HeldParts
from smppd.records.segments import find_record, record_bucket
from smppd.store.log import LogRow, Records, read_purged
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing
from smppd.vault.seal import SECRETS_BYTES, OpenRecord, iter_records, open_record, read_header

_PAGE: Final = 64
_ROWS_KEPT: Final = 4
_TOLD: Final = frozenset({State.RECEIPT_DONE, State.RECEIPT_EXPIRED})
_NO_ROW: Final = LogRow(0, 0, b"", b"", b"", None, None, None)


class Found(NamedTuple):
    """A record, opened as far as its keys are left, and the log row it stands in."""

    seq: int
    record: OpenRecord

    def __repr__(self) -> str:
        return f"<Found in {self.seq}: {self.record!r}>"


class _Row(NamedTuple):
    stored: LogRow
    places: dict[int, tuple[int, bytes]]
    """record id -> (place in the row as it was written, packed record)"""


class RecordRows:
    """Records by their ids, packed as they stand in the log. For one thread."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._rows: OrderedDict[int, _Row] = OrderedDict()

    def packed(self, record_id: int) -> tuple[int, bytes, bytes] | None:
        """The row that a record stands in, itself, packed, and its SECRETS_BYTES, zeros where they are gone. None when there is
        none (any more). Raises SealError."""
        for seq in self.records.near(record_id):
            row = self._row(seq)
            standing = row.places.get(record_id)
            if standing is not None:
                place, packed = standing
                secrets = self.records.secrets(row.stored)[place * SECRETS_BYTES :][:SECRETS_BYTES]
                return seq, packed, secrets.ljust(SECRETS_BYTES, b"\0")
        return None

    def _row(self, seq: int) -> _Row:
        row = self._rows.get(seq)
        if row is not None:
            return row
        stored = self.records.row(seq)
        if stored is None:  # deleted by a purge meanwhile
            return _Row(_NO_ROW, {})
        gone = read_purged(stored.digests)
        places = (place for place in range(stored.written) if place not in gone)
        standing = {
            read_header(packed).record_id: (place, packed)
            for place, packed in zip(places, iter_records(stored.records), strict=False)
        }
        row = self._rows[seq] = _Row(stored, standing)
        while len(self._rows) > _ROWS_KEPT:
            self._rows.popitem(last=False)
        return row


class LogReader(RecordRows):
    """Reads one store. For one thread."""

    def __init__(self, records: Records, kek: Kek) -> None:
        """records: the log, which is closed with this."""
        super().__init__(records)
        self.ring = KeyRing(kek, records.keys)
        """The keys that are left."""
        self.held = HeldParts(records.held, self.ring)
        """What holds keep of records."""
        self.damaged: list[int] = []
        """Ids of records that a search found and could not open, and of log rows it could not read: they were altered."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the log."""
        self.records.close()

    # -- one record ----------------------------------------------------------------------------------------------------

    def record(self, record_id: int) -> Found | None:
        """The record with this id; None when there is none (any more). Raises SealError when it was altered."""
        found = self.packed(record_id)
        if found is None:
            return None
        seq, packed, secrets = found
        return Found(seq, open_record(packed, self.ring, secrets, self.held.parts))

    def events(self, record_id: int, limit: int = 1000) -> list[Event]:
        """What happened to a message, oldest first, at most `limit` events. In the rows that are not indexed yet it stops
        looking once the customer has acknowledged a final receipt."""
        start = min(self.records.near(record_id), default=0)
        upto = self.records.indexed()
        segments = self.records.event_segments(record_bucket(record_id), record_id, start)
        rows = {seq for data in segments for seq in find_record(data, record_id)}
        events: list[Event] = []
        for seq in sorted(rows):
            events += (event for event in read_events(self.records.events(seq)) if event.id == record_id)
            if len(events) >= limit:
                return events[:limit]
        needle = record_id.to_bytes(8, "big")
        for seq, block in self._told(max(upto, start - 1)):
            if _ended(events):
                break
            if seq not in rows and needle in block:
                events += (event for event in read_events(block) if event.id == record_id)
                if len(events) >= limit:
                    break
        return events[:limit]

    def _told(self, after: int) -> Iterator[tuple[int, bytes]]:
        """(seq, events) of the rows above `after`."""
        while page := self.records.told(after, _PAGE):
            yield from page
            after = page[-1][0]


def _ended(events: list[Event]) -> bool:
    # UNKNOWN is not among them: another receipt may have followed.
    final = any(event.state in FINAL_STATES and event.state != State.UNKNOWN for event in events)
    return final and any(event.state in _TOLD for event in events)
