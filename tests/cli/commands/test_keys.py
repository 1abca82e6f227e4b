"""`smppd keys` and `smppd audit` on a real key store: idempotent, refusing what is unsafe, never printing a key."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from smppd.audit.trail import Actor
from smppd.cli import shredding
from smppd.cli.commands import CommandError
from smppd.cli.commands import keys as keys_command
from smppd.cli.main import main
from smppd.operators.roles import Act, Authority
from smppd.store.lock import Lock
from smppd.store.sqlite.keys import KeyStore
from smppd.vault.kek import load_kek
from smppd.vault.keys import KeyRing, Part
from tests.cli.installation import CONFIG, FileSource, Run
from tests.vault.rows import NOON


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("PASSWORD", "not-used")
    (tmp_path / "smppd.yaml").write_text(CONFIG)

    def call(*words: str) -> tuple[int, str, str]:
        status = main([*words, "--config", str(tmp_path / "smppd.yaml")])
        shown = capsys.readouterr()
        kek = tmp_path / "keys" / "kek"
        for line in kek.read_bytes().splitlines() if kek.exists() else []:
            key = line.split()[-1]
            assert key.decode() not in shown.out + shown.err
            assert b64decode(key).hex() not in shown.out + shown.err
        return status, shown.out, shown.err

    return call


def scopes(run: Run) -> dict[str, int]:
    status, out, _ = run("keys", "list", "--json")
    assert status == 0
    return {row["scope"]: row["kek_version"] for row in json.loads(out)["keys"]}


def test_init_creates_everything_once(run: Run, tmp_path: Path) -> None:
    assert run("keys", "init")[0] == 0
    kek = (tmp_path / "keys" / "kek").read_bytes()
    assert scopes(run) == dict.fromkeys(
        ["install/audit", "install/checkpoint", "install/dedupe", "install/suppression"], 1
    )
    status, out, _ = run("keys", "init")
    assert (status, out) == (0, "Already initialised: nothing changed.\n")
    assert (tmp_path / "keys" / "kek").read_bytes() == kek
    status, out, _ = run("audit", "show")
    assert status == 0 and out.endswith("1 entries.\n")


@pytest.mark.parametrize("words", [("keys", "list"), ("keys", "rotate"), ("audit", "show"), ("audit", "verify")])
def test_before_init_it_says_so(run: Run, tmp_path: Path, words: tuple[str, str]) -> None:
    status, _, err = run(*words)
    assert status == 1 and "smppd keys init" in err
    assert not (tmp_path / "var").exists()


def test_lost_kek_is_not_replaced(run: Run, tmp_path: Path) -> None:
    run("keys", "init")
    (tmp_path / "keys" / "kek").unlink()
    status, _, err = run("keys", "init")
    assert status == 1 and "restore it" in err
    assert not (tmp_path / "keys" / "kek").exists()


def test_foreign_kek_is_refused(run: Run, tmp_path: Path) -> None:
    run("keys", "init")
    (tmp_path / "keys" / "kek").unlink()
    (tmp_path / "var").rename(tmp_path / "kept")
    run("keys", "init")
    for name in ("keys.db", "keys.db-wal", "keys.db-shm"):
        (tmp_path / "var" / name).unlink(missing_ok=True)
    (tmp_path / "kept" / "keys.db").rename(tmp_path / "var" / "keys.db")
    status, _, err = run("keys", "init")
    assert status == 1 and "another installation's KEK" in err


@pytest.mark.parametrize(
    ("answer", "said"),
    [({"version": 1}, "still wraps keys under version 1"), ({}, "version None"), (None, "no smppd runs on the store")],
)
def test_nothing_is_retired_that_a_running_daemon_may_use(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any] | None, said: str
) -> None:
    run("keys", "init")
    run("keys", "rotate")
    daemon = Lock(tmp_path / "var")
    if answer is not None:
        monkeypatch.setattr("smppd.cli.commands.keys.ask", lambda _directory, _request: answer)
    for _ in range(2):
        status, _, err = run("keys", "rotate", "--retire")
        assert status == 1 and "nothing was dropped" in err and said in err
    kek = load_kek(FileSource(tmp_path / "keys" / "kek"))
    assert [version for version, _ in kek.versions()] == [1, 2]
    monkeypatch.setattr("smppd.cli.commands.keys.ask", lambda _directory, _request: {"version": 2})
    assert run("keys", "rotate", "--retire")[0] == 0
    daemon.release()
    run("keys", "rotate")
    assert run("keys", "rotate", "--retire")[0] == 0
    Lock(tmp_path / "var").release()


def test_rotation_and_retirement(run: Run, tmp_path: Path) -> None:
    run("keys", "init")
    before = load_kek(FileSource(tmp_path / "keys" / "kek"))
    rows = KeyStore(tmp_path / "var")
    key = KeyRing(before, rows).period("acme", Part.BODY, NOON, 3600)
    assert run("keys", "rotate")[0] == 0
    assert set(scopes(run).values()) == {2} and len(scopes(run)) == 5

    # A daemon that was not restarted still wraps under the old version: it must not be retired under its feet.
    KeyRing(before, rows).period("acme", Part.BODY, NOON + 3600, 3600)
    status, _, err = run("keys", "rotate", "--retire")
    assert status == 1 and "restart the daemon" in err
    assert run("keys", "rotate", "--retire")[0] == 0
    after = load_kek(FileSource(tmp_path / "keys" / "kek"))
    assert [version for version, _ in after.versions()] == [2]
    found = KeyRing(after, rows).existing("acme", Part.BODY, key.period)
    assert found is not None and found.index_key == key.index_key
    rows.close()
    status, out, _ = run("audit", "show", "--json", "--event", "key")
    actions = [json.loads(line)["what"]["action"] for line in out.splitlines()]
    assert actions == ["init", "rotate", "retire", "retire"]


def test_interrupted_rotation_is_finished_by_the_next(run: Run, tmp_path: Path) -> None:
    from smppd.vault.kek import add_kek_version

    run("keys", "init")
    add_kek_version(tmp_path / "keys" / "kek")  # and the machine went down
    assert set(scopes(run).values()) == {1}
    assert run("keys", "rotate")[0] == 0
    assert set(scopes(run).values()) == {2}


def test_audit_verify_finds_an_edit(run: Run, tmp_path: Path) -> None:
    run("keys", "init")
    run("keys", "rotate")
    status, out, _ = run("audit", "verify", "--json")
    head = json.loads(out)["head"]
    assert status == 0
    assert run("audit", "verify", "--expect", head)[0] == 0
    assert run("audit", "verify", "--plain")[0] == 0
    assert run("audit", "show", "--since", "1h", "--last", "1")[1].endswith("1 entries.\n")
    assert run("audit", "show", "--until", "2020-01-01")[1] == "0 entries.\n"
    database = sqlite3.connect(tmp_path / "var" / "audit.db", isolation_level=None)
    database.execute("UPDATE entries SET who = 'mallory' WHERE id = 1")
    database.close()
    for words in (("audit", "verify"), ("audit", "verify", "--plain")):
        status, _, err = run(*words)
        assert status == 1 and "NOT sound: entry 1 was altered" in err
    with pytest.raises(SystemExit):
        run("audit", "show", "--since", "yesterday")


def test_audit_show_knows_its_events(run: Run) -> None:
    run("keys", "init")
    assert run("audit", "show", "--event", "key")[:2][1].endswith("1 entries.\n")
    assert run("audit", "show", "--event", "ke")[1].endswith("1 entries.\n")
    assert run("audit", "show", "--event", "bind")[:2] == (0, "0 entries.\n"), (
        "there is such an event, and none was written"
    )
    assert run("audit", "show", "--event", "bind", "--event", "key")[1].endswith("1 entries.\n")
    for words in (("nonsense",), ("binds",), ("",), ("key", "--event", "nonsense")):
        status, out, err = run("audit", "show", "--event", *words)
        assert status == 2 and out == "" and "bind accepted, bind refused" in err and "reveal" in err
    status, _, err = run("audit", "show", "--since", "1h", "--until", "2h")
    assert status == 2 and "--since" in err
    for wrong in ("0", "-1", "x"):
        with pytest.raises(SystemExit):
            run("audit", "show", "--last", wrong)


def test_a_new_installation_has_a_sound_trail_and_a_note(run: Run) -> None:
    run("keys", "init")
    status, out, _ = run("audit", "verify", "--note")
    assert status == 0 and out.splitlines()[-1].startswith("smppd-note ")
    assert run("audit", "show", "--heads")[1].split()[2:] == out.splitlines()[-1].split()[2:]


def test_init_over_a_whole_store_does_nothing_and_needs_nobody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any) -> Authority:
        raise CommandError("not allowed")

    run("keys", "init")
    monkeypatch.setattr(keys_command, "authorise", nobody)
    assert run("keys", "init")[:2] == (0, "Already initialised: nothing changed.\n")


def test_key_actions_are_somebodys(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("keys", "init")
    asked: list[Act] = []

    def bea(act: Act, args: Any, _settings: Any) -> Authority:
        asked.append(act)
        return Authority(Actor("root", "here"), args.operator, act=act)

    def nobody(act: Act, _args: Any, _settings: Any) -> Authority:
        raise CommandError("not allowed")

    out = str(tmp_path / "out")
    acts = (("init",), ("rotate",), ("rotate", "--retire"), ("shred", "--out", out, "--yes"))
    for module in (keys_command, shredding):
        monkeypatch.setattr(module, "authorise", nobody)
    before = {path: path.read_bytes() for path in (tmp_path / "keys" / "kek", tmp_path / "var" / "audit.db")}
    assert run("keys", "list")[0] == 0, "needs no login"
    for words in acts[::-1]:
        if words == ("init",):
            rows = KeyStore(tmp_path / "var")
            rows.delete(b"install/suppression")  # so that there is something to do
            rows.close()
        status, _, err = run("keys", *words, "--operator", "eve")
        assert status == 1 and "not allowed" in err
    assert {path: path.read_bytes() for path in before} == before and not (tmp_path / "out").exists()
    for module in (keys_command, shredding):
        monkeypatch.setattr(module, "authorise", bea)
    monkeypatch.setattr(shredding, "approver", lambda *_: "ada")  # to a disposal two people agree
    for words in acts:
        assert run("keys", *words, "--operator", "bea")[0] == 0
    assert asked == [Act.KEYS] * 4
    trail = [json.loads(line) for line in (tmp_path / "out" / shredding.TRAIL).read_text().splitlines()]
    assert [one["who"] for one in trail][1:] == ["bea (root)"] * 4
    assert json.loads((tmp_path / "out" / "shred-begun.json").read_text())["by"] == "bea (root)"
