"""What tests of the customers' and carriers' links share: the relay as the links see it, noting what it is told, so that a
test answers in its stead; frames read back from what a link wrote; and the customers' side of a daemon, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock

from smppd import config
from smppd.metrics import Metrics
from smppd.net.auth import Authenticator
from smppd.net.customers import TURNS, CustomerLink, Customers
from smppd.net.limits import BindGuard
from smppd.net.transport import Pipe
from smppd.protocol.operations import Bind, write_bind
from smppd.protocol.wire import Command
from smppd.relay.state.model import Account, Message, UpstreamState
from tests.net.pipes import CUSTOMER, FakeTransport

HASH = "$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZS1zYWx0LTAwMQ$7Gq1HCbTU2eXb0Hk8x3e3nV2yKcnF4rTq0D2mJ1xZfM"


def account(system_id: str = "acme", **changes: Any) -> config.Account:
    """Settings of an account that may bind from anywhere."""
    return config.Account.model_validate(
        {"system_id": system_id, "password_hash": HASH, "networks": "any", "burst": 1000, **changes}
    )


def frames(data: bytes) -> list[bytes]:
    """The PDUs in some octets, which must hold whole ones."""
    found = []
    while data:
        length = int.from_bytes(data[:4])
        assert 16 <= length <= len(data), "cut inside a PDU"
        found.append(data[:length])
        data = data[length:]
    return found


def lines(data: bytes) -> list[tuple[str, int, int]]:
    """The PDUs in some octets as (command, status, sequence number)."""
    return [
        (Command(int.from_bytes(one[4:8])).name.lower(), int.from_bytes(one[8:12]), int.from_bytes(one[12:16]))
        for one in frames(data)
    ]


def message(identity: int = 1) -> Message:
    """A message in flight, as far as a link cares: a token."""
    made: Any = object.__new__(Message)
    made.id = identity
    result: Message = made
    return result


Answers = list[tuple[Any, int, int, bytes]]


class FakeRelay:
    """``relay.relay.Relay``, with the verbs that links use. ``answers``: (token, status) of the responses it was given;
    ``silent``: the tokens that had none in time; ``writable``: how often a customer's connection took octets again."""

    def __init__(self, *settings: config.Account) -> None:
        self.metrics = Metrics()
        self.accounts: dict[str, Account] = {}
        self.upstreams: dict[str, UpstreamState] = {}
        self.dirty: dict[Any, None] = {}
        self.answers: list[tuple[Any, int]] = []
        self.silent: list[Any] = []
        self.writable = 0
        self.received: list[tuple[Any, bytes]] = []
        self.others: list[int] = []
        self.ups: list[Any] = []
        self.downs: list[tuple[Any, list[Any]]] = []
        self.bug: Exception | None = None
        self.soon: list[Callable[[], None]] = []
        for one in settings:
            self.accounts[one.system_id] = Account(one, self.metrics, 0.0)

    def account(self, name: str) -> Account | None:
        return self.accounts.get(name)

    def upstream(self, name: str) -> UpstreamState:
        return self.upstreams[name]

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        assert not seconds
        self.soon.append(function)

    def flush(self) -> None:
        while self.dirty:
            peer = next(iter(self.dirty))
            del self.dirty[peer]
            peer.flush()

    def _sent(self, peer: Any, answers: Answers, messages: list[bytes]) -> None:
        self.answers += [(token, status) for token, _command, status, _frame in answers]
        if messages and self.bug is not None:
            raise self.bug
        self.received += [(peer, raw) for raw in messages]

    # -- customers

    def customer_bound(self, customer: Any, _now: float) -> None:
        customer.account.sessions.append(customer)
        self.ups.append(customer)

    def customer_sent(
        self,
        customer: Any,
        answers: Answers,
        messages: list[bytes],
        requests: list[tuple[int, bytes]],
        _now: float,
    ) -> None:
        self._sent(customer, answers, messages)
        self.others += [command for command, _raw in requests]

    def customer_silent(self, _customer: Any, unanswered: list[Any], _now: float) -> None:
        self.silent += unanswered

    def customer_writable(self, _customer: Any, _now: float) -> None:
        self.writable += 1

    def customer_left(self, customer: Any, tokens: list[Any], _now: float) -> None:
        customer.account.sessions.remove(customer)
        self.downs.append((customer, tokens))

    # -- carriers

    def carrier_bound(self, _upstream: Any, link: Any, _now: float) -> None:
        self.ups.append(link)

    def carrier_sent(self, _upstream: Any, link: Any, answers: Answers, messages: list[bytes], _now: float) -> None:
        self._sent(link, answers, messages)

    def carrier_silent(self, _upstream: Any, unanswered: list[Any], _now: float) -> None:
        self.silent += unanswered

    def carrier_left(self, _upstream: Any, link: Any, tokens: list[Any], _now: float) -> None:
        self.downs.append((link, tokens))

    # -- the test in its stead

    def answer(self, count: int = 1, status: int = 0) -> None:
        """Answers the oldest messages."""
        for _ in range(count):
            peer, raw = self.received.pop(0)
            command = int.from_bytes(raw[4:8]) | 0x80000000
            peer.session.out.append(b"".join(n.to_bytes(4) for n in (16, command, status)) + raw[12:16])
            peer.session.answered()
            self.dirty[peer] = None
        self.flush()

    def value(self, series: str, **labels: str) -> float:
        """A metric, 0 when nobody touched it."""
        return self.metrics.registry.get_sample_value(f"smppd_{series}", labels) or 0.0


# -- the customers' side --------------------------------------------------------------------------------------------

PASSWORD = b"right"
TRX = Command.BIND_TRANSCEIVER


class Hand:
    """Checks passwords when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, Callable[[bool | None], None]]] = []

    def verify(self, _hashes: object, password: bytes, done: Callable[[bool | None], None]) -> None:
        self.waiting.append((password, done))

    def decide(self) -> None:
        while self.waiting:
            password, done = self.waiting.pop(0)
            done(password == PASSWORD)


class World:
    """The customers' side of one daemon."""

    def __init__(self, *accounts: config.Account, **limits: Any) -> None:
        self.clock = Clock()
        self.limits = config.Limits.model_validate(limits)
        self.accounts = accounts or (account(),)
        self.relay = FakeRelay(*self.accounts)
        self.hand = Hand()
        self.auth = Authenticator(self.accounts, self.limits, BindGuard(self.limits), self.hand, self.clock)
        self.heard: list[tuple[str, dict[str, str]]] = []
        relay: Any = self.relay
        self.customers = Customers(
            relay,
            self.auth,
            self.relay.metrics,
            self.limits,
            self.clock.seconds,
            lambda event, fields: self.heard.append((event, fields)),
        )

    def turn(self) -> None:
        """The next turn of the reactor."""
        some, self.relay.soon = self.relay.soon, []
        for function in some:
            function()

    def client(self, peer: str = CUSTOMER) -> Client:
        return Client(self, peer)

    def bound(self, system_id: bytes = b"acme", command: Command = TRX) -> Client:
        client = self.client()
        assert client.bind(system_id, command=command) == [(f"{command.name.lower()}_resp", 0, 1)]
        return client

    def passes(self, seconds: float) -> None:
        """Time, with the daemon's ten ticks a second."""
        while seconds > 0:
            step = min(1.0, seconds)
            self.clock.advance(step)
            for _ in range(TURNS):
                self.customers.tick(self.clock.seconds())
            seconds -= step

    def errors(self) -> float:
        return self.relay.value("internal_errors_total", where="customer")


class Client:
    """One connection; also the owner of its pipe, as a listener is."""

    def __init__(self, world: World, peer: str) -> None:
        self.world = world
        self.admitted_bound = False
        self.link: CustomerLink
        self.transport = FakeTransport(world.clock, peer)
        self.pipe = Pipe(self, world.clock, world.limits)
        self.transport.protocol = self.pipe
        make: Any = self.pipe.makeConnection
        make(self.transport)

    def admit(self, pipe: Pipe) -> None:
        pipe.admitted = True

    def opened(self, pipe: Pipe) -> CustomerLink:
        self.link = self.world.customers.handler(pipe)
        return self.link

    def behind_proxy(self, pipe: Pipe) -> None:
        pass

    def hello(self, pipe: Pipe) -> None:
        pipe.shake()

    def handshake_step_took(self, pipe: Pipe, seconds: float) -> None:
        pass

    def evicted(self, pipe: Pipe) -> None:
        pass

    def bound(self, pipe: Pipe) -> None:
        self.admitted_bound = True

    def ended(self, pipe: Pipe, reason: str, opened: bool) -> None:
        pass

    def feeds(self, *raws: bytes) -> None:
        self.pipe.dataReceived(b"".join(raws))

    def hears(self) -> list[tuple[str, int, int]]:
        return lines(self.transport.take())

    def bind(
        self,
        system_id: bytes = b"acme",
        password: bytes = PASSWORD,
        *,
        command: Command = TRX,
        version: int = 0x34,
        sequence: int = 1,
    ) -> list[tuple[str, int, int]]:
        """Binds, lets the password be checked, and gives what comes at once."""
        self.feeds(write_bind(Bind(command, sequence, system_id, password, b"", version, 0, 0, b"")))
        self.world.hand.decide()
        self.world.clock.advance(0)
        return self.hears()

    def goes(self) -> None:
        self.transport.lose(ConnectionLost())

    @property
    def gone(self) -> Any:  # assertions on either side of an event must not narrow it
        self.transport.take()
        self.world.clock.advance(0)
        return self.transport.lost
