"""The act `trace` on real sessions with a fake clock: begun when it is on the trail, ended by its time, refused."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from smppd.audit.trail import Actor
from smppd.control.wire import Code, ControlError
from smppd.daemon.acts import ActRequest, Done
from smppd.daemon.traces import open_traces
from smppd.daemon.tracing import AT_ONCE, Tracing
from smppd.net.tracing import BUG
from smppd.operators.roles import Act, Authority
from smppd.protocol.capture import unpack
from smppd.protocol.wire import pdu
from smppd.records.traces import Trace
from smppd.store.opening import embedded
from smppd.store.sqlite.documents import SqliteDocuments
from smppd.store.sqlite.keys import KeyStore
from smppd.vault.keys import InstallSecrets, KeyRing, create_install, load_install
from tests.net.links import Client, World, account
from tests.vault.rows import NOON, kek

ADA = Authority(Actor("root", "host"), "ada", act=Act.RUNTIME)


class Room:
    """The act on the customers' side of a daemon. The reactor's calls from the thread wait until `settle`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.world = World(*(account(name) for name in ("acme", "other", "a3", "a4", "a5", "both")))
        keys = KeyStore(path)
        create_install(kek(), keys)
        self.install: InstallSecrets = load_install(kek(), keys)
        keys.close()
        SqliteDocuments(path).close()
        self.ring = KeyRing(kek(), KeyStore(path))
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.told: list[tuple[str, Any]] = []
        self.reserve = 0
        self.bugs: list[int] = []
        clock: Any = self.world.clock
        clock.callFromThread = lambda function, *args: self.calls.put(lambda: function(*args))
        upstreams: Any = SimpleNamespace(links={"both": []}, traced={}, find=lambda _name: None)
        upstreams.wants = lambda name: name in ("both", "drained")
        upstreams.trace = lambda name, recording: upstreams.traced.update({name: recording})
        acts: Any = SimpleNamespace(done=self._on_trail)
        self.tracing = Tracing(
            embedded(path),
            self.ring,
            self.install,
            self.world.customers,
            upstreams,
            acts,
            lambda event, facts: self.told.append((event, facts)),
            clock,
            lambda: self.reserve,
            lambda: NOON + clock.seconds(),
            clock.seconds,
            lambda: self.bugs.append(1),
        )

    def _on_trail(self, request: ActRequest, who: Authority, then: Callable[[], Any], *, facts: Any) -> Deferred[Any]:
        self.told.append(("act", (request.target, who.operator, facts)))
        return succeed(then())

    def settle(self) -> None:
        """One call that the thread has made."""
        self.calls.get(timeout=10)()

    def asks(self, target: str, **fields: Any) -> Done | ControlError:
        """What an act comes to."""
        request = ActRequest("trace", target, "slow", fields)
        try:
            answer = self.tracing.act(request, ADA)
        except ControlError as error:
            return error
        if isinstance(answer, Done):
            return answer
        found: list[Any] = []
        answer.addCallbacks(found.append, lambda failure: found.append(failure.value))
        while not found:
            self.settle()
        result: Done | ControlError = found[0]
        return result

    def passes(self, seconds: float) -> None:
        """Time, with the daemon's ticks; the disk is quick."""
        for _ in range(round(seconds * 10)):
            self.world.clock.advance(0.1)
            self.tracing.tick()
            while self.tracing_writes():
                self.settle()

    def tracing_writes(self) -> bool:
        return any(one.writing for one in self.tracing._running)

    def kept(self) -> list[Trace]:
        with open_traces(embedded(self.path), self.ring, self.install) as traces:
            return traces.all()

    def pdus(self, number: int) -> list[bytes]:
        with open_traces(embedded(self.path), self.ring, self.install) as traces:
            return [one.data for one in unpack(traces.blocks(number)) if one.kind in (2, 3)]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.tracing.stop()


def says(client: Client, sequence: int) -> None:
    client.feeds(pdu(0x15, 0, sequence))
    client.hears()


def test_on_the_trail_first_then_heard_until_its_time_is_over(room: Room) -> None:
    client = room.world.bound()
    says(client, 5)
    done = room.asks("acme", **{"for": 20})
    assert done == Done("Trace 1 of account acme is on for 20 s; `smppd trace export` reads it.", True)
    assert [event for event, _ in room.told] == ["act", "trace"]
    says(client, 6)
    assert room.pdus(1) == [], "in memory for a second"
    room.passes(1.1)
    assert room.pdus(1) == [pdu(0x15, 0, 6), pdu(0x80000015, 0, 6)]
    assert [one.target for one in room.tracing.in_force()] == ["account:acme"]
    says(client, 7)
    room.world.clock.advance(20.0)
    room.settle()
    assert room.tracing.on == 0 and client.pipe.tap is None
    (one,) = room.kept()
    assert (one.why, one.pdus, one.sessions, one.reason) == ("its time was over", 4, 1, "slow")
    assert len(room.pdus(1)) == 4
    assert room.told[-1][1]["action"] == "ended"


def test_asked_again_stopped_and_stopped_again(room: Room) -> None:
    room.asks("acme")
    assert room.asks("account:acme") == Done("account acme is being traced already, as trace 1.", False)
    said = "Trace 1 of account acme has ended (it was told to): sessions 0, PDUs 0."
    assert room.asks("acme", stop=True) == Done(said, True)
    assert room.asks("acme", stop=True) == Done("account acme is not being traced.", False)


def test_a_session_by_its_id(room: Room) -> None:
    client = room.world.bound()
    done = room.asks("session:c1")
    assert isinstance(done, Done) and done.said.startswith("Trace 1 of session c1 is on")
    again = room.asks("session:c1")
    assert isinstance(again, Done) and not again.changed
    refused = room.asks("acme")
    assert isinstance(refused, ControlError) and "another trace" in str(refused)
    says(client, 5)
    client.goes()
    room.world.clock.advance(0.0)
    room.settle()
    (one,) = room.kept()
    assert (one.why, one.account, one.pdus) == ("the session ended", "acme", 2)


def test_an_upstream_that_is_drained_is_traced_before_it_is_bound_again(room: Room) -> None:
    done = room.asks("drained")
    assert isinstance(done, Done) and done.said.startswith("Trace 1 of upstream drained is on")


@pytest.mark.parametrize(
    ("target", "fields", "code"),
    [
        ("nobody", {}, Code.UNKNOWN),
        ("c99", {}, Code.UNKNOWN),
        ("upstream:acme", {}, Code.UNKNOWN),
        ("nobody", {"stop": True}, Code.UNKNOWN),
        ("both", {}, Code.REQUEST),
        ("acme", {"for": 601}, Code.REQUEST),
        ("acme", {"for": 0}, Code.REQUEST),
        ("acme", {"for": True}, Code.REQUEST),
        ("acme", {"for": "1m"}, Code.REQUEST),
        ("acme", {"note": 5}, Code.REQUEST),
        ("acme", {"note": "x" * 201}, Code.REQUEST),
    ],
)
def test_what_is_refused(room: Room, target: str, fields: dict[str, Any], code: Code) -> None:
    refused = room.asks(target, **fields)
    assert isinstance(refused, ControlError) and refused.code == code
    assert room.told == [] and room.kept() == []


def test_so_many_at_a_time(room: Room) -> None:
    for name in ("acme", "other", "a3", "a4"):
        assert isinstance(room.asks(name), Done)
    refused = room.asks("a5")
    assert AT_ONCE == 4 and isinstance(refused, ControlError) and "4 traces are on" in str(refused)


def test_a_full_disk_is_told_and_nothing_is_heard(room: Room) -> None:
    client = room.world.bound()
    room.reserve = 1 << 62
    refused = room.asks("acme")
    assert isinstance(refused, ControlError) and "no room" in str(refused)
    assert room.kept() == [] and room.tracing.on == 0 and client.pipe.tap is None
    room.reserve = 0
    room.asks("acme")
    room.reserve = 1 << 62
    says(client, 5)
    room.passes(1.1)
    room.settle()
    (one,) = room.kept()
    assert "no room" in one.why and client.pipe.tap is None
    assert room.pdus(1) == []


def test_destroyed_under_it_it_ends_and_writes_nothing_more(room: Room) -> None:
    client = room.world.bound()
    room.asks("acme")
    with open_traces(embedded(room.path), room.ring, room.install) as traces:
        traces.destroy(1)
    says(client, 5)
    room.passes(1.1)
    room.settle()
    assert room.tracing.on == 0 and room.kept() == [] and not list((room.path / "traces").iterdir())


def test_the_end_of_the_daemon_is_the_end_of_them(room: Room) -> None:
    client = room.world.bound()
    room.asks("acme")
    says(client, 5)
    room.tracing.stop()
    (one,) = room.kept()
    assert one.why == "smppd ended" and len(room.pdus(1)) == 2


def test_who_sees_some_accounts_alone_traces_these(room: Room) -> None:
    owner = ADA._replace(accounts=frozenset({"acme"}))
    with pytest.raises(ControlError, match="no such"):
        room.tracing.act(ActRequest("trace", "other", "x", {}), owner)
    room.asks("other")
    for name in ("other", "a3"):
        with pytest.raises(ControlError, match="no such"):
            room.tracing.act(ActRequest("trace", name, "x", {"stop": True}), owner)
    assert room.tracing.on == 1


def test_an_error_of_ours_ends_it_and_is_counted(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    client = room.world.bound()
    assert isinstance(room.asks("acme"), Done)
    broken: Any = lambda *_: 1 / 0  # noqa: E731
    monkeypatch.setattr("smppd.net.tracing.Recording.add", broken)
    says(client, 9)
    assert room.bugs == [1]
    monkeypatch.undo()
    room.passes(0.1)
    room.settle()
    assert room.tracing.on == 0 and room.kept()[0].why == BUG
    monkeypatch.setattr("smppd.records.traces.Traces.begin", broken)
    refused = room.asks("other")
    assert isinstance(refused, ControlError) and BUG in str(refused) and room.bugs == [1, 1]
