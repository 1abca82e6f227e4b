"""A clock that is behind, or is set: said once, shown as long as it lasts."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from smppd.daemon.clock import ClockWatch
from smppd.daemon.http import assess
from smppd.ids import Ids, id_time
from smppd.metrics import Metrics
from tests.vault.rows import NOON


class Clocks:
    def __init__(self) -> None:
        self.wall = float(NOON)
        self.now = 100.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.now += seconds


def watch(clocks: Clocks, ids: Ids) -> tuple[ClockWatch, Metrics]:
    metrics = Metrics()
    return ClockWatch(metrics, ids.behind, lambda: clocks.wall, lambda: clocks.now), metrics


def shown(metrics: Metrics) -> float:
    value = metrics.registry.get_sample_value("smppd_clock_behind_seconds")
    assert value is not None
    return value


def test_a_clock_that_is_right_is_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    ids = Ids(lambda: clocks.wall)
    looked, metrics = watch(clocks, ids)
    for _ in range(5):
        ids()
        looked.look()
        clocks.passes(1.0)
    assert looked.check == "ok" and shown(metrics) == 0 and not caplog.records


@pytest.mark.parametrize("by", [3.0, 5 * 3600.0, 3 * 86400.0])
def test_a_start_behind_the_newest_id_is_said_and_shown_until_it_has_caught_up(
    by: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clocks = Clocks()
    newest = Ids(lambda: clocks.wall)()
    clocks.wall -= by
    ids = Ids(lambda: clocks.wall, after=newest)
    looked, metrics = watch(clocks, ids)
    looked.look()
    assert looked.check == f"degraded: the clock is {int(by)} s behind the newest message id"
    assert assess({"clock": looked.check}, alive=True).ready, "ids go on from where they are"
    assert shown(metrics) == pytest.approx(by)
    assert ids() > newest
    looked.look()
    assert [record.getMessage() for record in caplog.records] == ["the clock is behind the newest message id"]
    assert caplog.records[0].__dict__["fields"]["newest"] == f"{datetime.fromtimestamp(NOON, UTC):%Y-%m-%dT%H:%M:%SZ}"
    clocks.passes(by)
    looked.look()
    assert looked.check == "ok" and shown(metrics) == 0
    assert caplog.records[-1].getMessage() == "the clock has caught up with the newest message id"


def test_a_clock_that_is_set_while_it_runs_is_said(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    ids = Ids(lambda: clocks.wall)
    looked, metrics = watch(clocks, ids)
    identity = ids()
    looked.look()
    for jump in (5 * 3600.0, -5 * 3600.0):
        clocks.passes(1.0)
        clocks.wall += jump
        looked.look()
        said = [record for record in caplog.records if record.getMessage() == "the clock was set"]
        assert said[-1].__dict__["fields"]["by"] == jump
        following = ids()
        assert following > identity
        identity = following
    looked.look()
    assert shown(metrics) == pytest.approx(5 * 3600, abs=2) and id_time(identity) > clocks.wall
