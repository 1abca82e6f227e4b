"""The door over real sockets of loopback's many addresses: places, turns, bans, proxies; and what of it can be listed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smppd.config import Settings
from smppd.metrics import Metrics
from smppd.net import transport
from smppd.net.door import Door
from smppd.net.openssl import SslLibrary
from smppd.net.tls import TlsClient, TlsStream, client_context
from smppd.net.transport import Pipe
from tests.net.links import account
from tests.net.pipes import Loop, Notes


class House:
    """A door on loopback, its handlers, and those who connect from addresses of their own."""

    def __init__(self, loop: Loop, certs: Path | None = None, *, proxies: bool = False, **limits: Any) -> None:
        self.loop = loop
        self.certs = certs
        self.handlers: list[Notes] = []
        self.sockets: list[socket.socket] = []
        self.metrics = Metrics()
        listener: dict[str, Any] = {"address": "127.0.0.1:0"}
        if certs is not None:
            listener["tls"] = {"certificate": certs / "server.pem", "key": certs / "server.key"}
        if proxies:
            listener |= {"proxy_protocol": "required", "proxy_from": ["127.9.0.0/16"]}
        self.settings = Settings.model_validate(
            {
                "listeners": [listener],
                "accounts": [account("acme", networks=["127.2.0.0/16"]), account("anywhere")],
                "store": {"path": "store"},
                "keys": {"file": "kek"},
                "limits": limits,
            }
        )
        self.door = Door(loop.reactor, self.settings, self.metrics)
        self.door.open(self.settings, self._handler)
        self.port = int(self.door.ports[0][0].rpartition(":")[2])

    def _handler(self, pipe: Pipe) -> Notes:
        self.handlers.append(Notes())
        return self.handlers[-1]

    def come(self, source: str) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), 10, source_address=(source, 0))
        self.sockets.append(made)
        made.setblocking(False)
        self.loop.reactor.iterate(0)
        return made

    def gone(self, one: socket.socket) -> bool:
        self.loop.reactor.iterate(0)
        try:
            return one.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def client(self, groups: str | None = None) -> TlsStream:
        """A client that has said its hello, offering all groups of ours or only these."""
        assert self.certs is not None
        context = client_context(self.certs / "ca.pem")
        if groups is not None:
            SslLibrary().set_groups(context, groups)
        client = TlsClient(context, "localhost").stream()
        client.begin()
        return client

    def open_tls(self, one: socket.socket, groups: str | None = None) -> None:
        """Shakes hands to the end."""
        client = self.client(groups)

        def carry() -> bool:
            data = client.outgoing()
            if data:
                one.sendall(data)
            try:
                client.receive(one.recv(65536))
            except BlockingIOError:
                pass
            return client.open

        self.loop.until(carry)
        one.sendall(client.outgoing())

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"smppd_{name}", labels) or 0.0


@pytest.fixture
def house(loop: Loop) -> Iterator[Callable[..., House]]:
    """Makes a house, once; what is open of it is closed afterwards."""
    made: list[House] = []

    def make(certs: Path | None = None, **options: Any) -> House:
        made.append(House(loop, certs, **options))
        return made[-1]

    yield make
    for one in made:
        one.door.close()
        for each in one.sockets:
            each.close()


Make = Callable[..., House]


@pytest.mark.parametrize("secure", [False, True])
def test_idle_connections_keep_nobody_out(loop: Loop, house: Make, certs: Path, secure: bool) -> None:
    home = house(certs if secure else None, unbound=64, unbound_reserved=16)
    idle = [home.come(f"127.1.{number % 16}.1") for number in range(80)]
    loop.until(lambda: home.value("connections_total", kind="customer", outcome="evicted") >= 32)
    for source in ("127.2.0.1", "127.3.0.1", "127.1.0.77", "127.2.0.1"):
        opened = len(home.handlers)
        good = home.come(source)
        if secure:
            home.open_tls(good)
        loop.until(lambda before=opened: len(home.handlers) > before)  # type: ignore[misc]
        loop.until(lambda: home.handlers[-1].pipe)
        home.handlers[-1].pipe.mark_bound()
        assert not home.gone(good)
    assert home.gone(idle[0]) and not home.gone(idle[-1])
    for one in idle:
        one.close()


@pytest.mark.parametrize("secure", [False, True])
def test_idle_connections_of_an_address_do_not_keep_its_own_customers_out(
    loop: Loop, house: Make, certs: Path, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = house(certs if secure else None, unbound_per_address=4)
    idle = [home.come("127.5.0.1") for _ in range(4)]
    fifth = home.come("127.5.0.1")
    loop.until(lambda: home.gone(fifth))  # they have just come: a bind may be on its way
    monkeypatch.setattr(transport, "SAY_WITHIN", 0.0)
    good = home.come("127.5.0.1")
    loop.until(lambda: home.gone(idle[0]))
    if secure:
        home.open_tls(good)
    loop.until(lambda: any(one.pipe for one in home.handlers))
    assert not home.gone(good) and not any(home.gone(one) for one in idle[1:])


def test_a_banned_address_is_closed_before_its_handshake(loop: Loop, house: Make, certs: Path) -> None:
    home = house(certs)
    for number in range(20):
        home.door.guard.failed(b"name%d" % number, "127.4.0.1", loop.reactor.seconds())
    banned = home.come("127.4.0.1")
    loop.until(lambda: home.gone(banned))
    assert home.value("connections_total", kind="customer", outcome="banned") == 1 and not home.handlers
    home.open_tls(home.come("127.4.0.2"))
    assert [(ban.address, ban.scope, ban.who) for ban in home.door.bans()] == [("127.4.0.1", "address", "")]
    home.door.gauges()
    assert (home.value("bans", scope="address"), home.value("bans", scope="name")) == (1, 0)
    assert home.door.lift("127.4.0.1") == 1
    home.open_tls(home.come("127.4.0.1"))
    with pytest.raises(ValueError, match="nonsense"):
        home.door.lift("nonsense")


def test_bans_of_names_are_listed_by_account_or_keyed_hash(loop: Loop, house: Make) -> None:
    home = house()
    now = loop.reactor.seconds()
    home.door.guard.succeeded(b"acme", "127.4.0.1", now)
    for name in (b"anywhere", b"typed-by-mistake"):
        for _ in range(20):
            home.door.guard.failed(name, "127.4.0.1", now)
    bans = list(home.door.bans())
    assert [ban.scope for ban in bans] == ["name", "name"]
    assert bans[0].who == "anywhere" and "typed" not in str(bans)
    assert home.door.lift("127.4.0.1") == 2 and list(home.door.bans()) == []


def test_an_address_over_its_rate_waits_and_others_do_not(loop: Loop, house: Make, certs: Path) -> None:
    home = house(certs, handshakes_per_address="1/h", handshakes_per_address_burst=2)
    first = home.client().outgoing()
    greedy = [home.come("127.5.0.1") for _ in range(6)]
    for one in greedy:
        one.sendall(first)
    home.open_tls(home.come("127.5.0.2"))
    answered = [one for one in greedy if _answer(one)]
    assert len(answered) == 2 and home.value("handshakes_delayed_total") >= 4
    for one in greedy:
        one.close()
    loop.until(lambda: not home.door.listeners[0]._opening)


def test_clients_with_p384_alone_come_in_while_others_flood_with_it(loop: Loop, house: Make, certs: Path) -> None:
    home = house(certs)
    first = home.client("P-384").outgoing()
    flood = [home.come("127.5.0.1") for _ in range(8)]
    for one in flood:
        one.sendall(first)
    loop.until(lambda: len(home.door._handshakes) == 7)
    home.open_tls(home.come("127.6.0.1"))
    assert len(home.door._handshakes) >= 6, "nobody with another group waits for them"
    home.open_tls(home.come("127.6.0.2"), "P-384")
    assert len(home.door._handshakes) >= 3, "and networks take turns"
    for one in flood:
        one.close()
    loop.until(lambda: not home.door.listeners[0]._opening)


def test_hellos_after_a_retry_request_are_not_all_answered_at_once(loop: Loop, house: Make, certs: Path) -> None:
    home = house(certs)
    clients = [(home.client("P-521:P-384"), home.come("127.5.0.1")) for _ in range(6)]
    for client, one in clients:
        one.sendall(client.outgoing())
    for client, one in clients:
        request: list[bytes] = []
        loop.until(lambda one=one, into=request: bool(into.append(_answer(one)) or into[-1]))  # type: ignore[misc]
        client.receive(request[-1])
    for client, one in clients:
        one.sendall(client.outgoing())
    loop.until(lambda: len(home.door._handshakes) == 5)
    for _, one in clients:
        one.close()
    loop.until(lambda: not home.door.listeners[0]._opening)


def test_no_handshake_is_made_for_who_did_not_wait_for_it(
    loop: Loop, house: Make, certs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[TlsStream] = []
    receive = TlsStream.receive

    def counted(stream: TlsStream, data: bytes) -> bytes:
        computed.append(stream)
        return receive(stream, data)

    monkeypatch.setattr(TlsStream, "receive", counted)
    home = house(certs, handshakes_per_address="10/s", handshakes_per_address_burst=1)
    first = home.client().outgoing()
    patient, impatient, last = (home.come("127.5.0.1") for _ in range(3))
    for one in (patient, impatient, last):
        one.sendall(first)
        loop.until(lambda: len(computed) + len(home.door._handshakes) == home.sockets.index(one) + 1)  # noqa: B023
    impatient.close()
    loop.until(lambda: bool(_answer(last)))
    assert len(computed) == 2
    assert home.value("connections_total", kind="customer", outcome="closed by peer") == 1


def _answer(one: socket.socket) -> bytes:
    try:
        return one.recv(65536)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize(
    "octets", [b"\x16\x03\x01\x00\x06\x01\x00\x80\x00\x00\x00", b"\x16\x03\x01\x00\x01\x02", b"\x16\x03\x01\x00\x00"]
)
def test_what_is_no_hello_that_is_taken_ends_at_once(loop: Loop, house: Make, certs: Path, octets: bytes) -> None:
    home = house(certs)
    one = home.come("127.5.0.1")
    one.sendall(octets)
    loop.until(lambda: home.gone(one))
    assert home.value("connections_total", kind="customer", outcome="tls error") == 1


def test_connections_of_a_proxy_without_a_header_have_a_share_of_their_own(loop: Loop, house: Make) -> None:
    home = house(proxies=True, proxy_pending=5, unbound=8, unbound_reserved=0, unbound_per_address=2)
    silent = [home.come("127.9.0.1") for _ in range(8)]
    loop.until(lambda: home.gone(silent[2]))
    assert [home.gone(one) for one in silent] == [True] * 3 + [False] * 5
    assert home.value("connections_total", kind="customer", outcome="too many without a PROXY header") == 3
    other = home.come("127.9.0.2")
    assert not home.gone(other), "another proxy has a share of its own"
    # Their headers are here: now they count by who stands behind them, and no more against the proxy.
    for number, one in enumerate(silent[3:]):
        one.sendall(b"PROXY TCP4 192.0.2.%d 198.51.100.1 56324 3550\r\n" % number)
    loop.until(lambda: len(home.handlers) == 5)
    more = [home.come("127.9.0.1") for _ in range(5)]
    assert not any(home.gone(one) for one in more)
    more[0].sendall(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 3550\r\n")
    loop.until(lambda: len(home.handlers) == 6)
    more[1].sendall(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 3550\r\n")
    loop.until(lambda: home.gone(more[1]))
    assert home.value("connections_total", kind="customer", outcome="unbound_per_address") == 1
    for one in (*silent, *more, other):
        one.close()
    loop.until(lambda: not home.door.listeners[0]._behind)


def test_a_ban_holds_for_who_stands_behind_a_proxy(loop: Loop, house: Make) -> None:
    home = house(proxies=True)
    for number in range(20):
        home.door.guard.failed(b"name%d" % number, "192.0.2.66", loop.reactor.seconds())
    for source, opens in ((b"192.0.2.66", False), (b"192.0.2.67", True)):
        one = home.come("127.9.0.1")
        one.sendall(b"PROXY TCP4 %s 198.51.100.1 56324 3550\r\n" % source)
        loop.until(lambda one=one, opens=opens: bool(home.handlers) if opens else home.gone(one))  # type: ignore[misc]
    assert len(home.handlers) == 1


def test_a_reload_brings_new_networks_and_limits(loop: Loop, house: Make) -> None:
    home = house(unbound=4, unbound_reserved=2)
    changed = home.settings.model_copy(
        update={"accounts": (account("acme", networks=["127.6.0.0/16"]),), "limits": home.settings.limits}
    )
    home.door.use(changed)
    home.door.reload_listeners(changed)
    strangers = [home.come(f"127.2.{number}.1") for number in range(3)]
    loop.until(lambda: home.gone(strangers[0]))
    known = [home.come("127.6.0.1"), home.come("127.6.0.2")]
    assert not any(home.gone(one) for one in (*strangers[1:], *known))
    for one in (*strangers, *known):
        one.close()
