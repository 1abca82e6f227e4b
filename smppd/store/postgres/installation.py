"""`store.installation.Installation` of a database, as one node sees it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from smppd.store.api import StoreError
from smppd.store.copying import why_closed
from smppd.store.erasures import Waiting
from smppd.store.installation import RESTORED, LongStart, MainStore, OtherNode
from smppd.store.postgres.announcing import NOTIFY, changed
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.consent_rows import PostgresConsents
from smppd.store.postgres.copying import PostgresSide, read_mark
from smppd.store.postgres.damaged import PostgresDamaged
from smppd.store.postgres.database import Database
from smppd.store.postgres.documents import PostgresDocuments
from smppd.store.postgres.erasure_rows import PostgresErasures, waiting_erasures
from smppd.store.postgres.held_rows import PostgresHeldRows
from smppd.store.postgres.key_rows import PostgresKeys, ReadOnlyKeys
from smppd.store.postgres.log_rows import PostgresIndex, PostgresPurge, PostgresRecords
from smppd.store.postgres.migrations import known, version
from smppd.store.postgres.nodes import PostgresNodes
from smppd.store.postgres.opt_outs import PostgresOptOuts
from smppd.store.postgres.session import Place, nodes_in_use
from smppd.store.postgres.states import PostgresStates, witness
from smppd.store.postgres.store import PostgresStore
from smppd.store.postgres.tidy import Requests, ask
from smppd.store.postgres.underway import PostgresUnderway
from smppd.store.tidy import TidyThread
from smppd.vault.chain import ChainKeys
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing

log = logging.getLogger("smppd.store")
Head = Callable[[], tuple[int, bytes] | None]


class PostgresInstallation:
    """See the module. A commit is in the database when it is acknowledged: nobody who reads has to wait for anything."""

    def __init__(
        self, server: Server, directory: Path, *, node: int = 0, name: str = "", audit_head: Head = lambda: None
    ) -> None:
        """directory: what stays on this machine. node: this one's number, whose chain is asked about. name, audit_head: see
        `PostgresStore`."""
        self._server = server
        self._directory = directory
        self._node = node
        self._name = name
        self._audit_head = audit_head

    @property
    def name(self) -> str:
        """See `store.installation.Installation`."""
        return self._server.name

    @property
    def directory(self) -> Path:
        """See `store.installation.Installation`."""
        return self._directory

    @property
    def keys_name(self) -> str:
        """See `store.installation.Installation`."""
        return self._server.name

    # -- whether it is there -------------------------------------------------------------------------------------------

    def _asked(self, query: str) -> bool:
        with closing(Connection(self._server, read_only=True)) as db:
            return version(db) > 0 and db.one(query) is not None

    def has_keys(self) -> bool:
        """See `store.installation.Installation`."""
        return self._asked("SELECT 1 FROM smppd.keys LIMIT 1")

    def has_log(self) -> bool:
        """See `store.installation.Installation`."""
        return self._asked("SELECT 1 FROM smppd.nodes LIMIT 1")

    def has_documents(self) -> bool:
        """See `store.installation.Installation`."""
        return self._asked("SELECT to_regclass('smppd.documents') WHERE to_regclass('smppd.documents') IS NOT NULL")

    def keys_lost(self) -> str:
        """See `store.installation.Installation`."""
        if self.has_keys() or not self._asked("SELECT 1 FROM smppd.log LIMIT 1"):
            return ""
        return (
            f"{self.name}: there are no keys, and nothing in the log opens without them: put the table `keys` back, or restore"
            " the whole from a dump"
        )

    def being_shredded(self) -> bool:
        """See `store.installation.Installation`: nothing shreds a database."""
        return False

    def closed(self, *, daemon: bool) -> str:
        """See `store.installation.Installation`."""
        with closing(Connection(self._server, read_only=True)) as db:
            return why_closed(read_mark(db), self.name, daemon=daemon)

    def side(self) -> PostgresSide:
        """See `store.installation.Installation`."""
        return PostgresSide(self._server, self._node)

    def check(self) -> None:
        """See `store.installation.Installation`."""
        with closing(Connection(self._server, read_only=True)) as db:
            if version(db):
                known(db)

    def was_used(self) -> bool:
        """See `store.installation.Installation`."""
        return self._asked(f"SELECT 1 FROM smppd.nodes WHERE node = {self._node:d}")

    def in_use(self) -> bool:
        """See `store.installation.Installation`."""
        with closing(Connection(self._server, read_only=True)) as db:
            return self._node in nodes_in_use(db)

    @property
    def node(self) -> int:
        """See `store.installation.Installation`."""
        return self._node

    def others(self) -> list[OtherNode]:
        """See `store.installation.Installation`."""
        with closing(Connection(self._server, read_only=True)) as db:
            if not version(db):
                return []
            at_work = nodes_in_use(db)
            rows = db.all(
                "SELECT nodes.node, nodes.epoch, EXISTS (SELECT 1 FROM smppd.journal WHERE journal.node = nodes.node)"
                " OR EXISTS (SELECT 1 FROM smppd.cold WHERE cold.node = nodes.node), heir"
                " FROM smppd.nodes LEFT JOIN smppd.leases ON leases.node = nodes.node"
                " WHERE nodes.node <> $1 ORDER BY nodes.node",
                (self._node,),
            )
        return [OtherNode(node, epoch, node in at_work, holds, heir) for node, epoch, holds, heir in rows]

    def tell(self, topic: str) -> None:
        """See `store.installation.Installation`."""
        with suppress(StoreError), closing(Connection(self._server)) as db:
            db.one(NOTIFY, (changed(None, topic, ""),))

    def lock(self) -> Place:
        """See `store.installation.Installation`."""
        return Place(self._server, self._node)

    def settled(self) -> bool:
        """See `store.installation.Installation`: there is nothing to wait for."""
        return True

    def file_rest(self, kek: Kek) -> None:
        """See `store.installation.Installation`: there is nothing left."""

    def restored(self, highest: int, skipped: int) -> None:
        """See `store.installation.Installation`."""
        with closing(Database(self._server)) as data, data.writing():
            data.run(
                "INSERT INTO meta SELECT node, $1, $2 FROM nodes ON CONFLICT (node, name) DO UPDATE SET value = excluded.value",
                (RESTORED, highest),
            )
            data.run("UPDATE counters SET next = next + $1", (skipped,))

    # -- keys ----------------------------------------------------------------------------------------------------------

    def keys(self) -> PostgresKeys:
        """See `store.installation.Installation`."""
        return PostgresKeys(self._server)

    def read_only_keys(self) -> ReadOnlyKeys:
        """See `store.installation.Installation`."""
        return ReadOnlyKeys(self._server)

    # -- the log -------------------------------------------------------------------------------------------------------

    def records(self, of: int | None = None) -> PostgresRecords:
        """See `store.installation.Installation`."""
        return PostgresRecords(self._server, of)

    def index(self) -> PostgresIndex:
        """See `store.installation.Installation`."""
        return PostgresIndex(self._server)

    def purge(self) -> PostgresPurge:
        """See `store.installation.Installation`."""
        return PostgresPurge(self._server)

    def erasures(self) -> PostgresErasures:
        """See `store.installation.Installation`."""
        return PostgresErasures(self._server)

    def waiting_erasures(self) -> list[Waiting]:
        """See `store.installation.Installation`."""
        return waiting_erasures(self._server)

    def states(self, of: int | None = None) -> PostgresStates:
        """See `store.installation.Installation`."""
        return PostgresStates(self._server, self._node if of is None else of)

    def witness(self, keys: ChainKeys, number: int, digest: bytes) -> None:
        """See `store.installation.Installation`."""
        witness(self._server, keys, number, digest, self._node)

    # -- what is on its way --------------------------------------------------------------------------------------------

    def underway(self, ring: KeyRing) -> PostgresUnderway:
        """See `store.installation.Installation`."""
        return PostgresUnderway(self._server, ring)

    def damaged(self, *, read_only: bool) -> PostgresDamaged:
        """See `store.installation.Installation`."""
        return PostgresDamaged(self._server, read_only=read_only)

    # -- what stands beside messages -----------------------------------------------------------------------------------

    def documents(self) -> PostgresDocuments:
        """See `store.installation.Installation`."""
        return PostgresDocuments(self._server)

    def held(self) -> PostgresHeldRows:
        """See `store.installation.Installation`."""
        return PostgresHeldRows.at(self._server)

    def consents(self) -> PostgresConsents:
        """See `store.installation.Installation`."""
        return PostgresConsents(self._server)

    def opt_outs(self, *, read_only: bool = True) -> PostgresOptOuts:
        """See `store.installation.Installation`."""
        return PostgresOptOuts(self._server, read_only=read_only, node=self._node)

    # -- the daemon's --------------------------------------------------------------------------------------------------

    def store(
        self,
        *,
        notify: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], Any],
        soon: Callable[[Callable[[], None]], object],
        reserve: int = 0,
        start: LongStart | None = None,
    ) -> MainStore:
        """See `store.installation.Installation`. How much space there is only the server knows: nothing is reserved."""
        if why := self.closed(daemon=True):
            raise StoreError(why)
        store = PostgresStore(
            self._server,
            notify=notify,
            later=later,
            soon=soon,
            node=self._node,
            name=self._name,
            audit_head=self._audit_head,
            advice=log.warning,
        )
        store.long_start = start
        return store

    def nodes(self, store: MainStore, ring: KeyRing, notify: Callable[[Callable[[], None]], object]) -> PostgresNodes:
        """See `store.installation.Installation`."""
        assert isinstance(store, PostgresStore), "as made here"

        def lifetime(owner: str) -> float:
            return store.lifetime(owner)  # which may be set later

        return PostgresNodes(self._server, store.node, store.epoch, store.keys, ring, notify, lifetime=lifetime)

    def ask_tidy(self, seconds: float) -> bool:
        """See `store.installation.Installation`."""
        return ask(self._server, seconds)

    def tidy_thread(
        self, stop: threading.Event, wanted: Callable[[int], object], failed: Callable[[str], object]
    ) -> TidyThread:
        """See `store.installation.Installation`."""
        return TidyThread(lambda: Requests(self._server, self._node), stop, wanted, failed)

    def leave_whole(self) -> None:
        """See `store.installation.Installation`: there are no files of its own."""
