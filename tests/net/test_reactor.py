"""The reactor: what is done at the end of a turn, and events that go wrong."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor

from tests.net.pipes import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.stop()


class End(FileDescriptor):
    """One end of a socket pair; `on_read` reacts to what is readable."""

    def __init__(self, loop: Loop, on_read: Callable[[bytes], None]) -> None:
        make: Any = super().__init__
        make(loop.reactor)
        self.connected = 1
        self.mine, self.other = socket.socketpair()
        self.mine.setblocking(False)
        self.on_read = on_read
        self.reasons: list[str] = []
        self.startReading()  # type: ignore[no-untyped-call]

    def fileno(self) -> int:
        return self.mine.fileno()

    def doRead(self) -> None:
        self.on_read(self.mine.recv(100))

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.reasons.append(reason.type.__name__)
        self.mine.close()
        self.other.close()


def test_what_is_to_be_done_soon_is_done_once_after_all_that_is_ready(loop: Loop) -> None:
    did: list[str] = []

    def read(data: bytes) -> None:
        did.append(data.decode())
        if data == b"a":
            loop.reactor.soon(lambda: did.append("soon"))

    ends = [End(loop, read), End(loop, read)]
    for end, text in zip(ends, (b"a", b"b"), strict=True):
        end.other.send(text)
    loop.until(lambda: "soon" in did)
    assert sorted(did[:2]) == ["a", "b"] and did[2:] == ["soon"]
    loop.reactor.iterate(0)
    assert did.count("soon") == 1


def test_nothing_waits_for_a_socket_or_a_timer(loop: Loop) -> None:
    did: list[int] = []
    loop.reactor.callLater(0, loop.reactor.soon, lambda: did.append(1))
    began = time.monotonic()
    loop.reactor.runUntilCurrent()
    assert did == [1]
    loop.reactor.soon(lambda: did.append(2))
    assert loop.reactor.timeout() == 0.0
    loop.reactor.runUntilCurrent()
    assert did == [1, 2] and loop.reactor.timeout() is None
    assert time.monotonic() - began < 5


def test_what_asks_for_another_turn_lets_the_sockets_have_theirs(loop: Loop) -> None:
    did: list[str] = []

    def again() -> None:
        did.append("soon")
        if len(did) < 20:
            loop.reactor.soon(again)

    end = End(loop, lambda data: did.append("read"))
    end.other.send(b"a")
    loop.reactor.soon(again)
    loop.until(lambda: len(did) == 20)
    assert did[:3] == ["soon", "read", "soon"]


def test_an_error_of_one_is_no_reason_to_leave_out_the_next(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    did: list[int] = []

    def fails() -> None:
        raise ValueError

    loop.reactor.soon(fails)
    loop.reactor.soon(lambda: did.append(1))
    with caplog.at_level(logging.ERROR, "smppd.reactor"):
        loop.reactor.iterate(0)
    assert did == [1] and "error at the end of a turn" in caplog.text


def test_an_error_in_reading_ends_that_connection_and_no_other(loop: Loop) -> None:
    got: list[bytes] = []

    def fails(_data: bytes) -> None:
        raise ValueError

    bad, good = End(loop, fails), End(loop, got.append)
    bad.other.send(b"a")
    good.other.send(b"b")
    loop.until(lambda: bad.reasons and got)
    assert bad.reasons == ["ValueError"] and got == [b"b"] and not good.reasons


def test_an_event_of_what_an_earlier_event_closed_is_passed_over(loop: Loop) -> None:
    ends: list[End] = []

    def closes(_data: bytes) -> None:
        for end in ends:
            if not end.disconnected:
                end.stopReading()  # type: ignore[no-untyped-call]

    ends += [End(loop, closes), End(loop, closes)]
    for end in ends:
        end.other.send(b"a")
    for _ in range(3):
        loop.reactor.iterate(0)
    assert not any(end.reasons for end in ends)
    for end in ends:
        end.mine.close()
        end.other.close()
