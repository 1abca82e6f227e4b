"""What peers can pile up, on the running daemon: it answers everybody, and its memory stays within what it counts."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Self

import pytest

from smppd.protocol.wire import Command, Fields, Splitter, Status, address_field, build_sm, pdu, tlv
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account
from tests.ports import free_port

SOURCE = address_field(1, 1, b"447700900001")
TO = address_field(1, 1, b"447700900123")
MANY = 20_000
LARGE = 60_000


class Client:
    """A customer on a plain socket; ``seconds`` is the longest wait for an answer so far."""

    def __init__(self, gateway: Gateway, system_id: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", gateway.plain_port), timeout=60)
        self._splitter = Splitter(1 << 20)
        self._numbers = count(1)
        self._answers: list[bytes] = []
        self.seconds = 0.0
        login = system_id.encode() + b"\0" + PASSWORD.encode() + b"\0\0\x34\0\0\0"
        assert self.asks(pdu(Command.BIND_TRANSCEIVER, 0, 0, login)) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()

    def sends(self, *frames: bytes) -> None:
        """Sends requests."""
        self.socket.sendall(b"".join(f[:12] + next(self._numbers).to_bytes(4, "big") + f[16:] for f in frames))

    def hears(self, number: int) -> list[int]:
        """The statuses of so many responses; receipts are acknowledged."""
        while len(self._answers) < number:
            data = self.socket.recv(1 << 18)
            assert data, "the daemon closed the connection"
            for frame in self._splitter.feed(data):
                if frame[4] & 0x80:
                    self._answers.append(frame)
                elif frame[7] == Command.DELIVER_SM:
                    sequence = int.from_bytes(frame[12:16], "big")
                    self.socket.sendall(pdu(Command.DELIVER_SM_RESP, 0, sequence, b"\0"))
        heard, self._answers = self._answers[:number], self._answers[number:]
        return [int.from_bytes(frame[8:12], "big") for frame in heard]

    def asks(self, frame: bytes) -> int:
        """Sends one request and waits for its answer: the status."""
        began = time.monotonic()
        self.sends(frame)
        (status,) = self.hears(1)
        self.seconds = max(self.seconds, time.monotonic() - began)
        return status

    def pours(self, frames: list[bytes], window: int) -> None:
        """Submits many; all must be accepted."""
        for at in range(0, len(frames), window):
            self.sends(*frames[at : at + window])
            assert set(self.hears(len(frames[at : at + window]))) == {0}


Make = Callable[..., Gateway]


@contextmanager
def away(make_gateway: Make, **store: object) -> Iterator[Gateway]:
    """A gateway whose carrier is not there, with accounts acme and zeta."""
    settings = {"window": 1000, "throughput": None, "receipts": {"window": 1000}}
    gateway = make_gateway([], [account("acme", **settings), account("zeta", **settings)])
    carrier = gateway._upstream(Upstream(free_port(), name="away"))
    gateway.config |= {"upstreams": [carrier], "routes": [{"upstreams": ["away"]}]}
    gateway.config["store"] |= store
    gateway.write_config()
    with gateway:
        yield gateway


def test_a_cancel_of_all_that_waits_holds_nobody_up(make_gateway: Make) -> None:
    with away(make_gateway) as gateway, Client(gateway, "acme") as acme, Client(gateway, "zeta") as zeta:
        frame = build_sm(Command.SUBMIT_SM, 0, SOURCE, TO, b"hello", Fields(registered=0))
        acme.pours([frame] * MANY, 1000)
        assert gateway.metric("smppd_messages_queued", account="acme") == MANY
        acme.sends(pdu(Command.CANCEL_SM, 0, 0, b"\0\0" + SOURCE + TO))
        for _ in range(20):
            assert zeta.asks(frame) == 0
        assert acme.hears(1) == [0]
        assert gateway.metric("smppd_messages_queued", account="acme") == 0
        print(f"\nlongest answer of another customer meanwhile: {zeta.seconds * 1000:.1f} ms")


def test_large_messages_that_wait_take_the_memory_that_is_stated(make_gateway: Make) -> None:
    limit = 32 << 20
    with away(make_gateway, hot_octets="32MiB") as gateway, Client(gateway, "acme") as acme:
        before = gateway.rss()
        body = build_sm(Command.SUBMIT_SM, 0, SOURCE, TO, b"", Fields())[16:] + tlv(0x0424, bytes(LARGE))
        acme.pours([pdu(Command.SUBMIT_SM, 0, 0, body)] * 2500, 100)
        assert gateway.metric("smppd_messages_queued", account="acme") == 2500
        assert gateway.metric("smppd_spool_memory_bytes") <= limit + 4 * LARGE
        grown = gateway.rss() - before
        print(f"\ngrown by {grown / 1e6:.0f} MB for {2500 * LARGE / 1e6:.0f} MB that wait")
        # What is in memory, with the gaps between what is allocated; what is being committed (16 MiB, and its copies as record,
        # row, block and in SQLite), as much that is not filed yet, and page caches.
        assert grown < 1.5 * limit + 8 * (16 << 20)


@pytest.mark.parametrize("number", [254])
def test_a_multi_over_the_rate_is_refused_whole_and_waits(make_gateway: Make, number: int) -> None:
    gateway = make_gateway([], [account("acme", window=100, throughput="100/s", burst=300)])
    carrier = gateway._upstream(Upstream(free_port(), name="away"))
    gateway.config |= {"upstreams": [carrier], "routes": [{"upstreams": ["away"]}]}
    gateway.write_config()
    destinations = b"".join(b"\1" + address_field(1, 1, b"447700900%03d" % n) for n in range(number))
    body = b"\0" + SOURCE + bytes((number,)) + destinations + b"\0\0\0\0\0\0\0\0\0\5hello"
    with gateway, Client(gateway, "acme") as acme:
        assert acme.asks(pdu(Command.SUBMIT_MULTI, 0, 0, body)) == 0
        assert acme.asks(pdu(Command.SUBMIT_MULTI, 0, 0, body)) == Status.RTHROTTLED
        assert gateway.metric("smppd_messages_queued", account="acme") == number
