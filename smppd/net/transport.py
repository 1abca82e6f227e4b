"""One byte pipe between smppd and a peer, plain or TLS, accepted or connected; nothing here knows SMPP.

A pipe opens in order: PROXY header (if the listener wants one), admission, TLS handshake, then its handler. Each step
has a deadline. What a peer does not read is bounded: reading from it pauses, and after a while it is cut.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from enum import Enum, StrEnum, auto
from typing import Any, Final, Protocol

from twisted.internet import error
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone

from smppd import config
from smppd.net import proxy
from smppd.net.hello import Progress, after_retry, asks_again, is_costly, progress
from smppd.net.limits import AdmissionRefusal, normal_address
from smppd.net.tls import StreamMaker, TlsStream, looks_like_tls

PROXY_WITHIN: Final = 5.0
CLOSE_WITHIN: Final = 5.0
"""Seconds for a PROXY header, and for a closing pipe to be flushed."""
SAY_WITHIN: Final = 1.0
"""Seconds after which a connection that has said nothing may have to go for another one from its address."""


class Reason(StrEnum):
    """Why a pipe ended or never opened; few enough to be metric labels. `limits.Full` adds those of admission."""

    CLOSED = "closed"
    ABORTED = "aborted"
    CLOSED_BY_PEER = "closed by peer"
    LOST = "connection lost"
    UNREAD = "peer does not read"
    TLS = "tls error"
    GARBAGE = "wrong protocol"
    HANDSHAKE_TIMEOUT = "tls handshake timed out"
    PROXY = "bad PROXY header"
    PROXY_TIMEOUT = "PROXY header timed out"
    UNTRUSTED_PROXY = "not a trusted proxy"
    PROXY_WAITS = "too many without a PROXY header"
    REFUSED = "connection refused"
    TIMEOUT = "connecting timed out"
    NAME = "name not found"
    UNREACHABLE = "cannot connect"
    SOURCE = "source address cannot be used"


class Handler(Protocol):
    """Who talks over a pipe. None of these may raise: there is nobody above who could answer the peer."""

    def connected(self, pipe: Pipe) -> None:
        """The pipe is open: after the PROXY header and the TLS handshake."""

    def received(self, data: bytes) -> None:
        """Plain octets, at least one, all that one read brought."""

    def lost(self, reason: str) -> None:
        """The pipe ended, said exactly once if `connected` was: a `Reason`, or what close() or abort() was given."""


class ClientHandler(Handler, Protocol):
    """The handler of a connection that we make."""

    def failed(self, reason: str, detail: str) -> None:
        """The pipe did not open (instead of `connected`). `detail` is text for the log, free of secrets."""


class PipeOwner(Protocol):
    """The maker of pipes. It is told what happens to each pipe, and gives each its handler."""

    def behind_proxy(self, pipe: Pipe) -> None:
        """A proxy has connected. The peer behind it is not known yet; `pipe.peer` is the proxy."""

    def admit(self, pipe: Pipe) -> str | None:
        """The peer is known. A reason that is returned refuses it."""

    def hello(self, pipe: Pipe) -> None:
        """A client's ClientHello is here; the owner calls `pipe.shake` when it is its turn."""

    def handshake_step_took(self, pipe: Pipe, seconds: float) -> None:
        """A further step of a handshake took so many seconds: the answer to a HelloRetryRequest, or a client's
        certificate."""

    def evicted(self, pipe: Pipe) -> None:
        """The pipe is about to be cut: its place is given to another."""

    def opened(self, pipe: Pipe) -> Handler:
        """The pipe is open; who talks over it."""

    def bound(self, pipe: Pipe) -> None:
        """The handler says that the peer has authenticated."""

    def ended(self, pipe: Pipe, reason: str, opened: bool) -> None:
        """The pipe is gone."""


class Tap(Protocol):
    """Hears what goes through a pipe while it is open (`net.tracing`)."""

    def received(self, data: bytes) -> None:
        """Plain octets from the peer, before the handler has them."""

    def sent(self, data: bytes) -> None:
        """Plain octets to the peer."""

    def closed(self, reason: str) -> None:
        """The pipe has ended."""


class _State(Enum):
    PROXY = auto()
    HANDSHAKE = auto()
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


class Pipe(TwistedProtocol):
    """A connection as its handler sees it.

    Two things stop reading, each for itself: the handler (`pause`), and `choked`, which is more than `limits.unsent`
    octets (at least 64 KiB) unsent and ends when all of them are sent.
    """

    # One a connection: with more than 30 names in its dictionary an object keeps all of them for itself, 1 KiB each.
    __slots__ = (
        "_again",
        "_asked",
        "_came",
        "_clock",
        "_first",
        "_handler",
        "_held",
        "_limits",
        "_owner",
        "_proxies",
        "_socket",
        "_state",
        "_taken",
        "_taken_at",
        "_timer",
        "_tls",
        "_tls_maker",
        "_why",
        "_written",
        "admitted",
        "certificate",
        "choked",
        "dear",
        "detail",
        "is_bound",
        "local",
        "on_drained",
        "paused",
        "peer",
        "peer_port",
        "proxy",
        "tap",
        "tls_version",
    )

    transport: Any  # ITCPTransport: zope's interfaces have no types

    def __init__(
        self,
        owner: PipeOwner,
        clock: Any,
        limits: config.Limits,
        *,
        tls: StreamMaker | None = None,
        proxies: tuple[config.IPNetwork, ...] | None = None,
    ) -> None:
        """`clock`: IReactorTime. `proxies`: those who must begin with a PROXY header, None when nobody does."""
        self._owner = owner
        self._clock = clock
        self._limits = limits
        self._tls_maker = tls
        self._proxies = proxies
        self._tls: TlsStream | None = None
        self._handler: Handler | None = None
        self._state = _State.HANDSHAKE
        self._timer: Any = None  # IDelayedCall of the one deadline that runs: opening, choked or closing
        self._held = b""  # plain octets that came while paused, or the beginning of a PROXY header or a ClientHello
        self._asked = False  # it waits for the turn of its handshake
        self._again = False  # a HelloRetryRequest was sent: there is a second hello to come
        self._first = False  # it has its turn, and `shake` is measured by whoever gave it
        self._came = 0.0
        self._why: str | None = None
        self._socket: socket.socket | None = None  # None where the transport has none: in tests
        self._written = self._taken = 0
        self._taken_at = 0.0
        self.dear = False
        """Whether its handshake takes ten times as long as another. (`handshakes.Waiting`)"""
        self.admitted = self.is_bound = False
        self.paused = self.choked = False
        self.on_drained: Callable[[], None] | None = None
        """Called when `choked` ends."""
        self.tap: Tap | None = None
        """Who else hears what goes through it."""
        self.detail = ""
        """Why it did not open, for the log."""
        self.peer = self.local = self.proxy = ""
        self.peer_port = 0
        self.certificate: bytes | None = None
        """The peer's verified certificate, DER."""
        self.tls_version: str | None = None

    def __repr__(self) -> str:
        return f"<Pipe {self.peer}:{self.peer_port} {self._state.name.lower()}>"

    # -- for the handler -------------------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Octets not yet taken by the kernel."""
        transport = self.transport
        try:
            # Twisted keeps both buffers to itself; a test over a real socket notices when that changes.
            return len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # type: ignore[no-any-return]
        except AttributeError:
            return 0

    @property
    def tls_cipher(self) -> str | None:
        """OpenSSL's name of the cipher suite; None where it is plain."""
        return None if self._tls is None else self._tls.cipher

    def write(self, data: bytes) -> None:
        """Sends octets; after the pipe's end they are dropped."""
        if self._state is not _State.OPEN or not data:
            return
        if self.tap is not None:
            self.tap.sent(data)
        if self._tls is not None:
            data = self._tls.encrypt(data)
            if self._tls.failed is not None:
                self._tls_failed()
                return
        self._put(data)

    def pause(self) -> None:
        """Stops reading. What was read already is held back too, unless `received` has it."""
        self.paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Goes on reading; what was held back comes first, from the reactor, never from within this call."""
        if self.paused:
            self.paused = False
            self._go_on()

    def mark_bound(self) -> None:
        """The peer has authenticated: it no longer counts as an unbound connection."""
        if self.admitted and not self.is_bound and self._state is not _State.CLOSED:
            self.is_bound = True
            self._owner.bound(self)

    def close(self, reason: str = Reason.CLOSED) -> None:
        """Sends what is unsent and TLS close_notify, then closes; cut after 5 s. `lost` gets `reason`."""
        if self._state is not _State.OPEN:
            if self._state is not _State.CLOSING:
                self.abort(reason)
            return
        self._why = reason
        if self._tls is not None:
            self.transport.write(self._tls.close())
        self._finish()

    def abort(self, reason: str = Reason.ABORTED) -> None:
        """Cuts at once; unsent octets are lost. `lost` gets `reason`, or that of an earlier close()."""
        if self._state is not _State.CLOSED:
            self._state = _State.CLOSING
            self._why = self._why or reason
            self._cancel_timer()
            self.transport.abortConnection()

    # -- from the transport ----------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport = self.transport
        self._socket = getattr(transport, "socket", None)
        # An endpoint's wrapper would hand over each chunk.
        transport.protocol = self
        self._came = self._clock.seconds()
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        peer, host = transport.getPeer(), transport.getHost()
        self.peer = self.proxy = normal_address(peer.host)
        self.peer_port = peer.port
        self.local = f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"
        if self._proxies is None:
            self._peer_known(b"")
        elif any(ipaddress.ip_address(self.peer) in network for network in self._proxies):
            self._state = _State.PROXY
            self._deadline(PROXY_WITHIN, Reason.PROXY_TIMEOUT)
            self._owner.behind_proxy(self)
        else:
            self.abort(Reason.UNTRUSTED_PROXY)

    def dataReceived(self, data: bytes) -> None:
        if self._state is _State.OPEN:
            self._received(self._tls.receive(data) if self._tls is not None else data)
        elif self._state is _State.HANDSHAKE:
            self._shake(data)
        elif self._state is _State.PROXY:
            self._proxy(data)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        opened, handler = self._handler is not None, self._handler
        self._state = _State.CLOSED
        self._cancel_timer()
        self._handler = self.on_drained = None  # no cycles left for the collector
        self._held = b""
        why = self._why or (Reason.CLOSED_BY_PEER if reason.check(error.ConnectionDone) else Reason.LOST)
        self._owner.ended(self, why, opened)
        if handler is not None:
            handler.lost(why)
        tap, self.tap = self.tap, None
        if tap is not None:
            tap.closed(why)

    def pauseProducing(self) -> None:
        """Twisted: a write left much unsent. (IPushProducer of the transport: what we produce is output.)"""
        if self._state is _State.OPEN and not self.choked and self.unsent > self._limits.unsent:
            self.choked = True
            self.transport.pauseProducing()
            self._taken, self._taken_at = self._written - self.unsent, self._clock.seconds()
            self._watch_later()

    def resumeProducing(self) -> None:
        """Twisted: everything is sent."""
        if self.choked and self._state is _State.OPEN:
            self.choked = False
            self._cancel_timer()
            self._go_on()
            if self.on_drained is not None:
                self.on_drained()

    def stopProducing(self) -> None:
        """Twisted: the connection is gone; connectionLost tells."""

    # -- opening ---------------------------------------------------------------------------------------------------

    def _proxy(self, data: bytes) -> None:
        self._held += data  # at most a header and one chunk
        try:
            header = proxy.parse(self._held)
        except proxy.ProxyError as problem:
            self.detail = str(problem)
            self.abort(Reason.PROXY)
            return
        if header is None:
            return
        rest, self._held = self._held[header.length :], b""
        if header.source is not None:
            self.peer, self.peer_port = normal_address(header.source), header.port
        self._cancel_timer()
        self._peer_known(rest)

    def _peer_known(self, rest: bytes) -> None:
        self._state = _State.HANDSHAKE
        refusal = self._owner.admit(self)
        if refusal is not None:
            self.abort(refusal)
        elif self._tls_maker is None:
            self._open(rest)
        else:
            self._tls = self._tls_maker.stream()
            self._deadline(self._limits.tls_handshake, Reason.HANDSHAKE_TIMEOUT)
            self._tls.begin()
            self._flush_tls()
            if rest:
                self._shake(rest)

    def _shake(self, data: bytes) -> None:
        tls = self._tls
        assert tls is not None  # plain pipes open without a handshake
        if not tls.begun:
            self._hello(data)
            return
        began = self._clock.seconds()
        plain = tls.receive(data)
        if not self._first:
            self._owner.handshake_step_took(self, self._clock.seconds() - began)
        answer = tls.outgoing()
        if answer:
            self._put(answer)
        if tls.failed is not None:
            self._tls_failed()
        elif tls.open:
            self.certificate, self.tls_version = tls.certificate, tls.version
            self._open(plain)
        elif asks_again(answer):
            self._again, self._asked, tls.begun = True, False, False  # the dear step is still to come, and has its turn

    def _hello(self, data: bytes) -> None:
        """Gathers a client's hello, also the one after a HelloRetryRequest. Nothing is computed for it until it is whole, and
        until it is its turn."""
        self._held += data
        hello = after_retry(self._held) if self._again else self._held
        if hello and not looks_like_tls(hello):
            self.detail = "not TLS"
            self.abort(Reason.GARBAGE)
        elif not self._asked and (how := progress(hello)) is not Progress.MORE:
            if how is Progress.WRONG:
                self.detail = "not a ClientHello that is taken"
                self.abort(Reason.TLS)
                return
            self._asked, self.dear = True, is_costly(hello)
            self.transport.pauseProducing()  # what has been read already, one chunk at most, still comes
            self._owner.hello(self)

    def shake(self) -> None:
        """It has its turn: goes on with the TLS handshake, unless the peer has gone meanwhile."""
        if self._state is _State.HANDSHAKE and self._tls is not None:
            if self._hung_up():
                self.abort(Reason.CLOSED_BY_PEER)
                return
            held, self._held = self._held, b""
            self._tls.begun = True
            self.transport.resumeProducing()
            self._first = True
            try:
                self._shake(held)
            finally:
                self._first = False

    def _hung_up(self) -> bool:
        """Whether the peer has closed the connection. A pipe that waits for its turn is not read from, so nothing else would
        notice."""
        try:
            return self._socket is not None and self._socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    @property
    def idle(self) -> bool:
        """Whether it has said nothing that we would be at work for, and had a second to. (`limits.Guest`)"""
        if self._clock.seconds() - self._came < SAY_WITHIN:
            return False
        # While a bind is decided the handler does not read.
        return not self.paused if self._state is _State.OPEN else not self._asked

    def evict(self) -> None:
        """Its place among those not bound yet goes to another. (`limits.Guest`)"""
        self.admitted = False
        self._owner.evicted(self)
        self.abort(AdmissionRefusal.EVICTED)

    def _open(self, plain: bytes) -> None:
        self._cancel_timer()
        self._state = _State.OPEN
        self.transport.registerProducer(self, True)
        self._handler = handler = self._owner.opened(self)
        handler.connected(self)
        if self._state is _State.OPEN:
            self._received(plain)

    # -- open ------------------------------------------------------------------------------------------------------

    def _received(self, plain: bytes) -> None:
        if self.paused or self.choked or self._held:
            # Another pipe's handler paused this one after the reactor had seen it readable: one chunk at most.
            self._held += plain
            return
        if plain and self._handler is not None:
            if self.tap is not None:
                self.tap.received(plain)
            self._handler.received(plain)
        if self._tls is not None and self._state is _State.OPEN:
            self._after_records(self._tls)

    def _after_records(self, tls: TlsStream) -> None:
        """Handles what TLS itself reports, after the handler got all octets that came before."""
        self._flush_tls()
        if tls.failed is not None:
            self._tls_failed()
        elif tls.closed:
            self.close(Reason.CLOSED_BY_PEER)

    def _go_on(self) -> None:
        if self.paused or self.choked or self._state is not _State.OPEN:
            return
        tls = self._tls
        if self._held or (tls is not None and (tls.closed or tls.failed is not None)):
            self._clock.callLater(0, self._release)
        else:
            self.transport.resumeProducing()

    def _release(self) -> None:
        if self.paused or self.choked or self._state is not _State.OPEN:
            return
        held, self._held = self._held, b""
        self._received(held)
        self._go_on()

    def _flush_tls(self) -> None:
        if self._tls is not None:
            data = self._tls.outgoing()
            if data:
                self._put(data)

    def _put(self, data: bytes) -> None:
        """Gives octets to the kernel, and to Twisted those that the kernel does not take now. Twisted alone would send them
        in the next turn, and change twice what the reactor watches."""
        self._written += len(data)
        transport, sock = self.transport, self._socket
        if sock is not None and not transport.dataBuffer and not transport._tempDataLen:
            try:
                sent = sock.send(data)
            except OSError:
                sent = 0  # no room, or the connection has ended, which the transport will notice itself
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    def _tls_failed(self) -> None:
        """Sends the alert, then closes."""
        assert self._tls is not None
        self.detail = self._tls.failed or ""
        self._why = Reason.TLS
        self._flush_tls()
        self._finish()

    # -- deadlines and the end -------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._state = _State.CLOSING
        self._cancel_timer()
        self._deadline(CLOSE_WITHIN, Reason.ABORTED)
        # A producer that Twisted has paused would keep it from closing.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _watch_later(self) -> None:
        self._timer = self._clock.callLater(self._limits.unsent_abort / 6, self._watch)

    def _watch(self) -> None:
        taken, now = self._written - self.unsent, self._clock.seconds()
        if taken > self._taken:
            self._taken, self._taken_at = taken, now
        elif now - self._taken_at >= self._limits.unsent_abort:
            self._timer = None
            self.abort(Reason.UNREAD)
            return
        self._watch_later()

    def _deadline(self, seconds: float, reason: str) -> None:
        self._timer = self._clock.callLater(seconds, self._late, reason)

    def _late(self, reason: str) -> None:
        self._timer = None
        self.abort(reason)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
