"""Child processes of the tests: started in a group of their own, talked to in JSON lines, always waited for."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE: Final = 30.0


class Child:
    """A process that reads orders and writes events, one JSON value a line."""

    def __init__(self, command: list[str], config: dict[str, Any], errors: Path | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue()
        with contextlib.ExitStack() as files:
            stderr = files.enter_context(errors.open("ab")) if errors else None
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT, start_new_session=True
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(json.loads(line))
        self._queue.put(None)

    def send(self, value: dict[str, Any]) -> None:
        """Writes one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value).encode() + b"\n")
        self.process.stdin.flush()

    def order(self, op: str, **values: Any) -> None:
        """Gives an order that has no answer of its own."""
        self.send({"op": op, **values})

    def ask(self, op: str, answer: str | None = None, **values: Any) -> dict[str, Any]:
        """Gives an order and waits for its answer."""
        self.order(op, **values)
        return self.expect(answer or op)

    def expect(self, event: str, patience: float = PATIENCE) -> dict[str, Any]:
        """The next event of this kind; others before it are kept in ``events``. AssertionError when it does not come."""
        deadline = time.monotonic() + patience
        while True:
            for index, value in enumerate(self.events):
                if value["ev"] == event:
                    return self.events.pop(index)
            try:
                news = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{event} did not come within {patience:g} s; have {self._seen()}") from None
            if news is None:
                raise AssertionError(
                    f"the process ended (status {self.process.wait(5)}) before {event}; have {self._seen()}"
                )
            if news["ev"] in ("failed", "error") and event not in ("failed", "error"):
                raise AssertionError(f"instead of {event}: {news}")
            self.events.append(news)

    def collect(self, event: str, count: int, patience: float = PATIENCE) -> list[dict[str, Any]]:
        """``count`` events of this kind."""
        deadline = time.monotonic() + patience
        return [self.expect(event, max(0.1, deadline - time.monotonic())) for _ in range(count)]

    def pending(self, event: str) -> list[dict[str, Any]]:
        """Events of this kind that came unasked, until now."""
        with contextlib.suppress(queue.Empty):
            while (value := self._queue.get_nowait()) is not None:
                self.events.append(value)
        return [value for value in self.events if value["ev"] == event]

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
            process.send_signal(signal.SIGKILL)
            status = process.wait(10)
        self._reader.join(10)
        if process.stdout is not None:
            process.stdout.close()
        return status


class Smsc(Child):
    """The simulated SMSC; ``port`` is where it listens."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__([sys.executable, "-m", "smppd.admin.simulator", "smsc"], config)
        self.port: int = self.expect("listening")["port"]

    def submits(self) -> list[bytes]:
        """The submit_sm frames it received, in order."""
        frames = [bytes.fromhex(frame) for frame in self.ask("frames")["frames"]]
        return [frame for frame in frames if frame[4:8] == b"\0\0\0\4"]

    def deliveries(self) -> list[bytes]:
        """The deliver_sm frames it sent, in order."""
        return [bytes.fromhex(frame) for frame in self.ask("sent")["frames"]]


CLIENTS: Final = {
    "smpp.twisted": [sys.executable, "-m", "smppd.admin.simulator", "customer"],
    "smpplib": [sys.executable, "-m", "tests.peers.smpplib_client"],
    "node-smpp": [str(Path(sys.executable).parent / "node"), str(ROOT / "tests/peers/client.js")],
}


def client(name: str, config: dict[str, Any]) -> Child:
    """A client of that library, still binding."""
    return Child(CLIENTS[name], {"frames": True, "answers": True, "retry": False, "window": 10, **config})
