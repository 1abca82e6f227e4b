"""The console as a process, over TLS, before the real daemon: a login, an act, bad requests, and the end."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

import pytest

from smppd.console.server import MAX_BODY
from smppd.console.web import HEADERS, HSTS
from smppd.operators import totp
from tests import forked
from tests.cli.staff import PASSPHRASE, Person
from tests.e2e.children import Smsc
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account, wait_for
from tests.e2e.probes import Probe
from tests.ports import free_port

HOST = "smppd.example.net"


class Browser:
    """Keeps cookies and one connection, and follows where it is led."""

    def __init__(self, port: int, ca: Path) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        self.asking = http.client.HTTPSConnection("localhost", port, timeout=20, context=context)
        self.cookies: dict[str, str] = {}
        self.text = ""
        self.headers: dict[str, str] = {}

    def ask(self, path: str, fields: dict[str, str] | None = None, **headers: str) -> int:
        """The status of a page, or of a form that is sent."""
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()), **headers}
        body = None
        if fields is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode({"form": self._token(), **fields})
        self.asking.request("GET" if fields is None else "POST", path, body, sent)
        answer = self.asking.getresponse()
        self.text = answer.read().decode()
        self.headers = dict(answer.getheaders())
        for name, value in answer.getheaders():
            if name == "Set-Cookie":
                key, _, kept = value.split(";")[0].partition("=")
                assert "Secure" in value and "HttpOnly" in value and "SameSite=Strict" in value
                self.cookies[key] = kept
        if answer.status == 303:
            return self.ask(self.headers["Location"])
        return answer.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.asking.close()

    def _token(self) -> str:
        found = re.search(r'name="form" value="(\w+)"', self.text)
        return found[1] if found is not None else ""


class Console:
    """`smppd console` on a gateway's configuration."""

    def __init__(self, gateway: Gateway, certificates: Path) -> None:
        self.port = free_port()
        self.ca = certificates / "ca.pem"
        tls = {"certificate": str(certificates / "server.pem"), "key": str(certificates / "server.key")}
        gateway.config["console"] = {"address": f"127.0.0.1:{self.port}", "tls": tls, "hosts": [HOST]}
        gateway.write_config()
        self.log = gateway.directory / "console.log"
        words = ["console", "--config", str(gateway.config_file)]
        self.process = forked.Forked(words, ("/dev/null", str(self.log), str(self.log)))
        wait_for("the console", lambda: "the console listens" in self.log_text())

    def log_text(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        status = self.process.poll()
        assert status is None, f"the console ended with status {status}: {text[-2000:]}"
        return text

    def raw(self, data: bytes) -> bytes:
        """What bytes are answered, over TLS, until the other side closes."""
        context = ssl.create_default_context(cafile=str(self.ca))
        with socket.create_connection(("127.0.0.1", self.port), 20) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as asking:
                found = b""
                try:
                    asking.sendall(data)
                    while part := asking.recv(65536):
                        found += part
                except (ConnectionError, ssl.SSLError):
                    pass
                return found


@pytest.fixture(scope="module")
def running(
    make_gateway: Callable[..., Gateway], certificates: Path, smsc: Smsc
) -> Iterator[tuple[Gateway, Console, Person]]:
    upstreams = [Upstream(smsc.port, tls=True, name="carrier-a")]
    with make_gateway(upstreams, [account("acme"), account("other")]) as gateway:
        made = gateway.command("operators", "add", "ada", "--role", "operator", "--stdin", stdin=PASSPHRASE + "\n")
        assert made.returncode == 0, made.stderr
        console = Console(gateway, certificates)
        yield gateway, console, Person("ada", PASSPHRASE, made.stdout)
        assert "Traceback" not in console.log_text()
        assert PASSPHRASE not in console.log_text() and "ada" not in console.log_text()
        console.process.terminate()
        assert console.process.wait(20) == 0


def test_a_login_a_look_and_an_act(running: tuple[Gateway, Console, Person]) -> None:
    gateway, console, ada = running
    with Browser(console.port, console.ca) as browser:
        look_and_act(browser, gateway, ada)


def look_and_act(browser: Browser, gateway: Gateway, ada: Person) -> None:
    """What an operator does."""
    assert browser.ask("/") == 200 and "<title>Log in" in browser.text
    assert all(browser.headers.get(name) == value for name, value in (*HEADERS, HSTS))
    step = int(time.time()) // totp.STEP
    # Codes of the step before, of this one and of the next are taken, each once.
    assert browser.ask("/login", {"name": "ada", "passphrase": PASSPHRASE, "code": ada.code(step * totp.STEP)}) == 200
    assert "Next code" in browser.text
    assert browser.ask("/login/code", {"code": ada.code((step + 1) * totp.STEP)}) == 200
    assert "carrier-a" in browser.text and "acme" in browser.text
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        assert browser.ask("/sessions?name=acme") == 200
        found = re.search(r'href="/act/kick\?target=(c\d+)"', browser.text)
        assert found is not None, browser.text
        assert browser.ask(f"/act/kick?target={found[1]}") == 200 and "127.0.0.1" in browser.text
        assert browser.ask("/act/kick", {"target": found[1], "reason": "does not answer"}) == 200
        assert 'class="note good"' in browser.text
        wait_for("the session to end", lambda: probe_is_unbound(probe))
    shown = gateway.command("audit", "show", "--json").stdout
    assert any('"kick"' in line and "does not answer" in line and "ada" in line for line in shown.splitlines())
    for page in (
        "/accounts/acme",
        "/upstreams",
        "/queues",
        "/messages",
        "/limits",
        "/bans",
        "/acts",
        "/rules",
        "/config",
    ):
        assert browser.ask(page) == 200, page
        assert "argon2" not in browser.text and PASSWORD not in browser.text
    assert browser.ask("/logout", {}) == 200 and "<title>Log in" in browser.text


def test_tls_has_forward_secrecy_and_no_old_versions(running: tuple[Gateway, Console, Person]) -> None:
    _gateway, console, _ada = running

    def shakes_hands(version: ssl.TLSVersion, ciphers: str) -> bool:
        context = ssl.create_default_context(cafile=str(console.ca))
        context.minimum_version = context.maximum_version = version
        context.set_ciphers(ciphers)
        with socket.create_connection(("127.0.0.1", console.port), 20) as plain:
            try:
                with context.wrap_socket(plain, server_hostname="localhost"):
                    return True
            except (ssl.SSLError, ConnectionError):
                return False

    assert shakes_hands(ssl.TLSVersion.TLSv1_3, "DEFAULT")
    assert shakes_hands(ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM")
    assert not shakes_hands(ssl.TLSVersion.TLSv1_2, "ECDHE+AES256+SHA384:ECDHE+AES256+SHA:!AESGCM:!CHACHA20")
    assert not shakes_hands(ssl.TLSVersion.TLSv1_2, "AES256-GCM-SHA384")


def probe_is_unbound(probe: Probe) -> bool:
    """Whether the daemon unbinds, or has closed."""
    try:
        return probe.read()[4:8] == b"\0\0\0\6"
    except (ConnectionError, TimeoutError):
        return True


def test_bad_requests_end_themselves_alone(running: tuple[Gateway, Console, Person]) -> None:
    _gateway, console, _ada = running

    long = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (MAX_BODY + 1)
    assert console.raw(long) == b""
    for host, status in (("localhost", b"200"), (HOST, b"200"), ("evil.example", b"421"), ("a b", b"400")):
        close = "Connection: close\r\n"
        answer = console.raw(f"GET /login HTTP/1.1\r\nHost: {host}\r\n{close}\r\n".encode())
        assert answer.split(b" ")[1] == status, host
    for garbage in (
        b"\0" * 100 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET\r\n\r\n",
        b"\r\n" * 10 + b"x\r\n\r\n",
    ):
        assert b" 200 " not in console.raw(garbage)
    head = console.raw(b"HEAD /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert head.endswith(b"\r\n\r\n") and b"Content-Security-Policy" in head
    with Browser(console.port, console.ca) as browser:
        assert browser.ask("/static/htmx.min.js") == 200 and browser.headers["Content-Type"].startswith(
            "text/javascript"
        )
        assert browser.ask("/static/htmx.min.js", None, **{"If-None-Match": browser.headers["ETag"]}) == 304
        assert browser.ask("/static/../app.py") == 200 and "<title>Log in" in browser.text


def test_it_says_what_keeps_it_from_starting(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway([Upstream(free_port())])
    assert "no key store here" in gateway.command("console").stderr
    assert gateway.command("keys", "init").returncode == 0
    done = gateway.command("console")
    assert done.returncode == 1 and "there are no operators yet" in done.stderr
    done = gateway.command("console", "--address", "0.0.0.0:9181")
    assert done.returncode == 2 and "0.0.0.0 is not loopback: give it tls" in done.stderr
