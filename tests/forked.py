"""smppd's commands and its daemon, each in a process of its own that is forked from one which has imported everything.

What runs is what `python -m smppd ...` runs, with files for its standard streams; but the imports are done once for each
worker of the tests, not for each of many processes; and once more for each library that is preloaded under it (LD_PRELOAD).
What is about the start of a process itself, or steers such a library by variables of each process, uses `subprocess`.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0
"""Seconds for a command."""
PRELOADED = frozenset(("LD_PRELOAD", "TORTURE_CLOCK"))
"""Variables that are read when a process is loaded, before there is anything to fork."""


class Forked:
    """A process of smppd, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(
        self,
        words: list[str],
        streams: tuple[str, str, str],
        *,
        environment: dict[str, str] | None = None,
        user: int | None = None,
    ) -> None:
        """Runs `smppd WORDS` in a session of its own. ``streams``: paths of its standard streams; the outputs are appended to.
        ``environment``: instead of this process's. ``user``: the uid and gid it runs with, in the root directory then, since
        others may be closed to it."""
        given = environment or dict(os.environ)
        asked: dict[str, Any] = {"words": words, "streams": streams, "environment": given, "user": user}
        self._server = _server(tuple([(name, given[name]) for name in sorted(PRELOADED) if name in given]))
        self.pid = _ask(self._server, asked)
        self.returncode: int | None = None
        self._handle = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            self._look(0.0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Waits for the exit status. subprocess.TimeoutExpired after ``timeout`` seconds."""
        if self.returncode is None and not self._look(timeout):
            raise subprocess.TimeoutExpired("smppd", timeout)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, seconds: float) -> bool:
        # poll, not select: a test may have more than 1,024 files open.
        waiting = select.poll()
        waiting.register(self._handle, select.POLLIN)
        if not waiting.poll(seconds * 1000):
            return False
        self.returncode = _ask(self._server, {"ended": self.pid})
        os.close(self._handle)
        return True


def run(
    words: list[str], stdin: str = "", *, environment: dict[str, str] | None = None, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    """What `python -m smppd WORDS` said; the rest as for ``Forked``. subprocess.TimeoutExpired after a minute."""
    with tempfile.TemporaryDirectory() as directory:
        files = (f"{directory}/0", f"{directory}/1", f"{directory}/2")
        Path(files[0]).write_text(stdin)
        process = Forked(words, files, environment=environment, user=user)
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)
            raise
        out, err = (Path(name).read_text() for name in files[1:])
    return subprocess.CompletedProcess(words, status, out, err)


_TURN = threading.Lock()


def _ask(server: subprocess.Popen[bytes], asked: dict[str, Any]) -> int:
    with _TURN:
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(asked).encode() + b"\n")
        return int(server.stdout.readline())


@cache
def _server(preloaded: tuple[tuple[str, str], ...]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.forked"]
    # No buffers: an answer must not lie in one.
    environment = {name: value for name, value in os.environ.items() if name not in PRELOADED} | dict(preloaded)
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=ROOT, env=environment
    )
    atexit.register(_stop, server)
    return server


def _stop(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait(timeout=10)


# -- the process that is forked --------------------------------------------------------------------------------------


def _serve() -> None:
    main = importlib.import_module("smppd.cli.main")
    for name in main.COMMANDS:
        importlib.import_module(f"smppd.cli.commands.{name}")
    importlib.import_module("smppd.daemon.daemon")
    # Imported late by what runs; who is not root may not be able to read them.
    for name in (
        "encodings.idna",
        "encodings.utf_16_be",
        "encodings.utf_8_sig",
        "_strptime",
        "getpass",
        "rich.progress",
    ):
        importlib.import_module(name)
    importlib.import_module("phonenumbers").PhoneMetadata.load_all()
    # A reactor's descriptors would be shared by all that are forked.
    assert "twisted.internet.reactor" not in sys.modules
    # A daemon collects all garbage when it begins: it is not to look at, and so to copy, all that was imported here.
    gc.collect()
    gc.freeze()
    asked, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.dup(1)
    for line in asked:
        request = json.loads(line)
        if "ended" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["ended"], 0)[1])
        else:
            # Answered when it leads a group of its own: who is told of it may kill that at once.
            ready, lead = os.pipe()
            answer = os.fork()
            if answer == 0:
                asked.close()
                os.close(answers)
                os.close(ready)
                os.setsid()
                os.close(lead)
                _become(main, request)
            os.close(lead)
            os.read(ready, 1)
            os.close(ready)
        os.write(answers, b"%d\n" % answer)


def _become(main: Any, request: dict[str, Any]) -> NoReturn:
    status = 70
    try:
        for number, path in enumerate(request["streams"]):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
            opened = os.open(path, flags, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        os.environ.clear()
        os.environ.update(request["environment"])
        time.tzset()
        if request["user"] is not None:
            os.chdir("/")
            os.setgroups([])
            os.setgid(request["user"])
            os.setuid(request["user"])
        sys.argv = ["smppd", *request["words"]]
        try:
            status = main.main(request["words"])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # noqa: BLE001 - told as the interpreter tells it
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        status = 1
    finally:
        os._exit(status)


if __name__ == "__main__":
    _serve()
