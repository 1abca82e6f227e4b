"""The journal of a store in which no daemon works, for tests: as what an earlier version left, and altered."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from smppd.store.journal.blocks import Block, pack
from smppd.store.journal.reader import Placed, path_of, paths, read
from smppd.store.sqlite.filing import FILED
from smppd.store.sqlite.journal import ASK_OVER, OVER, living, over_of
from smppd.vault.blocks import row_id


def rows_of(directory: Path) -> list[tuple[int, bytes]]:
    """What the spool holds, as rows of its table would: (row id, sealed)."""
    with closing(sqlite3.connect(f"file:{directory / 'data.db'}?mode=ro", uri=True)) as db:
        rows = [(int(seq), bytes(data)) for seq, data in db.execute("SELECT seq, data FROM spool ORDER BY seq")]
        over = over_of(db.execute(ASK_OVER).fetchone())
    return rows + [(row_id(one.block.segment, one.block.counter), one.block.spool) for one in living(directory, over)]


def cores_of(directory: Path) -> list[Block]:
    """The blocks of the journal."""
    return [one.block for one in read(directory) if isinstance(one, Placed)]


def into_table(directory: Path) -> None:
    """Puts the spool into its table, block by block, as versions before the journal's files had it. All has to be filed."""
    with closing(sqlite3.connect(directory / "data.db", isolation_level=None)) as db:
        over = over_of(db.execute(ASK_OVER).fetchone())
        last = over
        for one in living(directory, over):
            place = row_id(one.block.segment, one.block.counter)
            db.execute("INSERT INTO spool VALUES (?, ?)", (place, one.block.spool))
        blocks = cores_of(directory)
        last = max([last, *(block.sequence for block in blocks)])
        filed = db.execute("SELECT value FROM meta WHERE name = ?", (FILED,)).fetchone()
        assert not blocks or filed[0] >= last, "not all is filed"
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (OVER, last))
    for path in paths(directory):
        path.unlink()


def alter(directory: Path, which: int, how: Callable[[Block], Block]) -> None:
    """Puts another block into the place of one, of the same length."""
    placed = [one for one in read(directory) if isinstance(one, Placed)][which]
    with path_of(directory, placed.file).open("r+b") as file:
        file.seek(placed.at)
        file.write(b"".join(pack(how(placed.block))))
