"""Takes what is over out of a node's spool for good: what still waits is written anew under a new key, the old keys are
destroyed.

As in the embedded store (`store.sqlite.tidy`): of a store that nobody uses the whole journal is gone through at once
(`compact`); in a running one the relay moves what lives into a new segment, and the `Tidier` seals cold rows anew, a few at
a time, and destroys the keys that nothing needs any more. A key that was destroyed is a dead row of the server until VACUUM
has been by, which is asked for here; how the octets leave the server's files is docs/data-protection.md's.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final, NamedTuple, Protocol

from smppd.store.api import StoreBusy, StoreError, StoreFull
from smppd.store.postgres.batches import SPOOL
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.keys import NodeKeys
from smppd.store.postgres.rows import After, ColdRows
from smppd.store.postgres.session import Session, nodes_in_use
from smppd.store.postgres.startup import StartUp
from smppd.vault.blocks import SegmentSealer
from smppd.vault.keys import KeyRing, segment_scope

ASKED: Final = "tidy asked"
DONE: Final = "tidy done"
"""Names in `meta`: what somebody outside asked the daemon for, and what it has done of it."""
EVERY: Final = 3600.0
"""Seconds after which the daemon does it unasked."""
FEW: Final = 20_000
"""Cold rows that are sealed anew while the store is being closed or opened. More wait for the next hour or a purge."""

_BLOCK: Final = 1 << 20
_SOME: Final = 64  # cold rows at a time beside the messages
_MANY: Final = 1000
_REST: Final = 0.02
_LOOK: Final = 1.0
_SHREDDED: Final = 1000  # segments that are looked at with each new one
_PUT_KEYS: Final = "SELECT put_keys($1, $2::bytea[], $3::bytea[], $4::bytea[])"
# Of this node's segments, in order, the next so many: their numbers, and whether nothing is sealed under their keys.
_SEGMENTS: Final = (
    "SELECT ours.segment, NOT (EXISTS (SELECT 1 FROM journal WHERE node = $1 AND journal.segment = ours.segment)"
    " OR EXISTS (SELECT 1 FROM cold WHERE cold.segment = ours.segment)"
    " OR EXISTS (SELECT 1 FROM damaged WHERE damaged.segment = ours.segment))"
    " FROM (SELECT convert_from(substr(scope, 9), 'UTF8')::int AS segment FROM keys"
    " WHERE node = $1 AND scope >= 'segment/' AND scope < 'segment0') AS ours"
    " WHERE ours.segment > $2 AND ours.segment < $3 AND ours.segment <> ALL ($4::int[])"
    " ORDER BY ours.segment LIMIT $5"
)


class Entries(Protocol):
    """The grammar of the journal, as far as it says what is over (`relay.ledger.journal.LivingEntries`)."""

    @property
    def dead(self) -> int:
        """How many of the entries that were looked at are over."""

    def look(self, block: bytes) -> None:
        """One block, in order. Raises ValueError."""

    def doubt(self) -> None:
        """Some blocks could not be looked at."""

    def keep(self, block: bytes) -> bytes:
        """What is left of a block; in the same order, after all were looked at."""


class Compacted(NamedTuple):
    """entries: how many were taken out of the journal; rows: cold rows that were sealed anew; keys: how many were
    destroyed; unreadable: blocks that do not open and stay as they are; complete: False where there was no space, or
    somebody in the way, so that some of it is still to be done."""

    entries: int = 0
    rows: int = 0
    keys: int = 0
    unreadable: int = 0
    complete: bool = True


class Spool(NamedTuple):
    """What both sides work on."""

    session: Session
    keys: NodeKeys
    ring: KeyRing
    cold: ColdRows
    start_up: StartUp


# -- a store that nobody uses ------------------------------------------------------------------------------------------


def compact(spool: Spool, entries: Entries, most: int | None = None) -> Compacted:
    """Rewrites the journal without what is over, and the cold rows (if there are at most `most`) under a new key; destroys
    every key that nothing needs. Nothing else may write in the node's place. Raises StoreError where it is not for want of
    space."""
    unreadable = _look(spool, entries)
    dead, rows, keys = 0, 0, 0
    db = spool.session.db
    try:
        if entries.dead:
            dead = entries.dead
            _rewrite(spool, entries, unreadable)
        cold = sum(spool.start_up.counts().values())
        if cold and (most is None or cold <= most):
            rows = cold
            segment = spool.ring.new_segment()
            _commit_keys(spool)
            following = spool.cold.reseal(db, segment, None, _MANY)
            while following is not None:
                following = spool.cold.reseal(db, segment, following, _MANY)
        keys = _shred_all(spool)
        db.run("VACUUM keys")
        complete = rows == cold
    except (StoreFull, StoreBusy):
        complete = False
    return Compacted(dead, rows, keys, len(unreadable), complete)


def _look(spool: Spool, entries: Entries) -> frozenset[tuple[int, int]]:
    """Looks at all blocks; those that do not open or are broken, by segment and counter. These stay, and so do their keys:
    what to do about them is for the replay to say."""
    unreadable = set()
    for segment, counter, sealed in spool.start_up.blocks():
        try:
            entries.look(spool.start_up.open(segment, counter, sealed))
        except Exception:  # noqa: BLE001  whatever is wrong with a block is wrong with that block alone
            unreadable.add((segment, counter))
    if unreadable:
        entries.doubt()
    return frozenset(unreadable)


def _rewrite(spool: Spool, entries: Entries, unreadable: frozenset[tuple[int, int]]) -> None:
    sealer = SegmentSealer(spool.ring)
    _commit_keys(spool)
    node = spool.session.node
    with spool.session.writing() as db:
        for block in _kept(spool, entries, unreadable):
            counter, sealed = sealer.seal(SPOOL, block)
            db.run("INSERT INTO journal VALUES ($1, $2, $3, $4)", (node, sealer.segment, counter, sealed))
        db.run(
            "DELETE FROM journal WHERE node = $1 AND segment < $2 AND (segment, counter) NOT IN"
            " (SELECT * FROM unnest($3::int[], $4::bigint[]))",
            (node, sealer.segment, [one for one, _ in unreadable], [counter for _, counter in unreadable]),
        )


def _kept(spool: Spool, entries: Entries, unreadable: frozenset[tuple[int, int]]) -> Iterator[bytes]:
    """What is left of the journal, in large blocks."""
    kept: list[bytes] = []
    size = 0
    for segment, counter, sealed in list(spool.start_up.blocks()):
        if (segment, counter) in unreadable:
            continue
        block = entries.keep(spool.start_up.open(segment, counter, sealed))
        if block:
            kept.append(block)
            size += len(block)
        if size >= _BLOCK:
            yield b"".join(kept)
            kept.clear()
            size = 0
    if kept:
        yield b"".join(kept)


def _commit_keys(spool: Spool) -> None:
    """Makes new keys durable, and destroys those that are to go."""
    new, gone = spool.keys.take()
    with spool.session.writing() as db:
        db.one(
            _PUT_KEYS,
            (spool.session.node, [scope for scope, _ in new] or None, [wrapped for _, wrapped in new] or None, gone),
        )


def _shred_all(spool: Spool) -> int:
    """Destroys the keys of all segments that no row needs; how many."""
    needless = [number for number, free in _segments(spool, spool.session.db, 0, 1 << 31, (), 1 << 31) if free]
    for segment in needless:
        spool.ring.drop_segment(segment)
    if needless:
        _commit_keys(spool)
    return len(needless)


def _segments(
    spool: Spool, db: Connection, after: int, below: int, used: tuple[int, ...], most: int
) -> list[tuple[int, bool]]:
    rows = db.all(_SEGMENTS, (spool.session.node, after, min(below, (1 << 31) - 1), list(used), most))
    # One that is to be destroyed with a later batch is there still.
    return [(int(number), bool(free)) for number, free in rows if spool.keys.get(segment_scope(number)) is not None]


# -- a running store ---------------------------------------------------------------------------------------------------


class Tidier:
    """Seals cold rows anew and destroys needless keys while messages go on. On the reactor thread, but for what is given to
    the writer. ``cold``: the segment that cold rows are sealed under, which the journal never uses; ``stained``: whether a
    cold row of it may be over. ``aside``: the one of damaged items, 0 where this run has had none."""

    def __init__(
        self,
        spool: Spool,
        give: Callable[[Callable[[Connection], None]], object],
        notify: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], object],
        commit: Callable[[Callable[[], None]], None],
    ) -> None:
        """give(job): runs a job on the writer's thread, more than once where the connection breaks. notify, later: as for
        the store. commit(function): commits the current batch, and what is new in `NodeKeys` with it, then calls the
        function."""
        self._spool = spool
        self._give = give
        self._notify = notify
        self._later = later
        self._commit = commit
        self._shredded = 0
        self.cold = spool.ring.new_segment()
        self.stained = True
        self.aside = 0

    def tidy(self, current: Callable[[], int], then: Callable[[bool], None]) -> None:
        """current(): the journal's segment. then(complete): called when nothing that was over can be opened any more, or
        with False when there was no space for it."""
        if not self.stained:
            self.shred(current(), lambda: self._clean(then))
            return
        self.stained = False
        self.cold = segment = self._spool.ring.new_segment()
        # Behind all batches that seal rows under the one before.
        self._commit(lambda: self._reseal(segment, None, current, then))

    def _reseal(
        self, segment: int, after: After | None, current: Callable[[], int], then: Callable[[bool], None]
    ) -> None:
        def go_on(following: After | None) -> None:
            if following is None:
                self.shred(current(), lambda: self._clean(then))
            else:
                self._later(_REST, lambda: self._reseal(segment, following, current, then))

        def no_space() -> None:
            self.stained = True
            then(False)

        def job(db: Connection) -> None:
            try:
                following = self._spool.cold.reseal(db, segment, after, _SOME)
            except StoreFull:
                self._notify(no_space)
                return
            self._notify(lambda: go_on(following))

        self._give(job)

    def _clean(self, then: Callable[[bool], None]) -> None:
        def job(db: Connection) -> None:
            try:
                db.run("VACUUM keys")
            except (StoreBusy, StoreFull):
                self._notify(lambda: then(False))
                return
            self._notify(lambda: then(True))

        self._give(job)

    def shred(self, current: int, then: Callable[[], None] | None = None) -> None:
        """Destroys the keys of segments below ``current`` that nothing stored uses any more; then(): when they are gone.
        Some are looked at each time, in turn, all where somebody waits for it."""
        used = (self.cold, self.aside)
        self._give(lambda db: self._shred(db, current, used, then))

    def _shred(self, db: Connection, current: int, used: tuple[int, ...], then: Callable[[], None] | None) -> None:
        """On the writer's thread, behind every batch sealed under an earlier segment: nothing is added to those again. The
        rows are gone for good before the key is, so no crash leaves a row that does not open; keys go with the next
        batch."""
        if then is None:
            looked = _segments(self._spool, db, self._shredded, current, used, _SHREDDED)
            self._shredded = looked[-1][0] if len(looked) == _SHREDDED else 0
        else:
            looked = _segments(self._spool, db, 0, current, used, 1 << 31)
        for segment, free in looked:
            if free:
                self._spool.ring.drop_segment(segment)
        if then is not None:
            gone = then
            self._notify(lambda: self._commit(gone))


# -- asking a running daemon -------------------------------------------------------------------------------------------


def ask(server: Server, seconds: float) -> bool:
    """Asks the daemons that use the store to tidy, and waits for them; whether all have. Raises StoreError."""
    db = Connection(server)
    try:
        nodes = nodes_in_use(db)
        token = secrets.randbits(60) | 1
        db.run(
            "INSERT INTO meta SELECT node, $2, $3 FROM unnest($1::int[]) AS node"
            " ON CONFLICT (node, name) DO UPDATE SET value = excluded.value",
            (nodes, ASKED, token),
        )
        deadline, wait = monotonic() + seconds, threading.Event()
        while any(_meta(db, node, DONE) != token for node in nodes):
            if monotonic() > deadline:
                return False
            wait.wait(0.05)
        return True
    finally:
        db.close()


def _meta(db: Connection, node: int, name: str) -> int:
    row = db.one("SELECT value FROM meta WHERE node = $1 AND name = $2", (node, name))
    return 0 if row is None else int(row[0])


class TidyThread(threading.Thread):
    """Looks once a second whether somebody asks for it, and calls ``wanted(token)`` in this thread; with 0 once an hour."""

    def __init__(
        self,
        server: Server,
        node: int,
        stop: threading.Event,
        wanted: Callable[[int], object],
        failed: Callable[[str], object],
        every: float = EVERY,
    ) -> None:
        """stop: set it, then join. failed(reason): told what is wrong; it goes on after a minute."""
        super().__init__(name="tidy", daemon=True)
        self._server = server
        self._node = node
        self._stop_event = stop
        self._wanted = wanted
        self._failed = failed
        self._every = every

    def run(self) -> None:
        """The thread's loop."""
        due = monotonic() + self._every
        db: Connection | None = None
        seen = 0
        while not self._stop_event.is_set():
            pause = _LOOK
            try:
                db = db or Connection(self._server, read_only=True)
                asked = _meta(db, self._node, ASKED)
                if asked not in (seen, _meta(db, self._node, DONE)):
                    seen = asked
                    self._wanted(asked)
                elif monotonic() > due:
                    due = monotonic() + self._every
                    self._wanted(0)
            except StoreError as error:
                self._failed(str(error))
                pause = 60 * _LOOK
                if db is not None:
                    db.close()
                    db = None
            self._stop_event.wait(pause)
        if db is not None:
            db.close()
