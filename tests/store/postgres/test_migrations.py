"""The numbered steps of the schema."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from smppd.store.api import StoreError
from smppd.store.postgres import migrations
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.migrations import Step, known, migrate, steps, version
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
