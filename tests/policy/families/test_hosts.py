"""What the name of a host says, by the registrable domain."""

from __future__ import annotations

import pytest

from smppd.policy.families.hosts import (
    ALIKE,
    BRAND,
    LETTERS,
    LITERAL,
    NESTED,
    OWN,
    REMEMBERED,
    SHIPPED,
    SHORT,
    HostIndex,
)
from smppd.policy.links import canonical

INDEX = HostIndex(SHIPPED)


@pytest.mark.parametrize(
    ("host", "registrable"),
    [
        ("login.bank.co.uk", "bank.co.uk"),
        ("bank.co.uk.evil.example", "evil.example"),
        ("a.github.io", "a.github.io"),
        ("evil.com.au", "evil.com.au"),
        ("com", "com"),
        ("localhost", "localhost"),
    ],
)
def test_registrable(host: str, registrable: str) -> None:
    assert INDEX.registrable(host) == registrable


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("example.com", 0),
        ("www.example.co.uk", 0),
        ("northwold.example", OWN),
        ("login.northwold-bank.example", OWN),
        ("northwold-bank.com", BRAND),
        ("northwold.evil.test", BRAND),
        ("my-northwold.test", BRAND),
        ("secure.north-wold-bank.test", BRAND),
        ("northw0ld.test", ALIKE),
        ("norrthwold.test", ALIKE),
        ("nortwhold.test", ALIKE),
        ("нorthwold.test", ALIKE | LETTERS),
        ("bank.co.uk.evil.test", NESTED),
        ("example.com.evil.test", NESTED),
        ("www-example-com.test", NESTED),
        ("com.example.net", 0),
        ("192.0.2.7", LITERAL),
        ("10.1.2.3", 0),
        ("172.20.0.1", 0),
        ("0xc0000207", LITERAL),
        ("3221225991", LITERAL),
        ("bit.ly", SHORT),
        ("go.bit.ly", SHORT),
        ("аррӏе.com", LETTERS),
        ("bücher.de", 0),
        ("пример.рф", 0),
        ("пример.com", 0),
        ("例え.jp", 0),
    ],
)
def test_judge(host: str, said: int) -> None:
    for _ in range(2):  # what is remembered says the same
        assert INDEX.judge(canonical(host)) == said


@pytest.mark.parametrize("host", ["", "xn--", "xn--\u00e4", "a" * 300, "." * 20, "-" * 70, "[::1]", "xn--99999999"])
def test_odd_hosts(host: str) -> None:
    INDEX.judge(host)


def test_what_is_remembered_is_bounded() -> None:
    index = HostIndex(SHIPPED)
    for number in range(REMEMBERED + 10):
        index.judge(f"h{number}.example")
    assert len(index._seen) <= REMEMBERED
