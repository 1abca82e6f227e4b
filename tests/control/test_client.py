"""The asking end of the control socket: whatever answers, it is an answer or one clear sentence."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smppd.control import client
from smppd.control.client import ask
from smppd.control.wire import NAME, ControlError
from tests.control.listener import Listener


class Other(Listener):
    """Whatever listens there. ``does`` gets the connection of each who asks."""

    def __init__(self, path: Path) -> None:
        self.does: Callable[[socket.socket], object] = lambda one: None
        self.requests: list[bytes] = []
        super().__init__(path)

    def answer(self, line: bytes, one: socket.socket) -> None:
        self.requests.append(line)
        self.does(one)

    def says(self, data: bytes) -> None:
        self.does = lambda one: one.sendall(data)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Other]:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    made = Other(directory / NAME)
    yield made
    made.close()


@pytest.fixture
def place(other: Other, tmp_path: Path) -> Path:
    return tmp_path / ("d" * 120)


def refused(place: Path) -> ControlError:
    with pytest.raises(ControlError) as caught:
        ask(place, {"do": "x"}, within=5)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_request_has_the_version_and_is_one_line(other: Other, place: Path) -> None:
    other.says(b'{"v": 1, "x": 2}\n')
    assert ask(place, {"do": "x", "text": "two\nlines"}) == {"v": 1, "x": 2}
    assert ask(place / NAME, {"do": "x"})["x"] == 2, "by the socket's own path too"
    (first, _) = other.requests
    assert json.loads(first) == {"v": 1, "do": "x", "text": "two\nlines"} and first.count(b"\n") == 1


def test_a_refusal_has_its_code_and_an_older_daemons_has_none(other: Other, place: Path) -> None:
    other.says(b'{"v": 1, "error": "not now", "code": "state"}\n')
    assert (str(refused(place)), refused(place).code) == ("not now", "state")
    other.says(b'{"error": "only root"}\n')
    assert (str(refused(place)), refused(place).code) == ("only root", "")


@pytest.mark.parametrize("data", [b"", b"\n", b"[]\n", b"5", b'{"x"', b"\xff\n", b"[" * 100_000])
def test_what_is_no_answer_is_said_so(other: Other, place: Path, data: bytes) -> None:
    other.says(data)
    assert refused(place).code == ""
    whole = data in (b"[]\n", b"5")
    assert ("does not speak like smppd" if whole else "its answer is not whole") in str(refused(place))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_a_sentence(other: Other, place: Path, data: bytes) -> None:
    other.says(data)
    try:
        assert isinstance(ask(place, {"do": "x"}, within=5), dict)
    except ControlError as error:
        assert str(error)


def test_an_answer_without_end_and_one_that_dribbles_are_given_up(
    other: Other, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_MAX", 1000)
    other.says(b"x" * 5000)
    assert "cannot be asked" in str(refused(place))

    def dribbles(one: socket.socket) -> None:
        try:
            while True:
                one.sendall(b" ")
                time.sleep(0.01)
        except OSError:
            pass

    other.does = dribbles
    with pytest.raises(ControlError, match="no answer in time"):
        ask(place, {"do": "x"}, within=0.1)


def test_nobody_is_there(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "gone", tmp_path / "gone" / "control.sock"):
        with pytest.raises(ControlError, match="no smppd runs on") as caught:
            ask(place, {"do": "x"})
        assert caught.value.code == ""
