"""Browsers and networks from which an operator has logged in before.

A browser is known by a random token in a cookie of its own, of which the store has a keyed hash beside the networks it came
from. It opens nothing: whoever logs in from a browser or a network that is not known gives one more code.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

from smppd.operators.desk import Desk

KIND: Final = "browser"
REMEMBERED: Final = 90 * 86400.0
"""Seconds after its latest login that a browser is remembered."""
_NETWORKS: Final = 8
_TOKEN_BYTES: Final = 32
_TOKEN: Final = 2 * _TOKEN_BYTES
_TRIES: Final = 5


def network_of(address: str) -> str:
    """What an address counts as: its IPv4 /24 or its IPv6 /48; empty for this host."""
    if not address:
        return ""
    try:
        one = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    mapped = one.ipv4_mapped if isinstance(one, ipaddress.IPv6Address) else None
    wide = mapped or one
    return str(ipaddress.ip_network(f"{wide}/{24 if wide.version == 4 else 48}", strict=False))


def is_known(desk: Desk, operator: str, token: str, address: str, now: float) -> bool:
    """Whether an operator has logged in by this browser from this network. Raises StoreError and SealError."""
    paper = desk.get(KIND, _name(desk, operator, token)) if len(token) == _TOKEN else None
    if paper is None:
        return False
    since, networks = paper.value["seen"], paper.value["networks"]
    return now < since + REMEMBERED and network_of(address) in networks


def remember(desk: Desk, operator: str, token: str, address: str, now: float, draw: Callable[[int], bytes]) -> str:
    """Makes a browser known for an operator, from this network too; its token, a new one where it had none of ours. Raises
    StoreError and SealError."""
    network = network_of(address)
    for _ in range(_TRIES):
        paper = desk.get(KIND, _name(desk, operator, token)) if len(token) == _TOKEN else None
        if paper is None:
            token = draw(_TOKEN_BYTES).hex()
            value = {"operator": operator, "networks": [network], "since": now, "seen": now}
            if desk.add(KIND, _name(desk, operator, token), value, now + REMEMBERED):
                return token
            continue
        networks = [network, *(one for one in paper.value["networks"] if one != network)][:_NETWORKS]
        if desk.replace(KIND, paper, {**paper.value, "networks": networks, "seen": now}, now + REMEMBERED):
            return token
    return token


def _name(desk: Desk, operator: str, token: str) -> str:
    return desk.hash("browser", operator, token)
