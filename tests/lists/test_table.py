"""A compiled list is asked like a set, and believed only where this installation wrote it whole."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.lists.compiler import place_of
from smppd.lists.table import HEADER, WIDTH, ListFault, bits_for, length_of, open_table, read_header
from tests.lists.made import KEY, made, table

# Fictional: +44 7700 900000 to 900999.
NUMBERS = st.integers(0, 999).map(lambda at: b"447700900%03d" % at)


@given(st.sets(NUMBERS, min_size=1, max_size=300), st.sets(NUMBERS, max_size=50))
@settings(max_examples=30, deadline=None)
def test_it_answers_as_a_set_does(there: set[bytes], asked: set[bytes]) -> None:
    with tempfile.TemporaryDirectory() as place:
        listed = table(Path(place), sorted(there))
        assert len(listed) == len(there)
        assert all(listed.has(one) for one in there)
        assert {one for one in asked if listed.has(one)} == asked & there
        listed.close()


def test_every_bucket_is_found(tmp_path: Path) -> None:
    there = [b"447700900%03d" % at for at in range(0, 1000, 2)]
    listed = table(tmp_path, there)
    assert listed.header.bits == bits_for(500) == 3
    assert [listed.has(b"447700900%03d" % at) for at in range(1000)] == [at % 2 == 0 for at in range(1000)]


@pytest.mark.interpreted("another hash stands in for BLAKE2b")
def test_octets_that_only_look_like_an_entry_are_none(tmp_path: Path) -> None:
    """The end of one entry and the beginning of the next make the hash that is looked for."""
    listed = table(tmp_path, [b"447700900000", b"447700900001"])
    raw = place_of(tmp_path / "lists", "dnd").read_bytes()[HEADER : HEADER + 2 * WIDTH]

    class Digests:
        def of(self, _form: bytes) -> bytes:
            return raw[4 : 4 + WIDTH]

    fake = type(listed).__new__(type(listed))
    for name in ("header", "stamp", "octets", "_file", "_buckets", "_shift"):
        setattr(fake, name, getattr(listed, name))
    fake._digests = Digests()  # type: ignore[assignment]
    assert not fake.has(b"anything")


class TestWhatIsNotBelieved:
    @given(st.data())
    @settings(max_examples=25, deadline=None)
    def test_any_octet_that_is_altered_and_any_other_length(self, data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as place:
            made(Path(place), [b"447700900%03d" % at for at in range(100)])
            path = place_of(Path(place) / "lists", "dnd")
            raw = bytearray(path.read_bytes())
            how = data.draw(st.sampled_from(["alter", "cut", "longer"]))
            if how == "alter":
                at = data.draw(st.integers(0, len(raw) - 1) | st.integers(0, 300))
                raw[at] ^= data.draw(st.integers(1, 255))
            elif how == "cut":
                del raw[data.draw(st.integers(0, len(raw) - 1)) :]
            else:
                raw += data.draw(st.binary(min_size=1, max_size=20))
            path.write_bytes(raw)
            with pytest.raises(ListFault):
                open_table(path, KEY)

    @pytest.mark.parametrize("at", [8, 12, 16, 40, 100, 180, 300, HEADER - 1, HEADER, HEADER + 7, HEADER + 9, -9, -1])
    def test_an_octet_of_each_part(self, tmp_path: Path, at: int) -> None:
        made(tmp_path, [b"447700900%03d" % at for at in range(100)])
        path = place_of(tmp_path / "lists", "dnd")
        raw = bytearray(path.read_bytes())
        raw[at] ^= 1
        path.write_bytes(raw)
        with pytest.raises(ListFault):
            open_table(path, KEY)

    @given(st.binary(max_size=HEADER * 2))
    @settings(max_examples=20, deadline=None)
    def test_anything_else(self, raw: bytes) -> None:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "x.list"
            path.write_bytes(raw)
            with pytest.raises(ListFault, match="is no compiled list"):
                open_table(path, KEY)

    def test_another_installation_s(self, tmp_path: Path) -> None:
        made(tmp_path, [b"447700900000"])
        with pytest.raises(ListFault, match="another installation's key"):
            open_table(place_of(tmp_path / "lists", "dnd"), b"other".ljust(32))

    def test_a_list_of_another_kind(self, tmp_path: Path) -> None:
        made(tmp_path, [b"447700900000"])
        with pytest.raises(ListFault, match="is a list of numbers"):
            open_table(place_of(tmp_path / "lists", "dnd"), KEY, "domains")


def test_no_entry_stands_in_the_file_and_a_kind_has_hashes_of_its_own(tmp_path: Path) -> None:
    made(tmp_path, [b"447700900123"], name="a")
    made(tmp_path, [b"447700900123"], "senders", name="b")
    first, second = (place_of(tmp_path / "lists", name).read_bytes() for name in ("a", "b"))
    assert b"447700900123" not in first + second
    assert first[HEADER : HEADER + WIDTH] != second[HEADER : HEADER + WIDTH]


def test_the_header_says_what_it_was_made_of(tmp_path: Path) -> None:
    made(tmp_path, [b"447700900000", b"", b"# a comment", b"447700900000", b"447700900001"])
    path = place_of(tmp_path / "lists", "dnd")
    header = read_header(path)
    assert (header.kind, header.entries, header.skipped, header.compiled) == ("numbers", 2, 0, 1_800_000_000)
    source = (tmp_path / "source.txt").stat()
    assert header.source == (source.st_size, source.st_mtime_ns, source.st_ino)
    assert length_of(header) == path.stat().st_size and path.stat().st_mode & 0o777 == 0o600
