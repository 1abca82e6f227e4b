"""The log, message by message: the state that is known, by cursors that skip and repeat nothing, whatever is purged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smppd.ids import id_time
from smppd.message import Event, State
from smppd.records.indexer import Indexer
from smppd.records.log_export import Exported, LogExport, life_of
from smppd.records.lookup import LogReader
from smppd.records.places import BadPlace, Place
from smppd.records.vouch import Voucher
from smppd.store.log import LogRow, Records, pack_purged
from smppd.vault.mask import mask_number
from smppd.vault.seal import iter_records, verify_digest
from tests.records.memorylog import MemoryLog
from tests.store.builder import DAY, Builder
from tests.store.houses import House

BEGIN = Place()


@pytest.fixture
def log(house: House) -> Iterator[Builder]:
    builder = Builder(house, sealed=True)
    yield builder
    builder.close()


def export(log: Builder, records: Records, *, stretch: int = 20_000, account: str = "") -> LogExport:
    reader = LogReader(records, log.kek, log.keys)
    voucher = Voucher(records, log.keys)
    return LogExport(
        reader.records, reader.ring, reader.held, voucher, lambda one: account in ("", one), stretch=stretch
    )


def messages(
    log: Builder, *, after: Place = BEGIN, since: float = 0.0, until: float = float("inf"), stretch: int = 20_000
) -> tuple[list[Exported], Place]:
    records = log.place.records()
    try:
        one = export(log, records, stretch=stretch)
        found = list(one.messages(after, since, until))
        assert not one.damaged
        return found, one.cursor
    finally:
        records.close()


def ids(found: list[Exported]) -> list[int]:
    return [one.record.header.record_id for one in found]


def day(log: Builder, hours: int = 4) -> list[int]:
    """Messages of some hours; what happens to them is in later rows."""
    made: list[int] = []
    for _ in range(hours):
        log.now += 3600
        some = [log.record(b"text %d" % at) for at in range(3)]
        log.commit()
        for at, one in enumerate(some):
            log.event(one, State.SUBMITTED, b"carrier-a\0up-%d" % at)
        log.commit()
        made += some
    for one in made[::2]:
        log.event(one, State.DELIVERED)
        log.event(one, State.RECEIPT_DONE, b"")
    log.commit()
    return made


def index(log: Builder) -> None:
    rows = log.place.index()
    indexer = Indexer(rows, id_time, run=5, fan=2)
    while indexer.step():
        pass
    rows.close()


@pytest.mark.parametrize("indexed", ["no", "partly", "all"])
@pytest.mark.parametrize("stretch", [1, 4, 20_000])
def test_each_message_once_in_its_state(log: Builder, indexed: str, stretch: int) -> None:
    made = day(log)
    if indexed == "partly":
        index(log)
    made += day(log)
    if indexed == "all":
        index(log)
    found, cursor = messages(log, stretch=stretch)
    assert ids(found) == made
    states = [State(one.life.state) for one in found]
    assert states == [State.DELIVERED, State.SUBMITTED] * (len(made) // 2)
    first = found[0].life
    assert first.submitted and first.final > first.submitted and first.acknowledged == first.final
    assert (first.upstream, first.upstream_id, first.tries, first.duplicate) == ("carrier-a", b"up-0", 1, False)
    assert found[1].life.final == 0 and found[1].record.numbers is not None and found[1].record.body is None
    assert messages(log, after=cursor)[0] == [], "nothing is behind the end"


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 40), max_size=6))
def test_exports_that_go_on_from_cursors_give_each_once(shared: tuple[Builder, list[int]], cuts: list[int]) -> None:
    log, made = shared
    every, _end = messages(log)
    places = [Place(), *sorted(every[cut % len(every)].place for cut in cuts)]
    parts: list[int] = []
    for at, place in enumerate(places):
        found, _cursor = messages(log, after=place, stretch=5)
        upto = places[at + 1] if at + 1 < len(places) else None
        parts += [one.record.header.record_id for one in found if upto is None or one.place <= upto]
    assert parts == made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Builder, list[int]]]:
    builder = Builder(tmp_path_factory.mktemp("log"), sealed=True)
    yield builder, day(builder, 10)
    builder.close()


def test_until_stops_at_the_first_younger_one_and_the_next_goes_on_with_it(log: Builder) -> None:
    made = day(log, 6)
    begun = log.now
    until = begun - 2.5 * 3600
    found, cursor = messages(log, until=until)
    assert ids(found) == made[:9]
    rest, _end = messages(log, after=cursor)
    assert ids(rest) == made[9:]
    late = log.record(b"late")
    log.commit()
    assert ids(messages(log, after=_end)[0]) == [late]


def test_since_begins_where_the_extents_say(log: Builder) -> None:
    made = day(log, 6)
    index(log)
    since = log.now - 2.5 * 3600
    assert ids(messages(log, since=since)[0]) == made[9:]
    log.now -= DAY  # the clock was set back: what is accepted now is older than what was before
    older = log.record(b"older")
    log.commit()
    assert older not in ids(messages(log, since=since)[0])
    assert older in ids(messages(log)[0])


def test_what_was_altered_is_left_out_and_told(log: Builder) -> None:
    made = day(log, 2)
    records = log.place.records()
    memory = MemoryLog.copied(records, lambda signed: log.keys.read(signed).seq)
    records.close()
    first = min(memory.log)
    row = memory.log[first]
    memory.log[first] = row._replace(records=row.records[:-1] + bytes((row.records[-1] ^ 1,)))
    one = export(log, memory)
    assert ids(list(one.messages(Place(), 0.0, float("inf")))) == made[3:]
    assert one.damaged == [first]


def without(row: LogRow, gone: set[int]) -> LogRow:
    packed = list(iter_records(row.records))
    left = b"".join(one for at, one in enumerate(packed) if at not in gone)
    return row._replace(records=left, digests=pack_purged({at: verify_digest(packed[at]) for at in gone}))


def test_places_outlive_a_purge(log: Builder) -> None:
    made = day(log, 3)
    records = log.place.records()
    memory = MemoryLog.copied(records, lambda signed: log.keys.read(signed).seq)
    records.close()
    every = {one.record.header.record_id: one.place for one in export(log, memory).messages(Place(), 0, 1e12)}
    first = min(memory.log)
    memory.log[first] = without(memory.log[first], {0, 1})
    left = {one.record.header.record_id: one.place for one in export(log, memory).messages(Place(), 0, 1e12)}
    assert left == {one: every[one] for one in made[2:]}
    one = export(log, memory)
    assert ids(list(one.messages(Place(), 0, 1e12))) == made[2:] and one.purged == 0, "it began with what is there"
    one = export(log, memory)
    assert ids(list(one.messages(every[made[0]], 0, 1e12))) == made[2:] and one.purged == 1, (
        "the second was never exported"
    )
    one = export(log, memory)
    assert next(one.messages(every[made[1]], 0, 1e12)).place == every[made[2]] and one.purged == 0
    rows = sorted(memory.log)
    memory.trim((rows[2], memory.log[rows[2]].chain), rows[3], 0, 10)
    one = export(log, memory)
    after = every[made[0]]
    assert ids(list(one.messages(after, 0, 1e12))) == made[6:]
    assert one.missed == (after, Place(rows[2] + 1)), "never silently"


def test_only_an_account(log: Builder) -> None:
    log.record(b"one")
    mine = log.record(b"two", account="beta")
    log.commit()
    records = log.place.records()
    assert ids(list(export(log, records, account="beta").messages(Place(), 0, 1e12))) == [mine]
    records.close()


def event(state: State, time: int, **more: object) -> Event:
    return Event(1, time, state, **more)  # type: ignore[arg-type]


def test_lives() -> None:
    unknown = [event(State.SUBMITTED, 1, upstream="a"), event(State.UNKNOWN, 2), event(State.DELIVERED, 9)]
    assert (life_of(unknown, False).state, life_of(unknown, False).final) == (State.DELIVERED, 9)
    resent = [event(State.UNANSWERED, 1, upstream="a"), event(State.RESENT, 2, duplicate=True, upstream="b")]
    life = life_of(resent, False)
    assert (life.tries, life.duplicate, life.upstream, life.final) == (2, True, "b", 0)
    refused = life_of([event(State.REFUSED, 5, error=0x0B)], False)
    assert (refused.state, refused.final, refused.error, refused.tries) == (State.REFUSED, 5, 11, 0)
    stop = [event(State.ACCEPTED, 1, upstream="a"), event(State.OPTED_OUT, 1), event(State.RECEIPT_DONE, 3)]
    assert (life_of(stop, True).state, life_of(stop, True).acknowledged, life_of(stop, True).tries) == (6, 3, 0)
    assert life_of([], False).state == State.STORED


@given(st.integers(0, (1 << 63) - 1), st.integers(0, 10**9 - 1))
def test_places_are_read_back(seq: int, taken: int) -> None:
    assert Place.parse(str(Place(seq, taken))) == Place(seq, taken)


@pytest.mark.parametrize(
    "text", ["", "1", "0ca8a21246000000", "0CA8A21246000000-1", "ffffffffffffffff-1", "0ca8a21246000000-1x"]
)
def test_other_texts_are_no_places(text: str) -> None:
    with pytest.raises(BadPlace, match="a cursor is"):
        Place.parse(text)


def test_nothing_shows_a_number(log: Builder) -> None:
    log.record(b"hello")
    log.commit()
    found, _cursor = messages(log)
    assert "447700" not in repr(found) and "***" in mask_number(b"447700900123")
