"""The embedded store: journal files, two SQLite files behind them, a committer on the reactor thread, the threads of the writer
and the filer (`store.api.Store`)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, time

from smppd.store.api import Availability, OptOut, Sink, StoreError, Tenant
from smppd.store.chain_writer import ChainWriter
from smppd.store.committer import End, Ending, Timer
from smppd.store.journal.files import JournalFiles
from smppd.store.pending_keys import PendingKeys
from smppd.store.segmented import Commit, SegmentedStore
from smppd.store.sqlite import opt_outs, slots
from smppd.store.sqlite.cold_rows import ColdRows
from smppd.store.sqlite.damaged import DamagedRows
from smppd.store.sqlite.database import spoken, told
from smppd.store.sqlite.files import Lock, briefly, connect
from smppd.store.sqlite.journal import Journal
from smppd.store.sqlite.keys import KeyStore
from smppd.store.sqlite.seals import Seals, end_of_log
from smppd.store.sqlite.startup import StartUp
from smppd.store.sqlite.tidy import FileSpool
from smppd.store.sqlite.writer import Work, Writer
from smppd.store.tidy import FEW, Compacted, Entries, commit_keys, compact
from smppd.vault.chain import ChainKeys, SealKind
from smppd.vault.keys import KeyRing


class SqliteStore(SegmentedStore):
    """``store.api.Store`` on files: a committer that is its own back end, with rows and a start.

    ``notify(function)`` runs a function on the reactor thread; ``later(seconds, function)`` runs one there after a time,
    ``soon(function)`` at the end of this turn. ``new_id`` draws time-ordered ids. Raises ``StoreError`` on opening.
    """

    @spoken
    def __init__(
        self,
        directory: Path,
        *,
        notify: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], Timer | None],
        soon: Callable[[Callable[[], None]], object],
        reserve: int = 0,
        wall: Callable[[], float] = time,
        now: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(notify=notify, later=later, soon=soon, wall=wall, now=now)
        self._directory = directory
        self._lock = Lock(directory)
        self._files = KeyStore(directory)
        self.keys = PendingKeys(self._files)
        self._data = connect(directory / "data.db", "data", writer=True)
        self._secrets = connect(directory / "keys.db", "keys", writer=True)
        self._new_keys = connect(directory / "keys.db", "keys", writer=True)
        self._reserve = reserve
        self._counters: dict[str, int] = {}
        self._begun = self._told = 0
        self._ends: dict[int, Callable[[], None]] = {}
        self._files_of_journal = JournalFiles(directory)
        self._journal = Journal(directory, self._files_of_journal, self._data, self._secrets)
        self._writer = Writer(
            self._data,
            self._secrets,
            self._new_keys,
            self._files_of_journal,
            lambda reason: notify(lambda: self.fail(reason)),
        )
        end_of_log(self._data)  # that it is a log at all
        # Rows come with rising segments, so this index grows at its end; the tidier asks it whether a key is still needed.
        self._data.execute("CREATE INDEX IF NOT EXISTS cold_segment ON cold (segment)")

    @spoken
    def use(self, ring: KeyRing) -> None:
        """The keys to open and seal with; what an earlier run has not filed is filed. Before anything is asked. Raises
        ``StoreError``."""
        self._ring = ring
        self._aside: DamagedRows = DamagedRows(self._data, ring, lambda owner: self.lifetime(owner), self._wall)
        self._start_up = StartUp(
            self._data, ring, self._aside, self._journal, lambda *told: self.on_start_damage(*told)
        )
        self._cold: ColdRows = ColdRows(
            self._data, ring, self._aside, lambda *told: self._notify(lambda: self.on_damage(*told))
        )

        slots.sweep(self._secrets, self._data)
        self._journal.take_up(ring, self._cold, self._aside, self._new_segment)

    def _new_segment(self) -> int:
        segment = self._ring.new_segment()
        commit_keys(self._spool())
        return segment

    @spoken
    def compact(self, entries: Entries, most: int | None = FEW) -> Compacted:
        """See ``tidy.compact``. After ``use``, before ``open`` or at the end. Raises ``StoreError``."""
        with briefly(self._data, self._secrets):
            self._start_up.set_aside()
            return compact(self._spool(), entries, most)

    def _spool(self) -> FileSpool:
        return FileSpool(self._directory, self._data, self._secrets, self.keys, self._ring, self._cold, self._journal)

    @spoken
    def open(self, sink: Sink, tenant: Tenant, new_id: Callable[[], int]) -> None:
        """See ``api.Store``. Takes a fresh spool segment, in which what is opened lives from now on, and starts the writer."""
        self._journal.forget_empty()
        super().open(sink, tenant, new_id)

    def _end_of_log(self) -> tuple[bytes, int]:
        return end_of_log(self._data)

    def _seals(self, keys: ChainKeys) -> Seals:
        return Seals(keys, self._directory, self._data, self._secrets, self._wall)

    def _start_writer(self, chain: ChainWriter) -> None:
        self._writer.start(self._directory, self._cold, self._aside, chain, self._journal.last)

    # -- the writer ----------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the writer runs."""
        return self._writer.alive

    def _give(self, job: Callable[[], None]) -> None:
        self._writer.give(job)

    def _give_seal(self) -> None:
        self._writer.seal_alone(self._sealer)

    def _hand_over(self, commit: Commit, ended: Callable[[End], None]) -> None:
        work = Work(*commit)

        def over(end: End) -> None:
            if end.how not in (Ending.STORED, Ending.BROKEN):
                self.keys.again([] if work.keys_stored else commit.keys, commit.gone)
            ended(end)

        tell = self._in_turn()
        self._writer.commit(work, lambda end: tell(lambda: over(end)))

    def look(self) -> Availability:
        """See ``committer.BackEnd``: whether the file system keeps its reserve free, and what is durable finds its place in the
        files."""
        if self._writer.filer.full:
            return Availability.FULL
        try:
            stat = os.statvfs(self._directory)
        except OSError:
            return Availability.FULL
        return Availability.OK if stat.f_bavail * stat.f_frsize >= self._reserve else Availability.FULL

    # -- answers -------------------------------------------------------------------------------------------------------

    def _answering(self) -> Callable[[Callable[[], None]], object]:
        return self._in_turn()

    def _in_turn(self) -> Callable[[Callable[[], None]], object]:
        """On the reactor thread, for a commit or a question: makes what tells its end there, from any thread. Ends are told in
        the order in which all these were begun: an answer has what was committed before it was asked for and nothing else, so
        nobody may hear first that more is committed."""
        turn = self._begun
        self._begun += 1
        return lambda told: self._notify(lambda: self._tell(turn, told))

    def _tell(self, turn: int, told: Callable[[], None]) -> None:
        self._ends[turn] = told
        try:
            while (following := self._ends.pop(self._told, None)) is not None:
                self._told += 1
                following()
        finally:
            left = self._ends.pop(self._told, None)
            if left is not None:  # one before it raised
                self._notify(lambda: self._tell(self._told, left))

    def filed(self, then: Callable[[], None]) -> None:
        """``then`` on the reactor thread when all that is durable now is in keys.db and data.db."""
        self._look(lambda _rows: [], lambda _found: then())

    @property
    def unfiled(self) -> int:
        """See ``api.Store``."""
        return self._writer.filer.behind

    # -- numbers -------------------------------------------------------------------------------------------------------

    def begin_counter(self, counter: str, damaged: int) -> None:
        """See ``api.Store``."""
        self._counters[counter] = self.meta(counter, 0, damaged)

    def reserve(self, counter: str, count: int) -> int:
        """See ``api.Store``: nobody else counts, so a number in `meta` that goes with the batch does it."""
        first = self._counters[counter]
        self._counters[counter] = first + count
        self.batch.meta.append((counter, first + count))
        return first

    # -- start-up ------------------------------------------------------------------------------------------------------

    def _replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``api.Spool``."""
        try:
            yield from self._start_up.replay()
        except sqlite3.Error as error:
            raise told(self._directory, error) from error

    @spoken
    def counts(self) -> dict[tuple[int, str], int]:
        """See ``api.Spool``. Nobody else puts or takes rows, so they are true."""
        return self._start_up.counts()

    @spoken
    def highest_id(self) -> int:
        """See ``api.Spool``."""
        return self._start_up.highest_id()

    def _opt_outs(self) -> Iterator[OptOut]:
        """See ``api.Spool``."""
        try:
            yield from opt_outs.every(self._data)
        except sqlite3.Error as error:
            raise told(self._directory, error) from error

    @spoken
    def doubts(self) -> int:
        """See ``api.Spool``."""
        return opt_outs.doubts_waiting(self._data)

    @spoken
    def meta(self, name: str, default: int, damaged: int | None = None) -> int:
        """See ``api.Store``."""
        return self._start_up.meta(name, default, damaged)

    def close(self, entries: Entries | None = None) -> None:
        """Ends the threads after what was handed to them and closes the files. ``entries``: takes out what is over first."""
        self._closing = True
        # A thread that still waits for another's lock may go on at any moment, on these very connections.
        filed = self._writer.stop() if self._chain is not None else not self._writer.alive
        if filed and self._chain is not None and self._writer.certain:
            with suppress(sqlite3.Error), briefly(self._data, self._secrets):
                self._chain.seal_alone(SealKind.STOP)
        if entries is not None and filed:
            self._journal.last = max(self._journal.last, self._writer.sequence)
            with suppress(StoreError):  # the next start does it
                self.compact(entries)
        for db in (self._data, self._secrets, self._new_keys, self.seals):
            if db is not None:
                db.close()
        self._files.close()
        self._lock.release()
