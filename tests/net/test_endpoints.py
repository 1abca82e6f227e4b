"""Listeners and attempts over loopback with a private reactor, and their failures in memory."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import error as errors
from twisted.internet.testing import MemoryReactorClock

from smppd import config
from smppd.net.endpoints import ConnectAttempt, Listener, connect
from smppd.net.limits import ConnectionLimits
from smppd.net.tls import TlsError, client_of
from smppd.net.transport import Pipe
from tests.net.pipes import Failure, Loop, Notes

NoAnswer: Any = MemoryReactorClock  # has no types


class Server:
    """A listener on loopback that echoes, with all it tells."""

    def __init__(self, loop: Loop, certs: Path | None = None, limits: config.Limits | None = None, **tls: Any) -> None:
        files = {"certificate": certs / "server.pem", "key": certs / "server.key"} if certs else None
        settings = config.Listener.model_validate(
            {"address": "127.0.0.1:0", "tls": files | tls if files is not None else None}
        )
        self.settings = settings
        self.limits = limits or config.Limits()
        self.admission = ConnectionLimits(self.limits)
        self.refused: list[tuple[str, str]] = []
        self.handlers: list[Notes] = []
        self.listener = Listener(settings, self.limits, self.admission, self._handler, self._refused)
        self.port = self.listener.start(loop.reactor)

    def _handler(self, pipe: Pipe) -> Notes:
        handler = Notes()
        handler.on_received = Pipe.write
        self.handlers.append(handler)
        return handler

    def _refused(self, reason: str, peer: str, detail: str) -> None:
        self.refused.append((str(reason), peer))


def upstream(port: int, ca: Path | None = None, host: str = "127.0.0.1") -> config.Upstream:
    return config.Upstream.model_validate(
        {
            "name": "carrier-a",
            "address": f"{host}:{port}",
            "system_id": "gw",
            "password": {"env": "PW"},
            "tls": {"ca": ca} if ca else None,
            "plaintext": "allowed",
        }
    )


def dial(loop: Loop, to: config.Upstream) -> tuple[ConnectAttempt, Notes]:
    handler = Notes()
    return connect(loop.reactor, to, config.Limits(), handler, client_of(to)), handler


def raw(server: Server) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    made.setblocking(False)
    return made


# -- both ends ours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True])
def test_octets_go_there_and_back(loop: Loop, certs: Path, secure: bool) -> None:
    server = Server(loop, certs if secure else None)
    _, client = dial(loop, upstream(server.port, certs / "ca.pem" if secure else None))
    loop.until(lambda: client.pipe)
    data = bytes(range(256)) * 4000
    client.pipe.write(data)
    loop.until(lambda: len(client.data) == len(data))
    assert client.data == data
    assert (server.admission.connections, server.admission.unbound) == (1, 1)
    server.handlers[0].pipe.mark_bound()
    assert server.admission.unbound == 0
    client.pipe.close()
    loop.until(lambda: server.handlers[0].reasons and client.reasons)
    assert server.handlers[0].reasons == ["closed by peer"] and client.reasons == ["closed"]
    assert server.admission.connections == 0


def test_a_real_socket_that_is_not_read_chokes_its_pipe(loop: Loop) -> None:
    """Notices when Twisted keeps its buffers elsewhere: `unsent` would be 0."""
    server = Server(loop)
    client = raw(server)
    loop.until(lambda: server.handlers)
    pipe = server.handlers[0].pipe
    written = 0
    while not pipe.choked and written < 64 << 20:
        pipe.write(bytes(256 * 1024))
        written += 256 * 1024
        loop.reactor.iterate(0)
    assert pipe.choked and pipe.unsent > 0
    read = 0

    def drained() -> bool:
        nonlocal read
        try:
            read += len(client.recv(1 << 20))
        except BlockingIOError:
            pass
        return read == written

    loop.until(drained)
    loop.until(lambda: not pipe.choked)
    assert pipe.unsent == 0
    client.close()


def test_a_client_of_the_standard_library_in_a_thread(loop: Loop, certs: Path) -> None:
    server = Server(loop, certs, client_ca=certs / "ca.pem")
    got: list[bytes] = []

    def run() -> None:
        context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
        context.load_cert_chain(certs / "client.pem", certs / "client.key")
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
                wrapped.sendall(b"x" * 100_000)
                data = b""
                while len(data) < 100_000:
                    data += wrapped.recv(65536)
                got.append(data)
                plain = wrapped.unwrap()

    thread = threading.Thread(target=run)
    thread.start()
    loop.until(lambda: server.handlers and server.handlers[0].reasons)
    thread.join(10)
    assert got == [b"x" * 100_000]
    assert server.handlers[0].reasons == ["closed by peer"]
    expected = ssl.PEM_cert_to_DER_cert((certs / "client.pem").read_text())
    assert server.handlers[0].pipe.certificate == expected


# -- listeners -----------------------------------------------------------------------------------------------------


def test_limits_of_connections_hold_at_the_door(loop: Loop) -> None:
    server = Server(loop, limits=config.Limits(unbound_per_address=2))
    clients = [raw(server) for _ in range(3)]
    loop.until(lambda: server.refused and len(server.handlers) == 2)
    assert server.refused == [("unbound_per_address", "127.0.0.1")]
    for client in clients:
        client.close()
    loop.until(lambda: server.admission.connections == 0)


def test_wrong_protocols_are_counted(loop: Loop, certs: Path) -> None:
    server = Server(loop, certs)
    client = raw(server)
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    loop.until(lambda: server.refused)
    assert server.refused == [("wrong protocol", "127.0.0.1")]
    assert server.admission.connections == 0
    client.close()


def test_stop_cuts_what_is_opening_and_leaves_sessions(loop: Loop, certs: Path) -> None:
    server = Server(loop, certs)
    _, client = dial(loop, upstream(server.port, certs / "ca.pem"))
    loop.until(lambda: client.pipe and server.handlers)
    opening = raw(server)
    loop.until(lambda: server.admission.connections == 2)
    stopped: list[object] = []
    server.listener.stop().addCallback(stopped.append)
    loop.until(lambda: stopped and server.refused)
    assert server.refused == [("closed", "127.0.0.1")]
    with pytest.raises(ConnectionError):
        raw(server)
    client.pipe.write(b"still here")
    loop.until(lambda: client.data)
    server.listener.stop()
    opening.close()


def test_accept_survives_a_lack_of_files(loop: Loop) -> None:
    server = Server(loop)
    port = server.listener._port
    real, failures = port.socket, [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED]

    class Failing:
        def accept(self) -> Any:
            if failures:
                raise OSError(failures.pop(0), "as if")
            return real.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    client = raw(server)
    port.socket = Failing()
    loop.until(lambda: not failures)
    port.socket = real
    # With its reserved descriptor Twisted accepts and closes at once, so this client may be gone; the next is served.
    client.close()
    client = raw(server)
    loop.until(lambda: server.handlers)
    assert not port.disconnected
    client.close()


def test_reload_is_for_new_connections_and_all_or_nothing(loop: Loop, certs: Path, tmp_path: Path) -> None:
    server = Server(loop, certs)
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    worse = config.Listener.model_validate(
        {"address": "127.0.0.1:0", "tls": {"certificate": bad, "key": certs / "server.key"}}
    )
    with pytest.raises(TlsError, match=r"bad\.pem"):
        server.listener.reload(worse, config.Limits(tls_handshake=1))
    assert server.listener._limits is server.limits
    server.listener.reload(server.settings, config.Limits(tls_handshake=1))
    _, client = dial(loop, upstream(server.port, certs / "ca.pem"))
    loop.until(lambda: client.pipe)


# -- attempts ------------------------------------------------------------------------------------------------------


def test_nobody_listening_is_refused(loop: Loop) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        attempt, handler = dial(loop, upstream(unused.getsockname()[1]))
        loop.until(lambda: handler.failures)
    assert handler.failures == ["connection refused"]
    attempt.cancel()


def test_a_name_is_looked_up(loop: Loop, certs: Path) -> None:
    loop.with_threads()
    server = Server(loop, certs)
    _, handler = dial(loop, upstream(server.port, certs / "ca.pem", host="localhost"))
    loop.until(lambda: handler.pipe)
    assert handler.pipe.peer == "127.0.0.1"


def test_a_certificate_of_another_name_fails_the_attempt(loop: Loop, certs: Path) -> None:
    server = Server(loop, certs)
    to = upstream(server.port, certs / "ca.pem")
    assert to.tls is not None
    to = to.model_copy(update={"tls": to.tls.model_copy(update={"server_name": "smsc.example.net"})})
    _, handler = dial(loop, to)
    loop.until(lambda: handler.failures and server.refused)
    assert handler.failures == ["tls error"] and server.refused == [("tls error", "127.0.0.1")]


def test_a_cancelled_attempt_is_silent_in_every_state(loop: Loop, certs: Path) -> None:
    server = Server(loop, certs)
    first, early = dial(loop, upstream(server.port, certs / "ca.pem"))
    first.cancel()
    second, late = dial(loop, upstream(server.port, certs / "ca.pem"))
    loop.until(lambda: second._pipe)
    second.cancel()
    second.cancel()
    loop.until(lambda: server.refused)
    third, whole = dial(loop, upstream(server.port, certs / "ca.pem"))
    loop.until(lambda: whole.pipe)
    third.cancel()
    whole.pipe.close()
    loop.until(lambda: whole.reasons)
    assert early.failures == late.failures == whole.failures == []
    assert whole.reasons == ["closed"]


# Twisted leaves the socket that cannot be bound to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_connection_comes_from_the_source_address_that_is_named(loop: Loop) -> None:
    loop.with_threads()
    server = Server(loop)
    for host in ("127.0.0.1", "localhost"):
        to = upstream(server.port, host=host).model_copy(update={"source_address": "127.0.0.9"})
        _, handler = dial(loop, to)
        loop.until(partial(getattr, handler, "pipe"))
        loop.until(lambda: len(server.handlers) == 1)
        assert server.handlers.pop().pipe.peer == "127.0.0.9"
        handler.pipe.close()
    _, handler = dial(loop, upstream(server.port).model_copy(update={"source_address": "192.0.2.1"}))
    loop.until(lambda: handler.failures)
    assert handler.failures == ["source address cannot be used"]


def test_the_address_that_is_asked_for_is_dialled_and_its_own_name_expected(loop: Loop, certs: Path) -> None:
    loop.with_threads()
    server = Server(loop, certs)
    to = upstream(1, certs / "ca.pem").model_copy(update={"address": ("127.0.0.1:1", f"localhost:{server.port}")})
    handler = Notes()
    connect(loop.reactor, to, config.Limits(), handler, client_of(to), 1)
    loop.until(lambda: handler.pipe)
    handler.pipe.close()
    loop.until(lambda: handler.reasons)


def in_memory(fail: Callable[[Any], None]) -> Notes:
    reactor = NoAnswer()
    handler = Notes()
    connect(reactor, upstream(2775, host="192.0.2.1"), config.Limits(), handler, None)
    fail(reactor)
    return handler


def test_failures_of_connecting_are_told_in_our_words() -> None:
    def failing(kind: Any) -> Any:
        return kind()

    def with_error(error: Any) -> Callable[[Any], None]:
        def fail(reactor: Any) -> None:
            reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(error))
            reactor.advance(1)

        return fail

    assert in_memory(with_error(failing(errors.ConnectionRefusedError))).failures == ["connection refused"]
    assert in_memory(with_error(failing(errors.ConnectError))).failures == ["cannot connect"]
    assert in_memory(with_error(failing(errors.DNSLookupError))).failures == ["name not found"]
    assert in_memory(lambda reactor: reactor.advance(9.9)).failures == []
    assert in_memory(lambda reactor: reactor.pump([0.1] * 101)).failures == ["connecting timed out"]


def test_plain_and_tls_are_never_mixed_up(certs: Path) -> None:
    secure = upstream(1, certs / "ca.pem")
    reactor = NoAnswer()
    with pytest.raises(ValueError, match="tls"):
        connect(reactor, secure, config.Limits(), Notes(), None)
    with pytest.raises(ValueError, match="tls"):
        connect(reactor, upstream(1), config.Limits(), Notes(), client_of(secure))
    assert not reactor.tcpClients
