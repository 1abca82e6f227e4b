"""The carriers' side: keeps the configured sessions to each upstream bound, and joins them to the relay."""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random
from typing import Any, Final

from smppd import config
from smppd.config import SecretError
from smppd.metrics import Metrics
from smppd.net.endpoints import Attempt, connect
from smppd.net.tls import TlsClient, TlsError, client_of
from smppd.net.transport import Pipe
from smppd.protocol.operations import Bind, write_bind
from smppd.protocol.session import Role, Session, SessionState, Timers
from smppd.protocol.wire import Command, status_name
from smppd.relay.model import Message, UpstreamState
from smppd.relay.relay import Relay

log = logging.getLogger("smppd.upstreams")
_VERSIONS: Final = {"3.3": 0x33, "3.4": 0x34, "5.0": 0x50}
_MODES: Final = {
    "transceiver": (Command.BIND_TRANSCEIVER,),
    "transmitter+receiver": (Command.BIND_TRANSMITTER, Command.BIND_RECEIVER),
}
# deliver_sm of a carrier that may be unacknowledged at a time: bounds memory while a commit is under way.
_DELIVER_WINDOW: Final = 1000
_BIND: Final = object()


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
        self.stopping = False

    def use(self, settings: tuple[config.Upstream, ...], limits: config.Limits) -> None:
        """Brings the sessions to what the configuration says. Sessions of an unchanged upstream stay up. TlsError."""
        self.limits = limits
        tls = {one.name: client_of(one) for one in settings if one.enabled}
        wanted = {one.name: one for one in settings if one.enabled}
        for name in list(self.links):
            old = self.links[name][0].settings if self.links[name] else None
            if name not in wanted or wanted[name] != old:
                for link in self.links.pop(name):
                    link.stop()
        for name, one in wanted.items():
            if name not in self.links:
                state = self.relay.context.upstreams[name]
                self.links[name] = [
                    UpstreamLink(self, state, one, tls[name], command)
                    for _ in range(one.sessions)
                    for command in _MODES[one.bind]
                ]
                for link in self.links[name]:
                    link.start()

    def tick(self, now: float) -> None:
        """Once a second: everybody's deadlines."""
        for links in self.links.values():
            for link in links:
                link.sweep(now)

    def stop(self) -> None:
        """Unbinds all and connects no more."""
        self.stopping = True
        for links in self.links.values():
            for link in links:
                link.stop()

    def waiting(self) -> int:
        """Submits whose answer is still to come."""
        return sum(
            1
            for links in self.links.values()
            for link in links
            if link.session is not None
            for entry in link.session.outstanding.values()
            if isinstance(entry.token, Message)
        )

    def connected(self) -> bool:
        """Whether any connection stands."""
        return any(link.session is not None for links in self.links.values() for link in links)


class UpstreamLink:
    """One session to a carrier, made again whenever it ends. ``transport.ClientHandler``, ``relay.model.Peer`` by its
    ``Bound``, a fresh one each time."""

    def __init__(
        self, owner: Upstreams, state: UpstreamState, settings: config.Upstream, tls: TlsClient | None, command: Command
    ) -> None:
        self._owner = owner
        self._state = state
        self.settings = settings
        self._tls = tls
        self._command = command
        self._attempt: Attempt | None = None
        self._pipe: Pipe | None = None
        self._bound: Bound | None = None
        self._timer: Any = None
        self._failures = 0
        self._stopped = False
        self.session: Session | None = None

    def __repr__(self) -> str:
        return f"<UpstreamLink {self.settings.name}>"

    def start(self) -> None:
        """Connects."""
        self._timer = None
        if self._stopped:
            return
        self._attempt = connect(self._owner.reactor, self.settings, self._owner.limits, self, self._tls)

    def stop(self) -> None:
        """Unbinds and connects no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.session is not None:
            self.session.unbind(self._owner.now())
            self.settle()
        elif self._attempt is not None:
            self._attempt.cancel()

    def _again(self, reason: str) -> None:
        self._attempt = None
        if self._stopped:
            return
        self._owner.metrics.link_failures.labels(self.settings.name).inc()
        pause = self.settings.reconnect
        seconds = min(pause.most, pause.first * 2 ** min(self._failures, 16))
        self._failures += 1
        seconds *= 0.75 + 0.5 * self._owner.random.random()
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
                bad_bodies=1000,
            ),
            now,
            window=_DELIVER_WINDOW,
            outstanding_limit=settings.window,
        )
        try:
            password = settings.password.resolve()
        except SecretError as error:
            log.error("no password", extra={"fields": {"upstream": settings.name, "reason": str(error)}})
            session.close("no password")
            pipe.close("no password")
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
        except Exception:  # the session's edge
            log.exception("error in an upstream session", extra={"fields": {"upstream": self.settings.name}})
            self._owner.metrics.errors.labels("upstream").inc()
            if self._pipe is not None:
                self._pipe.abort("internal error")

    def lost(self, reason: str) -> None:
        """The connection is gone: what it had is unanswered, and another is made."""
        session, bound = self.session, self._bound
        self.session = self._pipe = self._bound = None
        now = self._owner.now()
        if session is not None:
            tokens = session.abandon()
            if bound is not None:
                log.warning("upstream lost", extra={"fields": {"upstream": self.settings.name, "reason": reason}})
                self._owner.relay.link_down(self._state, bound, tokens, now)
        self._again(reason)

    # -- work ----------------------------------------------------------------------------------------------------------

    def _work(self, data: bytes) -> None:
        session = self.session
        if session is None:
            return
        now = self._owner.now()
        relay = self._owner.relay
        got = session.receive(data, now)
        if got.answers:
            if self._bound is None:
                self._bind_answered(got.answers, session, now)
            else:
                relay.dispatch.answered(self._state, got.answers, now)
        if got.messages and self._bound is not None:
            relay.receipts.take(self._state, self._bound, got.messages, now)
        self.settle()
        relay.context.flush()

    def _bind_answered(self, answers: list[tuple[Any, int, int, bytes]], session: Session, now: float) -> None:
        _token, _command, status, _frame = answers[0]
        name = self.settings.name
        if status:
            log.error("upstream refused the bind", extra={"fields": {"upstream": name, "status": status_name(status)}})
            session.close("bind refused")
            return
        session.bound_as(self._command)
        self._failures = 0
        bound = self._bound = Bound(self, session)
        log.info("upstream bound", extra={"fields": {"upstream": name, "mode": self._command.name.lower()}})
        self._owner.relay.link_up(self._state, bound, now)
        self._work(b"")

    def settle(self) -> None:
        """Writes what is to be said, and lets the pipe follow the session."""
        session, pipe = self.session, self._pipe
        if session is None or pipe is None:
            return
        if session.out:
            pipe.write(session.take())
        if session.close_reason is not None:
            pipe.close(session.close_reason.partition(":")[0])
        elif session.blocked:
            pipe.pause()
        elif pipe.paused:
            pipe.resume()

    def go_on(self) -> None:
        """Something was put into ``session.out``; what was held back may go on."""
        session, pipe = self.session, self._pipe
        if session is None or pipe is None:
            return
        if session.out:
            pipe.write(session.take())
        if session.blocked and session.unanswered < session.window:
            self.received(b"")
        elif session.close_reason is not None:
            self.settle()

    def sweep(self, now: float) -> None:
        """Deadlines."""
        session = self.session
        if session is None:
            return
        expired = session.sweep(now)
        if expired:
            if self._bound is None:
                session.close("bind not answered")
            else:
                self._owner.relay.dispatch.unanswered(self._state, [t for t in expired if isinstance(t, Message)], now)
        if session.blocked:
            self.received(b"")
        self.settle()


class Bound:
    """A bound session as the relay sees it."""

    __slots__ = ("_link", "session")

    def __init__(self, link: UpstreamLink, session: Session) -> None:
        self._link = link
        self.session = session

    def flush(self) -> None:
        """See ``relay.model.Peer``."""
        if self._link.session is self.session:
            self._link.go_on()


__all__ = ["SessionState", "TlsError", "UpstreamLink", "Upstreams"]
