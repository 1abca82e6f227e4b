"""What one commit costs in each store: CPU of this process and of the server, and how long it takes; `python -m bench.commits`.

A commit carries so many messages: a record, its secrets and an entry of the journal for each, of the sizes of a short text.
The store is asked as the relay asks it, one commit after another. CPU of the client is that of the whole process, which does
nothing else; that of the server of all its processes. fsync is on in both. Rounds of both stores in turns, medians.
"""

from __future__ import annotations

import argparse
import os
import queue
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from smppd.store.api import Batch, Store
from smppd.store.committer import Committer
from smppd.store.postgres.store import PostgresStore
from smppd.store.sqlite.keys import KeyStore
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.keys import KeyRing, create_install
from smppd.vault.seal import SECRETS_BYTES
from tests import postgres
from tests.store.tenant import Nobody
from tests.vault.rows import kek

RECORD: Final = 330
ENTRY: Final = 310
SIZES: Final = (1, 10, 100)
_TICK: Final = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """Of one commit: microseconds."""

    client: float
    server: float
    p50: float
    p99: float


class Told:
    """``store.api.Sink``."""

    def __init__(self) -> None:
        self.done = 0

    def batch_committed(self, _batch: Batch) -> None:
        self.done += 1

    def batch_refused(self, _batch: Batch, reason: str) -> None:
        raise RuntimeError(reason)

    def store_broken(self, reason: str) -> None:
        raise RuntimeError(reason)


class Bench:
    """A store under measurement."""

    def __init__(self, make: Callable[..., PostgresStore | SqliteStore], server: Callable[[], float]) -> None:
        """server(): CPU seconds of the server so far."""
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._turn: list[Callable[[], None]] = []
        self._server = server
        self._id = time.time_ns() // 1_000_000 << 22
        self._told = Told()
        self.store = make(
            notify=self._calls.put, later=lambda _seconds, call: self._turn.append(call), soon=self._turn.append
        )
        self.store.use(KeyRing(kek(), self.store.keys))
        assert isinstance(self.store, Committer)
        store: Store = self.store
        store.open(self._told, Nobody(), self._new_id)
        self._commit(1)

    def _new_id(self) -> int:
        self._id += 1 << 22
        return self._id

    def _commit(self, size: int) -> None:
        batch = self.store.batch
        batch.records += [os.urandom(RECORD) for _ in range(size)]
        batch.secrets += [os.urandom(SECRETS_BYTES) for _ in range(size)]
        batch.accepts += [os.urandom(ENTRY) for _ in range(size)]
        before = self._told.done
        self.store.kick()
        while self._told.done == before:
            while self._turn:
                self._turn.pop(0)()
            if self._told.done == before:
                self._calls.get()()

    def measure(self, size: int, count: int) -> Cost:
        """So many commits of a size."""
        for _ in range(20):
            self._commit(size)
        took: list[float] = []
        server, client = self._server(), time.process_time()
        for _ in range(count):
            began = time.perf_counter()
            self._commit(size)
            took.append(time.perf_counter() - began)
        client, server = time.process_time() - client, self._server() - server
        took.sort()
        per = 1e6 / count
        return Cost(client * per, server * per, took[count // 2] * 1e6, took[count * 99 // 100] * 1e6)


def _cpu_below(pid: int) -> float:
    """CPU seconds of a process and its children, those that ended and were waited for included."""
    total = 0.0
    for one in [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]:
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue
        own = int(fields[11]) + int(fields[12])
        total += own + (int(fields[13]) + int(fields[14]) if one == pid else 0)
    return total / _TICK


def main() -> int:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commits", type=int, default=1500, help="in each round")
    asked = parser.parse_args()
    server = postgres.Server(durable=True)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        keys = KeyStore(Path(folder))
        create_install(kek(), keys)
        keys.close()
        address = server.database()
        benches = {
            "embedded": Bench(lambda **calls: SqliteStore(Path(folder), **calls), lambda: 0.0),
            "PostgreSQL": Bench(lambda **calls: PostgresStore(address, **calls), lambda: _cpu_below(server.pid)),
        }
        costs: dict[tuple[str, int], list[Cost]] = {}
        for _ in range(asked.rounds):
            for size in SIZES:
                for name, bench in benches.items():
                    costs.setdefault((name, size), []).append(bench.measure(size, asked.commits))
        for bench in benches.values():
            bench.store.close()
    server.remove()
    print("| store | messages a commit | client us | server us | p50 us | p99 us |\n|---|---|---|---|---|---|")
    for (name, size), rounds in sorted(costs.items()):
        cost = Cost(*(statistics.median(column) for column in zip(*rounds, strict=True)))
        print(f"| {name} | {size} | {cost.client:.0f} | {cost.server:.0f} | {cost.p50:.0f} | {cost.p99:.0f} |")
    print(f"load of the machine meanwhile: {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
