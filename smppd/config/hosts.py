"""By which names a server on HTTP may be asked: the Host header, held against those it knows (RFC 9110 section 7.2).

A page in somebody's browser reads nothing here, although a name of its own was made to lead here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from typing import Final

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]+")


def is_host(text: str) -> bool:
    """Whether a text can stand in a list of names: a host name or an address, without a port."""
    return _NAME.fullmatch(text) is not None


def plain_host(host: str) -> str:
    """A host in one form: an address in its shortest, an IPv4 one that IPv6 carries as IPv4, a name in small letters without
    the final dot."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower().removesuffix(".")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


class Hosts:
    """The names of one server."""

    def __init__(self, names: Iterable[str]) -> None:
        """names: what may be asked for beside loopback and the address that was reached; wildcard addresses are none."""
        self._names: Final = {plain_host(name) for name in (*names, "localhost")} - {"0.0.0.0", "::"}

    def refusal(self, header: str, local: str) -> int:
        """The status for a Host header; 0 where it names this server. local: the address at which it was reached."""
        found = _HOST.fullmatch(header.strip())
        if found is None:
            return 400
        host = plain_host(found[1] or found[2])
        return 0 if host in self._names or _loopback(host) or host == plain_host(local) else 421


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
