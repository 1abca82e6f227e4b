"""A PostgreSQL of the demo's own, of the machine's package (Debian: postgresql): in a temporary folder, on a Unix socket
there, for as long as the demo lasts."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

OLDEST: Final = 15
USER: Final = "smppd"
_PATIENCE: Final = 60.0
_SETTINGS: Final = {"listen_addresses": "", "log_checkpoints": "off", "max_connections": "60"}
_PR_SET_PDEATHSIG: Final = 1


class PostgresError(Exception):
    """There is no PostgreSQL, or it does not start; the text is one clear sentence."""


def programs() -> Path:
    """The folder of `initdb`, `postgres` and `pg_isready`. Raises PostgresError where there is none that serves."""
    found = sorted(
        (int(one.parent.name), one) for one in Path("/usr/lib/postgresql").glob("*/bin") if one.parent.name.isdigit()
    )
    if found and found[-1][0] >= OLDEST and (found[-1][1] / "initdb").exists():
        return found[-1][1]
    there = shutil.which("initdb")
    if there is not None and shutil.which("pg_isready") is not None:
        folder = Path(there).resolve().parent
        said = subprocess.run([str(folder / "postgres"), "--version"], capture_output=True, text=True, check=False)
        if said.stdout.split()[2:3] and int(said.stdout.split()[2].partition(".")[0]) >= OLDEST:
            return folder
    raise PostgresError(
        f"there is no PostgreSQL {OLDEST} or later in /usr/lib/postgresql or PATH: on Debian, apt install postgresql"
    )


class PostgresServer:
    """The server; left, it is gone with all it had. Raises PostgresError."""

    def __init__(self) -> None:
        folder = programs()
        self._user = _other_user()
        self._folder = Path(tempfile.mkdtemp(prefix="smppd-demo-"))
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if self._user is not None:
                os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
            self._make(folder)
            self._start(folder)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Of its database."""
        return f"postgresql://{USER}@/postgres?host={self._folder}"

    def _make(self, folder: Path) -> None:
        words = ["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-instructions"]
        done = subprocess.run(
            [str(folder / "initdb"), "--pgdata", str(self._data), *words],
            capture_output=True,
            text=True,
            check=False,
            **self._as_other(),
        )
        if done.returncode:
            raise PostgresError(f"initdb failed: {done.stderr.strip().splitlines()[-1:]}")

    def _start(self, folder: Path) -> None:
        settings = _SETTINGS | {"unix_socket_directories": str(self._folder)}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(folder / "postgres"), "-D", str(self._data), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C at the terminal is the demo's
                **self._as_other(),
            )
        asked = [shutil.which("pg_isready", path=str(folder)) or "pg_isready", "-q", "-h", str(self._folder)]
        until = time.monotonic() + _PATIENCE
        while subprocess.run(asked, check=False, capture_output=True).returncode:
            if self._process.poll() is not None or time.monotonic() > until:
                raise PostgresError("PostgreSQL does not start")
            time.sleep(0.1)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _as_other(self) -> dict[str, Any]:
        made: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}}
        if self._user is not None:
            made |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        # It ends with this process, however that ends.
        return made | {"preexec_fn": lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGQUIT))}

    def close(self) -> None:
        """Ends it, and removes all it had."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGQUIT)
            process.wait(_PATIENCE)
        shutil.rmtree(self._folder, ignore_errors=True)


def _other_user() -> pwd.struct_passwd | None:
    """Who is to run the server, where this is root: PostgreSQL refuses root. None: who we are."""
    if os.geteuid():
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresError("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody")
