"""The sealed log on PostgreSQL: `store.log` for those who read it, index it and purge it, each on a connection of its own.

Each node has a chain of rows of its own. Ids have the node in them (`smppd.ids`), so they are unique over all nodes, and
what is asked for by stretches of ids is that of all nodes in the order of ids. What is about the chain (`Records.outline`,
`seals`) is one node's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from typing import Any, Final

from smppd.store.api import StoreBusy, StoreError
from smppd.store.log import LAST_ID, Extent, Front, LogRow, Outline, Segment
from smppd.store.log_parts import EventSegments, as_seen, fitting
from smppd.store.postgres.connection import Server
from smppd.store.postgres.damaged import overdue
from smppd.store.postgres.database import Database, undo
from smppd.store.postgres.held_rows import PostgresHeldRows
from smppd.store.postgres.key_rows import ReadOnlyKeys
from smppd.store.postgres.log_ids import columns, node_of
from smppd.store.postgres.wiping import Wiper
from smppd.vault.seal import SECRETS_BYTES

INDEXED: Final = "indexed"
"""Fact: the last row of each node's log that the indexes cover (JSON). A number, of version 2: of all nodes that there are."""
INDEX_CHANGES: Final = "index changes"
"""Fact: how often an erasure has changed a segment of the numbers' index in its place."""
PURGE: Final = "purge "
"""What `PurgeRows.remember` keeps are facts with this in front of their names."""

_TABLES: Final = {"number": "number_index", "event": "event_index"}
_ROW: Final = "log.seq, log.count, log.records, log.events, log.chain, purged.digests, purged.mac, slots.secrets"


class _PostgresLog:
    """`store.log.Log`."""

    def __init__(self, data: Database, node: int | None = None) -> None:
        """node: only what this one wrote; None for all."""
        self.data = data
        self._several = False
        self._of(node)

    def _of(self, node: int | None) -> None:
        self._node = node
        # The primary key begins with the node: the first rows of each, and of these the first.
        self._nodes = "nodes" if node is None else f"(VALUES ({node:d})) AS nodes (node)"

    def bounds(self) -> tuple[int, int] | None:
        """See `store.log.Log`."""
        row = self.data.one(
            f"SELECT min(low), max(high) FROM {self._nodes}, LATERAL (SELECT"
            " (SELECT min(seq) FROM log WHERE log.node = nodes.node) AS low,"
            " (SELECT max(seq) FROM log WHERE log.node = nodes.node) AS high) AS ends"
        )
        return None if row is None or row[0] is None else (row[0], row[1])

    def packed(self, after: int, until: int, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Log`."""
        return self._stretch("seq, records", after, until, limit)

    def _stretch(self, wanted: str, after: int, until: int, limit: int, order: str = "") -> list[tuple[Any, ...]]:
        """The first rows above ``after`` up to ``until``; the last ones where the order is DESC."""
        return self.data.all(
            f"SELECT {wanted} FROM {self._nodes}, LATERAL (SELECT * FROM log WHERE log.node = nodes.node"
            f" AND seq > $1 AND seq <= $2 ORDER BY seq {order} LIMIT $3) AS log ORDER BY seq {order} LIMIT $3",
            (after, until, limit),
        )

    def _rows(self, after: int, until: int, limit: int, wanted: str = _ROW) -> list[tuple[Any, ...]]:
        return self.data.all(
            f"SELECT {wanted} FROM (SELECT log.* FROM {self._nodes}, LATERAL (SELECT * FROM log WHERE log.node = nodes.node"
            " AND seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3) AS log ORDER BY seq LIMIT $3) AS log"
            " LEFT JOIN purged USING (seq) LEFT JOIN slots USING (seq) ORDER BY log.seq",
            (after, until, limit),
        )

    def before(self, seq: int, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Log`."""
        return self._stretch("seq, records", -1, seq - 1, limit, "DESC")[::-1]

    def extents(self, upto: int = LAST_ID) -> list[Extent]:
        """See `store.log.Log`."""
        asked = "SELECT first, last, low, high, earliest, latest, lead FROM extents WHERE first <= $1 ORDER BY first"
        return [Extent(*row) for row in self.data.all(asked, (upto,))]

    def indexed(self) -> int:
        """See `store.log.Log`. Below the first row that is not covered."""
        front = self.covered()
        most = max(front.values(), default=0)
        first = self._beyond("seq", front, 1)
        return min(most, first[0][0] - 1) if first else most

    @property
    def several(self) -> bool:
        """See `store.log.Log`."""
        if self._node is not None:
            return False
        self._several = self._several or self.data.number("SELECT count(*) FROM nodes") > 1
        return self._several

    def node(self, seq: int) -> int:
        """See `store.log.Log`."""
        return node_of(seq)

    def covered(self) -> dict[int, int]:
        """See `store.log.Log`."""
        found = self.data.fact(INDEXED)
        said = {} if found is None else json.loads(found)
        if isinstance(said, int):
            return {int(node): said for (node,) in self.data.all("SELECT node FROM nodes")}
        return {int(node): seq for node, seq in said.items()}

    def packed_beyond(self, front: Front, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Log`."""
        return self._beyond("seq, records", front, limit)

    def _beyond(self, wanted: str, front: Front, limit: int) -> list[tuple[Any, ...]]:
        return self.data.all(
            f"SELECT {wanted} FROM {self._nodes}"
            " LEFT JOIN unnest($1::int[], $2::bigint[]) AS front (node, upto) ON front.node = nodes.node,"
            " LATERAL (SELECT * FROM log WHERE log.node = nodes.node AND seq > coalesce(upto, 0) ORDER BY seq LIMIT $3) AS log"
            " ORDER BY seq LIMIT $3",
            (list(front), list(front.values()), limit),
        )

    def close(self) -> None:
        """Closes the connection."""
        self.data.close()


class PostgresRecords(_PostgresLog):
    """`store.log.Records`. For one thread. Raises StoreError when there is no store."""

    def __init__(self, server: Server, node: int | None = None) -> None:
        """node: whose chain is asked about; None where there is one node only, or where nobody asks about a chain."""
        super().__init__(Database(server, read_only=True), node)
        self.keys = ReadOnlyKeys.over(self.data)
        self.held = PostgresHeldRows(self.data)
        self._events = EventSegments()

    def of(self, node: int) -> PostgresRecords:
        """See `store.log.Records`."""
        same = copy(self)
        same._of(node)
        return same

    def near(self, record_id: int) -> list[int]:
        """See `store.log.Records`."""
        if not 0 < record_id <= LAST_ID:
            return []
        row = self.data.one(
            "SELECT (SELECT max(seq) FROM log WHERE node = $2 AND seq <= $1),"
            " (SELECT min(seq) FROM log WHERE node = $2 AND seq > $1)",
            (record_id, node_of(record_id)),
        )
        return [seq for seq in row or () if seq is not None]

    def row(self, seq: int) -> LogRow | None:
        """See `store.log.Records`."""
        found = self.data.one(
            f"SELECT {_ROW} FROM log LEFT JOIN purged USING (seq) LEFT JOIN slots USING (seq)"
            " WHERE log.node = $2 AND log.seq = $1",
            (seq, node_of(seq)),
        )
        return None if found is None else LogRow(*found)

    def link_before(self, seq: int) -> bytes | None:
        """See `store.log.Records`: of its node."""
        node = node_of(seq)
        row = self.data.one(
            "SELECT coalesce((SELECT chain FROM log WHERE node = $1 AND seq < $2 ORDER BY seq DESC LIMIT 1),"
            " (SELECT chain FROM anchors WHERE node = $1))",
            (node, seq),
        )
        return None if row is None else row[0]

    def rows(self, after: int, limit: int) -> list[LogRow]:
        """See `store.log.Records`."""
        return [LogRow(*row) for row in self._rows(after, LAST_ID, limit)]

    def secrets(self, row: LogRow) -> bytes:
        """See `store.log.Records`."""
        return self.keys.secrets(row.secrets or row.seq)

    def events(self, seq: int) -> bytes:
        """See `store.log.Records`."""
        row = self.data.one("SELECT events FROM log WHERE node = $2 AND seq = $1", (seq, node_of(seq)))
        return b"" if row is None else row[0]

    def told(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Records`."""
        return self._stretch("seq, events", after, LAST_ID, limit)

    def told_beyond(self, front: Front, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Records`."""
        return self._beyond("seq, events", front, limit)

    def number_segments(self, bucket: int, first: int, last: int) -> list[bytes]:
        """See `store.log.Records`."""
        query = "SELECT data FROM number_index WHERE bucket = $1 AND last >= $2 AND first <= $3"
        return [row[0] for row in self.data.all(query, (bucket, first, last))]

    def number_ends(self) -> list[int]:
        """See `store.log.Records`. Buckets are merged one by one, at about the same time: the one of most pieces stands for
        all."""
        query = (
            "SELECT last FROM number_index WHERE bucket ="
            " (SELECT bucket FROM number_index GROUP BY bucket ORDER BY count(*) DESC LIMIT 1) ORDER BY last"
        )
        return [row[0] for row in self.data.all(query)]

    def event_segments(self, bucket: int, record_id: int, first: int) -> list[bytes]:
        """See `store.log.Records`. What was read stays in memory, up to `log_parts.EVENT_OCTETS`."""
        query = (
            "SELECT handle, first, last, octet_length(data) FROM event_index"
            " WHERE bucket = $1 AND last >= $2 AND low <= $3"
        )
        with self.data.snapshot():
            return self._events.all(self.data.all(query, (bucket, first, record_id)), self._event_segment)

    def _event_segment(self, handle: int) -> bytes:
        data: bytes = self.data.all("SELECT data FROM event_index WHERE handle = $1", (handle,))[0][0]
        return data

    # -- the chain of a node -------------------------------------------------------------------------------------------

    def _chain(self) -> int:
        """The node whose chain is asked about."""
        return self._node if self._node is not None else only_node(self.data)

    def outline(self) -> Outline:
        """See `store.log.Records`."""
        with self.data.snapshot():
            link, row = self.anchor()
            lowest, highest = self.bounds() or (None, None)
            newest = self.data.one("SELECT max(number) FROM seals WHERE node = $1", (self._chain(),))
            signed = self.data.all("SELECT signed FROM checkpoints WHERE node = $1 ORDER BY seq", (self._chain(),))
        return Outline(link, row, lowest, highest, [one[0] for one in signed], None if newest is None else newest[0])

    def anchor(self) -> tuple[bytes | None, int | None]:
        """See `store.log.Records`."""
        found = self.data.one("SELECT chain, seq FROM anchors WHERE node = $1", (self._chain(),))
        return (None, None) if found is None else (found[0], found[1])

    def seals(self, after: int, until: int, limit: int) -> list[tuple[int, bytes]]:
        """See `store.log.Records`."""
        return self.data.all(
            "SELECT number, signed FROM seals WHERE node = $1 AND number > $2 AND number <= $3 ORDER BY number LIMIT $4",
            (self._chain(), after, until, limit),
        )

    def chain_of(self, seq: int) -> int:
        """See `store.log.Records`."""
        return node_of(seq)

    def first_seal(self, chain: int) -> bytes | None:
        """See `store.log.Records`."""
        row = self.data.one("SELECT signed FROM seals WHERE node = $1 ORDER BY number LIMIT 1", (chain,))
        return None if row is None else row[0]


def only_node(data: Database) -> int:
    """The number of the one node that there is; 0 before the first start. StoreError where there are more."""
    found = data.all("SELECT node FROM nodes ORDER BY node LIMIT 2")
    if len(found) > 1:
        raise StoreError(f"{data.server.name}: several nodes work on it, and each has a chain of its own: name one")
    return int(found[0][0]) if found else 0


class PostgresIndex(_PostgresLog):
    """`store.log.IndexRows`. For one thread. Raises StoreError."""

    def __init__(self, server: Server) -> None:
        super().__init__(Database(server))
        # An index entry that a loss of power takes is built again, so nobody need wait for the disk.
        self.data.run("SET synchronous_commit = off")
        found = self.data.fact(INDEXED)
        if (
            found is not None and found.isdigit()
        ):  # of version 2; a node that begins now is not among those that it means
            with self.data.writing():
                self.data.keep(INDEXED, json.dumps(self.covered()).encode())
        self._changes = 0
        self._known = 0
        self._span = (0, -1)

    def unindexed(self, front: Front, limit: int) -> list[LogRow]:
        """See `store.log.IndexRows`."""
        found = self._beyond("seq, count, records, events", front, limit)
        return [LogRow(seq, written, packed, told, b"", None, None, None) for seq, written, packed, told in found]

    def measured_from(self) -> int | None:
        """See `store.log.IndexRows`."""
        row = self.data.one("SELECT min(first) FROM extents")
        return None if row is None else row[0]

    def add(self, before: Front, after: Front, segments: Sequence[Segment], extents: Sequence[Extent]) -> None:
        """See `store.log.IndexRows`."""
        with self.data.writing():
            if self.covered() != before:
                raise StoreError("the indexes are being built by another process")
            if self._erased_in(*self._span) != self._known:
                raise StoreBusy("records were erased while their index was being built")
            for name, table in _TABLES.items():
                rows = [one[1:] for one in segments if one.table == name]
                if rows:
                    self._insert(table, 0, rows)
            self._write(extents)
            self.data.keep(INDEXED, json.dumps(dict(after)).encode())

    def _insert(self, table: str, level: int, rows: Sequence[tuple[Any, ...]]) -> None:
        self.data.run(
            f"INSERT INTO {table} (first, last, bucket, level, low, data)"
            f" SELECT first, last, bucket, {level}, low, data"
            " FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::bytea[])"
            " AS new (first, last, bucket, low, data)",
            columns(rows, 5),
        )

    def cover(self, extents: Sequence[Extent]) -> None:
        """See `store.log.IndexRows`."""
        with self.data.writing():
            self._write(extents)

    def _write(self, extents: Sequence[Extent]) -> None:
        if not extents:
            return
        newest = {one.first: one for one in extents}
        self.data.run(
            "INSERT INTO extents SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],"
            " $6::bigint[], $7::bigint[]) ON CONFLICT (first) DO UPDATE SET last = excluded.last, low = excluded.low,"
            " high = excluded.high, earliest = excluded.earliest, latest = excluded.latest, lead = excluded.lead",
            columns(newest.values(), 7),
        )

    def small(self, table: str, count: int) -> list[tuple[int, Segment]]:
        """See `store.log.IndexRows`."""
        name = _TABLES[table]
        full = self.data.one(
            f"SELECT bucket FROM {name} WHERE level = 0 GROUP BY bucket HAVING count(*) >= $1 LIMIT 1", (count,)
        )
        if full is None:
            return []
        self._changes = self._changed()
        rows = self.data.all(
            f"SELECT handle, first, last, bucket, low, data FROM {name} WHERE bucket = $1 AND level = 0"
            " ORDER BY last LIMIT $2",
            (full[0], count),
        )
        return [(row[0], Segment(table, *row[1:])) for row in rows]

    def merge(self, handles: Sequence[int], merged: Segment) -> bool:
        """See `store.log.IndexRows`."""
        name = _TABLES[merged.table]
        done = False
        # What was merged away is cleaned by the next erasure or purge of the index: until then all of it is in what it became.
        with self.data.writing():
            same = self._changed() == self._changes
            if not same or self.data.run(
                f"DELETE FROM {name} WHERE handle = ANY ($1::bigint[])", (list(handles),)
            ) != len(handles):
                undo()
            self._insert(name, 1, [merged[1:]])
            done = True
        return done

    def erased(self, low: int, high: int) -> frozenset[int]:
        """See `store.log.IndexRows`."""
        self._span = (low, high)
        rows = self.data.all(
            "SELECT record FROM erased WHERE record >= $1 AND record <= $2 AND parts & 1 = 0", self._span
        )
        self._known = len(rows)
        return frozenset(row[0] for row in rows)

    def _erased_in(self, low: int, high: int) -> int:
        return self.data.number(
            "SELECT count(*) FROM erased WHERE record >= $1 AND record <= $2 AND parts & 1 = 0", (low, high)
        )

    def _changed(self) -> int:
        return self.data.count(INDEX_CHANGES) or 0


class PostgresPurge(_PostgresLog):
    """`store.log.PurgeRows`. For one thread. Raises StoreError when there is no store."""

    def __init__(self, server: Server) -> None:
        super().__init__(Database(server))
        self._wiper = Wiper(self.data)

    @property
    def locked(self) -> float:
        """See `store.log.PurgeRows`. It is not the relay that was kept waiting."""
        return self.data.locked

    # -- keys ----------------------------------------------------------------------------------------------------------

    def scopes(self) -> list[bytes]:
        """See `store.log.PurgeRows`."""
        return [bytes(row[0]) for row in self.data.all("SELECT scope FROM keys")]

    def has_key(self, scope: bytes) -> bool:
        """See `store.log.PurgeRows`."""
        return self.data.one("SELECT 1 FROM keys WHERE scope = $1", (scope,)) is not None

    def destroy_keys(self, scopes: Sequence[bytes], holds: Collection[bytes] | None = None) -> bool:
        """See `store.log.PurgeRows`."""
        done = False
        with self.data.writing("keys"):
            if holds is not None:
                there = self.data.all(
                    r"SELECT scope FROM keys WHERE scope >= 'hold/'::bytea AND scope < 'hold0'::bytea"
                )
                if {bytes(row[0]) for row in there} != set(holds):
                    undo()
            self.data.run("DELETE FROM keys WHERE scope = ANY ($1::bytea[])", (list(scopes),))
            done = True
        return done

    # -- what is remembered --------------------------------------------------------------------------------------------

    def remembered(self, name: str, default: Any) -> Any:
        """See `store.log.PurgeRows`."""
        found = self.data.fact(PURGE + name)
        return default if found is None else json.loads(found)

    def remember(self, values: Mapping[str, object], seen: Mapping[str, object] | None = None) -> bool:
        """See `store.log.PurgeRows`."""
        done = False
        with self.data.writing():
            if not as_seen(self.remembered, seen):
                undo()
            self._remember(values)
            done = True
        return done

    def _remember(self, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            self.data.keep(PURGE + name, json.dumps(value).encode())

    def remove_overdue(self, now: float, kept: Callable[[str], float | None]) -> int:
        """See `store.log.PurgeRows`."""
        with self.data.writing():
            return overdue(self.data, now, kept)

    def remove_ended(self, now: float) -> int:
        """See `store.log.PurgeRows`."""
        with self.data.writing():
            return self.data.delete("documents", "until <= $1", (int(now),))

    # -- rows ----------------------------------------------------------------------------------------------------------

    def stretch(self, first: int, last: int, limit: int, octets: int) -> tuple[list[LogRow], bool]:
        """See `store.log.PurgeRows`."""
        # Of each node the last row begun before.
        begun = self.data.one(
            f"SELECT min(seq) FROM {self._nodes}, LATERAL (SELECT max(seq) AS seq FROM log"
            " WHERE log.node = nodes.node AND seq <= $1) AS begun",
            (first,),
        )
        start = first if begun is None or begun[0] is None else begun[0]
        # The length of a value stands in front of it: what is too much is not read.
        sizes = [row[0] for row in self._stretch("octet_length(records)", start - 1, last, limit)]
        number = fitting(sizes, octets)
        rows = (
            self._rows(start - 1, last, number, "log.seq, log.count, log.records, purged.digests, slots.secrets")
            if number
            else []
        )
        found = [LogRow(seq, count, packed, b"", b"", gone, None, named) for seq, count, packed, gone, named in rows]
        return found, number < len(sizes) or len(sizes) == limit

    def kept_secrets(self, rows: Sequence[LogRow], first: int, last: int) -> list[tuple[int, bytes]]:
        """See `store.log.PurgeRows`. Secrets and their row are one transaction here: none is without. What a row of an older
        store names is that row's."""
        named = [row.secrets or row.seq for row in rows]
        return self.data.all(
            "SELECT seq, data FROM secrets JOIN unnest($1::int[], $2::bigint[]) AS named (node, seq) USING (node, seq)"
            f" UNION SELECT seq, data FROM {self._nodes}, LATERAL (SELECT seq, data FROM secrets"
            f" WHERE secrets.node = nodes.node AND seq >= $3 AND seq <= $4 AND octet_length(data) % {SECRETS_BYTES} <> 1)"
            " AS between ORDER BY seq",
            ([node_of(seq) for seq in named], named, first, last),
        )

    def replace_secrets(self, changes: Sequence[tuple[int, bytes, bytes]]) -> bool:
        """See `store.log.PurgeRows`."""
        done = False
        with self.data.writing("secrets"):
            left = [(node_of(seq), seq, before, after) for seq, before, after in changes if any(after)]
            gone = [(node_of(seq), seq, before) for seq, before, after in changes if not any(after)]
            changed = self.data.run(
                "UPDATE secrets SET data = after FROM unnest($1::int[], $2::bigint[], $3::bytea[], $4::bytea[])"
                " AS change (node, seq, before, after)"
                " WHERE secrets.node = change.node AND secrets.seq = change.seq AND data = before",
                columns(left, 4),
            )
            removed = self.data.run(
                "DELETE FROM secrets USING unnest($1::int[], $2::bigint[], $3::bytea[]) AS change (node, seq, before)"
                " WHERE secrets.node = change.node AND secrets.seq = change.seq AND data = before",
                columns(gone, 3),
            )
            if changed + removed != len(changes):
                undo()
            done = True
        return done

    def shorten(
        self,
        changes: Sequence[tuple[LogRow, bytes, bytes, bytes | None]],
        values: Mapping[str, object],
        seen: Mapping[str, object] | None = None,
    ) -> bool:
        """See `store.log.PurgeRows`."""
        done = False
        with self.data.writing("log"):
            if not as_seen(self.remembered, seen) or not self._cut([(row, left) for row, left, _, _ in changes]):
                undo()  # erased from meanwhile, by another process
            self.data.run("DELETE FROM purged WHERE seq = ANY ($1::bigint[])", ([row.seq for row, *_ in changes],))
            gone = [(row.seq, digests, mac) for row, _, digests, mac in changes if digests]
            self.data.run(
                "INSERT INTO purged SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])", columns(gone, 3)
            )
            self._remember(values)
            done = True
        return done

    def _cut(self, changes: Sequence[tuple[LogRow, bytes]]) -> bool:
        """Writes what is left of rows; False where one is not as it was read."""
        asked = [(node_of(row.seq), row.seq, row.records, left) for row, left in changes]
        changed = self.data.run(
            "UPDATE log SET records = after FROM unnest($1::int[], $2::bigint[], $3::bytea[], $4::bytea[])"
            " AS change (node, seq, before, after)"
            " WHERE log.node = change.node AND log.seq = change.seq AND records = before",
            columns(asked, 4),
        )
        return changed == len(asked)

    def front(self, limit: int) -> list[tuple[int, bytes, int]]:
        """See `store.log.PurgeRows`. The newest row of a node stays for ever, though the node is gone: where nothing is in it,
        nothing has to wait for it."""
        found = self._stretch("seq, chain, octet_length(records)", -1, LAST_ID, limit)
        if not self.several:
            return found
        ends = self.data.all("SELECT (SELECT max(seq) FROM log WHERE log.node = nodes.node) FROM nodes")
        newest = {row[0] for row in ends}
        return [row for row in found if row[2] or row[0] not in newest]

    def trim(self, front: tuple[int, bytes] | None, oldest: int, stale: int, limit: int) -> int:
        """See `store.log.PurgeRows`. Of the seals that cover deleted rows only the last one stays: without it nobody could tell
        that none behind it is gone. Each node's log has an anchor of its own."""
        segments = 0
        with self.data.writing():
            if front is not None:
                if self._late(front[0]):
                    return 0  # of a node whose clock is far behind: the next look begins with them
                self._trim(*front)
                self.data.stain("log")
            self.data.run("DELETE FROM extents WHERE last < $1", (oldest,))
            for table, bound in (("number_index", stale), ("event_index", oldest)):
                segments += self.data.run(
                    f"DELETE FROM {table} WHERE handle IN (SELECT handle FROM {table} WHERE last < $1 LIMIT $2)",
                    (bound, limit),
                )
        return segments

    def _late(self, last: int) -> bool:
        """Whether rows up to this one hold something by now."""
        held = "SELECT 1 FROM log WHERE log.node = nodes.node AND seq <= $1 AND octet_length(records) > 0"
        return self.data.one(f"SELECT 1 FROM nodes WHERE EXISTS ({held})", (last,)) is not None

    def _trim(self, last: int, link: bytes) -> None:
        """The newest row of each node stays: its chain goes on from it."""
        self.data.run(
            "INSERT INTO anchors SELECT nodes.node, seq, CASE seq WHEN $1 THEN $2 ELSE chain END FROM nodes, LATERAL"
            " (SELECT seq, chain FROM log WHERE log.node = nodes.node AND seq <= $1"
            " AND seq < (SELECT max(seq) FROM log WHERE log.node = nodes.node) ORDER BY seq DESC LIMIT 1) AS newest"
            " ON CONFLICT (node) DO UPDATE SET seq = excluded.seq, chain = excluded.chain",
            (last, link),
        )
        self.data.run(
            "DELETE FROM log USING nodes WHERE log.node = nodes.node AND log.seq <= $1"
            " AND log.seq < (SELECT max(seq) FROM log AS own WHERE own.node = nodes.node)",
            (last,),
        )
        self.data.run("DELETE FROM purged WHERE seq <= $1", (last,))
        self.data.run("DELETE FROM slots WHERE seq <= $1", (last,))
        self.data.run(
            "DELETE FROM seals USING (SELECT node, max(number) AS number FROM seals WHERE seq <= $1 GROUP BY node) AS covers"
            " WHERE seals.node = covers.node AND seals.number < covers.number",
            (last,),
        )

    def wipe(self) -> bool:
        """See `store.log.PurgeRows` and `store.postgres.wiping`."""
        return self._wiper.wipe()
