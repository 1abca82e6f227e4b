"""The log in memory: the terms of `store.log` without SQL, so that the logic in `records` is seen to need no more."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from smppd.store.api import StoreError, StoreFull
from smppd.store.documents import FOREVER
from smppd.store.holds import HeldRow, Mark
from smppd.store.log import LAST_ID, Extent, Front, LogRow, Outline, Records, Segment
from tests.vault.rows import MemoryRows


class MemoryHeld:
    """`store.holds.HeldRows` over the keys of a log."""

    locked = 0.0

    def __init__(self, keys: MemoryRows) -> None:
        self._keys = keys
        self.rows: dict[tuple[int, int], HeldRow] = {}
        self.marks: dict[tuple[int, Mark], bytes] = {}

    def wrapped(self, scope: bytes) -> bytes | None:
        return self._keys.rows.get(scope)

    def put_key(self, scope: bytes, wrapped: bytes) -> bytes:
        return self._keys.put_new(scope, wrapped)

    def destroy_key(self, scope: bytes) -> None:
        self._keys.delete(scope)

    def mark(self, hold: int, which: Mark) -> bytes:
        return self.marks.get((hold, which), b"")

    def add(self, scope: bytes, hold: int, rows: Sequence[HeldRow], which: Mark, mark: bytes) -> bool:
        if scope not in self._keys.rows:
            return False
        for row in rows:
            self.rows.setdefault((row.record, row.hold), row)
        self.marks[hold, which] = mark
        return True

    def within(self, low: int, high: int) -> set[int]:
        return {record for record, _ in self.rows if low <= record <= high}

    def of(self, record: int) -> list[HeldRow]:
        return [row for row in self.rows.values() if row.record == record]

    def find(self, hold: int, blinds: Sequence[bytes]) -> list[int]:
        wanted = set(blinds)
        mine = [row for row in self.rows.values() if row.hold == hold]
        return sorted(row.record for row in mine if {row.source, row.destination} & wanted)

    def page(self, hold: int, after: int, limit: int) -> list[HeldRow]:
        mine = sorted(row for row in self.rows.values() if row.hold == hold and row.record > after)
        return mine[:limit]

    def count(self, hold: int) -> int:
        return len(self.page(hold, 0, LAST_ID))

    def holds(self) -> list[int]:
        return sorted({hold for _, hold in self.rows} | {hold for hold, _ in self.marks})

    def remove(self, hold: int, records: Sequence[int]) -> None:
        for record in records:
            self.rows.pop((record, hold), None)

    def forget(self, hold: int) -> None:
        for which in Mark:
            self.marks.pop((hold, which), None)

    def close(self) -> None:
        pass


class MemoryDocuments:
    """`store.documents.Documents` in a dict."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[bytes, int]] = {}
        self.last: dict[str, int] = {}

    def get(self, kind: str, name: str) -> bytes | None:
        found = self.kept.get((kind, name))
        return None if found is None else found[0]

    def all(self, kind: str) -> list[tuple[str, bytes]]:
        return [(name, sealed) for (one, name), (sealed, _) in sorted(self.kept.items()) if one == kind]

    def add(self, kind: str, name: str, sealed: bytes, until: int = FOREVER) -> bool:
        return self.kept.setdefault((kind, name), (sealed, until))[0] is sealed

    def replace(self, kind: str, name: str, before: bytes, after: bytes, until: int = FOREVER) -> bool:
        if self.get(kind, name) != before:
            return False
        self.kept[kind, name] = (after, until)
        return True

    def put(self, kind: str, documents: Mapping[str, bytes], until: int = FOREVER) -> None:
        self.kept.update({(kind, name): (sealed, until) for name, sealed in documents.items()})

    def remove(self, kind: str, name: str) -> bool:
        return self.kept.pop((kind, name), None) is not None

    def expire(self, now: float) -> int:
        gone = [one for one, (_, until) in self.kept.items() if until <= now]
        for one in gone:
            del self.kept[one]
        return len(gone)

    def number(self, kind: str) -> int:
        self.last[kind] = self.last.get(kind, 0) + 1
        return self.last[kind]

    def close(self) -> None:
        pass


class FillingDocuments(MemoryDocuments):
    """The same on a disk that may be full."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def put(self, kind: str, documents: Mapping[str, bytes], until: int = FOREVER) -> None:
        if self.full:
            raise StoreFull("no space")
        super().put(kind, documents, until)


class MemoryLog:
    """`store.log.Records`, `IndexRows` and `PurgeRows` in one. ``copied`` makes one of a store's log."""

    def __init__(self) -> None:
        self.keys = MemoryRows()
        self.held = MemoryHeld(self.keys)
        self.log: dict[int, LogRow] = {}
        self.kept: dict[int, bytes] = {}
        """Secrets, by the id of their row."""
        self.signed: dict[int, tuple[int, bytes]] = {}
        """Seals: the last row that each covers, and itself."""
        self.segments: dict[int, tuple[bool, Segment]] = {}
        """handle -> (whether it is a merged one, segment)."""
        self.listed: dict[int, Extent] = {}
        self.memory: dict[str, str] = {}
        self.upto = 0
        self.cut: tuple[bytes | None, int | None] = (None, None)
        self.wiped = 0
        self._handle = 0

    @classmethod
    def copied(cls, records: Records, covers: Callable[[bytes], int]) -> MemoryLog:
        """covers(signed): the last row that a seal covers."""
        made = cls()
        made.keys.rows.update(records.keys.scan(b""))
        for row in records.rows(0, LAST_ID):
            made.log[row.seq] = row
            made.kept[row.secrets or row.seq] = records.secrets(row)
        for number, signed in records.seals(0, LAST_ID, LAST_ID):
            made.signed[number] = (covers(signed), signed)
        made.cut = records.anchor()
        return made

    def _ids(self) -> list[int]:
        return sorted(self.log)

    # -- all -----------------------------------------------------------------------------------------------------------

    def bounds(self) -> tuple[int, int] | None:
        return (min(self.log), max(self.log)) if self.log else None

    def packed(self, after: int, until: int, limit: int) -> list[tuple[int, bytes]]:
        return [(seq, self.log[seq].records) for seq in self._ids() if after < seq <= until][:limit]

    def extents(self, upto: int = LAST_ID) -> list[Extent]:
        return [one for _first, one in sorted(self.listed.items()) if one.first <= upto]

    def indexed(self) -> int:
        return self.upto

    several = False

    def node(self, seq: int) -> int:
        return 0

    def covered(self) -> dict[int, int]:
        return {0: self.upto}

    def packed_beyond(self, front: Front, limit: int) -> list[tuple[int, bytes]]:
        return self.packed(front.get(0, 0), LAST_ID, limit)

    def told_beyond(self, front: Front, limit: int) -> list[tuple[int, bytes]]:
        return self.told(front.get(0, 0), limit)

    def close(self) -> None:
        pass

    # -- reading -------------------------------------------------------------------------------------------------------

    def of(self, node: int) -> MemoryLog:
        return self

    def near(self, record_id: int) -> list[int]:
        if not 0 < record_id <= LAST_ID:
            return []
        ids = self._ids()
        at = bisect_right(ids, record_id)
        return ids[max(0, at - 1) : at + 1]

    def row(self, seq: int) -> LogRow | None:
        return self.log.get(seq)

    def link_before(self, seq: int) -> bytes | None:
        before = max((one for one in self.log if one < seq), default=None)
        return self.cut[0] if before is None else self.log[before].chain

    def rows(self, after: int, limit: int) -> list[LogRow]:
        return [self.log[seq] for seq in self._ids() if seq > after][:limit]

    def secrets(self, row: LogRow) -> bytes:
        return self.kept.get(row.secrets or row.seq, b"")

    def events(self, seq: int) -> bytes:
        return self.log[seq].events if seq in self.log else b""

    def told(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        return [(row.seq, row.events) for row in self.rows(after, limit)]

    def _found(self, table: str, bucket: int) -> list[Segment]:
        return [one for _merged, one in self.segments.values() if (one.table, one.bucket) == (table, bucket)]

    def number_segments(self, bucket: int, first: int, last: int) -> list[bytes]:
        return [one.data for one in self._found("number", bucket) if one.last >= first and one.first <= last]

    def number_ends(self) -> list[int]:
        return sorted({one.last for _merged, one in self.segments.values() if one.table == "number"})

    def event_segments(self, bucket: int, record_id: int, first: int) -> list[bytes]:
        return [one.data for one in self._found("event", bucket) if one.last >= first and one.low <= record_id]

    def outline(self) -> Outline:
        lowest, highest = self.bounds() or (None, None)
        return Outline(*self.cut, lowest, highest, [], max(self.signed, default=None))

    def anchor(self) -> tuple[bytes | None, int | None]:
        return self.cut

    def seals(self, after: int, until: int, limit: int) -> list[tuple[int, bytes]]:
        return [(number, one[1]) for number, one in sorted(self.signed.items()) if after < number <= until][:limit]

    # -- indexing ------------------------------------------------------------------------------------------------------

    def chain_of(self, seq: int) -> int:
        return 0

    def first_seal(self, chain: int) -> bytes | None:
        return next((signed for _number, signed in self.seals(0, LAST_ID, 1)), None)

    def unindexed(self, front: Front, limit: int) -> list[LogRow]:
        return self.rows(front.get(0, 0), limit)

    def measured_from(self) -> int | None:
        return min(self.listed, default=None)

    def before(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        return [(one, self.log[one].records) for one in self._ids() if one < seq][-limit:]

    def erased(self, low: int, high: int) -> frozenset[int]:
        return frozenset()

    def add(self, before: Front, after: Front, segments: Sequence[Segment], extents: Sequence[Extent]) -> None:
        if self.upto != before.get(0, 0):
            raise StoreError("indexed by somebody else")
        for one in segments:
            self._keep(False, one)
        self.cover(extents)
        self.upto = after[0]

    def _keep(self, merged: bool, one: Segment) -> None:
        self._handle += 1
        self.segments[self._handle] = (merged, one)

    def cover(self, extents: Sequence[Extent]) -> None:
        self.listed.update((one.first, one) for one in extents)

    def small(self, table: str, count: int) -> list[tuple[int, Segment]]:
        buckets: dict[int, list[tuple[int, Segment]]] = {}
        for handle, (merged, one) in self.segments.items():
            if not merged and one.table == table:
                buckets.setdefault(one.bucket, []).append((handle, one))
        return next((found[:count] for found in buckets.values() if len(found) >= count), [])

    def merge(self, handles: Sequence[int], merged: Segment) -> bool:
        if not all(handle in self.segments for handle in handles):
            return False
        for handle in handles:
            del self.segments[handle]
        self._keep(True, merged)
        return True

    # -- purging -------------------------------------------------------------------------------------------------------

    locked = 0.0

    def scopes(self) -> list[bytes]:
        return list(self.keys.rows)

    def has_key(self, scope: bytes) -> bool:
        return scope in self.keys.rows

    def destroy_keys(self, scopes: Sequence[bytes], holds: Collection[bytes] | None = None) -> bool:
        if holds is not None and set(holds) != {one for one in self.keys.rows if one.startswith(b"hold/")}:
            return False
        for scope in scopes:
            self.keys.delete(scope)
        return True

    def remembered(self, name: str, default: Any) -> Any:
        return json.loads(self.memory[name]) if name in self.memory else default

    def remember(self, values: Mapping[str, object], seen: Mapping[str, object] | None = None) -> bool:
        if any((self.remembered(name, None) or None) != (value or None) for name, value in (seen or {}).items()):
            return False
        self.memory.update((name, json.dumps(value)) for name, value in values.items())
        return True

    def remove_overdue(self, now: float, kept: Callable[[str], float | None]) -> int:
        return 0

    def remove_ended(self, now: float) -> int:
        return 0

    def stretch(self, first: int, last: int, limit: int, octets: int) -> tuple[list[LogRow], bool]:
        start = max((seq for seq in self.log if seq <= first), default=first)
        rows = [self.log[seq] for seq in self._ids() if start <= seq <= last]
        return rows[:limit], len(rows) > limit

    def kept_secrets(self, rows: Sequence[LogRow], first: int, last: int) -> list[tuple[int, bytes]]:
        named = {row.secrets or row.seq for row in rows}
        others = {row.secrets or row.seq for row in self.log.values()} - named
        stray = {at for at in self.kept if first <= at <= last} - others
        return [(at, data) for at, data in sorted(self.kept.items()) if at in named | stray]

    def replace_secrets(self, changes: Sequence[tuple[int, bytes, bytes]]) -> bool:
        if any(self.kept.get(at) != before for at, before, _after in changes):
            return False
        for at, _before, after in changes:
            self.kept[at] = after
            if not any(after):
                del self.kept[at]
        return True

    def shorten(
        self,
        changes: Sequence[tuple[LogRow, bytes, bytes, bytes | None]],
        values: Mapping[str, object],
        seen: Mapping[str, object] | None = None,
    ) -> bool:
        if any(self.log[row.seq].records != row.records for row, *_rest in changes):
            return False
        for row, left, digests, mac in changes:
            self.log[row.seq] = self.log[row.seq]._replace(records=left, digests=digests or None, mac=mac)
        return self.remember(values, seen)

    def front(self, limit: int) -> list[tuple[int, bytes, int]]:
        return [(seq, self.log[seq].chain, len(self.log[seq].records)) for seq in self._ids()[:limit]]

    def trim(self, front: tuple[int, bytes] | None, oldest: int, stale: int, limit: int) -> int:
        if front is not None:
            last, link = front
            self.log = {seq: row for seq, row in self.log.items() if seq > last}
            self.cut = (link, last)
            first = max((number for number, (seq, _) in self.signed.items() if seq <= last), default=0)
            self.signed = {number: one for number, one in self.signed.items() if number >= first}
        self.listed = {first: one for first, one in self.listed.items() if one.last >= oldest}
        gone = []
        for table, bound in (("number", stale), ("event", oldest)):
            over = (handle for handle, (_, one) in self.segments.items() if one.table == table and one.last < bound)
            gone += list(over)[:limit]
        for handle in gone:
            del self.segments[handle]
        return len(gone)

    def wipe(self) -> bool:
        self.wiped += 1
        return True
