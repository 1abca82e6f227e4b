"""What a dead node held becomes nobody's: all of it or nothing, once; it commits nothing any more, and no key of it stays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from smppd.store.api import ColdRow, Kind, StoreError
from smppd.store.nodes import Blocks
from smppd.store.postgres import session, takeover
from smppd.store.postgres.connection import Connection
from smppd.store.postgres.session import application
from smppd.store.postgres.takeover import Taken
from tests.store.postgres.inheriting import entries, lives, nodes, take_over, values
from tests.store.stands import PostgresStand, rotate
from tests.store.test_interface import LATE, claim, ids, item, page, row, shared, unheld

Trio = tuple[PostgresStand, PostgresStand, PostgresStand]


@pytest.fixture
def trio() -> Iterator[Trio]:
    """Three nodes. Those that the test ends end once more, which does nothing."""
    one, two, three = nodes(3)
    yield one, two, three
    for stand in (three, two, one):
        stand.ends()


def fill(stand: PostgresStand) -> None:
    """It holds 1 to 3 in its journal, of which 2 is over, rows 11 and 12 of two owners; 13 is everybody's, 14 nobody's."""
    stand.tenant.adds(1, 3)
    stand.store.batch.accepts.append(b"1;2;")
    stand.commits()
    stand.store.batch.put += [row(11), row(12, b"up", kind=Kind.WAITING, owner="up"), row(13, b"who", kind=Kind.REPLY)]
    stand.store.batch.put.append(shared(14))
    stand.store.batch.marks.append(b"-2;3;")
    stand.commits()


def epoch_of(stand: PostgresStand) -> tuple[int, int]:
    ((epoch, beat),) = values(stand, "SELECT epoch, beat FROM leases WHERE node = $1", stand.node)
    return int(str(epoch)), int(str(beat))


def inherit(heir: PostgresStand, dead: PostgresStand) -> Taken | None:
    return take_over(heir).of(dead.node, *epoch_of(dead))


def test_all_that_it_held_is_nobodys_and_is_claimed(trio: Trio) -> None:
    heir, dead, other = trio
    fill(dead)
    taken = inherit(heir, dead)
    assert taken is not None and (taken.rows, taken.made, taken.blocks, taken.unreadable) == (4, 2, 2, 0)
    assert taken.told == [(Kind.QUEUE, "acme", ()), (Kind.WAITING, "up", ())]
    assert unheld(heir) == unheld(other) == {(Kind.QUEUE, "acme"): 4, (Kind.WAITING, "up"): 1}
    assert [one.data for one in other.asks("claim", Kind.QUEUE, "acme", [1, 3], 9)] == [b"of the journal"] * 2
    assert claim(heir) == [11, 14]
    assert other.asks("find", Kind.WAITING, "up", [b"up"]) == [shared(12, b"up", kind=Kind.WAITING, owner="up")]
    for stand in (heir, other):
        assert ids(stand.asks("find", Kind.REPLY, "acme", [b"who"])) == [13], "replies are everybody's"
    assert values(heir, "SELECT count(*) FROM journal WHERE node = 1") == [(0,)]
    assert values(heir, "SELECT node, life, heir FROM leases ORDER BY node") == [
        (0, "live", None),
        (1, "taken", 0),
        (2, "live", None),
    ]


def test_the_dead_commits_nothing_any_more(trio: Trio) -> None:
    heir, dead, _ = trio
    fill(dead)
    assert inherit(heir, dead) is not None
    dead.store.batch.put.append(row(20))
    dead.store.batch.marks.append(b"20;")
    dead.store.kick()
    dead.turns()
    while not dead.sink.heard or "broken" not in dead.sink.heard[-1][0]:
        dead.hears()
    assert "another smppd has taken the place of this node" in dead.sink.heard[-1][0]
    assert values(heir, "SELECT count(*) FROM journal WHERE node = 1") == [(0,)] and 20 not in ids(
        page(dead_again(dead))
    )


def dead_again(stand: PostgresStand) -> PostgresStand:
    stand.starts()
    return stand


@pytest.mark.parametrize("query", ["claim", "expired", "find"])
def test_the_dead_claims_nothing_any_more(trio: Trio, query: str) -> None:
    heir, dead, _ = trio
    fill(dead)
    assert inherit(heir, dead) is not None
    words: dict[str, tuple[object, ...]] = {
        "claim": (Kind.QUEUE, "acme", None, 9),
        "expired": (Kind.QUEUE, LATE + 1, 9),
        "find": (Kind.WAITING, "up", [b"up"]),
    }
    getattr(dead.store, query)(*words[query], lambda rows: None)
    dead.hears()
    assert "another smppd has taken the place" in dead.sink.heard[-1][0]
    assert unheld(heir) == {(Kind.QUEUE, "acme"): 4, (Kind.WAITING, "up"): 1}


def test_who_begins_again_begins_with_nothing(trio: Trio) -> None:
    heir, dead, _ = trio
    fill(dead)
    assert inherit(heir, dead) is not None
    dead.starts()
    assert dead.blocks == [] and dead.counted == {(Kind.REPLY, "acme"): 1}
    assert values(heir, "SELECT life, heir FROM leases WHERE node = 1") == [("down", None)]
    dead.store.batch.marks.append(b"5;")
    dead.tenant.adds(5)
    dead.commits()
    assert claim(dead, [1]) == [1], "sealed under a key of the heir"
    dead.starts()
    assert [block for _, block in dead.blocks] == [b"5;"] and dead.counted == {
        (Kind.QUEUE, "acme"): 1,
        (Kind.REPLY, "acme"): 1,
    }


def test_a_node_that_is_only_down_replays_its_own_journal(trio: Trio) -> None:
    _, dead, _ = trio
    fill(dead)
    dead.starts()
    assert [block for _, block in dead.blocks] == [b"1;2;", b"-2;3;"] and dead.counted[Kind.QUEUE, "acme"] == 1


def test_who_beats_meanwhile_is_not_taken_over(trio: Trio) -> None:
    heir, dead, _ = trio
    fill(dead)
    epoch, beat = epoch_of(dead)
    assert take_over(heir).of(1, epoch, beat - 1) is None
    assert take_over(heir).of(1, epoch - 1, beat) is None
    assert take_over(heir).of(9, epoch, beat) is None
    heir.execute("UPDATE leases SET life = 'taken' WHERE node = 0")
    assert take_over(heir).of(1, epoch, beat) is None, "it has no right to"
    dead.store.batch.marks.append(b"4;")
    dead.commits()
    dead.starts()
    assert len(dead.blocks) == 3


def test_a_block_that_does_not_open_is_set_aside_and_the_rest_goes_on(trio: Trio) -> None:
    heir, dead, _ = trio
    fill(dead)
    dead.execute("UPDATE journal SET data = overlay(data PLACING '\\x00' FROM 3) WHERE node = 1 AND counter = 0")
    taken = inherit(heir, dead)
    assert taken is not None and (taken.blocks, taken.unreadable, taken.made) == (1, 1, 1)
    assert claim(heir) == [3, 11, 14]
    assert values(heir, "SELECT kind, place, reason, node, at, until FROM damaged") == [
        ("block", "spool", "SealError", 1, 1000, 1060)
    ]


def test_a_journal_may_be_gone_through_twice(trio: Trio) -> None:
    heir, dead, _ = trio
    fill(dead)
    dead.execute("UPDATE journal SET data = 'x' WHERE node = 1 AND counter = 0")

    def twice(blocks: Blocks) -> Iterator[ColdRow]:
        assert len(list(blocks)) == len(list(blocks)) == 1
        return entries(blocks)

    taken = take_over(heir, twice).of(1, *epoch_of(dead))
    assert taken is not None and (taken.blocks, taken.unreadable, taken.made) == (1, 1, 1)
    assert values(heir, "SELECT count(*) FROM damaged") == [(1,)]


# -- all or nothing ----------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


STEPS = ("journal", "INSERT INTO cold", "UPDATE cold", "DELETE", "UPDATE keys", "UPDATE leases", "pg_notify", "COMMIT")


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_the_middle_nothing_has_happened_and_another_does_it(
    trio: Trio, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heir, dead, other = trio
    fill(dead)
    made: list[Connection] = []
    connect = takeover.TakeOver._connect

    def connected(self: takeover.TakeOver) -> Connection:
        db = connect(self)
        made.append(db)
        for name in ("all", "one", "run"):
            monkeypatch.setattr(db, name, _killed(db, name, step))
        return db

    monkeypatch.setattr(takeover.TakeOver, "_connect", connected)
    before = held(dead)

    def cut(_node: int) -> str:
        made[0].close()
        return ""

    def dies(blocks: Blocks) -> Iterator[ColdRow]:
        yield from entries(blocks)
        if step == "COMMIT":  # all but the end of it is done
            yield ColdRow(Kind.QUEUE, "acme", b"", 99, LATE, b"")

    with pytest.raises(Killed if step != "COMMIT" else StoreError):
        if step == "COMMIT":
            monkeypatch.setattr(takeover, "look", cut)
        take_over(heir, dies).of(1, *epoch_of(dead))
    monkeypatch.undo()
    assert held(dead) == before
    taken = inherit(other, dead)
    assert taken is not None and taken.rows == 4
    assert claim(heir) == [1, 3, 11, 14]


def _killed(db: Connection, name: str, step: str) -> object:
    """What a connection does, until a statement comes before which the process is killed: the server sees the end of the
    connection."""
    does = getattr(db, name)

    def called(statement: str, given: tuple[object, ...] = ()) -> object:
        if step in statement and statement.lstrip().startswith(
            ("SELECT segment", "INSERT", "UPDATE", "DELETE", "WITH", "SELECT pg")
        ):
            db.close()
            raise Killed(statement)
        return does(statement, given)

    return called


def held(stand: PostgresStand) -> list[list[tuple[object, ...]]]:
    """All of it, but for what is sealed."""
    return [
        values(stand, "SELECT node, segment, counter FROM journal ORDER BY 1, 2, 3"),
        values(stand, "SELECT kind, owner, key, id, segment, node FROM cold ORDER BY 1, 2, 3, 4"),
        values(stand, "SELECT scope, node FROM keys ORDER BY 1"),
        values(stand, "SELECT node, epoch FROM nodes ORDER BY 1"),
        values(stand, "SELECT node, epoch, life, heir FROM leases ORDER BY 1"),
        values(stand, "SELECT number FROM damaged"),
    ]


def test_two_survivors_at_once_do_it_once(trio: Trio) -> None:
    heir, dead, other = trio
    fill(dead)
    where = epoch_of(dead)
    inside, go_on = threading.Event(), threading.Event()

    def slow(blocks: Blocks) -> Iterator[ColdRow]:
        inside.set()
        assert go_on.wait(20)
        yield from entries(blocks)

    done: list[Taken | None] = []
    thread = threading.Thread(target=lambda: done.append(take_over(heir, slow).of(1, *where)))
    thread.start()
    assert inside.wait(20)
    assert take_over(other).of(1, *where) is None, "another does it"
    go_on.set()
    thread.join()
    assert take_over(other).of(1, *where) is None, "another has done it"
    assert done[0] is not None and claim(other) == [1, 3, 11, 14]


def test_an_heir_is_not_taken_over_while_it_takes_over_but_where_it_froze_in_it(trio: Trio) -> None:
    """Or the keys that it inherits would belong to nobody who destroys them."""
    heir, dead, other = trio
    fill(dead)
    fill(heir)
    inside, go_on = threading.Event(), threading.Event()

    def slow(blocks: Blocks) -> Iterator[ColdRow]:
        inside.set()
        assert go_on.wait(20)
        yield from entries(blocks)

    failed: list[StoreError] = []
    where = epoch_of(dead)

    def inherits() -> None:
        try:
            take_over(heir, slow).of(1, *where)
        except StoreError as error:
            failed.append(error)

    thread = threading.Thread(target=inherits)
    thread.start()
    assert inside.wait(20)
    took = take_over(other)
    with closing(took._connect()) as db:
        assert took._once(db, 0, *epoch_of(heir), 2, other.store.epoch, "taken") is None, "it may be at work"
    taken = None
    for _ in range(100):  # the server ends what is frozen in its own time
        taken = taken or took.of(0, *epoch_of(heir))
    go_on.set()
    thread.join()
    assert taken is not None and len(failed) == 1, "nothing has happened of what it was at"
    assert inherit(other, dead) is not None
    ((owners,),) = values(other, "SELECT array_agg(DISTINCT node) FROM keys WHERE scope LIKE 'segment/%'")
    assert owners == [2] and claim(other) == [1, 3, 11, 14]


def test_who_begins_again_waits_for_the_take_over(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    heir, dead, _ = trio
    fill(dead)
    where = epoch_of(dead)
    dead.store.close()
    inside, go_on = threading.Event(), threading.Event()

    def slow(blocks: Blocks) -> Iterator[ColdRow]:
        inside.set()
        assert go_on.wait(20)
        yield from entries(blocks)

    thread = threading.Thread(target=lambda: take_over(heir, slow).of(1, *where))
    thread.start()
    assert inside.wait(20)
    told: list[str] = []

    def patient(sentence: str) -> None:
        if "is taking over" in sentence:
            told.append(sentence)
            go_on.set()

    monkeypatch.setitem(session._SETTINGS, "lock_timeout", "50")
    begun = session.Session(dead.server, 1, "again", patient)
    thread.join()
    begun.leave()
    assert len(told) == 1 and "another node is taking over what node 1 held" in told[0] and begun.epoch == where[0] + 2
    dead._opens()
    assert dead.blocks == [] and claim(dead) == [1, 3, 11, 14]


def test_what_froze_in_a_transaction_is_ended(trio: Trio) -> None:
    heir, dead, _ = trio
    fill(dead)
    with closing(Connection(dead.server, application=application(1))) as frozen:
        frozen.script("BEGIN")
        frozen.one("SELECT FROM nodes WHERE node = 1 FOR UPDATE")
        taken = inherit(heir, dead)
        for _ in range(100):  # the server ends it in its own time
            taken = taken or inherit(heir, dead)
    assert taken is not None and taken.rows == 4


def test_the_place_of_the_dead_may_still_be_locked(trio: Trio) -> None:
    heir, dead, _ = trio
    fill(dead)
    assert dead.store.alive and dead.store._session.connected
    assert inherit(heir, dead) is not None


def test_who_begins_again_ends_the_session_of_a_frozen_run(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    heir, dead, _ = trio
    monkeypatch.setattr(session, "_PATIENCE", 0.2)
    with pytest.raises(StoreError, match="another smppd is using this store as node 1"):
        session.Session(dead.server, 1, "again", lambda _sentence: None)
    assert inherit(heir, dead) is not None
    begun = session.Session(dead.server, 1, "again", lambda _sentence: None)
    assert dead.store._session.connected, "as far as it knows"
    with pytest.raises(StoreError):
        dead.store._session.db.one("SELECT 1")
    begun.leave()


# -- at the end --------------------------------------------------------------------------------------------------------------


def test_at_its_end_a_node_gives_up_what_it_holds_itself(trio: Trio) -> None:
    heir, leaving, other = trio
    fill(leaving)
    took = take_over(leaving)
    leaving.store.close()
    assert took.own(9, 1) is None, "nobody is there"
    taken = took.own(0, epoch_of(heir)[0])
    assert taken is not None and (taken.rows, taken.made) == (4, 2)
    assert values(heir, "SELECT life, heir FROM leases WHERE node = 1") == [("left", 0)]
    assert claim(other) == [1, 3, 11, 14]
    ((owners,),) = values(other, "SELECT count(*) FROM keys WHERE scope LIKE 'segment/%' AND node = 1")
    assert owners == 0
    leaving._opens()
    assert leaving.blocks == []


# -- keys --------------------------------------------------------------------------------------------------------------------


def scopes(stand: PostgresStand, node: int) -> set[int]:
    found = values(
        stand, "SELECT convert_from(scope, 'UTF8') FROM keys WHERE scope LIKE 'segment/%' AND node = $1", node
    )
    return {int(str(scope).removeprefix("segment/")) for (scope,) in found}


def tidies(stand: PostgresStand) -> None:
    assert stand.tidies()
    stand.commits()


def test_keys_of_the_dead_go_when_nothing_is_sealed_under_them_and_not_before(trio: Trio) -> None:
    heir, dead, other = trio
    fill(dead)
    dead.store.batch.damaged.append(item())
    rotate(dead)
    dead.commits()
    of_the_dead = scopes(dead, 1)
    assert inherit(heir, dead) is not None and scopes(heir, 1) == set() and of_the_dead <= scopes(heir, 0)
    assert claim(other, [11]) == [11], "which is sealed under one of them still"
    tidies(heir)
    left = scopes(heir, 0) & of_the_dead
    assert len(left) == 2 < len(of_the_dead), "of the row that another holds, and of what is set aside"
    tidies(other)
    heir.execute("DELETE FROM damaged")
    tidies(heir)
    assert scopes(heir, 0) & of_the_dead == set()
    assert ids(page(other)) == [11] and ids(heir.asks("peek", Kind.QUEUE, "acme", 0, 9)) == [1, 3, 14]
    assert ids(heir.asks("find", Kind.REPLY, "acme", [b"who"])) == [13]
    assert values(heir, "SELECT count(*) FROM damaged") == [(0,)]


def test_who_looked_at_rows_of_others_forgets_their_keys_when_they_are_destroyed(trio: Trio) -> None:
    heir, dead, other = trio
    fill(dead)
    assert ids(other.asks("peek", Kind.QUEUE, "acme", 0, 9)) == [14]
    ((segment,),) = values(other, "SELECT segment FROM cold WHERE id = 14")
    assert int(str(segment)) in other.store._ring._segments
    assert inherit(heir, dead) is not None
    tidies(heir)
    assert ids(other.asks("peek", Kind.QUEUE, "acme", 0, 9)) == [1, 3, 11, 14], "sealed anew by the heir"
    tidies(other)
    assert (
        int(str(segment)) not in other.store._ring._segments and int(str(segment)) not in other.store._ring.segments()
    )
    dead.starts()
    assert int(str(segment)) not in dead.store._ring.segments()


def test_an_heir_that_dies_leaves_the_keys_to_the_next(trio: Trio) -> None:
    heir, dead, other = trio
    fill(dead)
    assert inherit(heir, dead) is not None
    all_of_them = scopes(heir, 0)
    assert inherit(other, heir) is not None
    assert scopes(heir, 0) == set() and all_of_them <= scopes(heir, 2)
    assert claim(other) == [1, 3, 11, 14]
    tidies(other)
    assert not scopes(heir, 2) & all_of_them and ids(page(other)) == [1, 3, 11, 14]
    dead.starts()
    lives(dead)
    assert inherit(dead, other) is not None and claim(dead) == [1, 3, 11, 14]


def test_a_million_rows_would_be_told_of_as_some(trio: Trio) -> None:
    heir, dead, _ = trio
    dead.tenant.adds(*range(1, 901))
    dead.store.batch.accepts.append(b"".join(b"%d;" % number for number in range(1, 901)))
    dead.commits()
    taken = inherit(heir, dead)
    assert taken is not None and taken.made == 900 and taken.told == [(Kind.QUEUE, "acme", ())]
    assert len(claim(heir, limit=1000)) == 900
