"""`smppd check`: five mistakes are five lines; the examples pass; certificates and keys are compared."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from smppd.cli.commands import check
from smppd.cli.main import main
from smppd.config import load
from smppd.policy import pipeline
from smppd.store.sqlite.files import connect
from smppd.vault.kek import create_kek
from tests import forked
from tests.config.helpers import BASE, HASH, write
from tests.config.test_load import FIVE

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
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
    ("name", "counted", "advised"),
    [
        (
            "smppd.yaml",
            "2 listeners, 2 accounts, 2 upstreams, 3 routes, 2 policies, 9 rules",
            ["there are no keys yet", "environment variable SMPPD_CARRIER_B, its password, is not set here"],
        ),
        (
            "minimal.yaml",
            "1 listener, 1 account, 1 upstream, 1 route, 0 policies, 0 rules",
            ["there are no keys yet", "environment variable SMPPD_CARRIER_A, its password, is not set here"],
        ),
    ],
)
def test_the_examples_pass(
    example: Path, name: str, counted: str, advised: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = example / "config" / name
    assert main(["check", "--config", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{path}: ok: {counted}\n"
    assert len(err.splitlines()) == len(advised)
    for line, words in zip(err.splitlines(), advised, strict=True):
        assert line.startswith(f"{path}: advice: ") and words in line


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
    (certs / "server.pem").chmod(0o600)
    path = listener(tmp_path, certs / "server.key", certs / "server.pem", f", client_ca: {certs / 'ca.key'}")
    assert main(["check", "--config", str(path)]) == 1
    err = capsys.readouterr().err
    assert "tls.certificate: " in err and "has no certificate that can be read" in err
    assert "tls.key: " in err and "has no private key that can be read" in err
    assert "tls.client_ca: " in err and "BEGIN" not in err


def test_advice_does_not_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", "")
    text = BASE.replace("routes: [{upstreams: carrier-a}]", "policies: {house: []}")
    text = text.replace('{address: "127.0.0.1:0"}', '{address: "0.0.0.0:0", plaintext: allowed}')
    assert main(["check", "--config", str(write(tmp_path, text))]) == 0
    err = capsys.readouterr().err
    for advice in (
        "goes without TLS",
        "acme may connect from anywhere",
        "no routes",
        "policy house is used by no account",
        "environment variable PW, its password, is empty",
        "there are no keys yet: `smppd keys init --config",
    ):
        assert advice in err


def test_what_is_said_of_a_node_s_number_and_name(tmp_path: Path) -> None:
    def said(more: str, store: str = "{path: var}") -> list[str]:
        settings = load(write(tmp_path, BASE.replace("store: {path: var}", f"store: {store}") + more))
        return [one for one in check.advice(settings) if one.startswith("node")]

    url = "{path: var, url: 'postgresql://smppd@/smppd?host=/nowhere'}"
    assert not said("") and not said("node: 1\nnode_name: gw1\n", url)
    assert said("node: 1\n") == ["node 1 is part of the ids alone: the embedded store has one node"]
    (name,) = said("node_name: gw1\n")
    assert name.startswith("node_name does nothing")
    (number,) = said("", url)
    assert number.startswith("node is not set, so this is node 0")


def test_an_address_of_another_host_and_files_open_to_everybody_are_advised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more.yaml").write_text("routes:\n")
    path = write(tmp_path, BASE.replace("system_id: gw", "system_id: gw, source_address: 127.0.0.9"))
    path.write_text(path.read_text() + "include: more.yaml\n")
    assert main(["check", "--config", str(path)]) == 0
    err = capsys.readouterr().err
    assert "source_address" not in err and "everybody" not in err
    (tmp_path / "more.yaml").chmod(0o666)
    text = path.read_text().replace('"127.0.0.1:2776"', "localhost:2776")
    path.write_text(text.replace("127.0.0.9", "192.0.2.9"))
    assert main(["check", "--config", str(path)]) == 0
    err = capsys.readouterr().err
    assert "upstream carrier-a: source_address 192.0.2.9 cannot be used on this host: " in err
    assert f"{tmp_path}/more.yaml can be written by everybody: mode 0666" in err


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o777, 0o660, 0o602])
def test_a_password_that_others_can_get_at_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    secret = tmp_path / "pw"
    secret.write_text("x\n")
    secret.chmod(mode)
    assert main(["check", "--config", str(write(tmp_path, BASE.replace("{env: PW}", f"{{file: {secret}}}")))]) == 1
    assert f"{secret}: mode {mode:04o} lets others at it" in capsys.readouterr().err


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_a_password_of_its_owner_or_group_is_none(tmp_path: Path, mode: int) -> None:
    secret = tmp_path / "pw"
    secret.write_text("x\n")
    secret.chmod(mode)
    assert main(["check", "--config", str(write(tmp_path, BASE.replace("{env: PW}", f"{{file: {secret}}}")))]) == 0


def test_an_empty_password_file_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "pw"
    secret.touch(0o600)
    assert main(["check", "--config", str(write(tmp_path, BASE.replace("{env: PW}", f"{{file: {secret}}}")))]) == 1
    assert f"{secret} is empty" in capsys.readouterr().err


def test_a_private_key_that_others_can_read_is_a_fault(
    example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certs = example / "certs"
    (certs / "server.key").chmod(0o644)
    assert main(["check", "--config", str(listener(tmp_path, certs / "server.pem", certs / "server.key"))]) == 1
    assert "listeners[0].tls.key: " in (err := capsys.readouterr().err) and "mode 0644 lets others at it" in err


def test_credentials_are_files_that_systemd_lets_us_read(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = tmp_path / "credentials"
    held.mkdir(mode=0o700)
    for name, source in (("server-key", "server.key"), ("server-pem", "server.pem")):
        (held / name).write_bytes((example / "certs" / source).read_bytes())
    (held / "carrier-a").write_text("pw\n")
    for file in held.iterdir():
        file.chmod(0o440)
    path = listener(tmp_path, "{credential: server-pem}", "{credential: server-key}")
    path.write_text(path.read_text().replace("{env: PW}", "{credential: carrier-a}"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert main(["check", "--config", str(path)]) == 1
    err = capsys.readouterr().err
    assert err.count("CREDENTIALS_DIRECTORY is not set") == 3 and "set it to the directory" in err
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(held))
    assert main(["check", "--config", str(path)]) == 0
    (held / "carrier-a").chmod(0o444)
    assert main(["check", "--config", str(path)]) == 1
    assert "mode 0444 lets others at it" in capsys.readouterr().err


def initialised(tmp_path: Path) -> Path:
    path = write(tmp_path, BASE)
    assert main(["keys", "init", "--config", str(path)]) == 0
    return path


def test_a_kek_that_run_would_refuse_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = initialised(tmp_path)
    assert main(["check", "--config", str(path)]) == 0
    kek = load(path).keys.file
    assert kek is not None
    kek.chmod(0o644)
    capsys.readouterr()
    assert main(["check", "--config", str(path)]) == 1
    assert "keys: " in (err := capsys.readouterr().err) and "mode 0644 lets others at it" in err


def test_a_kek_of_another_installation_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = initialised(tmp_path)
    kek = load(path).keys.file
    assert kek is not None
    kek.unlink()
    create_kek(kek)
    assert main(["check", "--config", str(path)]) == 1
    assert "another installation's KEK" in capsys.readouterr().err


def test_a_lost_kek_is_to_be_restored_and_never_made_anew(tmp_path: Path) -> None:
    path = initialised(tmp_path)
    kek = load(path).keys.file
    assert kek is not None
    kek.unlink()
    for command in ("check", "run"):
        done = subprocess.run(
            [sys.executable, "-m", "smppd", command, "--config", path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        err = done.stderr
        assert done.returncode == 1
        assert f"{kek}: no such KEK file: restore it from where it was backed up" in err and "keys init" not in err


def test_lost_keys_are_to_be_restored_and_never_made_anew(tmp_path: Path) -> None:
    path = initialised(tmp_path)
    store = load(path).store.directory
    connect(store / "data.db", "data").close()
    for left in store.glob("keys.db*"):
        left.unlink()
    for command in (
        ["check"],
        ["run"],
        ["keys", "init"],
        ["keys", "list"],
        ["keys", "rotate"],
        ["purge"],
        ["log", "search", "+447700900123", "--reason", "support"],
        ["backup", str(tmp_path / "b"), "--keys-to", str(tmp_path / "k")],
    ):
        done = forked.run([*command, "--config", str(path)])
        err = done.stderr
        assert done.returncode in (1, 2)
        assert "keys.db is missing" in err and "smppd restore" in err and "keys init" not in err, command
    assert not (store / "keys.db").exists()


@pytest.mark.parametrize("name", ["data", "keys"])
def test_a_store_that_run_would_refuse_is_a_fault(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = initialised(tmp_path)
    file = load(path).store.directory / f"{name}.db"
    connect(file, name).close()
    db = sqlite3.connect(file)
    db.execute("PRAGMA user_version = 99")
    db.close()
    assert main(["check", "--config", str(path)]) == 1
    assert "written by a newer smppd (schema 99" in capsys.readouterr().err
    for left in file.parent.glob(f"{name}.db-*"):
        left.unlink()
    file.write_bytes(b"no database at all, " * 1000)
    assert main(["check", "--config", str(path)]) == 1
    assert "file is not a database" in capsys.readouterr().err


def test_a_kek_in_the_store_is_advised_against(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, BASE)
    path.write_text(path.read_text().replace("keys: {file: kek}", "keys: {file: var/kek}"))
    assert main(["check", "--config", str(path)]) == 0
    assert "lies in the store's directory" in capsys.readouterr().err


@pytest.mark.parametrize(("enabled", "said"), [("true", False), ("false", True)])
def test_a_route_that_leads_nowhere_for_now_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], enabled: str, said: bool
) -> None:
    path = write(tmp_path, BASE.replace("system_id: gw,", f"system_id: gw, enabled: {enabled},"))
    assert main(["check", "--config", str(path)]) == 0
    assert ("routes[0] has no upstream that is enabled" in capsys.readouterr().err) == said


def test_a_certificate_that_ends_soon_is_said(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = listener(tmp_path, example / "certs" / "server.pem", example / "certs" / "server.key")
    assert main(["check", "--config", str(path)]) == 0
    assert "renew it" not in capsys.readouterr().err
    monkeypatch.setattr("smppd.cli.commands.check.SOON", dt.timedelta(days=36500))
    assert main(["check", "--config", str(path)]) == 0
    assert "server.pem ends on " in capsys.readouterr().err


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


NOTES = """\
listeners: [{address: "127.0.0.1:2775"}]
account_defaults: {networks: any, policies: [words, heads]}
accounts:
  - {system_id: one, password_hash: 'HASH', retain: {body: 30d}}
  - {system_id: two, password_hash: 'HASH', basis: contract, retain: {body: 30d}}
  - {system_id: three, password_hash: 'HASH', content: hide, policies: [heads]}
upstreams: [{name: a, address: "127.0.0.1:2776", system_id: gw, password: {env: PW}}]
routes: [{upstreams: a}]
policies:
  words: [{name: w, mode: shadow, unless: {keywords: casino}, do: refuse}]
  heads: [{name: h, when: {destination: "+44"}, do: {tag: uk}}]
store: {path: var}
keys: {file: kek}
""".replace("HASH", HASH)


def test_what_rests_on_no_basis_is_noted_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, NOTES)
    assert main(["check", "--config", str(path)]) == 0
    _, err = capsys.readouterr()
    notes = [line.removeprefix(str(path)) for line in err.splitlines() if ": note: " in line]
    body, rules = NOTES.splitlines()[3].index("30d") + 1, NOTES.splitlines()[1].index("[words") + 1
    assert notes == [
        f":4:{body}: note: accounts[0].retain.body: account one names no `basis`: its texts are kept for 1d, not for 30d",
        f":2:{rules}: note: accounts[0].policies: account one names no `basis`, and rules look at its texts: words",
    ]
    assert main(["check", "--json", "--config", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and [(note["line"], note["column"], note["path"]) for note in found["notes"]] == [
        (4, body, "accounts[0].retain.body"),
        (2, rules, "accounts[0].policies"),
    ]
    path.write_text(NOTES.replace("retain: {body: 30d}}", "basis: contract}", 1))
    assert main(["check", "--json", "--config", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []


def test_evidence_that_ends_is_noted_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    today = dt.datetime.now(dt.UTC).date()
    ended, soon, late = (today + dt.timedelta(days=days) for days in (-1, 3, 300))
    entries = [("acme", "Ended", ended), ("acme", "Soon", soon), ("acme", "Late", late), ("gone", "Late", late)]
    lines = "".join(f"    - {{account: {a}, sender: {s}, expires: {e}}}\n" for a, s, e in entries)
    path = write(tmp_path, BASE + f"senders:\n  authorised:\n{lines}")
    assert main(["check", "--config", str(path)]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "senders" in line]
    assert [note.split(": note: ")[1] for note in notes] == [
        f"senders.authorised[0]: Ended of account acme is not authorised since its evidence ended on {ended}",
        f"senders.authorised[1]: the evidence for Soon of account acme ends on {soon}",
        "senders.authorised[3]: there is no account gone",
    ]
    assert notes[1].split(":")[1] == str(BASE.count("\n") + 4), "the line of the entry"
    (tmp_path / "senders.csv").write_text("account,sender,expires\n" + f"acme,Soon,{soon}\n" * 25)
    path = write(tmp_path, BASE + "senders:\n  authorised: {file: senders.csv}\n")
    assert main(["check", "--config", str(path)]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "senders" in line]
    assert len(notes) == 21 and "senders.csv:2: the evidence" in notes[0] and "and 5 more" in notes[-1]


def test_a_bad_line_of_a_list_of_senders_is_a_fault_with_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "senders.csv").write_text("account,sender,expires\nacme,Fine,\nacme,Bad,soon\n")
    path = write(tmp_path, BASE + "senders:\n  authorised: {file: senders.csv}\n")
    assert main(["check", "--config", str(path)]) == 1
    assert "senders.csv: line 3: its expires must be a day" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "path", "words"),
    [
        ("{group: root}", "control", "`group` needs `path`"),
        ("{path: gone/control.sock}", "control.path", "is not a directory"),
        ("{path: var/second.sock, group: root}", "control.path", "only root and the daemon's user may enter"),
        ("{path: control.sock, group: no-such-group-here}", "control.group", "there is no group"),
        ("{path: " + "x" * 65 + "}", "control", "at most 64 octets"),
    ],
)
def test_a_control_socket_that_nobody_could_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str, path: str, words: str
) -> None:
    (tmp_path / "var").mkdir()
    file = write(tmp_path, BASE + f"control: {section}\n")
    assert main(["check", "--json", "--config", str(file)]) == 1
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert fault["path"] == path and words in fault["message"] and fault["line"] > 1
