"""`smppd import`: the result passes `smppd check`, secrets go to files of their own, nothing that is there is replaced."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml

from smppd.cli.main import main
from smppd.config import load
from smppd.passwords import password_matches
from tests.migration.test_jasmin import CONSOLE
from tests.migration.test_kannel import KANNEL, LOGINS


@pytest.fixture
def kannel(tmp_path: Path) -> list[str]:
    """The words of a command that imports a whole Kannel."""
    (tmp_path / "kannel.conf").write_text(KANNEL)
    (tmp_path / "logins").write_text(LOGINS)
    return ["import", "kannel", str(tmp_path / "kannel.conf"), "--logins", str(tmp_path / "logins")]


def test_kannel_written_and_checked(kannel: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "smppd.yaml"
    out.parent.mkdir()
    assert main([*kannel, "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.out == "" and "`smppd check` finds no mistake" in shown.err
    assert "kannel.conf:3: admin-port" in shown.err
    text = out.read_text()
    assert "never" not in text + shown.err and "# Not carried over" in text
    assert stat.S_IMODE(out.stat().st_mode) == 0o644
    secret = out.parent / "secrets" / "carrier_a"
    assert secret.read_text() == 'never"shown 2\n' and stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    settings = load(out)
    [shop, acme, _] = settings.accounts
    assert password_matches(acme.password_hash, b"never-shown-But-5-hashed")
    assert password_matches(shop.password_hash, b"never-shown-but-4-Hashed")
    assert main(["check", "--config", str(out)]) == 0


def test_nothing_is_replaced(kannel: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "carrier-b").write_text("mine\n")
    assert main([*kannel, "--out", str(tmp_path / "smppd.yaml")]) == 2
    assert "carrier-b is there already: name a file in another directory" in capsys.readouterr().err
    assert not (tmp_path / "smppd.yaml").exists() and not (tmp_path / "secrets" / "carrier_a").exists()
    assert (tmp_path / "secrets" / "carrier-b").read_text() == "mine\n"


def test_printed(kannel: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(kannel) == 0
    shown = capsys.readouterr()
    assert yaml.safe_load(shown.out)["upstreams"][0]["name"] == "carrier_a"
    assert "secrets/carrier_a: put the password there, mode 0600" in shown.err


def test_json(kannel: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*kannel, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["accounts"], found["upstreams"], found["faults"]) == (3, 2, [])
    assert found["left"][0]["line"] and found["secrets"] == ["secrets/carrier-b", "secrets/carrier_a"]
    assert found["configuration"]["store"] == {"path": "var/smppd"}


def test_jasmin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "jcli").write_text(CONSOLE)
    assert main(["import", "jasmin", str(tmp_path / "jcli"), "--out", str(tmp_path / "smppd.yaml")]) == 0
    assert main(["check", "--config", str(tmp_path / "smppd.yaml")]) == 0
    assert [route.name for route in load(tmp_path / "smppd.yaml").routes] == ["order-20-1", "order-20-2", "order-0"]
    capsys.readouterr()


def test_a_fault_of_theirs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = (
        "group = smsc\nsmsc = smpp\nsmsc-id = a\nhost = 192.0.2.1\nport = 1\nsmsc-username = "
        + "x" * 70
        + "\nsmsc-password = p\n"
    )
    (tmp_path / "kannel.conf").write_text(bad)
    assert main(["import", "kannel", str(tmp_path / "kannel.conf")]) == 1
    assert "upstreams[0].system_id" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "said"), [("missing", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "kannel", str(tmp_path / name)]) == 2
    assert said in capsys.readouterr().err
