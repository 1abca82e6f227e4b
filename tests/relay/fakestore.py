"""A store in memory: nothing becomes durable, and no query is answered, unless the test says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from smppd.message import Event, read_events
from smppd.store.api import Batch, ColdRow, Damaged, Kind, Sink, Tenant
from smppd.store.sqlite.segments import Segments


class FakeStore:
    """``store.api.Store`` in memory. What was committed is in ``blocks``, ``cold``, ``events``, ``records``, ``numbers`` and
    ``aside``."""

    def __init__(self) -> None:
        self.batch = Batch()
        self.full = False
        self.room = True
        self.sink: Any = None
        self.segment = 0
        self.segments: Segments
        self._now = 0.0
        self.blocks: list[tuple[int, bytes]] = []
        self.cold: dict[tuple[int, str, bytes, int], ColdRow] = {}
        self.events: list[Event] = []
        self.records = 0
        self.numbers: dict[str, int] = {}
        self.aside: list[Damaged] = []
        self.jobs: list[Callable[[], None]] = []
        self.told: list[Callable[[], None]] = []
        self.under_way: list[tuple[Batch, int]] = []

    # -- what tests say ------------------------------------------------------------------------------------------------

    def hand_over(self) -> None:
        """The writer takes the batch; what comes now is the next one."""
        if self.batch and not self.under_way:
            self.under_way.append((self.batch, self.segment))
            self.batch = Batch()

    def commit(self) -> bool:
        """The writer ends a commit (and queries before it); whether there was anything."""
        self.hand_over()
        self.answer()
        if not self.under_way:
            return False
        batch, segment = self.under_way.pop()
        self._write(batch, segment)
        if self.full and self.room:
            self.full = False
        self.sink.batch_committed(batch)
        self.answer()
        return True

    def fail(self) -> None:
        """The writer finds no space."""
        self.hand_over()
        if not self.under_way:
            return
        batch, _ = self.under_way.pop()
        self.full = True
        for name in ("keys", "marks", "events", "moves", "drop", "segments", "released", "meta", "damaged", "then"):
            getattr(self.batch, name)[:0] = getattr(batch, name)
        self.sink.batch_refused(batch, "database or disk is full")

    def answer(self) -> None:
        """Queries are answered."""
        while self.jobs or self.told:
            for job in self.jobs[:]:
                self.jobs.remove(job)
                job()
            for tell in self.told[:]:
                self.told.remove(tell)
                tell()

    def _write(self, batch: Batch, segment: int) -> None:
        self.records += len(batch.records)
        assert len(batch.records) == len(batch.secrets)
        self.events.extend(read_events(b"".join(batch.events)))
        if batch.accepts or batch.marks:
            self.blocks.append((segment, b"".join(batch.accepts + batch.marks)))
        for row in batch.put + batch.moves:
            self.cold[row.kind, row.owner, row.key, row.id] = row
        for key in batch.drop:
            self.cold.pop(key, None)
        self.numbers.update(batch.meta)
        self.aside.extend(batch.damaged)
        self.blocks = [block for block in self.blocks if block[0] not in batch.segments]

    # -- store.api.Store -----------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """The process ended: what was not committed is gone."""
        self.batch, self.jobs, self.told, self.under_way, self.full = Batch(), [], [], [], False

    def open(self, sink: Sink, tenant: Tenant, new_id: Callable[[], int]) -> None:
        self.sink = sink
        self.segments = Segments(self, tenant, self.rotate, lambda then: then(True), self._now)
        self.segments.opened(self.rotate())

    def rotate(self) -> int:
        self.segment += 1
        return self.segment

    def kick(self) -> None:
        pass

    def nudge(self) -> None:
        pass

    def tick(self, now: float) -> None:
        self._now = now
        self.segments.tick(now)

    def tidy(self, then: Callable[[bool], None]) -> None:
        self.segments.tidy(self._now, then)

    def retry(self) -> None:
        if self.room and not self.under_way and not self.batch:
            self.full = False

    def space(self) -> bool:
        return self.room

    def page(self, kind: Kind, owner: str, after: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        self._query(
            lambda: sorted(
                (r for r in self.cold.values() if (r.kind, r.owner, r.key) == (kind, owner, b"") and r.id > after),
                key=lambda r: r.id,
            )[:limit],
            then,
        )

    def find(self, kind: Kind, owner: str, keys: list[bytes], then: Callable[[list[ColdRow]], None]) -> None:
        self._query(
            lambda: [r for r in self.cold.values() if (r.kind, r.owner) == (kind, owner) and r.key in keys], then
        )

    def expired(self, kind: Kind, now: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        self._query(lambda: [r for r in self.cold.values() if r.kind == kind and r.expires < now][:limit], then)

    def _query(self, rows: Callable[[], list[ColdRow]], then: Callable[[list[ColdRow]], None]) -> None:
        def job() -> None:
            found = rows()
            self.told.append(lambda: then(found))

        self.jobs.append(job)

    def counts(self) -> dict[tuple[int, str], int]:
        return dict(Counter((row.kind, row.owner) for row in self.cold.values()))

    def replay(self) -> Iterator[tuple[int, bytes]]:
        return iter(list(self.blocks))

    def highest_id(self) -> int:
        return 0

    def meta(self, name: str, default: int, damaged: int | None = None) -> int:
        return self.numbers.get(name, default)

    @property
    def damaged(self) -> int:
        return len(self.aside)

    def look_at_damaged(self) -> None:
        pass
