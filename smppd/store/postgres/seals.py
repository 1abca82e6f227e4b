"""Where the seals of a node's log are (`store.seals.SealRows`): beside the log, and the log's state in a table of its
own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from smppd.store.postgres.session import Session
from smppd.store.seals import LOG_STATE, LogRow, Made


class PostgresSeals:
    """See the module. Raises StoreError."""

    state_at = "the state"
    seals_at = "the log"

    def __init__(
        self,
        session: Session,
        store: Callable[[Made | None, bytes], bool],
        head: Callable[[], tuple[int, bytes] | None],
    ) -> None:
        """store(seal, state): makes them durable as a batch is; whether that could be done. head(): of the audit trail."""
        self._session = session
        self._store = store
        self._head = head

    def state(self) -> bytes | None:
        """See ``SealRows``."""
        row = self._session.db.one(
            "SELECT value FROM state WHERE node = $1 AND name = $2", (self._session.node, LOG_STATE)
        )
        return None if row is None else row[0]

    def newest(self) -> tuple[bytes, int] | None:
        """See ``SealRows``."""
        row = self._session.db.one(
            "SELECT signed, number FROM seals WHERE node = $1 ORDER BY number DESC LIMIT 1", (self._session.node,)
        )
        return None if row is None else (row[0], row[1])

    def chain_of(self, seq: int) -> bytes | None:
        """See ``SealRows``."""
        row = self._session.db.one("SELECT chain FROM log WHERE node = $1 AND seq = $2", (self._session.node, seq))
        return None if row is None else row[0]

    def count_after(self, seq: int) -> int:
        """See ``SealRows``."""
        row = self._session.db.one("SELECT count(*) FROM log WHERE node = $1 AND seq > $2", (self._session.node, seq))
        return 0 if row is None else int(row[0])

    def after(self, seq: int, limit: int) -> Sequence[LogRow]:
        """See ``SealRows``."""
        return self._session.db.all(
            "SELECT log.seq, records, events, chain, slots.secrets FROM log LEFT JOIN slots USING (seq)"
            " WHERE node = $1 AND log.seq > $2 ORDER BY log.seq LIMIT $3",
            (self._session.node, seq, limit),
        )

    def purged(self, seq: int) -> bool:
        """See ``SealRows``."""
        return self._session.db.one("SELECT 1 FROM purged WHERE seq = $1", (seq,)) is not None

    def vouch(self, mac: Callable[[int, bytes], bytes]) -> None:
        """See ``SealRows``: no version of this back end purged without the chain's key."""

    def write(self, made: Made) -> bool:
        """See ``SealRows``."""
        return self._store(made, made.state)

    def write_state(self, state: bytes) -> bool:
        """See ``SealRows``."""
        return self._store(None, state)

    def audit_head(self) -> tuple[int, bytes] | None:
        """See ``SealRows``."""
        return self._head()

    def close(self) -> None:
        """See ``SealRows``: who gave the head closes it."""
