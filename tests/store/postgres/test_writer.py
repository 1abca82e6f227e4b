"""Commits whose server, or whose way to it, is gone: each is stored once or not at all, and the store knows which."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.message import State, pack_event
from smppd.store.api import Availability, ColdRow, Doubt, Kind, OptOut, StoreError, StoreFull
from smppd.store.postgres import writer
from smppd.store.postgres.connection import Connection
from smppd.store.postgres.session import Place, Session, nodes_in_use
from smppd.vault.keys import Part
from tests import postgres
from tests.store.postgres.chained import sealed
from tests.store.postgres.proxy import Proxy
from tests.store.postgres.waiting import settles, until
from tests.store.stands import PostgresStand
from tests.store.test_interface import fill, item, page, row
from tests.vault.rows import NOON

LAST_BATCH = 1 << 40


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again, and looks, at once."""
    monkeypatch.setattr(writer, "AGAIN", 0.01)
    monkeypatch.setattr(writer, "IDLE", 0.01)


@pytest.fixture
def proxied(stand: PostgresStand) -> Iterator[tuple[PostgresStand, Proxy]]:
    """A store that speaks to its server through a proxy."""
    with Proxy(stand.server.words("", 0)["dbname"]) as proxy:
        direct, stand.server = stand.server, proxy.server
        stand.starts()
        page(stand)  # behind what a start gives the writer to do
        yield stand, proxy
        proxy.refuse, proxy.swallow = False, 0
        stand.server = direct
        stand.starts()


def stored(stand: PostgresStand) -> bytes:
    """The entries of the journal, after a start."""
    stand.starts()
    return b"".join(block for _, block in stand.blocks)


def ends_connections(stand: PostgresStand) -> None:
    """The server ends the store's sessions."""
    db = Connection(postgres.server().address())
    ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'smppd node 0'"
    assert db.all(ended)
    db.close()


# -- fencing ---------------------------------------------------------------------------------------------------------------


def test_whose_place_was_taken_commits_nothing(stand: PostgresStand) -> None:
    stand.store.batch.marks.append(b"before;")
    stand.commits()
    stand.execute("SELECT begin_node(0, 'another')")
    fill(stand)
    stand.store.kick()
    stand.turns()
    while not stand.sink.heard[-1][0].startswith("broken"):
        stand.hears()
    assert "another smppd has taken the place" in stand.sink.heard[-1][0]
    stand.store.kick()
    stand.turns()
    assert stored(stand) == b"before;" and stand.counted == {} and stand.store.damaged == 0


def test_a_take_over_waits_for_the_commit_that_is_under_way(stand: PostgresStand) -> None:
    """Who takes a node over replays its journal: nothing may come into it afterwards."""
    stand.store.batch.marks.append(b"mark;")
    stand.hands_over()
    waits = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'smppd node 0' AND wait_event_type = 'Lock'"
    db = Connection(stand.server)
    until(stand, lambda: db.one(waits) is not None)
    db.close()
    seen: list[list[tuple[object, ...]]] = []

    def takes_over() -> None:
        db = Connection(stand.server)
        db.one("SELECT begin_node(0, 'another')")
        seen.append(db.all("SELECT counter FROM journal"))
        db.close()

    thread = threading.Thread(target=takes_over)
    thread.start()
    thread.join(0.2)
    assert not seen, "behind the commit"
    stand.commits()
    thread.join()
    assert len(seen[0]) == len(stand.sink.heard) == 1


def test_nothing_else_is_written_in_another_place(stand: PostgresStand) -> None:
    stand.store.batch.put.append(row(1))
    stand.commits()
    stand.execute("SELECT begin_node(0, 'another'); UPDATE cold SET data = 'altered'")
    got: list[list[ColdRow]] = []
    stand.store.page(Kind.QUEUE, "acme", 0, 9, got.append)
    while not stand.sink.heard[-1][0].startswith("broken"):
        stand.hears()
    assert not got
    db = Connection(stand.server)
    assert db.one("SELECT count(*) FROM damaged") == (0,) and db.one("SELECT count(*) FROM cold") == (1,)
    db.close()


def test_a_second_one_in_a_node_s_place_is_refused(stand: PostgresStand, monkeypatch: pytest.MonkeyPatch) -> None:
    for tries in (lambda: Session(stand.server, 0, "second", print), lambda: Place(stand.server, 0)):
        with monkeypatch.context() as hurried, pytest.raises(StoreError, match="another smppd is using this store as"):
            hurried.setattr("smppd.store.postgres.session._PATIENCE", 0.0)
            tries()
    other = Session(stand.server, 5, "fifth", print)
    db = Connection(stand.server)
    assert nodes_in_use(db) == [0, 5]
    other.leave()
    Place(stand.server, 5).release()
    db.close()
    stand.store.batch.marks.append(b"mark;")
    stand.commits()
    assert stored(stand) == b"mark;"


# -- the server, and the way to it --------------------------------------------------------------------------------------------


def test_the_server_is_killed_and_restarted_under_commits(stand: PostgresStand) -> None:
    told = b""
    for number in range(6):
        stand.store.batch.marks.append(b"%d;" % number)
        told += b"%d;" % number
        stand.store.kick()
        stand.turns()
        if number % 3 == 1:
            while stand.store.busy:
                stand.hears()  # it is idle when the server dies
        postgres.server().kill()
        stand.store.batch.marks.append(b"%d meanwhile;" % number)
        told += b"%d meanwhile;" % number
        stand.store.kick()
        stand.turns()
        postgres.server().start()
        settles(stand)
    assert stored(stand) == told


def test_a_connection_that_is_cut_inside_of_a_commit(stand: PostgresStand) -> None:
    fill(stand)
    batch = stand.store.batch
    stand.hands_over()
    ends_connections(stand)
    stand.commits()
    assert stand.sink.of(batch) == ["committed"]
    assert stored(stand) == b"accept;mark;" and len(page(stand)) == 1 and stand.store.damaged == 1


def test_a_server_that_warns_and_is_gone_before_a_commit_is_sent(proxied: tuple[PostgresStand, Proxy]) -> None:
    """As where another process of the server crashed. The commit cannot be sent, and what can be read is no end yet: then the
    driver's error has no code, and the connection passes for one that stands."""
    stand, proxy = proxied
    fields = b"SWARNING\0VWARNING\0C57P02\0Mterminating connection\0\0"
    proxy.cut(b"N" + (4 + len(fields)).to_bytes(4) + fields)
    stand.store.batch.accepts.append(b"<one>")
    stand.store.kick()
    settles(stand)
    assert not [word for word, _ in stand.sink.heard if word.startswith("broken")]
    assert stored(stand).count(b"<one>") <= 1


def test_an_answer_that_is_lost_is_asked_for_again(proxied: tuple[PostgresStand, Proxy]) -> None:
    stand, proxy = proxied
    for number in range(3):
        fill(stand, LAST_BATCH + number)
        proxy.swallow = 1
        stand.commits()
        assert proxy.cuts == number + 1
    assert [word for word, _ in stand.sink.heard] == ["committed"] * 3
    assert stored(stand) == b"accept;mark;" * 3 and stand.store.damaged == 3


@pytest.mark.parametrize("which", [[1, 2], None])
def test_a_claim_whose_answer_is_lost_gives_what_it_got(
    proxied: tuple[PostgresStand, Proxy], which: list[int] | None
) -> None:
    stand, proxy = proxied
    for answer in range(1, 6):
        stand.store.batch.put += [row(number)._replace(shared=True) for number in (1, 2)]
        stand.commits()
        proxy.swallow = answer
        got = stand.asks("claim", Kind.QUEUE, "acme", which, 9)
        proxy.swallow = 0
        assert [one.id for one in got] == [1, 2], f"answer {answer}"
        assert stand.asks("claim", Kind.QUEUE, "acme", which, 9) == []
        stand.store.batch.drop += [(one.kind, one.owner, one.key, one.id) for one in got]
        stand.commits()
    assert proxy.cuts > (0 if which else 2)


@pytest.mark.parametrize("kind", ["events", "entries", "rows", "all"])
def test_whatever_a_batch_holds_it_is_stored_once(proxied: tuple[PostgresStand, Proxy], kind: str) -> None:
    stand, proxy = proxied
    for number in range(3):
        batch = stand.store.batch
        if kind == "all":
            fill(stand, LAST_BATCH + number)
        if kind == "events":
            batch.events.append(pack_event(LAST_BATCH + number, 1, State.SUBMITTED))
        if kind == "entries":
            batch.marks.append(b"mark;")
        batch.damaged.append(item(number))
        proxy.swallow = 1
        stand.commits()
        assert proxy.cuts == number + 1
    assert stand.store.damaged == (6 if kind == "all" else 3)
    stand.starts()
    assert len(stand.blocks) == (3 if kind in ("entries", "all") else 0)


def test_what_stands_in_the_place_of_a_batch_is_no_batch_of_ours(stand: PostgresStand) -> None:
    fill(stand)
    stand.commits()
    fill(stand)  # the same log row
    stand.store.kick()
    stand.turns()
    while not stand.sink.heard[-1][0].startswith("broken"):
        stand.hears()
    assert "something else stands where a batch" in stand.sink.heard[-1][0]


def test_batches_without_rows_of_their_own_leave_little(stand: PostgresStand) -> None:
    stand.store._session.sequence = 1_990
    for number in range(20):
        stand.store.batch.meta.append(("number", number))
        stand.commits()
    db = Connection(stand.server)
    assert db.one("SELECT min(sequence), max(sequence) FROM commits") == (1_991, 2_010)
    stand.store._session.sequence = 2_999
    stand.store.batch.meta.append(("number", 20))
    stand.commits()
    assert db.one("SELECT min(sequence), max(sequence) FROM commits") == (2_000, 3_000)
    stand.starts()
    assert db.one("SELECT count(*) FROM commits") == (0,) and stand.store.meta("number", 0) == 20
    db.close()


def test_while_nobody_knows_the_store_is_away_and_takes_nothing(proxied: tuple[PostgresStand, Proxy]) -> None:
    stand, proxy = proxied
    stand.store.batch.accepts.append(b"accept;")
    proxy.swallow, proxy.refuse = 1, True
    stand.store.kick()
    stand.turns()
    until(stand, lambda: not stand.store.takes)
    assert stand.store.availability is Availability.AWAY and not stand.sink.heard, "no word is heard of it yet"
    proxy.refuse = False
    settles(stand)
    assert [word for word, _ in stand.sink.heard] == ["committed"] and stored(stand) == b"accept;"


def test_what_never_reached_the_server_is_refused_at_once(
    proxied: tuple[PostgresStand, Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    stand, proxy = proxied
    proxy.refuse = True
    proxy.cut()
    until(stand, lambda: not stand.store.takes)
    caplog.clear()
    fill(stand)
    refused = stand.store.batch
    stand.store.kick()
    stand.turns()
    while not stand.sink.heard:
        stand.hears()
    assert stand.sink.of(refused) == ["failed"] and stand.store.availability is Availability.AWAY
    assert stand.store.batch.marks == [b"mark;"] and not stand.store.batch.accepts
    for _ in range(20):
        stand.store.watch()
        stand.hears_within(0.01)
    assert len(caplog.records) <= 1, "it is said once that the server is away"
    proxy.refuse = False
    settles(stand)
    assert stored(stand) == b"mark;"


def test_a_server_that_lets_nobody_write_is_away(stand: PostgresStand) -> None:
    """As the old primary is after a failover: another connection may lead to the new one."""
    database = stand.server.words("", 0)["dbname"]
    stand.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    ends_connections(stand)
    stand.store.batch.accepts.append(b"accept;")
    stand.store.kick()
    stand.turns()
    until(stand, lambda: not stand.store.takes)
    assert stand.store.availability is Availability.AWAY
    other = Connection(postgres.server().address())
    other.script(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    other.close()
    settles(stand)
    assert stored(stand) == b"accept;"


def test_queries_are_answered_when_the_server_is_back(proxied: tuple[PostgresStand, Proxy]) -> None:
    stand, proxy = proxied
    stand.store.batch.put += [row(1), row(2)]
    stand.commits()
    proxy.refuse = True
    proxy.cut()
    got: list[list[ColdRow]] = []
    stand.store.page(Kind.QUEUE, "acme", 0, 1, got.append)
    stand.store.page(Kind.QUEUE, "acme", 1, 9, got.append)
    until(stand, lambda: not stand.store.takes)
    assert not got
    proxy.refuse = False
    until(stand, lambda: len(got) == 2)
    assert got == [[row(1)], [row(2)]]


def test_a_seal_that_was_due_meanwhile_is_made_when_the_server_is_back(
    proxied: tuple[PostgresStand, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand, proxy = proxied
    sealed(stand)
    fill(stand)
    stand.commits()
    number, _ = stand.store.sealed
    proxy.refuse = True
    proxy.cut()
    until(stand, lambda: not stand.store.takes)
    monkeypatch.setattr("smppd.store.chain_writer.SECONDS", 0.0)
    stand.store.seal_when_due()
    for _ in range(5):
        stand.hears_within(0.02)
    assert stand.store.sealed[0] == number
    proxy.refuse = False
    until(stand, lambda: stand.store.takes)
    fill(stand, 2 << 40)
    stand.commits()
    stand.store.seal_when_due()
    page(stand)
    assert stand.store.sealed[0] == number + 1
    stand.chain_keys = None


def test_an_end_while_the_server_is_away_is_an_end(
    proxied: tuple[PostgresStand, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LAST", 0.1)
    stand, proxy = proxied
    stand.store.batch.marks.append(b"mark;")
    stand.commits()
    proxy.refuse = True
    proxy.cut()
    stand.store.batch.marks.append(b"lost;")
    stand.store.kick()
    stand.turns()
    stand.store.page(Kind.QUEUE, "acme", 0, 1, lambda _rows: None)
    stand.store.close()
    assert not stand.store.alive
    proxy.refuse = False
    assert stored(stand) in (b"mark;", b"mark;lost;")


def test_whether_it_is_stored_is_not_known_at_the_end(
    proxied: tuple[PostgresStand, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LAST", 0.0)
    stand, proxy = proxied
    stand.store.batch.marks.append(b"mark;")
    proxy.swallow, proxy.refuse = 1, True
    stand.store.kick()
    stand.turns()
    until(stand, lambda: not stand.store.takes)
    stand.store.close()
    while not stand.sink.heard:
        stand.hears()
    assert "whether the last commit is stored is not known" in stand.sink.heard[0][0]
    proxy.refuse = False


def test_a_replica_that_may_lack_a_commit_is_waited_for_again(stand: PostgresStand) -> None:
    """A server warns where it was told not to wait for a replica any longer: then the commit is there, but may not survive."""
    stand.execute(
        "CREATE SEQUENCE times; CREATE FUNCTION warns() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('times') = 1 THEN RAISE WARNING 'canceling wait for synchronous replication'; END IF;"
        " RETURN NEW; END $$; CREATE TRIGGER warns BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION warns()"
    )
    stand.store.batch.marks.append(b"mark;")
    stand.commits()
    db = Connection(stand.server)
    assert db.one("SELECT nextval('times')") == (3,), "it was asked twice"
    db.close()
    stand.execute("DROP FUNCTION warns CASCADE; DROP SEQUENCE times")
    assert [word for word, _ in stand.sink.heard] == ["committed"] and stored(stand) == b"mark;"


def test_a_server_that_is_soon_out_of_numbers_for_transactions_takes_commits(tmp_path: Path) -> None:
    """With each write it warns then; that is not about the commit, which would be asked for again for ever."""
    server = postgres.Server()
    try:
        address = server.database()
        server.runs_out_of_transactions()
        advised: list[str] = []
        db = Connection(address, advice=advised.append)
        db.run("INSERT INTO counters VALUES ('one', 1)")
        db.run("INSERT INTO counters VALUES ('two', 1)")
        assert db.warnings == 0 and "will take no more writes soon" in advised.pop()
        assert not [sentence for sentence in advised if "no more writes" in sentence], "it is said once"
        db.close()
        stand = PostgresStand(tmp_path, address)
        stand.store.batch.marks.append(b"mark;")
        stand.commits()
        assert stored(stand) == b"mark;"
        stand.ends()
    finally:
        server.remove()


def test_no_space_for_a_query_ends_nothing(stand: PostgresStand) -> None:
    """What the server sorts may need a file, and there may be no room for that."""
    got: list[int] = []
    refusals = [StoreFull("no space"), StoreFull("no space")]

    def job(_db: Connection) -> None:
        if refusals:
            raise refusals.pop()
        got.append(1)

    stand.store._writer.give(job)
    stand.store.batch.marks.append(b"mark;")
    stand.commits()
    until(stand, lambda: got == [1])
    assert [word for word, _ in stand.sink.heard] == ["committed"] and stand.store.alive


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
def test_who_is_in_the_way_is_waited_for(stand: PostgresStand, code: str) -> None:
    stand.execute(
        "CREATE SEQUENCE times; CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('times') < 3 THEN RAISE EXCEPTION 'in the way' USING ERRCODE = '{code}'; END IF;"
        " RETURN NEW; END $$; CREATE TRIGGER busy BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION busy()"
    )
    stand.store.batch.marks.append(b"mark;")
    stand.commits()
    stand.execute("DROP FUNCTION busy CASCADE; DROP SEQUENCE times")
    assert [word for word, _ in stand.sink.heard] == ["committed"] and stored(stand) == b"mark;"


# -- keys ------------------------------------------------------------------------------------------------------------------


def test_where_another_node_was_first_its_key_counts(stand: PostgresStand) -> None:
    ring, keys = stand.store._ring, stand.store.keys
    ours = ring.period("acme", Part.BODY, NOON, 86400.0)
    (scope,) = [scope for scope, _ in keys.scan(b"period/")]
    other = stand._kek.wrap(scope, bytes(32))
    db = Connection(stand.server)
    db.run("INSERT INTO keys VALUES ($1, $2, 9)", (scope, other))
    fill(stand)
    refused = stand.store.batch
    stand.refuses()
    assert stand.sink.of(refused) == ["failed"]
    assert keys.get(scope) == other
    settles(stand)
    assert stand.store.batch is not refused and [word for word, _ in stand.sink.heard] == ["failed", "committed"]
    theirs = ring.period("acme", Part.BODY, NOON, 86400.0)
    assert theirs.index_key != ours.index_key
    assert db.all("SELECT wrapped, node FROM keys WHERE scope = $1", (scope,)) == [(other, 9)]
    assert db.one("SELECT count(*) FROM keys WHERE node = 0") != (0,), "its other keys are stored"
    db.close()


def test_segments_of_a_node_have_numbers_of_its_own(stand: PostgresStand) -> None:
    numbers = [stand.store._ring.new_segment() for _ in range(3)]
    assert all(number % 64 == 0 for number in numbers) and numbers == sorted(set(numbers))


# -- what is in a batch ------------------------------------------------------------------------------------------------------


def test_what_stands_twice_in_a_batch_is_there_once(stand: PostgresStand) -> None:
    batch = stand.store.batch
    one = OptOut(bytes(16), "acme", "*", 1, "word stop")
    batch.opt_outs += [one, one._replace(at=2), one._replace(key=bytes(15) + b"1", stands=False)]
    batch.doubts += [Doubt(7, bytes(16), "acme", "*", 1), Doubt(7, bytes(16), "acme", "*", 2)]
    batch.decided += [8, 8]
    batch.segments += [1, 1]
    stand.commits()
    assert [found.at for found in stand.store.opt_outs()] == [2] and stand.store.doubts() == 1


def test_what_is_set_aside_is_bounded(stand: PostgresStand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smppd.store.postgres.batches.MOST", 5)
    stand.store.batch.damaged += [item(number) for number in range(1, 9)]
    stand.commits()
    assert stand.store.damaged == 5
    monkeypatch.setattr("smppd.store.postgres.batches.OCTETS", 120)
    stand.store.batch.damaged += [item(9)]
    stand.commits()
    db = Connection(stand.server)
    assert db.all("SELECT id FROM damaged ORDER BY number") == [(7,), (8,), (9,)]
    monkeypatch.setattr("smppd.store.postgres.batches.OCTETS", 1)
    stand.store.batch.damaged += [item(10)]
    stand.commits()
    assert db.all("SELECT id FROM damaged ORDER BY number") == [(10,)], "one is kept, whatever its size"
    db.close()


def test_an_owner_that_the_server_cannot_have_stops_nothing(stand: PostgresStand) -> None:
    stand.store.batch.damaged += [item()._replace(owner="a\0b\udc80", id=1 << 70)]
    stand.commits()
    assert stand.store.damaged == 1
