"""Acts that stand: sealed, on the trail first, read back at the start, and each of them said back in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from smppd.audit.trail import Actor, AuditTrail
from smppd.control.wire import Code, ControlError
from smppd.daemon.act_room import REPLY, WAITING_ACTS, ActRoom
from smppd.daemon.acts import ActRequest, Done
from smppd.daemon.standing import KIND, Standing, StandingActs
from smppd.metrics import Metrics
from smppd.operators.roles import Act, Authority, Role
from smppd.relay.acting import EXPIRE, Acted, Waiting
from smppd.store.documents import FOREVER
from smppd.traffic.suspension import Suspensions
from smppd.vault.documents import DocumentSealer
from smppd.vault.keys import create_install, load_install
from tests.records.memorylog import FillingDocuments
from tests.relay.fakes import settings
from tests.vault.rows import MemoryRows, kek

ROOT = Authority(Actor("root", "host"), act=Act.RUNTIME)
ADA = Authority(Actor("ada", "host"), "ada", frozenset({Role.OPERATOR}), None, Act.RUNTIME)
OWNER = Authority(Actor("bo", "host"), "bo", frozenset({Role.ACCOUNT_OWNER}), frozenset({"acme"}), Act.RUNTIME)


def _for(seconds: float) -> dict[str, Any]:
    return {"for": seconds}


class Link:
    """A session that stands."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number


class Fakes:
    """The relay, the customers, the upstreams, the door and the traffic, as far as acts know them."""

    def __init__(self) -> None:
        self.acts: dict[str, str] = {}
        self.awaits = (0, 0)
        self.begun: list[tuple[Waiting, Callable[[Acted], None]]] = []
        self.closed: set[str] = set()
        self.links = [Link("acme", 1), Link("acme", 2)]
        self.kicked: list[Any] = []
        self.suspensions = Suspensions()
        self.unwritten: set[str] = set()
        self.lifted: list[str] = []
        self.bans = 1
        self.ids = 100

    # the relay
    def set_upstream_act(self, name: str, act: str) -> None:
        self.acts[name] = act

    def upstream_awaits(self, _name: str) -> tuple[int, int]:
        return self.awaits

    def act_on_waiting(self, wanted: Waiting, then: Callable[[Acted], None]) -> None:
        self.begun.append((wanted, then))

    def last_id(self, ago: float = 0.0) -> int:
        self.ids += 1
        return self.ids - int(ago)

    def has_upstream(self, name: str) -> bool:
        return name in ("a", "b")

    def account(self, name: str) -> object | None:
        return object() if name in ("acme", "a") else None

    def flush(self) -> None:
        pass

    # customers and upstreams
    def meant(self, *, name: str | None = None, account: str | None = None, number: int | None = None, **_: Any) -> Any:
        return [one for one in self.links if one.number == number or one.name == (name or account)]

    def kick(self, links: list[Any]) -> None:
        self.kicked += links

    def close(self, name: str) -> None:
        self.closed.add(name)

    def open(self, name: str) -> None:
        self.closed.discard(name)

    # traffic and the door
    def is_unwritten(self, account: str) -> bool:
        return account in self.unwritten

    def lift(self, address: str) -> int:
        self.lifted.append(address)
        return self.bans


class House:
    """The acts of one daemon, in one process after another on the same disk."""

    def __init__(self, directory: Path) -> None:
        rows = MemoryRows()
        create_install(kek(), rows)
        self.install = load_install(kek(), rows)
        self.directory = directory
        self.disk = FillingDocuments()
        self.settings = settings()
        self.reloads = 0
        self.wall = 1000.0
        self.starts()

    def starts(self) -> None:
        """A process begins with what is on the disk."""
        self.clock = Clock()
        self.metrics = Metrics()
        self.fakes = Fakes()
        self.standing = StandingActs(
            lambda: self.disk,
            self.trail,
            DocumentSealer(self.install),
            self.metrics,
            cast("Any", self),
            lambda: self.wall,
            settings=lambda: self.settings,
        )
        self.standing.load()
        fakes: Any = self.fakes
        self.room = ActRoom(
            self.standing,
            fakes,
            fakes,
            fakes,
            fakes,
            fakes,
            lambda: self.settings,
            self.reload,
            self.clock.callLater,
            lambda: self.wall,
        )
        self.room.resume()

    def trail(self) -> AuditTrail:
        return AuditTrail(self.directory / "audit.db", self.install.audit)

    def reload(self) -> None:
        self.reloads += 1

    def run(self, _name: str, work: Callable[[], Any], then: Callable[[Any, Exception | None], None]) -> None:
        """`daemon.worker.Worker`, at once."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  as the worker does
            then(None, error)
        else:
            then(None, None)

    def ask(self, act: str, target: str = "", who: Authority = ROOT, **fields: Any) -> Done:
        """An act that is answered at once. Raises what it is refused with."""
        asked = ActRequest(act, target, "a test", fields)
        answered = self.room.handlers()[act](asked, who)
        if isinstance(answered, Deferred):
            got: list[Any] = []
            answered.addBoth(got.append)
            assert got, "no answer yet"
            if not isinstance(got[0], Done):
                got[0].raiseException()
            found: Done = got[0]
            return found
        return answered

    def refusal(self, act: str, target: str = "", who: Authority = ROOT, **fields: Any) -> str:
        """The code of its refusal."""
        with pytest.raises(ControlError) as refused:
            self.ask(act, target, who, **fields)
        return refused.value.code

    def told(self) -> list[tuple[str, str, str]]:
        """(act, target, result) of the entries on the trail."""
        with closing(self.trail()) as trail:
            return [(str(one.what["act"]), str(one.what["target"]), one.result) for one in trail.entries()]

    def stands(self) -> list[tuple[str, str]]:
        return [(one.act, one.target) for one in self.standing.in_force()]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    yield House(tmp_path)


def test_a_pause_stands_over_a_restart_and_is_said_once(house: House) -> None:
    assert house.ask("pause", "a", ADA) == Done("No message is released to a until it is unpaused.", True)
    assert house.fakes.acts == {"a": "paused"} and house.told() == [("pause", "a", "done")]
    assert not house.ask("pause", "a").changed and len(house.told()) == 1, "nothing has changed: no entry"
    house.starts()
    assert house.fakes.acts == {"a": "paused"} and house.stands() == [("pause", "a")]
    (one,) = house.standing.in_force()
    assert one.by == "ada (ada)" and one.reason == "a test" and one.survives and one.configured and one.until is None
    assert house.ask("unpause", "a").changed and house.fakes.acts == {"a": ""} and house.stands() == []
    assert not house.ask("unpause", "a").changed
    house.starts()
    assert house.fakes.acts == {} and not house.disk.kept


def test_what_cannot_be_written_down_is_not_done(house: House) -> None:
    house.disk.full = True
    assert house.refusal("pause", "a") == Code.STATE
    assert house.fakes.acts == {} and house.stands() == []
    assert house.told() == [("pause", "a", "done"), ("pause", "a", "failed")]
    (house.directory / "audit.db").unlink()
    (house.directory / "audit.db").mkdir()
    house.disk.full = False
    assert house.refusal("pause", "a") == Code.STATE and not house.disk.kept and house.fakes.acts == {}


def test_a_drain_ends_with_its_links(house: House) -> None:
    house.fakes.awaits = (3, 5)
    house.ask("drain", "a", **_for(10))
    assert house.fakes.acts == {"a": "draining"} and house.fakes.closed == set()
    house.wall += 100
    house.room.tick()
    assert house.fakes.closed == set(), "an answer is waited for however long it takes"
    house.fakes.awaits = (0, 5)
    house.wall -= 95
    house.room.tick()
    assert house.fakes.closed == set(), "a receipt may come"
    house.wall += 10
    house.room.tick()
    assert house.fakes.closed == {"a"} and house.fakes.acts == {"a": "drained"}
    assert "drained already" in house.ask("drain", "a").said and "drained already" in house.ask("pause", "a").said
    house.starts()
    assert house.fakes.acts == {"a": "drained"} and house.fakes.closed == {"a"}
    house.ask("unpause", "a")
    assert house.fakes.closed == set() and house.fakes.acts == {"a": ""}


def test_a_drain_that_is_ended_while_it_comes_to_its_end_stays_ended(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write has a thread of its own: which of two is durable first nobody knows."""
    waiting: list[Callable[[], None]] = []
    at_once = house.run
    monkeypatch.setattr(house, "run", lambda *job: waiting.append(lambda: at_once(*job)))

    def unpauses() -> list[Any]:
        got: list[Any] = []
        answered: Any = house.room.handlers()["unpause"](ActRequest("unpause", "a", "a test", {}), ROOT)
        answered.addBoth(got.append)
        return got

    house.room.handlers()["drain"](ActRequest("drain", "a", "a test", {}), ROOT)
    waiting.pop()()
    got = unpauses()
    house.room.tick()  # all is answered
    while waiting:
        waiting.pop()()  # the later one first
    assert got[0].changed and house.stands() == [] and not house.disk.kept
    assert house.fakes.closed == set() and house.fakes.acts == {"a": ""}

    house.room.handlers()["drain"](ActRequest("drain", "a", "a test", {}), ROOT)
    waiting.pop()()
    house.room.tick()
    assert house.fakes.acts == {"a": "drained"}
    with pytest.raises(ControlError, match="is being written"):
        unpauses()
    waiting.pop()()
    got = unpauses()
    waiting.pop()()
    assert got[0].changed and not waiting and not house.disk.kept


def test_a_pause_may_become_a_drain(house: House) -> None:
    house.ask("pause", "a")
    assert house.ask("drain", "a").changed and house.stands() == [("drain", "a")]
    house.room.tick()
    assert house.fakes.closed == {"a"}, "nothing is waited for"


def test_an_act_on_what_waits_stands_until_it_is_through(house: House) -> None:
    house.fakes.has_upstream = lambda name: False  # type: ignore[method-assign]
    answered = house.room.handlers()[EXPIRE](ActRequest(EXPIRE, "acme", "a test", {"older_than": 60}), ROOT)
    assert isinstance(answered, Deferred) and house.stands() == [(EXPIRE, "account:acme")]
    ((wanted, then),) = house.fakes.begun
    assert (wanted.act, wanted.account, wanted.upstream, wanted.message) == (EXPIRE, "acme", "", 0) and wanted.upto < 60
    assert "under way" in house.ask(EXPIRE, "acme").said
    house.clock.advance(REPLY + 0.1)
    got: list[Done] = []
    answered.addCallback(got.append)
    assert got[0].changed and "goes on" in got[0].said
    house.starts()
    ((again, then),) = house.fakes.begun
    assert again == wanted, "with the same messages, not with those that came later"
    then(Acted(7))
    assert house.stands() == [] and not house.disk.kept


@pytest.mark.parametrize(
    ("acted", "said"),
    [
        (Acted(1), Done("1 message of upstream:a wait for b first.", True)),
        (Acted(0, 2), Done("Nothing of upstream:a waits for that; 2 have no other route and wait as before.", False)),
        (Acted(0, failed=True), Code.FAILED),
    ],
)
def test_what_became_of_it(house: House, acted: Acted, said: Any) -> None:
    house.fakes.act_on_waiting = lambda wanted, then: then(acted)  # type: ignore[method-assign]
    if isinstance(said, Done):
        assert house.ask("move", "a", to="b") == said
    else:
        assert house.refusal("move", "a", to="b") == said
    assert house.stands() == [] and not house.clock.getDelayedCalls()


def test_one_message(house: House) -> None:
    for acted, code in ((Acted(0), Code.UNKNOWN), (Acted(0, carrier=True), Code.STATE)):
        house.fakes.act_on_waiting = lambda wanted, then, acted=acted: then(acted)  # type: ignore[method-assign, misc]
        assert house.refusal(EXPIRE, "00000000000000ff") == code
    assert house.refusal(EXPIRE, "00000000000000ff", OWNER) == Code.UNKNOWN


def test_so_many_at_one_time(house: House) -> None:
    for number in range(WAITING_ACTS):
        house.standing.put(Standing(f"waiting {number}", EXPIRE, f"account:{number}", 0.0, "", "", {}))
    assert house.refusal(EXPIRE, "acme") == Code.STATE


def test_what_is_not_there(house: House) -> None:
    for act, target in (
        ("pause", "x"), ("drain", "x"), ("unpause", "x"), ("kick", "x"), ("kick", "c7"), ("suspend", "x"), ("resume", "x"),
        ("expire", "x"), ("requeue", "x"), ("move", "x"), ("unban", "x"), ("move", "acme"), ("expire", "\ud800"),
        # What may be a person's number is not taken for a part of an address, and put into the log.
        ("unban", "192.0.2.1/+447700900123"), ("unban", "fe80::1%447700900123"), ("kick", "192.0.2.1/4477009"),
    ):  # fmt: skip
        assert house.refusal(act, target, to="b") == Code.UNKNOWN, act
    assert house.refusal("move", "a", to="c") == Code.UNKNOWN
    for act, target, fields in (
        ("move", "a", {}), ("move", "a", {"to": "a"}), ("drain", "a", {"for": -1}), ("drain", "a", {"for": "x"}),
        ("drain", "a", {"for": True}), ("expire", "acme", {"older_than": float("nan")}), ("log-level", "loud", {}),
        ("reload", "a", {}), ("requeue", "a", {}),
    ):  # fmt: skip
        assert house.refusal(act, target, **fields) == Code.REQUEST, (act, fields)
    assert house.told() == [] and house.fakes.acts == {}


def test_an_owner_acts_on_his_accounts_alone(house: House) -> None:
    for act, target in (
        ("pause", "a"),
        ("kick", "192.0.2.1"),
        ("suspend", "a"),
        ("unban", "192.0.2.1"),
        ("kick", "u1"),
    ):
        assert house.refusal(act, target, OWNER) == Code.UNKNOWN
    assert house.refusal("log-level", "debug", OWNER) == house.refusal("reload", "", OWNER) == Code.ROLE
    assert house.ask("kick", "acme", OWNER).changed and house.refusal("reload", "", OWNER) == Code.ROLE


def test_kick(house: House) -> None:
    assert house.ask("kick", "acme") == Done("2 sessions unbound when its answers are through.", True)
    assert house.ask("kick", "c2").changed and house.fakes.kicked[-1].number == 2
    assert house.ask("kick", "u1").said == "1 session unbound when its answers are through; it is bound again."
    assert house.ask("kick", "b") == Done("b has no session.", False)
    assert house.refusal("kick", "a") == Code.REQUEST, "an account and an upstream"
    assert not house.ask("kick", "upstream:a").changed


def test_suspensions_are_those_that_exist(house: House) -> None:
    assert house.ask("suspend", "acme").changed and not house.ask("suspend", "acme").changed
    assert house.fakes.suspensions.standing("acme").suspension is not None
    assert [kind for kind, _ in house.disk.kept] == ["suspension"]
    house.fakes.unwritten.add("acme")
    assert house.refusal("resume", "acme") == Code.STATE
    house.fakes.unwritten.clear()
    assert house.ask("resume", "acme").changed and not house.disk.kept
    assert not house.ask("resume", "acme").changed


def test_a_number_in_a_reason_is_masked_wherever_it_is_shown(house: House) -> None:
    for act, target in (("suspend", "acme"), ("pause", "a")):
        house.room.handlers()[act](ActRequest(act, target, "asked by +44 7700 900123", {}), ROOT)
    suspended = house.fakes.suspensions.standing("acme").suspension
    assert suspended is not None and suspended.reason == "asked by ***"
    assert [one.reason for one in house.standing.in_force()] == ["asked by ***"]


def test_unban_and_reload(house: House) -> None:
    assert house.ask("unban", "192.0.2.1") == Done("1 ban of 192.0.2.1 lifted.", True)
    house.fakes.bans = 0
    assert not house.ask("unban", "192.0.2.1").changed
    assert house.ask("reload").changed and house.reloads == 1


def test_a_level_for_a_while(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[str | None] = []
    monkeypatch.setattr("smppd.daemon.act_room.logs.override_level", levels.append)
    house.ask("log-level", "debug", **_for(60))
    assert not house.ask("log-level", "debug").changed
    house.ask("log-level", "warning", **_for(30))
    (one,) = house.standing.in_force()
    assert (one.target, one.until, one.survives) == ("warning", house.wall + 30, False)
    house.clock.advance(31)
    assert levels == ["debug", "warning", None] and house.stands() == [] and not house.disk.kept


def test_what_left_the_configuration_keeps_its_act_and_says_so(house: House) -> None:
    house.ask("pause", "a")
    house.settings = house.settings.model_copy(update={"upstreams": house.settings.upstreams[1:]})
    assert [one.configured for one in house.standing.in_force()] == [False]


def test_an_altered_document_stands_for_nothing(house: House) -> None:
    house.ask("pause", "a")
    house.disk.kept[KIND, "upstream a"] = (b"\1" + b"x" * 40, FOREVER)
    house.starts()
    assert house.stands() == [] and house.fakes.acts == {}
    assert house.metrics.registry.get_sample_value("smppd_internal_errors_total", {"where": "acts"}) == 1


def test_how_many_stand(house: House) -> None:
    def value(act: str) -> float | None:
        house.standing.set_gauges()
        return house.metrics.registry.get_sample_value("smppd_acts_in_force", {"act": act})

    house.ask("pause", "a")
    house.ask("pause", "b")
    assert value("pause") == 2 and value("drain") is None
    house.ask("unpause", "a")
    house.ask("unpause", "b")
    assert value("pause") == 0


def test_what_another_node_pauses_and_drains_is_followed(tmp_path: Path) -> None:
    """Two daemons with the same documents. Each ends a drain by itself."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = House(tmp_path / "one"), House(tmp_path / "two")
    two.disk, two.install = one.disk, one.install
    two.settings = settings(node=2)
    two.starts()

    def follows(house: House) -> None:
        house.room.follow(house.standing.stored())

    one.ask("pause", "a")
    one.ask("drain", "b")
    follows(two)
    assert two.fakes.acts == {"a": "paused", "b": "draining"} and two.stands() == one.stands()
    one.room.tick()
    assert one.fakes.closed == {"b"} and one.fakes.acts["b"] == "drained"
    follows(two)
    assert two.fakes.acts["b"] == "draining" and not two.fakes.closed, "its own links may be waited for"
    two.starts()
    assert two.fakes.acts["b"] == "draining"
    two.room.tick()
    assert two.fakes.closed == {"b"}
    follows(one)
    assert one.fakes.acts == {"a": "paused", "b": "drained"}
    two.ask("unpause", "b")
    follows(one)
    assert one.fakes.acts == {"a": "paused", "b": ""} and not one.fakes.closed
    one.room.handlers()["expire"](ActRequest("expire", "account:acme", "a test", {}), ROOT)
    assert ("expire", "account:acme") in one.stands()
    follows(two)
    assert two.stands() == [("pause", "a")], "what waits at one node is its own"
    two.starts()
    assert not two.fakes.begun
