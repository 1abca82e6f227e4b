"""Cold rows, whatever stores them: sealed under the key of a segment and tied to their place, and what becomes of those that
do not open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from smppd.store.api import ColdRow, Kind, Place
from smppd.vault.keys import KeyRing

FOUND: Final = 256
"""Rows under the keys of one receipt. A carrier that calls more messages by one id tells nothing with it."""

_COLD: Final = b"cold"
_NONCE: Final = 12
_REMEMBERED: Final = 10_000

Columns = tuple[int, str, bytes, int, int, int, bytes]
"""kind, owner, key, id, expires (epoch seconds), segment, sealed data: a row as it is stored."""


def seal_columns(ring: KeyRing, row: ColdRow, segment: int) -> Columns:
    """A row under the key of a segment. Raises VaultError where that is gone."""
    nonce = os.urandom(_NONCE)
    sealed = nonce + ring.segment(segment).encrypt(nonce, row.data, _bound(row.kind, row.owner, row.id))
    return row.kind, row.owner, row.key, row.id, row.expires, segment, sealed


def open_columns(ring: KeyRing, columns: Columns) -> ColdRow:
    """A row as it is stored, opened. Raises what the ring and the cipher raise where it does not open."""
    kind, owner, key, identity, expires, segment, sealed = columns
    data = ring.segment(segment).decrypt(sealed[:_NONCE], sealed[_NONCE:], _bound(kind, owner, identity))
    return ColdRow(kind, owner, key, identity, expires, data)


def _bound(kind: int, owner: str, identity: int) -> bytes:
    """What ties a row to its place (associated data)."""
    return b"%s %d %s %d" % (_COLD, kind, owner.encode(), identity)


class ColdReader:
    """Opens rows as they are stored. ``damaged(kind, owner, id, reason)`` is called once for each that does not open: it was
    altered, or its key is gone. Such a row is set aside, so that it stops nothing but itself; where that cannot be done it is
    passed over and lies where it is. For one thread."""

    def __init__(
        self,
        ring: KeyRing,
        aside: Callable[[Sequence[tuple[Columns, str]], str], bool],
        damaged: Callable[[Kind, str, int, str], object],
    ) -> None:
        """aside(rows, place): sets rows aside, (columns, reason) each; False where that cannot be done just now."""
        self._ring = ring
        self._aside = aside
        self._damaged = damaged
        self._told: set[tuple[int, int]] = set()

    def opened(self, found: Iterable[Columns]) -> tuple[list[ColdRow], list[Columns]]:
        """Rows that open, and those that do not, which are set aside."""
        rows: list[ColdRow] = []
        damaged: list[tuple[Columns, str]] = []
        for columns in found:
            try:
                rows.append(open_columns(self._ring, columns))
            except Exception as error:  # noqa: BLE001  whatever is wrong with a row is wrong with that row alone
                damaged.append((columns, type(error).__name__))
        if damaged:
            moved = self._aside(damaged, "cold")
            for columns, reason in damaged:
                self._tell(Kind(columns[0]), columns[1], columns[3], reason, moved)
        return rows, [columns for columns, _ in damaged]

    def page(self, read: Callable[[int], tuple[list[ColdRow], list[Columns]]], after: int) -> list[ColdRow]:
        """The first page of which anything opens. read(after): `opened` of the first rows above an id, in the order of ids."""
        while True:
            rows, damaged = read(after)
            if rows or not damaged:
                return rows
            after = damaged[-1][3]  # a whole page of them: what stands behind is wanted

    def resealed(self, found: Iterable[Columns], segment: int) -> list[Columns]:
        """Rows under the key of another segment, without those that do not open."""
        sealed = []
        for columns in found:
            try:
                sealed.append(seal_columns(self._ring, open_columns(self._ring, columns), segment))
            except Exception:  # noqa: BLE001  whoever looks for it sets it aside, and counts it no longer
                continue
        return sealed

    def _tell(self, kind: Kind, owner: str, identity: int, reason: str, moved: bool) -> None:
        key = (int(kind), identity)
        if key in self._told:
            if moved:
                self._told.discard(key)
            return
        if not moved:  # it will be met again
            if len(self._told) >= _REMEMBERED:
                return
            self._told.add(key)
        # A file may give back anything: what is no text or number here was altered too.
        self._damaged(
            kind, owner if isinstance(owner, str) else "", identity if isinstance(identity, int) else 0, reason
        )


def places(rows: Sequence[ColdRow], damaged: Sequence[Columns]) -> list[Place]:
    """Where the rows of a page stand, those that do not open too."""
    return [(row.owner, row.key, row.id) for row in rows] + [columns[1:4] for columns in damaged]
