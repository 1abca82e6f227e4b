"""What a store tells at its start: the journal, the counts, the numbers it remembers. Nothing that is stored can stop a
start: what does not open, or is not what it should be, is set aside and told (`store.aside`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from smppd.store.aside import KINDS
from smppd.store.postgres.batches import EVERYBODYS, SPOOL
from smppd.store.postgres.rows import DamagedRows
from smppd.store.postgres.session import Session
from smppd.vault.blocks import open_blob, row_id
from smppd.vault.chain import GENESIS
from smppd.vault.keys import KeyRing
from smppd.vault.seal import DIGEST_BYTES

_PAGE: Final = 64
_BLOCKS: Final = (
    "SELECT segment, counter, data FROM journal WHERE node = $1 AND (segment, counter) > ($2, $3)"
    f" ORDER BY segment, counter LIMIT {_PAGE}"
)


class StartUp:
    """See the module. ``told(what, id, reason)`` is called for each thing that is set aside. Before the writer runs. Every
    method raises StoreError."""

    def __init__(
        self, session: Session, ring: KeyRing, aside: DamagedRows, told: Callable[[str, int, str], object]
    ) -> None:
        self._session = session
        self._ring = ring
        self._aside = aside
        self._told = told

    def blocks(self) -> Iterator[tuple[int, int, bytes]]:
        """(segment, counter, sealed) of the whole journal, in the order of commitment."""
        segment, counter = 0, -1
        while True:
            rows = self._session.db.all(_BLOCKS, (self._session.node, segment, counter))
            yield from ((row[0], row[1], row[2]) for row in rows)
            if len(rows) < _PAGE:
                return
            segment, counter = rows[-1][:2]

    def open(self, segment: int, counter: int, sealed: bytes) -> bytes:
        """A block's entries. Raises what the ring and the cipher raise where it does not open."""
        return opened(self._ring, segment, counter, sealed)

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``api.Spool``."""
        for segment, counter, sealed in self.blocks():
            try:
                block = self.open(segment, counter, sealed)
            except Exception as error:  # noqa: BLE001  whatever is wrong with a block is wrong with that block alone
                row, reason = place_of(segment, counter), type(error).__name__
                self._aside.take_block(row, segment, counter, sealed, reason)
                self._told("block", row, reason)
                continue
            yield segment, block

    def counts(self) -> dict[tuple[int, str], int]:
        """See ``api.Spool``: of what this node holds, or everybody does."""
        rows = self._session.db.all(
            "SELECT kind, owner, count(*) FROM cold WHERE node = $1 OR kind = ANY ($2::int[]) GROUP BY kind, owner",
            (self._session.node, list(EVERYBODYS)),
        )
        strange = sum(int(count) for kind, _, count in rows if kind not in KINDS)
        if strange:
            self._aside.take_strange()
            self._told("cold row", 0, f"{strange} of no kind that is known")
        return {(kind, owner): int(count) for kind, owner, count in rows if kind in KINDS}

    def highest_id(self) -> int:
        """See ``api.Spool``: of this node."""
        highest = 0
        row = self._session.db.one(
            "SELECT seq, octet_length(records), octet_length(events) FROM log WHERE node = $1 ORDER BY seq DESC LIMIT 1",
            (self._session.node,),
        )
        if row:
            highest = int(row[0]) + (1 << 16) * max(1, row[1] // 64 + row[2] // 16)
        return max(highest, self.meta("highest_id", 0))

    def meta(self, name: str, default: int, damaged: int | None = None) -> int:
        """See ``api.Store``. A number below 0 is none."""
        row = self._session.db.one("SELECT value FROM meta WHERE node = $1 AND name = $2", (self._session.node, name))
        if row is None:
            return default
        if row[0] >= 0:
            return int(row[0])
        self._aside.take_meta(name, row[0])
        self._told("meta", 0, name)
        return default if damaged is None else damaged

    def end_of_log(self) -> tuple[bytes, int]:
        """(chain, number) of the last row of the node's log; zeros for none."""
        row = self._session.db.one(
            "SELECT chain, seq FROM log WHERE node = $1 ORDER BY seq DESC LIMIT 1", (self._session.node,)
        )
        return (row[0] if len(row[0]) == DIGEST_BYTES else GENESIS, row[1]) if row is not None else (GENESIS, 0)


def opened(ring: KeyRing, segment: int, counter: int, sealed: bytes) -> bytes:
    """The entries of a block of the journal. Raises what the ring and the cipher raise where it does not open."""
    return open_blob(ring.segment(segment), counter, SPOOL, sealed)


def place_of(segment: int, counter: int) -> int:
    """The number of a block as the embedded store has it, 0 for one that nobody wrote so."""
    try:
        return row_id(segment, counter)
    except Exception:  # noqa: BLE001  it was altered
        return 0
