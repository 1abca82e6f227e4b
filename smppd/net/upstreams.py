"""The carriers' side: keeps the configured sessions to each upstream bound, and joins them to the relay."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, Final

from smppd import config
from smppd.config import SecretError
from smppd.metrics import Metrics
from smppd.net.endpoints import ConnectAttempt, connect
from smppd.net.sessions import Meter, SessionView, view
from smppd.net.tls import TlsClient, TlsError, client_of
from smppd.net.transport import Pipe
from smppd.protocol.operations import Bind, write_bind
from smppd.protocol.session import Role, Session, SessionState, Timers
from smppd.protocol.wire import Command, status_name
from smppd.relay.relay import Relay
from smppd.relay.state.model import Message, UpstreamState

log = logging.getLogger("smppd.upstreams")
_VERSIONS: Final = {"3.3": 0x33, "3.4": 0x34, "5.0": 0x50}
_MODES: Final = {
    "transceiver": (Command.BIND_TRANSCEIVER,),
    "transmitter+receiver": (Command.BIND_TRANSMITTER, Command.BIND_RECEIVER),
}
# deliver_sm of a carrier that may be unacknowledged at a time: bounds memory while a commit is under way.
_DELIVER_WINDOW: Final = 1000
_BIND: Final = object()

Contexts = Mapping[str, TlsClient | None]
"""The TLS of each enabled upstream by name; None where it is plain."""


def contexts(settings: tuple[config.Upstream, ...]) -> Contexts:
    """Reads the files of all enabled upstreams' TLS. TlsError."""
    return {one.name: client_of(one) for one in settings if one.enabled}


class Upstreams:
    """All sessions to all carriers."""

    def __init__(
        self,
        reactor: Any,
        relay: Relay,
        metrics: Metrics,
        limits: config.Limits,
        now: Callable[[], float],
        random: Random,
    ) -> None:
        self.reactor = reactor
        self.relay = relay
        self.metrics = metrics
        self.limits = limits
        self.now = now
        self.random = random
        self.links: dict[str, list[UpstreamLink]] = {}
        self.made = 0
        """Connections that came about, which are numbered."""
        self.retired: list[UpstreamLink] = []
        """Sessions that the configuration no longer has, or that an act has ended, until they are unbound."""
        self._closed: set[str] = set()
        self._wanted: dict[str, config.Upstream] = {}
        self._tls: Contexts = {}

    def use(self, settings: tuple[config.Upstream, ...], limits: config.Limits, tls: Contexts) -> None:
        """Brings the sessions to what the configuration says. Those of an unchanged upstream stay up, and use new
        certificates from their next connection on; the others are unbound when what they sent is answered."""
        self.limits = limits
        wanted = {one.name: one for one in settings if one.enabled}
        self._wanted, self._tls = wanted, tls
        for name in list(self.links):
            if name in wanted and all(link.settings == wanted[name] for link in self.links[name]):
                for link in self.links[name]:
                    link.tls = tls[name]
                continue
            for link in self.links.pop(name):
                self.retired.append(link)
                link.stop()
        for name in wanted:
            self._make(name)

    def _make(self, name: str) -> None:
        """Begins to bind an upstream's sessions, unless they stand or an act has ended them."""
        one = self._wanted.get(name)
        if one is None or name in self.links or name in self._closed:
            return
        state = self.relay.upstream(name)
        self.links[name] = [
            UpstreamLink(self, state, one, self._tls[name], command)
            for _ in range(one.sessions)
            for command in _MODES[one.bind]
        ]
        for link in self.links[name]:
            link.start()

    def close(self, name: str) -> None:
        """Unbinds the sessions to an upstream when what they sent is answered, and binds none until ``open``; also where the
        configuration has it only later."""
        self._closed.add(name)
        for link in self.links.pop(name, []):
            self.retired.append(link)
            link.stop()

    def open(self, name: str) -> None:
        """Binds the sessions that ``close`` ended."""
        self._closed.discard(name)
        self._make(name)

    def meant(self, *, name: str | None = None, number: int | None = None) -> list[UpstreamLink]:
        """The sessions that stand to an upstream, or the one of this number."""
        return [
            link
            for link in self.every()
            if link.session is not None and (link.settings.name == name if name is not None else link.number == number)
        ]

    @staticmethod
    def kick(links: list[UpstreamLink]) -> None:
        """Unbinds sessions: each when what it sent is answered, within the response timer. They are bound again, as after a
        lost link."""
        for link in links:
            link.kick()

    def every(self) -> Iterator[UpstreamLink]:
        """All links, also those that are on their way out."""
        for links in list(self.links.values()):
            yield from links
        yield from list(self.retired)

    def views(self) -> Iterator[SessionView]:
        """The sessions, in the order of connecting. Each is made as it is asked for."""
        now = self.now()
        for link in sorted(self.every(), key=lambda one: one.number):
            if (found := link.view(now)) is not None:
                yield found

    def trouble(self, name: str) -> tuple[float | None, str | None]:
        """Of an upstream that wants a session: in how many seconds the next try to connect is due, None where none is, and why
        the last one ended, as a sentence; None where all its sessions are bound."""
        links = self.links.get(name, ())
        due = [one.again_at - self.now() for one in links if one.again_at is not None]
        failed = max((one for one in links if one.last_error is not None), key=lambda one: one.failed_at, default=None)
        return max(0.0, min(due)) if due else None, None if failed is None else failed.last_error

    def tick(self, now: float) -> None:
        """Once a second: everybody's deadlines."""
        for link in self.every():
            link.sweep(now)
        if self.retired:
            self.retired = [link for link in self.retired if link.session is not None]

    def stop(self, *, at_once: bool = False) -> None:
        """Connects no more and unbinds all: each when what it sent is answered, or ``at_once``."""
        for link in self.every():
            link.stop(at_once=at_once)

    def waiting(self) -> int:
        """Submits whose answer is still to come."""
        return sum(link.waiting() for link in self.every())

    def connected(self) -> bool:
        """Whether any connection stands."""
        return any(link.session is not None for link in self.every())


class UpstreamLink:
    """One session to a carrier, made again whenever it ends. ``transport.ClientHandler``, ``relay.state.model.Peer`` by its
    ``Bound``, a fresh one each time."""

    def __init__(
        self, owner: Upstreams, state: UpstreamState, settings: config.Upstream, tls: TlsClient | None, command: Command
    ) -> None:
        self._owner = owner
        self._state = state
        self.settings = settings
        self.tls = tls
        self._command = command
        self._attempt: ConnectAttempt | None = None
        self._pipe: Pipe | None = None
        self._bound: Bound | None = None
        self._timer: Any = None
        self._failures = 0
        self._stopped = False
        self._leave_by = 0.0
        self._over = False  # the session has ended and the relay knows; the connection is still closing
        self._kicked = False  # this session is to be unbound, and the next one not
        self._meter = Meter(0.0)
        self._refused = ""
        self.number = 0  # of its connection
        self.again_at: float | None = None
        self.failed_at = 0.0
        self.last_error: str | None = None  # until it is bound again
        self.session: Session | None = None

    def __repr__(self) -> str:
        return f"<UpstreamLink {self.settings.name}>"

    def start(self) -> None:
        """Connects."""
        self._timer = self.again_at = None
        if self._stopped:
            return
        self._attempt = connect(self._owner.reactor, self.settings, self._owner.limits, self, self.tls)

    def stop(self, *, at_once: bool = False) -> None:
        """Connects no more, sends no more messages, and unbinds when those sent are answered (within the response
        timer), or ``at_once``."""
        session = self.session
        if not self._stopped:
            self._stopped = True
            self._leave_by = self._owner.now() + self.settings.response
            if self._timer is not None:
                self._timer.cancel()
                self._timer = self.again_at = None
            if session is None and self._attempt is not None:
                self._attempt.cancel()
        self._leave(at_once=at_once)

    def kick(self) -> None:
        """Unbinds this session when what it sent is answered (within the response timer). Another one is bound then."""
        if not self._stopped and not self._kicked:
            self._kicked = True
            self._leave_by = self._owner.now() + self.settings.response
            self._leave(at_once=False)

    def _leave(self, *, at_once: bool) -> None:
        session, now = self.session, self._owner.now()
        if session is None or self._over:
            return
        try:
            if self._bound is not None:
                # What is released to this carrier and not sent goes to another one.
                self._owner.relay.carrier_left(self._state, self._bound, [], now)
            if at_once or not session.bound:
                session.unbind(now)
            self.settle()
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    @property
    def _leaves(self) -> bool:
        return self._stopped or self._kicked

    def waiting(self) -> int:
        """Submits whose answer is still to come."""
        if self.session is None:
            return 0
        return sum(1 for entry in self.session.outstanding.values() if isinstance(entry.token, Message))

    def view(self, now: float) -> SessionView | None:
        """What an operator sees of its connection, None where there is none."""
        session, pipe, settings = self.session, self._pipe, self.settings
        if session is None or pipe is None:
            return None
        mode = self._command.name.lower().removeprefix("bind_")
        name, version = settings.name, settings.interface_version
        return view(f"u{self.number}", "carrier", name, pipe, session, self._meter, mode, version, now)

    def _again(self, reason: str) -> None:
        self._attempt = None
        if self._stopped:
            return
        if not self._kicked:
            self._owner.metrics.link_failures.labels(self.settings.name).inc()
        pause = self.settings.reconnect
        seconds = min(pause.most, pause.first * 2 ** min(self._failures, 16))
        self._failures += 1
        seconds *= 0.7 + 0.3 * self._owner.random.random()
        self.failed_at = self._owner.now()
        self.again_at = self.failed_at + seconds
        self.last_error, self._refused = self._refused or reason, ""
        log.warning(
            "upstream not connected",
            extra={"fields": {"upstream": self.settings.name, "reason": reason, "again_in": round(seconds, 1)}},
        )
        self._timer = self._owner.reactor.callLater(seconds, self.start)

    # -- transport.ClientHandler ---------------------------------------------------------------------------------------

    def failed(self, reason: str, detail: str) -> None:
        """No connection came about."""
        self._again(f"{reason}: {detail}" if detail else reason)

    def connected(self, pipe: Pipe) -> None:
        """The pipe is open: binds."""
        self._attempt = None
        self._pipe = pipe
        self._over = self._kicked = False
        settings, limits = self.settings, self._owner.limits
        now = self._owner.now()
        session = self.session = Session(
            Role.ESME,
            Timers(
                bind=limits.bind,
                pdu=limits.pdu,
                enquire_link=settings.enquire_link,
                inactivity=max(limits.inactivity, settings.enquire_link + settings.response + 1),
                response=settings.response,
                max_pdu=limits.max_pdu,
                control_rate=100.0,
                control_burst=1000.0,
                bad_bodies=None,  # faults in its receipts are no reason to end the link
                # A carrier that answers everything twice, or long after our timer, must not have its other answers held up.
                stray_rate=2000.0,
                stray_burst=10_000.0,
            ),
            now,
            window=_DELIVER_WINDOW,
            outstanding_limit=settings.window,
        )
        self._meter = Meter(now)
        self._owner.made += 1
        self.number = self._owner.made
        try:
            password = settings.password.resolve()
        except SecretError as error:
            log.error("no password", extra={"fields": {"upstream": settings.name, "reason": str(error)}})
            session.close("no password")
            self.settle()
            return
        bind = Bind(
            self._command,
            0,
            settings.system_id.encode(),
            password,
            settings.system_type.encode(),
            _VERSIONS[settings.interface_version],
            settings.addr_ton,
            settings.addr_npi,
            settings.address_range.encode(),
        )
        session.bind(write_bind(bind), _BIND, now)
        self.settle()

    def received(self, data: bytes) -> None:
        """Bytes from the carrier. An error here is ours: it ends this session only, and is counted."""
        try:
            self._work(data)
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    def lost(self, reason: str) -> None:
        """The connection is gone, and another is made."""
        try:
            self._end(reason)
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()
        self.session = self._pipe = self._bound = None
        self._again(reason)
        self._kicked = False

    # -- work ----------------------------------------------------------------------------------------------------------

    def _work(self, data: bytes) -> None:
        session = self.session
        if session is None:
            return
        now = self._owner.now()
        relay = self._owner.relay
        got = session.receive(data, now)
        if session.nacks:
            relay.peer_nacked("upstream", self.settings.name, session, now)
        if self._bound is not None:
            relay.carrier_sent(self._state, self._bound, got.answers, got.messages, now)
        elif got.answers:
            self._bind_answered(got.answers, session, now)
        self.settle()
        relay.flush()

    def _broken(self) -> None:
        log.exception("error in an upstream session", extra={"fields": {"upstream": self.settings.name}})
        self._owner.metrics.errors.labels("upstream").inc()
        if self._pipe is not None:
            self._pipe.abort("internal error")

    def _bind_answered(self, answers: list[tuple[Any, int, int, bytes]], session: Session, now: float) -> None:
        _token, _command, status, _frame = answers[0]
        name = self.settings.name
        if status:
            log.error("upstream refused the bind", extra={"fields": {"upstream": name, "status": status_name(status)}})
            self._refused = f"the bind was refused: {status_name(status)}"
            session.close("bind refused")
            return
        session.bound_as(self._command)
        self._failures = 0
        self.last_error = None
        bound = self._bound = Bound(self, session)
        log.info("upstream bound", extra={"fields": {"upstream": name, "mode": self._command.name.lower()}})
        self._owner.relay.carrier_bound(self._state, bound, now)
        self._work(b"")

    def _end(self, reason: str) -> None:
        """The session is over, and what it was sent has no answer. The relay is told once, before the connection is
        closed."""
        session, bound = self.session, self._bound
        if session is None or self._over:
            return
        self._over = True
        tokens = session.abandon()
        if bound is not None:
            if not self._leaves:
                log.warning("upstream lost", extra={"fields": {"upstream": self.settings.name, "reason": reason}})
            self._owner.relay.carrier_left(self._state, bound, tokens, self._owner.now())

    def settle(self) -> None:
        """Writes what the session has to send, and pauses, resumes or closes the pipe as the session needs it."""
        session, pipe = self.session, self._pipe
        if session is None or pipe is None:
            return
        if self._leaves and session.bound and not session.unanswered and not self.waiting():
            session.unbind(self._owner.now())
        if session.out:
            pipe.write(session.take())
        if session.close_reason is not None:
            reason = session.close_reason.partition(":")[0]
            pipe.close(reason)
            self._end(reason)
        elif session.blocked:
            pipe.pause()
        elif pipe.paused:
            pipe.resume()

    def go_on(self) -> None:
        """Sends what was put into ``session.out``, and handles what was held back. It is called while another peer is
        served."""
        try:
            session, pipe = self.session, self._pipe
            if session is None or pipe is None:
                return
            if session.out:
                pipe.write(session.take())
            if session.blocked and session.unanswered < session.window:
                self._work(b"")
            elif session.close_reason is not None or self._leaves:
                self.settle()
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()

    def sweep(self, now: float) -> None:
        """Deadlines."""
        session = self.session
        if session is None or self._over:
            return
        try:
            self._meter.look(session.answers_received, now)
            expired = session.sweep(now)
            if session.unknown_responses:
                self._owner.metrics.stray_responses.labels("upstream").inc(session.unknown_responses)
                session.unknown_responses = 0
            if expired:
                if self._bound is None:
                    session.close("bind not answered")
                else:
                    self._owner.relay.carrier_silent(self._state, expired, now)
            if self._leaves and now >= self._leave_by and session.bound:
                session.unbind(now)
            if session.blocked:
                self._work(b"")
            else:
                self.settle()
        except Exception:  # noqa: BLE001  the session's edge
            self._broken()


class Bound:
    """A bound session as the relay sees it."""

    __slots__ = ("_link", "session")

    def __init__(self, link: UpstreamLink, session: Session) -> None:
        self._link = link
        self.session = session

    def flush(self) -> None:
        """See ``relay.state.model.Peer``."""
        if self._link.session is self.session:
            self._link.go_on()


__all__ = ["Contexts", "SessionState", "TlsError", "UpstreamLink", "Upstreams", "contexts"]
