"""What the service manager is told, read from a real socket."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smppd.daemon.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(5)
        yield receiver


def notifier(manager: socket.socket, **more: str) -> Notifier:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), **more}
    return Notifier(environ, pid=42, monotonic=lambda: 12.5)


def test_a_life(manager: socket.socket) -> None:
    note = notifier(manager)
    said = []
    calls: tuple[Callable[[], bool], ...] = (
        lambda: note.ready("2 listeners"),
        note.reloading,
        note.ready,
        lambda: note.extend(1.5),
        lambda: note.status("draining"),
        note.stopping,
    )
    for call in calls:
        assert call()
        said.append(manager.recv(4096).decode())
    assert said == [
        "READY=1\nSTATUS=2 listeners",
        "RELOADING=1\nMONOTONIC_USEC=12500000",
        "READY=1",
        "EXTEND_TIMEOUT_USEC=1500000",
        "STATUS=draining",
        "STOPPING=1",
    ]


def test_a_status_is_one_line_and_short(manager: socket.socket) -> None:
    assert notifier(manager).status("a\nREADY=1\x1b[2J" + "x" * 500)
    said = manager.recv(4096).decode()
    assert said.startswith("STATUS=a READY=1 [2Jx") and "\n" not in said and len(said) == 207


def test_the_watchdog_is_fed_while_alive(manager: socket.socket) -> None:
    note = notifier(manager, WATCHDOG_USEC="30000000", WATCHDOG_PID="42")
    assert note.watchdog() and manager.recv(4096) == b"WATCHDOG=1"
    assert not note.watchdog(alive=False)
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(4096)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "²"},
    ],
)
def test_a_watchdog_of_somebody_else_or_none(manager: socket.socket, more: dict[str, str]) -> None:
    note = notifier(manager, **more)
    assert not note.watchdog()


def test_child_processes_do_not_inherit_it(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    assert Notifier(environ).enabled
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize("address", ["", "/", "notify", "vsock:2:1234"])
def test_without_a_service_manager_nothing_happens(address: str) -> None:
    note = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    assert not note.enabled and not note.watchdog()
    assert not any((note.ready("x"), note.reloading(), note.stopping(), note.status("x"), note.extend(1)))


def test_a_manager_that_went_away_does_no_harm(tmp_path: Path) -> None:
    note = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert note.enabled and not note.ready()


def test_a_manager_that_does_not_read_makes_nobody_wait(manager: socket.socket) -> None:
    note = notifier(manager)
    assert not all(note.status("x" * 200) for _ in range(10_000))


def test_the_abstract_name_space(tmp_path: Path) -> None:
    name = f"smppd-test-{tmp_path.name}-{id(tmp_path)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name)
        receiver.settimeout(5)
        assert Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert receiver.recv(100) == b"READY=1"
