"""The flow that the console keeps: what is asked for, and how answers are put together."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from smppd.console.flow import SECONDS, Flows
from smppd.console.page import Asking


class Meter:
    """Counts `count(second)` messages in each second, and shows those from a time on, at most 300, as the daemon does."""

    def __init__(self, began: int = 1000) -> None:
        self.began, self.now = began, began
        self.asked: list[int] = []

    def show(self, what: str, **fields: str | int) -> Any:
        since = int(fields["since"])
        self.asked.append(since)
        first = max(since, self.began, self.now - SECONDS)
        counts = list(range(first, self.now))
        accounts = {"acme": {"accepted": counts, "delivered": [0] * len(counts)}} if counts else {}
        return {"step": 1, "from": first, "accounts": accounts, "upstreams": {}}

    def act(self, act: str, target: str, reason: str, **fields: str | int) -> str:
        raise AssertionError


def read(flows: Flows, meter: Meter, scope: object = "all") -> list[float]:
    daemon: Asking = meter
    return flows.read(scope, daemon, float(meter.now))["accounts"].get("acme", {}).get("accepted", [])


@given(st.lists(st.integers(0, 400), max_size=20))
def test_whatever_the_pace_the_seconds_are_the_daemons(steps: list[int]) -> None:
    meter, flows = Meter(), Flows()
    meter.now += 400
    kept = read(flows, meter)
    assert kept == list(range(meter.now - 120, meter.now))
    for step in steps:
        meter.now += step
        before = len(meter.asked)
        found = read(flows, meter)
        assert (len(meter.asked) == before) == (step < 2 and found == kept)
        if len(meter.asked) > before:
            assert found == list(range(meter.now - len(found), meter.now)) and len(found) <= SECONDS
            assert len(found) >= min(120, SECONDS)
        kept = found


def test_only_what_is_new_is_asked_for() -> None:
    meter, flows = Meter(), Flows()
    meter.now += 500
    for _ in range(3):
        read(flows, meter)
        meter.now += 5
    assert meter.asked == [1380, 1499, 1504]


def test_who_sees_other_accounts_has_a_flow_of_his_own() -> None:
    meter, flows = Meter(), Flows()
    meter.now += 10
    read(flows, meter, "all")
    read(flows, meter, "acme")
    assert len(meter.asked) == 2


def test_a_daemon_that_was_restarted_begins_anew() -> None:
    meter, flows = Meter(), Flows()
    meter.now += 300
    read(flows, meter)
    meter.began = meter.now = 5000
    meter.now += 3
    assert read(flows, meter) == [5000, 5001, 5002]
