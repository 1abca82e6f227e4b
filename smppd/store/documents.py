"""Small sealed things that commands and the daemon share beside the messages: operators, sessions, approvals, holds.

A back end keeps octets under a kind and a name; what is in them is sealed (`vault.documents`) and none of its business. Several
processes work on them at once, so whoever changes one says what it was before. Every method raises StoreError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

FOREVER: Final = (1 << 53) - 1
"""The time of what does not end by itself."""


class Documents(Protocol):
    """The documents of one store. For one thread."""

    def get(self, kind: str, name: str) -> bytes | None:
        """One document, None where there is none."""

    def all(self, kind: str) -> list[tuple[str, bytes]]:
        """(name, document) of a kind, in order of name."""

    def add(self, kind: str, name: str, sealed: bytes, until: int = FOREVER) -> bool:
        """Adds one, durable when this returns; False where there is one of this name. until: epoch seconds, see `expire`."""

    def replace(self, kind: str, name: str, before: bytes, after: bytes, until: int = FOREVER) -> bool:
        """Puts one into the place of what it was before, durable when this returns; False where it is not that any more."""

    def put(self, kind: str, documents: Mapping[str, bytes], until: int = FOREVER) -> None:
        """Adds or exchanges some of a kind that nobody else writes, whatever they were before; all of them or none,
        durable when this returns."""

    def remove(self, kind: str, name: str) -> bool:
        """Deletes one and overwrites it; False where there is none."""

    def expire(self, now: float) -> int:
        """Deletes what has ended by `now` (epoch seconds); how many."""

    def number(self, kind: str) -> int:
        """A new number for a document of a kind: 1, 2, 3 ..., none twice."""

    def close(self) -> None:
        """Lets the store go."""
