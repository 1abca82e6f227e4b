"""The world of `fakes` on a real store: files that a test may damage between two starts."""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smppd.config import Settings
from smppd.daemon.damage import DamageReports
from smppd.ids import Ids
from smppd.message import Event, read_events
from smppd.relay.ledger.journal import LivingEntries
from smppd.relay.recovery import readable
from smppd.store.api import ColdRow, Kind
from smppd.store.sqlite.damaged import Item, items
from smppd.store.sqlite.keys import KeyStore
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.chain import ChainKeys
from smppd.vault.keys import KeyRing, create_install, load_install
from tests.relay.fakes import World
from tests.store.journals import into_table
from tests.vault.rows import kek


class DiskStore:
    """What `World` asks of a store, done by a `SqliteStore`; nothing is committed or answered unless the test says so."""

    def __init__(self, directory: Path, world: DiskWorld) -> None:
        self.directory = directory
        self.kek = kek()
        keys = KeyStore(directory)
        create_install(self.kek, keys)
        keys.close()
        self._world = world
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._turn: list[Callable[[], None]] = []
        self.real: SqliteStore | None = None
        self.compacts = False
        """Whether a start begins with taking out what is over, as the daemon's does."""
        self.room = True
        self.under_way: list[Any] = []
        self.untold: set[Any] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def close(self) -> None:
        """The process ends. What was not committed is gone."""
        if self.real is not None:
            self.real.close()
            self.real = None

    def restart(self) -> None:
        self.close()
        self._calls, self._turn = queue.SimpleQueue(), []
        calls, turn = self._calls, self._turn
        self.real = SqliteStore(
            self.directory,
            notify=lambda call: calls.put(call),
            later=lambda _seconds, call: turn.append(call),
            soon=turn.append,
            wall=lambda: self._world.wall,
            now=lambda: self._world.now,
        )
        self.ring = KeyRing(self.kek, self.real.keys)
        self.real.use(self.ring)
        for db in (self.real._data, self.real._secrets):
            db.execute("PRAGMA synchronous=OFF")  # the power stays on here
        damage = DamageReports(self._world.metrics, lambda: self._world.relay)
        self.real.on_damage, self.real.on_start_damage = damage.report_row, damage.report_at_start
        self._world.ids = Ids(lambda: self._world.wall, after=self.real.highest_id())
        install = load_install(self.kek, self.real.keys)
        self.real.chain_keys = ChainKeys(install.audit, install.checkpoint)
        if self.compacts:
            self.real.compact(LivingEntries(readable))

    def commit(self) -> bool:
        """All that waits becomes durable; whether there was anything."""
        assert self.real is not None
        done = self.real.commits
        self.real.kick()
        self.answer()
        return self.real.commits > done

    def answer(self) -> None:
        """Everything that was handed to the writer is done and told."""
        assert self.real is not None
        quiet = False
        while not quiet:
            quiet = not self._turn
            while self._turn:
                self._turn.pop(0)()
            behind: list[list[ColdRow]] = []
            self.real.page(Kind.QUEUE, "", 0, 1, behind.append)  # the writer answers behind all that it was given
            while True:
                self._calls.get(timeout=20)()
                if behind:
                    break
                quiet = False

    def fail(self) -> None:
        raise NotImplementedError

    @contextmanager
    def files(self) -> Iterator[sqlite3.Connection]:
        """data.db of a store that nobody runs, with the spool in its table."""
        assert self.real is None
        into_table(self.directory)
        db = sqlite3.connect(self.directory / "data.db", isolation_level=None)
        try:
            yield db
        finally:
            db.close()

    def looked(self, ask: str) -> list[Any]:
        """The rows of a query, beside the running store."""
        db = sqlite3.connect(f"file:{self.directory / 'data.db'}?mode=ro", uri=True)
        try:
            return db.execute(ask).fetchall()
        finally:
            db.close()

    @property
    def aside(self) -> list[Item]:
        db = sqlite3.connect(f"file:{self.directory / 'data.db'}?mode=ro", uri=True)
        try:
            return items(db)
        finally:
            db.close()

    @property
    def cold(self) -> dict[tuple[int, str, bytes, int], ColdRow]:
        rows = self.looked("SELECT kind, owner, key, id, expires FROM cold")
        return {(k, o, bytes(key), n): ColdRow(k, o, bytes(key), n, e, b"") for k, o, key, n, e in rows}

    @property
    def events(self) -> list[Event]:
        return [
            event for (block,) in self.looked("SELECT events FROM log ORDER BY seq") for event in read_events(block)
        ]


class DiskWorld(World):
    """See the module."""

    def __init__(self, directory: Path, configuration: Settings | None = None) -> None:
        self.disk = DiskStore(directory, self)
        super().__init__(configuration)

    def _begin(self) -> None:
        self.store: Any = self.disk
        super()._begin()
        self.disk.real.lifetime = self.relay.lifetime  # type: ignore[union-attr]

    @property
    def ring(self) -> KeyRing:
        return self.disk.ring

    @ring.setter
    def ring(self, _ring: KeyRing) -> None:
        pass

    def ends(self) -> None:
        """The process dies."""
        self.disk.close()
