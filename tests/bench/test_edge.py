"""The campaign's structures of the customers' side and of the index, small, all the way."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import edge_structures as edge
from bench.edge_stand import EdgeStand
from bench.limits import Result, measure

SMALL: dict[str, Any] = {
    "connections": partial(edge.fill_connections, number=40, accounts=20),
    "bans": partial(edge.fill_bans, number=40),
    "audit": partial(edge.fill_audit, number=100),
    "index": partial(edge.fill_index, run=200),
}


def structure(name: str) -> Any:
    (found,) = [one for one in edge.EDGE if one.name == name]
    return found


@pytest.mark.parametrize("name", SMALL)
def test_a_small_structure_is_filled_and_everything_done(tmp_path: Path, name: str) -> None:
    small = replace(structure(name), fill=SMALL[name])
    if name == "index":
        small = replace(small, prepare=partial(edge.fill_log, runs=2, run=1000))
    result = measure(small, tmp_path)
    assert {operation for operation, _ in result.turns} >= {*small.acts, *small.ticks}
    assert result.stated == small.stated > 0


def test_sessions_hold_what_they_are_filled_with(tmp_path: Path) -> None:
    stand = EdgeStand(structure("connections").settings(tmp_path))
    edge.fill_connections(stand, 40, 20)
    sessions = [one.session for account in stand.relay.context.accounts.values() for one in account.sessions]
    assert len(sessions) == 40
    assert {one.unanswered for one in sessions} == {edge.WINDOW} == {len(one.outstanding) for one in sessions}
    assert all(one.blocked and one._held and one._splitter.pending == edge.PART for one in sessions)
    assert stand.store.batch.accepted or stand.store.busy, "the disk answers nothing"
    edge.disk_again(stand)
    assert not any(one.blocked for one in sessions)
    stand.close()


def test_bans_and_entries_are_there(tmp_path: Path) -> None:
    stand = EdgeStand(structure("bans").settings(tmp_path))
    edge.fill_bans(stand, 40)
    assert stand.door.guard.count(stand.reactor.seconds()) == (20, 0)
    edge.fill_audit(stand, 100)
    assert [len(queue) for queue in stand.audit._queues] >= [1000, 0, 1000, 100], (
        "its own, opt-outs, refused and accepted binds"
    )
    assert len(stand.customers.refusals._told) > 1000
    stand.trail.full = False
    stand.close()


def test_memory_over_what_is_stated_fails() -> None:
    result = Result("bans", "many", 3.0, 71_000_000, 0, 0, [("submit_sm", 0.5)], True, 70_000_000)
    assert not result.ok and replace(result, stated=72_000_000).ok and replace(result, stated=0).ok
    assert not replace(result, stated=0, turns=[("submit_sm", 21.0)]).ok
