"""Cold rows and what is set aside, on the node's session: the queries of the relay, sealing anew, setting aside what does
not open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from smppd.store.api import ColdRow, Kind, Place, StoreBusy, StoreFull
from smppd.store.aside import CLEAR, COLD, KINDS, MOST, OCTETS, SPOOL, number_of
from smppd.store.cold import FOUND, ColdReader, Columns, places
from smppd.store.postgres.connection import Connection
from smppd.store.postgres.session import Session
from smppd.vault.keys import KeyRing

_SELECT: Final = "SELECT kind, owner, key, id, expires, segment, data FROM cold WHERE kind = $1 AND node = $2 AND "
_RESEALED: Final = (
    "UPDATE cold SET segment = $1, data = made.data"
    " FROM unnest($2::int[], $3::text[], $4::bytea[], $5::bigint[], $6::bytea[]) AS made (kind, owner, key, id, data)"
    " WHERE cold.kind = made.kind AND cold.owner = made.owner AND cold.key = made.key AND cold.id = made.id"
)

After = tuple[int, int, str, bytes, int]
"""Where sealing anew goes on: segment, kind, owner, key, id."""


class DamagedRows:
    """What is set aside. ``lifetime(owner)``: seconds for which what belongs to an account, a lane or an upstream may be
    kept; ``wall``: epoch seconds."""

    def __init__(self, session: Session, lifetime: Callable[[str], float], wall: Callable[[], float]) -> None:
        self._session = session
        self._lifetime = lifetime
        self._wall = wall
        self.count = 0
        self.recount()

    def recount(self) -> None:
        """Counts anew: others remove rows too."""
        row = self._session.db.one("SELECT count(*) FROM damaged")
        self.count = 0 if row is None else int(row[0])

    def take_cold(self, rows: Sequence[tuple[Columns, str]], place: str) -> bool:
        """Moves cold rows here as they are: (columns, reason) each. A transaction of its own; False where it cannot be done
        just now: then all stay where they are. Raises StoreError."""

        def move(db: Connection) -> None:
            for (kind, owner, key, identity, _expires, segment, data), reason in rows:
                name = KINDS.get(kind, "cold row")
                self._put(db, name, owner, identity, place, reason, COLD, kind, segment, data)
                gone = "DELETE FROM cold WHERE kind = $1 AND owner = $2 AND key = $3 AND id = $4"
                db.run(gone, (kind, owner, key, identity))

        return self._moved(move)

    def take_block(self, row: int, segment: int, counter: int, data: bytes, reason: str) -> bool:
        """Moves a row of the journal here as it is; see `take_cold`. row: its number as the embedded store has it."""

        def move(db: Connection) -> None:
            self._put(db, "block", "", 0, "spool", reason, SPOOL, row, segment, data)
            gone = "DELETE FROM journal WHERE node = $1 AND segment = $2 AND counter = $3"
            db.run(gone, (self._session.node, segment, counter))

        return self._moved(move)

    def take_meta(self, name: str, value: int) -> bool:
        """Moves a number that was remembered here; see `take_cold`."""

        def move(db: Connection) -> None:
            self._put(db, "meta", name, 0, "meta", "ValueError", CLEAR, 0, 0, str(value).encode())
            db.run("DELETE FROM meta WHERE node = $1 AND name = $2", (self._session.node, name))

        return self._moved(move)

    def take_strange(self) -> None:
        """Moves the cold rows of kinds that nobody would ever look for; see `take_cold`."""
        rows = self._session.db.all(
            "SELECT kind, owner, key, id, expires, segment, data FROM cold WHERE node = $1 AND kind <> ALL ($2)",
            (self._session.node, list(KINDS)),
        )
        if rows:
            self.take_cold([(_columns(row), "unknown") for row in rows], "cold")

    def _moved(self, move: Callable[[Connection], None]) -> bool:
        try:
            with self._session.writing() as db:
                move(db)
                db.one("SELECT limit_damaged($1, $2)", (MOST, OCTETS))
            self.recount()
        except (StoreFull, StoreBusy):
            return False
        return True

    def _put(
        self,
        db: Connection,
        kind: str,
        owner: str,
        identity: int,
        place: str,
        reason: str,
        form: int,
        row: int,
        segment: int,
        data: bytes,
    ) -> None:
        at = int(self._wall())
        values = (kind, owner, number_of(identity), place, reason, at, at + int(self._lifetime(owner)))
        db.run(
            'INSERT INTO damaged (node, kind, owner, id, place, reason, at, until, form, "row", segment, data)'
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            (self._session.node, *values, form, row, segment, data),
        )


class ColdRows:
    """The cold rows that this node holds. ``damaged``: see ``cold.ColdReader``. Every method raises StoreError."""

    def __init__(
        self,
        session: Session,
        ring: KeyRing,
        aside: DamagedRows,
        damaged: Callable[[Kind, str, int, str], object],
    ) -> None:
        self._session = session
        self._reader = ColdReader(ring, aside.take_cold, damaged)

    def page(self, kind: Kind, owner: str, after: int, limit: int) -> list[ColdRow]:
        """See ``api.Spool``."""
        where = "owner = $3 AND key = '' AND id > $4 ORDER BY id LIMIT $5"
        return self._reader.page(lambda behind: self._read(where, kind, owner, behind, limit), after)

    def find(self, kind: Kind, owner: str, keys: list[bytes]) -> list[ColdRow]:
        """See ``api.Spool``."""
        return self._read("owner = $3 AND key = ANY ($4) LIMIT $5", kind, owner, keys, FOUND)[0]

    def expired(self, kind: Kind, now: int, limit: int) -> list[ColdRow]:
        """See ``api.Spool``."""
        return self._read("expires < $3 ORDER BY expires LIMIT $4", kind, now, limit)[0]

    def count(self, kind: Kind) -> dict[str, int]:
        """See ``api.Spool``."""
        asked = "SELECT owner, count(*) FROM cold WHERE kind = $1 AND node = $2 GROUP BY owner"
        return {owner: int(count) for owner, count in self._session.db.all(asked, (int(kind), self._session.node))}

    def walk(self, kind: Kind, after: Place, limit: int) -> tuple[list[ColdRow], Place | None]:
        """See ``api.Spool``."""
        where = "(owner, key, id) > ($3, $4, $5) ORDER BY owner, key, id LIMIT $6"
        rows, damaged = self._read(where, kind, *after, limit)
        if len(rows) + len(damaged) < limit:
            return rows, None
        return rows, max(places(rows, damaged), key=_order)

    def reseal(self, segment: int, after: After | None, limit: int) -> After | None:
        """Seals up to ``limit`` rows of earlier segments under this one, in a transaction of its own; where to go on, None
        at the end. A damaged row stays as it is. Raises StoreError, nothing changed then."""
        behind = "" if after is None else " AND (segment, kind, owner, key, id) > ($4, $5, $6, $7, $8)"
        found = self._session.db.all(
            "SELECT kind, owner, key, id, expires, segment, data FROM cold WHERE node = $1 AND segment < $2"
            f"{behind} ORDER BY segment, kind, owner, key, id LIMIT $3",
            (self._session.node, segment, limit, *(after or ())),
        )
        sealed = self._reader.resealed(map(_columns, found), segment)
        if sealed:
            kinds, owners, keys, ids, _expires, _segments, data = map(list, zip(*sealed, strict=True))
            with self._session.writing() as db:
                db.run(_RESEALED, (segment, kinds, owners, keys, ids, data))
        if len(found) < limit:
            return None
        kind, owner, key, identity, _expires, of, _data = found[-1]
        return of, kind, owner, key, identity

    def _read(self, where: str, kind: Kind, *arguments: object) -> tuple[list[ColdRow], list[Columns]]:
        found = self._session.db.all(_SELECT + where, (int(kind), self._session.node, *arguments))
        return self._reader.opened(map(_columns, found))


def _columns(row: tuple[Any, ...]) -> Columns:
    kind, owner, key, identity, expires, segment, data = row
    return kind, owner, key, identity, expires, segment, data


def _order(place: Place) -> tuple[bytes, bytes, int]:
    """As the server compares texts under the collation "C"."""
    return place[0].encode(), place[1], place[2]
