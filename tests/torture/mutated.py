"""smppd with one of its promises to the disk broken on purpose: the campaigns that cut the power, or kill the
database, must notice.

`python -m tests.torture.mutated run --config F` with TORTURE_MUTATION in the environment. Nothing in the product reads that
variable.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from smppd.__main__ import main
from smppd.durable import sync_directory
from smppd.store.journal import blocks
from smppd.store.sqlite import files, filing
from smppd.store.sqlite.filer import Filer

_WINDOW: Final = 0.05
"""Seconds between two steps that belong together, so that a cut finds its way between them."""


def _replace(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """Puts a function in the place of one of ours, wherever it was imported to."""
    for module in list(sys.modules.values()):
        if module.__name__.startswith("smppd."):
            for name in [name for name, value in vars(module).items() if value is old]:
                setattr(module, name, new)


def _less_synchronous(mode: str) -> Callable[[], None]:
    def mutate() -> None:
        connect = files.connect

        def careless(path: Path, kind: str, *, read_only: bool = False, writer: bool = False) -> sqlite3.Connection:
            db = connect(path, kind, read_only=read_only, writer=writer)
            if not read_only:
                db.execute(f"PRAGMA synchronous={mode}")
            return db

        _replace(connect, careless)

    return mutate


def _no_sync() -> None:
    """A block is written and not synced."""
    pwritev = os.pwritev
    os.pwritev = lambda file, pieces, at, _flags=0, /: pwritev(file, pieces, at)


def _sync_first() -> None:
    """The sync comes before the write that it is for."""
    pwritev = os.pwritev

    def write(file: int, pieces: Any, at: int, _flags: int = 0, /) -> int:
        os.fdatasync(file)
        return pwritev(file, pieces, at)

    os.pwritev = write


def unchecked(data: bytes | memoryview, at: int = 0) -> blocks.Block | None:
    """`blocks.unpack`, which takes what was cut short for whole."""
    head = blocks.head_at(data, at)
    if head is None or at + head.length > len(data):
        return None
    body, end = at + blocks.HEAD_BYTES, at + head.length
    middle = body + head.spool
    spool, core = bytes(data[body:middle]), bytes(data[middle:end])
    return blocks.Block(head.sequence, head.segment, head.counter, spool, core)


def _no_checksum() -> None:
    """What was cut short is taken for whole."""
    _replace(blocks.unpack, unchecked)


def _filed_first() -> None:
    """data.db says that blocks are filed, and then they are."""
    file_data = filing.file_data

    def late(
        db: sqlite3.Connection, cold: Any, aside: Any, some: Sequence[filing.Filing], *, again: bool = False
    ) -> int:
        upto = max(one.sequence for one in some)
        if upto:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (filing.FILED, upto))
            time.sleep(_WINDOW)
        return file_data(db, cold, aside, some, again=again)

    _replace(file_data, late)


def _removed_early() -> None:
    """A file is removed when all of it is filed, though something lives in it."""
    file_some = Filer._file

    def early(filer: Filer, *words: Any) -> Any:
        done = file_some(filer, *words)
        if done is not None:
            filer._journal.drop(filer._journal._segment)
        return done

    Filer._file = early  # type: ignore[method-assign,assignment]


def _no_directory_sync() -> None:
    """A new file is used, and its name may be lost."""
    _replace(sync_directory, lambda _directory: None)


def _answered_first() -> None:
    """PostgreSQL: a batch is answered, and then it is stored."""
    from smppd.store.committer import STORED
    from smppd.store.postgres.writer import Writer

    def commit(writer: Writer, work: Any, ended: Callable[[Any], object]) -> None:
        def job() -> None:
            ended(STORED)
            time.sleep(_WINDOW)
            writer._commit(work)

        writer._jobs.put(job)

    Writer.commit = commit  # type: ignore[method-assign,assignment]


def _unchecked() -> None:
    """PostgreSQL: whether the server keeps what it acknowledges is not asked."""
    from smppd.store.postgres.connection import Connection

    Connection._check = lambda _connection, _advice: None  # type: ignore[method-assign,assignment]


def _epoch_kept() -> None:
    """PostgreSQL: a node is taken over, and its epoch stays."""
    from smppd.store.postgres import takeover
    from smppd.store.postgres.connection import Connection

    run = Connection.run

    def careless(connection: Connection, statement: str, values: Sequence[Any] = ()) -> int:
        if statement.startswith("UPDATE nodes SET epoch = epoch + 1"):
            statement = statement.replace("epoch + 1", "epoch")
        elif statement == takeover._OVER:
            statement = statement.replace("epoch = epoch + 1, ", "")
        return run(connection, statement, values)

    Connection.run = careless  # type: ignore[method-assign,assignment]


def _in_the_database() -> None:
    """The campaign breaks a function of the database's."""


NO_CHECKSUM: Final = "checksum off"
EPOCH_KEPT: Final = "a take-over that keeps the epoch"
NOT_FENCED: Final = "commits that do not ask for the epoch"
NOT_LOCKED: Final = "claims without a lock"
ANSWERED_FIRST: Final = "answer before the commit"
UNCHECKED: Final = "synchronous_commit off, and not asked for"
MUTATIONS: Final[dict[str, Callable[[], None]]] = {
    "no sync": _no_sync,
    "sync before write": _sync_first,
    NO_CHECKSUM: _no_checksum,
    "filed before written": _filed_first,
    "file removed too early": _removed_early,
    "no sync of the directory": _no_directory_sync,
    "synchronous=NORMAL": _less_synchronous("NORMAL"),
    "synchronous=OFF": _less_synchronous("OFF"),
    ANSWERED_FIRST: _answered_first,
    UNCHECKED: _unchecked,
    EPOCH_KEPT: _epoch_kept,
    NOT_FENCED: _in_the_database,
    NOT_LOCKED: _in_the_database,
}
_DATABASE: Final = (ANSWERED_FIRST, UNCHECKED, EPOCH_KEPT, NOT_FENCED, NOT_LOCKED)
EMBEDDED: Final = [name for name in MUTATIONS if name not in _DATABASE]
"""Those of the embedded store; the others are PostgreSQL's."""


if __name__ == "__main__":
    MUTATIONS[os.environ["TORTURE_MUTATION"]]()
    sys.exit(main())
