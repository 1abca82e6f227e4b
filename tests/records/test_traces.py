"""The traces of a store: begun, ended, read, destroyed key first, over by age; and what a kill leaves is taken away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from smppd.records import traces as module
from smppd.records.traces import Trace, TraceError, Traces
from smppd.store.sqlite.documents import SqliteDocuments
from smppd.store.sqlite.keys import KeyStore
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import create_install, load_install
from smppd.vault.seal import SealError
from smppd.vault.traces import trace_scope
from tests.vault.rows import NOON, kek

ASKED = Trace(0, "account", "acme", "acme", "slow binds", "ticket", "ada", NOON, NOON + 300.0)
WEEK = 7 * 86400.0


class Store:
    """Traces on a store of their own, and what they stand on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kek = kek()
        self.keys = KeyStore(path)
        create_install(self.kek, self.keys)
        self.documents = SqliteDocuments(path)
        self.sealer = DocumentSealer(load_install(self.kek, self.keys))
        self.traces = Traces(self.documents, self.keys, self.sealer, self.kek, path)

    def make(self, asked: Trace = ASKED, *blocks: bytes) -> int:
        trace, writer, file = self.traces.begin(asked)
        with file:
            for one in blocks:
                writer.write(one)
        return trace.number

    def files(self) -> list[str]:
        return sorted(one.name for one in (self.path / "traces").iterdir())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    with closing(made.keys), closing(made.documents):
        yield made


def test_begun_written_ended_and_read(store: Store) -> None:
    number = store.make(ASKED, b"one", b"two")
    assert number == 1 and list(store.traces.blocks(1)) == [b"one", b"two"]
    (one,) = store.traces.all()
    assert one == ASKED._replace(number=1) and one.state(NOON + 10) == "on" and one.state(NOON + 999) == "broken off"
    store.traces.end(1, NOON + 60, "it was told to", 2, 7, 900)
    one = store.traces.get(1) or one
    assert (one.state(NOON), one.why, one.sessions, one.pdus, one.octets) == ("ended", "it was told to", 2, 7, 900)
    assert (store.path / "traces" / "000001.trace").stat().st_mode & 0o777 == 0o600
    assert b"slow binds" not in b"".join(one.read_bytes() for one in store.path.glob("data.db*"))


def test_destroyed_key_first_and_nothing_opens(store: Store) -> None:
    number = store.make(ASKED, b"one")
    data = store.traces.path(number).read_bytes()
    assert store.traces.destroy(number) and not store.traces.destroy(number)
    assert store.traces.all() == [] and store.files() == [] and store.keys.get(trace_scope(number)) is None
    store.traces.path(number).write_bytes(data)
    with pytest.raises(TraceError, match="destroyed"):
        list(store.traces.blocks(number))
    store.traces.end(number, NOON, "late", 1, 1, 1)
    assert store.traces.all() == [], "what was destroyed stays so, whoever ends it later"


def test_a_number_is_never_given_twice(store: Store) -> None:
    store.traces.destroy(store.make())
    assert store.make() == 2


def test_over_by_age_and_what_a_kill_left(store: Store) -> None:
    old = store.make(ASKED._replace(began=NOON - WEEK))
    young = store.make(ASKED._replace(began=NOON - WEEK + 1))
    orphan = store.make()
    store.documents.remove("trace", f"{orphan:06d}")
    (store.path / "traces" / "000077.trace").write_bytes(b"x")
    assert store.traces.expire(NOON, WEEK) == [old]
    assert [one.number for one in store.traces.all()] == [young]
    assert "000077.trace" in store.files(), "it may be one that is being begun"
    late = store.traces.path(77).stat().st_mtime + 3600
    assert store.traces.expire(max(late, NOON + 3600), 10 * 365 * 86400.0) == []
    assert store.files() == [f"{young:06d}.trace"] and store.keys.get(trace_scope(orphan)) is None


def test_a_document_that_was_altered_is_told_and_goes_with_its_key(store: Store) -> None:
    number = store.make()
    store.documents.put("trace", {f"{number:06d}": b"\1" + bytes(60)})
    with pytest.raises(SealError):
        store.traces.get(number)
    assert store.traces.all() == [] and store.traces.unreadable() == [number]
    assert store.traces.may_hold(frozenset({"other"})) == [number], "nobody knows"
    assert store.traces.settle(NOON) == 0
    assert store.traces.expire(NOON, WEEK) == [number]
    assert store.traces.all() == [] and store.keys.get(trace_scope(number)) is None


def test_at_the_start_of_a_daemon_none_is_on(store: Store) -> None:
    first, second = store.make(), store.make()
    store.traces.end(first, NOON + 5, "it was told to", 1, 1, 1)
    assert store.traces.settle(NOON + 20) == 1 and store.traces.settle(NOON + 21) == 0
    one = store.traces.get(second)
    assert one is not None and (one.ended, one.why, one.pdus) == (NOON + 20, "smppd ended", None)


def test_whose_messages_may_be_in_it(store: Store) -> None:
    acme, other = store.make(), store.make(ASKED._replace(target="other", account="other"))
    carrier = store.make(ASKED._replace(peer="upstream", target="carrier-a", account=""))
    assert store.traces.may_hold(None) == [acme, other, carrier]
    assert store.traces.may_hold(frozenset({"acme"})) == [acme, carrier]


def test_no_more_than_so_many_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    store.make()
    first = store.make()
    with pytest.raises(TraceError, match="2 traces"):
        store.make()
    store.traces.destroy(first)
    assert store.make() == 3


def test_a_disk_that_fails_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "sync_directory", full)
    with pytest.raises(OSError, match="space"):
        store.make()
    assert store.traces.all() == [] and store.files() == [] and list(store.keys.scan(b"trace/")) == []


def test_one_that_cannot_be_removed_stops_none(store: Store) -> None:
    old = [store.make(ASKED._replace(began=NOON - WEEK)) for _ in range(3)]
    stuck = store.traces.path(old[1])
    stuck.unlink()
    (stuck / "in the way").mkdir(parents=True)
    told: list[list[int]] = []

    def tell(numbers: list[int]) -> None:
        assert len(store.traces.all()) == 3, "before any is destroyed"
        told.append(numbers)

    assert store.traces.expire(NOON, WEEK, tell) == old
    assert store.traces.all() == [] and store.files() == [stuck.name]
    assert [store.keys.get(trace_scope(number)) for number in old] == [None] * 3
    assert store.traces.expire(NOON, WEEK, tell) == [] and told == [old], "it is told once"


def test_a_key_that_was_altered_goes_and_stops_nothing(store: Store) -> None:
    store.keys.put_new(trace_scope(7), b"nothing that was ever wrapped")
    old = store.make(ASKED._replace(began=NOON - WEEK))
    assert store.traces.expire(NOON, WEEK) == [old]
    assert store.keys.get(trace_scope(7)) is None


def test_nothing_is_destroyed_that_cannot_be_told(store: Store) -> None:
    number = store.make(ASKED._replace(began=NOON - WEEK))

    def full(_numbers: list[int]) -> None:
        raise SealError("the trail cannot be written")

    with pytest.raises(SealError):
        store.traces.expire(NOON, WEEK, full)
    assert [one.number for one in store.traces.all()] == [number]
