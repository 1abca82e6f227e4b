"""Finds the keys that are due to be purged, and the log rows that hold what they opened.

A clock may have been wrong while a record was written. The record's time is what that clock said. Its id never goes back:
where the clock had been set back, the id says when the record was written. Retention counts from the later of the two, so
nothing is purged early. Where an id lies in the future, the ids are wrong, and the record's time counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeVar

from smppd.config import Kept, Retain
from smppd.records.extents import Extents
from smppd.store.log import Extent, PurgeRows
from smppd.vault.keys import Part, Period, read_scope
from smppd.vault.seal import RecordHeader

SPANS: Final = "purge spans"
"""Name of what is left to sweep (`PurgeRows.remember`). `TURN` says which of several processes may still change it."""
TURN: Final = "purge turn"
"""Name of a number that rises whenever something is added to `SPANS`. Who sweeps keeps in memory how far it is and writes it
down now and then: as long as this number is the same, everything before that is swept as it then had to be."""
RETAIN: Final = "purge retain"
"""Name of each account's retention, as it was configured last."""
_HOUR: Final = 3600
_DAY: Final = 86400
_HOURS: Final = 2 * _DAY  # what is kept for longer has keys of days or months
_PREPARED: Final = 3600.0  # seconds ahead for which the daemon makes keys, with room
_TRIES: Final = 100
_N = TypeVar("_N", int, float)


class DueKey(NamedTuple):
    """A period key whose time is over."""

    account: str
    part: Part
    period: Period


def add_spans(rows: PurgeRows, spans: list[list[int]], values: Mapping[str, object] | None = None) -> bool:
    """Puts down what is to be swept, beside what other processes have put down, and other values with it. False where these
    were always quicker."""
    for _ in range(_TRIES):
        turn = rows.remembered(TURN, 0)
        left = merged(rows.remembered(SPANS, []) + spans)
        if rows.remember({**(values or {}), SPANS: left, TURN: turn + 1}, {TURN: turn}):
            return True
    return False


class PurgePlan(NamedTuple):
    """What a purge would do now. unknown: accounts that have keys but are in no configuration that this store has seen;
    their retention is not known. spans: (from, to) of row ids to sweep. future: keys of periods ahead of the clock: either
    they were made by a clock that was ahead, or this clock is behind."""

    due: list[DueKey]
    spans: list[list[int]]
    unknown: list[str]
    future: int = 0


class Due:
    """Finds what is due in one store. For use in one thread."""

    def __init__(
        self,
        rows: PurgeRows,
        retains: Callable[[], Mapping[str, Retain]],
        id_time: Callable[[int], float],
        held: Callable[[str, Part, Period], bool],
    ) -> None:
        """As for `retention.Purger`."""
        self._rows = rows
        self._retains = retains
        self._id_time = id_time
        self._held = held
        self._measured = Extents(rows, id_time)
        self._listed: list[Extent] | None = None

    def extents(self) -> list[Extent]:
        """Those of the whole log, as of the latest look."""
        if self._listed is None:
            self._listed = self._measured.all()
        return self._listed

    def plan(
        self,
        now: float,
        ready: Callable[[list[DueKey], list[Extent]], list[DueKey]] = lambda due, _listed: due,
    ) -> tuple[PurgePlan, dict[str, dict[str, float]]]:
        """What is due at `now` (epoch seconds), and the retentions to remember. Changes nothing. ready(due keys, extents of
        the whole log): those that need not wait for anything else."""
        known: dict[str, dict[str, float]] = self._rows.remembered(RETAIN, {})
        retains = {name: dict(entry) for name, entry in known.items()}
        for account, retain in self._retains().items():
            entry = retains.setdefault(account, {"swept": 0.0})
            entry.update(body=retain.body, numbers=retain.numbers, billing=retain.billing)
            _limit(entry, retain, now)
        due: list[DueKey] = []
        unknown, future = set(), 0
        listed = self._listed = self._measured.all()
        behind = [one for one in listed if one.lead > 0 and self._id_time(one.high) <= now]
        for scope in self._rows.scopes():
            parsed = read_scope(scope)
            if parsed is None:
                continue
            account, part, period = parsed
            future += period.start > now + _PREPARED
            if account not in retains:
                unknown.add(account)
                continue
            over = period.end + kept_for(retains[account], part, period)
            if over <= now and over + _later(period, behind) <= now and not self._held(account, part, period):
                due.append(DueKey(account, part, period))
        due = ready(due, listed)
        times = [(float(key.period.start), float(key.period.end)) for key in due]
        for entry in retains.values():
            over = now - entry["billing"]
            over -= over % (_HOUR if entry["billing"] <= 2 * _DAY else _DAY)
            if over > entry["swept"]:
                times.append((entry["swept"], over))
                entry["swept"] = over
        spans = self._spans(listed, times)
        return PurgePlan(due, merged(self._rows.remembered(SPANS, []) + spans), sorted(unknown), future), retains

    def _spans(self, listed: list[Extent], times: list[tuple[float, float]]) -> list[list[int]]:
        """The rows with records of these times, by the records' time or by their ids. There is no gap between two extents,
        since secrets whose row was never written lie there."""
        rows = []
        wanted = merged([[start, end] for start, end in times])
        for at, one in enumerate(listed):
            if not one.low:
                continue
            low, high = self._id_time(one.low), self._id_time(one.high)
            if any(one.touches(start, end) or (low < end and high >= start) for start, end in wanted):
                last = max(one.last, listed[at + 1].first - 1) if at + 1 < len(listed) else one.last
                rows.append([one.first if at else 0, last])
        return rows

    def kept_since(self, head: RecordHeader, now: float) -> float:
        """Since when a record is kept (epoch seconds): by its id where that is later, as after a clock was set back, unless
        that is in the future."""
        accepted, drawn = head.accepted_ms / 1000, self._id_time(head.record_id)
        return drawn if accepted < drawn <= now else accepted


def _limit(entry: dict[str, float], retain: Retain, now: float) -> None:
    """Notes how long bodies are kept without a basis, and since when that is so."""
    limit = retain.limit if isinstance(retain, Kept) else None
    if limit is None:
        entry.pop("limit", None)
        entry.pop("since", None)
    else:
        entry["limit"] = limit
        entry.setdefault("since", now)


def kept_for(entry: Mapping[str, float], part: Part, period: Period) -> float:
    """Seconds for which what a period key opens is kept after its end. The limit of what has no basis is for keys of hours
    (`config.Kept`). Where the account's own keys are of hours too, it is for those that were made since."""
    kept, limit = entry[part.value], entry.get("limit")
    if part is not Part.BODY or limit is None or period.end - period.start > _HOUR:
        return kept
    return min(kept, limit) if kept > _HOURS or period.start >= entry["since"] else kept


def _later(period: Period, behind: list[Extent]) -> float:
    """Seconds by which the retention of a period begins later than its end, because a clock that had been set back put
    records into it. behind: extents that show such a clock, and whose ids are not in the future any more: these ids say when
    the records were written."""
    return max((one.lead for one in behind if one.touches(period.start, period.end)), default=0) / 1000


def merged(spans: list[list[_N]]) -> list[list[_N]]:
    """The spans in order and without overlaps."""
    found: list[list[_N]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return found
