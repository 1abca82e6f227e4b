"""The first sessions of `smppd account guide`, run as a customer would: copied from the page, against the daemon over TLS."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smppd.reports.guide import LANGUAGES, TRIED
from tests.e2e.children import ROOT, Smsc
from tests.e2e.harness import PASSWORD, Gateway, Upstream, account

RUNS = {
    "python": ("first.py", [sys.executable]),
    "node": ("first.js", [str(Path(sys.executable).parent / "node")]),
}


@pytest.fixture(scope="module")
def gateway(smsc: Smsc, make_gateway: Callable[..., Gateway]) -> Iterator[Gateway]:
    """A daemon with an account for both ways, and one that only sends."""
    with make_gateway([Upstream(smsc.port, tls=True)], [account(), account("sends", binds="transmitter")]) as running:
        yield running


def programs(page: str) -> dict[str, str]:
    """The programs of a page, by language."""
    found = {}
    for name, title in LANGUAGES.items():
        match = re.search(rf"^### {re.escape(title)}\n\n```\w+\n(.*?)^```$", page, re.M | re.S)
        assert match is not None, title
        found[name] = match[1]
    return found


@pytest.mark.parametrize("name", ["acme", "sends"])
@pytest.mark.parametrize("language", TRIED)
def test_a_first_session_works_as_it_stands_on_the_page(
    language: str, name: str, gateway: Gateway, tmp_path: Path
) -> None:
    out = tmp_path / "guide.md"
    address = f"localhost:{gateway.tls_port}"
    words = ["account", "guide", name, "--address", address, "--out", str(out), "--config", str(gateway.config_file)]
    made = subprocess.run(
        [sys.executable, "-m", "smppd", *words], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert made.returncode == 0, made.stderr
    file, command = RUNS[language]
    (tmp_path / file).write_text(programs(out.read_text())[language])
    environment = {
        "PATH": os.environ["PATH"],
        "SMPP_PASSWORD": PASSWORD,
        "SMPP_CA": str(gateway.certificates / "ca.pem"),
        "NODE_PATH": str(ROOT / "tests/peers/node_modules"),
    }
    ran = subprocess.run(
        [*command, str(tmp_path / file), "Acme", "447700900123"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^accepted, id [0-9a-f]{16}$", ran.stdout, re.M), ran.stdout
    assert ("stat:DELIVRD" in ran.stdout) == (name == "acme"), ran.stdout
