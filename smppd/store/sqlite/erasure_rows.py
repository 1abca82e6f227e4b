"""`store.erasures.ErasureRows` in data.db, beside the log and its keys.

What is deleted here is written over at once: the connections have `secure_delete` on, so no freed page keeps a blind index.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from smppd.store.api import Kind
from smppd.store.erasures import ALL, BODY, INDEX, NUMBERS, Erased, Piece, Stripped
from smppd.store.log import LogRow
from smppd.store.sqlite.log_rows import INDEX_CHANGES, SqlitePurge

_SOME: Final = 500
"""Records in one transaction: a few milliseconds, in which the daemon's writer waits."""
_ERASED: Final = "record, erasure, parts, after, hold"


def _marks(values: Collection[int]) -> str:
    return ",".join("?" * len(values))


class SqliteErasures(SqlitePurge):
    """See the module. For one thread. Raises StoreError when there is no store."""

    # -- requests ------------------------------------------------------------------------------------------------------

    def begin_erasure(self, facts: Mapping[str, Any]) -> int:
        """See `store.erasures.ErasureRows`."""
        with self.data.writing():
            row = self.data.one("INSERT INTO erasures (facts) VALUES (?) RETURNING number", (json.dumps(dict(facts)),))
        assert row is not None, "RETURNING gives the row that is there"
        return int(row[0])

    def restore_erasure(self, number: int, facts: Mapping[str, Any]) -> bool:
        """See `store.erasures.ErasureRows`."""
        with self.data.writing():
            return self.data.run("INSERT OR IGNORE INTO erasures VALUES (?, ?)", (number, json.dumps(dict(facts)))) == 1

    def erasures(self, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """See `store.erasures.ErasureRows`."""
        rows = self.data.all("SELECT number, facts FROM erasures WHERE number > ? ORDER BY number", (after,))
        return [(number, json.loads(facts)) for number, facts in rows]

    def erasure(self, number: int) -> dict[str, Any] | None:
        """See `store.erasures.ErasureRows`."""
        row = self.data.one("SELECT facts FROM erasures WHERE number = ?", (number,))
        return None if row is None else json.loads(row[0])

    def note_erasure(self, number: int, facts: Mapping[str, Any]) -> None:
        """See `store.erasures.ErasureRows`."""
        with self.data.writing():
            before = self.erasure(number) or {}
            self.data.run("UPDATE erasures SET facts = ? WHERE number = ?", (json.dumps(before | dict(facts)), number))

    # -- records -------------------------------------------------------------------------------------------------------

    def list_records(self, erasure: int, records: Sequence[int], parts: int = NUMBERS | BODY) -> int:
        """See `store.erasures.ErasureRows`."""
        new = 0
        for at in range(0, len(records), _SOME):
            with self.data.writing():
                for record in records[at : at + _SOME]:
                    new += self.data.run(
                        "INSERT OR IGNORE INTO erased VALUES (?, ?, ?, 0, 0)", (record, erasure, parts)
                    )
        return new

    def listed(self, erasure: int, after: int, limit: int) -> list[Erased]:
        """See `store.erasures.ErasureRows`."""
        query = f"SELECT {_ERASED} FROM erased WHERE record > ? AND erasure = ? ORDER BY record LIMIT ?"
        return [Erased(*row) for row in self.data.all(query, (after, erasure, limit))]

    def left(self, erasure: int) -> tuple[int, int, int]:
        """See `store.erasures.ErasureRows`."""
        row = self.data.one(
            "SELECT count(*), coalesce(sum(hold > 0), 0), coalesce(sum(hold = 0 AND after > 0), 0) FROM erased"
            " WHERE parts & ? > 0 AND erasure = ?",
            (NUMBERS | BODY, erasure),
        )
        return (0, 0, 0) if row is None else (int(row[0]), int(row[1]), int(row[2]))

    def holds_of(self, erasure: int) -> dict[int, int]:
        """hold -> how many records of a request it keeps."""
        rows = self.data.all(
            "SELECT hold, count(*) FROM erased WHERE parts > 0 AND hold > 0 AND erasure = ? GROUP BY hold", (erasure,)
        )
        return {int(hold): int(count) for hold, count in rows}

    def waiting(self, records: Collection[int]) -> dict[int, int]:
        """See `store.erasures.ErasureRows`."""
        found: dict[int, int] = {}
        ids = sorted(records)
        for at in range(0, len(ids), _SOME):
            some = ids[at : at + _SOME]
            rows = self.data.all(
                f"SELECT hold, count(*) FROM erased WHERE record IN ({_marks(some)}) AND parts & ? > 0 GROUP BY hold",
                (*some, NUMBERS | BODY),
            )
            for hold, count in rows:
                found[hold] = found.get(hold, 0) + count
        return found

    def due(self, parts: int, now: float, but: Collection[int], limit: int) -> list[Erased]:
        """See `store.erasures.ErasureRows`."""
        others = f" AND erasure NOT IN ({_marks(but)})" if but else ""
        # The index has only what is left to be done, however long the journal is.
        query = (
            f"SELECT {_ERASED} FROM erased INDEXED BY erased_due WHERE parts > 0 AND after <= ? AND parts & ? > 0"
            f" AND hold = 0{others} ORDER BY record LIMIT ?"
        )
        return [Erased(*row) for row in self.data.all(query, (int(now), parts, *but, limit))]

    def postpone(self, records: Sequence[Erased]) -> None:
        """See `store.erasures.ErasureRows`."""
        with self.data.writing():
            self.data.run_each(
                "UPDATE erased SET after = ?, hold = ? WHERE record = ? AND parts = ?",
                [(one.after, one.hold, one.record, one.parts) for one in records],
            )

    def wake(self, holds: Collection[int]) -> int:
        """See `store.erasures.ErasureRows`."""
        others = f" AND hold NOT IN ({_marks(holds)})" if holds else ""
        if self.data.one(f"SELECT 1 FROM erased WHERE parts > 0 AND hold > 0{others} LIMIT 1", tuple(holds)) is None:
            return 0
        with self.data.writing():
            return self.data.run(f"UPDATE erased SET hold = 0 WHERE parts > 0 AND hold > 0{others}", tuple(holds))

    def wake_late(self) -> int:
        """See `store.erasures.ErasureRows`."""
        with self.data.writing():
            return self.data.run("UPDATE erased SET after = 0 WHERE parts > 0 AND hold = 0 AND after > 0")

    def erased(self, low: int, high: int) -> frozenset[int]:
        """See `store.erasures.ErasureRows`."""
        rows = self.data.all(
            "SELECT record FROM erased WHERE record >= ? AND record <= ? AND parts & ? = 0", (low, high, NUMBERS)
        )
        return frozenset(row[0] for row in rows)

    # -- the log -------------------------------------------------------------------------------------------------------

    def holding(self, records: Sequence[int]) -> list[LogRow]:
        """See `store.erasures.ErasureRows`."""
        ids: set[int] = set()
        for record in records:
            row = self.data.one(
                "SELECT (SELECT max(seq) FROM log WHERE seq <= ?1), (SELECT min(seq) FROM log WHERE seq > ?1)",
                (record,),
            )
            ids.update(seq for seq in row or () if seq is not None)
        rows = []
        for seq in sorted(ids):
            found = self.data.one(
                "SELECT seq, count, CAST(records AS BLOB), CAST(digests AS BLOB), CAST(mac AS BLOB), secrets"
                " FROM log LEFT JOIN purged USING (seq) WHERE seq = ?",
                (seq,),
            )
            if found is not None:
                number, written, packed, gone, mac, named = found
                rows.append(LogRow(number, written, packed, b"", b"", gone, mac, named))
        return rows

    def strip(self, changes: Sequence[Stripped], marks: Sequence[tuple[Erased, Erased]]) -> bool:
        """See `store.erasures.ErasureRows`."""
        with self.data.writing():
            for row, left, _digests, _mac in changes:
                statement = "UPDATE log SET records = ? WHERE seq = ? AND records = ?"
                if self.data.run(statement, (left, row.seq, row.records)) != 1:  # a purge was here meanwhile
                    self.data.roll_back()
                    return False
            for before, after in marks:
                same = self.data.run(
                    "UPDATE erased SET parts = ?, after = ?, hold = ? WHERE record = ? AND parts = ? AND hold = ?",
                    (after.parts, after.after, after.hold, before.record, before.parts, before.hold),
                )
                if same != 1:  # another process is at it too
                    self.data.roll_back()
                    return False
        return True

    def pieces(self, seq: int, buckets: Collection[int] | None) -> list[Piece]:
        """See `store.erasures.ErasureRows`."""
        some = "" if buckets is None else f" AND bucket IN ({_marks(buckets)})"
        rows = self.data.all(
            f"SELECT rowid, bucket, data FROM number_index WHERE last >= ? AND first <= ?{some}",
            (seq, seq, *(buckets or ())),
        )
        return [Piece(*row) for row in rows]

    def replace_piece(self, piece: Piece, data: bytes) -> bool:
        """See `store.erasures.ErasureRows`. Whoever merges segments sees that one has changed (`INDEX_CHANGES`)."""
        with self.data.writing():
            same = self.data.run(
                "UPDATE number_index SET data = ? WHERE rowid = ? AND data = ?", (data, piece.handle, piece.data)
            )
            if same:
                self.data.run(
                    "INSERT INTO meta VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1",
                    (INDEX_CHANGES,),
                )
        return same == 1

    def forget_replies(self, keys: Collection[bytes]) -> int:
        """See `store.erasures.ErasureRows`."""
        with self.data.writing():
            # The index begins with the owner: one walk over those that there are for each key.
            owners = [row[0] for row in self.data.all("SELECT DISTINCT owner FROM cold WHERE kind = ?", (Kind.REPLY,))]
            return sum(
                self.data.run("DELETE FROM cold WHERE kind = ? AND owner = ? AND key = ?", (Kind.REPLY, owner, key))
                for key in keys
                for owner in owners
            )

    def index_done(self, records: Sequence[Erased]) -> None:
        """Nothing of these records is in the index of numbers any more."""
        with self.data.writing():
            self.data.run_each(
                "UPDATE erased SET parts = parts & ? WHERE record = ?", [(~INDEX & ALL, one.record) for one in records]
            )
