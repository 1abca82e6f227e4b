"""What ``store.api`` says, held against every store there is: the same tests on each, and random sequences on all at once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from smppd.message import State, pack_event
from smppd.store.api import Availability, ColdRow, Damaged, Doubt, Kind, OptOut
from smppd.store.sqlite.keys import KeyStore, PendingKeys
from smppd.vault.keys import KeyRows
from smppd.vault.seal import SECRETS_BYTES
from tests.store.stands import COUNTER, STANDS, Stand, beside, rotate
from tests.vault.rows import MemoryRows, some

SOON, LATE = 1_000, 1 << 31


@pytest.fixture(params=sorted(STANDS))
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    made = STANDS[request.param](tmp_path)
    yield made
    made.ends()


def row(
    identity: int,
    key: bytes = b"",
    *,
    kind: Kind = Kind.QUEUE,
    owner: str = "acme",
    expires: int = LATE,
    data: bytes = b"payload",
) -> ColdRow:
    return ColdRow(kind, owner, key, identity, expires, data)


def place(one: ColdRow) -> tuple[int, str, bytes, int]:
    """What a row is dropped by."""
    return one.kind, one.owner, one.key, one.id


def item(number: int = 1) -> Damaged:
    return Damaged("frame", "acme", number, "receipt", "ValueError", 1, LATE, b"damaged")


def state(stand: Stand) -> Availability:
    return stand.store.availability


def takes(stand: Stand) -> bool:
    return stand.store.takes


def page(stand: Stand, kind: Kind = Kind.QUEUE, owner: str = "acme", after: int = 0, limit: int = 100) -> list[ColdRow]:
    return stand.asks("page", kind, owner, after, limit)


def fill(stand: Stand, seq: int = 1 << 40) -> None:
    """Something of everything that a batch may hold. seq: an id that no batch had."""
    batch = stand.store.batch
    batch.seq = seq
    batch.records.append(some("record", 64))
    batch.secrets.append(some("secrets", SECRETS_BYTES))
    batch.events.append(pack_event(1 << 40, 1, State.SUBMITTED))
    batch.accepts.append(b"accept;")
    batch.marks.append(b"mark;")
    batch.put.append(row(1))
    batch.moves.append(row(2, b"up-2", kind=Kind.WAITING))
    batch.meta.append(("number", 7))
    batch.damaged.append(item())


def whole(stand: Stand) -> bool:
    """Whether all that ``fill`` put into a batch is there; False when nothing of it is. After a start."""
    there = [
        bool(stand.blocks),
        bool(stand.counted.get((Kind.QUEUE, "acme"))),
        bool(stand.counted.get((Kind.WAITING, "acme"))),
        stand.store.meta("number", 0) == 7,
        stand.store.damaged == 1,
        stand.store.highest_id() >= 1 << 40,
    ]
    assert len(set(there)) == 1, there
    assert [block for _, block in stand.blocks] == [b"accept;mark;"] * there[0]
    return there[0]


# -- batches -------------------------------------------------------------------------------------------------------------


def test_a_batch_becomes_durable_as_one(stand: Stand) -> None:
    fill(stand)
    stand.commits()
    stand.starts()
    assert whole(stand)
    assert page(stand) == [row(1)]
    assert stand.asks("find", Kind.WAITING, "acme", [b"up-2"]) == [row(2, b"up-2", kind=Kind.WAITING)]


def test_what_was_not_committed_is_gone_with_the_process(stand: Stand) -> None:
    fill(stand)
    stand.starts()
    assert not whole(stand) and page(stand) == []


@pytest.mark.parametrize("durable", [True, False])
def test_of_a_batch_under_way_at_the_kill_all_is_there_or_nothing(stand: Stand, durable: bool) -> None:
    fill(stand)
    stand.hands_over()
    stand.store.batch.marks.append(b"the next batch")
    stand.dies(durable)
    assert whole(stand) is durable
    fill(stand, 2 << 40)
    stand.commits()
    assert len(page(stand)) == 1


def test_exactly_one_word_is_heard_of_each_batch(stand: Stand) -> None:
    ended = []
    for number in range(5):
        batch = stand.store.batch
        batch.marks.append(b"%d" % number)
        batch.then.append(lambda number=number: ended.append(number))  # type: ignore[misc]
        stand.hands_over()
        assert stand.store.batch is not batch and not stand.store.batch, "what comes now is the next one"
        assert stand.sink.of(batch) == []
        stand.commits()
        assert stand.sink.of(batch) == ["committed"]
    assert ended == [0, 1, 2, 3, 4]
    assert [word for word, _ in stand.sink.heard] == ["committed"] * 5


def test_without_space_nothing_is_stored_and_what_has_happened_is_tried_again(stand: Stand) -> None:
    stand.store.batch.marks.append(b"first;")
    stand.commits()
    stand.fills()
    refused = stand.store.batch
    fill(stand)
    refused.drop.append(place(row(9)))
    then: list[int] = []
    refused.then.append(lambda: then.append(1))
    refused.accepted.append("message")
    refused.mails.append("mail")
    refused.acks.append("ack")
    refused.released.append("released")
    refused.recorded.append((1 << 40) + 5)
    refused.events.append(pack_event((1 << 40) + 5, 1, State.REFUSED))
    stand.refuses()
    assert stand.sink.of(refused) == ["failed"] and not then
    assert state(stand) is Availability.FULL and not takes(stand)
    assert page(stand) == []
    following = stand.store.batch
    assert following is not refused
    assert following.marks == [b"mark;"] and following.moves == [row(2, b"up-2", kind=Kind.WAITING)]
    assert following.events == refused.events[:1], "those of its own records are lost with them"
    assert following.drop == [place(row(9))]
    assert following.meta == [("number", 7)] and following.damaged == [item()]
    assert following.released == ["released"] and len(following.then) == 1
    assert not (following.accepts or following.put or following.records or following.secrets)
    assert not (following.accepted or following.mails or following.acks)
    assert refused.accepted == ["message"] and refused.acks == ["ack"] and refused.mails == ["mail"], "to be answered"
    stand.frees()
    stand.store.watch()
    stand.commits()
    assert state(stand) is Availability.OK and takes(stand) and then == [1]
    stand.starts()
    assert [block for _, block in stand.blocks] == [b"first;", b"mark;"]
    assert stand.counted == {(Kind.WAITING, "acme"): 1}
    assert stand.store.meta("number", 0) == 7 and stand.store.damaged == 1


def test_a_kill_while_there_is_no_space_loses_what_was_refused(stand: Stand) -> None:
    stand.store.batch.marks.append(b"first;")
    stand.commits()
    stand.fills()
    stand.store.batch.marks.append(b"second;")
    stand.refuses()
    stand.frees()
    stand.starts()
    assert [block for _, block in stand.blocks] == [b"first;"]


def test_where_nothing_was_refused_a_look_says_that_there_is_space_again(stand: Stand) -> None:
    stand.fills()
    stand.store.watch()
    assert state(stand) is Availability.FULL
    stand.frees()
    assert not takes(stand), "as of the last look"
    stand.store.watch()
    assert takes(stand)


def test_secrets_that_are_given_ahead_are_given_once(stand: Stand) -> None:
    used: list[bytes] = []
    for number in range(30):
        for _ in range(1 + number % 3):
            batch = stand.store.batch
            secrets = some(f"secrets {len(used)}", SECRETS_BYTES)
            batch.records.append(some("record", 64))
            batch.secrets.append(secrets)
            used.append(secrets)
        stand.commits()
    assert len(set(used)) == len(used) and {len(one) for one in used} == {SECRETS_BYTES}


# -- rows ----------------------------------------------------------------------------------------------------------------


def test_pages_are_in_the_order_of_ids(stand: Stand) -> None:
    stand.store.batch.put += [row(one) for one in (5, 3, 1, 4, 2)]
    stand.store.batch.put += [row(6, b"key"), row(7, owner="beta"), row(8, kind=Kind.MAIL)]
    stand.commits()
    assert [one.id for one in page(stand)] == [1, 2, 3, 4, 5]
    assert [one.id for one in page(stand, after=2, limit=2)] == [3, 4]
    assert [one.id for one in page(stand, after=4, limit=2)] == [5]
    assert page(stand, after=5) == page(stand, owner="nobody") == []
    assert [one.id for one in page(stand, owner="beta")] == [7]
    assert [one.id for one in page(stand, Kind.MAIL)] == [8]
    assert page(stand) == page(stand), "whoever asks again is given them again"


def test_rows_are_found_by_their_keys(stand: Stand) -> None:
    rows = [row(one, b"up-%d" % (one % 3), kind=Kind.WAITING, owner="a") for one in range(1, 7)]
    stand.store.batch.moves += rows
    stand.store.batch.moves.append(row(9, b"up-1", kind=Kind.WAITING, owner="b"))
    stand.commits()
    assert sorted(stand.asks("find", Kind.WAITING, "a", [b"up-1", b"up-2", b"none"])) == sorted(
        one for one in rows if one.id % 3
    )
    assert stand.asks("find", Kind.WAITING, "a", [b"none"]) == []
    assert [one.id for one in stand.asks("find", Kind.WAITING, "b", [b"up-1"])] == [9]


def test_some_hundreds_are_found_under_one_key_and_no_more(stand: Stand) -> None:
    stand.store.batch.moves += [row(one, b"same", kind=Kind.WAITING) for one in range(1, 600)]
    stand.commits()
    found = stand.asks("find", Kind.WAITING, "acme", [b"same"])
    assert 100 < len(found) < 599 and len({one.id for one in found}) == len(found)


def test_what_expired_first_comes_first(stand: Stand) -> None:
    for one, expires in ((1, 50), (2, 30), (3, 40), (4, 60), (5, 10)):
        stand.store.batch.put.append(row(one, b"up" * (one % 2), expires=expires))
    stand.store.batch.put.append(row(6, kind=Kind.MAIL, expires=5))
    stand.commits()
    assert [one.id for one in stand.asks("expired", Kind.QUEUE, 50, 10)] == [5, 2, 3]
    assert [one.id for one in stand.asks("expired", Kind.QUEUE, 100, 2)] == [5, 2]
    assert stand.asks("expired", Kind.QUEUE, 10, 10) == []


def test_rows_that_are_not_durable_are_in_no_answer(stand: Stand) -> None:
    stand.store.batch.put.append(row(1))
    assert page(stand) == []
    stand.commits()
    stand.store.batch.drop.append(place(row(1)))
    assert page(stand) == [row(1)]
    stand.commits()
    assert page(stand) == []


def test_a_row_that_is_put_again_is_one_row(stand: Stand) -> None:
    stand.store.batch.put.append(row(1, data=b"old"))
    stand.store.batch.moves.append(row(1, data=b"newer"))
    stand.commits()
    assert [one.data for one in page(stand)] == [b"newer"]
    stand.store.batch.put.append(row(1, data=b"newest", expires=SOON))
    stand.commits()
    assert page(stand) == [row(1, data=b"newest", expires=SOON)]
    stand.starts()
    assert stand.counted == {(Kind.QUEUE, "acme"): 1}


def test_a_row_that_is_put_and_dropped_in_one_batch_is_gone(stand: Stand) -> None:
    stand.store.batch.drop.append(place(row(1)))
    stand.store.batch.put += [row(1), row(2)]
    stand.store.batch.moves.append(row(3))
    stand.store.batch.drop += [place(row(3)), place(row(99))]
    stand.commits()
    assert [one.id for one in page(stand)] == [2]
    stand.starts()
    assert stand.counted == {(Kind.QUEUE, "acme"): 1}


def test_counts_are_of_each_kind_and_owner(stand: Stand) -> None:
    assert stand.counted == {}
    stand.store.batch.put += [row(1), row(2), row(3, b"key"), row(4, owner="beta"), row(5, kind=Kind.MAIL)]
    stand.commits()
    stand.starts()
    assert stand.counted == {(Kind.QUEUE, "acme"): 3, (Kind.QUEUE, "beta"): 1, (Kind.MAIL, "acme"): 1}
    stand.store.batch.drop.append(place(row(4, owner="beta")))
    stand.commits()
    stand.starts()
    assert stand.counted == {(Kind.QUEUE, "acme"): 3, (Kind.MAIL, "acme"): 1}


# -- rows that nobody holds ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "postgres"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Stand, Stand]]:
    """Two nodes on one store."""
    one = STANDS[request.param](tmp_path)
    other = beside(one)
    yield one, other
    other.ends()
    one.ends()


def shared(identity: int, key: bytes = b"", **about: Any) -> ColdRow:
    return row(identity, key, **about)._replace(shared=True)


def unheld(stand: Stand) -> dict[tuple[int, str], int]:
    found: Any = stand.asks("unheld")
    return dict(found)


def claim(stand: Stand, ids: list[int] | None = None, limit: int = 100, owner: str = "acme") -> list[int]:
    return [one.id for one in stand.asks("claim", Kind.QUEUE, owner, ids, limit)]


def ids(rows: list[ColdRow]) -> list[int]:
    return [one.id for one in rows]


def test_a_shared_row_is_nobodys_until_one_claims_it(pair: tuple[Stand, Stand]) -> None:
    one, other = pair
    one.store.batch.put += [shared(number) for number in (3, 1, 2)]
    one.store.batch.moves += [shared(4, owner="beta"), row(5)]
    one.commits()
    assert unheld(one) == unheld(other) == {(Kind.QUEUE, "acme"): 3, (Kind.QUEUE, "beta"): 1}
    assert ids(page(one)) == [5] and page(other) == [], "what nobody holds is on nobody's page"
    for stand in pair:
        assert stand.asks("peek", Kind.QUEUE, "acme", 0, 2) == [row(1), row(2)]
        assert ids(stand.asks("peek", Kind.QUEUE, "acme", 1, 9)) == [2, 3]
    assert claim(other, limit=2) == [1, 2], "the oldest"
    assert claim(one) == [3] and claim(one) == claim(other) == []
    assert ids(page(other)) == [1, 2] and ids(page(one)) == [3, 5]
    assert unheld(one) == {(Kind.QUEUE, "beta"): 1}
    other.starts()
    assert other.counted == {(Kind.QUEUE, "acme"): 2}, "its own, and not forgotten with the process"
    other.store.batch.drop += [place(row(1)), place(row(2))]
    other.commits()
    assert page(other) == []


def test_some_are_claimed_by_their_ids(pair: tuple[Stand, Stand]) -> None:
    one, other = pair
    one.store.batch.put += [shared(number) for number in range(1, 6)]
    one.commits()
    assert claim(other, [4, 2, 9]) == [2, 4]
    assert claim(one, [2, 3, 4]) == [3]
    assert claim(other, [], 9) == []
    assert claim(other, limit=1) == [1]


def test_what_nobody_holds_is_found_and_claimed_by_who_finds_it(pair: tuple[Stand, Stand]) -> None:
    one, other = pair
    one.store.batch.put += [shared(1, b"up-1", kind=Kind.WAITING), row(2, b"up-1", kind=Kind.WAITING)]
    one.commits()
    assert other.asks("find", Kind.WAITING, "acme", [b"up-1"]) == [shared(1, b"up-1", kind=Kind.WAITING)]
    assert ids(one.asks("find", Kind.WAITING, "acme", [b"up-1", b"up-2"])) == [2]
    assert ids(other.asks("find", Kind.WAITING, "acme", [b"up-1"])) == [1], "again, as any of its own"


def test_what_nobody_holds_expires_at_one_of_them(pair: tuple[Stand, Stand]) -> None:
    one, other = pair
    one.store.batch.put += [shared(1, expires=10), row(2, expires=20), shared(3, expires=30), shared(4)]
    one.commits()
    assert ids(other.asks("expired", Kind.QUEUE, 25, 9)) == [1]
    assert ids(one.asks("expired", Kind.QUEUE, 40, 9)) == [2, 3]
    assert ids(other.asks("expired", Kind.QUEUE, 40, 9)) == [1]
    assert unheld(other) == {(Kind.QUEUE, "acme"): 1}


def test_what_is_handed_over_is_nobodys_from_then_on(pair: tuple[Stand, Stand]) -> None:
    one, other = pair
    one.store.batch.put += [row(1), row(2, owner="beta"), row(3, kind=Kind.MAIL)]
    other.store.batch.put.append(row(4))
    for stand in pair:
        stand.commits()
    one.store.batch.put.append(row(5))
    one.store.batch.handed += [(Kind.QUEUE, "acme"), (Kind.QUEUE, "nobody"), (Kind.QUEUE, "acme")]
    one.commits()
    assert unheld(other) == {(Kind.QUEUE, "acme"): 2} and ids(page(other)) == [4]
    assert claim(other) == [1, 5]
    one.starts()
    assert one.counted == {(Kind.QUEUE, "beta"): 1, (Kind.MAIL, "acme"): 1}


def test_a_shared_row_that_is_dropped_or_put_again_by_its_batch(pair: tuple[Stand, Stand]) -> None:
    one, other = pair
    one.store.batch.put += [shared(1), shared(2), row(3)]
    one.store.batch.moves += [row(2, data=b"newer"), shared(3)]
    one.store.batch.drop.append(place(row(1)))
    one.commits()
    assert page(one) == [row(2, data=b"newer")] and claim(other) == [3]
    one.store.batch.put.append(shared(2, data=b"newest"))
    one.commits()
    assert page(one) == [] and other.asks("claim", Kind.QUEUE, "acme", None, 9) == [shared(2, data=b"newest")]
    other.store.batch.put.append(row(2, data=b"own"))
    other.commits()
    assert page(other) == [row(2, data=b"own"), row(3)] and unheld(one) == {}


def test_a_refused_batch_shares_and_hands_over_nothing_yet(stand: Stand) -> None:
    stand.store.batch.put.append(row(1))
    stand.commits()
    stand.fills()
    stand.store.batch.marks.append(b"mark;")
    stand.store.batch.moves.append(shared(2))
    stand.store.batch.handed.append((Kind.QUEUE, "acme"))
    stand.refuses()
    assert stand.store.batch.handed == [(Kind.QUEUE, "acme")] and stand.store.batch.moves == [shared(2)]
    stand.frees()


# -- the journal ---------------------------------------------------------------------------------------------------------


def test_the_journal_is_replayed_in_the_order_of_commitment(stand: Stand) -> None:
    told = []
    for number in range(150):
        if number % 40 == 20:
            rotate(stand)
        stand.tenant.adds(number)
        stand.store.batch.accepts.append(b"accept %d;" % number)
        stand.store.batch.marks.append(b"mark %d;" % number)
        told.append(b"accept %d;mark %d;" % (number, number))
        if number % 7 == 3:
            stand.store.batch.then.append(lambda: None)
        stand.commits()
        if number == 70:
            stand.starts()
    stand.starts()
    assert [block for _, block in stand.blocks] == told
    segments = [segment for segment, _ in stand.blocks]
    assert segments == sorted(segments) and len(set(segments)) == 6
    assert stand.tenant.place > segments[-1]


def test_a_batch_without_entries_is_no_block(stand: Stand) -> None:
    stand.store.batch.put.append(row(1))
    stand.commits()
    stand.store.batch.then.append(lambda: None)
    stand.commits()
    stand.starts()
    assert stand.blocks == []


def test_a_segment_that_is_dropped_takes_its_blocks_along(stand: Stand) -> None:
    segments = []
    for number in range(4):
        segments.append(rotate(stand))
        stand.tenant.adds(number)
        stand.store.batch.marks.append(b"%d" % number)
        stand.commits()
    stand.tenant.ends(0, 1)
    stand.store.tick(0.0)
    stand.store.batch.marks.append(b"4")
    stand.commits()
    stand.starts()
    assert stand.blocks == [(segments[2], b"2"), (segments[3], b"3"), (segments[3], b"4")]


def test_tidying_changes_nothing_that_waits(stand: Stand) -> None:
    rows = [row(one) for one in range(1, 150)]
    stand.store.batch.put += rows
    stand.commits()
    stand.store.batch.drop += [place(one) for one in rows[::2]]
    stand.commits()
    assert stand.tidies()
    stand.store.batch.marks.append(b"mark")
    stand.tenant.adds(1)
    stand.commits()
    assert page(stand) == rows[1::2]
    stand.starts()
    assert page(stand) == rows[1::2] and [block for _, block in stand.blocks] == [b"mark"]
    assert stand.tidies(), "once more"
    stand.starts()
    assert page(stand) == rows[1::2] and stand.blocks == [], "what lives is written anew by whom it belongs to"


# -- numbers -------------------------------------------------------------------------------------------------------------


def test_the_highest_id_is_above_all_that_are_in_the_log(stand: Stand) -> None:
    assert stand.store.highest_id() == 0
    batch = stand.store.batch
    batch.seq = 5 << 40
    for number in range(3):
        batch.records.append(some(f"record {number}", 64))
        batch.secrets.append(some(f"{number}", SECRETS_BYTES))
    stand.commits()
    stand.store.batch.marks.append(b"mark")
    stand.commits()
    stand.starts()
    assert (5 << 40) + 3 <= stand.store.highest_id() < 6 << 40


def test_numbers_are_remembered(stand: Stand) -> None:
    assert stand.store.meta("number", 5) == 5
    stand.store.batch.meta += [("number", 1), ("other", 2), ("number", 3)]
    stand.commits()
    stand.store.batch.meta.append(("other", 0))
    stand.commits()
    stand.starts()
    assert stand.store.meta("number", 5) == 3 and stand.store.meta("other", 5) == 0


def test_reserved_numbers_are_given_once(stand: Stand) -> None:
    given: list[int] = []

    def reserve(count: int) -> None:
        first = stand.store.reserve(COUNTER, count)
        given.extend(range(first, first + count))
        stand.store.batch.marks.append(b"a number is used")

    reserve(10)
    assert given[0] == 0, "a new counter"
    reserve(3)
    stand.commits()
    stand.starts()
    reserve(10)
    reserve(1)
    stand.dies(durable=True)
    reserve(10)
    stand.commits()
    stand.fills()
    reserve(10)
    stand.refuses()
    reserve(5)
    stand.frees()
    stand.store.watch()
    stand.commits()
    stand.starts()
    reserve(1)
    assert len(set(given)) == len(given) == 50 and given == sorted(given)


def test_numbers_of_a_batch_that_was_never_stored_may_be_given_again(stand: Stand) -> None:
    first = stand.store.reserve(COUNTER, 10)
    stand.dies(durable=False)
    assert stand.store.reserve(COUNTER, 10) >= first


# -- what is damaged -----------------------------------------------------------------------------------------------------


def test_what_is_set_aside_is_counted(stand: Stand) -> None:
    assert stand.store.damaged == 0
    stand.store.batch.damaged += [item(1), item(1), item(2)]
    stand.commits()
    assert stand.store.damaged == 3
    stand.store.look_at_damaged()
    page(stand)
    assert stand.store.damaged == 3
    stand.starts()
    assert stand.store.damaged == 3


# -- keys ----------------------------------------------------------------------------------------------------------------


def pending(directory: Path) -> KeyRows:
    return PendingKeys(KeyStore(directory))


KEYS: dict[str, Callable[[Path], KeyRows]] = {
    "memory": lambda _directory: MemoryRows(),
    "sqlite": KeyStore,
    "sqlite of the daemon": pending,
}


@pytest.mark.parametrize("made", sorted(KEYS))
def test_who_puts_a_key_is_given_the_one_that_counts(made: str, tmp_path: Path) -> None:
    keys = KEYS[made](tmp_path)
    assert keys.put_new(b"segment/1", b"first") == b"first"
    assert keys.put_new(b"segment/1", b"second") == b"first" == keys.get(b"segment/1")
    keys.put_new(b"segment/0", b"other")
    keys.put_new(b"period/0", b"other")
    assert list(keys.scan(b"segment/")) == [(b"segment/0", b"other"), (b"segment/1", b"first")]
    keys.delete(b"segment/1")
    keys.delete(b"never there")
    assert keys.get(b"segment/1") is None
    assert keys.put_new(b"segment/1", b"third") == b"third"


# -- all at once ---------------------------------------------------------------------------------------------------------

_KINDS = st.sampled_from([Kind.QUEUE, Kind.WAITING, Kind.MAIL])
_OWNERS = st.sampled_from(["acme", "beta"])
_KEYS = st.sampled_from([b"", b"", b"up-1", b"up-2"])
_IDS = st.integers(1, 6)
_ROWS = st.builds(
    ColdRow, _KINDS, _OWNERS, _KEYS, _IDS, st.integers(0, 9), st.binary(max_size=3), shared=st.just(False)
)


class Stores(RuleBasedStateMachine):
    """Does the same to every store; whatever they are asked, all say the same."""

    @initialize()
    def begins(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.all = [make(Path(self.folder.name) / name) for name, make in sorted(STANDS.items())]
        self.full = self.under_way = False
        self.used = [-1] * len(self.all)
        self.given = [-1] * len(self.all)

    def same(self, ask: Callable[[Stand], object]) -> object:
        answers = [ask(one) for one in self.all]
        assert all(one == answers[0] for one in answers), answers
        return answers[0]

    @rule(rows=st.lists(_ROWS, max_size=4), moves=st.booleans())
    def puts(self, rows: list[ColdRow], moves: bool) -> None:
        for one in self.all:
            (one.store.batch.moves if moves else one.store.batch.put).extend(rows)

    @rule(rows=st.lists(_ROWS, max_size=4))
    def drops(self, rows: list[ColdRow]) -> None:
        for one in self.all:
            one.store.batch.drop.extend(map(place, rows))

    @rule(entry=st.binary(min_size=1, max_size=5), accept=st.booleans())
    def writes(self, entry: bytes, accept: bool) -> None:
        for one in self.all:
            (one.store.batch.accepts if accept else one.store.batch.marks).append(entry)
            one.tenant.adds(len(entry))

    @rule(name=st.sampled_from(["one", "other"]), number=st.integers(0, 1 << 40))
    def remembers(self, name: str, number: int) -> None:
        for one in self.all:
            one.store.batch.meta.append((name, number))

    @rule(count=st.integers(1, 5))
    def reserves(self, count: int) -> None:
        """Which numbers those are each store decides; they are above all that were given and not lost with a batch."""
        for at, one in enumerate(self.all):
            first = one.store.reserve(COUNTER, count)
            assert first > max(self.used[at], self.given[at])
            self.given[at] = first + count - 1
            one.store.batch.marks.append(b"numbered")
            one.tenant.adds(0)

    @rule(number=_IDS)
    def sets_aside(self, number: int) -> None:
        for one in self.all:
            one.store.batch.damaged.append(item(number))

    @rule()
    def rotates(self) -> None:
        for one in self.all:
            rotate(one)

    @rule()
    def all_is_over_in_the_oldest_segment(self) -> None:
        for one in self.all:
            one.tenant.live[one.tenant.places()[0]].clear()
            one.store.tick(0.0)

    @precondition(lambda self: not (self.full or self.under_way))
    @rule()
    def is_handed_over(self) -> None:
        self.under_way = True
        for one in self.all:
            one.hands_over()

    @precondition(lambda self: not self.full)
    @rule()
    def commits(self) -> None:
        self.under_way = False
        for one in self.all:
            one.commits()
            assert not one.store.batch
        self.used = list(self.given)

    @precondition(lambda self: not (self.full or self.under_way))
    @rule()
    def fills(self) -> None:
        self.full = True
        for one in self.all:
            one.fills()

    @precondition(lambda self: self.full)
    @rule()
    def is_refused(self) -> None:
        for one in self.all:
            one.refuses()

    @precondition(lambda self: self.full)
    @rule()
    def frees(self) -> None:
        self.full = False
        for one in self.all:
            one.frees()
            one.store.watch()
            one.commits()

    @precondition(lambda self: not (self.full or self.under_way))
    @rule()
    def tidies(self) -> None:
        for one in self.all:
            one.commits()
            assert one.tidies()
            one.commits()

    @precondition(lambda self: not self.full)
    @rule(how=st.sampled_from(["ends", "killed before", "killed after"]))
    def starts_again(self, how: str) -> None:
        for one in self.all:
            if how == "ends":
                one.commits()
                one.starts()
            else:
                one.dies(durable=how == "killed after")
        self.under_way = False
        self.used = list(self.given) if how == "ends" else self.used
        self.given = list(self.used)
        self.same(lambda one: [block for _, block in one.blocks])
        self.same(lambda one: one.counted)
        self.same(lambda one: one.store.damaged)
        for name in ("one", "other"):
            self.same(lambda one, name=name: one.store.meta(name, -1))  # type: ignore[misc]

    @precondition(lambda self: not self.under_way)
    @rule(kind=_KINDS, owner=_OWNERS, after=_IDS, limit=st.integers(1, 4), now=st.integers(0, 10))
    def asks(self, kind: Kind, owner: str, after: int, limit: int, now: int) -> None:
        self.same(lambda one: page(one, kind, owner, after - 1, limit))
        self.same(lambda one: sorted(one.asks("find", kind, owner, [b"up-1", b"up-2", b""])))
        # In which order rows come that expired together nobody says.
        self.same(lambda one: [found.expires for found in one.asks("expired", kind, now, limit)])
        self.same(lambda one: sorted(one.asks("expired", kind, now, 100)))

    @invariant()
    def all_say_the_same_of_themselves(self) -> None:
        self.same(lambda one: (one.store.takes, one.store.availability, bool(one.store.batch)))

    def teardown(self) -> None:
        for one in getattr(self, "all", []):
            one.ends()
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestStores: Any = Stores.TestCase
TestStores.settings = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


# -- opt-outs ------------------------------------------------------------------------------------------------------------


def opt_out(number: int, *, stands: bool = True) -> OptOut:
    return OptOut(bytes([number]) * 16, "acme", "*", number, "word stop", stands)


def kept(stand: Stand) -> list[int]:
    return [one.at for one in stand.store.opt_outs()]


def test_opt_outs_and_what_waits_for_a_person_come_and_go_with_their_batch(stand: Stand) -> None:
    batch = stand.store.batch
    batch.opt_outs += [opt_out(3), opt_out(1), opt_out(2), opt_out(2, stands=False)]
    batch.doubts += [Doubt(7, bytes(16), "acme", "*", 1), Doubt(8, bytes(16), "acme", "*", 1)]
    stand.commits()
    stand.starts()
    assert kept(stand) == [1, 3] and stand.store.doubts() == 2
    stand.store.batch.opt_outs += [opt_out(1, stands=False), opt_out(2), opt_out(3)]
    stand.store.batch.decided.append(7)
    stand.dies(False)
    assert kept(stand) == [1, 3] and stand.store.doubts() == 2
    stand.store.batch.opt_outs += [opt_out(1, stands=False), opt_out(2)]
    stand.store.batch.decided.append(7)
    stand.dies(True)
    assert kept(stand) == [2, 3] and stand.store.doubts() == 1


def test_without_space_opt_outs_are_dropped_and_not_tried_again(stand: Stand) -> None:
    stand.store.batch.marks.append(b"first;")
    stand.commits()
    stand.fills()
    stand.store.batch.opt_outs.append(opt_out(1))
    stand.store.batch.doubts.append(Doubt(7, bytes(16), "acme", "*", 1))
    stand.refuses()
    stand.frees()
    stand.commits()
    stand.starts()
    assert kept(stand) == [] and stand.store.doubts() == 0
