"""What is on its way, as a store keeps it, for those who only look: the journal of the spool, cold rows, damaged items.

Whoever reads works beside the running daemon, in short reads, and what he reads changes meanwhile: a thing may move from the
journal into a row or back between two reads (`records.underway` knows how to miss none). What does not open, though it is still
there, is given without its content. Every method raises StoreError.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from smppd.store.api import ColdRow, Damaged


class Block(NamedTuple):
    """Entries of one commit. at: its place, rising; data: the entries, None where it does not open."""

    at: int
    data: bytes | None

    def __repr__(self) -> str:
        return f"<Block {self.at:x}>"


class Row(NamedTuple):
    """A cold row. at: its place, to go on behind it; row: None where it does not open."""

    at: tuple[int, str, bytes, int]
    row: ColdRow | None

    def __repr__(self) -> str:
        return f"<Row {self.at[3]:x}>"


class Underway(Protocol):
    """See the module. For one thread."""

    def blocks(self, after: int, limit: int) -> list[Block]:
        """The first ``limit`` blocks of the journal behind a place (0: all), in order."""

    def rows(self, after: tuple[int, str, bytes, int] | None, limit: int) -> list[Row]:
        """The first ``limit`` cold rows behind a place (None: all), in order."""

    def damaged(self, after: int, limit: int) -> list[tuple[int, Damaged | None]]:
        """(number, item) of the first ``limit`` damaged items above a number (0: all), rising; None where one does not open."""

    def close(self) -> None:
        """Lets the store go."""
