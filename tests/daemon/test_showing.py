"""What each view shows, and to whom: an account owner sees his accounts alone, everywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from smppd.audit.trail import Actor
from smppd.control.wire import ControlError
from smppd.daemon.acts import ActInForce
from smppd.daemon.answers import Listing
from smppd.daemon.askers import SHOWS_NEED
from smppd.daemon.http import assess
from smppd.daemon.reload import LastReload
from smppd.daemon.showing import Seen, Showing
from smppd.net.bound import BoundAccounts
from smppd.net.door import NamedBan
from smppd.net.sessions import SessionView
from smppd.operators.roles import Authority
from smppd.relay.views import LimitView
from smppd.traffic.suspension import Suspension
from tests.daemon.fellows import Node, Table, without_nodes
from tests.relay.fakes import HASH, World, settings

ROOT = Authority(Actor("root", "here"))
OWNER = Authority(Actor("root", "here"), "olga", accounts=frozenset({"acme"}))
RULES = {"house": [{"name": "prize", "when": {"text": "prize"}, "do": "refuse"}]}
RTS = "a\u202eb"


def session(number: str, side: str, name: str | None) -> SessionView:
    tls: dict[str, str | None] = {"version": "TLSv1.3", "cipher": "X", "subject": "CN=x"}
    return SessionView(
        number,
        side,
        name,
        "192.0.2.1:5",
        tls,
        "transceiver",
        "3.4",
        "bound",
        990.0,
        10.0,
        10,
        1,
        10,
        0,
        1.0,
        5,
        "submit_sm",
        0.1,
        0,
    )


class Alone:
    """Where the store is one node's alone."""

    def __init__(self) -> None:
        self.membership: Any = without_nodes()


class Parts:
    """Stands for customers, upstreams, door, reload and worker."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.last: LastReload | None = None
        self.loaded = 1.0
        self.error: Exception | None = None
        self.bound = BoundAccounts()

    def now(self) -> float:
        return self.world.now

    def views(self, *accounts: Any) -> Any:
        if not accounts:
            return iter([session("u1", "carrier", "a"), session("u2", "carrier", "b")])
        found = [session("c1", "customer", "acme"), session("c2", "customer", "other"), session("c3", "customer", None)]
        return (one for one in found if accounts[0] is None or one.name in accounts[0])

    def trouble(self, name: str) -> tuple[float | None, str | None]:
        return (4.25, "connection refused") if name == "a" else (None, None)

    def bans(self) -> Any:
        return iter([NamedBan("192.0.2.9", "address", "", 5.0)])

    def limits(self) -> list[LimitView]:
        return [LimitView("connections", None, 100, 90, 0.9)]

    def run(self, _name: str, work: Any, then: Any) -> None:
        then(*((None, self.error) if self.error else (work(), None)))


class House:
    """A relay with two accounts, something that waits, an act and a suspension. ``nodes``: this is node 1 of two."""

    def __init__(self, *, nodes: bool = False) -> None:
        more = [{"system_id": "other", "password_hash": HASH, "networks": "any"}]
        self.world = World(settings(more=more, policies=RULES, acme={"policies": ["house"]}))
        for name in ("acme", "other"):
            self.world.customer(name).submits(b"hello", b"prize")
        self.world.commits()
        self.world.passes(2)
        self.parts = Parts(self.world)
        if nodes:
            table, clock = Table(), Clock()
            self.node, self.other = Node(table, 1, clock), Node(table, 2, clock)
            self.parts.bound = self.node.bound
            self.other.links = {"a": 2, "b": 1}
            self.other.membership.tick(0.0)
            for name in ("acme", "other"):
                self.other.bound.came(name, receives=True)
            clock.advance(1)
        self.acts = [ActInForce("pause", "a", 5.0, "ada", "maintenance", None, True)]
        self.suspended = [Suspension(name, 7.0, "ada", RTS, 3) for name in ("acme", "other")]
        parts: Any = self.parts
        health = assess({"store": "ok", "upstreams": "degraded: 0 of 2 upstreams are bound"}, alive=True)
        seen = Seen(
            lambda: self.world.settings,
            self.world.relay,
            parts,
            parts,
            parts,
            self.world.metrics,
            parts,
            parts,
            lambda: self.suspended,
            lambda: self.acts,
            lambda: health,
            (self.node if nodes else Alone()).membership,
        )
        self.views = Showing(seen, wall=lambda: self.world.wall).views()

    def show(self, what: str, who: Authority = ROOT, **request: Any) -> Any:
        """What was asked for, as JSON gave it."""
        return self.whole(what, who, **request)[what]

    def whole(self, what: str, who: Authority = ROOT, **request: Any) -> Any:
        """The whole answer."""
        answer: Any = self.views[what].make(request, who)
        if isinstance(answer, Deferred):
            found: list[Any] = []
            answer.addBoth(found.append)
            (answer,) = found
            if hasattr(answer, "value"):
                raise answer.value
        line = b"".join(answer.pieces()) if isinstance(answer, Listing) else json.dumps(answer).encode()
        assert b"7700900" not in line and b"argon2" not in line
        whole = json.loads(line)
        assert whole["at"] == self.world.wall
        return whole

    def names(self, what: str, key: str, who: Authority = ROOT, **request: Any) -> list[Any]:
        return [one[key] for one in self.show(what, who, **request)]


@pytest.fixture
def house() -> House:
    return House()


def test_there_is_a_view_for_each_line_of_the_table(house: House) -> None:
    assert set(house.views) == set(SHOWS_NEED)
    for name, view in house.views.items():
        assert view.needs is SHOWS_NEED[name]
        house.show(name)


def test_everything_is_there_for_who_runs_it(house: House) -> None:
    assert house.names("sessions", "id") == ["c1", "c2", "c3", "u1", "u2"]
    assert house.show("sessions")[0]["since"] == house.world.wall - 12.0
    assert house.names("sessions", "id", account="other") == ["c2"]
    assert house.names("sessions", "id", upstream="b") == ["u2"]
    assert house.names("accounts", "name") == ["acme", "other"]
    assert house.show("accounts")[0]["suspended"] == {"since": 7.0, "by": "ada", "reason": RTS}
    upstream = house.show("upstreams", upstream="a")[0]
    assert (upstream["state"], upstream["act"]["reason"], upstream["again_in"]) == ("paused", "maintenance", 4.2)
    assert upstream["last_error"] == "connection refused" and upstream["address"] == "127.0.0.1:2776"
    assert house.names("queues", "why") == ["no link", "no link"]
    assert house.names("bans", "address") == ["192.0.2.9"] and house.names("suspensions", "hits") == [3, 3]
    assert house.names("limits", "share")[0] == 0.9
    assert house.show("rules") == [{"policy": "house", "rule": "prize", "mode": "enforce", "hits": 1, "shadow": 0}]
    assert house.show("health")["state"] == "degraded"
    assert house.show("flow")["accounts"]["other"]["accepted"][-2:] == [2, 0]


def test_an_owner_sees_his_account_alone_everywhere(house: House) -> None:
    house.acts.append(ActInForce("suspend", "acme", 6.0, "ada", "why", None, True))
    for what in house.views:
        text = json.dumps(house.show(what, OWNER))
        assert "other" not in text and '"a"' not in text and "carrier" not in text, what
    assert house.names("sessions", "id", OWNER) == ["c1"]
    for what in ("sessions", "accounts", "queues", "messages", "suspensions", "limits"):
        assert house.show(what, OWNER), f"his own {what}"
        assert house.show(what, OWNER, account="other") == [], what
    # What has his account's name and is something else is no business of his.
    house.acts.append(ActInForce("pause", "acme", 6.0, "ada", "why", None, True))
    house.acts.append(ActInForce("trace", "upstream:acme", 6.0, "ada", "why", None, False))
    house.acts.append(ActInForce("expire", "account:acme", 6.0, "ada", "why", None, True))
    assert house.names("acts", "target", OWNER) == ["acme", "account:acme"]
    assert house.names("acts", "act", OWNER) == ["suspend", "expire"]
    assert house.show("upstreams", OWNER) == house.show("rules", OWNER) == house.show("lists", OWNER) == []
    assert house.show("queues", OWNER)[0]["upstreams"] == [] and house.show("messages", OWNER)[0]["upstream"] is None
    other = next(one for one in house.show("messages") if one["account"] == "other")
    assert house.show("messages", OWNER, id=other["id"]) == []
    assert house.show("health", OWNER) == {"ready": True, "state": "ready", "checks": {}}
    assert list(house.show("config", OWNER)["settings"]) == ["accounts"]


def test_messages_are_counted_and_asked_for_by_id(house: House) -> None:
    found = house.show("messages")
    assert len(found) == 3 and house.show("messages", limit=1) == found[:1]
    assert house.show("messages", id=found[1]["id"]) == [found[1]]


@pytest.mark.parametrize(
    ("what", "request_"),
    [
        ("messages", {"limit": 0}),
        ("messages", {"limit": 1001}),
        ("messages", {"limit": True}),
        ("messages", {"limit": "5"}),
        ("messages", {"id": "xyz"}),
        ("messages", {"id": "é" * 16}),
        ("messages", {"id": 5}),
        ("sessions", {"account": ["acme"]}),
        ("accounts", {"account": "x" * 65}),
        ("queues", {"upstream": ""}),
        ("flow", {"since": "now"}),
        ("flow", {"since": True}),
        ("flow", {"since": 1e300}),
    ],
)
def test_what_makes_no_sense_is_refused(house: House, what: str, request_: dict[str, Any]) -> None:
    with pytest.raises(ControlError) as caught:
        house.show(what, **request_)
    assert caught.value.code == "request"


def test_the_configuration_says_when_and_how_it_was_loaded(house: House) -> None:
    config = house.show("config")
    assert config["last_reload"] is None and config["loaded"] == 1.0 and config["acts"][0]["act"] == "pause"
    house.parts.last = LastReload(3.0, "refused", ("smppd.yaml:1:1: no",))
    assert house.show("config")["last_reload"] == {"at": 3.0, "result": "refused", "faults": ["smppd.yaml:1:1: no"]}


def test_a_list_that_cannot_be_read_is_a_sentence(house: House) -> None:
    house.parts.error = OSError(13, "Permission denied", "/var/lib/smppd/lists/a")
    with pytest.raises(ControlError, match="Permission denied") as caught:
        house.show("lists")
    assert caught.value.code == "state"


def test_a_drain_ends_when_the_links_are_gone(house: House) -> None:
    house.acts[:] = [ActInForce("drain", "a", 5.0, "ada", "maintenance", None, True)]
    assert house.show("upstreams", upstream="a")[0]["state"] == "drained"
    house.world.carrier("a")
    assert house.show("upstreams", upstream="a")[0]["state"] == "draining"


def test_several_nodes_say_what_others_have_beside_each_list() -> None:
    house = House(nodes=True)
    nodes = house.show("nodes")
    assert [(one["node"], one["here"], one["binds"], one["links"]) for one in nodes] == [
        (1, True, 0, 0),
        (2, False, 2, 3),
    ]
    sessions = house.whole("sessions")
    assert sessions["node"] == 1 and len(sessions["sessions"]) == 5
    binds = [{"node": 2, "name": "host2", "account": name, "sessions": 1, "receivers": 1} for name in ("acme", "other")]
    links = [{"node": 2, "name": "host2", "upstream": name, "links": number} for name, number in (("a", 2), ("b", 1))]
    assert sessions["elsewhere"] == binds + links
    assert house.whole("sessions", upstream="a")["elsewhere"] == links[:1]
    assert house.whole("accounts")["elsewhere"] == binds
    assert [(one["name"], one["elsewhere"]) for one in house.show("accounts")] == [("acme", 1), ("other", 1)]
    assert house.whole("upstreams")["elsewhere"] == links
    assert [(one["name"], one["elsewhere"]) for one in house.show("upstreams")] == [("a", 2), ("b", 1)]


def test_an_account_owner_sees_of_other_nodes_what_is_his() -> None:
    house = House(nodes=True)
    for what in ("sessions", "accounts"):
        assert [one["account"] for one in house.whole(what, OWNER)["elsewhere"]] == ["acme"]
    assert "elsewhere" not in house.whole("upstreams", OWNER) and house.show("nodes", OWNER) == []


def test_one_node_alone_says_nothing_of_others() -> None:
    house = House()
    assert house.show("nodes") == [] and "elsewhere" not in house.whole("accounts")
    assert "elsewhere" not in house.show("accounts")[0]
