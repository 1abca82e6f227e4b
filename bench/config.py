"""The daemon's configuration in a measurement: the ordinary one, with TLS, policy, sealed store and limits in force.

Its store stands on the checkout's disk (`var/bench`), not in memory; certificate and secrets are made for each run.
"""

from __future__ import annotations

import copy
import datetime
import ipaddress
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench import policies
from bench.cases import Case

ROOT: Final = Path(__file__).resolve().parents[1]
SYSTEM_ID: Final = "bench"
UPSTREAM_SESSIONS: Final = 2
UPSTREAM_WINDOW: Final = 500
_PATIENCE: Final = 3600  # seconds; only compiling a list of 100 million numbers takes more than one


@dataclass(frozen=True)
class Workspace:
    """A daemon's directory, ready to run in."""

    config: Path
    certificate: Path
    port: int
    http_port: int
    password: str

    def __repr__(self) -> str:
        return f"Workspace({self.config})"


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody listens on now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed P-256 certificate for localhost, valid for a day: paths of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "server.pem", directory / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_secret(
        paths[1],
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return paths


def _write_secret(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def rules(count: int) -> list[dict[str, Any]]:
    """A policy of `count` rules, none of which holds for a message of the bench, so that each looks at all of them.

    Of ten, six look into the text, four at addresses only, as operators' policies do.
    """
    kinds: list[dict[str, Any]] = [
        {"keywords": ["casino", "jackpot", "free spins", "betting odds"]},
        {"text": [r"\b(?:verify|confirm) your (?:bank|card|account) (?:details|number)\b"]},
        {"sender": ["EXAMPLEBANK*"]},
        {"domains": ["example.org", "example.net", "example.invalid"]},
        {"text": [r"(?i)\bcrypto(?:currency)?\s+(?:giveaway|double)\b"]},
        {"sender_pattern": ["^[A-Z]{2}-[A-Z]{6}$"]},
        {"destination": ["+1900", "+1976"]},
        {"text": [r"\b\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{4}\b"]},
        {"links": True, "keywords": ["unpaid toll", "customs fee", "missed parcel"]},
        {"country": ["KP"], "sender_kind": ["alphanumeric"]},
    ]

    def condition(n: int) -> dict[str, Any]:
        # A word of its own in each repetition, or a compiler of patterns could fold them into one.
        own = {"keywords": [f"offer {n}"], "text": [rf"\boffer-{n}\b"], "domains": [f"offer{n}.example"]}
        return {key: value + own[key] if key in own else value for key, value in kinds[n % len(kinds)].items()}

    return [
        {
            "name": f"rule-{n}",
            "when": condition(n),
            "do": {"refuse": {"status": "ESME_RSUBMITFAIL"}},
        }
        for n in range(count)
    ]


def document(case: Case, password_hash: str, port: int, http_port: int, upstream_port: int) -> dict[str, Any]:
    """The configuration as it goes into the file; paths are relative to it."""
    listener: dict[str, Any] = {"address": f"127.0.0.1:{port}"}
    if case.tls:
        listener["tls"] = {"certificate": "server.pem", "key": "server.key"}
    return {
        "listeners": [listener],
        "accounts": [
            {
                "system_id": SYSTEM_ID,
                "password_hash": password_hash,
                "networks": ["127.0.0.0/8"],
                "max_binds": max(4, case.binds),
                "window": 100,
                "throughput": "1000000/s",  # never reached, but always counted
                "burst": 2_000_000,
                "acknowledge": case.acknowledge,
                "policies": ["house"] if case.rules else [],
            }
        ],
        "upstreams": [
            {
                "name": "bench-smsc",
                "address": f"127.0.0.1:{upstream_port}",
                "system_id": "gateway",
                "password": {"file": "upstream-password"},
                "sessions": UPSTREAM_SESSIONS,
                "window": UPSTREAM_WINDOW,
            }
        ],
        "routes": [{"upstreams": ["bench-smsc"]}],
        "policies": {"house": rules(case.rules)} if case.rules else {},
        "store": {"path": "store"},
        "keys": {"file": "keys/kek"},
        "http": {"address": f"127.0.0.1:{http_port}"},
        **({"feed": {"file": {"path": "feed.jsonl"}}} if case.feed else {}),
    }


def smppd(*arguments: str) -> list[str]:
    """The command line of an `smppd` subcommand in this interpreter."""
    return [sys.executable, "-m", "smppd", *arguments]


def of_tree(command: Sequence[str], tree: Path) -> list[str]:
    """The same command for another checkout: by the interpreter of its own .venv, where it has one."""
    own = tree / ".venv" / "bin" / "python"
    return [str(own), *command[1:]] if tree != ROOT and own.exists() else list(command)


def _run(*arguments: str, text: str = "", tree: Path = ROOT) -> str:
    command = of_tree(smppd(*arguments), tree)
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=tree, timeout=_PATIENCE, check=False)
    if done.returncode:
        raise RuntimeError(f"smppd {arguments[0]} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip()


def accounts(count: int, content: dict[str, Any]) -> None:
    """Makes the one account of a configuration `count` alike, `bench-0` and so on, as `load --accounts` names them."""
    (only,) = content["accounts"]
    if count > 1:
        content["accounts"] = [copy.deepcopy(only) | {"system_id": f"{SYSTEM_ID}-{n}"} for n in range(count)]


def another(name: str, content: dict[str, Any], **settings: Any) -> None:
    """Adds an account like the first one, with these settings changed."""
    content["accounts"].append(copy.deepcopy(content["accounts"][0]) | {"system_id": name} | settings)


def prepare(
    case: Case,
    directory: Path,
    upstream_port: int,
    change: Callable[[dict[str, Any]], None] | None = None,
    tree: Path = ROOT,
) -> Workspace:
    """Make everything the daemon needs for this case. RuntimeError with what it said when a command of it fails.

    change: alters the configuration before it is written. tree: the checkout whose smppd makes the keys: an older one opens no
    store of a newer one.
    """
    port, http_port = free_ports(2)
    password = secrets.token_urlsafe(18)
    make_certificate(directory)
    _write_secret(directory / "upstream-password", b"bench-123")
    (directory / "keys").mkdir(mode=0o700, exist_ok=True)
    password_hash = _run("passwd", "--stdin", text=password + "\n")
    config = directory / "smppd.yaml"
    kept = policies.kept_in(ROOT, case.policies)
    content = document(case, password_hash, port, http_port, upstream_port)
    if case.policies:
        policies.add(content, kept)
    if change is not None:
        change(content)
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    if case.policies:
        policies.place(kept, case.policies, directory, lambda *said: _run(*said, "--config", str(config), tree=tree))
    _run("keys", "init", "--config", str(config), tree=tree)
    return Workspace(config, directory / "server.pem", port, http_port, password)


def sibling(work: Workspace, directory: Path, change: Callable[[dict[str, Any]], None]) -> Workspace:
    """The same for another node of the same store: the same accounts, keys and certificate, ports and a folder of its own.

    change: alters the configuration before it is written.
    """
    port, http_port = free_ports(2)
    beside = work.config.parent
    for name in ("server.pem", "server.key", "upstream-password"):
        shutil.copy2(beside / name, directory / name)
    shutil.copytree(beside / "keys", directory / "keys")
    content = yaml.safe_load(work.config.read_text())
    content["listeners"][0]["address"] = f"127.0.0.1:{port}"
    content["http"]["address"] = f"127.0.0.1:{http_port}"
    change(content)
    config = directory / "smppd.yaml"
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    _run("keys", "init", "--config", str(config))  # the keys are there; what stays on its machine is made
    return Workspace(config, directory / "server.pem", port, http_port, work.password)
