"""PROXY protocol, versions 1 and 2: who really connects, as a proxy in front says it in the first octets.

Source: "The PROXY protocol, versions 1 & 2" (HAProxy project), sections 2.1 and 2.2. Pure: octets in, a header, None
for "more is needed", or ProxyError.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from struct import Struct
from typing import Final

V1_MAX: Final = 107
V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
V2_FIXED: Final = 16
# Addresses of AF_UNIX (216) are the longest; TLVs may follow them. More than this is nobody's header.
V2_BODY_MAX: Final = 232
HEADER_MAX: Final = V2_FIXED + V2_BODY_MAX

_V1_START: Final = b"PROXY "
_PORT: Final = re.compile(rb"0|[1-9][0-9]{0,4}")
_V2_HEAD: Final = Struct(">12sBBH")
_V2_PORTS: Final = Struct(">HH")
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_LENGTHS: Final = {0x1: 4, 0x2: 16}  # AF_INET, AF_INET6


class ProxyError(Exception):
    """These octets are no PROXY header. The text repeats none of them."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a PROXY header says. `source` is None when the real peer counts (LOCAL, UNKNOWN, other families)."""

    source: str | None
    port: int
    length: int
    """Octets of the header; the connection's own begin there."""


def parse(data: bytes) -> Header | None:
    """The header at the start of `data`; None while it is not complete. ProxyError as soon as it cannot become one."""
    if data.startswith(V2_SIGNATURE):
        return _version_2(data)
    if data.startswith(_V1_START):
        return _version_1(data)
    if V2_SIGNATURE.startswith(data) or _V1_START.startswith(data):
        return None
    raise ProxyError("no PROXY header")


def _version_1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, V1_MAX)
    if end < 0:
        if len(data) >= V1_MAX or b"\n" in data:
            raise ProxyError("version 1: the line does not end")
        return None
    fields = data[len(_V1_START) : end].split(b" ")
    length = end + 2
    if fields[0] == b"UNKNOWN":
        return Header(None, 0, length)
    if len(fields) != 5 or fields[0] not in (b"TCP4", b"TCP6"):
        raise ProxyError("version 1: not TCP4, TCP6 or UNKNOWN with two addresses and two ports")
    family = 4 if fields[0] == b"TCP4" else 6
    source = _address(fields[1], family)
    _address(fields[2], family)
    port = _port(fields[3])
    _port(fields[4])
    return Header(source, port, length)


def _address(text: bytes, family: int) -> str:
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise ProxyError("version 1: not an address") from None
    if address.version != family or b"%" in text:
        raise ProxyError("version 1: an address of another family")
    return str(address)


def _port(text: bytes) -> int:
    if not _PORT.fullmatch(text) or int(text) > 0xFFFF:
        raise ProxyError("version 1: not a port")
    return int(text)


def _version_2(data: bytes) -> Header | None:
    if len(data) < V2_FIXED:
        return None
    _, command, family, size = _V2_HEAD.unpack_from(data)
    if command not in (_LOCAL, _PROXY):
        raise ProxyError("version 2: another version or command")
    if size > V2_BODY_MAX:
        raise ProxyError("version 2: too long")
    length = V2_FIXED + size
    if len(data) < length:
        return None
    octets = _ADDRESS_LENGTHS.get(family >> 4)
    if command == _LOCAL or octets is None or family & 0xF != 0x1:  # not a stream over IP: nothing we could use
        return Header(None, 0, length)
    if size < 2 * octets + 4:
        raise ProxyError("version 2: too short for its addresses")
    source = str(ipaddress.ip_address(data[V2_FIXED : V2_FIXED + octets]))
    port, _ = _V2_PORTS.unpack_from(data, V2_FIXED + 2 * octets)
    return Header(source, port, length)
