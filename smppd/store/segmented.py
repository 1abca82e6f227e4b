"""A store whose spool is segments under keys of their own, whatever it is stored in: the committer's back end on the reactor
thread, with rotation, seals of the log, questions for rows and a start (`store.api.Store`).

What is a back end's own is abstract here: its writer, its rows, how it reads itself back and ends.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from time import monotonic, time
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from smppd.store.api import Availability, Batch, ColdRow, Kind, OptOut, Place, Sink, Tenant, Walked
from smppd.store.chain_writer import ChainWriter
from smppd.store.committer import Committer, End, Ending, Timer
from smppd.store.installation import LongStart
from smppd.store.pending_keys import PendingKeys
from smppd.store.seals import Seals, TakenUp
from smppd.store.segments import Segments
from smppd.store.tidy import FEW, Compacted, Entries, Spool, Tidier
from smppd.vault.blocks import SegmentSealer
from smppd.vault.chain import GENESIS, ChainKeys
from smppd.vault.keys import KeyRing

log = logging.getLogger("smppd.store")
_MONTH: Final = 30 * 86400.0
T = TypeVar("T")


class ColdRows(Protocol):
    """The cold rows, on the writer's thread; see ``api.Spool``."""

    def page(self, kind: Kind, owner: str, after: int, limit: int) -> list[ColdRow]:
        """See above."""

    def find(self, kind: Kind, owner: str, keys: list[bytes]) -> list[ColdRow]:
        """See above."""

    def expired(self, kind: Kind, now: int, limit: int) -> list[ColdRow]:
        """See above."""

    def walk(self, kind: Kind, after: Place, limit: int) -> tuple[list[ColdRow], Place | None]:
        """See above."""

    def count(self, kind: Kind) -> dict[str, int]:
        """See above."""

    def claim(self, kind: Kind, owner: str, ids: list[int] | None, limit: int) -> list[ColdRow]:
        """See above."""

    def peek(self, kind: Kind, owner: str, after: int, limit: int) -> list[ColdRow]:
        """See above."""

    def unheld(self) -> dict[tuple[int, str], int]:
        """See above."""


class DamagedRows(Protocol):
    """What is set aside, on the writer's thread. ``count``: how many, as of the last look."""

    count: int

    def recount(self) -> None:
        """Counts anew: others remove rows too."""


class Commit(NamedTuple):
    """What is committed, and with what. ``seq``: id of the log row. ``sealer``: for the journal; ``cold``, ``aside``: segments
    that cold rows and damaged items are sealed under. ``keys``, ``gone``: keys to add and to destroy."""

    batch: Batch
    seq: int
    sealer: SegmentSealer
    cold: int
    aside: int
    keys: list[tuple[bytes, bytes]]
    gone: list[bytes]


class SegmentedStore(Committer, ABC):
    """See the module. ``keys``: made by the back end. ``long_start``: where the start may take long, set before `replay`."""

    keys: PendingKeys
    long_start: LongStart | None = None
    _cold: ColdRows
    _aside: DamagedRows
    _ring: KeyRing

    def __init__(
        self,
        *,
        notify: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], Timer | None],
        soon: Callable[[Callable[[], None]], object],
        wall: Callable[[], float] = time,
        now: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(self, later=later, soon=soon, now=now, timed=lambda *told: self.on_commit_time(*told))
        self._notify = notify
        self._wall = wall
        self._closing = False
        self.on_commit_time: Callable[[float, int], None] = lambda _seconds, _records: None
        self.on_damage: Callable[[Kind, str, int, str], None] = lambda _kind, _owner, _identity, _reason: None
        """Told on the reactor thread of each cold row that does not open, once: kind, owner, id, why."""
        self.on_start_damage: Callable[[str, int, str], None] = lambda _what, _identity, _reason: None
        """Told at the start of what was set aside, since it does not open or is not what it should be."""
        self.lifetime: Callable[[str], float] = lambda _owner: _MONTH
        """Seconds for which what is damaged may be kept, by the account, lane or upstream it belongs to. Any thread."""
        self.chain_keys: ChainKeys | None = None  # these two are set before ``open``; named: on the audit trail
        self.named = 0
        self.seals: Seals | None = None
        self.taken_up = TakenUp(True, 0, [])
        """What ``open`` found at the end of the log."""
        self._chain: ChainWriter | None = None

    # -- what a back end has -------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether the writer runs."""

    @abstractmethod
    def look(self) -> Availability:
        """See ``committer.BackEnd``."""

    @abstractmethod
    def compact(self, entries: Entries, most: int | None = FEW) -> Compacted:
        """See ``tidy.compact``. After ``use``, before ``open`` or at the end. Raises ``StoreError``."""

    @abstractmethod
    def _spool(self) -> Spool[Any]:
        """For who takes out what is over."""

    @abstractmethod
    def _end_of_log(self) -> tuple[bytes, int]:
        """(chain, id) of the last row of the log."""

    @abstractmethod
    def _seals(self, keys: ChainKeys) -> Seals:
        """The seals of this run."""

    @abstractmethod
    def _start_writer(self, chain: ChainWriter) -> None:
        """What was given meanwhile is done now."""

    @abstractmethod
    def _give(self, job: Callable[[], None]) -> None:
        """Does a job on the writer's thread, behind all that was given before."""

    @abstractmethod
    def _hand_over(self, commit: Commit, ended: Callable[[End], None]) -> None:
        """Gives a commit to the writer; ``ended`` on the reactor thread. Where nothing of it is stored, its keys are to be
        added and destroyed with the next."""

    @abstractmethod
    def _give_seal(self) -> None:
        """Has the writer make a seal without a commit."""

    @abstractmethod
    def _replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``api.Spool.replay``."""

    @abstractmethod
    def _opt_outs(self) -> Iterator[OptOut]:
        """See ``api.Spool.opt_outs``."""

    @abstractmethod
    def counts(self) -> dict[tuple[int, str], int]:
        """See ``api.Spool``."""

    @abstractmethod
    def highest_id(self) -> int:
        """See ``api.Spool``."""

    @abstractmethod
    def doubts(self) -> int:
        """See ``api.Spool``."""

    def _answering(self) -> Callable[[Callable[[], None]], object]:
        """On the reactor thread, for a question: makes what tells its answer there, from any thread."""
        return self._notify

    # -- its life ------------------------------------------------------------------------------------------------------

    def open(self, sink: Sink, tenant: Tenant, new_id: Callable[[], int]) -> None:
        """See ``api.Store``. Takes a fresh spool segment, in which what is opened lives from now on, and starts the
        writer."""
        self.begin(sink)
        self._new_id = new_id
        self._tidier: Tidier[Any] = Tidier(self._spool(), self._give, self._notify, self._later, self._with_batch)
        self._sealer = SegmentSealer(self._ring)
        digest, row = end = self._end_of_log()
        if self.chain_keys is not None:
            self.seals = self._seals(self.chain_keys)
            self.taken_up = self.seals.take_up(row, digest, self.named)
        self._chain = ChainWriter(end, self.chain_keys, self.seals)
        self._start_writer(self._chain)
        self.segments = Segments(self, tenant, self.rotate, self._destroy, self._now())
        self.segments.opened(self._sealer.segment)
        self._tidier.shred(self._sealer.segment)

    def rotate(self) -> int:
        """Begins a segment; its number. What the current batch holds already goes into the new segment too, later than it is
        counted there, which is safe: segments are dropped oldest first."""
        self._sealer = SegmentSealer(self._ring)
        self._tidier.shred(self._sealer.segment)
        return self._sealer.segment

    def tidy(self, then: Callable[[bool], None]) -> None:
        """See ``api.Store``."""
        self.segments.tidy(self._now(), then)

    def _destroy(self, then: Callable[[bool], None]) -> None:
        self._tidier.tidy(lambda: self._sealer.segment, then)

    def tick(self, now: float) -> None:
        """See ``api.Store``."""
        self.segments.tick(now)

    def _with_batch(self, then: Callable[[], None]) -> None:
        self.batch.then.append(then)
        self.kick()

    # -- commits -------------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """See ``committer.BackEnd``: there are keys to destroy."""
        return self.keys.going

    def commit(self, batch: Batch, ended: Callable[[End], None]) -> None:
        """See ``committer.BackEnd``."""
        tidier = self._tidier
        if batch.damaged and not tidier.aside:
            # Of their own: they are kept for days, and nothing else is to be opened with their key.
            tidier.aside = self._ring.new_segment()
        if batch.drop or batch.moves:  # a row may have taken the place of another
            tidier.stained = True
        keys, gone = self.keys.take()
        seq = batch.seq or self._new_id()

        def over(end: End) -> None:
            ended(end)
            if end.how is Ending.STORED and batch.segments:
                tidier.shred(self._sealer.segment)

        self._hand_over(Commit(batch, seq, self._sealer, tidier.cold, tidier.aside, keys, gone), over)

    # -- the log's chain -----------------------------------------------------------------------------------------------

    @property
    def sealed(self) -> tuple[int, bytes]:
        """(number, hash) of the newest durable seal of the log; (0, zeros) for none."""
        return self._chain.last if self._chain is not None else (0, GENESIS)

    def seal_when_due(self) -> None:
        """Called about once a second: where no commit carries a seal, one is made without."""
        if self._chain is not None and not self._closing and self._chain.due_alone():
            self._give_seal()

    # -- rows ----------------------------------------------------------------------------------------------------------

    def page(self, kind: Kind, owner: str, after: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``. Rows are claimed when they are put: all that this store finds are its own."""
        self._look(lambda rows: rows.page(kind, owner, after, limit), then)

    def find(self, kind: Kind, owner: str, keys: list[bytes], then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.find(kind, owner, keys), then)

    def expired(self, kind: Kind, now: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.expired(kind, now, limit), then)

    def walk(self, kind: Kind, after: Place, limit: int, then: Walked) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.walk(kind, after, limit), lambda found: then(*found))

    def claim(
        self, kind: Kind, owner: str, ids: list[int] | None, limit: int, then: Callable[[list[ColdRow]], None]
    ) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.claim(kind, owner, ids, limit), then)

    def peek(self, kind: Kind, owner: str, after: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.peek(kind, owner, after, limit), then)

    def unheld(self, then: Callable[[dict[tuple[int, str], int]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.unheld(), then)

    def count(self, kind: Kind, then: Callable[[dict[str, int]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda rows: rows.count(kind), then)

    def _look(self, look: Callable[[ColdRows], T], then: Callable[[T], None]) -> None:
        tell = self._answering()

        def job() -> None:
            found = look(self._cold)
            tell(lambda: then(found))

        self._give(job)

    @property
    def damaged(self) -> int:
        """How many items are set aside, as of the last commit or look."""
        return self._aside.count

    def look_at_damaged(self) -> None:
        """See ``api.Store``."""
        self._give(self._aside.recount)

    # -- the start -----------------------------------------------------------------------------------------------------

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``api.Spool``. In a long start, what is over is gone when this returns, also from what is counted afterwards."""
        if self.long_start is None:
            return self._replay()
        self.long_start.still()
        tidied = self.compact(self.long_start.entries())
        log.debug("spool tidied", extra={"fields": tidied._asdict()})
        return _telling(self._replay(), self.long_start.still)

    def opt_outs(self) -> Iterator[OptOut]:
        """See ``api.Spool``."""
        found = self._opt_outs()
        return found if self.long_start is None else _telling(found, self.long_start.still)


def _telling(items: Iterator[T], still: Callable[[], object]) -> Iterator[T]:
    for item in items:
        still()
        yield item
