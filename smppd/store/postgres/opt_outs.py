"""The register of opt-outs on PostgreSQL, and what waits for a person: for commands beside a daemon, or where none runs. The
relay writes it with a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from smppd.store.api import OPT_OUTS, Doubt, OptOut
from smppd.store.postgres.connection import Server
from smppd.store.postgres.database import Database

_COLUMNS: Final = "key, account, sender, at, source"
_PUT: Final = (
    "INSERT INTO opt_outs VALUES ($1, $2, $3, $4, $5) ON CONFLICT (key) DO UPDATE SET account = excluded.account,"
    " sender = excluded.sender, at = excluded.at, source = excluded.source"
)
_PAGE: Final = 2000
_NOBODY: Final = -1  # the node of a command


class PostgresOptOuts:
    """`store.installation.OptOutRows`. For one thread. Raises StoreError when there is no store."""

    def __init__(self, server: Server, *, read_only: bool = True, node: int = 0) -> None:
        """node: this one's, whose own changes `version` leaves out."""
        self._node = node
        self._data = Database(server, read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._data.close()

    def count(self) -> int:
        """How many entries there are."""
        return self._data.number("SELECT count(*) FROM opt_outs")

    def get(self, key: bytes) -> OptOut | None:
        """The entry under a key."""
        row = self._data.one(f"SELECT {_COLUMNS} FROM opt_outs WHERE key = $1", (key,))
        return OptOut(*row) if row is not None else None

    def all(self) -> Iterator[OptOut]:
        """All entries in order of their keys, in short reads."""
        after = b""
        while rows := self._data.all(
            f"SELECT {_COLUMNS} FROM opt_outs WHERE key > $1 ORDER BY key LIMIT {_PAGE}", (after,)
        ):
            yield from (OptOut(*row) for row in rows)
            after = rows[-1][0]

    def version(self) -> str:
        """See `store.installation.OptOutRows`."""
        asked = "SELECT node, value FROM meta WHERE name = $1 AND node <> $2 ORDER BY node"
        return repr(self._data.all(asked, (OPT_OUTS, self._node)))

    def doubts(self) -> list[Doubt]:
        """What waits for a person, oldest first."""
        asked = "SELECT record, key, account, sender, at FROM doubts ORDER BY at, record"
        return [Doubt(*row) for row in self._data.all(asked)]

    def write(self, changes: Sequence[OptOut], decided: Sequence[int]) -> None:
        """Writes changes, durable when this returns. Only where no daemon runs: it has them in memory."""
        with self._data.writing("opt_outs"):
            for one in changes:
                if one.stands:
                    self._data.run(_PUT, one[:5])
                else:
                    self._data.run("DELETE FROM opt_outs WHERE key = $1", (one.key,))
            self._data.run("DELETE FROM doubts WHERE record = ANY ($1::bigint[])", (list(decided),))
            self._data.run(
                "INSERT INTO meta VALUES ($1, $2, 1) ON CONFLICT (node, name) DO UPDATE SET value = meta.value + 1",
                (_NOBODY, OPT_OUTS),
            )
