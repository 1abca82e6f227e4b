"""The erasure journal as a store keeps it: who is to be erased by record ids, how far that has come, and the log for the one
who does it.

A request is a row of facts, which hold nothing of a person. Its records are rows with the parts that are still there. Records
are erased by their ids only, so that a journal tells nobody whose they were. All of it is for one thread; every method raises
StoreError.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from smppd.store.log import LogRow, PurgeRows

NUMBERS: Final = 1
BODY: Final = 2
INDEX: Final = 4
"""Bits of `Erased.parts`: what is still to be erased of a record. INDEX: its blind indexes may stand in the index of
numbers."""
ALL: Final = NUMBERS | BODY | INDEX


class Erased(NamedTuple):
    """A record that is to be erased. erasure: the request that named it first. parts: see the bits above; 0: it is erased.
    after: not before this time (epoch seconds); hold: the hold that keeps it, 0 for none."""

    record: int
    erasure: int
    parts: int
    after: int
    hold: int


class Piece(NamedTuple):
    """A segment of the numbers' index. handle: names it in the store."""

    handle: int
    bucket: int
    data: bytes


class Waiting(NamedTuple):
    """Records of one erasure whose parts are not all erased yet. hold: the number of the hold that keeps them, 0 for none;
    after: epoch seconds, the latest time that has to pass first, 0 for none."""

    erasure: int
    hold: int
    records: int
    after: int


Stripped = tuple[LogRow, bytes, bytes, bytes | None]
"""As `PurgeRows.shorten` takes it."""


class ErasureRows(PurgeRows, Protocol):
    """See the module."""

    # -- requests ------------------------------------------------------------------------------------------------------

    def begin_erasure(self, facts: Mapping[str, Any]) -> int:
        """Puts a request down, durable when this returns; its number, which no other has."""

    def restore_erasure(self, number: int, facts: Mapping[str, Any]) -> bool:
        """The same under a number that a journal says; False where there is one of this number."""

    def erasures(self, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """(number, facts) of the requests above a number, rising."""

    def erasure(self, number: int) -> dict[str, Any] | None:
        """The facts of one request."""

    def note_erasure(self, number: int, facts: Mapping[str, Any]) -> None:
        """Adds facts to a request, or puts others in their place; durable when this returns."""

    # -- records -------------------------------------------------------------------------------------------------------

    def list_records(self, erasure: int, records: Sequence[int], parts: int = NUMBERS | BODY) -> int:
        """Records are to be erased by a request; how many are new. Those that are listed already stay with the request that
        named them first."""

    def listed(self, erasure: int, after: int, limit: int) -> list[Erased]:
        """The first ``limit`` records of a request with ids above ``after``, rising."""

    def holds_of(self, erasure: int) -> dict[int, int]:
        """hold -> how many records of a request it keeps."""

    def waiting(self, records: Collection[int]) -> dict[int, int]:
        """hold -> how many of these records are not erased yet, whichever request named them; 0 for those that no hold
        keeps."""

    def left(self, erasure: int) -> tuple[int, int, int]:
        """(not erased, of these kept by a hold, of these to be kept longer) of a request's records; what is left to do in the
        index alone is none of these."""

    def due(self, parts: int, now: float, but: Collection[int], limit: int) -> list[Erased]:
        """The first ``limit`` records, rising, of which one of these parts is due at ``now`` (epoch seconds) and that no hold
        keeps; but: of other requests than these."""

    def postpone(self, records: Sequence[Erased]) -> None:
        """Writes down ``after`` and ``hold`` of records of which the parts are as they were."""

    def wake(self, holds: Collection[int]) -> int:
        """Records that another hold than these kept are due now; how many."""

    def wake_late(self) -> int:
        """Records that wait for a time are due now; how many."""

    def erased(self, low: int, high: int) -> frozenset[int]:
        """Ids from ``low`` to ``high`` of the records whose numbers are erased."""

    # -- the log -------------------------------------------------------------------------------------------------------

    def holding(self, records: Sequence[int]) -> list[LogRow]:
        """The log rows that may hold these records, rising."""

    def strip(self, changes: Sequence[Stripped], marks: Sequence[tuple[Erased, Erased]]) -> bool:
        """Writes what is left of rows, as `shorten` does, and (before, after) of the records; all or nothing. False where
        something was not as it was before: then nothing is changed."""

    def pieces(self, seq: int, buckets: Collection[int] | None) -> list[Piece]:
        """The segments of the numbers' index that cover a log row: of these buckets, None for all."""

    def replace_piece(self, piece: Piece, data: bytes) -> bool:
        """Puts other octets into the place of a segment. False where it is not that any more, since it was merged."""

    def forget_replies(self, keys: Collection[bytes]) -> int:
        """Removes the cold rows under these keys that say which sender replies go to; how many. Where no daemon runs."""

    def index_done(self, records: Sequence[Erased]) -> None:
        """Nothing of these records is in the index of numbers any more."""
