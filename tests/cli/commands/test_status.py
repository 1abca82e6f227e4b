"""`smppd status`: against a real HTTP port, and against what is none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smppd.cli.commands import status
from smppd.cli.main import main
from smppd.cli.tables import age, cell
from smppd.config import Http
from smppd.daemon.http import Health, HttpServer, assess
from smppd.daemon.worker import Worker
from smppd.metrics import Metrics
from tests.config.helpers import BASE, loaded, write
from tests.net.pipes import Loop

STATE: dict[str, object] = {
    "version": "1.2.3",
    "compiled": True,
    "uptime": 93784.4,
    "ready": True,
    "draining": False,
    "store": {"full": False, "commits": 12345, "entries": 67},
    "accounts": [
        {
            "name": "acme",
            "sessions": 2,
            "peers": ["192.0.2.7"],
            "queued": 0,
            "oldest": 1.5,
            "mailbox": 4711,
            "accepted": 100.0,
        }
    ],
    "upstreams": [
        {
            "name": "carrier-a",
            "address": "127.0.0.1:2776",
            "enabled": True,
            "links": 2,
            "window_used": 99,
            "ready": 5,
            "unknown": 1,
            "waiting_receipts": 888,
            "paused": True,
        }
    ],
    "listeners": [{"address": "127.0.0.1:3550", "tls": True}],
}


class Served:
    """A daemon's HTTP port, its reactor turned by a thread, and a configuration that names it."""

    def __init__(self, directory: Path) -> None:
        self.checks: dict[str, str] = {"store": "ok"}
        self.loop = Loop()
        self.server = HttpServer(
            self.loop.reactor,
            Http(address="127.0.0.1:0"),
            Metrics(),
            self.health,
            lambda: STATE,
            lambda: None,
            Worker(self.loop.reactor.callFromThread),
        )
        self.config = configured(directory, self.server.start())
        self.over = False
        self.thread = threading.Thread(target=self.loop.until, args=(lambda: self.over, 60))
        self.thread.start()

    def health(self) -> Health:
        return assess(self.checks, alive=True)

    def close(self) -> None:
        self.over = True
        self.thread.join()
        self.loop.stop()


def configured(directory: Path, port: int) -> Path:
    return write(directory, BASE + f'http: {{address: "127.0.0.1:{port}"}}\n')


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.close()


def run(config: Path, *more: str) -> int:
    return main(["status", "--config", str(config), "--over", "1ms", *more])


def test_ready(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(served.config) == 0
    out, err = capsys.readouterr()
    assert "smppd 1.2.3 (compiled); up 1d 2h; store ok, 12345 commits, 67 entries in memory" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["carrier-a", "127.0.0.1:2776", "2", "-", "99", "5", "1", "888", "yes", "yes"] in rows
    assert ["acme", "2", "192.0.2.7", "0.0", "0", "1.5", "4711"] in rows
    assert ["127.0.0.1:3550", "yes"] in rows
    assert err.startswith("smppd at 127.0.0.1:") and err.endswith(" is ready.\n")


def test_degraded_is_still_ready(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.checks["upstreams"] = "degraded: carrier-a is down"
    assert run(served.config) == 0
    assert capsys.readouterr().err.endswith("is ready, but degraded: upstreams degraded: carrier-a is down.\n")


def test_not_ready(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.checks["store"] = "failed: no space"
    assert run(served.config) == 1
    assert capsys.readouterr().err.endswith("is NOT ready: store failed: no space.\n")


def test_for_scripts(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.checks["store"] = "failed"
    assert run(served.config, "--json") == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == "" and found["reachable"] is True and found["ready"] is False
    assert found["checks"] == {"store": "failed"} and found["upstreams"] == STATE["upstreams"]


def test_rates_are_what_came_in_between() -> None:
    before = {"accounts": [{"name": "acme", "accepted": 100.0}], "upstreams": [{"name": "a", "submitted": 5.0}]}
    state: dict[str, Any] = {
        "accounts": [{"name": "acme", "accepted": 150.0}, {"name": "new", "accepted": 7.0}],
        "upstreams": [{"name": "a", "submitted": 0.0}],
    }
    status.add_rates(before, state, 0.5)
    assert [row.get("rate") for row in (*state["accounts"], *state["upstreams"])] == [100.0, None, 0.0]


# -- nobody there, or somebody else ------------------------------------------------------------------------------------


@pytest.fixture
def nobody() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_nobody_answers(tmp_path: Path, nobody: int, capsys: pytest.CaptureFixture[str]) -> None:
    config = configured(tmp_path, nobody)
    assert run(config) == 2
    assert capsys.readouterr().err == f"smppd: no smppd answers at 127.0.0.1:{nobody}: Connection refused\n"
    assert run(config, "--json") == 2
    assert json.loads(capsys.readouterr().out) == {
        "reachable": False,
        "ready": False,
        "error": f"no smppd answers at 127.0.0.1:{nobody}: Connection refused",
    }


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"",
    ],
)
def test_somebody_else_answers(tmp_path: Path, answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    def serve() -> None:
        for _ in range(2):
            try:
                peer, _ = server.accept()
            except OSError:  # shut down below
                return
            with peer:
                peer.recv(4096)
                peer.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        assert run(configured(tmp_path, server.getsockname()[1])) == 2
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert "speak like smppd" in capsys.readouterr().err


def test_slow_answers_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert run(configured(tmp_path, server.getsockname()[1])) == 2
    assert capsys.readouterr().err.endswith(": no answer in time\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("http: null", "turns the HTTP port off"),
        ('http: {address: "127.0.0.1:0"}', "port 0"),
    ],
)
def test_a_configuration_that_leaves_it_open(
    tmp_path: Path, line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(write(tmp_path, BASE + line + "\n")) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("0.0.0.0:9180", "127.0.0.1"),
        ("[::]:9180", "::1"),
        ("192.0.2.1:9180", "192.0.2.1"),
        ("localhost:9180", "localhost"),
    ],
)
def test_where_to_ask(tmp_path: Path, address: str, host: str) -> None:
    settings = loaded(tmp_path, BASE + f'http: {{address: "{address}", plaintext: allowed}}\n')
    assert status.target(settings) == (host, 9180)


def test_proxies_are_not_asked(
    tmp_path: Path, nobody: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert run(configured(tmp_path, nobody)) == 2
    assert str(nobody) in capsys.readouterr().err


# -- showing -----------------------------------------------------------------------------------------------------------


def test_what_others_say_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    rows: Any = [{"name": "\x1b[2Jx [bold]y[/bold]", "links": None, "ready": {"a": 1}}, "no row"]
    status.show({"upstreams": rows, "accounts": "no rows", "store": []}, {"ready": True, "checks": {"\x07": "ok\n"}})
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out and "?[2Jx [bold]y[/bold]" in out


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (True, "yes"), (False, "no"), (3, "3"), (1.26, "1.3"), ([1, 2], "1, 2"), ([], "-"), ("a\tb", "a?b")],
)
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3661, "1h 1m"),
        (93784, "1d 2h"),
        (None, "?"),
        (-1, "?"),
        (True, "?"),
        ("x", "?"),
    ],
)
def test_ages(seconds: object, shown: str) -> None:
    assert age(seconds) == shown
