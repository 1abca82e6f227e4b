"""A PostgreSQL of the tests' own, of the machine's package (Debian: postgresql): on a Unix socket in a temporary folder, once a
test process, for any user. Each test has a database of its own, copied from one that has the schema.

Where there is none, whoever asks for one fails with a sentence that says what to install, unless `WITHOUT` is set.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from smppd.store.api import StoreError
from smppd.store.postgres.connection import Connection
from smppd.store.postgres.connection import Server as Address
from smppd.store.postgres.migrations import migrate

OLDEST: Final = 15
WITHOUT: Final = "SMPPD_WITHOUT_POSTGRESQL"
"""Set by `.ci/run` where PostgreSQL cannot be installed: these tests are skipped then, and it says so at its end."""
USER: Final = "smppd"
_PATIENCE: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1
_SEGMENT_BITS: Final = 20
"""One file of `pg_xact` has the states of so many transactions, two bits each."""
_MISSING: Final = (
    "these tests need PostgreSQL {0} or later and there is none in /usr/lib/postgresql or PATH:"
    " on Debian, apt install postgresql"
)
_SETTINGS: Final = {
    "listen_addresses": "",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "full_page_writes": "off",
    "fsync": "off",
    "log_checkpoints": "off",
    "dynamic_shared_memory_type": "mmap",  # a killed server leaves it behind, here in its folder, which is removed
}
_DURABLE: Final = {"listen_addresses": "", "log_checkpoints": "off", "dynamic_shared_memory_type": "mmap"}


# Row by row: there are few, and to make a table's files anew takes longer.
_EMPTY: Final = """
DO $$
DECLARE
    one text;
BEGIN
    FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'smppd' AND tablename <> 'schema_versions' LOOP
        EXECUTE format('DELETE FROM smppd.%I', one);
    END LOOP;
    PERFORM setval(format('smppd.%I', sequencename)::regclass, 1, false) FROM pg_sequences WHERE schemaname = 'smppd';
END $$
"""


@cache
def programs() -> Path:
    """The folder of `initdb` and `postgres`. RuntimeError where there is none."""
    found = sorted(
        (int(one.parent.name), one) for one in Path("/usr/lib/postgresql").glob("*/bin") if one.parent.name.isdigit()
    )
    if found and found[-1][0] >= OLDEST:
        return found[-1][1]
    there = shutil.which("initdb")
    if there is not None and shutil.which("postgres") is not None:
        folder = Path(there).resolve().parent
        said = subprocess.run(
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, check=True
        ).stdout
        if int(said.split()[2].partition(".")[0]) >= OLDEST:
            return folder
    if os.environ.get(WITHOUT):
        pytest.skip(f"{WITHOUT} is set: there is no PostgreSQL {OLDEST}")
    raise RuntimeError(_MISSING.format(OLDEST))


def _other_user() -> pwd.struct_passwd | None:
    """Who is to run the server, where this is root: PostgreSQL refuses root. None: who we are."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("there is neither a user postgres nor a user nobody to run PostgreSQL as")


class Server:
    """A PostgreSQL server. ``kill`` and ``start`` are those of the whole server."""

    def __init__(self, *, durable: bool = False, replicated: bool = False, primary: Server | None = None) -> None:
        """Makes its data and starts it. durable: it syncs, and writes what a server in use writes. That is slower, and needed
        only where the machine, not the server, loses power, and for measurements. replicated: it may have replicas. primary:
        of which this is one, that it waits for with each commit."""
        self._settings = _DURABLE if durable else _SETTINGS
        if replicated or primary is not None:
            self._settings = self._settings | {"wal_level": "replica", "max_wal_senders": "4"}
        self._user = _other_user()
        self.folder = Path(tempfile.mkdtemp(prefix="smppd-pg-"))
        self.data = self.folder / "data"
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._template = ""
        self._given_back: list[Address] = []
        atexit.register(self.remove)
        if primary is not None:
            self._copies(primary)
            return
        words = [
            "--pgdata",
            str(self.data),
            "--username",
            USER,
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
        ]
        self._run([str(programs() / "initdb"), *words, "--no-sync", "--no-instructions"])
        self.start()

    def _copies(self, primary: Server) -> None:
        begins = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--username", USER]
        copied = ["--pgdata", str(self.data), "--host", str(primary.folder), *begins]
        self._run([str(programs() / "pg_basebackup"), *copied])
        self.start()
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")

    def follows(self, primary: Server) -> None:
        """Once it has ended: throws away what it has and begins anew as a replica, that its primary waits for. At its old
        address."""
        shutil.rmtree(self.data)
        self._copies(primary)

    def promote(self) -> None:
        """A replica takes the place of its primary; returns when it takes writes."""
        db = self._look()
        try:
            db.one("SELECT pg_promote()")
        finally:
            db.close()

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it does, as far as it was not ended by others."""
        return self._process is not None

    def url(self, database: str = "postgres") -> str:
        """Where a database is."""
        return f"postgresql://{USER}@/{database}?host={self.folder}"

    def address(self, database: str = "postgres") -> Address:
        """The same, for a `Connection`."""
        return Address(self.url(database))

    def database(self, *, schema: bool = True) -> Address:
        """A new database, with our schema unless that is not wanted."""
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {self._with_schema() if schema else 'template0'}")
        return self.address(name)

    def empty(self) -> Address:
        """A database with our schema and nothing in it: one that was given back, or a new one. Quicker than `database`."""
        if not self._given_back:
            return self.database()
        address = self._given_back.pop()
        db = Connection(address)
        try:
            db.script(_EMPTY)
        finally:
            db.close()
        return address

    def give_back(self, address: Address) -> None:
        """Nobody needs this database any more, which has our schema and nothing but it."""
        self._given_back.append(address)

    def _with_schema(self) -> str:
        if not self._template:
            self.execute("CREATE DATABASE ours TEMPLATE template0")
            db = Connection(self.address("ours"))
            try:
                migrate(db)
            finally:
                db.close()
            self._template = "ours"
        return self._template

    def drop(self, address: Address) -> None:
        """Removes a database, whoever is connected."""
        self.execute(f"DROP DATABASE IF EXISTS {address.words('', 0)['dbname']} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """One statement, as the administrator."""
        db = Connection(self.address())
        try:
            db.run(statement)
        finally:
            db.close()

    def start(self) -> None:
        """Starts it, and waits until it takes connections."""
        settings = self._settings | {"unix_socket_directories": str(self.folder)}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [str(programs() / "postgres"), "-D", str(self.data), *words]
        with (self.folder / "log").open("ab") as log:
            self._process = (
                _starter()
                .submit(lambda: subprocess.Popen(command, stdout=log, stderr=log, **self._as_other()))
                .result()
            )
        self.wait()

    def wait(self) -> None:
        """Waits until it takes connections."""
        assert self._process is not None
        until = time.monotonic() + _PATIENCE
        while True:
            with suppress(StoreError):
                self._look().close()
                return
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL does not start: {self.said()}")
            time.sleep(0.02)

    def _look(self) -> Connection:
        """A connection to whatever it is: a replica, which takes no writes, or one that loses what it acknowledged."""
        return Connection(Address(self.url() + "&target_session_attrs=any"), settings={"synchronous_commit": "on"})

    def said(self) -> str:
        """The end of the server's log."""
        with suppress(FileNotFoundError):
            return (self.folder / "log").read_text(errors="replace")[-2000:]
        return ""

    def stop(self) -> None:
        """Ends it at once, as a crash would: SIGQUIT, upon which nothing is written."""
        self._end(signal.SIGQUIT)

    def shut(self) -> None:
        """Ends it as an operator does who does not wait for those that are connected: SIGINT."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """kill -9 of the postmaster. Its children notice, and end; not until then can another start."""
        children = self._children()
        self._end(signal.SIGKILL)
        until = time.monotonic() + _PATIENCE
        while any(_lives(child) for child in children) and time.monotonic() < until:
            time.sleep(0.01)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
            process.wait(_PATIENCE)

    def _children(self) -> list[int]:
        with suppress(FileNotFoundError):
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []

    def runs_out_of_transactions(self) -> None:
        """Starts it anew with 30 million numbers left for transactions: below 40 million it warns with each write."""
        db = Connection(self.address())
        row = db.one("SELECT oldest_xid::text::bigint FROM pg_control_checkpoint()")
        db.close()
        assert row is not None
        self.shut()
        segment = (int(row[0]) + (1 << 31) - 30_000_000) >> _SEGMENT_BITS
        self._run([str(programs() / "pg_resetwal"), "-x", str(segment << _SEGMENT_BITS), "-D", str(self.data)])
        states = self.data / "pg_xact" / f"{segment:04X}"
        states.write_bytes(bytes(1 << _SEGMENT_BITS - 2))
        if self._user is not None:
            os.chown(states, self._user.pw_uid, self._user.pw_gid)
        self.start()

    def remove(self) -> None:
        """Ends it and removes all it had."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, words: list[str]) -> None:
        done = subprocess.run(words, capture_output=True, text=True, check=False, **self._as_other())
        if done.returncode:
            raise RuntimeError(f"{Path(words[0]).name}: {done.stderr[-2000:]}")

    def _as_other(self) -> dict[str, Any]:
        made: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}}
        if self._user is not None:
            made |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return made | {"preexec_fn": _dying()}


@cache
def _starter() -> ThreadPoolExecutor:
    """The thread that starts servers: one ends with the thread that started it, and this one lives as long as the process."""
    return ThreadPoolExecutor(1, "postgres")


def _dying() -> Callable[[], None]:
    """Run in the child: it ends with this process, however that ends."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGQUIT))


def _lives(pid: int) -> bool:
    with suppress(FileNotFoundError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@cache
def server() -> Server:
    """The one of this test process."""
    return Server()
