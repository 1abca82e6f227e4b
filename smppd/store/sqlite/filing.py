"""What a block of the journal has for keys.db and data.db, and how many of them are filed there in one transaction each.

Keys first: a record is never in data.db without the secrets that open it. Each file says up to which block it has everything,
in the transaction that makes it so; so filing may be cut off at any moment and done again.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from smppd.store.api import ColdRow, Damaged, Doubt, OptOut
from smppd.store.sqlite import opt_outs
from smppd.store.sqlite.checkpoint import PAGE
from smppd.store.sqlite.cold_rows import ColdRows, put_many
from smppd.store.sqlite.damaged import DamagedRows
from smppd.store.sqlite.seals import LOG_STATE, write_state
from smppd.vault.seal import DIGEST_BYTES

FILED: Final = "filed"
"""Name in `meta` of data.db and in `state` of keys.db: the sequence of the last block that is filed there."""
ENDED: Final = "segments ended"
"""Name in `meta`: the segments that ended last, as JSON."""
_HEAD: Final = struct.Struct("!QIIIII?")
_ROW: Final = struct.Struct("!BIIqqI")
_INSERT: Final = ("INSERT", "INSERT OR IGNORE")
_FILED: Final = struct.Struct("!Q")


class SealRow(NamedTuple):
    """A seal of the log. number, seq, signed: as in `seals`; state: what keys.db learns before."""

    number: int
    seq: int
    signed: bytes
    state: bytes


@dataclass(slots=True, repr=False)
class Filing:
    """Of one block. seq: id of the log row and of its row of `secrets`; count: its records. records, events, secrets: joined,
    as the rows have them. link: the chain after the row, empty where there is no row. cold, drop: rows of `cold`. sequence:
    the block's, 0 for none. segment, aside: what cold rows and damaged items are sealed under. gone: keys to destroy, which no
    block has. filed: whether it is. octets: about what it takes in memory and in a write-ahead log."""

    seq: int = 0
    count: int = 0
    records: bytes = b""
    events: bytes = b""
    secrets: bytes = b""
    link: bytes = b""
    seal: SealRow | None = None
    cold: Sequence[ColdRow] = ()
    drop: Sequence[tuple[int, str, bytes, int]] = ()
    damaged: Sequence[Damaged] = ()
    meta: Sequence[tuple[str, int]] = ()
    opt_outs: Sequence[OptOut] = ()
    doubts: Sequence[Doubt] = ()
    decided: Sequence[int] = ()
    segments: Sequence[int] = ()
    sequence: int = 0
    segment: int = 0
    aside: int = 0
    gone: Sequence[bytes] = ()
    octets: int = field(default=0, compare=False)
    filed: bool = field(default=False, compare=False)

    def __repr__(self) -> str:
        return f"<Filing of block {self.sequence}>"

    @property
    def seldom(self) -> bool:
        """Whether there is anything but a log row."""
        return bool(
            self.seal
            or self.cold
            or self.drop
            or self.damaged
            or self.meta
            or self.opt_outs
            or self.doubts
            or self.decided
            or self.segments
        )

    def pack(self) -> bytes:
        """For the block; see `unpack`."""
        counts = (len(self.records), len(self.events), len(self.secrets), len(self.cold))
        head = _HEAD.pack(self.seq, self.count, *counts, bool(self.link))
        rest = _rest(self) if self.seldom else b""
        return b"".join((head, self.link, self.records, self.events, self.secrets, *_packed(self.cold), rest))


def _packed(rows: Iterable[ColdRow]) -> Iterator[bytes]:
    """Rows of `cold` as octets: there may be megabytes of them."""
    for row in rows:
        owner = row.owner.encode("utf-8", "surrogatepass")
        yield _ROW.pack(row.kind, len(owner), len(row.key), row.id, row.expires, len(row.data)) + owner + row.key
        yield row.data


def _unpacked(data: bytes, at: int, count: int) -> tuple[list[ColdRow], int]:
    rows = []
    for _ in range(count):
        kind, owner, key, identity, expires, length = _ROW.unpack_from(data, at)
        at += _ROW.size
        end = at + owner + key + length
        if end > len(data):
            raise ValueError("cut short")
        name = data[at : at + owner].decode("utf-8", "surrogatepass")
        rows.append(ColdRow(kind, name, data[at + owner : end - length], identity, expires, data[end - length : end]))
        at = end
    return rows, at


def _rest(one: Filing) -> bytes:
    kept = (one.drop, one.damaged, one.meta, one.opt_outs, one.doubts, one.decided, one.segments)
    return json.dumps(_spelled((one.seal, *kept)), separators=(",", ":")).encode()


def _spelled(value: Any) -> Any:
    """As JSON can say it: octets become an object with one member, which nothing else here is."""
    if isinstance(value, bytes):
        return {"b": b2a_base64(value, newline=False).decode()}
    if isinstance(value, (list, tuple)):
        return [_spelled(one) for one in value]
    return value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return a2b_base64(value["b"])
    if isinstance(value, list):
        return tuple(_read(one) for one in value)
    return value


def unpack(data: bytes) -> Filing:
    """The inverse of `Filing.pack`. ValueError where it is none."""
    try:
        seq, count, records, events, secrets, cold, linked = _HEAD.unpack_from(data)
        one = Filing(seq, count)
        at = _HEAD.size
        parts = []
        for length in (DIGEST_BYTES * linked, records, events, secrets):
            parts.append(data[at : at + length])
            at += length
        if at > len(data):
            raise ValueError("cut short")
        one.link, one.records, one.events, one.secrets = parts
        one.cold, at = _unpacked(data, at, cold)
        if at < len(data):
            seal, drop, damaged, meta, outs, doubts, decided, segments = _read(json.loads(data[at:]))
            one.seal = None if seal is None else SealRow(*seal)
            one.damaged = [Damaged(*row) for row in damaged]
            one.opt_outs = [OptOut(*row) for row in outs]
            one.doubts = [Doubt(*row) for row in doubts]
            one.drop, one.meta, one.decided, one.segments = drop, meta, decided, segments
    except (struct.error, TypeError, KeyError) as error:
        raise ValueError(f"no core of a block: {type(error).__name__}") from None
    one.octets = len(data)
    return one


def filed(data: sqlite3.Connection, secrets: sqlite3.Connection) -> tuple[int, int]:
    """The sequences up to which data.db and keys.db have everything."""
    row = data.execute("SELECT value FROM meta WHERE name = ?", (FILED,)).fetchone()
    in_data = row[0] if row is not None and isinstance(row[0], int) and row[0] > 0 else 0
    row = secrets.execute("SELECT value FROM state WHERE name = ?", (FILED,)).fetchone()
    in_keys = 0
    if row is not None and isinstance(row[0], bytes) and len(row[0]) == _FILED.size:
        in_keys = _FILED.unpack(row[0])[0]
    return in_data, in_keys


def file_keys(db: sqlite3.Connection, some: Sequence[Filing], *, again: bool = False) -> bool:
    """Files what these have for keys.db, in a transaction; whether a key was destroyed. again: some of it may be there already,
    if the file was altered. sqlite3.Error, nothing changed then."""
    rows = [(one.seq, one.secrets) for one in some if one.secrets]
    gone = [(scope,) for one in some for scope in one.gone]
    states = [one.seal.state for one in some if one.seal is not None]
    if not (rows or gone or states):
        return False
    upto = max(one.sequence for one in some)
    db.execute("BEGIN IMMEDIATE")
    try:
        put_many(db, f"{_INSERT[again]} INTO secrets VALUES ", rows)
        if gone:
            db.executemany("DELETE FROM keys WHERE scope = ?", gone)
        if states:
            write_state(db, LOG_STATE, states[-1])
        if upto:
            write_state(db, FILED, _FILED.pack(upto))
        db.execute("COMMIT")
    except sqlite3.Error:
        _undo(db)
        raise
    return bool(gone)


def file_data(
    db: sqlite3.Connection, cold: ColdRows, aside: DamagedRows, some: Sequence[Filing], *, again: bool = False
) -> int:
    """Files what these have for data.db, in a transaction; about how many octets that is in the write-ahead log. again: as for
    `file_keys`. sqlite3.Error, nothing changed then."""
    upto = max(one.sequence for one in some)
    if not upto:
        return 0
    rows = [(one.seq, one.count, one.records, one.events, one.link, None) for one in some if one.link]
    written = sum(len(row[2]) + len(row[3]) for row in rows)
    db.execute("BEGIN IMMEDIATE")
    try:
        put_many(db, f"{_INSERT[again]} INTO log VALUES ", rows)
        for one in some:
            if one.seal is not None:
                db.execute(f"{_INSERT[again]} INTO seals VALUES (?, ?, ?)", one.seal[:3])
            if one.seldom:
                written += _seldom(db, cold, aside, one)
        ended = segments_of(some)
        if ended:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (ENDED, json.dumps(ended)))
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (FILED, upto))
        db.execute("COMMIT")
    except sqlite3.Error:
        _undo(db)
        aside.recount()
        raise
    return written


def segments_of(some: Sequence[Filing]) -> list[int]:
    """The segments that end with these, rising: their files are to be removed when this is durable."""
    return sorted(segment for one in some for segment in one.segments)


def last_ended(data: sqlite3.Connection) -> list[int]:
    """The segments that ended last: a kill may have left their files. sqlite3.Error."""
    row = data.execute("SELECT value FROM meta WHERE name = ?", (ENDED,)).fetchone()
    try:
        return [int(one) for one in json.loads(row[0])] if row is not None else []
    except (TypeError, ValueError):
        return []


def _seldom(db: sqlite3.Connection, cold: ColdRows, aside: DamagedRows, one: Filing) -> int:
    written = 0
    if one.cold:
        # An id may be put again (a row written twice is one row): the newer one stands.
        written += cold.put(one.cold, one.segment)
    if one.drop:
        # After the puts: a row may be put and be over within one batch, and none is put again after it was dropped.
        cold.drop(one.drop)
        # A row that goes, in an order of its own, touches a page.
        written += PAGE * len(one.drop)
    if one.damaged:
        written += aside.put(one.damaged, one.aside)
    if one.meta:
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", one.meta)
    if one.opt_outs or one.doubts or one.decided:
        written += opt_outs.write(db, one.opt_outs, one.doubts, one.decided)
    for segment in one.segments:
        # Of a store that an earlier version wrote, and of one that was tidied while nobody used it.
        db.execute("DELETE FROM spool WHERE seq >= ? AND seq < ?", (segment << 32, (segment + 1) << 32))
    return written


def _undo(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")
