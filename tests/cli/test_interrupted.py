"""`backup`, `restore`, `purge` interrupted at their steps, by Ctrl-C and kill -9, and started again: nothing is half done."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.cli.house import House
from tests.cli.killed import killed_at, sampled, steps

ROUNDS = 6


@pytest.fixture
def house(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("PASSWORD", "not-used")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    made = House(tmp_path / "house", capsys)
    made.day()
    return made


def at(house: House, path: Path) -> House:
    """A copy of an installation elsewhere."""
    shutil.copytree(house.path, path)
    there = object.__new__(House)
    there.path, there.store, there.capsys = path, path / "var", house.capsys
    return there


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_backup(house: House, tmp_path: Path, how: signal.Signals) -> None:
    def words(name: str) -> list[str]:
        places = [str(tmp_path / f"data-{name}"), "--keys-to", str(tmp_path / f"keys-{name}")]
        return ["backup", *places, "--config", str(house.path / "smppd.yaml")]

    for step in sampled(steps(words("whole")), ROUNDS):
        target, keys = tmp_path / f"data-{step}", tmp_path / f"keys-{step}"
        if not killed_at(words(str(step)), step, how):
            continue  # it had ended: a step less this time
        status, out, _ = house.run("backup", str(target), "--verify", "--keys-from", str(keys))
        if status:  # no backup: nothing that looks like one, and after Ctrl-C nothing at all
            assert not (target / "manifest.json").exists() or not (keys / "keys.json").exists()
            if how is signal.SIGINT:
                assert not any(target.glob("*")) and not any(keys.glob("*")), step
            shutil.rmtree(target, ignore_errors=True)
            shutil.rmtree(keys, ignore_errors=True)
            assert house.run(*words(str(step))[:-2])[0] == 0
            assert house.run("backup", str(target), "--verify", "--keys-from", str(keys))[0] == 0
        else:
            assert "sound" in out
    house.sound()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_restore(house: House, tmp_path: Path, how: signal.Signals) -> None:
    data, keys = str(tmp_path / "data"), str(tmp_path / "keys")
    assert house.run("backup", data, "--keys-to", keys)[0] == 0
    house.day()

    def words(there: House) -> list[str]:
        return ["restore", "--from", data, "--keys-from", keys, "--force", "--config", str(there.path / "smppd.yaml")]

    for step in sampled(steps(words(at(house, tmp_path / "whole"))), ROUNDS):
        there = at(house, tmp_path / str(step))
        if killed_at(words(there), step, how):
            status, _, err = there.run(*words(there)[:-2])
            assert status == 0, (step, err)
        there.sound()
        rows = json.loads(there.run("log", "verify", "--json")[1])["rows"]
        assert rows == 5, "the backup's, not those of the day after it"
        shutil.rmtree(there.path)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_purge(house: House, tmp_path: Path, how: signal.Signals) -> None:
    text = (house.path / "smppd.yaml").read_text()
    short = text.replace("body: 1d, numbers: 30d", "body: 1h, numbers: 1h")
    assert short != text
    (house.path / "smppd.yaml").write_text(short)

    def words(there: House) -> list[str]:
        return ["purge", "--json", "--config", str(there.path / "smppd.yaml")]

    def ended(there: House) -> None:
        status, out, err = there.run("purge", "--json")
        done = json.loads(out)
        assert status == 0 and done["complete"] and not done["keys"] + done["secrets"] + done["parts"], err
        there.sound()
        status, out, _ = there.run("log", "search", "+447700900000", "--reason", "support", "--json")
        assert json.loads(out)["records"] == []

    whole = at(house, tmp_path / "whole")
    count = steps(words(whole))
    ended(whole)
    for step in sampled(count, ROUNDS):
        there = at(house, tmp_path / str(step))
        if killed_at(words(there), step, how):
            assert there.run("purge")[0] == 0, step
        ended(there)
        shutil.rmtree(there.path)
