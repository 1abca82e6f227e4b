"""The files of the journal: made ahead, used one after another, removed in order."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from errno import EINVAL, EIO, ENOSPC
from pathlib import Path

import pytest

from smppd.store.journal import files as module
from smppd.store.journal.blocks import Block, pack
from smppd.store.journal.files import JournalFiles, no_space
from smppd.store.journal.reader import Placed, numbers, path_of, read

SIZE = 4096


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALLEST", SIZE)
    monkeypatch.setattr(module, "LARGEST", 4 * SIZE)


@pytest.fixture
def journal(tmp_path: Path, small: None) -> Iterator[JournalFiles]:
    made = JournalFiles(tmp_path)
    yield made
    made.close()


def put(journal: JournalFiles, sequence: int, segment: int = 1, octets: int = 400) -> None:
    journal.write(segment, pack(Block(sequence, segment, 2 * sequence, b"", os.urandom(octets))))


def sequences(directory: Path) -> list[int]:
    return [one.block.sequence for one in read(directory) if isinstance(one, Placed)]


def sizes(directory: Path) -> list[int]:
    return [path_of(directory, number).stat().st_size for number in numbers(directory)]


def until(done: Callable[[], bool]) -> None:
    for _ in range(2000):
        if done():
            return
        time.sleep(0.005)
    raise AssertionError("it does not happen")


def test_files_follow_each_other_and_grow(tmp_path: Path, journal: JournalFiles) -> None:
    for sequence in range(1, 40):
        put(journal, sequence)
    assert sequences(tmp_path) == list(range(1, 40))
    assert sizes(tmp_path) == [SIZE, 2 * SIZE, 4 * SIZE]
    put(journal, 40, octets=50_000)  # larger than any file
    assert sizes(tmp_path)[-1] > 50_000 and sequences(tmp_path)[-1] == 40
    assert all(path_of(tmp_path, one).stat().st_mode & 0o777 == 0o600 for one in numbers(tmp_path))


def test_a_segment_begins_a_file_and_ends_with_its_files(tmp_path: Path, journal: JournalFiles) -> None:
    for sequence in range(1, 12):
        put(journal, sequence, 1)
    put(journal, 12, 2)
    assert journal.has(1) and journal.has(2) and not journal.has(3)
    journal.drop(1)
    assert sequences(tmp_path) == [12] and not journal.has(1)
    journal.drop(2)
    assert sequences(tmp_path) == [12], "it is being written"
    put(journal, 13, 3)
    journal.drop(2)
    assert sequences(tmp_path) == [13]


def test_the_next_file_is_made_ahead(tmp_path: Path, journal: JournalFiles) -> None:
    journal.start()
    until(lambda: journal._spare is not None)
    assert sizes(tmp_path) == [SIZE] and sequences(tmp_path) == []
    put(journal, 1)
    until(lambda: len(numbers(tmp_path)) == 2)
    until(lambda: journal._spare is not None)
    put(journal, 2, octets=20_000)  # what was made is too small
    until(lambda: journal._spare is not None)
    assert sequences(tmp_path) == [1, 2]
    journal.close()
    assert sequences(tmp_path) == [1, 2] and len(numbers(tmp_path)) == 2, "what was made ahead is removed"


def test_what_an_earlier_run_left_is_not_written_again(tmp_path: Path, journal: JournalFiles) -> None:
    put(journal, 1)
    journal.close()
    again = JournalFiles(tmp_path)
    again.belongs(1, 1)
    put(again, 2, 2)
    assert numbers(tmp_path) == [1, 2]
    again.close()
    third = JournalFiles(tmp_path)
    third.belongs(1, 1)
    third.belongs(2, 2)
    path_of(tmp_path, 3).write_bytes(bytes(SIZE))
    third.rest([1])
    assert numbers(tmp_path) == [1, 2], "no gap comes to be"
    third.rest([2])
    assert numbers(tmp_path) == [2]
    third.rest([])
    assert numbers(tmp_path) == []
    third.close()


def test_cut_and_blank(tmp_path: Path, journal: JournalFiles) -> None:
    for sequence in (1, 2, 3):
        put(journal, sequence)
    journal.close()
    again = JournalFiles(tmp_path)
    again.blank(1, 512, 512)
    again.cut(1, 1024)
    assert sequences(tmp_path) == [1] and sizes(tmp_path) == [1024]
    again.close()


def test_no_space_leaves_no_file_and_the_next_try_has_it(
    tmp_path: Path, journal: JournalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(journal, 1)

    def full(_handle: int, _data: bytes, _at: int) -> int:
        raise OSError(ENOSPC, os.strerror(ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError) as raised:
        put(journal, 2, 2)
    assert no_space(raised.value) and numbers(tmp_path) == [1]
    put(journal, 2, 1)  # there is space in the file that there is
    monkeypatch.undo()
    put(journal, 3, 2)
    assert sequences(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("direct", [True, False])
def test_a_write_that_does_less_goes_on_where_it_stopped(
    journal: JournalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    whole = os.pwritev
    asked: list[int] = []
    least = 512 if direct else 200

    def some(handle: int, pieces: Sequence[memoryview], at: int, flags: int = 0) -> int:
        asked.append(len(pieces[0]))
        return whole(handle, [pieces[0][:least]], at, flags)

    journal._direct = journal._direct and direct
    put(journal, 1)
    monkeypatch.setattr(os, "pwritev", some)
    put(journal, 2, octets=1900)
    assert asked == list(range(asked[0], 0, -least)) and len(asked) > 2
    monkeypatch.undo()
    put(journal, 3)
    assert sequences(tmp_path) == [1, 2, 3]


def _past_cache(journal: JournalFiles) -> bool:
    return bool(fcntl.fcntl(journal._file, fcntl.F_GETFL) & os.O_DIRECT)


def test_blocks_go_through_the_page_cache_where_the_disk_allows_nothing_else(
    journal: JournalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwritev

    def large_sectors(handle: int, pieces: Sequence[memoryview], at: int, flags: int = 0) -> int:
        if _past_cache(journal):
            raise OSError(EINVAL, os.strerror(EINVAL))
        return write(handle, pieces, at, flags)

    monkeypatch.setattr(os, "pwritev", large_sectors)
    put(journal, 1)
    put(journal, 2)
    assert not _past_cache(journal)
    put(journal, 3, segment=2)
    assert not _past_cache(journal), "nor is it tried with each file"
    assert sequences(tmp_path) == [1, 2, 3]


def test_a_file_system_that_knows_nothing_of_it_is_no_fault(
    journal: JournalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = fcntl.fcntl

    def knows_not(handle: int, command: int, value: int = 0) -> int:
        if command == fcntl.F_SETFL and value & os.O_DIRECT:
            raise OSError(EINVAL, os.strerror(EINVAL))
        return ask(handle, command, value)

    monkeypatch.setattr(fcntl, "fcntl", knows_not)
    put(journal, 1)
    put(journal, 2)
    assert sequences(tmp_path) == [1, 2]


def test_blocks_of_every_length_are_read_back_as_they_were(journal: JournalFiles, tmp_path: Path) -> None:
    lengths = [1, 475, 476, 477, 4000, 70_000, 300_000, 1_500_000, 3]
    for number, octets in enumerate(lengths, 1):
        put(journal, number, octets=octets)
    found = [one.block for one in read(tmp_path) if isinstance(one, Placed)]
    assert [len(block.core) for block in found] == lengths


def test_a_write_that_does_nothing_is_an_error(journal: JournalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    put(journal, 1)
    monkeypatch.setattr(os, "pwritev", lambda *_words: 0)
    with pytest.raises(OSError) as raised:
        put(journal, 2)
    assert raised.value.errno == EIO and not no_space(raised.value)


def test_a_part_of_a_block_that_found_no_space_is_taken_off(
    tmp_path: Path, journal: JournalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(journal, 1)
    real = os.pwritev

    def part(handle: int, pieces: Sequence[bytes], at: int, *flags: int) -> int:
        real(handle, [b"".join(pieces)[:1700]], at)
        raise OSError(ENOSPC, os.strerror(ENOSPC))

    monkeypatch.setattr(os, "pwritev", part)
    with pytest.raises(OSError) as raised:
        put(journal, 2, octets=1900)
    assert no_space(raised.value)
    monkeypatch.undo()
    put(journal, 2, octets=100)
    assert [one.block.sequence if isinstance(one, Placed) else one for one in read(tmp_path)] == [1, 2]
