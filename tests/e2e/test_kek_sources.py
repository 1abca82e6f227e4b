"""The KEK from a real second process and from a systemd credential: the daemon and its commands live on it, and tell what is
wrong with it without a word of it."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.children import ROOT
from tests.e2e.harness import PASSWORD, Gateway, Upstream, wait_for
from tests.e2e.probes import Probe, status, submit_body
from tests.e2e.rawsmsc import RawSmsc, Step

TO = b"447700900555"
TOKEN = "hvs.CAESIJ-token-4Qm7"


class Vault:
    """The stand-in for HashiCorp Vault: a process of its own, what it holds, and the command that asks it."""

    def __init__(self, directory: Path) -> None:
        self.socket, self.state = directory / "vault.sock", directory / "vault.json"
        self.held: dict[str, Any] = {"token": TOKEN, "kek": ""}
        self.keys: list[bytes] = []
        self.add()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.peers.vault_server", str(self.socket), str(self.state)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None and self.process.stdout.readline() == b"listening\n"

    def add(self) -> None:
        """Another version, as docs/operations.md has it."""
        self.keys.append(secrets.token_bytes(32))
        line = f"smppd-kek v1 {len(self.keys)} 2026-11-22T00:00:00Z {base64.b64encode(self.keys[-1]).decode()}\n"
        self.keep(self.held["kek"] + line)

    def keep(self, kek: str, mode: str = "") -> None:
        self.held = {**self.held, "kek": kek, "mode": mode}
        self.state.write_text(json.dumps(self.held))

    def be(self, mode: str) -> None:
        self.keep(self.held["kek"], mode)

    def command(self, **more: str) -> list[str]:
        environment = {"VAULT_ADDR": f"unix://{self.socket}", "VAULT_TOKEN": TOKEN, "PYTHONPATH": str(ROOT), **more}
        asking = [sys.executable, "-m", "tests.peers.vault_cli", "kv", "get", "-field=kek", "secret/smppd"]
        return ["/usr/bin/env", *(f"{name}={value}" for name, value in environment.items()), *asking]

    def told(self, text: str) -> bool:
        """Whether a key is in what somebody said."""
        return any(
            form in text.encode() for key in self.keys for form in (base64.b64encode(key), key.hex().encode(), key)
        )

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    made = Vault(tmp_path)
    yield made
    made.end()


def submit(gateway: Gateway) -> str:
    with Probe(gateway.plain_port) as probe:
        assert probe.bind("acme", PASSWORD) == 0
        answer = probe.ask(0x04, submit_body(b"hello", TO))
    assert status(answer) == 0
    return answer[16:-1].decode()


def searched(gateway: Gateway) -> list[str]:
    done = gateway.command("log", "search", "+" + TO.decode(), "--reason", "support", "--json")
    return sorted(one["id"] for one in json.loads(done.stdout)["records"])


def test_a_command_is_a_source_for_a_whole_life(make_gateway: Callable[..., Gateway], vault: Vault) -> None:
    with (
        RawSmsc(repeat(Step())) as smsc,
        make_gateway([Upstream(smsc.port)], keys={"command": vault.command()}) as gateway,
    ):
        ids = [submit(gateway)]
        early = gateway.command("keys", "rotate")
        assert early.returncode == 0 and "add a newer version where the key comes from" in early.stdout
        vault.add()
        assert "under version 2" in gateway.command("keys", "rotate").stdout
        refused = gateway.command("keys", "rotate", "--retire")
        assert refused.returncode == 1 and "still wraps keys under version 1" in refused.stderr
        ids.append(submit(gateway))  # under the version that the daemon has
        gateway.reload()
        wait_for("the reload", lambda: '"event":"reloaded"' in gateway.log_text())
        where = gateway.command("keys", "rotate", "--retire")
        assert where.returncode == 1 and "remove them where the key comes from" in where.stderr
        assert gateway.command("keys", "rotate").returncode == 0
        vault.keep(vault.held["kek"].splitlines(True)[1])
        gateway.reload()
        wait_for("the second reload", lambda: gateway.log_text().count('"event":"reloaded"') == 2)
        ids.append(submit(gateway))
        # Vault is sealed, and a reload comes: refused, the daemon goes on with what it has.
        vault.be("sealed")
        gateway.reload()
        wait_for("the refusal", lambda: "failed with status 2" in gateway.log_text())
        ids.append(submit(gateway))
        vault.be("")
        assert searched(gateway) == sorted(ids)
        gateway.finish()
        gateway.start()
        assert searched(gateway) == sorted(ids)
        assert not vault.told(gateway.log_text())


def test_another_kek_at_a_reload_is_refused(make_gateway: Callable[..., Gateway], vault: Vault) -> None:
    with (
        RawSmsc(repeat(Step())) as smsc,
        make_gateway([Upstream(smsc.port)], keys={"command": vault.command()}) as gateway,
    ):
        ids = [submit(gateway)]
        right = vault.held["kek"]
        vault.keep(f"smppd-kek v1 1 2026-11-22T00:00:00Z {base64.b64encode(bytes(32)).decode()}\n")
        gateway.reload()
        wait_for("the refusal", lambda: "another installation's KEK" in gateway.log_text())
        ids.append(submit(gateway))
        vault.keep(right)
        assert searched(gateway) == sorted(ids), "nothing was wrapped by the other one"


FAULTS = {
    "expired": ("failed with status 2", {"VAULT_TOKEN": "hvs.expired"}),
    "sealed": ("failed with status 2", {}),
    "garbage": ("line 1 is not a valid `smppd-kek v1` line", {}),
    "empty": ("it holds no `smppd-kek v1` line", {}),
    "long": ("printed more than 65536 bytes", {}),
    "hang": ("gave no key within 10 s", {}),
    "shouts": ("failed with status 1", {"SHOUT": "1"}),
}


@pytest.mark.parametrize("mode", FAULTS)
def test_what_a_command_may_do_instead(make_gateway: Callable[..., Gateway], vault: Vault, mode: str) -> None:
    said, environment = FAULTS[mode]
    gateway = make_gateway([Upstream(1)], keys={"command": vault.command()})
    assert gateway.command("keys", "init").returncode == 0
    before = {path.name: path.read_bytes() for path in (gateway.directory / "store").glob("*.db")}
    gateway.config["keys"] = {"command": vault.command(**environment)}
    gateway.write_config()
    vault.be(mode)
    began = time.monotonic()
    for words in (("check",), ("keys", "rotate")) if mode != "hang" else (("keys", "rotate"),):
        done = gateway.command(*words)
        assert done.returncode == 1 and said in done.stderr, done.stderr
        assert not vault.told(done.stdout + done.stderr) and TOKEN not in done.stderr
    assert time.monotonic() - began < 20
    assert {path.name: path.read_bytes() for path in (gateway.directory / "store").glob("*.db")} == before
    vault.be("slow")
    gateway.config["keys"] = {"command": vault.command()}
    gateway.write_config()
    assert gateway.command("keys", "list").returncode == 0, "slow is no fault"


def test_a_script_that_hangs_leaves_nothing_behind(make_gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    script = tmp_path / "wrapper"
    script.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/pid\nexit 3\n")
    script.chmod(0o700)
    gateway = make_gateway([Upstream(1)], keys={"command": [str(script)]})
    done = gateway.command("keys", "init")
    assert done.returncode == 1, "what the script left behind holds its output open"
    pid = int((tmp_path / "pid").read_text())
    wait_for("the end of what it started", lambda: not _lives(pid))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_systemd_credential(
    make_gateway: Callable[..., Gateway], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a unit with LoadCredential= finds it: a directory of its own, mode 0500, the file 0400."""
    with RawSmsc(repeat(Step())) as smsc:
        gateway = make_gateway([Upstream(smsc.port)], keys={"credential": "kek"})
        lost = gateway.command("check")
        assert "CREDENTIALS_DIRECTORY" in lost.stderr or lost.returncode == 0
        directory = tmp_path / "credentials"
        directory.mkdir()
        line = f"smppd-kek v1 1 2026-11-22T00:00:00Z {base64.b64encode(os.urandom(32)).decode()}\n"
        (directory / "kek").write_text(line)
        (directory / "kek").chmod(0o400)
        directory.chmod(0o500)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
        with gateway:
            ids = [submit(gateway)]
            directory.chmod(0o700)
            second = f"smppd-kek v1 2 2026-11-23T00:00:00Z {base64.b64encode(os.urandom(32)).decode()}\n"
            (directory / "kek").chmod(0o600)
            (directory / "kek").write_text(line + second)
            (directory / "kek").chmod(0o400)
            assert "under version 2" in gateway.command("keys", "rotate").stdout
            gateway.finish()
            gateway.start()  # systemd loads credentials anew with each start
            ids.append(submit(gateway))
            assert searched(gateway) == sorted(ids)
            gateway.finish()
            before = (gateway.directory / "store" / "keys.db").read_bytes()
            monkeypatch.delenv("CREDENTIALS_DIRECTORY")
            done = gateway.command("keys", "rotate")
            assert done.returncode == 1 and "the KEK is lost: keys.credential is set but" in done.stderr
            (directory / "kek").chmod(0o644)
            monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
            done = gateway.command("keys", "rotate")
            assert done.returncode == 1 and "credential" in done.stderr
            assert (gateway.directory / "store" / "keys.db").read_bytes() == before
