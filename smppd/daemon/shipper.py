"""Ships the audit trail and the log's seals to the configured targets, a thread for each, and counts who acted without a login.

Each target follows audit.db and data.db by its own place, which is kept in a file and moved on after the target took
something. So a line may come twice, and none is missing, however the daemon ended. A target that is away keeps its place: what
it lacks lies in the store anyway.
"""

from __future__ import annotations

import logging
import os
import platform
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from random import Random
from typing import Final, NamedTuple, Protocol

from smppd.audit.shipfile import FileTarget
from smppd.audit.shipping import Cursor, Found, Line, Mark, Place, SealReader, ShippingError, Source, cursor_path
from smppd.audit.shipping import without_login as _without_login
from smppd.audit.syslog import Sender, SyslogTarget
from smppd.audit.trail import AuditTrail
from smppd.config import Shipping, SyslogServer
from smppd.metrics import Metrics
from smppd.net.tls import client_context
from smppd.store.api import StoreError
from smppd.store.installation import AUDIT_FILE, Installation
from smppd.vault.certificate import fingerprint
from smppd.vault.chain import ChainKeys
from smppd.vault.keys import InstallSecrets, VaultError
from smppd.vault.seal import SealError

log = logging.getLogger("smppd.shipping")

LOOK: Final = 1.0
"""Seconds between two looks for what other processes wrote; what the daemon writes goes at once."""
BATCH: Final = 64
"""Lines in one batch,"""
BATCH_OCTETS: Final = 1 << 20
"""or so many octets, about."""
UNSURE: Final = 64
"""A link that is cut may take along what its other end had not read: so many of the last lines are sent again over the next,"""
UNSURE_SECONDS: Final = 10.0
"""and all that were sent within this time,"""
UNSURE_OCTETS: Final = 8 << 20
"""but no more octets, about: the kernel of the other end holds 6 MiB for a program that does not read (tcp_rmem of Linux). So a
link that is cut again and again gets on all the same."""
PAUSE: Final = (1.0, 60.0)
"""The first and the longest pause before a target that failed is tried again."""
FLUSH: Final = 2.0
"""Seconds that the end of the daemon waits for targets."""


class Target(Protocol):
    """Who takes lines. lossy: what it took may be lost with its link."""

    name: str
    lossy: bool

    def send(self, lines: Sequence[Line]) -> None:
        """Takes lines, all of them when it returns. Raises ShippingError."""

    def watch(self) -> None:
        """Called while there is nothing to send. Raises ShippingError where a link was cut."""

    def finish(self) -> bool:
        """Ends in good order; whether all that was sent is there for certain."""

    def close(self) -> None:
        """Ends at once."""


class _Batch(NamedTuple):
    """A batch that may be lost with its link. at: monotonic seconds; octets: about; before: the place before it."""

    at: float
    lines: int
    octets: int
    before: Mark


class Pump:
    """Moves one target on. Without threads and clocks of its own: `step` is called again after as many seconds as it says."""

    def __init__(
        self,
        target: Target,
        cursor: Cursor,
        source: Source,
        seals: Callable[[], AbstractContextManager[SealReader]],
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
        random: Random,
        metrics: Metrics | None,
        from_end: bool = False,
    ) -> None:
        """seals(): opens what reads the seals. now: monotonic seconds; wall: epoch seconds. metrics: None for a target that is
        none of the configuration's. from_end: a target without a place begins with what comes, not with the first entry."""
        self._target = target
        self._cursor = cursor
        self._source = source
        self._seals = seals
        self._now = now
        self._wall = wall
        self._random = random
        self._metrics = metrics
        self._from_end = from_end
        self._place: Place | None = None
        self._at = self._again = Mark()
        """What follows ``_at`` is sent next; what ``_again`` covers may have been sent before."""
        self._recent: deque[_Batch] = deque()
        self._unsaved = False
        self._failed_since: float | None = None
        self._next_try = 0.0
        self._pause = PAUSE[0]
        self._oldest_ms: int | None = None
        self.reason = ""
        """Why nothing can be shipped, empty while it can."""

    @property
    def name(self) -> str:
        """Of the target."""
        return self._target.name

    def behind(self) -> float:
        """Age in seconds of the oldest thing that the target lacks; 0 for nothing. Any thread."""
        oldest, failed = self._oldest_ms, self._failed_since
        if oldest is None:
            # What is there to ship cannot be read.
            return 0.0 if failed is None or self._place is not None else self._now() - failed
        return max(0.0, self._wall() - oldest / 1000)

    def step(self, *, last: bool = False) -> float:
        """Ships a batch, if there is something and the target takes it. Returns for how many seconds there is nothing to do.
        last: the daemon ends."""
        try:
            found = self._look()
        except (VaultError, StoreError, SealError, ShippingError) as error:
            self._fail(str(error))
            return LOOK
        if self._metrics is not None:
            self._metrics.shipping_backlog.labels(self.name).set(found.backlog)
            self._metrics.shipping_oldest.labels(self.name).set(self.behind())
        if self.reason and self._now() < self._next_try and not last:
            return min(LOOK, self._next_try - self._now())
        try:
            if not found.lines:
                self._target.watch()
                self._settle()
                self._well()
                return LOOK
            self._send(found.lines)
        except ShippingError as error:
            self._cut(found.lines if error.begun else [])
            self._fail(str(error))
            return min(LOOK, self._pause)
        self._well()
        return 0.0

    def finish(self, until: float) -> None:
        """Ships what fits until then (monotonic seconds), and ends the target. The rest is sent after the next start."""
        while self._now() < until and not self.reason and self.step(last=True) == 0.0:
            pass
        certain = self._target.finish()
        if certain and self._place is not None and not self.reason:
            self._recent.clear()
            self._move(self._place.sent, self._place.sent)

    def close(self) -> None:
        """Ends the target at once."""
        self._target.close()
        if self._metrics is not None:
            with suppress(KeyError):
                self._metrics.forget_target(self.name)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _look(self) -> Found:
        with self._seals() as seals:
            if self._place is None:
                self._take_up(seals)
            if not self._source.holds(seals, self._at):
                self._go_back(seals)
            found = self._source.after(seals, self._at, BATCH)
        lines: list[Line] = []
        octets = 0
        for line in found.lines:
            octets += _octets(line)
            if lines and octets > BATCH_OCTETS:
                break
            lines.append(line._replace(again=True) if self._again.covers(_one(line)) else line)
        self._oldest_ms = next((line.at_ms for line in lines if not line.again), None)
        again = max(0, self._again.audit - self._at.audit) + max(0, self._again.seal - self._at.seal)
        return Found(lines, max(0, found.backlog - again))

    def _take_up(self, seals: SealReader) -> None:
        """Goes on from where the last run was."""
        place = self._cursor.load()
        if place is None:
            place = Place()
            if self._from_end:
                newest = self._source.newest(seals)
                place = Place(newest, newest)
                self._cursor.save(place)
        self._place = place
        self._at, self._again = place.sure, place.sent

    def _go_back(self, seals: SealReader) -> None:
        """The trail or the log is not the one that was shipped: a backup was restored, or somebody put back an older copy. What
        it has instead is sent from the last place on that it still has, so that the difference is seen there."""
        assert self._place is not None
        log.critical(
            "the trail is not the one that was shipped: it was put back to an older state",
            extra={"fields": {"target": self.name, "entry": self._at.audit, "checkpoint": self._at.seal}},
        )
        if self._metrics is not None:
            self._metrics.shipping_failures.labels(self.name).inc()
        mark = next(one for one in self._place.earlier() if self._source.holds(seals, one))
        marks = tuple(one for one in self._place.marks if one.audit + one.seal <= mark.audit + mark.seal)
        self._place = Place(mark, mark, marks)
        self._at, self._again = mark, Mark()
        self._recent.clear()
        self._unsaved = True

    # -- sending -------------------------------------------------------------------------------------------------------

    def _send(self, lines: list[Line]) -> None:
        if self._unsaved:
            self._save()
        before = self._at
        self._target.send(lines)
        self._at = lines[-1].mark
        if self._metrics is not None:
            self._metrics.shipped.labels(self.name).inc(len(lines))
        assert self._place is not None
        sure = self._at
        if self._target.lossy:
            self._recent.append(_Batch(self._now(), len(lines), sum(map(_octets, lines)), before))
            sure = self._sure()
        self._oldest_ms = None
        self._move(_further(self._at, self._again), sure)

    def _sure(self) -> Mark:
        """Up to where a link that is cut now takes nothing along."""
        recent, now = self._recent, self._now()
        lines, octets = sum(batch.lines for batch in recent), sum(batch.octets for batch in recent)
        while recent:
            first = recent[0]
            old = first.at < now - UNSURE_SECONDS or octets - first.octets >= UNSURE_OCTETS
            if not old or lines - first.lines < UNSURE:
                break
            recent.popleft()
            lines, octets = lines - first.lines, octets - first.octets
        return recent[0].before if recent else self._at

    def _settle(self) -> None:
        """What was sent long enough ago is sure."""
        assert self._place is not None
        if self._unsaved:
            self._save()
        if self._recent:
            sure = self._sure()
            if sure != self._place.sure:
                self._move(self._place.sent, sure)

    def _cut(self, tried: list[Line]) -> None:
        """The target failed: what may be lost with its link is sent again."""
        if self._place is None:
            return
        if self._target.lossy:
            self._again = _further(self._place.sent, tried[-1].mark) if tried else self._place.sent
            self._at = self._place.sure
            self._recent.clear()

    def _move(self, sent: Mark, sure: Mark) -> None:
        assert self._place is not None
        self._place = self._place.moved(sent, sure)
        self._save()

    def _save(self) -> None:
        assert self._place is not None
        self._unsaved = True
        self._cursor.save(self._place)
        self._unsaved = False

    # -- how it goes ---------------------------------------------------------------------------------------------------

    def _fail(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.shipping_failures.labels(self.name).inc()
        if self._failed_since is None:
            self._failed_since = self._now()
            self._pause = PAUSE[0]
            fields = {"target": self.name, "reason": reason}
            log.warning("the trail cannot be shipped, it waits in the store", extra={"fields": fields})
        else:
            self._pause = min(self._pause * 2, PAUSE[1])
        self._next_try = self._now() + self._pause * (0.5 + self._random.random() / 2)
        self.reason = reason

    def _well(self) -> None:
        if self._failed_since is not None:
            seconds = round(self._now() - self._failed_since, 1)
            log.info("the trail is shipped again", extra={"fields": {"target": self.name, "after": seconds}})
        self._failed_since, self.reason = None, ""


def _octets(line: Line) -> int:
    return 600 + (len(line.row.what) if line.row is not None else 0)


def _one(line: Line) -> Mark:
    """The line alone as a place: what covers it covers all before it of its kind."""
    return Mark(audit=line.mark.audit) if line.row is not None else Mark(seal=line.mark.seal)


def _further(one: Mark, other: Mark) -> Mark:
    """The further of both in each kind."""
    audit = one if one.audit >= other.audit else other
    seal = one if one.seal >= other.seal else other
    return Mark(audit.audit, audit.hash, seal.seal, seal.seal_hash)


class NoSeals:
    """For a target that asks for the audit trail alone. The log need not be opened for it, and its place is not moved on with
    each seal. An earlier version's place names a seal: it counts as one that a purge took away."""

    def seals_after(self, _number: int, _limit: int) -> list[tuple[int, bytes]]:
        """None."""
        return []

    def newest_seal(self) -> None:
        """None."""

    def first_seal(self) -> int:
        """Above all that there ever are."""
        return 1 << 62

    def seal(self, _number: int) -> None:
        """None."""


class LoginCounter:
    """Counts who acted without a login: a target like others, that begins with what comes, and takes entries alone."""

    name = "acts"
    lossy = False

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def send(self, lines: Sequence[Line]) -> None:
        """Counts."""
        for line in lines:
            if line.row is not None and _without_login(line.row):
                self._metrics.no_login.labels(line.row.event).inc()
                fields = {"event": line.row.event, "entry": line.row.id}
                log.warning("somebody acted without a login", extra={"fields": fields})

    def watch(self) -> None:
        """There is no link."""

    def finish(self) -> bool:
        """All is counted."""
        return True

    def close(self) -> None:
        """Nothing is open."""


# -- threads ---------------------------------------------------------------------------------------------------------


class Deadline:
    """When the work for a target is given up, monotonic seconds."""

    def __init__(self) -> None:
        self.at = float("inf")


class Follower(threading.Thread):
    """The thread of one target."""

    def __init__(
        self, pump: Pump, deadline: Deadline, count: Callable[[], None], previous: threading.Thread | None
    ) -> None:
        """deadline: known to the target too. count(): tells of an error that is a bug. previous: the target's thread before,
        which ends first."""
        super().__init__(name=f"ship-{pump.name}", daemon=True)
        self.pump = pump
        self._deadline = deadline
        self._count = count
        self._previous = previous
        self._wake = threading.Event()
        self._over = False

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    def end(self, deadline: float) -> None:
        """Ends the thread, at `deadline` (monotonic seconds) at the latest, or a little after."""
        self._deadline.at = deadline
        self._over = True
        self._wake.set()

    def run(self) -> None:
        """See the module."""
        if self._previous is not None:
            self._previous.join()
        while not self._over:
            self._wake.clear()
            try:
                pause = self.pump.step()
            except Exception:  # the thread's edge
                self._count()
                log.exception("error in shipping")
                pause = PAUSE[1]
            if pause and not self._over:
                self._wake.wait(pause)
        try:
            self.pump.finish(self._deadline.at)
        except Exception as error:  # noqa: BLE001  the thread's edge: the trail's file may be closed by now
            if not isinstance(error, ShippingError):
                self._count()
            log.warning("the end of the trail is shipped after the next start", extra={"fields": {"target": self.name}})
        finally:
            self.pump.close()


class Shipper:
    """All targets of one run of the daemon."""

    def __init__(self, store: Installation, install: InstallSecrets, metrics: Metrics) -> None:
        """Nothing runs before `use`. Raises VaultError."""
        self._store = store
        self._metrics = metrics
        self._keys = ChainKeys(install.audit, install.checkpoint)
        self._installation = fingerprint(self._keys.public)
        self._reading = threading.Lock()
        # With the key, though nothing is written: whoever closes the file last takes its write-ahead log in.
        self._trail = AuditTrail(store.directory / AUDIT_FILE, install.audit)
        self._settings: Shipping | None = None
        self._followers: dict[str, Follower] = {}
        self._ending: dict[str, Follower] = {}  # those of settings that are over
        self._syslog: SyslogTarget | None = None

    def use(self, settings: Shipping, context: ssl.SSLContext | None) -> None:
        """Takes the settings of the start, and those of a reload. context: `tls_context` of them."""
        old, self._settings = self._settings, settings
        if LoginCounter.name not in self._followers:
            self._begin(LoginCounter(self._metrics), Deadline(), None, lambda: nullcontext(NoSeals()))
        if old is None or old.file != settings.file:
            self._end(FileTarget.name)
            if settings.file is not None:
                target = FileTarget(settings.file.path, settings.file.rotate, settings.file.keep)
                self._begin(target, Deadline(), self._metrics)
        if old is None or old.syslog != settings.syslog:
            self._end(SyslogTarget.name)
            self._syslog = None
            if settings.syslog is not None:
                deadline = Deadline()
                self._syslog = _syslog_target(settings.syslog, context, deadline)
                self._begin(self._syslog, deadline, self._metrics)
        elif self._syslog is not None:
            self._syslog.use(context)

    def _begin(
        self,
        target: Target,
        deadline: Deadline,
        metrics: Metrics | None,
        seals: Callable[[], AbstractContextManager[SealReader]] | None = None,
    ) -> None:
        pump = Pump(
            target,
            Cursor(cursor_path(self._store.directory, target.name)),
            Source(self._trail, self._seal_time, self._installation),
            seals or self._seals,
            now=time.monotonic,
            wall=time.time,
            random=Random(),
            metrics=metrics,
            from_end=metrics is None,
        )
        previous = self._ending.pop(target.name, None)
        follower = self._followers[target.name] = Follower(
            pump, deadline, lambda: self._metrics.errors.labels("shipping").inc(), previous
        )
        follower.start()

    def _end(self, name: str) -> None:
        follower = self._followers.pop(name, None)
        if follower is not None:
            follower.end(time.monotonic() + FLUSH)
            self._ending[name] = follower

    @contextmanager
    def _seals(self) -> Iterator[SealReader]:
        with self._reading, closing(self._store.states()) as states:
            yield states

    def _seal_time(self, signed: bytes) -> int:
        try:
            return self._keys.read(signed).time_ms
        except SealError:  # it was altered, and is shipped as it is
            return int(time.time() * 1000)

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Nobody reads the store inside: whoever closes it is alone with its files."""
        with self._reading:
            yield

    def wake(self) -> None:
        """The daemon wrote an entry. Any thread."""
        for follower in list(self._followers.values()):
            follower.wake()

    def check(self) -> str:
        """For /readyz."""
        if self._settings is None:
            return "ok"
        late = []
        for name, follower in self._followers.items():
            behind = follower.pump.behind()
            if name != LoginCounter.name and behind > self._settings.alarm_after:
                late.append(f"{name} is {int(behind)} s behind")
        return f"degraded: {', '.join(late)}" if late else "ok"

    def stop(self) -> None:
        """Ships what fits within FLUSH, and ends. The rest waits in the store."""
        deadline = time.monotonic() + FLUSH
        followers = [*self._followers.values(), *self._ending.values()]
        for follower in followers:
            follower.end(deadline)
        for follower in followers:
            follower.join(max(0.0, deadline + 0.2 - time.monotonic()))
        if any(follower.is_alive() for follower in followers):
            log.warning("a target hangs; what it lacks is shipped after the next start")
        self._trail.close()


def tls_context(settings: Shipping) -> ssl.SSLContext | None:
    """The TLS towards the syslog server; None where there is none. Reads files; TlsError names the one at fault."""
    if settings.syslog is None or settings.syslog.tls is None:
        return None
    tls = settings.syslog.tls
    return client_context(tls.ca, tls.certificate, tls.key)


def _syslog_target(settings: SyslogServer, context: ssl.SSLContext | None, deadline: Deadline) -> SyslogTarget:
    name = settings.tls.server_name if settings.tls is not None and settings.tls.server_name else settings.host
    sender = Sender(settings.facility, platform.node(), settings.app_name, os.getpid())
    return SyslogTarget((settings.host, settings.port), sender, context, name, lambda: deadline.at)
