"""A store of each back end in the same words: where it is, how its parts are opened, and all octets that it has on the disk."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from smppd.store.installation import Installation
from smppd.store.opening import embedded
from smppd.store.postgres.connection import Connection, Server
from smppd.store.postgres.installation import PostgresInstallation
from tests import postgres
from tests.store.disk import files

embedded_only = pytest.mark.parametrize("house", ["sqlite"], indirect=True)
"""For a test that is about SQLite's own, or edits its files."""


class House(Protocol):
    """See the module. ``directory``: what is a file of this machine whatever has the store."""

    directory: Path
    place: Installation
    journal: str
    order: str
    """The table of the journal, and the column by which its rows are in order."""

    def octets(self) -> bytes:
        """All that is on the disk of the store and beside it, as it would be found by whoever takes the disk. What a server's
        write-ahead log has is not among it."""

    def settled(self) -> bytes:
        """The same after whatever was deleted was overwritten, by the purge if need be."""

    def opened(self, part: str) -> Any:
        """A part of `place`, closed at the end of the test."""

    def contents(self) -> object:
        """All that is stored, to be compared with what it was."""

    def edit(self, statement: str, *values: object) -> None:
        """Edits what is stored, as somebody does who has the database: in SQLite's words, of which each house understands what
        the tests need."""

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """What is stored, likewise."""

    def reading(self) -> AbstractContextManager[None]:
        """Somebody else reads all the time."""

    def put_back(self) -> AbstractContextManager[None]:
        """Behind it the log and its secrets are as they were. Nothing of the store is open."""

    def ends(self) -> None:
        """The test is over."""


class _Opened:
    """What was opened for the test."""

    place: Installation

    def __init__(self) -> None:
        self._parts: list[Any] = []

    def opened(self, part: str) -> Any:
        made = getattr(self.place, part)()
        self._parts.append(made)
        return made

    def ends(self) -> None:
        for one in self._parts:
            one.close()


class SqliteHouse(_Opened):
    """Files in a directory."""

    journal, order = "spool", "seq"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.place: Installation = embedded(directory)

    def octets(self) -> bytes:
        return files(self.directory)

    def settled(self) -> bytes:
        for path in self.directory.glob("*.db"):
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return self.octets()

    def contents(self) -> object:
        return files(self.directory)

    def edit(self, statement: str, *values: object) -> None:
        self._on(statement, values)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self._on(query, ())

    def _on(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """On the file that has the table."""
        for name in ("data.db", "keys.db"):
            with closing(sqlite3.connect(self.directory / name, isolation_level=None)) as db:
                try:
                    return db.execute(statement, values).fetchall()
                except sqlite3.OperationalError as error:
                    if "no such table" not in str(error) or name == "keys.db":
                        raise
        raise AssertionError

    @contextmanager
    def put_back(self) -> Iterator[None]:
        before = {path: path.read_bytes() for path in self.directory.glob("*.db")}
        yield
        for path in self.directory.glob("*.db*"):
            path.unlink()
        for path, octets in before.items():
            path.write_bytes(octets)

    @contextmanager
    def reading(self) -> Iterator[None]:
        path = f"file:{self.directory / 'keys.db'}?mode=ro"
        with closing(sqlite3.connect(path, uri=True, isolation_level=None)) as db:
            db.execute("BEGIN")
            db.execute("SELECT * FROM secrets").fetchall()
            yield
            db.execute("COMMIT")


class PostgresHouse(_Opened):
    """A database of a server of the tests' own."""

    journal, order = "journal", "counter"

    def __init__(self, directory: Path) -> None:
        super().__init__()
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.server: Server = postgres.server().empty()
        self.place: Installation = PostgresInstallation(self.server, directory)

    def octets(self) -> bytes:
        with self._connected() as db:
            db.run("CHECKPOINT")  # all that was committed is in the files of the tables then
            row = db.one("SELECT oid FROM pg_database WHERE datname = current_database()")
        assert row is not None
        folder = postgres.server().data / "base" / str(row[0])
        tables = [path for path in sorted(folder.iterdir()) if path.name[0].isdigit()]
        return b"".join(path.read_bytes() for path in tables) + files(self.directory)

    def settled(self) -> bytes:
        with closing(self.place.purge()) as purge:
            assert purge.wipe()
        return self.octets()

    def contents(self) -> object:
        with self._connected() as db:
            names = [row[0] for row in db.all("SELECT tablename FROM pg_tables WHERE schemaname = 'smppd'")]
            return {name: sorted(db.all(f"SELECT * FROM {name}"), key=repr) for name in names}

    def edit(self, statement: str, *values: object) -> None:
        with self._connected() as db:
            db.run(_translated(statement), values)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with self._connected() as db:
            return db.all(query)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        names = ("log", "secrets", "purged")
        with self._connected() as db:
            before = {name: db.all(f"SELECT * FROM {name}") for name in names}
        yield
        with self._connected() as db, db.writing():
            for name, rows in before.items():
                db.run(f"DELETE FROM {name}")
                for row in rows:
                    db.run(f"INSERT INTO {name} VALUES ({', '.join(f'${at + 1}' for at in range(len(row)))})", row)

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._connected() as db, db.snapshot():
            db.all("SELECT * FROM secrets")
            yield

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with closing(Connection(self.server)) as db:
            yield db

    def ends(self) -> None:
        super().ends()
        postgres.server().give_back(self.server)


def _translated(statement: str) -> str:
    statement = re.sub(r"x'([0-9a-f]*)'", r"decode('\1', 'hex')", statement)
    statement = re.sub(r"zeroblob\((.*?)\)(?!\))", r"decode(repeat('00', \1), 'hex')", statement)
    statement = re.sub(r"CAST\((.*?) AS BLOB\)", r"(\1)", statement)
    for number in range(1, statement.count("?") + 1):
        statement = statement.replace("?", f"${number}", 1)
    return statement


HOUSES: dict[str, Callable[[Path], House]] = {"sqlite": SqliteHouse, "postgres": PostgresHouse}


@pytest.fixture(params=sorted(HOUSES))
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """Each in turn, in a directory of the test's own."""
    made = HOUSES[request.param](tmp_path / "store")
    yield made
    made.ends()
