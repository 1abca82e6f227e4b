"""The sub-processors (GDPR Art. 28(2), (4)): the carriers that messages go to."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from smppd.ids import EPOCH_MS
from smppd.message import State, read_events
from smppd.reports.document import Report, report
from smppd.reports.processing import recipient
from smppd.reports.source import Source
from smppd.store.log import Records

_PAGE: Final = 256
_DAY: Final = 86400
_TIME_SHIFT: Final = 22
_ABOUT = (
    "Sub-processors: the carriers (upstreams) of the configuration in force, with the routes, rules and accounts that may"
    " send there. Whom a carrier hands messages on to is its own list."
)


def processors(source: Source, records: Records | None, days: int = 0) -> Report:
    """See the module. days: messages that were sent in so many days are counted, which reads their events; 0: none. Raises
    StoreError."""
    rows: list[dict[str, Any]] = [recipient(source, one) for one in source.settings.upstreams]
    sections: dict[str, Any] = {"sub_processors": rows}
    if days and records is not None:
        sent = _sent(source, records, days)
        for row in rows:
            row[f"messages_sent_in_{days}_days"] = sent.pop(row["upstream"], 0)
        sections["carriers_of_before"] = [{"upstream": name, "messages": count} for name, count in sorted(sent.items())]
    return report("Sub-processors", _ABOUT, source.now, sections)


def _sent(source: Source, records: Records, days: int) -> Counter[str]:
    """How many times a message was taken by each carrier since then. Events lie in rows that were begun at that time."""
    since = int((source.now - days * _DAY) * 1000)
    found: Counter[str] = Counter()
    after = max(0, since - EPOCH_MS) << _TIME_SHIFT
    bounds = records.bounds()
    if bounds is None:
        return found
    first, last = max(after, bounds[0]), bounds[1]
    while page := records.told(after, _PAGE):
        for _, block in page:
            for event in read_events(block):
                if event.state == State.SUBMITTED and event.time >= since and event.upstream:
                    found[event.upstream] += 1
        after = page[-1][0]
        source.progress(min(1.0, (after - first) / max(1, last - first)))
    return found
