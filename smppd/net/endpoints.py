"""Where pipes come from: listeners that accept customers, and attempts to connect to an upstream."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.protocol import Factory

from smppd import config
from smppd.net.handshakes import Handshakes
from smppd.net.limits import AdmissionRefusal, BindGuard, ConnectionLimits
from smppd.net.tls import TlsClient, TlsServer
from smppd.net.transport import ClientHandler, Handler, Pipe, Reason

CONNECT_WITHIN: Final = 10.0
"""Seconds for a connection to come about, the name's look-up included."""
_BACKLOG: Final = 1024

# -- listening -----------------------------------------------------------------------------------------------------

Refused = Callable[[str, str, str], None]
"""Told of each connection that never opened: reason (`Reason` or `limits.Full`), peer, detail."""


class Listener(Factory):
    """One address where customers connect. Errors of accept (no more files) are Twisted's to survive: it goes on."""

    noisy = False

    def __init__(
        self,
        settings: config.Listener,
        limits: config.Limits,
        admission: ConnectionLimits,
        handler: Callable[[Pipe], Handler],
        refused: Refused,
        *,
        guard: BindGuard | None = None,
        handshakes: Handshakes | None = None,
    ) -> None:
        """`handler` makes the handler of each opened pipe. `guard` says who is banned; `handshakes` whose turn it is, without
        it they are made as they come. tls.TlsError when a certificate cannot be used."""
        self._settings = settings
        self._limits = limits
        self._admission = admission
        self._handler = handler
        self._refused = refused
        self._guard = guard
        self._handshakes = handshakes
        self._behind: dict[str, dict[Pipe, None]] = {}  # by proxy: connections whose header is still to come, in order
        self._reactor: Any = None
        self._port: Any = None
        self._opening: set[Pipe] = set()
        self.tls = TlsServer(settings.tls) if settings.tls is not None else None

    def start(self, reactor: Any) -> int:
        """Listens; the port, which matters when the settings say 0. twisted.internet.error.CannotListenError."""
        self._reactor = reactor
        self._port = reactor.listenTCP(self._settings.port, self, backlog=_BACKLOG, interface=self._settings.host)
        return int(self._port.getHost().port)

    def stop(self) -> Deferred[None]:
        """Accepts no more and cuts what is not open yet; open pipes stay. Fires when the port is free."""
        for pipe in list(self._opening):
            pipe.abort(Reason.CLOSED)
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        return Deferred.fromCoroutine(_stopped(port))

    @property
    def address(self) -> str:
        """The address as configured."""
        return self._settings.address

    def try_reload(self, settings: config.Listener) -> None:
        """Raises tls.TlsError where `reload` would; changes nothing."""
        if self.tls is not None and settings.tls is not None:
            TlsServer(settings.tls)

    def reload(self, settings: config.Listener, limits: config.Limits) -> None:
        """For connections from now on. Same address, TLS as before or not (that needs a restart). tls.TlsError."""
        if self.tls is not None and settings.tls is not None:
            self.tls.reload(settings.tls)
        self._settings, self._limits = settings, limits

    def buildProtocol(self, addr: object) -> Pipe:
        proxies = self._settings.proxy_from if self._settings.proxy_protocol == "required" else None
        pipe = Pipe(self, self._reactor, self._limits, tls=self.tls, proxies=proxies)
        self._opening.add(pipe)
        return pipe

    def behind_proxy(self, pipe: Pipe) -> None:
        """A proxy sends its header at once, so of too many without one the oldest goes."""
        waiting = self._behind.setdefault(pipe.peer, {})
        waiting[pipe] = None
        if len(waiting) > self._limits.proxy_pending:
            oldest = next(iter(waiting))
            self._header_came(oldest)
            oldest.abort(Reason.PROXY_WAITS)

    def _header_came(self, pipe: Pipe) -> None:
        waiting = self._behind.get(pipe.proxy)
        if waiting is not None:
            waiting.pop(pipe, None)
            if not waiting:
                del self._behind[pipe.proxy]

    def admit(self, pipe: Pipe) -> str | None:
        self._header_came(pipe)
        if self._guard is not None and self._guard.banned(pipe.peer, self._reactor.seconds()):
            return AdmissionRefusal.BANNED
        refusal = self._admission.admit(pipe.peer, pipe)
        pipe.admitted = refusal is None
        return refusal

    def evicted(self, pipe: Pipe) -> None:
        if pipe not in self._opening:  # otherwise `ended` is called
            self._refused(AdmissionRefusal.EVICTED, pipe.peer, "")

    def hello(self, pipe: Pipe) -> None:
        if self._handshakes is not None:
            self._handshakes.request_turn(pipe)
        else:
            pipe.shake()

    def handshake_step_took(self, pipe: Pipe, seconds: float) -> None:
        if self._handshakes is not None:
            self._handshakes.charge_time(pipe, seconds)

    def opened(self, pipe: Pipe) -> Handler:
        self._opening.discard(pipe)
        return self._handler(pipe)

    def bound(self, pipe: Pipe) -> None:
        self._admission.bound(pipe.peer, pipe)

    def ended(self, pipe: Pipe, reason: str, opened: bool) -> None:
        self._opening.discard(pipe)
        self._header_came(pipe)
        if self._handshakes is not None:
            self._handshakes.leave(pipe)
        if pipe.admitted:
            self._admission.gone(pipe.peer, pipe.is_bound, pipe)
        if not opened:
            self._refused(reason, pipe.peer, pipe.detail)


async def _stopped(port: Any) -> None:
    await port.stopListening()


# -- connecting ----------------------------------------------------------------------------------------------------


class ConnectAttempt(Factory):
    """One attempt to connect: ends in the handler's `connected` or `failed`, unless cancelled."""

    noisy = False

    def __init__(self, reactor: Any, limits: config.Limits, handler: ClientHandler, tls: TlsClient | None) -> None:
        self._reactor = reactor
        self._limits = limits
        self._handler = handler
        self._tls = tls
        self._done = False
        self._connecting: Deferred[Any] | None = None
        self._pipe: Pipe | None = None

    def cancel(self) -> None:
        """Gives up, and calls nothing of the handler. After `connected` it has no effect: close the pipe."""
        if not self._done:
            self._done = True
            if self._pipe is not None:
                self._pipe.abort()
            elif self._connecting is not None:
                self._connecting.cancel()

    def start(self, host: str, port: int, source: str | None = None) -> None:
        """Resolves and connects, every address of the name in turn (RFC 8305), within 10 s in all; from the address ``source``
        of this host, where one is given."""
        endpoint = _endpoint(self._reactor, host, port, source)
        self._connecting = connecting = endpoint.connect(self)
        connecting.addTimeout(CONNECT_WITHIN, self._reactor)
        connecting.addCallbacks(lambda _: None, self._failure)

    def buildProtocol(self, addr: object) -> Pipe:
        return Pipe(self, self._reactor, self._limits, tls=self._tls)

    def behind_proxy(self, pipe: Pipe) -> None:
        pass

    def hello(self, pipe: Pipe) -> None:
        pipe.shake()

    def handshake_step_took(self, pipe: Pipe, seconds: float) -> None:
        pass

    def evicted(self, pipe: Pipe) -> None:
        pass

    def admit(self, pipe: Pipe) -> str | None:
        self._pipe = pipe
        return None

    def opened(self, pipe: Pipe) -> Handler:
        self._done = True
        return self._handler

    def bound(self, pipe: Pipe) -> None:
        pass

    def ended(self, pipe: Pipe, reason: str, opened: bool) -> None:
        if not opened:
            self._fail(reason, pipe.detail)

    def _failure(self, failure: Any) -> None:
        if failure.check(error.TimeoutError, error.ConnectingCancelledError, CancelledError, TimeoutError):
            reason = Reason.TIMEOUT
        elif failure.check(error.ConnectionRefusedError):
            reason = Reason.REFUSED
        elif failure.check(error.DNSLookupError):
            reason = Reason.NAME
        elif failure.check(error.ConnectBindError):
            reason = Reason.SOURCE
        else:
            reason = Reason.UNREACHABLE
        self._fail(reason, failure.getErrorMessage())

    def _fail(self, reason: str, detail: str) -> None:
        if not self._done:
            self._done = True
            self._handler.failed(reason, detail)


def _endpoint(reactor: Any, host: str, port: int, source: str | None) -> Any:
    """IStreamClientEndpoint; an address needs no resolver, and so no thread."""
    try:
        version = ipaddress.ip_address(host.partition("%")[0]).version
    except ValueError:
        return HostnameEndpoint(reactor, host, port, timeout=CONNECT_WITHIN, bindAddress=source)
    kind: Any = TCP4ClientEndpoint if version == 4 else TCP6ClientEndpoint
    return kind(reactor, host, port, timeout=CONNECT_WITHIN, bindAddress=None if source is None else (source, 0))


def connect(
    reactor: Any,
    upstream: config.Upstream,
    limits: config.Limits,
    handler: ClientHandler,
    tls: TlsClient | None,
    at: int = 0,
) -> ConnectAttempt:
    """Connects to an upstream, to its address number `at`. `tls` is what `tls.client_of(upstream)` gave once (making a context
    reads files)."""
    if (upstream.tls is None) != (tls is None):
        raise ValueError("tls must be given exactly when the upstream speaks it")
    host, port = upstream.endpoints[at]
    attempt = ConnectAttempt(reactor, limits, handler, None if tls is None else tls.towards(host))
    attempt.start(host, port, upstream.source_address)
    return attempt
