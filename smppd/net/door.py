"""The customers' door: the listeners, and all that decides who may connect and bind, put together in one place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any, NamedTuple

from smppd.config import Settings
from smppd.metrics import Metrics
from smppd.net import tls
from smppd.net.auth import ArgonPool, Authenticator
from smppd.net.endpoints import Listener
from smppd.net.handshakes import Handshakes
from smppd.net.limits import BindGuard, ConnectionLimits, Networks, normal_address
from smppd.net.transport import Handler, Pipe
from smppd.relay.views import LimitView

log = logging.getLogger("smppd.door")


class NamedBan(NamedTuple):
    """A ban that stands, for people: `scope` is `address`, or `name` when it is of one name from there; `who` that account,
    or a keyed hash of a name that is none; `left` in seconds."""

    address: str
    scope: str
    who: str
    left: float


class Door:
    """Decides everything before a bind: who may connect, whose TLS handshake is made, whose bind is checked."""

    def __init__(self, reactor: Any, settings: Settings, metrics: Metrics) -> None:
        self._reactor = reactor
        self._metrics = metrics
        self.listeners: list[Listener] = []
        self.ports: list[tuple[str, bool]] = []
        """Address with the port that was taken, and whether it speaks TLS."""
        limits, known = settings.limits, Networks.of(settings.accounts)
        self._limits = limits
        self._admission = ConnectionLimits(limits, known)
        self.guard = BindGuard(limits, serves=self._admission.serves)
        self._handshakes = Handshakes(reactor, limits, known)
        self._handshakes.on_wait = metrics.handshakes_delayed.inc
        self._argon = ArgonPool(reactor)
        self.authenticator = Authenticator(settings.accounts, limits, self.guard, self._argon, reactor)

    def open(self, settings: Settings, handler: Callable[[Pipe], Handler]) -> None:
        """Listens everywhere. tls.TlsError, twisted.internet.error.CannotListenError."""
        if tls.narrow:
            log.warning(
                "TLS 1.3 with P-256 alone: this Python lets nothing else be set", extra={"fields": {"why": tls.narrow}}
            )
        for one in settings.listeners:
            listener = Listener(
                one,
                settings.limits,
                self._admission,
                handler,
                self._refused,
                guard=self.guard,
                handshakes=self._handshakes,
            )
            port = listener.start(self._reactor)
            self.listeners.append(listener)
            self.ports.append((f"{one.host}:{port}", one.tls is not None))
        self._note_certificates()

    def stop(self) -> None:
        """Accepts no more. Sessions stay."""
        for listener in self.listeners:
            listener.stop()

    def close(self) -> None:
        """Checks no more passwords."""
        self._argon.stop()

    def reload_listeners(self, new: Settings) -> None:
        """New certificates for new connections; a bad one raises tls.TlsError before any listener has changed."""
        settings = {one.address: one for one in new.listeners}
        for listener in self.listeners:
            listener.try_reload(settings[listener.address])
        for listener in self.listeners:
            listener.reload(settings[listener.address], new.limits)
        self._note_certificates()

    def use(self, new: Settings) -> None:
        """New accounts and limits."""
        known = Networks.of(new.accounts)
        self.authenticator.reload(new.accounts, new.limits)
        self._limits = new.limits
        self._admission.reload(new.limits, known)
        self._handshakes.reload(new.limits, known)

    # -- bans ------------------------------------------------------------------------------------------------------

    def bans(self) -> Iterator[NamedBan]:
        """The bans that stand now, the oldest first. They are made one at a time, since there may be ten thousand."""
        for ban in self.guard.bans(self._reactor.seconds()):
            who = "" if ban.system_id is None else self.authenticator.name_for_log(ban.system_id)[1]
            yield NamedBan(ban.address, "address" if ban.system_id is None else "name", who, round(ban.left, 1))

    def lift(self, address: str) -> int:
        """Ends the bans and delays of an address; how many bans. ValueError when it is none."""
        return self.guard.lift(normal_address(str(ip_address(address.partition("/")[0]))), self._reactor.seconds())

    def limits(self) -> list[LimitView]:
        """How much of the limits on connections is used."""
        limits, counts = self._limits, self._admission
        places = (
            ("connections", limits.connections, counts.connections),
            ("connections not bound", limits.unbound, counts.unbound),
        )
        return [LimitView(name, None, limit, used, round(used / limit, 4)) for name, limit, used in places]

    def gauges(self) -> None:
        """Sets what is counted when it is asked for."""
        addresses, names = self.guard.count(self._reactor.seconds())
        self._metrics.bans.labels("address").set(addresses)
        self._metrics.bans.labels("name").set(names)

    # -- telling ---------------------------------------------------------------------------------------------------

    def _note_certificates(self) -> None:
        for listener in self.listeners:
            if listener.tls is not None:
                self._metrics.certificates.labels(listener.address).set(listener.tls.expires.timestamp())

    def _refused(self, reason: str, peer: str, detail: str) -> None:
        self._metrics.connections.labels("customer", reason).inc()
        log.info("connection refused", extra={"fields": {"peer": peer, "reason": reason, "detail": detail}})


__all__ = ["Door", "NamedBan"]
