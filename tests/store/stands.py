"""Every store there is, each driven in the same words: nothing is committed, answered or told unless the test says so."""

from __future__ import annotations

import errno
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from smppd.store.api import Availability, Batch, ColdRow, Kind, Store
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.store import PostgresStore
from smppd.store.segments import ENTRIES
from smppd.store.sqlite.keys import KeyStore
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.chain import ChainKeys
from smppd.vault.keys import KeyRing, create_install
from tests import postgres
from tests.store.builder import copied
from tests.store.memory import MemoryStore
from tests.store.tenant import Lodger
from tests.vault.rows import NOON, kek

COUNTER = "numbers"
UNREADABLE = 4_000
"""Where `COUNTER` goes on when what is stored of it is no number."""


class Words:
    """``store.api.Sink``: what was said, of which batch."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Batch | None]] = []

    def batch_committed(self, batch: Batch) -> None:
        self.heard.append(("committed", batch))
        for function in batch.then:
            function()

    def batch_refused(self, batch: Batch, reason: str) -> None:
        self.heard.append(("failed", batch))

    def store_broken(self, reason: str) -> None:
        self.heard.append((f"broken: {reason}", None))

    def of(self, batch: Batch) -> list[str]:
        """What was said of one batch."""
        return [word for word, about in self.heard if about is batch]


def tenant_of(blocks: list[tuple[int, bytes]]) -> Lodger:
    """Something lives in each segment that has blocks."""
    tenant = Lodger()
    tenant.live = {segment: [-segment] for segment, _ in blocks}
    return tenant


def rotate(stand: Stand) -> int:
    """Begins a segment, as many things do; its number."""
    stand.tenant.new = ENTRIES
    stand.store.tick(0.0)
    return stand.tenant.place


class Stand(Protocol):
    """A store, and what a test may do with it. ``blocks``, ``counted``: what the last start read back.
    ``tenant``: who lives in the spool; something in each segment that the start found."""

    sink: Words
    tenant: Lodger
    blocks: list[tuple[int, bytes]]
    counted: dict[tuple[int, str], int]

    @property
    def store(self) -> Store: ...

    def starts(self) -> None:
        """Opens the store, for the first time or after the process ended."""

    def hands_over(self) -> None:
        """The batch is under way, and does not end yet."""

    def commits(self) -> None:
        """All that waits becomes durable."""

    def fills(self) -> None:
        """From now on there is no space."""

    def frees(self) -> None:
        """There is space again."""

    def refuses(self) -> None:
        """While there is no space: the batch is committed in vain."""

    def asks(self, query: str, *words: Any) -> list[ColdRow]:
        """The answer to ``page``, ``find`` or ``expired``."""

    def tidies(self) -> bool:
        """Whether ``tidy`` was complete."""

    def dies(self, durable: bool) -> None:
        """The process ends while the batch is under way: when that is durable but nobody was told, or before; then it starts
        again."""

    def ends(self) -> None:
        """The process ends in good order."""


class MemoryStand:
    """A ``MemoryStore``."""

    def __init__(self, _directory: Path, store: MemoryStore | None = None) -> None:
        self.store = MemoryStore() if store is None else store
        self.starts()

    def starts(self) -> None:
        store = self.store
        store.restart()
        self.blocks = list(store.replay())
        self.counted = store.counts()
        store.begin_counter(COUNTER, UNREADABLE)
        self.sink = Words()
        self.tenant = tenant_of(self.blocks)
        store.open(self.sink, self.tenant, lambda: 1)

    def hands_over(self) -> None:
        self.store.hand_over()

    def commits(self) -> None:
        for _ in range(50):
            if not self.store.commit():
                return

    def fills(self) -> None:
        self.store.room = False

    def frees(self) -> None:
        self.store.room = True

    def refuses(self) -> None:
        self.store.fail()

    def asks(self, query: str, *words: Any) -> list[ColdRow]:
        got: list[list[ColdRow]] = []
        getattr(self.store, query)(*words, got.append)
        assert not got, "answers come later"
        self.store.answer()
        return got.pop()

    def tidies(self) -> bool:
        told: list[bool] = []
        self.store.tidy(told.append)
        while not told:
            self.store.tick(0.0)
            self.commits()
        return told.pop()

    def dies(self, durable: bool) -> None:
        self.store.die(durable)
        self.starts()

    def ends(self) -> None:
        pass


class ThreadedStand(ABC):
    """A store with its real thread or threads: what they say is heard when the test says so."""

    store: PostgresStore | SqliteStore

    def __init__(self) -> None:
        self._kek = kek()
        self._id = NOON << 22

    @abstractmethod
    def _makes(self, **given: Any) -> None:
        """Makes the store."""

    @abstractmethod
    def _lets_go(self) -> None:
        """A batch that is under way goes on."""

    def _new_id(self) -> int:
        self._id += 1 << 22
        return self._id

    def _opens(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._turn: list[Callable[[], None]] = []
        turn = self._turn
        self._makes(
            notify=self._calls.put,
            later=lambda _seconds, call: turn.append(call),
            soon=turn.append,
            wall=lambda: float(NOON),
            now=lambda: 0.0,
        )
        self.store.use(KeyRing(self._kek, self.store.keys))
        self.blocks = list(self.store.replay())
        self.counted = self.store.counts()
        self.store.begin_counter(COUNTER, UNREADABLE)
        self.sink = Words()
        self.tenant = tenant_of(self.blocks)
        self.store.open(self.sink, self.tenant, self._new_id)

    def _closes(self) -> None:
        self._lets_go()
        self.store.close()

    def starts(self) -> None:
        self._closes()
        self._opens()

    def turns(self) -> None:
        """What was to be done at the end of this turn."""
        while self._turn:
            self._turn.pop(0)()

    def hears(self) -> None:
        """What the writer's thread says next."""
        self._calls.get(timeout=20)()
        self.turns()

    def commits(self) -> None:
        self._lets_go()
        self.store.kick()
        self.turns()
        for _ in range(50):
            if not self.store.busy:
                return
            self.hears()
            self.store.kick()
            self.turns()

    def refuses(self) -> None:
        heard = len(self.sink.heard)
        if self.store.batch:
            self.store.kick()
            self.turns()
            while len(self.sink.heard) == heard:
                self.hears()
        self.store.watch()

    def asks(self, query: str, *words: Any) -> list[ColdRow]:
        got: list[list[ColdRow]] = []
        getattr(self.store, query)(*words, got.append)
        assert not got, "answers come later"
        while not got:
            self._calls.get(timeout=20)()
        return got.pop()

    def tidies(self) -> bool:
        told: list[bool] = []
        self.store.tidy(told.append)
        while not told:
            self.store.tick(0.0)
            self.commits()
            self.asks("page", Kind.QUEUE, "", 0, 1)  # behind all that the writer was given
        return told.pop()


class SqliteStand(ThreadedStand):
    """A ``SqliteStore`` on real files with its real threads. A kill is a copy of the files as they are at that moment."""

    store: SqliteStore

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._place = directory
        self._lives = 0
        self._directory = directory / "0"
        keys = KeyStore(self._directory)
        create_install(self._kek, keys)
        keys.close()
        self._gate = threading.Event()
        self._gate.set()
        self._opens()

    def _makes(self, **given: Any) -> None:
        self.store = SqliteStore(self._directory, **given)
        self._under_way = False
        write = self.store._files_of_journal.write

        def writes(segment: int, pieces: Sequence[bytes]) -> int:
            assert self._gate.wait(20)
            if self._dead:
                raise OSError(errno.EIO, "the process has ended")
            if self._full:
                raise OSError(errno.ENOSPC, "no space")
            return write(segment, pieces)

        self._dead = self._full = False
        self.store._files_of_journal.write = writes  # type: ignore[method-assign]

    def ends(self) -> None:
        self._closes()

    def _lets_go(self) -> None:
        self._gate.set()

    def hands_over(self) -> None:
        if not self.store.batch:
            return
        # The writer gets as far as the keys.
        self._gate.clear()
        self._under_way = True
        self.store.kick()
        self.turns()

    def commits(self) -> None:
        super().commits()
        self._under_way = False
        filed: list[bool] = []
        self.store.filed(lambda: filed.append(True))
        while not filed:
            self.hears()

    def fills(self) -> None:
        self._full = True
        self.store.look = lambda: Availability.FULL  # type: ignore[method-assign]

    def frees(self) -> None:
        self._full = False
        del self.store.look

    def dies(self, durable: bool) -> None:
        self.hands_over()
        if durable and self._under_way:
            self._lets_go()
            self._calls.get(timeout=20)  # the word that it is durable, which nobody hears
        self._lives += 1
        following = self._place / str(self._lives)
        copied(self._directory, following)
        self._dead = True
        self.ends()
        self._directory = following
        self._opens()


_FILLED: Final = """
CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $$;
CREATE TRIGGER no_space BEFORE INSERT ON log EXECUTE FUNCTION no_space();
CREATE TRIGGER no_space BEFORE INSERT ON journal EXECUTE FUNCTION no_space();
CREATE TRIGGER no_space BEFORE INSERT ON commits EXECUTE FUNCTION no_space();
"""
_FREED: Final = "DROP FUNCTION no_space CASCADE"


class PostgresStand(ThreadedStand):
    """A ``PostgresStore`` on a real server with its real thread, in a database of its own. A process that dies commits nothing
    more: whoever starts in its place has raised the epoch by then."""

    store: PostgresStore

    def __init__(self, _directory: Path, server: Server | None = None, node: int = 0) -> None:
        """server: instead of a database of the test process's server. node: its number."""
        super().__init__()
        self.node = node
        self.server = postgres.server().empty() if server is None else server
        self._own = server is None
        self._full = False
        self.chain_keys: ChainKeys | None = None
        self._other: Connection | None = None
        self._opens()

    def _makes(self, **given: Any) -> None:
        self.store = PostgresStore(self.server, node=self.node, **given)
        self.store.chain_keys = self.chain_keys

    def ends(self) -> None:
        self._closes()
        if self._full:
            self.execute(_FREED)
        if self._own:
            postgres.server().give_back(self.server)

    def execute(self, statement: str) -> None:
        """As an administrator."""
        db = Connection(self.server)
        try:
            db.script(statement)
        finally:
            db.close()

    def hears_within(self, seconds: float) -> None:
        """What the writer's thread says next, if it says something."""
        with suppress(queue.Empty):
            self._calls.get(timeout=seconds)()
        self.turns()

    def _lets_go(self, *, fences: bool = False) -> None:
        if self._other is not None:
            if fences:
                self._other.script(f"UPDATE nodes SET epoch = epoch + 1 WHERE node = {self.node}")
            self._other.script("COMMIT")
            self._other.close()
            self._other = None

    def hands_over(self) -> None:
        if not self.store.batch:
            return
        if self._other is None:
            # Somebody looks at the node's row, so the commit waits in the middle.
            self._other = Connection(self.server)
            self._other.script("BEGIN")
            self._other.script(f"SELECT FROM nodes WHERE node = {self.node} FOR UPDATE")
        self.store.kick()
        self.turns()

    def fills(self) -> None:
        self.execute(_FILLED)
        self._full = True
        self.store.look = lambda: Availability.FULL  # type: ignore[method-assign]

    def frees(self) -> None:
        self.execute(_FREED)
        self._full = False
        del self.store.look

    def dies(self, durable: bool) -> None:
        self.hands_over()
        if self._other is not None:
            self._lets_go(fences=not durable)
            self._calls.get(timeout=20)  # the word how it ended, which nobody hears
        self.starts()


def beside(stand: Stand) -> Stand:
    """Another node on the store of this one. Ended by the test, before the first one."""
    if isinstance(stand, MemoryStand):
        return MemoryStand(Path(), stand.store.another())
    assert isinstance(stand, PostgresStand)
    return PostgresStand(Path(), stand.server, node=stand.node + 1)


STANDS: dict[str, Callable[[Path], Stand]] = {
    "memory": MemoryStand,
    "postgres": PostgresStand,
    "sqlite": SqliteStand,
}
