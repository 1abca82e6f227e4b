"""PROXY headers: both versions, byte by byte, and everything that is none."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.net import proxy
from smppd.net.proxy import Header, ProxyError, parse


def version_2(command: int, family: int, body: bytes) -> bytes:
    return proxy.V2_SIGNATURE + struct.pack(">BBH", command, family, len(body)) + body


def addresses(source: str, port: int) -> bytes:
    packed = ipaddress.ip_address(source).packed
    return packed + packed + struct.pack(">HH", port, 3550)


TCP4 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 3550\r\n"
TCP6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 3550\r\n"
V2_4 = version_2(0x21, 0x11, addresses("192.0.2.7", 56324))
V2_6 = version_2(0x21, 0x21, addresses("2001:db8::7", 56324) + b"\x04\x00\x03abc")


@pytest.mark.parametrize(
    ("octets", "source", "port"),
    [
        (TCP4, "192.0.2.7", 56324),
        (TCP6, "2001:db8::7", 56324),
        (V2_4, "192.0.2.7", 56324),
        (V2_6, "2001:db8::7", 56324),
        (b"PROXY UNKNOWN\r\n", None, 0),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None, 0),
        (version_2(0x20, 0x00, b""), None, 0),
        (version_2(0x20, 0x11, addresses("192.0.2.7", 1)), None, 0),
        (version_2(0x21, 0x31, bytes(216)), None, 0),  # AF_UNIX
        (version_2(0x21, 0x12, addresses("192.0.2.7", 1)), None, 0),  # a datagram
    ],
)
def test_header_is_read_from_any_split_and_leaves_the_rest(octets: bytes, source: str | None, port: int) -> None:
    expected = Header(source, port, len(octets))
    for end in range(len(octets)):
        assert parse(octets[:end]) is None
    assert parse(octets) == parse(octets + b"\x00\x00\x00\x10") == expected


def test_the_longest_line_fits() -> None:
    line = b"PROXY UNKNOWN " + b"x" * (107 - 16) + b"\r\n"
    assert len(line) == proxy.V1_MAX
    assert parse(line) == Header(None, 0, 107)
    with pytest.raises(ProxyError):
        parse(b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n")


@pytest.mark.parametrize(
    "octets",
    [
        b"\x00\x00\x00\x2f",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 65536\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 056 3550\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +56 3550\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7\n",
        b"PROXY " + b"x" * 101,
        version_2(0x11, 0x11, addresses("192.0.2.7", 1)),
        version_2(0x22, 0x11, addresses("192.0.2.7", 1)),
        version_2(0x21, 0x11, addresses("192.0.2.7", 1)[:-1]),
        version_2(0x21, 0x21, addresses("192.0.2.7", 1)),
        version_2(0x21, 0x11, b"")[:14] + b"\xff\xff",
    ],
)
def test_what_is_no_header_is_refused_without_repeating_it(octets: bytes) -> None:
    with pytest.raises(ProxyError) as caught:
        parse(octets)
    assert "192" not in str(caught.value) and "GET" not in str(caught.value)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(lambda a, b: a + b, st.sampled_from([b"PROXY ", proxy.V2_SIGNATURE]), st.binary(max_size=300)),
    )
)
@settings(deadline=None, max_examples=200)
def test_any_octets_give_a_header_more_or_an_error_and_a_prefix_never_says_otherwise(octets: bytes) -> None:
    def outcome(data: bytes) -> object:
        try:
            return parse(data)
        except ProxyError:
            return "error"

    whole = outcome(octets)
    if whole is None:
        assert len(octets) < proxy.HEADER_MAX
    before = [outcome(octets[:end]) for end in range(len(octets))]
    decided = [result for result in before if result is not None]
    # Once decided, what follows changes nothing.
    assert all(result == decided[0] for result in decided)
    if decided:
        assert whole == decided[0]


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=100), st.binary(max_size=20))
@settings(deadline=None, max_examples=100)
def test_addresses_round_trip_in_both_versions(address: object, port: int, tlvs: bytes, rest: bytes) -> None:
    text, six = str(address), ":" in str(address)
    line = f"PROXY TCP{6 if six else 4} {text} {text} {port} 1\r\n".encode()
    assert parse(line + rest) == Header(text, port, len(line))
    octets = version_2(0x21, 0x21 if six else 0x11, addresses(text, port) + tlvs)
    assert parse(octets + rest) == Header(text, port, len(octets))
