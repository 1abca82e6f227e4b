"""A simulated customer on smpp.twisted: binds over TLS, submits within a window, matches receipts to the ids it was given."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_PEM, load_certificate
from smpp.pdu.error import SMPPTransactionError
from smpp.twisted.client import SMPPClientFactory
from smpp.twisted.config import SMPPClientConfig
from smpp.twisted.protocol import SMPPClientProtocol
from twisted.internet import defer
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.python.failure import Failure

from smppd.demo.fields import Encoder, Outgoing

_RECEIPT_ID: Final = re.compile(rb"\bid:\s*(\S+)", re.IGNORECASE)
_RECEIPT_STATE: Final = re.compile(rb"\bstat:\s*(\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Login:
    """Where and as whom to bind; TLS with ``ca``, a PEM file, or with ``pinned``, a PEM file that begins with the one
    certificate to accept; with neither, plain SMPP. Prints without the password."""

    host: str
    port: int
    system_id: str
    password: str = field(repr=False)
    ca: Path | None = None
    server_name: str = "localhost"
    mode: str = "transceiver"
    pinned: Path | None = None


class CustomerProtocol(SMPPClientProtocol):  # type: ignore[misc]
    """The library's client, telling its factory about every message frame that goes out and every one that comes in."""

    factory: _Factory

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        # The library would wait for its timers.
        for sequence in list(self.outTxns):
            self.closeOutboundTransaction(sequence).ackDeferred.errback(ConnectionError("connection lost"))

    def rawMessageReceived(self, message: bytes) -> None:
        if message[4:8] == b"\0\0\0\5":
            self.factory.watch.frame_received(message)
        super().rawMessageReceived(message)

    def sendPDU(self, pdu: Any) -> None:
        encoded = self.encoder.encode(pdu)
        if encoded[4:8] == b"\0\0\0\4":
            self.factory.watch.frame_sent(encoded)
        self.transport.write(encoded)
        self.onSMPPOperation()


class Watch:
    """What a test wants to see of a connection; does nothing by itself."""

    def frame_sent(self, frame: bytes) -> None:
        """A submit_sm left, as these bytes."""

    def frame_received(self, frame: bytes) -> None:
        """A deliver_sm came, as these bytes."""


class _Factory(SMPPClientFactory):  # type: ignore[misc]
    protocol = CustomerProtocol
    noisy = False

    def __init__(self, config: Any, watch: Watch) -> None:
        super().__init__(config)
        self.watch = watch


class _OneCertificate:
    """A TLS client that accepts one certificate, whatever name it is reached by (Twisted's IOpenSSLContextFactory)."""

    def __init__(self, file: Path) -> None:
        wanted = load_certificate(FILETYPE_PEM, file.read_bytes()).digest("sha256")
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)

        def verify(_connection: Any, certificate: Any, _error: int, depth: int, _ok: int) -> bool:
            return depth > 0 or certificate.digest("sha256") == wanted

        self._context.set_verify(SSL.VERIFY_PEER, verify)

    def getContext(self) -> Any:
        """As Twisted asks for it."""
        return self._context


def bind(reactor: Any, login: Login, on_deliver: Callable[[Any], None], watch: Watch) -> defer.Deferred[Any]:
    """Connects, verifies the server's certificate, binds. Fires with the bound protocol; fails with the library's error."""
    config = SMPPClientConfig(
        host=login.host,
        port=login.port,
        username=login.system_id,
        password=login.password,
        enquireLinkTimerSecs=30,
        responseTimerSecs=60,
        sessionInitTimerSecs=15,
    )
    factory = _Factory(config, watch)
    if login.pinned is not None:
        reactor.connectSSL(login.host, login.port, factory, _OneCertificate(login.pinned), timeout=10)
    elif login.ca is None:
        reactor.connectTCP(login.host, login.port, factory, timeout=10)
    else:
        trust = Certificate.loadPEM(login.ca.read_bytes())
        context = optionsForClientTLS(login.server_name, trustRoot=trust)
        reactor.connectSSL(login.host, login.port, factory, context, timeout=10)

    def delivered(_smpp: Any, pdu: Any) -> None:
        on_deliver(pdu)

    def connected(smpp: Any) -> Any:
        match login.mode:
            case "transmitter":
                return smpp.bindAsTransmitter()
            case "receiver":
                return smpp.bindAsReceiver(delivered)
            case _:
                return smpp.bindAsTransceiver(delivered)

    def bound(result: Any) -> Any:
        return result.smpp

    started: defer.Deferred[Any] = factory.buildProtocolDeferred
    return started.addCallback(connected).addCallback(bound)


@dataclass(slots=True)
class Tally:
    """What a customer saw. ``unanswered``: how often a connection was cut before a submit was answered, and the message was
    submitted again. ``answer_times`` and ``receipt_times`` are seconds."""

    sent: int = 0
    acknowledged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    receipts: int = 0
    duplicate_ids: int = 0
    duplicate_receipts: int = 0
    unknown_receipts: int = 0
    unanswered: int = 0
    mo: int = 0
    states: Counter[str] = field(default_factory=Counter)
    answer_times: list[float] = field(default_factory=list)
    receipt_times: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """For JSON: counts, and percentiles in milliseconds."""
        return {
            "sent": self.sent,
            "acknowledged": self.acknowledged,
            "refused": dict(self.refused),
            "receipts": self.receipts,
            "duplicate_ids": self.duplicate_ids,
            "duplicate_receipts": self.duplicate_receipts,
            "unknown_receipts": self.unknown_receipts,
            "unanswered": self.unanswered,
            "mo": self.mo,
            "states": dict(self.states),
            "answer_p50": _percentile(self.answer_times, 0.50),
            "answer_p99": _percentile(self.answer_times, 0.99),
            "receipt_p50": _percentile(self.receipt_times, 0.50),
            "receipt_p99": _percentile(self.receipt_times, 0.99),
        }


def _percentile(times: list[float], share: float) -> float:
    if not times:
        return 0.0
    ordered = sorted(times)
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


class Customer:
    """Submits messages over several binds, each with a window, and settles which receipt belongs to which message.

    Receipts may come before the answer: those are kept until the id is known. Throttled and queue-full answers are tried
    again a little later, as a customer would.
    """

    def __init__(
        self, reactor: Any, window: int = 10, watch: Watch | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.tally = Tally()
        self.sessions: list[Any] = []
        self.on_answer: Callable[[int, str, str], None] | None = None
        self.retry = True
        self.submits_again = False
        """Whether a message whose connection was cut is submitted on another one: it may have been taken."""
        self.lost = 0
        self._reactor = reactor
        self._watch = watch or Watch()
        self._window = window
        self._clock = clock
        self._queue: deque[tuple[int, Outgoing]] = deque()
        self._free: deque[Any] = deque()
        self._ids: dict[bytes, float] = {}
        self._settled: set[bytes] = set()
        self._early: Counter[bytes] = Counter()
        self._wants_receipt: int = 0

    async def bind(self, login: Login, count: int = 1) -> None:
        """Makes ``count`` binds, one after the other. Raises the library's error when one fails."""
        for _ in range(count):
            session = await bind(self._reactor, login, self._delivered, self._watch)
            session.getDisconnectedDeferred().addCallback(self._disconnected, session)
            self.sessions.append(session)
            if login.mode != "receiver":
                self._free.extend([session] * self._window)

    def submit(self, number: int, message: Outgoing) -> None:
        """Queues a message; ``on_answer(number, status name, id)`` is called when it was answered for good."""
        self._queue.append((number, message))
        self._pump()

    @property
    def settled(self) -> bool:
        """All answered, and every receipt that was asked for is here."""
        return not self._queue and self.tally.sent == self.answered and self.tally.receipts >= self._wants_receipt

    @property
    def answered(self) -> int:
        """Submits that got an answer."""
        return self.tally.acknowledged + self.tally.refused.total()

    async def unbind(self) -> None:
        """Unbinds all sessions."""
        sessions, self.sessions = self.sessions, []
        for session in sessions:
            if session.isBound():
                await session.unbindAndDisconnect()

    def _pump(self) -> None:
        while self._queue and self._free:
            session = self._free.popleft()
            if not session.isBound():
                continue
            number, message = self._queue.popleft()
            self.tally.sent += 1
            sent = session.sendDataRequest(message.submit())
            started = self._clock()
            sent.addCallbacks(
                self._answered,
                self._refused,
                (session, number, message, started),
                None,
                (session, number, message),
                None,
            )

    def _answered(self, result: Any, session: Any, number: int, message: Outgoing, started: float) -> None:
        now = self._clock()
        message_id = result.response.params["message_id"]
        tally = self.tally
        tally.acknowledged += 1
        tally.answer_times.append(now - started)
        if message_id in self._ids or message_id in self._settled:
            tally.duplicate_ids += 1
        elif message.registered & 3:
            self._wants_receipt += 1
            self._ids[message_id] = started
            for _ in range(self._early.pop(message_id, 0)):
                self._receipt(message_id, now)
        if self.on_answer is not None:
            self.on_answer(number, "ESME_ROK", message_id.decode("latin-1"))
        self._free.append(session)
        self._pump()

    def _refused(self, failure: Failure, session: Any, number: int, message: Outgoing) -> None:
        error = failure.value
        name = error.response.status.name if isinstance(error, SMPPTransactionError) else type(error).__name__
        cut = self.submits_again and not isinstance(error, SMPPTransactionError)
        if cut:
            self.tally.unanswered += 1
        if cut or (self.retry and name in ("ESME_RTHROTTLED", "ESME_RMSGQFUL")):
            self.tally.sent -= 1
            self._reactor.callLater(0.2, self.submit, number, message)
        else:
            self.tally.refused[name] += 1
            if self.on_answer is not None:
                self.on_answer(number, name, "")
        if session.isBound():
            self._free.append(session)
            self._pump()

    def _disconnected(self, _result: object, session: Any) -> None:
        if session in self.sessions:
            self.sessions.remove(session)
            self.lost += 1

    def _delivered(self, pdu: Any) -> None:
        text = pdu.params["short_message"] or b""
        if pdu.params["esm_class"].type.name != "SMSC_DELIVERY_RECEIPT":
            self.tally.mo += 1
            return
        told = pdu.params.get("receipted_message_id")
        found = _RECEIPT_ID.search(text)
        message_id = found[1] if found else b""
        if told is not None and told != message_id:
            self.tally.unknown_receipts += 1  # the TLV and the text disagree
            return
        state = _RECEIPT_STATE.search(text)
        self.tally.states[state[1].decode("latin-1") if state else "none"] += 1
        if message_id in self._ids or message_id in self._settled:
            self._receipt(message_id, self._clock())
        else:
            self._early[message_id] += 1

    def _receipt(self, message_id: bytes, now: float) -> None:
        started = self._ids.pop(message_id, None)
        if started is None:
            self.tally.duplicate_receipts += 1
            return
        self._settled.add(message_id)
        self.tally.receipts += 1
        self.tally.receipt_times.append(now - started)

    def count_strangers(self) -> int:
        """Receipts whose id was never given to us, so far; they also enter the tally."""
        self.tally.unknown_receipts += self._early.total()
        self._early.clear()
        return self.tally.unknown_receipts
