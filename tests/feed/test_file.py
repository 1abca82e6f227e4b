"""The feed's file as transcripts: torn lines, rotation, kills at each step, a disk without space."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from smppd.feed.file import MODE, FeedError, FeedFile, Kept, PlaceFile, says
from smppd.feed.lines import Cursor, Line, mark_line
from smppd.records.places import Place


def line(number: int) -> Line:
    return mark_line(Cursor(Place(number, 1)), 1000)


class Stand:
    """A file with its place."""

    def __init__(self, directory: Path, *, rotate: int = 0, every: float | None = None, keep: int = 3) -> None:
        self.path = directory / "feed.jsonl"
        self.place = PlaceFile(directory / "feed-file.json")
        self.now = 1000.0
        self._values = rotate, every, keep
        self.place.save(Kept(Cursor(), self.now))
        self._made: list[FeedFile] = []
        self.file = self.opened()

    def opened(self) -> FeedFile:
        """As a process that was started again has it."""
        for one in self._made:
            one.close()
        rotate, every, keep = self._values
        file = FeedFile(self.path, self.place, rotate=rotate, every=every, keep=keep, wall=lambda: self.now)
        self._made.append(file)
        file.open()
        return file

    def tell(self, *numbers: int, file: FeedFile | None = None) -> None:
        lines = tuple(line(number) for number in numbers)
        (file or self.file).append(lines, lines[-1].cursor)

    def told(self) -> list[int]:
        """What is in the old files and in the file, oldest first."""
        files = sorted(self.path.parent.glob("feed.jsonl.*"), key=lambda one: -int(one.suffix[1:]))
        found = []
        for path in (*files, self.path):
            text = path.read_bytes() if path.exists() else b""
            found += [Cursor.parse(json.loads(one)["cursor"]).log.seq for one in text.splitlines()]
        return found


def test_it_goes_on_behind_its_last_line(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.tell(1, 2)
    assert stand.opened().cursor == line(2).cursor, "though nothing was kept"
    assert stat.S_IMODE(stand.path.stat().st_mode) == MODE & ~_umask()
    assert stand.place.load() == Kept(Cursor(), 1000.0)


def _umask() -> int:
    before = os.umask(0o022)
    os.umask(before)
    return before


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_half_a_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    stand = Stand(tmp_path)
    stand.tell(1, 2, 3)
    whole = stand.path.read_bytes()
    stand.path.write_bytes(whole[:-cut])
    again = stand.opened()
    assert again.cursor == line(2).cursor
    stand.tell(3, file=again)
    assert stand.path.read_bytes() == whole


def test_a_file_of_one_torn_line_begins_where_the_place_is(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.tell(1)
    stand.path.write_bytes(stand.path.read_bytes()[:-5])
    assert stand.opened().cursor == Cursor()
    assert stand.path.read_bytes() == b""


def test_the_place_counts_where_lines_are_filtered(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.tell(1)
    stand.file.append((), Cursor(Place(9, 4), 7))
    assert stand.opened().cursor == line(1).cursor
    stand.file.save()
    assert stand.opened().cursor == Cursor(Place(9, 4), 7)


def test_a_file_that_was_taken_away_is_begun_anew_and_nothing_comes_twice(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.tell(1, 2)
    stand.file.save()
    stand.path.unlink()
    again = stand.opened()
    stand.tell(3, file=again)
    assert stand.told() == [3]


def test_it_rotates_by_size(tmp_path: Path) -> None:
    size = len(line(1).data)
    stand = Stand(tmp_path, rotate=3 * size, keep=2)
    for number in range(1, 12):
        stand.tell(number)
    assert stand.told() == [4, 5, 6, 7, 8, 9, 10, 11], "the oldest is deleted"
    stand.tell(*range(12, 20))
    assert stand.told()[-8:] == list(range(12, 20)), "a batch stays together"


def test_where_fewer_are_kept_than_before_the_others_go(tmp_path: Path) -> None:
    size = len(line(1).data)
    stand = Stand(tmp_path, rotate=size, keep=5)
    stand.tell(1)
    for number in range(2, 9):
        stand.tell(number)
    assert stand.told() == [3, 4, 5, 6, 7, 8]
    fewer = FeedFile(stand.path, stand.place, rotate=size, every=None, keep=2, wall=lambda: 0.0)
    stand.file.close()
    fewer.open()
    stand.tell(9, file=fewer)
    assert stand.told() == [7, 8, 9]
    fewer.close()


def test_it_rotates_by_age_though_nothing_comes(tmp_path: Path) -> None:
    stand = Stand(tmp_path, every=60.0)
    stand.tell(1)
    stand.now += 59
    stand.file.turn()
    stand.tell(2)
    assert stand.path.exists() and not (tmp_path / "feed.jsonl.1").exists()
    stand.now += 1
    stand.file.turn()
    assert not stand.path.exists() and stand.told() == [1, 2]
    again = stand.opened()
    assert again.cursor == line(2).cursor, "the old file says it"
    stand.tell(3, file=again)
    stand.now += 61
    stand.tell(4, file=again)
    assert stand.path.read_bytes() == line(4).data and stand.told() == [1, 2, 3, 4]


@pytest.mark.parametrize("step", range(1, 9))
def test_a_kill_at_any_step_of_a_rotation(tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(tmp_path, rotate=2 * len(line(1).data), keep=3)
    for number in range(1, 9):
        stand.tell(number)
    before = stand.told()
    left = [step]

    class Killed(BaseException):
        pass

    def counted(name: str) -> None:
        real = getattr(os, name)

        def call(*words: object, **named: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return real(*words, **named)

        monkeypatch.setattr(os, name, call)

    for name in ("replace", "open", "write", "fsync"):
        counted(name)
    try:
        stand.tell(9)
    except Killed:
        pass
    monkeypatch.undo()
    again = stand.opened()
    if again.cursor != line(9).cursor:
        assert again.cursor == line(8).cursor
        stand.tell(9, file=again)
    told = stand.told()
    assert told == sorted(set(told)), "nothing twice"
    assert set(before[-5:]) <= set(told) and told[-1] == 9


def test_a_disk_without_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(tmp_path)
    stand.tell(1)
    whole = stand.path.read_bytes()
    real = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) > 40:
            return real(handle, data[:40])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FeedError, match="No space left"):
        stand.tell(2)
    monkeypatch.undo()
    assert stand.path.read_bytes() == whole
    stand.file.open()
    assert stand.file.cursor == line(1).cursor
    stand.tell(2)
    assert stand.told() == [1, 2]


def test_where_half_of_it_stays_it_is_found_out_by_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(tmp_path)
    stand.tell(1)
    real = os.write
    monkeypatch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    sizes = iter([len(line(2).data) + 9])

    def broken(handle: int, data: bytes) -> int:
        size = next(sizes, 0)
        if not size:
            raise OSError(errno.EIO, "I/O error")
        return real(handle, data[:size])

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(FeedError, match="I/O error"):
        stand.tell(2, 3)
    monkeypatch.undo()
    stand.file.open()
    assert stand.file.cursor == line(2).cursor, "one line of the two is there"
    stand.tell(3)
    assert stand.told() == [1, 2, 3]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 2}', '{"version": 1, "cursor": "x", "began": 1}'])
def test_a_place_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    stand = Stand(tmp_path)
    stand.place.path.write_text(text)
    with pytest.raises(FeedError, match="is not what smppd wrote"):
        stand.opened()


def test_without_a_place_the_file_says_where_it_ends(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.place.path.unlink()
    with pytest.raises(FeedError, match="is missing"):
        stand.opened()
    stand.tell(5)
    assert stand.opened().cursor == line(5).cursor


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    file = FeedFile(tmp_path / "no" / "feed", PlaceFile(tmp_path / "p"), rotate=0, every=None, keep=1, wall=lambda: 0.0)
    with pytest.raises(FeedError, match="No such file"):
        file.append((line(1),), line(1).cursor)
    assert "feed" in repr(file)


def test_lines_of_somebody_else_behind_the_last_one_repeat_nothing(tmp_path: Path) -> None:
    stand = Stand(tmp_path, rotate=2 * len(line(1).data))
    stand.tell(1, 2)
    stand.tell(3, 4)
    with stand.path.open("ab") as file:
        file.write(b"# a note\n{}\nand half")
    again = stand.opened()
    assert again.cursor == line(4).cursor
    assert stand.path.read_bytes().endswith(b"{}\n")
    assert says(stand.path)


@pytest.mark.parametrize("content", [b"SQLite format 3\0 and more", b"listeners:\n  - a\nhalf", b"\0" * 9 + b"\n"])
def test_a_file_of_somebody_else_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    stand = Stand(tmp_path)
    stand.path.write_bytes(content)
    with pytest.raises(FeedError, match="is no file of the feed"):
        stand.opened()
    assert stand.path.read_bytes() == content


@pytest.mark.parametrize("content", [b"\0" * 50, b'{"v', b'{"v":1,"cur'])
def test_what_a_power_cut_left_of_the_first_line_is_cut_off(tmp_path: Path, content: bytes) -> None:
    stand = Stand(tmp_path)
    stand.path.write_bytes(content)
    assert stand.opened().cursor == Cursor() and stand.path.read_bytes() == b""
    assert not says(stand.path)


def test_a_file_that_another_feed_writes_is_left_to_it(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stand, place = Stand(tmp_path, rotate=2 * len(line(1).data)), PlaceFile(tmp_path / "other" / "place")
    place.save(Kept(Cursor(), 0.0))
    stand.tell(1)
    other = FeedFile(stand.path, place, rotate=0, every=None, keep=1, wall=lambda: 0.0)
    for at in (3, 5):  # also once it was rotated
        with pytest.raises(FeedError, match="is written by another feed"):
            other.open()
        stand.tell(at, at + 1)
    with pytest.raises(FeedError, match="is written by another feed"):
        other.append((line(9),), line(9).cursor)
    assert stand.told() == [1, 3, 4, 5, 6]
    stand.file.close()
    other.open()
    assert other.cursor == line(6).cursor
    other.close()
