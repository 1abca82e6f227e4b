"""Connections: what is refused at the start, and what errors say."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest
from psycopg import errors

from smppd.store.api import StoreBusy, StoreError, StoreFull
from smppd.store.postgres.connection import Connection, Server, ServerError, StoreAway, told
from tests import postgres

SECRET = "not-for-anybody"


@pytest.fixture
def server() -> Iterator[Server]:
    made = postgres.server().empty()
    yield made
    postgres.server().give_back(made)


@pytest.fixture
def db(server: Server) -> Iterator[Connection]:
    made = Connection(server)
    yield made
    made.close()


def setting(words: str) -> Server:
    """A server whose sessions have a setting."""
    return Server(postgres.server().url() + f"&options=-c%20{words.replace('=', '%3D')}")


def test_what_a_server_must_not_be() -> None:
    for words in ("synchronous_commit=off", "synchronous_commit=local", "standard_conforming_strings=off"):
        with pytest.raises(StoreError, match=words.partition("=")[0]):
            Connection(setting(words))
    Connection(setting("synchronous_commit=remote_apply")).close()
    own = postgres.server()
    own.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
    with pytest.raises(StoreError, match="encoding is LATIN1"):
        Connection(own.address("latin"))


def test_a_server_that_becomes_careless_meanwhile_changes_no_connection() -> None:
    db = Connection(postgres.server().address())

    def configures(statement: str, value: str) -> None:
        db.run(statement)
        db.one("SELECT pg_reload_conf()")
        until = monotonic() + 30
        while db.one("SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'") != (value,):
            assert monotonic() < until

    try:
        configures("ALTER SYSTEM SET synchronous_commit = off", "off")
        assert db.one("SELECT current_setting('synchronous_commit')") == ("on",)
    finally:
        configures("ALTER SYSTEM RESET synchronous_commit", "on")
        db.close()


def test_what_an_operator_may_mean_is_told() -> None:
    told: list[str] = []
    Connection(postgres.server().address(), advice=told.append).close()
    assert len(told) == 2 and "fsync is off" in told[0]


@pytest.mark.parametrize(
    "words", ["log_min_duration_statement=0", "log_statement=all", "log_min_duration_sample=1s", "log_statement=ddl"]
)
def test_a_server_that_would_log_values_is_told(words: str) -> None:
    own = postgres.server()
    database = own.empty()
    name = database.words("", 0)["dbname"]
    setting, value = words.split("=")
    own.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    told: list[str] = []
    Connection(database, advice=told.append).close()
    found = ["log_parameter_max_length to 0" in sentence for sentence in told].count(True)
    own.execute(f"ALTER DATABASE {name} SET log_parameter_max_length = 0")
    told.clear()
    Connection(database, advice=told.append).close()
    assert found == (value != "ddl") and not any("log_parameter" in sentence for sentence in told)
    own.drop(database)


def test_values_of_what_fails_are_in_no_log_of_the_server() -> None:
    own = postgres.server()
    database = own.empty()
    own.execute(f"ALTER DATABASE {database.words('', 0)['dbname']} SET log_parameter_max_length_on_error = -1")
    db = Connection(database)
    with pytest.raises(ServerError):
        db.call("SELECT 1 / length($1::text || $2)", ("", ""))
    with pytest.raises(ServerError):
        db.call("SELECT length($1::text) / $2::int", (SECRET, 0))
    db.close()
    own.drop(database)
    log = (own.folder / "log").read_text(errors="replace")
    assert "length($1::text) / $2::int" in log and SECRET not in log


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"postgresql://somebody:{SECRET}@localhost:1/base", "Connection refused"),
        (f"postgresql://somebody:{SECRET}@/base?host=/nowhere", "No such file"),
        (f"postgresql://somebody:{SECRET}@nowhere.invalid/base", "failed to resolve host"),
        (f"host={{}} dbname=base user=somebody password={SECRET}", "there is no such role"),
        (f"host={{}} dbname=base user=smppd password={SECRET}", "there is no such database"),
        (f"nonsense={SECRET}", "the address of the database is none"),
        (f"postgresql://x:{SECRET}@/x?port=five", "the port of the database is no number"),
        (f"postgresql://x@[{SECRET}", "the address of the database is none"),
    ],
)
def test_no_error_repeats_an_address_or_a_password(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        Connection(Server(url.format(postgres.server().folder)))
    assert SECRET not in str(caught.value) and "somebody" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER ROLE guest NOLOGIN", "is not permitted to log in"),
        ("ALTER ROLE guest CONNECTION LIMIT 0", "too many connections for"),
        ("REVOKE CONNECT ON DATABASE {} FROM public", "permission denied for database"),
        ("ALTER DATABASE {} ALLOW_CONNECTIONS false", "is not currently accepting connections"),
    ],
)
def test_why_nobody_is_let_in_is_told(statement: str, said: str) -> None:
    own = postgres.server()
    name = own.database(schema=False).words("", 0)["dbname"]
    own.execute("CREATE ROLE guest LOGIN")
    try:
        own.execute(statement.format(name))
        with pytest.raises(StoreError, match=said) as caught:
            Connection(Server(own.url(name).replace(f"{postgres.USER}@", "guest@")))
        assert "guest" not in str(caught.value)
    finally:
        own.execute("DROP ROLE guest")
        own.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_password_is_in_no_repr() -> None:
    server = Server(f"postgresql://somebody:{SECRET}@db.example:6432/base")
    assert server.name == "PostgreSQL at db.example:6432, database base"
    assert SECRET not in repr(server) and "somebody" not in repr(server)
    assert server.words("x", 1)["password"] == SECRET
    assert Server("postgresql://somebody@db.example/base", SECRET).words("x", 1)["password"] == SECRET


def test_no_error_repeats_a_value(db: Connection) -> None:
    for statement, values in (
        ("SELECT $1::text::int", (SECRET,)),
        ("INSERT INTO counters VALUES ($1, -5)", (SECRET,)),
        (f"SELECT '{SECRET}'::jsonb", ()),
        (f'SELECT "{SECRET}"', ()),
    ):
        with pytest.raises(ServerError, match="SQLSTATE") as caught:
            db.all(statement, values)
        assert SECRET not in str(caught.value) and caught.value.__cause__ is None
        assert len(caught.value.code) == 5
    assert db.one("SELECT 1") == (1,), "it goes on"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("53100", StoreFull),
        ("55P03", StoreBusy),
        ("40001", StoreBusy),
        ("40P01", StoreBusy),
        ("25006", StoreAway),
        ("57014", StoreAway),
        ("53300", StoreAway),
        ("58030", ServerError),
        ("XX001", ServerError),
    ],
)
def test_what_the_server_refuses_for(db: Connection, code: str, kind: type[StoreError]) -> None:
    with pytest.raises(kind) as caught:
        db.script(f"DO $$ BEGIN RAISE EXCEPTION 'told' USING ERRCODE = '{code}'; END $$")
    assert type(caught.value) is kind and db.usable
    if isinstance(caught.value, StoreAway):
        assert caught.value.certain


@pytest.mark.parametrize("code", ["53100", "58030", "XX000", "55P03", "25006"])
def test_whatever_the_server_said_before_its_end_nobody_knows(server: Server, code: str) -> None:
    """It ends so where it cannot write its log (53100), which may have the commit already: that is to be asked for again."""
    found = told(server, errors.lookup(code)(SECRET), lost=True)
    assert isinstance(found, StoreAway) and not found.certain and SECRET not in str(found)


def test_transactions_are_all_or_nothing(db: Connection) -> None:
    with pytest.raises(ServerError), db.writing():
        db.run("INSERT INTO counters VALUES ('one', 1)")
        db.run("INSERT INTO counters VALUES ('one', 1)")
    with pytest.raises(ServerError):
        db.run_each("INSERT INTO counters VALUES ($1, $2)", [("one", 1), ("two", 2), ("one", 1)])
    assert db.all("SELECT * FROM counters") == []
    db.run_each("INSERT INTO counters VALUES ($1, $2)", [("one", 1), ("two", 2)])
    assert db.run("UPDATE counters SET next = next + 1") == 2


def test_a_snapshot_stays_as_it_was(db: Connection, server: Server) -> None:
    other = Connection(server)
    with db.snapshot():
        assert db.one("SELECT count(*) FROM counters") == (0,)
        other.run("INSERT INTO counters VALUES ('one', 1)")
        assert db.one("SELECT count(*) FROM counters") == (0,)
        with pytest.raises(StoreError):
            db.run("DELETE FROM counters")
    other.close()
    assert db.one("SELECT count(*) FROM counters") == (1,)


def test_who_only_reads_writes_nothing(server: Server) -> None:
    db = Connection(server, read_only=True)
    with pytest.raises(StoreError):
        db.run("INSERT INTO counters VALUES ('one', 1)")
    db.close()


def test_a_connection_that_was_ended_says_that_nobody_knows(server: Server) -> None:
    db, other = Connection(server), Connection(server)
    row = db.one("SELECT pg_backend_pid()")
    assert row is not None
    other.one("SELECT pg_terminate_backend($1, 5000)", row)
    with pytest.raises(StoreAway) as caught:
        db.one("SELECT 1")
    assert not caught.value.certain and not db.usable
    with pytest.raises(StoreAway):
        db.one("SELECT 1")
    other.close()
