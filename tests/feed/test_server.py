"""The feed's socket: who asks well gets all, who asks badly is told why, who is slow costs a page."""

from __future__ import annotations

import json
import selectors
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smppd.feed import server as module
from smppd.feed.file import FeedError
from smppd.feed.lines import Cursor
from smppd.feed.server import Server
from smppd.store.api import StoreBusy
from tests.feed.test_tail import Feed, keys, told


class Stand:
    """The server over a filled log, with a clock, and consumers."""

    def __init__(self, directory: Path, *, most: int = 3) -> None:
        self.feed = Feed(directory / "store")
        self.feed.fill(6)
        self.memory = self.feed.memory()
        self.tail = self.feed.tail(self.memory)
        self.tail.look()
        self.selector = selectors.DefaultSelector()
        self.path = directory / "feed.sock"
        self.now = 0.0
        self.server = self.opened(most)
        self.links: list[socket.socket] = []

    def opened(self, most: int = 3) -> Server:
        return Server(self.path, None, most, self.tail, self.selector, now=lambda: self.now, wall=lambda: 1.0)

    def connect(self, request: bytes = b"", receive: int = 0) -> socket.socket:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if receive:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        link.connect(str(self.path))
        link.settimeout(5)
        self.links.append(link)
        if request:
            link.sendall(request)
        self.turn()
        return link

    def turn(self, times: int = 20) -> None:
        """The loop of the process, so many times."""
        for _ in range(times):
            self.tail.look()
            self.server.step()
            for key, _events in self.selector.select(0):
                key.data()

    def close(self) -> None:
        for link in self.links:
            link.close()
        self.server.close()
        self.selector.close()
        self.feed.close()


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    (tmp_path / "store").mkdir()
    made = Stand(tmp_path)
    yield made
    made.close()


def read(link: socket.socket) -> list[dict[str, Any]]:
    """What is there."""
    link.setblocking(False)
    data = b""
    try:
        while piece := link.recv(65536):
            data += piece
    except BlockingIOError:
        pass
    assert data.endswith(b"\n") or not data
    return [json.loads(line) for line in data.splitlines()]


def ask(after: str) -> bytes:
    return json.dumps({"after": after}).encode() + b"\n"


def test_everything_then_what_comes(stand: Stand) -> None:
    whole = told(stand.feed.tail(stand.memory))[0]
    link = stand.connect(ask("oldest"))
    lines = read(link)
    assert keys(lines) == keys(whole)
    assert (stand.server.consumers, stand.server.lines, stand.server.slowest()) == (1, len(lines), 0.0)
    stand.feed.fill(1)
    stand.memory.log = stand.feed.memory().log
    stand.turn()
    more = read(link)
    assert [line["event"] for line in more] == ["accepted", "accepted"]
    other = stand.connect(ask(lines[4]["cursor"]))
    assert sorted(keys(read(other))) == sorted(keys(lines[5:] + more))
    mode = stat.S_IMODE(stand.path.stat().st_mode)
    assert mode == module.MODE


def test_from_now_on_says_where_that_is(stand: Stand) -> None:
    link = stand.connect(ask("newest"))
    (mark,) = read(link)
    assert (mark["event"], "key" in mark) == ("mark", False)
    assert Cursor.parse(mark["cursor"]) == stand.tail.end()
    stand.now += module.MARK_SECONDS - 1
    stand.turn()
    assert read(link) == []
    stand.now += 1
    stand.turn()
    assert [line["event"] for line in read(link)] == ["mark"]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"hello\n", "request"),
        (b"[]\n", "request"),
        (b"{}\n", "request"),
        (b'{"after": 7}\n', "request"),
        (b'{"after": "7"}\n', "cursor"),
        (b'{"after": "oldest", "v": 2}\n', "version"),
        (b"[" * 4095 + b"\n", "request"),
        (b"x" * 4096, "request"),
        (b"\xff\xfe\n", "request"),
    ],
)
def test_bad_questions(stand: Stand, request_: bytes, code: str) -> None:
    link = stand.connect(request_)
    (said,) = read(link)
    assert (said["code"], said["v"]) == (code, 1) and said["error"]
    assert stand.server.consumers == 0


def test_a_question_in_pieces_and_one_that_never_comes(stand: Stand) -> None:
    link = stand.connect(b'{"after": "old')
    link.sendall(b'est"}\nignored')
    stand.turn()
    assert len(read(link)) > 10
    silent = stand.connect()
    stand.now += module.REQUEST_SECONDS + 0.1
    stand.turn()
    (said,) = read(silent)
    assert said["code"] == "request"


def test_one_too_many(stand: Stand) -> None:
    for _ in range(3):
        stand.connect(ask("newest"))
    fourth = stand.connect(ask("newest"))
    (said,) = read(fourth)
    assert said["code"] == "full"
    stand.links[0].close()
    stand.turn()
    assert read(stand.connect(ask("newest")))[0]["event"] == "mark"


def test_a_slow_one_has_a_page_and_is_cut_in_the_end(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smppd.feed.tail.PAGE_OCTETS", 600)
    for _ in range(150):
        stand.feed.fill(6)
    stand.memory.log = stand.feed.memory().log
    slow = stand.connect(ask("oldest"), receive=2048)
    stand.turn(3000)
    assert stand.server.consumers == 1 and stand.server.slowest() > 0
    sent = stand.server.lines
    stand.turn(50)
    assert stand.server.lines == sent, "nothing more is made for it"
    quick = stand.connect(ask("oldest"))
    stand.turn(5000)
    assert stand.server.lines > sent, "another is not kept waiting"
    quick.close()
    stand.now += module.STALLED_SECONDS + 1
    stand.turn(5)
    assert stand.server.consumers == 0
    slow.close()


def test_what_stands_in_the_place(stand: Stand, tmp_path: Path) -> None:
    stand.server.close()
    stand.path.write_text("a file")
    with pytest.raises(FeedError, match="is no socket"):
        stand.opened()
    stand.path.unlink()
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(stand.path))
    left.close()  # as a kill leaves it
    stand.server = stand.opened()
    assert read(stand.connect(ask("newest")))
    with pytest.raises(FeedError, match="there is no group"):
        Server(tmp_path / "s", "no such group", 1, stand.tail, stand.selector, now=lambda: 0.0, wall=lambda: 0.0)


def test_a_log_that_cannot_be_read_just_now(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy() -> Cursor:
        raise StoreBusy("locked")

    monkeypatch.setattr(stand.tail, "end", busy)
    (said,) = read(stand.connect(ask("newest")))
    assert said["code"] == "busy" and stand.server.consumers == 0
