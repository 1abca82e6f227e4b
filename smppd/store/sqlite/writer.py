"""The embedded store: one writer thread that commits whenever it is free, what arrives meanwhile being the next batch.

Two files, two ordered commits: keys first, so a record never exists without the secrets that open it. Each is one statement,
whatever the size of the batch, unless something out of the ordinary is in it: SQLite gives the interpreter's lock away for a
statement, and getting it back behind a busy reactor may take milliseconds each time.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, time

from smppd.store.api import Batch, ColdRow, Kind, Sink, StoreError, Tenant
from smppd.store.sqlite import slots
from smppd.store.sqlite.checkpoint import PAGE, Checkpointer, checkpoint
from smppd.store.sqlite.cold_rows import ColdRows
from smppd.store.sqlite.damaged import DamagedRows
from smppd.store.sqlite.database import spoken, told
from smppd.store.sqlite.files import Lock, connect
from smppd.store.sqlite.keys import KeyStore, PendingKeys
from smppd.store.sqlite.seals import (
    LOG_STATE,
    SECONDS,
    Made,
    Seals,
    TakenUp,
    end_of_log,
    follow,
    write_seal,
    write_state,
)
from smppd.store.sqlite.segments import Segments
from smppd.store.sqlite.slots import Ahead, Plan
from smppd.store.sqlite.startup import StartUp
from smppd.store.sqlite.tidy import FEW, SPOOL, Compacted, Entries, Files, Tidier, compact
from smppd.vault.blocks import SegmentSealer, row_id, seal_blob
from smppd.vault.chain import GENESIS, ChainKeys, SealKind, events_digest
from smppd.vault.keys import KeyRing
from smppd.vault.seal import DIGEST_BYTES, SECRETS_BYTES

_FULL = (sqlite3.SQLITE_FULL,)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# Times the writer waits for another's lock, five seconds each (busy_timeout), before it gives up.
_BUSY_TRIES = 12
_MONTH = 30 * 86400.0
# What an ordinary batch writes into data.db, in one statement that is a transaction by itself. Temporary: the writer's own.
_BLOCK = (
    "CREATE TEMP VIEW block (seq, count, records, events, chain, secrets, row, data)"
    " AS SELECT NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL",
    "CREATE TEMP TRIGGER block_put INSTEAD OF INSERT ON block BEGIN"
    " INSERT INTO log SELECT NEW.seq, NEW.count, NEW.records, NEW.events, NEW.chain, NEW.secrets WHERE NEW.seq IS NOT NULL;"
    " INSERT INTO spool SELECT NEW.row, NEW.data WHERE NEW.row IS NOT NULL;"
    " END",
)
_PUT = "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
# Seconds for which what nobody is kept waiting by may wait for a commit that comes anyway.
_GATHER = 0.003


class SqliteStore:
    """``store.api.Spool`` on two SQLite files.

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
        self._directory = directory
        self._lock = Lock(directory)
        self._files = KeyStore(directory)
        self.keys = PendingKeys(self._files)
        self._data = connect(directory / "data.db", "data")
        self._secrets = connect(directory / "keys.db", "keys")
        self._notify = notify
        self._later = later
        self._soon = soon
        self._now = now
        self._reserve = reserve
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        for db in (self._data, self._secrets):
            db.execute("PRAGMA wal_autocheckpoint=0")
        for statement in ("PRAGMA temp_store=MEMORY", *_BLOCK):
            self._data.execute(statement)
        self._checkpointer: Checkpointer | None = None
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._busy = False
        self._scheduled = self._urgent = self._gathering = False
        self._kicked = -_GATHER
        self._closing = False
        self.full = False
        self.batch = Batch()
        self.commits = 0
        self.chain_keys: ChainKeys | None = None  # these two are set before ``open``; named: on the audit trail
        self.named = 0
        self.taken_up = TakenUp(True, 0, [])
        """What ``open`` found at the end of the log."""
        self._wall = wall
        self.seals: Seals | None = None
        self._uncertain = self._resting = False
        self.on_commit_time: Callable[[float, int], None] = lambda _seconds, _records: None
        self.on_damage: Callable[[Kind, str, int, str], None] = lambda _kind, _owner, _identity, _reason: None
        """Told on the reactor thread of each cold row that does not open, once: kind, owner, id, why."""
        self.on_start_damage: Callable[[str, int, str], None] = lambda _what, _identity, _reason: None
        """Told at the start of what was set aside, since it does not open or is not what it should be."""
        self.lifetime: Callable[[str], float] = lambda _owner: _MONTH
        """Seconds for which what is damaged may be kept, by the account, lane or upstream it belongs to. Any thread."""
        # Rows come with rising segments, so this index grows at its end; `_shred` asks it whether a key is still needed.
        self._data.execute("CREATE INDEX IF NOT EXISTS cold_segment ON cold (segment)")
        self._chain, self._last_row = end_of_log(self._data)

    @spoken
    def use(self, ring: KeyRing) -> None:
        """The keys to open and seal the spool with; before the replay."""
        self._ring = ring
        self._aside = DamagedRows(self._data, ring, lambda owner: self.lifetime(owner), self._wall)
        self._start_up = StartUp(self._data, ring, self._aside, lambda *told: self.on_start_damage(*told))
        self._cold = ColdRows(self._data, ring, self._aside, lambda *told: self._notify(lambda: self.on_damage(*told)))

    @spoken
    def compact(self, entries: Entries, most: int | None = FEW) -> Compacted:
        """See ``tidy.compact``. After ``use``, before ``open`` or at the end."""
        return compact(self._both(), entries, most)

    def _both(self) -> Files:
        return Files(self._data, self._secrets, self.keys, self._ring, self._cold)

    @spoken
    def open(self, sink: Sink, tenant: Tenant, new_id: Callable[[], int]) -> None:
        """See ``api.Store``. Takes a fresh spool segment, in which what is opened lives from now on, and starts the writer."""
        self._sink = sink
        self._new_id = new_id
        slots.sweep(self._secrets, self._data)
        self._ahead = Ahead(new_id)
        self._tidier = Tidier(self._both(), self._jobs.put, self._notify, self._later, self._with_batch)
        self._sealer = SegmentSealer(self._ring)
        if self.chain_keys is not None:
            self.seals = Seals(self.chain_keys, self._directory, self._data, self._secrets, self._wall)
            self.taken_up = self.seals.take_up(self._last_row, self._chain, self.named)
        self._checkpointer = Checkpointer(
            [(self._directory / "keys.db", "keys"), (self._directory / "data.db", "data")],
            lambda: self._jobs.put(self._checkpoint_rest),
            self._broken,
        )
        self._thread.start()
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

    # -- reactor side --------------------------------------------------------------------------------------------------

    def kick(self) -> None:
        """Commits ``batch`` at the end of this turn, or as soon as the writer is free."""
        self._kicked = self._now()
        self._urgent = True
        self._schedule()

    def nudge(self) -> None:
        """Commits ``batch`` soon. Where commits are asked for all the time it goes with the next one, 3 ms from now at the
        latest: at 500 messages a second that is one commit a message instead of three."""
        if self._busy or self._scheduled or self._gathering:
            return
        if self._now() - self._kicked > _GATHER:
            self._schedule()
        else:
            self._gathering = True
            self._later(_GATHER, self._gathered)

    def _gathered(self) -> None:
        self._gathering = False
        self._schedule()

    def _schedule(self) -> None:
        if not self._busy and not self._scheduled:
            self._scheduled = True
            self._soon(self._flush)

    def _go_on(self) -> None:
        """The next commit follows this one, with what the sockets have by now: at full load the batches are twice as large
        for it, and where nothing has come it costs one look."""
        if not self._busy and not self._scheduled:
            self._scheduled = True
            self._soon(self._next)

    def _next(self) -> None:
        self._soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._busy or not (self.batch or self.keys.going):
            return
        self._urgent = False
        batch = self.batch
        batch.started = monotonic()
        plan = self._ahead.plan(batch)
        self.batch = Batch()
        self._ahead.give(self.batch)
        if batch.damaged and not self._tidier.aside:
            # Of their own: they are kept for days, and nothing else is to be opened with their key.
            self._tidier.aside = self._ring.new_segment()
        keys, gone = self.keys.take()
        batch.keys.extend(keys)
        sealer, cold = self._sealer, self._tidier.cold
        self._busy = True
        seq = batch.seq or self._new_id()
        self._jobs.put(lambda: self._commit(batch, sealer, cold, gone, plan, seq))

    def _ended(self, batch: Batch, gone: list[bytes], plan: Plan, reason: str | None, fatal: bool) -> None:
        self._busy = False
        if reason is None:
            # That a small batch found room does not mean that the reserve is free again.
            if self.full and batch and self.space():
                self.full = False
            self.commits += 1
            self._ahead.stored(plan)
            self._ahead.give(self.batch)
            self.on_commit_time(monotonic() - batch.started, len(batch.records))
            self._sink.batch_committed(batch)
            if batch.segments:
                self._tidier.shred(self._sealer.segment)
        elif fatal:
            self._sink.store_broken(reason)
            return
        else:
            self.full = True
            self.keys.gone_again(gone)
            self._ahead.lost(plan)
            following = self.batch
            following.keys[:0] = batch.keys
            following.marks[:0] = batch.marks
            following.events[:0] = batch.events
            following.moves[:0] = batch.moves
            following.drop[:0] = batch.drop
            following.segments[:0] = batch.segments
            following.released[:0] = batch.released
            following.meta[:0] = batch.meta
            following.damaged[:0] = batch.damaged
            following.then[:0] = batch.then
            self._sink.batch_refused(batch, reason)
        if reason is None and self.batch:
            if self._urgent:
                self._go_on()
            else:
                self.nudge()

    @property
    def busy(self) -> bool:
        """Whether something is not durable yet."""
        return self._busy or bool(self.batch)

    @property
    def alive(self) -> bool:
        """Whether the writer runs."""
        return self._thread.is_alive()

    def retry(self) -> None:
        """Tries again after the disk was full: called about once a second."""
        if self.full and not self._busy:
            if not self.batch:
                self.full = False
            self._flush()

    @property
    def sealed(self) -> tuple[int, bytes]:
        """(number, hash) of the newest durable seal of the log; (0, zeros) for none."""
        return self.seals.last if self.seals is not None else (0, GENESIS)

    def seal_when_due(self) -> None:
        """Called about once a second: where no commit carries a seal, one is made without."""
        if self.seals is not None and not (self._resting or self._closing) and self.seals.age >= SECONDS:
            self._resting = True
            self._jobs.put(lambda: self._seal_rest(SealKind.RUNNING))

    def space(self) -> bool:
        """Whether the file system keeps its reserve free."""
        try:
            stat = os.statvfs(self._directory)
        except OSError:
            return False
        return stat.f_bavail * stat.f_frsize >= self._reserve

    def page(self, kind: Kind, owner: str, after: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.page(kind, owner, after, limit), then)

    def find(self, kind: Kind, owner: str, keys: list[bytes], then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.find(kind, owner, keys), then)

    def expired(self, kind: Kind, now: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.expired(kind, now, limit), then)

    def _look(self, look: Callable[[ColdRows], list[ColdRow]], then: Callable[[list[ColdRow]], None]) -> None:
        def job() -> None:
            rows = look(self._cold)
            self._notify(lambda: then(rows))

        self._jobs.put(job)

    @property
    def damaged(self) -> int:
        """How many items are set aside, as of the last commit or look."""
        return self._aside.count

    def look_at_damaged(self) -> None:
        """See ``api.Store``."""
        self._jobs.put(self._aside.recount)

    def close(self, entries: Entries | None = None) -> None:
        """Ends the writer after what was handed to it and closes the files. ``entries``: takes out what is over first."""
        self._closing = True
        if self._thread.is_alive():
            if not self._uncertain:
                self._jobs.put(lambda: self._seal_rest(SealKind.STOP))
            self._jobs.put(None)
            self._thread.join(30.0)
        if self._checkpointer is not None:
            self._checkpointer.stop()
            self._ahead.end(self.batch, self._secrets)
        if entries is not None:
            with suppress(StoreError):  # the next start does it
                self.compact(entries)
        for db in (self._data, self._secrets, self.seals):
            if db is not None:
                db.close()
        self._files.close()
        self._lock.release()

    # -- start-up ------------------------------------------------------------------------------------------------------

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``api.Spool``."""
        try:
            yield from self._start_up.replay()
        except sqlite3.Error as error:
            raise told(self._directory, error) from error

    @spoken
    def counts(self) -> dict[tuple[int, str], int]:
        """See ``api.Spool``."""
        return self._start_up.counts()

    @spoken
    def highest_id(self) -> int:
        """See ``api.Spool``."""
        return self._start_up.highest_id()

    @spoken
    def meta(self, name: str, default: int, damaged: int | None = None) -> int:
        """See ``api.Store``."""
        return self._start_up.meta(name, default, damaged)

    # -- writer thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                job()
            except Exception as error:  # noqa: BLE001  the thread's edge: nothing may be acknowledged after it
                self._broken(error)
                return

    def _broken(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        self._notify(lambda: self._sink.store_broken(reason))

    def _checkpoint_rest(self) -> None:
        checkpoint((self._secrets, self._data))
        if self._checkpointer is not None:
            self._checkpointer.finished()

    def _commit(self, batch: Batch, sealer: SegmentSealer, cold: int, gone: list[bytes], plan: Plan, seq: int) -> None:
        reason, fatal, keys = None, False, False
        link = self._link(batch, plan, seq)
        made = None
        if link is not None and self.seals is not None and self.seals.due(len(batch.records)):
            made = self.seals.make(SealKind.RUNNING, seq, link, 1)
        for tries in range(_BUSY_TRIES, -1, -1):
            try:
                if not keys:
                    self._commit_keys(batch, gone, plan, seq, made)
                    keys = True
                self._commit_data(batch, sealer, cold, plan, seq, link, made)
                break
            except sqlite3.Error as error:
                for db in (self._secrets, self._data):
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in _BUSY and tries:
                    # A command or a housekeeping thread holds the lock longer than it should; nothing is lost by waiting.
                    continue
                reason = str(error)
                fatal = code not in _FULL
                self._uncertain = self._uncertain or fatal
                break
        self._notify(lambda: self._ended(batch, gone, plan, reason, fatal))

    def _commit_keys(self, batch: Batch, gone: list[bytes], plan: Plan, seq: int, made: Made | None) -> None:
        own = bool(batch.secrets) and plan.slot is None
        ordinary = not batch.keys and not gone and plan.empty and made is None
        if ordinary and not own:
            return
        db = self._secrets
        if not ordinary:
            db.execute("BEGIN IMMEDIATE")
        if batch.keys:
            db.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", batch.keys)
        if gone:
            db.executemany("DELETE FROM keys WHERE scope = ?", [(scope,) for scope in gone])
        if own:
            db.execute("INSERT INTO secrets VALUES (?, ?)", (seq, b"".join(batch.secrets)))
        slots.write(db, plan)
        if made is not None:
            write_state(db, LOG_STATE, made.state)
        if not ordinary:
            db.execute("COMMIT")
        if gone:
            # A destroyed key is not to linger in the write-ahead log. Where a reader is in the way, the next one does it.
            db.execute("PRAGMA busy_timeout=100")
            try:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                db.execute("PRAGMA busy_timeout=5000")

    def _link(self, batch: Batch, plan: Plan, seq: int) -> bytes | None:
        # The chain after this batch; None where it adds nothing to the log.
        if not batch.records and not batch.events:
            return None
        # A packed record ends with its digest (`vault.seal.digest_of`, which also checks the form of one from disk).
        digests = [record[-DIGEST_BYTES:] for record in batch.records]
        if batch.events:
            digests.append(events_digest(b"".join(batch.events)))
        slot = plan.slot.id if plan.slot is not None else None
        return follow(self.chain_keys, self._chain, seq, slot, digests)

    def _commit_data(
        self,
        batch: Batch,
        sealer: SegmentSealer,
        rows: int,
        plan: Plan,
        seq: int,
        link: bytes | None,
        made: Made | None,
    ) -> None:
        db = self._data
        written = len(batch.secrets) * SECRETS_BYTES
        log: tuple[object, ...] = (None, 0, None, None, None, None)
        if link is not None:
            events, records = b"".join(batch.events), b"".join(batch.records)
            log = (seq, len(batch.records), records, events, link, plan.slot.id if plan.slot is not None else None)
            written += len(records) + len(events)
        spool: tuple[object, ...] = (None, None)
        if batch.accepts or batch.marks:
            counter, sealed = sealer.seal(SPOOL, b"".join(batch.accepts + batch.marks))
            spool = (row_id(sealer.segment, counter), sealed)
            written += len(sealed)
        cold = batch.put + batch.moves
        if made is None and not (cold or batch.drop or batch.meta or batch.segments or batch.damaged):
            if log[0] is not None or spool[0] is not None:
                db.execute(_PUT, log + spool)
        else:
            db.execute("BEGIN IMMEDIATE")
            db.execute(_PUT, log + spool)
            if made is not None:
                write_seal(db, made)
            if cold:
                # An id may be put again (a row written twice is one row): the newer one stands.
                written += self._cold.put(cold, rows)
            if batch.drop:
                # After the puts: a row may be put and be over within one batch, and none is put again after it was dropped.
                self._cold.drop(batch.drop)
                self._tidier.stained = True
                # A row that goes, in an order of its own, touches a page.
                written += PAGE * len(batch.drop)
            if batch.damaged:
                written += self._aside.put(batch.damaged, self._tidier.aside)
            if batch.meta:
                db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", batch.meta)
            for segment in batch.segments:
                db.execute("DELETE FROM spool WHERE seq >= ? AND seq < ?", (segment << 32, (segment + 1) << 32))
            db.execute("COMMIT")
        if link is not None:
            self._chain, self._last_row = link, seq
        if self.seals is not None:
            self.seals.committed(made, int(link is not None), len(batch.records))
        if self._checkpointer is not None:
            self._checkpointer.wrote(written)

    def _seal_rest(self, kind: SealKind) -> None:
        if self.seals is not None:
            self.seals.rest(kind, self._last_row, self._chain)
        self._resting = False


__all__ = ["SqliteStore", "StoreError", "seal_blob"]
