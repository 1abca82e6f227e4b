"""The daemon's door as strangers, customers and the operator meet it: groups of TLS, bans, the HTTP port's names."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.children import Smsc
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account
from tests.e2e.probes import Probe

Make = Callable[..., Gateway]
NOBODY = "127.0.0.77"


def bind_from(gateway: Gateway, source: str, name: str, password: str) -> int | None:
    """The status of a bind from one of loopback's addresses; None when the connection was closed instead."""
    probe = Probe.__new__(Probe)
    try:
        probe.socket = socket.create_connection(("127.0.0.1", gateway.plain_port), 10, source_address=(source, 0))
        probe._rest, probe._sequence = b"", 1
        with probe:
            return probe.bind(name, password)
    except ConnectionError:
        return None


def test_guesses_are_told_with_their_account_banned_listed_and_lifted(make_gateway: Make, smsc: Smsc) -> None:
    gateway = make_gateway(
        [Upstream(smsc.port, tls=True)],
        [account("acme"), account("beta")],
        limits={"refusal_floor": "0", "id_delay": {"first": "1ms", "most": "1ms"}, "address_failures": 3},
    )
    with gateway:
        assert bind_from(gateway, "127.0.0.1", "acme", PASSWORD) == 0
        for _ in range(3):
            assert bind_from(gateway, "127.0.0.1", "beta", "wrong") == 0x0D
            assert bind_from(gateway, NOBODY, "typed-secret", "wrong") == 0x0D
        # Behind an address that serves customers one name's failures ban that name; elsewhere they ban the address.
        assert bind_from(gateway, "127.0.0.1", "beta", PASSWORD) == 0x0D
        assert bind_from(gateway, "127.0.0.1", "acme", PASSWORD) == 0
        assert bind_from(gateway, NOBODY, "acme", PASSWORD) is None
        assert gateway.metric("smppd_account_binds_refused_total", account="beta", reason="wrong_password") == 3
        assert gateway.metric("smppd_bans", scope="address") == gateway.metric("smppd_bans", scope="name") == 1

        listed = gateway.command("bans", "list", "--json")
        bans = json.loads(listed.stdout)
        assert [(ban["address"], ban["scope"]) for ban in bans] == [("127.0.0.1", "name"), (NOBODY, "address")]
        assert bans[0]["who"] == "beta"
        assert NOBODY in gateway.command("bans", "list").stdout
        lifted = gateway.command("bans", "lift", NOBODY)
        assert (lifted.returncode, lifted.stderr) == (0, f"1 ban of {NOBODY} lifted\n")
        assert gateway.command("bans", "lift", NOBODY).returncode == 1
        assert gateway.command("bans", "lift", "nonsense").returncode == 2
        assert bind_from(gateway, NOBODY, "acme", PASSWORD) == 0
        assert '"account":"beta"' in gateway.log_text() and "typed-secret" not in gateway.log_text()
    assert gateway.command("bans", "list").returncode == 2, "nobody is left to ask"
    trail = gateway.command("audit", "show", "--json").stdout
    assert "ban began" in trail and "ban lifted" in trail and "beta" in trail and "typed-secret" not in trail


@pytest.mark.parametrize(
    ("groups", "answered"),
    [
        ("X25519", True),
        ("P-256", True),
        ("P-384", True),
        ("ffdhe2048", False),
        ("ffdhe8192", False),
        ("X448", False),
        ("P-521", False),
    ],
)
def test_groups_of_the_running_daemon(make_gateway: Make, smsc: Smsc, groups: str, answered: bool) -> None:
    gateway = _standing(make_gateway, smsc)
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.tls_port}", "-groups", groups, "-tls1_3", "-brief"],
        input=b"",
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (b"CONNECTION ESTABLISHED" in done.stderr) is answered, done.stderr
    assert (b"handshake failure" in done.stderr) is not answered


@pytest.mark.parametrize(
    ("host", "code"),
    [("localhost", 200), ("127.0.0.1:9180", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421)],
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/status"])
def test_the_http_port_answers_to_its_own_names(
    make_gateway: Make, smsc: Smsc, host: str, code: int, path: str
) -> None:
    gateway = _standing(make_gateway, smsc)
    request = urllib.request.Request(f"http://127.0.0.1:{gateway.http_port}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = answer.status
    except urllib.error.HTTPError as error:
        found = error.code
        error.close()
    assert found == code


_gateways: list[Gateway] = []


@pytest.fixture(scope="module", autouse=True)
def _one_gateway() -> Iterator[None]:
    yield
    for gateway in _gateways:
        gateway.finish()


def _standing(make_gateway: Make, smsc: Smsc) -> Gateway:
    """One daemon for all that only ask it something."""
    if not _gateways:
        _gateways.append(make_gateway([Upstream(smsc.port, tls=True)]))
        _gateways[0].start()
    return _gateways[0]
