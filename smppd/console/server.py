"""The console's HTTP: connections with limits, TLS, the Host header, a thread for each request, and its reply.

A connection carries one request at a time and may be used again. Of `CONNECTIONS` the one unused for longest gives way to the
next, and one address has at most a part of them, so nobody keeps the others out. A request has to be here within `READ` seconds
and is small; what takes no login is answered from memory.
"""

from __future__ import annotations

import logging
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred, succeed
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion
from twisted.python.failure import Failure

from smppd.config import Console as ConsoleSettings
from smppd.config.hosts import Hosts, plain_host
from smppd.console.app import LOGIN_PATHS, App
from smppd.console.files import STATIC
from smppd.console.threads import Busy, Workers
from smppd.console.web import HEADERS, HSTS, Incoming, Reply
from smppd.narrow_http import NarrowChannel, NarrowFactory, NarrowRequest

CONNECTIONS: Final = 256
"""Connections at one time; for one more the one unused for longest is cut."""
OF_ONE_ADDRESS: Final = 32
"""... of which from one address; behind a proxy that is all of them, but a proxy is not supported."""
READ: Final = 15.0
"""Seconds from a request's first octet to its last, and from connecting to the first request's end."""
IDLE: Final = 30.0
"""Seconds after which an unused connection is closed."""
REPLY: Final = 60.0
"""Seconds after which a request that has no reply yet is cut."""
MAX_BODY: Final = 64 * 1024
"""Octets of a form."""
PAGES: Final = 6
LOGINS: Final = 2
"""Threads that make pages, and that look at logins (20 ms of CPU each)."""
PAGES_WAITING: Final = 48
LOGINS_WAITING: Final = 12
"""Requests that may wait for one of these threads; more are told to come again."""

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, as towards customers: forward secrecy and authenticated encryption."""

log = logging.getLogger("smppd.console")


class ConsoleServer:
    """Listens and answers."""

    def __init__(self, reactor: Any, settings: ConsoleSettings, app: App) -> None:
        self._reactor = reactor
        self._settings = settings
        self._app = app
        self._hosts: Final = Hosts((*settings.hosts, settings.host))
        self._pages = Workers(reactor, "pages", PAGES, PAGES_WAITING)
        self._logins = Workers(reactor, "logins", LOGINS, LOGINS_WAITING)
        self._factory = _Factory(reactor, self._answer, IDLE)
        self._port: Any = None

    def start(self) -> int:
        """Listens; the port, which matters when the settings say 0. twisted.internet.error.CannotListenError, and OSError or
        ValueError where the certificate cannot be used."""
        host, port = self._settings.host, self._settings.port
        tls = self._settings.tls
        if tls is None:
            self._port = self._reactor.listenTCP(port, self._factory, backlog=CONNECTIONS, interface=host)
        else:
            context = tls_context(tls.certificate, tls.key)
            self._port = self._reactor.listenSSL(port, self._factory, context, backlog=CONNECTIONS, interface=host)
        self._pages.start()
        self._logins.start()
        return int(self._port.getHost().port)

    def stop(self) -> Deferred[Any]:
        """Closes the port and every connection; fires when nothing is under way any more."""
        port, self._port = self._port, None
        stopping = succeed(None) if port is None else maybeDeferred(port.stopListening)
        for channel in list(self._factory.channels):
            channel.cut()

        def quiet(_result: object) -> None:
            self._pages.stop()
            self._logins.stop()

        return DeferredList([stopping]).addBoth(quiet)

    # -- requests ----------------------------------------------------------------------------------------------------------

    def _answer(self, request: _Request) -> None:
        secure = self._settings.tls is not None
        named = request.requestHeaders.getRawHeaders(b"host") or []
        asked: Any = request  # the base class has no types
        local = str(getattr(asked.getHost(), "host", ""))
        refusal = self._hosts.refusal(named[0].decode("latin-1"), local) if len(named) == 1 else 400
        if refusal:
            text = b"This is not a name of the console; see console.hosts.\n"
            request.respond(Reply(refusal, text, "text/plain; charset=utf-8"), secure)
            return
        path = request.path.decode("latin-1")
        file = STATIC.get(path)
        if file is not None:
            request.respond(file.reply(request.getHeader("if-none-match") or ""), secure)
            return
        incoming = Incoming(
            request.method.decode("latin-1"),
            path,
            request.query.decode("latin-1"),
            {
                name.decode("latin-1").lower(): values[0].decode("utf-8", "replace")
                for name, values in request.requestHeaders.getAllRawHeaders()
            },
            request.content.read(),
            browser_address(str(getattr(asked.getClientAddress(), "host", ""))),
            secure,
        )
        began = self._reactor.seconds()
        costs_a_hash = path in LOGIN_PATHS and request.method == b"POST"
        workers = self._logins if costs_a_hash else self._pages
        running = workers.run(lambda: self._app.reply(incoming))
        running.addCallbacks(
            lambda reply: self._send(request, reply, began, secure),
            lambda failure: self._failed(request, failure, secure),
        )

    def _send(self, request: _Request, reply: Reply, began: float, secure: bool) -> None:
        early = began + reply.floor - self._reactor.seconds()
        if early > 0:
            self._reactor.callLater(early, request.respond, reply, secure)
        else:
            request.respond(reply, secure)

    def _failed(self, request: _Request, failure: Failure, secure: bool) -> None:
        if not isinstance(failure.value, Busy):
            log.error("a request failed", exc_info=failure.value)
            request.respond(
                Reply(500, b"It failed; the console's log says why.\n", "text/plain; charset=utf-8"), secure
            )
            return
        headers = (("Retry-After", "5"),)
        text = b"The console is busy. Try again in some seconds.\n"
        request.respond(Reply(503, text, "text/plain; charset=utf-8", headers), secure)


def tls_context(certificate: Path, key: Path) -> CertificateOptions:
    """TLS 1.2 and 1.3 with a certificate, its chain and its key. OSError or ValueError where they cannot be used."""
    from OpenSSL import SSL, crypto

    suites: Any = AcceptableCiphers  # it has no types
    try:
        chain = _certificates(certificate.read_bytes())
        private = crypto.load_privatekey(crypto.FILETYPE_PEM, key.read_bytes(), b"")
        options = CertificateOptions(
            privateKey=private,
            certificate=chain[0],
            extraCertChain=chain[1:],
            raiseMinimumTo=TLSVersion.TLSv1_2,
            acceptableCiphers=suites.fromOpenSSLCipherString(CIPHERS),
            acceptableProtocols=[b"http/1.1"],  # a browser asks for it, and would be cut off without an answer
        )
        options.getContext().set_session_cache_mode(SSL.SESS_CACHE_OFF)
        options.getContext().set_options(SSL.OP_NO_TICKET | SSL.OP_CIPHER_SERVER_PREFERENCE)
    except (crypto.Error, SSL.Error, IndexError) as error:
        raise ValueError(f"{certificate} and {key} are no certificate and its key") from error
    return options


def _certificates(pem: bytes) -> list[Any]:
    from OpenSSL import crypto

    end = b"-----END CERTIFICATE-----"
    parts = pem.split(end)[:-1]
    return [crypto.load_certificate(crypto.FILETYPE_PEM, part + end + b"\n") for part in parts]


def browser_address(address: str) -> str:
    """A browser's address as logins know it: empty for this host."""
    plain = plain_host(address.partition("%")[0])
    try:
        return "" if ip_address(plain).is_loopback else plain
    except ValueError:
        return plain


# -- the protocol ------------------------------------------------------------------------------------------------------


class _Request(NarrowRequest):
    """One request; its body is a form."""

    channel: _Channel
    max_body = MAX_BODY

    def keep(self, data: bytes) -> None:
        self.content.write(data)

    def respond(self, reply: Reply, secure: bool) -> None:
        """Sends the reply, once; HEAD gets its headers only. Nothing when the browser went away."""
        if self.gone or self.finished:
            return
        out: Any = self  # the base class has no types
        self.set_status(reply.status)
        fixed = [*HEADERS, *((HSTS,) if secure else ())]
        if not any(name == "Cache-Control" for name, _ in reply.headers):
            fixed.append(("Cache-Control", "no-store"))
        if reply.status != 304:
            fixed += [("Content-Type", reply.kind), ("Content-Length", str(len(reply.body)))]
        for name, value in (*fixed, *reply.headers):
            out.responseHeaders.addRawHeader(name.encode("ascii"), value.encode("ascii", "replace"))
        out.write(reply.body)
        self.channel.answered()  # before the end, behind which the next request may be here at once
        out.finish()


class _Channel(NarrowChannel):
    """One connection."""

    requestFactory = _Request
    address = ""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.wait(READ)

    def request_is_here(self) -> None:
        """It is answered, or cut."""
        self.wait(REPLY)

    def answered(self) -> None:
        """The reply is on its way; the next request has some time. The connection is now the one used last."""
        if self in self.factory.channels:
            self.factory.channels[self] = self.factory.channels.pop(self)
            self.wait(IDLE + READ)


class _Factory(NarrowFactory[_Channel]):
    """Connections up to the limits; the one unused for longest stands first."""

    protocol = _Channel  # type: ignore[assignment]  # HTTP/1.1 alone: no negotiation

    def buildProtocol(self, addr: Any) -> Any:
        address = str(getattr(addr, "host", ""))
        same = [one for one in self.channels if one.address == address]
        if len(same) >= OF_ONE_ADDRESS and browser_address(address):
            same[0].cut()
        elif len(self.channels) >= CONNECTIONS:
            next(iter(self.channels)).cut()
        wrapped: Any = super().buildProtocol(addr)
        if wrapped is not None:
            wrapped.address = address
        return wrapped
