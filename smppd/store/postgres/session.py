"""A node's session on the server: connected, with its statements prepared, and alone in the node's place.

Who begins in a node's place raises its epoch, and from then on nobody commits under an earlier one (`begin_node`,
`commit_plain`). The advisory lock keeps a second daemon from doing that by mistake while the first runs. It is held by the
connection and gone with it: what is promised rests on the epoch alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from smppd.store.api import StoreBusy, StoreError
from smppd.store.postgres.batches import BATCH, BATCH_TYPES, PLAIN, PLAIN_TYPES, SHARED, SHARED_TYPES
from smppd.store.postgres.connection import Connection, Row, Server, ServerError, StoreAway
from smppd.store.postgres.migrations import migrate

FENCED: Final = "SM001"
CONFLICT: Final = "SM002"
TAKEN: Final = "SM003"
"""What the functions of the schema raise: another has begun in this node's place; a key was made by another; something else
stands where a batch is to be."""
MEANS: Final = {
    FENCED: "another smppd has taken the place of this node",
    TAKEN: "something else stands where a batch is to be stored",
}

_NODES: Final = 0x736D7070
"""First half of the keys of advisory locks for nodes; the second is the node."""
_PATIENCE: Final = 5.0
_BRIEF: Final = 0.5
"""Seconds for which a start, and a command, waits for a node's place: the server may not know yet that the last one is gone."""
_LOOK: Final = 0.05
_TAKEN_OVER: Final = 600.0
"""Seconds for which a start waits for another node that is taking over what it held, which a journal or a million rows take."""
# The tables grow from nothing to millions of rows while the plans of the functions are kept: by their indexes they are
# right at any size. The server notices by itself when a peer is gone, so that the lock of a node whose machine died is free
# soon.
_SETTINGS: Final = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
_LOCKED: Final = "SELECT pg_try_advisory_lock($1::int, $2::int)"
_FROZEN: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN leases ON leases.node = $2 AND life = 'taken'"
    " WHERE locktype = 'advisory' AND classid = $1::oid AND objid = $2::oid AND objsubid = 2 AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_OURS: Final = "SELECT 1 FROM nodes WHERE node = $1 AND epoch = $2 FOR UPDATE"


class Session:
    """See the module. For one thread at a time. ``epoch``: of this run; ``sequence``: of its last commit."""

    def __init__(self, server: Server, node: int, name: str, advice: Callable[[str], object]) -> None:
        """Connects, brings the schema up, and begins in the node's place. node: 0 to 63; name: of it, for people. Raises
        StoreError, also where another smppd has that place."""
        self.server = server
        self.node = node
        self._db: Connection | None = None
        db = self._connect(advice)
        try:
            migrate(db)
            if not _takes_place(db, node, _PATIENCE):
                # Who has it may be frozen, and was taken over: it has nothing any more but this lock.
                with suppress(ServerError):  # it is another user's, whose sessions this one may not end
                    db.all(_FROZEN, (_NODES, node))
                _take_place(db, node, _PATIENCE)
            self.epoch, self.sequence = _begin(db, node, name, advice), 0
            _prepare(db)
        except BaseException:
            db.close()
            raise
        self._db = db

    def __repr__(self) -> str:
        return f"<Session of node {self.node} epoch {self.epoch}>"

    def _connect(self, advice: Callable[[str], object]) -> Connection:
        return Connection(self.server, application=application(self.node), settings=_SETTINGS, advice=advice)

    @property
    def connected(self) -> bool:
        """Whether it is, as far as the last statement could tell."""
        return self._db is not None and self._db.usable

    def reconnect(self) -> None:
        """Connects again. Raises StoreError."""
        self.leave()
        db = self._connect(lambda _sentence: None)  # it was told at the start
        try:
            _prepare(db)
            # The connection that is lost may hold it still: it is the epoch that counts.
            db.one(_LOCKED, (_NODES, self.node))
        except BaseException:
            db.close()
            raise
        self._db = db

    @property
    def db(self) -> Connection:
        """The connection. Raises StoreAway where there is none."""
        if self._db is None or not self._db.usable:
            raise StoreAway(f"{self.server.name}: not connected", certain=True)
        return self._db

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction of this run. Where another has begun in the node's place, nothing of it is stored."""
        db = self.db
        with db.writing():
            if db.one(_OURS, (self.node, self.epoch)) is None:
                raise fenced(self.server)
            yield db

    def claims(self, function: str, types: str, values: Sequence[object]) -> list[Row]:
        """What a function of the schema gives that makes nobody's rows this node's, in one round trip. types: of its parameters
        behind node and epoch, as a statement has them."""
        try:
            return self.db.all(f"SELECT * FROM {function}($1, $2, {types})", (self.node, self.epoch, *values))
        except ServerError as error:
            raise fenced(self.server) if error.code == FENCED else error from None

    def leave(self) -> None:
        """Closes the connection."""
        db, self._db = self._db, None
        if db is not None:
            db.close()


def application(node: int, what: str = "") -> str:
    """What the server calls a connection of a node (`pg_stat_activity`); what: for connections beside the writer's."""
    return f"smppd node {node} {what}".rstrip()


def fenced(server: Server) -> ServerError:
    """What is raised where another has begun in this node's place."""
    return ServerError(f"{server.name}: {MEANS[FENCED]}", FENCED)


def _begin(db: Connection, node: int, name: str, advice: Callable[[str], object]) -> int:
    """Begins in the node's place; the epoch. Waits for a take-over of what it held: with that its journal is empty."""
    until, told = time.monotonic() + _TAKEN_OVER, False
    while True:
        try:
            row = db.one("SELECT begin_node($1, $2)", (node, name))
            assert row is not None
            return int(row[0])
        except StoreBusy:
            if time.monotonic() > until:
                raise
            if not told:
                advice(f"{db.server.name}: another node is taking over what node {node} held; waiting for it")
                told = True


def _take_place(db: Connection, node: int, patience: float) -> None:
    if not _takes_place(db, node, patience):
        raise StoreError(f"{db.server.name}: another smppd is using this store as node {node}")


def _takes_place(db: Connection, node: int, patience: float) -> bool:
    until = time.monotonic() + patience
    while db.one(_LOCKED, (_NODES, node)) != (True,):
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK)
    return True


def _prepare(db: Connection) -> None:
    db.prepare("plain", PLAIN, PLAIN_TYPES)
    db.prepare("batch", BATCH, BATCH_TYPES)
    db.prepare("shared", SHARED, SHARED_TYPES)


def nodes_in_use(db: Connection) -> list[int]:
    """The nodes in whose place somebody is at work. Raises StoreError."""
    rows = db.all(
        "SELECT objid::int FROM pg_locks WHERE locktype = 'advisory' AND classid = $1::oid AND objsubid = 2 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
        (_NODES,),
    )
    return [int(row[0]) for row in rows]


class Place:
    """A node's place taken by a command, so that no daemon begins in it. Raises StoreError where one is there."""

    def __init__(self, server: Server, node: int) -> None:
        self._db = Connection(server)
        try:
            _take_place(self._db, node, _BRIEF)
        except BaseException:
            self._db.close()
            raise

    def release(self) -> None:
        """Lets it go."""
        self._db.close()
