"""The feed seen from outside: a consumer that keeps its cursor, a customer with a steady rate, and what the log says itself."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from smppd.message import State, read_events
from smppd.store.installation import Installation
from smppd.store.log import LogRow
from smppd.vault.seal import Direction, iter_records, read_header
from tests.e2e.harness import PASSWORD, Gateway
from tests.e2e.probes import Probe, frame, status, submit_body


def expected(store: Installation) -> dict[str, tuple[str, int]]:
    """key -> (event's state or `record`, id) of every line that the log asks for, by its own octets."""
    found: dict[str, tuple[str, int]] = {}
    with closing(store.records()) as log:
        after = 0
        while rows := log.rows(after, 500):
            for row in rows:
                found |= _told(row)
            after = rows[-1].seq
    return found


def _told(row: LogRow) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    told = list(read_events(row.events))
    silent = {one.id for one in told if one.state == State.REFUSED}
    for number, packed in enumerate(iter_records(row.records), 1):
        header = read_header(packed)
        if header.direction is Direction.MT and header.record_id not in silent:
            found[f"{row.seq:016x}-{number}"] = ("record", header.record_id)
    for number, event in enumerate(told, row.written + 1):
        found[f"{row.seq:016x}-{number}"] = (State(event.state).name, event.id)
    return found


def lines_of(path: Path) -> list[dict[str, Any]]:
    """All lines of a feed's file and of its old ones, oldest first."""
    old = sorted(path.parent.glob(path.name + ".*"), key=lambda one: -int(one.suffix[1:]))
    return [json.loads(line) for one in (*old, path) if one.exists() for line in one.read_bytes().splitlines()]


def keys(lines: list[dict[str, Any]]) -> Counter[str]:
    """How often each event of the log is told."""
    return Counter(line["key"] for line in lines if line.get("key", "a")[0] not in "ag")


def faults(told: Counter[str], store: Installation) -> list[str]:
    """What is missing, told twice, or told of nothing."""
    wanted = expected(store)
    missing = [key for key in wanted if key not in told]
    twice = [key for key, count in told.items() if count > 1]
    strange = [key for key in told if key not in wanted]
    said = (("missing", missing), ("twice", twice), ("strange", strange))
    return [f"{len(some)} {what}, for example {some[0]}" for what, some in said if some]


class Consumer(threading.Thread):
    """Reads the feed's socket, keeps the cursor of each line that it took, and connects again."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._over = threading.Event()
        self.cursor = "oldest"
        self.lines: list[dict[str, Any]] = []
        self.connections = 0

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
                    link.settimeout(0.5)
                    link.connect(str(self._path))
                    link.sendall(json.dumps({"after": self.cursor}).encode() + b"\n")
                    self.connections += 1
                    self._take(link)
            except OSError:
                self._over.wait(0.05)

    def _take(self, link: socket.socket) -> None:
        rest = b""
        while not self._over.is_set():
            try:
                data = link.recv(65536)
            except TimeoutError:
                continue
            if not data:
                return
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                said = json.loads(line)
                self.cursor = said["cursor"]
                if said["event"] != "mark":
                    self.lines.append(said)

    def end(self) -> None:
        """Reads no more."""
        self._over.set()
        self.join(10)


class SteadyCustomer:
    """Submits at a rate until it is told to end, over one session after another, and takes its receipts."""

    def __init__(self, port: int, rate: float, window: int = 50) -> None:
        self._port = port
        self._rate = rate
        self._window = window
        self.number = 0
        self.acknowledged = 0
        self.receipts = 0

    def run(self, gateway: Gateway, seconds: float, *, kill: bool = True) -> None:
        """For so many seconds; then the daemon is killed, or the session ends when nothing has come for a second."""
        over = threading.Event()

        def end() -> None:
            over.set()
            if kill:
                gateway.kill()

        timer = threading.Timer(seconds, end)
        with Probe(self._port) as probe:
            assert probe.bind("acme", PASSWORD) == 0
            probe.socket.settimeout(0.02)
            timer.start()
            began, sent, waiting = time.monotonic(), 0, 0
            heard = began
            try:
                while not over.is_set() or (not kill and (waiting or time.monotonic() - heard < 1.0)):
                    due = int((time.monotonic() - began) * self._rate) - sent
                    for _ in range(0 if over.is_set() else max(0, min(due, self._window - waiting))):
                        self.number += 1
                        sent += 1
                        waiting += 1
                        body = submit_body(b"message %06d" % self.number, registered=1)
                        probe.send(frame(0x04, 0, self.number, body))
                    taken = self._take(probe)
                    if taken is not None:
                        heard = time.monotonic()
                        waiting -= taken
            except OSError:
                assert kill
        timer.join()

    def _take(self, probe: Probe) -> int | None:
        """How many answers came, at most one; None where nothing came."""
        try:
            got = probe.read()
        except TimeoutError:
            return None
        if got[4:8] == b"\0\0\0\5":
            self.receipts += 1
            probe.send(frame(0x80000005, 0, int.from_bytes(got[12:16]), b"\0"))
            return 0
        if got[4:8] == b"\x80\0\0\4":
            self.acknowledged += status(got) == 0
            return 1
        return 0
