"""The console's connections in memory: whole requests, limits, the floor under a refusal, and places that give way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from smppd.config import Console
from smppd.console import server
from smppd.console.server import ConsoleServer, browser_address
from smppd.console.threads import Busy
from smppd.console.web import Incoming, Reply

T = TypeVar("T")


class Pages:
    """In place of the App: keeps what it was asked, and answers what a test wants."""

    def __init__(self) -> None:
        self.asked: list[Incoming] = []
        self.reply_with = Reply(200, b"<p>hello</p>")

    def reply(self, incoming: Incoming) -> Reply:
        self.asked.append(incoming)
        return self.reply_with


class AtOnce:
    """In place of threads: works at once, or is busy."""

    busy = False

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        if self.busy:
            failed: Deferred[T] = Deferred()
            failed.errback(Busy())
            return failed
        return succeed(work())


class Transport(StringTransport):
    def __init__(self, host: str = "198.51.100.7") -> None:
        base: Any = super()
        base.__init__(IPv4Address("TCP", "192.0.2.1", 9181), IPv4Address("TCP", host, 40000))
        self.aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.connected = False


class Memory:
    """A console without a port. `connect` gives a connection."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.pages = Pages()
        app: Any = self.pages
        self.server = ConsoleServer(self.clock, Console.model_validate(settings), app)
        self.at_once = AtOnce()
        workers: Any = self.at_once
        self.server._pages = self.server._logins = workers

    def connect(self, host: str = "198.51.100.7") -> tuple[Any, Any]:
        transport: Any = Transport(host)
        channel = self.server._factory.buildProtocol(transport.getPeer())
        channel.callLater = self.clock.callLater
        channel.makeConnection(transport)
        return channel, transport


def request(path: str = "/", method: str = "GET", body: bytes = b"", host: str = "localhost", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_a_request_reaches_the_pages_as_a_value() -> None:
    memory = Memory()
    channel, transport = memory.connect()
    channel.dataReceived(request("/sessions?name=a%20b", Cookie="smppd-session=x", Accept="*/*"))
    (asked,) = memory.pages.asked
    assert (asked.method, asked.path, asked.query, asked.address) == ("GET", "/sessions", "name=a%20b", "198.51.100.7")
    assert asked.headers["cookie"] == "smppd-session=x" and not asked.secure and "x" not in repr(asked)
    answer = transport.value()
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"<p>hello</p>")
    for header in (
        b"Content-Security-Policy: default-src 'none'",
        b"Cache-Control: no-store",
        b"Referrer-Policy: no-referrer",
    ):
        assert header in answer
    assert b"Strict-Transport-Security" not in answer, "without TLS"
    channel.dataReceived(request("/login", "POST", b"name=ada"))
    assert memory.pages.asked[1].body == b"name=ada", "a connection carries one request after another"


def test_a_refusal_waits_for_its_floor() -> None:
    memory = Memory()
    memory.pages.reply_with = Reply(403, b"no", floor=1.0)
    channel, transport = memory.connect()
    channel.dataReceived(request("/login", "POST", b"a=b"))
    memory.clock.advance(0.9)
    assert transport.value() == b""
    memory.clock.advance(0.1)
    assert transport.value().startswith(b"HTTP/1.1 403")


def test_too_many_at_one_time_are_told_to_come_again() -> None:
    memory = Memory()
    memory.at_once.busy = True
    channel, transport = memory.connect()
    channel.dataReceived(request())
    assert b"503" in transport.value() and b"Retry-After: 5" in transport.value()
    channel.dataReceived(request("/static/console.css"))
    assert transport.value().count(b"HTTP/1.1 200") == 1, "what needs no thread is answered"


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: local", request("/", "POST", b"x" * 10)[:-1]])
def test_a_request_that_does_not_get_whole_is_cut(data: bytes) -> None:
    memory = Memory()
    channel, transport = memory.connect()
    channel.dataReceived(data)
    memory.clock.advance(server.READ)
    assert transport.aborted or transport.disconnecting
    assert not memory.pages.asked


def test_a_body_that_is_too_long_is_cut() -> None:
    memory = Memory()
    channel, transport = memory.connect()
    channel.dataReceived(request("/login", "POST", b"x" * (server.MAX_BODY + 1)))
    assert transport.aborted and not memory.pages.asked


def test_places_give_way() -> None:
    memory = Memory()
    one = [memory.connect("198.51.100.7")[1] for _ in range(server.OF_ONE_ADDRESS + 3)]
    assert [each.aborted for each in one[:4]] == [True, True, True, False], "one address has some of them"
    many = [memory.connect(f"203.0.113.{number}")[1] for number in range(server.CONNECTIONS)]
    assert len(memory.server._factory.channels) == server.CONNECTIONS
    assert all(each.aborted for each in one) and not many[-1].aborted


def test_loopback_is_this_host() -> None:
    assert [browser_address(one) for one in ("127.0.0.1", "::1", "::ffff:127.0.0.1")] == ["", "", ""]
    assert browser_address("::ffff:192.0.2.7") == "192.0.2.7" and browser_address("fe80::1%eth0") == "fe80::1"
