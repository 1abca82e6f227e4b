"""Lists the records of a time, newest first, a page at a time: for who asks without a phone number, which the indexes cannot
answer.

A page reads the log's rows backwards from where the page before ended, and stops when it has enough, or has looked through
enough: then it says how far it is. Stretches of the log in which nothing of that time stands are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from smppd.records.lookup import Found, LogReader
from smppd.store.log import LAST_ID, Extent
from smppd.vault.seal import RecordHeader, SealError, iter_records, read_header

_ROWS: Final = 32


class Place(NamedTuple):
    """Where a page begins: the newest row that is looked at, and in it records with a lower id than `before`."""

    seq: int = LAST_ID - 1
    before: int = LAST_ID

    def as_text(self) -> str:
        """Two numbers in hexadecimal, for a link."""
        return f"{self.seq:x}-{self.before:x}"

    @classmethod
    def from_text(cls, text: str) -> Place:
        """The inverse. ValueError."""
        seq, _, before = text.partition("-")
        place = cls(int(seq, 16), int(before, 16))
        if not (0 <= place.seq < LAST_ID and 0 <= place.before <= LAST_ID):
            raise ValueError("no place in the log")
        return place


class Page(NamedTuple):
    """Some records. more: where the next page begins, None at the end. reached: epoch milliseconds of the oldest record that
    was looked at, None for none."""

    found: list[Found]
    more: Place | None
    reached: int | None


def by_time(
    reader: LogReader,
    since: float,
    until: float,
    accounts: Collection[str] | None,
    place: Place,
    limit: int,
    most: int,
    wanted: Callable[[RecordHeader], bool] | None = None,
    asked: int = 0,
) -> Page:
    """Records that were accepted at `since <= t < until` (epoch seconds), of these accounts (None: all), as far as
    `wanted` says.

    limit: records on the page; most: records that are looked at for it; asked: of which `wanted` is asked. What cannot be read
    is in `reader.damaged`. Raises StoreError.
    """
    records = reader.records
    found: list[Found] = []
    reached: int | None = None
    looked = 0
    first_ms, end_ms = since * 1000, until * 1000
    upto = records.indexed()
    gaps = _Gaps(records.extents(upto), upto, since, until)
    seq = place.seq
    before = place.before
    while rows := records.before(gaps.below(seq) + 1, _ROWS):
        for at, packed in reversed(rows):
            headers = _headers(reader, at, packed)
            looked += len(headers)
            for header in sorted(headers, key=lambda one: one.record_id, reverse=True):
                if header.record_id >= before:
                    continue
                reached = header.accepted_ms if reached is None else min(reached, header.accepted_ms)
                if not first_ms <= header.accepted_ms < end_ms or (
                    accounts is not None and header.account not in accounts
                ):
                    continue
                if len(found) == limit or (wanted is not None and not asked):
                    return Page(found, Place(at, header.record_id + 1), reached)
                if wanted is not None:
                    asked -= 1
                    if not wanted(header):
                        continue
                one = _opened(reader, header.record_id)
                if one is not None:
                    found.append(one)
            before = LAST_ID
            if looked >= most:
                return Page(found, Place(max(0, at - 1), LAST_ID), reached)
        seq = rows[0][0] - 1
        if gaps.over(seq):
            break
    return Page(found, None, reached)


class _Gaps:
    """Which rows hold nothing of a time."""

    def __init__(self, extents: list[Extent], upto: int, since: float, until: float) -> None:
        """extents: of all rows up to `upto`. Those of several nodes may overlap."""
        self._touched: list[Extent] = []
        for one in extents:
            if not one.touches(since, until):
                continue
            before = self._touched[-1] if self._touched else None
            if before is not None and one.first <= before.last:
                self._touched[-1] = before._replace(last=max(before.last, one.last))
            else:
                self._touched.append(one)
        self._first = extents[0].first if extents else LAST_ID
        self._last = min(upto, max((one.last for one in extents), default=0))

    def below(self, seq: int) -> int:
        """The newest row at or below this one that may hold something; 0 for none."""
        if seq > self._last or seq < self._first:
            return seq  # not measured
        while self._touched and self._touched[-1].first > seq:
            self._touched.pop()
        if self._touched:
            return min(seq, self._touched[-1].last)
        return self._first - 1

    def over(self, seq: int) -> bool:
        """Whether nothing is left at or below this row."""
        return self.below(seq) <= 0


def _headers(reader: LogReader, seq: int, packed: bytes) -> list[RecordHeader]:
    try:
        return [read_header(one) for one in iter_records(packed)]
    except SealError:
        reader.damaged.append(seq)
        return []


def _opened(reader: LogReader, record_id: int) -> Found | None:
    try:
        return reader.record(record_id)
    except SealError:
        reader.damaged.append(record_id)
        return None
