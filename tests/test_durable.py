"""A file is the old one or the new one, and what a kill left behind stops nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smppd.durable import append_whole, end_of_last_line, old_file, replace_file, rotate_files


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


def test_what_cannot_be_appended_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\n")
    handle = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        append_whole(handle, 4, b"two\n", sync=True)
        assert path.read_bytes() == b"one\ntwo\n"

        def fails(_handle: int) -> None:
            raise OSError(5, "no disk")

        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="no disk"):
            append_whole(handle, 8, b"three\n", sync=True)
        assert path.read_bytes() == b"one\ntwo\n"
        append_whole(handle, 8, b"three\n", sync=False)
        assert path.read_bytes() == b"one\ntwo\nthree\n"
    finally:
        os.close(handle)


@pytest.mark.parametrize(
    ("text", "end"),
    [(b"", 0), (b"half", 0), (b"one\n", 4), (b"one\nha", 4), (b"a\n" + b"b" * 200_000, 2), (b"b" * 200_000, 0)],
)
def test_the_last_whole_line_is_found(tmp_path: Path, text: bytes, end: int) -> None:
    path = tmp_path / "lines"
    path.write_bytes(text)
    with path.open("rb") as file:
        assert end_of_last_line(file.fileno(), len(text)) == end


def test_a_gap_takes_a_rotation_up_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    for turn in range(5):
        path.write_text(str(turn))
        rotate_files(path, 3)
    assert [old_file(path, number).read_text() for number in (1, 2, 3)] == ["4", "3", "2"]
    old_file(path, 2).unlink()
    path.write_text("5")
    rotate_files(path, 3)
    assert [old_file(path, number).read_text() for number in (1, 2, 3)] == ["5", "4", "2"]
    assert not path.exists() and not old_file(path, 4).exists()
