"""Cold rows and what is set aside, on the node's session: the queries of the relay, sealing anew, setting aside what does
not open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from smppd.store.api import ColdRow, Kind, Place, StoreBusy, StoreFull
from smppd.store.aside import CLEAR, COLD, KINDS, MOST, OCTETS, SPOOL, number_of
from smppd.store.cold import FOUND, ColdReader, Columns, places
from smppd.store.postgres.announcing import NOTIFY, rows_put
from smppd.store.postgres.batches import EVERYBODYS
from smppd.store.postgres.connection import Connection
from smppd.store.postgres.keys import NodeKeys
from smppd.store.postgres.session import Session
from smppd.vault.keys import KeyRing, segment_scope

_COLUMNS: Final = "kind, owner, key, id, expires, segment, data"
_SELECT: Final = f"SELECT {_COLUMNS} FROM cold WHERE kind = $1 AND "
_OURS: Final = "node = $2 AND "
_EVERYBODYS: Final = "($2::int IS NOT NULL) AND "  # whoever put them
_FREE: Final = "(node = $2 OR node IS NULL) AND "
_NOBODYS: Final = "node IS NULL AND kind <> 5 AND kind <> 6"  # as the index has it
_RESEALED: Final = (
    "UPDATE cold SET segment = $1, data = made.data"
    " FROM unnest($2::int[], $3::text[], $4::bytea[], $5::bigint[], $6::bytea[]) AS made (kind, owner, key, id, data)"
    " WHERE cold.kind = made.kind AND cold.owner = made.owner AND cold.key = made.key AND cold.id = made.id"
)
# Of rows that nobody holds each is sealed anew by the node whose key it is under. Numbers of segments rise within a node only.
_TO_SEAL: Final = (
    "(segment < $2 OR segment % 64 <> $1) AND (node = $1 OR (node IS NULL AND EXISTS"
    " (SELECT 1 FROM keys WHERE keys.scope = segment_scope(cold.segment) AND keys.node = $1)))"
)
_GIVEN_UP: Final = 5000

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
                gone = "DELETE FROM cold WHERE kind = $1 AND owner = $2 AND key = $3 AND id = $4 AND segment = $5"
                if db.run(gone, (kind, owner, key, identity, segment)):  # or another node has sealed it anew meanwhile
                    name = KINDS.get(kind, "cold row")
                    self._put(db, name, owner, identity, place, reason, COLD, kind, segment, data)

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
        self, db: Connection, kind: str, owner: str, identity: int, place: str, reason: str, *form: object
    ) -> None:
        at = int(self._wall())
        until = at + int(self._lifetime(owner))
        put_aside(db, self._session.node, (kind, owner, number_of(identity), place, reason, at, until, *form))


def put_aside(db: Connection, node: int, item: Sequence[object]) -> None:
    """Sets something aside, inside a transaction. item: kind, owner, id, place, reason, at, until, and its form, row, segment
    and data (`store.aside`). Raises StoreError."""
    db.run(
        'INSERT INTO damaged (node, kind, owner, id, place, reason, at, until, form, "row", segment, data)'
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        (node, *item),
    )


class ColdRows:
    """The cold rows that this node holds, and what it takes of those that nobody holds. ``damaged``: see ``cold.ColdReader``.
    Every method raises StoreError."""

    def __init__(
        self,
        session: Session,
        ring: KeyRing,
        keys: NodeKeys,
        aside: DamagedRows,
        damaged: Callable[[Kind, str, int, str], object],
    ) -> None:
        self._session = session
        self._ring = ring
        self._keys = keys
        self._reader = ColdReader(ring, aside.take_cold, damaged)
        # (kind, owner, id) of what was claimed without an answer: the connection broke. It may be this node's by now, and who
        # asked, whose question is asked once more, does not know it.
        self._unanswered: set[tuple[int, str, int]] = set()

    def page(self, kind: Kind, owner: str, after: int, limit: int) -> list[ColdRow]:
        """See ``api.Spool``."""
        where = "owner = $3 AND key = '' AND id > $4 ORDER BY id LIMIT $5"
        return self._reader.page(lambda behind: self._read(where, kind, owner, behind, limit), after)

    def find(self, kind: Kind, owner: str, keys: list[bytes]) -> list[ColdRow]:
        """See ``api.Spool``."""
        return self._take("owner = $3 AND key = ANY ($4) LIMIT $5", kind, owner, keys, FOUND)

    def expired(self, kind: Kind, now: int, limit: int) -> list[ColdRow]:
        """See ``api.Spool``."""
        return self._take("expires < $3 ORDER BY expires LIMIT $4", kind, now, limit)

    def claim(self, kind: Kind, owner: str, ids: list[int] | None, limit: int) -> list[ColdRow]:
        """See ``api.Spool``."""
        found = self._claimed_before(kind, owner) or self._claim(kind, owner, ids, limit)
        rows = self._opened(sorted(found, key=lambda columns: columns[3]))[0]  # the key of one may have to be asked for
        self._unanswered -= {columns[:2] + columns[3:4] for columns in found}
        return [row._replace(shared=True) for row in rows]

    def _claim(self, kind: Kind, owner: str, ids: list[int] | None, limit: int) -> list[Columns]:
        values = (int(kind), owner, ids, limit)
        if ids is not None:
            places = {(int(kind), owner, identity) for identity in ids}
            self._unanswered |= places
            found = self._claims("claim_rows", "$3, $4, $5::bigint[], $6::int", values)
            self._unanswered -= places - {columns[:2] + columns[3:4] for columns in found}
            return found
        # The oldest that nobody else is taking at this moment: which they are is known before it is stored.
        with self._session.db.writing():
            found = self._claims("claim_rows", "$3, $4, $5::bigint[], $6::int", values)
            self._unanswered |= {columns[:2] + columns[3:4] for columns in found}
        return found

    def _claims(self, function: str, types: str, values: tuple[object, ...]) -> list[Columns]:
        return [_columns(row) for row in self._session.claims(function, types, values)]

    def _claimed_before(self, kind: Kind, owner: str) -> list[Columns]:
        """What is this node's of one owner by a claim that was never answered."""
        places = {place for place in self._unanswered if place[:2] == (kind, owner)}
        if not places:
            return []
        asked = f"{_SELECT}{_OURS}owner = $3 AND id = ANY ($4::bigint[])"
        identities = [identity for _, _, identity in places]
        found = self._found(asked, (int(kind), self._session.node, owner, identities))
        self._unanswered -= places - {columns[:2] + columns[3:4] for columns in found}
        return found

    def peek(self, kind: Kind, owner: str, after: int, limit: int) -> list[ColdRow]:
        """See ``api.Spool``."""
        asked = f"{_SELECT}{_NOBODYS} AND owner = $2 AND id > $3 ORDER BY id LIMIT $4"
        return self._reader.page(
            lambda behind: self._opened(self._found(asked, (int(kind), owner, behind, limit)), free=True), after
        )

    def unheld(self) -> dict[tuple[int, str], int]:
        """See ``api.Spool``."""
        asked = f"SELECT kind, owner, count(*) FROM cold WHERE {_NOBODYS} GROUP BY kind, owner"
        return {(kind, owner): int(count) for kind, owner, count in self._session.db.all(asked)}

    def give_up_rest(self, handed: Sequence[tuple[int, str]]) -> bool:
        """Gives up some more of what a batch has handed over; whether there is none left."""
        told: list[tuple[int, str]] = []
        left = False
        for kind, owner in handed:
            given = self._session.claims("give_up", "$3, $4, $5", (int(kind), owner, _GIVEN_UP))[0][0]
            if given:
                told.append((kind, owner))
            left = left or given == _GIVEN_UP
        for note in rows_put(self._session.node, (), told):
            self._session.db.one(NOTIFY, (note,))
        return not left

    def count(self, kind: Kind) -> dict[str, int]:
        """See ``api.Spool``."""
        asked = f"SELECT owner, count(*) FROM cold WHERE kind = $1 AND {_held(kind)}true GROUP BY owner"
        return {owner: int(count) for owner, count in self._session.db.all(asked, (int(kind), self._session.node))}

    def walk(self, kind: Kind, after: Place, limit: int) -> tuple[list[ColdRow], Place | None]:
        """See ``api.Spool``."""
        where = "(owner, key, id) > ($3, $4, $5) ORDER BY owner, key, id LIMIT $6"
        rows, damaged = self._read(where, kind, *after, limit)
        if len(rows) + len(damaged) < limit:
            return rows, None
        return rows, max(places(rows, damaged), key=_order)

    def to_seal(self, segment: int) -> int:
        """How many rows `reseal` would seal anew."""
        row = self._session.db.one(f"SELECT count(*) FROM cold WHERE {_TO_SEAL}", (self._session.node, segment))
        return 0 if row is None else int(row[0])

    def reseal(self, segment: int, after: After | None, limit: int) -> After | None:
        """Seals up to ``limit`` rows of earlier segments under this one, in a transaction of its own; where to go on, None
        at the end. Those that nobody holds are among them, where they are under a key of this node. A damaged row stays as it
        is. Raises StoreError, nothing changed then."""
        behind = "" if after is None else " AND (segment, kind, owner, key, id) > ($4, $5, $6, $7, $8)"
        asked = (
            f"SELECT {_COLUMNS} FROM cold WHERE {_TO_SEAL}{behind} ORDER BY segment, kind, owner, key, id LIMIT $3"
            " FOR NO KEY UPDATE OF cold"
        )
        with self._session.writing() as db:
            found = [_columns(row) for row in db.all(asked, (self._session.node, segment, limit, *(after or ())))]
            self._keys.fetch(db, (columns[5] for columns in found))
            sealed = self._reader.resealed(found, segment)
            if sealed:
                kinds, owners, keys, ids, _, _, texts = map(list, zip(*sealed, strict=True))
                db.run(_RESEALED, (segment, kinds, owners, keys, ids, texts))
        if len(found) < limit:
            return None
        kind, owner, key, identity, _expires, of, _data = found[-1]
        return of, kind, owner, key, identity

    def _read(self, where: str, kind: Kind, *arguments: object) -> tuple[list[ColdRow], list[Columns]]:
        """Of those that this node holds, or everybody does."""
        asked = f"{_SELECT}{_held(kind)}{where}"
        free = kind in EVERYBODYS
        return self._opened(self._found(asked, (int(kind), self._session.node, *arguments)), free=free)

    def _take(self, where: str, kind: Kind, *arguments: object) -> list[ColdRow]:
        """The same and, of those that nobody holds, what this node gets."""
        if kind in EVERYBODYS:
            return self._read(where, kind, *arguments)[0]
        asked = f"SELECT {_COLUMNS}, node FROM cold WHERE kind = $1 AND {_FREE}{where}"
        found = self._session.db.all(asked, (int(kind), self._session.node, *arguments))
        free = [row for row in found if row[7] is None]
        places = {(int(kind), row[1], row[3]) for row in found}
        claimed = self._unanswered & places
        got: dict[Place, Columns] = {}
        if free:
            claimed |= {(int(kind), row[1], row[3]) for row in free}
            self._unanswered |= claimed
            values = (int(kind), [row[1] for row in free], [row[2] for row in free], [row[3] for row in free])
            given = self._session.claims("claim_places", "$3, $4::text[], $5::bytea[], $6::bigint[]", values)
            got = {columns[1:4]: columns for columns in map(_columns, given)}
        ours = (_columns(row[:7]) if row[7] is not None else got.get((row[1], row[2], row[3])) for row in found)
        rows = self._opened([columns for columns in ours if columns is not None])[0]
        self._unanswered -= places
        if not claimed:
            return rows
        return [row._replace(shared=(row.kind, row.owner, row.id) in claimed) for row in rows]

    def _found(self, asked: str, values: tuple[object, ...]) -> list[Columns]:
        return [_columns(row) for row in self._session.db.all(asked, values)]

    def _opened(self, found: list[Columns], *, free: bool = False) -> tuple[list[ColdRow], list[Columns]]:
        """See ``cold.ColdReader``. free: others may do something with these rows at the same moment."""
        db = self._session.db
        self._keys.fetch(db, (columns[5] for columns in found))
        if free:
            found = [columns for columns in map(self._again, found) if columns is not None]
        return self._reader.opened(found)

    def _again(self, columns: Columns) -> Columns | None:
        """A row whose key is gone, once more: another node may have sealed it anew, or dropped it."""
        if self._keys.get(segment_scope(columns[5])) is not None:
            return columns
        asked = f"SELECT {_COLUMNS} FROM cold WHERE kind = $1 AND owner = $2 AND key = $3 AND id = $4"
        row = self._session.db.one(asked, columns[:4])
        if row is None:
            return None
        self._keys.fetch(self._session.db, (row[5],))
        return _columns(row)


def _held(kind: Kind) -> str:
    return _EVERYBODYS if kind in EVERYBODYS else _OURS


def _columns(row: tuple[Any, ...]) -> Columns:
    kind, owner, key, identity, expires, segment, data = row
    return kind, owner, key, identity, expires, segment, data


def _order(place: Place) -> tuple[bytes, bytes, int]:
    """As the server compares texts under the collation "C"."""
    return place[0].encode(), place[1], place[2]
