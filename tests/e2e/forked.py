"""Commands of smppd, each in a process of its own that is forked from one which has imported everything.

A command is what `python -m smppd ...` runs, with files for its standard streams; but the imports are done once, not for each
of many commands. What is about the start of a process itself uses `subprocess`.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from tests.e2e.children import ROOT

PATIENCE = 60.0
"""Seconds for a command."""


def run(words: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """What `python -m smppd WORDS` said. subprocess.TimeoutExpired after a minute."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "0").write_text(stdin)
        server = _server()
        assert server.stdin is not None and server.stdout is not None
        asked = {"words": words, "directory": directory, "environment": dict(os.environ)}
        server.stdin.write(json.dumps(asked).encode() + b"\n")
        pid = int(server.stdout.readline())
        if not select.select([server.stdout], [], [], PATIENCE)[0]:
            os.kill(pid, signal.SIGKILL)
            server.stdout.readline()
            raise subprocess.TimeoutExpired(words, PATIENCE)
        status = int(server.stdout.readline())
        out, err = ((Path(directory) / name).read_text() for name in ("1", "2"))
    return subprocess.CompletedProcess(words, status, out, err)


@cache
def _server() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.e2e.forked"]
    # No buffers: `select` has to see what has come.
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=ROOT)
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
    # A reactor's descriptors would be shared by all that are forked.
    assert "twisted.internet.reactor" not in sys.modules
    asked, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.dup(1)
    for line in asked:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            asked.close()
            os.close(answers)
            _command(main, request)
        os.write(answers, b"%d\n" % pid)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(answers, b"%d\n" % status)


def _command(main: Any, request: dict[str, Any]) -> NoReturn:
    status = 70
    try:
        for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY | os.O_CREAT), (2, os.O_WRONLY | os.O_CREAT)):
            opened = os.open(f"{request['directory']}/{number}", flags, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        os.environ.clear()
        os.environ.update(request["environment"])
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
