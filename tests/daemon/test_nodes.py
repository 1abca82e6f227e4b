"""What a node says of itself, and what it makes of what others say."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from smppd.daemon.nodes import COUNTS, MOST, Facts, Membership
from smppd.metrics import Metrics
from smppd.net.bound import Bound, BoundAccounts
from smppd.relay.gauges import Load
from smppd.store.nodes import Life
from tests.daemon.fellows import FakeShares, Node, Table, no_rows, without_nodes


class House:
    """Two nodes, 1 and 2."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.table = Table()
        self.one, self.two = (Node(self.table, number, self.clock) for number in (1, 2))
        self.passes(0.1)
        for node in (self.one, self.two):
            node.relay.hears()

    def passes(self, seconds: float) -> None:
        """Time goes by in steps of a tenth, and every two seconds all look."""
        for step in range(round(seconds * 10)):
            self.clock.advance(0.1)
            if step % 20 == 0:
                self.table.looks()
            for node in (self.one, self.two):
                node.membership.tick(self.clock.seconds())


def test_the_first_look_says_who_is_there() -> None:
    clock, table = Clock(), Table()
    one = Node(table, 1, clock)
    assert one.relay.hears() == [("alone", True)]
    Node(table, 2, clock)
    assert one.relay.hears() == [("alone", False)]
    table.becomes(2, Life.LATE)
    assert one.relay.hears() == []  # what it has is its own until it is dead
    table.becomes(2, Life.TAKEN, heir=1)
    assert one.relay.hears() == [("alone", True)]


def test_binds_are_told_soon_and_many_at_once() -> None:
    house = House()
    one, two = house.one, house.two
    before = len(one.nodes.published)
    for _ in range(3):
        one.bound.came("acme", receives=True)
    one.bound.came("other", receives=False)
    house.clock.advance(0.02)
    assert len(one.nodes.published) == before + 1
    assert one.nodes.published[-1]["accounts"] == {"acme": (3, 3), "other": (1, 0)}
    assert (two.bound.elsewhere("acme"), two.bound.elsewhere("other"), two.bound.elsewhere("nobody")) == (3, 1, 0)
    assert two.relay.hears() == [("elsewhere", "acme")]
    for _ in range(3):
        one.bound.left("acme", receives=True)
    house.clock.advance(0.02)
    assert two.bound.elsewhere("acme") == 0 and two.relay.hears() == [("elsewhere",)]
    assert one.relay.hears() == []


def test_rates_are_divided_by_binds_and_links() -> None:
    house = House()
    one, two = house.one, house.two
    for node, binds, links in ((one, 1, 1), (two, 3, 2)):
        node.links = {"carrier": links, f"only{links}": 1}
        for _ in range(binds):
            node.bound.came("acme", receives=False)
        node.bound.came(f"only{binds}", receives=False)
    house.passes(0.3)
    assert one.relay.hears()[-1] == ("shares", {"acme": 0.25}, {"carrier": 1 / 3})
    assert two.relay.hears()[-1] == ("shares", {"acme": 0.75}, {"carrier": 2 / 3})
    house.table.becomes(2, Life.TAKEN, heir=1)
    assert one.relay.hears()[-1] == ("shares", {}, {})


def test_what_waits_is_told_every_few_seconds_and_only_where_it_is_another() -> None:
    house = House()
    house.passes(COUNTS)
    before = len(house.one.nodes.published)
    house.passes(3 * COUNTS)
    assert len(house.one.nodes.published) == before
    house.one.load = Load(3, 2, 1)
    house.passes(2 * COUNTS)
    assert len(house.one.nodes.published) == before + 1
    shown = {one["node"]: one for one in house.two.membership.views()}
    assert (shown[1]["waiting"], shown[1]["mail"], shown[1]["unknown"]) == (3, 2, 1)
    assert (shown[1]["name"], shown[1]["here"], shown[1]["life"], shown[1]["since"]) == ("host1", False, "live", 1000.0)
    assert shown[2]["here"] and shown[2]["state"] == "ready"


def test_one_keeps_house_the_lowest_that_does_not_drain() -> None:
    house = House()

    def keeps() -> tuple[bool, bool]:
        return house.one.membership.is_housekeeper(), house.two.membership.is_housekeeper()

    assert keeps() == (True, False) and house.two.value("node_housekeeper") == 0
    house.one.membership.drain()
    assert keeps() == (False, True)
    house.two.membership.drain()
    assert keeps() == (True, False)
    house.table.becomes(1, Life.LEFT)
    assert house.two.membership.is_housekeeper()


def test_a_dead_node_is_counted_where_it_was_taken_over() -> None:
    house = House()
    house.table.becomes(2, Life.LATE, silent=5)
    assert house.one.membership.others() == "degraded: node 2 (host2) is late"
    assert house.one.value("nodes", life="late") == 1
    house.table.becomes(2, Life.TAKEN, heir=1)
    assert house.one.membership.others() == "ok"
    assert (house.one.value("node_takeovers_total"), house.two.value("node_takeovers_total")) == (1, 0)
    house.table.looks()
    assert house.one.value("node_takeovers_total") == 1
    shown = {one["node"]: one for one in house.one.membership.views()}
    assert (shown[2]["life"], shown[2]["heir"], shown[2]["binds"], shown[2]["state"]) == ("taken over", 1, 0, None)


def test_a_lease_that_is_not_renewed_is_told() -> None:
    house = House()
    membership = house.one.membership
    assert membership.check() == "ok"
    house.clock.advance(7)
    assert membership.check() == "failed: the lease was not renewed for 7 s"
    membership.tick(house.clock.seconds())
    assert house.one.value("node_lease") == 0
    house.table.looks()
    assert membership.check() == "ok" and house.one.value("node_lease") == 1
    assert house.one.value("node_beats_late_total") == 1
    house.table.becomes(1, Life.LATE, silent=9)
    assert membership.check() == "failed: the lease was not renewed for 9 s"


def test_before_the_first_look_no_lease_is_held() -> None:
    clock, table = Clock(), Table()
    node = Node(table, 1, clock)
    late = Membership(
        node.nodes,
        FakeShares(),
        Metrics(),
        state=str,
        load=lambda: Load(0, 0, 0),
        links=dict,
        fenced=lambda _reason: None,
        now=clock.seconds,
        later=clock.callLater,
    )
    assert late.check() == "failed: the lease was not renewed yet" and late.others() == "ok"
    late.tick(1.0)  # nothing is asked of customers yet


def test_a_node_whose_place_another_has_ends_once() -> None:
    house = House()
    house.one.membership.fenced("its epoch is over")
    assert house.one.ended == ["its epoch is over"]
    house.one.membership.stop()
    house.one.membership.fenced("again")
    house.one.membership.rows_unheld(1, "lane", [])
    assert house.one.ended == ["its epoch is over"] and house.one.nodes.stopped
    assert house.one.relay.hears() == []


def test_a_bind_takes_the_places_of_the_oldest_at_the_node_with_the_most() -> None:
    house = House()
    three = Node(house.table, 3, house.clock)
    for node, binds in ((house.one, 1), (three, 2)):
        for _ in range(binds):
            node.bound.came("acme", receives=True)
    house.clock.advance(0.1)
    house.two.bound.wanted("acme", 1)
    assert (house.one.evicted, house.two.evicted, three.evicted) == ([], [], [("acme", 1)])
    house.two.bound.wanted("nobody", 1)
    assert three.evicted == [("acme", 1)]


def test_topics_have_listeners_whose_errors_are_their_own() -> None:
    house = House()
    heard: list[str] = []

    def breaks(_detail: str) -> None:
        raise ValueError

    house.two.membership.listen("opt-outs", breaks)
    house.two.membership.listen("opt-outs", heard.append)
    house.one.membership.tell("opt-outs", "17")
    house.one.membership.tell("nobody listens")
    assert heard == ["17"] and house.two.value("internal_errors_total", where="nodes") == 1


def test_rows_of_nobody_go_to_the_relay() -> None:
    house = House()
    house.one.membership.rows_unheld(3, "acme", [1, 2])
    assert house.one.relay.hears() == [("unheld", 3, "acme", (1, 2))]


def test_who_leaves_says_so_and_an_error_in_it_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.one.membership.leave()
    assert house.one.nodes.left
    house.two.nodes.error = OSError("away")
    house.two.membership.leave()
    assert "what this node holds stays with it" in caplog.text


def test_more_accounts_than_are_named_are_left_out() -> None:
    house = House()
    for number in range(MOST + 2):
        house.one.bound.came(f"a{number:05}", receives=False)
    house.clock.advance(1.0)
    told = house.one.nodes.published[-1]["accounts"]
    assert len(told) == MOST and "a00000" in told and f"a{MOST + 1:05}" not in told


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"accounts": None, "upstreams": 3, "since": "x", "waiting": -1},
        {
            "accounts": {"a": [1], "b": [1, "2"], "c": None, "d": [True, 1], "e": [-1, 0]},
            "upstreams": {"u": None, "v": 1.5},
        },
        {"v": 99, "more": [1, 2, 3]},
    ],
)
def test_what_another_version_says_does_no_harm(said: dict[str, Any]) -> None:
    facts = Facts.of(said)
    assert not facts.accounts and not facts.upstreams and facts.waiting is None and facts.since is None


def test_what_is_well_said_is_read() -> None:
    facts = Facts.of(
        {"version": "2", "state": "ready", "since": 5, "accounts": {"a": [2, 1]}, "upstreams": {"u": 2}, "mail": 3}
    )
    assert facts == Facts("2", "ready", 5.0, {"a": Bound(2, 1)}, {"u": 2}, None, 3, None)


def test_a_store_of_one_node_has_nothing_of_it() -> None:
    alone = without_nodes()
    alone.start(no_rows)
    alone.serve(BoundAccounts(), lambda _account, _places: None)
    alone.tick(5.0)
    alone.tell("topic")
    alone.drain()
    alone.leave()
    alone.stop()
    assert alone.is_housekeeper() and alone.number is None and alone.check() is None and alone.others() is None
    assert alone.views() == [] and alone.binds_elsewhere(None) == [] and alone.links_elsewhere(None) == []
