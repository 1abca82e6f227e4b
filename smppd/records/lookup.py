"""Reads the sealed log: a record by its id, its events, all records of a phone number; and recomputes the digest chain.

Works beside the running daemon, on read-only connections, in short statements: a long one would keep the write-ahead log
from being truncated. What was purged or erased reads as None.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from smppd.message import FINAL_STATES, Event, State, read_events
from smppd.records.extents import Extent, written
from smppd.records.indexer import indexed_upto, number_bucket, record_bucket
from smppd.records.segments import find, find_record
from smppd.records.verify import LogVerdict, read_purged, verify_log
from smppd.store.api import StoreError
from smppd.store.sqlite.files import connect, secrets_column
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.vault.chain import ChainKeys
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing, Part, Period, read_scope
from smppd.vault.numbers import blind
from smppd.vault.seal import (
    SECRETS_BYTES,
    OpenRecord,
    SealError,
    iter_indexes,
    iter_records,
    iter_times,
    open_record,
    read_header,
)

_WINDOW: Final = 64
"""Extents that are looked through at a time."""
_HOUR_MS: Final = 3_600_000
_PAGE: Final = 64
_ROWS_KEPT: Final = 4
_NEEDLES: Final = 32
_TOLD: Final = frozenset({State.RECEIPT_DONE, State.RECEIPT_EXPIRED})
_MAX_ID: Final = (1 << 63) - 1


class Found(NamedTuple):
    """A record, opened as far as its keys are left, and the log row it stands in."""

    seq: int
    record: OpenRecord

    def __repr__(self) -> str:
        return f"<Found in {self.seq}: {self.record!r}>"


class _Row(NamedTuple):
    seq: int
    secrets: int
    """The row of `secrets` that is this one's."""
    places: dict[int, tuple[int, bytes]]
    """record id -> (place in the row as it was written, packed record)"""


class _Blinds:
    """The blind indexes of some numbers in all periods that are searched, computed as they are needed."""

    def __init__(
        self, ring: KeyRing, forms: tuple[bytes, ...], periods: list[tuple[str, Period]], since: float, until: float
    ) -> None:
        self._ring = ring
        self._forms = forms
        self._periods = [one for one in periods if one[1].start < until and one[1].end > since]
        self._known: dict[tuple[str, str], list[bytes]] = {}
        self._latest: tuple[tuple[int, int], frozenset[bytes]] = ((-1, -1), frozenset())

    def within(self, earliest: int, latest: int) -> frozenset[bytes]:
        """Those of records that were accepted from `earliest` to `latest` (epoch ms)."""
        # Periods begin and end on the hour.
        hours = (earliest // _HOUR_MS, latest // _HOUR_MS)
        if self._latest[0] != hours:
            found: set[bytes] = set()
            for account, period in self._periods:
                if period.start * 1000 <= latest and period.end * 1000 > earliest:
                    found.update(self._of(account, period))
            self._latest = (hours, frozenset(found))
        return self._latest[1]

    def _of(self, account: str, period: Period) -> list[bytes]:
        known = self._known.get((account, period.label))
        if known is None:
            key = self._ring.existing(account, Part.NUMBERS, period)
            known = [] if key is None else [blind(key, form) for form in self._forms]
            self._known[account, period.label] = known
        return known


class LogReader:
    """Reads one store. For one thread."""

    def __init__(self, directory: Path, kek: Kek, id_time: Callable[[int], float]) -> None:
        """directory: the store's. id_time: epoch seconds at which an id was drawn (`ids.id_time`). Raises
        StoreError when there is no store."""
        self._keys = ReadOnlyKeys(directory)
        try:
            self._db = connect(directory / "data.db", "data", read_only=True)
        except StoreError:
            self._keys.close()
            raise
        self._named = secrets_column(self._db)
        self._ring = KeyRing(kek, self._keys)
        self._id_time = id_time
        self._rows: OrderedDict[int, _Row] = OrderedDict()
        self.damaged: list[int] = []
        """Ids of records that `by_number` found and could not open, and of log rows it could not read: they were altered."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files."""
        self._db.close()
        self._keys.close()

    # -- one record ----------------------------------------------------------------------------------------------------

    def record(self, record_id: int) -> Found | None:
        """The record with this id; None when there is none (any more). Raises SealError when it was altered."""
        for seq in self._rows_of(record_id):
            row = self._row(seq)
            held = row.places.get(record_id)
            if held is None:
                continue
            place, packed = held
            secrets = self._keys.secrets(row.secrets)[place * SECRETS_BYTES :][:SECRETS_BYTES]
            return Found(seq, open_record(packed, self._ring, secrets.ljust(SECRETS_BYTES, b"\0")))
        return None

    def _rows_of(self, record_id: int) -> list[int]:
        """The rows that may hold a record: the one begun before its id was drawn, and the next."""
        if not 0 < record_id <= _MAX_ID:
            return []
        before = self._db.execute("SELECT max(seq) FROM log WHERE seq <= ?", (record_id,)).fetchone()[0]
        after = self._db.execute("SELECT min(seq) FROM log WHERE seq > ?", (record_id,)).fetchone()[0]
        return [seq for seq in (before, after) if seq is not None]

    def _row(self, seq: int) -> _Row:
        row = self._rows.get(seq)
        if row is not None:
            return row
        found = self._db.execute(
            f"SELECT count, CAST(records AS BLOB), CAST(digests AS BLOB), {self._named} FROM log LEFT JOIN purged USING (seq)"
            " WHERE seq = ?",
            (seq,),
        ).fetchone()
        count, records, digests, named = found if found is not None else (0, b"", b"", None)
        gone = read_purged(digests or b"")
        places = (place for place in range(count) if place not in gone)
        held = {
            read_header(packed).record_id: (place, packed)
            for place, packed in zip(places, iter_records(records), strict=False)
        }
        row = self._rows[seq] = _Row(seq, named or seq, held)
        while len(self._rows) > _ROWS_KEPT:
            self._rows.popitem(last=False)
        return row

    def events(self, record_id: int, limit: int = 1000) -> list[Event]:
        """What happened to a message, oldest first, at most `limit` events. In the rows that are not indexed yet it stops
        looking once the customer has acknowledged a final receipt."""
        start = min(self._rows_of(record_id), default=0)
        upto = indexed_upto(self._db)
        segments = self._db.execute(
            "SELECT data FROM event_index WHERE bucket = ? AND last >= ? AND low <= ?",
            (record_bucket(record_id), start, record_id),
        ).fetchall()
        rows = {seq for (data,) in segments for seq in find_record(data, record_id)}
        events: list[Event] = []
        for seq in sorted(rows):
            for (block,) in self._db.execute("SELECT events FROM log WHERE seq = ?", (seq,)).fetchall():
                events += (event for event in read_events(block) if event.id == record_id)
            if len(events) >= limit:
                return events[:limit]
        needle = record_id.to_bytes(8, "big")
        for seq, block in self._pages("events", max(upto, start - 1)):
            if _ended(events):
                break
            if seq not in rows and needle in block:
                events += (event for event in read_events(block) if event.id == record_id)
                if len(events) >= limit:
                    break
        return events[:limit]

    def _pages(self, column: str, after: int, until: int = _MAX_ID) -> Iterator[tuple[int, bytes]]:
        """(seq, records or events) of the rows above `after` up to `until`."""
        while True:
            page = self._db.execute(
                f"SELECT seq, CAST({column} AS BLOB) FROM log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                (after, until, _PAGE),
            ).fetchall()
            if not page:
                return
            yield from page
            after = page[-1][0]

    # -- all records of a number ---------------------------------------------------------------------------------------

    def accounts(self) -> list[str]:
        """Accounts of which something may still be found."""
        scopes = (read_scope(scope) for scope, _ in self._keys.scan(b"period/"))
        return sorted({scope[0] for scope in scopes if scope is not None})

    def by_number(
        self,
        forms: Iterable[bytes],
        accounts: Iterable[str] | None = None,
        since: float = 0.0,
        until: float = float("inf"),
        progress: Callable[[float], object] | None = None,
    ) -> Iterator[Found]:
        """Records sent from or to a number and accepted at `since <= t < until` (epoch seconds), newest first.

        forms: normal forms (`vault.numbers.search_forms`). accounts: None for all. progress(done): 0.0 to 1.0, after each
        stretch of the log looked through. Newest is what was accepted last, whatever the clock said. Memory is bounded by
        what is found in one stretch.
        """
        wanted = tuple(dict.fromkeys(forms))
        lowest, highest = self._db.execute("SELECT min(seq), max(seq) FROM log").fetchone()
        periods = self._periods(None if accounts is None else frozenset(accounts))
        if lowest is None or not periods or not wanted:
            return
        blinds = _Blinds(self._ring, wanted, periods, since, until)
        indexed = indexed_upto(self._db)
        windows = self._windows(indexed, lowest, since, until)
        for done in range(len(windows) + 1):
            ids = self._indexed(blinds, windows[-done]) if done else self._tail(blinds, indexed, highest)
            for record_id in ids:
                found = self._checked(record_id, since, until)
                if found is not None:
                    yield found
            if progress is not None:
                progress((done + 1) / (len(windows) + 1))

    def _periods(self, accounts: frozenset[str] | None) -> list[tuple[str, Period]]:
        """Accounts and live periods of which numbers can be searched."""
        listed = []
        for scope, _ in self._keys.scan(b"period/"):
            parsed = read_scope(scope)
            if parsed is not None and parsed[1] is Part.NUMBERS and (accounts is None or parsed[0] in accounts):
                listed.append((parsed[0], parsed[2]))
        return listed

    def _windows(self, indexed: int, lowest: int, since: float, until: float) -> list[Extent]:
        """What of the indexed rows may hold records of this time, oldest first, some extents joined to one each."""
        listed = written(self._db, indexed)
        begun = listed[0].first if listed else indexed + 1
        windows: list[Extent] = []
        if lowest < begun and lowest <= indexed:
            # Indexed by an earlier version, and not measured yet: anything may be in there.
            low = next((one.low for one in listed if one.low), _MAX_ID)
            windows.append(Extent(lowest, begun - 1, 1, low - 1 if listed else _MAX_ID, 0, _MAX_ID, 0))
        some: list[Extent] = []
        for one in listed:
            if one.touches(since, until):
                some.append(one)
                if len(some) == _WINDOW:
                    windows.append(_joined(some))
                    some = []
        return [*windows, _joined(some)] if some else windows

    def _indexed(self, blinds: _Blinds, window: Extent) -> list[int]:
        """Ids in a window whose record has one of the numbers, newest first."""
        buckets: dict[int, list[bytes]] = {}
        for value in blinds.within(window.earliest, window.latest):
            buckets.setdefault(number_bucket(value), []).append(value)
        found: set[int] = set()
        for bucket, values in buckets.items():
            segments = self._db.execute(
                "SELECT data FROM number_index WHERE bucket = ? AND last >= ? AND first <= ?",
                (bucket, window.first, window.last),
            )
            for (data,) in segments.fetchall():
                for value in values:
                    found.update(find(data, value))
        return sorted((one for one in found if window.low <= one <= window.high), reverse=True)

    def _tail(self, blinds: _Blinds, indexed: int, highest: int) -> list[int]:
        """The same of the rows that are not indexed yet."""
        found: set[int] = set()
        for seq, records in self._pages("records", indexed, highest):
            try:
                times = [accepted for _, accepted in iter_times(records)]
                every = blinds.within(min(times), max(times)) if times else frozenset()
                if every and (len(every) > _NEEDLES or any(value in records for value in every)):
                    found.update(record_id for value, record_id in iter_indexes(records) if value in every)
            except SealError:
                self.damaged.append(seq)
        return sorted(found, reverse=True)

    def _checked(self, record_id: int, since: float, until: float) -> Found | None:
        try:
            found = self.record(record_id)
        except SealError:
            self.damaged.append(record_id)
            return None
        if found is None or found.record.header.numbers_gone:  # purged or erased since it was indexed
            return None
        return found if since <= found.record.header.accepted_ms / 1000 < until else None

    # -- the chain -----------------------------------------------------------------------------------------------------

    def verify(
        self,
        key: Ed25519PublicKey | None = None,
        progress: Callable[[float], object] | None = None,
        keys: ChainKeys | None = None,
    ) -> LogVerdict:
        """Recomputes the digest of every record and the chain over all rows, and looks for every checkpoint in it: see
        `records.verify`. key: the checkpoints' of older versions; keys: the chain's."""
        return verify_log(self._db, self._keys.get, self._id_time, keys, key, progress)


def _joined(some: list[Extent]) -> Extent:
    """One extent of several in order, each with records in it."""
    return Extent(
        some[0].first,
        some[-1].last,
        min(one.low for one in some),
        max(one.high for one in some),
        min(one.earliest for one in some),
        max(one.latest for one in some),
        0,
    )


def _ended(events: list[Event]) -> bool:
    # Not UNKNOWN: another receipt may have followed.
    final = any(event.state in FINAL_STATES and event.state != State.UNKNOWN for event in events)
    return final and any(event.state in _TOLD for event in events)
