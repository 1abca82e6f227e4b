"""Makes the seals of the log's chain, on the writer's thread: numbered, signed, each naming the one before and the audit
trail's head, and known to keys.db too, so that no file can be cut short or put back to an older copy alone.

A seal goes with the commit of a batch: keys.db learns first which one comes, then data.db has it. A kill between the two
leaves keys.db one ahead, which is no roll-back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

from smppd.store.api import StoreError
from smppd.store.sqlite.database import Database
from smppd.store.sqlite.files import connect
from smppd.vault.chain import GENESIS, ChainKeys, LogState, Seal, SealKind, events_digest, seal_hash
from smppd.vault.seal import DIGEST_BYTES, SealError, iter_records, verify_digest

RECORDS: Final = 1000
"""A seal is made when so many records have come since the last,"""
SECONDS: Final = 60.0
"""or so many seconds have passed and there is something new in the log or on the audit trail."""
LOG_STATE: Final = "log"
AUDIT_STATE: Final = "audit"
"""Names in `state` of keys.db."""
AUDIT_HEAD: Final = "audit head"
"""Name in `meta` of data.db: an entry that audit.db must hold, as `AUDIT_STATE` in keys.db."""
AUDIT_FILE: Final = "audit.db"

_TAIL: Final = 20_000
_PAGE: Final = 500


class Made(NamedTuple):
    """A seal that is to be written."""

    seal: Seal
    signed: bytes
    digest: bytes
    state: bytes
    """For keys.db, before it."""


class TakenUp(NamedTuple):
    """What the start found. clean: the last end was. unsealed: rows after the last seal. faults: sentences; the store is not
    the one that was left."""

    clean: bool
    unsealed: int
    faults: list[str]


class Seals:
    """The seals of one running store."""

    def __init__(
        self,
        keys: ChainKeys,
        directory: Path,
        data: sqlite3.Connection,
        secrets: sqlite3.Connection,
        wall: Callable[[], float],
    ) -> None:
        """directory: the store's; data, secrets: its files as the writer has them. wall: epoch seconds."""
        self._keys = keys
        self._data = data
        self._secrets = secrets
        self._wall = wall
        self._path = directory / AUDIT_FILE
        self._trail: sqlite3.Connection | None = None
        self._number = self._floor = 0
        self._digest = GENESIS
        self._head = (0, GENESIS)
        self._sealed = (0, 0)  # last row, id of the audit trail's head
        self._opening: SealKind | None = None
        self._records = 0
        self._at = monotonic()
        self.rows = 0
        """Rows that the chain covers."""

    @property
    def last(self) -> tuple[int, bytes]:
        """(number, hash) of the newest durable seal."""
        return self._number, self._digest

    @property
    def row(self) -> int:
        """The last log row that is sealed."""
        return self._sealed[0]

    @property
    def age(self) -> float:
        """Seconds since the last seal, or the last look for something to seal."""
        return monotonic() - self._at

    # -- start ---------------------------------------------------------------------------------------------------------

    def take_up(self, row: int, link: bytes, named: int) -> TakenUp:
        """Goes on from what the files hold, finds what is wrong, and seals what the last run left. row, link: the last row of
        the log and its chain. named: the highest number on the audit trail. The next number is above all that were ever
        known: what is missing shows as a gap for ever. Raises sqlite3.Error."""
        taken, last = self._look_back(named)
        self.rows, seq = (last.rows, last.seq) if last is not None else (0, 0)
        self.rows += self._data.execute("SELECT count(*) FROM log WHERE seq > ?", (seq,)).fetchone()[0]
        self._opening = SealKind.BEGIN if last is None or taken.faults else SealKind.START
        try:
            self._write(SealKind.START, row, link)
        except sqlite3.Error as error:
            # It goes with the first commit that finds room.
            if not _passing(error):
                raise
        return taken

    def _look_back(self, named: int) -> tuple[TakenUp, Seal | None]:
        faults: list[str] = []
        data = self._data
        state, last = self._state(self._secrets, faults), self._newest(data, faults)
        known = max(state.number if state is not None else 0, named)
        if last is None:
            if known:
                faults.append(f"all checkpoints are missing: there were {known}")
            else:
                self._vouch(data)
            self._floor = max(known, state.next if state is not None else 0)
            return TakenUp(not known, 0, faults), None
        self._number, self._sealed = last.number, (last.seq, last.audit_id)
        self._head = (last.audit_id, last.audit_hash)
        if state is None:
            faults.append("keys.db does not know the checkpoints of data.db")
        elif state.number > last.number:
            faults.append(f"data.db ends with checkpoint {last.number}, keys.db knows {state.number}")
            self._floor = state.next
        elif state.next < last.number:
            faults.append(f"keys.db ends with checkpoint {state.next}, data.db has {last.number}")
        if named > last.number:
            faults.append(f"data.db ends with checkpoint {last.number}, the audit trail names {named}")
            self._floor = max(self._floor, named)
        unsealed = self._tail(data, last, faults)
        if last.kind is SealKind.STOP and unsealed:
            faults.append("there are log rows after a clean end")
        return TakenUp(last.kind is SealKind.STOP, unsealed, faults), last

    def _state(self, secrets: sqlite3.Connection, faults: list[str]) -> LogState | None:
        row = secrets.execute("SELECT value FROM state WHERE name = ?", (LOG_STATE,)).fetchone()
        try:
            return None if row is None else self._keys.read_log(bytes(row[0]))
        except SealError as error:
            faults.append(str(error))
            return None

    def _newest(self, data: sqlite3.Connection, faults: list[str]) -> Seal | None:
        row = data.execute("SELECT CAST(signed AS BLOB), number FROM seals ORDER BY number DESC LIMIT 1").fetchone()
        if row is None:
            return None
        self._floor = max(self._floor, int(row[1]))
        try:
            seal = self._keys.read(row[0])
        except SealError as error:
            faults.append(str(error))
            return None
        self._digest = seal_hash(row[0])
        return seal

    def _tail(self, data: sqlite3.Connection, last: Seal, faults: list[str]) -> int:
        """Rows after the last seal; whether they follow it."""
        link, after, count = last.chain, last.seq, 0
        if last.seq:
            row = data.execute("SELECT chain FROM log WHERE seq = ?", (last.seq,)).fetchone()
            if row is None or row[0] != last.chain:
                faults.append("the log row of the last checkpoint is missing or altered")
                return 0
        while count <= _TAIL:
            rows = data.execute(
                "SELECT seq, CAST(records AS BLOB), CAST(events AS BLOB), CAST(chain AS BLOB), secrets FROM log"
                " WHERE seq > ? ORDER BY seq LIMIT ?",
                (after, _PAGE),
            ).fetchall()
            for seq, records, events, stored, slot in rows:
                try:
                    digests = [verify_digest(packed) for packed in iter_records(records)]
                    if events:
                        digests.append(events_digest(events))
                    follows = self._keys.link(link, seq, slot, digests) == stored
                except SealError:
                    follows = False
                # What a purge has taken records out of does not come here within the minute that a seal takes.
                if not follows and not data.execute("SELECT 1 FROM purged WHERE seq = ?", (seq,)).fetchone():
                    faults.append(f"log row {seq:016x} was altered or does not follow the one before")
                    return count
                link, after, count = bytes(stored), seq, count + 1
            if len(rows) < _PAGE:
                return count
        faults.append(f"more than {_TAIL} log rows have no checkpoint")
        return count

    def _vouch(self, data: sqlite3.Connection) -> None:
        """What an older version purged is taken over as it is, once."""
        while True:
            rows = data.execute("SELECT seq, digests FROM purged WHERE mac IS NULL LIMIT ?", (_PAGE,)).fetchall()
            if not rows:
                return
            data.execute("BEGIN IMMEDIATE")
            for seq, digests in rows:
                data.execute("UPDATE purged SET mac = ? WHERE seq = ?", (self._keys.purged(seq, digests), seq))
            data.execute("COMMIT")

    # -- making --------------------------------------------------------------------------------------------------------

    def due(self, records: int) -> bool:
        """Whether a seal goes with the commit of so many records more."""
        return self._opening is not None or self._records + records >= RECORDS or monotonic() - self._at >= SECONDS

    def rest(self, kind: SealKind, row: int, link: bytes) -> Made | None:
        """A seal without a commit of records, to be written; None where there is nothing that the last one does not cover."""
        self._at = monotonic()
        self._look()
        return self.make(kind, row, link) if self._sealed != (row, self._head[0]) else None

    def stop(self, row: int, link: bytes) -> None:
        """The seal of a clean end. Where the disk is full or another holds the lock, the next start makes one. Raises
        sqlite3.Error for anything else."""
        self._look()
        try:
            self._write(SealKind.STOP, row, link)
        except sqlite3.Error as error:
            if not _passing(error):
                raise

    def _write(self, kind: SealKind, row: int, link: bytes) -> None:
        made = self.make(kind, row, link)
        write_state(self._secrets, LOG_STATE, made.state)
        write_seal(self._data, made)
        self.done(made)
        if made.seal.kind is SealKind.STOP:
            state = LogState(self._number, self._number, True, self._digest, self._digest)
            write_state(self._secrets, LOG_STATE, self._keys.pack_log(state))

    def make(self, kind: SealKind, seq: int, link: bytes, more: int = 0) -> Made:
        """The next seal, over all rows up to `seq`, of which `more` are not counted yet."""
        self._look()
        number = max(self._number, self._floor) + 1
        if self._opening is not None:
            kind = self._opening
        seal = Seal(number, kind, seq, self.rows + more, int(self._wall() * 1000), link, self._digest, *self._head)
        signed = self._keys.sign(seal)
        digest = seal_hash(signed)
        state = self._keys.pack_log(LogState(self._number, number, False, self._digest, digest))
        return Made(seal, signed, digest, state)

    def done(self, made: Made) -> None:
        """The seal is durable."""
        self._number, self._digest, self._floor = made.seal.number, made.digest, 0
        self._sealed = (made.seal.seq, made.seal.audit_id)
        self._opening = None
        self._records, self._at = 0, monotonic()

    def committed(self, made: Made | None, rows: int, records: int) -> None:
        """A commit is durable: with this seal, if any."""
        self.rows += rows
        if made is not None:
            self.done(made)
        else:
            self._records += records

    def _look(self) -> None:
        """The audit trail's head as the file has it. One that cannot be read, or that went back, is not believed: the seals go
        on naming what was there, so it shows."""
        with suppress(sqlite3.Error, StoreError):
            if self._trail is None:
                self._trail = connect(self._path, "audit", read_only=True)
            row = self._trail.execute("SELECT id, hash FROM head").fetchone()
            if row is not None and row[0] >= self._head[0] and len(row[1]) == DIGEST_BYTES:
                self._head = (row[0], bytes(row[1]))

    def close(self) -> None:
        """Closes the file of the audit trail."""
        if self._trail is not None:
            self._trail.close()


def _passing(error: sqlite3.Error) -> bool:
    """Whether it may be over when it is tried again."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def write_state(db: sqlite3.Connection, name: str, value: bytes) -> None:
    """What keys.db knows of another file."""
    db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))


def write_seal(db: sqlite3.Connection, made: Made) -> None:
    """Into data.db, in the caller's transaction."""
    db.execute("INSERT INTO seals VALUES (?, ?, ?)", (made.seal.number, made.seal.seq, made.signed))


def end_of_log(db: sqlite3.Connection) -> tuple[bytes, int]:
    """(chain, id) of the last row of the log; zeros for none. Cast, because who edits the file may change types too: the store
    works on, and `log verify` says what was altered."""
    row = db.execute("SELECT CAST(chain AS BLOB), seq FROM log ORDER BY seq DESC LIMIT 1").fetchone()
    return (row[0] if len(row[0]) == DIGEST_BYTES else GENESIS, row[1]) if row is not None else (GENESIS, 0)


def _has_states(path: Path, kind: str) -> bool:
    """Whether a file is of a version that knows of the others. A command does not bring it up: the daemon that writes it may
    still be the older one."""
    db = Database(path, kind, read_only=True)
    try:
        return db.version() > 2
    finally:
        db.close()


def witness(directory: Path, keys: ChainKeys, number: int, digest: bytes) -> None:
    """Tells keys.db and data.db that the audit trail has this entry, so that a copy of audit.db without it is found out, alone
    or together with one of them. Raises StoreError."""
    value = keys.pack_audit(number, digest)
    for name, kind, read, write in (
        ("keys.db", "keys", "SELECT value FROM state WHERE name = ?", "INSERT OR REPLACE INTO state VALUES (?, ?)"),
        ("data.db", "data", "SELECT value FROM meta WHERE name = ?", "INSERT OR REPLACE INTO meta VALUES (?, ?)"),
    ):
        if not (directory / name).exists() or not _has_states(directory / name, kind):
            continue
        db = Database(directory / name, kind)
        try:
            where = AUDIT_STATE if kind == "keys" else AUDIT_HEAD
            with db.writing():
                row = db.one(read, (where,))
                newer = True
                with suppress(SealError):
                    newer = row is None or keys.read_audit(bytes(row[0]))[0] < number
                if newer:
                    db.run(write, (where, value))
        finally:
            db.close()
