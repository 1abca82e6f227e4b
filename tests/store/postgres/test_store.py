"""What a start finds, what does not open, tidying, numbers and seals, on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from smppd.store.api import ColdRow, Kind, StoreFull
from smppd.store.aside import Aside, open_item
from smppd.store.cold import Columns, seal_columns
from smppd.store.postgres import store as postgres_store
from smppd.store.postgres.connection import Connection, Row, StoreAway
from smppd.store.postgres.key_rows import PostgresKeys
from smppd.store.postgres.store import PostgresStore
from smppd.store.postgres.tidy import Requests, ask
from smppd.store.seals import TakenUp
from smppd.store.tidy import DONE, TidyThread
from smppd.vault.chain import SealKind
from smppd.vault.keys import KeyRing, rewrap_all, segment_scope
from smppd.vault.seal import SealError
from tests.store.postgres.chained import sealed
from tests.store.stands import COUNTER, PostgresStand, rotate
from tests.store.test_interface import LATE, fill, item, page, place, row
from tests.vault.rows import MemoryRows, kek


@pytest.fixture
def other(stand: PostgresStand) -> Iterator[PostgresStand]:
    """Another node on the same database."""
    made = PostgresStand(Path(), stand.server, node=1)
    yield made
    made.ends()


def values(stand: PostgresStand, query: str) -> list[tuple[object, ...]]:
    db = Connection(stand.server)
    try:
        return db.all(query)
    finally:
        db.close()


def aside(stand: PostgresStand) -> list[bytes | None]:
    """The content of what is set aside; None where it does not open."""
    found: list[bytes | None] = []
    ring = KeyRing(stand._kek, stand.store.keys)
    for *about, data in values(
        stand, 'SELECT kind, owner, id, at, form, "row", segment, data FROM damaged ORDER BY number'
    ):
        try:
            found.append(open_item(ring, Aside(*about), data))  # type: ignore[arg-type]
        except (InvalidTag, SealError):
            found.append(None)
    return found


# -- what does not open ------------------------------------------------------------------------------------------------------


def test_a_block_that_was_altered_is_set_aside_and_the_rest_goes_on(stand: PostgresStand) -> None:
    for number in range(3):
        stand.store.batch.marks.append(b"%d;" % number)
        stand.commits()
    stand.execute("UPDATE journal SET data = overlay(data PLACING '\\x00' FROM 3) WHERE counter = 1")
    stand.starts()
    assert [block for _, block in stand.blocks] == [b"0;", b"2;"] and stand.store.damaged == 1
    assert values(stand, "SELECT kind, place, reason, count(*) FROM damaged GROUP BY 1, 2, 3") == [
        ("block", "spool", "SealError", 1)
    ]
    stand.starts()
    assert [block for _, block in stand.blocks] == [b"0;", b"2;"] and stand.store.damaged == 1


def test_a_block_that_was_moved_does_not_open(stand: PostgresStand) -> None:
    for number in range(2):
        stand.store.batch.marks.append(b"%d;" % number)
        stand.commits()
    stand.execute("UPDATE journal SET counter = 7 WHERE counter = 0")
    stand.starts()
    assert [block for _, block in stand.blocks] == [b"1;"]
    assert aside(stand) == [None]


def test_a_cold_row_that_was_altered_is_set_aside_and_told_once(stand: PostgresStand) -> None:
    told: list[tuple[Kind, str, int, str]] = []
    stand.store.batch.put += [row(one) for one in (1, 2, 3)]
    stand.commits()
    stand.store.on_damage = lambda *about: told.append(about)
    stand.execute("UPDATE cold SET owner = 'beta' WHERE id = 1; UPDATE cold SET data = 'x' WHERE id = 2")
    assert page(stand) == [row(3)] and page(stand, owner="beta") == []
    assert told == [(Kind.QUEUE, "acme", 2, "ValueError"), (Kind.QUEUE, "beta", 1, "InvalidTag")]
    assert stand.store.damaged == 2 and values(stand, "SELECT count(*) FROM cold") == [(1,)]
    stand.starts()
    assert stand.counted == {(Kind.QUEUE, "acme"): 1}


def test_without_space_a_damaged_row_lies_where_it_is_and_is_told_once(stand: PostgresStand) -> None:
    told: list[object] = []
    stand.store.batch.put += [row(one) for one in (1, 2)]
    stand.commits()
    stand.store.on_damage = lambda *about: told.append(about)
    stand.execute(
        "UPDATE cold SET data = 'x' WHERE id = 1; CREATE FUNCTION lacking() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'none' USING ERRCODE = '53100'; END $$;"
        " CREATE TRIGGER lacking BEFORE INSERT ON damaged EXECUTE FUNCTION lacking()"
    )
    assert page(stand) == page(stand) == [row(2)] and len(told) == 1
    stand.execute("DROP TRIGGER lacking ON damaged; DROP FUNCTION lacking")
    assert page(stand) == [row(2)] and len(told) == 1 and stand.store.damaged == 1


def test_rows_of_no_kind_are_set_aside_at_the_start(stand: PostgresStand) -> None:
    stand.store.batch.put += [row(one) for one in (1, 2)]
    stand.commits()
    stand.execute("UPDATE cold SET kind = 77 WHERE id = 1")
    stand.starts()
    assert stand.counted == {(Kind.QUEUE, "acme"): 1} and stand.store.damaged == 1


def test_a_number_that_is_none_is_set_aside(stand: PostgresStand) -> None:
    stand.execute("INSERT INTO meta VALUES (0, 'number', -5), (1, 'other', 9)")
    stand.starts()
    assert stand.store.meta("number", 3, 4) == 4 and stand.store.meta("number", 3) == 3
    assert stand.store.meta("other", 2) == 2, "another node's"
    assert aside(stand) == [b"-5"]


def test_what_a_batch_sets_aside_opens(stand: PostgresStand) -> None:
    stand.store.batch.damaged.append(item())
    stand.commits()
    assert aside(stand) == [b"damaged"]
    stand.store.batch.put.append(row(1, data=b"payload"))
    stand.commits()
    stand.execute("UPDATE cold SET expires = expires")
    stand.starts()
    assert aside(stand) == [b"damaged"] and page(stand) == [row(1)]


def test_what_others_removed_is_counted_anew(stand: PostgresStand) -> None:
    stand.store.batch.damaged += [item(1), item(2)]
    stand.commits()
    stand.execute("DELETE FROM damaged WHERE id = 1")
    stand.store.look_at_damaged()
    page(stand)
    assert stand.store.damaged == 1


# -- other nodes -------------------------------------------------------------------------------------------------------------


def test_rows_and_blocks_of_another_node_are_not_ours(stand: PostgresStand) -> None:
    stand.store.batch.put += [row(1), row(2, b"up", expires=5)]
    stand.store.batch.marks.append(b"mark;")
    stand.commits()
    stand.execute("UPDATE cold SET node = 3; UPDATE journal SET node = 3; UPDATE log SET node = 3")
    stand.starts()
    assert stand.counted == {} and stand.blocks == [] and page(stand) == []
    assert stand.asks("find", Kind.QUEUE, "acme", [b"up"]) == stand.asks("expired", Kind.QUEUE, 9, 9) == []
    assert stand.store.highest_id() == 0


def walk(stand: PostgresStand, kind: Kind) -> list[ColdRow]:
    got: list[list[ColdRow]] = []
    stand.store.walk(kind, ("", b"", 0), 9, lambda rows, _following: got.append(rows))
    while not got:
        stand.hears()
    return got[0]


def test_rows_that_are_only_looked_up_are_everybodys(stand: PostgresStand, other: PostgresStand) -> None:
    replies = [row(1, b"one", kind=Kind.REPLY, expires=5), row(2, b"two", kind=Kind.REPLY)]
    stand.store.batch.put += replies
    stand.commits()
    stand.execute("UPDATE cold SET node = 0 WHERE id = 2")  # as an smppd of step 2 puts it
    for one in (stand, other):
        assert sorted(one.asks("find", Kind.REPLY, "acme", [b"one", b"two"])) == replies
        assert one.asks("expired", Kind.REPLY, 9, 9) == replies[:1], "and nobody's afterwards, too"
        counted: Any = one.asks("count", Kind.REPLY)
        assert counted == {"acme": 2} and walk(one, Kind.REPLY) == replies
        assert one.asks("unheld") == {} and one.asks("peek", Kind.REPLY, "acme", 0, 9) == []  # type: ignore[comparison-overlap]
        assert one.asks("claim", Kind.REPLY, "acme", None, 9) == []
    other.store.batch.drop.append(place(replies[0]))
    other.commits()
    assert stand.asks("find", Kind.REPLY, "acme", [b"one"]) == []
    other.starts()
    assert other.counted == {(Kind.REPLY, "acme"): 1}


def test_what_nobody_holds_is_sealed_anew_by_whose_key_it_is_under(stand: PostgresStand, other: PostgresStand) -> None:
    stand.store.batch.put += [row(1)._replace(shared=True), row(2), row(3, kind=Kind.REPLY)]
    stand.commits()
    under = "SELECT array_agg(DISTINCT segment % 64), count(DISTINCT segment) FROM cold"
    before = values(stand, "SELECT DISTINCT segment FROM cold")
    assert other.tidies() and values(stand, under) == [([0], 1)]
    assert values(stand, "SELECT DISTINCT segment FROM cold") == before
    assert other.asks("claim", Kind.QUEUE, "acme", None, 9) == [row(1)._replace(shared=True)]
    assert other.tidies() and values(stand, under) == [([0, 1], 2)], "what it holds by now it seals under its own"
    assert stand.tidies()
    stand.commits()
    ((segment,),) = before
    gone = values(stand, f"SELECT count(*) FROM keys WHERE scope = segment_scope({segment})")
    assert gone == [(0,)] and page(other) == [row(1)] and page(stand) == [row(2)]
    assert other.asks("find", Kind.REPLY, "acme", [b""]) == [row(3, kind=Kind.REPLY)], (
        "under a key that it did not know"
    )


def test_a_number_of_another_node_may_have_another_key_by_now(stand: PostgresStand, other: PostgresStand) -> None:
    """Where nothing was sealed under its newest keys a node that begins again makes them anew, with the same numbers."""
    stand.store.batch.put.append(row(1)._replace(shared=True))
    stand.commits()
    assert other.asks("peek", Kind.QUEUE, "acme", 0, 9) == [row(1)]
    with closing(PostgresKeys(stand.server)) as keys:
        rewrap_all(kek(1, 2), keys)  # by a KEK that the daemons have not read yet
    assert other.asks("peek", Kind.QUEUE, "acme", 0, 9) == [row(1)]
    ((segment,),) = values(stand, "SELECT segment FROM cold")
    rows = MemoryRows()
    scope = segment_scope(int(str(segment)))
    wrapped = rows.put_new(scope, stand._kek.wrap(scope, bytes(32), 7))
    sealed = seal_columns(KeyRing(stand._kek, rows), row(1, data=b"newer"), int(str(segment)))[6]
    db = Connection(stand.server)
    db.run("UPDATE keys SET wrapped = $1 WHERE scope = $2", (wrapped, scope))
    db.run("UPDATE cold SET data = $1", (sealed,))
    db.close()
    assert other.asks("peek", Kind.QUEUE, "acme", 0, 9) == [row(1, data=b"newer")]
    assert [one.data for one in other.asks("claim", Kind.QUEUE, "acme", None, 9)] == [b"newer"]


def test_a_row_that_another_seals_anew_meanwhile_is_read_once_more(
    stand: PostgresStand, other: PostgresStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the row and its key, its segment is gone."""
    other.store.batch.put += [row(3, kind=Kind.REPLY), row(1)._replace(shared=True)]
    other.commits()
    cold = stand.store._cold
    found = cold._found

    def found_late(asked: str, given: tuple[object, ...]) -> list[Columns]:
        rows = found(asked, given)
        assert other.tidies()
        other.commits()
        return rows

    monkeypatch.setattr(cold, "_found", found_late)
    assert stand.asks("find", Kind.REPLY, "acme", [b""]) == [row(3, kind=Kind.REPLY)]
    assert stand.asks("peek", Kind.QUEUE, "acme", 0, 9) == [row(1)]
    assert stand.store.damaged == 0


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("query", ["claim", "claim these", "find", "expired"])
def test_a_claim_whose_answer_was_lost_is_answered_with_the_next(
    stand: PostgresStand, monkeypatch: pytest.MonkeyPatch, query: str, done: bool
) -> None:
    """Or nobody would know of rows that are this node's by now."""
    free = [row(one, b"up", kind=Kind.WAITING, expires=5)._replace(shared=True) for one in (1, 2)]
    stand.store.batch.put += [*free, row(3, b"up", kind=Kind.WAITING, expires=5), free[0]._replace(id=4)]
    stand.commits()
    claims = stand.store._session.claims
    tries: list[str] = []

    def cut(function: str, types: str, given: Sequence[object]) -> list[Row]:
        tries.append(function)
        got = claims(function, types, given) if done or len(tries) > 1 else []
        if len(tries) == 1:
            stand.store._session.leave()
            raise StoreAway("lost", certain=False)
        return got

    monkeypatch.setattr(stand.store._session, "claims", cut)
    words: dict[str, tuple[str, tuple[object, ...]]] = {
        "claim": ("claim", (Kind.WAITING, "acme", None, 2)),
        "claim these": ("claim", (Kind.WAITING, "acme", [1, 2], 9)),
        "find": ("find", (Kind.WAITING, "acme", [b"up"])),
        "expired": ("expired", (Kind.WAITING, 9, 9)),
    }
    asked, given = words[query]
    found = sorted(stand.asks(asked, *given), key=lambda one: one.id)
    assert [one for one in found if one.id < 3] == free
    assert [(one.id, one.shared) for one in found[2:]] == ([] if asked == "claim" else [(3, False), (4, True)])
    again = stand.asks("find", Kind.WAITING, "acme", [b"up"])
    assert {one.id for one in again if one.shared} <= {4} and stand.store._cold._unanswered == set()


# -- tidying -----------------------------------------------------------------------------------------------------------------


def segments(stand: PostgresStand) -> int:
    return int(str(values(stand, "SELECT count(*) FROM keys WHERE scope LIKE 'segment/%'")[0][0]))


def test_tidying_destroys_the_keys_that_nothing_needs(stand: PostgresStand) -> None:
    for number in range(5):
        rotate(stand)
        stand.tenant.adds(number)
        stand.store.batch.marks.append(b"%d" % number)
        stand.store.batch.put.append(row(number + 1))
        stand.commits()
    before = segments(stand)
    sealed_under = values(stand, "SELECT DISTINCT segment FROM cold")
    stand.store.batch.drop += [place(row(1))]
    stand.tenant.ends(0, 1, 2, 3)
    assert stand.tidies()
    stand.commits()
    assert segments(stand) < before
    assert values(stand, "SELECT DISTINCT segment FROM cold") != sealed_under, "under a new key"
    needed = values(
        stand, "SELECT segment FROM journal UNION SELECT segment FROM cold UNION SELECT segment FROM damaged"
    )
    stored = values(stand, "SELECT convert_from(substr(scope, 9), 'UTF8')::int FROM keys WHERE scope LIKE 'segment/%'")
    assert set(needed) <= set(stored)
    assert len(page(stand)) == 4
    stand.starts()
    assert len(page(stand)) == 4


def test_keys_of_another_node_stay(stand: PostgresStand) -> None:
    stand.execute("INSERT INTO keys VALUES ('segment/000067', 'wrapped', 3), ('segment/000003', 'wrapped', 3)")
    stand.starts()
    assert stand.tidies()
    stand.commits()
    assert values(stand, "SELECT count(*) FROM keys WHERE node = 3") == [(2,)]


class Halves:
    """``store.tidy.Entries``: every second octet is over."""

    def __init__(self) -> None:
        self.dead = 0
        self.doubts = 0

    def look(self, block: bytes) -> None:
        if block == b"broken":
            raise ValueError(block)
        self.dead += len(block) // 2

    def doubt(self) -> None:
        self.doubts += 1

    def keep(self, block: bytes) -> bytes:
        return block[::2]


def test_a_store_that_nobody_uses_is_compacted_at_once(stand: PostgresStand) -> None:
    for text in (b"abcd", b"broken", b"efgh", b"x"):
        rotate(stand)
        stand.tenant.adds(1)
        stand.store.batch.marks.append(text)
        stand.commits()
    stand.store.batch.put += [row(1), row(2)]
    stand.commits()
    before, entries = segments(stand), Halves()
    under = values(stand, "SELECT DISTINCT segment FROM cold")
    stand.store.close()
    store = PostgresStore(
        stand.server, notify=lambda _call: None, later=lambda _s, _call: None, soon=lambda _call: None
    )
    store.use(KeyRing(stand._kek, store.keys))
    done = store.compact(entries, None)
    assert done._replace(keys=0) == (4, 2, 0, 1, True) and done.keys >= before - 3 and entries.doubts == 1
    assert [block for _, block in store.replay()] == [b"broken", b"acegx"]
    assert values(stand, "SELECT DISTINCT segment FROM cold") != under
    store.close()
    stand.starts()
    assert page(stand) == [row(1), row(2)]


def test_a_command_asks_the_daemon_to_tidy(stand: PostgresStand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smppd.store.tidy._LOOK", 0.02)
    stop, done = threading.Event(), threading.Event()
    asked: list[int] = []
    wrong: list[str] = []

    def wanted(token: int) -> None:
        asked.append(token)
        stand.store.batch.meta.append((DONE, token))
        done.set()

    thread = TidyThread(lambda: Requests(stand.server, 0), stop, wanted, wrong.append)
    thread.start()
    answers: list[bool] = []
    command = threading.Thread(target=lambda: answers.append(ask(stand.server, 20.0)))
    command.start()
    assert done.wait(20.0)
    stand.commits()
    command.join()
    stop.set()
    thread.join()
    assert answers == [True] and len(asked) == 1 and not wrong
    assert not ask(stand.server, 0.0), "nobody listens"


# -- numbers -----------------------------------------------------------------------------------------------------------------


def test_two_nodes_are_never_given_the_same_numbers(stand: PostgresStand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_store, "SUPPLY", 25)
    stand.starts()
    store = PostgresStore(
        stand.server, notify=lambda _call: None, later=lambda _s, _call: None, soon=lambda _call: None, node=1
    )
    store.begin_counter(COUNTER, 0)
    given: list[int] = []
    for count in (10, 10, 10, 70, 1):
        for one in (stand.store, store):
            first = one.reserve(COUNTER, count)
            given += range(first, first + count)
        page(stand)
    store.close()
    assert len(set(given)) == len(given) == 202


def test_without_space_for_a_counter_what_is_left_of_it_is_given(
    stand: PostgresStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "SUPPLY", 25)
    stand.starts()
    stand.execute(
        "CREATE FUNCTION lacking() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'none' USING ERRCODE = '53100'; END $$;"
        " CREATE TRIGGER lacking BEFORE INSERT ON counters EXECUTE FUNCTION lacking()"
    )
    first = stand.store.reserve(COUNTER, 10)
    page(stand)
    assert stand.store.reserve(COUNTER, 10) == first + 10
    page(stand)
    with pytest.raises(StoreFull):
        stand.store.reserve(COUNTER, 10)
    stand.execute("DROP FUNCTION lacking CASCADE")
    assert stand.store.reserve(COUNTER, 10) > first + 10 and stand.store.alive


# -- the log -----------------------------------------------------------------------------------------------------------------


def test_the_log_is_sealed_and_taken_up(stand: PostgresStand) -> None:
    sealed(stand)
    assert stand.store.taken_up == TakenUp(True, 0, [])
    for number in range(1, 4):
        fill(stand, number << 40)
        stand.commits()
    number, _ = stand.store.sealed
    stand.starts()
    assert stand.store.taken_up == TakenUp(True, 0, []) and stand.store.sealed[0] == number + 2, (
        "one at the end, one at the start"
    )
    assert stand.store.seals is not None and stand.store.seals.rows == 3
    fill(stand, 4 << 40)
    stand.dies(durable=True)
    faults: list[str] = stand.store.taken_up.faults
    assert not faults
    keys = stand.store.chain_keys
    assert keys is not None
    seals = [keys.read(signed) for (signed,) in values(stand, "SELECT signed FROM seals ORDER BY number")]  # type: ignore[arg-type]
    assert [one.number for one in seals] == list(range(1, len(seals) + 1)) and seals[-1].rows == 4
    assert {one.kind for one in seals} >= {SealKind.BEGIN, SealKind.START, SealKind.STOP}


def test_a_log_that_was_cut_is_found_out(stand: PostgresStand) -> None:
    sealed(stand)
    for number in range(1, 4):
        fill(stand, number << 40)
        stand.commits()
    stand.store.close()
    stand.execute("DELETE FROM log WHERE seq = (SELECT max(seq) FROM log)")
    stand._opens()
    assert stand.store.taken_up.faults == ["the log row of the last checkpoint is missing or altered"]
    stand.store.close()
    stand.execute("DELETE FROM seals WHERE number = (SELECT max(number) FROM seals)")
    stand._opens()
    assert any("the state knows" in fault for fault in stand.store.taken_up.faults)


def test_a_seal_that_another_has_no_right_to_is_not_written(stand: PostgresStand) -> None:
    sealed(stand)
    fill(stand)
    stand.commits()
    stand.execute("SELECT begin_node(0, 'another')")
    before = values(stand, "SELECT count(*) FROM seals")
    stand.store.close()
    assert values(stand, "SELECT count(*) FROM seals") == before


def test_a_row_of_rows_is_walked_in_pages(stand: PostgresStand) -> None:
    rows = [row(one, b"k%d" % (one % 2), owner=owner) for one in range(1, 8) for owner in ("ä", "b", "B")]
    stand.store.batch.put += rows
    stand.commits()
    stand.execute("UPDATE cold SET data = 'x' WHERE id = 3 AND owner = 'B'")
    walked: list[ColdRow] = []
    after: tuple[str, bytes, int] | None = ("", b"", 0)
    while after is not None:
        got: list[tuple[list[ColdRow], tuple[str, bytes, int] | None]] = []
        stand.store.walk(Kind.QUEUE, after, 4, lambda some, following: got.append((some, following)))  # noqa: B023
        while not got:
            stand.hears()
        walked += got[0][0]
        after = got[0][1]
    assert sorted(walked) == sorted(one for one in rows if (one.id, one.owner) != (3, "B"))
    assert all(one.expires == LATE for one in walked)
