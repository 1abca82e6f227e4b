"""The register of consents as a store keeps it: rows that are found by a keyed hash of account and number, and sealed.

What is in them is none of a back end's business. Commands and the daemon work on them at once. Every method raises StoreError.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

FOREVER = (1 << 53) - 1
"""The time of what does not end by itself."""


class ConsentRow(NamedTuple):
    """A consent, or its withdrawal. digest: of all that was said, 16 octets; subject: keyed hash of account and number, 16
    octets; scopes: 16 octets for each thing that it is about. withdrawn: epoch seconds, 0 while it counts. until: epoch
    seconds, when it may be removed. number: the row's own, 0 for one that is new."""

    digest: bytes
    account: str
    subject: bytes
    scopes: bytes
    withdrawn: int
    until: int
    sealed: bytes
    number: int = 0

    def __repr__(self) -> str:
        return f"<ConsentRow {self.number} of {self.account}>"


class Standing(NamedTuple):
    """A consent that counts, as the daemon knows it."""

    account: str
    subject: bytes
    scopes: bytes

    def __repr__(self) -> str:
        return f"<Standing of {self.account}>"


class Consents(Protocol):
    """The consents of one store. For one thread."""

    def add(self, rows: Sequence[ConsentRow]) -> int:
        """Adds rows, durable when this returns, all or none; how many are new. One whose digest is there already is left as it
        is. A new one that is older than its subject's withdrawal is put down as withdrawn: ``withdrawn`` of a row is when it
        was given, negative, and becomes 0 or the time of that withdrawal."""

    def named(self, digests: Sequence[bytes]) -> list[ConsentRow]:
        """The rows of these digests, some hundreds at the most."""

    def of(self, subjects: Sequence[bytes]) -> list[ConsentRow]:
        """All rows of these subjects, some hundreds at the most, oldest first."""

    def withdraw(self, changes: Iterable[tuple[ConsentRow, ConsentRow]]) -> bool:
        """Puts rows into the places of what they were before, all or none; False where something is not that any more."""

    def remove(self, numbers: Sequence[int]) -> int:
        """Deletes rows and overwrites them; how many."""

    def standing(self, after: int, limit: int) -> list[tuple[int, Standing]]:
        """(number, what counts) of the first ``limit`` rows above a number, rising."""

    def accounts(self) -> list[str]:
        """The accounts that have rows."""

    def count(self) -> int:
        """How many rows there are."""

    def version(self) -> str:
        """Another one with each change of what counts."""

    def expire(self, now: float) -> int:
        """Deletes what has ended by ``now`` (epoch seconds); how many."""

    def close(self) -> None:
        """Lets the store go."""
