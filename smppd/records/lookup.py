"""Reads the sealed log: a record by its id, opened as far as its keys are left, and its events.

What was purged or erased reads as None. All records of a phone number are `records.search`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from operator import attrgetter, itemgetter
from types import TracebackType
from typing import Final, NamedTuple, Self

from smppd.message import FINAL_STATES, Event, State, events_of
from smppd.records.held import HeldParts
from smppd.records.segments import find_record, record_bucket
from smppd.records.vouch import Voucher
from smppd.store.log import APART, Front, LogRow, Records, read_purged
from smppd.vault.chain import ChainKeys
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing
from smppd.vault.seal import SECRETS_BYTES, OpenRecord, iter_records, iter_times, open_record

_PAGE: Final = 64
_ROWS_KEPT: Final = 4
_TAIL: Final = 32 << 20
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

    def __init__(self, records: Records, voucher: Voucher | None = None) -> None:
        """voucher: says whether a row stands in the chain as it was written."""
        self.records = records
        self._voucher = voucher
        self._rows: OrderedDict[int, _Row] = OrderedDict()

    def packed(self, record_id: int) -> tuple[int, bytes, bytes] | None:
        """The row that a record stands in, itself, packed, and its SECRETS_BYTES, zeros where they are gone. None when there is
        none (any more). Raises SealError."""
        for seq in self.records.near(record_id):
            row = self._row(seq)  # altered ones are told, also if it is this record that they lack now
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
        if self._voucher is not None:
            self._voucher.check(stored)
        gone = read_purged(stored.digests)
        places = (place for place in range(stored.written) if place not in gone)
        records = zip(places, iter_times(stored.records), iter_records(stored.records), strict=False)
        standing = {record_id: (place, packed) for place, (record_id, _at), packed in records}
        row = self._rows[seq] = _Row(stored, standing)
        while len(self._rows) > _ROWS_KEPT:
            self._rows.popitem(last=False)
        return row


class LogReader(RecordRows):
    """Reads one store. For one thread."""

    def __init__(self, records: Records, kek: Kek, chain_keys: ChainKeys | None = None) -> None:
        """records: the log, which is closed with this. chain_keys: with them no record is given whose row does not stand in the
        chain as it was written."""
        super().__init__(records, None if chain_keys is None else Voucher(records, chain_keys))
        self.ring = KeyRing(kek, records.keys)
        """The keys that are left."""
        self.held = HeldParts(records.held, self.ring)
        """What holds keep of records."""
        self._tail = _Tail()
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

    def vouch(self, seq: int) -> None:
        """Raises SealError where a log row does not stand in the chain as it was written; without `chain_keys` nobody knows."""
        if self._voucher is not None:
            self._row(seq)

    def events(self, record_id: int, limit: int = 1000) -> list[Event]:
        """What happened to a message, oldest first, at most `limit` events. In the rows that are not indexed yet it stops
        looking once the customer has acknowledged a final receipt."""
        start = min(self.records.near(record_id), default=0)
        if self.records.several:
            start = max(0, start - APART)  # another node may have delivered it, or told its end
        front = self.records.covered()
        segments = self.records.event_segments(record_bucket(record_id), record_id, start)
        rows = {seq for data in segments for seq in find_record(data, record_id)}
        events: list[Event] = []
        for seq in sorted(rows):
            events += events_of(self.records.events(seq), record_id)
            if len(events) >= limit:
                return events[:limit]
        for seq, block in self._told(front, start):
            if _ended(events):
                break
            if seq not in rows:
                events += events_of(block, record_id)
                if len(events) >= limit:
                    break
        if self.records.several:
            events.sort(key=attrgetter("time"))
        return events[:limit]

    def _told(self, front: Front, start: int) -> Iterator[tuple[int, bytes]]:
        """(seq, events) of the rows from `start` on that no index covers. They are read once for all records that are asked
        for, as far as they fit into _TAIL octets."""
        tail = self._tail
        if front != tail.front:
            tail.drop(front, self.records.node)
        yield from ((seq, block) for seq, block in tail.blocks if seq >= start)
        last, whole = dict(tail.last), True
        while page := self.records.told_beyond(last, _PAGE):
            for seq, block in page:
                node = self.records.node(seq)
                last[node] = seq
                whole = whole and tail.add(node, seq, block)
                if seq >= start:
                    yield seq, block
        if self.records.several:
            tail.blocks.sort(key=itemgetter(0))


class _Tail:
    """The events of rows that are not indexed yet: all of those from `front` to `last`."""

    def __init__(self) -> None:
        self.front: Front = {}
        self.last: dict[int, int] = {}
        self.blocks: list[tuple[int, bytes]] = []
        self._octets = 0

    def drop(self, front: Front, node: Callable[[int], int]) -> None:
        """Those up to here are indexed by now; where the index was begun anew, all are read again."""
        on = all(front.get(one, 0) >= seq for one, seq in self.front.items())
        self.blocks = [one for one in self.blocks if one[0] > front.get(node(one[0]), 0)] if on else []
        self._octets = sum(len(block) for _seq, block in self.blocks)
        self.last = (
            {**self.last, **{one: max(seq, self.last.get(one, 0)) for one, seq in front.items()}} if on else dict(front)
        )
        self.front = front

    def add(self, node: int, seq: int, block: bytes) -> bool:
        """Keeps the next one; False when there is no room, nor for any behind it."""
        if self._octets + len(block) > _TAIL:
            return False
        self.blocks.append((seq, block))
        self._octets += len(block)
        self.last[node] = seq
        return True


def _ended(events: list[Event]) -> bool:
    # UNKNOWN is not among them: another receipt may have followed.
    final = any(event.state in FINAL_STATES and event.state != State.UNKNOWN for event in events)
    return final and any(event.state in _TOLD for event in events)
