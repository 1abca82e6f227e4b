"""`smppd check`: five mistakes are five lines; the examples pass; certificates and keys are compared."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smppd.admin.cli import main
from smppd.policy import pipeline
from tests.config.helpers import BASE, write
from tests.config.test_load import FIVE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of config/ with the certificates and secrets that its files name."""
    root = tmp_path_factory.mktemp("example")
    shutil.copytree(ROOT / "config", root / "config")
    subprocess.run(
        [ROOT / "certs/make.sh", root / "certs"],
        check=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHON": sys.executable},
    )
    (root / "secrets").mkdir()
    (root / "secrets/carrier-a").write_text("not a real one\n")
    (root / "secrets/carrier-a").chmod(0o600)
    return root


def test_five_mistakes_by_the_real_command(tmp_path: Path) -> None:
    path = write(tmp_path, FIVE)
    done = subprocess.run(
        [sys.executable, "-m", "smppd", "check", "--config", path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.removeprefix(str(path)).split(": ")[0] for line in lines[:-1]] == [
        ":2:5",
        ":7:5",
        ":8:13",
        ":15:17",
        ":19:20",
    ]
    assert lines[-1] == "smppd: 5 faults in the configuration"


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, FIVE)
    assert main(["check", "--json", "--config", str(path)]) == 1
    got = json.loads(capsys.readouterr().out)
    assert not got["ok"] and len(got["faults"]) == 5
    assert got["faults"][1] == {
        "file": str(path),
        "line": 7,
        "column": 5,
        "path": "accounts[0].windw",
        "message": "unknown key (did you mean window?)",
    }


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("smppd.yaml", "2 listeners, 2 accounts, 2 upstreams, 3 routes, 2 policies, 8 rules"),
        ("minimal.yaml", "1 listener, 1 account, 1 upstream, 1 route, 0 policies, 0 rules"),
    ],
)
def test_the_examples_pass(example: Path, name: str, counted: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = example / "config" / name
    assert main(["check", "--config", str(path)]) == 0
    assert capsys.readouterr() == (f"{path}: ok: {counted}\n", "")


def test_a_missing_file_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/none.yaml: cannot be read: No such file or directory\n"


def listener(tmp_path: Path, certificate: object, key: object, more: str = "") -> Path:
    tls = f"{{certificate: {certificate}, key: {key}{more}}}"
    return write(tmp_path, BASE.replace('{address: "127.0.0.1:0"}', f'{{address: "127.0.0.1:0", tls: {tls}}}'))


def test_a_key_of_another_certificate(example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certs = example / "certs"
    path = listener(tmp_path, certs / "server.pem", certs / "client.key")
    assert main(["check", "--config", str(path)]) == 1
    err = capsys.readouterr().err
    assert "listeners[0].tls.key: " in err and f"{certs}/client.key is not the key of {certs}/server.pem" in err
    assert err.startswith(f"{path}:1:")


def test_files_that_hold_something_else(example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certs = example / "certs"
    path = listener(tmp_path, certs / "server.key", certs / "server.pem", f", client_ca: {certs / 'ca.key'}")
    assert main(["check", "--config", str(path)]) == 1
    err = capsys.readouterr().err
    assert "tls.certificate: " in err and "has no certificate that can be read" in err
    assert "tls.key: " in err and "has no private key that can be read" in err
    assert "tls.client_ca: " in err and "BEGIN" not in err


def test_advice_does_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "pw"
    secret.write_text("x\n")
    secret.chmod(0o644)
    text = BASE.replace("{env: PW}", f"{{file: {secret}}}").replace("routes: [{upstreams: carrier-a}]", "")
    text = text.replace('{address: "127.0.0.1:0"}', '{address: "0.0.0.0:0", plaintext: allowed}')
    assert main(["check", "--config", str(write(tmp_path, text))]) == 0
    err = capsys.readouterr().err
    for advice in ("goes without TLS", "pw can be read by others", "acme may connect from anywhere", "no routes"):
        assert advice in err


def test_a_policy_that_does_not_compile_is_a_fault_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(settings: object) -> None:
        raise pipeline.PolicyError("policies.p[0].when.text[0]", "too large")

    monkeypatch.setattr(pipeline, "compile_policies", refuse)
    for written in ("[{name: a, when: {text: x}, do: pass}]", "{rules: [{name: a, when: {text: x}, do: pass}]}"):
        path = write(tmp_path, BASE + f"policies:\n  p: {written}\n")
        assert main(["check", "--config", str(path)]) == 1
        column = written.index("x}") + 6
        assert f"{path}:10:{column}: policies.p[0].when.text[0]: too large" in capsys.readouterr().err
