"""Lines and places: what is shipped can be verified from the line alone, and a place is never half written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smppd.audit.shipping import (
    MARKS,
    Cursor,
    Mark,
    Place,
    ShippingError,
    audit_line,
    iso,
    milliseconds,
    seal_line,
    stored_what,
)
from smppd.audit.trail import AuditTrail, TrailRow
from smppd.vault.chain import seal_hash

KEY = b"k" * 32


def mark(number: int) -> Mark:
    return Mark(number, bytes([number % 256]) * 32, number // 2, bytes(32))


def test_a_line_has_all_that_its_hash_is_made_of(tmp_path: Path) -> None:
    with AuditTrail(tmp_path / "audit.db", KEY, clock=lambda: 1_795_953_600.123) as trail:
        for who in ("alice", "J\xf6rg", "\U0001f600"):
            trail.append("show", who, {"note": "\xe9 \u202e", "records": 3}, "done", source="here")
        rows = trail.rows_after(0, 10)
    last_hash, last_mac = bytes(32), bytes(32)
    for row in rows:
        facts = json.loads(audit_line(row, Mark(), "f").text("file"))
        again = TrailRow(
            facts["id"],
            milliseconds(facts["at"]),
            facts["event"],
            facts["who"],
            facts["source"],
            stored_what(facts["what"]),
            facts["result"],
            bytes.fromhex(facts["hash"]),
            bytes.fromhex(facts["mac"]),
        )
        assert again == row
        assert again.hash_after(last_hash) == row.hash
        assert again.mac_after(KEY, last_mac) == row.mac
        last_hash, last_mac = row.hash, row.mac


def test_facts_that_are_not_as_smppd_writes_them_are_shipped_as_they_are() -> None:
    for text in ('{"b":1, "a":2}', "no json", "[1]", '{"a":1,"a":1}', '{"n":1e400}'):
        row = TrailRow(1, 0, "show", "a", "", text, "done", bytes(32), bytes(32))
        facts = json.loads(audit_line(row, Mark(), "f").text("file"))
        assert stored_what(facts["what"]) == text


@given(st.integers(0, 4_000_000_000_000))
def test_times_come_back(at_ms: int) -> None:
    assert milliseconds(iso(at_ms)) == at_ms


@pytest.mark.parametrize("text", ["", "2026-11-30", "2026-11-30T12:00:00Z", "2026-13-30T12:00:00.000Z", "x"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        milliseconds(text)


def test_a_time_beyond_all_is_no_error() -> None:
    assert iso(1 << 62).startswith("1970")


def test_a_seal_carries_its_hash() -> None:
    line = seal_line(4, b"signed", 5, mark(7), "f")
    assert line.mark == mark(7)._replace(seal=4, seal_hash=seal_hash(b"signed"))
    assert bytes.fromhex(line.facts["signed"]) == b"signed"


def test_a_place_comes_back(tmp_path: Path) -> None:
    cursor = Cursor(tmp_path / "place")
    assert cursor.load() is None
    place = Place(mark(9), mark(7), (mark(1), mark(5)))
    cursor.save(place)
    assert cursor.load() == place
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"version":2}', '{"version":1,"sent":[1,"00",0,""],"sure":[],"marks":[]}', "\xff"]
)
def test_a_place_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "place").write_text(text, "latin-1")
    with pytest.raises(ShippingError, match="place"):
        Cursor(tmp_path / "place").load()


def test_a_place_that_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(ShippingError, match="cannot be read"):
        Cursor(tmp_path / "place").load()
    with pytest.raises(ShippingError, match="cannot be written"):
        Cursor(tmp_path / "place").save(Place())


def test_places_to_go_back_to_are_few_and_nearer_ones_closer() -> None:
    place = Place()
    for number in range(1, 100_000, 50):
        place = place.moved(mark(number), mark(number))
    marks = [one.audit for one in place.marks]
    assert len(marks) <= MARKS
    assert marks == sorted(marks)
    assert 100_000 - marks[-1] < 300
    assert marks[0] < 50_000
    assert [one.audit for one in place.earlier()] == [*reversed(marks), 0]
