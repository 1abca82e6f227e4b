"""Remembers for 72 hours whose numbers were erased. A receipt that comes later and whose message is not known would otherwise
be parked with the number in it.

What is remembered of a number is a cold row: a keyed hash of each of its forms and an end, nothing else. It is durable before
anything of the person is taken out, so whatever comes between is found by the erasure or meets the row. There are `MOST` rows
at most; then those that end first go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import Final

from smppd.numbering import normalise
from smppd.protocol.wire import Sm
from smppd.relay.context import Context
from smppd.store.api import ColdRow, Kind

REMEMBERED: Final = 72 * 3600
"""Seconds: as long as a receipt may be parked, and so as late as one may come."""
MOST: Final = 100_000
OWNER: Final = "erased"

_STEP: Final = 500
_EVER: Final = 1 << 52


class ErasedNumbers:
    """See the module. ``secret``: keys the hashes; without one nothing is remembered. ``most``: of rows."""

    def __init__(self, context: Context, secret: bytes | None, most: int = MOST) -> None:
        self._context = context
        self._secret = secret
        self._most = most
        # Each row that is written counts, also in the place of another: counted anew before any goes.
        self.count = 0
        self._sweeping = False

    def count_found(self, number: int) -> None:
        """So many rows were found at the start."""
        self.count = number

    def remember(self, forms: Collection[bytes]) -> None:
        """Numbers, in their normal forms, are being erased: they are remembered with the current batch, whatever the disk
        says."""
        if self._secret is None:
            return
        expires = int(self._context.wall()) + REMEMBERED
        for form in forms:
            key = self._key(form)
            self._context.ledger.put_row(
                ColdRow(Kind.ERASED, OWNER, key, int.from_bytes(key[:8], "big") >> 1, expires, b""), kept=True
            )
            self.count += 1

    def ask(self, sm: Sm, region: str | None, then: Callable[[bool, bool], None]) -> None:
        """then(whether the source, whether the destination of a PDU is an erased number). ``region``: of national numbers."""
        source = self._key(normalise(sm.source_digits, sm.source_ton, 0, region))
        destination = self._key(normalise(sm.destination_digits, sm.destination_ton, 0, region))
        wall = int(self._context.wall())

        def found(rows: list[ColdRow]) -> None:
            keys = {row.key for row in rows if row.expires > wall}
            then(source in keys, destination in keys)

        self._context.store.find(Kind.ERASED, OWNER, list({source, destination}), self._context.guarded_rows(found))

    def _key(self, form: bytes) -> bytes:
        assert self._secret is not None
        return blake2b(form, key=self._secret, digest_size=16).digest()

    # -- time ----------------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Once a second: takes out what is past its time, and what are too many."""
        if self._sweeping or self.count <= 0:
            return
        if self.count > self._most:
            self._sweeping = True
            self._context.store.count(Kind.ERASED, self._counted)
        else:
            self._take_out(int(self._context.wall()), _STEP)

    def _counted(self, counts: dict[str, int]) -> None:
        self._sweeping = False
        self.count = counts.get(OWNER, 0)
        if self.count > self._most:
            self._take_out(_EVER, min(self.count - self._most, _STEP))

    def _take_out(self, before: int, limit: int) -> None:
        self._sweeping = True
        context = self._context

        def found(rows: list[ColdRow]) -> None:
            self._sweeping = False
            for row in context.ledger.alive(rows):
                context.ledger.drop_row(row.kind, row.owner, row.key, row.id)
                self.count -= 1
            context.store.kick()

        context.store.expired(Kind.ERASED, before, limit, context.guarded_rows(found))
