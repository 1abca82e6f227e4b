"""Shipping into a file: whole lines only, rotation without a loss, a full disk, logrotate, a kill within a line."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from smppd.audit.shipfile import FileTarget
from smppd.audit.shipping import ShippingError
from tests.audit.test_syslog import line


def numbers(*paths: Path) -> list[int]:
    return [json.loads(text)["id"] for path in paths for text in path.read_text().splitlines()]


def send(target: FileTarget, *ids: int) -> None:
    target.send([line(number) for number in ids])


def test_lines_are_appended(tmp_path: Path) -> None:
    file = tmp_path / "shipped.jsonl"
    target = FileTarget(file, 0, 1)
    send(target, 1, 2)
    send(target, 3)
    assert numbers(file) == [1, 2, 3]
    assert stat.S_IMODE(file.stat().st_mode) & 0o137 == 0
    assert target.finish()


def test_it_rotates_by_size(tmp_path: Path) -> None:
    file = tmp_path / "shipped.jsonl"
    target = FileTarget(file, 1000, 3)
    for number in range(1, 31):
        send(target, number)
    files = sorted(tmp_path.glob("shipped.jsonl.*"), reverse=True)
    assert [path.name[-2:] for path in files] == [".3", ".2", ".1"]
    kept = numbers(*files, file)
    assert kept == list(range(kept[0], 31))
    assert all(path.stat().st_size <= 1000 for path in [*files, file])


def test_a_batch_longer_than_that_is_one_file(tmp_path: Path) -> None:
    file = tmp_path / "shipped.jsonl"
    target = FileTarget(file, 1000, 3)
    send(target, *range(1, 20))
    send(target, 20)
    assert numbers(file.with_name("shipped.jsonl.1"), file) == list(range(1, 21))


@pytest.mark.parametrize("renames", range(4))
def test_a_kill_within_a_rotation_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
    file = tmp_path / "shipped.jsonl"
    target = FileTarget(file, 500, 10)
    for number in range(1, 5):
        send(target, number)
    real, left = os.replace, [renames]

    def replace(one: Path, other: Path) -> None:
        if not left[0]:
            raise OSError(5, "killed here")
        left[0] -= 1
        real(one, other)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace)
        if renames < 4:
            try:
                send(target, 5)
            except ShippingError:
                pass
    for number in range(5, 9):
        send(target, number)
    files = sorted(tmp_path.glob("shipped.jsonl.*"), key=lambda path: -int(path.name.rpartition(".")[2]))
    found = numbers(*files, file)
    assert sorted(set(found)) == list(range(1, 9))


def test_half_a_line_of_a_kill_goes(tmp_path: Path) -> None:
    file = tmp_path / "shipped.jsonl"
    target = FileTarget(file, 0, 1)
    send(target, 1)
    with file.open("a") as open_file:
        open_file.write('{"kind":"audit","id":2,' + "x" * 200_000)
    send(target, 2)
    assert numbers(file) == [1, 2]
    file.write_text("only half")
    send(target, 3)
    assert numbers(file) == [3]


def test_a_full_disk_leaves_whole_lines_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "shipped.jsonl"
    target = FileTarget(file, 0, 1)
    send(target, 1)
    real = os.write
    calls = []

    def write(handle: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real(handle, bytes(data)[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(ShippingError, match=r"shipped\.jsonl: No space left on device"):
            send(target, 2, 3)
    assert numbers(file) == [1]
    send(target, 2, 3)
    assert numbers(file) == [1, 2, 3]


def test_logrotate_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "shipped.jsonl"
    target = FileTarget(file, 0, 1)
    send(target, 1)
    file.rename(tmp_path / "shipped.jsonl-20261130")
    send(target, 2)
    file.rename(tmp_path / "renamed")
    file.touch(0o600)
    send(target, 3)
    os.truncate(file, 0)  # copytruncate
    send(target, 4)
    assert numbers(tmp_path / "shipped.jsonl-20261130", tmp_path / "renamed", file) == [1, 2, 4]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ShippingError, match="No such file"):
        send(FileTarget(tmp_path / "no" / "file", 0, 1), 1)
