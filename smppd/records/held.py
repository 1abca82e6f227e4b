"""Opens what holds keep of records: their part keys by record id, and their ids by phone number."""

from __future__ import annotations

from collections.abc import Iterable

from smppd.store.holds import HeldRows
from smppd.vault.held import HoldKey
from smppd.vault.keys import KeyRing, hold_scope
from smppd.vault.seal import PartKeys


class HeldParts:
    """What is held in one store. For one thread. Methods raise StoreError, and VaultError for what was altered."""

    def __init__(self, rows: HeldRows, ring: KeyRing) -> None:
        """ring: whose KEK wraps the holds' keys."""
        self.rows = rows
        self._ring = ring
        self._keys: dict[int, tuple[bytes, HoldKey]] = {}

    def key(self, hold: int) -> HoldKey | None:
        """A hold's key; None where it is destroyed. It is asked for each time, so an ended hold opens nothing from memory."""
        scope = hold_scope(hold)
        wrapped = self.rows.wrapped(scope)
        if wrapped is None:
            self._keys.pop(hold, None)
            return None
        known = self._keys.get(hold)
        if known is None or known[0] != wrapped:
            known = self._keys[hold] = (wrapped, HoldKey(hold, self._ring.unwrap(scope, wrapped)))
        return known[1]

    def parts(self, record: int) -> PartKeys:
        """The keys of a record's parts, of all holds that keep some."""
        numbers: bytes | None = None
        body: bytes | None = None
        for row in self.rows.of(record):
            key = self.key(row.hold)
            if key is not None:
                kept = key.open(record, row.source, row.destination, row.sealed)
                numbers, body = numbers or kept.numbers, body or kept.body
        return PartKeys(numbers, body)

    def sides(self, record: int, forms: Iterable[bytes]) -> tuple[bool, bool]:
        """Whether a held record is from, and whether it is to, a number in one of these normal forms. For records whose
        period's key is gone, which their own indexes no longer tell."""
        wanted = tuple(forms)
        source = destination = False
        for row in self.rows.of(record):
            key = self.key(row.hold)
            if key is not None:
                blinds = {key.blind(form) for form in wanted}
                source, destination = source or row.source in blinds, destination or row.destination in blinds
        return source, destination

    def find(self, forms: Iterable[bytes]) -> list[int]:
        """The ids of held records from or to a number in one of these normal forms, newest first."""
        wanted = tuple(forms)
        found: set[int] = set()
        for hold in self.rows.holds():
            key = self.key(hold)
            if key is not None:
                found.update(self.rows.find(hold, [key.blind(form) for form in wanted]))
        return sorted(found, reverse=True)
