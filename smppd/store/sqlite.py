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
from hashlib import blake2b
from pathlib import Path
from time import monotonic, time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from smppd.store import ahead
from smppd.store.ahead import Ahead, Plan
from smppd.store.api import Batch, ColdRow, Kind, Sink
from smppd.store.checkpoint import PAGE, Checkpointer, checkpoint
from smppd.store.damaged import DamagedRows
from smppd.store.files import KeyStore, Lock, PendingKeys, StoreError, connect
from smppd.store.rows import ColdRows
from smppd.store.startup import SPOOL, StartUp
from smppd.vault.chain import Checkpoint, chain, sign_checkpoint
from smppd.vault.keys import KeyRing
from smppd.vault.seal import DIGEST_BYTES, SECRETS_BYTES
from smppd.vault.spool import SegmentSealer, row_id, seal_blob

_FULL = (sqlite3.SQLITE_FULL,)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# Times the writer waits for another's lock, five seconds each (busy_timeout), before it gives up.
_BUSY_TRIES = 12
# A checkpoint is signed when so many records or seconds have come since the last.
_CHECKPOINT_RECORDS = 1000
_CHECKPOINT_SECONDS = 60.0
_CHAIN_START = bytes(32)
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
# Segments whose keys may have become needless that are looked at with each new one.
_SHREDDED = 1000


def events_digest(events: bytes) -> bytes:
    """What stands in the chain for the events of one log row."""
    return blake2b(events, digest_size=32, person=b"smppd events").digest()


class SqliteStore:
    """``store.api.Spool`` on two SQLite files.

    ``notify(function)`` runs a function on the reactor thread; ``later(seconds, function)`` runs one there after a time,
    ``soon(function)`` at the end of this turn. ``new_id`` draws time-ordered ids. Raises ``StoreError`` on opening.
    """

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
        self._shredded = 0
        self._closing = False
        self.full = False
        self.batch = Batch()
        self.commits = 0
        self.signer: Ed25519PrivateKey | None = None
        """Signs checkpoints of the digest chain; none are made without it. Set before ``open``."""
        self._wall = wall
        self._points = self._blocks = self._unsigned = 0
        self._signed = monotonic()
        self.on_commit_time: Callable[[float, int], None] = lambda _seconds, _records: None
        self.on_damage: Callable[[Kind, str, int, str], None] = lambda _kind, _owner, _identity, _reason: None
        """Told on the reactor thread of each cold row that does not open, once: kind, owner, id, why."""
        self.on_start_damage: Callable[[str, int, str], None] = lambda _what, _identity, _reason: None
        """Told at the start of what was set aside, since it does not open or is not what it should be."""
        self.lifetime: Callable[[str], float] = lambda _owner: _MONTH
        """Seconds for which what is damaged may be kept, by the account, lane or upstream it belongs to. Any thread."""
        # Rows come with rising segments, so this index grows at its end; `_shred` asks it whether a key is still needed.
        self._data.execute("CREATE INDEX IF NOT EXISTS cold_segment ON cold (segment)")
        row = self._data.execute("SELECT chain FROM log ORDER BY seq DESC LIMIT 1").fetchone()
        self._chain = row[0] if row and isinstance(row[0], bytes) else _CHAIN_START

    def use(self, ring: KeyRing) -> None:
        """The keys to open and seal the spool with; before the replay."""
        self._ring = ring
        self._aside = DamagedRows(self._data, ring, lambda owner: self.lifetime(owner), self._wall)
        self._start_up = StartUp(self._data, ring, self._aside, lambda *told: self.on_start_damage(*told))
        self._cold = ColdRows(self._data, ring, self._aside, lambda *told: self._notify(lambda: self.on_damage(*told)))

    def open(self, sink: Sink, new_id: Callable[[], int]) -> int:
        """Takes a fresh spool segment and starts the writer; returns the segment. After the replay."""
        self._sink = sink
        self._new_id = new_id
        ahead.sweep(self._secrets, self._data)
        self._ahead = Ahead(new_id)
        self._sealer = SegmentSealer(self._ring)
        if self.signer is not None:
            self._points, self._blocks = self._start_up.last_checkpoint(self.signer.public_key())
        self._checkpointer = Checkpointer(
            [(self._directory / "keys.db", "keys"), (self._directory / "data.db", "data")],
            lambda: self._jobs.put(self._checkpoint_rest),
            self._broken,
        )
        self._thread.start()
        self._shred_later()
        return self._sealer.segment

    def rotate(self) -> int:
        """See ``api.Store``. What the current batch holds already goes into the new segment too, later than it is counted
        there, which is safe: segments are dropped oldest first."""
        self._sealer = SegmentSealer(self._ring)
        self._shred_later()
        return self._sealer.segment

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
        if self._busy or not self.batch:
            return
        self._urgent = False
        batch = self.batch
        batch.started = monotonic()
        plan = self._ahead.plan(batch)
        self.batch = Batch()
        self._ahead.give(self.batch)
        keys, gone = self.keys.take()
        batch.keys.extend(keys)
        sealer = self._sealer
        self._busy = True
        seq = batch.seq or self._new_id()
        self._jobs.put(lambda: self._commit(batch, sealer, gone, plan, seq))

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
            self._sink.committed(batch)
        elif fatal:
            self._sink.broken(reason)
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
            self._sink.failed(batch, reason)
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

    def close(self) -> None:
        """Ends the writer after what was handed to it and closes the files."""
        self._closing = True
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(30.0)
        if self._checkpointer is not None:
            self._checkpointer.stop()
            self._ahead.end(self.batch, self._secrets)
        for db in (self._data, self._secrets):
            db.close()
        self._files.close()
        self._lock.release()

    # -- start-up ------------------------------------------------------------------------------------------------------

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``api.Spool``."""
        return self._start_up.replay()

    def counts(self) -> dict[tuple[int, str], int]:
        """See ``api.Spool``."""
        return self._start_up.counts()

    def highest_id(self) -> int:
        """See ``api.Spool``."""
        return self._start_up.highest_id()

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
        self._notify(lambda: self._sink.broken(reason))

    def _checkpoint_rest(self) -> None:
        checkpoint((self._secrets, self._data))
        if self._checkpointer is not None:
            self._checkpointer.finished()

    def _commit(self, batch: Batch, sealer: SegmentSealer, gone: list[bytes], plan: Plan, seq: int) -> None:
        reason, fatal, keys = None, False, False
        for tries in range(_BUSY_TRIES, -1, -1):
            try:
                if not keys:
                    self._commit_keys(batch, gone, plan, seq)
                    keys = True
                self._commit_data(batch, sealer, plan, seq)
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
                break
        self._notify(lambda: self._ended(batch, gone, plan, reason, fatal))

    def _commit_keys(self, batch: Batch, gone: list[bytes], plan: Plan, seq: int) -> None:
        own = bool(batch.secrets) and plan.slot is None
        ordinary = not batch.keys and not gone and plan.empty
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
        ahead.write(db, plan)
        if not ordinary:
            db.execute("COMMIT")
        if gone:
            # A destroyed key is not to linger in the write-ahead log. Where a reader is in the way, the next one does it.
            db.execute("PRAGMA busy_timeout=100")
            try:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                db.execute("PRAGMA busy_timeout=5000")

    def _commit_data(self, batch: Batch, sealer: SegmentSealer, plan: Plan, seq: int) -> None:
        db = self._data
        link = self._chain
        written = len(batch.secrets) * SECRETS_BYTES
        log: tuple[object, ...] = (None, 0, None, None, None, None)
        point: Checkpoint | None = None
        if batch.records or batch.events:
            events = b"".join(batch.events)
            # A packed record ends with its digest (`vault.seal.digest_of`, which also checks the form of one from disk).
            digests = [record[-DIGEST_BYTES:] for record in batch.records]
            if events:
                digests.append(events_digest(events))
            link = chain(link, digests)
            records = b"".join(batch.records)
            log = (seq, len(batch.records), records, events, link, plan.slot.id if plan.slot is not None else None)
            written += len(records) + len(events)
            point = self._checkpoint(len(batch.records), link)
        blocks = int(log[0] is not None)
        spool: tuple[object, ...] = (None, None)
        if batch.accepts or batch.marks:
            counter, sealed = sealer.seal(SPOOL, b"".join(batch.accepts + batch.marks))
            spool = (row_id(sealer.segment, counter), sealed)
            written += len(sealed)
        cold = batch.put + batch.moves
        if point is None and not (cold or batch.drop or batch.meta or batch.segments or batch.damaged):
            if log[0] is not None or spool[0] is not None:
                db.execute(_PUT, log + spool)
        else:
            db.execute("BEGIN IMMEDIATE")
            db.execute(_PUT, log + spool)
            if point is not None and self.signer is not None:
                db.execute("INSERT INTO checkpoints VALUES (?, ?)", (seq, sign_checkpoint(self.signer, point)))
            if cold:
                # An id may be put again (a row written twice is one row): the newer one stands.
                written += self._cold.put(cold, sealer.segment)
            if batch.drop:
                # After the puts: a row may be put and be over within one batch, and none is put again after it was dropped.
                self._cold.drop(batch.drop)
                # A row that goes, in an order of its own, touches a page.
                written += PAGE * len(batch.drop)
            if batch.damaged:
                written += self._aside.put(batch.damaged, sealer.segment)
            if batch.meta:
                db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", batch.meta)
            for segment in batch.segments:
                db.execute("DELETE FROM spool WHERE seq >= ? AND seq < ?", (segment << 32, (segment + 1) << 32))
            db.execute("COMMIT")
        self._chain = link
        self._blocks += blocks
        self._unsigned += len(batch.records)
        if point is not None:
            self._unsigned, self._signed = 0, monotonic()
        if self._checkpointer is not None:
            self._checkpointer.wrote(written)

    def _checkpoint(self, records: int, link: bytes) -> Checkpoint | None:
        """The state of the chain with one block more, to be signed now and then: whoever keeps a copy elsewhere can tell edits
        and roll-backs."""
        if self.signer is None or (
            self._unsigned + records < _CHECKPOINT_RECORDS and monotonic() - self._signed < _CHECKPOINT_SECONDS
        ):
            return None
        # A commit that fails leaves a gap in the numbers, which says nothing: what counts is that none repeats.
        self._points += 1
        return Checkpoint(self._points, self._blocks + 1, int(self._wall() * 1000), link)

    def _shred_later(self) -> None:
        current = self._sealer.segment
        self._jobs.put(lambda: self._shred(current))

    def _shred(self, current: int) -> None:
        """Destroys the keys of segments that neither spool nor cold rows use any more. On the writer's thread, behind every
        batch sealed under an earlier segment than ``current``: nothing is added to those again. The rows are gone for good
        before the key is, so no crash leaves a row that does not open; the keys go with the next batch. A carrier that brings
        no receipts for days leaves many segments with a few rows each: some are looked at each time, in turn."""
        segments = [segment for segment in self._ring.segments() if segment < current]
        later = [segment for segment in segments if segment > self._shredded]
        turn = (later + segments)[: min(len(segments), _SHREDDED)]
        if turn:
            self._shredded = turn[-1]
        for segment in turn:
            if not self._data.execute(
                "SELECT EXISTS (SELECT 1 FROM spool WHERE seq >= ?1 << 32 AND seq < (?1 + 1) << 32)"
                " OR EXISTS (SELECT 1 FROM cold WHERE segment = ?1)"
                " OR EXISTS (SELECT 1 FROM damaged WHERE segment = ?1)",
                (segment,),
            ).fetchone()[0]:
                self._ring.drop_segment(segment)


__all__ = ["SqliteStore", "StoreError", "seal_blob"]
