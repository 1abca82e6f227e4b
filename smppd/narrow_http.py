"""Twisted's HTTP/1.1, narrowed for the daemon's port and the console's: a small body in memory, no cookies or forms of the base
classes, no access log, limits on time and size.

Each server inherits from the three classes and says what it answers and which connection gives way.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, ClassVar, Generic, TypeVar

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http


class NarrowRequest(http.Request):
    """One request. A server's own class has a method that answers, once and whole."""

    max_body: ClassVar[int]
    """Octets of a body; who sends more is cut."""
    channel: Any
    content: BytesIO
    """The body, where it is kept."""
    query = b""
    gone = False
    """Nobody waits for a reply any more."""
    _read = 0

    def gotLength(self, length: int | None) -> None:
        """The base class would open a temporary file for a long body."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self._read += len(data)
        if self._read > self.max_body:
            self.gone = True
            self.channel.cut()
        else:
            self.keep(data)

    def keep(self, data: bytes) -> None:
        """Takes a piece of the body. Here it is thrown away."""

    def set_status(self, code: int) -> None:
        """The status of the reply. Twisted does not know the phrase of 421 (RFC 9110 section 15.5.20)."""
        base: Any = self  # the base class has no types
        base.setResponseCode(code, b"Misdirected Request" if code == 421 else None)

    def parseCookies(self) -> None:
        """Whoever wants them reads them."""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Like the base class, less forms and queries."""
        if self.gone:
            return
        self.method, self.uri, self.clientproto = command, path, version
        self.path, _, self.query = path.partition(b"?")
        self.content.seek(0)
        self.channel.request_is_here()
        self.channel.factory.answer(self)

    def connectionLost(self, reason: Any) -> None:
        self.gone = True
        base: Any = super()
        base.connectionLost(reason)


class NarrowChannel(http.HTTPChannel):
    """One connection."""

    factory: Any
    maxHeaders = 64
    _deadline: Any = None
    _over = False

    def connectionMade(self) -> None:
        base: Any = super()
        base.connectionMade()
        self.factory.channels[self] = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.channels.pop(self, None)
        self.wait(None)
        base: Any = super()
        base.connectionLost(reason)

    def request_is_here(self) -> None:
        """Called before a request is answered."""

    def wait(self, seconds: float | None) -> None:
        """Cuts the connection after so many seconds, instead of what was said before; None: not."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.factory.clock.callLater(seconds, self.cut)

    def lineReceived(self, line: bytes) -> None:
        # After a refusal the base class would go on reading, and answer once for each line too many.
        if not self._over:
            base: Any = super()
            base.lineReceived(line)

    def loseConnection(self) -> None:
        """Ends the connection after what is written."""
        if not self._over:
            self._over = True
            base: Any = super()
            base.loseConnection()

    def cut(self) -> None:
        """Ends the connection now."""
        self.factory.channels.pop(self, None)
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


C = TypeVar("C", bound=NarrowChannel)


class NarrowFactory(http.HTTPFactory, Generic[C]):
    """The connections of a port. No access log: it would tell of scrapes, and paths name accounts and messages."""

    noisy = False

    def __init__(self, reactor: Any, answer: Callable[[Any], None], idle: float) -> None:
        """answer(request): called for each request. idle: seconds of silence after which a connection is closed."""
        super().__init__(timeout=idle, reactor=reactor)
        self.answer = answer
        self.clock = reactor
        self.channels: dict[C, None] = {}
        """Those that stand, in the order of connecting, if their class does not change it."""

    def startFactory(self) -> None:
        """The base class opens its access log here, and keeps a clock for it."""

    def stopFactory(self) -> None:
        """See `startFactory`."""

    def log(self, request: Any) -> None:
        """No access log."""
