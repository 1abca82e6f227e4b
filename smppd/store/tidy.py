"""Takes what is over out of the spool for good: what still waits is written anew under a new key, the old keys are destroyed.

What a segment holds shares a key, so what is over can be opened for as long as one neighbour waits, in what the back end has
not overwritten yet, too. Of a store that nobody uses (at the end, at the start, for a purge or a backup) the whole journal is
gone through at once: `compact`. In a running one the relay moves what lives into a new segment, and the `Tidier` does the rest
beside the messages: seals cold rows anew, a few at a time, and destroys the keys that nothing needs any more.

Keys first: a new key is durable before what it seals, and an old one is destroyed when nothing that it sealed is left. So a
kill at any moment costs at most some work that is done again. What of it is a back end's own is a `Spool`.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from smppd.store.api import StoreBusy, StoreError, StoreFull
from smppd.store.pending_keys import PendingKeys
from smppd.vault.keys import KeyRing

ASKED: Final = "tidy asked"
DONE: Final = "tidy done"
"""Names of numbers that a store remembers: what somebody outside asked the daemon for, and what it has done of it."""
EVERY: Final = 3600.0
"""Seconds after which the daemon does it unasked."""
FEW: Final = 20_000
"""Cold rows that are sealed anew while the store is being closed or opened: a third of a second in the embedded one. More wait
for the next hour, a purge or a backup."""

_BLOCK: Final = 1 << 20
_SOME: Final = 64  # cold rows at a time beside the messages: a millisecond
_MANY: Final = 1000
_REST: Final = 0.02
_LOOK: Final = 1.0
_SHREDDED: Final = 1000  # segments that are looked at with each new one
_ALL: Final = 1 << 31  # above every segment, and more than there are

After = TypeVar("After")
Sealed = tuple[int, int, bytes]
"""A block of the journal: segment, counter, sealed."""
Place = tuple[int, int]
"""Of a block: segment, counter."""


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
    """entries: how many were taken out of the journal; rows: cold rows that were sealed anew; keys: how many were destroyed;
    unreadable: blocks that do not open and stay as they are; complete: False where there was no space or somebody in the way,
    so that some of it is still to be done."""

    entries: int = 0
    rows: int = 0
    keys: int = 0
    unreadable: int = 0
    complete: bool = True


class Spool(Protocol[After]):
    """What both sides work on. ``until_next``: what `reseal` raises in a running store where the rest waits for the next time;
    what else it raises is the affair of the thread that does it. Methods raise StoreError; StoreFull and StoreBusy where it may
    succeed later."""

    until_next: tuple[type[StoreError], ...]

    @property
    def keys(self) -> PendingKeys:
        """The keys, with those that are to be added and destroyed."""

    @property
    def ring(self) -> KeyRing:
        """Over them."""

    def store_keys(self, new: list[tuple[bytes, bytes]], gone: list[bytes]) -> None:
        """Adds (scope, wrapped) and destroys scopes, durable when it returns."""

    def blocks(self, below: int = ...) -> Iterator[Sealed]:
        """The journal in the order of commitment, of segments below this one; in short reads."""

    def open(self, block: Sealed) -> bytes:
        """A block's entries. Raises what the ring and the cipher raise where it does not open."""

    def spread(self) -> bool:
        """Whether the journal is to be rewritten though nothing in it is over."""

    def rewrite(self, entries: Entries, unreadable: frozenset[Place]) -> None:
        """Puts what `kept` gives, and blocks that do not open as they are, in the place of all that the journal had."""

    def cold(self) -> int:
        """How many cold rows there are."""

    def reseal(self, segment: int, after: After | None, limit: int) -> After | None:
        """Seals up to ``limit`` cold rows of earlier segments under this one, in a transaction of its own; where to go on, None
        at the end. Where it raises nothing has changed."""

    def segments(self, after: int, below: int, used: Sequence[int], most: int) -> list[tuple[int, bool]]:
        """Of the segments between two numbers that have a key and are not in use, the first so many: their numbers, rising, and
        whether nothing is sealed under their keys."""

    def clean(self) -> bool:
        """Takes destroyed keys out of what the back end keeps beside its rows; False where somebody was reading."""


def commit_keys(spool: Spool[After]) -> None:
    """Makes new keys durable, and destroys those that are to go. Where it fails they are still to be."""
    new, gone = spool.keys.take()
    try:
        spool.store_keys(new, gone)
    except BaseException:
        spool.keys.again(new, gone)
        raise


# -- a store that nobody uses ------------------------------------------------------------------------------------------


def compact(spool: Spool[After], entries: Entries, most: int | None = None) -> Compacted:
    """Rewrites the journal without what is over, and the cold rows (if there are at most `most`) under a new key; destroys
    every key that nothing needs. Nothing else may write. Raises StoreError where it may not succeed later."""
    unreadable = _look(spool, entries)
    dead, rows, keys = 0, 0, 0
    try:
        dead = entries.dead
        if dead or spool.spread():
            spool.rewrite(entries, unreadable)
        cold = spool.cold()
        if cold and (most is None or cold <= most):
            rows = cold
            segment = spool.ring.new_segment()
            commit_keys(spool)
            following = spool.reseal(segment, None, _MANY)
            while following is not None:
                following = spool.reseal(segment, following, _MANY)
        keys = _shred_all(spool)
        complete = spool.clean() and rows == cold
    except (StoreFull, StoreBusy):
        complete = False
    return Compacted(dead, rows, keys, len(unreadable), complete)


def _look(spool: Spool[After], entries: Entries) -> frozenset[Place]:
    """Looks at all blocks; those that do not open or are broken. These stay, and so do their keys: what to do about them is for
    the replay to say."""
    unreadable = set()
    for block in spool.blocks():
        try:
            entries.look(spool.open(block))
        except Exception:  # noqa: BLE001  whatever is wrong with a block is wrong with that block alone
            unreadable.add(block[:2])
    if unreadable:
        entries.doubt()
    return frozenset(unreadable)


def kept(
    blocks: Iterable[Sealed], opened: Callable[[Sealed], bytes], entries: Entries, unreadable: frozenset[Place]
) -> Iterator[bytes]:
    """What is left of the journal, in large blocks; without those that do not open. Of what it reads it holds no more than one
    large block."""
    some: list[bytes] = []
    size = 0
    for block in blocks:
        if block[:2] in unreadable:
            continue
        left = entries.keep(opened(block))
        if left:
            some.append(left)
            size += len(left)
        if size >= _BLOCK:
            yield b"".join(some)
            some.clear()
            size = 0
    if some:
        yield b"".join(some)


def _shred_all(spool: Spool[After]) -> int:
    """Destroys the keys of all segments that no row needs; how many."""
    needless = [segment for segment, free in spool.segments(0, _ALL, (), _ALL) if free]
    for segment in needless:
        spool.ring.drop_segment(segment)
    if needless or spool.keys.going:  # that could not be destroyed an earlier time
        commit_keys(spool)
    return len(needless)


# -- a running store ---------------------------------------------------------------------------------------------------


class Tidier(Generic[After]):
    """Seals cold rows anew and destroys needless keys while messages go on. On the reactor thread, but for what is given to
    the writer. ``cold``: the segment that cold rows are sealed under, which the journal never uses; ``stained``: whether a
    cold row of it may be over. ``aside``: the one of damaged items, 0 where this run has had none."""

    def __init__(
        self,
        spool: Spool[After],
        give: Callable[[Callable[[], None]], object],
        notify: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], object],
        commit: Callable[[Callable[[], None]], None],
    ) -> None:
        """give(job): runs a job on the writer's thread, in some back ends more than once. notify, later: as for the store.
        commit(function): commits the current batch, and what is new in ``PendingKeys`` with it, then calls the function."""
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
        """current(): the journal's segment. then(complete): called when nothing that was over can be opened any more, or with
        False when there was no space for it."""
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

        def next_time() -> None:
            self.stained = True
            then(False)

        def job() -> None:
            try:
                following = self._spool.reseal(segment, after, _SOME)
            except self._spool.until_next:
                self._notify(next_time)
                return
            self._notify(lambda: go_on(following))

        self._give(job)

    def _clean(self, then: Callable[[bool], None]) -> None:
        def job() -> None:
            complete = True
            try:
                self._spool.clean()  # where somebody is reading, the next key that goes takes it along
            except (StoreBusy, StoreFull):
                complete = False
            self._notify(lambda: then(complete))

        self._give(job)

    def shred(self, current: int, then: Callable[[], None] | None = None) -> None:
        """Destroys the keys of segments below ``current`` that nothing stored uses any more; then(): when they are gone. A
        carrier that brings no receipts for days leaves many segments with a few rows each: some are looked at each time, in
        turn, all where somebody waits for it."""
        used = (self.cold, self.aside)
        self._give(lambda: self._shred(current, used, then))

    def _shred(self, current: int, used: Sequence[int], then: Callable[[], None] | None) -> None:
        """On the writer's thread, behind every batch sealed under an earlier segment: nothing is added to those again. The rows
        are gone for good before the key is, so no crash leaves a row that does not open; keys go with the next batch."""
        if then is None:
            looked = self._spool.segments(self._shredded, current, used, _SHREDDED)
            self._shredded = looked[-1][0] if len(looked) == _SHREDDED else 0
        else:
            looked = self._spool.segments(0, current, used, _ALL)
        for segment, free in looked:
            if free:
                self._spool.ring.drop_segment(segment)
        if then is not None:
            gone = then
            self._notify(lambda: self._commit(gone))


# -- asking a running daemon -------------------------------------------------------------------------------------------


def ask(put: Callable[[int], object], done: Callable[[int], bool], seconds: float) -> bool:
    """Asks who uses the store to tidy, and waits so long; whether it has. put(token): writes the request as `ASKED`;
    done(token): whether it stands as `DONE` everywhere."""
    token = secrets.randbits(60) | 1
    put(token)
    deadline, wait = monotonic() + seconds, threading.Event()
    while not done(token):
        if monotonic() > deadline:
            return False
        wait.wait(0.05)
    return True


class Requests(Protocol):
    """Where requests stand, on a connection of its own."""

    def number(self, name: str) -> int:
        """`ASKED` or `DONE`; 0 for none. Raises StoreError."""

    def close(self) -> None:
        """Lets it go."""


class TidyThread(threading.Thread):
    """Looks once a second whether somebody asks for it, and calls ``wanted(token)`` in this thread; with 0 once an hour."""

    def __init__(
        self,
        connect: Callable[[], Requests],
        stop: threading.Event,
        wanted: Callable[[int], object],
        failed: Callable[[str], object],
        every: float = EVERY,
    ) -> None:
        """connect(): makes the connection, in the thread; StoreError. stop: set it, then join. failed(reason): told what is
        wrong; it goes on after a minute, on a new connection."""
        super().__init__(name="tidy", daemon=True)
        self._connect = connect
        self._stop_event = stop
        self._wanted = wanted
        self._failed = failed
        self._every = every

    def run(self) -> None:
        """The thread's loop."""
        due = monotonic() + self._every
        requests: Requests | None = None
        seen = 0
        while not self._stop_event.is_set():
            pause = _LOOK
            try:
                requests = requests or self._connect()
                asked = requests.number(ASKED)
                if asked not in (seen, requests.number(DONE)):
                    seen = asked
                    self._wanted(asked)
                elif monotonic() > due:
                    due = monotonic() + self._every
                    self._wanted(0)
            except StoreError as error:
                self._failed(str(error))
                pause = 60 * _LOOK
                if requests is not None:
                    requests.close()
                    requests = None
            self._stop_event.wait(pause)
        if requests is not None:
            requests.close()
