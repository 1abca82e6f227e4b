"""The control socket: who is heard, what is refused, and that nothing a peer writes breaks it."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from smppd.control import wire
from smppd.control.client import ask
from smppd.control.wire import ControlError
from smppd.daemon import control
from smppd.daemon.control import ControlServer, Listing
from smppd.daemon.control_requests import control_requests
from smppd.metrics import Metrics
from tests.net.pipes import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.stop()


class Side:
    """A control socket with two requests."""

    def __init__(self, loop: Loop, directory: Path) -> None:
        self.loop = loop
        self.directory = directory
        self.metrics = Metrics()
        self.asked: list[tuple[dict[str, Any], int]] = []
        self.items: Iterable[Any] = ()
        named: dict[str, control.RequestHandler] = {
            "note": self._note,
            "fail": self._fail,
            "refuse": self._refuse,
            "list": self._list,
        }
        self.server = ControlServer(loop.reactor, directory, named, self.metrics)
        self.server.start()

    def _note(self, request: dict[str, Any], uid: int) -> dict[str, object]:
        self.asked.append((request, uid))
        return {"noted": len(self.asked), "text": "x" * 100_000}

    def _fail(self, _request: dict[str, Any], _uid: int) -> dict[str, object]:
        raise KeyError("447700900123")

    def _refuse(self, _request: dict[str, Any], _uid: int) -> dict[str, object]:
        raise ControlError("not now")

    def _list(self, _request: dict[str, Any], _uid: int) -> Listing:
        return Listing("items", self.items)

    def run(self, function: Callable[[], Any]) -> Any:
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(function)
            self.loop.until(future.done)
        return future.result()

    def raw(self, data: bytes) -> bytes:
        def exchange() -> bytes:
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(10)
                where = os.open(self.directory, os.O_RDONLY)
                one.connect(f"/proc/self/fd/{where}/{wire.NAME}")
                os.close(where)
                try:
                    one.sendall(data)
                    return b"".join(iter(lambda: one.recv(65536), b""))
                except ConnectionError:
                    return b""

        answer: bytes = self.run(exchange)
        return answer


@pytest.fixture
def side(loop: Loop, tmp_path: Path) -> Side:
    """In a directory whose name is longer than a socket's may be."""
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    return Side(loop, directory)


def test_a_request_is_answered_and_only_its_owner_may_open_the_socket(side: Side) -> None:
    answer = side.run(lambda: ask(side.directory, {"do": "note", "address": "192.0.2.1"}))
    assert answer["noted"] == 1 and len(answer["text"]) == 100_000
    assert side.asked == [({"do": "note", "address": "192.0.2.1"}, os.geteuid())]
    mode = (side.directory / wire.NAME).stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


def test_another_user_is_not_heard(
    side: Side, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel says uid 0 or our own; here we say that we are somebody else."""
    monkeypatch.setattr(
        control, "_CREDENTIALS", type("Other", (), {"size": 12, "unpack": lambda self, data: (1, 54321, 1)})()
    )
    with pytest.raises(ControlError, match="only root"):
        side.run(lambda: ask(side.directory, {"do": "note"}))
    assert side.asked == [] and "control socket: not allowed" in [record.message for record in caplog.records]


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b'"x"\n',
        b'{"do": ["note"]}\n',
        b'{"do": "nothing"}\n',
        b"\xff\xfe\n",
        b"[" * 4000 + b"\n",
        b'{"do"\n',
    ],
)
def test_what_is_no_request_is_said_so(side: Side, data: bytes) -> None:
    assert set(json.loads(side.raw(data))) == {"error"} and side.asked == []
    assert side.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "control"}) is None


def test_an_erasure_beside_a_thousand_holds_is_one_request(side: Side) -> None:
    held = [(["34343737303039303030313233"], f"account-{number}", 1.7e9, None, number) for number in range(1000)]
    assert side.run(lambda: ask(side.directory, {"do": "note", "held": held}))["noted"] == 1
    assert len(side.asked[0][0]["held"]) == 1000


def test_a_request_without_end_is_cut(side: Side) -> None:
    assert side.raw(b"x" * 10_000) == b""
    assert side.raw(b'{"do": "note"' + b" " * wire.REQUEST_MAX + b"}\n") == b""
    assert side.asked == []


def test_errors_are_answered(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ControlError, match="not now"):
        side.run(lambda: ask(side.directory, {"do": "refuse"}))
    with pytest.raises(ControlError, match="internal error") as caught:
        side.run(lambda: ask(side.directory, {"do": "fail"}))
    assert "447700900123" not in str(caught.value)
    assert side.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "control"}) == 1


@pytest.mark.parametrize("number", [0, 1, control.ITEMS, 3 * control.ITEMS + 1])
def test_a_long_list_is_written_some_items_a_turn(side: Side, number: int) -> None:
    items = [{"n": n, "text": "x" * 60} for n in range(number)]
    made = 0

    def each() -> Iterator[dict[str, Any]]:
        nonlocal made
        for item in items:
            made += 1
            yield item

    side.items = each()
    assert side.run(lambda: ask(side.directory, {"do": "list"})) == {"items": items}
    side.items, made = each(), 0
    for turn, _piece in enumerate(Listing("items", side.items).pieces()):
        assert made <= turn * control.ITEMS


def test_a_list_that_breaks_is_counted_and_has_no_end(side: Side) -> None:
    side.items = (1 // (700 - n) for n in range(1000))
    with pytest.raises(ControlError):
        side.run(lambda: ask(side.directory, {"do": "list"}))
    assert side.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "control"}) == 1
    assert side.run(lambda: ask(side.directory, {"do": "note"}))["noted"] == 1


def test_silent_ones_keep_nobody_out(side: Side) -> None:
    silent = []
    for _ in range(3 * control.CONNECTIONS):
        one = socket.socket(socket.AF_UNIX)
        where = os.open(side.directory, os.O_RDONLY)
        one.connect(f"/proc/self/fd/{where}/{wire.NAME}")
        os.close(where)
        silent.append(one)
        side.loop.reactor.iterate(0.01)
    assert len(side.server.channels) == control.CONNECTIONS
    assert side.run(lambda: ask(side.directory, {"do": "note"}))["noted"] == 1
    for one in silent:
        one.close()


def test_it_takes_the_place_of_one_that_was_killed_and_goes_with_the_daemon(loop: Loop, tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no smppd runs"):
        ask(tmp_path, {"do": "note"})
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / wire.NAME))
    with pytest.raises(ControlError, match="no smppd runs"):
        ask(tmp_path, {"do": "note"})
    side = Side(loop, tmp_path)
    assert side.run(lambda: ask(tmp_path, {"do": "note"}))["noted"] == 1
    side.server.stop()
    loop.until(lambda: not (tmp_path / wire.NAME).exists())


def test_a_file_of_that_name_is_not_ours_to_remove(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / wire.NAME).write_text("mine")
    with pytest.raises(FileExistsError, match="no socket"):
        Side(loop, tmp_path)
    assert (tmp_path / wire.NAME).read_text() == "mine"


class FakeDoor:
    def bans(self) -> list[Any]:
        return []

    def lift(self, address: str) -> int:
        if address != "192.0.2.1":
            raise ValueError(address)
        return 2


def test_lifting_a_ban_is_on_the_trail_with_who_did_it() -> None:
    trail: list[tuple[str, dict[str, str]]] = []
    door: Any = FakeDoor()
    audit: Any = lambda event, what: trail.append((event, what))  # noqa: E731
    ring: Any = type("Ring", (), {"kek_version": 3})
    made = control_requests(door, audit, ring)
    assert made["keys kek"]({}, 0) == {"version": 3}
    listing = made["bans list"]({}, 0)
    assert isinstance(listing, Listing) and b"".join(listing.pieces()) == b'{"bans": []}\n'
    assert made["bans lift"]({"address": "192.0.2.1"}, 0) == {"lifted": 2}
    assert made["bans lift"]({"address": "192.0.2.1"}, 4_000_000_000) == {"lifted": 2}
    assert trail[0] == ("ban lifted", {"peer": "192.0.2.1", "by": "root (0)", "count": "2", "login": "none"})
    assert trail[1][1]["by"] == "4000000000"
    for named in ("emil", "", 7, None):
        made["bans lift"]({"address": "192.0.2.1", "operator": named}, 0)
    assert [what.get("operator", what.get("login")) for _event, what in trail[2:]] == ["emil", "none", "none", "none"]
    for address in (None, 5, "", "nonsense"):
        with pytest.raises(ControlError, match="no address"):
            made["bans lift"]({"address": address}, 0)
