"""A store in memory behind the real committer: nothing becomes durable, and no query is answered, unless the test says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from smppd.message import Event, read_events
from smppd.store.api import Availability, Batch, ColdRow, Damaged, Doubt, Kind, OptOut, Place, Sink, Tenant, Walked
from smppd.store.committer import STORED, Committer, End, Ending
from smppd.store.segments import Segments

_FOUND = 256  # rows under the keys of one receipt, as the embedded store has it


class _BackEnd:
    """``store.committer.BackEnd``: keeps the batch that is under way until the test says how it ended."""

    pending = False

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.under_way: list[tuple[Batch, int]] = []
        self._ended: list[Callable[[End], None]] = []

    def commit(self, batch: Batch, ended: Callable[[End], None]) -> None:
        self.under_way.append((batch, self._store.segment))
        self._ended.append(ended)

    def end(self, end: End) -> None:
        """Says how the batch ended."""
        self.under_way.clear()
        self._ended.pop()(end)

    def look(self) -> Availability:
        return Availability.OK if self._store.room else Availability.FULL


Rows = dict[tuple[int, str, bytes, int], ColdRow]


class MemoryStore:
    """``store.api.Store`` in memory. What was committed is in ``blocks``, ``cold``,
    ``events``, ``records``, ``numbers`` and ``aside``, and outlives a ``restart``. ``room``: whether there is space.

    ``nobodys``: the rows that nobody holds, which stores of several nodes share. ``tell(kind, owner, ids)``: what the others
    hear of them. ``most_given``: so many rows that are given up become nobody's in one step."""

    def __init__(
        self,
        nobodys: Rows | None = None,
        tell: Callable[[int, str, list[int]], None] = lambda _kind, _owner, _ids: None,
    ) -> None:
        self.room = True
        self.most_given = 1 << 30
        self.tell = tell
        self.segments: Segments
        self._now = 0.0
        self.segment = 0
        self.blocks: list[tuple[int, bytes]] = []
        self.cold: Rows = {}
        self.untold: set[tuple[int, str, bytes, int]] = set()  # claimed, and the asker has no answer yet
        self.nobodys: Rows = {} if nobodys is None else nobodys
        self.events: list[Event] = []
        self.records = 0
        self.numbers: dict[str, int] = {}
        self.aside: list[Damaged] = []
        self.opted: dict[bytes, OptOut] = {}
        self.doubted: dict[int, Doubt] = {}
        self.highest = 0
        self.restart()

    def another(self) -> MemoryStore:
        """The store of another node: what nobody holds both have."""
        made = MemoryStore()
        made.nobodys = self.nobodys
        return made

    # -- what tests say ------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """The process ended: what was not committed is gone."""
        self.jobs: list[Callable[[], None]] = []
        self.told: list[Callable[[], None]] = []
        self.untold.clear()
        self._handed: list[tuple[int, str]] = []
        self.turns: list[Callable[[], None]] = []
        self._counters: dict[str, int] = {}
        turns = self.turns
        self._back_end = _BackEnd(self)
        self.committer = Committer(
            self._back_end, later=lambda _seconds, call: turns.append(call), soon=turns.append, now=lambda: 0.0
        )

    def hand_over(self) -> None:
        """The committer gives the batch away; what comes now is the next one."""
        if self.batch and not self.under_way:
            self.committer.kick()
        while self.turns:
            self.turns.pop(0)()

    def commit(self) -> bool:
        """The back end ends a commit (and queries before it); whether there was anything."""
        self.hand_over()
        self.answer()
        if not self.under_way:
            return False
        self._write(*self.under_way[0])
        self._back_end.end(STORED)
        self.answer()
        return True

    def fail(self, how: Ending = Ending.FULL) -> None:
        """The back end finds no space, or nobody to speak to."""
        self.hand_over()
        if self.under_way:
            self._back_end.end(End(how, "database or disk is full"))
        else:
            self.committer.watch()

    def _give_up(self) -> None:
        some = [key for key in self.cold if key[:2] in self._handed][: self.most_given]
        for key in some:
            self.nobodys[key] = self.cold.pop(key)
        for kind, owner in {key[:2]: None for key in some}:
            self.tell(kind, owner, [])
        if len(some) < self.most_given:
            self._handed.clear()

    def answer_one(self) -> None:
        """One query is answered, and no more."""
        self.jobs.pop(0)()
        self.told.pop(0)()

    def taken_over(self, rows: Iterator[ColdRow]) -> None:
        """Another node takes this one's place over: its journal became these rows, and all of its rows are nobody's."""
        self.blocks = []
        self.nobodys.update(self.cold)
        self.cold = {}
        for row in rows:
            self.nobodys[row.kind, row.owner, row.key, row.id] = row._replace(shared=False)
        self.restart()

    def die(self, durable: bool) -> None:
        """The process ends while a batch is under way: when that was durable and nobody was told, or before it was."""
        self.hand_over()
        if durable:
            for batch, segment in self.under_way:
                self._write(batch, segment)
        self.restart()

    def answer(self) -> None:
        """Queries are answered, behind the next step of giving up rows."""
        if self._handed:
            self._give_up()
        while self.jobs or self.told:
            for job in self.jobs[:]:
                self.jobs.remove(job)
                job()
            for tell in self.told[:]:
                self.told.remove(tell)
                tell()

    def _write(self, batch: Batch, segment: int) -> None:
        assert len(batch.records) == len(batch.secrets)
        self.records += len(batch.records)
        self.events.extend(read_events(b"".join(batch.events)))
        if batch.accepts or batch.marks:
            self.blocks.append((segment, b"".join(batch.accepts + batch.marks)))
        for row in batch.put + batch.moves:
            place = row.kind, row.owner, row.key, row.id
            self.nobodys.pop(place, None)
            self.cold.pop(place, None)
            (self.nobodys if row.shared else self.cold)[place] = row._replace(shared=False)
        for key in batch.drop:
            self.cold.pop(key, None)
            self.nobodys.pop(key, None)
        for row in batch.put + batch.moves:
            if row.shared:
                self.tell(row.kind, row.owner, [row.id])
        self._handed += batch.handed
        self._give_up()
        self.numbers.update(batch.meta)
        self.aside.extend(batch.damaged)
        for entry in batch.opt_outs:
            if entry.stands:
                self.opted[entry.key] = entry
            else:
                self.opted.pop(entry.key, None)
        self.doubted.update((one.record, one) for one in batch.doubts)
        for record in batch.decided:
            self.doubted.pop(record, None)
        self.blocks = [block for block in self.blocks if block[0] not in batch.segments]
        if batch.records or batch.events:
            self.highest = max(self.highest, batch.seq + (max(len(batch.records), len(batch.events)) << 16))

    # -- store.api.Store -----------------------------------------------------------------------------------------------

    @property
    def batch(self) -> Batch:
        return self.committer.batch

    @property
    def under_way(self) -> list[tuple[Batch, int]]:
        """The batch that the back end has, and its segment."""
        return self._back_end.under_way

    @property
    def availability(self) -> Availability:
        return self.committer.availability

    @property
    def takes(self) -> bool:
        return self.availability is Availability.OK

    def open(self, sink: Sink, tenant: Tenant, new_id: Callable[[], int]) -> None:
        self.committer.begin(sink)
        self.segments = Segments(self, tenant, self.rotate, lambda then: then(True), self._now)
        self.segments.opened(self.rotate())

    def rotate(self) -> int:
        self.segment += 1
        return self.segment

    def kick(self) -> None:
        pass

    def nudge(self) -> None:
        pass

    def watch(self) -> None:
        self.committer.watch()

    def tick(self, now: float) -> None:
        self._now = now
        self.segments.tick(now)

    def tidy(self, then: Callable[[bool], None]) -> None:
        self.segments.tidy(self._now, then)

    def page(self, kind: Kind, owner: str, after: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        self._query(
            lambda: sorted(
                (r for r in self.cold.values() if (r.kind, r.owner, r.key) == (kind, owner, b"") and r.id > after),
                key=lambda r: r.id,
            )[:limit],
            then,
        )

    def _take(self, wanted: Callable[[ColdRow], bool], limit: int) -> list[ColdRow]:
        taken = sorted((row for row in self.nobodys.values() if wanted(row)), key=lambda row: row.id)[:limit]
        for row in taken:
            place = row.kind, row.owner, row.key, row.id
            self.cold[place] = self.nobodys.pop(place)
        return [row._replace(shared=True) for row in taken]

    def claim(
        self, kind: Kind, owner: str, ids: list[int] | None, limit: int, then: Callable[[list[ColdRow]], None]
    ) -> None:
        self._query(
            lambda: self._take(lambda r: (r.kind, r.owner) == (kind, owner) and (ids is None or r.id in ids), limit),
            then,
        )

    def peek(self, kind: Kind, owner: str, after: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        self._query(
            lambda: sorted(
                (r for r in self.nobodys.values() if (r.kind, r.owner) == (kind, owner) and r.id > after),
                key=lambda r: r.id,
            )[:limit],
            then,
        )

    def unheld(self, then: Callable[[dict[tuple[int, str], int]], None]) -> None:
        def job() -> None:
            counts = dict(Counter((row.kind, row.owner) for row in self.nobodys.values()))
            self.told.append(lambda: then(counts))

        self.jobs.append(job)

    def find(self, kind: Kind, owner: str, keys: list[bytes], then: Callable[[list[ColdRow]], None]) -> None:
        def found() -> list[ColdRow]:
            own = [r for r in self.cold.values() if (r.kind, r.owner) == (kind, owner) and r.key in keys][:_FOUND]
            return own + self._take(lambda r: (r.kind, r.owner) == (kind, owner) and r.key in keys, _FOUND - len(own))

        self._query(found, then)

    def expired(self, kind: Kind, now: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        def over() -> list[ColdRow]:
            own = [r for r in self.cold.values() if r.kind == kind and r.expires < now]
            some = sorted(own, key=lambda r: r.expires)[:limit]
            return some + self._take(lambda r: r.kind == kind and r.expires < now, limit - len(some))

        self._query(over, then)

    def count(self, kind: Kind, then: Callable[[dict[str, int]], None]) -> None:
        def job() -> None:
            counts = dict(Counter(row.owner for row in self.cold.values() if row.kind == kind))
            self.told.append(lambda: then(counts))

        self.jobs.append(job)

    def walk(self, kind: Kind, after: Place, limit: int, then: Walked) -> None:
        def rows() -> list[ColdRow]:
            of_kind = (row for row in self.cold.values() if row.kind == kind)
            return sorted(
                (row for row in of_kind if (row.owner, row.key, row.id) > after),
                key=lambda row: (row.owner, row.key, row.id),
            )[:limit]

        def found(some: list[ColdRow]) -> None:
            last = some[-1] if len(some) == limit else None
            then(some, None if last is None else (last.owner, last.key, last.id))

        self._query(rows, found)

    def _query(self, rows: Callable[[], list[ColdRow]], then: Callable[[list[ColdRow]], None]) -> None:
        def job() -> None:
            found = rows()
            claimed = {(row.kind, row.owner, row.key, row.id) for row in found if row.shared}
            self.untold |= claimed

            def tell() -> None:
                self.untold -= claimed
                then(found)

            self.told.append(tell)

        self.jobs.append(job)

    def counts(self) -> dict[tuple[int, str], int]:
        return dict(Counter((row.kind, row.owner) for row in self.cold.values()))

    def replay(self) -> Iterator[tuple[int, bytes]]:
        return iter(list(self.blocks))

    def highest_id(self) -> int:
        return self.highest

    def opt_outs(self) -> Iterator[OptOut]:
        return iter([self.opted[key] for key in sorted(self.opted)])

    def doubts(self) -> int:
        return len(self.doubted)

    def meta(self, name: str, default: int, damaged: int | None = None) -> int:
        return self.numbers.get(name, default)

    def begin_counter(self, counter: str, damaged: int) -> None:
        self._counters[counter] = self.meta(counter, 0, damaged)

    def reserve(self, counter: str, count: int) -> int:
        first = self._counters[counter]
        self._counters[counter] = first + count
        self.batch.meta.append((counter, first + count))
        return first

    @property
    def unfiled(self) -> int:
        return 0

    @property
    def damaged(self) -> int:
        return len(self.aside)

    def look_at_damaged(self) -> None:
        pass
