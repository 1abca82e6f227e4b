"""Runs commands for a campaign from a process of its own: to start one from the process that also measures answers would hold
those up, and to wait for one would take part of its time."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

_ANSWER: Final = 30.0


class Ended(NamedTuple):
    """How a command ended. ``returncode`` None: it was killed, as asked. ``late``: it had to be killed."""

    returncode: int | None
    stdout: str
    stderr: str
    late: bool = False


class Hands:
    """See the module. One command at a time. Use as a context manager."""

    def __init__(self, directory: Path) -> None:
        """``directory``: where commands are run."""
        self._directory = directory
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=directory,
        )

    def __enter__(self) -> Hands:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate(timeout=_ANSWER)

    def run(self, argv: Sequence[str], *, within: float, kill: bool = False) -> Ended:
        """Runs a command for up to ``within`` seconds. It is killed then: as it should be (``kill``), or because it is late."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"argv": list(argv), "within": within}) + "\n")
            self._process.stdin.flush()
            told = json.loads(self._process.stdout.readline())
        killed = told["returncode"] is None
        return Ended(told["returncode"], told["stdout"], told["stderr"], killed and not kill)


def _serve() -> None:
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    process = subprocess.Popen(
        asked["argv"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, err = process.communicate(timeout=asked["within"])
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        return {"returncode": None, "stdout": out, "stderr": err}
    return {"returncode": process.returncode, "stdout": out, "stderr": err}


if __name__ == "__main__":
    _serve()
