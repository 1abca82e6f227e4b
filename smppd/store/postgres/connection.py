"""A connection to PostgreSQL whose errors are the store's own: callers outside of this back end know no other.

A thin layer over psycopg 3: every statement is a transaction by itself unless `Connection.writing` or `snapshot` is around
it, it is prepared by the server when it comes again, and values go both ways in binary. Statements have PostgreSQL's own
placeholders ($1, $2). No error contains a password, the address as it was configured, or a value: what the server says is
reduced to the name of the condition (PostgreSQL, appendix A) and a few known sentences.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, Final

import psycopg
from psycopg import conninfo, errors
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from smppd.store.api import StoreBusy, StoreError, StoreFull

Row = tuple[Any, ...]
OLDEST: Final = 150_000
"""The server's version, as its `server_version_num` says it: PostgreSQL 15."""
SCHEMA: Final = "smppd"
"""Where all tables and functions are. A database may have other schemas; nobody else's are touched."""

CONNECT_SECONDS: Final = 5
"""Seconds for connecting, to each address that a name has."""
STATEMENT_SECONDS: Final = 30.0
LOCK_SECONDS: Final = 10.0
"""For a statement, and for what it waits for others' locks."""
# A peer that is gone without a word is noticed within about ten seconds (libpq, "Parameter Key Words").
_DEFAULTS: Final = {
    "connect_timeout": str(CONNECT_SECONDS),
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "target_session_attrs": "read-write",  # of several addresses the one that is no replica
}
# What is found of `synchronous_commit` stays so for the session, whatever is configured meanwhile: nobody would look again.
_CHECKS: Final = (
    "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),"
    " set_config('synchronous_commit', current_setting('synchronous_commit'), false),"
    " current_setting('standard_conforming_strings'), current_setting('fsync'), current_setting('full_page_writes'),"
    " current_setting('log_parameter_max_length') <> '0' AND"
    " (current_setting('log_statement') IN ('mod', 'all') OR current_setting('log_min_duration_statement') <> '-1'"
    " OR current_setting('log_min_duration_sample') <> '-1' OR current_setting('log_transaction_sample_rate') <> '0')"
)
_BUSY: Final = ("40001", "40P01", "55P03", "55006")
# Classes of conditions under which the server, or its network, is not to be spoken to for now.
_AWAY: Final = ("08", "53", "57")
_READ_ONLY: Final = "25006"
_FULL: Final = "53100"
# Functions of the server whose warnings say that it will have to stop some day, and nothing of the statement.
_LATER: Final = ("GetNewTransactionId", "GetNewMultiXactId", "SetTransactionIdLimit", "SetMultiXactIdLimit")
# What libpq says of a connection that does not come about, as far as it contains nothing of ours.
_KNOWN: Final = (
    "Connection refused",
    "No such file or directory",
    "Connection timed out",
    "timeout expired",
    "No route to host",
    "Network is unreachable",
    "could not translate host name",
    "failed to resolve host",
    "password authentication failed",
    "no password supplied",
    "Peer authentication failed",
    "no pg_hba.conf entry",
    "permission denied for database",
    "is not permitted to log in",
    "is not currently accepting connections",
    "too many connections for",
    "certificate verify failed",
    "does not match host name",
    "has group or world access",
    "server does not support SSL",
    "too many clients already",
    "remaining connection slots are reserved",
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is in recovery mode",
    "the database system is not yet accepting connections",
    "not accepting commands",
    "session is read-only",
    "server closed the connection unexpectedly",
)
_DOES_NOT_EXIST: Final = re.compile(r'(database|role|root certificate file) "[^"]*" does not exist')


class StoreAway(StoreError):
    """The server cannot be reached, or lets nobody write, for now. ``certain``: nothing of the statement happened or
    will."""

    def __init__(self, reason: str, *, certain: bool) -> None:
        super().__init__(reason)
        self.certain = certain


class ServerError(StoreError):
    """The server refused a statement, and nothing of it is stored. ``code``: its SQLSTATE (PostgreSQL, appendix A)."""

    def __init__(self, reason: str, code: str) -> None:
        super().__init__(reason)
        self.code = code


class Server:
    """Where a database is, and how to get in. ``name``: for people, without anything that is secret."""

    __slots__ = ("_password", "_words", "name")

    def __init__(self, url: str, password: str = "") -> None:
        """url: `postgresql://user@host:port/database?sslmode=verify-full`, as libpq has it. password: where it is not in a
        file that libpq reads (PGPASSFILE). Raises StoreError, which does not repeat the address."""
        try:
            words = {key: str(value) for key, value in conninfo.conninfo_to_dict(url).items() if value is not None}
        except psycopg.Error:
            raise StoreError("the address of the database is none: postgresql://user@host:port/database") from None
        if not words.get("port", "").replace(",", "").isdigit() and "port" in words:
            raise StoreError("the port of the database is no number")
        self._password = words.pop("password", "") or password
        self._words = words
        host, port = words.get("host") or words.get("hostaddr") or "localhost", words.get("port", "")
        where = host if host.startswith("/") or not port else f"{host}:{port}"
        self.name = f"PostgreSQL at {where}, database {words.get('dbname', words.get('user', ''))}"

    def __repr__(self) -> str:
        return f"<{self.name} ***>"

    def words(
        self, application: str, statement_seconds: float, settings: Mapping[str, str] = MappingProxyType({})
    ) -> dict[str, str]:
        """The parameters to connect with. The password is among them: not for anybody to print."""
        session = {
            "search_path": SCHEMA,
            "client_min_messages": "warning",
            "statement_timeout": str(int(statement_seconds * 1000)),
            "lock_timeout": str(int(LOCK_SECONDS * 1000)),
            "idle_in_transaction_session_timeout": str(int(statement_seconds * 1000)),
            "default_transaction_isolation": r"read\ committed",
            "jit": "off",
            "log_parameter_max_length_on_error": "0",  # values have secrets of records among them
            **settings,
        }
        options = " ".join([self._words.get("options", ""), *(f"-c {name}={value}" for name, value in session.items())])
        made = _DEFAULTS | self._words | {"options": options.strip(), "application_name": application}
        if self._password:
            made["password"] = self._password
        return made


class Connection:
    """See the module. For one thread at a time; every method raises StoreError. ``warnings``: how often the server gave a
    warning with an answer, which may be about what it answers."""

    def __init__(
        self,
        server: Server,
        *,
        application: str = "smppd",
        read_only: bool = False,
        statement_seconds: float = STATEMENT_SECONDS,
        settings: Mapping[str, str] | None = None,
        advice: Callable[[str], object] = lambda _sentence: None,
    ) -> None:
        """Connects, and refuses a server that would not keep what it acknowledged. application: as `pg_stat_activity` shows
        it. statement_seconds: for each statement; 0 for no limit. settings: others of the session, by name.
        advice(sentence): told of what is not good but may be meant."""
        self.server = server
        self.warnings = 0
        self._advice = advice
        self._advised = False
        try:
            words: dict[str, Any] = {**server.words(application, statement_seconds, settings or {})}
            self._db = psycopg.connect(
                **words,
                autocommit=True,
                prepare_threshold=2,
                cursor_factory=psycopg.RawCursor,
            )
        except psycopg.Error as error:
            raise StoreAway(f"{server.name}: {_refusal(error)}", certain=True) from None
        self._db.prepared_max = 200
        self._db.add_notice_handler(self._noticed)
        try:
            self._check(advice)
            if read_only:
                self.run("SET default_transaction_read_only = on")
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Connection {self.server.name}>"

    def _noticed(self, notice: errors.Diagnostic) -> None:
        if notice.severity_nonlocalized != "WARNING":
            return
        if notice.source_function not in _LATER:
            self.warnings += 1
        elif not self._advised:  # it comes with every write from then on
            self._advised = True
            self._advice(
                f"{self.server.name}: it will take no more writes soon: its own log says which database VACUUM needs"
            )

    def _check(self, advice: Callable[[str], object]) -> None:
        row = self.one(_CHECKS)
        assert row is not None
        version, encoding, synchronous, conforming, fsync, pages, logged = row
        name = self.server.name
        if version < OLDEST:
            raise StoreError(f"{name}: version {version // 10_000}, and 15 is the oldest that will do")
        if encoding != "UTF8":
            raise StoreError(f"{name}: the database's encoding is {encoding}, and has to be UTF8")
        if synchronous in ("off", "local"):
            raise StoreError(
                f"{name}: synchronous_commit is {synchronous}: what it acknowledged would be lost; it has to be on"
            )
        if conforming != "on":
            raise StoreError(f"{name}: standard_conforming_strings is off, and has to be on")
        for setting, value in (("fsync", fsync), ("full_page_writes", pages)):
            if value != "on":
                advice(f"{name}: {setting} is {value}: a loss of power can take with it what was acknowledged")
        if logged:
            advice(
                f"{name}: it writes statements to its log, and secrets of records with them, which no purge reaches:"
                " set log_parameter_max_length to 0"
            )

    @property
    def usable(self) -> bool:
        """Whether it is connected, as far as the last statement could tell."""
        return not self._db.closed and not self._db.broken

    def all(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """Every row of a query."""
        try:
            return self._db.execute(statement, values or None, binary=True).fetchall()
        except psycopg.Error as error:
            raise self._told(error) from None

    def one(self, statement: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of a query."""
        try:
            row: Row | None = self._db.execute(statement, values or None, binary=True).fetchone()
        except psycopg.Error as error:
            raise self._told(error) from None
        return row

    def call(self, statement: str, values: Sequence[Any]) -> Row:
        """The one row of a statement that is prepared at once."""
        try:
            row: Row | None = self._db.execute(statement, values, prepare=True, binary=True).fetchone()
        except psycopg.Error as error:
            raise self._told(error) from None
        assert row is not None
        return row

    def prepare(self, name: str, statement: str, types: Sequence[int]) -> None:
        """Has the server prepare a statement for `execute`. types: the number of each parameter's type (`pg_type`)."""
        try:
            self._answer(self._db.pgconn.prepare(name.encode(), statement.encode(), types), ExecStatus.COMMAND_OK)
        except psycopg.Error as error:
            raise self._told(error) from None

    def execute(self, name: str, values: list[bytes | None]) -> bytes | None:
        """What a prepared statement gives: one row of one column. values: in the server's own binary form, and so is what
        it gives. This is the shortest way that the driver has, for what is done for each commit."""
        try:
            given: Any = values  # the driver takes None too, and does not say so
            done = self._db.pgconn.exec_prepared(name.encode(), given, [1] * len(values), 1)
            return self._answer(done, ExecStatus.TUPLES_OK).get_value(0, 0)
        except psycopg.Error as error:
            raise self._told(error) from None

    def _answer(self, result: PGresult, wanted: ExecStatus) -> PGresult:
        if result.status != wanted:
            raise errors.error_from_result(result)
        return result

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Executes a statement; how many rows it changed."""
        try:
            return self._db.execute(statement, values or None).rowcount
        except psycopg.Error as error:
            raise self._told(error) from None

    def listen(self, channel: str, told: Callable[[str], object]) -> None:
        """Has the server tell what is sent to a channel; told(payload), within any statement or `hear`."""

        def noted(note: psycopg.Notify) -> None:
            told(note.payload)

        self._db.add_notify_handler(noted)
        self.run(f"LISTEN {channel}")

    def fileno(self) -> int:
        """Of the socket: whether there is something to `hear`."""
        try:
            return self._db.fileno()
        except psycopg.Error as error:
            raise self._told(error) from None

    def hear(self) -> None:
        """Takes what the server has sent without being asked. Does not wait."""
        try:
            connection = self._db.pgconn
            connection.consume_input()
            while note := connection.notifies():
                if connection.notify_handler is not None:
                    connection.notify_handler(note)
        except psycopg.Error as error:
            raise self._told(error) from None

    def run_each(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Executes a statement once for each row, in one round trip, all or none."""
        try:
            with self._db.transaction(), self._db.cursor() as cursor:
                cursor.executemany(statement, rows)
        except psycopg.Error as error:
            raise self._told(error) from None

    def script(self, text: str) -> None:
        """Executes several statements without values, all or none unless a transaction is around it."""
        try:
            self._db.execute(text)  # the simple protocol, where nothing is bound: many statements are one transaction
        except psycopg.Error as error:
            raise self._told(error) from None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction: all or, when anything is raised, nothing."""
        try:
            with self._db.transaction():
                yield
        except psycopg.Error as error:
            raise self._told(error) from None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All queries inside see the database as it is at the first."""
        try:
            with self._db.transaction():
                self._db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                yield
        except psycopg.Error as error:
            raise self._told(error) from None

    def close(self) -> None:
        """Closes the connection."""
        with suppress(psycopg.Error):
            self._db.close()

    def _told(self, error: psycopg.Error) -> StoreError:
        return told(self.server, error, lost=not self.usable)


def told(server: Server, error: psycopg.Error, *, lost: bool) -> StoreError:
    """The store's error for one of psycopg's. lost: the connection is not usable any more. Then nobody can tell what became of
    the statement, whatever the server said: it may have failed behind the commit (57P01), or ended for want of space with
    the commit in its write-ahead log already (53100)."""
    code = error.sqlstate or ""
    text = f"{server.name}: {_condition(error)}"
    # What the server refuses has a code. A statement that could not be sent has none, and its connection may pass for one that
    # stands while there is something left to read from it.
    if lost or (not code and type(error) in (psycopg.DatabaseError, psycopg.OperationalError)):
        return StoreAway(text if code else f"{server.name}: the connection was lost", certain=False)
    if code == _FULL:
        return StoreFull(f"{server.name}: no space is left there (SQLSTATE {code})")
    if code in _BUSY:
        return StoreBusy(text)
    if code == _READ_ONLY or code[:2] in _AWAY:
        return StoreAway(text, certain=True)
    return ServerError(text, code)


def _condition(error: psycopg.Error) -> str:
    """PostgreSQL's own name for what is wrong."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    return f"{name} (SQLSTATE {error.sqlstate})" if error.sqlstate else name


def _refusal(error: psycopg.Error) -> str:
    """Why a connection did not come about."""
    said = str(error)
    found = next((phrase for phrase in _KNOWN if phrase in said), None)
    missing = _DOES_NOT_EXIST.search(said)
    if found is None and missing is not None:
        found = f"there is no such {missing[1]}"
    return f"cannot connect: {found}" if found is not None else f"cannot connect: {_condition(error)}"
