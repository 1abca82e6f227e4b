"""The numbered steps of the schema."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from smppd.store.api import StoreError
from smppd.store.postgres import migrations
from smppd.store.postgres.batches import BATCH, BATCH_TYPES, PLAIN, PLAIN_TYPES
from smppd.store.postgres.binary import int4, int8
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.migrations import Step, known, migrate, steps, version
from smppd.vault.keys import segment_scope
from tests import postgres


@pytest.fixture
def server() -> Iterator[Server]:
    made = postgres.server().database(schema=False)
    yield made
    postgres.server().drop(made)


@pytest.fixture
def db(server: Server) -> Iterator[Connection]:
    made = Connection(server)
    yield made
    made.close()


def test_a_new_database_is_brought_up_once(db: Connection) -> None:
    assert version(db) == 0
    with pytest.raises(StoreError, match="there is no store here yet"):
        known(db)
    assert migrate(db) == len(steps()) == version(db) == known(db)
    assert migrate(db) == 0


def test_a_database_of_an_older_version_is_brought_up(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(db)
    before = steps()
    more = (*before, Step(len(before) + 1, "CREATE TABLE more (number bigint)"))
    monkeypatch.setattr(migrations, "steps", lambda: more)
    with pytest.raises(StoreError, match="of an older smppd"):
        known(db)
    assert migrate(db) == 1 and known(db) == len(more)
    assert db.all("SELECT * FROM more") == []
    monkeypatch.setattr(migrations, "steps", lambda: before)
    for open_it in (known, migrate):
        with pytest.raises(StoreError, match="written by a newer smppd"):
            open_it(db)


def test_whoever_may_make_no_schema_is_told_what_to_ask_for(server: Server) -> None:
    own = postgres.server()
    name = server.words("", 0)["dbname"]
    own.execute("CREATE ROLE guest LOGIN")
    db = Connection(Server(own.url(name).replace(f"{postgres.USER}@", "guest@")))
    try:
        with pytest.raises(StoreError, match="an administrator has to grant CREATE on the database"):
            migrate(db)
        own.execute(f"GRANT CREATE ON DATABASE {name} TO guest")
        assert migrate(db) == len(steps())
    finally:
        db.close()
        own.drop(server)
        own.execute("DROP ROLE guest")


def test_a_step_that_fails_leaves_nothing(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = (*steps(), Step(len(steps()) + 1, "CREATE TABLE more (number bigint); SELECT 1 / 0"))
    monkeypatch.setattr(migrations, "steps", lambda: wrong)
    with pytest.raises(StoreError):
        migrate(db)
    assert version(db) == len(wrong) - 1
    assert db.one("SELECT to_regclass('more')") == (None,)


def test_two_that_come_at_once_do_it_once(server: Server) -> None:
    done: list[int] = []

    def one() -> None:
        db = Connection(server)
        done.append(migrate(db))
        db.close()

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == len(steps()) and len(done) == 4


def test_where_an_administrator_made_the_schema_no_right_to_make_one_is_needed(server: Server) -> None:
    db = Connection(server)
    db.script("CREATE ROLE plain LOGIN; CREATE SCHEMA smppd AUTHORIZATION plain")
    db.close()
    words = server.words("", 0)
    plain = Connection(Server(f"postgresql://plain@/{words['dbname']}?host={words['host']}"))
    assert migrate(plain) == len(steps())
    plain.close()
    db = Connection(server)
    db.script("DROP OWNED BY plain; DROP ROLE plain")
    db.close()


# -- step 3 ------------------------------------------------------------------------------------------------------------------

_OF_STEP_2 = """
INSERT INTO nodes VALUES (0, 'zero', 3), (5, 'five', 1);
INSERT INTO cold (kind, owner, key, id, expires, segment, node, data) VALUES
    (1, 'acme', '', 1, 9, 64, 0, 'message'), (2, 'up', 'key', 2, 9, 64, 5, 'waiting'),
    (5, 'acme', 'handset', 3, 9, 64, 0, 'reply'), (6, '', 'erased', 4, 9, 64, 5, 'erased');
INSERT INTO journal (node, segment, counter, data) VALUES (0, 64, 0, 'block');
"""


def test_a_database_of_step_2_is_brought_up_with_what_is_in_it(db: Connection) -> None:
    assert migrate(db, most=2) == 2
    db.script(_OF_STEP_2)
    assert migrate(db) == 1
    assert db.all("SELECT id, node FROM cold ORDER BY id") == [(1, 0), (2, 5), (3, None), (4, None)]
    assert db.all("SELECT * FROM leases ORDER BY node") == [
        (0, 3, 0, "down", None, 0, b""),
        (5, 1, 0, "down", None, 0, b""),
    ]
    assert db.one("SELECT data FROM journal") == (b"block",)
    assert db.one("SELECT segment_scope(67)") == (segment_scope(67),)
    assert db.one("SELECT segment_scope(12345678)") == (segment_scope(12345678),)
    assert db.one("SELECT begin_node(5, 'five')") == (2,)
    assert db.one("SELECT epoch, life FROM leases WHERE node = 5") == (2, "down")


def test_an_smppd_of_step_2_goes_on_committing(server: Server, db: Connection) -> None:
    """It has prepared what it calls, and calls it by the same name with the same parameters."""
    assert migrate(db, most=2) == 2
    assert db.one("SELECT begin_node(0, 'old')") == (1,)
    old = Connection(server)
    nulls: list[bytes | None] = [None] * (len(BATCH_TYPES) - 3)
    for name, statement, types in (("plain", PLAIN, PLAIN_TYPES), ("batch", BATCH, BATCH_TYPES)):
        old.prepare(name, statement, types)
        old.execute(name, [int4(0), int8(1), int8(1 if name == "plain" else 2), *nulls[: len(types) - 3]])
    assert migrate(db) == 1
    old.execute("plain", [int4(0), int8(1), int8(3), *nulls[:9]])
    old.execute("batch", [int4(0), int8(1), int8(4), *nulls])
    old.close()
    assert db.one("SELECT count(*) FROM commits") == (4,)


@pytest.mark.parametrize(
    ("more", "oldest", "goes_on"), [(1, None, False), (1, 3, True), (1, 2, True), (1, 4, False), (2, 3, False)]
)
def test_a_younger_database_is_used_where_its_step_says_so(
    db: Connection, monkeypatch: pytest.MonkeyPatch, more: int, oldest: int | None, goes_on: bool
) -> None:
    before = steps()
    assert len(before) == 3, "what the cases say"
    younger = [Step(len(before) + 1 + one, f"CREATE TABLE more{one} (number bigint)", oldest) for one in range(more)]
    monkeypatch.setattr(migrations, "steps", lambda: (*before, *younger))
    migrate(db)
    monkeypatch.setattr(migrations, "steps", lambda: before)
    if goes_on:
        assert known(db) == len(before) + more and migrate(db) == 0
        return
    for open_it in (known, migrate):
        with pytest.raises(StoreError, match="written by a newer smppd"):
            open_it(db)


def test_each_step_says_whom_it_is_for() -> None:
    assert [step.oldest for step in steps()] == [None, None, 2]
