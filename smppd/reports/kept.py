"""Counts what the log holds now, account by account. Goes once through the log, a page of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from smppd.reports.source import Progress, Source
from smppd.store.log import Log
from smppd.vault.seal import Glance, SealError, iter_glances

_PAGE: Final = 256


@dataclass(slots=True)
class Kept:
    """records: rows in the log, stripped ones too; numbers, texts: of these, with numbers and a sealed text that were not taken
    out; oldest: epoch milliseconds of the oldest, 0 for none."""

    records: int = 0
    numbers: int = 0
    texts: int = 0
    oldest: int = 0

    def add(self, one: Glance) -> None:
        """Counts a record."""
        self.records += 1
        self.numbers += one.person is not None
        self.texts += one.body
        if not self.oldest or one.accepted_ms < self.oldest:
            self.oldest = one.accepted_ms


def count_kept(source: Source) -> tuple[dict[str, Kept], int]:
    """What is kept of each account that may be seen, and how many log rows could not be read."""
    found: dict[bytes, Kept] = {}
    damaged: list[int] = []
    if source.log is not None:
        for one in glances(source.log, [(0, None)], damaged, source.progress):
            kept = found.get(one.account)
            if kept is None:
                kept = found[one.account] = Kept()
            kept.add(one)
    named = {account.decode("utf-8", "replace"): kept for account, kept in found.items()}
    return {name: kept for name, kept in sorted(named.items()) if source.seen(name)}, len(damaged)


def glances(log: Log, spans: list[tuple[int, int | None]], damaged: list[int], progress: Progress) -> Iterator[Glance]:
    """The records of some stretches of the log: (after, until) of row ids each, until None for the end. damaged: gets the ids
    of rows that cannot be read."""
    bounds = log.bounds()
    if bounds is None:
        return
    ends = [(after, bounds[1] if until is None else min(until, bounds[1])) for after, until in spans]
    total = sum(max(0, end - max(after, bounds[0])) for after, end in ends) or 1
    passed = 0
    for after, end in ends:
        first = max(after, bounds[0])
        while page := log.packed(after, end, _PAGE):
            for seq, records in page:
                try:
                    yield from iter_glances(records)
                except SealError:
                    damaged.append(seq)
            after = page[-1][0]
            progress(min(1.0, (passed + max(0, after - first)) / total))
        passed += max(0, end - first)
