"""A KEK that is lost, wrong or another installation's: every command and the start say which, and change no file."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from smppd.cli.main import main
from smppd.store.sqlite.keys import KeyStore
from smppd.vault.kek import MARK_SCOPE, load_kek
from tests.cli.house import House
from tests.cli.installation import FileSource
from tests.e2e.children import ROOT


@pytest.fixture
def house(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("PASSWORD", "not-used")
    made = House(tmp_path / "house", capsys)
    made.day()
    assert made.run("backup", str(tmp_path / "backup"), "--keys-to", str(tmp_path / "backup-keys"))[0] == 0
    assert made.run("keys", "rotate")[0] == 0
    made.run("keys", "list")
    return made


def picture(directory: Path) -> dict[str, str]:
    """Every file of a store, octet for octet. SQLite's `-shm` is no data, nor is a write-ahead log without anything in it."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.endswith("-shm") and path.stat().st_size
    }


LOOK = ("--reason", "support")
ORDER = ("--authority", "Court", "--reference", "12/26", "--expires", "2030-01-01")
COMMANDS: dict[str, tuple[str, ...]] = {
    "keys list": ("keys", "list"),
    "keys init": ("keys", "init"),
    "keys rotate": ("keys", "rotate"),
    "keys retire": ("keys", "rotate", "--retire"),
    "keys shred": ("keys", "shred", "--yes", "--out", "{tmp}/out"),
    "backup": ("backup", "{tmp}/another", "--keys-to", "{tmp}/another-keys"),
    "backup verify": ("backup", "{tmp}/backup", "--verify", "--keys-from", "{tmp}/backup-keys"),
    "restore": ("restore", "--from", "{tmp}/backup", "--keys-from", "{tmp}/backup-keys", "--force"),
    "purge": ("purge",),
    "purge dry": ("purge", "--dry-run"),
    "log search": ("log", "search", "+447700900123", *LOOK),
    "log show": ("log", "show", "0ca8a084dd000000", *LOOK),
    "log verify": ("log", "verify"),
    "audit verify": ("audit", "verify"),
    "damaged show": ("damaged", "show", "1", *LOOK),
    "damaged remove": ("damaged", "remove", "1", "--yes"),
    "check": ("check",),
    "subject export": ("subject", "export", "+447700900123", *LOOK, "--note", "n", "--json"),
    "subject erase": ("subject", "erase", "+447700900123", *LOOK, "--note", "n", "--yes"),
    "subject erase resume": ("subject", "erase", "--resume"),
    "subject looks": ("subject", "looks", "+447700900123"),
    "hold add": ("hold", "add", "--account", "acme", *ORDER),
    "hold list": ("hold", "list"),
    "hold show": ("hold", "show", "1"),
    "hold release": ("hold", "release", "1"),
    "hold bundle": ("hold", "bundle", "1", "--to", "{tmp}/none.pub", "--out", "{tmp}/bundle"),
    "operators add": ("operators", "add", "anna", "--role", "operator", "--stdin"),
    "operators list": ("operators", "list"),
    "operators role": ("operators", "role", "anna", "--role", "support"),
    "operators reset": ("operators", "reset", "anna", "--stdin"),
    "operators disable": ("operators", "disable", "anna"),
    "login": ("login", "--operator", "anna", "--credentials", "-"),
    "logout": ("logout",),
    "approvals list": ("approvals", "list"),
    "approvals grant": ("approvals", "grant", "1"),
    "report processing": ("report", "processing"),
    "report retention": ("report", "retention"),
    "report breach": ("report", "breach", "--since", "2026-01-01", "--until", "2030-01-01"),
}


def lost(house: House) -> str:
    (house.path / "keys/kek").unlink()
    return "the KEK is lost: .*no such KEK file: restore it|the KEK is lost: .* is missing"


def old(house: House) -> str:
    kek = house.path / "keys/kek"
    kek.write_bytes(kek.read_bytes().splitlines()[0] + b"\n")
    return (
        r"the KEK is wrong: its source holds version 1 \(fingerprint [0-9a-f]{16}\).*wrapped by version 2 \(fingerprint"
    )


def unmarked(house: House) -> str:
    """A store that was made before keys.db knew its KEK."""
    rows = KeyStore(house.store)
    rows.delete(MARK_SCOPE)
    rows.close()
    theirs(house)
    return "the KEK is wrong: it does not open this installation's keys"


def theirs(house: House) -> str:
    kek = house.path / "keys/kek"
    right = load_kek(FileSource(kek)).fingerprint()
    lines = [f"smppd-kek v1 {n} 2026-11-22T00:00:00Z {b64encode(bytes([n]) * 32).decode()}\n" for n in (1, 2)]
    kek.write_text("".join(lines))
    wrong = load_kek(FileSource(kek)).fingerprint()
    assert right != wrong
    return rf"another installation's KEK: .*{wrong}.*{right}"


@pytest.mark.parametrize("harm", [lost, old, unmarked, theirs])
def test_every_command_tells_and_writes_nothing(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[House], str]
) -> None:
    said = harm(house)
    before = picture(house.store)
    backup = picture(tmp_path / "backup") | picture(tmp_path / "backup-keys")
    for name, words in COMMANDS.items():
        if harm is old and name in ("backup verify", "restore"):
            continue  # the backup is of the time of that version: it opens it
        status, out, err = house.run(*(word.replace("{tmp}", str(tmp_path)) for word in words))
        assert status in (1, 2), name
        # The backup has a mark, of version 1.
        of_backup = name in ("backup verify", "restore") and harm is not lost
        assert re.search("another installation's KEK" if of_backup else said, out + err), (name, err)
        assert picture(house.store) == before, name
    assert not (tmp_path / "another").exists() and not (tmp_path / "out").exists()
    assert picture(tmp_path / "backup") | picture(tmp_path / "backup-keys") == backup


@pytest.mark.parametrize("harm", [lost, old, unmarked, theirs])
def test_the_daemon_tells_and_writes_nothing(house: House, harm: Callable[[House], str]) -> None:
    said = harm(house)
    before = picture(house.store)
    command = [sys.executable, "-m", "smppd", "run", "--config", str(house.path / "smppd.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 1 and re.search(f"cannot start: (?:.*)(?:{said})", done.stderr), done.stderr
    assert picture(house.store) == before


def test_restored_elsewhere_with_a_kek_that_is_not_its_own(house: House, tmp_path: Path) -> None:
    theirs(house)
    shutil.rmtree(house.store)
    status, _, err = house.run(
        "restore", "--from", str(tmp_path / "backup"), "--keys-from", str(tmp_path / "backup-keys")
    )
    assert status == 1 and "another installation's KEK" in err
    assert not picture(house.store)


def test_an_older_store_learns_its_kek_and_the_right_kek_is_not_blamed(house: House) -> None:
    rows = KeyStore(house.store)
    rows.delete(MARK_SCOPE)
    assert house.run("log", "verify")[0] == 0 and rows.get(MARK_SCOPE) is None
    assert house.run("keys", "rotate")[0] == 0
    mark = rows.get(MARK_SCOPE)
    assert mark is not None
    load_kek(FileSource(house.path / "keys/kek")).check_mark(mark)
    blob = rows.get(b"install/audit")
    assert blob is not None
    rows.replace_all([(b"install/audit", blob[:-1] + bytes([blob[-1] ^ 1]))])
    rows.close()
    status, _, err = house.run("log", "verify")
    assert status == 2 and "the KEK is the right one" in err and "restore keys.db" in err


def test_the_mark_reveals_nothing_and_is_bound_to_its_version(house: House) -> None:
    kek = load_kek(FileSource(house.path / "keys/kek"))
    raw = (house.path / "keys/kek").read_bytes()
    assert kek.fingerprint(1) != kek.fingerprint(2) and kek.fingerprint().encode() not in raw
    status, out, _ = house.run("keys", "list")
    assert kek.fingerprint() in out and "install/kek" not in out and status == 0
    assert main(["status", "--config", str(house.path / "smppd.yaml")]) != 0  # no daemon: needs no KEK to say so
