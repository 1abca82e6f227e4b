"""What tests of the edge share: a transport in memory that buffers as Twisted's do, handlers that note what they are
told, certificates, and a private reactor for the few tests over loopback.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.python import failure

from smppd import config
from smppd.net.reactor import TurnReactor
from smppd.net.tls import StreamMaker, TlsStream
from smppd.net.transport import Pipe

ROOT = Path(__file__).resolve().parents[2]
CUSTOMER = "192.0.2.7"
Failure: Any = failure.Failure  # has no types


def load_make() -> Any:
    """certs/make.py, which is a script beside the package and no part of it."""
    spec = importlib.util.spec_from_file_location("smppd_certs_make", ROOT / "certs" / "make.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)
    spec.loader.exec_module(module)
    return module


class FakeTransport:
    """ITCPTransport in memory: `take` plays the kernel, which takes nothing by itself."""

    bufferSize = 65536

    def __init__(self, clock: Clock, peer: str = CUSTOMER) -> None:
        address = IPv6Address if ":" in peer else IPv4Address
        self.clock = clock
        self.peer = address("TCP", peer, 40000)
        self.host = address("TCP", "::1" if ":" in peer else "127.0.0.1", 2775)
        self.dataBuffer, self.offset, self._tempDataLen = b"", 0, 0
        self.sent = b""
        self.reading: Any = True  # Any: assertions on either side of an event must not narrow it
        self.aborted: Any = False
        self.closing, self.lost = False, False
        self.nodelay = self.keepalive = False
        self.producer: Any = None
        self.producer_paused = False
        self.protocol: Any = None

    def getPeer(self) -> Any:
        return self.peer

    def getHost(self) -> Any:
        return self.host

    def setTcpNoDelay(self, on: bool) -> None:
        self.nodelay = on

    def setTcpKeepAlive(self, on: bool) -> None:
        self.keepalive = on

    def write(self, data: bytes) -> None:
        self.dataBuffer += data
        if self.producer is not None and len(self.dataBuffer) > self.bufferSize:
            self.producer_paused = True
            self.producer.pauseProducing()

    def take(self, octets: int | None = None) -> bytes:
        """The kernel takes that many octets, or all; at the end Twisted resumes the producer, or closes."""
        taken = self.dataBuffer[:octets]
        self.dataBuffer = self.dataBuffer[len(taken) :]
        self.sent += taken
        if not self.dataBuffer:
            if self.producer is not None and self.producer_paused:
                self.producer_paused = False
                self.producer.resumeProducing()
            elif self.closing:
                self.lose(ConnectionDone())
        return taken

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming and self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        if not self.closing:
            self.reading = True

    def loseConnection(self) -> None:
        self.closing, self.reading = True, False
        if not self.dataBuffer:
            self.clock.callLater(0, self.take)

    def abortConnection(self) -> None:
        self.aborted = self.closing = True
        self.reading = False
        self.clock.callLater(0, self.lose, ConnectionAborted())

    def lose(self, error: Exception) -> None:
        """The connection ends, once."""
        if not self.lost:
            self.lost, self.reading = True, False
            self.protocol.connectionLost(Failure(error))


class Notes:
    """A handler that notes what it is told; `on_received` may react."""

    def __init__(self) -> None:
        self.pipe: Any = None
        self.data = b""
        self.chunks = 0
        self.reasons: list[str] = []
        self.failures: list[str] = []
        self.on_connected: Callable[[Pipe], None] = lambda pipe: None
        self.on_received: Callable[[Pipe, bytes], None] = lambda pipe, data: None

    def connected(self, pipe: Pipe) -> None:
        assert self.pipe is None, "connected once"
        self.pipe = pipe
        self.on_connected(pipe)

    def received(self, data: bytes) -> None:
        assert data and not self.reasons
        self.data += data
        self.chunks += 1
        self.on_received(self.pipe, data)

    def lost(self, reason: str) -> None:
        assert self.pipe is not None and not self.reasons, "lost once, after connected"
        self.reasons.append(str(reason))

    def failed(self, reason: str, detail: str) -> None:
        assert self.pipe is None and not self.failures
        self.failures.append(str(reason))


class Owner:
    """An owner that admits everybody but for `refusal`."""

    def __init__(self, handler: Notes) -> None:
        self.handler = handler
        self.refusal: str | None = None
        self.ends: list[tuple[str, bool]] = []
        self.bound_pipes = self.evicted_pipes = 0
        self.shook_for: list[float] = []
        self.asked: list[bool] = []
        """For each hello whether it was dear."""

    def admit(self, pipe: Pipe) -> str | None:
        pipe.admitted = self.refusal is None
        return self.refusal

    def behind_proxy(self, pipe: Pipe) -> None:
        pass

    def hello(self, pipe: Pipe) -> None:
        self.asked.append(pipe.dear)
        pipe.shake()

    def handshake_step_took(self, pipe: Pipe, seconds: float) -> None:
        self.shook_for.append(seconds)

    def evicted(self, pipe: Pipe) -> None:
        self.evicted_pipes += 1

    def opened(self, pipe: Pipe) -> Notes:
        return self.handler

    def bound(self, pipe: Pipe) -> None:
        self.bound_pipes += 1

    def ended(self, pipe: Pipe, reason: str, opened: bool) -> None:
        self.ends.append((str(reason), opened))


class Bench:
    """A pipe over a fake transport with all that belongs to it."""

    def __init__(
        self,
        *,
        tls: StreamMaker | None = None,
        proxies: tuple[config.IPNetwork, ...] | None = None,
        peer: str = CUSTOMER,
        refusal: str | None = None,
        limits: config.Limits | None = None,
        start: bool = True,
    ) -> None:
        self.clock = Clock()
        self.handler = Notes()
        self.owner = Owner(self.handler)
        self.owner.refusal = refusal
        self.transport = FakeTransport(self.clock, peer)
        self.pipe: Any = Pipe(self.owner, self.clock, limits or config.Limits(), tls=tls, proxies=proxies)
        self.transport.protocol = self.pipe
        if start:
            make: Any = self.pipe.makeConnection
            make(self.transport)

    def feed(self, data: bytes) -> None:
        """Octets arrive. As with a real reactor one more chunk may come after reading was paused."""
        self.pipe.dataReceived(data)

    def settle(self) -> None:
        """Everything written is sent and what is due now happens."""
        self.transport.take()
        self.clock.advance(0)
        self.transport.take()
        self.clock.advance(0)


def exchange(pipe: Bench, other: TlsStream) -> bytes:
    """Carries octets between a pipe and the other end until both are silent; what the other end could read."""
    plain = b""
    while True:
        there, back = other.outgoing(), pipe.transport.take()
        if not there and not back:
            return plain
        if there:
            pipe.feed(there)
        if back:
            plain += other.receive(back)


class Loop:
    """A reactor of the test's own: no thread, no signals, turned by hand."""

    def __init__(self) -> None:
        make: Any = TurnReactor
        self.reactor = make()

    def until(self, done: Callable[[], object], within: float = 10.0) -> None:
        """Turns the reactor until `done()`; fails after `within` seconds."""
        end = time.monotonic() + within
        while not done():
            assert time.monotonic() < end, "it did not happen"
            self.reactor.iterate(0.01)

    def with_threads(self) -> None:
        """Names are looked up in threads, which a reactor that is never run does not start."""
        self.reactor.getThreadPool().start()

    def stop(self) -> None:
        """Closes everything that is open."""
        if self.reactor.threadpool is not None:
            self.reactor.threadpool.stop()
        for selectable in self.reactor.removeAll():
            selectable.connectionLost(Failure(ConnectionDone()))
        for call in self.reactor.getDelayedCalls():
            call.cancel()
        for waker in list(self.reactor._internalReaders):
            self.reactor.removeReader(waker)
            waker.connectionLost(Failure(ConnectionDone()))
        self.reactor._poller.close()
