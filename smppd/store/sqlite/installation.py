"""`store.installation.Installation` of a store's directory: the embedded store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from smppd.store.api import StoreError
from smppd.store.copying import why_closed
from smppd.store.erasures import Waiting
from smppd.store.installation import LongStart, MainStore, OtherNode
from smppd.store.lock import LOCK_FILE, Lock, in_use
from smppd.store.sqlite.consent_rows import SqliteConsents
from smppd.store.sqlite.copies import mark, settle
from smppd.store.sqlite.copying import SqliteSide, read_mark
from smppd.store.sqlite.damaged import DamagedItems
from smppd.store.sqlite.database import Database, spoken
from smppd.store.sqlite.documents import SqliteDocuments
from smppd.store.sqlite.erasure_rows import SqliteErasures
from smppd.store.sqlite.files import SHREDDING, keys_lost
from smppd.store.sqlite.held_rows import SqliteHeldRows
from smppd.store.sqlite.keys import KeyStore, ReadOnlyKeys
from smppd.store.sqlite.log_rows import SqliteIndex, SqlitePurge, SqliteRecords
from smppd.store.sqlite.opt_outs import OptOutRows
from smppd.store.sqlite.seals import witness
from smppd.store.sqlite.settling import file_rest, settled
from smppd.store.sqlite.states import SqliteStates
from smppd.store.sqlite.store import SqliteStore
from smppd.store.sqlite.tidy import Requests, ask
from smppd.store.sqlite.underway import SqliteUnderway
from smppd.store.sqlite.waiting import waiting_erasures
from smppd.store.tidy import TidyThread
from smppd.vault.chain import ChainKeys
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing

_DOCUMENTS: Final = 4
"""The schema version that brought documents."""


class SqliteInstallation:
    """See the module. settle: whether what opens the log waits until all is filed that was acknowledged (`settled`)."""

    def __init__(self, directory: Path, *, settle: bool) -> None:
        self._directory = directory
        self._settle = settle

    @property
    def name(self) -> str:
        """See `store.installation.Installation`."""
        return str(self._directory)

    @property
    def directory(self) -> Path:
        """See `store.installation.Installation`: the store's own."""
        return self._directory

    @property
    def keys_name(self) -> str:
        """See `store.installation.Installation`."""
        return str(self._directory / "keys.db")

    # -- whether it is there -------------------------------------------------------------------------------------------

    def has_keys(self) -> bool:
        """See `store.installation.Installation`."""
        return (self._directory / "keys.db").exists()

    def has_log(self) -> bool:
        """See `store.installation.Installation`."""
        return (self._directory / "data.db").exists()

    def has_documents(self) -> bool:
        """See `store.installation.Installation`."""
        if not self.has_log():
            return False
        with closing(Database(self._directory / "data.db", "data", read_only=True)) as data:
            return data.version() >= _DOCUMENTS

    def keys_lost(self) -> str:
        """See `store.installation.Installation`."""
        return keys_lost(self._directory)

    def being_shredded(self) -> bool:
        """See `store.installation.Installation`."""
        return (self._directory / SHREDDING).exists()

    def closed(self, *, daemon: bool) -> str:
        """See `store.installation.Installation`."""
        return why_closed(read_mark(self._directory), self.name, daemon=daemon)

    def side(self) -> SqliteSide:
        """See `store.installation.Installation`."""
        return SqliteSide(self._directory)

    def check(self) -> None:
        """See `store.installation.Installation`."""
        if self.has_log():
            Database(self._directory / "data.db", "data", read_only=True).close()

    def was_used(self) -> bool:
        """See `store.installation.Installation`."""
        return (self._directory / LOCK_FILE).exists()

    def in_use(self) -> bool:
        """See `store.installation.Installation`."""
        return in_use(self._directory)

    node = 0

    def others(self) -> list[OtherNode]:
        """See `store.installation.Installation`: there are none."""
        return []

    def tell(self, topic: str) -> None:
        """See `store.installation.Installation`: there is nobody."""

    def lock(self) -> Lock:
        """See `store.installation.Installation`."""
        return Lock(self._directory)

    def settled(self) -> bool:
        """See `store.installation.Installation`."""
        return not self.has_log() or settled(self._directory)

    def file_rest(self, kek: Kek) -> None:
        """See `store.installation.Installation`."""
        file_rest(self._directory, kek)

    def _settled(self) -> Path:
        if self._settle:
            self.settled()
        return self._directory

    def restored(self, highest: int, skipped: int) -> None:
        """See `store.installation.Installation`."""
        mark(self._directory / "data.db", highest, skipped)

    # -- keys ----------------------------------------------------------------------------------------------------------

    def keys(self) -> KeyStore:
        """See `store.installation.Installation`."""
        return KeyStore(self._settled())

    def read_only_keys(self) -> ReadOnlyKeys:
        """See `store.installation.Installation`."""
        return ReadOnlyKeys(self._directory)

    # -- the log -------------------------------------------------------------------------------------------------------

    def records(self, _of: int | None = None) -> SqliteRecords:
        """See `store.installation.Installation`."""
        return SqliteRecords(self._settled())

    def index(self) -> SqliteIndex:
        """See `store.installation.Installation`."""
        return SqliteIndex(self._settled())

    def purge(self) -> SqlitePurge:
        """See `store.installation.Installation`."""
        return SqlitePurge(self._settled())

    def erasures(self) -> SqliteErasures:
        """See `store.installation.Installation`."""
        return SqliteErasures(self._settled())

    def waiting_erasures(self) -> list[Waiting]:
        """See `store.installation.Installation`."""
        return waiting_erasures(self._directory)

    def states(self, _of: int | None = None) -> SqliteStates:
        """See `store.installation.Installation`."""
        return SqliteStates(self._settled())

    def witness(self, keys: ChainKeys, number: int, digest: bytes) -> None:
        """See `store.installation.Installation`."""
        witness(self._directory, keys, number, digest)

    # -- what is on its way --------------------------------------------------------------------------------------------

    def underway(self, ring: KeyRing) -> SqliteUnderway:
        """See `store.installation.Installation`."""
        return SqliteUnderway(self._settled(), ring)

    def damaged(self, *, read_only: bool) -> DamagedItems:
        """See `store.installation.Installation`."""
        return DamagedItems(self._settled(), read_only=read_only)

    # -- what stands beside messages -----------------------------------------------------------------------------------

    def documents(self) -> SqliteDocuments:
        """See `store.installation.Installation`."""
        return SqliteDocuments(self._directory)

    def held(self) -> SqliteHeldRows:
        """See `store.installation.Installation`."""
        return SqliteHeldRows.at(self._directory)

    def consents(self) -> SqliteConsents:
        """See `store.installation.Installation`."""
        return SqliteConsents(self._directory)

    def opt_outs(self, *, read_only: bool = True) -> OptOutRows:
        """See `store.installation.Installation`."""
        return OptOutRows(self._settled(), read_only=read_only)

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
        """See `store.installation.Installation`."""
        store = SqliteStore(self._directory, notify=notify, later=later, soon=soon, reserve=reserve)
        if why := self.closed(daemon=True):  # once its lock is held: nobody begins to copy it any more
            store.close()
            raise StoreError(why)
        store.long_start = start
        return store

    @spoken
    def nodes(self, store: MainStore, ring: KeyRing, notify: Callable[[Callable[[], None]], object]) -> None:
        """See `store.installation.Installation`: one daemon has the store."""

    def ask_tidy(self, seconds: float) -> bool:
        """See `store.installation.Installation`."""
        return ask(self._directory, seconds)

    def tidy_thread(
        self, stop: threading.Event, wanted: Callable[[int], object], failed: Callable[[str], object]
    ) -> TidyThread:
        """See `store.installation.Installation`."""
        return TidyThread(lambda: Requests(self._directory), stop, wanted, failed)

    def leave_whole(self) -> None:
        """See `store.installation.Installation`. Whoever read data.db after the store was closed cannot take away the
        write-ahead log that reading makes."""
        settle(self._directory / "data.db")
