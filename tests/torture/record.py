"""What smppd's own record says of each message, read from the log rows of a store that no daemon is using."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from smppd import config
from smppd.message import Event, State, read_events
from smppd.records.lookup import LogReader
from smppd.store.api import StoreError
from smppd.store.log import Records
from smppd.store.sqlite.files import connect
from smppd.store.sqlite.log_rows import SqliteRecords
from smppd.vault.keys import load_kek
from smppd.vault.seal import SealError, iter_records, read_header
from tests.torture import smpp

_FINAL = frozenset(range(2, 10))


@dataclass(slots=True)
class Record:
    """All records and events of a store. ``upstream``: id at the SMSC -> our id, for each acceptance that was recorded."""

    ids: set[int] = field(default_factory=set)
    repeated: int = 0
    events: dict[int, list[Event]] = field(default_factory=dict)
    upstream: dict[bytes, int] = field(default_factory=dict)
    token: Callable[[], dict[int, int]] | None = None
    """Opens every record: token -> our id. Slow, for messages whose id nobody was told; None where it cannot."""

    def final(self, identity: int) -> bool:
        """Whether a final state is on record."""
        return any(each.state in _FINAL for each in self.events.get(identity, ()))

    def flagged(self, identity: int) -> bool:
        """Whether it is on record that the SMSC may have it twice."""
        return any(each.duplicate for each in self.events.get(identity, ()))


def read_record(store: Path, config_file: Path | None = None) -> Record:
    """Reads data.db; with ``config_file``, which names the key, records can be opened too.
    Raises StoreError or sqlite3.Error where it cannot be read."""
    record = Record()
    db = connect(store / "data.db", "data", read_only=True)
    try:
        for records, events in db.execute("SELECT CAST(records AS BLOB), events FROM log ORDER BY seq"):
            if records is None or events is None:
                raise sqlite3.DatabaseError("a row of the log is torn: a column that is never empty is")
            try:
                _take(record, records, events)
            except (SealError, ValueError, struct.error) as error:
                raise sqlite3.DatabaseError(f"a row of the log is torn: {error}") from error
    finally:
        db.close()
    if config_file is not None:
        record.token = lambda: _tokens(lambda: SqliteRecords(store), config_file, record.ids)
    return record


def read_database(url: str, config_file: Path) -> Record:
    """The same of the log of all nodes on PostgreSQL. Raises StoreError."""
    from smppd.store.postgres.connection import Connection, Server  # need the driver
    from smppd.store.postgres.log_rows import PostgresRecords

    record = Record()
    server = Server(url)
    with closing(Connection(server, read_only=True)) as db:
        node, seq = -1, 0
        asked = "SELECT node, seq, records, events FROM log WHERE (node, seq) > ($1, $2) ORDER BY node, seq LIMIT 500"
        while rows := db.all(asked, (node, seq)):
            for node, seq, records, events in rows:  # noqa: B007
                try:
                    _take(record, records, events)
                except (SealError, ValueError, struct.error) as error:
                    raise StoreError(f"a row of the log of node {node} is torn: {error}") from error
    record.token = lambda: _tokens(lambda: PostgresRecords(server), config_file, record.ids)
    return record


def _take(record: Record, records: bytes, events: bytes) -> None:
    for identity in [read_header(packed).record_id for packed in iter_records(records)]:
        record.repeated += identity in record.ids
        record.ids.add(identity)
    for event in read_events(events):
        record.events.setdefault(event.id, []).append(event)
        if event.state == State.SUBMITTED and event.upstream_id:
            record.upstream[event.upstream_id] = event.id


def _tokens(records: Callable[[], Records], config_file: Path, ids: set[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    with LogReader(records(), load_kek(config.load(config_file).keys)) as reader:
        for identity in sorted(ids):
            held = reader.record(identity)
            frame = held.record.pdu() if held is not None else None
            if frame is not None:
                found[smpp.token_of(frame[16:])] = identity
    return found


def number_of(shown: bytes) -> int:
    """Our id behind the form in which the customer got it (16 hex digits)."""
    try:
        return int.from_bytes(bytes.fromhex(shown.decode()), "big")
    except (ValueError, struct.error):
        return -1
