"""When a batch is committed, whatever it is stored in: who waits decides, what nobody waits for goes along (docs/adr/0007).

One batch is with the back end at a time, what arrives meanwhile is the next one. On the reactor thread; a back end has threads
or connections of its own and says there how the batch ended.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from time import monotonic
from typing import Final, NamedTuple, Protocol

from smppd.store.api import Availability, Batch, Sink

GATHER: Final = 0.003
"""Seconds for which what nobody is kept waiting by may wait for a commit that comes anyway."""
OFTEN: Final = 0.01
"""Seconds between two commits that somebody waited for, up to which another one is expected."""
_SOON: Final = 0.0005  # less than this is not worth another timer
_KEPT: Final = ("marks", "events", "moves", "handed", "drop", "segments", "released", "meta", "damaged", "then")


class Ending(Enum):
    """How a batch ended. STORED: it is on stable storage. FULL, AWAY: nothing of it is stored and never will be. BROKEN: nobody
    can say what is stored."""

    STORED = auto()
    FULL = auto()
    AWAY = auto()
    BROKEN = auto()


class End(NamedTuple):
    """How a batch ended, and why where it is not stored."""

    how: Ending
    reason: str = ""


STORED: Final = End(Ending.STORED)
_STATES: Final = {Ending.FULL: Availability.FULL, Ending.AWAY: Availability.AWAY}


class BackEnd(Protocol):
    """What stores batches."""

    @property
    def pending(self) -> bool:
        """Whether there is something of its own to write, beside any batch."""

    def commit(self, batch: Batch, ended: Callable[[End], None]) -> None:
        """Stores the batch as one, then ``ended`` once, on the reactor thread. The batch is the back end's until then, and no
        other is given to it. A lock that somebody else holds is waited for; a back end that cannot say whether the batch is
        stored asks until it knows, or ends it as BROKEN."""

    def look(self) -> Availability:
        """Whether it can be written to, as far as it can be seen without writing."""


class Timer(Protocol):
    """A function that will run after a time."""

    def cancel(self) -> None:
        """Calls it off."""


class Committer:
    """See the module. ``batch``, ``takes`` and ``availability`` are what ``api.Store`` says of them; plain attributes, since
    they are asked for several times a message. ``commits``: how many batches were stored."""

    def __init__(
        self,
        back_end: BackEnd,
        *,
        later: Callable[[float, Callable[[], None]], Timer | None],
        soon: Callable[[Callable[[], None]], object],
        timed: Callable[[float, int], object] = lambda _seconds, _records: None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """later(seconds, function): runs a function on the reactor thread after a time, and gives what calls that off, None
        where nothing can. soon(function): runs it at the end of this turn.
        timed(seconds, records): told of each batch that was stored, just before the sink is. now: monotonic seconds."""
        self._back_end = back_end
        self._later = later
        self._soon = soon
        self._timed = timed
        self._now = now
        self._sink: Sink | None = None
        self._writing = self._scheduled = self._urgent = self._gathering = self._broken = False
        self._timer: Timer | None = None
        self._kicked = -GATHER
        self._waited = -OFTEN  # when a commit that somebody waited for was begun,
        self._apart = OFTEN  # how long after the one before it,
        self._nudged: float | None = None  # since when what nobody waits for is in the batch,
        self._overtaken = False  # and whether what the timer was set for has gone with another commit
        self._began = 0.0
        self.availability = Availability.OK
        self.takes = True
        self.batch = Batch()
        self.commits = 0

    def begin(self, sink: Sink) -> None:
        """Who hears how batches end. Before the first commit."""
        self._sink = sink

    def fail(self, reason: str) -> None:
        """Nothing may be acknowledged any more, nor committed: another try might find nothing wrong, and nothing of what was
        lost either. The back end says so of a batch, or of itself."""
        assert self._sink is not None
        self._broken = True
        self._sink.store_broken(reason)

    @property
    def busy(self) -> bool:
        """Whether something is not durable yet."""
        return self._writing or bool(self.batch)

    def kick(self) -> None:
        """Commits ``batch`` at the end of this turn, or as soon as the back end is free."""
        self._kicked = self._now()
        self._urgent = True
        self._schedule()

    def nudge(self) -> None:
        """Commits ``batch`` soon. Where commits are asked for all the time it goes with the next one, 3 ms from now at the
        latest: at 500 messages a second that is one commit a message instead of three. At 50 a second none would come in
        time."""
        if self._writing or self._scheduled:
            return
        now = self._now()
        if self._nudged is None:
            self._nudged = now
        if self._gathering:
            return
        if self._apart >= OFTEN or now - self._kicked > GATHER:
            self._schedule()
        else:
            self._gather(GATHER)

    def watch(self) -> None:
        """Called about once a second: looks at the back end, and tries again what it refused."""
        seen = self._back_end.look()
        if seen is not Availability.OK:
            self._is(seen)
        elif not self.takes and not self._writing:
            if not self.batch:
                self._is(seen)  # nothing was refused: until a commit says something else
            self._flush()

    def _is(self, state: Availability) -> None:
        self.availability = state
        self.takes = state is Availability.OK

    def _gathered(self) -> None:
        self._gathering, self._timer = False, None
        if self._nudged is None:
            return  # nothing has come since
        left = self._nudged + GATHER - self._now() if self._overtaken else 0.0
        if left > _SOON:
            self._gather(left)
        else:
            self._schedule()

    def _gather(self, seconds: float) -> None:
        self._gathering, self._overtaken = True, False
        self._timer = self._later(seconds, self._gathered)

    def _schedule(self) -> None:
        if not self._writing and not self._scheduled:
            self._scheduled = True
            self._soon(self._flush)

    def _go_on(self) -> None:
        """The next commit follows this one, with what the sockets have by now: at full load the batches are twice as large
        for it, and where nothing has come it costs one look."""
        if not self._writing and not self._scheduled:
            self._scheduled = True
            self._soon(self._next)

    def _next(self) -> None:
        self._soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._writing or self._broken or not (self.batch or self._back_end.pending):
            return
        self._began = self._now()
        if self._urgent:
            self._apart, self._waited = self._began - self._waited, self._began
        self._urgent = False
        self._nudged, self._overtaken = None, True
        if self._timer is not None:
            # At 500 messages a second nearly all are overtaken, and each that ran would wake the reactor for nothing.
            self._timer.cancel()
            self._gathering, self._timer = False, None
        batch, self.batch = self.batch, Batch()
        self._writing = True
        self._back_end.commit(batch, lambda end: self._ended(batch, end))

    def _ended(self, batch: Batch, end: End) -> None:
        assert self._sink is not None
        self._writing = False
        if end.how is Ending.BROKEN:
            self.fail(end.reason)
        elif end.how is Ending.STORED:
            # That a small batch found room does not mean that the reserve is free again.
            if not self.takes and batch:
                self._is(self._back_end.look())
            self.commits += 1
            self._timed(self._now() - self._began, len(batch.records))
            self._sink.batch_committed(batch)
            if self.batch:
                if self._urgent:
                    self._go_on()
                else:
                    self.nudge()
        else:
            self._is(_STATES[end.how])
            carry_over(batch, self.batch)
            self._sink.batch_refused(batch, end.reason)


def carry_over(refused: Batch, following: Batch) -> None:
    """What has happened already is not undone because there was no room to write it down: it stands in front of the next
    batch. The rest is lost with the batch, and answered."""
    for name in _KEPT:
        getattr(following, name)[:0] = getattr(refused, name)
    if refused.recorded:
        # What is told of a record that was lost with the batch would be told of nothing.
        lost = {identity.to_bytes(8, "big") for identity in refused.recorded}
        following.events[: len(refused.events)] = [event for event in refused.events if event[:8] not in lost]
