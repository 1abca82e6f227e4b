"""How far a ClientHello has come: every cut of a real one, and what never becomes one; and which ones are dear."""

from __future__ import annotations

import itertools
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.net.hello import HELLO_MAX, RECORDS_MAX, Progress, is_costly, progress
from smppd.net.openssl import SslLibrary
from smppd.net.tls import TlsClient, TlsServer, client_context
from tests.net.test_tls import listener, rsa_pair


def message(size: int) -> bytes:
    return b"\x01" + size.to_bytes(3) + bytes(size)


def records(data: bytes, *sizes: int) -> bytes:
    """The data in records of these sizes, the last one taking the rest."""
    wire, at = b"", 0
    for size in (*sizes, len(data)):
        part = data[at : at + size]
        at += size
        if part:
            wire += b"\x16\x03\x01" + len(part).to_bytes(2) + part
    return wire


def test_a_real_hello_is_whole_with_its_last_octet(certs: Path) -> None:
    client = TlsClient(client_context(certs / "ca.pem"), "localhost").stream()
    client.begin()
    hello = client.outgoing()
    assert all(progress(hello[:cut]) is Progress.MORE for cut in range(len(hello)))
    assert progress(hello) is progress(hello + b"\x14\x03\x03\x00\x01\x01") is Progress.WHOLE
    server = TlsServer(listener(certs)).stream()
    server.receive(hello)
    assert server.failed is None


@given(st.integers(0, HELLO_MAX), st.lists(st.integers(1, 2000), max_size=RECORDS_MAX - 1), st.data())
def test_any_cut_into_records_is_followed(size: int, sizes: list[int], data: st.DataObject) -> None:
    wire = records(message(size), *sizes)
    assert progress(wire) is Progress.WHOLE
    assert progress(wire[: data.draw(st.integers(0, len(wire) - 1))]) is Progress.MORE


@pytest.mark.parametrize(
    "wire",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x02",
        b"\x17\x03\x03\x00\x01",
        records(b"\x02\x00\x00\x01\x00"),  # a server's hello
        records(message(HELLO_MAX + 1)),
        records(message(HELLO_MAX + 1))[:20],  # as soon as its length is known
        b"\x16\x03\x01\x00\x00",  # an empty record
        b"\x16\x03\x01\x40\x01\x01",  # longer than a record may be
        records(message(100), *[1] * RECORDS_MAX),
        records(b"\x01\x00")[:-1] + b"\x00" + b"\x17\x03\x01\x00\x01",
    ],
)
def test_what_never_becomes_one(wire: bytes) -> None:
    assert progress(wire) is Progress.WRONG
    assert progress(wire + bytes(10_000)) is Progress.WRONG


@given(st.binary(max_size=300))
def test_anything_is_judged_and_stays_wrong(data: bytes) -> None:
    for start in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c"):
        wire = start + data
        judged = [progress(wire[:cut]) for cut in range(len(wire) + 1)]
        for before, after in itertools.pairwise(judged):
            assert before is Progress.MORE or before is after


# -- dear ones -----------------------------------------------------------------------------------------------------

P_384 = 24


def hello_of(certs: Path, groups: str, version: ssl.TLSVersion | None = None) -> bytes:
    """What a client with these groups says first; a list's first group gets the key share."""
    context = client_context(certs / "ca.pem")
    SslLibrary().set_groups(context, groups)
    if version is not None:
        context.maximum_version = version
    client = TlsClient(context, "localhost").stream()
    client.begin()
    return client.outgoing()


def chosen(answer: bytes) -> int | None:
    """The group of a server's first flight, None where it refuses: of its key_share, or of its ServerKeyExchange."""
    at, group = 0, None
    flight = b""
    while at < len(answer):
        size = int.from_bytes(answer[at + 3 : at + 5])
        if answer[at] == 0x16:
            flight += answer[at + 5 : at + 5 + size]
        at += 5 + size
    at = 0
    while at < len(flight) and flight[at] in (0x02, 0x0B, 0x0C):
        size = int.from_bytes(flight[at + 1 : at + 4])
        body = flight[at + 4 : at + 4 + size]
        if flight[at] == 0x02:
            where = 35 + body[34] + 3 + 2
            while where < len(body):
                if int.from_bytes(body[where : where + 2]) == 51:
                    return int.from_bytes(body[where + 4 : where + 6])
                where += 4 + int.from_bytes(body[where + 2 : where + 4])
        elif flight[at] == 0x0C:
            group = int.from_bytes(body[1:3])
        at += 4 + size
    return group


LISTS = [
    ":".join(order)
    for size in (1, 2, 3, 4)
    for order in itertools.permutations(("X25519", "P-256", "P-384", "P-521"), size)
]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, None])
def test_openssl_takes_p384_of_dear_hellos_alone(certs: Path, tmp_path: Path, version: ssl.TLSVersion | None) -> None:
    took: dict[bool, set[int | None]] = {True: set(), False: set()}
    certificate, key = rsa_pair(tmp_path)  # a P-256 certificate is of no use to TLS 1.2 clients with P-384 alone
    maker = TlsServer(listener(certs, certificate=certificate, key=key))
    for groups in LISTS:
        hello = hello_of(certs, groups, version)
        server = maker.stream()
        server.receive(hello)
        group = chosen(server.outgoing())
        assert is_costly(hello) == (group == P_384), groups
        took[is_costly(hello)].add(group)
    assert took == {True: {P_384}, False: {29, 23, None}}


def test_a_share_of_a_group_that_is_not_listed_does_not_make_a_hello_cheap(certs: Path) -> None:
    # TLS 1.2 looks at no shares: it would take the P-384 of the list.
    hello = hello_of(certs, "X25519:P-384")
    assert not is_costly(hello)
    assert is_costly(
        hello.replace(b"\x00\x0a\x00\x06\x00\x04\x00\x1d\x00\x18", b"\x00\x0a\x00\x06\x00\x04\x00\x15\x00\x18")
    )


def test_the_order_of_the_shares_decides(certs: Path) -> None:
    hello = hello_of(certs, "X25519:P-384")
    at = hello.index(b"\x00\x33\x00\x26\x00\x24\x00\x1d")
    head, share = hello[5:at], hello[at + 6 : at + 42]
    other = b"\x00\x18\x00\x61\x04" + bytes(96)
    for shares, wanted in ((share + other, False), (other + share, True)):
        content = len(shares).to_bytes(2) + shares
        body = head + b"\x00\x33" + len(content).to_bytes(2) + content + hello[at + 42 :]
        assert is_costly(records(body, 100)) is wanted


def test_what_cannot_be_followed_is_dear(certs: Path) -> None:
    hello = hello_of(certs, "X25519")
    assert not is_costly(hello) and not is_costly(records(hello[5:], 1, 2, 50))
    extensions = 4 + 34 + 1 + hello[43] + 2
    extensions += int.from_bytes(hello[5 + extensions - 2 : 5 + extensions]) + 2
    for size in range(4, extensions - 1):
        assert is_costly(records(b"\x01" + (size - 4).to_bytes(3) + hello[9 : 5 + size])), size


@given(st.binary(max_size=300))
def test_any_octets_are_judged_without_an_error(data: bytes) -> None:
    for start in (b"", b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x01\x01\x00"):
        assert is_costly(start + data) in (True, False)
