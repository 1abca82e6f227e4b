"""Rotation and retirement killed at each of their steps, with a daemon that wraps new keys under its version meanwhile:
run again, they end where they would have, and every key opens."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from smppd.store.sqlite.keys import KeyStore, PendingKeys
from smppd.vault.kek import Kek, VaultError, blob_info, load_kek
from smppd.vault.keys import KeyRing, Part
from tests.cli.house import House
from tests.cli.installation import FileSource
from tests.cli.killed import killed_at, sampled, steps
from tests.vault.rows import NOON


@pytest.fixture
def house(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("PASSWORD", "not-used")
    made = House(tmp_path / "house", capsys)
    made.day(2)
    return made


def at(house: House, path: Path) -> House:
    """A copy of an installation elsewhere."""
    shutil.copytree(house.path, path)
    there = object.__new__(House)
    there.path, there.store, there.capsys = path, path / "var", house.capsys
    return there


def opened(house: House) -> tuple[Kek, set[int], int]:
    """The KEK, the versions that wrap keys, and how many; all of them open."""
    kek = load_kek(FileSource(house.path / "keys/kek"))
    rows = KeyStore(house.store)
    try:
        versions, count = set(), 0
        for scope, blob in rows.scan(b""):
            kek.unwrap(scope, blob)
            versions.add(blob_info(blob).kek_version)
            count += 1
    finally:
        rows.close()
    return kek, versions, count


@pytest.mark.parametrize("action", ["rotate", "retire"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_at_each_step_it_goes_on(house: House, tmp_path: Path, action: str, how: signal.Signals) -> None:
    words = ("keys", "rotate", *(("--retire",) if action == "retire" else ()))
    if action == "retire":
        assert house.run("keys", "rotate")[0] == 0
    before = load_kek(FileSource(house.path / "keys/kek"))

    def command(there: House) -> list[str]:
        return [*words, "--config", str(there.path / "smppd.yaml")]

    count = steps(command(at(house, tmp_path / "whole")))
    assert count is not None and count > 20
    _, _, keys = opened(house)
    waits = 0
    for step in sampled(count, 16 if how is signal.SIGKILL else 5):
        there = at(house, tmp_path / f"{step}")
        assert killed_at(command(there), step, how), step
        kek, versions, left = opened(there)
        assert left == keys and versions <= {1, 2}
        if action == "rotate":
            waits += len(kek.versions()) == 2 and versions == {1}
            # Killed between the two: a daemon that runs all the time makes a new key under the version that it has.
            rows = KeyStore(there.store)
            KeyRing(before, rows).period("acme", Part.BODY, NOON + step * 86400, 86400.0)
            rows.close()
            assert there.run("keys", "rotate")[0] == 0
            kek, versions, left = opened(there)
            assert versions == {kek.current} and left == keys + 1
        else:
            assert there.run(*words)[0] == 0
            kek, versions, left = opened(there)
            assert versions == {2} == {number for number, _ in kek.versions()} and left == keys
        shutil.rmtree(there.path)
    assert action == "retire" or waits, "no step lay between KEK and keys"


def test_what_the_daemon_has_not_stored_yet_survives_a_retirement(house: House) -> None:
    """A key made under the old version that waits for the next batch while the new one is read and the old one dropped."""
    store = KeyStore(house.store)
    before = load_kek(FileSource(house.path / "keys/kek"))
    pending = PendingKeys(store)
    ring = KeyRing(before, pending)
    key = ring.period("acme", Part.BODY, NOON, 86400.0)
    assert house.run("keys", "rotate")[0] == 0
    rotated = load_kek(FileSource(house.path / "keys/kek"))
    ring.use(rotated, dict(store.scan(b"")))  # SIGHUP
    assert house.run("keys", "rotate", "--retire")[0] == 0
    new, _ = pending.take()
    for scope, wrapped in new:
        assert store.put_new(scope, wrapped) == wrapped
    last = load_kek(FileSource(house.path / "keys/kek"))
    found = KeyRing(last, store).existing("acme", Part.BODY, key.period)
    assert found is not None and found.index_key == key.index_key
    # And what it has in memory opens with what is left, after one more SIGHUP and without any.
    for scope, wrapped in pending.scan(b""):
        last.unwrap(scope, wrapped)
    with pytest.raises(VaultError):
        before.unwrap(*next(iter(pending.scan(b""))))
    store.close()
