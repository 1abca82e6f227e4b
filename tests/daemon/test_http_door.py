"""The HTTP port's door: by which names it may be asked, and who gives way when it is full."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from smppd.config import Http
from smppd.daemon import http
from tests.daemon.test_http import Daemon, Held, Memory, asked, get, parsed, request
from tests.net.pipes import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.stop()


OURS = (
    *("localhost", "LOCALHOST:9180", "localhost.", "127.0.0.1", "127.9.8.7:80", "[::1]:9180", "[0:0:0:0:0:0:0:1]"),
    *("metrics.example.net", "Metrics.Example.NET:9180", "192.0.2.9:1", "10.0.0.1"),
)
FOREIGN = (
    *(
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.0.2.10",
        "[2001:db8::1]:9180",
        "0.0.0.0",
    ),
    *("metrics.example.net.evil.example", "2130706433"),
)
MALFORMED = (
    *("", "a b", "localhost/", "user@localhost", "::1", "[::1", "localhost:", "localhost:x", "localhost:999999"),
    *("localhost\t,evil.example", "l\u00f6calhost"),
)


@pytest.mark.parametrize(
    ("host", "code"), [*((h, 200) for h in OURS), *((h, 421) for h in FOREIGN), *((h, 400) for h in MALFORMED)]
)
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/status", "/metrics", "/", "/nothing"])
def test_who_asks_for_another_host_is_told_nothing(host: str, code: int, path: str) -> None:
    """10.0.0.1 is where the connection in memory was accepted."""
    daemon = Daemon(Clock(), Held(), hosts=("metrics.example.net", "192.0.2.9"))
    memory = Memory(daemon)
    raw = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    memory.channel.dataReceived(raw)
    if code == 200 and path == "/metrics":
        assert memory.transport.value() == b"", "it waits for the thread that writes them"
        return
    found, _, body = parsed(memory.transport.value())
    assert found == (code if code != 200 or path in ("/healthz", "/readyz", "/status") else 404)
    assert code == 200 or (b"acme" not in body and b"ok" not in body)


@pytest.mark.parametrize(
    "more", ["", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost\r\nHost: evil.example\r\n"]
)
def test_exactly_one_host_is_named(more: str) -> None:
    assert Memory().ask(f"GET /status HTTP/1.1\r\n{more}\r\n".encode())[0] == 400
    assert more == "" or Memory().ask(f"GET /status HTTP/1.0\r\n{more}\r\n".encode())[0] == 400


@pytest.mark.parametrize("host", ["evil.example:80", "a b", "", "http://x", "x/y"])
def test_hosts_of_the_configuration_are_names_or_addresses(host: str) -> None:
    with pytest.raises(ValueError, match="host names or addresses"):
        Http(hosts=(host,))


def test_of_too_many_connections_the_oldest_that_asked_nothing_goes() -> None:
    daemon = Daemon(Clock(), Held())
    waits = Memory(daemon)
    waits.channel.dataReceived(request("/metrics"))
    idle = [Memory(daemon) for _ in range(http.CONNECTIONS - 1)]
    for number in range(20):
        assert get("/healthz", daemon)[0] == 200
        assert [one.open for one in idle] == [i > 0 for i in range(len(idle))], number
    more = [Memory(daemon) for _ in range(3)]
    assert len(daemon.server._factory.channels) == http.CONNECTIONS
    assert [one.open for one in idle[:4]] == [False, False, False, True]
    assert all(one.open for one in more) and waits.open


def test_health_has_places_that_nothing_else_takes() -> None:
    daemon = Daemon(Clock(), Held())
    scrapes = [Memory(daemon) for _ in range(http.CONNECTIONS)]
    for one in scrapes:
        one.channel.dataReceived(request("/metrics"))
    refused = [one for one in scrapes if one.transport.value()]
    assert len(refused) == http.HEALTH and all(parsed(one.transport.value())[0] == 503 for one in refused)
    for _ in range(5):
        assert get("/healthz", daemon)[0] == get("/readyz", daemon)[0] == 200
        assert get("/status", daemon)[0] == 503
    assert sum(one.open for one in scrapes) == http.CONNECTIONS - http.HEALTH, "no scrape was cut for it"


def test_idle_connections_keep_no_health_check_out(loop: Loop) -> None:
    daemon = Daemon(loop.reactor)
    port = daemon.server.start()
    idle = []
    for _ in range(2 * http.CONNECTIONS):
        idle.append(socket.create_connection(("127.0.0.1", port)))
        loop.reactor.iterate(0)
    for _ in range(20):
        ((code, _, _),) = asked(loop, port, request("/healthz"))
        assert code == 200
    for one in idle:
        one.close()
