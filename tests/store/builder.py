"""What the store's tests share: a store with sealed records, written the way the daemon writes it, without the daemon."""

from __future__ import annotations

import errno
import os
import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from smppd.ids import EPOCH_MS
from smppd.message import State, pack_event
from smppd.numbering import normalise
from smppd.records.lookup import LogReader
from smppd.store.api import Batch, Tenant
from smppd.vault.chain import ChainKeys
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing, Part, create_install, load_install
from smppd.vault.seal import Content, Direction, pack_numbers, seal_record, split_pdu
from tests.store.disk import copied, files
from tests.store.houses import House, SqliteHouse
from tests.store.tenant import Nobody
from tests.vault.rows import NOON, kek, submit_sm

__all__ = ["CUSTOMER", "DAY", "Builder", "Statements", "Waiting", "copied", "files", "start"]

DAY = 86400.0
CUSTOMER = bytes((192, 0, 2, 7))


class Waiting:
    """`store.api.Sink` that remembers how batches ended."""

    def __init__(self) -> None:
        self.done = 0
        self.wrong: list[str] = []

    def batch_committed(self, batch: Batch) -> None:
        self.done += 1
        for function in batch.then:
            function()

    def batch_refused(self, batch: Batch, reason: str) -> None:
        self.wrong.append(reason)

    def store_broken(self, reason: str) -> None:
        self.wrong.append(reason)


class Statements(dict[str, list[str]]):
    """The first words of the statements that a store executes: those of data.db and those of keys.db."""

    def clear(self) -> None:
        """Forgets what was executed so far."""
        for told in self.values():
            told.clear()


class Builder:
    """A store under construction. `now` is the clock, in epoch seconds; ids are drawn from it."""

    def __init__(
        self,
        house: House | Path,
        key: Kek | None = None,
        *,
        sealed: bool = False,
        prepare: Callable[[Builder], object] = lambda _builder: None,
        read_back: Callable[[Builder], object] = lambda _builder: None,
        tenant: Tenant | None = None,
    ) -> None:
        """house: where it is; a directory is one of the embedded store. sealed: the chain is under the installation's keys, as
        the daemon has it; otherwise it is that of older versions. prepare: called before the store is opened for writing;
        read_back: when it has its keys. tenant: who lives in it, nobody if it is not given."""
        self.house = SqliteHouse(house) if isinstance(house, Path) else house
        self.directory = self.house.directory
        self.place = self.house.place
        self.kek = key or kek()
        rows = self.place.keys()
        create_install(self.kek, rows)
        self.install = load_install(self.kek, rows)
        rows.close()
        self.keys = ChainKeys(self.install.audit, self.install.checkpoint)
        self.now = float(NOON)
        self._id = 0
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.sink = Waiting()
        self.store: Any = self.place.store(
            notify=self._calls.put, later=lambda _seconds, call: call(), soon=lambda call: call()
        )
        self.ring = KeyRing(self.kek, self.store.keys)
        if sealed:
            self.store.chain_keys = self.keys
        prepare(self)
        self.store.use(self.ring)
        read_back(self)
        self.store.open(self.sink, tenant or Nobody(), self.new_id)
        self.closed = False
        self.packed: dict[int, bytes] = {}
        self.secrets: dict[int, bytes] = {}

    def new_id(self) -> int:
        self._id = max(self._id + 1, int(self.now * 1000) - EPOCH_MS << 22)
        return self._id

    def record(
        self,
        text: bytes = b"hello",
        source: bytes = b"Acme",
        destination: bytes = b"447700900123",
        account: str = "acme",
        content: Content = Content.ENCRYPT,
        body: float = 30 * DAY,
        numbers: float = 30 * DAY,
        tlvs: bytes = b"",
    ) -> int:
        """Seals a record into the batch; returns its id. body, numbers: retention in seconds. tlvs: packed."""
        batch = self.store.batch
        if not batch.seq:
            batch.seq = self.new_id()
        record_id = self.new_id()
        addresses, rest = split_pdu(submit_sm(text, source, destination, tlvs))
        secrets = os.urandom(64)
        when = int(self.now)
        packed = seal_record(
            record_id,
            int(self.now * 1000),
            Direction.MT,
            content,
            1,
            0,
            self.ring.period(account, Part.NUMBERS, when, numbers),
            None if content is Content.HIDE else self.ring.period(account, Part.BODY, when, body),
            normalise(source),
            normalise(destination),
            pack_numbers(addresses, CUSTOMER),
            text if content is Content.HASH else rest,
            secrets,
            os.urandom(24),
        )
        batch.records.append(packed)
        batch.secrets.append(secrets)
        self.packed[record_id] = packed
        self.secrets[record_id] = secrets
        return record_id

    def event(self, record_id: int, state: State, detail: bytes = b"carrier-a\0", error: int = 0) -> None:
        at = int(self.now * 1000)
        self.store.batch.events.append(pack_event(record_id, at, state, detail=detail, error=error))

    def commit(self, *, files: bool = True) -> None:
        """Makes the batch durable and, if that is wanted, has it filed: one log row."""
        before = self.sink.done
        self.store.kick()
        while self.sink.done == before and not self.sink.wrong:
            self._calls.get(timeout=10)()
        assert not self.sink.wrong, self.sink.wrong
        if files:
            self.files_it()

    def files_it(self) -> None:
        """All that is durable is filed."""
        if not hasattr(self.store, "filed"):
            return  # a commit is all in its place
        filed: list[bool] = []
        self.store.filed(lambda: filed.append(True))
        while not filed:
            self._calls.get(timeout=10)()

    def fill_disk(self) -> Callable[[], None]:
        """From now on the journal has no room for another block; what is returned makes room again and lets the store try."""
        return fill_journal(self.store)

    def refused(self) -> str:
        """Commits a batch in vain; the reason that the store gives."""
        self.store.batch.accepts.append(b"accept;")
        self.store.kick()
        self._calls.get(timeout=10)()
        return self.sink.wrong.pop()

    def fill(self, rows: int, per_row: int, every: float = 1.0) -> list[int]:
        """Rows of records to changing numbers, each with a SUBMITTED event."""
        ids = []
        for row in range(rows):
            self.now += every
            for n in range(per_row):
                ids.append(self.record(destination=b"4477009%05d" % (row * per_row + n)))
                self.event(ids[-1], State.SUBMITTED)
            self.commit()
        return ids

    def reader(self) -> LogReader:
        return LogReader(self.place.records(), self.kek)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.store.close()


def fill_journal(store: Any) -> Callable[[], None]:
    """See `Builder.fill_disk`."""
    files = store._files_of_journal

    def write(segment: int, pieces: Sequence[bytes]) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.write = write

    def room() -> None:
        del files.write
        store.watch()

    return room


def start(store: Any, ring: KeyRing, sink: Waiting, new_id: Callable[[], int]) -> None:
    store.use(ring)
    store.open(sink, Nobody(), new_id)
