"""The section `console`: TLS beyond loopback, names, how long logins last."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from smppd.config import Console
from smppd.config.hosts import Hosts, is_host, plain_host


def test_the_defaults() -> None:
    console = Console()
    assert (console.host, console.port, console.tls) == ("127.0.0.1", 9181, None)
    assert (console.session, console.idle) == (900.0, 300.0)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"address": "0.0.0.0:9181"}, "is not loopback: give it tls"),
        ({"address": "192.0.2.1:443"}, "is not loopback"),
        ({"session": "61m"}, "must be 1h at most"),
        ({"idle": "0s"}, ""),
        ({"hosts": ["a/b"]}, "host names or addresses"),
        ({"port": 1}, ""),
    ],
)
def test_what_is_refused(fields: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why or None):
        Console.model_validate(fields)


def test_hosts_are_compared_in_one_form() -> None:
    hosts = Hosts(("SMPPD.example.net.", "2001:db8:0::1", "0.0.0.0"))
    for header in (
        "smppd.example.net",
        "smppd.example.net:443",
        "[2001:DB8::1]:1",
        "localhost",
        "127.0.0.9",
        "192.0.2.7",
    ):
        assert hosts.refusal(header, "192.0.2.7") == 0, header
    assert hosts.refusal("0.0.0.0", "192.0.2.7") == hosts.refusal("evil.example", "192.0.2.7") == 421
    assert hosts.refusal("a b", "") == hosts.refusal("", "") == 400
    assert plain_host("::ffff:192.0.2.7") == "192.0.2.7" and is_host("a.example") and not is_host("a.example:1")
