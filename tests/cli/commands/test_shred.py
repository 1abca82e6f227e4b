"""`smppd keys shred`: nothing opens afterwards, whatever interrupts it; what it says is signed, and true."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from smppd.cli import shredding
from smppd.store.lock import Lock
from smppd.store.sqlite.documents import SqliteDocuments
from smppd.store.sqlite.keys import ReadOnlyKeys
from smppd.vault.certificate import fingerprint
from smppd.vault.documents import DocumentSealer
from smppd.vault.kek import load_kek
from smppd.vault.keys import load_install
from tests.cli.house import House
from tests.cli.installation import FileSource
from tests.cli.killed import EVERY, killed_at, sampled, steps


@pytest.fixture
def house(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("PASSWORD", "not-used")
    made = House(tmp_path / "house", capsys)
    made.day()
    return made


def words(house: House, out: Path, *more: str) -> list[str]:
    return ["keys", "shred", "--out", str(out), "--yes", *more, "--config", str(house.path / "smppd.yaml")]


def verified(out: Path, name: str, key: str) -> dict[str, Any]:
    """Whoever has no smppd: openssl says whether it is genuine."""
    done = subprocess.run(
        [
            "openssl",
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            key,
            "-rawin",
            "-in",
            f"{name}.json",
            "-sigfile",
            f"{name}.sig",
        ],
        cwd=out,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    return said


def sound(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    begun, ended = (
        verified(out, shredding.BEGUN, "installation.pem"),
        verified(out, shredding.ENDED, shredding.ENDED_KEY),
    )
    assert begun["ended_key_sha256"] == ended["key_sha256"] and begun["installation"] == ended["installation"]
    assert begun["key_sha256"].startswith(begun["installation"])
    return begun, ended


def wrapped(house: House) -> list[bytes]:
    """The wrapped keys, and whatever else only the store knows."""
    kek = (house.path / "keys/kek").read_bytes().split()[-1]
    db = sqlite3.connect(house.store / "keys.db")
    try:
        blobs = [row[0][-40:] for row in db.execute("SELECT wrapped FROM keys")]
        return [kek, *blobs, *(row[0][:64] for row in db.execute("SELECT data FROM secrets"))]
    finally:
        db.close()


def test_nothing_is_left_and_the_certificates_say_so(house: House, tmp_path: Path) -> None:
    secrets = wrapped(house)
    out = tmp_path / "out"
    status, said, err = house.run("keys", "shred", "--out", str(out), "--yes")
    assert status == 0 and "Verify: openssl" in said and "elsewhere" in err
    assert not (house.path / "keys/kek").exists()
    assert [path.name for path in house.store.iterdir()] == ["lock"]
    begun, ended = sound(out)
    assert begun["keys"]["install"] == 4 and begun["keys"]["period"] >= 2
    assert ended["kek"] == {"source": f"file {house.path / 'keys/kek'}", "destroyed": True, "to_do": None}
    assert ended["left"] == [] and "SSD" in ended["limits"] and ended["keys_destroyed"]
    trail = [json.loads(line) for line in (out / shredding.TRAIL).read_text().splitlines()]
    assert trail[-1]["what"]["action"] == "shred" and trail[-1]["result"] == "begun"
    assert begun["trail"]["head"] == f"{trail[-1]['id']}:{trail[-1]['hash']}"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert not any(secret in path.read_bytes() for secret in secrets), path


def test_kept_data_opens_no_more(house: House, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert house.run("keys", "shred", "--out", str(out), "--yes", "--keep-data")[0] == 0
    assert sorted(path.name for path in house.store.iterdir() if path.suffix == ".db") == ["audit.db", "data.db"]
    assert sound(out)[1]["data_kept"] is True
    status, _, err = house.run("keys", "init")
    assert status == 1 and "keys.db is missing" in err, "nor does init make keys that would look like these"
    assert house.run("audit", "verify", "--plain")[0] == 0
    assert house.run("log", "search", "+447700900123", "--reason", "support")[0] == 2


def test_refusals(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house.copy("before")

    def unharmed() -> None:
        assert (house.path / "keys/kek").exists() and not (house.store / "shredding").exists()
        assert (house.store / "keys.db").stat().st_size
        house.sound()

    status, _, err = house.run("keys", "shred", "--out", str(house.store / "out"), "--yes")
    assert status == 2 and "does not go into the store" in err
    daemon = Lock(house.store)
    status, _, err = house.run("keys", "shred", "--out", str(tmp_path / "out"), "--yes")
    assert status == 1 and "another smppd is using this store" in err
    daemon.release()
    status, _, err = house.run("keys", "shred", "--out", str(tmp_path / "out"))
    assert status == 2 and "--yes" in err
    monkeypatch.setattr("sys.stdin", Typed("not it\n"))
    status, _, err = house.run("keys", "shred", "--out", str(tmp_path / "out"))
    assert status == 1 and "not its fingerprint" in err
    (tmp_path / "file").write_text("")
    assert house.run("keys", "shred", "--out", str(tmp_path / "file"), "--yes")[0] == 1
    unharmed()
    kek = load_kek(FileSource(house.path / "keys/kek"))
    rows = ReadOnlyKeys(house.store)
    name = fingerprint(load_install(kek, rows).checkpoint.public_key())[:16]
    rows.close()
    monkeypatch.setattr("sys.stdin", Typed(name + "\n"))
    assert house.run("keys", "shred", "--out", str(tmp_path / "out"))[0] == 0


class Typed:
    """A terminal at which somebody typed this."""

    def __init__(self, text: str) -> None:
        self.text = text

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.text


def hold(house: House, value: Mapping[str, object]) -> None:
    rows = ReadOnlyKeys(house.store)
    install = load_install(house.kek, rows)
    rows.close()
    documents = SqliteDocuments(house.store)
    name = str(documents.number("hold"))
    assert documents.add("hold", name, DocumentSealer(install).seal("hold", name, value))
    documents.close()


def test_held_records_are_not_destroyed_by_one_person(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(house, {"state": "released"})
    hold(house, {"account": "acme"})
    for more in ((), ("--despite-holds",)):
        status, _, err = house.run("keys", "shred", "--out", str(tmp_path / "out"), "--yes", *more)
        assert status == 1 and ("(2)" in err or "two people" in err) and (house.path / "keys/kek").exists()
    asked: list[tuple[str, Mapping[str, str | int]]] = []

    def agreed(*given: Any) -> str:
        asked.append(given[3:])
        return "bea"

    monkeypatch.setattr(shredding, "approver", agreed)
    assert house.run("keys", "shred", "--out", str(tmp_path / "out"), "--yes", "--despite-holds")[0] == 0
    begun, ended = sound(tmp_path / "out")
    assert begun["despite_holds"] == ["2"] and begun["second"] == ended["second"] == "bea"
    kind, what = asked[0]
    assert kind == "keys shred" and what["holds"] == "2"


def test_killed_at_each_step_it_goes_on(house: House, tmp_path: Path) -> None:
    def fresh(name: str) -> tuple[House, list[str], Path]:
        copy = tmp_path / name
        shutil.copytree(house.path, copy)
        text = (copy / "smppd.yaml").read_text()
        (copy / "smppd.yaml").write_text(text)
        house_there = object.__new__(House)
        house_there.path, house_there.store, house_there.capsys = copy, copy / "var", house.capsys
        out = tmp_path / f"out-{name}"
        return house_there, words(house_there, out), out

    _, whole, _ = fresh("whole")
    count = steps(whole)
    assert count is not None and count > 40
    resumed = 0
    for step in sampled(count, 6, last=30)[:: 1 if EVERY else 2]:
        there, command, out = fresh(str(step))
        assert killed_at(command, step), step
        begun = (there.store / "shredding").exists()
        if begun:
            status, _, err = there.run("log", "search", "+447700900123", "--reason", "support")
            assert status == 2 and "being shredded" in err
            resumed += 1
        if not (there.store / "keys.db").exists() and not begun:
            assert (out / f"{shredding.ENDED}.json").exists()  # only the marker was to be forgotten
        else:
            status, _, err = there.run(*command[:-2])
            assert status == 0, (step, err)
        sound(out)
        assert not (there.path / "keys/kek").exists()
        assert [path.name for path in there.store.iterdir()] == ["lock"], step
    assert resumed > 10


def test_a_kek_from_elsewhere_is_said_to_be_the_operators(house: House, tmp_path: Path) -> None:
    kek = house.path / "keys/kek"
    text = (house.path / "smppd.yaml").read_text().replace("keys: {file: keys/kek}", f"keys: {{command: [cat, {kek}]}}")
    assert "command" in text
    (house.path / "smppd.yaml").write_text(text)
    status, _, err = house.run("keys", "shred", "--out", str(tmp_path / "out"), "--yes")
    assert status == 0 and "comes from command cat, which smppd cannot destroy" in err
    assert kek.exists() and not (house.store / "keys.db").exists()
    told = sound(tmp_path / "out")[1]["kek"]
    assert told["destroyed"] is False and "delete every version" in told["to_do"]
