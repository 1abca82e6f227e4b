"""What is not SMPP on the SMPP port: closed at once, memory flat, nobody else hurt."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.e2e.harness import PASSWORD, Gateway, Upstream, wait_for
from tests.e2e.probes import Probe, frame, status, submit_body
from tests.e2e.rawsmsc import RawSmsc

_HTTP: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
_AMQP: Final = b"AMQP\0\0\x09\x01"
_HELLO: Final = bytes.fromhex("16030100c8010000c40303") + bytes(range(193))
_RANDOM: Final = bytes((255,)) + random.Random(7).randbytes(2000)
GARBAGE: Final = {
    "HTTP": _HTTP,
    "AMQP": _AMQP,
    "TLS hello": _HELLO,
    "random bytes": _RANDOM,
    "length 0": struct.pack(">IIII", 0, 9, 0, 1),
    "length 4": struct.pack(">IIII", 4, 9, 0, 1),
    "length 15": struct.pack(">IIII", 15, 9, 0, 1),
    "length 70,000": struct.pack(">IIII", 70_000, 9, 0, 1) + bytes(1000),
    "length 0xFFFFFFFF": struct.pack(">IIII", 0xFFFFFFFF, 9, 0, 1) + bytes(1000),
}


@pytest.fixture(scope="module")
def gateway(make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    """A daemon before an SMSC of plain bytes; limits wide enough that no ban interferes."""
    with RawSmsc() as smsc, make_gateway([Upstream(smsc.port)]) as running:
        yield running


# A TLS hello is no garbage on the TLS port.
@pytest.mark.parametrize(
    ("kind", "port"),
    [(kind, port) for port in ("plain", "TLS") for kind in GARBAGE if (kind, port) != ("TLS hello", "TLS")],
)
def test_garbage_is_closed_at_once(kind: str, port: str, gateway: Gateway) -> None:
    with Probe(gateway.plain_port if port == "plain" else gateway.tls_port, timeout=3) as probe:
        probe.send(GARBAGE[kind])
        began = time.monotonic()
        while not probe.closed():
            # A TLS alert may come first.
            assert time.monotonic() - began < 1.5, "the connection was left open"
        assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("kind", ["length 0", "length 4", "length 70,000", "length 0xFFFFFFFF"])
def test_bad_lengths_end_a_bound_session_too(kind: str, gateway: Gateway) -> None:
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        probe.send(GARBAGE[kind])
        assert probe.closed()


def test_other_sessions_go_on_and_memory_stays_flat(gateway: Gateway) -> None:
    with Probe(gateway.tls_port, gateway.certificates / "ca.pem") as good:
        assert good.bind("acme", PASSWORD) == 0
        assert status(good.ask(0x04, submit_body(b"before"))) == 0
        for _ in range(3):
            _throw(gateway, 1)
        before = gateway.rss()
        _throw(gateway, 20)
        assert status(good.ask(0x04, submit_body(b"after"))) == 0
        assert gateway.rss() - before < 6 << 20
    assert gateway.metric("smppd_garbage_total") > 0


def _throw(gateway: Gateway, times: int) -> None:
    for _ in range(times):
        for data in GARBAGE.values():
            with Probe(gateway.plain_port, timeout=3) as probe:
                try:
                    probe.send(data)
                    probe.closed()
                except ConnectionError:
                    pass


def test_garbage_bans_nobody(gateway: Gateway) -> None:
    _throw(gateway, 3)
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0


def test_a_good_frame_with_a_bad_body_gets_an_answer_and_the_session_lives(gateway: Gateway) -> None:
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        too_long = submit_body(b"hello")[:-6] + bytes((200,)) + b"hello"
        assert status(probe.ask(0x04, too_long)) == 0x01
        assert status(probe.ask(0x04, submit_body(b"x", tlvs=b"\x14\x00\x00\xff1"))) == 0xC2
        assert status(probe.ask(0x04, submit_body(b"x", source=b"4" * 30))) == 0x0A
        assert status(probe.ask(0x7777)) == 0x03
        assert probe.ask(0x15)[4:8] == b"\x80\0\0\x15"
        assert status(probe.ask(0x04, submit_body(b"fine"))) == 0


def test_a_submit_before_the_bind_is_refused_and_the_bind_still_possible(gateway: Gateway) -> None:
    with Probe(gateway.plain_port) as probe:
        assert status(probe.ask(0x04, submit_body(b"hello"))) == 0x04
        assert probe.bind("acme", PASSWORD) == 0


def test_half_a_frame_and_gone_leaves_nothing_behind(gateway: Gateway) -> None:
    sessions = gateway.metric("smppd_sessions")
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        probe.send(frame(0x04, 0, 9, submit_body(b"hello"))[:30])
    wait_for("the session's end", lambda: gateway.metric("smppd_sessions") == sessions)
