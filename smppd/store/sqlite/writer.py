"""The writer's thread, and the SQL of a commit.

Two files, two ordered commits: keys first, so a record never exists without the secrets that open it. Each is one statement,
whatever the size of the batch, unless something out of the ordinary is in it: SQLite gives the interpreter's lock away for a
statement, and getting it back behind a busy reactor may take milliseconds each time (docs/adr/0009).
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from smppd.store.api import Batch, StoreError
from smppd.store.chain_writer import ChainWriter, Link
from smppd.store.committer import STORED, End, Ending
from smppd.store.sqlite import opt_outs, slots
from smppd.store.sqlite.checkpoint import PAGE, Checkpointer, checkpoint
from smppd.store.sqlite.cold_rows import ColdRows
from smppd.store.sqlite.damaged import DamagedRows
from smppd.store.sqlite.files import truncate
from smppd.store.sqlite.keys import put_keys
from smppd.store.sqlite.seals import LOG_STATE, write_seal, write_state
from smppd.store.sqlite.slots import Plan
from smppd.store.sqlite.tidy import SPOOL
from smppd.vault.blocks import SegmentSealer, row_id
from smppd.vault.chain import SealKind
from smppd.vault.seal import SECRETS_BYTES

# What an ordinary batch writes into data.db, in one statement that is a transaction by itself. Temporary: the writer's own.
_BLOCK: Final = (
    "CREATE TEMP VIEW block (seq, count, records, events, chain, secrets, row, data)"
    " AS SELECT NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL",
    "CREATE TEMP TRIGGER block_put INSTEAD OF INSERT ON block BEGIN"
    " INSERT INTO log SELECT NEW.seq, NEW.count, NEW.records, NEW.events, NEW.chain, NEW.secrets WHERE NEW.seq IS NOT NULL;"
    " INSERT INTO spool SELECT NEW.row, NEW.data WHERE NEW.row IS NOT NULL;"
    " END",
)
_PUT: Final = "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(slots=True)
class Work:
    """One commit. ``seq``: id of the log row, and of the row of `secrets` that goes with it. ``sealer``: for the journal;
    ``cold``, ``aside``: segments that cold rows and damaged items are sealed under. ``keys``, ``gone``: keys to add and to
    destroy; ``keys_stored``: whether that is done, since keys.db is committed before data.db."""

    batch: Batch
    seq: int
    sealer: SegmentSealer
    cold: int
    aside: int
    keys: list[tuple[bytes, bytes]]
    gone: list[bytes]
    plan: Plan
    keys_stored: bool = False


class Writer:
    """Does jobs in a thread of its own, in the order in which they are given; commits are some of them. ``certain``: whether
    all that was to be written either is written or is not."""

    def __init__(self, data: sqlite3.Connection, secrets: sqlite3.Connection, broken: Callable[[str], object]) -> None:
        """data, secrets: the two files, which nobody else writes to once ``start`` was called. broken(reason): called in this
        thread when nothing may be acknowledged any more."""
        self._data = data
        self._secrets = secrets
        self._broken = broken
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._checkpointer: Checkpointer | None = None
        self.certain = True
        for db in (data, secrets):
            db.execute("PRAGMA wal_autocheckpoint=0")
        for statement in ("PRAGMA temp_store=MEMORY", *_BLOCK):
            data.execute(statement)

    def start(self, directory: Path, rows: ColdRows, aside: DamagedRows, chain: ChainWriter) -> None:
        """What was given meanwhile is done now. directory: of the two files. Raises ``StoreError``."""
        self._rows = rows
        self._aside = aside
        self._chain = chain
        self._checkpointer = Checkpointer(
            [(directory / "keys.db", "keys"), (directory / "data.db", "data")],
            lambda: self.give(self._checkpoint_rest),
            self._failed,
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def give(self, job: Callable[[], None]) -> None:
        """Does a job behind all that was given before. What it raises ends the thread and is told as ``broken``."""
        self._jobs.put(job)

    def commit(self, work: Work, ended: Callable[[End], object]) -> None:
        """Makes a commit; ``ended`` is called in the thread."""

        def job() -> None:
            ended(self._commit(work))

        self.give(job)

    def stop(self) -> bool:
        """Ends the thread behind all that was given; whether it had been started."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(30.0)
        if self._checkpointer is not None:
            self._checkpointer.stop()
        return self._checkpointer is not None

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                job()
            except Exception as error:  # noqa: BLE001  the thread's edge: nothing may be acknowledged after it
                self._failed(error)
                return

    def _failed(self, error: Exception) -> None:
        self._broken(f"{type(error).__name__}: {error}")

    def _checkpoint_rest(self) -> None:
        checkpoint((self._secrets, self._data))
        if self._checkpointer is not None:
            self._checkpointer.finished()

    def seal_alone(self, kind: SealKind) -> None:
        """Makes a seal of the log's chain without a commit."""
        self.give(lambda: self._chain.seal_alone(kind))

    def _commit(self, work: Work) -> End:
        batch, plan = work.batch, work.plan
        slot = plan.slot.id if plan.slot is not None else None
        events = b"".join(batch.events)
        link = self._chain.next(work.seq, slot, batch.records, events)
        try:
            self._commit_keys(work, link)
            work.keys_stored = True
            self._commit_data(work, slot, link, events)
            return STORED
        except (sqlite3.Error, StoreError) as error:
            for db in (self._secrets, self._data):
                if db.in_transaction:
                    db.execute("ROLLBACK")
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                return End(Ending.FULL, str(error))
            self.certain = False
            return End(Ending.BROKEN, str(error))

    def _commit_keys(self, work: Work, link: Link | None) -> None:
        batch, plan, gone = work.batch, work.plan, work.gone
        made = link.seal if link is not None else None
        own = bool(batch.secrets) and plan.slot is None
        ordinary = not work.keys and not gone and plan.empty and made is None
        if ordinary and not own:
            return
        db = self._secrets
        if not ordinary:
            db.execute("BEGIN IMMEDIATE")
        put_keys(db, work.keys)
        if gone:
            db.executemany("DELETE FROM keys WHERE scope = ?", [(scope,) for scope in gone])
        if own:
            db.execute("INSERT INTO secrets VALUES (?, ?)", (work.seq, b"".join(batch.secrets)))
        slots.write(db, plan)
        if made is not None:
            write_state(db, LOG_STATE, made.state)
        if not ordinary:
            db.execute("COMMIT")
        if gone:
            # A destroyed key is not to linger in the write-ahead log. Where a reader is in the way, the next one does it.
            truncate(db)

    def _commit_data(self, work: Work, slot: int | None, link: Link | None, events: bytes) -> None:
        batch, db = work.batch, self._data
        written = len(batch.secrets) * SECRETS_BYTES
        log: tuple[object, ...] = (None, 0, None, None, None, None)
        if link is not None:
            records = b"".join(batch.records)
            log = (work.seq, len(batch.records), records, events, link.digest, slot)
            written += len(records) + len(events)
        spool: tuple[object, ...] = (None, None)
        if batch.accepts or batch.marks:
            counter, sealed = work.sealer.seal(SPOOL, b"".join(batch.accepts + batch.marks))
            spool = (row_id(work.sealer.segment, counter), sealed)
            written += len(sealed)
        made = link.seal if link is not None else None
        cold = batch.put + batch.moves
        seldom = batch.meta or batch.segments or batch.damaged or batch.opt_outs or batch.doubts or batch.decided
        if made is None and not (cold or batch.drop or seldom):
            if log[0] is not None or spool[0] is not None:
                db.execute(_PUT, log + spool)
        else:
            db.execute("BEGIN IMMEDIATE")
            db.execute(_PUT, log + spool)
            if made is not None:
                write_seal(db, made)
            if cold:
                # An id may be put again (a row written twice is one row): the newer one stands.
                written += self._rows.put(cold, work.cold)
            if batch.drop:
                # After the puts: a row may be put and be over within one batch, and none is put again after it was dropped.
                self._rows.drop(batch.drop)
                # A row that goes, in an order of its own, touches a page.
                written += PAGE * len(batch.drop)
            if batch.damaged:
                written += self._aside.put(batch.damaged, work.aside)
            if batch.meta:
                db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", batch.meta)
            if batch.opt_outs or batch.doubts or batch.decided:
                written += opt_outs.write(db, batch.opt_outs, batch.doubts, batch.decided)
            for segment in batch.segments:
                db.execute("DELETE FROM spool WHERE seq >= ? AND seq < ?", (segment << 32, (segment + 1) << 32))
            db.execute("COMMIT")
        if link is not None:
            self._chain.committed(link)
        if self._checkpointer is not None:
            self._checkpointer.wrote(written)
