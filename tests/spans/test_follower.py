"""Spans made of a real log: what is committed before, refused, altered."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smppd.message import State
from smppd.spans import follower as module
from smppd.spans.follower import Follower
from smppd.spans.lives import Lives, Sampler, Span
from smppd.store.sqlite.log_rows import SqliteRecords
from tests.store.builder import Builder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path, sealed=True)
    yield builder
    builder.close()


@pytest.fixture
def records(store: Builder) -> Iterator[SqliteRecords]:
    opened = SqliteRecords(store.directory)
    yield opened
    opened.close()


def made(records: SqliteRecords, share: float = 1.0) -> tuple[Follower, Lives]:
    sampler = Sampler(share)
    lives = Lives(sampler)
    return Follower(records, sampler, lives), lives


def all_of(follower: Follower) -> list[Span]:
    spans, more = follower.step()
    while more:
        further, more = follower.step()
        spans += further
    return spans


def message(store: Builder) -> int:
    """One message, from row to row."""
    identity = store.record(b"text")
    store.commit()
    for state in (State.SUBMITTED, State.DELIVERED):
        store.now += 1
        store.event(identity, state, b"carrier-a\x00447700900123")
        store.commit()
    store.event(identity, State.RECEIPT_DONE, b"")
    store.commit()
    return identity


def test_what_was_before_is_left_out_and_what_comes_is_told_once(
    store: Builder, records: SqliteRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 2)
    before = store.record(b"before")
    store.commit()
    follower, lives = made(records)
    store.event(before, State.SUBMITTED, b"carrier-a\0x")
    identity = message(store)
    spans = all_of(follower)
    assert {one.message for one in spans} == {identity}
    assert [one.kind.name for one in spans] == ["SUBMIT", "CARRIER", "DELIVER", "MESSAGE"]
    assert [one.end_ms - one.start_ms for one in spans] == [1000, 1000, 0, 2000]
    assert all_of(follower) == [] and lives.open == 0


def test_an_empty_store_and_one_that_is_not_sampled(store: Builder, records: SqliteRecords) -> None:
    follower, lives = made(records)
    none, _lives = made(records, 1e-12)
    message(store)
    assert all_of(none) == [] and len(all_of(follower)) == 4
    assert lives.open == 0


def test_a_refused_one_is_a_trace_of_its_own(store: Builder, records: SqliteRecords) -> None:
    follower, _lives = made(records)
    store.event(store.record(b"spam"), State.REFUSED, b"", error=0x58)
    store.commit()
    (whole,) = all_of(follower)
    assert (whole.state, whole.error, whole.failed, whole.complete) == ("REFUSED", 0x58, True, True)


def test_a_row_that_was_altered_stops_nothing(store: Builder, records: SqliteRecords) -> None:
    follower, _lives = made(records)
    store.record(b"one")
    store.commit()
    with closing(sqlite3.connect(store.directory / "data.db")) as db:
        db.execute("UPDATE log SET records = substr(records, 1, 20)")
        db.commit()
    identity = message(store)
    assert {one.message for one in all_of(follower)} == {identity}
