"""A store whose journal files were harmed while nobody used it: it opens, what is whole is there, what is not is told, and the
next commits are as safe as ever."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smppd.message import State
from smppd.store.journal import files as journal_files
from smppd.store.journal.blocks import SECTOR, pack
from smppd.store.journal.reader import Placed, in_file, numbers, path_of
from smppd.store.sqlite import filer
from smppd.store.sqlite.store import SqliteStore
from smppd.vault.kek import Kek
from smppd.vault.keys import KeyRing
from tests.store.builder import Builder, copied
from tests.store.journal.harms import Files, Harm, harms

_COMMITS: Final = 16
_FILED: Final = 9
"""Of them are filed before the process ends, since a new segment begins behind these."""
_SMALL: Final = 1 << 12


class Left(NamedTuple):
    """A store as a kill left it. records: ids, by commit."""

    directory: Path
    kek: Kek
    records: list[int]


class Found(NamedTuple):
    """What a start said and read."""

    told: list[str]
    entries: list[bytes]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filer, "EVERY", 3600.0)
        patch.setattr(journal_files, "SMALLEST", _SMALL)
        patch.setattr(journal_files, "LARGEST", _SMALL)
        directory = tmp_path_factory.mktemp("journal")
        builder = Builder(directory / "store")
        records = []
        for number in range(_COMMITS):
            builder.now += 1
            records.append(builder.record(b"text %d" % number, body=90 * 86400.0))
            builder.event(records[-1], State.SUBMITTED)
            builder.store.batch.accepts.append(_entry(number))
            builder.commit(files=False)
            if number in (3, _FILED - 1):
                builder.store.rotate()
                builder.files_it()
        copied(builder.directory, directory / "left")
        builder.close()
        yield Left(directory / "left", builder.kek, records)


def _entry(number: int) -> bytes:
    # Some blocks are of one sector, some of several.
    return b"entry %d;" % number + bytes(number % 4 * 500)


_ENTRIES: Final = [_entry(number) for number in range(_COMMITS)]


def _contents(directory: Path) -> Files:
    return {number: path_of(directory, number).read_bytes() for number in numbers(directory)}


def _put(directory: Path, contents: Files) -> None:
    for number in numbers(directory):
        path_of(directory, number).unlink()
    for number, data in contents.items():
        path_of(directory, number).write_bytes(data)


def _start(directory: Path, kek: Kek) -> Found:
    """A start as far as the replay, and an end without a tidy."""
    told: list[str] = []
    store = SqliteStore(
        directory, notify=lambda call: call(), later=lambda _seconds, call: call(), soon=lambda call: call()
    )
    store.on_start_damage = lambda what, _identity, reason: told.append(f"{what}: {reason}")
    try:
        store.use(KeyRing(kek, store.keys))
        return Found(told, [entry for _segment, entry in store.replay()])
    finally:
        store.close()


def _goes_on(directory: Path, kek: Kek, records: list[int]) -> tuple[set[int], list[bytes]]:
    """Which records the log has, and the spool after another commit."""
    builder = Builder(directory, kek)
    builder.now += 86400
    builder.store.batch.accepts.append(b"another")
    builder.record()
    builder.commit()
    with builder.reader() as reader:
        there = {number for number, identity in enumerate(records) if reader.record(identity) is not None}
    copied(directory, directory.with_name("again"))
    builder.close()
    return there, _start(directory.with_name("again"), kek).entries


def test_what_a_kill_left_is_all_there(left: Left, tmp_path: Path) -> None:
    shutil.copytree(left.directory, tmp_path / "store")
    assert len(numbers(tmp_path / "store")) > 3
    assert _start(tmp_path / "store", left.kek) == Found([], _ENTRIES)
    assert _start(tmp_path / "store", left.kek) == Found([], _ENTRIES), "and is there still"
    there, entries = _goes_on(tmp_path / "store", left.kek, left.records)
    assert there == set(range(_COMMITS))
    assert entries[-1] == b"another"


def test_first_files_that_are_gone_are_told_where_they_were_not_filed(left: Left, tmp_path: Path) -> None:
    shutil.copytree(left.directory, tmp_path / "store")
    contents = _contents(tmp_path / "store")
    last = max(number for number, data in contents.items() if any(data))
    (first, *_rest) = (one for one in in_file(last, contents[last]) if isinstance(one, Placed))
    before = first.block.sequence - 1
    assert _FILED < before < _COMMITS
    _put(tmp_path / "store", {last: contents[last]})
    found = _start(tmp_path / "store", left.kek)
    assert found.entries == _ENTRIES[before:]
    assert found.told == [f"block: {before - _FILED} blocks are missing"]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(harm=st.lists(harms(), min_size=1, max_size=3))
def test_any_harm_is_told_and_stops_nothing(left: Left, harm: list[Harm]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch, "store")
        shutil.copytree(left.directory, directory)
        contents = _contents(directory)
        for one in harm:
            one(contents)
        _put(directory, contents)
        found = _start(directory, left.kek)
        assert [entry for entry in _ENTRIES if entry in found.entries] == found.entries, "no other, in this order"
        gone = [number for number, entry in enumerate(_ENTRIES) if entry not in found.entries]
        last = max((number for number in range(_COMMITS) if number not in gone), default=-1)
        standing = {
            one.block.sequence - 1
            for number, data in contents.items()
            for one in in_file(number, data)
            if isinstance(one, Placed)
        }
        # What is gone behind the last one may never have been written; what is filed and gone, with all that was before it, may
        # have been over.
        between = any(_FILED <= number < last for number in gone)
        assert found.told or not (between or standing & set(gone))
        again = _start(directory, left.kek)
        assert again.entries == found.entries
        there, entries = _goes_on(directory, left.kek, left.records)
        assert there >= set(range(_FILED))
        assert entries[-1] == b"another"


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_cut_of_the_power_in_the_last_block_is_never_told(left: Left, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch, "store")
        shutil.copytree(left.directory, directory)
        contents = _contents(directory)
        blocks = [one for number in contents for one in in_file(number, contents[number]) if isinstance(one, Placed)]
        last = blocks[-1]
        sectors = range(last.at, last.at + last.octets, SECTOR)
        content = bytearray(contents[last.file])
        for sector in data.draw(st.sets(st.sampled_from(sectors), min_size=1), label="not written"):
            content[sector : sector + SECTOR] = bytes(SECTOR)
        _put(directory, {**contents, last.file: bytes(content)})
        assert _start(directory, left.kek) == Found([], _ENTRIES[:-1])
        there, entries = _goes_on(directory, left.kek, left.records)
        assert there == set(range(_COMMITS - 1))
        assert entries[-1] == b"another"
        assert sum(map(len, pack(last.block))) == last.octets
