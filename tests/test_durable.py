"""A file is the old one or the new one, and what a kill left behind stops nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smppd.durable import replace_file


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "one"
    replace_file(path, b"first")
    assert path.read_bytes() == b"first" and path.stat().st_mode & 0o777 == 0o600
    (tmp_path / "one.new").write_bytes(b"half of anoth")  # of a call that was killed
    replace_file(path, b"second")
    assert path.read_bytes() == b"second" and [one.name for one in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_until_the_last_step_it_is_the_old_one(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one"
    replace_file(path, b"first")

    def fails(*_: object) -> None:
        raise OSError(5, "no disk")

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(OSError, match="no disk"):
        replace_file(path, b"second")
    assert path.read_bytes() == b"first"
