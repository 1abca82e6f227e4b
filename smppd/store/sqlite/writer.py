"""The writer's thread: a commit is one block of the journal (docs/adr/0025). What the block has for keys.db and data.db goes
to the filer behind it.

New keys are the exception: they are in keys.db before the first block that needs them. There are some at midnight, and with
each new segment.
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
from smppd.store.journal.blocks import Block, pack
from smppd.store.journal.files import JournalFiles, no_space
from smppd.store.seals import Made
from smppd.store.sqlite.cold_rows import ColdRows
from smppd.store.sqlite.damaged import DamagedRows
from smppd.store.sqlite.filer import Filer
from smppd.store.sqlite.files import writing
from smppd.store.sqlite.filing import Filing, SealRow
from smppd.store.sqlite.journal import CORE, SPOOL
from smppd.store.sqlite.keys import put_keys
from smppd.vault.blocks import SegmentSealer

_CROWDED: Final = End(Ending.FULL, "what is to be filed finds no space")


@dataclass(slots=True)
class Work:
    """One commit. ``seq``: id of the log row, and of the row of `secrets` that goes with it. ``sealer``: for the block;
    ``cold``, ``aside``: segments that cold rows and damaged items are sealed under. ``keys``, ``gone``: keys to add and to
    destroy; ``keys_stored``: whether those are added, since keys.db is committed before the block is written."""

    batch: Batch
    seq: int
    sealer: SegmentSealer
    cold: int
    aside: int
    keys: list[tuple[bytes, bytes]]
    gone: list[bytes]
    keys_stored: bool = False


class Writer:
    """See the module. ``broken(reason)`` is called in the thread when nothing may be acknowledged any more. ``certain``:
    whether it is known of every commit that ended whether it is stored. ``sequence``: of the last block."""

    def __init__(
        self,
        data: sqlite3.Connection,
        secrets: sqlite3.Connection,
        keys: sqlite3.Connection,
        journal: JournalFiles,
        broken: Callable[[str], object],
    ) -> None:
        """data, secrets: for the filer; keys: keys.db once more, for this thread."""
        for db in (data, secrets, keys):
            db.execute("PRAGMA wal_autocheckpoint=0")  # see `checkpoint`
        data.execute("PRAGMA temp_store=MEMORY")
        self._keys = keys
        self._journal = journal
        self._broken = broken
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self.filer = Filer(data, secrets, journal, self._failed)
        self.certain = True
        self.sequence = 0

    def start(self, directory: Path, rows: ColdRows, aside: DamagedRows, chain: ChainWriter, sequence: int) -> None:
        """What was given meanwhile is done now. directory: of the two files. sequence: of the last block so far. Raises
        ``StoreError``."""
        self._chain = chain
        self.sequence = sequence
        self._journal.start()
        self.filer.start(directory, rows, aside)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether one of the threads runs."""
        return self._thread.is_alive() or self.filer.alive

    def give(self, job: Callable[[], None]) -> None:
        """Does a job in the filer's thread when all that was given before is filed. What it raises is told as ``broken``."""
        self._jobs.put(lambda: self.filer.give(job))

    def commit(self, work: Work, ended: Callable[[End], object]) -> None:
        """Makes a commit; ``ended`` is called in the thread."""

        def job() -> None:
            ended(self._commit(work))

        self._jobs.put(job)

    def stop(self) -> bool:
        """Ends the threads behind all that was given; whether all is filed."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(30.0)
        filed = self.filer.stop()
        if not self.alive:
            self._journal.close()
        return filed and not self.alive

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
        self.certain = False
        self._broken(f"{type(error).__name__}: {error}")

    def seal_alone(self, sealer: SegmentSealer) -> None:
        """Makes a seal of the log's chain without a commit, where there is something to seal. Where there is no space, the next
        one has it."""
        self._jobs.put(lambda: self._seal_alone(sealer))

    def _seal_alone(self, sealer: SegmentSealer) -> None:
        made = self._chain.alone()
        if made is not None:
            end = self._write(sealer, b"", Filing(seal=_row(made)))
            if end.how is Ending.STORED:
                self._chain.sealed(made)
            elif end.how is Ending.BROKEN:
                self.certain = False
                self._broken(end.reason)

    def _commit(self, work: Work) -> End:
        if not self.filer.wait():
            return _CROWDED
        try:
            if work.keys:
                with writing(self._keys):
                    put_keys(self._keys, work.keys)
            work.keys_stored = True
        except (sqlite3.Error, StoreError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                return End(Ending.FULL, str(error))
            self.certain = False
            return End(Ending.BROKEN, str(error))
        batch = work.batch
        events = b"".join(batch.events)
        link = self._chain.next(work.seq, None, batch.records, events)
        filing = _filing(work, link, events)
        spool = b"".join(batch.accepts + batch.marks)
        if not (spool or filing.link or filing.secrets or filing.seldom):
            if work.gone:
                self.filer.add(filing)
            return STORED
        end = self._write(work.sealer, spool, filing)
        if end.how is Ending.BROKEN:
            self.certain = False
        elif end.how is Ending.STORED and link is not None:
            self._chain.committed(link)
        return end

    def _write(self, sealer: SegmentSealer, spool: bytes, filing: Filing) -> End:
        sequence = self.sequence + 1
        counter, sealed, core = sealer.seal_two(SPOOL, spool, CORE % sequence, filing.pack())
        try:
            octets = self._journal.write(sealer.segment, pack(Block(sequence, sealer.segment, counter, sealed, core)))
        except OSError as error:
            return End(Ending.FULL if no_space(error) else Ending.BROKEN, f"journal: {error.strerror or error}")
        self.sequence = filing.sequence = sequence
        filing.octets = octets
        self.filer.add(filing)
        return STORED


def _filing(work: Work, link: Link | None, events: bytes) -> Filing:
    batch = work.batch
    made = link.seal if link is not None else None
    return Filing(
        seq=work.seq,
        count=len(batch.records),
        records=b"".join(batch.records),
        events=events,
        secrets=b"".join(batch.secrets),
        link=link.digest if link is not None else b"",
        seal=None if made is None else _row(made),
        cold=batch.put + batch.moves,
        drop=batch.drop,
        damaged=batch.damaged,
        meta=batch.meta,
        opt_outs=batch.opt_outs,
        doubts=batch.doubts,
        decided=batch.decided,
        segments=batch.segments,
        segment=work.cold,
        aside=work.aside,
        gone=work.gone,
    )


def _row(made: Made) -> SealRow:
    return SealRow(made.seal.number, made.seal.seq, made.signed, made.state)
