"""A simulator as a child process, seen from the parent: orders and events as JSON lines, and no way to be left behind."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, Self

PATIENCE: Final = 30.0


class ChildError(Exception):
    """A child ended, failed, or did not say in time what it had to."""


class Child:
    """A process that reads orders and writes events, one JSON value a line. In a session of its own, so that Ctrl-C at
    the terminal reaches the parent only. Leaving it as a context manager ends it."""

    def __init__(self, command: list[str], config: dict[str, Any], directory: Path | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=directory, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(json.loads(line))
        self._queue.put(None)

    def send(self, value: dict[str, Any]) -> None:
        """Writes one line; what a child that is gone no longer hears is found out by ``expect``."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(value).encode() + b"\n")
            self.process.stdin.flush()

    def order(self, op: str, **values: Any) -> None:
        """Gives an order that has no answer of its own."""
        self.send({"op": op, **values})

    def ask(self, op: str, answer: str | None = None, **values: Any) -> dict[str, Any]:
        """Gives an order and waits for its answer."""
        self.order(op, **values)
        return self.expect(answer or op)

    def expect(self, *kinds: str, patience: float = PATIENCE) -> dict[str, Any]:
        """The next event of one of these kinds; others before it are kept in ``events``. Raises ChildError when a
        failure comes instead, when the child ended, and after ``patience`` seconds."""
        deadline = time.monotonic() + patience
        while True:
            for index, value in enumerate(self.events):
                if value["ev"] in kinds:
                    return self.events.pop(index)
            try:
                news = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise ChildError(f"{kinds[0]} did not come within {patience:g} s; have {self._seen()}") from None
            if news is None:
                self._queue.put(None)
                raise ChildError(f"the process ended before {kinds[0]}; have {self._seen()}")
            if news["ev"] in ("failed", "error") and news["ev"] not in kinds:
                raise ChildError(f"instead of {kinds[0]}: {news}")
            self.events.append(news)

    def collect(self, kind: str, count: int, patience: float = PATIENCE) -> list[dict[str, Any]]:
        """``count`` events of this kind."""
        deadline = time.monotonic() + patience
        return [self.expect(kind, patience=max(0.1, deadline - time.monotonic())) for _ in range(count)]

    def pending(self, kind: str) -> list[dict[str, Any]]:
        """Events of this kind that came unasked, until now."""
        with contextlib.suppress(queue.Empty):
            while (value := self._queue.get_nowait()) is not None:
                self.events.append(value)
        return [value for value in self.events if value["ev"] == kind]

    def _seen(self) -> dict[str, int]:
        kinds = [value["ev"] for value in self.events]
        return {kind: kinds.count(kind) for kind in kinds}

    def close(self) -> int:
        """Closes its stdin, waits; kills it after 10 s. The exit status."""
        process = self.process
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            status = process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait(10)
        self._reader.join(10)
        if process.stdout is not None:
            process.stdout.close()
        return status


def simulator(kind: str, config: dict[str, Any], directory: Path | None = None) -> Child:
    """A child of `python -m smppd.demo`: ``smsc`` or ``customer``."""
    return Child([sys.executable, "-m", "smppd.demo", kind], config, directory)
