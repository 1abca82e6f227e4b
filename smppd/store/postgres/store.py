"""The store on PostgreSQL, as one node has it: a committer on the reactor thread and one writer thread
(`store.api.Store`)."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic, time
from typing import Final

from smppd.store.api import Availability, OptOut, StoreError, StoreFull
from smppd.store.chain_writer import ChainWriter
from smppd.store.committer import End, Ending, Timer
from smppd.store.postgres.batches import Work
from smppd.store.postgres.binary import clean
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.keys import NodeKeys
from smppd.store.postgres.rows import ColdRows, DamagedRows
from smppd.store.postgres.seals import PostgresSeals
from smppd.store.postgres.session import Session
from smppd.store.postgres.startup import StartUp
from smppd.store.postgres.tidy import NodeSpool
from smppd.store.postgres.writer import Writer
from smppd.store.seals import Seals
from smppd.store.segmented import Commit, SegmentedStore
from smppd.store.tidy import FEW, Compacted, Entries, compact
from smppd.vault.chain import ChainKeys, SealKind
from smppd.vault.keys import KeyRing, period_scope, read_scope

SUPPLY: Final = 20_000
"""Numbers of a counter that are kept ready at least: they were asked of the server before anybody needs them."""
_ROWS: Final = 2000


class PostgresStore(SegmentedStore):
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
        later: Callable[[float, Callable[[], None]], Timer | None],
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
        super().__init__(notify=notify, later=later, soon=soon, wall=wall, now=now)
        self._audit_head = audit_head
        self._session = Session(server, node, clean(name or socket.gethostname()), advice)
        try:
            self.keys: NodeKeys = NodeKeys(self._session.db, node)
        except BaseException:
            self._session.leave()
            raise
        self._supplies: dict[str, _Supply] = {}
        self._writer = Writer(self._session, lambda reason: notify(lambda: self.fail(reason)))

    @property
    def node(self) -> int:
        """Whose ids, log and journal these are."""
        return self._session.node

    @property
    def epoch(self) -> int:
        """Of this run: who begins in the node's place, or takes over what it held, raises it."""
        return self._session.epoch

    def use(self, ring: KeyRing) -> None:
        """The keys to open and seal the spool with; before the replay."""
        self._ring = ring
        self._aside: DamagedRows = DamagedRows(self._session, lambda owner: self.lifetime(owner), self._wall)
        self._start_up = StartUp(self._session, ring, self._aside, lambda *told: self.on_start_damage(*told))
        self._cold: ColdRows = ColdRows(
            self._session, ring, self.keys, self._aside, lambda *told: self._notify(lambda: self.on_damage(*told))
        )

    def _spool(self) -> NodeSpool:
        return NodeSpool(self._session, self.keys, self._ring, self._cold, self._start_up)

    def compact(self, entries: Entries, most: int | None = FEW) -> Compacted:
        """See ``tidy.compact``. After ``use``, before ``open`` or at the end. Raises ``StoreError``."""
        return compact(self._spool(), entries, most)

    def _end_of_log(self) -> tuple[bytes, int]:
        return self._start_up.end_of_log()

    def _seals(self, keys: ChainKeys) -> Seals:
        return Seals(keys, PostgresSeals(self._session, self._writer.store_seal, self._audit_head), self._wall)

    def _destroy(self, then: Callable[[bool], None]) -> None:
        self._tidier.stained = True  # of what was put under this node's keys others may have dropped some
        super()._destroy(then)

    def _start_writer(self, chain: ChainWriter) -> None:
        self._writer.start(self._ring, chain)

    # -- the writer ----------------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the writer runs."""
        return self._writer.alive

    def _give(self, job: Callable[[], None]) -> None:
        self._writer.give(lambda _db: job())

    def _give_seal(self) -> None:
        self._writer.seal_alone(SealKind.RUNNING)

    def _hand_over(self, commit: Commit, ended: Callable[[End], None]) -> None:
        work = Work(*commit)

        def over(end: End) -> None:
            if end.how is Ending.FULL or end.how is Ending.AWAY:
                self.keys.again(commit.keys, commit.gone)
                if work.winners:
                    self._adopt(work.winners)
            ended(end)

        def told(end: End) -> None:
            if end.how is Ending.STORED and commit.batch.damaged:
                with suppress(StoreError):  # as of the next look, then
                    self._aside.recount()
            self._notify(lambda: over(end))

        self._writer.commit(work, told)
        if commit.batch.handed:
            self._give_up_rest(list(dict.fromkeys(commit.batch.handed)))

    def _give_up_rest(self, handed: list[tuple[int, str]]) -> None:
        """Gives up what was more than a commit may, in steps between those that come. Where the batch was refused, that does
        no harm: it is to be given up anyway."""

        def job(_db: Connection) -> None:
            if not self._cold.give_up_rest(handed):
                self._notify(lambda: self._give_up_rest(handed))

        self._writer.give(job)

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

    @property
    def unfiled(self) -> int:
        """See ``api.Store``: a commit is all in its place."""
        return 0

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
                try:
                    first, got = _reserved(db, counter, more)
                except StoreFull:
                    first, got = 0, 0  # the next one that takes some asks again
                self._notify(lambda: supply.add(first, got))

            self._writer.give(job)
        return first

    # -- start-up ------------------------------------------------------------------------------------------------------

    def _replay(self) -> Iterator[tuple[int, bytes]]:
        """See ``api.Spool``."""
        return self._start_up.replay()

    def counts(self) -> dict[tuple[int, str], int]:
        """See ``api.Spool``."""
        return self._start_up.counts()

    def highest_id(self) -> int:
        """See ``api.Spool``. Of this node: ids of others have another number in them."""
        return self._start_up.highest_id()

    def _opt_outs(self) -> Iterator[OptOut]:
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
