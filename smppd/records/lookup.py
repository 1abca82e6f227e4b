"""Reads the sealed log: a record by its id, opened as far as its keys are left, and its events.

What was purged or erased reads as None. All records of a phone number are `records.search`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from types import TracebackType
from typing import Final, NamedTuple, Self

from smppd.message import FINAL_STATES, Event, State, read_events
from smppd.records.segments import find_record, record_bucket
from smppd.records.vouch import Voucher
from smppd.store.log import LogRow, Records, read_purged
from smppd.vault.chain import ChainKeys
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


class LogReader:
    """Reads one store. For one thread."""

    def __init__(self, records: Records, kek: Kek, chain_keys: ChainKeys | None = None) -> None:
        """records: the log, which is closed with this. chain_keys: with them no record is given whose row does not stand in the
        chain as it was written."""
        self.records = records
        self._voucher = None if chain_keys is None else Voucher(records, chain_keys)
        self.ring = KeyRing(kek, records.keys)
        """The keys that are left."""
        self._rows: OrderedDict[int, _Row] = OrderedDict()
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
        for seq in self.records.near(record_id):
            row = self._row(seq)  # altered ones are told, also if it is this record that they lack now
            held = row.places.get(record_id)
            if held is None:
                continue
            place, packed = held
            secrets = self.records.secrets(row.stored)[place * SECRETS_BYTES :][:SECRETS_BYTES]
            return Found(seq, open_record(packed, self.ring, secrets.ljust(SECRETS_BYTES, b"\0")))
        return None

    def vouch(self, seq: int) -> None:
        """Raises SealError where a log row does not stand in the chain as it was written; without `chain_keys` nobody knows."""
        if self._voucher is not None:
            self._row(seq)

    def _row(self, seq: int) -> _Row:
        row = self._rows.get(seq)
        if row is not None:
            return row
        stored = self.records.row(seq)
        if stored is None:  # deleted by a purge meanwhile
            return _Row(_NO_ROW, {})
        if self._voucher is not None:
            self._voucher.check(stored)
        gone = read_purged(stored.digests)
        places = (place for place in range(stored.written) if place not in gone)
        held = {
            read_header(packed).record_id: (place, packed)
            for place, packed in zip(places, iter_records(stored.records), strict=False)
        }
        row = self._rows[seq] = _Row(stored, held)
        while len(self._rows) > _ROWS_KEPT:
            self._rows.popitem(last=False)
        return row

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
