"""`store.erasures.ErasureRows` on PostgreSQL, beside the log and its keys."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from smppd.store.api import Kind
from smppd.store.erasures import ALL, BODY, INDEX, NUMBERS, Erased, Piece, Stripped, Waiting
from smppd.store.log import LogRow
from smppd.store.postgres.connection import Server
from smppd.store.postgres.database import Database, undo
from smppd.store.postgres.log_ids import columns, node_of
from smppd.store.postgres.log_rows import INDEX_CHANGES, PostgresPurge

_ERASED: Final = "record, erasure, parts, later, hold"
_SOME: Final = 5000
"""Records in one transaction."""


class PostgresErasures(PostgresPurge):
    """See the module. For one thread. Raises StoreError when there is no store."""

    # -- requests ------------------------------------------------------------------------------------------------------

    def begin_erasure(self, facts: Mapping[str, Any]) -> int:
        """See `store.erasures.ErasureRows`."""
        with self.data.writing():
            # Above all that are there: a restored journal brings numbers of its own.
            return self.data.number(
                "INSERT INTO erasures SELECT coalesce(max(number), 0) + 1, $1 FROM erasures RETURNING number",
                (json.dumps(dict(facts)),),
            )

    def restore_erasure(self, number: int, facts: Mapping[str, Any]) -> bool:
        """See `store.erasures.ErasureRows`."""
        statement = "INSERT INTO erasures VALUES ($1, $2) ON CONFLICT (number) DO NOTHING"
        with self.data.writing():
            return self.data.run(statement, (number, json.dumps(dict(facts)))) == 1

    def erasures(self, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """See `store.erasures.ErasureRows`."""
        rows = self.data.all("SELECT number, facts FROM erasures WHERE number > $1 ORDER BY number", (after,))
        return [(number, json.loads(facts)) for number, facts in rows]

    def erasure(self, number: int) -> dict[str, Any] | None:
        """See `store.erasures.ErasureRows`."""
        row = self.data.one("SELECT facts FROM erasures WHERE number = $1", (number,))
        return None if row is None else json.loads(row[0])

    def note_erasure(self, number: int, facts: Mapping[str, Any]) -> None:
        """See `store.erasures.ErasureRows`."""
        with self.data.writing():
            noted = json.dumps((self.erasure(number) or {}) | dict(facts))
            self.data.run("UPDATE erasures SET facts = $1 WHERE number = $2", (noted, number))

    # -- records -------------------------------------------------------------------------------------------------------

    def list_records(self, erasure: int, records: Sequence[int], parts: int = NUMBERS | BODY) -> int:
        """See `store.erasures.ErasureRows`."""
        new = 0
        for at in range(0, len(records), _SOME):
            with self.data.writing():
                new += self.data.run(
                    "INSERT INTO erased SELECT record, $1, $2, 0, 0 FROM unnest($3::bigint[]) AS new (record)"
                    " ON CONFLICT (record) DO NOTHING",
                    (erasure, parts, list(records[at : at + _SOME])),
                )
        return new

    def listed(self, erasure: int, after: int, limit: int) -> list[Erased]:
        """See `store.erasures.ErasureRows`."""
        query = f"SELECT {_ERASED} FROM erased WHERE record > $1 AND erasure = $2 ORDER BY record LIMIT $3"
        return [Erased(*row) for row in self.data.all(query, (after, erasure, limit))]

    def left(self, erasure: int) -> tuple[int, int, int]:
        """See `store.erasures.ErasureRows`."""
        row = self.data.one(
            "SELECT count(*), count(*) FILTER (WHERE hold > 0), count(*) FILTER (WHERE hold = 0 AND later > 0) FROM erased"
            " WHERE parts & $1 > 0 AND erasure = $2",
            (NUMBERS | BODY, erasure),
        )
        return (0, 0, 0) if row is None else (int(row[0]), int(row[1]), int(row[2]))

    def holds_of(self, erasure: int) -> dict[int, int]:
        """See `store.erasures.ErasureRows`."""
        rows = self.data.all(
            "SELECT hold, count(*) FROM erased WHERE parts > 0 AND hold > 0 AND erasure = $1 GROUP BY hold", (erasure,)
        )
        return {int(hold): int(count) for hold, count in rows}

    def waiting(self, records: Collection[int]) -> dict[int, int]:
        """See `store.erasures.ErasureRows`."""
        rows = self.data.all(
            "SELECT hold, count(*) FROM erased WHERE record = ANY ($1::bigint[]) AND parts & $2 > 0 GROUP BY hold",
            (sorted(records), NUMBERS | BODY),
        )
        return {int(hold): int(count) for hold, count in rows}

    def due(self, parts: int, now: float, but: Collection[int], limit: int) -> list[Erased]:
        """See `store.erasures.ErasureRows`."""
        # `erased_due` has only what is left to be done, however long the journal is.
        query = (
            f"SELECT {_ERASED} FROM erased WHERE parts > 0 AND later <= $1 AND parts & $2 > 0 AND hold = 0"
            " AND erasure <> ALL ($3::bigint[]) ORDER BY record LIMIT $4"
        )
        return [Erased(*row) for row in self.data.all(query, (int(now), parts, list(but), limit))]

    def postpone(self, records: Sequence[Erased]) -> None:
        """See `store.erasures.ErasureRows`."""
        changes = [(one.record, one.parts, one.after, one.hold) for one in records]
        with self.data.writing():
            self.data.run(
                "UPDATE erased SET later = one.later, hold = one.hold"
                " FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::bigint[]) AS one (record, parts, later, hold)"
                " WHERE erased.record = one.record AND erased.parts = one.parts",
                columns(changes, 4),
            )

    def wake(self, holds: Collection[int]) -> int:
        """See `store.erasures.ErasureRows`."""
        others = "parts > 0 AND hold > 0 AND hold <> ALL ($1::bigint[])"
        if self.data.one(f"SELECT 1 FROM erased WHERE {others} LIMIT 1", (list(holds),)) is None:
            return 0
        with self.data.writing():
            return self.data.run(f"UPDATE erased SET hold = 0 WHERE {others}", (list(holds),))

    def wake_late(self) -> int:
        """See `store.erasures.ErasureRows`."""
        with self.data.writing():
            return self.data.run("UPDATE erased SET later = 0 WHERE parts > 0 AND hold = 0 AND later > 0")

    def erased(self, low: int, high: int) -> frozenset[int]:
        """See `store.erasures.ErasureRows`."""
        rows = self.data.all(
            "SELECT record FROM erased WHERE record >= $1 AND record <= $2 AND parts & $3 = 0", (low, high, NUMBERS)
        )
        return frozenset(row[0] for row in rows)

    # -- the log -------------------------------------------------------------------------------------------------------

    def holding(self, records: Sequence[int]) -> list[LogRow]:
        """See `store.erasures.ErasureRows`."""
        asked = (
            "SELECT DISTINCT ON (log.seq) log.seq, log.count, log.records, purged.digests, purged.mac, slots.secrets"
            " FROM unnest($1::int[], $2::bigint[]) AS wanted (node, record), LATERAL ("
            " (SELECT * FROM log WHERE log.node = wanted.node AND log.seq <= wanted.record ORDER BY log.seq DESC LIMIT 1)"
            " UNION ALL"
            " (SELECT * FROM log WHERE log.node = wanted.node AND log.seq > wanted.record ORDER BY log.seq LIMIT 1)"
            ") AS log LEFT JOIN purged USING (seq) LEFT JOIN slots USING (seq) ORDER BY log.seq"
        )
        rows = self.data.all(asked, ([node_of(record) for record in records], list(records)))
        return [LogRow(seq, count, packed, b"", b"", gone, mac, named) for seq, count, packed, gone, mac, named in rows]

    def strip(self, changes: Sequence[Stripped], marks: Sequence[tuple[Erased, Erased]]) -> bool:
        """See `store.erasures.ErasureRows`."""
        done = False
        with self.data.writing("log"):
            if not self._cut([(row, left) for row, left, _digests, _mac in changes]):
                undo()  # a purge was here meanwhile
            asked = [
                (before.record, before.parts, before.hold, after.parts, after.after, after.hold)
                for before, after in marks
            ]
            same = self.data.run(
                "UPDATE erased SET parts = mark.parts, later = mark.later, hold = mark.hold"
                " FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::int[], $5::bigint[], $6::bigint[])"
                " AS mark (record, was_parts, was_hold, parts, later, hold)"
                " WHERE erased.record = mark.record AND erased.parts = was_parts AND erased.hold = was_hold",
                columns(asked, 6),
            )
            if same != len(marks):
                undo()  # another process is at it too
            done = True
        return done

    def pieces(self, seq: int, buckets: Collection[int] | None) -> list[Piece]:
        """See `store.erasures.ErasureRows`."""
        rows = self.data.all(
            "SELECT handle, bucket, data FROM number_index WHERE last >= $1 AND first <= $1"
            " AND ($2::int[] IS NULL OR bucket = ANY ($2::int[]))",
            (seq, None if buckets is None else list(buckets)),
        )
        return [Piece(*row) for row in rows]

    def replace_piece(self, piece: Piece, data: bytes) -> bool:
        """See `store.erasures.ErasureRows`. Whoever merges segments sees that one has changed (`INDEX_CHANGES`)."""
        with self.data.writing("number_index"):
            same = self.data.run(
                "UPDATE number_index SET data = $1 WHERE handle = $2 AND data = $3", (data, piece.handle, piece.data)
            )
            if same:
                self.data.keep(INDEX_CHANGES, (self.data.count(INDEX_CHANGES) or 0) + 1)
        return same == 1

    def forget_replies(self, keys: Collection[bytes]) -> int:
        """See `store.erasures.ErasureRows`."""
        with self.data.writing():
            return self.data.delete("cold", "kind = $1 AND key = ANY ($2::bytea[])", (int(Kind.REPLY), list(keys)))

    def index_done(self, records: Sequence[Erased]) -> None:
        """See `store.erasures.ErasureRows`. Segments that were merged away before may have had them."""
        with self.data.writing("number_index"):
            self.data.run(
                "UPDATE erased SET parts = parts & $1 WHERE record = ANY ($2::bigint[])",
                (~INDEX & ALL, [one.record for one in records]),
            )


def waiting_erasures(server: Server) -> list[Waiting]:
    """What of the erasure journal still waits, in order. Raises StoreError."""
    data = Database(server, read_only=True)
    try:
        query = "SELECT erasure, hold, count(*), max(later) FROM erased WHERE parts > 0 GROUP BY erasure, hold ORDER BY 1, 2"
        return [Waiting(*map(int, row)) for row in data.all(query)]
    finally:
        data.close()
