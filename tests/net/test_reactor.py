"""The reactor: what is done at the end of a turn, and events that go wrong."""

from __future__ import annotations

import logging
import socket
import threading
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


def test_what_is_set_for_later_runs_once_at_its_time_and_not_when_it_was_called_off(loop: Loop) -> None:
    did: list[str] = []
    reactor = loop.reactor
    reactor.later(0.001, lambda: did.append("a"))
    off = reactor.later(0.001, lambda: did.append("b"))
    assert 0 < reactor.timeout() <= 0.001
    off.cancel()
    loop.until(lambda: did)
    off.cancel()  # it has no effect any more
    reactor.iterate(0.005)
    assert did == ["a"] and reactor.timeout() is None


def test_the_reactor_waits_no_longer_than_for_the_next_of_both_kinds(loop: Loop) -> None:
    reactor = loop.reactor
    call = reactor.callLater(50, lambda: None)
    alarm = reactor.later(90, lambda: None)
    assert 49 < reactor.timeout() <= 50
    call.cancel()
    reactor.later(20, lambda: None)
    assert 19 < reactor.timeout() <= 20
    alarm.cancel()


def test_one_alarm_may_call_another_off_and_an_error_ends_no_other(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    did: list[int] = []

    def fails() -> None:
        raise ValueError

    loop.reactor.later(0, fails)
    loop.reactor.later(0, lambda: did.append(1))
    with caplog.at_level(logging.ERROR, "smppd.reactor"):
        loop.until(lambda: did)
    assert did == [1] and "error at the end of a turn" in caplog.text


def test_another_thread_wakes_the_reactor_and_its_calls_are_done_in_order(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    did: list[int] = []
    reactor = loop.reactor

    def fails() -> None:
        raise ValueError

    def ask() -> None:
        time.sleep(0.02)
        reactor.callFromThread(did.append, 1)
        reactor.callFromThread(fails)
        reactor.callFromThread(lambda: reactor.callFromThread(did.append, 3))
        reactor.callFromThread(did.append, 2)

    thread = threading.Thread(target=ask)
    thread.start()
    reactor.iterate(30)  # it is woken: nobody waits that long
    thread.join()
    with caplog.at_level(logging.ERROR, "smppd.reactor"):
        loop.until(lambda: len(did) == 3)
    assert did == [1, 2, 3] and "error in what another thread asked for" in caplog.text
