"""The feed's process without a process: the file and the socket do not wait for each other."""

from __future__ import annotations

import json
import selectors
from collections.abc import Iterator
from pathlib import Path

import pytest

from smppd.feed import child
from smppd.feed.child import Teller
from smppd.feed.file import FeedError, FeedFile, Kept, PlaceFile
from smppd.feed.lines import Cursor
from smppd.feed.server import Server
from smppd.store.api import StoreBusy
from tests.feed.test_tail import Feed


class Stand:
    """A teller over a filled log; its clock is `now`."""

    def __init__(self, directory: Path) -> None:
        (directory / "store").mkdir()
        self.feed = Feed(directory / "store")
        self.feed.fill(3)
        self.tail = self.feed.tail(self.feed.memory())
        self.selector = selectors.DefaultSelector()
        self.path = directory / "feed.jsonl"
        self.socket = directory / "feed.sock"
        self.now = 0.0
        place = PlaceFile(directory / "feed-file.json")
        place.save(Kept(Cursor(), 0.0))
        self.file = FeedFile(self.path, place, rotate=0, every=None, keep=1, wall=lambda: 0.0)
        self.group: str | None = "no such group"
        self.teller = Teller(self.tail, self.file, self.listen, lambda: self.now)

    def listen(self) -> Server:
        return Server(self.socket, self.group, 3, self.tail, self.selector, now=lambda: self.now, wall=lambda: 1.0)

    def close(self) -> None:
        self.teller.close()
        self.selector.close()
        self.feed.close()


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    yield made
    made.close()


def test_a_socket_that_cannot_be_made_does_not_stop_the_file(stand: Stand) -> None:
    while stand.teller.step():
        pass
    assert len(stand.path.read_bytes().splitlines()) > 6
    said = stand.teller.report()
    assert said["reason"] == "there is no group no such group" and said["behind"] == 0.0
    stand.now += 5
    assert stand.teller.report()["slowest"] == 5.0
    stand.group = None
    stand.teller.step()
    assert stand.socket.is_socket() and stand.teller.report()["reason"] == ""


def test_a_file_that_cannot_be_written_does_not_stop_the_socket(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_words: object) -> None:
        raise FeedError("No space left on device")

    monkeypatch.setattr(stand.file, "append", full)
    stand.group = None
    stand.teller.step()
    assert stand.socket.is_socket() and stand.teller.report()["reason"] == "No space left on device"


def test_a_feed_without_a_file_gets_over_a_log_that_was_locked(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.group = None
    teller = stand.teller = Teller(stand.tail, None, stand.listen, lambda: stand.now)
    with monkeypatch.context() as patch:

        def busy() -> int:
            raise StoreBusy("locked")

        patch.setattr(stand.tail, "look", busy)
        teller.step()
    assert teller.report()["reason"] == "locked"
    stand.now += child.PAUSE
    teller.step()
    stand.now += 100
    said = teller.report()
    assert (said["reason"], said["behind"]) == ("", 0.0), json.dumps(said)
