"""A compilation that goes on in a child process (`child`), as its parent sees it: started, asked how far it is, stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from smppd.lists.compiler import ListSpec

_COMMAND: Final = (sys.executable, "-m", "smppd.lists.child")
_ROOT: Final = Path(__file__).resolve().parents[2]
"""Where the child finds this package, and nothing that lies where the daemon was started."""
_PATIENCE: Final = 10.0


class Outcome(NamedTuple):
    """What came of a compilation. ``kind``: ``compiled``; ``refused``: the file is not taken as it is; ``failed``: it may work
    another time. ``reason``: why not, in a sentence without anything of the list."""

    kind: str
    reason: str = ""
    entries: int = 0
    skipped: int = 0
    told: tuple[tuple[int, str], ...] = ()


class Compilation:
    """One child process. Raises OSError where it cannot be started."""

    def __init__(
        self,
        spec: ListSpec,
        directory: Path,
        key: bytes,
        reserve: int,
        *,
        progress: bool = False,
        lenient: bool = False,
        command: Sequence[str] = _COMMAND,
    ) -> None:
        """reserve: octets that stay free on the disk. progress: it says how far it is, for `wait`. lenient: bad lines are left
        out this time, whatever the list's settings say."""
        job = {
            "name": spec.name,
            "kind": spec.kind,
            "file": os.fspath(spec.file),
            "region": spec.region,
            "column": spec.column,
            "skip": spec.skip,
            "directory": os.fspath(directory),
            "key": key.hex(),
            "reserve": reserve,
            "progress": progress,
            "lenient": lenient,
        }
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=_ROOT
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input = self._process.stdin
        self._output = self._process.stdout
        try:
            self._input.write(json.dumps(job).encode() + b"\n")
            self._input.flush()
        except BrokenPipeError:
            pass  # it ended at once: its outcome says so

    def poll(self) -> Outcome | None:
        """What came of it; None while it works. Does not wait."""
        return None if self._process.poll() is None else self._ended(self._output.read().splitlines())

    def wait(self, progress: Callable[[float], object] = lambda _done: None) -> Outcome:
        """Waits for it. It is stopped where this is interrupted."""
        lines: list[bytes] = []
        try:
            for line in self._output:
                found = json.loads(line)
                if "progress" in found:
                    progress(found["progress"])
                else:
                    lines.append(line)
        except BaseException:
            self.stop()
            raise
        self._process.wait()
        return self._ended(lines)

    def stop(self) -> None:
        """Stops it: it takes away what it has begun, and ends within a moment."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()  # what it leaves behind is taken away the next time
                self._process.wait()
        self._close()

    def _ended(self, lines: Sequence[bytes]) -> Outcome:
        self._close()
        try:
            said: dict[str, Any] = json.loads(lines[-1])
            kind = said["outcome"]
        except (IndexError, ValueError, KeyError):
            return Outcome("failed", f"the child process ended with status {self._process.returncode}")
        told = tuple((int(line), str(why)) for line, why in said.get("told", ()))
        return Outcome(kind, said.get("reason", ""), said.get("entries", 0), said.get("skipped", 0), told)

    def _close(self) -> None:
        for pipe in (self._input, self._output):
            try:
                pipe.close()
            except BrokenPipeError:
                pass
