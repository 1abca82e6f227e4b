"""Log lines about what began and ended: once each, however often the sweep looks."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from smppd.relay.log_changes import LogChanges
from smppd.store.api import Availability
from tests.relay.fakes import World, settings


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, Any]]]:
    found = [(one.levelname, one.getMessage(), getattr(one, "fields", {})) for one in caplog.records]
    caplog.clear()
    return found


def test_a_pause_and_its_end_have_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smppd.relay")
    upstream = World(settings()).relay.upstream("a")
    changes, upstreams = LogChanges(), {"a": upstream}
    upstream.failures, upstream.paused_until = 1, 12.5
    changes.write(upstreams, Availability.OK, 10.0)
    changes.write(upstreams, Availability.OK, 11.0)
    assert lines(caplog) == [("WARNING", "upstream paused", {"upstream": "a", "again_in": 2.5})]
    upstream.failures = 0
    changes.write(upstreams, Availability.OK, 13.0)
    assert lines(caplog) == [("INFO", "upstream takes messages again", {"upstream": "a"})]


def test_a_full_disk_and_a_store_that_is_away_have_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smppd.relay")
    changes = LogChanges()
    some = (Availability.OK, Availability.FULL, Availability.FULL, Availability.OK, Availability.OK)
    for store in (*some, Availability.AWAY, Availability.OK):
        changes.write({}, store, 1.0)
    assert [(level, event) for level, event, _ in lines(caplog)] == [
        ("ERROR", "no space, refusing messages"),
        ("WARNING", "space again, accepting messages"),
        ("ERROR", "the store cannot be reached, refusing messages"),
        ("WARNING", "the store is reached again, accepting messages"),
    ]
