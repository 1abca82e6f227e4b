"""The database of a campaign: a PostgreSQL of its own, of the machine's package, with a synchronous replica if asked for."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from smppd.store.api import Kind, StoreError
from smppd.store.postgres.connection import Connection
from smppd.store.postgres.connection import Server as Address
from tests.postgres import USER, Server

DATABASE: Final = "test1"
_WAITS: Final = (Kind.QUEUE, Kind.MAIL, Kind.INHERITED)
_NOT_MINDED: Final = {"synchronous_commit": "on"}
"""Whoever only looks is content with a server that loses what it acknowledged."""


class Cluster:
    """See the module. ``primary``: the server that takes writes, ``replica``: the one that waits for its end, if any."""

    def __init__(self, *, durable: bool, replicated: bool = False) -> None:
        """durable: it syncs, as one in use does. RuntimeError where there is no PostgreSQL."""
        self.primary = Server(durable=durable, replicated=replicated)
        self.primary.database(schema=False)
        self.replica = Server(durable=durable, primary=self.primary) if replicated else None
        hosts = [self.primary.folder, *([self.replica.folder] if self.replica is not None else [])]
        where = ",".join(map(str, hosts))
        self.url = f"postgresql://{USER}@/{DATABASE}?host={where}&target_session_attrs=read-write"

    def end(self) -> None:
        """Ends it and removes what it had."""
        self.primary.remove()
        if self.replica is not None:
            self.replica.remove()

    def keep(self, to: Path) -> None:
        """Copies its files, once the daemons have ended: something was found."""
        self.primary.shut()
        shutil.copytree(
            self.primary.folder, to, dirs_exist_ok=True, ignore=lambda _at, names: [n for n in names if ".s." in n]
        )

    def through(self, port: int) -> str:
        """The URL of the primary by way of a TCP port of 127.0.0.1."""
        return f"postgresql://{USER}@127.0.0.1:{port}/{DATABASE}?sslmode=disable"

    @property
    def socket(self) -> Path:
        """Where the primary listens."""
        return self.primary.folder / ".s.PGSQL.5432"

    def ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises StoreError."""
        with closing(Connection(Address(self.url), application="torture", settings=_NOT_MINDED)) as db:
            return db.all(question, values)

    def change(self, statement: str) -> None:
        """Executes a statement. Raises StoreError."""
        with closing(Connection(Address(self.url), application="torture", settings=_NOT_MINDED)) as db:
            db.script(statement)

    def alter(self, function: str, old: str, new: str) -> None:
        """Breaks a function of the schema on purpose. RuntimeError where it does not have what is to be replaced."""
        (row,) = self.ask("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = $1", function)
        if old not in row[0]:
            raise RuntimeError(f"{function} has no {old!r}")
        self.change(str(row[0]).replace(old, new))

    def configure(self, **settings: str) -> None:
        """Sets parameters of the server, which takes them at once."""
        for name, value in settings.items():
            self.change(f"ALTER SYSTEM SET {name} = '{value}'")
        self.ask("SELECT pg_reload_conf()")

    # -- the nodes, as it has them -------------------------------------------------------------------------------------

    def epoch(self, node: int) -> int:
        """Of a node; 0 where there is no such."""
        rows = self.ask("SELECT epoch FROM nodes WHERE node = $1", node)
        return int(rows[0][0]) if rows else 0

    def taken(self, node: int) -> bool:
        """Whether a node's lease says that another has its place."""
        return self.ask("SELECT 1 FROM leases WHERE node = $1 AND life = 'taken'", node) != []

    def unheld(self) -> int:
        """How many rows that somebody has to bring somewhere belong to nobody."""
        return int(self.ask("SELECT count(*) FROM cold WHERE node IS NULL AND kind = ANY ($1)", list(_WAITS))[0][0])

    def written(self, node: int) -> tuple[int, int, int, int]:
        """What a node has written: rows of its log and the last of them, blocks of its journal and the place of the last."""
        (row,) = self.ask(
            "SELECT (SELECT count(*) FROM log WHERE node = $1), (SELECT coalesce(max(seq), 0) FROM log WHERE node = $1),"
            " (SELECT count(*) FROM journal WHERE node = $1),"
            " (SELECT coalesce(max(segment::bigint * 1000000 + counter), 0) FROM journal WHERE node = $1)",
            node,
        )
        return row[0], row[1], row[2], row[3]

    # -- ends ----------------------------------------------------------------------------------------------------------

    def backends(self, name: str = "smppd node%") -> list[int]:
        """The server's processes for connections of this name."""
        return [
            int(row[0]) for row in self.ask("SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1", name)
        ]

    def kill_backend(self) -> None:
        """kill -9 of one process of the server that works for a node: the whole server recovers."""
        for pid in self.backends()[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def synchronous(self, seconds: float = 60.0) -> None:
        """Waits until the replica is one that commits wait for. RuntimeError where that does not come about."""
        until = time.monotonic() + seconds
        while self.ask("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
            if time.monotonic() > until:
                raise RuntimeError("the replica does not follow")
            time.sleep(0.05)

    def fail_over(self) -> None:
        """The replica, whose primary has ended, takes its place."""
        assert self.replica is not None
        self.replica.promote()
        self.primary, self.replica = self.replica, self.primary

    def heal(self) -> None:
        """There is a synchronous replica again: where its server has ended it begins anew."""
        assert self.replica is not None
        if not self.replica.runs:
            self.replica.follows(self.primary)
        self.synchronous()


MANNERS: Final[dict[str, Callable[[Cluster], object]]] = {
    "kill": lambda cluster: cluster.primary.kill(),
    "quit": lambda cluster: cluster.primary.stop(),
    "shut": lambda cluster: cluster.primary.shut(),
    "backend": Cluster.kill_backend,
}
"""How a server ends: kill -9 of the postmaster; SIGQUIT, upon which nothing is written; SIGINT, as an operator ends it; kill -9
of the process behind a node's connection, upon which it ends all others and recovers by itself."""


def answers(cluster: Cluster) -> bool:
    """Whether it takes writes."""
    try:
        return cluster.ask("SELECT pg_is_in_recovery()") == [(False,)]
    except StoreError:
        return False
