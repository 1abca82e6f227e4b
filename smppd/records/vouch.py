"""Looks, while a record is read, whether its log row stands in the chain as it was written.

What is sealed of a record opens for its own account, direction, time and numbers only. What is not, or not any more (the header
of an erased record, the hash of a body), is held by the digest alone, which anybody can compute; and by the chain, which nobody
can go on with who has no key.
"""

from __future__ import annotations

import struct

from smppd.records.verify import row_digests
from smppd.store.log import LAST_ID, LogRow, Records
from smppd.vault.chain import GENESIS, ChainKeys, SealKind, chain
from smppd.vault.seal import SealError


class Voucher:
    """Checks single rows of one log. For one thread."""

    def __init__(self, records: Records, keys: ChainKeys) -> None:
        self._records = records
        self._keys = keys
        self._plain: dict[int, int] = {}

    def check(self, row: LogRow, before: LogRow | None = None) -> None:
        """Raises SealError where this row was altered, moved, or does not follow the one before it. before: that one, where the
        caller has just read it; one of another chain is none."""
        if before is not None and self._records.chain_of(before.seq) != self._records.chain_of(row.seq):
            before = None
        wrong = self._wrong(row, before)
        if wrong:
            # Asked again, because a purge may have deleted the row before it meanwhile.
            again = self._records.row(row.seq)
            if again is not None and (wrong := self._wrong(again)):
                raise SealError(f"log row {row.seq:016x} {wrong}")

    def _wrong(self, row: LogRow, before: LogRow | None = None) -> str:
        try:
            listed = list(row_digests(row.written, row.records or b"", row.events or b"", row.digests or b""))
            link = self._before(row.seq) if before is None else before.chain
            if row.seq <= self._upto(self._records.chain_of(row.seq)):
                expected = chain(link, listed)
            else:
                expected = self._keys.link(link, row.seq, row.secrets, listed)
        except (SealError, struct.error, OverflowError, TypeError) as error:
            return f"was altered: {error}"
        return "" if expected == row.chain else "was altered or does not follow the one before"

    def _before(self, seq: int) -> bytes:
        """The chain that a row continues."""
        link = self._records.link_before(seq)
        return GENESIS if link is None else link

    def _upto(self, of: int) -> int:
        """The last row of a chain that is of before it was under a key."""
        known = self._plain.get(of)
        if known is None:
            first = self._records.first_seal(of)
            if first is None:
                return LAST_ID  # never sealed; not remembered, because the first seal may come any moment
            seal = self._keys.read(first)
            known = self._plain[of] = seal.seq if seal.number == 1 and seal.kind is SealKind.BEGIN else -1
        return known
