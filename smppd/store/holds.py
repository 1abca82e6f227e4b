"""What holds keep of records, as a store keeps it: sealed part keys by record and hold, and how far each hold has come.

A back end opens nothing of it. Whatever is added is added together with how far the hold has come, in one transaction: so what
says that all up to a row is kept never says too much, in a copy neither. Several processes work on it at once. Every method
raises StoreError.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol


class Mark(IntEnum):
    """How far a hold has come. ROWS: all rows of the log up to this one were looked through (8 octets). OTHERS: what other
    holds keep was, up to this (hold, record), 8 octets each."""

    ROWS = 0
    OTHERS = -1


class HeldRow(NamedTuple):
    """What one hold keeps of one record. source, destination: blind indexes under the hold's key; sealed: the part keys
    (`vault.held`)."""

    record: int
    hold: int
    source: bytes
    destination: bytes
    sealed: bytes

    def __repr__(self) -> str:
        return f"<HeldRow {self.record:016x} of hold {self.hold}>"


class HeldRows(Protocol):
    """The held rows of one store, and the wrapped keys beside them. For one thread. ``locked``: seconds for which the last
    write kept others from writing."""

    @property
    def locked(self) -> float:
        """See above."""

    def wrapped(self, scope: bytes) -> bytes | None:
        """A wrapped key as it is stored now."""

    def put_key(self, scope: bytes, wrapped: bytes) -> bytes:
        """Stores a key unless the scope has one, durable when this returns; the one that is there now."""

    def destroy_key(self, scope: bytes) -> None:
        """Deletes a key, durable and overwritten when this returns."""

    def mark(self, hold: int, which: Mark) -> bytes:
        """How far a hold has come, empty where it has not begun."""

    def add(self, scope: bytes, hold: int, rows: Sequence[HeldRow], which: Mark, mark: bytes) -> bool:
        """Adds rows that are not there yet, and says how far the hold has come: all or nothing. False, and nothing was done,
        where there is no key of this scope any more: the hold has ended."""

    def within(self, low: int, high: int) -> set[int]:
        """The ids of records that any hold keeps, from ``low`` to ``high``."""

    def of(self, record: int) -> list[HeldRow]:
        """What is kept of a record."""

    def find(self, hold: int, blinds: Sequence[bytes]) -> list[int]:
        """The ids of records of a hold of which one of the two blind indexes is among these, rising."""

    def page(self, hold: int, after: int, limit: int) -> list[HeldRow]:
        """The first rows of a hold above a record, rising."""

    def count(self, hold: int) -> int:
        """How many records a hold keeps."""

    def holds(self) -> list[int]:
        """The numbers of all holds of which something is there."""

    def remove(self, hold: int, records: Sequence[int]) -> None:
        """Deletes rows of a hold and overwrites them."""

    def forget(self, hold: int) -> None:
        """Deletes what says how far a hold has come."""

    def close(self) -> None:
        """Lets the store go."""
