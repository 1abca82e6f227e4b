"""The carriers' side: keeps the configured sessions to each upstream bound, and joins them to the relay."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, Final, Literal, NamedTuple

from smppd import config
from smppd.config import SecretError
from smppd.metrics import Metrics
from smppd.net.address_order import AddressOrder
from smppd.net.endpoints import ConnectAttempt, connect
from smppd.net.sessions import Meter, SessionView, view
from smppd.net.tls import TlsClient, TlsError, client_of
from smppd.net.tracing import Recording
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
# What a session says of its end after we unbound it.
_BY_US: Final = frozenset({"unbound", "unbind not answered"})

SessionEnd = Literal["ours", "lost"]
Contexts = Mapping[str, TlsClient | None]
"""The TLS of each enabled upstream by name; None where it is plain."""


def contexts(settings: tuple[config.Upstream, ...]) -> Contexts:
    """Reads the files of all enabled upstreams' TLS. TlsError."""
    return {one.name: client_of(one) for one in settings if one.enabled}


# What the bind of a link depends on. All else a link that stands takes over.
_OF_A_BIND: Final = (
    "address",
    "source_address",
    "tls",
    "system_id",
    "password",
    "system_type",
    "interface_version",
    "bind",
    "sessions",
    "addr_ton",
    "addr_npi",
    "address_range",
)


class LinkChange(NamedTuple):
    """What a configuration does to the links of an upstream: ``links`` that stand or are tried end, ``again`` are made; why.
    ``waiting``: messages that they have sent and that are not answered; they are waited for, within `response`."""

    upstream: str
    links: int
    again: int
    waiting: int
    why: str


def _bound_anew_by(old: config.Upstream, new: config.Upstream) -> list[str]:
    """The keys whose change makes an upstream's links bind anew."""
    return [key for key in _OF_A_BIND if getattr(old, key) != getattr(new, key)]


def _links(one: config.Upstream) -> int:
    return one.sessions * len(_MODES[one.bind])


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
        self._begun = False
        self.links: dict[str, list[UpstreamLink]] = {}
        self.made = 0
        """Connections that came about, which are numbered."""
        self.retired: list[UpstreamLink] = []
        """Sessions that the configuration no longer has, or that an act has ended, until they are unbound."""
        self._closed: set[str] = set()
        self._wanted: dict[str, config.Upstream] = {}
        self._tls: Contexts = {}
        self.traced: dict[str, Recording] = {}
        """By upstream: what hears its sessions (`net.tracing`)."""

    def changes(self, settings: tuple[config.Upstream, ...]) -> list[LinkChange]:
        """What `use` would do to the links of each upstream. Those whose links stay are left out, and those that an act has
        drained. Changes nothing."""
        found: list[LinkChange] = []
        every = {one.name: one for one in settings}
        for name, links in self.links.items():
            one = every.get(name)
            waiting = sum(link.waiting() for link in links)
            if one is None or not one.enabled:
                why = "removed" if one is None else "disabled"
                found.append(LinkChange(name, len(links), 0, waiting, why))
            elif keys := _bound_anew_by(links[0].settings, one):
                found.append(LinkChange(name, len(links), _links(one), waiting, f"{', '.join(keys)} changed"))
        for one in settings:
            if one.enabled and one.name not in self.links and one.name not in self._closed:
                found.append(LinkChange(one.name, 0, _links(one), 0, "added or enabled"))
        return found

    def use(self, settings: tuple[config.Upstream, ...], limits: config.Limits, tls: Contexts) -> None:
        """Brings the sessions to what the configuration says. Those of an upstream of which nothing changed that a bind depends
        on stay up, and use new certificates from their next connection on; the others are unbound when what they sent is
        answered."""
        self.limits = limits
        wanted = {one.name: one for one in settings if one.enabled}
        changes = self.changes(settings)
        self._wanted, self._tls = wanted, tls
        for change in changes:
            if self._begun:
                log.info("links of an upstream change", extra={"fields": change._asdict()})
            for link in self.links.pop(change.upstream, ()):
                self.retired.append(link)
                link.stop()
        for name, links in self.links.items():
            for link in links:
                link.use(wanted[name], tls[name])
        for change in changes:
            self._make(change.upstream)
        self._begun = True

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

    def wants(self, name: str) -> bool:
        """Whether the configuration has this upstream, though an act may have ended its sessions."""
        return name in self._wanted

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

    def find(self, session: str) -> UpstreamLink | None:
        """The link whose connection has this id, `u4`, and stands."""
        return next((one for one in self.every() if f"u{one.number}" == session and one.session is not None), None)

    def trace(self, name: str, recording: Recording) -> None:
        """From now on a trace hears all sessions to an upstream, those too that are made meanwhile, until ``traced`` has it no
        more."""
        self.traced[name] = recording
        for link in self.every():
            if link.settings.name == name:
                link.trace(recording)

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
        self._order = AddressOrder(len(settings.address))
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

    @property
    def address(self) -> str:
        """The address that it is connected to, or tries next."""
        return self.settings.address[self._order.at]

    def start(self) -> None:
        """Connects."""
        self._timer = self.again_at = None
        if self._stopped:
            return
        owner = self._owner
        self._attempt = connect(owner.reactor, self.settings, owner.limits, self, self.tls, self._order.at)

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

    def use(self, settings: config.Upstream, tls: TlsClient | None) -> None:
        """Takes over settings that nothing of its bind depends on, and the TLS of its next connection."""
        self.settings, self.tls = settings, tls
        if self.session is not None:
            self.session.timers = self._timers()
            self.session.outstanding_limit = settings.window

    def _timers(self) -> Timers:
        settings, limits = self.settings, self._owner.limits
        return Timers(
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
        )

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

    @property
    def is_traced(self) -> bool:
        """Whether a trace hears it."""
        return self._pipe is not None and self._pipe.tap is not None

    def trace(self, recording: Recording) -> None:
        """From now on a trace hears it, if it stands."""
        if self._pipe is not None and self.session is not None:
            recording.tap(self._pipe, "carrier", self.session.unread)

    def _again(self, reason: str, end: SessionEnd | None = None) -> None:
        """Tries again after a pause. ``end``: how a session ended that was bound; None where none was."""
        self._attempt = None
        if self._stopped:
            return
        if not self._kicked:
            self._owner.metrics.link_failures.labels(self.settings.name).inc()
        pause, address = self.settings.reconnect, self.address
        seconds = min(pause.most, pause.first * 2 ** min(self._order.rounds, 16))
        if end is None:
            self._order.failed()
        else:
            self._order.lost(by_us=end == "ours")
        seconds *= 0.7 + 0.3 * self._owner.random.random()
        self.failed_at = self._owner.now()
        self.again_at = self.failed_at + seconds
        self.last_error, self._refused = self._refused or reason, ""
        fields = {"upstream": self.settings.name, "address": address, "reason": reason, "again_in": round(seconds, 1)}
        if self.address != address:
            fields["next"] = self.address
        log.warning("upstream not connected", extra={"fields": fields})
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
        settings = self.settings
        recording = self._owner.traced.get(settings.name)
        if recording is not None:
            recording.tap(pipe, "carrier")
        now = self._owner.now()
        session = self.session = Session(
            Role.ESME, self._timers(), now, window=_DELIVER_WINDOW, outstanding_limit=settings.window
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
        end: SessionEnd | None = None
        if self._bound is not None:
            # Some carriers close the connection where they should answer an unbind.
            ours = self._kicked or (self.session is not None and self.session.close_reason in _BY_US)
            end = "ours" if ours else "lost"
        self.session = self._pipe = self._bound = None
        self._again(reason, end)
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
        self._order.bound()
        self.last_error = None
        bound = self._bound = Bound(self, session)
        fields = {"upstream": name, "address": self.address, "mode": self._command.name.lower()}
        log.info("upstream bound", extra={"fields": fields})
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
