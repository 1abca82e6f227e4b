"""The act `trace`: hears the PDUs of one peer for some minutes and keeps them sealed (`records.traces`).

What is heard is gathered on the reactor thread (`net.tracing`) and written by a thread of its own, a block a second or more
often, so a kill loses the last second at most. A trace ends by its time, at a limit, when it is told to, when its file is
destroyed, and with the daemon. The section `tracing` of the configuration is something else: `daemon.spans`.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Final, NamedTuple, TypeVar

from twisted.internet.defer import Deferred

from smppd.control.wire import Code, ControlError
from smppd.daemon.acts import ActInForce, ActRequest, Done
from smppd.daemon.standing import StandingActs
from smppd.daemon.traces import open_traces
from smppd.events import AuditEvent
from smppd.net.customers import CustomerLink, Customers
from smppd.net.tracing import BUG, OCTETS, Recording
from smppd.net.upstreams import UpstreamLink, Upstreams
from smppd.operators.roles import Authority
from smppd.records.traces import Trace, TraceError, Traces
from smppd.store.api import StoreError
from smppd.store.installation import Installation
from smppd.vault.kek import VaultError
from smppd.vault.keys import InstallSecrets, KeyRing
from smppd.vault.mask import mask_digits
from smppd.vault.seal import SealError
from smppd.vault.traces import TraceWriter

log = logging.getLogger("smppd.trace")
DEFAULT: Final = 300.0
LONGEST: Final = 600.0
"""Seconds of a trace."""
AT_ONCE: Final = 4
"""Traces that are on at a time, of different peers."""
NOTE: Final = 200
_EVERY: Final = 1.0
_ENOUGH: Final = 256 << 10
_JOIN: Final = 10.0

_SESSION: Final = "session:"
_NOBODY: Final = "there is no such session, account or upstream"
_TOLD: Final = (TraceError, StoreError, VaultError, SealError, OSError)

T = TypeVar("T")


class _Peer(NamedTuple):
    """Who is traced. account: whose messages are heard; empty where they may be anybody's."""

    kind: str
    name: str
    account: str
    link: CustomerLink | UpstreamLink | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def target(self) -> str:
        """As an act says it."""
        return self.name if self.kind == "session" else f"{self.kind}:{self.name}"


class _Destroyed(Exception):
    """The file of a trace was taken away while it was written."""


class _Running:
    """A trace that is on, or about to be."""

    def __init__(self, peer: _Peer, until: float) -> None:
        self.peer = peer
        self.until = until
        self.number = 0  # until it has begun
        self.trace: Trace | None = None
        self.recording: Recording | None = None
        self.writer: TraceWriter | None = None
        self.file: BinaryIO | None = None
        self.timer: Any = None
        self.written = 0.0
        self.writing = False
        self.over: list[Callable[[Done], object]] = []


class Tracing:
    """All traces of the daemon. Its methods are the reactor thread's."""

    def __init__(
        self,
        store: Installation,
        ring: KeyRing,
        install: InstallSecrets,
        customers: Customers,
        upstreams: Upstreams,
        acts: StandingActs,
        audit: Callable[[str, dict[str, str | int]], object],
        reactor: Any,
        reserve: Callable[[], int],
        wall: Callable[[], float],
        now: Callable[[], float],
        bug: Callable[[], object] = lambda: None,
    ) -> None:
        """acts: put an act on the trail before it is done. reserve(): octets of the disk that no trace takes. bug(): counts an
        error of ours, from any thread."""
        self._store = store
        self._ring = ring
        self._install = install
        self._customers = customers
        self._upstreams = upstreams
        self._acts = acts
        self._audit = audit
        self._reactor = reactor
        self._reserve = reserve
        self._wall = wall
        self._now = now
        self._bug = bug
        self._running: list[_Running] = []
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    # -- the act -------------------------------------------------------------------------------------------------------

    def act(self, request: ActRequest, authority: Authority) -> Done | Deferred[Done]:
        """`act trace`: begins one, or ends it where the request says `stop`. Fields: `for` (seconds, at most 600), `note`,
        `stop`. ControlError."""
        fields = request.fields
        seconds = fields.get("for", DEFAULT)
        note = fields.get("note", "")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 1 <= seconds <= LONGEST:
            raise ControlError(f"a trace lasts 1 to {LONGEST:.0f} seconds", Code.REQUEST)
        if not isinstance(note, str) or len(note) > NOTE:
            raise ControlError(f"a note has at most {NOTE} characters", Code.REQUEST)
        if fields.get("stop") is True:
            return self._stop(request, authority)
        peer = self._peer(request.target)
        if authority.accounts is not None and peer.account not in authority.accounts:
            raise ControlError(_NOBODY, Code.UNKNOWN)
        standing = self._of(request.target)
        if standing is not None:
            return Done(f"{standing.peer} is being traced already, as trace {standing.number}.", False)
        if len(self._running) >= AT_ONCE:
            raise ControlError(f"{AT_ONCE} traces are on, and there may be no more at a time", Code.STATE)
        if self._overlaps(peer):
            raise ControlError(f"another trace hears {peer} already", Code.STATE)
        written = self._acts.done(request, authority, lambda: None, facts={"for": int(seconds)})
        return written.addCallback(lambda _none: self._begin(peer, seconds, request.reason, note, authority.who))

    def _begin(self, peer: _Peer, seconds: float, reason: str, note: str, who: str) -> Deferred[Done]:
        began = self._wall()
        running = _Running(peer, began + seconds)
        asked = Trace(
            0,
            peer.kind,
            peer.name,
            peer.account,
            mask_digits(reason),
            mask_digits(note),
            who,
            began,
            running.until,
        )
        self._running.append(running)
        answer: Deferred[Done] = Deferred()

        def make() -> tuple[Trace, TraceWriter, BinaryIO]:
            self._look_for_room()
            with self._opened() as traces:
                return traces.begin(asked)

        def begun(made: tuple[Trace, TraceWriter, BinaryIO] | None, error: Exception | None) -> None:
            if made is None:
                self._running.remove(running)
                answer.errback(_told(error))
                return
            trace, running.writer, running.file = made
            running.trace, running.number = trace, trace.number
            facts: dict[str, str | int] = {"action": "begun", "trace": trace.number, peer.kind: peer.name}
            self._audit(AuditEvent.TRACE, facts | {"by": who, "reason": trace.reason})
            log.info("trace began", extra={"fields": {"trace": trace.number, peer.kind: peer.name}})
            running.timer = self._reactor.callLater(seconds, self._end, running, "its time was over")
            running.written = self._now()
            self._listen(running)
            told = f"Trace {trace.number} of {peer} is on for {seconds:.0f} s; `smppd trace export` reads it."
            answer.callback(Done(told, True))

        self._do(make, begun)
        return answer

    def _listen(self, running: _Running) -> None:
        peer = running.peer

        def over(why: str) -> None:
            if why == BUG:
                self._bug()
            # Never from within the pipe that is heard.
            self._reactor.callLater(0.0, self._end, running, why)

        running.recording = recording = Recording(self._wall, over, one_session=peer.link is not None)
        if peer.link is not None:
            peer.link.trace(recording)
            if not recording.sessions:
                over("the session ended")
        elif peer.kind == "account":
            self._customers.trace(peer.name, recording)
        else:
            self._upstreams.trace(peer.name, recording)

    def _stop(self, request: ActRequest, authority: Authority) -> Done | Deferred[Done]:
        running = self._of(request.target)
        peer = self._peer(request.target) if running is None else running.peer
        if authority.accounts is not None and peer.account not in authority.accounts:
            raise ControlError(_NOBODY, Code.UNKNOWN)
        if running is None:
            return Done(f"{peer} is not being traced.", False)

        def end(_none: None) -> Done | Deferred[Done]:
            if running not in self._running:
                return Done(f"Trace {running.number} of {running.peer} has ended meanwhile.", False)
            answer: Deferred[Done] = Deferred()
            running.over.append(answer.callback)
            self._end(running, "it was told to")
            return answer

        return self._acts.done(request, authority, lambda: None, facts={"stop": "yes"}).addCallback(end)

    def in_force(self) -> list[ActInForce]:
        """The traces that are on."""
        return [
            ActInForce(
                "trace", one.peer.target, one.trace.began, one.trace.who, one.trace.reason, one.trace.until, False
            )
            for one in self._running
            if one.trace is not None
        ]

    def _of(self, target: str) -> _Running | None:
        name = target.removeprefix(_SESSION)
        return next((one for one in self._running if name in (one.peer.name, one.peer.target)), None)

    def _peer(self, target: str) -> _Peer:
        """Who is meant: a session (`c17`, `session:c17`), an account, an upstream; `account:NAME` and `upstream:NAME` where a
        name is both."""
        session = target.removeprefix(_SESSION)
        link = self._customers.find(session) or self._upstreams.find(session)
        if link is not None:
            account = (link.name or "") if isinstance(link, CustomerLink) else ""
            return _Peer("session", session, account, link)
        kind, colon, name = target.partition(":")
        if not colon or kind not in ("account", "upstream"):
            kind, name = "", target
        found = []
        if kind in ("", "account") and self._customers.relay.account(name) is not None:
            found.append(_Peer("account", name, name))
        if kind in ("", "upstream") and self._upstreams.wants(name):
            found.append(_Peer("upstream", name, ""))
        if len(found) > 1:
            raise ControlError(
                f"{name} is an account and an upstream: say `account:{name}` or `upstream:{name}`", Code.REQUEST
            )
        if not found:
            raise ControlError(_NOBODY, Code.UNKNOWN)
        return found[0]

    def _overlaps(self, peer: _Peer) -> bool:
        if peer.link is not None:
            return peer.link.is_traced
        if peer.kind == "account":
            links: list[CustomerLink] | list[UpstreamLink] = [
                one for one in self._customers.links if one.is_of(peer.name)
            ]
        else:
            links = self._upstreams.links.get(peer.name, [])  # one that is drained has none
        return any(one.is_traced for one in links)

    # -- while it is on ------------------------------------------------------------------------------------------------

    @property
    def on(self) -> int:
        """How many traces are on."""
        return len(self._running)

    def tick(self) -> None:
        """Call ten times a second: what was gathered goes to the disk, a second after the last or when it is much."""
        if not self._running:
            return
        now = self._now()
        for running in self._running:
            recording = running.recording
            if recording is None or running.writing:
                continue
            if now - running.written >= _EVERY or recording.waiting >= _ENOUGH:
                running.writing, running.written = True, now
                self._write(running, recording.take())

    def _write(self, running: _Running, data: bytes) -> None:
        writer, file = running.writer, running.file
        assert writer is not None and file is not None, "it has begun"

        def work() -> None:
            if not os.fstat(file.fileno()).st_nlink:
                raise _Destroyed
            if data:
                self._look_for_room(len(data))
                writer.write(data)

        def done(_result: None, error: Exception | None) -> None:
            running.writing = False
            if error is None:
                return
            if isinstance(error, _Destroyed):
                self._end(running, "it was destroyed")
            else:
                log.error(
                    "a trace could not be written", extra={"fields": {"trace": running.number, "reason": str(error)}}
                )
                self._end(running, _sentence(error))

        self._do(work, done)

    def _end(self, running: _Running, why: str) -> None:
        if running not in self._running:
            return
        self._running.remove(running)
        if running.timer is not None and running.timer.active():
            running.timer.cancel()
        recording, writer, file, number = running.recording, running.writer, running.file, running.number
        assert recording is not None and writer is not None and file is not None, "it has begun"
        recording.stop()
        traced = {"account": self._customers.traced, "upstream": self._upstreams.traced}.get(running.peer.kind, {})
        if traced.get(running.peer.name) is recording:
            del traced[running.peer.name]
        data, at = recording.take(), self._wall()
        counts = (recording.sessions, recording.pdus, recording.octets)

        def work() -> None:
            try:
                if data and os.fstat(file.fileno()).st_nlink:
                    self._look_for_room(len(data))
                    writer.write(data)
                os.fsync(file.fileno())
            finally:
                file.close()
                with self._opened() as traces:
                    traces.end(number, at, why, *counts)

        def done(_result: None, error: Exception | None) -> None:
            if error is not None:
                log.error(
                    "a trace could not be written to its end", extra={"fields": {"trace": number, "reason": str(error)}}
                )
            said = f"Trace {number} of {running.peer} has ended ({why}): sessions {counts[0]}, PDUs {counts[1]}."
            for told in running.over:
                told(Done(said, True))

        facts: dict[str, str | int] = {"action": "ended", "trace": number, running.peer.kind: running.peer.name}
        self._audit(AuditEvent.TRACE, facts | {"why": why, "sessions": counts[0], "pdus": counts[1]})
        log.info(
            "trace ended", extra={"fields": {"trace": number, running.peer.kind: running.peer.name, "reason": why}}
        )
        self._do(work, done)

    # -- start and end of the daemon -----------------------------------------------------------------------------------

    def settle(self) -> None:
        """At the start: what was on when the daemon was killed has ended. StoreError."""
        with self._opened() as traces:
            traces.settle(self._wall())

    def stop(self) -> None:
        """Ends all, and waits until they are on the disk, ten seconds at most."""
        for running in list(self._running):
            if running.recording is not None:
                self._end(running, "smppd ended")
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            thread.join(_JOIN)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _do(self, work: Callable[[], T], then: Callable[[T | None, Exception | None], None]) -> None:
        """Does `work()` in the thread, after what it was given before; `then(result, error)` on the reactor thread."""

        def job() -> None:
            try:
                result = work()
            except Exception as caught:
                if not isinstance(caught, (*_TOLD, _Destroyed)):
                    self._bug()
                    log.exception("error in a trace")
                self._reactor.callFromThread(then, None, caught)
            else:
                self._reactor.callFromThread(then, result, None)

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="trace", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _opened(self) -> AbstractContextManager[Traces]:
        return open_traces(self._store, self._ring, self._install)

    def _look_for_room(self, octets: int = OCTETS) -> None:
        found = os.statvfs(self._store.directory)
        if found.f_bavail * found.f_frsize < self._reserve() + octets:
            raise TraceError("the disk has no room for it beside `store.reserve`")


def _told(error: Exception | None) -> ControlError:
    return ControlError(f"no trace was begun: {_sentence(error)}", Code.STATE)


def _sentence(error: Exception | None) -> str:
    if isinstance(error, OSError):
        return f"the disk: {error.strerror or type(error).__name__}"
    if isinstance(error, _TOLD):
        return str(error)
    return BUG
