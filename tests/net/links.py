"""What tests of the customers' and carriers' links share: the relay as the links see it, noting what it is told, so that a
test answers in its stead; and frames read back from what a link wrote."""

from __future__ import annotations

from typing import Any

from smppd import config
from smppd.metrics import Metrics
from smppd.protocol.wire import Command
from smppd.relay.model import Account, Message, UpstreamState

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


class FakeContext:
    """``relay.context.Context``: accounts, upstreams and the peers to flush."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.upstreams: dict[str, UpstreamState] = {}
        self.dirty: dict[Any, None] = {}

    def flush(self) -> None:
        while self.dirty:
            peer = next(iter(self.dirty))
            del self.dirty[peer]
            peer.flush()


class FakeMailroom:
    """``relay.mailbox.Mailroom``."""

    def __init__(self) -> None:
        self.answers: list[tuple[Any, int]] = []
        self.silent: list[Any] = []
        self.pumped = 0

    def answered(self, _customer: Any, answers: list[tuple[Any, int, int, bytes]], _now: float) -> None:
        self.answers += [(token, status) for token, _command, status, _frame in answers]

    def unanswered(self, _account: Any, mails: list[Any], _now: float, *, wait: bool) -> None:
        assert wait
        self.silent += mails

    def pump(self, _account: Any, _now: float) -> None:
        self.pumped += 1


class FakeDispatch:
    """``relay.dispatch.Dispatch``."""

    def __init__(self) -> None:
        self.answers: list[tuple[Any, int]] = []
        self.silent: list[Any] = []

    def answered(self, _upstream: Any, answers: list[tuple[Any, int, int, bytes]], _now: float) -> None:
        self.answers += [(token, status) for token, _command, status, _frame in answers]

    def unanswered(self, _upstream: Any, messages: list[Any], _now: float) -> None:
        self.silent += messages


class FakeRelay:
    """``relay.relay.Relay``, with the rooms of it that links speak to."""

    def __init__(self, *settings: config.Account) -> None:
        self.metrics = Metrics()
        self.context = FakeContext()
        self.mailroom = FakeMailroom()
        self.dispatch = FakeDispatch()
        self.enquiries = self.receipts = self
        self.received: list[tuple[Any, bytes]] = []
        self.others: list[int] = []
        self.ups: list[Any] = []
        self.downs: list[tuple[Any, list[Any]]] = []
        self.bug: Exception | None = None
        for one in settings:
            self.context.accounts[one.system_id] = Account(one, self.metrics, 0.0)

    # -- customers

    def submitted(self, customer: Any, raws: list[bytes], _now: float) -> None:
        if self.bug is not None:
            raise self.bug
        self.received += [(customer, raw) for raw in raws]

    def customer_up(self, customer: Any, _now: float) -> None:
        customer.account.sessions.append(customer)
        self.ups.append(customer)

    def customer_down(self, customer: Any, tokens: list[Any], _now: float) -> None:
        customer.account.sessions.remove(customer)
        self.downs.append((customer, tokens))

    # -- carriers

    def link_up(self, _upstream: Any, link: Any, _now: float) -> None:
        self.ups.append(link)

    def link_down(self, _upstream: Any, link: Any, tokens: list[Any], _now: float) -> None:
        self.downs.append((link, tokens))

    def take(self, *arguments: Any) -> None:
        """Of receipts: (upstream, link, frames, now); of enquiries: (customer, others, now)."""
        if len(arguments) == 4:
            self.received += [(arguments[1], raw) for raw in arguments[2]]
        else:
            self.others += [command for command, _raw in arguments[1]]

    # -- the test in its stead

    def answer(self, count: int = 1, status: int = 0) -> None:
        """Answers the oldest messages."""
        for _ in range(count):
            peer, raw = self.received.pop(0)
            command = int.from_bytes(raw[4:8]) | 0x80000000
            peer.session.out.append(b"".join(n.to_bytes(4) for n in (16, command, status)) + raw[12:16])
            peer.session.answered()
            self.context.dirty[peer] = None
        self.context.flush()

    def value(self, series: str, **labels: str) -> float:
        """A metric, 0 when nobody touched it."""
        return self.metrics.registry.get_sample_value(f"smppd_{series}", labels) or 0.0
