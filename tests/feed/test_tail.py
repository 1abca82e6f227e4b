"""The feed over a log in memory: laws of the cursor, what a purge takes, what comes of whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.audit.trail import AuditTrail
from smppd.feed import tail as module
from smppd.feed.lines import BY_STATE, EVENTS, OF_TRAIL, Cursor, Wanted, cursor_of
from smppd.feed.tail import Tail
from smppd.message import State
from smppd.records.places import BadPlace, Place
from smppd.store.log import LogRow, pack_purged
from smppd.store.sqlite.log_rows import SqliteRecords
from smppd.vault.keys import KeyRing
from smppd.vault.seal import erase, iter_records, verify_digest
from tests.records.memorylog import MemoryLog
from tests.store.builder import Builder

BEGIN = Cursor()
EVERYTHING = Wanted()


class Feed:
    """A log in memory, a trail, and the tail of both."""

    def __init__(self, directory: Path) -> None:
        self.builder = Builder(directory, sealed=True)
        self.trail = AuditTrail(directory / "audit.db", self.builder.install.audit)
        self.now = 0.0

    def close(self) -> None:
        self.trail.close()
        self.builder.close()

    def memory(self) -> MemoryLog:
        records = SqliteRecords(self.builder.directory)
        try:
            return MemoryLog.copied(records, lambda signed: self.builder.keys.read(signed).seq)
        finally:
            records.close()

    def tail(self, memory: MemoryLog, wanted: Wanted = EVERYTHING, *, masked: bool = False) -> Tail:
        keys = (lambda: KeyRing(self.builder.kek, memory.keys)) if masked else None
        return Tail(memory, self.trail, wanted, keys, now=lambda: self.now, wall=lambda: self.builder.now)

    def fill(self, rows: int = 6) -> None:
        """Messages whose events come with later rows, refused ones, and entries of the trail."""
        made: list[int] = []
        for at in range(rows):
            self.builder.now += 1
            some = [self.builder.record(b"text"), self.builder.record(b"other", account="beta")]
            for one in made[-2:]:
                self.builder.event(one, State.SUBMITTED, b"carrier-a\0up")
            if at % 3 == 2:
                self.builder.event(some[0], State.REFUSED, b"", error=11)
            self.builder.commit()
            made += some
            if at % 4 == 1:
                self.trail.append(
                    "suspension", "ada", {"action": "suspended", "account": "beta", "reason": "abuse"}, "done"
                )


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feed]:
    made = Feed(tmp_path_factory.mktemp("feed"))
    made.fill(9)
    yield made
    made.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Feed]:
    made = Feed(tmp_path)
    yield made
    made.close()


def told(tail: Tail, after: Cursor = BEGIN) -> tuple[list[dict[str, Any]], Cursor]:
    """All lines from a cursor to the end, and where that is."""
    lines: list[dict[str, Any]] = []
    tail.look()
    while True:
        page = tail.page(after)
        lines += [json.loads(line.data) for line in page.lines]
        assert all(cursor_of(line.data) == line.cursor for line in page.lines)
        if page.cursor == after or not (page.more or page.lines):
            return lines, page.cursor
        after = page.cursor


def keys(lines: list[dict[str, Any]]) -> list[str]:
    return [line["key"] for line in lines]


def test_all_is_told_once_in_order(feed: Feed) -> None:
    lines, end = told(feed.tail(feed.memory()))
    names = [line["event"] for line in lines if line["key"][0] != "a"]
    assert len(set(keys(lines))) == len(lines)
    assert (names.count("accepted"), names.count("refused"), names.count("submitted")) == (15, 3, 16)
    assert [line["event"] for line in lines if line["key"][0] == "a"] == ["suspended"] * 2
    cursors = [Cursor.parse(line["cursor"]) for line in lines]
    assert all(one.log <= two.log and one.trail <= two.trail and one != two for one, two in pairwise(cursors))
    refused = next(line for line in lines if line["event"] == "refused")
    assert (refused["account"], refused["error"], refused["state"]) == ("acme", 11, "REFUSED")
    sent = next(line for line in lines if line["event"] == "submitted")
    assert (sent["upstream"], sent["upstream_id"], sent["v"]) == ("carrier-a", "up", 1)
    assert told(feed.tail(feed.memory()), end) == ([], end)


@settings(max_examples=30, deadline=None)
@given(at=st.integers(0, 100), rows=st.integers(1, 5), octets=st.sampled_from([1, 400, 1 << 20]))
def test_whoever_goes_on_from_a_cursor_misses_and_repeats_nothing(feed: Feed, at: int, rows: int, octets: int) -> None:
    lines, _end = told(feed.tail(feed.memory()))
    at %= len(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAGE_ROWS", rows)
        patch.setattr(module, "PAGE_OCTETS", octets)
        rest, _end = told(feed.tail(feed.memory()), Cursor.parse(lines[at]["cursor"]))
    assert sorted(keys(lines[: at + 1]) + keys(rest)) == sorted(keys(lines))


def test_readers_share_a_tail_and_each_gets_all(feed: Feed) -> None:
    tail = feed.tail(feed.memory())
    assert keys(told(tail)[0]) == keys(told(tail)[0]) == keys(told(feed.tail(feed.memory()))[0])


def test_what_comes_later_is_told_then(fresh: Feed) -> None:
    fresh.fill(2)
    memory = fresh.memory()
    tail = fresh.tail(memory)
    lines, end = told(tail)
    assert tail.behind(end) == 0.0
    fresh.fill(1)
    memory.log = fresh.memory().log
    fresh.now += 5
    tail.look()
    assert tail.behind(end) == pytest.approx(0.0, abs=0.01), "it is as old as the clock is"
    fresh.builder.now += 7
    assert tail.behind(end) == pytest.approx(7.0, abs=0.01)
    more, later = told(tail, end)
    assert len(more) == 2 and later > end and tail.behind(later) == 0.0
    whole = told(fresh.tail(memory))[0]
    assert sorted(keys(lines) + keys(more)) == sorted(keys(whole))


def test_the_end_is_where_nothing_follows(feed: Feed) -> None:
    memory = feed.memory()
    tail = feed.tail(memory)
    assert told(tail, tail.end())[0] == []
    assert told(tail)[1] == tail.end()


def test_the_end_is_no_gap_where_the_trail_has_grown_since_the_last_look(fresh: Feed) -> None:
    fresh.fill(1)
    tail = fresh.tail(fresh.memory())
    tail.look()
    fresh.trail.append("suspension", "ada", {"action": "suspended", "account": "beta", "reason": "abuse"}, "done")
    assert told(tail, tail.end())[0] == []


def test_entries_that_came_since_the_last_look_at_the_trail_are_told_once(fresh: Feed) -> None:
    fresh.fill(2)
    tail = fresh.tail(fresh.memory())
    tail.look()
    fresh.trail.append("suspension", "ada", {"action": "suspended", "account": "acme", "reason": "abuse"}, "done")
    lines, end = told(tail)
    assert [line["event"] for line in lines if line["key"][0] in "ag"] == ["suspended", "suspended"], "and no gap"
    fresh.now += module.TRAIL_LOOK
    assert told(tail, end)[0] == [], "none again"


def test_the_end_of_an_empty_log(fresh: Feed) -> None:
    memory = fresh.memory()
    end = fresh.tail(memory).end()
    assert end == Cursor()
    fresh.fill(1)
    memory.log = fresh.memory().log
    assert len(told(fresh.tail(memory), end)[0]) == 2


@pytest.mark.parametrize("masked", [False, True])
def test_numbers_are_masked_or_not_told(fresh: Feed, masked: bool) -> None:
    record = fresh.builder.record(b"secret text", source=b"447700900001", destination=b"447700900123")
    fresh.builder.commit()
    fresh.builder.event(record, State.DELIVERED)
    fresh.builder.commit()
    lines, _end = told(fresh.tail(fresh.memory(), masked=masked))
    assert len(lines) == 2
    for line in lines:
        assert ("from" in line) is masked and "text" not in line
        assert "900123" not in json.dumps(line)
        if masked:
            assert (line["from"], line["to"]) == ("44770***0001", "+44770***0123")
    lonely = fresh.tail(fresh.memory(), masked=masked).page(Cursor.parse(lines[0]["cursor"]))
    assert json.loads(lonely.lines[0].data)["account"] == "acme", "whose it is is read from its record"


def test_masked_numbers_are_forgotten_once_they_are_erased(fresh: Feed) -> None:
    record = fresh.builder.record(b"secret text", source=b"447700900001", destination=b"447700900123")
    fresh.builder.commit()
    fresh.builder.event(record, State.SUBMITTED)
    fresh.builder.commit()
    memory = fresh.memory()
    tail = fresh.tail(memory, masked=True)
    lines, end = told(tail)
    assert lines[-1]["to"] == "+44770***0123"
    row = memory.log[min(memory.log)]
    memory.log[row.seq] = row._replace(records=erase(row.records))
    fresh.builder.event(record, State.DELIVERED)
    fresh.builder.commit()
    newest = max(fresh.memory().log)
    memory.log[newest] = fresh.memory().log[newest]
    fresh.now += module.FORGET
    (line,), _end = told(tail, end)
    assert line["event"] == "receipt" and "to" not in line and line["account"] == "acme"
    again = told(tail)[0]
    assert len(again) == 3 and not [one for one in again if "to" in one], "nor to those who come later"


def test_masked_numbers_are_forgotten_once_their_key_is_destroyed(fresh: Feed) -> None:
    fresh.builder.record(b"secret text", source=b"447700900001", destination=b"447700900123")
    fresh.builder.commit()
    memory = fresh.memory()
    tail = fresh.tail(memory, masked=True)
    assert "to" in told(tail)[0][0]
    for scope, _wrapped in list(memory.keys.scan(b"")):
        memory.keys.delete(scope)
    fresh.now += module.FORGET
    (line,), _end = told(tail)
    assert line["event"] == "accepted" and "to" not in line and "from" not in line


def test_filters(feed: Feed) -> None:
    wanted = Wanted(frozenset({"beta"}), frozenset({"accepted", "suspended"}))
    lines, end = told(feed.tail(feed.memory(), wanted))
    assert {line["account"] for line in lines} == {"beta"}
    assert [line["event"] for line in lines].count("accepted") == 9
    assert end == told(feed.tail(feed.memory()))[1], "one gets on where nothing is told"


def without(row: LogRow, gone: set[int]) -> LogRow:
    packed = list(iter_records(row.records))
    left = b"".join(one for at, one in enumerate(packed) if at not in gone)
    return row._replace(records=left, digests=pack_purged({at: verify_digest(packed[at]) for at in gone}))


def test_rows_that_were_purged_are_a_gap(feed: Feed) -> None:
    memory = feed.memory()
    lines, _end = told(feed.tail(memory))
    rows = sorted(memory.log)
    memory.trim((rows[3], memory.log[rows[3]].chain), rows[4], 0, 10)
    after = Cursor.parse(lines[2]["cursor"])
    rest, _end = told(feed.tail(memory), after)
    (gap,) = [line for line in rest if line["event"] == "gap"]
    assert (gap["reason"], Cursor.parse(gap["from"]).log, gap["to"]) == ("purged", after.log, gap["cursor"])
    assert Cursor.parse(gap["to"]).log == Place(rows[3] + 1)
    kept = [line for line in lines if line["key"][0] != "a" and Cursor.parse(line["cursor"]).log.seq > rows[3]]
    assert [line["key"] for line in rest if line["key"][0] not in "ga"] == keys(kept)
    assert not [line for line in told(feed.tail(memory))[0] if line["event"] == "gap"], "from the oldest there is none"


def test_a_record_that_was_purged_from_its_row_is_a_gap(feed: Feed) -> None:
    memory = feed.memory()
    lines, _end = told(feed.tail(memory))
    first = min(memory.log)
    memory.log[first] = without(memory.log[first], {1})
    after, _end = told(feed.tail(memory))
    gaps = [line for line in after if line["event"] == "gap"]
    assert [Cursor.parse(one["cursor"]).log for one in gaps] == [Place(first, 2)]
    assert set(keys(lines)) - set(keys(after)) == {f"{Place(first, 2)}"}


def test_a_store_that_was_put_back_is_a_gap(feed: Feed) -> None:
    memory = feed.memory()
    _lines, end = told(feed.tail(memory))
    rows = sorted(memory.log)
    for seq in rows[-2:]:
        del memory.log[seq]
    back, later = told(feed.tail(memory), end)
    assert [(line["event"], line["reason"]) for line in back] == [("gap", "restored")]
    assert later.log <= Place(rows[-3] + 1)
    memory = feed.memory()
    del memory.log[rows[-2]]
    (gap, *rest), later = told(feed.tail(memory), end._replace(log=Place(rows[-2], 1)))
    assert (gap["reason"], gap["cursor"]) == ("restored", f"{Place(rows[-1])}.{end.trail}"), "also once there is more"
    assert {line["event"] for line in rest} > {"accepted"} and later == end


def test_a_row_that_was_altered_stops_nothing(feed: Feed) -> None:
    memory = feed.memory()
    whole, _end = told(feed.tail(memory))
    rows = sorted(memory.log)
    memory.log[rows[1]] = memory.log[rows[1]]._replace(records=b"garbage")
    lines, _end = told(feed.tail(memory))
    assert [line["reason"] for line in lines if line["event"] == "gap"] == ["damaged"]
    assert keys(lines)[-1] == keys(whole)[-1]


def test_a_cursor_beyond_a_rows_end_confuses_no_other_reader(feed: Feed) -> None:
    tail = feed.tail(feed.memory())
    end = tail.end()
    assert tail.page(end).lines == () and tail.behind(end) == 0.0
    beyond = end._replace(log=Place(end.log.seq, end.log.taken + 7))
    assert tail.page(beyond).cursor == end
    feed.builder.now += 100
    assert tail.behind(end) == 0.0


def test_opt_outs_by_command_and_by_word(fresh: Feed) -> None:
    trail = fresh.trail
    trail.append("opt out", "ada", {"action": "add", "account": "acme"}, "asked")
    trail.append("opt out", "ada", {"action": "add", "account": "acme"}, "done")
    trail.append("opt out", "smppd", {"action": "stop", "account": "acme", "word": "stop"}, "done")
    trail.append("opt out", "ada", {"action": "review", "suppress": "07", "dismiss": ""}, "asked")
    trail.append("opt out", "ada", {"action": "review", "account": "beta", "suppress": "07", "dismiss": ""}, "done")
    trail.append("opt out", "ada", {"action": "review", "account": "beta", "suppress": "", "dismiss": "08"}, "done")
    trail.append("suspension", "ada", {"action": "lifted", "account": "acme", "reason": "paid"}, "done")
    trail.append("show", "ada", {"action": "add", "account": "acme"}, "done")
    for act, target, result in (
        ("suspend", "acme", "done"),
        ("resume", "account:acme", "done"),
        ("suspend", "beta", "failed"),
        ("pause", "carrier-a", "done"),
    ):
        trail.append("act", "ada", {"act": act, "target": target, "reason": "why"}, result)
    said = fresh.builder.record(b"STOP")
    fresh.builder.event(said, State.OPTED_OUT, b"")
    fresh.builder.event(fresh.builder.new_id(), State.OPTED_IN, b"beta")
    fresh.builder.commit()
    lines, _end = told(fresh.tail(fresh.memory()))
    assert [(line["event"], line["account"]) for line in lines] == [
        ("opted_out", "acme"),
        ("opted_out", "beta"),
        ("resumed", "acme"),
        ("suspended", "acme"),
        ("resumed", "acme"),
        ("accepted", "acme"),
        ("opted_out", "acme"),
        ("opted_in", "beta"),
    ]
    assert "upstream" not in lines[-1]


def test_every_state_has_a_name() -> None:
    assert set(BY_STATE) == set(State)
    assert set(OF_TRAIL) <= set(EVENTS)


@given(st.integers(0, (1 << 63) - 1), st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1))
def test_cursors_are_read_back(seq: int, taken: int, trail: int) -> None:
    cursor = Cursor(Place(seq, taken), trail)
    assert Cursor.parse(str(cursor)) == cursor


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda octets: octets.decode("latin-1")))
def test_anything_else_is_no_cursor(text: str) -> None:
    try:
        assert str(Cursor.parse(text)) == text
    except BadPlace:
        pass
    assert cursor_of(text.encode()) is None
