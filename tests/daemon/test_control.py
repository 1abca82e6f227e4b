"""The control socket: who is heard, what is refused, and that nothing a peer writes breaks it."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed

from smppd.audit.trail import Actor
from smppd.control import wire
from smppd.control.client import ask
from smppd.control.wire import Code, ControlError, group_number
from smppd.daemon import control
from smppd.daemon.acts import ActRequest, Done
from smppd.daemon.answers import ITEMS, Answer, Listing
from smppd.daemon.askers import ACTS_NEED, LOOKING, View
from smppd.daemon.control import ControlServer
from smppd.daemon.control_requests import control_requests
from smppd.metrics import Metrics
from smppd.operators.roles import Act, Authority
from tests.net.pipes import Loop


class _Other:
    """The kernel says uid 0 or our own; here it says somebody else's."""

    size = 12

    def unpack(self, _data: bytes) -> tuple[int, int, int]:
        return (1, 54321, 1)


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.stop()


class FakeAskers:
    """Knows ada, who may look, and believes whoever says another name."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bool, str]] = []

    def identify(
        self, request: dict[str, Any], uid: int, trusted: bool, do: str, needed: frozenset[Act]
    ) -> Deferred[Authority]:
        self.asked.append((uid, trusted, do))
        login = request.get("login")
        name = request.get("operator") or (login.get("name", "") if isinstance(login, dict) else "")
        if name == "ada" and needed == ACTS_NEED:
            raise ControlError("ada may not do this", Code.ROLE)
        return succeed(Authority(Actor("root", "here"), name))


class Side:
    """A control socket with some requests, two views and two acts."""

    def __init__(self, loop: Loop, directory: Path, *, place: Path | None = None, group: int | None = None) -> None:
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
        self.askers = FakeAskers()
        self.acts: list[ActRequest] = []
        self.waiting: list[Deferred[Any]] = []
        askers: Any = self.askers
        self.server = ControlServer(
            loop.reactor,
            directory,
            named,
            self.metrics,
            shows={"things": View(LOOKING, self._things), "later": View(LOOKING, self._later)},
            acts={"turn": self._turn, "wait": self._wait},
            askers=askers,
            place=place,
            group=group,
        )
        self.server.start()

    def _things(self, request: dict[str, Any], who: Authority) -> Answer:
        return Listing("things", ({"n": n, "by": who.operator} for n in range(3)), {"at": 7})

    def _later(self, _request: dict[str, Any], _who: Authority) -> Deferred[Answer]:
        answered: Deferred[Answer] = Deferred()
        self.loop.reactor.callLater(0.01, answered.callback, {"later": True})
        return answered

    def _turn(self, asked: ActRequest, _who: Authority) -> Done:
        self.acts.append(asked)
        if asked.target == "nobody":
            raise ControlError("there is no such thing", Code.UNKNOWN)
        return Done("turned", True)

    def _wait(self, asked: ActRequest, _who: Authority) -> Deferred[Done]:
        self.acts.append(asked)
        self.waiting.append(Deferred())
        return self.waiting[-1]

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


def test_a_request_is_answered_and_only_user_and_group_may_open_the_socket(side: Side) -> None:
    answer = side.run(lambda: ask(side.directory, {"do": "note", "address": "192.0.2.1"}))
    assert answer["noted"] == 1 and len(answer["text"]) == 100_000
    assert side.asked == [({"v": 1, "do": "note", "address": "192.0.2.1"}, os.geteuid())]
    mode = (side.directory / wire.NAME).stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o660


def test_another_user_is_not_heard(
    side: Side, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel says uid 0 or our own; here we say that we are somebody else."""
    monkeypatch.setattr(control, "_CREDENTIALS", _Other())
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
    answer = json.loads(side.raw(data))
    assert set(answer) == {"v", "error", "code"} and answer["code"] == "request" and side.asked == []
    assert side.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "control"}) is None


def test_who_says_nothing_more_behind_his_request_is_answered_too(side: Side) -> None:
    """As `nc -N` and `socat` do, which close their half when their input is at its end."""

    def asks(data: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(10)
            where = os.open(side.directory, os.O_RDONLY)
            one.connect(f"/proc/self/fd/{where}/{wire.NAME}")
            os.close(where)
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: one.recv(65536), b""))

    for do, key in (("show later", "later"), ("show things", "things"), ("list", "items")):
        side.items = iter(range(2 * ITEMS))
        answer = side.run(partial(asks, json.dumps({"do": do}).encode() + b"\n"))
        assert key in json.loads(answer)
    assert side.run(lambda: asks(b'{"do": "sh')) == b"" and not side.server.channels


def test_an_erasure_beside_a_thousand_holds_is_one_request(side: Side) -> None:
    held = [(["34343737303039303030313233"], f"account-{number}", 1.7e9, None, number) for number in range(1000)]
    assert side.run(lambda: ask(side.directory, {"do": "note", "held": held}))["noted"] == 1
    assert len(side.asked[0][0]["held"]) == 1000


def test_a_request_without_end_is_cut(side: Side) -> None:
    assert side.raw(b"x" * 10_000) == b""
    assert side.raw(b'{"do": "note"' + b" " * wire.REQUEST_MAX + b"}\n") == b""
    assert side.asked == []


def test_errors_are_answered(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ControlError, match="not now") as caught:
        side.run(lambda: ask(side.directory, {"do": "refuse"}))
    assert caught.value.code == "state"
    with pytest.raises(ControlError, match="internal error") as caught:
        side.run(lambda: ask(side.directory, {"do": "fail"}))
    assert caught.value.code == "failed" and "a request on the control socket failed" in caplog.text
    assert "447700900123" not in str(caught.value)
    assert side.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "control"}) == 1


@pytest.mark.parametrize("number", [0, 1, ITEMS, 3 * ITEMS + 1])
def test_a_long_list_is_written_some_items_a_turn(side: Side, number: int) -> None:
    items = [{"n": n, "text": "x" * 60} for n in range(number)]
    made = 0

    def each() -> Iterator[dict[str, Any]]:
        nonlocal made
        for item in items:
            made += 1
            yield item

    side.items = each()
    assert side.run(lambda: ask(side.directory, {"do": "list"})) == {"v": 1, "items": items}
    side.items, made = each(), 0
    for turn, _piece in enumerate(Listing("items", side.items).pieces(lambda: 0.0), 1):
        assert made <= turn * ITEMS


def test_a_list_that_breaks_is_counted_and_has_no_end(side: Side) -> None:
    side.items = (1 // (700 - n) for n in range(1000))
    with pytest.raises(ControlError):
        side.run(lambda: ask(side.directory, {"do": "list"}))
    assert side.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "control"}) == 1
    assert side.run(lambda: ask(side.directory, {"do": "note"}))["noted"] == 1


# -- views and acts ----------------------------------------------------------------------------------------------------


def test_a_view_is_for_who_is_known_and_may_come_later(side: Side) -> None:
    answer = side.run(lambda: ask(side.directory, {"do": "show things", "operator": "ada"}))
    assert answer == {"v": 1, "at": 7, "things": [{"n": n, "by": "ada"} for n in range(3)]}
    assert side.run(lambda: ask(side.directory, {"do": "show later"})) == {"v": 1, "later": True}
    assert side.askers.asked == [(os.geteuid(), True, "show things"), (os.geteuid(), True, "show later")]


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None, [1]])
def test_another_version_is_refused(side: Side, version: Any) -> None:
    answer = json.loads(side.raw(json.dumps({"v": version, "do": "show things"}).encode() + b"\n"))
    assert answer["code"] == "version" and answer["v"] == 1 and side.askers.asked == []


def test_what_is_not_there_is_said_so_after_it_is_known_who_asks(side: Side) -> None:
    for do in ("show nothing", "show ", "things", "acts"):
        with pytest.raises(ControlError) as caught:
            side.run(partial(ask, side.directory, {"do": do}))
        assert caught.value.code == "request"
    with pytest.raises(ControlError) as caught:
        side.run(lambda: ask(side.directory, {"do": "act", "act": "fly", "target": "x", "reason": "why not"}))
    assert caught.value.code == "unknown" and len(side.askers.asked) == 5


def test_an_act_is_done_and_said_back(side: Side) -> None:
    act = {"do": "act", "act": "turn", "target": "c1", "reason": " ticket 12 ", "for": 30}
    assert side.run(lambda: ask(side.directory, act)) == {"v": 1, "said": "turned", "changed": True}
    (one,) = side.acts
    assert (one.act, one.target, one.reason, one.fields["for"]) == ("turn", "c1", "ticket 12", 30)
    with pytest.raises(ControlError) as caught:
        side.run(lambda: ask(side.directory, act | {"target": "nobody"}))
    assert caught.value.code == "unknown"
    with pytest.raises(ControlError) as caught:
        side.run(lambda: ask(side.directory, act | {"operator": "ada"}))
    assert caught.value.code == "role" and len(side.acts) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"reason": ""},
        {"reason": "   "},
        {"reason": "x" * 201},
        {"reason": "two\nlines"},
        {"reason": "\x1b[2J"},
        {"reason": None},
        {"target": 5},
        {"target": "x" * 201},
        {"act": None},
        {"act": ["turn"]},
    ],
)
def test_an_act_that_is_not_whole_is_not_done(side: Side, wrong: dict[str, Any]) -> None:
    act = {"do": "act", "act": "turn", "target": "c1", "reason": "why", **wrong}
    with pytest.raises(ControlError) as caught:
        side.run(lambda: ask(side.directory, act))
    assert caught.value.code == "request" and side.acts == []


def test_acts_are_done_one_after_another(side: Side) -> None:
    act = {"do": "act", "act": "wait", "target": "a", "reason": "why"}
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, side.directory, act)
        side.loop.until(lambda: len(side.acts) == 1)
        second = pool.submit(ask, side.directory, act | {"act": "turn"})
        side.loop.until(lambda: len(side.askers.asked) == 2)
        assert len(side.acts) == 1 and not second.done(), "it waits for the one before"
        side.waiting[0].errback(ControlError("not now", Code.STATE))
        side.loop.until(lambda: first.done() and second.done())
    assert isinstance(first.exception(), ControlError) and second.result()["changed"] is True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["v", "do", "act", "target", "reason", "login", "operator", "id"]), inner, max_size=6
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_is_asked_is_answered_in_one_line(side: Side, request_: Any) -> None:
    answers: list[Any] = []
    raw = json.dumps(request_).encode()
    for trusted in (True, False):
        side.server.answer(raw, 1, trusted).addCallback(answers.append)
    side.loop.until(lambda: len(answers) == 2)
    for answer in answers:
        assert isinstance(answer, Listing) or "\n" not in json.dumps(answer)
    assert side.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "control"}) is None


# -- another socket ----------------------------------------------------------------------------------------------------


def test_a_second_socket_is_its_groups(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    place = tmp_path / "run" / "smppd.sock"
    place.parent.mkdir()
    groups = os.getgroups() or [os.getegid()]
    side = Side(loop, tmp_path / "store", place=place, group=groups[-1])
    about = place.stat()
    assert stat.S_IMODE(about.st_mode) == 0o660 and about.st_gid == groups[-1]
    for way in (place, tmp_path / "store"):
        assert side.run(partial(ask, way, {"do": "note"}))["v"] == 1
    with pytest.raises(OSError, match="another process listens"):
        Side(loop, tmp_path, place=place)
    assert side.run(lambda: ask(place, {"do": "note"}))["noted"] == 3
    side.server.stop()
    loop.until(lambda: not place.exists())
    with socket.socket(socket.AF_UNIX) as left:  # of one that was killed
        left.bind(str(place))
    again = Side(loop, tmp_path / "store", place=place)
    assert again.run(lambda: ask(place, {"do": "note"}))["noted"] == 1


def test_a_group_that_is_not_ours_is_a_sentence() -> None:
    assert group_number(None) is None and group_number("root") == 0
    with pytest.raises(ValueError, match="there is no group"):
        group_number("no-such-group-here")


def test_strangers_take_no_places_of_the_daemons_user(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(control, "_CREDENTIALS", _Other())
    for _ in range(2 * control.STRANGERS):
        one = socket.socket(socket.AF_UNIX)
        where = os.open(side.directory, os.O_RDONLY)
        one.connect(f"/proc/self/fd/{where}/{wire.NAME}")
        os.close(where)
        kept.append(one)
        side.loop.reactor.iterate(0.01)
    assert len(side.server.channels) == control.STRANGERS
    monkeypatch.undo()
    assert side.run(lambda: ask(side.directory, {"do": "note"}))["noted"] == 1
    assert len(side.server.channels) == control.STRANGERS
    for one in kept:
        one.close()


def test_a_stranger_needs_a_login_and_asks_for_less(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_CREDENTIALS", _Other())
    login = {"name": "ben", "passphrase": "x", "code": "1"}
    assert side.run(lambda: ask(side.directory, {"do": "show things", "login": login}))["things"][0]["by"] == "ben"
    assert side.askers.asked == [(54321, False, "show things")]
    with pytest.raises(ControlError) as caught:
        side.run(lambda: ask(side.directory, {"do": "note", "login": login}))
    assert caught.value.code == "role" and side.asked == [], "what commands ask is not for him"
    with pytest.raises(ControlError) as caught:
        side.run(lambda: ask(side.directory, {"do": "show things", "operator": "ada"}))
    assert caught.value.code == "login"
    assert side.raw(b'{"do": "show things"' + b" " * wire.STRANGERS_MAX + b"}\n") == b""


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
    assert isinstance(listing, Listing) and b"".join(listing.pieces()) == b'{"v": 1, "bans": []}\n'
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
