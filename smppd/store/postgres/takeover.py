"""What a node held becomes nobody's, in one transaction: after its death by a survivor, at its clean end by itself.

The node's row is locked and its epoch raised, so that it commits nothing any more. What lives in its journal becomes rows,
which are sealed under a segment of their own whose key is made in the same transaction; its rows and the keys of its segments
change hands; its journal is deleted, its lease says who the heir is, and the others are told. Killed at any point, nothing of
it has happened. A node that begins again meanwhile waits for the row, and finds an empty journal.

From then on the heir's tidying destroys those keys, once nothing is sealed under them (`store.postgres.tidy`): the node may
never come back. So the heir's lease is locked against a take-over of itself until the end, or its keys would be nobody's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from time import time
from typing import Final, NamedTuple

from smppd.store.api import ColdRow, StoreError
from smppd.store.aside import MOST, OCTETS, SPOOL
from smppd.store.cold import Columns, seal_columns
from smppd.store.nodes import Convert
from smppd.store.postgres.announcing import FEW, NOTIFY, Told, look, rows_are_there
from smppd.store.postgres.batches import EVERYBODYS
from smppd.store.postgres.binary import clean
from smppd.store.postgres.connection import STATEMENT_SECONDS, Connection, Server
from smppd.store.postgres.keys import NodeKeys
from smppd.store.postgres.rows import put_aside
from smppd.store.postgres.session import application
from smppd.store.postgres.startup import opened, place_of
from smppd.vault.keys import KeyRing, segment_scope

_PAGE: Final = 16  # blocks of the journal that are read at a time,
_ROWS: Final = 500  # rows that are written at a time,
_OCTETS: Final = 4 << 20  # and octets of them
_TRIES: Final = 20

_HEIR: Final = "SELECT 1 FROM leases WHERE node = $1 AND epoch = $2 AND life = 'live' FOR KEY SHARE SKIP LOCKED"
_PLACE: Final = "SELECT 1 FROM nodes WHERE node = $1 AND epoch = $2 FOR UPDATE"
_LEASE: Final = "SELECT 1 FROM leases WHERE node = $1 AND epoch = $2 AND ($3::bigint IS NULL OR beat = $3) FOR UPDATE"
_IF_FREE: Final = " SKIP LOCKED"
_STUCK: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    " AND (application_name = $1 OR application_name LIKE $1 || ' %') AND state LIKE 'idle in transaction%'"
    " AND EXISTS (SELECT 1 FROM leases WHERE node = $2 AND epoch = $3 AND beat = $4)"  # it did not begin again
)
_BLOCKS: Final = (
    "SELECT segment, counter, data FROM journal WHERE node = $1 AND (segment, counter) > ($2, $3)"
    f" ORDER BY segment, counter LIMIT {_PAGE}"
)
_PUT: Final = (
    "INSERT INTO cold SELECT kind, owner, key, id, expires, $2, NULL, data"
    " FROM unnest($3::int[], $4::text[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bytea[])"
    " AS put (kind, owner, key, id, expires, data)"
    " ON CONFLICT (kind, owner, key, id) DO UPDATE"
    " SET expires = excluded.expires, segment = excluded.segment, node = excluded.node, data = excluded.data"
    " WHERE cold.node IS NULL OR cold.node = $1"  # what a node holds that lives nobody touches
)
_FREE: Final = (
    "WITH freed AS (UPDATE cold SET node = NULL WHERE node = $1 RETURNING kind, owner)"
    " SELECT kind, owner, count(*) FROM freed GROUP BY kind, owner"
)
_SEGMENTS: Final = (
    "SELECT convert_from(substr(scope, 9), 'UTF8')::int FROM keys"
    " WHERE scope >= 'segment/' AND scope < 'segment0' AND node = $1"
)
_INHERIT: Final = "UPDATE keys SET node = $2 WHERE scope >= 'segment/' AND scope < 'segment0' AND node = $1"
_OVER: Final = (
    "UPDATE leases SET epoch = epoch + 1, life = $2, heir = $3, facts = '', version = version + 1 WHERE node = $1"
)


class Taken(NamedTuple):
    """What was taken over. rows: that nobody holds now, of those ``made`` of the journal; blocks: of the journal; unreadable:
    of them, which were set aside; told: what the others heard."""

    rows: int
    made: int
    blocks: int
    unreadable: int
    told: list[Told]


class TakeOver:
    """See the module. For one thread, on a connection of its own."""

    def __init__(
        self,
        server: Server,
        node: int,
        epoch: int,
        keys: NodeKeys,
        ring: KeyRing,
        convert: Convert,
        *,
        lifetime: Callable[[str], float],
        wall: Callable[[], float] = time,
    ) -> None:
        """node, epoch: of who does it. lifetime: see `api.Store`, of what is set aside; wall: epoch seconds."""
        self._server = server
        self._node = node
        self._epoch = epoch
        self._keys = keys
        self._ring = ring
        self._convert = convert
        self._lifetime = lifetime
        self._wall = wall

    def of(self, dead: int, epoch: int, beat: int) -> Taken | None:
        """Takes over what a node held whose lease was last seen so. None where there is nothing to do, or not yet: another does
        it or has done it, it has begun again, or it lives. Raises StoreError."""
        with closing(self._connect()) as db:
            taken = self._once(db, dead, epoch, beat, self._node, self._epoch, "taken")
            if taken is None:
                # What froze in the middle of a transaction holds the place for as long as the server lets it.
                db.all(_STUCK, (application(dead), dead, epoch, beat))
                taken = self._once(db, dead, epoch, beat, self._node, self._epoch, "taken")
            return taken

    def own(self, heir: int, heirs_epoch: int) -> Taken | None:
        """Gives up what this node holds, in favour of another that lives. None where that could not be done. Raises
        StoreError."""
        with closing(self._connect()) as db:
            return self._once(db, self._node, self._epoch, None, heir, heirs_epoch, "left")

    def _connect(self) -> Connection:
        # A million rows take longer than any other statement may.
        settings = {"idle_in_transaction_session_timeout": str(int(STATEMENT_SECONDS * 1000))}
        return Connection(
            self._server, application=application(self._node, "take-over"), statement_seconds=0, settings=settings
        )

    def _once(
        self, db: Connection, dead: int, epoch: int, beat: int | None, heir: int, heirs_epoch: int, life: str
    ) -> Taken | None:
        # What this very node is doing with its place ends in a moment.
        waits = "" if dead == self._node else _IF_FREE
        with db.writing():
            if db.one(_HEIR, (heir, heirs_epoch)) is None or db.one(_PLACE + waits, (dead, epoch)) is None:
                return None
            if db.one(_LEASE + waits, (dead, epoch, beat)) is None:
                return None
            db.run("UPDATE nodes SET epoch = epoch + 1 WHERE node = $1", (dead,))
            journal = _Journal(db, dead, self._opener(db, dead))
            rows = _NobodysRows(db, dead, self._seal(db, heir))
            for row in self._convert(journal):
                rows.put(row)
            rows.flush()
            for segment, counter, sealed, reason in journal.unreadable.values():
                self._set_aside(db, dead, segment, counter, sealed, reason)
            freed = db.all(_FREE, (dead,))
            db.run("DELETE FROM journal WHERE node = $1", (dead,))
            db.run("DELETE FROM commits WHERE node = $1", (dead,))
            db.run(_INHERIT, (dead, heir))
            db.run(_OVER, (dead, life, heir))
            told = rows.told({(int(kind), owner) for kind, owner, _count in freed})
            for note in (*rows_are_there(self._node, told), look(self._node)):
                db.one(NOTIFY, (note,))
        count = sum(int(number) for _kind, _owner, number in freed)
        return Taken(count + rows.count, rows.count, journal.blocks, len(journal.unreadable), told)

    def _opener(self, db: Connection, dead: int) -> Callable[[int, int, bytes], bytes]:
        """Opens blocks of the journal of a node."""
        self._keys.fetch(db, (int(row[0]) for row in db.all(_SEGMENTS, (dead,))))
        return lambda segment, counter, sealed: opened(self._ring, segment, counter, sealed)

    def _seal(self, db: Connection, heir: int) -> Callable[[ColdRow], Columns]:
        """Seals rows under a segment that is made for the first of them."""
        segment = 0

        def sealed(row: ColdRow) -> Columns:
            nonlocal segment
            if not segment:
                segment, wrapped = self._new_segment()
                db.run(
                    "INSERT INTO keys (scope, wrapped, node) VALUES ($1, $2, $3)",
                    (segment_scope(segment), wrapped, heir),
                )
            return seal_columns(self._ring, row, segment)

        return sealed

    def _new_segment(self) -> tuple[int, bytes]:
        """The number and the wrapped key of a segment that no batch stores: it would wait for this transaction."""
        for _ in range(_TRIES):
            segment = self._ring.new_segment()
            wrapped = self._keys.apart(segment_scope(segment))
            if wrapped is not None:
                return segment, wrapped
        raise StoreError("a batch was quicker each time")  # it would have to come in between twenty times

    def _set_aside(self, db: Connection, dead: int, segment: int, counter: int, sealed: bytes, reason: str) -> None:
        """As a start does with a block that does not open."""
        at = int(self._wall())
        row = place_of(segment, counter)
        about = ("block", "", 0, "spool", reason, at, at + int(self._lifetime("")), SPOOL, row, segment, sealed)
        put_aside(db, dead, about)
        db.one("SELECT limit_damaged($1, $2)", (MOST, OCTETS))


class _Journal:
    """The blocks of a node's journal in the order of commitment, each time that it is gone through; without those that do not
    open, which are ``unreadable``. ``blocks``: how many there are."""

    def __init__(self, db: Connection, node: int, opens: Callable[[int, int, bytes], bytes]) -> None:
        self._db = db
        self._node = node
        self._opens = opens
        self.blocks = 0
        self.unreadable: dict[tuple[int, int], tuple[int, int, bytes, str]] = {}

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        segment, counter, blocks = 0, -1, 0
        while True:
            page = self._db.all(_BLOCKS, (self._node, segment, counter))
            for segment, counter, sealed in page:
                try:
                    block = self._opens(segment, counter, sealed)
                except Exception as error:  # noqa: BLE001  whatever is wrong with a block is wrong with that block alone
                    self.unreadable[segment, counter] = (segment, counter, sealed, type(error).__name__)
                    continue
                blocks += 1
                yield segment, block
            if len(page) < _PAGE:
                self.blocks = blocks
                return


class _NobodysRows:
    """Writes rows that nobody holds, some at a time. ``count``: how many that were."""

    def __init__(self, db: Connection, dead: int, seal: Callable[[ColdRow], Columns]) -> None:
        self._db = db
        self._dead = dead
        self._seal = seal
        self._some: dict[tuple[int, str, bytes, int], Columns] = {}
        self._size = 0
        self._ids: dict[tuple[int, str], list[int]] = {}
        self.count = 0

    def put(self, row: ColdRow) -> None:
        """One more."""
        columns = self._seal(row._replace(owner=clean(row.owner)))
        self._some[columns[:4]] = columns
        self._size += len(columns[6])
        if row.kind not in EVERYBODYS:
            ids = self._ids.setdefault((int(row.kind), row.owner), [])
            if len(ids) <= FEW:
                ids.append(row.id)
        if len(self._some) >= _ROWS or self._size >= _OCTETS:
            self.flush()

    def flush(self) -> None:
        """Writes what was not yet."""
        if not self._some:
            return
        kinds, owners, keys, ids, expires, segments, data = map(list, zip(*self._some.values(), strict=True))
        self._db.run(_PUT, (self._dead, segments[0], kinds, owners, keys, ids, expires, data))
        self.count += len(kinds)
        self._some.clear()
        self._size = 0

    def told(self, freed: set[tuple[int, str]]) -> list[Told]:
        """What is to be told of them, and of rows that were there (kind, owner)."""
        made = {place: tuple(ids) for place, ids in self._ids.items() if place not in freed and len(ids) <= FEW}
        return [(*place, made.get(place, ())) for place in sorted(freed | set(self._ids)) if place[0] not in EVERYBODYS]
