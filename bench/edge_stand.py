"""The stand of `bench.limits` with the customers' side of the daemon before it: door, links and audit trail as they are wired
there, over pipes without sockets.

A turn is what it is on the other stand: one read of a socket, one timer, one word of the store, and the daemon's whole tick.
"""

from __future__ import annotations

import heapq
import queue
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python import failure

from bench.limits_stand import TICK, Stand
from smppd.config import Settings
from smppd.daemon import garbage
from smppd.daemon.audit_log import Audit
from smppd.net.customers import Customers
from smppd.net.door import Door
from smppd.net.tls import TlsStream
from smppd.net.transport import Pipe
from smppd.protocol.operations import Bind, write_bind
from smppd.protocol.wire import Command
from smppd.vault.keys import VaultError

PASSWORD: Final = b"right"
_CHUNK: Final = 64 << 10
_Failure: Any = failure.Failure  # has no types


class Timer:
    """IDelayedCall, as far as pipes and queues use it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Does nothing any more."""
        self._call = None

    def active(self) -> bool:
        """Whether it is still to come."""
        return self._call is not None

    def run(self) -> None:
        """Its time has come."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Reactor:
    """What the door asks of Twisted's reactor, by the stand's timers."""

    def __init__(self, stand: EdgeStand) -> None:
        self._stand = stand

    @staticmethod
    def seconds() -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def callLater(self, seconds: float, function: Callable[..., object], *args: object) -> Timer:
        """IReactorTime."""
        timer = Timer(partial(function, *args))
        self._stand.relay_later(seconds, timer.run)
        return timer

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        """IReactorFromThreads."""
        self._stand.soon.append(partial(function, *args))

    @staticmethod
    def listenTCP(_port: int, _factory: object, **_more: object) -> Any:
        """A port where nobody can connect: connections are made by `EdgeStand.caller`."""
        return SimpleNamespace(getHost=lambda: SimpleNamespace(port=2775), stopListening=lambda: None)


class Verifier:
    """Knows the one right password, and takes no time over it."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    def verify(self, _hashes: object, password: bytes, done: Callable[[bool | None], None]) -> None:
        """`auth.Verifier`."""
        self._reactor.callLater(0, done, password == PASSWORD)


class SlowTrail:
    """An audit trail on a disk that is full: nothing is written until ``full`` is over."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.written = 0

    def append(self, *_entry: object, **_more: object) -> int:
        """`AuditTrail.append`."""
        if self.full:
            raise VaultError("the audit trail cannot be written: database or disk is full")
        self.written += 1
        return self.written

    def close(self) -> None:
        """Nothing is open."""


class Wire:
    """ITCPTransport in memory. What its peer sends while it is not read waits outside, as in the kernel."""

    bufferSize = 65536

    def __init__(self, stand: EdgeStand, host: str) -> None:
        self._stand = stand
        self._host = host
        self.dataBuffer, self.offset, self._tempDataLen = b"", 0, 0
        self.protocol: Any = None
        self.hears: Callable[[bytes], None] | None = None
        """Takes what is written; without it the octets are gone, as with a peer who reads and says nothing."""
        self.unread = False
        """Its peer does not read."""
        self.arrived = b""
        self.reading = True
        self.producer: Any = None
        self._ended = False

    def getPeer(self) -> Any:
        """Where the peer is."""
        return (IPv6Address if ":" in self._host else IPv4Address)("TCP", self._host, 40000)

    def getHost(self) -> Any:
        """Where we are."""
        return IPv4Address("TCP", "127.0.0.1", 2775)

    def setTcpNoDelay(self, _on: bool) -> None:
        """Means nothing here."""

    setTcpKeepAlive = setTcpNoDelay

    def write(self, data: bytes) -> None:
        """ITransport."""
        if self.unread:
            self.dataBuffer += data
            if self.producer is not None and len(self.dataBuffer) > self.bufferSize:
                self.producer.pauseProducing()
        elif self.hears is not None:
            self.hears(data)

    def registerProducer(self, producer: Any, _streaming: bool) -> None:
        """IConsumer."""
        self.producer = producer

    def unregisterProducer(self) -> None:
        """IConsumer."""
        self.producer = None

    def pauseProducing(self) -> None:
        """Reads no more."""
        self.reading = False

    def resumeProducing(self) -> None:
        """Reads again, from the next look at the sockets on."""
        self.reading = True
        if self.arrived:
            self._stand.readable.append(self)

    def arrive(self, data: bytes) -> None:
        """The peer has sent something."""
        if not self.arrived:
            self._stand.readable.append(self)
        self.arrived += data

    def read(self) -> None:
        """One read of the socket."""
        if self.reading and self.arrived and not self._ended:
            data, self.arrived = self.arrived[:_CHUNK], self.arrived[_CHUNK:]
            if self.arrived:
                self._stand.readable.append(self)
            self.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        """Ends when all is sent."""
        self.reading = False
        self._stand.closed.append(partial(self.lose, ConnectionDone()))

    def abortConnection(self) -> None:
        """Ends at once: by a timer, as in Twisted."""
        self.reading = False
        self._stand.relay_later(0.0, partial(self.lose, ConnectionAborted()))

    def lose(self, error: Exception) -> None:
        """The connection ends, once."""
        if not self._ended:
            self._ended, self.reading = True, False
            self.protocol.connectionLost(_Failure(error))


class Caller:
    """A customer's connection, from its own side."""

    __slots__ = ("_stand", "_tls", "address", "pipe", "wire")

    def __init__(self, stand: EdgeStand, address: str) -> None:
        self._stand = stand
        self.address = address
        self.wire = Wire(stand, address)
        self.pipe: Pipe = stand.door.listeners[0].buildProtocol(None)
        self.wire.protocol = self.pipe
        self._tls: TlsStream | None = None
        make: Any = self.pipe.makeConnection
        stand.turn(lambda: make(self.wire))

    def shake(self) -> None:
        """The TLS handshake, where the listener wants one."""
        if self._stand.client is None:
            return
        tls = self._tls = TlsStream(self._stand.client, server_side=False, server_name="localhost")
        tls.begin()
        answers: list[bytes] = []
        self.wire.hears = answers.append
        for _ in range(4):
            if data := tls.outgoing():
                self.wire.arrive(data)
            if not self._stand.run(5.0, lambda: bool(answers) or (tls.open and not self.wire.arrived)):
                break
            while answers:
                tls.receive(answers.pop(0))
            if tls.open and not tls._out.pending:
                break
        if not tls.open:
            raise RuntimeError(f"no TLS: {tls.failed}, {self.pipe.detail}")
        self.wire.hears = None

    def sends(self, data: bytes) -> None:
        """Sends octets; they are read in turns of their own."""
        if self._tls is not None:
            data = self._tls.encrypt(data)
        self.wire.arrive(data)

    def bind(self, name: str, password: bytes = PASSWORD, command: Command = Command.BIND_TRANSCEIVER) -> None:
        """Asks for a bind."""
        self.sends(write_bind(Bind(command, 1, name.encode(), password, b"", 0x34, 0, 0, b"")))

    def forget(self) -> None:
        """What its own side holds is not the daemon's memory; it sends nothing any more."""
        self._tls = None
        self.wire.hears = None


class EdgeStand(Stand):
    """See the module. ``stalled``: the disk answers nothing. ``callers``: whoever is connected, in the order of coming."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.soon: deque[Callable[[], object]] = deque()  # what threads have for the reactor
        self.readable: deque[Wire] = deque()
        self.closed: deque[Callable[[], object]] = deque()
        self.callers: list[Caller] = []
        self.stalled = False
        self.client: Any = None
        self.reactor = Reactor(self)
        self.trail = SlowTrail()
        trail: Any = self.trail
        self.audit = Audit(trail, self.metrics)
        self.door = Door(self.reactor, settings, self.metrics)
        self.door.close()
        self.door.authenticator._verifier = Verifier(self.reactor)
        self.customers = Customers(
            self.relay, self.door.authenticator, self.metrics, settings.limits, time.monotonic, self.audit
        )
        self.door.open(settings, self.customers.handler)

    def relay_later(self, seconds: float, function: Callable[[], None]) -> None:
        """A timer."""
        self._later(seconds, function)

    def caller(self, address: str) -> Caller:
        """Somebody connects."""
        made = Caller(self, address)
        self.callers.append(made)
        return made

    def tick(self, ahead: float = 0.0) -> None:
        """The daemon's tick, with all that it calls ten times a second. ``ahead``: seconds that sessions were silent more."""
        now = time.monotonic()
        self.relay.tick(now)
        garbage.look()
        self.customers.tick(now + ahead)

    def due(self) -> None:
        """The timers whose time has come; those that they set wait until the sockets were looked at."""
        now = time.monotonic()
        some = []
        while self._timers and self._timers[0][0] <= now:
            some.append(heapq.heappop(self._timers)[2])
        for function in some:
            self.turn(function)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """The reactor runs; see `Stand.run`."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if until is not None and until():
                return True
            if now - self._ticked >= TICK:
                self._ticked = now
                self.turn(self.tick)
            self.due()
            for events in (self.soon, self.closed):
                for _ in range(len(events)):
                    self.turn(events.popleft())
            for _ in range(len(self.readable)):
                self.turn(self.readable.popleft().read)
            if until is not None and until():
                return True
            self._word(not (self.readable or self.closed or self.soon))
        return until is None or until()

    def _word(self, idle: bool) -> None:
        """What the store has to say, if it has."""
        wait = min(0.005, self._timers[0][0] - time.monotonic()) if self._timers else 0.005
        wait = max(0.0, wait) if idle else 0.0
        if self.stalled:
            time.sleep(wait)
            return
        try:
            call = self._calls.get(timeout=wait) if wait else self._calls.get_nowait()
        except queue.Empty:
            return
        self.turn(call)

    def settle(self, seconds: float = 60.0) -> None:
        """Until nothing is to be done any more; with a disk that answers nothing, until all was read that is read."""

        def rests() -> bool:
            quiet = not (self.readable or self.closed or self.soon or self.customers._steps)
            if not self.stalled:
                quiet = quiet and not (self.store.busy or self.relay.desk.behind or self.relay.context.dirty)
            return quiet

        if not self.run(seconds, rests):
            raise RuntimeError("the stand does not come to rest")

    def close(self) -> None:
        """Ends the store and the audit trail's thread."""
        self.audit.close()
        super().close()
