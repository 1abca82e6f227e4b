"""What refused binds tell the operator: the log, the trail, the metric, and how much of it there may be."""

from __future__ import annotations

import pytest

from smppd.net.binds import TOLD
from smppd.net.customers import NAMES_TOLD, REFUSALS, RefusedBinds
from tests.net.links import World, account
from tests.net.pipes import CUSTOMER


def test_refused_binds_are_told_once_a_minute_with_their_number() -> None:
    heard: list[dict[str, str]] = []
    refusals = RefusedBinds(lambda _event, fields: heard.append(fields))
    for second in range(61):
        refusals.note("wrong_password", CUSTOMER, float(second))
        refusals.tick(float(second))
    assert [fields["count"] for fields in heard] == ["1", "60"]
    refusals.tick(119.0)
    refusals.tick(120.0)
    assert len(heard) == 2, "a quiet minute is not told"
    refusals.note("wrong_password", CUSTOMER, 121.0)
    refusals.note("wrong_password", CUSTOMER, 122.0)
    assert [fields["count"] for fields in heard] == ["1", "60", "1"]
    refusals.tick(123.0, every=True)
    assert [fields["count"] for fields in heard] == ["1", "60", "1", "1"], "nothing is left untold at the end"
    assert set(heard[0]) == {"peer", "reason", "count"}


def test_refused_binds_of_many_peers_take_bounded_room() -> None:
    heard: list[dict[str, str]] = []
    refusals = RefusedBinds(lambda _event, fields: heard.append(fields))
    for number in range(3 * REFUSALS):
        refusals.note("unknown_id", f"2001:db8::{number:x}", 0.0)
    assert len(heard) == REFUSALS + 1
    for _ in range(REFUSALS // TOLD + 1):
        refusals.tick(60.0)
    assert heard[-1] == {"peer": "others", "reason": "unknown_id", "count": str(2 * REFUSALS - 1)}


def test_one_tick_tells_of_some_and_the_next_ones_of_the_others() -> None:
    heard: list[dict[str, str]] = []
    refusals = RefusedBinds(lambda _event, fields: heard.append(fields))
    for number in range(2 * REFUSALS):
        refusals.note("unknown_id", f"2001:db8::{number % REFUSALS:x}", 0.0)
    heard.clear()
    for tick in range(1, REFUSALS // TOLD + 1):
        refusals.tick(60.0)
        assert len(heard) == tick * TOLD
    refusals.tick(60.0)
    assert len(heard) == REFUSALS
    for number in range(REFUSALS):
        refusals.note("unknown_id", f"2001:db8::{number:x}", 61.0)
    refusals.tick(62.0, every=True)
    assert len(heard) == 2 * REFUSALS, "the end waits for no other tick"


def test_a_refused_bind_names_its_account_where_there_is_one() -> None:
    heard: list[dict[str, str]] = []
    refusals = RefusedBinds(lambda _event, fields: heard.append(fields))
    refusals.note("wrong_password", CUSTOMER, 0.0, ("account", "acme"))
    refusals.note("unknown_id", CUSTOMER, 0.0, ("name_hash", "0a1b2c3d4e5f"))
    refusals.note("wrong_password", CUSTOMER, 1.0, ("account", "acme"))
    refusals.tick(61.0)
    assert heard == [
        {"peer": CUSTOMER, "reason": "wrong_password", "count": "1", "account": "acme"},
        {"peer": CUSTOMER, "reason": "unknown_id", "count": "1", "name_hash": "0a1b2c3d4e5f"},
        {"peer": CUSTOMER, "reason": "wrong_password", "count": "1", "account": "acme"},
    ]


def test_a_guesser_of_many_names_is_told_of_with_some_and_a_number() -> None:
    heard: list[dict[str, str]] = []
    refusals = RefusedBinds(lambda _event, fields: heard.append(fields))
    for number in range(1000):
        refusals.note("unknown_id", CUSTOMER, 0.0, ("name_hash", f"{number:012x}"))
    assert len(heard) == NAMES_TOLD + 1 and "name_hash" not in heard[-1]
    refusals.tick(60.0)
    assert sum(int(fields["count"]) for fields in heard) == 1000
    for second in (121.0, 182.0):
        refusals.tick(second)
    assert not refusals._told and not refusals._names


def test_the_account_of_a_refused_bind_is_counted_and_a_ban_is_told(caplog: pytest.LogCaptureFixture) -> None:
    world = World(account())
    client = world.client()
    for sequence in range(200):
        client.bind(b"acme", b"wrong", sequence=sequence + 1)
        world.clock.advance(1)
        client.hears()
        if any(event == "ban began" for event, _ in world.heard):
            break
        world.clock.advance(20)
        if client.gone:
            client = world.client()
    assert ("ban began", {"peer": CUSTOMER, "account": "acme"}) in world.heard
    assert "ban began" in [record.message for record in caplog.records]
    assert world.relay.value("account_binds_refused_total", account="acme", reason="wrong_password") == 20
    before = world.relay.value("binds_refused_total", reason="unknown_id")
    client = world.client()
    client.bind(b"nobody", b"wrong")
    world.clock.advance(1)
    assert world.relay.value("binds_refused_total", reason="banned") == 1 and before == 0
    client.goes()
