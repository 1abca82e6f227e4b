"""The files of `smppd demo`: certificates, secrets and a whole configuration in one directory, made anew each time."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import smppd
from smppd.passwords import ALPHABET, hashed, weakness

MARK: Final = ".smppd-demo"
ACCOUNT: Final = "demo"
UPSTREAM: Final = "simulated"
_PORTS: Final = range(31_000, 32_700)
NODES: Final = (1, 2)
"""The nodes of `prepare_nodes`, by their numbers."""
_OURS: Final = (
    *("store", "keys", "secrets", "smppd.yaml", "smppd.log"),
    *(f"node{number}{ending}" for number in NODES for ending in ("", ".yaml", ".log")),
)

_CONFIG: Final = """\
# Written by `smppd demo`, which writes it anew each time.
listeners:
  - address: 127.0.0.1:{tls_port}
    tls: {{certificate: certs/server.pem, key: certs/server.key}}
  - address: 127.0.0.1:{plain_port}
accounts:
  - system_id: {account}
    password_hash: "{password_hash}"
    networks: [127.0.0.0/8]
    window: 50
    throughput: 2000/s
    content: encrypt
    basis: contract
    retain: 24h
    policies: [house]
upstreams:
  - name: {upstream}
    address: 127.0.0.1:{smsc_port}
    tls: {{ca: certs/ca.pem, server_name: localhost}}
    system_id: gateway
    password: {{file: secrets/upstream}}
    sessions: 2
    window: 50
    reconnect: {{first: 200ms, most: 2s}}
    retry: {{first: 100ms, most: 1s}}
routes:
  - {{upstreams: [{upstream}]}}
policies:
  house:
    - name: links
      mode: shadow
      when: {{links: true}}
      do: refuse
store: {store}
keys: {{file: keys/kek}}
http: {{address: 127.0.0.1:{http_port}}}
drain: 10s
"""
_NODE: Final = """\
node: {number}
node_name: node{number}
"""


class DemoError(Exception):
    """The demo cannot be set up; the text is one clear sentence."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo plays. Prints without the passwords."""

    directory: Path
    name: str
    tls_port: int
    plain_port: int
    http_port: int
    smsc_port: int
    password: str = field(repr=False)
    upstream_password: str = field(repr=False)

    @property
    def config(self) -> Path:
        """The configuration file of the daemon."""
        return self.directory / f"{self.name}.yaml"

    @property
    def log(self) -> Path:
        """The daemon's log."""
        return self.directory / f"{self.name}.log"

    @property
    def certificates(self) -> Path:
        """The directory of the certificates."""
        return self.directory / "certs"


def prepare(directory: Path) -> Stage:
    """Makes or renews the directory. DemoError when it holds something else, or when there is no certs/make.py."""
    _begin(directory)
    tls_port, plain_port, http_port, smsc_port = _free_ports(4)
    stage = Stage(directory, "smppd", tls_port, plain_port, http_port, smsc_port, _password(), _password())
    _secrets(stage)
    stage.config.write_text(_config(stage, "{path: store, reserve: 64MiB}"))
    return stage


def prepare_nodes(directory: Path, url: str) -> tuple[Stage, ...]:
    """The same for the nodes of one service, whose store is the database at this URL: a configuration each, and all else
    shared."""
    _begin(directory)
    smsc_port, *ports = _free_ports(1 + 3 * len(NODES))
    customer, upstream = _password(), _password()
    stages = []
    for number in NODES:
        tls_port, plain_port, http_port = (ports.pop() for _ in range(3))
        name = f"node{number}"
        stages.append(Stage(directory, name, tls_port, plain_port, http_port, smsc_port, customer, upstream))
    _secrets(stages[0])
    for number, stage in zip(NODES, stages, strict=True):
        # A message without an answer goes again soon: nobody wants to look at a demo for a minute.
        text = _config(stage, f'{{path: node{number}, url: "{url}"}}').replace(
            "    policies: [house]\n", "    policies: [house]\n    unknown_after: 5s\n"
        )
        stage.config.write_text(text + _NODE.format(number=number))
    return tuple(stages)


def _begin(directory: Path) -> None:
    _clear(directory)
    _certificates(directory / "certs")


def _secrets(stage: Stage) -> None:
    (stage.directory / "secrets").mkdir(mode=0o700)
    for name, secret in (("customer", stage.password), ("upstream", stage.upstream_password)):
        _write_private(stage.directory / "secrets" / name, secret + "\n")


def _config(stage: Stage, store: str) -> str:
    return _CONFIG.format(
        tls_port=stage.tls_port,
        plain_port=stage.plain_port,
        http_port=stage.http_port,
        smsc_port=stage.smsc_port,
        account=ACCOUNT,
        upstream=UPSTREAM,
        store=store,
        password_hash=hashed(stage.password, os.urandom(16)),
    )


def _clear(directory: Path) -> None:
    """Removes what an earlier demo left; what is not a demo's directory is left alone."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()) and not (directory / MARK).exists():
            raise DemoError(f"{directory} holds something that is not a demo's; name another with --directory")
        (directory / MARK).touch()
        for name in _OURS:
            path = directory / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise DemoError(f"{directory} cannot be used: {error.strerror}") from None


def _certificates(directory: Path) -> None:
    script = Path(smppd.__file__).resolve().parents[1] / "certs" / "make.py"
    if not script.exists():
        raise DemoError("the demo runs from a checkout of smppd: certs/make.py is missing")
    done = subprocess.run([sys.executable, str(script), str(directory)], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise DemoError(f"the certificates could not be made: {done.stderr.strip()}")


def _password() -> str:
    """8 characters, as many as smpp.twisted sends."""
    while True:
        password = "".join(secrets.choice(ALPHABET + "-+=") for _ in range(8))
        if weakness(password, ACCOUNT) is None:
            return password


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listens on. They are below those that the kernel gives to outgoing connections,
    so that none of these takes one before the demo listens there. OSError where there are none."""
    ports: list[int] = []
    for port in secrets.SystemRandom().sample(_PORTS, len(_PORTS)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(errno.EADDRINUSE, "no free ports")
