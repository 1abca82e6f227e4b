"""The embedded store: journal files, two SQLite files behind them, a committer on the reactor thread, the threads of the writer
and the filer (`store.api.Store`)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, time

from smppd.store.api import Availability, Batch, ColdRow, Kind, OptOut, Place, Sink, StoreError, Tenant, Walked
from smppd.store.chain_writer import ChainWriter
from smppd.store.committer import Committer, End, Ending
from smppd.store.journal.files import JournalFiles
from smppd.store.segments import Segments
from smppd.store.sqlite import opt_outs, slots
from smppd.store.sqlite.cold_rows import ColdRows
from smppd.store.sqlite.damaged import DamagedRows
from smppd.store.sqlite.database import spoken, told
from smppd.store.sqlite.files import Lock, briefly, connect
from smppd.store.sqlite.journal import Journal
from smppd.store.sqlite.keys import KeyStore, PendingKeys
from smppd.store.sqlite.seals import Seals, TakenUp, end_of_log
from smppd.store.sqlite.startup import StartUp
from smppd.store.sqlite.tidy import FEW, Compacted, Entries, Files, Tidier, commit_keys, compact
from smppd.store.sqlite.writer import Work, Writer
from smppd.vault.blocks import SegmentSealer
from smppd.vault.chain import GENESIS, ChainKeys, SealKind
from smppd.vault.keys import KeyRing

_MONTH = 30 * 86400.0


class SqliteStore(Committer):
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
        later: Callable[[float, Callable[[], None]], object],
        soon: Callable[[Callable[[], None]], object],
        reserve: int = 0,
        wall: Callable[[], float] = time,
        now: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(self, later=later, soon=soon, now=now, timed=lambda *told: self.on_commit_time(*told))
        self._directory = directory
        self._lock = Lock(directory)
        self._files = KeyStore(directory)
        self.keys = PendingKeys(self._files)
        self._data = connect(directory / "data.db", "data", writer=True)
        self._secrets = connect(directory / "keys.db", "keys", writer=True)
        self._new_keys = connect(directory / "keys.db", "keys", writer=True)
        self._notify = notify
        self._reserve = reserve
        self._wall = wall
        self._closing = False
        self.on_commit_time: Callable[[float, int], None] = lambda _seconds, _records: None
        self.on_damage: Callable[[Kind, str, int, str], None] = lambda _kind, _owner, _identity, _reason: None
        """Told on the reactor thread of each cold row that does not open, once: kind, owner, id, why."""
        self.on_start_damage: Callable[[str, int, str], None] = lambda _what, _identity, _reason: None
        """Told at the start of what was set aside, since it does not open or is not what it should be."""
        self.lifetime: Callable[[str], float] = lambda _owner: _MONTH
        """Seconds for which what is damaged may be kept, by the account, lane or upstream it belongs to. Any thread."""
        self.chain_keys: ChainKeys | None = None  # these two are set before ``open``; named: on the audit trail
        self.named = 0
        self.seals: Seals | None = None
        self.taken_up = TakenUp(True, 0, [])
        """What ``open`` found at the end of the log."""
        self._counters: dict[str, int] = {}
        self._begun = self._told = 0
        self._ends: dict[int, Callable[[], None]] = {}
        self._chain: ChainWriter | None = None
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
        self._aside = DamagedRows(self._data, ring, lambda owner: self.lifetime(owner), self._wall)
        self._start_up = StartUp(
            self._data, ring, self._aside, self._journal, lambda *told: self.on_start_damage(*told)
        )
        self._cold = ColdRows(self._data, ring, self._aside, lambda *told: self._notify(lambda: self.on_damage(*told)))
        slots.sweep(self._secrets, self._data)
        self._journal.take_up(ring, self._cold, self._aside, self._new_segment)

    def _new_segment(self) -> int:
        segment = self._ring.new_segment()
        commit_keys(self._all())
        return segment

    @spoken
    def compact(self, entries: Entries, most: int | None = FEW) -> Compacted:
        """See ``tidy.compact``. After ``use``, before ``open`` or at the end. Raises ``StoreError``."""
        with briefly(self._data, self._secrets):
            self._start_up.set_aside()
            return compact(self._all(), entries, most)

    def _all(self) -> Files:
        return Files(self._data, self._secrets, self.keys, self._ring, self._cold, self._journal)

    @spoken
    def open(self, sink: Sink, tenant: Tenant, new_id: Callable[[], int]) -> None:
        """See ``api.Store``. Takes a fresh spool segment, in which what is opened lives from now on, and starts the writer."""
        self.begin(sink)
        self._new_id = new_id
        self._journal.forget_empty()
        end = end_of_log(self._data)
        self._tidier = Tidier(self._all(), self._writer.give, self._notify, self._later, self._with_batch)
        self._sealer = SegmentSealer(self._ring)
        if self.chain_keys is not None:
            self.seals = Seals(self.chain_keys, self._directory, self._data, self._secrets, self._wall)
            digest, row = end
            self.taken_up = self.seals.take_up(row, digest, self.named)
        self._chain = ChainWriter(end, self.chain_keys, self.seals)
        self._writer.start(self._directory, self._cold, self._aside, self._chain, self._journal.last)
        self.segments = Segments(self, tenant, self.rotate, self._destroy, self._now())
        self.segments.opened(self._sealer.segment)
        self._tidier.shred(self._sealer.segment)

    def rotate(self) -> int:
        """Begins a segment; its number. What the current batch holds already goes into the new segment too, later than it is
        counted there, which is safe: segments are dropped oldest first."""
        self._sealer = SegmentSealer(self._ring)
        self._tidier.shred(self._sealer.segment)
        return self._sealer.segment

    def tidy(self, then: Callable[[bool], None]) -> None:
        """See ``api.Store``."""
        self.segments.tidy(self._now(), then)

    def _destroy(self, then: Callable[[bool], None]) -> None:
        self._tidier.tidy(lambda: self._sealer.segment, then)

    def tick(self, now: float) -> None:
        """See ``api.Store``."""
        self.segments.tick(now)

    def _with_batch(self, then: Callable[[], None]) -> None:
        self.batch.then.append(then)
        self.kick()

    # -- commits -------------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the writer runs."""
        return self._writer.alive

    @property
    def pending(self) -> bool:
        """See ``committer.BackEnd``: there are keys to destroy."""
        return self.keys.going

    def commit(self, batch: Batch, ended: Callable[[End], None]) -> None:
        """See ``committer.BackEnd``."""
        tidier = self._tidier
        if batch.damaged and not tidier.aside:
            # Of their own: they are kept for days, and nothing else is to be opened with their key.
            tidier.aside = self._ring.new_segment()
        if batch.drop or batch.moves:  # a row may have taken the place of another
            tidier.stained = True
        keys, gone = self.keys.take()
        seq = batch.seq or self._new_id()
        work = Work(batch, seq, self._sealer, tidier.cold, tidier.aside, keys, gone)

        def over(end: End) -> None:
            if end.how not in (Ending.STORED, Ending.BROKEN):
                self.keys.again([] if work.keys_stored else keys, gone)
            ended(end)
            if end.how is Ending.STORED and batch.segments:
                tidier.shred(self._sealer.segment)

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

    # -- the log's chain -----------------------------------------------------------------------------------------------

    @property
    def sealed(self) -> tuple[int, bytes]:
        """(number, hash) of the newest durable seal of the log; (0, zeros) for none."""
        return self._chain.last if self._chain is not None else (0, GENESIS)

    def seal_when_due(self) -> None:
        """Called about once a second: where no commit carries a seal, one is made without."""
        if self._chain is not None and not self._closing and self._chain.due_alone():
            self._writer.seal_alone(self._sealer)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def page(self, kind: Kind, owner: str, after: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``. One daemon has the store, so every row is its own."""
        self._look(lambda rows: rows.page(kind, owner, after, limit), then)

    def find(self, kind: Kind, owner: str, keys: list[bytes], then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.find(kind, owner, keys), then)

    def expired(self, kind: Kind, now: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.expired(kind, now, limit), then)

    def walk(self, kind: Kind, after: Place, limit: int, then: Walked) -> None:
        """See ``api.Spool``."""
        tell = self._in_turn()

        def job() -> None:
            rows, following = self._cold.walk(kind, after, limit)
            tell(lambda: then(rows, following))

        self._writer.give(job)

    def count(self, kind: Kind, then: Callable[[dict[str, int]], None]) -> None:
        """See ``api.Spool``."""
        tell = self._in_turn()

        def job() -> None:
            counts = self._cold.count(kind)
            tell(lambda: then(counts))

        self._writer.give(job)

    def _look(self, look: Callable[[ColdRows], list[ColdRow]], then: Callable[[list[ColdRow]], None]) -> None:
        tell = self._in_turn()

        def job() -> None:
            rows = look(self._cold)
            tell(lambda: then(rows))

        self._writer.give(job)

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

    @property
    def damaged(self) -> int:
        """How many items are set aside, as of the last commit or look."""
        return self._aside.count

    def look_at_damaged(self) -> None:
        """See ``api.Store``."""
        self._writer.give(self._aside.recount)

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

    def replay(self) -> Iterator[tuple[int, bytes]]:
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

    def opt_outs(self) -> Iterator[OptOut]:
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
