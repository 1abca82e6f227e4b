"""The real daemon as a child process: `smppd run` on a configuration and a store of its own, watched from outside."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import yaml

from smppd.config import load
from smppd.passwords import hashed
from smppd.store.installation import Installation
from smppd.store.opening import installation
from tests import forked
from tests.ports import free_port

# smpp.twisted sends 8 characters at the most.
PASSWORD: Final = "kX7-pQ2w"
UPSTREAM_PASSWORD: Final = "sm5c-Pw1"
START: Final = 30.0
_SERIES: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


def wait_for(what: str, done: Callable[[], bool], seconds: float = 20.0) -> None:
    """Polls ``done`` until it holds. AssertionError naming ``what`` when the time is over."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Upstream:
    """An SMSC for the gateway to bind to: its port, TLS or not, and further settings."""

    port: int
    tls: bool = False
    name: str = "sim"
    sessions: int = 1
    settings: tuple[tuple[str, Any], ...] = ()


def account(system_id: str = "acme", **settings: Any) -> dict[str, Any]:
    """An account with ``PASSWORD``, wide limits, loopback only."""
    return {
        "system_id": system_id,
        "password_hash": hashed(PASSWORD, b"0123456789abcdef"),
        "networks": ["127.0.0.0/8"],
        "max_binds": 32,
        "window": 100,
        "throughput": None,
        **settings,
    }


_WITH_ACTIONS = frozenset(
    (
        "keys",
        "log",
        "audit",
        "subject",
        "consent",
        "hold",
        "bans",
        "damaged",
        "operators",
        "optout",
        "approvals",
        "report",
    )
    + ("lists", "suspensions", "traffic", "act", "trace", "store")
)


def store_url() -> dict[str, str]:
    """With SMPPD_TEST_STORE=postgres all that these tests promise is asked of the store on PostgreSQL. Those that look into the
    files of the embedded store fail then."""
    return {"url": new_database()} if os.environ.get("SMPPD_TEST_STORE") == "postgres" else {}


def new_database() -> str:
    """The URL of a new, empty database on the tests' own PostgreSQL."""
    from tests import postgres  # needs the driver

    server = postgres.server()
    return server.url(server.database(schema=False).name.rpartition(" ")[2])


class Gateway:
    """One smppd on disk and on free ports. ``config`` may be changed and written again before ``reload``."""

    def __init__(
        self,
        directory: Path,
        certificates: Path,
        upstreams: list[Upstream],
        accounts: list[dict[str, Any]],
        **sections: Any,
    ) -> None:
        self.directory = directory
        self.certificates = certificates
        self.tls_port, self.plain_port, self.http_port = free_port(), free_port(), free_port()
        self.config_file = directory / "smppd.yaml"
        self.log_file = directory / "smppd.log"
        self.process: subprocess.Popen[bytes] | forked.Forked | None = None
        self.damage = False
        """Whether items are expected to be set aside."""
        self.upstreams = upstreams
        (directory / "secrets").mkdir(parents=True)
        secret = directory / "secrets" / "upstream"
        secret.write_text(UPSTREAM_PASSWORD + "\n")
        secret.chmod(0o600)
        self.config: dict[str, Any] = {
            "listeners": [
                {
                    "address": f"127.0.0.1:{self.tls_port}",
                    "tls": {"certificate": str(certificates / "server.pem"), "key": str(certificates / "server.key")},
                },
                {"address": f"127.0.0.1:{self.plain_port}"},
            ],
            "accounts": accounts,
            "upstreams": [self._upstream(each) for each in upstreams],
            "routes": [{"upstreams": [each.name for each in upstreams]}],
            "store": {"path": "store", "reserve": "16MiB", **store_url()},
            "keys": {"file": "keys/kek"},
            "http": {"address": f"127.0.0.1:{self.http_port}"},
            "drain": "5s",
            **sections,
        }
        self.write_config()

    def _upstream(self, upstream: Upstream) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "name": upstream.name,
            "address": f"127.0.0.1:{upstream.port}",
            "system_id": "gateway",
            "password": {"file": "secrets/upstream"},
            "sessions": upstream.sessions,
            "window": 200,
            "reconnect": {"first": "200ms", "most": "1s"},
            "retry": {"first": "100ms", "most": "1s"},
            **dict(upstream.settings),
        }
        if upstream.tls:
            settings["tls"] = {"ca": str(self.certificates / "ca.pem"), "server_name": "localhost"}
        return settings

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is not None:
            self.kill()
            sys.stderr.write(f"---- the daemon's log, its end ----\n{self.log_text()[-4000:]}\n")
            return
        self.finish()

    def write_config(self, text: str | None = None) -> None:
        """Writes ``config``, or this text, to the configuration file."""
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False) if text is None else text)

    def command(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs `smppd NAME --config F ...` and gives what it said. See `forked`."""
        name, *rest = arguments
        place = 1 if name in _WITH_ACTIONS else 0
        words = [name, *rest[:place], "--config", str(self.config_file), *rest[place:]]
        return forked.run(words, stdin)

    @property
    def installation(self) -> Installation:
        """Its store, as a command opens it."""
        return installation(load(self.config_file))

    def start(self) -> None:
        """Makes the keys on the first start, runs the daemon, waits until it is ready and its links stand."""
        keys = self.command("keys", "init")
        assert keys.returncode == 0, keys.stderr
        words = ["run", "--config", str(self.config_file)]
        self.process = forked.Forked(words, (os.devnull, str(self.log_file), str(self.log_file)))
        deadline = time.monotonic() + START
        while not self.ready():
            status = self.process.poll()
            assert status is None, f"smppd ended with status {status}:\n{self.log_text()[-3000:]}"
            assert time.monotonic() < deadline, f"smppd is not ready after {START:g} s:\n{self.log_text()[-3000:]}"
            time.sleep(0.05)
        for upstream in self.upstreams:
            self.wait_links(upstream.name, upstream.sessions)

    def ready(self) -> bool:
        """Whether /readyz says so."""
        return self.http("/readyz")[0] == 200

    def http(self, path: str) -> tuple[int, str]:
        """Status and text of a page; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=5) as page:
                return int(page.status), page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a series over all label sets that have these labels."""
        total = 0.0
        for series, text, value in _SERIES.findall(self.http("/metrics")[1]):
            if series == name and all(f'{key}="{wanted}"' in text for key, wanted in labels.items()):
                total += float(value)
        return total

    def wait_links(self, name: str, count: int, seconds: float = 20.0) -> None:
        """Waits until so many sessions to an upstream stand."""
        wait_for(
            f"{count} links to {name}", lambda: self.metric("smppd_upstream_links", upstream=name) == count, seconds
        )

    def login(self, system_id: str = "acme", **values: Any) -> dict[str, Any]:
        """What a client needs to bind over TLS."""
        ca = str(self.certificates / "ca.pem")
        return {"port": self.tls_port, "ca": ca, "system_id": system_id, "password": PASSWORD, **values}

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self.process is not None
        return self.process.pid

    def rss(self) -> int:
        """Resident memory of the daemon and its children, octets."""
        return sum(_rss(pid) for pid in (self.pid, *descendants(self.pid)))

    def reload(self) -> None:
        """SIGHUP."""
        os.kill(self.pid, signal.SIGHUP)

    def terminate(self, seconds: float = 30.0) -> int:
        """SIGTERM, then the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """kill -9 of the whole process group, which holds nothing but this daemon."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def finish(self) -> None:
        """Stops the daemon as an operator would and checks that it went well."""
        try:
            if self.process is not None and self.process.poll() is None:
                for series in ("internal_errors", *(() if self.damage else ("items_set_aside", "chores_failed"))):
                    assert self.metric(f"smppd_{series}_total") == 0, f"the daemon counted {series}"
                status = self.terminate()
                assert status == 0, f"smppd ended with status {status}:\n{self.log_text()[-3000:]}"
        finally:
            self.kill()
        assert "Traceback" not in self.log_text(), self.log_text()[-5000:]

    def log_text(self) -> str:
        """All the daemon has said."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""


def _rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def descendants(pid: int) -> list[int]:
    """All processes below this one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *descendants(child)]
    return found


def token() -> str:
    """A word that occurs nowhere else."""
    return secrets.token_hex(8)
