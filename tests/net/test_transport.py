"""Pipes over a transport in memory: opening in order, pausing, what the peer does not read, and every way to end."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost

from smppd.config import Limits, ListenerTls
from smppd.net.openssl import SslLibrary
from smppd.net.proxy import V2_SIGNATURE
from smppd.net.tls import TlsClient, TlsServer, TlsStream, client_context
from smppd.net.transport import Pipe
from tests.net.pipes import Bench, exchange

PROXIES = (ipaddress.ip_network("198.51.100.0/24"),)
PROXY = "198.51.100.9"
HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 3550\r\n"


def tls_bench(certs: Path, groups: str | None = None, **options: object) -> tuple[Bench, TlsStream]:
    """A server's pipe and the client's end, before the handshake; with `groups`, of a client that offers only these."""
    made = TlsServer(ListenerTls(certificate=certs / "server.pem", key=certs / "server.key"))
    bench = Bench(tls=made, **options)  # type: ignore[arg-type]
    context = client_context(certs / "ca.pem")
    if groups is not None:
        SslLibrary().set_groups(context, groups)
    client = TlsClient(context, "localhost").stream()
    client.begin()
    return bench, client


def open_tls(certs: Path, **options: object) -> tuple[Bench, TlsStream]:
    bench, client = tls_bench(certs, **options)  # type: ignore[arg-type]
    exchange(bench, client)
    assert bench.handler.pipe is bench.pipe
    return bench, client


class Kernel:
    """The socket under a transport: takes up to ``room`` octets."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.room = room
        self.error: OSError | None = None
        self.got = b""

    def send(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        if not self.room:
            raise BlockingIOError
        taken = data[: self.room]
        self.room -= len(taken)
        self.got += taken
        return len(taken)


def kernel_bench(room: int = 1 << 20) -> tuple[Bench, Kernel]:
    bench = Bench(start=False)
    kernel = Kernel(room)
    bench.transport.socket = kernel  # type: ignore[attr-defined]
    bench.pipe.makeConnection(bench.transport)
    return bench, kernel


# -- opening -------------------------------------------------------------------------------------------------------


def test_a_plain_pipe_opens_at_once() -> None:
    bench = Bench()
    pipe = bench.handler.pipe
    assert pipe is bench.pipe
    assert (pipe.peer, pipe.peer_port, pipe.local) == ("192.0.2.7", 40000, "127.0.0.1:2775")
    assert (pipe.certificate, pipe.tls_version) == (None, None)
    assert bench.transport.nodelay and bench.transport.keepalive
    bench.feed(b"abc")
    pipe.write(b"def")
    assert bench.handler.data == b"abc" and bench.transport.take() == b"def"
    assert bench.clock.getDelayedCalls() == []


def test_an_ipv4_mapped_peer_is_its_ipv4_address() -> None:
    bench = Bench(peer="::ffff:192.0.2.7")
    assert bench.pipe.peer == "192.0.2.7"
    assert bench.pipe.local == "[::1]:2775"


def test_a_refused_pipe_is_cut_and_its_handler_never_hears_of_it() -> None:
    bench = Bench(refusal="unbound")
    bench.feed(b"abc")
    bench.settle()
    assert bench.handler.pipe is None
    assert bench.owner.ends == [("unbound", False)]


def test_a_tls_pipe_opens_after_the_handshake(certs: Path) -> None:
    bench, client = tls_bench(certs)
    assert bench.handler.pipe is None
    exchange(bench, client)
    assert bench.pipe.tls_version == "TLSv1.3" and bench.pipe.certificate is None
    bench.feed(client.encrypt(b"hello"))
    bench.pipe.write(b"there")
    assert bench.handler.data == b"hello"
    assert client.receive(bench.transport.take()) == b"there"
    assert bench.clock.getDelayedCalls() == []


def test_all_records_of_a_chunk_are_one_call(certs: Path) -> None:
    bench, client = open_tls(certs)
    bench.feed(b"".join(client.encrypt(bytes([i]) * 50) for i in range(20)))
    assert bench.handler.chunks == 1 and len(bench.handler.data) == 1000


def test_data_in_the_chunk_that_ends_the_handshake_is_delivered(certs: Path) -> None:
    bench, client = tls_bench(certs)
    bench.feed(client.outgoing())
    client.receive(bench.transport.take())
    assert client.open and bench.handler.pipe is None
    bench.feed(client.outgoing() + client.encrypt(b"early"))
    assert bench.handler.data == b"early"


@pytest.mark.parametrize("garbage", [b"\x00\x00\x00\x2f\x00\x00\x00\x09", b"GET / HTTP/1.1\r\n", b"\x16\x02", b"\x80"])
def test_another_protocol_on_the_tls_port_is_cut_at_once(certs: Path, garbage: bytes) -> None:
    bench, _ = tls_bench(certs)
    bench.feed(garbage)
    assert bench.transport.aborted
    bench.settle()
    assert bench.transport.sent == b""
    assert bench.owner.ends == [("wrong protocol", False)]


def test_a_failed_handshake_sends_its_alert(certs: Path) -> None:
    bench, _ = tls_bench(certs)
    bench.feed(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
    bench.settle()
    assert bench.transport.sent[:1] == b"\x15"
    assert bench.owner.ends == [("tls error", False)]
    assert bench.pipe.detail
    assert bench.clock.getDelayedCalls() == []


def test_what_a_handshake_takes_after_its_turn_is_told(certs: Path) -> None:
    bench, client = tls_bench(certs)
    for told in ([], [0.0]):
        bench.feed(client.outgoing())
        assert bench.owner.shook_for == told and client.receive(bench.transport.take()) == b""


@pytest.mark.parametrize(("groups", "costs"), [("P-521:P-384", True), ("P-384", True), ("P-521:P-256:P-384", False)])
@pytest.mark.parametrize("cut", [None, 3, 6, 100])
def test_the_hello_after_a_retry_request_has_its_turn_too(
    certs: Path, groups: str, costs: bool, cut: int | None
) -> None:
    bench, client = tls_bench(certs, groups)
    bench.feed(client.outgoing())
    client.receive(bench.transport.take())
    retried = not client.open
    second = client.outgoing()
    for part in (second[:cut], second[cut:] if cut else b""):
        if part:
            bench.feed(part)
    assert retried is groups.startswith("P-521")
    assert bench.owner.asked == [costs] * (1 + retried)
    client.receive(bench.transport.take())
    if retried:
        assert bench.owner.shook_for == []
        bench.feed(client.outgoing())
    assert bench.handler.pipe is not None


def test_what_is_no_second_hello_is_cut(certs: Path) -> None:
    bench, client = tls_bench(certs, "P-521:P-256")
    bench.feed(client.outgoing())
    bench.transport.take()
    bench.feed(bytes.fromhex("140303000101140303000101"))
    assert bench.transport.aborted and bench.owner.asked == [False]


def test_a_slow_handshake_is_cut(certs: Path) -> None:
    bench, client = tls_bench(certs)
    for octet in client.outgoing()[:4]:
        bench.clock.advance(1.2)
        bench.feed(bytes([octet]))
    assert bench.owner.ends == []
    bench.clock.advance(0.3)
    bench.clock.advance(0)
    assert bench.owner.ends == [("tls handshake timed out", False)]


# -- PROXY headers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "peer", "port"),
    [
        (HEADER, "192.0.2.7", 56324),
        (b"PROXY UNKNOWN\r\n", PROXY, 40000),
        (V2_SIGNATURE + struct.pack(">BBH", 0x20, 0, 0), PROXY, 40000),
    ],
)
def test_the_header_says_who_the_peer_is(header: bytes, peer: str, port: int) -> None:
    bench = Bench(proxies=PROXIES, peer=PROXY)
    for octet in header:
        assert bench.handler.pipe is None
        bench.feed(bytes([octet]))
    assert (bench.pipe.peer, bench.pipe.peer_port) == (peer, port)
    bench.feed(b"abc")
    assert bench.handler.data == b"abc"
    assert bench.clock.getDelayedCalls() == []


def test_what_follows_the_header_in_one_chunk_is_not_lost(certs: Path) -> None:
    bench = Bench(proxies=PROXIES, peer=PROXY)
    bench.feed(HEADER + b"abc")
    assert bench.handler.data == b"abc"
    bench, client = tls_bench(certs, proxies=PROXIES, peer=PROXY)
    bench.feed(HEADER + client.outgoing())
    exchange(bench, client)
    bench.feed(client.encrypt(b"abc"))
    assert bench.handler.data == b"abc" and bench.pipe.peer == "192.0.2.7"


def test_admission_is_asked_for_the_real_peer() -> None:
    bench = Bench(proxies=PROXIES, peer=PROXY, refusal="unbound_per_address")
    assert not bench.transport.aborted
    bench.feed(HEADER + b"abc")
    assert bench.transport.aborted and bench.handler.data == b""


def test_no_header_a_late_one_or_one_from_a_stranger_is_cut() -> None:
    bench = Bench(proxies=PROXIES, peer=PROXY)
    bench.feed(b"\x00\x00\x00\x2f")
    bench.settle()
    assert bench.owner.ends == [("bad PROXY header", False)]
    bench = Bench(proxies=PROXIES, peer=PROXY)
    bench.feed(HEADER[:20])
    bench.clock.advance(5)
    bench.settle()
    assert bench.owner.ends == [("PROXY header timed out", False)]
    bench = Bench(proxies=PROXIES, peer="192.0.2.7")
    bench.feed(HEADER)
    bench.settle()
    assert bench.owner.ends == [("not a trusted proxy", False)]


# -- pausing -------------------------------------------------------------------------------------------------------


def test_a_pause_holds_back_even_what_the_reactor_still_brings() -> None:
    bench = Bench()
    bench.pipe.pause()
    bench.pipe.pause()
    assert not bench.transport.reading
    bench.feed(b"abc")
    bench.feed(b"def")
    assert bench.handler.data == b""
    bench.pipe.resume()
    bench.pipe.resume()
    assert bench.handler.data == b"", "never from within resume()"
    bench.feed(b"ghi")
    bench.clock.advance(0)
    assert bench.handler.data == b"abcdefghi"
    assert bench.transport.reading


def test_a_pause_within_received_is_kept_when_held_octets_follow() -> None:
    bench = Bench()
    bench.handler.on_received = lambda pipe, data: pipe.pause()
    bench.feed(b"abc")
    bench.feed(b"def")
    bench.pipe.resume()
    bench.clock.advance(0)
    assert bench.handler.data == b"abcdef"
    assert bench.pipe.paused and not bench.transport.reading


def test_resume_and_pause_before_the_held_octets_come_keeps_them() -> None:
    bench = Bench()
    bench.pipe.pause()
    bench.feed(b"abc")
    bench.pipe.resume()
    bench.pipe.pause()
    bench.clock.advance(0)
    assert bench.handler.data == b""
    bench.pipe.resume()
    bench.clock.advance(0)
    assert bench.handler.data == b"abc"


def test_close_notify_during_a_pause_comes_after_the_data(certs: Path) -> None:
    for data in (b"last words", b""):
        bench, client = open_tls(certs)
        bench.pipe.pause()
        bench.feed((client.encrypt(data) if data else b"") + client.close())
        bench.settle()
        assert not bench.handler.reasons
        bench.pipe.resume()
        bench.settle()
        assert bench.handler.data == data
        assert bench.handler.reasons == ["closed by peer"]


@given(st.lists(st.sampled_from(["pause", "resume", "feed", "turn"]), max_size=40), st.booleans())
@settings(deadline=None, max_examples=100)
def test_nothing_is_lost_or_reordered_whatever_the_pauses(certs: Path, steps: list[str], secure: bool) -> None:
    bench, client = open_tls(certs) if secure else (Bench(), None)
    sent = b""
    for i, step in enumerate(steps):
        if step == "feed":
            data = bytes([i]) * 10
            sent += data
            before = bench.handler.data
            bench.feed(client.encrypt(data) if client else data)
            assert not bench.pipe.paused or bench.handler.data == before
        elif step == "turn":
            bench.clock.advance(0)
        else:
            getattr(bench.pipe, step)()
    bench.pipe.resume()
    bench.clock.advance(0)
    bench.clock.advance(0)
    assert bench.handler.data == sent
    assert bench.transport.reading


# -- a peer that does not read -------------------------------------------------------------------------------------

MANY = 300 * 1024


def test_unsent_octets_stop_reading_until_all_are_sent() -> None:
    bench = Bench()
    drained: list[bool] = []
    bench.pipe.on_drained = lambda: drained.append(True)
    bench.pipe.write(bytes(200 * 1024))
    assert not bench.pipe.choked and bench.transport.reading
    bench.pipe.write(bytes(100 * 1024))
    assert bench.pipe.unsent == MANY
    assert bench.pipe.choked and not bench.transport.reading
    bench.transport.take(MANY - 1)
    assert bench.pipe.choked and not drained
    bench.transport.take()
    assert not bench.pipe.choked and bench.transport.reading and drained == [True]
    assert bench.clock.getDelayedCalls() == []


def test_choked_and_paused_both_have_to_end() -> None:
    bench = Bench()
    bench.pipe.write(bytes(MANY))
    bench.pipe.pause()
    bench.transport.take()
    assert not bench.transport.reading
    bench.pipe.resume()
    assert bench.transport.reading
    bench.pipe.write(bytes(MANY))
    bench.pipe.pause()
    bench.pipe.resume()
    assert not bench.transport.reading


def test_a_peer_that_reads_nothing_is_cut() -> None:
    bench = Bench()
    bench.pipe.write(bytes(MANY))
    for _ in range(5):
        bench.clock.advance(5)
        bench.pipe.write(b"more of it")
    assert not bench.transport.aborted
    bench.clock.advance(5)
    bench.clock.advance(0)
    assert bench.handler.reasons == ["peer does not read"]


def test_a_peer_that_reads_slowly_is_not() -> None:
    bench = Bench()
    bench.pipe.write(bytes(MANY))
    for _ in range(20):
        bench.clock.advance(25)
        bench.transport.take(1000)
    assert not bench.transport.aborted and bench.pipe.choked


# -- ends ----------------------------------------------------------------------------------------------------------


def test_close_sends_what_is_unsent_first() -> None:
    bench = Bench()
    bench.pipe.write(bytes(MANY))
    bench.pipe.close()
    bench.pipe.close()
    bench.pipe.write(b"too late")
    bench.feed(b"too late")
    assert not bench.handler.reasons
    bench.settle()
    assert len(bench.transport.sent) == MANY and not bench.transport.aborted
    assert bench.handler.reasons == ["closed"] and bench.owner.ends == [("closed", True)]
    assert bench.handler.data == b""
    assert bench.clock.getDelayedCalls() == []


def test_close_says_close_notify(certs: Path) -> None:
    bench, client = open_tls(certs)
    bench.pipe.write(b"bye")
    bench.pipe.close("unbound")
    assert client.receive(bench.transport.take()) == b"bye"
    assert client.closed
    bench.settle()
    assert bench.handler.reasons == ["unbound"]


def test_a_close_that_is_not_read_is_cut() -> None:
    bench = Bench()
    bench.pipe.write(b"x")
    bench.pipe.close("drained")
    bench.clock.advance(5)
    bench.clock.advance(0)
    assert bench.transport.aborted and bench.handler.reasons == ["drained"]


def test_abort_is_told_once_and_later() -> None:
    bench = Bench()
    bench.pipe.abort("bind timed out")
    bench.pipe.abort()
    bench.pipe.close()
    assert bench.handler.reasons == []
    bench.clock.advance(0)
    assert bench.handler.reasons == ["bind timed out"]
    bench.pipe.abort()
    bench.pipe.write(b"x")
    bench.pipe.resume()
    assert bench.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("error", "reason"), [(ConnectionDone(), "closed by peer"), (ConnectionLost(), "connection lost")]
)
def test_what_the_peer_did_is_told(error: Exception, reason: str) -> None:
    bench = Bench()
    bench.transport.lose(error)
    assert bench.handler.reasons == [reason]


def test_a_pipe_closed_in_connected_delivers_nothing(certs: Path) -> None:
    bench, client = tls_bench(certs)
    bench.handler.on_connected = Pipe.close
    bench.feed(client.outgoing())
    client.receive(bench.transport.take())
    bench.feed(client.outgoing() + client.encrypt(b"early"))
    bench.settle()
    assert bench.handler.data == b"" and bench.handler.reasons == ["closed"]


def test_a_broken_record_ends_the_pipe_after_what_came_before(certs: Path) -> None:
    bench, client = open_tls(certs)
    good, bad = client.encrypt(b"good"), bytearray(client.encrypt(b"bad"))
    bad[-1] ^= 1
    bench.feed(good + bytes(bad))
    bench.settle()
    assert bench.handler.data == b"good"
    assert bench.handler.reasons == ["tls error"] and bench.pipe.detail
    assert bench.transport.sent


def test_marking_bound_counts_once_and_only_while_it_stands() -> None:
    bench = Bench()
    bench.pipe.mark_bound()
    bench.pipe.mark_bound()
    assert bench.owner.bound_pipes == 1 and bench.pipe.is_bound
    bench = Bench()
    bench.transport.lose(ConnectionDone())
    bench.pipe.mark_bound()
    assert bench.owner.bound_pipes == 0


def test_the_repr_says_who_and_how_it_stands() -> None:
    assert repr(Bench().pipe) == "<Pipe 192.0.2.7:40000 open>"


def test_a_small_limit_still_allows_what_twisted_buffers() -> None:
    bench = Bench(limits=Limits(unsent=1024))
    bench.pipe.write(bytes(60_000))
    assert not bench.pipe.choked
    bench.pipe.write(bytes(60_000))
    assert bench.pipe.choked


# -- what the kernel takes at once -------------------------------------------------------------------------------------


def test_what_the_kernel_takes_is_gone_at_once() -> None:
    bench, kernel = kernel_bench()
    bench.pipe.write(b"abc")
    bench.pipe.write(b"def")
    assert kernel.got == b"abcdef" and not bench.transport.dataBuffer and bench.pipe.unsent == 0


def test_what_it_does_not_take_waits_in_order() -> None:
    bench, kernel = kernel_bench(room=4)
    bench.pipe.write(b"abc")
    bench.pipe.write(b"def")
    kernel.room = 100
    bench.pipe.write(b"ghi")
    assert kernel.got == b"abcd" and bench.transport.dataBuffer == b"efghi", "nothing overtakes what waits"
    assert bench.pipe.unsent == 5
    bench.transport.take()
    bench.pipe.write(b"jkl")
    assert kernel.got == b"abcdjkl"


def test_without_room_everything_waits() -> None:
    bench, kernel = kernel_bench(room=0)
    bench.pipe.write(b"abc")
    assert bench.transport.take() == b"abc" and kernel.got == b""


def test_a_broken_socket_is_left_for_the_transport_to_find() -> None:
    bench, kernel = kernel_bench()
    kernel.error = ConnectionResetError()
    bench.pipe.write(b"abc")
    assert bench.transport.dataBuffer == b"abc" and not bench.handler.reasons


def test_a_peer_that_does_not_read_is_found_behind_the_kernel_too() -> None:
    bench, _kernel = kernel_bench(room=1000)
    bench.pipe.write(bytes(300_000))
    assert bench.pipe.choked and not bench.transport.reading
    bench.transport.take()
    assert not bench.pipe.choked and bench.transport.reading
