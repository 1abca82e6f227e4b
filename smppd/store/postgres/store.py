"""The store on PostgreSQL, as one node has it: a committer on the reactor thread and one writer thread
(`store.api.Store`)."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic, time
from typing import Final

from smppd.store.api import Availability, Batch, ColdRow, Kind, OptOut, Place, Sink, StoreError, Tenant, Walked
from smppd.store.chain_writer import ChainWriter
from smppd.store.committer import Committer, End, Ending
from smppd.store.postgres.batches import Work
from smppd.store.postgres.binary import clean
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.keys import NodeKeys
from smppd.store.postgres.rows import ColdRows, DamagedRows
from smppd.store.postgres.seals import PostgresSeals
from smppd.store.postgres.session import Session
from smppd.store.postgres.startup import StartUp
from smppd.store.postgres.tidy import FEW, Compacted, Entries, Spool, Tidier, compact
from smppd.store.postgres.writer import Writer
from smppd.store.seals import Seals, TakenUp
from smppd.store.segments import Segments
from smppd.vault.blocks import SegmentSealer
from smppd.vault.chain import GENESIS, ChainKeys, SealKind
from smppd.vault.keys import KeyRing, period_scope, read_scope

_MONTH: Final = 30 * 86400.0
SUPPLY: Final = 20_000
"""Numbers of a counter that are kept ready at least: they were asked of the server before anybody needs them."""
_ROWS: Final = 2000


class PostgresStore(Committer):
    """``store.api.Store`` on PostgreSQL: a committer that is its own back end, with rows and a start.

    ``notify(function)`` runs a function on the reactor thread; ``later(seconds, function)`` runs one there after a time,
    ``soon(function)`` at the end of this turn. ``new_id`` draws time-ordered ids of this node. Raises ``StoreError`` on
    opening.
    """

    def __init__(
        self,
        server: Server,
        *,
        notify: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], object],
        soon: Callable[[Callable[[], None]], object],
        node: int = 0,
        name: str = "",
        audit_head: Callable[[], tuple[int, bytes] | None] = lambda: None,
        advice: Callable[[str], object] = lambda _sentence: None,
        wall: Callable[[], float] = time,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """node: 0 to 63, the one of the ids; name: of it, for people, this machine's where it is empty. audit_head(): (id,
        hash) of the last entry of this node's audit trail, None where it cannot be read. advice(sentence): told of what is
        not good about the server but may be meant."""
        super().__init__(self, later=later, soon=soon, now=now, timed=lambda *told: self.on_commit_time(*told))
        self._notify = notify
        self._audit_head = audit_head
        self._wall = wall
        self._closing = False
        self._session = Session(server, node, clean(name or socket.gethostname()), advice)
        try:
            self.keys = NodeKeys(self._session.db, node)
        except BaseException:
            self._session.leave()
            raise
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
        self._supplies: dict[str, _Supply] = {}
        self._chain: ChainWriter | None = None
        self._writer = Writer(self._session, lambda reason: notify(lambda: self.fail(reason)))

    @property
    def node(self) -> int:
        """Whose ids, log and journal these are."""
        return self._session.node

    def use(self, ring: KeyRing) -> None:
        """The keys to open and seal the spool with; before the replay."""
        self._ring = ring
        self._aside = DamagedRows(self._session, lambda owner: self.lifetime(owner), self._wall)
        self._start_up = StartUp(self._session, ring, self._aside, lambda *told: self.on_start_damage(*told))
        told = self._told_damage
        self._cold = ColdRows(self._session, ring, self._aside, told)

    def _told_damage(self, kind: Kind, owner: str, identity: int, reason: str) -> None:
        self._notify(lambda: self.on_damage(kind, owner, identity, reason))

    def _spool(self) -> Spool:
        return Spool(self._session, self.keys, self._ring, self._cold, self._start_up)

    def compact(self, entries: Entries, most: int | None = FEW) -> Compacted:
        """See ``tidy.compact``. After ``use``, before ``open`` or at the end. Raises ``StoreError``."""
        return compact(self._spool(), entries, most)

    def open(self, sink: Sink, tenant: Tenant, new_id: Callable[[], int]) -> None:
        """See ``api.Store``. Takes a fresh spool segment, in which what is opened lives from now on, and starts the
        writer."""
        self.begin(sink)
        self._new_id = new_id
        self._tidier = Tidier(self._spool(), self._writer.give, self._notify, self._later, self._with_batch)
        self._sealer = SegmentSealer(self._ring)
        digest, row = end = self._start_up.end_of_log()
        if self.chain_keys is not None:
            rows = PostgresSeals(self._session, self._writer.store_seal, self._audit_head)
            self.seals = Seals(self.chain_keys, rows, self._wall)
            self.taken_up = self.seals.take_up(row, digest, self.named)
        self._chain = ChainWriter(end, self.chain_keys, self.seals)
        self._writer.start(self._ring, self._chain)
        self.segments = Segments(self, tenant, self.rotate, self._destroy, self._now())
        self.segments.opened(self._sealer.segment)
        self._tidier.shred(self._sealer.segment)

    def rotate(self) -> int:
        """Begins a segment; its number. What the current batch holds already goes into the new segment too, later than it
        is counted there, which is safe: segments are dropped oldest first."""
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

    # -- the back end of the committer ---------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the writer runs."""
        return self._writer.alive

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
        work = Work(batch, seq, self._sealer, tidier.cold, tidier.aside, keys, gone)

        def over(end: End) -> None:
            if end.how is Ending.FULL or end.how is Ending.AWAY:
                self.keys.again(keys, gone)
                if work.winners:
                    self._adopt(work.winners)
            ended(end)
            if end.how is Ending.STORED and batch.segments:
                tidier.shred(self._sealer.segment)

        def told(end: End) -> None:
            if end.how is Ending.STORED and batch.damaged:
                with suppress(StoreError):  # as of the next look, then
                    self._aside.recount(self._session.db)
            self._notify(lambda: over(end))

        self._writer.commit(work, told)

    def _adopt(self, winners: dict[bytes, bytes]) -> None:
        """Another node was first to make these keys: what comes now is sealed under its."""
        self.keys.adopt(winners)
        for scope in winners:
            period = read_scope(scope)
            if period is not None:
                assert period_scope(*period) == scope
                self._ring.forget(*period)

    def look(self) -> Availability:
        """See ``committer.BackEnd``. How much space the server has left nobody but it can tell, with a commit."""
        return self._writer.look()

    # -- the log's chain -----------------------------------------------------------------------------------------------

    @property
    def sealed(self) -> tuple[int, bytes]:
        """(number, hash) of the newest durable seal of the log; (0, zeros) for none."""
        return self._chain.last if self._chain is not None else (0, GENESIS)

    def seal_when_due(self) -> None:
        """Called about once a second: where no commit carries a seal, one is made without."""
        if self._chain is not None and not self._closing and self._chain.due_alone():
            self._writer.seal_alone(SealKind.RUNNING)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def page(self, kind: Kind, owner: str, after: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``. Rows are claimed when they are put: this node's are its own."""
        self._look(lambda db: self._cold.page(db, kind, owner, after, limit), then)

    def find(self, kind: Kind, owner: str, keys: list[bytes], then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda db: self._cold.find(db, kind, owner, keys), then)

    def expired(self, kind: Kind, now: int, limit: int, then: Callable[[list[ColdRow]], None]) -> None:
        """See ``api.Spool``."""
        self._look(lambda db: self._cold.expired(db, kind, now, limit), then)

    def walk(self, kind: Kind, after: Place, limit: int, then: Walked) -> None:
        """See ``api.Spool``."""

        def job(db: Connection) -> None:
            rows, following = self._cold.walk(db, kind, after, limit)
            self._notify(lambda: then(rows, following))

        self._writer.give(job)

    def count(self, kind: Kind, then: Callable[[dict[str, int]], None]) -> None:
        """See ``api.Spool``."""

        def job(db: Connection) -> None:
            counts = self._cold.count(db, kind)
            self._notify(lambda: then(counts))

        self._writer.give(job)

    def _look(self, look: Callable[[Connection], list[ColdRow]], then: Callable[[list[ColdRow]], None]) -> None:
        def job(db: Connection) -> None:
            rows = look(db)
            self._notify(lambda: then(rows))

        self._writer.give(job)

    @property
    def unfiled(self) -> int:
        """See ``api.Store``: a commit is all in its place."""
        return 0

    @property
    def damaged(self) -> int:
        """How many items are set aside, as of the last commit or look."""
        return self._aside.count

    def look_at_damaged(self) -> None:
        """See ``api.Store``."""
        self._writer.give(self._aside.recount)

    # -- numbers -------------------------------------------------------------------------------------------------------

    def begin_counter(self, counter: str, damaged: int) -> None:
        """See ``api.Store``. What is stored is always a number."""
        self._supplies[counter] = _Supply(counter)
        self._supplies[counter].add(*_reserved(self._session.db, counter, SUPPLY))

    def reserve(self, counter: str, count: int) -> int:
        """See ``api.Store``: out of a supply that the server gave, and that is filled up beside the messages. StoreError
        where it is used up and the server away."""
        supply = self._supplies[counter]
        first = supply.take(count)
        more = max(count, SUPPLY)
        if first is None:
            first, got = self._writer.ask(lambda db: _reserved(db, counter, count + more))
            supply.add(first + count, got - count)
        elif supply.left < more and not supply.asked:
            supply.asked = True

            def job(db: Connection) -> None:
                first, got = _reserved(db, counter, more)
                self._notify(lambda: supply.add(first, got))

            self._writer.give(job)
        return first

    # -- start-up ------------------------------------------------------------------------------------------------------

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``api.Spool``."""
        return self._start_up.replay()

    def counts(self) -> dict[tuple[int, str], int]:
        """See ``api.Spool``."""
        return self._start_up.counts()

    def highest_id(self) -> int:
        """See ``api.Spool``. Of this node: ids of others have another number in them."""
        return self._start_up.highest_id()

    def opt_outs(self) -> Iterator[OptOut]:
        """See ``api.Spool``."""
        after = b""
        while True:
            rows = self._session.db.all(
                "SELECT key, account, sender, at, source FROM opt_outs WHERE key > $1 ORDER BY key LIMIT $2",
                (after, _ROWS),
            )
            yield from (OptOut(*row) for row in rows if len(row[0]) == 16)
            if len(rows) < _ROWS:
                return
            after = rows[-1][0]

    def doubts(self) -> int:
        """See ``api.Spool``."""
        row = self._session.db.one("SELECT count(*) FROM doubts")
        return 0 if row is None else int(row[0])

    def meta(self, name: str, default: int, damaged: int | None = None) -> int:
        """See ``api.Store``."""
        return self._start_up.meta(name, default, damaged)

    def close(self, entries: Entries | None = None) -> None:
        """Ends the writer after what was handed to it and closes the connection. ``entries``: takes out what is over
        first."""
        self._closing = True
        if self._writer.alive and self._writer.certain:
            self._writer.seal_alone(SealKind.STOP)
        self._writer.stop()
        if self._writer.alive:
            return  # it is in a call to the server still, on this very connection
        if entries is not None:
            with suppress(StoreError):  # the next start does it
                self.compact(entries)
        if self.seals is not None:
            self.seals.close()
        self._session.leave()


class _Supply:
    """Numbers of one counter that are this node's."""

    def __init__(self, counter: str) -> None:
        self._counter = counter
        self._ranges: deque[tuple[int, int]] = deque()
        self.left = 0
        self.asked = False

    def __repr__(self) -> str:
        return f"<_Supply {self._counter} {self.left}>"

    def add(self, first: int, count: int) -> None:
        """More of them."""
        self._ranges.append((first, count))
        self.left += count
        self.asked = False

    def take(self, count: int) -> int | None:
        """The first of so many in a row; what is too short for that is left unused. None where there are no such."""
        while self._ranges:
            first, there = self._ranges[0]
            if there >= count:
                self._ranges[0] = (first + count, there - count)
                self.left -= count
                return first
            self._ranges.popleft()
            self.left -= there
        return None


def _reserved(db: Connection, counter: str, count: int) -> tuple[int, int]:
    """(first, how many) of new numbers."""
    row = db.one("SELECT reserve($1, $2::bigint)", (counter, count))
    assert row is not None
    return int(row[0]), count
