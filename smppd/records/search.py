"""Searches the sealed log for a phone number: all records sent from or to it, newest first.

Numbers are not kept: each period has blind indexes of its own. What is indexed is looked up in segments, a stretch of the log
at a time; the rows behind that are scanned.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from operator import attrgetter
from typing import Final

from smppd.records.lookup import Found, LogReader
from smppd.records.segments import find_number, number_bucket
from smppd.store.log import LAST_ID, Extent, Front, Records
from smppd.vault.keys import Part, Period, read_scope
from smppd.vault.numbers import blind
from smppd.vault.seal import PeriodKeys, SealError, iter_indexes, iter_times

_WINDOW: Final = 400
"""Extents that are looked through at a time at most: as many as a merged segment of the index holds (`indexer.FAN`), so that
each segment is read once."""
_KEYS: Final = 2000
"""So many keys of periods are meant by one stretch, where a search may be ended between two: some 0.1 s."""
_HOUR_MS: Final = 3_600_000
_NUMBERS: Final = f"/{Part.NUMBERS.value}/".encode()
_PAGE: Final = 64
_NEEDLES: Final = 32
_VOUCHED: Final = 2000
"""So many of the rows that are not indexed yet are held against the chain. More there are only in a log of before there were
indexes, which `log verify` goes through."""


class Blinds:
    """The blind indexes of some numbers in all periods that are searched, computed as they are needed."""

    def __init__(
        self, ring: PeriodKeys, forms: tuple[bytes, ...], periods: list[tuple[str, Period]], since: float, until: float
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
    before: int = LAST_ID,
    reached: Callable[[int], bool] | None = None,
) -> Iterator[Found]:
    """Records sent from or to a number and accepted at `since <= t < until` (epoch seconds), newest first.

    forms: normal forms (`vault.numbers.search_forms`). accounts: None for all. before: only records with a lower id, for who
    goes on where he was; what is newer is not looked through again. reached(id): called after each stretch, when all records
    from this id on were looked at; where it says True the search ends there. Stretches are shorter with it, as many accounts
    have many keys. progress(done): 0.0 to 1.0, after each stretch of the log looked through. Newest is what was accepted last,
    whatever the clock said. Memory is bounded by what is found in one stretch. What cannot be read is in `reader.damaged`.
    Raises StoreError.
    """
    wanted = tuple(dict.fromkeys(forms))
    only = None if accounts is None else frozenset(accounts)
    records = reader.records
    if records.bounds() is None or not wanted:
        return
    # Records whose periods died are found by what their holds know of them.
    held = reader.held.find(wanted)
    kept = frozenset(held)
    # Both are newest first: ids rise with the rows.
    latest = before
    lowest = 0

    def ends(low: int) -> bool:
        nonlocal lowest
        if reached is None or not reached(low):
            return False
        lowest = low
        return True

    living = _living(reader, wanted, only, since, until, progress, before, None if reached is None else ends)
    for record_id in merge(living, held, reverse=True):
        if record_id < lowest:
            return
        if record_id < latest:
            latest = record_id
            found = _checked(reader, record_id, since, until, only if record_id in kept else None)
            if found is not None:
                yield found


def _living(
    reader: LogReader,
    forms: tuple[bytes, ...],
    accounts: frozenset[str] | None,
    since: float,
    until: float,
    progress: Callable[[float], object] | None,
    before: int,
    reached: Callable[[int], bool] | None,
) -> Iterator[int]:
    """The ids of records with one of the numbers whose period lives, newest first; the same may come twice."""
    records = reader.records
    bounds = records.bounds()
    living = periods(records, accounts)
    if bounds is None or not living:
        return
    blinds = Blinds(reader.ring, forms, living, since, until)
    front = records.covered()
    upto = max(front.values(), default=0)
    most = _WINDOW
    if reached is not None:
        most = max(1, min(_WINDOW, len(records.extents(upto)) * _KEYS // len(living)))
    listed = [one for one in windows(records, upto, bounds[0], since, until, most) if one.low < before]
    listed.sort(key=attrgetter("high"))  # of several nodes they overlap: what was indexed late is among what was before
    waiting: set[int] = set()
    for done in range(len(listed) + 1):
        waiting.update(indexed(records, blinds, listed[-done]) if done else _tail(reader, blinds, front, bounds[1]))
        below = listed[-done - 1].high if done < len(listed) else 0
        ready = sorted((one for one in waiting if one > below), reverse=True)
        yield from ready
        waiting.difference_update(ready)
        if progress is not None:
            progress((done + 1) / (len(listed) + 1))
        if reached is not None and 0 < done < len(listed) and reached(max(listed[-done].low, below + 1)):
            return


def periods(records: Records, accounts: frozenset[str] | None) -> list[tuple[str, Period]]:
    """Accounts and live periods of which numbers can be searched."""
    listed = []
    for scope, _ in records.keys.scan(b"period/"):
        if _NUMBERS not in scope:  # half of them; an account's name has no slash there
            continue
        parsed = read_scope(scope)
        if parsed is not None and parsed[1] is Part.NUMBERS and (accounts is None or parsed[0] in accounts):
            listed.append((parsed[0], parsed[2]))
    return listed


def windows(records: Records, upto: int, lowest: int, since: float, until: float, most: int = _WINDOW) -> list[Extent]:
    """What of the indexed rows may hold records of this time, oldest first, up to `most` extents joined to one each."""
    listed = records.extents(upto)
    begun = listed[0].first if listed else upto + 1
    found: list[Extent] = []
    if lowest < begun and lowest <= upto:
        # Indexed by an earlier version, and not measured yet: anything may be in there.
        low = next((one.low for one in listed if one.low), LAST_ID)
        found.append(Extent(lowest, begun - 1, 1, low - 1 if listed else LAST_ID, 0, LAST_ID, 0))
    ends = records.number_ends()
    some: list[Extent] = []
    for one in listed:
        if not one.touches(since, until):
            continue
        if some and (len(some) == most or bisect_left(ends, one.first) != bisect_left(ends, some[0].first)):
            found.append(_joined(some))
            some = []
        some.append(one)
    return [*found, _joined(some)] if some else found


def indexed(records: Records, blinds: Blinds, window: Extent) -> list[int]:
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


def _tail(reader: LogReader, blinds: Blinds, front: Front, highest: int) -> set[int]:
    """The same of the rows that are not indexed yet."""
    found: set[int] = set()
    for place, (seq, records) in enumerate(_packed(reader.records, front, highest)):
        try:
            if place < _VOUCHED:
                reader.vouch(seq)  # what was taken out of a row leaves nothing to be found by
            times = [accepted for _, accepted in iter_times(records)]
            every = blinds.within(min(times), max(times)) if times else frozenset()
            if every and (len(every) > _NEEDLES or any(value in records for value in every)):
                found.update(record_id for value, record_id in iter_indexes(records) if value in every)
        except SealError:
            reader.damaged.append(seq)
    return found


def _checked(
    reader: LogReader, record_id: int, since: float, until: float, accounts: frozenset[str] | None
) -> Found | None:
    try:
        found = reader.record(record_id)
    except SealError:
        reader.damaged.append(record_id)
        return None
    if found is None or found.record.header.numbers_gone:  # purged or erased since it was indexed
        return None
    header = found.record.header
    if accounts is not None and header.account not in accounts:
        return None
    return found if since <= header.accepted_ms / 1000 < until else None


def _packed(records: Records, front: Front, highest: int) -> Iterator[tuple[int, bytes]]:
    at = dict(front)
    while (page := records.packed_beyond(at, _PAGE)) and page[0][0] <= highest:
        for seq, packed in page:
            at[records.node(seq)] = seq
            yield seq, packed


def _joined(some: list[Extent]) -> Extent:
    """One extent of several in order, each with records in it."""
    return Extent(
        some[0].first,
        max(one.last for one in some),
        min(one.low for one in some),
        max(one.high for one in some),
        min(one.earliest for one in some),
        max(one.latest for one in some),
        0,
    )
