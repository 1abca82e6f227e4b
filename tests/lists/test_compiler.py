"""What a list's file may hold, what is refused with which line, and what a failed compilation leaves: the one before."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.lists import compiler, source
from smppd.lists.compiler import Failed, Refused, compile_list, place_of
from smppd.lists.table import open_table
from tests.lists.made import KEY, made, spec, table

ONE, TWO, THREE = b"447700900001", b"447700900002", b"447700900003"


@pytest.mark.parametrize(
    ("kind", "content", "fields", "there", "missing"),
    [
        ("numbers", b"447700900001\n447700900002", {}, [ONE, TWO], [THREE]),
        ("numbers", b"\xef\xbb\xbf447700900001\r\n447700900002\r\n", {}, [ONE, TWO], [THREE]),
        ("numbers", b"# do not disturb\n\n +44 7700 900001 \n0044-7700-900002\n", {}, [ONE, TWO], [THREE]),
        ("numbers", b"07700 900001\n447700900002\n", {"region": "GB"}, [ONE, TWO], [THREE]),
        ("numbers", b"447700900001;x\n447700900002;y\n", {"column": 1}, [ONE, TWO], [THREE]),
        ("numbers", b'name,Phone\n"a ""b"", c","447700900001"\nz,447700900002\n', {"column": "phone"}, [ONE, TWO], [THREE]),
        ("numbers", b"id\tphone\n1\t447700900001\n", {"column": "phone"}, [ONE], [TWO]),
        ("domains", b"evil.example\nB\xc3\xbccher.example.\n", {}, [b"evil.example", b"xn--bcher-kva.example"], [b"example"]),
        ("senders", b"ACME  Bank\n+447700900001\n60777\n", {}, [b"acme bank", ONE, b"60777"], [b"acme"]),
        ("senders", "Crédit\n".encode(), {}, ["crédit".encode()], [b"credit"]),
    ],
)  # fmt: skip
def test_forms_of_files(
    tmp_path: Path, kind: str, content: bytes, fields: dict[str, Any], there: list[bytes], missing: list[bytes]
) -> None:
    listed = table(tmp_path, content, kind, **fields)
    assert len(listed) == len(there)
    assert all(map(listed.has, there)) and not any(map(listed.has, missing))


@pytest.mark.parametrize(
    ("kind", "content", "fields", "reason"),
    [
        ("numbers", b"447700900001\nabc\n447700900002\n12\n", {}, "lines 2, 4: not a phone number"),
        ("numbers", b"447700900001,x\n", {}, "line 1: not a phone number"),
        ("numbers", b"447700900001\n07700900002\n", {}, "line 2: not a phone number"),
        ("numbers", b"447700900001\n" + b"1" * 16 + b"\n", {}, "line 2: not a phone number"),
        ("numbers", b"\n" + b"9" * 10_000 + b"\n447700900001\n", {}, "line 2: not a phone number"),
        ("numbers", b"\xff\xfe4\x007\x00\n\x00", {}, "lines 1, 2: not a phone number"),
        ("numbers", b"x\n" * 1000, {}, f"lines {', '.join(map(str, range(1, 21)))} and more: not a phone number"),
        ("numbers", b"", {}, "it has no entries"),
        ("numbers", b"# nothing\n\n", {}, "it has no entries"),
        ("numbers", b"x\n", {"skip": True}, "it has no entries"),
        ("numbers", b"a,b\n1,2\n", {"column": "phone"}, "line 1: no column is named as `column` says, of 2 columns"),
        ("numbers", b"447700900001,a\nx\n", {"column": 2}, "lines 1, 2: not a phone number"),
        ("numbers", b'447700900001\n"4477\n', {"column": 1}, "line 2: not CSV: a quote is not closed, or a field is too long"),
        ("domains", b"evil.example\nhttp://evil.example/\ncom\n*.evil.example\n", {}, "lines 2, 3, 4: not a domain name"),
        ("domains", b".".join([b"a"] * 17) + b"\n", {}, "line 1: not a domain name"),
        ("senders", b"ACME\nA name of more than twenty\n", {}, "line 2: not a sender"),
    ],
)  # fmt: skip
def test_bad_lines_refuse_all_and_are_told_by_number(
    tmp_path: Path, kind: str, content: bytes, fields: dict[str, Any], reason: str
) -> None:
    before = made(tmp_path, [ONE], name="dnd")
    assert before.entries == 1
    with pytest.raises(Refused) as refused:
        made(tmp_path, content, kind, **fields)
    assert str(refused.value) == reason
    assert open_table(place_of(tmp_path / "lists", "dnd"), KEY).has(ONE), "the one before is gone"
    assert {path.name for path in (tmp_path / "lists").iterdir()} == {"dnd.list", ".dnd.lock"}


def test_bad_lines_may_be_left_out(tmp_path: Path) -> None:
    result = made(tmp_path, b"447700900001\nx\n447700900002\n", skip=True)
    assert result == (2, 1, ((2, "not a phone number"),))
    lenient = compile_list(spec(tmp_path / "source.txt"), tmp_path / "lists", KEY, 0, lenient=True)
    assert lenient.skipped == 1


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=60), st.integers(1, 64))
@settings(max_examples=40, deadline=None)
def test_whatever_a_file_holds_lines_are_counted_as_they_stand(lines: list[bytes], block: int) -> None:
    """Read in blocks of any size it gives the same entries with the same line numbers."""
    import io

    before = source.BLOCK
    content = b"\n".join(lines)
    expected = [
        (number, entry)
        for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
        if (entry := line.strip()) and not entry.startswith(b"#")
    ]
    try:
        source.BLOCK = block  # type: ignore[misc]
        found = []
        for some in source.read_plain(io.BytesIO(content), False, lambda _octets: None):
            assert some.lines is not None
            found += list(zip(some.lines, some.entries, strict=True))
    finally:
        source.BLOCK = before  # type: ignore[misc]
    if block >= 3 or not content.startswith(b"\xef"):
        assert found == expected


@pytest.mark.parametrize("run", [1, 7, 64])
def test_runs_are_merged_and_doubles_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: int) -> None:
    monkeypatch.setattr(compiler, "RUN", run)
    monkeypatch.setattr(source, "BLOCK", 100)
    there = [b"447700900%03d" % (at * 7 % 1000) for at in range(400)]
    listed = table(tmp_path, [*there, *there[:100], b"+" + there[5]])
    assert len(listed) == 400
    assert [listed.has(b"447700900%03d" % at) for at in range(1000)] == [
        b"447700900%03d" % at in there for at in range(1000)
    ]


class TestWhatFails:
    @pytest.fixture(autouse=True)
    def before(self, tmp_path: Path) -> None:
        made(tmp_path, [ONE])

    def left(self, tmp_path: Path) -> None:
        assert open_table(place_of(tmp_path / "lists", "dnd"), KEY).has(ONE)
        assert {path.name for path in (tmp_path / "lists").iterdir()} == {"dnd.list", ".dnd.lock"}

    def compile(self, tmp_path: Path, **given: Any) -> None:
        compile_list(spec(tmp_path / "source.txt"), tmp_path / "lists", KEY, 0, **given)

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_handle: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(Failed, match="No space left"):
            self.compile(tmp_path)
        self.left(tmp_path)

    def test_less_room_than_the_store_keeps_free(self, tmp_path: Path) -> None:
        with pytest.raises(Failed, match=r"no space: .* beside `store.reserve`"):
            self.compile(tmp_path, reserve=1 << 60)
        self.left(tmp_path)

    def test_told_to_stop_at_any_moment(self, tmp_path: Path) -> None:
        stopped_at = 0
        for at in range(10):
            asked = iter([False] * at + [True] * 10)
            try:
                self.compile(tmp_path, stopped=lambda asked=asked: next(asked))
            except Failed as failed:
                assert str(failed) == "stopped"
                stopped_at += 1
            self.left(tmp_path)
        assert 2 <= stopped_at < 10

    @pytest.mark.parametrize("replaced", [True, False])
    def test_a_file_that_changes_while_it_is_read(self, tmp_path: Path, replaced: bool) -> None:
        def change(_done: float) -> None:
            target = tmp_path / ("fresh" if replaced else "source.txt")
            target.write_bytes(TWO + b"\n" + THREE + b"\n")
            os.replace(target, tmp_path / "source.txt")

        with pytest.raises(Failed, match="the file changed while it was read"):
            self.compile(tmp_path, progress=change)
        self.left(tmp_path)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        (tmp_path / "source.txt").unlink()
        with pytest.raises(Failed, match="No such file"):
            self.compile(tmp_path)
        self.left(tmp_path)

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        (tmp_path / "source.txt").unlink()
        os.mkfifo(tmp_path / "source.txt")
        with pytest.raises(Refused, match="it is not a file"):
            self.compile(tmp_path)
        self.left(tmp_path)

    def test_another_that_compiles_it(self, tmp_path: Path) -> None:
        with (tmp_path / "lists" / ".dnd.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(Failed, match="is being compiled already"):
                self.compile(tmp_path)

    def test_what_a_kill_left_is_taken_away(self, tmp_path: Path) -> None:
        aside = tmp_path / "lists" / ".dnd.work"
        aside.mkdir()
        (aside / "000000").write_bytes(bytes(8))
        (tmp_path / "lists" / ".dnd.new").write_bytes(b"half")
        self.compile(tmp_path)
        self.left(tmp_path)


def test_settings_that_change_what_is_compiled_change_its_digest(tmp_path: Path) -> None:
    one = spec(tmp_path / "a")
    others = [
        one._replace(file=tmp_path / "b"),
        one._replace(region="GB"),
        one._replace(column=1),
        one._replace(column="1"),
        one._replace(skip=True),
        one._replace(kind="senders"),
    ]
    assert len({each.digest() for each in (one, *others)}) == 7
