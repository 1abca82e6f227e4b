"""`smppd backup` and `smppd restore`: sentences, statuses, the audit trail; keys apart; nothing of a message in sight."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from smppd.backup.manifest import BackupError
from smppd.backup.restore import Checked, verify
from smppd.cli.commands import backup as command
from smppd.cli.main import main
from smppd.relay.ledger.journal import Entry, mark
from smppd.store.api import ColdRow, Kind
from smppd.vault.kek import load_kek
from tests.cli.installation import CONFIG, FileSource
from tests.store.builder import Builder, files

NUMBER = b"447700900123"
TEXT = b"your code is 4711"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("PASSWORD", "not-used")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "smppd.yaml").write_text(CONFIG)

    def call(*words: str) -> tuple[int, str, str]:
        try:
            status = main([*words, "--config", str(tmp_path / "smppd.yaml")])
        except SystemExit as end:
            status = int(str(end.code))
        shown = capsys.readouterr()
        assert NUMBER.decode() not in shown.out + shown.err and TEXT.decode() not in shown.out + shown.err
        return status, shown.out, shown.err

    assert call("keys", "init")[0] == 0
    return call


@pytest.fixture
def log(run: Run, tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path / "var", load_kek(FileSource(tmp_path / "keys/kek")))
    builder.now = time.time() - 3600
    ids = [builder.record(TEXT, destination=NUMBER) for _ in range(3)]
    builder.store.batch.accepts += [mark(Entry.ACCEPT, one, b"payload") for one in ids[:2]]
    builder.store.batch.accepts.append(mark(Entry.MAIL, ids[2] + 1, b"mail"))
    builder.store.batch.put.append(ColdRow(Kind.QUEUE, "acme\n", b"", ids[2], 2**40, b"payload"))
    builder.commit()
    builder.store.batch.marks.append(mark(Entry.DONE, ids[0]))
    builder.commit()
    yield builder
    builder.close()


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str], str]:
    return lambda name: str(tmp_path / name)


Place = Callable[[str], str]


def trail(run: Run) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in run("audit", "show", "--json")[1].splitlines()]
    return [entry for entry in entries if entry["event"] in ("backup", "restore")]


@pytest.fixture(autouse=True)
def daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store that is open beside the commands answers, as a daemon does."""
    monkeypatch.setattr("smppd.store.sqlite.installation.ask", lambda _directory, _seconds: True)


def test_there_and_back(run: Run, log: Builder, place: Place, tmp_path: Path) -> None:
    status, out, err = run("backup", place("b"), "--keys-to", place("k"))
    assert (status, err) == (0, "") and "Backed up 3 records, " in out and "Delete the copy of the keys by" in out
    begun, done = trail(run)
    assert (begun["result"], done["result"]) == ("begun", "done")
    assert done["what"]["backup"] == json.loads((tmp_path / "b/manifest.json").read_text())["id"]
    status, out, err = run("backup", "--verify", place("b"), "--keys-from", place("k"))
    assert (status, err) == (0, "") and out.startswith("The backup is sound: 3 records, ")
    assert "on their way: messages 2, mail for customers 1, " in out
    assert trail(run)[-1]["result"] == "sound" and not list(tmp_path.glob("smppd-verify-*"))
    status, out, err = run("restore", "--from", place("b"), "--keys-from", place("k"))
    assert status == 1 and "another smppd is using this store" in err
    log.close()
    status, out, err = run("restore", "--from", place("b"), "--keys-from", place("k"))
    assert status == 1 and "--force" in err and out == ""
    status, out, err = run("restore", "--from", place("b"), "--keys-from", place("k"), "--force")
    assert status == 0 and out.startswith("Restored ") and "may have been sent since" in err and "delete it" in err
    assert [(entry["event"], entry["result"]) for entry in trail(run)] == [("backup", "begun"), ("restore", "done")]
    assert run("log", "verify")[0] == 0 and run("audit", "verify")[0] == 0


def test_as_json(run: Run, log: Builder, place: Place) -> None:
    status, out, _ = run("backup", place("b"), "--keys-to", place("k"), "--json", "--keys-last", "7d")
    taken = json.loads(out)
    assert status == 0 and taken["records"] == 3 and taken["keys"] == place("k")
    status, out, _ = run("backup", "--verify", place("b"), "--keys-from", place("k"), "--json")
    found = json.loads(out)
    assert status == 0 and found["sound"] and found["backup"] == taken["id"]
    assert found["on_the_way"] == {"messages": 2, "mail": 1, "parked": 0}
    log.close()
    status, out, _ = run("restore", "--from", place("b"), "--keys-from", place("."), "--force", "--json")
    assert status == 0 and json.loads(out)["records"] == 3 and json.loads(out)["aside"]
    status, out, _ = run("backup", "--prune-keys", place("."), "--json")
    assert status == 0 and json.loads(out) == {"deleted": [], "kept": [place("k")], "next": taken["keys_expire"]}


def test_on_a_new_machine_nothing_needs_to_be_there(run: Run, log: Builder, place: Place, tmp_path: Path) -> None:
    assert run("backup", place("b"), "--keys-to", place("k"))[0] == 0
    log.close()
    (tmp_path / "var").rename(tmp_path / "lost")
    assert run("backup", "--verify", place("b"), "--keys-from", place("k"))[0] == 0
    assert not (tmp_path / "var").exists()
    assert run("restore", "--from", place("b"), "--keys-from", place("k"))[0] == 0
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700
    assert run("log", "verify")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("b",), "--keys-to is missing"),
        ((), "name the directory"),
        (("b", "--keys-to", "b"), "`--keys-to same` insists"),
        (("b", "--keys-to", "./b/../b"), "`--keys-to same` insists"),
        (("b", "--keys-from", "k"), "goes with --verify"),
        (("b", "--prune-keys", "k"), "goes alone"),
        (("b", "--keys-to", "k", "--keys-last", "31d"), "at most 30d"),
        (("b", "--keys-to", "k", "--keys-last", "soon"), "must be a duration"),
    ],
)
def test_called_wrongly(
    run: Run, log: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run("backup", *words)
    assert (status, out) == (2, "") and says in err
    assert not (tmp_path / "b").exists() and trail(run) == []


def test_keys_and_data_together_only_when_insisted(run: Run, log: Builder, place: Place) -> None:
    status, _, err = run("backup", place("b"), "--keys-to", "same")
    assert status == 0 and "lie together" in err
    assert run("backup", "--verify", place("b"))[0] == 0
    run("backup", place("c"), "--keys-to", place("k"))
    status, _, err = run("backup", "--verify", place("c"))
    assert status == 2 and "--keys-from is missing" in err
    status, _, err = run("backup", "--verify", place("c"), "--keys-from", place("b"))
    assert status == 1 and "belong to other backups" in err


def test_the_kek_is_never_in_it(run: Run, log: Builder, place: Place, tmp_path: Path) -> None:
    run("backup", place("b"), "--keys-to", place("k"))
    kek = (tmp_path / "keys/kek").read_bytes().split()[-1]
    everything = files(tmp_path / "b") + files(tmp_path / "k")
    assert kek not in everything and NUMBER not in everything and TEXT not in everything


def test_failures_are_told_and_recorded(run: Run, log: Builder, place: Place, tmp_path: Path) -> None:
    run("backup", place("b"), "--keys-to", place("k"))
    status, _, err = run("backup", place("b"), "--keys-to", place("k2"))
    assert status == 1 and "no backup was taken" in err and "a backup already" in err
    assert trail(run)[-1]["result"] == "failed"
    octets = bytearray((tmp_path / "b/data.db").read_bytes())
    octets[5000] ^= 1
    (tmp_path / "b/data.db").write_bytes(octets)
    status, _, err = run("backup", "--verify", place("b"), "--keys-from", place("k"))
    assert status == 1 and "cannot be restored" in err and "altered" in err
    assert trail(run)[-1]["result"] == "failed" and not list(tmp_path.glob("smppd-verify-*"))
    status, _, err = run("restore", "--from", place("nowhere"), "--keys-from", place("k"))
    assert status == 1 and "no complete backup" in err


def test_what_cannot_be_recorded_is_not_done(
    run: Run, log: Builder, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BackupError("the audit trail cannot be written")

    monkeypatch.setattr(command, "_record", refuse)
    status, _, err = run("backup", place("b"), "--keys-to", place("k"))
    assert status == 1 and "audit trail" in err and not (tmp_path / "b").exists()


def test_records_that_lost_their_secrets_fail_the_trial(
    run: Run, log: Builder, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("backup", place("b"), "--keys-to", place("k"))

    def lacking(*arguments: Any, **values: Any) -> Checked:
        return verify(*arguments, **values)._replace(unreadable=2)

    monkeypatch.setattr(command, "verify", lacking)
    status, out, err = run("backup", "--verify", place("b"), "--keys-from", place("k"))
    assert (status, out) == (1, "") and "2 records have lost their secrets" in err
    assert trail(run)[-1]["result"] == "incomplete"


def test_old_keys_are_deleted(run: Run, log: Builder, place: Place, tmp_path: Path) -> None:
    run("backup", place("b"), "--keys-to", place("copies/1"), "--keys-last", "1ms")
    run("backup", place("c"), "--keys-to", place("copies/2"))
    status, _, err = run("backup", "--verify", place("b"), "--keys-from", place("copies/1"))
    assert status == 0 and "should have been deleted" in err
    status, out, _ = run("backup", "--prune-keys", place("copies"))
    assert status == 0 and out.startswith("Deleted 1 of 2 copies of keys; the next is due at ")
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["2"]
    assert trail(run)[-1]["what"]["action"] == "prune keys"
    status, _, err = run("backup", "--prune-keys", place("nowhere"))
    assert status == 1 and "nowhere" in err


def test_before_the_first_start_there_is_nothing(run: Run, place: Place, tmp_path: Path) -> None:
    status, _, err = run("backup", place("b"), "--keys-to", place("k"))
    assert status == 1 and "nothing to back up yet" in err and not (tmp_path / "b").exists()


def test_a_store_in_which_something_is_missing_is_refused_with_a_sentence(
    run: Run, log: Builder, tmp_path: Path
) -> None:
    log.close()
    with closing(sqlite3.connect(tmp_path / "var/data.db", isolation_level=None)) as db:
        db.execute("DROP TABLE log")
    status, out, err = run("backup", str(tmp_path / "backup"), "--keys-to", str(tmp_path / "backup-keys"))
    assert status == 1 and out == "" and "no such table: log" in err and str(tmp_path / "var") in err
    assert not (tmp_path / "backup").exists()
