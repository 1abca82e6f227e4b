"""Reads the rows of the log that are committed from now on, and gives their records and events to `Lives`."""

from __future__ import annotations

from typing import Final

from smppd.message import read_events
from smppd.spans.lives import Lives, Sampler, Span
from smppd.store.log import LogRow, Records
from smppd.vault.seal import Direction, SealError, iter_records, iter_times, read_header

PAGE_ROWS: Final = 64
"""Rows that are read at one time."""


class Follower:
    """See the module. For one thread. Raises StoreError: then trying again may help."""

    def __init__(self, records: Records, sampler: Sampler, lives: Lives) -> None:
        """The log stays the caller's. What is committed by now is left out."""
        self._records = records
        self._sampler = sampler
        self._lives = lives
        bounds = records.bounds()
        self._seq = bounds[1] if bounds else records.anchor()[1] or 0

    def step(self) -> tuple[list[Span], bool]:
        """The spans of the next rows, and whether there may be more rows."""
        rows = self._records.rows(self._seq, PAGE_ROWS)
        spans: list[Span] = []
        for row in rows:
            self._seq = row.seq
            try:
                self._row(row, spans)
            except SealError:  # somebody wrote into the file, as `log verify` says; what it holds is not traced
                continue
        return spans, len(rows) == PAGE_ROWS

    def _row(self, row: LogRow, spans: list[Span]) -> None:
        if any(self._sampler.trace(identity) for identity, _ in iter_times(row.records)):
            for packed in iter_records(row.records):
                header = read_header(packed)
                self._lives.record(
                    header.record_id, header.accepted_ms, header.account, header.direction is Direction.MO
                )
        for event in read_events(row.events):
            spans += self._lives.event(event)
