"""How far a ClientHello has come: every cut of a real one, and what never becomes one."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.net.hello import HELLO_MAX, RECORDS_MAX, Progress, progress
from smppd.net.tls import TlsClient, TlsServer, client_context
from tests.net.test_tls import listener


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
