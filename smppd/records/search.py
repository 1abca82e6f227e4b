"""Searches the sealed log for a phone number: all records sent from or to it, newest first.

Numbers are not kept: each period has blind indexes of its own. What is indexed is looked up in segments, a stretch of the log
at a time; the rows behind that are scanned.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from smppd.records.lookup import Found, LogReader
from smppd.records.segments import find_number, number_bucket
from smppd.store.log import LAST_ID, Extent, Records
from smppd.vault.keys import KeyRing, Part, Period, read_scope
from smppd.vault.numbers import blind
from smppd.vault.seal import SealError, iter_indexes, iter_times

_WINDOW: Final = 400
"""Extents that are looked through at a time at most: as many as a merged segment of the index holds (`indexer.FAN`), so that
each segment is read once."""
_HOUR_MS: Final = 3_600_000
_PAGE: Final = 64
_NEEDLES: Final = 32


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


def accounts(records: Records) -> list[str]:
    """Accounts of which something may still be found."""
    scopes = (read_scope(scope) for scope, _ in records.keys.scan(b"period/"))
    return sorted({scope[0] for scope in scopes if scope is not None})


def by_number(
    reader: LogReader,
    forms: Iterable[bytes],
    accounts: Iterable[str] | None = None,
    since: float = 0.0,
    until: float = float("inf"),
    progress: Callable[[float], object] | None = None,
) -> Iterator[Found]:
    """Records sent from or to a number and accepted at `since <= t < until` (epoch seconds), newest first.

    forms: normal forms (`vault.numbers.search_forms`). accounts: None for all. progress(done): 0.0 to 1.0, after each
    stretch of the log looked through. Newest is what was accepted last, whatever the clock said. Memory is bounded by
    what is found in one stretch. What cannot be read is in `reader.damaged`. Raises StoreError.
    """
    wanted = tuple(dict.fromkeys(forms))
    records = reader.records
    bounds = records.bounds()
    periods = _periods(records, None if accounts is None else frozenset(accounts))
    if bounds is None or not periods or not wanted:
        return
    lowest, highest = bounds
    blinds = _Blinds(reader.ring, wanted, periods, since, until)
    indexed = records.indexed()
    windows = _windows(records, indexed, lowest, since, until)
    for done in range(len(windows) + 1):
        ids = _indexed(records, blinds, windows[-done]) if done else _tail(reader, blinds, indexed, highest)
        for record_id in ids:
            found = _checked(reader, record_id, since, until)
            if found is not None:
                yield found
        if progress is not None:
            progress((done + 1) / (len(windows) + 1))


def _periods(records: Records, accounts: frozenset[str] | None) -> list[tuple[str, Period]]:
    """Accounts and live periods of which numbers can be searched."""
    listed = []
    for scope, _ in records.keys.scan(b"period/"):
        parsed = read_scope(scope)
        if parsed is not None and parsed[1] is Part.NUMBERS and (accounts is None or parsed[0] in accounts):
            listed.append((parsed[0], parsed[2]))
    return listed


def _windows(records: Records, indexed: int, lowest: int, since: float, until: float) -> list[Extent]:
    """What of the indexed rows may hold records of this time, oldest first, some extents joined to one each."""
    listed = records.extents(indexed)
    begun = listed[0].first if listed else indexed + 1
    windows: list[Extent] = []
    if lowest < begun and lowest <= indexed:
        # Indexed by an earlier version, and not measured yet: anything may be in there.
        low = next((one.low for one in listed if one.low), LAST_ID)
        windows.append(Extent(lowest, begun - 1, 1, low - 1 if listed else LAST_ID, 0, LAST_ID, 0))
    ends = records.number_ends()
    some: list[Extent] = []
    for one in listed:
        if not one.touches(since, until):
            continue
        if some and (len(some) == _WINDOW or bisect_left(ends, one.first) != bisect_left(ends, some[0].first)):
            windows.append(_joined(some))
            some = []
        some.append(one)
    return [*windows, _joined(some)] if some else windows


def _indexed(records: Records, blinds: _Blinds, window: Extent) -> list[int]:
    """Ids in a window whose record has one of the numbers, newest first."""
    buckets: dict[int, list[bytes]] = {}
    for value in blinds.within(window.earliest, window.latest):
        buckets.setdefault(number_bucket(value), []).append(value)
    found: set[int] = set()
    for bucket, values in buckets.items():
        for data in records.number_segments(bucket, window.first, window.last):
            for value in values:
                found.update(find_number(data, value))
    return sorted((one for one in found if window.low <= one <= window.high), reverse=True)


def _tail(reader: LogReader, blinds: _Blinds, indexed: int, highest: int) -> list[int]:
    """The same of the rows that are not indexed yet."""
    found: set[int] = set()
    for seq, records in _packed(reader.records, indexed, highest):
        try:
            times = [accepted for _, accepted in iter_times(records)]
            every = blinds.within(min(times), max(times)) if times else frozenset()
            if every and (len(every) > _NEEDLES or any(value in records for value in every)):
                found.update(record_id for value, record_id in iter_indexes(records) if value in every)
        except SealError:
            reader.damaged.append(seq)
    return sorted(found, reverse=True)


def _checked(reader: LogReader, record_id: int, since: float, until: float) -> Found | None:
    try:
        found = reader.record(record_id)
    except SealError:
        reader.damaged.append(record_id)
        return None
    if found is None or found.record.header.numbers_gone:  # purged or erased since it was indexed
        return None
    return found if since <= found.record.header.accepted_ms / 1000 < until else None


def _packed(records: Records, after: int, until: int) -> Iterator[tuple[int, bytes]]:
    while page := records.packed(after, until, _PAGE):
        yield from page
        after = page[-1][0]


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
