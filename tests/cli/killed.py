"""Kills a command at each of its steps: each statement to a database, of either kind, and each change of a name or of the
disk's state."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any, Final

from smppd.cli.main import main

EVERY: Final = "SMPPD_EVERY_STEP" in os.environ
"""Whether commands are killed at each of their steps, and not at some: SMPPD_EVERY_STEP=1, for an hour's run."""
_CALLS: Final = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")


def steps(words: list[str]) -> int | None:
    """Runs a command in a child; None where it failed, else how many steps it has."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover  the child
        os.close(reader)
        counted = _count(0)
        status = _main(words)
        os.write(writer, str(counted()).encode())
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    _, status = os.waitpid(child, 0)
    return int(text) if status == 0 else None


def sampled(count: int | None, rounds: int, last: int = 4) -> list[int]:
    """About so many steps, spread over all ``count`` of a command, and its last ones: there files get their names."""
    assert count is not None and count > rounds
    return (
        list(range(1, count + 1))
        if EVERY
        else sorted({*range(1, count, count // rounds), *range(count - last + 1, count + 1)})
    )


def killed_at(words: list[str], step: int, how: signal.Signals = signal.SIGKILL) -> bool:
    """Runs a command in a child that gets a signal before its step of this number (from 1); False where it ended before."""
    child = os.fork()
    if not child:  # pragma: no cover  the child
        _count(step, how)
        os._exit(_main(words))
    _, status = os.waitpid(child, 0)
    if how is signal.SIGKILL:
        return os.WIFSIGNALED(status)
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 130


def _main(words: list[str]) -> int:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0, "r"), os.fdopen(1, "w"), os.fdopen(2, "w")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return main(words)
    except BaseException:  # noqa: BLE001  a child: whatever it is, it must not come back into the test
        return 99


def _count(last: int, how: signal.Signals = signal.SIGKILL) -> Callable[[], int]:
    """From now on, counts steps, and sends this process a signal at one."""
    number = 0

    def tick() -> None:
        nonlocal number
        number += 1
        if number == last:
            os.kill(os.getpid(), how)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            tick()
            return function(*args, **named)

        return call

    def counting(kind: type[sqlite3.Connection]) -> type[sqlite3.Connection]:
        class Counted(kind):  # type: ignore[misc, valid-type]
            def execute(self, *args: Any) -> Any:
                tick()
                return super().execute(*args)

            def executemany(self, *args: Any) -> Any:
                tick()
                return super().executemany(*args)

        return Counted

    connect = sqlite3.connect

    def connected(*args: Any, factory: type[sqlite3.Connection] = sqlite3.Connection, **named: Any) -> Any:
        return connect(*args, factory=counting(factory), **named)

    sqlite3.connect = connected
    if "psycopg" in sys.modules:
        driver: Any = sys.modules["psycopg"]
        driver.Connection.execute = counted(driver.Connection.execute)
    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))
    return lambda: number
